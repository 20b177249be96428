"""Predictions that the event loop answers itself: the same on the wire as what the application answers."""

import re

import pytest
import requests
from tungsten_server.checks.body import parse_inputs
from tungsten_server.checks.inputs import InputSchema
from tungsten_server.http.direct import direct_predict
from tungsten_server.words.budget import ByteBudget
from tungsten_server.words.prediction import Output, Prediction
from tungsten_server.words.problems import UnavailableError

from tests.server.conftest import DEADLINE, MODEL, connect

APPLICATION = "application/json; for=the-application"
"""A type that is JSON, too, but that the loop leaves to the application."""

BODY = b'[{"do": "%s"}]'


def raw(body, head=b"POST /predict HTTP/1.1\r\nContent-Type: application/json\r\n"):
    return head + b"Host: localhost\r\nContent-Length: %d\r\n\r\n" % len(body) + body


@pytest.mark.parametrize(
    "body",
    [
        BODY % b"x",
        BODY % b"raise it",
        b"[]",
        b"[",
        b'[{"do": 1}]',
        b'[{"do": "a"}, {"do": "b"}]',
        b'[{"do": "x", "scale": NaN}]',
        BODY % (b"x" * 100_000),
    ],
)
def test_an_answer_is_the_application_s_but_for_its_date(server, body):
    answers = [server.post(body, **{"Content-Type": kind}) for kind in ("application/json", APPLICATION)]
    direct, application = [
        (one.status_code, one.content, {k: v for k, v in one.headers.items() if k != "Date"})
        for one in answers
    ]
    assert direct == application


def test_requests_sent_at_once_on_one_connection_are_answered_in_order(server):
    todo = [b"1", b"2", b"raise 3", b"4", b"5"]
    health = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with connect(server.port) as sock, sock.makefile("rb") as stream:
        sock.sendall(b"".join(raw(BODY % one) + health for one in todo[:-1]))
        sock.sendall(raw(BODY % todo[-1], b"POST /predict HTTP/1.1\r\nConnection: close\r\n"))
        answers = stream.read().decode()
    found = re.findall(r'"did":"(\d)|ValueError: (3)|"(ok)"', answers)
    assert ["".join(one) for one in found] == ["1", "ok", "2", "ok", "3", "ok", "4", "ok", "5"]


def exchange(sock, data):
    """Send, and return one whole answer."""
    sock.sendall(data)
    answer = b""
    while not (length := re.search(rb"Content-Length: (\d+)", answer)) or (
        len(answer.partition(b"\r\n\r\n")[2]) < int(length.group(1))
    ):
        received = sock.recv(65536)
        assert received, answer
        answer += received
    return answer


def test_a_connection_s_requests_with_equal_heads_are_told_apart_by_their_bodies(server):
    with connect(server.port) as sock:
        for do in (b"1", b"22", b"333", b"x" * 70_000, b"", b"raise it", b"4"):
            answer = exchange(sock, raw(BODY % do))
            assert (b'"did":"%b"' % do in answer) or b"ValueError: it" in answer
            assert re.search(rb"\r\nDate: \w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT\r\n", answer)


def test_a_head_that_is_known_is_not_taken_for_another_one(server):
    known = raw(BODY % b"known")
    with connect(server.port) as sock:
        for other, expected in [
            (b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n", b'{"status":"ok"}'),
            (known.replace(b"/predict", b"/predictions"), b'"prediction_id"'),
            (known.replace(b"application/json", b"text/plain"), b"HTTP/1.1 422"),
            (raw(b"[{}]"), b"HTTP/1.1 422"),
            (raw(b"["), b"HTTP/1.1 422"),
            (known.replace(b"17", b"+17"), b"HTTP/1.1 400"),
        ]:
            for _ in range(2):
                assert b'"did":"known"' in exchange(sock, known)
            assert expected in exchange(sock, other)
    with connect(server.port) as sock:
        for _ in range(2):
            assert b'"did":"known"' in exchange(sock, known)
        closing = known.replace(b"Host", b"Connection: close\r\nHost")
        assert b'"did":"known"' in exchange(sock, closing)
        assert sock.recv(1) == b""


def test_a_known_head_may_come_in_pieces_and_with_the_next_request(server):
    known = raw(BODY % b"known")
    with connect(server.port) as sock:
        for _ in range(2):
            assert b'"did":"known"' in exchange(sock, known)
        for cut in (1, 40, len(known) - 20, len(known) - 1):
            sock.sendall(known[:cut])
            server.get("/healthz")  # by now the loop has read it
            assert b'"did":"known"' in exchange(sock, known[cut:])
        sock.sendall(known + known[:50])
        assert b'"did":"known"' in exchange(sock, b"")
        assert b'"did":"known"' in exchange(sock, known[50:])
        assert b'"did":"known"' in exchange(sock, known)


@pytest.mark.parametrize(
    "head", [b"POST /predict HTTP/1.0\r\n", b"POST /predict HTTP/1.1\r\nConnection: close\r\n"]
)
def test_a_connection_ends_where_its_client_asks_for_it(server, head):
    with connect(server.port) as sock, sock.makefile("rb") as stream:
        sock.sendall(raw(BODY % b"x", head + b"Content-Type: application/json\r\n"))
        assert b'"success"' in stream.read()


def test_clients_that_leave_disturb_nobody(server, gate):
    blocked = server.begin(f"block {gate}")
    with gate.open():
        for _ in range(20):
            with connect(server.port) as sock:
                sock.sendall(raw(BODY % b"x"))
        server.get("/healthz")
    assert server.ended(blocked)["status"] == "success"
    assert server.predict("x")["status"] == "success"
    assert not server.logged("ERROR waitress")


def test_a_large_answer_arrives_whole(start_server):
    model = MODEL.replace("did=i.do", "did=i.do * 5_000_000")
    with start_server(model=model) as server, requests.Session() as session:
        for _ in range(2):
            answer = session.post(server.url + "/predict", json=[{"do": "x"}], timeout=DEADLINE).json()
            assert len(answer["outputs"][0]["did"]) == 5_000_000


def test_as_many_may_wait_as_the_limit_says(start_server, gate, pool):
    with start_server("--max-pending", "300") as server:
        blocked = server.begin(f"block {gate}")
        with gate.open():
            waiting = [connect(server.port) for _ in range(299)]
            for sock in waiting:
                sock.sendall(raw(BODY % b"x"))
            server.get("/healthz")
            pending = re.search(r"(?m)^tungsten_predictions_pending (.*)$", server.get("/metrics").text)
            assert float(pending.group(1)) == 300
            assert server.post([{"do": "one too many"}]).status_code == 503
        for sock in waiting:
            assert sock.recv(15) == b"HTTP/1.1 200 OK"
            sock.close()
        assert server.ended(blocked)["status"] == "success"


class Dispatcher:
    """Accepts or refuses, and answers at once."""

    def __init__(self, *, full=False):
        self.full = full

    def submit(self, inputs, on_done, more):
        if self.full:
            raise UnavailableError("full", 1)
        prediction = Prediction(1, max_bytes=99, on_done=on_done)
        prediction.record(0, Output(inputs[0].json))


@pytest.mark.parametrize(
    ("body", "full", "held", "taken"),
    [
        (b'[{"do":"x"}]', False, 0, True),
        (b'[{"do":1}]', False, 0, False),
        (b"[", False, 0, False),
        (b'[{"do":"x"}]', True, 0, False),
        (b'[{"do":"x"}]', False, 95, False),
    ],
)
def test_it_takes_what_is_valid_and_accepted_and_gives_all_bytes_back(body, full, held, taken):
    class Metrics:
        counted = 0

        def count(self, *_):
            self.counted += 1

    schema = InputSchema({"type": "object", "properties": {"do": {"type": "string"}}}, 99)
    budget, metrics, answers = ByteBudget(100), Metrics(), []
    budget.take(held)
    predict = direct_predict(schema, Dispatcher(full=full), budget, metrics, 9)
    assert (predict(body, answers.append) is not None) is taken
    assert (budget.taken, metrics.counted, len(answers)) == (held, int(taken), int(taken))
    if taken:
        (sent,) = parse_inputs(body, 9)
        assert answers[0].render() == b'{"outputs":[{"do":"%s"}],"status":"success","error_message":null}' % (
            sent["do"].encode()
        )
