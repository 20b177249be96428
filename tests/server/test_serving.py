"""The loop: whose connections it closes where there is no room."""

import resource
import socket
import threading
import time
from contextlib import ExitStack, contextmanager

import pytest
from tungsten_server.http import serving
from tungsten_server.http.connections import Errors
from tungsten_server.words.budget import ByteBudget

from tests.server.conftest import connect, request, wait_until

pytestmark = pytest.mark.filterwarnings("ignore:send_bytes will be removed")


def application(environ, start_response):
    body = b"x" * 30_000_000 if environ["PATH_INFO"] == "/large" else b"ok"
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]


@contextmanager
def small_server(monkeypatch, connections):
    """A server in this process that has room for a few connections; yields it and its port."""
    monkeypatch.setattr(serving, "_MAX_CONNECTIONS", connections)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = serving.HttpServer(
            application,
            listener,
            room=serving.Room(1, 1000, ByteBudget(1000)),
            direct=serving.Direct(lambda *_: None, lambda: None, lambda _: True),
            errors=Errors(lambda *_: b"", lambda _: {}),
            each_second=lambda: None,
        )
        thread = threading.Thread(target=server.run)
        thread.start()
        try:
            yield server, listener.getsockname()[1]
        finally:
            server.stop()
            thread.join()
            server.drain(0.0)
            for one in list(server._map.values()):
                one.close()


@pytest.mark.parametrize(
    "sent", [b"", b"GET / HTT", b"POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\nx", request("GET", "/")]
)
def test_connections_whose_clients_are_waited_for_make_room(monkeypatch, sent):
    with small_server(monkeypatch, 4) as (_, port), ExitStack() as stack:
        for _ in range(6):
            stack.enter_context(connect(port)).sendall(sent)
        with connect(port) as sock:
            sock.sendall(request("GET", "/"))
            assert sock.recv(65536).endswith(b"\r\n\r\nok")


@pytest.mark.parametrize("sent", [b"", b"POST /predict HTTP/1.1\r\nHost"])
def test_however_many_half_open_connections_came_first_keep_nobody_waiting(monkeypatch, sent):
    # One is closed a second where nothing else makes room: the last one would be let in after minutes.
    with small_server(monkeypatch, 4) as (_, port), ExitStack() as stack:
        for _ in range(200):
            stack.enter_context(connect(port)).sendall(sent)
        with connect(port) as sock:
            sock.sendall(request("GET", "/"))
            assert sock.recv(65536).endswith(b"\r\n\r\nok")


def test_a_client_that_reads_nothing_for_too_long_is_left(monkeypatch):
    with small_server(monkeypatch, 4) as (server, port), connect(port) as sock:
        sock.sendall(request("GET", "/large"))
        assert sock.recv(1)
        channels = server._server.active_channels
        wait_until(
            lambda: any(one.waits and one.total_outbufs_len for one in list(channels.values())), "the answer"
        )
        # As after two minutes; waitress says so by itself only every half a minute.
        server._server.maintenance(time.time() + 1000)
        assert wait_until(lambda: not channels, "the end of the connection")


def test_few_files_leave_room_for_a_few_connections(monkeypatch):
    monkeypatch.setattr(resource, "getrlimit", lambda _: (64, 64))
    with small_server(monkeypatch, 1000) as (_, port), connect(port) as sock:
        sock.sendall(request("GET", "/"))
        assert sock.recv(65536).endswith(b"\r\n\r\nok")
