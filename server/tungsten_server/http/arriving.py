"""A request on its way in: what of it is refused before it is there.

Overrides waitress' parser, as `connections` does the rest of a connection.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from waitress.parser import (  # type: ignore[import-untyped]
    HEADER_FIELD_RE,
    HTTPRequestParser,
    ParsingError,
    get_header_lines,
)
from waitress.utilities import BadRequest, Error  # type: ignore[import-untyped]

if TYPE_CHECKING:
    from tungsten_server.words.budget import ByteBudget

LARGEST_DIRECT_BODY = 65536
"""Bytes of a body that the loop itself has parsed: within a millisecond, in which it does nothing else."""

LONGEST_HEAD = 65536
"""Bytes of a request's head, and of what a chunked body has beside its chunks."""

_CODED = re.compile(rb"transfer-encoding", re.IGNORECASE)


class TooMuchArrivesError(Error):  # type: ignore[misc]
    """Refuses a request for which there is no room yet."""

    code = 503
    reason = "Service Unavailable"


class Request(HTTPRequestParser):  # type: ignore[misc]
    """A request on its way in, refused before its body is read where all bodies together would be too large."""

    error: Error | None
    held = 0
    """Bytes taken from `arriving`; small bodies are bounded by the number of connections."""

    def __init__(self, arriving: ByteBudget, adj: object) -> None:
        super().__init__(adj)
        self._arriving = arriving

    def received(self, data: bytes) -> int:
        """Read on; return how many of the bytes are this request's."""
        try:
            consumed: int = super().received(data)
        except ValueError:  # a Content-Length of thousands of digits
            consumed = len(data)
            self._refuse(BadRequest("Content-Length is invalid"))
        if self.chunked and len(self.body_rcv.control_line) + len(self.body_rcv.trailer) > LONGEST_HEAD:
            self._refuse(BadRequest("what is between the chunks is too long"))
        if self.body_rcv is not None and self.error is None:
            # Without a Content-Length it is what has come so far.
            size = max(self.content_length, len(self.body_rcv))
            if size > max(self.held, LARGEST_DIRECT_BODY):
                if self._arriving.take(size - self.held):
                    self.held = size
                else:
                    self._refuse(TooMuchArrivesError("too many bytes are arriving"))
        if self.completed:
            # Or waitress would ask for the rest, and forget that there is none.
            self.expect_continue = False
        return consumed

    def parse_header(self, header_plus: bytes) -> None:
        """Read the head; refuse one whose body others may see end elsewhere."""
        if _CODED.search(header_plus):
            _check_framing(header_plus)
        super().parse_header(header_plus)

    def _refuse(self, error: Error) -> None:
        self.error = error
        self.completed = True

    def close(self) -> None:
        """Let go of the body. May be called again."""
        super().close()
        self._arriving.give_back(self.held)
        self.held = 0


def _check_framing(header_plus: bytes) -> None:
    """Refuse a head that says more than once, or in a way that not all understand, where its body ends.

    RFC 9112, 6.1 to 6.3. Raises ParsingError.
    """
    first_line, _, rest = header_plus.partition(b"\r\n")
    found: dict[bytes, list[bytes]] = {}
    for line in get_header_lines(rest):
        field = HEADER_FIELD_RE.match(line)
        if field:
            found.setdefault(field["name"].lower(), []).append(field["value"].lower())
    codings = found.get(b"transfer-encoding")
    if codings is None:
        return
    repeated = len(codings) > 1 or codings[0].count(b"chunked") > 1
    if repeated or b"content-length" in found or first_line.rstrip().endswith(b"HTTP/1.0"):
        msg = "where the body ends is said in more than one way"
        raise ParsingError(msg)
