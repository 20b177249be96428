"""Reading a Debian binary package (deb(5)): an ar archive of a control tar and a data tar.

The data tar is unpacked into a temporary file; entries point into it. So owners, modes, setuid bits and hard
links are taken from the archive itself and never pass through a file system that would lose them.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
import zlib
from typing import TYPE_CHECKING, Any, BinaryIO

from contents import CHUNK, Region
from debversion import Package
from program import ToolError
from rootfs import ALIASES, Entry, canonical

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_ERRORS = (lzma.LZMAError, zlib.error, tarfile.TarError, EOFError, OSError, ValueError)
_CONTROL_LIMIT = 1 << 24


class Deb:
    """An opened package: its control data, and its files as entries."""

    def __init__(self, path: Path) -> None:
        """Read a package's control data; `ToolError` if it is no sound package."""
        self.path = path
        with path.open("rb") as file:
            control = self._control_files(_member(file, "control.tar", path.name))
        if "control" not in control:
            raise ToolError(f"{path.name}: its control archive has no file 'control'")
        self.members = control
        """The files of its control archive, by name."""
        self.control = control["control"].strip(b"\n") + b"\n"
        self.md5sums = control.get("md5sums", b"")
        self.preinst = control.get("preinst", b"").decode("utf-8", "surrogateescape")
        self.postinst = control.get("postinst", b"").decode("utf-8", "surrogateescape")
        fields = _fields(self.control.decode("utf-8", "replace"))
        try:
            self.package = Package(
                fields["package"], fields["version"], fields["architecture"], fields.get("replaces", "")
            )
        except KeyError as error:
            raise ToolError(f"{path.name}: its control file has no field {error}") from None

    def entries(self, spool: BinaryIO) -> Iterator[Entry]:
        """Every member of the data archive, at its canonical path, with its contents in `spool`.

        The data archive is appended to `spool`, a file that must stay open. Members that are an alias of the
        merged /usr are dropped.
        """
        start = spool.seek(0, io.SEEK_END)
        with self.path.open("rb") as file:
            self._unpack(_member(file, "data.tar", self.path.name), spool)
        regions: dict[str, Region] = {}
        for info in self._members(spool, start):
            name = self._canonical(info.name)
            if name in ("", *ALIASES):
                continue
            common = (info.mode & 0o7777, info.uid, info.gid)
            package = self.package.name
            if info.isdir():
                yield Entry(name, "dir", *common, package=package)
            elif info.issym():
                yield Entry(name, "link", 0o777, info.uid, info.gid, target=info.linkname, package=package)
            elif info.islnk():
                target = self._canonical(info.linkname)
                if target not in regions:
                    raise ToolError(
                        f"{self.path.name}: {info.name}: a hard link to a file that is not before it"
                    )
                regions[name] = regions[target]
                yield Entry(name, "file", *common, package=package, content=regions[name])
            elif info.issparse():
                raise ToolError(f"{self.path.name}: {info.name}: a sparse file, which no Debian package has")
            elif info.isreg():
                regions[name] = Region(spool, info.offset_data, info.size)
                yield Entry(name, "file", *common, package=package, content=regions[name])
            else:
                raise ToolError(f"{self.path.name}: {info.name}: neither a file, a folder nor a link")

    def _canonical(self, name: str) -> str:
        try:
            return canonical(name)
        except ToolError as error:
            raise ToolError(f"{self.path.name}: {error}") from None

    def _control_files(self, member: tuple[str, _Slice]) -> dict[str, bytes]:
        try:
            data = _decompressed(*member).read(_CONTROL_LIMIT)
            with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as archive:
                return {
                    info.name.lstrip("./"): _read(archive, info)
                    for info in archive.getmembers()
                    if info.isreg()
                }
        except _ERRORS as error:
            raise ToolError(f"{self.path.name}: its control archive cannot be read: {error}") from None

    def _unpack(self, member: tuple[str, _Slice], spool: BinaryIO) -> None:
        try:
            with _decompressed(*member) as source:
                while data := source.read(CHUNK):
                    spool.write(data)
        except _ERRORS as error:
            raise ToolError(f"{self.path.name}: its data archive cannot be unpacked: {error}") from None

    def _members(self, spool: BinaryIO, start: int) -> list[tarfile.TarInfo]:
        spool.seek(start)
        try:
            with tarfile.open(fileobj=spool, mode="r:") as archive:
                members = archive.getmembers()
                end = archive.offset
        except _ERRORS as error:
            raise ToolError(f"{self.path.name}: its data archive cannot be read: {error}") from None
        # tarfile takes a broken header in the middle for the end of the archive: only zeros may follow it.
        spool.seek(end)
        while data := spool.read(CHUNK):
            if data.strip(b"\0"):
                raise ToolError(f"{self.path.name}: its data archive is damaged after {end - start} bytes")
        return members


class _Slice(io.RawIOBase):
    """A part of a file, as a file."""

    def __init__(self, file: BinaryIO, offset: int, size: int) -> None:
        self._file = file
        self._place = offset
        self._end = offset + size

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:  # noqa: ANN401  any writable buffer
        self._file.seek(self._place)
        data = self._file.read(min(len(buffer), self._end - self._place))
        buffer[: len(data)] = data
        self._place += len(data)
        return len(data)


def _ar_members(file: BinaryIO, name: str) -> dict[str, _Slice]:
    if file.read(8) != b"!<arch>\n":
        raise ToolError(f"{name}: not a Debian package")
    end = file.seek(0, io.SEEK_END)
    members: dict[str, _Slice] = {}
    place = 8
    while place < end:
        file.seek(place)
        head = file.read(60)
        size = head[48:58].strip()
        if len(head) != 60 or head[58:] != b"`\n" or not size.isdigit() or place + 60 + int(size) > end:
            raise ToolError(f"{name}: the package is damaged or cut off after {place} bytes")
        member = head[:16].rstrip(b" ").rstrip(b"/").decode("ascii", "replace")
        members.setdefault(member, _Slice(file, place + 60, int(size)))
        place += 60 + int(size) + int(size) % 2
    return members


def _member(file: BinaryIO, stem: str, name: str) -> tuple[str, _Slice]:
    """The one member whose name is a stem and the ending of a compression, and that name."""
    members = _ar_members(file, name)
    found = [member for member in members if member == stem or member.startswith(stem + ".")]
    if len(found) != 1:
        raise ToolError(f"{name}: has {len(found)} members {stem}.*, not one")
    return found[0], members[found[0]]


def _decompressed(member: str, source: _Slice) -> io.BufferedIOBase:
    buffered = io.BufferedReader(source, 1 << 20)
    compression = member.partition(".tar")[2]
    if compression in (".xz", ".lzma"):
        return lzma.LZMAFile(buffered)
    if compression == ".gz":
        return gzip.GzipFile(fileobj=buffered)
    if compression == ".bz2":
        return bz2.BZ2File(buffered)
    if compression:
        raise ValueError(f"{member}: Python's standard library cannot read {compression}")
    return buffered


def _read(archive: tarfile.TarFile, info: tarfile.TarInfo) -> bytes:
    file = archive.extractfile(info)
    assert file is not None
    return file.read()


def _fields(control: str) -> dict[str, str]:
    """The fields of a control stanza; continuation lines are joined."""
    fields: dict[str, str] = {}
    name = ""
    for line in control.splitlines():
        if line[:1] in (" ", "\t"):
            fields[name] = fields.get(name, "") + " " + line.strip()
        elif ":" in line:
            name, value = line.split(":", 1)
            name = name.lower()
            fields[name] = value.strip()
    return fields
