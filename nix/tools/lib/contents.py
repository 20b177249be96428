"""Where the bytes of a file in a layer come from. Nothing here holds a large file in memory.

Every content has a `size` in bytes and yields its bytes by `chunks()`. Those that can be read at any place
have `read_at()`.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import re
import signal
import struct
import subprocess
import zipfile
import zlib
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, BinaryIO, Union

import zstd
from program import ToolError

if TYPE_CHECKING:
    import tarfile
    from collections.abc import Iterator, Sequence
    from pathlib import Path

CHUNK = 1 << 18
_LARGEST_SPARSE = 1 << 30
# How zstd's frames begin; some tools put one that is skipped first (RFC 8878, 3.1).
_ZSTD, _SKIPPED = b"\x28\xb5\x2f\xfd", re.compile(rb"[\x50-\x5f]\x2a\x4d\x18", re.DOTALL)
# What the standard library raises for a damaged zip archive; an OSError comes of an offset that is no offset.
ZIP_ERRORS = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    NotImplementedError,
    OSError,
    RuntimeError,
    ValueError,
)


class Text:
    """Bytes made by these programs: small by nature."""

    def __init__(self, data: bytes) -> None:
        """Take the bytes."""
        self.data = data
        self.size = len(data)

    def chunks(self) -> Iterator[bytes]:
        """The bytes, at once."""
        yield self.data

    def read_at(self, offset: int, size: int) -> bytes:
        """At most `size` bytes from `offset`."""
        return self.data[offset : offset + size]


class Region:
    """A part of an open file, such as a member of an unpacked data.tar."""

    def __init__(self, file: BinaryIO, offset: int, size: int) -> None:
        """Name the part; the file must stay open."""
        self.file = file
        self.offset = offset
        self.size = size

    def chunks(self) -> Iterator[bytes]:
        """The bytes, in pieces."""
        done = 0
        while done < self.size:
            data = self.read_at(done, CHUNK)
            done += len(data)
            yield data

    def read_at(self, offset: int, size: int) -> bytes:
        """At most `size` bytes from `offset`; fewer only at the end."""
        wanted = max(0, min(size, self.size - offset))
        self.file.seek(self.offset + offset)
        data = self.file.read(wanted)
        if len(data) != wanted:
            raise ToolError("an unpacked archive is shorter than it was")
        return data


class DiskFile:
    """A file that exists on disk for as long as the layer is being made."""

    def __init__(self, path: Path) -> None:
        """Look up the size."""
        self.path = path
        self.size = path.stat().st_size

    def chunks(self) -> Iterator[bytes]:
        """The bytes, in pieces."""
        with self.path.open("rb") as file:
            while data := file.read(CHUNK):
                yield data

    def read_at(self, offset: int, size: int) -> bytes:
        """At most `size` bytes from `offset`."""
        with self.path.open("rb") as file:
            file.seek(offset)
            return file.read(size)


class WheelMember:
    """A member of a wheel, checked against the wheel's RECORD whenever it is read to its end."""

    def __init__(
        self, archive: zipfile.ZipFile, info: zipfile.ZipInfo, wheel: str, algorithm: str, digest: bytes
    ) -> None:
        """Name the member and the hash that RECORD gives it."""
        self.archive = archive
        self.info = info
        self.wheel = wheel
        self.algorithm = algorithm
        self.digest = digest
        self.size = info.file_size

    def chunks(self) -> Iterator[bytes]:
        """The bytes, in pieces; `ToolError` if they are not what the wheel's RECORD says."""
        digest = hashlib.new(self.algorithm)
        try:
            with self.archive.open(self.info) as file:
                while data := file.read(CHUNK):
                    digest.update(data)
                    yield data
        except ZIP_ERRORS as error:
            raise self._error(f"cannot be unpacked: {error}") from None
        self._check(digest.digest())

    @property
    def is_deflated(self) -> bool:
        """Whether the archive holds it as a raw deflate stream (RFC 1951)."""
        return self.info.compress_type == zipfile.ZIP_DEFLATED

    def deflated(self) -> Iterator[tuple[bytes, bytes]]:
        """Pairs of deflate bytes as they stand in the wheel and what they inflate to.

        The stream is checked to be one whole deflate stream of the stated size, CRC and RECORD hash: a gzip
        member is made of it unchanged, so nothing may follow it or be left to read.
        """
        digest = hashlib.new(self.algorithm)
        inflate = zlib.decompressobj(-zlib.MAX_WBITS)
        size = crc = 0
        try:
            for raw in self._stored_bytes():
                data = inflate.decompress(raw)
                size += len(data)
                crc = zlib.crc32(data, crc)
                digest.update(data)
                yield raw, data
        except ZIP_ERRORS as error:
            raise self._error(f"cannot be unpacked: {error}") from None
        if not inflate.eof or inflate.unused_data:
            raise self._error("its deflate stream does not end where the archive says")
        if size != self.info.file_size or crc != self.info.CRC:
            raise self._error("its size or CRC is not what the archive says")
        self._check(digest.digest())

    def _stored_bytes(self) -> Iterator[bytes]:
        # The local header repeats name and extra field, with lengths of its own (APPNOTE 4.3.7).
        file = self.archive.fp
        assert file is not None
        file.seek(self.info.header_offset)
        header = file.read(30)
        if len(header) != 30 or header[:4] != b"PK\x03\x04":
            raise self._error("has no local header")
        skip = int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")
        place = self.info.header_offset + 30 + skip
        left = self.info.compress_size
        while left:
            file.seek(place)
            raw = file.read(min(CHUNK, left))
            if not raw:
                raise self._error("is cut off")
            place += len(raw)
            left -= len(raw)
            yield raw

    def _check(self, digest: bytes) -> None:
        if digest != self.digest:
            raise self._error("its hash is not the one in the wheel's RECORD")

    def _error(self, what: str) -> ToolError:
        return ToolError(f"{self.wheel}: {self.info.filename}: {what}")


Content = Union[Text, Region, DiskFile, WheelMember]


@contextmanager
def unpacked(blob: BinaryIO, program: Sequence[str] | None) -> Iterator[IO[bytes] | gzip.GzipFile]:
    """The tar of a layer's blob, whichever of the known ways it is compressed.

    program: the command of zstd's, for layers of others'; None: by its library. `ToolError` where neither is there, or
    ends with an error.
    """
    magic = blob.read(4)
    blob.seek(0)
    if magic[:2] == b"\x1f\x8b":
        with gzip.GzipFile(fileobj=blob) as tar:
            yield tar
    elif magic == _ZSTD or _SKIPPED.match(magic):
        if not program:
            with zstd.decompressed(blob) as tar:
                yield tar
            return
        os.lseek(blob.fileno(), 0, os.SEEK_SET)  # what is read ahead is not for the program
        command = [*program, "--decompress", "--stdout", "--long=31"]
        with subprocess.Popen(command, stdin=blob, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            yield process.stdout
            process.stdout.close()
            said = process.stderr.read().decode("utf-8", "replace").strip()
        # One that was not read to its end is no fault of its own.
        if process.returncode not in (0, -signal.SIGPIPE) and "Broken pipe" not in said:
            raise ToolError(f"zstd can't unpack it: {said}")
    else:
        yield blob


def walk(folder: Path) -> Iterator[Path]:
    """A path and, if it is a folder, all below it, in order; links are not followed. Unreadable ones are errors."""
    yield folder
    if folder.is_dir() and not folder.is_symlink():
        for child in sorted(folder.iterdir()):
            yield from walk(child)


def check_size(member: tarfile.TarInfo) -> None:
    """`ToolError` for a file of an archive that takes far more room than the archive has bytes for it."""
    if member.issparse() and member.size > _LARGEST_SPARSE:
        raise ToolError(f"{member.name}: a sparse file of {member.size} bytes, which no image has")


def read_all(content: Content) -> bytes:
    """All bytes of a small file."""
    return b"".join(content.chunks())
