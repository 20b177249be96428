"""What the user's code may do to the model process, as a client sees it."""

import mmap
import os
import re
import signal
import socket
import threading
from contextlib import nullcontext
from pathlib import Path

import pytest
from tungsten_server.worker import frames
from tungsten_server.worker.outputs import Answer, PerhapsMixed
from tungsten_server.worker.pipeline import Pipeline

from tests.server.conftest import DEADLINE, MODEL, SPEC, wait_until


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
        ("silent", "Silent"),
        ("liar", "RuntimeError: no class"),
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


def test_a_traceback_calls_what_is_refused_as_clients_know_it(server):
    failure(server, "none")
    server.wait_for_log(r"Traceback (.*\n)*InvalidOutput: predict returned 0 outputs for 1 inputs\n")


def test_the_traceback_is_in_the_log_whatever_became_of_stderr(start_server):
    closing = "def predict(self, inputs):\n        sys.stderr.close()\n        raise ValueError('unheard')"
    with start_server(model=MODEL.replace("def predict(self, inputs):", closing)) as server:
        pid = server.model_pid()
        assert failure(server, "x") == failure(server, "y") == "ValueError: unheard"
        assert server.model_pid() == pid
        server.wait_for_log(r"batch failed inputs=1: ValueError: unheard\nTraceback (.*\n)*.*in predict")


@pytest.mark.parametrize(("how", "status"), [("exits", "3"), ("raises", "1"), ("returns", "0")])
def test_a_forked_child_that_leaves_predict_ends_and_answers_nothing(server, how, status):
    pid = server.wait_ready().model_pid()
    assert server.predict(f"forked {how}")["outputs"][0]["did"] == status
    assert server.predict("x")["outputs"][0]["did"] == "x"
    assert server.model_pid() == pid


def test_a_forked_child_that_leaves_setup_ends(start_server):
    model = MODEL.replace('print("printed by setup")', "os.fork() or sys.exit(3)")
    with start_server(model=model) as server:
        assert server.predict("x")["status"] == "success"


def test_a_model_process_that_closes_files_not_its_own_is_replaced(server):
    assert failure(server, "close-files") == "The model process died (exit status 1) during predict"
    assert server.predict("x")["status"] == "success"


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


def test_an_address_in_an_output_is_that_address_and_is_not_fetched(start_server):
    model = MODEL.replace("did: str", "did: Image").replace("did=i.do", "did=Image.from_url(i.do)")
    schema = {
        "type": "object",
        "properties": {"did": {"type": "string", "format": "uri", "x-file-type": "image"}},
    }
    address = "http://nowhere.invalid/a.png?x=1"
    with start_server(model=model, spec={**SPEC, "output-schema": schema}) as server:
        for path in ("/predict", "/predict?files=links"):
            (output,) = server.post([{"do": address}], path).json()["outputs"]
            assert output["did"] == address


def test_integers_are_exact(start_server):
    model = MODEL.replace("did: str", "did: int").replace("did=i.do", "did=Whole()") + (
        "\nclass Whole:\n"
        "    def __index__(self):\n        return 2**63 - 1\n"
        "    def __float__(self):\n        return float(2**63 - 1)\n"
    )
    with start_server(model=model) as server:
        assert server.predict("x")["outputs"][0]["did"] == 2**63 - 1


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


def test_what_shares_no_batch_with_a_death_is_run_once_and_answered(start_server, pool, tmp_path):
    runs = tmp_path / "runs"
    model = MODEL.replace(
        "outputs = []", f"outputs = []; open({str(runs)!r}, 'a').write(inputs[0].do + chr(10))"
    )
    with start_server("--max-batch-size", "1", model=model) as server:
        todo = [f"n{number}" for number in range(40)]
        for place in range(0, 50, 5):
            todo.insert(place, "die 9")
        answers = list(pool.map(server.predict, todo))
    for do, answer in zip(todo, answers, strict=True):
        assert answer["status"] == ("failed" if do == "die 9" else "success")
    assert sorted(runs.read_text().split("\n")[:-1]) == sorted(todo)


def test_predict_above_its_time_is_killed_with_all_that_it_started(start_server, tmp_path):
    with start_server(PREDICTION_TIMEOUT="1") as server:
        message = failure(server, f"hang {tmp_path / 'pid'}")
        assert message.startswith("predict took longer than 1 seconds")
        assert message.endswith("Timeout")
        child = int((tmp_path / "pid").read_text())
        wait_until(lambda: not Path(f"/proc/{child}").exists(), "the end of the model's child")
        assert server.predict("x")["status"] == "success"


def test_who_waits_behind_a_call_that_hangs_is_not_to_blame(start_server, pool, tmp_path):
    with start_server("--max-batch-size", "1", PREDICTION_TIMEOUT="1") as server:
        hanging = [pool.submit(server.predict, f"hang {tmp_path / name}") for name in ("a", "b")]
        wait_until(lambda: (tmp_path / "a").exists() or (tmp_path / "b").exists(), "the call")
        others = [pool.submit(server.predict, "x") for _ in range(4)]
        messages = [one.result()["error_message"] for one in hanging]
        assert all(message.startswith("predict took longer than 1 seconds") for message in messages)
        assert [one.result()["status"] for one in others] == ["success"] * 4


def test_a_spec_that_names_no_class_is_said_so(start_server):
    with start_server(spec={**SPEC, "class": "Nothing"}, ready=False) as server:
        server.wait_for_log("setup failed .*AttributeError: .*Nothing")


class TestPipeline:
    """The order in which batches go through, with a model that does what the test says."""

    @pytest.fixture(autouse=True)
    def pipeline(self):
        self.server, theirs = socket.socketpair()
        before = signal.getsignal(signal.SIGUSR1)
        memory = os.memfd_create("running")
        os.ftruncate(memory, frames.DOING.size)
        self.memory = mmap.mmap(memory, frames.DOING.size)
        self.calls = []
        self.steps = []
        self.unwritten = {}
        with self.server, theirs:
            self.theirs = theirs
            self.pipeline = Pipeline(theirs, self, memory)
            yield
        signal.signal(signal.SIGUSR1, before)

    temporary_files = staticmethod(nullcontext)
    computes = False

    def yields(self, *, demo):
        return False

    def parse(self, data):
        return data.decode()

    def write(self, answer):
        if isinstance(answer, Answer):
            return answer
        answer()
        return Answer(True, b"written")

    def predict(self, inputs, keys, around):
        assert keys == [hash(one.encode()) for one in inputs]
        self.calls.append(inputs)
        with around:
            if self.steps:
                self.steps.pop(0)()
            if "bad" in inputs:
                raise ValueError("bad")
            if "mixed" in inputs and len(inputs) > 1:
                raise PerhapsMixed
        return [self.unwritten.pop(one, Answer(True, one.encode())) for one in inputs]

    def send(self, *messages):
        self.server.sendall(b"".join(frames.encode(kind, parts) for kind, parts in messages))

    def answers(self):
        """Run what was sent to its end; return the lists of answers, failures without their reasons."""
        return [found for _, _, found in self.placed_answers()]

    def placed_answers(self):
        """The same with each batch's number and the place of the first input."""
        self.pipeline.run()
        self.theirs.shutdown(socket.SHUT_WR)
        decoder, lists = frames.Decoder(), []
        while data := self.server.recv(decoder.wanted):
            for kind, (head, *parts) in decoder.feed(data):
                assert kind == frames.ANSWERS
                number, (place, *statuses) = frames.read_numbers(head)
                pairs = zip(statuses, parts[::2], strict=True)
                found = [part.decode() if status == frames.SUCCEEDED else None for status, part in pairs]
                lists.append((number, place, found))
        return lists

    def run(self, number, owners, *inputs):
        return frames.RUN, [frames.numbers(number, owners), *inputs]

    def cancel(self, number, *places):
        return frames.CANCEL, [frames.numbers(number, places)]

    def end(self):
        self.server.shutdown(socket.SHUT_WR)

    def test_batches_are_answered_in_order(self):
        self.send(*[self.run(n, [0], b"%d" % n) for n in range(1, 9)])
        self.end()
        assert self.answers() == [[str(n)] for n in range(1, 9)]

    def test_what_fails_is_run_again_request_by_request(self):
        self.send(self.run(1, [0, 0, 1, 2, 2], b"a", b"bad", b"b", b"c", b"d"))
        self.end()
        assert self.answers() == [[None, None], ["b"], ["c", "d"]]
        assert self.calls == [["a", "bad", "b", "c", "d"], ["a", "bad"], ["b"], ["c", "d"]]

    def test_each_failure_is_logged_with_its_own_traceback_alone(self, capfd):
        self.send(self.run(1, [0, 1], b"a", b"bad"))
        self.end()
        self.answers()
        log = capfd.readouterr().err
        assert re.findall(r"(batch|request) failed inputs=(\d)", log) == [("batch", "2"), ("request", "1")]
        assert log.count("Traceback") == 2

    def test_a_request_that_had_its_batch_for_itself_is_not_run_again(self):
        self.send(self.run(1, [0, 0], b"a", b"bad"), self.run(2, [0], b"b"))
        self.end()
        assert self.answers() == [[None, None], ["b"]]
        assert self.calls == [["a", "bad"], ["b"]]

    def test_inputs_canceled_before_their_turn_are_not_run(self):
        def wait():
            wait_until(lambda: (b := self.pipeline._batches.get(3)) and b.canceled, "the end of the reading")

        self.steps.append(wait)
        self.send(self.run(1, [0], b"a"), self.run(2, [0, 1], b"b", b"c"), self.run(3, [0, 0], b"d", b"e"))
        self.send(self.cancel(2, 0), self.cancel(3, 0, 1), self.run(4, [0], b"f"))
        self.end()
        assert self.answers() == [["a"], [None, "c"], [None, None], ["f"]]
        assert self.calls == [["a"], ["c"], ["f"]]

    def test_a_batch_that_is_canceled_while_it_runs_is_interrupted_and_no_other(self):
        def block():
            try:
                self.send(self.cancel(1, 0, 1))
                threading.Event().wait(DEADLINE)
            finally:
                self.end()

        self.steps.append(block)
        self.send(self.run(1, [0, 0], b"a", b"b"), self.run(2, [0], b"c"))
        assert self.answers() == [[None, None], ["c"]]
        assert self.calls == [["a", "b"], ["c"]]

    def doing(self):
        return frames.DOING.unpack_from(self.memory)

    def test_the_memory_says_what_is_in_predict(self):
        seen = []
        self.steps += [lambda: seen.append(self.doing()[1])] * 2
        self.send(self.run(1, [0], b"a"), self.run(7, [0], b"bad"))
        self.end()
        self.answers()
        assert (seen, self.doing()) == ([1, 7], (0, 0, 0))

    def test_the_memory_says_what_is_read_and_what_is_written(self, monkeypatch):
        seen = []
        parse = self.parse
        monkeypatch.setattr(self, "parse", lambda data: seen.append(self.doing()[0]) or parse(data))
        self.unwritten["a"] = lambda: seen.append(self.doing()[2])
        self.send(self.run(3, [0], b"a"))
        self.end()
        assert self.answers() == [["written"]]
        assert (seen, self.doing()) == ([3, 3], (0, 0, 0))

    def test_what_may_be_mixed_is_run_input_by_input(self):
        self.send(
            self.run(1, [0, 0, 1], b"a", b"mixed", b"bad"), self.run(2, [0, 1, 1], b"b", b"mixed", b"c")
        )
        self.end()
        assert self.placed_answers() == [
            *[(1, 0, ["a"]), (1, 1, ["mixed"]), (1, 2, [None])],
            *[(2, 0, ["b"]), (2, 1, ["mixed"]), (2, 2, ["c"])],
        ]
        assert self.calls == [
            *[["a", "mixed", "bad"], ["a", "mixed"], ["a"], ["mixed"], ["bad"]],
            *[["b", "mixed", "c"], ["b"], ["mixed"], ["c"]],
        ]

    def test_where_outputs_are_computed_inputs_that_differ_are_run_one_by_one_from_the_first(self):
        self.computes = True
        self.send(self.run(1, [0, 0, 1], b"a", b"b", b"a"), self.run(2, [0, 1], b"c", b"c"))
        self.end()
        self.placed_answers()
        assert self.calls == [["a"], ["b"], ["a"], ["c", "c"]]

    def test_what_has_no_files_is_sent_before_the_next_call_and_what_has_them_when_they_are_written(self):
        writing = threading.Event()
        self.unwritten["file"] = lambda: writing.wait(DEADLINE)
        seen = []

        def receive():
            self.server.settimeout(DEADLINE)
            ((_, (head, *_)),) = frames.Decoder().feed(self.server.recv(65536))
            seen.append(frames.read_numbers(head))
            writing.set()

        self.steps += [lambda: None, lambda: None, receive]
        self.send(self.run(1, [0], b"file"), self.run(2, [0], b"a"), self.run(3, [0], b"b"))
        self.end()
        assert sorted(self.placed_answers()) == [(1, 0, ["written"]), (3, 0, ["b"])]
        assert seen == [(2, [0, frames.SUCCEEDED])]


def test_a_demo_s_log_has_nothing_of_other_batches(start_server, gate):
    model = MODEL.replace("outputs = []", "outputs = []; print('ran', [i.do for i in inputs])")
    with start_server(model=model) as server:
        blocked = server.begin(f"block {gate}", path="/demo")
        with gate.open():
            others = [server.begin(*"abcd"), server.begin("e", path="/demo"), server.begin(*"fghi")]
        for path in (blocked, *others):
            assert server.ended(path)["status"] == "success"
        assert server.get(others[1]).json()["logs"] == "ran ['e']\n"


def test_what_setup_sets_for_its_context_is_there_in_predict(start_server):
    model = MODEL.replace("def setup(self):", "def setup(self):\n        decimal.getcontext().prec = 3")
    model = model.replace("did=i.do", "did=str(decimal.Decimal(1) / 3)").replace(
        "import os,", "import decimal, os,"
    )
    with start_server(model=model) as server:
        assert server.predict("x")["outputs"][0]["did"] == "0.333"
