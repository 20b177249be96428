"""waitress, and the graceful stop that it lacks: all that the server knows about waitress is here.

The main thread runs the event loop and does all socket I/O; waitress' task threads run the application. A
stop closes
the listening socket, and ends the loop once every request that has begun to arrive is answered: waitress
itself would drop them. That reads attributes of waitress' channels and overrides two of its classes, so its
major version is pinned.
"""

from __future__ import annotations

import logging
import resource
import select
import time
from typing import TYPE_CHECKING, Any, Callable

from waitress import create_server, wasyncore  # type: ignore[import-untyped]
from waitress.channel import HTTPChannel  # type: ignore[import-untyped]
from waitress.task import ErrorTask, WSGITask  # type: ignore[import-untyped]

if TYPE_CHECKING:
    import socket
    from wsgiref.types import WSGIApplication

_MAX_CONNECTIONS = 1000
"""Ten times waitress' default: a kept-alive connection costs a file descriptor and no thread."""

_SPARE_FILES = 64
"""File descriptors left to everything but connections."""

_IO_BYTES = 65536
"""Bytes read at once, and written before a task thread sends by itself: so the loop sends all common answers,
and does not fight the task threads for the interpreter's lock."""

_QUIET_SECONDS = 0.05
"""How long nothing may arrive before a stop calls the connections idle: a request may still be on its way."""

_log = logging.getLogger("tungsten.http")


class HttpServer:
    """Serves an application on a socket that listens already.

    threads: how many requests may be inside the application at a time.
    max_body: largest request body in bytes.
    error_body: makes the body of an error that waitress itself detects, of the status and its name.
    """

    def __init__(
        self,
        app: WSGIApplication,
        listener: socket.socket,
        *,
        threads: int,
        max_body: int,
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
            connection_limit=min(_MAX_CONNECTIONS, max(files - _SPARE_FILES, 1)),
            asyncore_use_poll=True,  # select(2) knows no file descriptor above 1023
            recv_bytes=_IO_BYTES,
            send_bytes=_IO_BYTES,
            max_request_body_size=max_body + 1,  # waitress refuses bodies of this size and above
            clear_untrusted_proxy_headers=False,  # nothing here reads them; True costs a middleware
            ident=None,
        )
        self._server.channel_class = _channel_class(self, error_body)
        self.stopping = False

    def stop(self) -> None:
        """Ask `run` to stop. For any thread, and for signal handlers."""
        self.stopping = True
        self._server.pull_trigger()

    def run(self) -> None:
        """Serve until `stop`."""
        while not self.stopping:
            self._turn(30.0)

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

    def _busy(self) -> int:
        """How many connections have a request half read, running, or with a part of its answer unsent."""
        # In this order: a task thread writes its answer before it takes its request off the list.
        return sum(
            bool(channel.requests or channel.request or channel.total_outbufs_len)
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


def _channel_class(server: HttpServer, error_body: Callable[[int, str], bytes]) -> type[HTTPChannel]:
    """Make the class of the server's connections."""

    class Task(WSGITask):  # type: ignore[misc]
        """Answers with `Connection: close` once the server stops, or busy clients would keep it from it."""

        def build_response_header(self) -> bytes:
            # A pipelined request behind this one has been accepted too.
            if server.stopping and len(self.channel.requests) == 1:
                self.set_close_on_finish()
            header: bytes = super().build_response_header()
            return header

    class Error(ErrorTask):  # type: ignore[misc]
        """Gives errors that waitress detects the shape of all others: too large, not HTTP."""

        def execute(self) -> None:
            error = self.request.error
            body = error_body(error.code, error.reason)
            self.status = f"{error.code} {error.reason}"
            self.response_headers.append(("Content-Type", "application/json"))
            self.set_close_on_finish()
            self.content_length = len(body)
            self.write(body)

    class Channel(HTTPChannel):  # type: ignore[misc]
        task_class = Task
        error_task_class = Error

    return Channel
