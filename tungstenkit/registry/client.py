"""One repository of a registry, asked over HTTP (OCI distribution specification 1.1).

Proxies are this machine's, certificates those of `certificates`, and who asks is found by `passwords`. A registry is
somebody else's: answers are read up to a limit, and what says who asks goes to the registry alone, never where it
leads on to. What may pass is asked again.
"""

from __future__ import annotations

import base64
import ipaddress
import json
import re
import threading
import time
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urljoin, urlsplit

from tungstenkit import certificates
from tungstenkit.outside import IMAGE_NAME, IMAGE_TAG, LONGEST_NAME, redact, url_problem
from tungstenkit.registry import passwords
from tungstenkit.registry.artifact import DIGEST
from tungstenkit.sdk.errors import FetchError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import IO

    import requests

    from tungstenkit.registry.passwords import Password

    Body = Callable[[], IO[bytes]] | bytes | None
    """What is sent; a function opens it anew for each attempt."""

HUB = "docker.io"
"""Whose an image's name is that names no registry; its own API has another host."""
_HUBS_API = "registry-1.docker.io"

_ATTEMPTS = 4
_TIMEOUT = (10, 60)
"""Seconds to connect, and between two pieces of an answer."""
_PATIENCE = 30  # seconds, after each of which a body may be called slow
_SLOWEST = 2000  # bytes in a second
_MOST_OF_A_PROBLEM = 1 << 16
_MOST_OF_A_TOKEN = 1 << 20
_PIECE = 1 << 18
_ELSEWHERE = (301, 302, 303, 307, 308)
_MOST_HOPS = 5
_pause = time.sleep

Method = Literal["GET", "HEAD", "POST", "PUT"]


class RegistryError(FetchError):
    """A registry that has refused, or has not answered."""

    def __init__(
        self,
        what: str,
        *,
        where: str | None = None,
        hint: str | None = None,
        status: int | None = None,
        may_pass: bool = False,
    ) -> None:
        """status: of its answer (RFC 9110, 15), where there was one. may_pass: whether asking again may help."""
        super().__init__(what, where=where, hint=hint)
        self.status = status
        self.may_pass = may_pass


@dataclass(frozen=True)
class Access:
    """How a registry is spoken to, where the user says more of that than this machine's settings."""

    plain: bool = False
    """Whether it may speak plain HTTP; one on loopback may anyway."""
    password: Password | None = None
    file: str | None = None
    """The file of passwords, in place of this machine's."""

    @classmethod
    def of_skopeo(cls, arguments: list[str] | tuple[str, ...]) -> Access:
        """As arguments of `skopeo copy` say it of where it copies to."""
        said: dict[str, str] = {}
        words = iter(arguments)
        for word in words:
            option, equals, value = word.partition("=")
            name = option.removeprefix("--dest-").removeprefix("--")
            if name == "tls-verify":
                said[name] = value
            elif name in ("creds", "username", "password", "authfile"):
                said[name] = value if equals else next(words, "")
        user, _, secret = said.get("creds", "").partition(":")
        user, secret = user or said.get("username", ""), secret or said.get("password", "")
        return cls(
            plain=said.get("tls-verify") == "false",
            password=passwords.Password(user, secret) if user else None,
            file=said.get("authfile"),
        )


@dataclass(frozen=True)
class Name:
    """The parts of a reference."""

    registry: str
    repository: str
    reference: str | None
    """A tag or a digest, where it names one."""

    @classmethod
    def of(cls, text: str) -> Name:
        """Of a reference as skopeo and podman take it. Raises FetchError for what is none."""
        name, at, digest = text.removeprefix("docker://").partition("@")
        tag = None
        if ":" in name.rpartition("/")[2]:
            name, _, tag = name.rpartition(":")
        if (
            not IMAGE_NAME.fullmatch(name)
            or len(name) > LONGEST_NAME
            or (tag is not None and not IMAGE_TAG.fullmatch(tag))
            or (at and not DIGEST.fullmatch(digest))
        ):
            raise FetchError(
                f"{text!a} is no reference of what a registry has",
                where="REF",
                hint="such as registry.example:5000/team/blur:1, or …/blur@sha256:…, or the folder of an image layout",
            )
        host, slash, rest = name.partition("/")
        if slash and ("." in host or ":" in host or host == "localhost"):
            return cls(host, rest, digest or tag)
        return cls(HUB, name if slash else f"library/{name}", digest or tag)

    def __str__(self) -> str:
        return f"{self.registry}/{self.repository}"


def is_loopback(registry: str) -> bool:
    """Whether a registry, HOST or HOST:PORT, is on this machine."""
    name = registry.partition("]")[0].lstrip("[") if registry.startswith("[") else registry.partition(":")[0]
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name == "localhost"


@dataclass
class Client:
    """Asks for what is in one repository."""

    name: Name
    access: Access = field(default_factory=Access)
    _lock: threading.RLock = field(default_factory=threading.RLock, repr=False)
    _authorization: str = field(default="", repr=False)
    _scopes: dict[str, None] = field(default_factory=dict, repr=False)
    """All that was asked for: a token is for all of it."""

    @cached_property
    def _session(self) -> requests.Session:
        from http.cookiejar import DefaultCookiePolicy

        session = certificates.session(connections=32)
        session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=()))
        return session

    @cached_property
    def base(self) -> str:
        """The address of its API."""
        host = _HUBS_API if self.name.registry == HUB else self.name.registry
        is_plain = self._may_be_plain and self._answers_plainly(host)
        return f"{'http' if is_plain else 'https'}://{host}/v2/"

    @cached_property
    def _may_be_plain(self) -> bool:
        registry = self.name.registry
        return self.access.plain or is_loopback(registry) or passwords.may_be_plain(registry)

    def _answers_plainly(self, host: str) -> bool:
        # Nothing of the user's is said here. A server with TLS answers 400, or not at all.
        try:
            with self._session.get(
                f"http://{host}/v2/",
                auth=_nobody,
                timeout=_TIMEOUT,
                stream=True,
                allow_redirects=False,
                proxies=_proxies(f"http://{host}"),
            ) as answer:
                return answer.status_code in (200, 401) or answer.status_code >= 500
        except (OSError, ValueError):  # requests' exceptions are OSErrors
            return False

    def url(self, path: str) -> str:
        """The address of something in the repository."""
        with self._lock:
            return f"{self.base}{self.name.repository}/{path}"

    def ask(
        self,
        method: Method,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: Body = None,
    ) -> requests.Response:
        """A registry's answer of success, of which the body is still to be read. Raises RegistryError."""
        for attempt in range(_ATTEMPTS - 1):
            try:
                return self._ask_as_somebody(method, url, headers or {}, body)
            except RegistryError as problem:
                if not problem.may_pass:
                    raise
            _pause(0.5 * 2**attempt)
        return self._ask_as_somebody(method, url, headers or {}, body)

    def _ask_as_somebody(
        self, method: Method, url: str, headers: Mapping[str, str], body: Body
    ) -> requests.Response:
        before = self._authorization
        answer = self._send(method, url, headers, body)
        challenge = answer.headers.get("WWW-Authenticate")
        # Where it leads on to, whoever answers there may not say who gets its passwords.
        if answer.status_code == 401 and challenge and self._is_own(url):
            answer.close()
            with self._lock:
                # Another thread may have found it meanwhile.
                if self._authorization == before:
                    self._authorization = self._authorized(challenge)
            answer = self._send(method, url, headers, body)
        # What is written goes where we send it, and nowhere else.
        for _ in range(_MOST_HOPS if method in ("GET", "HEAD") else 0):
            if answer.status_code not in _ELSEWHERE:
                break
            answer.close()
            answer = self._send(method, self.location(answer), headers, None)
        if 200 <= answer.status_code < 300:
            return answer
        raise self._refusal(answer, url)

    def _send(self, method: Method, url: str, headers: Mapping[str, str], body: Body) -> requests.Response:
        opened = body() if callable(body) else body
        with told(url):
            try:
                return self._session.request(
                    method,
                    url,
                    headers={"Accept": "*/*", "Accept-Encoding": "identity", **headers},
                    data=opened,
                    auth=self._say_who if self._is_own(url) else _nobody,
                    timeout=_TIMEOUT,
                    stream=True,
                    proxies=_proxies(url),
                    # By `requests`, it would be with what netrc says of there.
                    allow_redirects=False,
                )
            finally:
                if callable(body):
                    opened.close()  # type: ignore[union-attr]

    def _is_own(self, url: str) -> bool:
        """Whether an address is the registry's."""
        return _origin(url) == _origin(self.base)

    def _say_who(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """What `requests` takes as `auth`, of the registry itself; netrc is not read."""
        if self._authorization:
            request.headers["Authorization"] = self._authorization
        return request

    @cached_property
    def _password(self) -> Password | None:
        return self.access.password or passwords.password_for(
            self.name.registry, self.name.repository, file=self.access.file
        )

    def _authorized(self, challenge: str) -> str:
        """What a request must say of who asks, where a registry wants to know it (RFC 9110, 11.6.1)."""
        bearer = re.search(r"(?i)\bbearer\s+(.*)", challenge)
        if bearer is None:
            if (password := self._password) is None or password.is_token:
                return ""
            return _basic(password)
        said = dict(re.findall(r'(\w+)="([^"]*)"', bearer[1]))
        realm = said.get("realm", "")
        if url_problem(realm) or (urlsplit(realm).scheme == "http" and not self._may_be_plain):
            raise RegistryError(
                "the registry names no place over TLS where one says who asks",
                where=f"{self.name.registry}: {redact(realm)!a}",
                hint="whoever keeps that registry has to set it up otherwise",
            )
        self._scopes |= dict.fromkeys(filter(None, said.get("scope", "").split(" ")))
        return f"Bearer {self._token(realm, said.get('service', ''))}"

    def _token(self, realm: str, service: str) -> str:
        """An access token (distribution's "Token Authentication Specification")."""
        password = self._password
        asked: list[tuple[str, str]] = [("service", service)] if service else []
        asked += [("scope", scope) for scope in self._scopes]
        options: dict[str, Any] = {"timeout": _TIMEOUT, "stream": True, "allow_redirects": False}
        options["proxies"] = _proxies(realm)
        with told(realm):
            if password is not None and password.is_token:
                form = [("grant_type", "refresh_token"), ("refresh_token", password.secret)]
                form += [("client_id", "tungsten"), ("service", service), ("scope", " ".join(self._scopes))]
                answer = self._session.post(realm, data=form, auth=_nobody, **options)
            else:
                auth = _with(_basic(password)) if password is not None else _nobody
                answer = self._session.get(realm, params=asked, auth=auth, **options)
        if answer.status_code != 200:
            raise self._refusal(answer, realm)
        try:
            said = json.loads(self.read(answer, _MOST_OF_A_TOKEN))
            token = said.get("token") or said["access_token"]
            if re.fullmatch(r"[\x21-\x7e]+", token):
                return str(token)
        except (ValueError, LookupError, AttributeError, TypeError, RecursionError):
            pass
        raise RegistryError("the registry gives no token", where=redact(realm), hint="try again in a moment")

    def read(
        self, answer: requests.Response, most: int, clock: Callable[[], float] = time.monotonic
    ) -> bytes:
        """A document, read whole. Raises RegistryError for one of more bytes, or one that might never end."""
        content = bytearray()
        for piece in pieces(answer, clock):
            content += piece
            if len(content) > most:
                raise RegistryError(
                    f"the registry's answer is larger than {most >> 20} MiB",
                    where=redact(answer.url),
                    hint="no document of a registry is: another server may answer in its place",
                )
        return bytes(content)

    def _refusal(self, answer: requests.Response, url: str) -> RegistryError:
        status = answer.status_code
        said = ""
        if answer.request.method != "HEAD":
            try:
                (first, *_) = json.loads(self.read(answer, _MOST_OF_A_PROBLEM))["errors"]
                said = ": ".join(str(first[key])[:300] for key in ("code", "message") if first.get(key))
            except (RegistryError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
                pass
        answer.close()
        what = f"the registry answers HTTP {status} {str(answer.reason)[:100]}{f' ({said})' if said else ''}"
        if status in (401, 403) or said.startswith(("UNAUTHORIZED", "DENIED")):
            hint = f"`tungsten login {self.name.registry}` gives it a user and a password"
        elif status == 404:
            hint = "look at the name and the tag; what was removed from the registry is gone"
        elif 300 <= status < 400:
            hint = (
                "it leads elsewhere, which is not followed when something is sent: name the registry itself"
            )
        else:
            hint = _CHECK
        may_pass = status in (408, 429) or status >= 500
        return RegistryError(what, where=redact(url), hint=hint, status=status, may_pass=may_pass)

    def following(self, answer: requests.Response) -> str | None:
        """Where the next page of a list is; None where this was the last. Raises RegistryError for one of another's."""
        said = answer.links.get("next", {}).get("url")
        if not said:
            return None
        url = _joined(answer.url, said)
        if url_problem(url) or not self._is_own(url):
            raise RegistryError(
                "the registry has its list go on elsewhere",
                where=f"{redact(answer.url)}: {redact(url)!a}",
                hint="whoever keeps that registry has to set it up otherwise",
            )
        return url

    def location(self, answer: requests.Response) -> str:
        """Where a registry says that something is, or goes on. Raises RegistryError for what leads away from TLS."""
        url = _joined(answer.url, answer.headers.get("Location", ""))
        if url_problem(url) or (urlsplit(url).scheme == "http" and not self.base.startswith("http:")):
            raise RegistryError(
                "the registry leads to no address, or to one without TLS",
                where=redact(answer.url),
                hint="whoever keeps that registry has to set it up otherwise",
            )
        return url


_CHECK = "check the network and the proxy settings; `tungsten doctor` tries them"


class told:  # noqa: N801 (used as a function)
    """Turns what `requests` and urllib3 raise into a RegistryError. Their own texts name internals."""

    def __init__(self, url: str) -> None:
        """url: what is asked for."""
        self._url = redact(url)

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, problem: BaseException | None, _trace: object) -> None:
        import requests
        import urllib3

        if isinstance(problem, RegistryError) or not isinstance(
            problem, (requests.RequestException, urllib3.exceptions.HTTPError, ValueError)
        ):
            return
        if handshake := certificates.problem_of(problem):
            hint = certificates.hint(handshake)
            if "wrong version number" in handshake:
                hint = "a registry without TLS must be named so: `insecure = true` in registries.conf"
            raise RegistryError(f"no connection: {handshake}", where=self._url, hint=hint) from None
        if isinstance(problem, (requests.Timeout, urllib3.exceptions.TimeoutError)):
            reason = "no answer in time"
        elif isinstance(problem, requests.exceptions.ProxyError):
            reason = "the proxy can't be reached"
        elif isinstance(problem, (requests.ConnectionError, urllib3.exceptions.HTTPError)):
            reason = "the connection was cut, or there is none"
        elif isinstance(problem, requests.exceptions.ChunkedEncodingError):
            reason = "the connection was cut"
        else:
            raise RegistryError(type(problem).__name__, where=self._url, hint=_CHECK) from None
        raise RegistryError(reason, where=self._url, hint=_CHECK, may_pass=True) from None


def _basic(password: Password) -> str:
    packed = base64.b64encode(f"{password.user}:{password.secret}".encode()).decode()
    return f"Basic {packed}"


def _nobody(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """As `auth`: says nothing, and keeps `requests` from reading netrc, which is of other servers."""
    return request


def _with(authorization: str) -> Callable[[requests.PreparedRequest], requests.PreparedRequest]:
    def say(request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = authorization
        return request

    return say


def _proxies(url: str) -> dict[str, str] | None:
    """None is what the environment says, which is not of what is on this machine."""
    return {"http": "", "https": ""} if is_loopback(urlsplit(url).netloc.rpartition("@")[2]) else None


def _joined(url: str, said: str) -> str:
    """Where an address leads that was said at another; nowhere for what is none."""
    try:
        return urljoin(url, said)
    except ValueError:
        return ""


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port


def pieces(answer: requests.Response, clock: Callable[[], float] = time.monotonic) -> Iterator[bytes]:
    """The body of an answer as it comes. Raises RegistryError where it breaks off, or as `paced`."""
    with answer, told(answer.url):
        yield from paced(answer, clock)


def paced(answer: requests.Response, clock: Callable[[], float] = time.monotonic) -> Iterator[bytes]:
    """The body of an answer as it comes, byte by byte as it is sent: what is packed on the way was not asked for.

    Raises requests.Timeout where it comes so slowly that it might never end: a limit between two bytes alone would let
    a server hand out one at a time.
    """
    import requests

    began, arrived = clock(), 0
    while piece := answer.raw.read1(_PIECE, decode_content=False):
        yield piece
        arrived += len(piece)
        taken = clock() - began
        if taken > _PATIENCE:
            if arrived < taken * _SLOWEST:
                raise requests.Timeout
            began, arrived = clock(), 0
