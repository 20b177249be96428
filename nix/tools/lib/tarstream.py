"""Entries as a tar: PAX format, in the order given, time 1, no names of owners, padded as Python's tarfile
does.

The bytes are the same from every Python since 3.9, on any machine, whatever the umask, time zone or working
directory.
"""

from __future__ import annotations

import tarfile
from typing import TYPE_CHECKING

from blob import Blob, SplicedBlob
from contents import Content, WheelMember
from facts import WHITEOUT
from program import ToolError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import BinaryIO

    from rootfs import Entry

# An int: a float would be written as a PAX record. One, because zero is taken for "unset" by some tools.
TIMESTAMP = 1

_TYPES = {
    "file": tarfile.REGTYPE,
    "dir": tarfile.DIRTYPE,
    "link": tarfile.SYMTYPE,
    "whiteout": tarfile.REGTYPE,
}


def header(
    path: str, kind: bytes, mode: int, owner: tuple[int, int] = (0, 0), *, size: int = 0, target: str = ""
) -> bytes:
    """The header blocks of one member, with PAX records where a value does not fit the classic fields.

    owner: the numbers of a user and a group.
    """
    info = tarfile.TarInfo(path)
    info.type = kind
    info.mode = mode
    info.uid, info.gid = owner
    info.size = size
    info.linkname = target
    info.mtime = TIMESTAMP
    return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")


def padding(size: int, unit: int = tarfile.BLOCKSIZE) -> bytes:
    """Zeros up to the next whole unit."""
    return bytes(-size % unit)


def write_tar(entries: Iterable[Entry], blob: Blob | SplicedBlob | BinaryIO) -> None:
    """Write all entries and the end of the archive. Entries that share one content object are hard links to
    the first of them.

    `ToolError` that names all that a container would take for whiteouts, and is none.
    """
    entries = list(entries)
    if strays := [f"{entry.path!a} ({entry.package})" for entry in entries if _is_stray(entry.path)]:
        raise ToolError(f"{', '.join(strays)}: is no path in an image")
    mistaken = [f"/{entry.path} ({entry.package})" for entry in entries if _is_mistaken(entry)]
    if mistaken:
        raise ToolError(
            f"{', '.join(mistaken)}: can't be in an image, where a name that begins with {WHITEOUT} takes another file"
            " away"
        )
    first: dict[int, str] = {}
    total = 0
    for entry in entries:
        total += _write_member(entry, first, blob)
    end = bytes(2 * tarfile.BLOCKSIZE)
    blob.write(end + padding(total + len(end), tarfile.RECORDSIZE))


def _is_stray(path: str) -> bool:
    return bool({"", ".", ".."}.intersection(path.split("/")))


def _is_mistaken(entry: Entry) -> bool:
    return entry.kind != "whiteout" and entry.path.rpartition("/")[2].startswith(WHITEOUT)


def _write_member(entry: Entry, first: dict[int, str], blob: Blob | SplicedBlob | BinaryIO) -> int:
    content = entry.content
    owner = entry.uid, entry.gid
    if content is not None and first.setdefault(id(content), entry.path) != entry.path:
        head = header(entry.path, tarfile.LNKTYPE, entry.mode, owner, target=first[id(content)])
        blob.write(head)
        return len(head)
    size = content.size if content is not None else 0
    head = header(entry.path, _TYPES[entry.kind], entry.mode, owner, size=size, target=entry.target)
    blob.write(head)
    if content is None:
        return len(head)
    if isinstance(blob, SplicedBlob) and isinstance(content, WheelMember) and content.is_deflated:
        blob.splice(content.deflated())
    else:
        _copy(content, blob, entry.path)
    blob.write(padding(size))
    return len(head) + size + len(padding(size))


def _copy(content: Content, blob: Blob | SplicedBlob | BinaryIO, path: str) -> None:
    size = 0
    for data in content.chunks():
        size += len(data)
        blob.write(data)
    if size != content.size:
        raise ToolError(f"/{path}: the file changed while it was read")
