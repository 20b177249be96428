"""The connections: what clients may do to them that do not send, do not read, or send what is odd."""

import re
import resource
import socket
import threading
import time
from contextlib import ExitStack, contextmanager

import pytest
from tungsten_server import serving
from tungsten_server.budget import ByteBudget

from tests.server.conftest import DEADLINE, wait_until

pytestmark = pytest.mark.filterwarnings("ignore:send_bytes will be removed")

CHUNKED = "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n"


def request(method, path, headers="", body=b""):
    return f"{method} {path} HTTP/1.1\r\nHost: x\r\n{headers}\r\n".encode() + body


def connect(port):
    sock = socket.create_connection(("127.0.0.1", port), DEADLINE)
    sock.settimeout(DEADLINE)
    return sock


def status(server, data):
    """Send, and return the status of the first answer."""
    with connect(server.port) as sock:
        sock.sendall(data)
        return int(sock.recv(65536).split()[1])


@pytest.mark.parametrize("length", ["", "Content-Length: 0\r\n"])
def test_who_expects_to_be_asked_for_no_body_is_answered(server, length):
    assert status(server, request("GET", "/healthz", f"Expect: 100-continue\r\n{length}")) == 200
    assert (
        status(server, request("POST", "/predictions/x/cancel", f"Expect: 100-continue\r\n{length}")) == 404
    )


@pytest.mark.parametrize("digits", ["9" * 5000, "0" * 5000 + "1"])
def test_a_length_of_thousands_of_digits_is_400(server, digits):
    assert status(server, request("POST", "/predict", f"Content-Length: {digits}\r\n")) == 400


@pytest.mark.parametrize("begin", [b"0\r\nX: ", b"1", b"1;x="])
def test_what_is_between_chunks_has_a_limit(server, begin):
    assert status(server, request("POST", "/predict", CHUNKED, begin + b"0" * 70_000)) == 400


def test_a_long_head_is_431(server):
    assert status(server, request("GET", "/", "X: " + "x" * 70_000)) == 431


def test_a_head_that_is_known_lifts_no_limit(start_server):
    with start_server("--max-body", "100") as server, connect(server.port) as sock:
        found = []
        for size in (1, 1, 1000):
            body = b'[{"do": "%b"}]' % (b"x" * size)
            head = f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
            sock.sendall(request("POST", "/predict", head, body))
            found.append(sock.recv(65536).split()[1])
        assert found == [b"200", b"200", b"413"]


def test_requests_sent_far_ahead_are_answered_to_a_limit_and_not_kept(server):
    with connect(server.port) as sock, sock.makefile("rb") as stream:
        sock.sendall(request("GET", "/healthz") * 500)
        answers = stream.read()
    assert answers.count(b"HTTP/1.1 200") == 64
    assert answers.count(b"Connection: close") == 1


def test_a_client_that_does_not_read_holds_no_thread(start_server):
    with start_server("--max-pending", "1") as server, ExitStack() as stack:
        path = server.begin("x" * 2_000_000)
        assert server.ended(path)["status"] == "success"
        size = len(server.get(path).content)
        socks = [stack.enter_context(connect(server.port)) for _ in range(8)]  # there are 5 threads
        for sock in socks:
            sock.sendall(request("GET", path) * 9 + request("GET", "/healthz", "Connection: close\r\n"))
        for _ in range(20):
            assert server.get("/healthz").status_code == 200
        # And one that reads late gets all of it, in order.
        with socks[0].makefile("rb") as stream:
            bodies = re.split(rb"HTTP/1.1 200 OK\r\n(?:.+\r\n)+\r\n", stream.read())[1:]
        assert bodies[-1] == b'{"status":"ok"}'
        assert [len(body) for body in bodies[:-1]] == [size] * 9


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
            threads=1,
            max_body=1000,
            predict=lambda *_: False,
            release=lambda: None,
            each_second=lambda: None,
            arriving=ByteBudget(1000),
            error_body=lambda *_: b"",
        )
        thread = threading.Thread(target=server.run)
        thread.start()
        try:
            yield server, listener.getsockname()[1]
        finally:
            server.stop()
            thread.join()
            server.drain(0.0)


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
