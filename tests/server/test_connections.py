"""The connections: what clients may do to them that send what is odd, too much, or do not read."""

import json
import re
from contextlib import ExitStack

import pytest

from tests.server.conftest import connect, request, wait_until

CHUNKED = "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n"


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


@pytest.mark.parametrize(
    "framing",
    [
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        "Transfer-Encoding: chunked\r\ncontent-length: 0\r\n",
        "Transfer-Encoding: chunked, chunked\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nTRANSFER-ENCODING: identity\r\n",
        "Transfer-Encoding:\r\n chunked,\r\n chunked\r\n",
        "Content-Length: 5\r\nContent-Length: 5\r\n",
    ],
)
@pytest.mark.parametrize("known", [False, True])
def test_a_body_whose_end_is_said_twice_is_400_and_the_end(server, framing, known):
    body = b'[{"do": "x"}]'
    good = request(
        "POST", "/predict", f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n", body
    )
    with connect(server.port) as sock, sock.makefile("rb") as stream:
        for _ in range(2 * known):
            sock.sendall(good)
            assert sock.recv(65536).startswith(b"HTTP/1.1 200")
        head = f"Content-Type: application/json\r\n{framing}"
        sock.sendall(request("POST", "/predict", head, b"0\r\n\r\n" + request("GET", "/healthz")))
        answer = stream.read()  # to the end of the connection
    assert re.match(rb"HTTP/1.[01] 400 ", answer)
    assert answer.count(b"HTTP/1.") == 1


def test_chunks_in_http_1_0_are_400(server):
    chunked = request("POST", "/predict", CHUNKED, b"0\r\n\r\n").replace(b"HTTP/1.1", b"HTTP/1.0")
    assert status(server, chunked) == 400


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


def test_requests_sent_far_ahead_are_answered_to_a_limit_and_not_kept(server, gate):
    """While the first is not answered; what is answered as fast as it comes is kept nowhere."""
    body = json.dumps([{"do": f"block {gate}"}]).encode()
    headers = f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    with connect(server.port) as sock, sock.makefile("rb") as stream:
        sock.sendall(request("POST", "/predict", headers, body) + request("GET", "/healthz") * 500)
        gate.open().close()
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


BOUNDARY = "Content-Type: multipart/form-data; boundary=x\r\n"


def predict(do, *, form):
    """The bytes of a request to predict, by the road of small JSON bodies or by that of all others."""
    if form:
        body = f'--x\r\nContent-Disposition: form-data; name="do"\r\n\r\n{do}\r\n--x--\r\n'.encode()
        head = BOUNDARY
    else:
        body = f'[{{"do": "{do}"}}]'.encode()
        head = "Content-Type: application/json\r\n"
    return request("POST", "/predict", f"{head}Content-Length: {len(body)}\r\n", body)


def disconnected(server):
    """How many predictions ended because their clients had gone."""
    found = re.search(
        r'tungsten_predictions_total\{outcome="disconnected"\} (\d+)', server.get("/metrics").text
    )
    return int(found.group(1))


@pytest.mark.parametrize("form", [False, True])
class TestClientsThatGo:
    def test_they_leave_their_places_and_what_waits_is_not_run(self, start_server, gate, form):
        with start_server("--max-pending", "4", "--max-batch-size", "1") as server:
            blocked = server.begin(f"block {gate}")
            with gate.open():
                for gone in range(1, 11):
                    with connect(server.port) as sock:
                        sock.sendall(predict("die 1", form=form))
                        wait_until(lambda: "pending 2.0" in server.get("/metrics").text, "the prediction")
                    wait_until(lambda gone=gone: disconnected(server) == gone, "the notice that it has gone")
                living = server.begin("x")
            assert server.ended(living)["status"] == server.ended(blocked)["status"] == "success"
            assert len(server.model_pids()) == 1

    def test_a_batch_that_is_all_theirs_is_interrupted(self, start_server, gate, form):
        with start_server() as server:
            with connect(server.port) as sock:
                sock.sendall(predict(f"block {gate}", form=form))
                with gate.open():
                    sock.close()
                    assert server.predict("x")["status"] == "success"
            assert disconnected(server) == 1
            assert len(server.model_pids()) == 1

    def test_others_in_their_batch_are_answered(self, start_server, gate, pool, form):
        with start_server() as server:
            first = server.begin(f"block {gate}")
            with gate.open():
                with connect(server.port) as sock:
                    sock.sendall(predict("a", form=form))
                    wait_until(lambda: "pending 2.0" in server.get("/metrics").text, "the prediction")
                    path = server.begin("b")
                wait_until(lambda: disconnected(server) == 1, "the notice")
            assert server.ended(path)["status"] == server.ended(first)["status"] == "success"

    def test_who_sends_the_next_request_ahead_has_not_gone(self, server, form):
        with connect(server.port) as sock, sock.makefile("rb") as stream:
            sock.sendall(predict("a", form=form) * 3 + request("GET", "/healthz", "Connection: close\r\n"))
            assert stream.read().count(b'"status":"success"') == 3
