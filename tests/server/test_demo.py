"""The demo's part of the API: outputs for people, and what the model prints."""

import pytest
import requests

from tests.server.conftest import DEADLINE, MODEL, SPEC, wait_until

DEMO_MODEL = (
    MODEL.replace(
        "@define_model(input=Input, output=Output,",
        "class DemoOutput(BaseIO):\n    shown: str\n\n"
        "@define_model(input=Input, output=Output, demo_output=DemoOutput,",
    )
    + """
    def predict_demo(self, inputs):
        returns = {
            "nothing": None,
            "empty": (),
            "single": ([],),
            "no list": (5, []),
            "demo no list": ([{"did": "x", "batch": [], "scales": []}], 5),
            "demo count": ([{"did": "x", "batch": [], "scales": []}], []),
            "demo type": ([{"did": "x", "batch": [], "scales": []}], ["text"]),
            "demo invalid": ([{"did": "x", "batch": [], "scales": []}], [{}]),
            "demo none": ([{"did": "x", "batch": [], "scales": []}] * len(inputs), [None] * len(inputs)),
        }
        if inputs[0].do in returns:
            return returns[inputs[0].do]
        if inputs[0].do == "print":
            print("by Python")
            print("half\\r", end="")
            sys.stderr.write("to stderr\\n")
            os.write(1, b"by C\\n")
            subprocess.run(["echo", "by a child"])
        outputs = self.predict(inputs)
        return outputs, [DemoOutput(shown=f"shown {one.do}") for one in inputs], "ignored"
"""
)
SHOWN = {"type": "object", "properties": {"shown": {"type": "string"}}, "required": ["shown"]}


@pytest.fixture(scope="module")
def demo_server(tmp_path_factory):
    from tests.server.conftest import running_server

    spec = {**SPEC, "demo-output-schema": SHOWN}
    with running_server(tmp_path_factory.mktemp("demo"), model=DEMO_MODEL, spec=spec) as server:
        yield server


def demo(server, *todo, **options):
    return server.ended(server.begin(*todo, path="/demo", **options))


def test_it_has_outputs_demo_outputs_and_logs(demo_server):
    response = demo_server.post([{"do": "a"}, {"do": "b"}], "/demo")
    assert list(response.json()) == ["demo_id"]
    ended = demo(demo_server, "a", "b")
    assert [output["did"] for output in ended.pop("outputs")] == ["a", "b"]
    assert ended == {
        "status": "success",
        "error_message": None,
        "demo_outputs": [{"shown": "shown a"}, {"shown": "shown b"}],
        "logs": "",
    }


def test_without_predict_demo_the_outputs_are_shown(server):
    ended = demo(server, "a")
    assert ended["demo_outputs"] == ended["outputs"]
    assert ended["outputs"][0]["did"] == "a"


def test_what_every_part_of_the_model_prints_is_in_the_logs_and_on_the_container_s(demo_server):
    expected = "by Python\nhalf\rto stderr\nby C\nby a child\n"
    assert demo(demo_server, "print")["logs"] == expected
    demo_server.wait_for_log("by a child")


def test_logs_are_shown_while_it_runs(start_server, gate):
    model = MODEL.replace("word, _, arg", 'print("50 %", end="\\r"); word, _, arg')
    with start_server(model=model) as server:
        path = server.begin(f"block {gate}", path="/demo")
        with gate.open():
            state = wait_until(lambda: (s := server.get(path).json())["logs"] and s, "logs")
            assert (state["status"], state["logs"], state["demo_outputs"]) == ("running", "50 %\r", None)
        assert server.ended(path)["logs"] == "50 %\r"


def test_a_flood_of_logs_is_bounded(start_server):
    model = MODEL.replace("word, _, arg", 'print("x" * 1_000_000 + "end"); word, _, arg')
    with start_server(model=model) as server:
        logs = demo(server, "a")["logs"]
        assert logs.endswith("xend\n")
        assert len(logs) < 300_000


def test_a_demo_s_batch_has_its_own_inputs_only(demo_server, gate):
    blocked = demo_server.begin(f"block {gate}")
    with gate.open():
        paths = [
            demo_server.begin("one", path="/demo"),
            demo_server.begin("normal"),
            demo_server.begin("two", "three", path="/demo"),
            demo_server.begin("normal"),
        ]
    demo_server.ended(blocked)
    batches = [[o["batch"] for o in demo_server.ended(path)["outputs"]] for path in paths]
    assert batches == [[["one"]], [["normal"] * 2], [["two", "three"]] * 2, [["normal"] * 2]]


@pytest.mark.parametrize(
    ("do", "message"),
    [
        ("nothing", "InvalidOutput: predict_demo returned an object of type NoneType, not a pair"),
        ("empty", "InvalidOutput: predict_demo returned a tuple with no element, not a pair"),
        ("single", "InvalidOutput: predict_demo returned a tuple with only 1 element, not a pair"),
        ("no list", "InvalidOutput: predict_demo returned outputs of type int, not a list"),
        ("demo no list", "InvalidDemoOutput: predict_demo returned demo outputs of type int, not a list"),
        ("demo count", "InvalidDemoOutput: predict_demo returned 0 demo outputs for 1 inputs"),
        ("demo type", "InvalidDemoOutput: predict_demo returned a demo output of type str, not DemoOutput"),
        ("demo invalid", "ValidationError: shown: Field required"),
        ("raise it", "ValueError: it"),
        ("sys.exit", "SystemExit: bye"),
    ],
)
def test_what_goes_wrong_is_said_without_a_traceback(demo_server, do, message):
    ended = demo(demo_server, do)
    assert (ended["status"], ended["outputs"], ended["demo_outputs"]) == ("failed", None, None)
    assert ended["error_message"].startswith(message)
    assert "Traceback" not in ended["logs"]
    assert demo(demo_server, "a")["status"] == "success"


def test_a_demo_output_may_be_none(demo_server):
    ended = demo(demo_server, "demo none")
    assert ended["status"] == "success"
    assert ended["demo_outputs"] is None
    assert len(ended["outputs"]) == 1


def test_the_two_namespaces_share_their_ids(demo_server):
    demo_id = demo_server.begin("a", path="/demo").rpartition("/")[2]
    prediction_id = demo_server.begin("a").rpartition("/")[2]
    assert set(demo_server.ended(f"/predictions/{demo_id}")) == {"outputs", "status", "error_message"}
    ended = demo_server.ended(f"/demo/{prediction_id}")
    assert (ended["status"], ended["demo_outputs"], ended["logs"]) == ("success", None, None)


def test_it_can_be_cancelled_and_the_next_one_has_logs_of_its_own(demo_server, gate):
    path = demo_server.begin(f"block {gate}", path="/demo")
    with gate.open():
        demo_server.cancel(path)
        assert demo_server.ended(path)["error_message"] == "Canceled"
        assert demo(demo_server, "print")["logs"].count("by C") == 1


def test_a_child_left_behind_does_not_write_into_another_s_logs(start_server, gate):
    model = MODEL.replace(
        "word, _, arg",
        f'i.do == "leave" and subprocess.Popen(["sh", "-c", "cat {gate}; echo late"]); word, _, arg',
    )
    with start_server(model=model) as server:
        assert demo(server, "leave")["logs"] == ""
        gate.open().close()
        server.wait_for_log("late")
        assert demo(server, "a")["logs"] == ""


def test_logs_of_several_batches_follow_each_other(start_server):
    model = MODEL.replace("word, _, arg", "print(i.do); word, _, arg")
    with start_server(model=model) as server:
        assert demo(server, *"abcdef")["logs"] == "a\nb\nc\nd\ne\nf\n"


def test_get_demo_cancel_of_an_unknown_id_is_404(demo_server):
    response = requests.post(f"{demo_server.url}/demo/x/cancel", timeout=DEADLINE)
    assert (response.status_code, response.json()) == (404, {"detail": "x"})
