"""Predictions that a program, the command line and `check` follow, of a real server in this Python."""

import asyncio
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.loopback import serving
from tests.server.conftest import Gate, running_server, wait_until
from tungstenkit import models
from tungstenkit.cli.run import show_text, text_of_stream
from tungstenkit.run.calls import EndedError
from tungstenkit.run.client import PredictionError
from tungstenkit.run.events import Event
from tungstenkit.sdk.errors import RunError
from tungstenkit.spec.read import read_spec
from tungstenkit.trial.check import try_model

pytestmark = pytest.mark.timeless("starts servers, which costs seconds, and reads no clock but to wait")

MODEL = """
from tungstenkit import BaseIO, define_model

class Input(BaseIO):
    do: str

class Output(BaseIO):
    text: str
    number: int = 0

@define_model(input=Input, output=Output, batch_size=4, examples=[{"do": "a b"}])
class Model:
    def predict(self, inputs):
        for step in range(max(len(one.do.split()) for one in inputs)):
            pieces = []
            for one in inputs:
                words = one.do.split()
                word = words[step] if step < len(words) else None
                if word and word.startswith("/"):
                    with open(word) as fifo:
                        fifo.read()
                    word = None
                if word == "raise":
                    raise ValueError("it")
                pieces.append(word and Output(text=word, number=step))
            yield pieces
        yield [{"text": ""} for _ in inputs]
"""
PLAIN = (
    MODEL[: MODEL.index("    def predict")]
    + """
    def predict(self, inputs):
        return [Output(text=one.do) for one in inputs]
"""
)


def served(tmp_path_factory, model):
    folder = tmp_path_factory.mktemp("read")
    (folder / "tungsten_model.py").write_text(model)
    spec = read_spec(folder)
    return spec, running_server(
        tmp_path_factory.mktemp("served"), model=model, spec=json.loads(spec.to_json())
    )


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    spec, running = served(tmp_path_factory, MODEL)
    with running as server:
        server.spec = spec
        yield server


@pytest.fixture
def model(server):
    with models.get(server.url) as model:
        yield model


def test_pieces_come_and_then_the_output(model, tmp_path):
    gate = Gate(tmp_path / "gate")
    stream = model.stream({"do": f"a {gate} b"})
    assert dict(next(stream)) == {"text": "a", "number": 0}
    with gate.open():
        pass
    assert [piece.text for piece in stream] == ["b", ""]
    assert dict(stream.result()) == {"text": "ab", "number": 2}


def test_the_result_alone_can_be_asked_for(model):
    assert model.stream({"do": "a b"}).result().text == "ab"


def test_what_fails_is_raised_after_the_pieces(model):
    stream = model.stream({"do": "a b raise"})
    pieces = []
    with pytest.raises(PredictionError, match="ValueError: it"):
        pieces.extend(piece.text for piece in stream)
    with pytest.raises(EndedError):
        stream.result()


def test_a_wrong_input_is_told_before_anything_is_sent(model):
    with pytest.raises(RunError, match="do"):
        model.stream({"do": 1})


def test_one_that_is_given_up_ends_on_the_server(server, model, tmp_path):
    gate = Gate(tmp_path / "gate")
    stream = model.stream({"do": f"a {gate}"})
    next(stream)
    ended = []

    def follow():
        with pytest.raises(EndedError):
            next(stream)
        ended.append(True)

    waiting = threading.Thread(target=follow)
    waiting.start()
    with gate.open():
        stream.close()
        waiting.join()
        assert ended
        wait_until(
            lambda: 'predictions_total{outcome="disconnected"} 0.0' not in server.get("/metrics").text,
            "its end",
        )
    assert model.predict({"do": "x"}).text == "x"


def test_asyncio(model):
    async def follow(text):
        stream = model.stream_async({"do": text})
        pieces = [piece.text async for piece in stream]
        return "".join(pieces), (await stream.result()).text

    async def all_of_them():
        return await asyncio.gather(*(follow(f"a{n} b c") for n in range(12)))

    assert asyncio.run(all_of_them()) == [(f"a{n}bc", f"a{n}bc") for n in range(12)]


def test_a_task_that_is_cancelled_gives_it_up(model, tmp_path):
    gate = Gate(tmp_path / "gate")

    async def follow():
        stream = model.stream_async({"do": f"a {gate}"})
        await anext(stream)
        task = asyncio.create_task(anext(stream))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(follow())
    # It was interrupted at the gate, which nobody has opened.
    assert model.predict({"do": "x"}).text == "x"


def test_a_model_without_a_stream_gives_its_output_once(tmp_path_factory):
    _, running = served(tmp_path_factory, PLAIN)
    with running as server, models.get(server.url) as model:
        stream = model.stream({"do": "a"})
        assert [dict(piece) for piece in stream] == [{"text": "a", "number": 0}]
        assert stream.result().text == "a"


def test_a_check_follows_one_prediction(server):
    trials, _ = try_model(server.spec, server.url, server.log_file, seed=0, timeout=60, said=lambda _: None)
    (trial,) = [one for one in trials if one.kind == "stream"]
    assert (trial.ok, trial.problem, trial.note) == (True, None, None)


WRONG = MODEL.replace("yield pieces", "yield pieces[:1]")
NONE = (
    MODEL.replace("yield pieces", "yield [None for _ in inputs]")
    .replace("text: str\n    number", "text: str = ''\n    number")
    .replace('{"text": ""} for _', "None for _")
)


@pytest.mark.parametrize(
    ("model", "kind", "told"),
    [
        (WRONG, "batch", "predict yielded 1 pieces for 4 inputs"),
        (NONE, "stream", "predict yields, and no piece came before the output"),
    ],
)
def test_a_check_tells(tmp_path_factory, model, kind, told):
    spec, running = served(tmp_path_factory, model)
    with running as server:
        trials, _ = try_model(spec, server.url, server.log_file, seed=0, timeout=60, said=lambda _: None)
    said = [f"{one.problem} {one.note} {one.log}" for one in trials if one.kind == kind]
    assert said
    assert told in said[0]


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"event: piece\ndata: 1\n\n",
        b'event: piece\ndata: {"output": 1}\n\n',
        b"event: prediction\ndata: {}\n\n",
        b'event: prediction\ndata: {"status": "success", "outputs": []}\n\n',
        b"event: piece\ndata: {\n\n",
        b"data: " + b"[" * 100_000 + b"\n\n",
        b"data: " + b"1" * 5000 + b"\n\n",
    ],
)
def test_whoever_answers_may_say_anything(said):
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.answer("application/json", b'{"name": "x", "input_schema": {}, "output_schema": {}}')

        def do_POST(self):
            self.answer("text/event-stream", said)

        def answer(self, kind, body):
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    with (
        serving(server),
        models.get(f"http://127.0.0.1:{server.server_port}") as model,
        pytest.raises(RunError),
    ):
        list(model.stream({}))


class TestCommandLine:
    SCHEMA = {  # noqa: RUF012
        "properties": {
            "tags": {"type": "array", "x-fold": "concatenate"},
            "text": {"type": "string", "x-fold": "concatenate"},
        }
    }

    def test_the_text_is_the_first_that_grows(self):
        metadata = {"stream": True, "output_schema": self.SCHEMA}
        assert text_of_stream(metadata, asked=True) == "text"
        assert text_of_stream(metadata, asked=False) is None
        assert text_of_stream(metadata, asked=None) is None  # no terminal
        assert text_of_stream({"output_schema": self.SCHEMA}, asked=True) is None

    def test_text_is_printed_as_it_comes_and_nothing_but_text(self, capsys):
        said = []

        def events():
            yield Event("piece", {"index": 0, "output": {"text": "a\x1b[2J\n"}})
            said.append(capsys.readouterr().out)
            yield Event("piece", {"index": 0, "output": {"tags": []}})
            yield Event("prediction", {"outputs": [{}]})

        assert show_text(events(), "text") == {"outputs": [{}]}
        assert said == ["a [2J\n"]
        assert capsys.readouterr().out == "\n"
