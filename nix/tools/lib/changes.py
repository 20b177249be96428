"""Changes to a root as a tar: what is new or other than it was, and whiteouts for what is gone (OCI image
specification, "Layer Filesystem Changeset").

What build steps hand on is such a tar, because the Nix store keeps neither modes nor owners. Members stand at their
real paths, every folder above them with its true mode and owner.
"""

from __future__ import annotations

import io
import shutil
import tarfile
from typing import TYPE_CHECKING, BinaryIO

from contents import CHUNK, Region
from facts import WHITEOUT
from program import ToolError
from rootfs import Entry
from tarstream import write_tar

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

PACKAGE = "build steps"


def write_changes(entries: Iterable[Entry], path: Path) -> None:
    """Write a changeset, its entries in the order of a layer; the bytes depend on the entries alone."""
    with path.open("xb") as file:
        write_tar(entries, file)


def read_changes(path: Path, spool: BinaryIO) -> Iterator[Entry]:
    """The entries of a changeset, their contents appended to `spool`, a file that must stay open.

    `ToolError` if it is no such tar.
    """
    start = spool.seek(0, io.SEEK_END)
    with path.open("rb") as file:
        shutil.copyfileobj(file, spool, CHUNK)
    spool.seek(start)
    regions: dict[str, Region] = {}
    try:
        with tarfile.open(fileobj=spool, mode="r:") as tar:
            members = tar.getmembers()
    except (tarfile.TarError, EOFError) as error:
        raise ToolError(f"{path}: the changes can't be read: {error}") from None
    for info in members:
        owner = (info.mode, info.uid, info.gid)
        if info.isdir():
            yield Entry(info.name, "dir", *owner, package=PACKAGE)
        elif info.issym():
            yield Entry(info.name, "link", *owner, target=info.linkname, package=PACKAGE)
        elif info.isreg() and info.name.rpartition("/")[2].startswith(WHITEOUT):
            yield Entry(info.name, "whiteout", *owner, package=PACKAGE)
        elif info.isreg() or (info.islnk() and info.linkname in regions):
            region = regions.get(info.linkname) or Region(spool, info.offset_data, info.size)
            regions[info.name] = region
            yield Entry(info.name, "file", *owner, package=PACKAGE, content=region)
        else:
            raise ToolError(f"{path}: {info.name}: not what a changeset has")
