"""The root that a base image's layers make: its own statements are the truth for everything above it.

Paths of ours follow its links, and every folder that it has keeps its mode and owner.
"""

from __future__ import annotations

import csv
import posixpath
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from facts import WHITEOUT
from ldcache import Root
from program import read_json
from rootfs import Entry, Table, implied_directory, parents

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

PACKAGE = "the base image"
"""Whose its files are."""
MODULES = ("_ctypes", "_socket", "_ssl", "zlib")
"""What the server and most packages import, and what some builds of Python lack."""


class BaseRoot:
    """All layers of a base image, as one root."""

    def __init__(self, layers: Iterable[Path]) -> None:
        """Read the files.json of imported layers, the lowest first."""
        self.table = Table()
        found: dict[str, dict[str, Any]] = {}
        for layer in layers:
            files = read_json(layer / "files.json")
            entries = [Entry.from_json(value) for value in files["entries"]]
            self.table.change(entries)
            for entry in entries:
                found.pop(entry.path, None)
            found.update(files["found"])
        self.table.add_parents()
        self.root = Root(self.table)
        self.found = {path: facts for path, facts in found.items() if path in self.table.entries}
        """What was seen in files, by path."""

    def text(self, path: str) -> str:
        """The text of a file that imports keep; empty where it is not there."""
        return str(self.found.get(self.root.resolve(path) or "", {}).get("text", ""))

    def distributions(self, site: str) -> dict[str, tuple[str, str]]:
        """The Python packages in a folder: by normalised name (PEP 503) the version and the folder of its metadata."""
        real = self.root.resolve(site)
        found = {}
        for name in self.root.names(real) if real else ():
            match = re.fullmatch(r"([^-]+)-([^-]+)\.dist-info", name)
            if match:
                project = re.sub(r"[-_.]+", "-", match.group(1)).lower()
                found[project] = match.group(2), f"{real}/{name}"
        return found

    def without(self, site: str, projects: Iterable[str]) -> Table:
        """The changes that take Python packages away from a folder, by their RECORD (PEP 376), as pip would."""
        table = Table()
        present = self.distributions(site)
        for metadata in sorted(present[project][1] for project in projects if project in present):
            gone = {metadata}
            for row in csv.reader(self.text(f"{metadata}/RECORD").splitlines()):
                path = posixpath.normpath(
                    posixpath.join("/", posixpath.dirname(metadata), row[0] if row else ".")
                ).lstrip("/")
                real = posixpath.join(self._real(posixpath.dirname(path)), posixpath.basename(path))
                if self.root.kind(real) in ("file", "link") and not real.startswith(f"{metadata}/"):
                    gone.add(real)
            for path in sorted(gone):
                folder, name = posixpath.split(path)
                table.entries[f"{folder}/{WHITEOUT}{name}"] = Entry(
                    f"{folder}/{WHITEOUT}{name}", "whiteout", 0o644
                )
                for parent in parents(path):
                    table.entries[parent] = replace(self.table.entries[parent], implied=True, yields=False)
        return table

    def placed(self, table: Table) -> Table:
        """The same entries where this root has their places, with the folders above them as it has them."""
        moved = Table()
        moved.packages = table.packages
        ours = {self._real(folder): implied_directory(folder) for folder in ("app", "home/nonroot")}
        for entry in table.sorted():
            path = self.place(entry)
            for parent in parents(path):
                known = ours.get(parent) or self.table.entries.get(parent)
                if known is not None and known.kind == "dir" and parent not in moved.entries:
                    moved.entries[parent] = replace(known, path=parent, implied=True, yields=False)
            known = self.table.entries.get(path)
            if entry.kind == "dir" and entry.implied and known is not None and known.kind == "dir":
                continue  # some file below it brings it
            moved.add(entry if path == entry.path else replace(entry, path=path))
        return moved

    def place(self, entry: Entry) -> str:
        """Where an entry goes: through the links above it, and of a folder through its own, too."""
        if entry.kind == "dir":
            return self._real(entry.path)
        folder, name = posixpath.split(entry.path)
        return posixpath.join(self._real(folder), name)

    def _real(self, folder: str) -> str:
        """A folder's real path; what this root has not got is below the nearest folder that it has."""
        missing: list[str] = []
        while folder and self.root.resolve(folder) is None and self.root.kind(folder) != "link":
            folder, name = posixpath.split(folder)
            missing.append(name)
        return posixpath.join(self.root.resolve(folder) or folder, *reversed(missing))
