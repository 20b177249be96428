"""Outputs that come piece by piece, as clients see them: server-sent events of the real server."""

import json
import re
import signal
import socket
import threading
from pathlib import Path

import pytest
import requests
from tungsten_server.words.stream import Stream
from tungsten_server.worker.fold import Fold

from tests.server.conftest import DEADLINE, request, running_server, wait_until

MODEL = '''
import os, sys, time
from typing import List, Optional
from tungstenkit import END, BaseIO, Binary, Field, Option, define_model

class Input(BaseIO):
    do: str
    scale: float = Option(1.0)

class Output(BaseIO):
    text: str
    tokens: List[int] = Field()
    name: str = Field(fold="last")
    reason: Optional[str]
    file: Optional[Binary]

def wait(path):
    with open(path) as fifo:  # opens when the test opens its other end, and ends when it closes it
        fifo.read()

def steps(do, seen):
    """A step is a part of `do`: a piece to yield, or something to do."""
    for step in do.split("|"):
        word, _, argument = step.partition(" ")
        if word == "wait":
            wait(argument)
        elif word == "raise":
            raise ValueError(argument)
        elif word == "fail":
            yield ValueError(argument)
        elif word == "end":
            yield END
        elif word == "nothing":
            yield None
        elif word == "die":
            os._exit(7)
        elif word == "wrong":
            yield "a string"
        elif word == "empty":
            yield {}
        elif word == "nan":
            yield {"text": "x", "tokens": [float("nan")]}
        elif word == "bad":
            yield {"tokens": ["x"]}
        elif word == "reuse":
            seen.clear()
            seen.update(text=argument, tokens=[len(argument)])
            yield seen
        elif word == "file":
            yield {"file": Binary.from_bytes(argument.encode(), "text/plain")}
        elif word == "digits":
            sys.set_int_max_str_digits(0)
            yield {"text": "x" * 70_000, "tokens": [10 ** (int(argument) - 1)], "name": "x"}
        elif word == "big":
            yield {"text": "x" * int(argument)}
        else:
            yield Output(text=step, tokens=[len(step)], name=step)

@define_model(input=Input, output=Output, batch_size=4)
class Model:
    def predict(self, inputs):
        shared = {}
        if inputs[0].do == "one":
            yield [{"text": "a"}]
            return
        if inputs[0].do == "no list":
            yield {"text": "a"}
        if inputs[0].do == "returns":
            return [1]
        if inputs[0].do == "none at all":
            return
        if inputs[0].do == "stubborn":
            try:
                yield [{"text": "a", "tokens": [], "name": ""} for _ in inputs]
                yield [END for _ in inputs]
            except GeneratorExit:
                yield None
        if inputs[0].do == "mixed later":
            yield [{"text": "a", "tokens": [], "name": ""} for _ in inputs]
            piece = {"text": "b"}
            yield [piece for _ in inputs]
            return
        if inputs[-1].do == "one bad, others mixed":
            piece = {"text": "a", "tokens": [], "name": ""}
            yield [ValueError("bad") if one.do == "bad" else piece for one in inputs]
            return
        if inputs[0].do == "mixed":
            piece = {"text": "a", "tokens": [], "name": ""}
            yield [piece for _ in inputs]
            return
        running = [steps(i.do, shared) for i in inputs]
        gone = [False] * len(inputs)
        try:
            while running.count(None) < len(running):
                pieces = []
                for place, one in enumerate(running):
                    piece = None
                    if one is not None:
                        piece = next(one, None)
                        running[place] = None if piece is None and one.gi_frame is None else one
                    pieces.append(piece)
                gone = yield pieces
                print("gone", gone, flush=True)
        except GeneratorExit:
            print("closed", [i.do for i in inputs], flush=True)
            raise
'''

TEXT = {"type": "string", "x-fold": "concatenate"}
SPEC = {
    "spec-version": 1,
    "name": "stream",
    "module": "tungsten_model",
    "class": "Model",
    "batch-size": 4,
    "stream": True,
    "input-schema": {
        "type": "object",
        "properties": {
            "do": {"type": "string"},
            "scale": {"type": "number", "default": 1.0, "x-option": True},
        },
        "required": ["do"],
        "x-order": ["do", "scale"],
    },
    "output-schema": {
        "type": "object",
        "properties": {
            "text": TEXT,
            "tokens": {"type": "array", "x-fold": "concatenate"},
            "name": {"type": "string"},
            "reason": {"anyOf": [{"type": "string"}, {"type": "null"}]},
            "file": {
                "anyOf": [{"type": "string", "format": "uri", "x-file-type": "binary"}, {"type": "null"}]
            },
        },
        "x-order": ["text", "tokens", "name", "reason", "file"],
    },
    "demo-output-schema": None,
}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with running_server(tmp_path_factory.mktemp("streaming"), model=MODEL, spec=SPEC) as server:
        yield server


@pytest.fixture
def start_server(tmp_path):
    return lambda *flags, **given: running_server(tmp_path, *flags, **{"model": MODEL, "spec": SPEC, **given})


def read_events(response):
    """The events of an answer, each as its name and its data."""
    assert response.status_code == 200, response.text
    assert response.headers["Content-Type"].startswith("text/event-stream")
    name = None
    for line in response.iter_lines(chunk_size=1):
        text = line.decode()
        if text.startswith("event: "):
            name = text.removeprefix("event: ")
        elif text.startswith("data: "):
            yield name, json.loads(text.removeprefix("data: "))


def stream(server, *todo, path="/predict", method="POST", **options):
    """Follow a prediction."""
    body = json.dumps([{"do": do, **options} for do in todo]) if todo else None
    headers = {"Accept": "text/event-stream", "Content-Type": "application/json"}
    answer = requests.request(
        method, server.url + path, data=body, headers=headers, stream=True, timeout=DEADLINE
    )
    return read_events(answer)


def folded(events, place=0):
    fold = Fold({"text", "tokens"})
    for name, data in events:
        if name == "piece" and data["index"] == place:
            fold.add(data["output"])
    return fold.value()


def full(text, tokens, name, **others):
    return {"text": text, "tokens": tokens, "name": name, "reason": None, "file": None, **others}


class TestEvents:
    def test_pieces_come_while_the_model_works_and_the_whole_at_last(self, server, gate):
        events = stream(server, f"ab|wait {gate}|c")
        assert next(events) == ("piece", {"index": 0, "output": {"text": "ab", "tokens": [2], "name": "ab"}})
        with gate.open():
            pass
        last = {"outputs": [full("abc", [2, 1], "c")], "status": "success", "error_message": None}
        assert list(events) == [
            ("piece", {"index": 0, "output": {"text": "c", "tokens": [1], "name": "c"}}),
            ("prediction", last),
        ]

    def test_who_asks_for_no_events_gets_the_fold(self, server):
        prediction = server.predict("ab|c", "d")
        assert prediction["outputs"] == [full("abc", [2, 1], "c"), full("d", [1], "d")]

    @pytest.mark.parametrize("accept", ["*/*", "application/json", "text/event-stream;q=0.5, */*"])
    def test_events_come_to_those_who_prefer_them(self, server, accept):
        answer = server.post([{"do": "a"}], Accept=accept)
        assert answer.headers["Content-Type"] == "application/json"

    @pytest.mark.parametrize("accept", ["Text/Event-Stream", "text/*"])
    def test_the_second_request_of_a_connection_is_answered_as_the_first(self, server, accept):
        """Which has been read, and not merely recognised, and by any route."""
        with requests.Session() as session:
            for _ in range(2):
                answer = session.post(
                    f"{server.url}/predict", json=[{"do": "a"}], headers={"Accept": accept}, timeout=DEADLINE
                )
                assert list(read_events(answer))[-1][0] == "prediction"

    def test_a_head_alone_has_no_events(self, server):
        path = server.begin("a")
        server.ended(path)
        with socket.create_connection(("127.0.0.1", server.port), DEADLINE) as client:
            head = "Accept: text/event-stream\r\nConnection: close\r\n"
            client.sendall(request("HEAD", path, head))
            answer = b"".join(iter(lambda: client.recv(65536), b""))
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert answer.endswith(b"\r\n\r\n")
        assert answer.count(b"\r\n\r\n") == 1

    def test_a_form_can_be_followed(self, server):
        answer = requests.post(
            f"{server.url}/predict",
            files={"do": (None, "a|b")},
            headers={"Accept": "text/event-stream"},
            timeout=DEADLINE,
            stream=True,
        )
        events = list(read_events(answer))
        assert folded(events) == {"text": "ab", "tokens": [1, 1], "name": "b"}
        assert events[-1][1]["outputs"] == [full("ab", [1, 1], "b")]

    def test_what_is_not_accepted_is_told_as_elsewhere(self, server):
        answer = server.post([{"do": 1}], Accept="text/event-stream")
        assert answer.status_code == 422
        assert answer.json()["detail"][0]["loc"] == ["body", 0, "do"]

    def test_several_inputs_are_told_apart(self, server):
        events = list(stream(server, "a|b|c", "d"))
        assert folded(events, 0)["text"] == "abc"
        assert folded(events, 1)["text"] == "d"

    def test_a_prediction_that_was_begun_can_be_followed_from_any_moment_by_many(self, server, gate):
        path = server.begin(f"a|b|wait {gate}|c")
        first = stream(server, path=path, method="GET")
        pieces = [next(first)]
        while folded(pieces).get("text") != "ab":
            pieces.append(next(first))
        second = stream(server, path=path, method="GET")
        late = {"index": 0, "output": {"text": "ab", "tokens": [1, 1], "name": "b"}}
        assert next(second) == ("piece", late)
        with gate.open():
            pass
        assert list(first)[-1] == list(second)[-1] == ("prediction", server.ended(path))

    def test_one_that_is_done_is_told_at_once(self, server):
        path = server.begin("a")
        ended = server.ended(path)
        assert list(stream(server, path=path, method="GET")) == [("prediction", ended)]

    def test_a_demo_has_pieces_too(self, server):
        path = server.begin("a|b", path="/demo")
        events = list(stream(server, path=path, method="GET"))
        whole = events[-1][1]
        assert whole["demo_outputs"] == whole["outputs"] == [full("ab", [1, 1], "b")]
        assert "gone [False]" in whole["logs"]

    def test_files_are_data_in_pieces_and_links_at_last_where_links_are_asked_for(self, server):
        uri = "data:text/plain;base64,aGk="
        events = list(stream(server, "a|file hi"))
        assert {"file": uri} in [data.get("output") for _, data in events]
        assert events[-1][1]["outputs"] == [full("a", [1], "a", file=uri)]
        events = list(stream(server, "a|file hi", path="/predict?files=links"))
        assert [data["output"] for name, data in events if name == "piece"][-1].get("file") is None
        link = events[-1][1]["outputs"][0]["file"]
        assert server.get(link).content == b"hi"

    def test_the_connection_is_closed_and_http_1_0_needs_no_chunks(self, server):
        body = b'[{"do":"a"}]'
        head = (
            f"Accept: text/event-stream\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        )
        with socket.create_connection(("127.0.0.1", server.port), DEADLINE) as client:
            client.sendall(request("POST", "/predict", head, body).replace(b"HTTP/1.1", b"HTTP/1.0"))
            answer = b"".join(iter(lambda: client.recv(65536), b""))
        head, _, events = answer.partition(b"\r\n\r\n")
        assert b"chunked" not in head
        assert events.startswith(b"event: piece\ndata: {")
        assert events.endswith(b'"error_message":null}\n\n')

    def test_a_model_without_a_stream_answers_with_its_last_event(self, tmp_path):
        with running_server(tmp_path) as plain:
            (event,) = stream(plain, "x")
            assert event[0] == "prediction"
            assert event[1] == plain.predict("x")

    def test_threads_are_not_held(self, start_server, gate):
        with start_server(TUNGSTEN_MAX_PENDING="200") as server:
            blocked = stream(server, f"a|wait {gate}")
            next(blocked)
            waiting = [stream(server, "b") for _ in range(30)]
            threads = [threading.Thread(target=list, args=(one,)) for one in waiting]
            for thread in threads:
                thread.start()
            wait_until(
                lambda: "tungsten_predictions_pending 31.0" in server.get("/metrics").text, "30 waiting"
            )
            # The loop, the drivers' and those that were there for a moment: far fewer than who waits.
            count = len(list((Path("/proc", str(server.process.pid), "task")).iterdir()))
            with gate.open():
                pass
            list(blocked)
            for thread in threads:
                thread.join()
        assert count < 25

    def test_time_to_the_first_piece_is_counted(self, server):
        list(stream(server, "a"))
        text = server.get("/metrics").text
        assert re.search(r'tungsten_http_first_piece_seconds_count\{route="/predict"\} [1-9]', text)

    def test_metadata_and_openapi_tell_of_it(self, server):
        assert server.get("/").json()["stream"] is True
        document = server.get("/openapi.json").json()
        content = document["paths"]["/predict"]["post"]["responses"]["200"]["content"]
        assert set(content) == {"application/json", "text/event-stream"}


class TestEnds:
    @pytest.mark.parametrize(
        ("do", "message"),
        [
            ("a|raise it", "ValueError: it"),
            ("raise it", "ValueError: it"),
            ("a|fail alone", "ValueError: alone"),
            ("wrong", "InvalidOutput: predict yielded an object of type str, not Output"),
            ("a|nan", "ValidationError: tokens.0: Input should be a finite number"),
            (
                "bad",
                "ValidationError: tokens.0: Input should be a valid integer, unable to parse string as an integer",
            ),
            ("digits 4301", "InvalidOutput: tokens.0: an integer of 4301 digits; 4300 is the limit"),
            ("empty", "ValidationError: text: Field required; tokens: Field required; name: Field required"),
            ("nothing", "InvalidOutput: predict yielded no piece for an input"),
            ("none at all", "InvalidOutput: predict yielded no piece for an input"),
            ("no list", "InvalidOutput: predict yielded pieces of type dict, not a list"),
            ("returns", "InvalidOutput: predict yields, and has returned something; yield it"),
        ],
    )
    def test_what_goes_wrong_fails_the_prediction_and_nothing_else(self, server, do, message):
        pid = server.model_pid()
        events = list(stream(server, do))
        assert events[-1] == ("prediction", {"outputs": None, "status": "failed", "error_message": message})
        assert server.predict(do)["error_message"] == message
        assert server.predict("x")["status"] == "success"
        assert server.model_pid() == pid

    def test_pieces_before_a_failure_are_told(self, server):
        events = list(stream(server, "a|b|raise it"))
        assert folded(events)["text"] == "ab"
        assert events[-1][1]["error_message"] == "ValueError: it"

    def test_a_wrong_count_is_told(self, server):
        failed = server.predict("one", "b")
        assert failed["error_message"] == "InvalidOutput: predict yielded 1 pieces for 2 inputs"

    def test_one_piece_for_several_inputs_is_run_again_for_each(self, server):
        assert server.predict("mixed", "mixed ")["outputs"][0]["text"] == "a"

    def test_one_piece_for_several_inputs_fails_those_that_were_told_of(self, server):
        events = list(stream(server, "mixed later", "mixed later "))
        assert folded(events, 0)["text"] == folded(events, 1)["text"] == "a"
        assert events[-1][1]["error_message"].startswith(
            "InvalidOutput: a list, a dict or the like is returned"
        )
        # Of which nobody was told anything, they are run one by one.
        assert server.predict("mixed later", "mixed later ")["outputs"][0]["text"] == "ab"

    def test_what_was_found_before_a_step_went_wrong_is_told(self, server):
        failed = server.predict("bad", "b", "one bad, others mixed")
        assert failed["error_message"] == "ValueError: bad"
        assert server.predict("x")["status"] == "success"

    def test_a_generator_that_yields_when_it_is_closed_is_told_in_the_log_alone(self, server):
        assert server.predict("stubborn")["outputs"][0]["text"] == "a"
        server.wait_for_log("closed: RuntimeError: generator ignored GeneratorExit")

    def test_a_piece_is_fixed_when_it_is_yielded(self, server):
        events = list(stream(server, "x|reuse ab|reuse c"))
        assert folded(events) == {"text": "xabc", "tokens": [1, 2, 1], "name": "x"}

    def test_what_comes_after_the_end_is_left_out_and_logged(self, server):
        answers = server.predict("a|end|late", "b|c|d|e")
        assert [one["text"] for one in answers["outputs"]] == ["a", "bcde"]
        server.wait_for_log("a piece for an input after its END")

    def test_an_output_that_is_too_large_fails_by_itself(self, start_server):
        with start_server("--max-result", "3000") as server:
            events = list(stream(server, "a|big 1000|big 1000|big 1000|b"))
            assert events[-1][1]["error_message"].startswith("OutputTooLarge: ")
            assert server.predict("x")["status"] == "success"


def two_in_a_batch(server, pool, gates, first, second):
    """Two followed predictions that share a batch, since they wait while the model is busy."""
    blocked = server.begin(f"x|wait {gates}")
    with gates.open():
        begun = [pool.submit(stream, server, do) for do in (first, second)]
        wait_until(lambda: "tungsten_queue_inputs 2.0" in server.get("/metrics").text, "two that wait")
    server.ended(blocked)
    return [one.result() for one in begun]


@pytest.fixture
def gates(tmp_path, gate):
    return gate, type(gate)(tmp_path / "second")


class TestTogether:
    def test_each_input_of_a_batch_ends_by_itself(self, server, pool, gates):
        short, long = two_in_a_batch(server, pool, gates[0], "a|end", f"b|c|wait {gates[1]}|d")
        assert list(short)[-1][1]["outputs"][0]["text"] == "a"
        # The gate is still shut.
        with gates[1].open():
            pass
        assert list(long)[-1][1]["outputs"][0]["text"] == "bcd"

    def test_each_fails_by_itself(self, server, pool, gates):
        bad, good = two_in_a_batch(server, pool, gates[0], "a|fail it", f"b|c|wait {gates[1]}|d")
        assert list(bad)[-1][1]["error_message"] == "ValueError: it"
        with gates[1].open():
            pass
        assert list(good)[-1][1]["outputs"][0]["text"] == "bcd"

    def test_a_number_that_nobody_can_read_fails_its_input_alone(self, server, pool, gates):
        first, second = two_in_a_batch(server, pool, gates[0], "a|digits 4301", "b|c")
        assert list(first)[-1][1]["error_message"].startswith("InvalidOutput: tokens.0: an integer")
        assert list(second)[-1][1]["outputs"][0]["text"] == "bc"

    def test_what_raises_half_way_fails_those_that_were_told_of_and_runs_the_rest_again(
        self, server, pool, gates
    ):
        blocked = server.begin(f"x|wait {gates[0]}")
        with gates[0].open():
            followed = pool.submit(stream, server, "a|b|c|raise it")
            plain = pool.submit(server.predict, "d")
            wait_until(lambda: "tungsten_queue_inputs 2.0" in server.get("/metrics").text, "two that wait")
        server.ended(blocked)
        assert list(followed.result())[-1][1]["error_message"] == "ValueError: it"
        assert plain.result()["outputs"][0]["text"] == "d"

    def test_one_that_goes_is_told_to_the_model_and_the_other_goes_on(self, server, pool, gates):
        leaving, staying = two_in_a_batch(server, pool, gates[0], "left|b|c|d", f"stays|wait {gates[1]}|x|y")
        assert next(leaving)[0] == "piece"
        leaving.close()
        wait_until(
            lambda: re.search(r'outcome="disconnected"\} [1-9]', server.get("/metrics").text), "its leaving"
        )
        with gates[1].open():
            pass
        assert list(staying)[-1][1]["outputs"][0]["text"] == "staysxy"
        assert server.logged(r"gone \[(True, False|False, True)\]")

    def test_a_generator_of_which_nobody_wants_anything_is_interrupted_and_closed(self, server, gate):
        path = server.begin(f"closing|wait {gate}|b|c|d")
        events = stream(server, path=path, method="GET")
        next(events)
        with gate.open():
            server.cancel(path)
            assert list(events)[-1][1]["error_message"] == "Canceled"
            # The gate is still shut: it was interrupted inside.
            assert server.predict("x")["status"] == "success"


class TestDeaths:
    def test_a_process_that_dies_fails_what_was_begun(self, start_server):
        with start_server() as server:
            events = list(stream(server, "a|die"))
            assert folded(events)["text"] == "a"
            assert events[-1][1]["error_message"] == "The model process died (exit status 7) during predict"
            assert server.predict("x")["status"] == "success"

    def test_pieces_give_a_call_no_more_time(self, start_server, gate):
        with start_server(PREDICTION_TIMEOUT="1") as server:
            events = list(stream(server, f"a|b|wait {gate}"))
            assert events[-1][1]["error_message"].endswith("Timeout")

    def test_a_stop_lets_streams_end(self, start_server, gate):
        with start_server() as server:
            events = stream(server, f"a|wait {gate}|b")
            next(events)
            server.process.send_signal(signal.SIGTERM)
            with gate.open():
                pass
            assert list(events)[-1][1]["outputs"][0]["text"] == "ab"
            assert server.process.wait(DEADLINE) == 0


def test_a_client_that_does_not_read_holds_neither_the_model_nor_memory(start_server, pool):
    """The model goes on, and what waits for it is put together."""
    with start_server() as server:
        body = json.dumps([{"do": "|".join(["big 100000"] * 100 + ["x"])}]).encode()
        head = (
            f"Accept: text/event-stream\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        )
        with socket.socket() as client:
            client.settimeout(DEADLINE)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)  # else the kernel takes it all
            client.connect(("127.0.0.1", server.port))
            client.sendall(request("POST", "/predict", head, body))
            # The model is free again, though not a byte was read.
            wait_until(
                lambda: 'tungsten_predictions_total{outcome="success"} 1.0' in server.get("/metrics").text,
                "end",
            )
            assert server.predict("x")["status"] == "success"
            answer = b"".join(iter(lambda: client.recv(1 << 20), b""))
        assert answer.count(b"event: piece") < 100
        assert answer.count(b"event: prediction") == 1


def test_a_fold_is_by_fields():
    fold = Fold({"text", "list", "none"})
    for piece in ({"text": "a", "n": 1}, {"list": [1]}, {"text": "b", "list": [], "none": None}, {"n": None}):
        fold.add(piece)
    assert fold.value() == {"text": "ab", "n": None, "list": [1], "none": None}


class TestWaitingPieces:
    def test_each_follower_has_all_of_them_once(self):
        told = []
        stream = Stream({"text"}, keep=False)
        one, two = (stream.follow(lambda name=name: told.append(name)) for name in "ab")
        stream.add(0, b'{"text":"x"}')
        assert one.take() == two.take() == ([(0, b'{"text":"x"}')], False)
        assert one.take() == ([], False)
        one.leave()
        stream.end()
        assert two.take() == ([], True)
        assert told == ["a", "b", "b"]
        assert stream.has_begun(0)
        assert not stream.has_begun(1)

    def test_what_nobody_takes_is_put_together(self):
        stream = Stream({"text"}, keep=False)
        slow = stream.follow(lambda: None)
        for number in range(20_000):
            most = stream.add(number % 2, b'{"text":"x","last":"%b"}' % (b"y" * 1000))
        assert most < 300_000
        pieces, _ = slow.take()
        assert len(pieces) < 300
        assert "".join(json.loads(piece)["text"] for place, piece in pieces if place == 1) == "x" * 10_000

    def test_who_comes_late_has_what_was_kept_as_one(self):
        stream = Stream({"text"}, keep=True)
        for text in (b"a", b"b"):
            stream.add(0, b'{"text":"%b"}' % text)
        assert stream.follow(lambda: None).take() == ([(0, b'{"text":"ab"}')], False)
        stream.end()
        stream.add(0, b'{"text":"late"}')
        assert stream.follow(lambda: None).take() == ([], True)
