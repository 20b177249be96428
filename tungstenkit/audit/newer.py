"""What `lock` has last seen that is newer than a pin: kept in the user's cache, for commands that use no network.

Nothing of this stands in a lock: what is newer tomorrow must not move it.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Literal

from pydantic import AwareDatetime, Field

from tungstenkit.cache import cache_folder
from tungstenkit.document import Document, write_atomically
from tungstenkit.lock.document import packages
from tungstenkit.resolve.relocked import version_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime
    from pathlib import Path

    from tungstenkit.lock.document import Lock
    from tungstenkit.resolve.relocked import OneVersion

_KEPT = timedelta(days=90)


class Seen(Document):
    """A version that is newer than another, and when that was seen."""

    version: str
    checked: AwareDatetime


class Newer(Document):
    """All that was seen, by the older version: platform, kind, name and version, a blank between."""

    format: Literal[1] = 1
    seen: dict[str, Seen] = Field(default_factory=dict)


def known_newer(*, cache: Path | None = None) -> Newer:
    """What was seen; nothing where that can't be read."""
    try:
        return Newer.model_validate_json(_file(cache).read_bytes())
    except (OSError, ValueError):
        return Newer()


def keep_newer(
    lock: Lock, found: Mapping[OneVersion, str], now: datetime, *, cache: Path | None = None
) -> None:
    """Keep what a solve has seen of a lock's packages, in place of what was seen of them before."""
    own = {version_of(one) for one in packages(lock)}
    words = {" ".join(one) for one in own}
    before = known_newer(cache=cache).seen
    seen = {key: one for key, one in before.items() if key not in words and now - one.checked < _KEPT}
    seen |= {
        " ".join(one): Seen(version=version, checked=now) for one, version in found.items() if one in own
    }
    if seen == before:
        return
    try:
        _file(cache).parent.mkdir(parents=True, exist_ok=True)
        write_atomically(_file(cache), Newer(seen=seen).model_dump_json(by_alias=True))
    except OSError:
        pass  # then it is not told later


def _file(cache: Path | None) -> Path:
    return (cache or cache_folder()) / "newer.json"
