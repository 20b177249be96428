"""HTTP: every request of ours for what no registry of images has goes through here, with one set of sessions and of
errors.

Proxies and netrc are this machine's, as `requests` finds them, and certificates are those of `certificates`. `get` and
`save` ask again for what may pass; `resume` asks once, for a caller that has other places to ask. URLs may carry a
user's name and password: these are used, and messages show `redact`ed URLs.
"""

from __future__ import annotations

import io
import re
import shutil
import time
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Literal, NamedTuple, Self, TypeVar
from urllib.parse import urlsplit
from urllib.request import url2pathname

from tungstenkit import certificates
from tungstenkit.outside import redact
from tungstenkit.sdk.errors import FetchError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    import requests

    Auth = Callable[[requests.PreparedRequest], requests.PreparedRequest]
    """Makes a request say who asks."""

_T = TypeVar("_T")

PARALLEL = 8
"""Downloads at a time: enough to hide latency, few enough to be a polite guest of a mirror."""

_TIMEOUT = (10, 15)
"""Seconds to connect, and between two pieces of an answer, where somebody waits for it."""
PATIENT = (10, 60)
"""The same for files, and for a service that has to think."""
_PATIENCE = 15  # seconds, before an answer may be called slow
_SLOWEST = 2000  # bytes in a second; less, on average, is as good as no answer
_CONNECTIONS = 32  # with one server, kept for the next request
_TIMEOUTS = 2  # so often a server may let us wait in vain
_ATTEMPTS = 4
_PIECE = 1 << 18
_FIRST_PAUSE = 0.5  # seconds; each is twice the one before
_LONGEST_PAUSE = 30  # seconds, whatever a server says
_pause = time.sleep
_CHECK = "check the network and the proxy settings; `tungsten doctor` tries them"


class WebError(FetchError):
    """A request that brought nothing of use."""

    def __init__(
        self,
        what: str,
        *,
        where: str | None = None,
        hint: str | None = None,
        reason: str | None = None,
        answer: requests.Response | None = None,
        may_pass: bool = False,
    ) -> None:
        """reason: what was wrong, for a sentence that says itself what was asked for; by default `what`.

        answer: what came, where something did. may_pass: whether it makes sense to ask again in a moment.
        """
        super().__init__(what, where=where, hint=hint)
        self.reason = reason or what
        self.answer = answer
        self.may_pass = may_pass

    @classmethod
    def of(
        cls,
        reason: str,
        url: str,
        hint: str | None = None,
        *,
        answer: requests.Response | None = None,
        may_pass: bool = False,
    ) -> Self:
        """The error of one URL."""
        what = f"can't be fetched: {reason}"
        return cls(what, where=redact(url), hint=hint, reason=reason, answer=answer, may_pass=may_pass)

    @property
    def status(self) -> int | None:
        """The answer's status (RFC 9110, 15); None where there was no answer."""
        return None if self.answer is None else self.answer.status_code


class MissingError(WebError):
    """The server answered, and has no such file."""


class SilentError(WebError):
    """The server was there, and did not answer in time."""


class UntrustedError(WebError):
    """TLS does not let us speak to the server."""


class Part(NamedTuple):
    """Bytes of a file, where in it they begin, and how many it has in all; None for what its server does not give."""

    data: bytes | None
    start: int
    total: int | None


class Fetcher:
    """Fetches URLs as `get_bytes` does, and waits for a server that does not answer but once."""

    def __init__(self) -> None:
        self._silent: dict[str, SilentError] = {}

    def __call__(self, url: str) -> bytes:
        """The bytes behind a URL. Raises WebError."""
        server = urlsplit(url).netloc
        if server in self._silent:
            raise self._silent[server]
        try:
            return get_bytes(url)
        except SilentError as problem:
            self._silent[server] = problem
            raise


def get_bytes(url: str, *, attempts: int = _ATTEMPTS) -> bytes:
    """The bytes behind a URL. Raises WebError as `get`."""
    return get(url, attempts=attempts).content


def get_if_newer(url: str, etag: str | None) -> tuple[bytes, str | None] | None:
    """The bytes behind a URL and their ETag (RFC 9110, 8.8.3), if there is one; None where they are what they were.

    etag: of what is here already. Raises WebError; nothing is tried again.
    """
    answer = get(url, {"If-None-Match": etag} if etag else {}, attempts=1)
    return None if answer.status_code == 304 else (answer.content, answer.headers.get("ETag"))


def get(
    url: str,
    headers: Mapping[str, str] | None = None,
    *,
    auth: Auth | None = None,
    missing: int | None = None,
    attempts: int = _ATTEMPTS,
    timeout: tuple[int, int] | None = None,
) -> requests.Response:
    """A server's answer, read whole; what may pass (no connection, an overloaded server) is tried again.

    missing: a status that means the same here as 404. Raises WebError.
    """

    def ask() -> requests.Response:
        answer = _send("GET", url, headers, auth=auth, missing=missing, timeout=timeout)
        with _told(url):
            _read(answer)
        return answer

    return _patiently(ask, attempts)


def save(url: str, path: Path) -> None:
    """Write what is behind a URL, http, https or file, into a file. Raises WebError as `get`."""
    if urlsplit(url).scheme == "file":
        shutil.copyfile(file_of(url), path)
    else:
        _patiently(lambda: resume(url, path, None, lambda _: None))


def resume(
    url: str, path: Path, size: int | None, advance: Callable[[int], None], auth: Auth | None = None
) -> None:
    """Download into a file from where it ends, or anew; one request.

    size: what the whole must have, in bytes; None is not known, and nothing is resumed. advance: is told of every byte.

    A server that gives more is cut off one piece later. Raises WebError; what has come until then stays.
    """
    from tungstenkit.registry.client import paced

    begun = path.stat().st_size if path.exists() else 0
    if size is None or begun > size:
        path.unlink(missing_ok=True)
        begun = 0
    elif begun == size and path.exists():
        advance(begun)
        return
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={begun}-"} if begun else {})
    with _send("GET", url, headers, auth=auth, timeout=PATIENT) as answer:
        if begun and answer.status_code != 206:
            begun = 0
        advance(begun)
        with path.open("ab" if begun else "wb") as file, _told(url):
            for piece in paced(answer):
                begun += len(piece)
                # A server that never ends must not fill the disk.
                if size is not None and begun > size:
                    break
                file.write(piece)
                advance(len(piece))


def part(url: str, start: int | None, size: int) -> Part:
    """Some bytes of a URL, of its end without a start; none from a server that gives no parts. Raises WebError."""
    wish = f"bytes=-{size}" if start is None else f"bytes={start}-{start + size - 1}"
    # Of the bytes as they lie there.
    headers = {"Range": wish, "Accept-Encoding": "identity"}
    with _patiently(lambda: _send("GET", url, headers)) as answer:
        match = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", answer.headers.get("Content-Range", ""))
        if answer.status_code != 206 or match is None:
            return Part(None, 0, _length(answer))
        with _told(url):
            return Part(answer.raw.read(size), int(match[1]), int(match[2]))


def size_of(url: str, auth: Auth | None = None) -> int | None:
    """How large a server says that a file is, in bytes; None where it does not say."""
    try:
        with _send("HEAD", url, {"Accept-Encoding": "identity"}, auth=auth, timeout=PATIENT) as answer:
            return _length(answer)
    except WebError:
        return None


def file_of(url: str) -> str:
    """The path that a `file:` URL names."""
    return url2pathname(urlsplit(url).path)


def _length(answer: requests.Response) -> int | None:
    said = answer.headers.get("Content-Length", "")
    return int(said) if said.isdecimal() else None


def _patiently(ask: Callable[[], _T], attempts: int = _ATTEMPTS) -> _T:
    """What `ask` gives, which is called again after an error that may pass."""
    silences = 0
    for attempt in range(attempts - 1):
        try:
            return ask()
        except WebError as problem:
            silences += isinstance(problem, SilentError)
            if not problem.may_pass or silences == _TIMEOUTS:
                raise
            _pause(max(_FIRST_PAUSE * 2**attempt, _asked_for(problem.answer)))
    return ask()


def _asked_for(answer: requests.Response | None) -> float:
    """The seconds that a server wants us to wait (RFC 9110, 10.2.3), within reason."""
    said = "" if answer is None else answer.headers.get("Retry-After", "")
    return min(int(said), _LONGEST_PAUSE) if said.isdecimal() else 0


def _send(
    method: Literal["GET", "HEAD"],
    url: str,
    headers: Mapping[str, str] | None = None,
    *,
    auth: Auth | None = None,
    missing: int | None = None,
    timeout: tuple[int, int] | None = None,
) -> requests.Response:
    """One request: an answer that is good, of which the body is still to be read. Raises WebError."""
    with _told(url):
        session = _session(certificates.bundle() if url.startswith("https:") else "")
        answer = session.request(
            method,
            url,
            headers={"Accept": "*/*", **(headers or {})},
            auth=auth,
            timeout=timeout or _TIMEOUT,
            stream=True,
        )
    if answer.ok:
        return answer
    answer.close()
    status = answer.status_code
    reason = f"HTTP {status} {answer.reason}"
    if status in (404, 410, missing):
        raise MissingError.of(reason, url, "name another mirror", answer=answer)
    hint = "give the user name and password in ~/.netrc" if status in (401, 403) else _CHECK
    raise WebError.of(reason, url, hint, answer=answer, may_pass=status == 429 or status >= 500)


@cache
def _session(trusted: str) -> requests.Session:  # noqa: ARG001 (a key of the cache)
    """Keeps connections open between requests, of which a solve makes hundreds; and nothing else: no cookie.

    trusted: by which certificates they were made; others make their own.
    """
    from http.cookiejar import DefaultCookiePolicy

    session = certificates.session(connections=_CONNECTIONS)
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=()))
    return session


def _read(answer: requests.Response, clock: Callable[[], float] = time.monotonic) -> None:
    """Read an answer whole. Raises requests.Timeout where it comes so slowly that it might never end."""
    import requests

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


@contextmanager
def _told(url: str) -> Iterator[None]:
    """Turns what `requests` and urllib3 raise into a WebError. Their own texts name internals, and may hold a URL."""
    import requests
    import urllib3

    try:
        yield
    except (
        requests.ConnectionError,
        requests.Timeout,
        requests.exceptions.ChunkedEncodingError,
        urllib3.exceptions.HTTPError,
    ) as problem:
        raise _unanswered(problem, url) from None
    except (requests.RequestException, ValueError) as problem:
        raise WebError.of(type(problem).__name__, url) from None


def _unanswered(problem: Exception, url: str) -> WebError:
    import requests
    import urllib3

    if handshake := certificates.problem_of(problem):
        return UntrustedError.of(handshake, url, certificates.hint(handshake))
    hint = _CHECK
    if isinstance(problem, requests.exceptions.SSLError):
        return WebError.of("the TLS connection was cut", url, hint, may_pass=True)
    if isinstance(problem, requests.exceptions.ProxyError):
        return WebError.of("the proxy can't be reached", url, hint, may_pass=True)
    if isinstance(problem, (requests.Timeout, urllib3.exceptions.TimeoutError)):
        return SilentError.of("no answer in time", url, hint, may_pass=True)
    return WebError.of("no connection", url, hint, may_pass=True)
