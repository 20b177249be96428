"""Where the files of a Debian package go that is not unpacked at the root: a prefix of its own, or single places."""

from __future__ import annotations

import posixpath
from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from program import Config
    from rootfs import Entry

STATUS = "var/lib/dpkg/status.d"
"""Where scanners look for packages of images without dpkg's database."""


class Place:
    """What an input says of its package's place: `below`, a prefix, and `places`, paths by the package's own path.

    With neither it is the root; with `places` alone nothing else of the package is taken.
    """

    def __init__(self, item: Config) -> None:
        """Read the input."""
        self._below = str(item.get("below", ""))
        self._places = dict(item.get("places", {}))
        self.is_root = not self._below and not self._places

    def entry(self, entry: Entry) -> Entry | None:
        """The entry at its place; None where it is not taken."""
        if self.is_root:
            return entry
        if entry.path in self._places:
            return replace(entry, path=self._places[entry.path])
        if not self._below:
            return None
        moved = replace(entry, path=posixpath.join(self._below, entry.path))
        if entry.kind == "link" and entry.target.startswith("/"):
            moved.target = f"/{self._below}{entry.target}"
        return moved
