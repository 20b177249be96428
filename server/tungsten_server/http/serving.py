"""waitress' event loop, and the graceful stop that it lacks.

The main thread runs the loop and does all socket I/O; waitress' task threads run the application. Small
requests to predict need no thread of their own: the loop hands them over, and writes the answer when there is
one. A stop closes the listening socket, and ends the loop once every request that has begun to arrive is
answered: waitress itself would drop them. This reads attributes of waitress' server, and `connections` of the
rest; nothing else knows waitress.
"""

from __future__ import annotations

import resource
import select
import threading
import time
from functools import partial
from typing import TYPE_CHECKING, Any, Callable, NamedTuple, Optional

from waitress import create_server, wasyncore  # type: ignore[import-untyped]
from waitress.utilities import build_http_date  # type: ignore[import-untyped]

from tungsten_server.http.arriving import LARGEST_DIRECT_BODY, LONGEST_HEAD
from tungsten_server.http.connections import Channel, DirectAnswer, EventsTask
from tungsten_server.http.threads import TaskThreads

if TYPE_CHECKING:
    import socket
    from collections.abc import Mapping
    from wsgiref.types import WSGIApplication

    from tungsten_server.http.connections import Errors
    from tungsten_server.words.budget import ByteBudget

_MAX_CONNECTIONS = 1000
"""Ten times waitress' default: a kept-alive connection costs a file descriptor and no thread."""

_SPARE_FILES = 64
"""File descriptors left to everything but connections, and the temporary file that each may need."""

_ACCEPTED_AT_ONCE = 256
"""Connections accepted before those that are there are read again."""

_GRACE_SECONDS = 0.1
"""In which a client may send its first request however many others come: that is on its way when it connects."""

_IO_BYTES = 65536
"""Bytes read at once, and written before a task thread sends by itself: so the loop sends all common answers,
and does not fight the task threads for the interpreter's lock."""

_DIRECT_TYPES = frozenset({"application/json", "application/json; charset=utf-8"})

_LOOK_SECONDS = 0.1
"""How long a client that has gone may go unnoticed by a busy loop."""

_QUIET_SECONDS = 0.05
"""How long nothing may arrive before a stop calls the connections idle: a request may still be on its way."""

Predict = Callable[[bytes, Callable[[DirectAnswer], None]], Optional[Callable[[], None]]]
"""Takes a JSON body and a callback, which any thread may call, once, with the answer. Returns what to call if the
client goes before that; None if there will be no answer: then the request is the application's."""


class Direct(NamedTuple):
    """The way to answer requests to predict without the application."""

    predict: Predict
    release: Callable[[], None]
    """Called once after all of `predict` that came at the same time."""
    is_plain: Callable[[Mapping[str, str]], bool]
    """Whether `predict` may answer a request with these headers."""


class Room(NamedTuple):
    """The bounds of what a server takes in at a time."""

    threads: int
    """Requests inside the application."""
    max_body: int
    """Bytes of a request's body."""
    arriving: ByteBudget
    """For the bytes of bodies that arrive, or have and are not answered, but for small ones."""


class HttpServer:
    """Serves an application on a socket that listens already.

    direct: answers POST /predict where it can. each_second: called about once a second, by the loop.
    """

    def __init__(
        self,
        app: WSGIApplication,
        listener: socket.socket,
        *,
        room: Room,
        direct: Direct,
        errors: Errors,
        each_second: Callable[[], None],
    ) -> None:
        """Start the first task thread. Raises RuntimeError where it can't be."""
        self._threads = TaskThreads(room.threads)
        files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._map: dict[int, Any] = {}
        # Waitress counts the listening socket and its own pipe, too.
        self._limit = 2 + min(_MAX_CONNECTIONS, max((files - _SPARE_FILES) // 2, files // 8))
        self._server = create_server(
            app,
            map=self._map,
            sockets=[listener],
            _dispatcher=self._threads,
            connection_limit=self._limit,
            asyncore_use_poll=True,  # select(2) knows no file descriptor above 1023
            recv_bytes=_IO_BYTES,
            send_bytes=_IO_BYTES,
            max_request_header_size=LONGEST_HEAD,
            max_request_body_size=room.max_body + 1,  # waitress refuses bodies of this size and above
            clear_untrusted_proxy_headers=False,  # nothing here reads them; True costs a middleware
            ident=None,
        )
        self.arriving = room.arriving
        self.errors = errors
        self._server.channel_class = partial(Channel, self)
        self._accept_one: Callable[[], None] = self._server.handle_accept
        # Not in the midst of a turn, in which a file descriptor that is closed would be taken for the next one.
        self._server.handle_accept = self._knock
        self._knocking = False
        self._server.add_task = self.add_task
        self.largest_direct_body = min(room.max_body, LARGEST_DIRECT_BODY)
        self._predict, self._release, self._is_plain = direct
        self._each_second = each_second
        self._next_second = 0.0
        self._next_look = 0.0
        self._answered: list[Channel] = []
        """Channels that have a `direct_answer`, or something of their events to write."""
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
        self.stop_listening()
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
        if self._is_full and self._server.accepting:
            self._make_room()
            timeout = min(timeout, _GRACE_SECONDS)
        self._poll(timeout)
        self._accept()
        with self._answered_lock:
            answered, self._answered = self._answered, []
        for channel in answered:
            channel.has_news = False
            if channel.direct_answer is None:
                if not channel.write_events():
                    self._threads.add_task(EventsTask(channel))
            elif not channel.write_direct():
                self._threads.add_task(channel)
        if self._offered:
            self._offered = False
            self._release()
        if time.monotonic() >= self._next_second:
            self._next_second = time.monotonic() + 1.0
            self._close_given_up()
            for channel in list(self._server.active_channels.values()):
                channel.keep_alive()
            self._threads.grow()
            self._each_second()

    def _poll(self, timeout: float) -> None:
        """Do what waitress' own loop does, and hear of clients that go while they have to wait."""
        poller = select.poll()
        waiting = []
        for fd, one in list(self._map.items()):
            events = 0
            if one.readable():
                events |= select.POLLIN | select.POLLPRI
            if one.writable() and not one.accepting:
                events |= select.POLLOUT
            if events:
                poller.register(fd, events)
            elif isinstance(one, Channel) and one.on_gone:
                waiting.append(fd)
        # Who is gone is looked at when there is nothing else to do, and else now and then.
        now = time.monotonic()
        ready = poller.poll(0) if waiting and now < self._next_look else []
        if not ready:
            self._next_look = now + _LOOK_SECONDS
            for fd in waiting:
                poller.register(fd, select.POLLRDHUP)
            ready = poller.poll(int(timeout * 1000))
        for fd, events in ready:
            one = self._map.get(fd)
            if one is None:
                continue
            if events & (select.POLLRDHUP | select.POLLHUP | select.POLLERR) and isinstance(one, Channel):
                one.leave()
            wasyncore.readwrite(one, events)

    def _close_given_up(self) -> None:
        """Close what waitress has given up: it does so itself only when the client reads, or goes."""
        for channel in list(self._server.active_channels.values()):
            if channel.will_close:
                channel.handle_close()

    @property
    def _is_full(self) -> bool:
        return len(self._map) >= self._limit

    def _make_room(self) -> None:
        """Close those connections that have waited longest for their clients."""
        channels = list(self._server.active_channels.values())
        # Bytes that trickle in do not help: it takes a whole request.
        now = time.time()
        waiting = sorted(
            (one for one in channels if one.waits and not 0 <= now - one.waits_since < _GRACE_SECONDS),
            key=lambda one: one.waits_since,
        )
        for channel in waiting[: len(channels) // 10 + 1]:
            channel.handle_close()

    def _knock(self) -> None:
        self._knocking = True

    def _accept(self) -> None:
        """Accept who knocks, as far as there is room."""
        left = _ACCEPTED_AT_ONCE if self._knocking and self._server.accepting else 0
        self._knocking = False
        while left and not self._is_full:
            known = len(self._map)
            self._accept_one()
            left = left - 1 if len(self._map) > known else 0

    def add_task(self, channel: Channel) -> None:
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
            and "CONTENT_ENCODING" not in request.headers
            and "text/" not in request.headers.get("ACCEPT", "").lower()  # such as that of events
            and self._is_plain(request.headers)
            and len(request.body_rcv or "") <= self.largest_direct_body
            and threading.get_ident() == self._loop
        ):
            file = request.get_body_stream()
            body = file.read()
            file.seek(0)
            if self.offer(channel, body):
                channel.remember = True
                return
        self._threads.add_task(channel)

    def offer(self, channel: Channel, body: bytes) -> bool:
        """Have the first request of a channel answered without the application; return whether it will be."""

        def done(answer: DirectAnswer) -> None:
            channel.direct_answer = answer
            with self._answered_lock:
                first = not self._answered
                self._answered.append(channel)
            if first:
                self._server.pull_trigger()

        channel.on_gone = self._predict(body, done)
        self._offered |= channel.on_gone is not None
        return channel.on_gone is not None

    def look(self) -> None:
        """Have the loop look at the connections anew. For any thread."""
        self._server.pull_trigger()

    def news(self, channel: Channel) -> None:
        """Have the loop write what there is of a channel's events. For any thread."""
        with self._answered_lock:
            if channel.has_news:
                return
            channel.has_news = True
            first = not self._answered
            self._answered.append(channel)
        if first:
            self._server.pull_trigger()

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
            bool(
                channel.requests
                or channel.later
                or channel.request
                or channel.events
                or channel.total_outbufs_len
            )
            for channel in list(self._server.active_channels.values())
        )

    def stop_listening(self) -> None:
        """Accept what the kernel has accepted on our behalf, and no more. `drain` does it, too."""
        if not self._server.accepting:
            return
        # What the kernel has accepted on our behalf would be reset.
        waiting = select.poll()
        waiting.register(self._server.socket, select.POLLIN)
        while waiting.poll(0):
            self._accept_one()
        self._server.accepting = False
        self._server.del_channel()
        self._server.socket.close()
