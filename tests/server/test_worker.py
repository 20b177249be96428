"""What the user's code may do to the model process, as a client sees it."""

import json
import os
from pathlib import Path

import pytest

from tests.server.conftest import MODEL, SPEC, wait_until


def failure(server, *todo):
    prediction = server.predict(*todo)
    assert (prediction["status"], prediction["outputs"]) == ("failed", None)
    return prediction["error_message"]


@pytest.mark.parametrize(
    ("do", "message"),
    [
        ("raise it", "ValueError: it"),
        ("raise", "ValueError"),
        ("sys.exit", "SystemExit: bye"),
        ("interrupt", "KeyboardInterrupt"),
        ("none", "InvalidOutput: predict returned 0 outputs for 1 inputs"),
        ("wrong", "InvalidOutput: predict returned an object of type str, not Output"),
        ("incomplete", "ValidationError: batch: Field required; scales: Field required"),
    ],
)
def test_what_goes_wrong_in_predict_fails_the_input_and_nothing_else(server, do, message):
    pid = server.wait_ready().model_pid()
    assert failure(server, do) == message
    assert server.predict("x")["status"] == "success"
    assert server.model_pid() == pid


def test_a_long_message_is_cut(server):
    assert len(failure(server, "raise " + "x" * 100_000)) < 3000


def test_the_traceback_is_in_the_log(server):
    failure(server, "raise for the log")
    server.wait_for_log(r"batch failed inputs=1: ValueError: for the log\nTraceback (.*\n)*.*in raises")


def test_what_the_model_prints_is_in_the_log(server):
    server.wait_for_log(r"(?m)^printed by setup$")


def test_a_poisonous_input_fails_alone(server, pool, gate):
    # Different requests share a batch, because they wait while the model is busy.
    blocked = pool.submit(server.predict, f"block {gate}")
    with gate.open():
        todo = ["a", "raise poison", "b", "c"]
        requests = [pool.submit(server.predict, do) for do in todo]
        # Health is answered by the same threads: all that was sent before it has been read.
        server.get("/healthz")
    assert blocked.result()["status"] == "success"
    answers = [request.result() for request in requests]
    server.wait_for_log(r"batch failed inputs=[234]: ValueError: poison")
    assert [answer["error_message"] for answer in answers] == [None, "ValueError: poison", None, None]


def test_one_failed_input_fails_its_request(server):
    assert failure(server, "a", "raise poison", "b") == "ValueError: poison"


def test_the_wrong_number_of_outputs_reaches_no_client_as_another_s_output(server):
    # Run together these give one output too few; one by one each can be told from the others.
    assert failure(server, "a", "none", "b").startswith("InvalidOutput: ")


def test_an_input_that_the_model_s_own_validator_rejects_fails_alone(start_server):
    model = MODEL.replace(
        "class Output",
        """
    @pydantic.field_validator("do")
    @classmethod
    def odd(cls, value):
        if value == "even":
            raise ValueError("must be odd")
        return value

class Output""",
        1,
    ).replace("import os,", "import pydantic, os,")
    with start_server(model=model) as server:
        message = failure(server, "a", "even", "b")
        assert message == "ValidationError: do: Value error, must be odd"
        assert "Traceback" not in message


def test_nan_leaves_as_null(start_server):
    model = MODEL.replace("scales=scales", "scales=[float('nan')]")
    with start_server(model=model) as server:
        response = server.post([{"do": "x"}])
        parsed = json.loads(response.content, parse_constant=pytest.fail)
        assert parsed["outputs"][0]["scales"] == [None]


def test_temporary_files_do_not_outlive_their_batch(start_server, tmp_path):
    picture = "data:application/octet-stream;base64,AAAA"
    model = MODEL.replace("did=i.do", "did=str(i.picture.path)")
    (tmp_path / "tmp").mkdir()
    with start_server(model=model, TMPDIR=str(tmp_path / "tmp")) as server:
        (output,) = server.predict("x", picture=picture)["outputs"]
        assert output["did"].startswith(str(tmp_path / "tmp"))
        assert not Path(output["did"]).exists()


def test_the_model_sees_its_own_folder_first_and_no_argument_of_ours(start_server, tmp_path):
    model = MODEL.replace("did=i.do", "did=repr((sys.path[0], os.getcwd(), sys.argv[1:]))")
    with start_server(model=model) as server:
        (output,) = server.predict("x")["outputs"]
        folder = str(tmp_path / "model")
        assert output["did"] == repr((folder, folder, []))


def test_safe_path_changes_nothing_for_the_model(start_server):
    with start_server(PYTHONSAFEPATH="1") as server:
        assert server.predict("x")["status"] == "success"


def test_processes_that_the_model_spawns_can_import_its_modules(start_server):
    model = MODEL.replace(
        "did=i.do",
        "did=str(__import__('multiprocessing').get_context('spawn').Pool(1).map(batcher_name, [1])[0])",
    )
    model += "\ndef batcher_name(_):\n    return batcher.run['wrong'](0)[0]\n"
    with start_server(model=model) as server:
        assert server.predict("x")["outputs"][0]["did"] == "a string"


@pytest.mark.parametrize(
    ("do", "reason"), [("die 9", "exit status 9"), ("kill", "signal 9"), ("die 0", "exit status 0")]
)
def test_the_death_of_the_model_process_fails_what_ran_and_is_survived(server, do, reason):
    pid = server.wait_ready().model_pid()
    assert failure(server, do) == f"The model process died ({reason}) during predict"
    assert server.predict("x")["status"] == "success"
    assert server.model_pid() != pid


def test_a_death_is_noticed_while_a_grandchild_lives(server, gate):
    # It holds the other end of the socket, and blocks until the test opens the FIFO, which it never does.
    assert "exit status 7" in failure(server, f"fork {gate}")


def test_a_death_between_batches_is_noticed_at_once(server):
    pid = server.wait_ready().model_pid()
    os.kill(pid, 9)
    wait_until(lambda: server.model_pid() != pid, "a new model process")
    assert server.predict("x")["status"] == "success"


def test_inputs_that_wait_are_kept_when_the_model_process_dies(server, pool, gate):
    blocked = pool.submit(server.predict, f"block {gate}")
    with gate.open():
        waiting = [pool.submit(server.predict, "x", scale=scale) for scale in range(8)]
        server.get("/healthz")
        os.kill(server.model_pid(), 9)
        assert blocked.result()["status"] == "failed"
    assert [request.result()["status"] for request in waiting] == ["success"] * 8


def test_predict_above_its_time_is_killed_with_all_that_it_started(start_server, tmp_path):
    with start_server(PREDICTION_TIMEOUT="1") as server:
        message = failure(server, f"hang {tmp_path / 'pid'}")
        assert message.startswith("predict took longer than 1 seconds")
        assert message.endswith("Timeout")
        child = int((tmp_path / "pid").read_text())
        wait_until(lambda: not Path(f"/proc/{child}").exists(), "the end of the model's child")
        assert server.predict("x")["status"] == "success"


def test_a_spec_that_names_no_class_is_said_so(start_server):
    with start_server(spec={**SPEC, "class": "Nothing"}, ready=False) as server:
        server.wait_for_log("setup failed .*AttributeError: .*Nothing")
