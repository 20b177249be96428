"""A layer's blob: tar bytes go in, a compressed file comes out, and both are hashed on the way.

`Blob` compresses with classic zlib at level 6, whose bytes have been the same from 1.2.11 to 1.3.2;
`check_compressor` refuses any other. `SplicedBlob` compresses nothing: it takes deflate streams as they stand
in a wheel and stores everything else, such as a model's weights, as a series of gzip members (RFC 1952
section 2.2), so its bytes depend on the input alone. `ZstdBlob` is one frame of zstd (RFC 8878), whose bytes change
from one version of its library to another: a lock has the library that is used, and `check_zstd` refuses any other.
"""

from __future__ import annotations

import hashlib
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import zstd
from program import ToolError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path
    from typing import Protocol

    class _Compressor(Protocol):
        def compress(self, data: bytes, /) -> bytes: ...
        def flush(self) -> bytes: ...


GZIP = "application/vnd.oci.image.layer.v1.tar+gzip"
ZSTD = "application/vnd.oci.image.layer.v1.tar+zstd"

_LEVEL = 6
_GZIP = 31  # window bits: a gzip header that is always the same ten bytes
_MEMBER_HEADER = bytes.fromhex("1f8b0800000000000003")
_STORED_BLOCK = 0xFFFF
_STORED_MEMBER = 16 * _STORED_BLOCK
_ZSTD_LEVEL = 9
_ZSTD_VECTOR_SHA256 = "f05495ff9c98f49cea8a98348b561032f464637ca7ba7b7671f180573bec1812"
_VECTOR_SHA256 = "52fae598b9e7f42fcb1fd9968522287102a4a773368614bdd2532bb4deb10785"


@dataclass
class BlobFacts:
    """What a manifest says of a blob. `diff_id` and `digest` are `sha256:…` of the tar and of the file;
    `size` in bytes.
    """

    diff_id: str
    digest: str
    size: int


def check_compressor() -> None:
    """Compress known bytes; `ToolError` if this Python's zlib is not one that gives the bytes which locks and
    digests rely on.
    """
    compressor = zlib.compressobj(_LEVEL, zlib.DEFLATED, _GZIP)
    digest = hashlib.sha256(compressor.compress(_test_vector()) + compressor.flush()).hexdigest()
    if digest != _VECTOR_SHA256:
        raise ToolError(
            f"this Python's zlib ({zlib.ZLIB_RUNTIME_VERSION}) compresses to other bytes than classic zlib, so"
            " digests would differ from those of other machines; run the program with Debian's Python"
        )


def check_zstd() -> None:
    """The same for libzstd."""
    compressor = zstd.Compressor(_ZSTD_LEVEL)
    digest = hashlib.sha256(compressor.compress(_test_vector()) + compressor.flush()).hexdigest()
    if digest != _ZSTD_VECTOR_SHA256:
        raise ToolError(
            f"this libzstd ({zstd.version()}) compresses to other bytes than that of Debian 13, so digests would"
            " differ from those of other machines; run the program with Debian's Python"
        )


def _test_vector() -> bytes:
    # Words at random from a small vocabulary, so that there are many matches to choose from, near and beyond the
    # 32 KiB window; noise, which is stored; and a long run. Every level of zlib makes something else of it.
    noise = b"".join(hashlib.sha256(bytes([number])).digest() for number in range(256))
    words = b"".join(noise[place : place + 2 + place % 7].hex().encode() + b" " for place in noise * 2)
    return words + noise + bytes(70000) + words[::-1] + words[1000:]


class Blob:
    """One gzip stream."""

    def __init__(self, path: Path) -> None:
        """Start a file, which must not exist."""
        self._file = path.open("xb")
        self._compressor: _Compressor = zlib.compressobj(_LEVEL, zlib.DEFLATED, _GZIP)
        self._tar = hashlib.sha256()
        self._packed = hashlib.sha256()
        self._size = 0

    def write(self, data: bytes) -> None:
        """Add bytes to the tar."""
        self._tar.update(data)
        self._put(self._compressor.compress(data))

    def close(self) -> BlobFacts:
        """Finish the file."""
        self._put(self._compressor.flush())
        self._file.close()
        return BlobFacts(f"sha256:{self._tar.hexdigest()}", f"sha256:{self._packed.hexdigest()}", self._size)

    def _put(self, data: bytes) -> None:
        self._packed.update(data)
        self._size += len(data)
        self._file.write(data)


class ZstdBlob(Blob):
    """One frame of zstd."""

    def __init__(self, path: Path) -> None:
        """Start a file, which must not exist."""
        super().__init__(path)
        self._compressor = zstd.Compressor(_ZSTD_LEVEL)


class SplicedBlob:
    """A series of gzip members: stored ones made here, and deflate streams taken over as they are."""

    def __init__(self, path: Path) -> None:
        """Start a file, which must not exist."""
        self._file = path.open("xb")
        self._tar = hashlib.sha256()
        self._gzip = hashlib.sha256()
        self._size = 0
        self._waiting = bytearray()

    def write(self, data: bytes) -> None:
        """Add bytes to the tar."""
        self._tar.update(data)
        self._waiting += data
        while len(self._waiting) > _STORED_MEMBER:  # cut at fixed places: the caller's pieces must not show
            self._store(bytes(self._waiting[:_STORED_MEMBER]))
            del self._waiting[:_STORED_MEMBER]

    def splice(self, stream: Iterable[tuple[bytes, bytes]]) -> None:
        """Add bytes to the tar whose raw deflate stream is at hand: pairs of deflate bytes and what they inflate to."""
        self._flush()
        self._put(_MEMBER_HEADER)
        size = crc = 0
        for raw, data in stream:
            self._tar.update(data)
            size += len(data)
            crc = zlib.crc32(data, crc)
            self._put(raw)
        self._put(_trailer(crc, size))

    def close(self) -> BlobFacts:
        """Finish the file."""
        self._flush()
        self._file.close()
        return BlobFacts(f"sha256:{self._tar.hexdigest()}", f"sha256:{self._gzip.hexdigest()}", self._size)

    def _flush(self) -> None:
        if self._waiting:
            self._store(bytes(self._waiting))
            self._waiting.clear()

    def _store(self, data: bytes) -> None:
        # Stored blocks are written by hand: zlib's level 0 depends on its version and on the size of the
        # pieces.
        self._put(_MEMBER_HEADER)
        for start in range(0, len(data), _STORED_BLOCK):
            block = data[start : start + _STORED_BLOCK]
            last = start + _STORED_BLOCK >= len(data)
            length = len(block)
            self._put(bytes([last]) + length.to_bytes(2, "little") + (length ^ 0xFFFF).to_bytes(2, "little"))
            self._put(block)
        self._put(_trailer(zlib.crc32(data), len(data)))

    def _put(self, data: bytes) -> None:
        self._gzip.update(data)
        self._size += len(data)
        self._file.write(data)


def _trailer(crc: int, size: int) -> bytes:
    return crc.to_bytes(4, "little") + (size & 0xFFFFFFFF).to_bytes(4, "little")
