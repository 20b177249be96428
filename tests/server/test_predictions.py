"""Asynchronous predictions over HTTP: their states, their cancelling, their end."""

import os
import re
import signal

import pytest
import requests

from tests.server.conftest import DEADLINE, MODEL, wait_until

# What a model's code does that tries to survive its cancelling.
STUBBORN = MODEL.replace(
    "            if word in self.run:",
    """
            if word == "stubborn":
                print("stubborn begins")
                try:
                    self.run["block"](argument)
                except Exception:
                    print("swallowed")
                finally:
                    print("cleaned up")
            if word in self.run:""",
)


def state(server, path):
    response = server.get(path)
    assert response.status_code == 200
    return response.json()


def test_it_goes_from_pending_over_running_to_success(server, gate):
    first = server.begin(f"block {gate}")
    with gate.open():
        second = server.begin("a", "b", scale=2.0)
        assert state(server, first) == {"outputs": None, "status": "running", "error_message": None}
        assert state(server, second) == {"outputs": None, "status": "pending", "error_message": None}
    ended = server.ended(second)
    assert [output["did"] for output in ended.pop("outputs")] == ["a", "b"]
    assert ended == {"status": "success", "error_message": None}


def test_one_of_many_inputs_on_the_model_makes_it_running(server, gate):
    path = server.begin("a", "b", "c", "d", f"block {gate}")
    with gate.open():
        assert state(server, path)["status"] == "running"
    assert len(server.ended(path)["outputs"]) == 5


def test_ids_are_32_hexadecimal_digits(server):
    response = server.post([{"do": "x"}], "/predictions")
    assert response.headers["Content-Type"] == "application/json"
    assert re.fullmatch(r"[0-9a-f]{32}", response.json()["prediction_id"])


def test_a_failure_is_200_and_stays(server):
    path = server.begin("raise it")
    expected = {"outputs": None, "status": "failed", "error_message": "ValueError: it"}
    assert server.ended(path) == expected
    assert state(server, path) == expected


@pytest.mark.parametrize("path", ["/predictions/none", "/demo/none"])
def test_an_unknown_id_is_404_and_named(server, path):
    for response in (server.get(path), requests.post(f"{server.url}{path}/cancel", timeout=DEADLINE)):
        assert (response.status_code, response.json()) == (404, {"detail": "none"})


def test_an_invalid_body_makes_no_prediction(server):
    assert server.post([], "/predictions").status_code == 422
    assert server.post([{"do": 1}], "/predictions").status_code == 422


def test_results_expire(start_server):
    with start_server(RESULT_EXPIRATION="0.5") as server:
        path = server.begin("x")
        wait_until(lambda: server.get(path).status_code == 404, "expiry")
        assert server.get(path).json() == {"detail": path.rpartition("/")[2]}


def test_results_are_forgotten_when_they_take_too_much_memory(start_server):
    with start_server("--max-results-bytes", "3000") as server:
        old, new = (server.begin("x" * 2000) for _ in range(2))
        server.ended(new)
        assert server.get(old).status_code == 404


def test_a_synchronous_result_is_not_kept(start_server):
    with start_server() as server:
        server.predict("x")
        assert "tungsten_result_bytes_held 0.0" in server.get("/metrics").text


class TestCancel:
    def test_what_waits_is_not_run(self, server, gate):
        blocked = server.begin(f"block {gate}")
        with gate.open():
            waiting = server.begin(*["must not run"] * 3, "raise must-not-run")
            server.cancel(waiting)
            canceled = {"outputs": None, "status": "failed", "error_message": "Canceled"}
            assert state(server, waiting) == canceled
            # The model is told of both in this order: it is not free before it knows of what waits.
            server.cancel(blocked)
            assert server.predict("x")["status"] == "success"
        assert state(server, waiting) == canceled
        assert not server.logged("must-not-run")

    def test_what_runs_alone_is_interrupted_and_the_process_lives_on(self, server, gate):
        pid = server.wait_ready().model_pid()
        running = server.begin(f"block {gate}")
        with gate.open():
            server.cancel(running)
            assert state(server, running)["error_message"] == "Canceled"
            # The gate is still shut, so only an interruption can have made the model free.
            assert server.predict("x")["status"] == "success"
        assert server.model_pid() == pid

    def test_what_shares_its_batch_is_left_to_run_and_its_result_ignored(self, server, gate, tmp_path):
        gates = [gate, type(gate)(tmp_path / "second")]
        first = server.begin(f"block {gates[0]}")
        with gates[0].open():
            one, two = server.begin(f"block {gates[1]}"), server.begin("neighbour")
        server.ended(first)
        with gates[1].open():
            server.cancel(one)
            assert state(server, one)["error_message"] == "Canceled"
            assert state(server, two)["status"] == "running"
        ended = server.ended(two)
        assert ended["outputs"][0]["did"] == "neighbour"
        assert state(server, one)["error_message"] == "Canceled"

    def test_model_code_cannot_swallow_it_and_cleans_up(self, start_server, gate):
        with start_server(model=STUBBORN) as server:
            pid = server.model_pid()
            running = server.begin(f"stubborn {gate}")
            with gate.open():
                server.cancel(running)
                assert server.predict("x")["status"] == "success"
            server.wait_for_log("cleaned up")
            assert not server.logged("swallowed")
            assert server.model_pid() == pid

    def test_code_that_catches_everything_runs_on_and_its_result_is_ignored(self, start_server, gate):
        model = STUBBORN.replace("except Exception", "except BaseException")
        with start_server(model=model) as server:
            pid = server.model_pid()
            running = server.begin(f"stubborn {gate}")
            with gate.open():
                server.cancel(running)
                server.cancel(running)
                server.wait_for_log("swallowed")
            assert server.predict("x")["status"] == "success"
            assert state(server, running)["error_message"] == "Canceled"
            assert server.model_pid() == pid

    def test_signals_that_nobody_sent_for_a_batch_do_nothing(self, server, pool, gate):
        pid = server.wait_ready().model_pid()
        running = server.begin(f"block {gate}")
        with gate.open():
            for _ in range(20):
                os.kill(pid, signal.SIGUSR1)
            server.get("/healthz")
        assert server.ended(running)["status"] == "success"
        for _ in range(20):
            os.kill(pid, signal.SIGUSR1)
        assert server.predict("x")["status"] == "success"
        assert server.model_pid() == pid

    def test_the_rest_of_its_inputs_does_not_run(self, server, gate):
        running = server.begin("a", "b", "c", f"block {gate}", "raise rest-must-not-run")
        with gate.open():
            server.cancel(running)
            assert server.predict("x")["status"] == "success"
        assert not server.logged("rest-must-not-run")

    def test_what_is_done_stays_as_it_is(self, server):
        path = server.begin("x")
        before = server.ended(path)
        server.cancel(path)
        assert state(server, path) == before

    def test_nothing_is_killed_by_cancelling_in_a_hurry(self, server):
        pid = server.wait_ready().model_pid()
        kept = []
        for _ in range(50):
            server.cancel(server.begin("y", "z"))
            kept.append(server.begin("x"))
        assert {server.ended(path)["status"] for path in kept} == {"success"}
        assert server.model_pid() == pid


def test_a_prediction_above_its_time_ends_with_timeout(start_server, tmp_path):
    with start_server(PREDICTION_TIMEOUT="1") as server:
        ended = server.ended(server.begin(f"hang {tmp_path / 'pid'}"))
        assert ended["status"] == "failed"
        assert ended["error_message"].endswith("Timeout")
