"""Large bodies: read as small ones are, and by whom."""

import json
import os
import signal
from pathlib import Path

import pytest
import requests
from tungsten_server.checks import reading
from tungsten_server.words.problems import InputError, UnavailableError

from tests.server.conftest import DEADLINE, SERVER, SPEC, wait_until
from tests.server.speed import children

PADDING = b" " * (reading.LARGE_BODY + 1)
MANY = json.dumps([{"do": "x", "more": list(range(60_000))}]).encode()


def readers_of(server):
    """The processes that read bodies."""
    return [
        pid
        for pid in children(server.process.pid)
        if b"tungsten_server.checks.reading" in Path(f"/proc/{pid}/cmdline").read_bytes()
    ]


@pytest.mark.parametrize(
    "body",
    [
        *(
            b'[{"do": "x"}, {"do": "y", "scale": 2}]',
            b'[{"do": 1}, {"scale": 11}]',
            b'{"do": "x"}',
            b"[]",
            b"nonsense",
        ),
        *(b'[{"do": "x", "scale": NaN}]', b'[{"do": "x", "scale": 1e999}]', b'[{"do": "\xff"}]'),
        *(b"[" * 200 + b"]" * 200, b'[{"do": "x"}' + b', {"do": "x"}' * 1024 + b"]"),
        b'[{"do": "x", "picture": "http://127.0.0.1/x"}]',
        b'[{"do": "x", "picture": "file:///etc/passwd"}]',
    ],
)
def test_a_large_body_means_what_a_small_one_means(server, body):
    small, large = server.post(body), server.post(body + PADDING)
    assert (small.status_code, small.content) == (large.status_code, large.content)


def test_so_does_a_form(server):
    small = {"do": (None, "x"), "scale": (None, "2"), "picture": ("x.png", b"x", "image/png")}
    large = {**small, "unknown": ("x.bin", PADDING, "application/octet-stream")}
    answers = [
        requests.post(f"{server.url}/predict", files=files, timeout=DEADLINE) for files in (small, large)
    ]
    assert answers[0].json()["outputs"][0]["scales"] == [2.0]
    assert answers[0].content == answers[1].content


def test_and_one_of_another_type(server):
    answers = [server.post(body, **{"Content-Type": "text/plain"}) for body in (b"x", PADDING)]
    assert answers[0].status_code == 422
    assert answers[0].content == answers[1].content


@pytest.mark.parametrize("body", [PADDING + b'[{"do": "x"}]', MANY])
def test_others_are_answered_while_one_is_read(start_server, pool, body):
    with start_server() as server:
        assert server.post(body).json()["status"] == "success"
        (reader,) = readers_of(server)
        os.kill(reader, signal.SIGSTOP)
        waiting = pool.submit(server.post, body)
        for _ in range(20):
            assert server.get("/readyz").status_code == 200
            assert server.predict("x")["status"] == "success"
        assert not waiting.done()
        os.kill(reader, signal.SIGCONT)
        assert waiting.result().json()["status"] == "success"
        assert server.end() == 0
        assert not Path(f"/proc/{reader}").exists()


def test_several_are_read_at_the_same_time_and_no_more_than_there_are_processors_for(start_server, pool):
    body = PADDING + b'[{"do": "x"}]'
    with start_server() as server:
        answers = [pool.submit(server.post, body) for _ in range(12)]
        assert [one.result().json()["status"] for one in answers] == ["success"] * 12
        assert 1 <= len(readers_of(server)) <= 4


def test_a_process_that_dies_is_replaced(start_server, pool):
    body = b'[{"do": "x"}]' + PADDING
    with start_server() as server:
        server.post(body)
        (reader,) = readers_of(server)
        os.kill(reader, signal.SIGSTOP)
        waiting = pool.submit(server.post, body)
        wait_until(lambda: "request_bytes_held 1.04" in server.get("/metrics").text, "the body's arrival")
        os.kill(reader, signal.SIGKILL)
        assert waiting.result().json()["status"] == "success"
        assert readers_of(server) != [reader]


class TestBodyReaders:
    @pytest.fixture
    def readers(self, tmp_path):
        spec = tmp_path / "spec.json"
        spec.write_text(json.dumps(SPEC))
        readers = reading.BodyReaders(spec, 1000, 10, fetching=True)
        yield readers
        readers.close()

    @pytest.fixture(autouse=True)
    def path(self, monkeypatch):
        monkeypatch.setenv("PYTHONPATH", SERVER)

    def test_inputs_with_their_option_keys(self, readers):
        (one,) = readers.read("application/json", "", b'[{"do": "x", "scale": 2.0}]')
        assert (one.json, one.key) == (b'{"do":"x","scale":2.0}', '{"picture":"data:,","scale":2}')

    def test_addresses_are_left_to_who_may_fetch_them(self, readers):
        body = b'[{"do": "x"}, {"do": "x", "picture": "https://x.invalid/"}]'
        assert readers.read("application/json", "", body) == {(1, "picture"): "https://x.invalid/"}
        _, one = readers.read("application/json", "", body, ["data:,file"])
        assert json.loads(one.json) == {"do": "x", "picture": "data:,file"}

    def test_what_is_wrong_otherwise_is_told_before_anything_is_fetched(self, readers):
        with pytest.raises(InputError) as caught:
            readers.read("application/json", "", b'[{"do": 1, "picture": "https://x.invalid/"}]')
        assert [problem.location for problem in caught.value.problems] == [(0, "do")]

    def test_problems_with_their_places(self, readers):
        with pytest.raises(InputError) as caught:
            readers.read("application/json", "", b'[{"do": "x"}, {"do": 1}]')
        (problem,) = caught.value.problems
        assert problem.location == (1, "do")

    def test_one_that_has_had_nothing_to_do_for_long_ends(self, readers, monkeypatch):
        readers.read("application/json", "", b'[{"do": "x"}]')
        ((_, process),) = readers._idle
        readers.tidy()
        assert process._process.poll() is None
        monkeypatch.setattr(reading, "_IDLE_SECONDS", -1)
        readers.tidy()
        assert process._process.poll() is not None
        assert readers.read("application/json", "", b'[{"do": "x"}]')

    @pytest.mark.parametrize(("program", "why"), [("/nowhere", "No such file"), ("/bin/false", "has died")])
    def test_one_that_cannot_be_started_is_told(self, readers, monkeypatch, program, why):
        monkeypatch.setattr(reading.sys, "executable", program)
        with pytest.raises(UnavailableError, match=f"could not be read: .*{why}"):
            readers.read("application/json", "", b"[]")
