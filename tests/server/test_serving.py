"""The loop: whose connections it closes where there is no room."""

import resource
import socket
import threading
import time
from contextlib import ExitStack, contextmanager

import pytest
from tungsten_server.http import connections, serving
from tungsten_server.http.connections import WITH_EVENTS, Errors
from tungsten_server.words.budget import ByteBudget

from tests.server.conftest import DEADLINE, connect, request, wait_until

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


class Fed:
    """Events that a test says."""

    def __init__(self):
        self.parts = []
        self.left = threading.Event()
        self.on_news = lambda: None
        self.big = 0

    @property
    def size(self):
        return self.big

    def open(self, on_news):
        self.on_news = on_news
        on_news()

    def take(self):
        taken, self.parts = self.parts, []
        return b"".join(one for one in taken if one), None in taken

    def leave(self):
        self.left.set()

    def say(self, *parts):
        self.parts += parts
        self.on_news()


@contextmanager
def following(monkeypatch, connections=10):
    """A server whose every answer is the events that this yields, and a client that has read its head."""
    fed = Fed()

    def events(environ, start_response):
        start_response("200 OK", [("Content-Type", "text/event-stream")])
        environ[WITH_EVENTS](fed)
        return iter(())

    with monkeypatch.context() as patched, ExitStack() as stack:
        patched.setitem(globals(), "application", events)
        server, port = stack.enter_context(small_server(monkeypatch, connections))
        client = stack.enter_context(connect(port))
        client.sendall(2 * request("GET", "/"))
        answer = client.makefile("rb")
        assert b"".join(iter(answer.readline, b"\r\n")).startswith(
            b"HTTP/1.1 200 OK\r\nConnection: close\r\n"
        )
        yield server, fed, client, answer


@pytest.mark.parametrize("big", [0, 10**9])
def test_events_are_written_as_they_come_and_the_connection_closes_behind_them(monkeypatch, big):
    """On the loop, or, where there is much to write, by a thread."""
    with following(monkeypatch) as (server, fed, _, answer):
        fed.big = big
        fed.say(b"one")
        assert [answer.readline() for _ in range(2)] == [b"3\r\n", b"one\r\n"]
        assert server._busy() == 1
        fed.say(b"two", None)
        assert answer.read() == b"3\r\ntwo\r\n0\r\n\r\n"
        assert not fed.left.is_set()


def test_who_does_not_read_its_events_makes_room(monkeypatch):
    monkeypatch.setattr(serving, "_GRACE_SECONDS", 0.0)
    with following(monkeypatch, connections=2) as (server, fed, client, _):
        (channel,) = server._server.active_channels.values()
        channel.send = lambda *_, **__: 0  # the kernel takes no more
        fed.say(b"x")
        wait_until(lambda: not fed.parts, "what is taken")
        fed.say(b"more")
        wait_until(lambda: channel.waits, "the client's turn")
        with connect(client.getpeername()[1]):
            assert fed.left.wait(DEADLINE)


def test_while_a_thread_writes_events_the_loop_does_not_send(monkeypatch):
    """Both would send the same bytes, and take them away twice."""
    writable = []
    with following(monkeypatch) as (server, fed, _, answer):
        (channel,) = server._server.active_channels.values()

        def take():
            channel.write_soon(b"3\r\none\r\n")
            writable.append(channel.writable())
            return b"two", True

        fed.big = 10**9
        fed.take = take
        fed.say()
        assert answer.read() == b"3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n"
    assert writable == [False]


def test_a_client_that_goes_leaves_its_events(monkeypatch):
    with following(monkeypatch) as (_, fed, client, answer):
        answer.close()
        client.close()
        assert fed.left.wait(DEADLINE)


def test_what_is_silent_is_kept_alive(monkeypatch):
    monkeypatch.setattr(connections, "_KEEP_ALIVE_SECONDS", 0.0)
    with following(monkeypatch) as (_, fed, _, answer):
        assert [answer.readline() for _ in range(2)] == [b"E\r\n", b": keep-alive\n"]
        fed.say(None)
        assert answer.read().endswith(b"0\r\n\r\n")


def test_who_follows_makes_no_room(monkeypatch):
    monkeypatch.setattr(serving, "_GRACE_SECONDS", 0.0)
    with following(monkeypatch, connections=2) as (_, fed, client, answer):
        port = client.getpeername()[1]
        for _ in range(3):
            with connect(port) as other:
                other.sendall(b"GET")
        fed.say(b"still", None)
        assert answer.read().startswith(b"5\r\nstill\r\n")
