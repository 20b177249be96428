"""What has changed in a root since it was unpacked, as entries of a changeset."""

from __future__ import annotations

import hashlib
import os
import posixpath
import stat
import tarfile
from dataclasses import dataclass
from typing import TYPE_CHECKING

from changes import PACKAGE
from contents import DiskFile, read_all
from facts import WHITEOUT
from rootfs import DEFAULT_DIRECTORY, DIRECTORIES, Entry, Table, parents
from system import libraries
from unpacking import opened

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from contents import Content
    from system import Lower

# The kernel's, and whoever runs a container binds them.
_NOT_THE_IMAGES = ("proc", "dev", "sys")
# Every file of a root that is unpacked is as old as in a layer, so that no step depends on when that was.
_TIME = 1
_LOADER_CACHE = "etc/ld.so.cache"


@dataclass
class _Seen:
    kind: str
    mode: int
    size: int
    state: tuple[int, int, int]
    """Moves whenever a file is written, and can't be set back."""


class Difference:
    """A root as it was when this was made."""

    def __init__(self, root: Path, layers: list[Path]) -> None:
        """Look at every file of a root that was just unpacked from layers, the lowest first."""
        self.root = root
        self._layers = layers
        for path, _ in _walk(root, ""):
            os.utime(root / path, (_TIME, _TIME), follow_symlinks=False)
        self._before = {path: _seen(status) for path, status in _walk(root, "")}
        self.left_out: list[str] = []
        """What is new and no layer has, as `entries` has seen it."""

    def entries(
        self, lower: Table, owners: Mapping[str, tuple[int, int]], owner: tuple[int, int], left_out: set[str]
    ) -> list[Entry]:
        """The changes, in the order of a layer, with every folder above them.

        lower: what the layers say, whose owners stay. owners: of paths that were put there on purpose. owner: of all
        else that is new. left_out: paths that don't count.
        """
        there = {path: _seen(status) for path, status in _walk(self.root, "") if path not in left_out}
        self.left_out = sorted(path for path, seen in there.items() if not seen.kind)
        after = {path: seen for path, seen in there.items() if seen.kind}
        found = {path: seen for path, seen in after.items() if self._may_differ(path, seen, lower)}
        same = self._as_before({path for path, seen in found.items() if self._is_a_candidate(path, seen)})
        table = Table()
        contents: dict[int, Content] = {}

        def add(path: str) -> None:
            seen, known = after[path], lower.entries.get(path)
            mode = seen.mode
            if known is not None and known.kind == seen.kind == "dir" and known.mode & 0o777 == mode & 0o777:
                # The bits that no build may set are those of the layers; a file that is written loses them.
                mode = known.mode
            if path in owners:
                uid, gid = owners[path]
            elif known is not None:
                uid, gid = known.uid, known.gid
            else:
                uid, gid = _owner_of_folder(path) or owner
            content = None
            target = ""
            if seen.kind == "file":
                content = contents.setdefault(seen.state[0], DiskFile(self.root / path))
            elif seen.kind == "link":
                mode, target = 0o777, os.readlink(self.root / path)  # noqa: PTH115  as it is written
            table.entries[path] = Entry(path, seen.kind, mode, uid, gid, target, PACKAGE, content=content)

        for path in found.keys() - same:
            add(path)
        for path in self._gone(after, left_out):
            folder, name = posixpath.split(path)
            whiteout = posixpath.join(folder, WHITEOUT + name)
            table.entries[whiteout] = Entry(whiteout, "whiteout", 0o644, package=PACKAGE)
        for path in list(table.entries):
            for parent in parents(path):
                if parent not in table.entries:
                    add(parent)
        return table.sorted()

    def with_loader_cache(self, entries: list[Entry], lower: Lower, architecture: str) -> list[Entry]:
        """The changes with the loader's cache that they call for; `lower` becomes the root with them."""
        lower.add(entries, changes=True)
        found = libraries(entries)
        lower.objects.update(found.objects)
        lower.configuration.update(found.configuration)
        lower.release = found.release or lower.release
        if not lower.release:
            return entries
        made = lower.cache(architecture)
        there = self.root / _LOADER_CACHE
        assert made.content is not None  # it is a file
        if there.is_file() and there.read_bytes() == read_all(made.content):
            return entries
        table = Table()
        table.entries = {entry.path: entry for entry in entries if entry.path != f"etc/{WHITEOUT}ld.so.cache"}
        folder = lower.table.entries.get("etc") or Entry("etc", "dir", *DEFAULT_DIRECTORY)
        table.entries.setdefault("etc", folder)
        table.entries[_LOADER_CACHE] = made
        return table.sorted()

    def _may_differ(self, path: str, seen: _Seen, lower: Table) -> bool:
        before = self._before.get(path)
        if before is None or (before.kind, before.mode) != (seen.kind, seen.mode):
            return True
        if seen.kind == "dir" or before.state == seen.state:
            return False
        if seen.kind == "link":
            known = lower.entries.get(path)
            target = os.readlink(self.root / path)  # noqa: PTH115  as it is written
            return known is None or known.target != target
        return True

    def _is_a_candidate(self, path: str, seen: _Seen) -> bool:
        """Whether a file was written, but may hold what it held."""
        before = self._before.get(path)
        return (
            before is not None
            and seen.kind == before.kind == "file"
            and (seen.mode, seen.size) == (before.mode, before.size)
        )

    def _as_before(self, candidates: set[str]) -> set[str]:
        """Those of the files that hold what the layers have there."""
        original: dict[str, str] = {}
        for layer in reversed(self._layers) if candidates else ():
            with opened(layer) as stream, tarfile.open(fileobj=stream, mode="r|") as tar:
                for member in tar:
                    name = posixpath.normpath(f"/{member.name}").lstrip("/")
                    if name in candidates and name not in original:
                        content = tar.extractfile(member) if member.isreg() else None
                        original[name] = _digest(content.read()) if content else ""
        return {path for path in candidates if original.get(path) == _digest((self.root / path).read_bytes())}

    def _gone(self, after: Mapping[str, _Seen], left_out: set[str]) -> Iterator[str]:
        """What is no longer there, but for what is below something else that is gone."""
        for path in self._before.keys() - after.keys() - left_out:
            folder = posixpath.dirname(path)
            if not folder or (folder in after and after[folder].kind == "dir"):
                yield path


def _owner_of_folder(path: str) -> tuple[int, int] | None:
    """Whose everything below a folder is that the image's user must be able to write."""
    for parent in parents(path):
        _, uid, gid = DIRECTORIES.get(parent, DEFAULT_DIRECTORY)
        if uid:
            return uid, gid
    return None


def _walk(folder: Path, name: str) -> Iterator[tuple[str, os.stat_result]]:
    for entry in os.scandir(folder):
        path = posixpath.join(name, entry.name)
        if path in _NOT_THE_IMAGES:
            continue
        yield path, entry.stat(follow_symlinks=False)
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(folder / entry.name, path)


def _seen(status: os.stat_result) -> _Seen:
    state = (status.st_ino, status.st_ctime_ns, status.st_mtime_ns)
    return _Seen(_kind(status.st_mode), stat.S_IMODE(status.st_mode), status.st_size, state)


def _kind(mode: int) -> str:
    """As an entry has it; empty for what only a running system has."""
    if stat.S_ISREG(mode):
        return "file"
    if stat.S_ISDIR(mode):
        return "dir"
    return "link" if stat.S_ISLNK(mode) else ""


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
