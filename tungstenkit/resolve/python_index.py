"""What the Python indexes have of projects: each page, and each wheel's metadata, is read once.

Of a wheel no more is fetched than its metadata takes, where its server gives parts of files.
"""

from __future__ import annotations

import hashlib
import io
import threading
import zipfile
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit
from urllib.request import url2pathname

from tungstenkit import started
from tungstenkit.cache import cache_folder, keep, kept
from tungstenkit.digest import measure
from tungstenkit.fetch.archives import DAMAGED
from tungstenkit.fetch.index_pages import IndexFile
from tungstenkit.sdk.errors import FetchError, ResolveError
from tungstenkit.settings import MACHINE

if TYPE_CHECKING:
    from collections.abc import Callable

    from typing_extensions import Buffer

    from tungstenkit.fetch.web import Part

_TAIL = 1 << 16  # bytes from a wheel's end, which most often hold its table of contents and its metadata
_PIECE = 1 << 15
_MOST_TEXT = 8 << 20  # of a file that is read whole
_Read = TypeVar("_Read")


@dataclass
class PythonIndex:
    """What the indexes have of projects: each page, and each wheel's metadata, is read once."""

    files_of: Callable[[str], list[IndexFile]]
    """Everything of a project; raises FetchError."""
    part: Callable[[str, int | None, int], Part]
    """At most so many bytes of a URL from somewhere on, of its end without a start. Raises FetchError."""
    save: Callable[[str, Path], None]
    """Downloads a URL to a path; raises FetchError."""
    main_label: str = MACHINE
    """How a lock names the index that has no name of its own, where there are others."""
    _made: dict[object, Future[Any]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def files(self, project: str) -> list[IndexFile]:
        """A project's files; none where no index knows it. Thread-safe, as all of it. Raises FetchError."""
        files: list[IndexFile] = self._once(("files", project), lambda: self.files_of(project))
        return files

    def metadata(self, file: IndexFile) -> str:
        """A wheel's METADATA. Raises FetchError, and ResolveError where it has none."""
        text: str = self._once(("metadata", file.url), lambda: self._metadata(file))
        return text

    def metadata_of_file(self, url: str) -> str:
        """The METADATA of a wheel on this machine, by its URL."""
        return self.metadata(IndexFile(url.rpartition("/")[2], url))

    def measured(self, file: IndexFile) -> tuple[int, str]:
        """A file's size and sha256, where its index does not tell both (PEP 503 has no sizes)."""
        if file.size is not None and file.sha256 is not None:
            return file.size, file.sha256
        found: tuple[int, str] = self._once(("measured", file.url), lambda: self._measured(file))
        return found

    def _once(self, key: object, make: Callable[[], object]) -> Any:  # noqa: ANN401
        with self._lock:
            future = self._made.get(key)
            mine = future is None
            if future is None:
                future = self._made[key] = Future()
        if mine:
            try:
                future.set_result(make())
            except BaseException as problem:
                # Whoever waits for it gets it, too.
                future.set_exception(problem)
        return future.result()

    def _metadata(self, file: IndexFile) -> str:
        if local := _local_path(file.url):
            with local.open("rb") as opened:
                return metadata_of(opened, file.name)
        # Of its place, too: what one index says of a hash is nothing that another model may be told.
        folder = cache_folder() / "wheel-metadata"
        key = hashlib.sha256(f"{file.url} {file.sha256}".encode()).hexdigest()
        if file.sha256 and (path := kept(folder, key)):
            return path.read_text(encoding="utf-8")
        text = self._read_metadata(file)
        if file.sha256:
            keep(folder, key, lambda path: _write(path, text))
        return text

    def _read_metadata(self, file: IndexFile) -> str:
        if file.has_metadata:
            try:
                return self._saved(f"{file.url}.metadata", _text)
            except FetchError:
                pass  # some mirrors promise it, and have the wheels alone
        tail = self.part(file.url, None, _TAIL)
        if tail.data is not None and tail.total is not None:
            remote = _Remote(
                lambda start, size: self.part(file.url, start, size).data, tail.data, tail.start, tail.total
            )
            return metadata_of(io.BufferedReader(remote), file.name)

        def read(path: Path) -> str:
            with path.open("rb") as opened:
                return metadata_of(opened, file.name)

        return self._saved(file.url, read)

    def _saved(self, url: str, read: Callable[[Path], _Read]) -> _Read:
        """What is read of a URL's whole content."""
        with started.scratch() as folder:
            path = folder / "file"
            self.save(url, path)
            return read(path)

    def _measured(self, file: IndexFile) -> tuple[int, str]:
        if local := _local_path(file.url):
            return measure(local)
        if file.sha256 is not None and (total := self.part(file.url, None, 1).total) is not None:
            return total, file.sha256
        return self._saved(file.url, measure)


def _text(path: Path) -> str:
    with path.open("rb") as opened:
        return opened.read(_MOST_TEXT).decode("utf-8", "replace")


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


def _local_path(url: str) -> Path | None:
    parts = urlsplit(url)
    return Path(url2pathname(parts.path)) if parts.scheme == "file" else None


def metadata_of(opened: IO[bytes], name: str) -> str:
    """A wheel's METADATA. Raises ResolveError where it is no wheel."""
    stem = name.split("-")[0].lower()
    try:
        with zipfile.ZipFile(opened) as archive:
            found = [one for one in archive.namelist() if one.endswith(".dist-info/METADATA")]
            found.sort(key=lambda one: not one.lower().startswith(f"{stem}-"))
            with archive.open(found[0]) as member:
                content = member.read(_MOST_TEXT + 1)
            if len(content) > _MOST_TEXT:
                raise ResolveError("its METADATA is larger than any real one", where=name)
            return content.decode("utf-8", "replace")
    except DAMAGED as problem:
        raise ResolveError(f"is no wheel that can be read: {problem}", where=name) from None


class _Remote(io.RawIOBase):
    """A file behind a URL, of which no more is fetched than is read."""

    def __init__(self, part: Callable[[int, int], bytes | None], data: bytes, start: int, total: int) -> None:
        """data: what is here of it, from somewhere on."""
        self._part, self._data, self._start, self._total = part, data, start, total
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._total}[whence]
        self._at = max(0, start + offset)
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: Buffer) -> int:
        wanted = memoryview(buffer)
        end = min(self._at + len(wanted), self._total)
        if self._at >= end:
            return 0
        if self._at < self._start or end > self._start + len(self._data):
            self._data = self._part(self._at, max(end - self._at, _PIECE)) or b""
            self._start = self._at
        data = self._data[self._at - self._start : end - self._start]
        wanted[: len(data)] = data
        self._at += len(data)
        return len(data)
