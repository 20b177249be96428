"""How answers are judged, what is compared in batches, and whose memory counts."""

import contextlib
import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.loopback import serving
from tungstenkit import BaseIO, Field, Image, Option
from tungstenkit.cli.tables import check_lines
from tungstenkit.sdk.errors import RunError
from tungstenkit.sdk.schema import json_schema
from tungstenkit.spec.document import ModelSpec
from tungstenkit.trial.check import PeakMemory, Report, Trial, save_trials, shortened, try_model


class Input(BaseIO):
    text: str = Field(max_length=10)
    picture: Image
    mode: str = Option("a", choices=["a", "b"])


class Output(BaseIO):
    text: str


def make_spec(**changes):
    return ModelSpec(
        name="m",
        module="m",
        class_name="M",
        batch_size=4,
        gpu=False,
        gpu_mem_gb=1,
        mem_gb=1,
        cuda_version=None,
        python_version=None,
        python_packages=[],
        system_packages=[],
        dockerfile_commands=[],
        base_image=None,
        include_files=[],
        exclude_files=[],
        has_setup=False,
        has_post_build=False,
        has_predict_demo=False,
        input_schema=json_schema(Input),
        output_schema=json_schema(Output),
        demo_output_schema=None,
    ).model_copy(update=changes)


def success(outputs):
    return 200, {"outputs": outputs, "status": "success", "error_message": None}


def failure(reason):
    return 200, {"outputs": None, "status": "failed", "error_message": reason}


REFUSED = 422, {"detail": []}


def is_valid(one):
    return (
        isinstance(one, dict)
        and isinstance(one.get("text"), str)
        and len(one["text"]) <= 10
        and str(one.get("picture")).startswith("data:")
        and "@" not in one["picture"]
        and one.get("mode", "a") in ("a", "b")
    )


@pytest.fixture
def trials(tmp_path):
    """Tries a model that answers valid inputs as `answer(inputs, log)` says; the trials by kind and what."""
    log = tmp_path / "log"
    log.touch()

    def run(
        answer=lambda inputs, log: success([{"text": one["text"]} for one in inputs]),
        refuse=True,
        demos=(),
        **changes,
    ):
        answers = iter(demos)

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                inputs = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                refused = refuse and not all(map(is_valid, inputs))
                status, body = REFUSED if refused else answer(inputs, log)
                if self.path == "/demo":
                    status, body = 200, {"demo_id": "7"}
                self.send(status, body)

            def do_GET(self):
                assert self.path == "/demo/7"
                self.send(*next(answers))

            def send(self, status, body):
                content = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_):
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        servers.enter_context(serving(server))
        url = f"http://127.0.0.1:{server.server_port}"
        found, gaps = try_model(make_spec(**changes), url, log, seed=0, timeout=5, said=lambda _: None)
        assert gaps == []
        return {(trial.kind, trial.what): trial for trial in found}

    with contextlib.ExitStack() as servers:
        yield run


def failed(found):
    return {what for (_, what), trial in found.items() if not trial.ok}


def test_a_model_that_takes_what_is_valid_and_no_more_passes(trials):
    found = trials()
    assert failed(found) == set()
    assert {kind for kind, _ in found} == {"valid", "invalid", "broken", "batch"}
    assert not any(trial.note for trial in found.values())


def test_a_failed_prediction_is_told_with_its_input_and_what_the_model_said(trials):
    def answer(inputs, log):
        if inputs[0].get("mode") == "b":
            with log.open("a") as file:
                file.write(
                    "NOW ERROR tungsten.worker: [raised] batch failed\nTraceback\n"
                    '  File "/opt/tungsten/server/x.py", line 1, in f\n    ours()\n'
                    '  File "/app/m.py", line 2, in g\n    theirs()\nValueError: no\n'
                )
            return failure("ValueError: no")
        return success([{"text": one["text"]} for one in inputs])

    found = trials(answer)
    trial = found["valid", 'mode: the choice "b"']
    assert (trial.ok, trial.problem) == (False, "ValueError: no")
    assert trial.inputs[0]["mode"] == "b"
    assert "theirs()" in trial.log
    assert "ours()" not in trial.log
    assert not any("ours" in trial.log for trial in found.values())


def test_a_module_that_is_missing_at_the_first_call_is_told_with_its_package(trials):
    found = trials(lambda inputs, log: failure("ModuleNotFoundError: No module named 'cv2'"))
    assert found["valid", "required fields alone"].problem == (
        "ModuleNotFoundError: No module named 'cv2'; add 'opencv-python-headless' to python_packages, and run "
        "`tungsten lock`"
    )


def test_predict_demo_is_tried_once_with_an_input_that_succeeds(trials):
    waiting = 200, {"outputs": None, "status": "running", "error_message": None}
    found = trials(has_predict_demo=True, demos=[waiting, failure("AttributeError: coeff_")])
    (demo,) = [trial for trial in found.values() if trial.kind == "demo"]
    assert (demo.what, demo.ok, demo.problem) == ("required fields alone", False, "AttributeError: coeff_")
    found = trials(has_predict_demo=True, demos=[success([{"text": "a"}])])
    assert found["demo", "required fields alone"].ok
    assert failed(found) == set()


def test_what_the_class_itself_refuses_is_no_failure(trials):
    def answer(inputs, log):
        if any(len(one["text"]) > 5 for one in inputs):
            with log.open("a") as file:
                file.write("NOW ERROR tungsten.worker: [input-refused] too long: ValidationError\n")
            return failure("ValidationError: too long")
        return success([{"text": one["text"]} for one in inputs])

    found = trials(answer)
    assert failed(found) == set()
    # The fields that are not varied are those of an input that it takes.
    assert all(
        len(trial.inputs[0]["text"]) <= 5
        for (_, what), trial in found.items()
        if what.startswith("picture: grey")
    )
    assert any("own validators" in (trial.note or "") for trial in found.values())


def test_what_is_invalid_and_succeeds_is_a_failure(trials):
    found = trials(lambda inputs, log: success([{"text": ""} for _ in inputs]), refuse=False)
    assert failed(found) == {what for kind, what in found if kind == "invalid"}


def test_the_models_own_examples_come_first(trials):
    example = {"text": "mine", "picture": "data:image/png;base64,AAAA"}
    found = trials(examples=[example])
    assert next(iter(found)) == ("example", "examples[0]")
    assert found["valid", 'mode: the choice "b"'].inputs == [{**example, "mode": "b"}]


def test_a_wrong_number_of_outputs_in_a_batch_is_a_failure(trials):
    found = trials(lambda inputs, log: success([{"text": "always"}]))
    (trial,) = (trial for (kind, _), trial in found.items() if kind == "batch")
    assert trial.problem == "1 outputs for 4 inputs"


def test_an_output_that_depends_on_its_batch_is_noted(trials):
    found = trials(lambda inputs, log: success([{"text": str(len(inputs))} for _ in inputs]))
    (trial,) = (trial for (kind, _), trial in found.items() if kind == "batch")
    assert trial.ok
    assert 'text is "1" alone and "4" together' in trial.note


def test_rounding_is_no_difference(trials):
    found = trials(
        lambda inputs, log: success([{"text": "x", "score": 0.5 + len(inputs) * 1e-6} for _ in inputs])
    )
    assert not any(trial.note for trial in found.values())


def test_of_a_model_that_is_never_twice_the_same_batches_are_not_compared(trials):
    count = iter(range(10000))
    found = trials(lambda inputs, log: success([{"text": str(next(count))} for _ in inputs]))
    (trial,) = (trial for (kind, _), trial in found.items() if kind == "batch")
    assert trial.ok
    assert "another output each time" in trial.note


def test_a_model_without_batches_is_sent_none(trials):
    assert not any(kind == "batch" for kind, _ in trials(batch_size=1))


def test_a_server_that_is_gone_is_told_with_the_input(tmp_path):
    (tmp_path / "log").write_text("")
    with pytest.raises(RunError, match="does not answer any more") as caught:
        try_model(make_spec(), "http://127.0.0.1:1", tmp_path / "log", seed=0, timeout=1, said=lambda _: None)
    assert "required fields alone" in caught.value.where


def report(*trials, peak=10):
    return Report("m", 0, 1.0, peak, 1, list(trials), [])


GOOD = Trial("valid", "usual values", True, 0.1, inputs=[{"a": 1}], output=[{"text": "x"}])
BAD = Trial(
    "valid",
    "text: empty",
    False,
    0.3,
    "IndexError: [bold]",
    inputs=[{"picture": "data:" + "A" * 1000}],
    log="[/]",
)


def test_more_memory_than_is_declared_is_a_failure():
    assert report(GOOD).ok
    assert not report(GOOD, peak=1_000_000_001).ok
    assert report(GOOD, peak=None).ok


def test_a_model_that_nothing_could_be_sent_to_is_not_called_good():
    untried = report(Trial("invalid", "the whole input: null", True, 0.1))
    assert not untried.ok
    assert any("examples=[…]" in line for line in check_lines(untried) if isinstance(line, str))
    assert report(Trial("example", "examples[0]", True, 0.1)).ok


def test_a_report_is_json_without_the_files():
    document = report(GOOD, BAD).to_json()
    assert document["ok"] is False
    assert len(json.dumps(document)) < 2000


def test_people_read_failures_that_are_alike_once():
    lines = [line for line in check_lines(report(GOOD, BAD, BAD)) if isinstance(line, str)]
    (line,) = (line for line in lines if "failed" in line)
    assert "text: empty and 1 more" in line
    assert "\\[bold]" in line  # not rich's markup


def test_what_was_sent_and_came_back_is_kept(tmp_path):
    save_trials([GOOD, BAD], make_spec(), tmp_path / "results")
    assert json.loads((tmp_path / "results" / "000-valid" / "output.json").read_text()) == [{"text": "x"}]
    assert json.loads((tmp_path / "results" / "001-valid" / "input.json").read_text()) == BAD.inputs


def test_only_files_are_shortened():
    assert shortened({"a": ["data:" + "A" * 100, "text " * 100]})["a"][1] == "text " * 100


class TestPeakMemory:
    @pytest.fixture
    def proc(self, tmp_path):
        def process(pid, parent, pss):
            (tmp_path / str(pid)).mkdir(exist_ok=True)
            (tmp_path / str(pid) / "stat").write_text(f"{pid} (a ) name) S {parent} 0 0\n")
            (tmp_path / str(pid) / "smaps_rollup").write_text(f"00 rollup\nRss: 9999 kB\nPss: {pss} kB\n")

        process.folder = tmp_path
        return process

    def test_all_that_a_process_started_counts_and_nothing_else(self, proc):
        for pid, parent, pss in ((5, 1, 100), (6, 5, 20), (7, 6, 3), (8, 1, 5000)):
            proc(pid, parent, pss)
        memory = PeakMemory(5, proc.folder)
        memory.look()
        assert memory.bytes == 123 * 1024

    def test_the_most_at_a_time_is_kept(self, proc):
        memory = PeakMemory(5, proc.folder)
        for pss in (100, 900, 200):
            proc(5, 1, pss)
            memory.look()
        assert memory.bytes == 900 * 1024

    def test_what_can_not_be_read_is_not_known(self, tmp_path):
        memory = PeakMemory(5, tmp_path)
        memory.look()
        assert memory.bytes is None
