"""Predictions by the API, of a server that does what each test wants."""

import asyncio
import contextlib
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import PIL.Image
import pytest
from urllib3.connection import HTTPConnection

from tests.loopback import serving
from tungstenkit import BaseIO, Image, define_model, models
from tungstenkit.models import find
from tungstenkit.models import model as api
from tungstenkit.run.calls import Call, EndedError
from tungstenkit.run.client import AT_ONCE, Client
from tungstenkit.sdk.errors import RunError
from tungstenkit.sdk.schema import json_schema

PATIENCE = 30
"""Seconds that a test waits for what must come."""


class Input(BaseIO):
    text: str
    number: int = 0
    image: Image | None = None


class Found(BaseIO):
    label: str


class Result(BaseIO):
    text: str
    found: list[Found] = []  # noqa: RUF012
    image: Image | None = None


@define_model(input=Input, output=Result, demo_output=Found)
class Echo:
    def predict(self, inputs: list[Input]) -> list[Result]:
        raise NotImplementedError

    def predict_demo(self, inputs):
        raise NotImplementedError


PICTURE = Image.from_pil_image(PIL.Image.new("RGB", (3, 2)))
METADATA = {
    "name": "echo",
    "input_schema": json_schema(Input),
    "output_schema": json_schema(Result),
    "demo_output_schema": json_schema(Found),
}


class Fake(ThreadingHTTPServer):
    """Answers each list of inputs by a function of the test's."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.lock = threading.Lock()
        self.connections = 0
        self.requests = []
        self.gone = threading.Event()
        self.answer = lambda inputs, _: [{"text": one["text"]} for one in inputs]

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"

    def get_request(self):
        self.connections += 1
        return super().get_request()

    def handle_error(self, *_):
        """A client that has gone is no error."""


class BusyError(Exception):
    pass


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_):
        pass

    def do_GET(self):
        if self.path == "/":
            self.send(200, METADATA)
        else:
            self.send(200, self.server.demo)

    def do_POST(self):
        inputs = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            self.server.requests.append(inputs)
        if self.path == "/demo":
            self.send(200, {"demo_id": "1"})
            return
        try:
            outputs = self.server.answer(inputs, self)
        except BusyError:
            self.send(503, {"detail": "full"}, {"Retry-After": "7"})
        except ValueError as error:
            failed = {"outputs": None, "status": "failed", "error_message": f"ValueError: {error}"}
            self.send(200, failed)
        else:
            self.send(200, {"outputs": outputs, "status": "success", "error_message": None})

    def send(self, status, document, headers=()):
        body = document if isinstance(document, bytes) else json.dumps(document).encode()
        self.send_response(status)
        for name, value in {**dict(headers), "Content-Length": len(body)}.items():
            self.send_header(name, value)
        self.end_headers()
        with contextlib.suppress(OSError):
            self.wfile.write(body)

    def wait_until_gone(self):
        """Answer nothing until the client has closed its connection."""
        assert self.connection.recv(1) == b""
        self.close_connection = True
        self.server.gone.set()


@pytest.fixture
def fake():
    with serving(Fake()) as server:
        yield server


@pytest.fixture
def model(fake):
    with models.get(fake.url) as one:
        yield one


def texts(count):
    return [{"text": str(number)} for number in range(count)]


def test_an_input_and_a_list_of_them(fake, model):
    assert model.predict({"text": "a"}).text == "a"
    assert [out.text for out in model.predict(texts(3))] == ["0", "1", "2"]
    assert model.predict([]) == []
    assert fake.requests == [[{"text": "a"}], texts(3)]
    assert (model.name, model.url) == ("echo", fake.url)
    assert model.input_schema["required"] == ["text"]
    assert "found" in model.output_schema["properties"]


def test_options_go_with_each_input(fake, model):
    model.predict([{"text": "a"}, Input(text="b", number=1)], options={"number": 3})
    assert [one["number"] for one in fake.requests[0]] == [3, 1]


def test_a_long_list_is_several_requests(fake, model):
    assert [out.text for out in model.predict(texts(AT_ONCE * 2 + 1))] == [
        one["text"] for one in texts(AT_ONCE * 2 + 1)
    ]
    assert sorted(map(len, fake.requests)) == [1, api._MOST_INPUTS, api._MOST_INPUTS]
    fake.requests.clear()
    big = {"text": "x" * (api._MOST_BYTES // 2)}
    assert len(asyncio.run(model.predict_async([big, {"text": ""}, big]))) == 3
    assert sorted(map(len, fake.requests)) == [1, 2]


def test_many_are_under_way_at_once_and_come_in_order(fake, model):
    together = threading.Barrier(AT_ONCE)
    later = [threading.Event() for _ in range(AT_ONCE + 1)]
    later[-1].set()

    def answer(inputs, _):
        together.wait(PATIENCE)
        number = int(inputs[0]["text"])
        assert later[number + 1].wait(PATIENCE)  # the last one is answered first
        later[number].set()
        return inputs

    fake.answer = answer
    assert [out.text for out in model.predict_many(texts(AT_ONCE))] == [one["text"] for one in texts(AT_ONCE)]


def test_no_more_are_taken_than_are_under_way(fake, model):
    taken = 0

    def endless():
        nonlocal taken
        while True:
            taken += 1
            yield {"text": str(taken)}

    outputs = model.predict_many(endless())
    assert [next(outputs).text for _ in range(3)] == ["1", "2", "3"]
    assert taken <= AT_ONCE + 3
    outputs.close()


def test_the_one_that_fails_is_raised_or_returned_in_its_place(fake, model):
    def answer(inputs, _):
        if inputs[0]["text"] == "1":
            raise ValueError("too dark")
        return inputs

    fake.answer = answer
    outputs = model.predict_many(texts(3))
    assert next(outputs).text == "0"
    with pytest.raises(models.PredictionError, match="the prediction failed: ValueError: too dark") as caught:
        next(outputs)
    assert caught.value.reason == "ValueError: too dark"
    first, failed, last = model.predict_many([*texts(2), {"txt": ""}], return_exceptions=True)
    assert (first.text, failed.reason) == ("0", "ValueError: too dark")
    assert isinstance(last, RunError)

    async def many():
        found = model.predict_many_async(texts(3), return_exceptions=True)
        return [one async for one in found]

    assert [getattr(one, "text", None) for one in asyncio.run(many())] == ["0", None, "2"]


def test_nothing_is_sent_of_an_input_that_is_wrong(fake, model):
    for wrong in ({"txt": "a"}, [{"text": "a"}, {"text": 1}]):
        with pytest.raises(RunError):
            model.predict(wrong)
    for wrong in ("text", 3, iter([{"text": "a"}])):
        with pytest.raises(RunError, match="an input is a dict, or an instance"):
            model.predict(wrong)
    with pytest.raises(RunError) as caught:
        model.predict([{"text": "a"}, {"text": 1}])
    assert caught.value.where == "input 1"
    assert fake.requests == []


def test_a_server_that_is_busy_is_asked_again_when_it_says(fake, monkeypatch):
    pauses = []
    monkeypatch.setattr(Call, "pause", lambda call, seconds: pauses.append(seconds))
    refusals = 3

    def answer(inputs, _):
        nonlocal refusals
        refusals -= 1
        if refusals >= 0:
            raise BusyError
        return inputs

    fake.answer = answer
    with models.get(fake.url) as model:
        assert model.predict({"text": "a"}).text == "a"
    assert pauses == [7, 7, 7]
    pauses.clear()
    refusals = 7
    ours = Client(fake.url, here=True, patience=60)
    assert ours.outputs(b'[{"text": "a"}]', Call()) == [{"text": "a"}]
    assert pauses == [0.25, 0.5, 1, 2, 4, 7, 7]


def test_one_that_stays_busy_is_told(fake, monkeypatch):
    monkeypatch.setattr(find, "BUSY_SECONDS", 6.0)

    def answer(inputs, _):
        raise BusyError

    fake.answer = answer
    with (
        models.get(fake.url) as model,
        pytest.raises(RunError, match="503 Service Unavailable: full") as caught,
    ):
        model.predict({"text": "a"})
    assert caught.value.hint == "try again in 7 s"


def test_threads_share_connections(fake, model):
    with ThreadPoolExecutor(16) as pool:
        outputs = list(pool.map(lambda one: model.predict(one).text, texts(160)))
    assert outputs == [one["text"] for one in texts(160)]
    assert fake.connections <= 16


def test_more_callers_than_connections_wait_for_one_another(fake, model):
    with ThreadPoolExecutor(AT_ONCE * 2) as pool:
        assert len(list(pool.map(model.predict, texts(AT_ONCE * 4)))) == AT_ONCE * 4
    assert fake.connections <= AT_ONCE


def test_the_event_loop_goes_on(fake, model):
    gate = threading.Event()

    def answer(inputs, _):
        assert gate.wait(PATIENCE)
        return inputs

    fake.answer = answer

    async def both():
        async def open_it():
            gate.set()

        *outputs, _ = await asyncio.gather(*map(model.predict_async, texts(100)), open_it())
        return [out.text for out in outputs]

    assert asyncio.run(both()) == [one["text"] for one in texts(100)]


def test_many_from_an_asynchronous_source(model):
    async def source():
        for one in texts(100):
            yield one

    async def many():
        return [out.text async for out in model.predict_many_async(source())]

    assert asyncio.run(many()) == [one["text"] for one in texts(100)]


def test_a_task_that_is_cancelled_gives_its_prediction_up(fake, model):
    asked = threading.Event()

    def answer(inputs, handler):
        if inputs[0]["text"] == "held":
            asked.set()
            handler.wait_until_gone()
        return inputs

    fake.answer = answer

    async def cancelled():
        task = asyncio.create_task(model.predict_async({"text": "held"}))
        await asyncio.to_thread(asked.wait, PATIENCE)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return await model.predict_async({"text": "next"})

    assert asyncio.run(cancelled()).text == "next"
    assert fake.gone.wait(PATIENCE)


def test_outputs_that_nobody_takes_are_given_up(fake, model):
    asked = threading.Event()

    def answer(inputs, handler):
        if inputs[0]["text"] == "1":
            asked.set()
            handler.wait_until_gone()
        return inputs

    fake.answer = answer
    outputs = model.predict_many(texts(2))
    assert next(outputs).text == "0"
    assert asked.wait(PATIENCE)
    outputs.close()
    assert fake.gone.wait(PATIENCE)


def test_a_call_that_has_ended_waits_for_nothing(fake):
    call = Call()
    call.end()
    with pytest.raises(EndedError):
        call.pause(PATIENCE)
    with pytest.raises(EndedError), call.under_way():
        pytest.fail("it went on")


def test_a_call_that_is_done_ends_no_other(fake, model):
    """Its connection is another's by now."""
    first = Call()
    client = model._serving.client
    client.outputs(b'[{"text": "a"}]', first)
    gate = threading.Event()

    def answer(inputs, _):
        first.end()
        gate.set()
        return inputs

    fake.answer = answer
    assert client.outputs(b'[{"text": "b"}]', Call()) == [{"text": "b"}]
    assert gate.is_set()
    assert fake.connections == 1


def test_outputs_are_of_the_models_own_class_where_it_is_given(fake):
    fake.answer = lambda inputs, _: [{"text": "a", "found": [{"label": "x"}], "image": PICTURE.uri}]
    with models.get(fake.url, model_class=Echo) as model:
        output = model.predict(Input(text="a"))
        assert isinstance(output, Result)
        assert output.found == [Found(label="x")]
        assert output.image == PICTURE
        fake.answer = lambda inputs, _: [{"found": [{"label": []}]}]
        with pytest.raises(RunError, match="the output is no Result") as caught:
            model.predict({"text": "a"})
    assert caught.value.what.splitlines()[1].startswith("text: Field required")
    assert caught.value.what.splitlines()[2].startswith("found.0.label: ")


@pytest.mark.parametrize("given", [{}, {"model_class": Echo}])
def test_files_of_outputs_are_saved_where_that_is_wished(fake, given, tmp_path):
    fake.answer = lambda inputs, _: [{"text": "a", "image": PICTURE.uri} for _ in inputs]
    with models.get(fake.url, **given) as model:
        first, second = model.predict(texts(2), tmp_path / "out")
        in_memory = model.predict({"text": "a"})
    assert first.image.path == str(tmp_path / "out" / "image.png")
    assert second.image.path == str(tmp_path / "out" / "image.1.png")
    assert first.image.to_bytes() == in_memory.image.to_bytes() == PICTURE.to_bytes()
    assert in_memory.image.save(tmp_path / "x.png").read_bytes() == PICTURE.to_bytes()


def test_threads_that_save_files_overwrite_none(fake, model, tmp_path):
    fake.answer = lambda inputs, _: [{"text": "a", "image": Image.from_bytes(inputs[0]["text"].encode()).uri}]
    outputs = list(model.predict_many(texts(40), output_file_dir=tmp_path))
    assert [out.image.to_bytes() for out in outputs] == [str(number).encode() for number in range(40)]
    assert len(list(tmp_path.iterdir())) == 40


def test_a_demo_has_both_outputs_and_what_was_printed(fake, model):
    fake.demo = {
        "status": "success",
        "outputs": [{"text": "a"}],
        "demo_outputs": [{"label": "x"}],
        "logs": "hello\n",
    }
    demo = model.predict_demo({"text": "a"})
    assert (demo.output.text, demo.demo_output.label, demo.logs) == ("a", "x", "hello\n")


def test_a_model_that_is_closed_is_told_as_that(fake):
    with models.get(fake.url) as model:
        model.predict({"text": "a"})
    model.close()
    for ask in (model.predict, lambda one: next(model.predict_many([one]))):
        with pytest.raises(RunError, match="the model is closed"):
            ask({"text": "a"})
    with pytest.raises(RunError, match="the model is closed"):
        asyncio.run(model.predict_async({"text": "a"}))


def test_a_server_that_is_not_there_may_come(fake):
    with serving(Fake()) as other:
        url = other.url
    model = models.get(url)
    for _ in range(2):
        with pytest.raises(RunError, match="can't be asked: Connection refused"):
            model.predict({"text": "a"})
    model.close()


def test_what_can_not_go_together_is_told():
    with pytest.raises(TypeError, match="unexpected keyword argument 'gpu'; did you mean gpus"):
        models.get("blur", gpu=True)
    with pytest.raises(RunError, match="leave batch_size, workers out"):
        models.get("http://127.0.0.1:1", batch_size=1, workers=2)
    with pytest.raises(RunError, match="leave engine out"):
        models.get(".", local=True, engine=False)
    with pytest.raises(RunError, match="Found is no model"):
        models.get("blur", model_class=Found)


def test_a_class_is_served_from_its_folder(tmp_path, monkeypatch):
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "__init__.py").write_text(
        "from tungstenkit import BaseIO, define_model\n"
        "class Io(BaseIO):\n    x: int\n"
        "@define_model(input=Io, output=Io)\nclass M:\n    def predict(self, inputs):\n        return inputs\n"
    )
    (tmp_path / "inner" / "module.py").write_text(
        "from inner import Io, define_model\n"
        + "".join((tmp_path / "inner" / "__init__.py").read_text().partition("@define_model")[1:])
    )
    monkeypatch.syspath_prepend(tmp_path)
    import inner.module  # type: ignore[import-not-found]

    for cls, name in ((inner.M, "inner"), (inner.module.M, "inner.module")):
        target = models.get(cls, local=True)._serving._target
        assert (target.name, target.module, target.class_name) == (str(tmp_path), name, "M")
    cls.__module__ = "__main__"
    with pytest.raises(RunError, match="the folder of M is not known"):
        models.get(cls)


def test_what_serve_takes_is_what_a_server_gets(monkeypatch):
    monkeypatch.setenv("TUNGSTEN_ENGINE_ARGS", "--always")
    monkeypatch.setenv("TUNGSTEN_TRUST", "1")
    model = models.get(
        "blur",
        batch_size=2,
        workers=3,
        setup_timeout=4.5,
        prediction_timeout=5,
        gpus=None,
        engine_args=["--x"],
    )
    serving = model._serving
    assert serving._flags == [
        *("--max-batch-size", "2", "--workers", "3", "--setup-timeout", "4.5", "--prediction-timeout", "5"),
    ]
    target = serving._target
    assert (target.gpus, list(target.engine_args), target.trust) == (None, ["--always", "--x"], True)
    assert repr(model) == "<tungstenkit model 'blur', not started>"


class TestStrangers:
    """What answers at a URL may be anything, and says anything."""

    @pytest.mark.parametrize(
        "metadata",
        [
            {"input_schema": {}},
            {**METADATA, "input_schema": [1]},
            {**METADATA, "output_schema": "none"},
            {**METADATA, "input_schema": {"type": "object", "properties": 7}},
            {**METADATA, "input_schema": {"$ref": "#/nowhere"}},
        ],
    )
    def test_what_describes_no_model(self, fake, metadata, monkeypatch):
        monkeypatch.setitem(globals(), "METADATA", metadata)
        with pytest.raises(RunError, match="describe"):
            models.get(fake.url).predict({"text": "a"})

    @pytest.mark.parametrize(
        "answer",
        [
            [1],
            {},
            {"status": "success"},
            {"status": "success", "outputs": None},
            {"status": "success", "outputs": []},
            {"status": "success", "outputs": [{"text": "a"}, {"text": "b"}]},
            {"status": "failed"},
            {"detail": ["no problem"]},
            {"detail": [{"loc": 1}]},
        ],
    )
    @pytest.mark.parametrize("status", [200, 422])
    def test_what_is_no_answer_of_a_model(self, fake, model, answer, status, monkeypatch):
        monkeypatch.setattr(_Handler, "do_POST", lambda handler: handler.send(status, answer))
        for predict in (model.predict, model.predict_demo):
            with pytest.raises(RunError):
                predict({"text": "a"})

    @pytest.mark.parametrize("again", ["9" * 5000, "\u0663".encode().decode("latin-1"), "soon"])
    def test_a_time_that_is_none(self, fake, model, again, monkeypatch):
        monkeypatch.setattr(
            _Handler, "do_POST", lambda handler: handler.send(503, {"detail": "full"}, {"Retry-After": again})
        )
        with pytest.raises(RunError, match="503"):
            model.predict({"text": "a"})

    @pytest.mark.parametrize("model_class", [None, Echo])
    @pytest.mark.parametrize("is_saved", [True, False])
    def test_no_file_of_ours_is_taken_for_an_output(self, fake, tmp_path, model_class, is_saved):
        (tmp_path / "secret.png").write_bytes(b"ours")
        fake.answer = lambda *_: [{"text": "a", "image": str(tmp_path / "secret.png")}]
        folder = tmp_path / "saved" if is_saved else None
        with models.get(fake.url, model_class=model_class) as one:
            if model_class is not None:
                with pytest.raises(RunError, match="the output is no Result"):
                    one.predict({"text": "a"}, folder)
            else:
                assert one.predict({"text": "a"}, folder).image == str(tmp_path / "secret.png")

    def test_what_is_nested_without_an_end(self, fake, model):
        nested = []
        nested.append(nested)
        with pytest.raises(RunError, match="holds itself"):
            model.predict({"text": nested})
        deep = "a"
        for _ in range(900):
            deep = [deep]
        fake.answer = lambda *_: [{"text": deep}]
        with pytest.raises(RunError, match=r"nested too deeply|no JSON"):
            model.predict({"text": "a"})

    def test_a_number_that_python_does_not_read(self, fake, model, monkeypatch):
        monkeypatch.setattr(_Handler, "do_POST", lambda handler: handler.send(200, b"[" + b"1" * 5000 + b"]"))
        with pytest.raises(RunError, match="no JSON"):
            model.predict({"text": "a"})

    def test_a_password_is_told_to_the_server_alone(self, fake, monkeypatch):
        url = fake.url.replace("//", "//user:secret-word@")
        monkeypatch.setattr(_Handler, "do_POST", lambda handler: handler.send(500, {"detail": "no"}))
        with models.get(url) as one:
            said = [repr(one)]
            with pytest.raises(RunError) as refused:
                one.predict({"text": "a"})
        with pytest.raises(RunError) as closed:
            one.start()
        nobody = models.get("http://user:secret-word@127.0.0.1:1")
        with pytest.raises(RunError) as unreached:
            nobody.start()
        said += [repr(nobody), *(str(one.value) for one in (refused, closed, unreached))]
        assert [one for one in said if "secret-word" in one] == []


def test_a_call_that_is_ended_while_it_connects_asks_for_nothing(fake, monkeypatch):
    """There is no socket to shut then."""
    call, connect = Call(), HTTPConnection.connect

    def connect_and_end(connection):
        call.end()
        connect(connection)

    monkeypatch.setattr(HTTPConnection, "connect", connect_and_end)
    client = Client(fake.url, here=True)
    with pytest.raises(EndedError):
        client.outputs(b"[]", call)
    client.close()
    assert fake.requests == []
