"""Opening a Debian binary package: the tar of its files and its control file, out of an `ar` archive (deb(5)).

`nix/tools/lib/debfile.py` makes layers of one: it spools, and says of every member what is wrong with it. Here one pass
over a download is enough. A test holds that both read the same files.
"""

from __future__ import annotations

import io
import lzma
import tarfile
import zlib
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tungstenkit import tars
from tungstenkit.debian.control import stanzas
from tungstenkit.sdk.errors import FetchError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

_MAGIC = b"!<arch>\n"
_MOST_CONTROL = 64 << 20  # of a control file and what stands before it, unpacked


@contextmanager
def open_files(deb: BinaryIO, name: str) -> Iterator[tarfile.TarFile]:
    """The package's files, to be read in order, once.

    name: what it is called in messages.

    Raises FetchError where it is no sound package.
    """
    with _opened(deb, b"data.tar", name) as tar:
        yield tar


def read_control(deb: BinaryIO, name: str) -> dict[str, str]:
    """The fields of the package's control file. name: what it is called in messages. Raises FetchError as above."""
    with _opened(deb, b"control.tar", name) as tar:
        for member in tar:
            if member.offset_data + member.size > _MOST_CONTROL:
                break
            if member.isreg() and member.name.removeprefix("./") == "control":
                content = tar.extractfile(member)
                assert content is not None  # it is a file
                return next(stanzas(content.read().decode("utf-8", "replace")), {})
        raise ValueError("it has no control file")


@contextmanager
def _opened(deb: BinaryIO, member: bytes, name: str) -> Iterator[tarfile.TarFile]:
    try:
        with tars.opened(_member(deb, member), "r|*") as tar:
            yield tar
    except (ValueError, EOFError, tarfile.TarError, lzma.LZMAError, zlib.error) as problem:
        raise FetchError(f"not a Debian package: {problem}", where=name) from None


def _member(deb: BinaryIO, name: bytes) -> BinaryIO:
    if deb.read(len(_MAGIC)) != _MAGIC:
        raise ValueError("no `ar` archive")
    while header := deb.read(60):
        size = int(header[48:58])
        if size < 0:
            raise ValueError("a member's size is negative")
        if header.startswith(name):
            content = deb.read(size)
            if len(content) < size:
                raise ValueError("it is cut short")
            return io.BytesIO(content)
        deb.seek(size + size % 2, io.SEEK_CUR)
    raise ValueError(f"it holds no {name.decode()}")
