"""Which requests that a browser sends are meant: by the host that they name, and by the page that they come from.

A page of anybody's can have a browser send a form to this server, and can lead a name of its own to this machine
(DNS rebinding) to read the answers as well. Programs name no page, and are not asked. Immutable; any thread may use
it.
"""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

_HARMLESS = frozenset({"GET", "HEAD", "OPTIONS"})
"""Methods that change nothing: of their answers a page of another origin sees none."""

_PORTS = {"http": ":80", "https": ":443"}

_PREFLIGHT_SECONDS = 600


class Access:
    """Who may send requests.

    hosts: names by which this server may be called, beside `localhost` and every address; None lets any pass.
    origins: of other pages that may call it, such as `https://app.example.org`; `*` stands for all.
    """

    def __init__(self, hosts: Collection[str] | None, origins: Collection[str]) -> None:
        """Hold both."""
        self._hosts = None if hosts is None or "*" in hosts else {"localhost", *map(str.lower, hosts)}
        self._origins = frozenset(origins)

    def is_plain(self, headers: Mapping[str, str]) -> bool:
        """Whether a request is a program's that needs no more of a look. headers: by name, as waitress has them."""
        return (
            "ORIGIN" not in headers
            and "SEC_FETCH_SITE" not in headers
            and self._refused_host(headers.get("HOST")) is None
        )

    def refusal(self, method: str, host: str | None, origin: str | None, site: str | None) -> str | None:
        """Say why a request is refused; None where it is not.

        host, origin, site: the headers `Host`, `Origin` and `Sec-Fetch-Site`.
        """
        refused = self._refused_host(host)
        if refused is not None:
            return f"the server is not called {refused[:200]}: --allow-host (TUNGSTEN_ALLOW_HOST) says what else it is"
        if method in _HARMLESS or (origin is not None and self._allows(origin)):
            return None
        # What a browser itself says of it is right behind a proxy that renames the host, too.
        if site in ("same-origin", "none") or (
            site is None and (origin is None or _is_of(origin, host or ""))
        ):
            return None
        return (
            f"the request comes from a page of {(origin or 'another site')[:200]}: --allow-origins "
            "(TUNGSTEN_ALLOW_ORIGINS) names pages that may call this server"
        )

    def cors(self, origin: str | None, *, preflight: bool) -> dict[str, str]:
        """The headers by which a browser lets a page read an answer (CORS); none where nobody is let.

        preflight: whether it asks first.
        """
        if not self._origins:
            return {}
        headers = {} if "*" in self._origins else {"Vary": "Origin"}
        if origin is None or not self._allows(origin):
            return headers
        headers["Access-Control-Allow-Origin"] = "*" if "*" in self._origins else origin
        if preflight:
            headers["Access-Control-Allow-Methods"] = "GET, POST"
            headers["Access-Control-Allow-Headers"] = "Content-Type, Range"
            headers["Access-Control-Max-Age"] = str(_PREFLIGHT_SECONDS)
        else:
            headers["Access-Control-Expose-Headers"] = "Content-Disposition, Content-Range, ETag, Retry-After"
        return headers

    def _allows(self, origin: str) -> bool:
        return "*" in self._origins or origin in self._origins

    def _refused_host(self, host: str | None) -> str | None:
        """What a request calls this server, where that is none of its names."""
        if self._hosts is None or host is None:
            return None
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return host
        # An address leads nowhere else: nobody can point it here from a page of his own.
        return None if name.rstrip(".") in self._hosts or _is_address(name) else host


def is_loopback(address: str) -> bool:
    """Whether only this machine reaches an address."""
    return _is_address(address) and ipaddress.ip_address(address).is_loopback


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _is_of(origin: str, host: str) -> bool:
    """Whether an origin is that of a host, as the header of this name has it."""
    scheme, _, place = origin.lower().partition("://")
    port = _PORTS.get(scheme, "")
    return bool(port and place) and place.removesuffix(port) == host.lower().removesuffix(port)
