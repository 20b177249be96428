"""waitress, and the graceful stop that it lacks: all that the server knows about waitress is here.

The main thread runs the event loop and does all socket I/O; waitress' task threads run the application. Small
requests to predict need no thread of their own: the loop hands them over, and writes the answer when there is
one. A stop closes the listening socket, and ends the loop once every request that has begun to arrive is
answered: waitress itself would drop them. All this reads attributes of waitress' channels and overrides some of
its classes, so its major version is pinned.
"""

from __future__ import annotations

import logging
import re
import resource
import select
import threading
import time
from typing import TYPE_CHECKING, Any, Callable, NamedTuple

from waitress import create_server, wasyncore  # type: ignore[import-untyped]
from waitress.channel import HTTPChannel  # type: ignore[import-untyped]
from waitress.parser import HTTPRequestParser  # type: ignore[import-untyped]
from waitress.task import ErrorTask, WSGITask  # type: ignore[import-untyped]
from waitress.utilities import BadRequest, Error, build_http_date  # type: ignore[import-untyped]

if TYPE_CHECKING:
    import socket
    from wsgiref.types import WSGIApplication

    from tungsten_server.budget import ByteBudget

_MAX_CONNECTIONS = 1000
"""Ten times waitress' default: a kept-alive connection costs a file descriptor and no thread."""

_SPARE_FILES = 64
"""File descriptors left to everything but connections, and the temporary file that each may need."""

_IO_BYTES = 65536
"""Bytes read at once, and written before a task thread sends by itself: so the loop sends all common answers,
and does not fight the task threads for the interpreter's lock."""

_LARGEST_DIRECT_BODY = 65536
"""Bytes of a body that the loop itself has parsed: within a millisecond, in which it does nothing else."""

_LARGEST_DIRECT_ANSWER = 1024 * 1024
"""Bytes of a body that the loop itself writes; more would go through a temporary file of waitress'."""

_LONGEST_HEAD = 65536
"""Bytes of a request's head, and of what a chunked body has beside its chunks."""

_MOST_REQUESTS = 64
"""Requests that a client may send ahead on one connection: one that is parsed takes a hundred times its bytes. Behind
them the connection is closed, as HTTP allows (RFC 9112, 9.3.2)."""

_DIRECT_TYPES = frozenset({"application/json", "application/json; charset=utf-8"})

_QUIET_SECONDS = 0.05
"""How long nothing may arrive before a stop calls the connections idle: a request may still be on its way."""

_log = logging.getLogger("tungsten.http")


class DirectAnswer(NamedTuple):
    """A 200 that answers a request without the application."""

    size: int
    """About how many bytes its body has."""
    render: Callable[[], bytes]
    """Makes the body."""


_HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nContent-Type: application/json\r\nDate: %b\r\n\r\n"

_LENGTH = re.compile(rb"\r\ncontent-length: *([0-9]{1,9})\r\n", re.IGNORECASE)


class _Known(NamedTuple):
    """The head of a request as it stood on the wire, but for the length of the body."""

    before: bytes
    after: bytes
    request: HTTPRequestParser

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


def _known(data: bytes, request: HTTPRequestParser) -> _Known | None:
    """Return the head of a request that was read from this data alone; None if it says more than what is sent again."""
    if request.version != "1.1" or request.connection_close or request.chunked or "EXPECT" in request.headers:
        return None
    head = data[: request.header_bytes_received]
    lengths = list(_LENGTH.finditer(head))
    if len(data) != len(head) + request.content_length or len(lengths) != 1:
        return None
    begin, end = lengths[0].span(1)
    return _Known(head[:begin], head[end:], request)


Predict = Callable[[bytes, Callable[[DirectAnswer], None]], bool]
"""Takes a JSON body and a callback, which any thread may call, once, with the answer. Returns whether it will
be called: if not, the request is the application's."""


class HttpServer:
    """Serves an application on a socket that listens already.

    threads: how many requests may be inside the application at a time.
    max_body: largest request body in bytes.
    predict: answers POST /predict where it can.
    release: called once after all of `predict` that came at the same time.
    each_second: called about once a second, by the loop.
    arriving: for the bytes of bodies that arrive, or have and are not answered, but for small ones.
    error_body: makes the body of an error that waitress itself detects, of the status and its name.
    """

    def __init__(
        self,
        app: WSGIApplication,
        listener: socket.socket,
        *,
        threads: int,
        max_body: int,
        predict: Predict,
        release: Callable[[], None],
        each_second: Callable[[], None],
        arriving: ByteBudget,
        error_body: Callable[[int, str], bytes],
    ) -> None:
        """Start the task threads."""
        # Each request that has to wait for a thread would be logged.
        logging.getLogger("waitress.queue").setLevel(logging.ERROR)
        files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._map: dict[int, Any] = {}
        self._server = create_server(
            app,
            map=self._map,
            sockets=[listener],
            threads=threads,
            # Waitress counts the listening socket and its own pipe, too.
            connection_limit=2 + min(_MAX_CONNECTIONS, max((files - _SPARE_FILES) // 2, files // 8)),
            asyncore_use_poll=True,  # select(2) knows no file descriptor above 1023
            recv_bytes=_IO_BYTES,
            send_bytes=_IO_BYTES,
            max_request_header_size=_LONGEST_HEAD,
            max_request_body_size=max_body + 1,  # waitress refuses bodies of this size and above
            clear_untrusted_proxy_headers=False,  # nothing here reads them; True costs a middleware
            ident=None,
        )
        self._server.channel_class = _channel_class(self, arriving, error_body)
        self._server.add_task = self.add_task
        self.largest_direct_body = min(max_body, _LARGEST_DIRECT_BODY)
        self._predict = predict
        self._release = release
        self._each_second = each_second
        self._next_second = 0.0
        self._answered: list[HTTPChannel] = []
        """Channels that have a `direct_answer`."""
        self._answered_lock = threading.Lock()
        self._loop = threading.get_ident()
        self._offered = False
        """Whether `predict` has taken anything that `release` has not been called for."""
        self._date = 0, b""
        self.stopping = False

    def stop(self) -> None:
        """Ask `run` to stop. For any thread, and for signal handlers."""
        self.stopping = True
        self._server.pull_trigger()

    def run(self) -> None:
        """Serve until `stop`."""
        while not self.stopping:
            self._turn(1.0)

    def drain(self, seconds: float) -> int:
        """Accept no more, and answer what was accepted, for at most `seconds`.

        Returns the number of requests that are then left without an answer. May be called again to go on.
        """
        deadline = time.monotonic() + seconds
        self._stop_listening()
        quiet_at = time.monotonic() + _QUIET_SECONDS
        while (now := time.monotonic()) < deadline:
            if self._busy():
                self._turn(deadline - now)
                quiet_at = time.monotonic() + _QUIET_SECONDS
            elif now < quiet_at:
                self._turn(quiet_at - now)
            else:
                break
        return self._busy()

    def _turn(self, timeout: float) -> None:
        wasyncore.loop(timeout=timeout, use_poll=True, map=self._map, count=1)
        with self._answered_lock:
            answered, self._answered = self._answered, []
        for channel in answered:
            if not channel.answer():
                self._server.task_dispatcher.add_task(channel)
        if self._offered:
            self._offered = False
            self._release()
        if time.monotonic() >= self._next_second:
            self._next_second = time.monotonic() + 1.0
            self._close_connections()
            self._each_second()

    def _close_connections(self) -> None:
        """Close what waitress has given up, and make room where there is none.

        Waitress itself closes a connection only when its client reads, or goes.
        """
        channels = list(self._server.active_channels.values())
        for channel in channels:
            if channel.will_close:
                channel.handle_close()
        if self._server.in_connection_overflow and self._server.accepting:
            # Bytes that trickle in do not help: it takes a whole request.
            waiting = sorted((one for one in channels if one.waits), key=lambda one: one.waits_since)
            for channel in waiting[: len(channels) // 10 + 1]:
                channel.handle_close()

    def add_task(self, channel: HTTPChannel) -> None:
        """Answer a request that has arrived whole: in waitress' place, on the loop or on a task thread."""
        if channel.total_outbufs_len:
            channel.postpone()
            return
        request = channel.requests[0]
        if (
            not request.error
            and request.command == "POST"
            and request.path == "/predict"
            and not request.query
            and request.headers.get("CONTENT_TYPE") in _DIRECT_TYPES
            and len(request.body_rcv or "") <= self.largest_direct_body
            and threading.get_ident() == self._loop
        ):
            file = request.get_body_stream()
            body = file.read()
            file.seek(0)
            if self.offer(channel, body):
                channel.remember = True
                return
        self._server.task_dispatcher.add_task(channel)

    def offer(self, channel: HTTPChannel, body: bytes) -> bool:
        """Have the first request of a channel answered without the application; return whether it will be."""

        def done(answer: DirectAnswer) -> None:
            channel.direct_answer = answer
            with self._answered_lock:
                first = not self._answered
                self._answered.append(channel)
            if first:
                self._server.pull_trigger()

        offered = self._predict(body, done)
        self._offered |= offered
        return offered

    def date(self) -> bytes:
        """Now, as HTTP writes it."""
        now = int(time.time())
        if now != self._date[0]:
            self._date = now, build_http_date(now).encode()
        return self._date[1]

    def _busy(self) -> int:
        """How many connections have a request half read, running, or with a part of its answer unsent."""
        # In this order: a task thread writes its answer before it takes its request off the list.
        return sum(
            bool(channel.requests or channel.later or channel.request or channel.total_outbufs_len)
            for channel in list(self._server.active_channels.values())
        )

    def _stop_listening(self) -> None:
        if not self._server.accepting:
            return
        # What the kernel has accepted on our behalf would be reset.
        waiting = select.poll()
        waiting.register(self._server.socket, select.POLLIN)
        while waiting.poll(0):
            self._server.handle_accept()
        self._server.accepting = False
        self._server.del_channel()
        self._server.socket.close()


class _TooMuchArrivesError(Error):  # type: ignore[misc]
    """Refuses a request for which there is no room yet."""

    code = 503
    reason = "Service Unavailable"


def _channel_class(
    server: HttpServer, arriving: ByteBudget, error_body: Callable[[int, str], bytes]
) -> type[HTTPChannel]:
    """Make the class of the server's connections."""

    class Task(WSGITask):  # type: ignore[misc]
        """Answers with `Connection: close` once the server stops, or busy clients would keep it from it."""

        def build_response_header(self) -> bytes:
            # A pipelined request behind this one has been accepted too.
            if server.stopping and len(self.channel.requests) == 1:
                self.set_close_on_finish()
            header: bytes = super().build_response_header()
            return header

        def execute(self) -> None:
            answer: DirectAnswer | None = self.channel.direct_answer
            if answer is None:
                super().execute()
                return
            body = answer.render()
            self.channel.direct_answer = None
            self.complete = True  # what WSGI's start_response would say
            self.status = "200 OK"
            self.response_headers.append(("Content-Type", "application/json"))
            self.content_length = len(body)
            self.write(body)

    class Refusal(ErrorTask):  # type: ignore[misc]
        """Gives errors that waitress detects the shape of all others: too large, not HTTP."""

        def execute(self) -> None:
            error = self.request.error
            if isinstance(error, _TooMuchArrivesError):
                body = error_body(error.code, error.body)
                self.response_headers.append(("Retry-After", "1"))
            else:
                body = error_body(error.code, error.reason)
            self.status = f"{error.code} {error.reason}"
            self.response_headers.append(("Content-Type", "application/json"))
            self.set_close_on_finish()
            self.content_length = len(body)
            self.write(body)

    class Request(HTTPRequestParser):  # type: ignore[misc]
        """A request on its way in, refused before its body is read where all bodies together would be too large."""

        error: Error | None
        held = 0
        """Bytes taken from `arriving`; small bodies are bounded by the number of connections."""

        def received(self, data: bytes) -> int:
            try:
                consumed: int = super().received(data)
            except ValueError:  # a Content-Length of thousands of digits
                consumed = len(data)
                self._refuse(BadRequest("Content-Length is invalid"))
            if self.chunked and len(self.body_rcv.control_line) + len(self.body_rcv.trailer) > _LONGEST_HEAD:
                self._refuse(BadRequest("what is between the chunks is too long"))
            if self.body_rcv is not None and self.error is None:
                # Without a Content-Length it is what has come so far.
                size = max(self.content_length, len(self.body_rcv))
                if size > max(self.held, _LARGEST_DIRECT_BODY):
                    if arriving.take(size - self.held):
                        self.held = size
                    else:
                        self._refuse(_TooMuchArrivesError("too many bytes are arriving"))
            if self.completed:
                # Or waitress would ask for the rest, and forget that there is none.
                self.expect_continue = False
            return consumed

        def _refuse(self, error: Error) -> None:
            self.error = error
            self.completed = True

        def close(self) -> None:
            super().close()
            arriving.give_back(self.held)
            self.held = 0

    class Channel(HTTPChannel):  # type: ignore[misc]
        """A connection; one that sends the same head again and again needs no parser for it."""

        task_class = Task
        error_task_class = Refusal
        parser_class = Request
        direct_answer: DirectAnswer | None = None
        """The answer to its first request, where that needs no application any more."""
        remember = False
        """Whether the request that was just read may come again."""
        known: _Known | None = None
        requests: list[HTTPRequestParser]
        request: HTTPRequestParser | None
        will_close: bool
        later: list[HTTPRequestParser]
        """Requests that have arrived whole, and are begun when the client has read the answers before."""
        waits_since: float
        """When its last request was answered: as `time.time` has it."""

        def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 (waitress')
            super().__init__(*args, **kwargs)
            self.later = []
            self.waits_since = self.creation_time

        @property
        def waits(self) -> bool:
            """Whether it is the client's turn: to send a request or the rest of one, or to read an answer."""
            return not self.requests

        def readable(self) -> bool:
            return not self.later and bool(super().readable())

        def writable(self) -> bool:
            return bool(self.later or super().writable())

        def postpone(self) -> None:
            """Begin the next request when the client has read what there is. For the thread that has answered."""
            self.later += self.requests
            self.requests = []  # or waitress would not send

        def handle_write(self) -> None:
            super().handle_write()
            if self.later and self.connected and not self.total_outbufs_len:
                self.requests, self.later = self.later, []
                server.add_task(self)

        def _flush_outbufs_below_high_watermark(self) -> None:
            """Do not wait: a client that does not read would hold a task thread for ever."""

        def service(self) -> None:
            super().service()
            self.waits_since = time.time()

        def received(self, data: bytes) -> bool:
            if self.requests or self.request is not None:
                return self._parse(data)
            if self.known is not None and not self.will_close and not self.close_when_flushed:
                body = self.known.body(data)
                if body is not None and len(body) <= server.largest_direct_body:
                    self.requests.append(self.known.request)
                    if server.offer(self, body):
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
            # What is being answered is closed by whoever answers it.
            for request in (*self.later, *filter(None, [self.request])):
                request.close()
            self.later = []
            super().handle_close()

        def answer(self) -> bool:
            """Send the direct answer; return whether that could be done without waiting. For the loop."""
            assert self.direct_answer is not None
            if self.direct_answer.size > _LARGEST_DIRECT_ANSWER or self.total_outbufs_len:
                return False
            if not self.known or len(self.requests) > 1 or self.request is not None or server.stopping:
                self.service()
                if self.connected:
                    self.handle_write()
                return True
            body = self.direct_answer.render()
            self.direct_answer = None
            head = _HEAD % (len(body), server.date())
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

    return Channel
