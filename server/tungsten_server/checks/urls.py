"""Files that a client names by an http(s) address: fetched where the operator allows that, and made data URIs.

A client chooses the address, so this is the one place where it could make this machine reach what only this
machine can: every connection goes to an address that was looked at first, every byte counts against a limit, and
all of it ends at one deadline. Proxies of the environment are not used: they would resolve the name anew. The
standard library's HTTP does it, because the guard is below HTTP, where client libraries let nobody in. Imported
only where fetching is allowed. Threads that have a request call it; each fetches its own request's files.
"""

from __future__ import annotations

import base64
import http.client
import io
import ipaddress
import logging
import re
import socket
import ssl
import threading
import time
from contextlib import closing
from functools import cached_property
from typing import TYPE_CHECKING, Any, Callable, NamedTuple, Union
from urllib.parse import quote, urljoin, urlsplit

from tungsten_server.checks.files import MEDIA_TYPE
from tungsten_server.words.problems import MAX_PROBLEMS, InputError, Location, Problem, UnavailableError
from tungsten_server.words.suffixes import UNKNOWN_MEDIA_TYPE, suffix_of_name, with_suffix

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Network = Union[ipaddress.IPv4Network, ipaddress.IPv6Network]
Resolve = Callable[[str, int], "list[str]"]
"""Gives all addresses of a host. Raises OSError."""

MAX_REDIRECTS = 5

_CONNECT_SECONDS = 5.0
_CHUNK = 256 * 1024
_LONGEST_URL = 8192
_REDIRECTS = frozenset({301, 302, 303, 307, 308})

# IANA's registries of special-purpose addresses (RFC 6890). Not `ipaddress.is_global`: what it says differs between
# versions of Python.
_PUBLIC = ipaddress.ip_network("2000::/3")
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_REFUSED = [
    ipaddress.ip_network(text)
    for text in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",  # carrier-grade NAT; some clouds have their metadata there
        "127.0.0.0/8",
        "168.63.129.16/32",  # public by its number, but a cloud's own service
        "169.254.0.0/16",  # link-local, and most clouds' metadata
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
        "2001::/23",  # protocol assignments, with Teredo, which has an IPv4 address in it
        "2001:db8::/32",
        "2002::/16",  # 6to4, which has one too
        "3fff::/20",
    )
]

_log = logging.getLogger("tungsten.urls")


class Downloads:
    """Fetches the files of requests.

    max_file: bytes that a file may have. max_files: bytes that those of one request may have together.
    seconds: for all files of a request. networks: which may be reached although they are not public.
    """

    at_once = 32
    """Requests that fetch at the same time: each holds a thread meanwhile, and one file in memory."""

    def __init__(
        self,
        *,
        max_file: int,
        max_files: int,
        seconds: float,
        networks: Sequence[Network] = (),
        resolve: Resolve | None = None,
    ) -> None:
        """resolve: the machine's own resolver by default."""
        self._max_file = max_file
        self._max_files = max_files
        self._seconds = seconds
        self._networks = networks
        self._resolve = resolve or _addresses
        self._slots = threading.BoundedSemaphore(self.at_once)

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        """The system's certificate authorities; SSL_CERT_FILE names others."""
        return ssl.create_default_context()

    def fetch(self, places: Mapping[Location, str], take: Callable[[int], None]) -> list[str]:
        """Fetch the files behind the addresses in a request's inputs, one after the other; their data URIs.

        take: called with numbers of bytes before they are held; what it raises ends the request. Raises InputError, and
        UnavailableError where too many fetch already.
        """
        if not self._slots.acquire(blocking=False):
            msg = "too many files are being fetched"
            raise UnavailableError(msg, retry_after=1)
        try:
            return self._fetch_all(places, take)
        finally:
            self._slots.release()

    def _fetch_all(self, places: Mapping[Location, str], take: Callable[[int], None]) -> list[str]:
        deadline = time.monotonic() + self._seconds
        left = self._max_files
        files = []
        problems = []
        for location, url in places.items():
            try:
                file = self._fetch(url, deadline, min(self._max_file, left), take)
            except _RefusedError as error:
                problems.append(Problem(location, str(error), error.kind))
                if len(problems) == MAX_PROBLEMS:
                    break
                continue
            left -= len(file.content)
            files.append(file.uri(suffix_of_name(urlsplit(url).path)))
        if problems:
            raise InputError(problems)
        return files

    def _fetch(self, url: str, deadline: float, limit: int, take: Callable[[int], None]) -> _File:
        """Fetch one file; every problem becomes a _RefusedError."""
        try:
            for _ in range(1 + MAX_REDIRECTS):
                target = _target(url)
                with closing(self._connect(target, deadline)) as sock:
                    connection = http.client.HTTPConnection(target.host, target.port)
                    connection.default_port = 443 if target.is_tls else 80  # which `Host` leaves out
                    connection.sock = _Socket(sock, deadline)
                    connection.request(
                        "GET", target.path, headers={"User-Agent": "tungsten-server", "Connection": "close"}
                    )
                    with connection.getresponse() as response:
                        location = response.headers.get("Location")
                        if response.status not in _REDIRECTS or location is None:
                            return _read(response, limit, take)
                        url = urljoin(url, location)
        except TimeoutError as error:
            raise self._too_late() from error
        except ssl.SSLCertVerificationError as error:
            msg = f"the server's certificate is not valid: {error.verify_message}"
            raise _RefusedError(msg) from error
        except ssl.SSLError as error:
            raise _RefusedError(f"TLS with the address failed: {error.reason or 'it ended early'}") from error
        except OSError as error:
            # socket.timeout is no TimeoutError before Python 3.10
            if isinstance(error, socket.timeout):
                raise self._too_late() from error
            raise _RefusedError(f"the address can't be reached: {error.strerror or error}") from error
        except (http.client.HTTPException, ValueError) as error:
            msg = "what came from the address is not HTTP that can be read"
            raise _RefusedError(msg) from error
        raise _RefusedError(f"the address leads to more than {MAX_REDIRECTS} others")

    def _too_late(self) -> _RefusedError:
        return _RefusedError(
            f"the request's files were not there within {self._seconds:g} seconds", "url_timeout"
        )

    def _connect(self, target: _Target, deadline: float) -> socket.socket:
        """Connect to an address of the host's that was looked at: a name may mean another one a moment later."""
        addresses = list(dict.fromkeys(self._resolve(target.host, target.port)))
        for address in addresses:
            if not self._may_reach(address):
                _log.warning("refused host=%r address=%s", target.host, address)
                msg = "the address is not a public one, and its network is not allowed here"
                raise _RefusedError(msg, "url_refused")
        problem: OSError = OSError("the name has no address")
        for address in addresses:
            seconds = min(_CONNECT_SECONDS, _left(deadline))
            try:
                sock = socket.create_connection((address, target.port), seconds)
            except socket.timeout:
                problem = OSError(f"no connection within {seconds:g} seconds")
                continue
            except OSError as error:
                problem = error
                continue
            if not target.is_tls:
                return sock
            try:
                sock.settimeout(_left(deadline))
                return self._tls.wrap_socket(sock, server_hostname=target.host)
            except BaseException:
                sock.close()
                raise
        raise problem

    def _may_reach(self, text: str) -> bool:
        """Whether an address is public, or of a network that the operator allows."""
        try:
            address = ipaddress.ip_address(text)
        except ValueError:
            return False
        if isinstance(address, ipaddress.IPv6Address):
            if address.scope_id:
                return False
            # What is an IPv4 address in other clothes is judged as that.
            if address.ipv4_mapped:
                address = address.ipv4_mapped
            elif address in _NAT64:
                address = ipaddress.IPv4Address(address.packed[-4:])
        if any(address in network for network in self._networks):
            return True
        public = address.version == 4 or address in _PUBLIC
        return public and not any(address in network for network in _REFUSED)


class _RefusedError(Exception):
    """A file that is not fetched; its text is for the client."""

    def __init__(self, message: str, kind: str = "url_failed") -> None:
        super().__init__(message)
        self.kind = kind


class _Target(NamedTuple):
    """Where an address leads."""

    is_tls: bool
    host: str
    port: int
    path: str
    """With the query, as HTTP has it."""


class _File(NamedTuple):
    media_type: str
    content: bytearray

    def uri(self, suffix: str) -> str:
        media_type = with_suffix(self.media_type, suffix)
        return f"data:{media_type};base64,{base64.b64encode(self.content).decode()}"


class _Socket:
    """The part of a socket that `http.client` uses; every wait ends at the deadline."""

    def __init__(self, sock: socket.socket, deadline: float) -> None:
        self._sock = sock
        self._deadline = deadline

    def sendall(self, data: bytes) -> None:
        self._sock.settimeout(_left(self._deadline))
        self._sock.sendall(data)

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(_Reader(self._sock, self._deadline))

    def close(self) -> None:
        """Do nothing: it is called while an answer without a length is still to be read."""


class _Reader(io.RawIOBase):
    def __init__(self, sock: socket.socket, deadline: float) -> None:
        self._sock = sock
        self._deadline = deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:  # noqa: ANN401 (a buffer; Python 3.9 has no name for it)
        self._sock.settimeout(_left(self._deadline))
        return self._sock.recv_into(buffer)


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _addresses(host: str, port: int) -> list[str]:
    # As long as the system's resolver tries: its own limits are seconds, and nothing can end it early.
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(address[0]) for *_, address in found]


def _target(url: str) -> _Target:
    """Take an address apart. Raises _RefusedError."""
    try:
        # What parsers disagree about is no address here.
        if len(url) > _LONGEST_URL or re.search(r"[\x00-\x20\x7f\\]", url):
            raise ValueError
        parts = urlsplit(url)
        host = parts.hostname
        if not host or parts.scheme not in ("http", "https") or parts.port == 0:
            raise ValueError
        if not host.isascii():
            host = host.encode("idna").decode()
        host.encode("idna")  # as `socket` will: too long a label
    except ValueError as error:
        msg = "the address is not an http or https URL that can be read"
        raise _RefusedError(msg, "url_invalid") from error
    if "@" in parts.netloc:
        msg = "the address has a user name or a password in it"
        raise _RefusedError(msg, "url_invalid")
    is_tls = parts.scheme == "https"
    path = quote(parts.path or "/", safe="/%:@!$&'()*+,;=~") + (
        f"?{quote(parts.query, safe='/%:@!$&()*+,;=~?')}" if parts.query else ""
    )
    return _Target(is_tls, host, parts.port or (443 if is_tls else 80), path)


def _read(response: http.client.HTTPResponse, limit: int, take: Callable[[int], None]) -> _File:
    """Read an answer's body. Raises _RefusedError, and what reading raises."""
    if response.status != 200:
        raise _RefusedError(f"the address was answered with status {response.status}")
    encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding != "identity":
        # A few kilobytes could become gigabytes; it was not asked for either.
        raise _RefusedError(f"the file comes with Content-Encoding {encoding[:20]!r}; it must come as it is")
    expected = response.length  # None: until the connection ends, or in chunks
    too_large = _RefusedError(f"the file has more than {limit} bytes", "file_too_large")
    if expected is not None and expected > limit:
        raise too_large
    content = bytearray()
    while chunk := response.read(_CHUNK):
        if len(content) + len(chunk) > limit:
            raise too_large
        take(len(chunk) * 4 // 3)  # as base64
        content += chunk
    if expected is not None and len(content) != expected:
        raise _RefusedError(f"{len(content)} bytes of {expected} came")
    declared = (
        response.headers.get_content_type() if "Content-Type" in response.headers else UNKNOWN_MEDIA_TYPE
    )
    return _File(declared if MEDIA_TYPE.fullmatch(declared) else UNKNOWN_MEDIA_TYPE, content)
