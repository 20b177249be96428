"""Tars of anybody's: what stands in their headers takes no more of this machine than a path and its attributes do.

Python's own reader reads such headers whole, however large they say that they are, goes back where a size is negative,
has one call wait for the next as long as headers follow each other, and looks for a thing in a way that takes hours.
"""

from __future__ import annotations

import re
import tarfile
from dataclasses import dataclass
from os import PathLike
from typing import IO, TYPE_CHECKING, cast

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import Any, Literal, Self

_LARGEST_HEADER = 1 << 17
"""In bytes: a path has 4,096 at most, an extended attribute 65,536."""
_MOST_GLOBAL = 100
"""What an archive says of all of its members (pax(1), type g); git says one thing."""
_DIGITS = re.compile(rb"[0-9]{100}")
_GOES_ON = 482
"""Where in a header GNU's tar says that its map of holes goes on behind it."""
_EXTENSIONS = (
    *(tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE),
    *(tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK),
)


class _Member(tarfile.TarInfo):
    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        found = super().frombuf(buf, encoding, errors)
        if found.type in _EXTENSIONS and not 0 <= found.size <= _LARGEST_HEADER:
            raise tarfile.ReadError("a header says that it is larger than any is, or smaller than nothing")
        if found.type == tarfile.GNUTYPE_SPARSE and buf[_GOES_ON]:
            raise _full_of_holes()
        return found

    def _proc_pax(self, archive: tarfile.TarFile) -> Self:
        file = cast("IO[bytes]", archive.fileobj)
        said = file.read(self._block(self.size))  # type: ignore[attr-defined]
        # What Python before 3.11.10 looks for in it takes the square of their length (CVE-2024-6232).
        if _DIGITS.search(said):
            raise tarfile.ReadError("a header has a number that is longer than any is")
        archive.fileobj = cast("Any", _Said(said, archive, file))
        found: Self = super()._proc_pax(archive)  # type: ignore[misc]
        return found

    def _proc_gnusparse_10(self, *_: object) -> None:
        # Python's own would read a map of holes that stands before the file (GNU tar, "Sparse Formats"), all of it.
        raise _full_of_holes()


@dataclass
class _Said:
    """What stands in place of an archive's file until what was read of it is read again."""

    said: bytes
    archive: tarfile.TarFile
    file: IO[bytes]

    def read(self, _size: int) -> bytes:
        self.archive.fileobj = cast("Any", self.file)
        return self.said


def _full_of_holes() -> tarfile.ReadError:
    return tarfile.ReadError("it has a file of many holes, as no package or layer has")


class _Tar(tarfile.TarFile):
    tarinfo = _Member

    def next(self) -> tarfile.TarInfo | None:
        try:
            found = super().next()
        except (LookupError, RecursionError) as problem:
            raise tarfile.ReadError(f"its headers lead nowhere ({type(problem).__name__})") from None
        if found is not None and found.size < 0:
            raise tarfile.ReadError("a header says that something is smaller than nothing")
        if len(self.pax_headers) > _MOST_GLOBAL:
            raise tarfile.ReadError("it says more of all of its members than any archive does")
        return found


def opened(source: Path | IO[bytes], mode: Literal["r:", "r:*", "r|*"] = "r:") -> tarfile.TarFile:
    """An archive of anybody's. mode: as `tarfile.open` has it. Raises tarfile.TarError, and so does what reads it."""
    if isinstance(source, PathLike):
        return _Tar.open(source, mode)
    return _Tar.open(fileobj=source, mode=mode)


def members(archive: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """The members in their order, of which none is kept: there may be half a million."""
    while (found := archive.next()) is not None:
        yield found
        archive.members.clear()  # type: ignore[attr-defined]
