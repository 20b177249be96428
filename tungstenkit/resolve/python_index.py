"""The Python index as a solve sees it: uv asks us on loopback, and we ask what this machine knows as indexes.

So one rule says which place answers for a project; uv meets no host and no password; what the packages need is known
here once it has asked; and sources take part from the first solve on, each as a wheel that holds its metadata alone.
That is read when uv comes to it, so it is a range, and not a number of versions, that says which ones are looked at.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import secrets
import tempfile
import threading
import zipfile
import zlib
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache, cached_property
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import MappingProxyType
from typing import IO, TYPE_CHECKING, Any, NamedTuple, TypeVar
from urllib.parse import quote, unquote, urlsplit
from urllib.request import url2pathname

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import InvalidSdistFilename, canonicalize_name, parse_sdist_filename
from packaging.version import InvalidVersion, Version

from tungstenkit.cache import cache_folder, keep, kept
from tungstenkit.errors import FetchError, ResolveError
from tungstenkit.resolve.wheels import counts, fitting_tags, read_requirements
from tungstenkit.settings import MACHINE

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping

    from typing_extensions import Buffer

    from tungstenkit.platforms import Target

_TAIL = 1 << 16  # bytes from a wheel's end, which most often hold its table of contents and its metadata
_PIECE = 1 << 15
_MOST_TEXT = 8 << 20  # of a file that is read whole
_WHEEL = "py3-none-any.whl"
_Read = TypeVar("_Read")
_BY_URL = re.compile(r"(?mi)^Requires-Dist:[^;\n]*@")


@dataclass(frozen=True, slots=True)
class IndexFile:
    """A file of a project, as an index lists it."""

    name: str
    url: str = field(repr=False)
    sha256: str | None = None
    requires_python: str | None = None
    """PEP 440, as it stands there."""
    yanked: bool = False
    size: int | None = None
    has_metadata: bool = False
    """Whether its metadata lies beside it (PEP 658)."""
    index: str | None = None
    """Which of several places lists it, as a lock names that."""


class Part(NamedTuple):
    """Bytes of a file, where in it they begin, and how many it has in all; None for what its server does not give."""

    data: bytes | None
    start: int
    total: int | None


class StandIn(NamedTuple):
    """What stands for a source in a solve: the metadata of the wheel that it would become."""

    metadata: str
    sha256: str
    """The source's."""


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
        with tempfile.TemporaryDirectory(prefix="tungsten-") as folder:
            path = Path(folder) / "file"
            self.save(url, path)
            return read(path)

    def _measured(self, file: IndexFile) -> tuple[int, str]:
        if local := _local_path(file.url):
            return _measure(local)
        if file.sha256 is not None and (total := self.part(file.url, None, 1).total) is not None:
            return total, file.sha256
        return self._saved(file.url, _measure)


def _text(path: Path) -> str:
    with path.open("rb") as opened:
        return opened.read(_MOST_TEXT).decode("utf-8", "replace")


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


def _measure(path: Path) -> tuple[int, str]:
    with path.open("rb") as opened:
        return path.stat().st_size, hashlib.file_digest(opened, "sha256").hexdigest()


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
    except (zipfile.BadZipFile, zlib.error, LookupError, EOFError, OSError, RuntimeError) as problem:
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


@dataclass
class Release:
    """A version of a project, for one target."""

    version: Version
    wheels: list[IndexFile] = field(default_factory=list)
    """Those that fit."""
    others: list[IndexFile] = field(default_factory=list)
    source: IndexFile | None = None

    @property
    def files(self) -> list[IndexFile]:
        """Everything that there is of it."""
        return [*self.wheels, *self.others, *([self.source] if self.source else [])]

    @property
    def is_yanked(self) -> bool:
        """Whether its author has withdrawn all of it (PEP 592)."""
        return all(file.yanked for file in self.files)

    def wheel(self, name: str) -> IndexFile:
        """The one of a name, of the first place that has it; raises LookupError where there is none."""
        return {file.name: file for file in reversed([*self.wheels, *self.others])}[name]

    def runs_on(self, python: str) -> bool:
        """Whether something of it says that it is for a Python."""
        return any(runs_on(python, file.requires_python) for file in self.files)


class View:
    """What one solve is offered: of each version the wheels that fit its target, or else the source.

    The sources that proved to be none that can be built are `refused`, with the reason.
    """

    def __init__(
        self,
        index: PythonIndex,
        target: Target,
        *,
        stand_in: Callable[[str, IndexFile], StandIn] | None = None,
        from_source: Collection[str] = (),
        wheels_only: Collection[str] = (),
        declared: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """stand_in: reads a source; raises ResolveError where it can't be built. Without it there are wheels alone.

        from_source: projects of which there are no wheels here. wheels_only: those without sources; `:all:` are all.
        declared: the URLs that the model itself has projects from.
        """
        self.index = index
        self.target = target
        self.refused: dict[tuple[str, Version], str] = {}
        self.final_only: set[str] = set()
        """Projects whose pre-releases are left out."""
        self.failure: FetchError | None = None
        """The first thing that could not be had while uv asked."""
        self._stand_in = stand_in
        self._from_source = from_source
        self._wheels_only = wheels_only
        self._declared = declared
        self._releases: dict[str, dict[Version, Release]] = {}
        self._read: dict[tuple[str, str], StandIn] = {}

    @cached_property
    def _tags(self) -> frozenset[str]:
        return frozenset(map(str, fitting_tags(self.target)))

    @property
    def known(self) -> set[str]:
        """The projects that were asked for."""
        return set(self._releases)

    def answered_by(self, project: str) -> str | None:
        """Which further place answers for a project; None for the machine's own index."""
        return next((file.index for file in self.index.files(project) if file.index), None)

    def releases(self, project: str) -> dict[Version, Release]:
        """What there is of a project, by version. Raises FetchError."""
        if project not in self._releases:
            releases: dict[Version, Release] = {}
            for file in self.index.files(project):
                if file.name.endswith(".whl"):
                    version, fits = self._judged(project, file.name)
                else:
                    version, fits = _sdist_version(project, file.name), False
                if version is None:
                    continue
                release = releases.setdefault(version, Release(version))
                if not file.name.endswith(".whl"):
                    release.source = release.source or file
                elif fits and project not in self._from_source:
                    release.wheels.append(file)
                else:
                    release.others.append(file)
            self._releases[project] = releases
        return self._releases[project]

    def _judged(self, project: str, wheel: str) -> tuple[Version | None, bool]:
        """A wheel's version, and whether it is for the target (PEP 427); by hand, since an index has thousands."""
        parts = wheel.removesuffix(".whl").split("-")
        if len(parts) not in (5, 6) or _normal(parts[0]) != project:
            return None, False
        pythons, abis, platforms = (part.split(".") for part in parts[-3:])
        fits = any(
            f"{python}-{abi}-{platform}" in self._tags
            for platform in platforms
            for python in pythons
            for abi in abis
        )
        return _version(parts[1]), fits

    def has_source(self, project: str, release: Release) -> bool:
        """Whether a release takes part by its source."""
        counts_here = self._stand_in is not None and not {project, ":all:"} & {*self._wheels_only}
        return counts_here and release.source is not None and not release.wheels

    def is_offered(self, project: str, release: Release) -> bool:
        """Whether a release can be taken, as far as is known."""
        is_there = bool(release.wheels) or self.has_source(project, release)
        return is_there and (project, release.version) not in self.refused

    def found(self, project: str, name: str) -> tuple[IndexFile, StandIn | None]:
        """The file that uv chose by a name, and what it stood for."""
        if read := self._read.get((project, name)):
            release = self._release(project, name)
            assert release.source is not None
            return release.source, read
        return self._release(project, name).wheel(name), None

    def _release(self, project: str, name: str) -> Release:
        """The release that a wheel is of, by its name; raises LookupError where there is none."""
        version = _version(name.partition("-")[2].partition("-")[0])
        return self.releases(project)[version or Version("0")]

    def metadata(self, project: str, name: str) -> str | None:
        """What uv was told of a file, or would be; None for a release that is refused.

        Raises FetchError, and LookupError for a file that is not offered.
        """
        release = self._release(project, name)
        try:
            if name != stand_in_name(project, release.version) or not self.has_source(project, release):
                return self._without_urls(self.index.metadata(release.wheel(name)))
            assert self._stand_in is not None
            assert release.source is not None
            if (project, release.version) in self.refused:
                return None
            read = self._read.get((project, name)) or self._stand_in(project, release.source)
        except ResolveError as problem:
            self.refused[project, release.version] = problem.what
            return None
        self._read[project, name] = read
        return read.metadata

    def _without_urls(self, metadata: str) -> str:
        """A wheel's METADATA in which no other is said to come from a URL, which only the model may say.

        Raises ResolveError for a requirement that does, and is not the model's own; where that is one of an extra, the
        extra is to fit nothing.
        """
        if not _BY_URL.search(metadata):
            return metadata
        found = []
        for requirement in read_requirements(metadata):
            if requirement.url is None:
                continue
            url, requirement.url = requirement.url, None
            if url.partition("#")[0] != self._declared.get(canonicalize_name(requirement.name)):
                if counts(requirement, self.target, ()):
                    what = "it says itself where another is to be had, which only the model may"
                    raise ResolveError(f"{what}: {requirement.name} @ {url}")
                requirement.specifier = SpecifierSet("<0")
            found.append(f"Requires-Dist: {requirement}")
        first, *lines = [line for line in metadata.splitlines() if not _BY_URL.match(line)]
        return "\n".join([first, *found, *lines]) + "\n"

    def page(self, project: str, base: str) -> list[dict[str, object]]:
        """What uv is told of a project (PEP 691)."""
        listed = []
        for release in self.releases(project).values():
            if release.version.is_prerelease and project in self.final_only:
                continue
            files = release.wheels
            if not files and project not in self._from_source:
                # They fit nothing, and are there for uv to explain.
                files = release.others
            names = {file.name: file for file in reversed(files)}
            if self.has_source(project, release):
                assert release.source is not None
                names = {stand_in_name(project, release.version): release.source}
            for name, file in names.items():
                entry: dict[str, object] = {
                    "filename": name,
                    "url": f"{base}/files/{project}/{quote(name)}",
                    # uv asks for the metadata alone of that whose hash it knows, and knows the metadata by the hash.
                    "hashes": {"sha256": file.sha256 or hashlib.sha256(file.url.encode()).hexdigest()},
                    "core-metadata": True,
                    "yanked": file.yanked,
                }
                if file.size is not None:
                    entry["size"] = file.size
                if file.requires_python is not None:
                    entry["requires-python"] = file.requires_python
                listed.append(entry)
        return listed

    @contextmanager
    def served(self) -> Iterator[str]:
        """The URL of a simple API on loopback, for as long as the block lasts; no other user can guess it."""
        token = secrets.token_urlsafe(16)
        with _Server(("127.0.0.1", 0), _Handler) as server:
            server.view, server.token = self, token
            server.base = f"http://127.0.0.1:{server.server_port}/{token}"
            thread = threading.Thread(target=server.serve_forever, args=(0.05,))
            thread.start()
            try:
                yield f"{server.base}/simple"
            finally:
                server.shutdown()
                thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def handle_error(self, request: object, client_address: object) -> None:
        """Who hangs up before it has its answer has stopped asking."""

    view: View
    token: str
    base: str


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def do_GET(self) -> None:
        view = self.server.view
        token, _, rest = self.path.lstrip("/").partition("/")
        parts = [unquote(part) for part in rest.strip("/").split("/")]
        status, kind, body = 404, "text/plain", b""
        try:
            if not secrets.compare_digest(token, self.server.token):
                status = 403
            elif parts[0] == "simple" and len(parts) == 2:
                if listed := view.page(parts[1], self.server.base):
                    page = {"meta": {"api-version": "1.1"}, "name": parts[1], "files": listed}
                    status, kind = 200, "application/vnd.pypi.simple.v1+json"
                    body = json.dumps(page).encode()
            elif parts[0] == "files" and len(parts) == 3 and parts[2].endswith(".metadata"):
                # uv passes a version over whose metadata is none.
                body = (view.metadata(parts[1], parts[2].removesuffix(".metadata")) or "").encode()
                status = 200
        except LookupError:
            status = 404
        except FetchError as problem:
            # uv is told no more than that it is over: 4xx is not tried again.
            status, view.failure = 400, view.failure or problem
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 (the base class's name)
        pass


def stand_in_name(project: str, version: Version | str) -> str:
    """The name of the wheel that stands for a source."""
    return f"{project.replace('-', '_')}-{version}-{_WHEEL}"


@cache
def _normal(name: str) -> str:
    return canonicalize_name(name)


@cache
def _version(text: str) -> Version | None:
    try:
        return Version(text)
    except InvalidVersion:
        return None


def _sdist_version(project: str, file: str) -> Version | None:
    try:
        name, version = parse_sdist_filename(file)
    except (InvalidSdistFilename, InvalidVersion):
        return None
    return version if name == project else None


@cache
def runs_on(python: str, requires_python: str | None) -> bool:
    """Whether a file that says so of itself is for a Python."""
    try:
        # A micro version of its own: `>=3.11.2` means 3.11 well enough.
        return SpecifierSet(requires_python or "").contains(f"{python}.99")
    except InvalidSpecifier:
        return True
