"""The files of ours that an export is made of: `nix/` and the server's package.

They stand beside `tungstenkit/` in a checkout and below `tungstenkit/_data/` in an installed tungsten.
"""

from __future__ import annotations

import hashlib
import json
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

_PACKAGE = Path(__file__).resolve().parent
_INSTALLED = _PACKAGE / "_data"
_ROOT = _INSTALLED if _INSTALLED.is_dir() else _PACKAGE.parent

SDK = _PACKAGE
"""The folder of the package that model code imports; `sdk_files` are what of it is in an image."""
NIX = _ROOT / "nix"
SERVER = _ROOT / "server" / "tungsten_server"

FACTS: dict[str, Any] = json.loads((NIX / "tools" / "lib" / "facts.json").read_text(encoding="utf-8"))
"""What Nix and its programs know, too; `nix/tools/lib/facts.py` says what each is."""

SEVEN_ZIP: dict[str, Any] = json.loads((NIX / "steps" / "bootstrap.json").read_text(encoding="utf-8"))[
    "seven-zip"
]
"""The npm package whose program opens the first .deb, where `tungsten fetch` has not put busybox into the store."""

OWN_WHEELS: dict[str, dict[str, Any]] = json.loads(
    (NIX / "inputs" / "wheels.json").read_text(encoding="utf-8")
)
"""Name, version and requirements of the two wheels that images get from us: `sdk` and `server`."""

VERSION: str = OWN_WHEELS["sdk"]["version"]
"""Tungsten's own."""

_PARTS = {"sdk": "tungstenkit/", "server": "server/", "nix": "nix/"}
"""What of us an image is made of beside its lock, by its name in a lock, and where it is in an export."""


def sdk_files() -> list[str]:
    """Files of the package that are in an image, from its folder on: what wheels.json names, and what that holds."""
    named = [SDK / name for name in OWN_WHEELS["sdk"]["modules"]]
    files = [*(one for one in named if one.is_file()), *(file for one in named for file in one.rglob("*.py"))]
    return sorted(file.relative_to(SDK).as_posix() for file in files)


def exported_files() -> dict[str, bytes]:
    """What of ours every export has, by its path there. None of it is a program by itself."""
    return _exported_files(NIX, SDK, SERVER)


@cache
def _exported_files(nix: Path, sdk: Path, server: Path) -> dict[str, bytes]:
    found = {
        f"{_PARTS['nix']}{path.relative_to(nix)}": path
        for path in nix.rglob("*")
        if path.suffix in {".nix", ".py", ".sh", ".json"}
    }
    found |= {f"{_PARTS['sdk']}{name}": sdk / name for name in sdk_files()}
    # Python's own leavings are no part of the package; all else is, the demo page too.
    found |= {
        f"{_PARTS['server']}tungsten_server/{path.relative_to(server)}": path
        for path in server.rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    return {name: path.read_bytes() for name, path in sorted(found.items())}


def digests() -> dict[str, str]:
    """The sha256 of the SDK, of the server and of `nix/`, by their names in a lock.

    Of the files' names and content alone, so that a checkout has those of the wheel that is made of it.
    """
    return digests_of(
        {name: hashlib.sha256(content).hexdigest() for name, content in exported_files().items()}
    )


def digests_of(files: Mapping[str, str]) -> dict[str, str]:
    """The same of files in their places in an export, by their hashes."""
    return {
        part: hashlib.sha256(
            json.dumps(
                {name: digest for name, digest in sorted(files.items()) if name.startswith(place)}
            ).encode()
        ).hexdigest()
        for part, place in _PARTS.items()
    }
