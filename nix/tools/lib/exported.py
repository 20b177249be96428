"""An export as one tar, by whose digest it is named: the same bytes wherever and whenever it was written.

Not in it are where bytes come from on a machine, files that the lock names by their hash already, and whatever else a
user has put into the folder.
"""

from __future__ import annotations

import hashlib
import stat
import tarfile
from typing import TYPE_CHECKING

from contents import DiskFile, walk
from facts import EXPORTED
from tarstream import header, padding

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path


def parts_of(export: Path) -> dict[str, Path]:
    """What of an export's folder is in its tar, by name there."""
    return {name: export / name for name in EXPORTED if (export / name).exists()}


def tar(parts: Mapping[str, Path]) -> Iterator[bytes]:
    """The tar of an export's parts, piece by piece: its files and links, in order of path."""
    members = sorted(
        (f"{name}/{path.relative_to(part).as_posix()}" if path != part else name, path)
        for name, part in parts.items()
        for path in walk(part)
        if path.is_symlink() or not path.is_dir()
    )
    size = 0
    for name, path in members:
        for data in _member(name, path):
            size += len(data)
            yield data
    end = bytes(2 * tarfile.BLOCKSIZE)
    yield end
    yield padding(size + len(end), tarfile.RECORDSIZE)


def digest(parts: Mapping[str, Path]) -> str:
    """What names an export: `sha256:…` of its tar."""
    found = hashlib.sha256()
    for data in tar(parts):
        found.update(data)
    return f"sha256:{found.hexdigest()}"


def _member(name: str, path: Path) -> Iterator[bytes]:
    if path.is_symlink():
        yield header(name, tarfile.SYMTYPE, 0o777, target=str(path.readlink()))
        return
    content = DiskFile(path)
    # Of a mode the Nix store keeps this bit alone.
    mode = 0o755 if path.stat().st_mode & stat.S_IXUSR else 0o644
    yield header(name, tarfile.REGTYPE, mode, size=content.size)
    yield from content.chunks()
    yield padding(content.size)
