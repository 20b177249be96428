"""Where bytes come from on this machine: mirrors of Debian's archive, the Python index, npm's registry.

A lock names files; this module turns the names into URLs, which belong to a machine and never to a lock. For
each kind of mirror the first of these that says something counts: an environment variable,
`[tool.tungsten.mirrors]` in the `pyproject.toml` beside the model, the configuration of the machine's own
client (apt, pip, npm). No host is named here but that of Debian's snapshot service, the last resort:
superseded files leave the ordinary mirrors.

URLs may carry a user's name and password. They are used, and never shown: messages hold `redact`ed URLs.
"""

from __future__ import annotations

import ast
import io
import json
import os
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urldefrag, urljoin, urlsplit

import requests
import urllib3

from tungstenkit.errors import FetchError, TungstenError
from tungstenkit.resolve.debian_control import stanzas
from tungstenkit.resolve.debian_index import ARCHIVES, fetch_inrelease, suites, trusted_certificates
from tungstenkit.resolve.debian_release import RELEASES
from tungstenkit.settings import read_table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

SNAPSHOT = "https://snapshot.debian.org/archive"
APT = Path("/etc/apt")

_TIMEOUT = (10, 15)  # seconds, to connect and between bytes
_PATIENCE = 15  # seconds, before an answer may be called slow
_SLOWEST = 2000  # bytes in a second; less, on average, is as good as no answer
_TIMEOUTS = 2  # so often a server may let us wait in vain
_ATTEMPTS = 4
_NO_ANSWER = "no answer in time"
_PIECE = 1 << 18
_FIRST_PAUSE = 0.5  # seconds; each is twice the one before
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
    """When; what the snapshot service is asked for where there is no other mirror."""
    notices: tuple[str, ...] = ()
    """What the user should know, a line each."""

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

    def wheel_urls(self, project: str, files: Iterable[str]) -> dict[str, str]:
        """The URL of each of a project's files; what the index no longer has is left out.

        project: in any spelling. Thread-safe.

        Raises FetchError where the index has no such project or can't be read.
        """
        wanted = set(files)
        url = f"{self.pypi}/{re.sub(r'[-_.]+', '-', project).lower()}/"
        answer = _request(url, accept=_INDEX_FORMATS)
        if answer.headers.get("Content-Type", "").startswith(_JSON_INDEX):
            listed = _json_index(answer.content, url)
        else:
            listed = _html_index(answer.text)
        # The final URL: an index may be redirected, and its links may be relative.
        return {name: urldefrag(urljoin(answer.url, link)).url for name, link in listed if name in wanted}


def find_mirrors(
    project: Path | None = None,
    environ: Mapping[str, str] = os.environ,
    *,
    apt: Path = APT,
    now: datetime | None = None,
    get: Callable[[str], bytes] | None = None,
) -> Mirrors:
    """Find this machine's mirrors.

    project: the model's folder, whose `pyproject.toml` may name mirrors.
    apt: apt's configuration.
    get: fetches a URL to see whether Debian's archive is there; raises FetchError.

    A source of apt's counts only if a pinned key signed its Release and that says `Origin: Debian`.

    Raises TungstenError for a bad `[tool.tungsten.mirrors]`, and where no Python index is known.
    """
    now = now or datetime.now(UTC)
    get = get or (lambda url: get_bytes(url, attempts=2))
    named = {**_from_project(project), **_from_environment(environ)}
    notices: list[str] = []
    archives = {archive: named.get(archive, ()) for archive in ARCHIVES}
    if archives["debian"] and not archives["debian-security"]:
        siblings = [f"{base}-security" for base in archives["debian"]]
        archives["debian-security"] = _of_kind(siblings, get, now, archives["debian"])["debian-security"]
    if not all(archives.values()):
        bases = list(apt_bases(apt))
        found = _of_kind(bases, get, now, bases)
        archives = {archive: bases or found[archive] for archive, bases in archives.items()}
    missing = [archive for archive, bases in archives.items() if not bases]
    if missing:
        notices.append(
            f"no mirror of {' and '.join(missing)} that this machine knows answers: files come from Debian's "
            "snapshot service, which is slow; set TUNGSTEN_MIRROR_DEBIAN to a mirror"
        )
    return Mirrors(
        debian=archives["debian"],
        debian_security=archives["debian-security"],
        pypi=(named.get("pypi") or (_python_index(environ),))[0],
        npm=(named.get("npm") or (_npm_registry(environ),))[0],
        found=now,
        notices=tuple(notices),
    )


def redact(url: str) -> str:
    """A URL without user name and password."""
    # Not by a parser: what is no URL must be shown without them too.
    return re.sub(r"(?<=//)[^/?#]*@", "", url)


def get_bytes(url: str, *, attempts: int = _ATTEMPTS) -> bytes:
    """Fetch a URL; proxies, netrc and certificates are this machine's, as `requests` finds them.

    What may pass (no connection, a 5xx status) is tried again. Raises FetchError.
    """
    return _request(url, attempts=attempts).content


def _request(
    url: str,
    *,
    accept: str = "*/*",
    attempts: int = _ATTEMPTS,
    pause: Callable[[float], None] = time.sleep,
) -> requests.Response:
    reason = ""
    timeouts = 0
    for attempt in range(attempts):
        if attempt:
            pause(_FIRST_PAUSE * 2 ** (attempt - 1))
        try:
            answer = requests.get(url, headers={"Accept": accept}, timeout=_TIMEOUT, stream=True)
            if answer.ok:
                _read(answer)
        except (requests.ConnectionError, requests.Timeout, urllib3.exceptions.HTTPError) as problem:
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
            if answer.status_code in (404, 410):
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
        return "its TLS certificate is not trusted"
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
        "[tool.tungsten.mirrors] has `debian`, `debian-security`, `pypi`, `npm`: each a URL or a list of them"
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
    return isinstance(value, str) and value.startswith(("http://", "https://"))


def _bases(urls: Iterable[str]) -> tuple[str, ...]:
    return tuple(url.rstrip("/") for url in urls)


# apt


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
    if environ.get("PIP_INDEX_URL"):
        return environ["PIP_INDEX_URL"].rstrip("/")
    pips = [[sys.executable, "-m", "pip"], ["pip"]]
    configured = next(filter(None, (_output([*pip, "config", "list"], environ) for pip in pips)), "")
    # `pip config list` prints NAME='VALUE'; the more special wins.
    values = dict(re.findall(r"(?m)^(\S+?)=(.*)$", configured))
    for name in ("download.index-url", "install.index-url", "global.index-url"):
        if name in values:
            return str(ast.literal_eval(values[name])).rstrip("/")
    helps = [
        *([*pip, "download", "--help"] for pip in pips),
        [sys.executable, "-m", "uv", "pip", "compile", "--help"],
    ]
    for command in helps:
        helped = " ".join(_output(command, environ).split())
        if match := re.search(r"--(?:default-index|index-url) .*?default:? <?(https?://[^\s)>]+)", helped):
            return match[1].rstrip("/")
    raise TungstenError(
        "no Python index is known",
        hint="set TUNGSTEN_MIRROR_PYPI to the URL of one's simple API, or install pip",
    )


def _npm_registry(environ: Mapping[str, str]) -> str | None:
    registry = _output(["npm", "config", "get", "registry"], environ).strip()
    return registry.rstrip("/") if _is_url(registry) else None


def _output(command: list[str], environ: Mapping[str, str]) -> str:
    """What a client prints; nothing where it is not there or fails."""
    # Its own advice on newer versions would cost a request.
    environment = {
        **environ,
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "NO_UPDATE_NOTIFIER": "1",
        "COLUMNS": "200",
    }
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=60, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""


# The Python index


def _json_index(content: bytes, url: str) -> list[tuple[str, str]]:
    """File names and links of a project page (PEP 691)."""
    try:
        return [(file["filename"], file["url"]) for file in json.loads(content)["files"]]
    except (ValueError, KeyError, TypeError):
        raise FetchError("the Python index gave no project page", where=redact(url)) from None


def _html_index(text: str) -> list[tuple[str, str]]:
    """File names and links of a project page (PEP 503)."""
    parser = _Links()
    parser.feed(text)
    return [(unquote(urlsplit(link).path.rpartition("/")[2]), link) for link in parser.links]


class _Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.links += (value for name, value in attrs if tag == "a" and name == "href" and value)
