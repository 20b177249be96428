"""A layer's blob, read once and never as a whole: the hash of its tar, and what is at each path.

Whoever made a blob may mean harm: what it unpacks to is counted, and nothing of it is written but into a file of ours.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import shutil
import subprocess
import tarfile
import tempfile
import zlib
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import chain
from typing import IO, TYPE_CHECKING

from tungstenkit import tars
from tungstenkit.data import FACTS
from tungstenkit.lacks import installing
from tungstenkit.sdk.errors import FetchError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_PIECE = 1 << 20
_LEAST, _TIMES = 1 << 30, 200
"""A layer unpacks to so many bytes at most, or to so many times its size: what is more is no layer, but a flood."""
_MOST_MEMBERS = 1 << 19
_MOST_SAID = 1 << 28
"""Letters of names and attributes, which are kept while layers are compared."""
_DAMAGED = (tarfile.TarError, zlib.error, EOFError, OSError, ValueError, OverflowError)
_FACTS = {"path", "linkpath", "size", "uid", "gid", "mtime", "uname", "gname"}
"""Of a tar's headers (pax(1)), those that are members' facts already."""
_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"


@dataclass(frozen=True)
class Member:
    """What a layer says of a path."""

    kind: str
    """`file`, `folder`, `link`, `hard link`, `whiteout`, or what else a tar may hold."""
    mode: int
    owner: tuple[int, int]
    time: float
    size: int = 0
    target: str = ""
    """What a link leads to."""
    sha256: str = ""
    """Of a file."""
    attributes: tuple[tuple[str, str], ...] = ()
    """What else a tar says of it: names of owners, extended attributes such as capabilities."""


def diff_id(blob: Path, where: str) -> str:
    """The digest of a blob's tar, whichever way it is packed. where: what the blob is, in an error's words."""
    seen = hashlib.sha256()
    for piece in _pieces(blob, where):
        seen.update(piece)
    return f"sha256:{seen.hexdigest()}"


@contextmanager
def unpacked(blob: Path, where: str, scratch: Path) -> Iterator[IO[bytes]]:
    """A blob's tar as a file that can be read at any place; it is gone afterwards."""
    with tempfile.TemporaryFile(dir=scratch) as file:
        for piece in _pieces(blob, where):
            file.write(piece)
        file.seek(0)
        yield file


def members(tar: IO[bytes], where: str) -> dict[str, Member]:
    """What a tar says of each path; of one that stands twice the last."""
    found: dict[str, Member] = {}
    room, holes = _MOST_SAID, _LEAST
    try:
        with tars.opened(tar) as archive:
            for count, info in enumerate(tars.members(archive)):
                # What is sparse takes no bytes there, however many such files there are.
                holes -= info.size if info.issparse() else 0
                if count == _MOST_MEMBERS or holes < 0:
                    raise _damaged("it has more files, or larger ones, than an image has", where)
                member = found[_path(info)] = _member(archive, info)
                room -= sum(map(len, (info.name, member.target, *chain(*member.attributes))))
                if room < 0:
                    raise _damaged("it says more of its files than an image does", where)
    except _DAMAGED as problem:
        raise _damaged(str(problem), where) from None
    return found


def read(tar: IO[bytes], paths: set[str], most: int, where: str) -> dict[str, bytes]:
    """The first bytes of some files of a tar."""
    found = {}
    try:
        tar.seek(0)
        with tars.opened(tar) as archive:
            for info in tars.members(archive):
                path = _path(info)
                if path in paths and info.isreg() and (file := archive.extractfile(info)) is not None:
                    found[path] = file.read(most)
    except _DAMAGED as problem:
        raise _damaged(str(problem), where) from None
    return found


def _path(info: tarfile.TarInfo) -> str:
    return "/" + "/".join(part for part in info.name.split("/") if part not in ("", "."))


def _member(archive: tarfile.TarFile, info: tarfile.TarInfo) -> Member:
    common = Member("", info.mode & 0o7777, (info.uid, info.gid), info.mtime, attributes=_attributes(info))
    if info.isdir():
        return replace(common, kind="folder")
    if info.issym():
        return replace(common, kind="link", target=info.linkname)
    if info.islnk():
        return replace(common, kind="hard link", target=info.linkname)
    if info.name.rpartition("/")[2].startswith(FACTS["whiteout"]):
        return replace(common, kind="whiteout")
    if not info.isreg():
        return replace(common, kind=f"what tar calls type {info.type!r}")
    seen = hashlib.sha256()
    file = archive.extractfile(info)
    assert file is not None  # it is a file
    while piece := file.read(_PIECE):
        seen.update(piece)
    return replace(common, kind="file", size=info.size, sha256=seen.hexdigest())


def _attributes(info: tarfile.TarInfo) -> tuple[tuple[str, str], ...]:
    """What is said of a member and is none of a Member's own facts."""
    names = {"uname": info.uname, "gname": info.gname}
    others = {name: text for name, text in info.pax_headers.items() if name not in _FACTS}
    return tuple(sorted({name: text for name, text in {**names, **others}.items() if text}.items()))


def _pieces(blob: Path, where: str) -> Iterator[bytes]:
    """A blob's tar, piece by piece."""
    most = max(_LEAST, _TIMES * blob.stat().st_size)
    with blob.open("rb") as file:
        magic = file.read(4)
        file.seek(0)
        try:
            with _plain(file, magic) as stream:
                while piece := stream.read(_PIECE):
                    most -= len(piece)
                    if most < 0:
                        raise _damaged(
                            f"it unpacks to more than {_TIMES} times its size, which no layer does", where
                        )
                    yield piece
        except _DAMAGED as problem:
            raise _damaged(str(problem), where) from None


@contextmanager
def _plain(file: IO[bytes], magic: bytes) -> Iterator[IO[bytes]]:
    if magic[:2] == _GZIP:
        with gzip.GzipFile(fileobj=file) as stream:
            yield stream  # type: ignore[misc] # as far as it is read here, it is one
    # One that begins with a frame to be skipped is none: engines would not look behind that, and take it for a tar.
    elif magic == _ZSTD:
        with _unzstd(file) as stream:
            yield stream
    else:
        yield file


@contextmanager
def _unzstd(file: IO[bytes]) -> Iterator[IO[bytes]]:
    """What zstd's program makes of a file: no Python before 3.14 has it in itself."""
    program = shutil.which("zstd")
    if program is None:
        raise FetchError(
            "a layer is compressed by zstd, and there is no `zstd` on PATH", hint=str(installing("zstd"))
        )
    os.lseek(file.fileno(), 0, os.SEEK_SET)  # what is read ahead is not for the program
    command = [program, "--decompress", "--stdout"]
    with subprocess.Popen(command, stdin=file, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            yield process.stdout
            is_whole = not process.stdout.read(1)
        except BaseException:
            process.kill()
            raise
        said = process.stderr.read().decode("utf-8", "replace").strip()
    if is_whole and process.returncode != 0:
        raise ValueError(said)


def _damaged(what: str, where: str) -> FetchError:
    return FetchError(
        f"a layer can't be read: {what}", where=where, hint="the image is damaged: push it again"
    )
