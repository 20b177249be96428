"""One connection, and the requests on it: what is read, what is refused, and how an answer is written.

Overrides waitress' channel, parser and tasks, and reads attributes of theirs, so its major version is pinned. A channel
is the loop's; while it has requests, whoever answers the first of them may write to it, too. What connections share
is their owner's, `serving.HttpServer`.
"""

from __future__ import annotations

import re
import time
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Callable, NamedTuple, Protocol

from waitress.channel import ClientDisconnected, HTTPChannel  # type: ignore[import-untyped]
from waitress.task import ErrorTask, WSGITask  # type: ignore[import-untyped]

from tungsten_server.http.arriving import Request, TooMuchArrivesError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tungsten_server.words.budget import ByteBudget

_LARGEST_DIRECT_ANSWER = 1024 * 1024
"""Bytes of a body that the loop itself writes; more would go through a temporary file of waitress'."""

_MOST_REQUESTS = 64
"""Requests that a client may send ahead on one connection: one that is parsed takes a hundred times its bytes. Behind
them the connection is closed, as HTTP allows (RFC 9112, 9.3.2)."""

WHEN_GONE = "tungsten.when_gone"
"""In the WSGI environment: takes what is to be called if the client goes before its request is answered."""

WITH_EVENTS = "tungsten.with_events"
"""In the WSGI environment: takes the `Events` that the body of the answer consists of. The application returns none."""

_KEEP_ALIVE_SECONDS = 15.0
"""After which a comment says that nothing has happened: proxies close what is silent for longer (often 60 s)."""

_HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nContent-Type: application/json\r\nDate: %b\r\n\r\n"

_LENGTH = re.compile(rb"\r\ncontent-length: *([0-9]{1,9})\r\n", re.IGNORECASE)


class DirectAnswer(NamedTuple):
    """A 200 that answers a request without the application."""

    size: int
    """About how many bytes its body has."""
    render: Callable[[], bytes]
    """Makes the body."""


class Events(Protocol):
    """The body of an answer that comes in parts, over any time."""

    @property
    def size(self) -> int:
        """About how many bytes there are to take."""

    def open(self, on_news: Callable[[], None]) -> None:
        """Have something called, by any thread, when there is something to take."""

    def take(self) -> tuple[bytes, bool]:
        """What there is, and whether that is the end."""

    def leave(self) -> None:
        """Note that the client has gone."""


class Errors(NamedTuple):
    """The wording of errors that waitress itself detects."""

    body: Callable[[int, str], bytes]
    """Makes the body, of the status and its name."""
    headers: Callable[[str | None], Mapping[str, str]]
    """Makes what else the head says, to a page of an origin."""


class Owner(Protocol):
    """What a connection needs of the server that it belongs to."""

    arriving: ByteBudget
    """For the bytes of bodies that arrive, or have and are not answered, but for small ones."""
    errors: Errors
    largest_direct_body: int
    """Bytes of a body that may be offered."""
    stopping: bool

    def add_task(self, channel: Channel) -> None:
        """Answer the first request of a channel."""

    def offer(self, channel: Channel, body: bytes) -> bool:
        """Have it answered without the application; return whether it will be."""

    def look(self) -> None:
        """Have the loop look at the connections anew."""

    def news(self, channel: Channel) -> None:
        """Have the loop write what there is of the channel's events."""

    def date(self) -> bytes:
        """Now, as HTTP writes it."""


class _Known(NamedTuple):
    """The head of a request as it stood on the wire, but for the length of the body."""

    before: bytes
    after: bytes
    request: Request

    def body(self, data: bytes) -> bytes | None:
        """Return the body if the data is one whole request with this head."""
        if not data.startswith(self.before):
            return None
        begin = len(self.before)
        end = data.find(b"\r", begin, begin + 10)
        length = data[begin:end]
        if not length.isdigit() or not data.startswith(self.after, end):
            return None
        body = data[end + len(self.after) :]
        return body if len(body) == int(length) else None


def _known(data: bytes, request: Request) -> _Known | None:
    """Return the head of a request that was read from this data alone; None if it says more than what is sent again."""
    if request.version != "1.1" or request.connection_close or request.chunked or "EXPECT" in request.headers:
        return None
    head = data[: request.header_bytes_received]
    lengths = list(_LENGTH.finditer(head))
    if len(data) != len(head) + request.content_length or len(lengths) != 1:
        return None
    begin, end = lengths[0].span(1)
    return _Known(head[:begin], head[end:], request)


class Task(WSGITask):  # type: ignore[misc]
    """Answers with `Connection: close` once the server stops, or busy clients would keep it from it."""

    channel: Channel
    chunked_response: bool

    def build_response_header(self) -> bytes:
        """Make the head of the answer."""
        # A pipelined request behind this one has been accepted too.
        if self.channel.owner.stopping and len(self.channel.requests) == 1:
            self.set_close_on_finish()
        header: bytes = super().build_response_header()
        return header

    def get_environment(self) -> dict[str, Any]:
        """Make the WSGI environment."""
        environ: dict[str, Any] = super().get_environment()
        environ[WHEN_GONE] = self.channel.when_gone
        environ[WITH_EVENTS] = self.channel.begin_events
        return environ

    def execute(self) -> None:
        """Write the direct answer, or what the application says."""
        answer: DirectAnswer | None = self.channel.direct_answer
        if answer is None:
            try:
                super().execute()
            finally:
                self.channel.on_gone = None
            if self.channel.events is not None:
                self._open_events()
            return
        body = answer.render()
        self.channel.direct_answer = None
        self.complete = True  # what WSGI's start_response would say
        self.status = "200 OK"
        self.response_headers.append(("Content-Type", "application/json"))
        self.content_length = len(body)
        self.write(body)

    def _open_events(self) -> None:
        """Write the head of an answer that goes on without this task; the connection closes behind it."""
        self.write(b"")
        self.channel.chunked, self.chunked_response = self.chunked_response, False
        self.close_on_finish = False
        with self.channel.requests_lock:
            surplus = self.channel.requests[1:]
            del self.channel.requests[1:]
        for request in surplus:
            request.close()


class Refusal(ErrorTask):  # type: ignore[misc]
    """Gives errors that waitress detects the shape of all others: too large, not HTTP."""

    channel: Channel

    def execute(self) -> None:
        """Write what is wrong, and close the connection behind it."""
        error = self.request.error
        told = self.channel.owner.errors
        if isinstance(error, TooMuchArrivesError):
            body = told.body(error.code, error.body)
            self.response_headers.append(("Retry-After", "1"))
        else:
            body = told.body(error.code, error.reason)
        self.status = f"{error.code} {error.reason}"
        self.response_headers.append(("Content-Type", "application/json"))
        self.response_headers += told.headers(self.request.headers.get("ORIGIN")).items()
        self.set_close_on_finish()
        self.content_length = len(body)
        self.write(body)


class Channel(HTTPChannel):  # type: ignore[misc]
    """A connection; one that sends the same head again and again needs no parser for it."""

    task_class = Task
    error_task_class = Refusal
    direct_answer: DirectAnswer | None = None
    """The answer to its first request, where that needs no application any more."""
    on_gone: Callable[[], None] | None = None
    """To be called if the client goes while its first request is answered."""
    remember = False
    """Whether the request that was just read may come again."""
    known: _Known | None = None
    requests: list[Request]
    request: Request | None
    will_close: bool
    later: list[Request]
    """Requests that have arrived whole, and are begun when the client has read the answers before."""
    events: Events | None = None
    """What its answer goes on with, where that comes in parts."""
    chunked = False
    """Whether that is told in chunks, or ends with the connection."""
    has_news = False
    """Whether the loop knows that there is something of it to write."""
    is_behind = False
    """Whether there was something to write while the client had not read what was before."""
    is_writing = False
    """Whether a thread writes it."""
    waits_since: float
    """When its last request was answered, or the client was behind with its events: as `time.time` has it."""

    def __init__(self, owner: Owner, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 (waitress')
        super().__init__(*args, **kwargs)
        self.owner = owner
        self.parser_class = partial(Request, owner.arriving)
        self.later = []
        self.waits_since = self.creation_time

    @property
    def waits(self) -> bool:
        """Whether it is the client's turn: to send a request or the rest of one, or to read an answer."""
        return not self.requests and (self.events is None or self.is_behind)

    def readable(self) -> bool:
        """Whether the loop is to read: not ahead of a client that does not read itself."""
        return not self.later and self.events is None and bool(super().readable())

    def writable(self) -> bool:
        """Whether the loop is to call `handle_write`."""
        # Without a request waitress sends without its lock, and a thread that writes sends too.
        return not self.is_writing and bool(self.later or super().writable())

    def when_gone(self, callback: Callable[[], None]) -> None:
        """Have something called if the client goes before its request is answered. For the thread that answers."""
        self.on_gone = callback
        self.owner.look()

    def leave(self) -> None:
        """Note that the client has closed the connection."""
        on_gone, self.on_gone = self.on_gone, None
        if on_gone:
            on_gone()

    def postpone(self) -> None:
        """Begin the next request when the client has read what there is. For the thread that has answered."""
        self.later += self.requests
        self.requests = []  # or waitress would not send

    def handle_write(self) -> None:
        """Send; begin what was postponed once all is sent."""
        super().handle_write()
        if self.is_behind and not self.total_outbufs_len:
            self.is_behind = False
            self.owner.news(self)
        if self.later and self.connected and not self.total_outbufs_len:
            self.requests, self.later = self.later, []
            self.owner.add_task(self)

    def _flush_outbufs_below_high_watermark(self) -> None:
        """Do not wait: a client that does not read would hold a task thread for ever."""

    def service(self) -> None:
        """Answer the first request, on whichever thread this is."""
        super().service()
        self.waits_since = time.time()
        if self.events is None:
            return
        if self.connected:
            self.on_gone = self._leave_events
            self.events.open(lambda: self.owner.news(self))
        else:
            self._leave_events()

    def begin_events(self, events: Events) -> None:
        """Have the answer consist of events. For the thread that answers."""
        self.events = events

    def write_events(self) -> bool:
        """Send what there is, as far as the client reads; return whether that could be done at once. For the loop."""
        if self.events is None or self.is_writing:
            return True
        if self.total_outbufs_len:
            if not self.is_behind:
                self.is_behind, self.waits_since = True, time.time()
            return True
        if self.events.size > _LARGEST_DIRECT_ANSWER:
            self.is_writing = True
            return False
        self._write_events(self.events)
        self.handle_write()
        return True

    def _write_events(self, events: Events) -> None:
        data, is_end = events.take()
        if data and self.chunked:
            data = b"%X\r\n%b\r\n" % (len(data), data)
        if is_end:
            data += b"0\r\n\r\n" if self.chunked else b""
            self.on_gone = self.events = None
            self.close_when_flushed = True
        with suppress(ClientDisconnected):
            self.write_soon(data)

    def keep_alive(self) -> None:
        """Say that the answer goes on, where nothing was said for long. For the loop."""
        if self.events is None or self.is_writing or self.total_outbufs_len:
            return
        if time.time() - self.last_activity >= _KEEP_ALIVE_SECONDS:
            comment = b": keep-alive\n\n"
            self.write_soon(b"%X\r\n%b\r\n" % (len(comment), comment) if self.chunked else comment)
            self.handle_write()

    def _leave_events(self) -> None:
        events, self.events = self.events, None
        if events is not None:
            self.close_when_flushed = True
            events.leave()

    def received(self, data: bytes) -> bool:
        """Take what the client has sent; return whether it was looked at."""
        if self.requests or self.request is not None:
            return self._parse(data)
        if self.known is not None and not self.will_close and not self.close_when_flushed:
            body = self.known.body(data)
            if body is not None and len(body) <= self.owner.largest_direct_body:
                self.requests.append(self.known.request)
                if self.owner.offer(self, body):
                    return True
                self.requests.pop()
        self.remember = False
        accepted = self._parse(data)
        if self.remember:
            self.known = _known(data, self.requests[0])
        return accepted

    def _parse(self, data: bytes) -> bool:
        accepted = bool(super().received(data))
        with self.requests_lock:
            surplus = self.requests[_MOST_REQUESTS:]
            if surplus:
                del self.requests[_MOST_REQUESTS:]
                self.requests[-1].headers["CONNECTION"] = "close"
                if self.request is not None:
                    surplus.append(self.request)
                    self.request = None
        for request in surplus:
            request.close()
        return accepted

    def handle_close(self) -> None:
        """Close, and let go of what nobody answers any more."""
        # What is being answered is closed by whoever answers it.
        for request in (*self.later, *filter(None, [self.request])):
            request.close()
        self.later = []
        self._leave_events()
        super().handle_close()

    def write_direct(self) -> bool:
        """Send the direct answer; return whether that could be done without waiting. For the loop."""
        assert self.direct_answer is not None
        self.on_gone = None
        if self.direct_answer.size > _LARGEST_DIRECT_ANSWER or self.total_outbufs_len:
            return False
        if not self.known or len(self.requests) > 1 or self.request is not None or self.owner.stopping:
            self.service()
            if self.connected:
                self.handle_write()
            return True
        body = self.direct_answer.render()
        self.direct_answer = None
        head = _HEAD % (len(body), self.owner.date())
        response = head + body
        try:
            sent = self.send(response) if self.connected else 0
        except OSError:  # one that waitress does not know as a disconnection
            self.will_close, sent = True, len(response)
        if sent < len(response) and self.connected:
            with self.outbuf_lock:
                self.outbufs[-1].append(response[sent:])
                self.total_outbufs_len += len(response) - sent
        self.requests.pop().close()
        self.last_activity = self.waits_since = time.time()
        return True


class EventsTask:
    """Writes what there is of a channel's events: so much that the loop would be kept from all else."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    def service(self) -> None:
        """Write it. For a task thread."""
        channel = self._channel
        try:
            if channel.events is not None:
                channel._write_events(channel.events)
        finally:
            channel.is_writing = False
            channel.owner.news(channel)
