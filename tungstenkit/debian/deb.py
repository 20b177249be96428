"""Opening a Debian binary package: the tar of its files, out of an `ar` archive (deb(5)).

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

from tungstenkit.sdk.errors import FetchError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

_MAGIC = b"!<arch>\n"


@contextmanager
def open_files(deb: BinaryIO, name: str) -> Iterator[tarfile.TarFile]:
    """The package's files, to be read in order, once.

    name: what it is called in messages.

    Raises FetchError where it is no sound package.
    """
    try:
        with tarfile.open(fileobj=_member(deb), mode="r|*") as tar:
            yield tar
    except (ValueError, EOFError, tarfile.TarError, lzma.LZMAError, zlib.error) as problem:
        raise FetchError(f"not a Debian package: {problem}", where=name) from None


def _member(deb: BinaryIO) -> BinaryIO:
    if deb.read(len(_MAGIC)) != _MAGIC:
        raise ValueError("no `ar` archive")
    while header := deb.read(60):
        size = int(header[48:58])
        if size < 0:
            raise ValueError("a member's size is negative")
        if header.startswith(b"data.tar"):
            content = deb.read(size)
            if len(content) < size:
                raise ValueError("it is cut short")
            return io.BytesIO(content)
        deb.seek(size + size % 2, io.SEEK_CUR)
    raise ValueError("it holds no files")
