"""Requests under way, and how one is ended by another thread.

A server takes a connection that is closed for a client that has gone, and does not go on for it. A thread that waits
for an answer can't be interrupted; its connection can be shut.
"""

from __future__ import annotations

import os
import socket
import threading
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import TYPE_CHECKING

from urllib3.connection import HTTPConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from tungstenkit.sdk.errors import RunError

if TYPE_CHECKING:
    from collections.abc import Iterator

    import requests
    from urllib3._base_connection import BaseHTTPConnection


class EndedError(RunError):
    """A call was ended before it was answered."""

    def __init__(self) -> None:
        super().__init__("the prediction was given up before it was answered")


class Call:
    """What one caller waits for: requests, one after the other, and pauses between."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._connection: BaseHTTPConnection | None = None
        self._fd: int | None = None

    def end(self) -> None:
        """Give it up, from whichever thread: what it waits for fails at once, and whatever comes after."""
        self._ended.set()
        with self._lock:
            sock = getattr(self._connection, "sock", None)
            if sock is not None:
                with suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)
            if self._fd is not None:
                with suppress(OSError), socket.socket(fileno=os.dup(self._fd)) as copy:
                    copy.shutdown(socket.SHUT_RDWR)

    def check(self) -> None:
        """Raises EndedError where it was ended."""
        if self._ended.is_set():
            raise EndedError

    def pause(self, seconds: float) -> None:
        """Wait. Raises EndedError as soon as it is ended."""
        self._ended.wait(seconds)
        self.check()

    @contextmanager
    def under_way(self) -> Iterator[None]:
        """Requests of this thread are this call's within the block. Raises EndedError for what ending it caused."""
        token = _CURRENT.set(self)
        try:
            self.check()
            yield
        except Exception:
            self.check()
            raise
        finally:
            _CURRENT.reset(token)

    def took(self, connection: BaseHTTPConnection | None) -> None:
        """Note whose socket to shut; None for none."""
        with self._lock:
            self._connection = connection

    def reads(self, fd: int | None) -> None:
        """Note what an answer is read from, of which its connection has let go; None before that is closed.

        Raises EndedError where it was ended before.
        """
        with self._lock:
            self._fd = fd
        if fd is not None:
            self.check()


_CURRENT: ContextVar[Call | None] = ContextVar("call", default=None)


class _Plain(HTTPConnectionPool):
    """Tells the call of each thread which connection it has: from when it takes it until it gives it back."""

    def _get_conn(self, timeout: float | None = None) -> BaseHTTPConnection:
        connection = super()._get_conn(timeout)
        if (call := _CURRENT.get()) is not None:
            call.took(connection)
        return connection

    def _validate_conn(self, conn: BaseHTTPConnection) -> None:
        super()._validate_conn(conn)
        if (call := _CURRENT.get()) is not None:
            # What has ended it until then has found no socket to shut.
            if conn.is_closed:
                conn.connect()
            call.check()

    def _put_conn(self, conn: BaseHTTPConnection | None) -> None:
        if (call := _CURRENT.get()) is not None:
            call.took(None)
        super()._put_conn(conn)


class _Secure(_Plain, HTTPSConnectionPool):
    """The same by TLS."""


_ALIVE = (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
"""An answer may take hours, in which no byte comes: whether the machine there still is, the kernel asks."""


def by_calls(session: requests.Session) -> requests.Session:
    """Have a session's requests be ended by their calls; more of them than it has connections wait for one another."""
    for adapter in session.adapters.values():
        manager = adapter.poolmanager  # type: ignore[attr-defined] # of the only class that there is
        manager.pool_classes_by_scheme = {"http": _Plain, "https": _Secure}
        manager.connection_pool_kw["block"] = True
        manager.connection_pool_kw["socket_options"] = [*HTTPConnection.default_socket_options, _ALIVE]
    return session
