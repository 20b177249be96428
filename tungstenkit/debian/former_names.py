"""What became of Debian packages that a release no longer has: `former_names.json`, and two rules of Debian's own."""

from __future__ import annotations

import fnmatch
import json
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Container


def successor(name: str, packages: Container[str]) -> str | None:
    """The package of a release that took another's place.

    packages: the names that the release has.
    """
    candidates = list(_table()["renamed"].get(name, ()))
    # trixie's libraries whose interface changed when `time_t` got 64 bits, which on 64-bit processors it had before
    # (Debian's release notes for trixie).
    candidates.append(f"{name}t64")
    # Fonts have been called `fonts-` since Debian 7 (Debian fonts policy).
    candidates.append(f"fonts-{name.removeprefix('ttf-')}" if name.startswith("ttf-") else name)
    return next((candidate for candidate in candidates if candidate in packages), None)


def why_gone(name: str) -> str | None:
    """Why nothing took a package's place, where that is known."""
    return next(
        (why for pattern, why in _table()["gone"].items() if fnmatch.fnmatchcase(name, pattern)), None
    )


@cache
def _table() -> dict[str, Any]:
    text = resources.files(__package__).joinpath("former_names.json").read_text(encoding="utf-8")
    return dict(json.loads(text))
