"""Where bytes come from on this machine: mirrors of Debian's archive, the Python index, npm's registry.

A lock names files; this module turns the names into URLs, which belong to a machine and never to a lock. For
each kind of mirror the first of these that says something counts: an environment variable,
`[tool.tungsten.mirrors]` in the `pyproject.toml` beside the model, the configuration of the machine's own
client (apt, pip, npm). No host is named here but that of Debian's snapshot service, the last resort:
superseded files leave the ordinary mirrors.

URLs may carry a user's name and password. They are used, and never shown: messages hold `redact`ed URLs.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import shutil
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from fnmatch import fnmatch
from functools import cache, cached_property
from html.parser import HTMLParser
from http.cookiejar import DefaultCookiePolicy
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote, urldefrag, urljoin, urlsplit
from urllib.request import url2pathname

import requests
import urllib3

from tungstenkit import certificates, configured
from tungstenkit.errors import FetchError, TungstenError
from tungstenkit.outside import WEB, url_problem
from tungstenkit.resolve.debian_control import stanzas
from tungstenkit.resolve.debian_index import ARCHIVES, fetch_inrelease, suites, trusted_certificates
from tungstenkit.resolve.debian_release import RELEASES
from tungstenkit.resolve.python_index import IndexFile, Part
from tungstenkit.settings import MACHINE, index_settings, read_table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from tungstenkit.requirements import Wishes

SNAPSHOT = "https://snapshot.debian.org/archive"
APT = Path("/etc/apt")
OS_RELEASE = Path("/etc/os-release")

_TIMEOUT = (10, 15)  # seconds, to connect and between bytes
_PATIENCE = 15  # seconds, before an answer may be called slow
_SLOWEST = 2000  # bytes in a second; less, on average, is as good as no answer
_CONNECTIONS = 32  # with one server, kept for the next request
_TIMEOUTS = 2  # so often a server may let us wait in vain
_ATTEMPTS = 4
_NO_ANSWER = "no answer in time"
_PIECE = 1 << 18
_SHOWN = 100  # letters of a name from outside
_FIRST_PAUSE = 0.5  # seconds; each is twice the one before
_FILES = (".whl", ".tar.gz", ".zip")
_PLAIN_URL = re.compile(r"https?://[A-Za-z0-9][A-Za-z0-9.-]*/[A-Za-z0-9._~%/+!-]*")
_JSON_INDEX = "application/vnd.pypi.simple.v1+json"
_INDEX_FORMATS = f"{_JSON_INDEX}, application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.1"


class MissingError(FetchError):
    """The server answered, and has no such file."""


class SilentError(FetchError):
    """The server was there, and did not answer in time."""


class Fetcher:
    """Fetches URLs as `get_bytes` does, and waits for a server that does not answer but once."""

    def __init__(self) -> None:
        self._silent: dict[str, SilentError] = {}

    def __call__(self, url: str) -> bytes:
        """The bytes behind a URL. Raises FetchError."""
        server = urlsplit(url).netloc
        if server in self._silent:
            raise self._silent[server]
        try:
            return get_bytes(url)
        except SilentError as problem:
            self._silent[server] = problem
            raise


_VARIABLES = {
    "debian": "TUNGSTEN_MIRROR_DEBIAN",
    "debian-security": "TUNGSTEN_MIRROR_DEBIAN_SECURITY",
    "pypi": "TUNGSTEN_MIRROR_PYPI",
    "npm": "TUNGSTEN_MIRROR_NPM",
    "security-tracker": "TUNGSTEN_SECURITY_TRACKER",
}


@dataclass(frozen=True)
class Mirrors:
    """The mirrors of one machine. URLs end without a slash, may hold credentials and so are in no repr."""

    debian: tuple[str, ...] = field(repr=False)
    """Bases below which `dists/` and `pool/` lie, in order of preference; may be empty."""
    debian_security: tuple[str, ...] = field(repr=False)
    pypi: str = field(repr=False)
    """The Python index's simple API (PEP 503)."""
    npm: str | None = field(repr=False)
    """npm's registry; None where it is not known."""
    found: datetime
    """When: the moment by which all is judged that passes, indexes, a release's support, what is known of
    vulnerabilities; and what the snapshot service is asked for where there is no other mirror."""
    notices: tuple[str, ...] = ()
    """What the user should know, a line each."""
    security_tracker: str | None = field(default=None, repr=False)
    """The URL of the JSON data of Debian's security tracker; None where it is not known."""
    extra_indexes: tuple[str, ...] = field(default=(), repr=False)
    """Further Python indexes. They come before `pypi`: what the first that knows a project has of it counts alone,
    so that nobody who puts a project of the same name into a public index is ever listened to."""
    find_links: tuple[str, ...] = field(default=(), repr=False)
    """Pages (URLs) and folders (paths) that list files. They come before the indexes by the same rule; but where all
    that they have of a project are local versions (PEP 440), these are builds of an index's, and stand beside those."""
    declared: Mapping[str, str] = field(default_factory=dict, repr=False, hash=False)
    """For each of these places that the model itself names how it does."""
    indexes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict, repr=False, hash=False)
    """What the model says of indexes, by the names that it gives them."""
    _pages: dict[str, list[IndexFile]] = field(default_factory=dict, repr=False, compare=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    @property
    def main_index(self) -> Mirrors:
        """The same, with the Python index alone: for what is tungsten's own."""
        return replace(self, extra_indexes=(), find_links=())

    @property
    def debian_bases(self) -> dict[str, tuple[str, ...]]:
        """For each archive where its index of today is read."""
        return {
            archive: bases or (_snapshot(archive, f"{self.found:%Y%m%dT%H%M%SZ}"),)
            for archive, bases in zip(ARCHIVES, (self.debian, self.debian_security), strict=True)
        }

    def urls(self, uri: str, timestamps: Mapping[str, str]) -> list[str]:
        """URLs of `mirror://debian/pool/…` and `mirror://debian-security/pool/…`, in the order to try them.

        timestamps: the lock's, `YYYYMMDDTHHMMSSZ` by archive; an archive without one has no last resort.

        Raises ValueError for another URI.
        """
        archive, _, path = uri.removeprefix("mirror://").partition("/")
        if not uri.startswith("mirror://") or archive not in ARCHIVES or not path:
            raise ValueError(f"not a file of a mirror: {uri!r}")
        bases = list(self.debian if archive == "debian" else self.debian_security)
        if archive in timestamps:
            bases.append(_snapshot(archive, timestamps[archive]))
        return [f"{base}/{path}" for base in bases]

    def wheel_urls(
        self, project: str, files: Iterable[str], sha256: Mapping[str, str] | None = None
    ) -> dict[str, str]:
        """The URL of each of a project's files; what no index has any more is left out.

        project: in any spelling. sha256: of the files, by name, where it is known: an index's file of the same name
        and another hash is another file, and is named only where no index has the right one. Thread-safe.

        An index is asked only for what those before it lack.

        Raises FetchError where no index has such a project or one can't be read.
        """
        wanted = set(files)
        hashes = sha256 or {}
        found: dict[str, str] = {}
        others: dict[str, str] = {}
        known = False
        for place in self._places_for(project):
            listed = self._listed(place, project)
            known = known or listed is not None
            for file in listed or ():
                if file.name not in wanted:
                    continue
                stated = file.sha256 or hashes.get(file.name)
                right = stated == hashes.get(file.name, stated)
                (found if right else others).setdefault(file.name, file.url)
            if found.keys() == wanted:
                return found
        if not known:
            raise MissingError("no index has such a project", where=project, hint="name another mirror")
        return others | found

    def save(self, url: str, path: Path) -> None:
        """Fetch a URL, http, https or file, into a file, as `get_bytes` does. Raises FetchError."""
        if urlsplit(url).scheme == "file":
            shutil.copyfile(file_of(url), path)
            return
        with _request(url, stream=True) as answer, path.open("wb") as file:
            try:
                for piece in answer.iter_content(1 << 18):
                    file.write(piece)
            except requests.RequestException as problem:
                raise FetchError(
                    f"can't be fetched: {_connection_problem(problem)}", where=redact(url)
                ) from None

    def part(self, url: str, start: int | None, size: int) -> Part:
        """Some bytes of a URL, of its end without a start; none from a server that gives no parts.

        Raises FetchError.
        """
        wish = f"bytes=-{size}" if start is None else f"bytes={start}-{start + size - 1}"
        with _request(url, part=wish, stream=True) as answer:
            match = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", answer.headers.get("Content-Range", ""))
            if answer.status_code != requests.codes.partial_content or match is None:
                length = answer.headers.get("Content-Length", "")
                return Part(None, 0, int(length) if length.isdecimal() else None)
            try:
                data = answer.raw.read(size)
            except urllib3.exceptions.HTTPError as problem:
                raise FetchError(
                    f"can't be fetched: {_connection_problem(problem)}", where=redact(url)
                ) from None
        return Part(data, int(match[1]), int(match[2]))

    def project_files(self, project: str) -> list[IndexFile]:
        """All files of a project: those of the first place that knows it; maybe none. Raises FetchError."""
        linked: list[IndexFile] = []
        for place in self._places_for(project):
            if not place.is_index:
                linked += self._listed(place, project) or ()
            elif linked and not all("+" in file.name for file in linked):
                break
            elif (listed := self._listed(place, project)) is not None:
                return [*linked, *listed]
        return linked

    @property
    def main_label(self) -> str:
        """How a lock names `pypi`, where there are others."""
        return self._places[-1].label

    @cached_property
    def _places(self) -> list[_Place]:
        """The links and indexes, in order."""
        urls = {said["url"]: name for name, said in self.indexes.items() if "url" in said}
        places = []
        for number, url in enumerate((*self.find_links, *self.extra_indexes, self.pypi)):
            plain = redact(url)
            is_main = number == len(self.find_links) + len(self.extra_indexes)
            name = urls.get(plain) or (MACHINE if is_main else None)
            said = self.indexes.get(name, {}) if name else {}
            places.append(
                _Place(
                    url,
                    urls.get(plain) or self.declared.get(url) or self.declared.get(plain) or MACHINE,
                    tuple(map(_normal, said.get("projects", ()))),
                    said.get("missing"),
                    is_index=number >= len(self.find_links),
                    is_main=is_main,
                )
            )
        return places

    def _places_for(self, project: str) -> list[_Place]:
        """The places that may have a project, in order: those that it is to come from alone, else the common ones."""
        bound = [place for place in self._places if place.has_alone(_normal(project))]
        return bound or [place for place in self._places if place.is_main or not place.projects]

    def _page(self, url: str, label: str | None) -> list[IndexFile]:
        """The files that a page links to, of all projects; it is read once."""
        with self._lock:
            if url not in self._pages:
                answer = _request(url)
                # A page links to more than files.
                linked = [file for file in _html_index(answer.text, label) if file.name.endswith(_FILES)]
                self._pages[url] = [_absolute(file, answer.url) for file in linked]
            return self._pages[url]

    def _listed(self, place: _Place, project: str) -> list[IndexFile] | None:
        """What a place has of a project; None where it does not know it. Raises FetchError."""
        label = None if place.is_main else place.label
        normal = _normal(project)
        if not place.is_index:
            return _links(place.url, normal, label, self._page) or None
        url = f"{place.url}/{normal}/"
        try:
            answer = _request(url, accept=_INDEX_FORMATS, missing=place.missing)
        except MissingError:
            return None
        except FetchError as problem:
            if "HTTP 403" in problem.what:
                problem.hint = f"{problem.hint}; {_how_to_say_missing(place)}"
            raise
        if answer.headers.get("Content-Type", "").startswith(_JSON_INDEX):
            listed = _json_index(answer.content, url, label)
        else:
            listed = _html_index(answer.text, label)
        # The final URL: an index may be redirected, and its links may be relative.
        return [_absolute(file, answer.url if answer.history else url) for file in listed]


@dataclass(frozen=True)
class _Place:
    """A page or folder of links, or an index."""

    url: str = field(repr=False)
    label: str
    """As a lock names it."""
    projects: tuple[str, ...]
    """What comes from it alone."""
    missing: int | None
    is_index: bool
    is_main: bool

    def has_alone(self, project: str) -> bool:
        """Whether a project, normalised, is to come from nowhere else."""
        return any(fnmatch(project, pattern) for pattern in self.projects)


def _normal(project: str) -> str:
    """A project's name, or a pattern of such, as PEP 503 has it."""
    return re.sub(r"[-_.]+", "-", project).lower()


def _how_to_say_missing(place: _Place) -> str:
    """What to write where an index answers so for whatever it has not."""
    name, url = (MACHINE, "") if place.is_main else ("other", f'\nurl = "{redact(place.url)}"')
    if place.label != MACHINE and " " not in place.label:
        name = place.label
    return (
        "if it answers so for each project that it has not, say so in the model's pyproject.toml:\n"
        f"[tool.tungsten.indexes.{name}]{url}\nmissing = 403"
    )


def find_mirrors(
    project: Path | None = None,
    environ: Mapping[str, str] = os.environ,
    *,
    apt: Path = APT,
    os_release: Path = OS_RELEASE,
    now: datetime | None = None,
    get: Callable[[str], bytes] | None = None,
    wishes: Wishes | None = None,
) -> Mirrors:
    """Find this machine's mirrors.

    project: the model's folder, whose `pyproject.toml` may name mirrors.
    wishes: what the model's own `python_packages` say of indexes; they come before pip's configuration.
    apt: apt's configuration.
    os_release: what the machine's system says of itself (os-release(5)).
    get: fetches a URL to see whether Debian's archive is there; raises FetchError.

    A source of apt's counts only if a pinned key signed its Release and that says `Origin: Debian`.

    Raises TungstenError for a bad `[tool.tungsten.mirrors]`, and where no Python index is known.
    """
    now = now or datetime.now(UTC)
    get = get or (lambda url: get_bytes(url, attempts=2))
    named = {**_from_project(project), **_from_environment(environ)}
    notices: list[str] = []
    indexes: dict[str, dict[str, Any]] = {**index_settings(project)} if project is not None else {}
    # Each takes about a second to start; together they take no longer than the slowest.
    with ThreadPoolExecutor() as pool:
        asked_pip = pool.submit(
            lambda: (named.get("pypi") or (_own_index(wishes) or _python_index(environ),))[0]
        )
        asked_npm = pool.submit(lambda: (named.get("npm") or (_npm_registry(environ),))[0])
        archives = _debian_archives(named, apt, get, now)
    missing = [archive for archive, bases in archives.items() if not bases]
    if missing:
        notices.append(
            f"no mirror of {' and '.join(missing)} that this machine knows answers: files come from Debian's "
            "snapshot service, which is slow; set TUNGSTEN_MIRROR_DEBIAN to a mirror"
        )
    pypi = asked_pip.result()
    further = configured.pip_setting("extra-index-url", environ).split()
    # Those of the machine keep its users' names.
    plain = [redact(url.rstrip("/")) for url in (pypi, *further)]
    return Mirrors(
        debian=archives["debian"],
        debian_security=archives["debian-security"],
        pypi=_with_password(pypi, environ),
        npm=asked_npm.result(),
        security_tracker=(named.get("security-tracker") or (_security_tracker(os_release),))[0],
        found=now,
        notices=tuple(notices),
        extra_indexes=tuple(
            _with_password(url, environ)
            for url in _unique(
                *(wishes.extra_index_urls if wishes else ()),
                *(said["url"] for said in indexes.values() if said.get("url", plain[0]) not in plain),
                # An index in a folder of this machine has what nobody else's lock could have found.
                *filter(_is_url, further),
            )
        ),
        find_links=_unique(
            *(_place(link, project) for link in (wishes.find_links if wishes else ())),
            *configured.pip_setting("find-links", environ).split(),
        ),
        declared={
            _unique(_place(place, project))[0]: text
            for place, text in (wishes.places if wishes else {}).items()
        },
        indexes=indexes,
    )


def _own_index(wishes: Wishes | None) -> str | None:
    return wishes.index_url.rstrip("/") if wishes and wishes.index_url else None


def _place(link: str, project: Path | None) -> str:
    """A page or folder that a model names, relative to its folder."""
    return link if _is_url(link) else str((project or Path()) / link)


def _unique(*urls: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(url.rstrip("/") if _is_url(url) else url for url in urls))


def file_of(url: str) -> str:
    """The path that a `file:` URL names."""
    return url2pathname(urlsplit(url).path)


def redact(url: str) -> str:
    """A URL without user name and password."""
    # Not by a parser: what is no URL must be shown without them too.
    return re.sub(r"(?<=//)[^/?#]*@", "", url)


def get_bytes(url: str, *, attempts: int = _ATTEMPTS) -> bytes:
    """Fetch a URL; proxies and netrc are this machine's, as `requests` finds them.

    What may pass (no connection, a 5xx status) is tried again. Raises FetchError.
    """
    return _request(url, attempts=attempts).content


def get_if_newer(url: str, etag: str | None) -> tuple[bytes, str | None] | None:
    """Fetch a URL unless it is still what it was; its bytes and its ETag (RFC 9110, 8.8.3), if it has one.

    etag: of what is here already. Raises FetchError; nothing is tried again.
    """
    answer = _request(url, etag=etag, attempts=1)
    return (
        None
        if answer.status_code == requests.codes.not_modified
        else (answer.content, answer.headers.get("ETag"))
    )


def _request(
    url: str,
    *,
    accept: str = "*/*",
    etag: str | None = None,
    part: str | None = None,
    missing: int | None = None,
    attempts: int = _ATTEMPTS,
    stream: bool = False,
    pause: Callable[[float], None] = time.sleep,
) -> requests.Response:
    reason = ""
    headers = {"Accept": accept} | ({"If-None-Match": etag} if etag else {})
    if part:
        # Of the bytes as they lie there.
        headers |= {"Range": part, "Accept-Encoding": "identity"}
    timeouts = 0
    for attempt in range(attempts):
        if attempt:
            pause(_FIRST_PAUSE * 2 ** (attempt - 1))
        try:
            session = _session(certificates.bundle() if url.startswith("https:") else "")
            answer = session.get(url, headers=headers, timeout=_TIMEOUT, stream=True)
            if answer.ok and not stream:
                _read(answer)
        except (requests.ConnectionError, requests.Timeout, urllib3.exceptions.HTTPError) as problem:
            if handshake := certificates.problem_of(problem):
                raise FetchError(
                    f"can't be fetched: {handshake}", where=redact(url), hint=certificates.hint(handshake)
                ) from None
            reason = _connection_problem(problem)
            timeouts += reason == _NO_ANSWER
            if timeouts == _TIMEOUTS:
                break
        except (requests.RequestException, ValueError) as problem:
            # Its text may hold the URL, and with it a password.
            raise FetchError(f"can't be fetched: {type(problem).__name__}", where=redact(url)) from None
        else:
            if answer.ok:
                return answer
            answer.close()
            reason = f"HTTP {answer.status_code} {answer.reason}"
            if answer.status_code in (404, 410, missing):
                raise MissingError(
                    f"can't be fetched: {reason}", where=redact(url), hint="name another mirror"
                )
            if answer.status_code < 500:
                break
    hint = (
        "give the user name and password in ~/.netrc"
        if reason.startswith(("HTTP 401", "HTTP 403"))
        else "check the network and the proxy settings"
    )
    kind = SilentError if reason == _NO_ANSWER else FetchError
    raise kind(f"can't be fetched: {reason}", where=redact(url), hint=hint)


@cache
def _session(trusted: str) -> requests.Session:  # noqa: ARG001 (a key of the cache)
    """Keeps connections open between requests, of which a solve makes hundreds; and nothing else: no cookie.

    trusted: by which certificates they were made; others make their own.
    """
    session = certificates.session(connections=_CONNECTIONS)
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=()))
    return session


def _read(answer: requests.Response, clock: Callable[[], float] = time.monotonic) -> None:
    """Read an answer whole. Raises requests.Timeout where it comes so slowly that it might never end."""
    began = clock()
    content = io.BytesIO()
    # Piece by piece as they come: a time limit between bytes alone would let a server hand out one at a time.
    while piece := answer.raw.read1(_PIECE, decode_content=True):
        content.write(piece)
        taken = clock() - began
        if taken > _PATIENCE and content.tell() < taken * _SLOWEST:
            answer.close()
            raise requests.Timeout
    answer.close()
    content.seek(0)
    answer.raw = content


def _connection_problem(problem: Exception) -> str:
    # The exceptions' own texts name internals, and may name a proxy's password.
    if isinstance(problem, requests.exceptions.SSLError):
        return "the TLS connection was cut"
    if isinstance(problem, requests.exceptions.ProxyError):
        return "the proxy can't be reached"
    if isinstance(problem, (requests.Timeout, urllib3.exceptions.TimeoutError)):
        return _NO_ANSWER
    return "no connection"


def _snapshot(archive: str, timestamp: str) -> str:
    return f"{SNAPSHOT}/{archive}/{timestamp}"


# Named mirrors


def _from_environment(environ: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    named: dict[str, list[Any]] = {}
    for key, variable in _VARIABLES.items():
        if urls := environ.get(variable, "").split():
            if not all(map(_is_url, urls)):
                raise TungstenError("this is no http or https URL", where=variable)
            named[key] = urls
    return {key: _bases(urls) for key, urls in named.items()}


def _from_project(project: Path | None) -> dict[str, tuple[str, ...]]:
    if project is None:
        return {}
    where = str(project / "pyproject.toml")
    hint = (
        "[tool.tungsten.mirrors] has `debian`, `debian-security`, `pypi`, `npm`, `security-tracker`: each a URL "
        "or a list of them"
    )
    table = read_table(project, "mirrors", hint=hint)
    try:
        named = {key: [value] if isinstance(value, str) else list(value) for key, value in table.items()}
    except TypeError as problem:
        raise TungstenError(f"the mirrors can't be read: {problem}", where=where, hint=hint) from None
    problems = [f"no such mirror: {key}" for key in named if key not in _VARIABLES]
    problems += [
        f"{key} holds what is no http or https URL"
        for key, urls in named.items()
        if not urls or not all(map(_is_url, urls))
    ]
    if problems:
        raise TungstenError("\n".join(problems), where=where, hint=hint)
    return {key: _bases(urls) for key, urls in named.items()}


def _is_url(value: object) -> bool:
    return isinstance(value, str) and url_problem(value, WEB) is None


def _bases(urls: Iterable[str]) -> tuple[str, ...]:
    return tuple(url.rstrip("/") for url in urls)


# apt


def _debian_archives(
    named: Mapping[str, tuple[str, ...]], apt: Path, get: Callable[[str], bytes], now: datetime
) -> dict[str, tuple[str, ...]]:
    """The bases of each archive: those that were named, else those of apt's sources that are Debian's."""
    archives = {archive: named.get(archive, ()) for archive in ARCHIVES}
    _add_siblings(archives, get, now)
    if not all(archives.values()):
        bases = list(apt_bases(apt))
        found = _of_kind(bases, get, now, bases)
        archives = {archive: bases or found[archive] for archive, bases in archives.items()}
        _add_siblings(archives, get, now)
    return archives


def _of_kind(
    bases: Sequence[str], get: Callable[[str], bytes], now: datetime, key_bases: Sequence[str]
) -> dict[str, tuple[str, ...]]:
    """Those of the bases that are Debian's archives, by archive."""
    with ThreadPoolExecutor(max_workers=8) as pool:
        kinds = list(pool.map(lambda base: _archive(base, get, now, key_bases), bases))
    return {
        archive: tuple(base for base, kind in zip(bases, kinds, strict=True) if kind == archive)
        for archive in ARCHIVES
    }


def _add_siblings(archives: dict[str, tuple[str, ...]], get: Callable[[str], bytes], now: datetime) -> None:
    """Where only the main archive is known, see whether its mirrors have the other one beside it, as most do."""
    if archives["debian"] and not archives["debian-security"]:
        siblings = [f"{base}-security" for base in archives["debian"]]
        archives["debian-security"] = _of_kind(siblings, get, now, archives["debian"])["debian-security"]


def _archive(base: str, get: Callable[[str], bytes], now: datetime, key_bases: Sequence[str]) -> str | None:
    """Which of Debian's archives lies at a base, by its signed Release; None for anything else.

    key_bases: where Debian's keys may come from, on a machine that has none.
    """
    labels = {"Debian": "debian", "Debian-Security": "debian-security"}
    for release in RELEASES:
        for archive, suite in suites(release):
            if suite.endswith("-updates"):
                continue
            try:
                certs = trusted_certificates(release, archive, {"debian": key_bases}, get)
                _, inrelease = fetch_inrelease((base,), suite, certs, get, now=now)
            except MissingError:
                continue
            except TungstenError:
                return None
            return labels.get(inrelease.label) if inrelease.origin == "Debian" else None
    return None


def apt_bases(apt: Path = APT) -> dict[str, None]:
    """The http and https bases of apt's sources of binary packages, in order, each once (sources.list(5))."""
    bases: dict[str, None] = {}
    for path in [apt / "sources.list", *sorted((apt / "sources.list.d").glob("*"))]:
        try:
            text = path.read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue
        if path.suffix == ".list":
            uris = _one_line_sources(text)
        elif path.suffix == ".sources":
            uris = _deb822_sources(text)
        else:
            continue
        bases.update(dict.fromkeys(_bases(uri for uri in uris if _is_url(uri))))
    return bases


def _one_line_sources(text: str) -> Iterator[str]:
    for line in text.splitlines():
        if match := re.match(r"\s*deb\s+(?:\[[^\]]*\]\s*)?(\S+)", line):
            yield match[1]


def _deb822_sources(text: str) -> Iterator[str]:
    for stanza in stanzas(text):
        fields = {name.lower(): value for name, value in stanza.items()}
        enabled = fields.get("enabled", "yes").lower() not in (
            "no",
            "false",
            "without",
            "off",
            "disable",
            "0",
        )
        if enabled and "deb" in fields.get("types", "").split():
            yield from fields.get("uris", "").split()


# pip and npm


def _python_index(environ: Mapping[str, str]) -> str:
    """The index that pip uses here; its default is asked of pip or, where there is none, of uv."""
    if named := configured.pip_setting("index-url", environ):
        return named.rstrip("/")
    helps = [
        *([*program, "download", "--help"] for program in configured.PIPS),
        [sys.executable, "-m", "uv", "pip", "compile", "--help"],
    ]
    for command in helps:
        helped = " ".join((configured.output(command, environ) or "").split())
        if match := re.search(r"--(?:default-index|index-url) .*?default:? <?(https?://[^\s)>]+)", helped):
            return match[1].rstrip("/")
    raise TungstenError(
        "no Python index is known",
        hint="set TUNGSTEN_MIRROR_PYPI to the URL of one's simple API, or install pip",
    )


def _security_tracker(os_release: Path) -> str | None:
    """The tracker's data, on a Debian machine: it is a service of the project whose home the system names."""
    try:
        fields = dict(re.findall(r"(?m)^([A-Z_]+)=\"?([^\"\n]*)", os_release.read_text(encoding="utf-8")))
    except OSError:
        return None
    home = urlsplit(fields.get("HOME_URL", "")).hostname
    if fields.get("ID") != "debian" or not home:
        return None
    return f"https://security-tracker.{home.removeprefix('www.')}/tracker/data/json"


def _with_password(url: str, environ: Mapping[str, str]) -> str:
    """An index's URL with the password that the machine's keyring has for its user; as it is without a user.

    netrc needs no such help: every client of ours reads it itself.
    """
    parts = urlsplit(url)
    if not parts.username or parts.password is not None:
        return url
    host = parts.netloc.rpartition("@")[2]
    user = unquote(parts.username)
    for service in (f"{parts.scheme}://{host}{parts.path}", f"{parts.scheme}://{host}", host):
        if password := (configured.output(["keyring", "get", service, user], environ) or "").strip("\r\n"):
            return parts._replace(netloc=f"{parts.username}:{quote(password, safe='')}@{host}").geturl()
    return url


def _npm_registry(environ: Mapping[str, str]) -> str | None:
    registry = (configured.output(["npm", "config", "get", "registry"], environ) or "").strip()
    return registry.rstrip("/") if _is_url(registry) else None


# The Python index


def _json_index(content: bytes, url: str, index: str | None) -> list[IndexFile]:
    """The files of a project page (PEP 691). index: how a lock names it."""
    try:
        return [
            IndexFile(
                name=file["filename"],
                url=file["url"],
                sha256=file["hashes"].get("sha256") if "hashes" in file else None,
                requires_python=file.get("requires-python"),
                yanked=bool(file.get("yanked")),
                size=file.get("size"),
                has_metadata=bool(file.get("core-metadata", file.get("dist-info-metadata"))),
                index=index,
            )
            for file in json.loads(content)["files"]
        ]
    except (ValueError, KeyError, TypeError, AttributeError):
        raise FetchError("the Python index gave no project page", where=redact(url)) from None


def _html_index(text: str, index: str | None) -> list[IndexFile]:
    """The files of a project page (PEP 503), or of any page. index: how a lock names it."""
    parser = _Links()
    parser.feed(text)
    return [
        IndexFile(
            name=unquote(urlsplit(link["href"]).path.rpartition("/")[2]),
            url=link["href"],
            sha256=match[1] if (match := re.search(r"#sha256=([0-9a-f]{64})", link["href"])) else None,
            requires_python=link.get("data-requires-python"),
            yanked="data-yanked" in link,
            has_metadata="data-core-metadata" in link or "data-dist-info-metadata" in link,
            index=index,
        )
        for link in parser.links
    ]


def _links(
    place: str, project: str, index: str | None, page: Callable[[str, str | None], list[IndexFile]]
) -> list[IndexFile]:
    """The files of a project on a page, or in a folder, that pip's `find-links` names. page: reads a page."""
    if _is_url(place):
        return [file for file in page(place, index) if _is_of(file.name, project)]
    folder = Path(place.removeprefix("file://")).resolve()
    if not folder.is_dir():
        raise FetchError("there is no such folder", where=place, hint="pip's `find-links` names it")
    paths = [path for path in sorted(folder.iterdir()) if path.is_file() and _is_of(path.name, project)]
    return [
        IndexFile(path.name, path.as_uri(), _sha256(path), size=path.stat().st_size, index=index)
        for path in paths
    ]


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _is_of(file: str, project: str) -> bool:
    """Whether a wheel or source archive is a project's, by its name."""
    normal = re.sub(r"[-_.]+", "-", file).lower()
    return re.match(re.escape(project) + r"-\d", normal) is not None


def _absolute(file: IndexFile, base: str) -> IndexFile:
    """With a whole URL; what is on the same host gets the index's credentials.

    Raises FetchError for one that leads elsewhere than to the web: to a file of this machine, or to a program.
    """
    # Most are plain, and an index has thousands.
    if "@" not in base and _PLAIN_URL.fullmatch(file.url):
        return file
    try:
        url = urldefrag(urljoin(base, file.url)).url
    except ValueError:
        url = ""
    if problem := url_problem(url):
        raise FetchError(
            f"the index lists a file whose URL {problem}: {file.name[:_SHOWN]!a}",
            where=redact(base),
            hint="whoever keeps that index has to mend it; TUNGSTEN_MIRROR_PYPI names another",
        )
    index, parts = urlsplit(base), urlsplit(url)
    if "@" in index.netloc and index.netloc.rpartition("@")[2] == parts.netloc:
        url = parts._replace(netloc=index.netloc).geturl()
    return replace(file, url=url)


class _Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.links: list[dict[str, str]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = {name: value or "" for name, value in attrs}
        if tag == "a" and attributes.get("href"):
            self.links.append(attributes)
