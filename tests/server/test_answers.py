"""Each client gets its own answer, whatever the model returns, keeps and changes: a property of all mixtures."""

import base64
import io
import itertools
import json
from concurrent.futures import ThreadPoolExecutor

import PIL.Image
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.server.conftest import SPEC, running_server

CLIENTS = 16

MODEL = """
import os, tempfile, time
from pathlib import Path
from typing import Any, Dict, List, Optional
import PIL.Image
import pydantic
from tungstenkit import BaseIO, Binary, Image, define_model
try:
    from tungstenkit import outputs
    outputs._BIG_FILE = 5  # so that some files are big
except ImportError:
    pass

class Input(BaseIO):
    tag: str
    way: str

class Inner(BaseIO):
    tag: str = ""

class Output(BaseIO):
    text: Optional[str] = None
    items: List[str] = []
    inner: Optional[Inner] = None
    anything: Any = None
    files: Dict[str, Binary] = {}
    file: Optional[Binary] = None
    picture: Optional[Image] = None

class Computed(BaseIO):
    @pydantic.computed_field
    @property
    def text(self) -> str:
        return LAST["tag"]

CONSTANT = Output(text="constant")
LAST = {}

@define_model(input=Input, output=Output, demo_output=Output, batch_size=4)
class Model:
    def setup(self):
        folder = Path(tempfile.mkdtemp())
        self.path, self.picture, self.link = folder / "a.txt", folder / "a.png", folder / "link"
        self.constant = folder / "constant"
        self.constant.write_text("constant")
        self.output, self.listed, self.inner = Output(), Output(items=["", ""]), Inner()
        self.dict, self.list = {}, []
        self.canvas = PIL.Image.new("RGB", (64, 64))
        self.count = 0
        time.sleep(0.1)

    def predict(self, inputs):
        return [getattr(self, one.way)(one.tag) for one in inputs]

    def predict_demo(self, inputs):
        outputs = self.predict(inputs)
        return outputs, outputs

    def fresh(self, tag):
        return Output(text=tag)

    def constant_object(self, tag):
        return CONSTANT

    def constant_file(self, tag):
        return Output(file=self.constant)

    def same_object(self, tag):
        self.output.text = tag
        return self.output

    def list_in_place(self, tag):
        self.listed.items[:] = [tag]
        return self.listed

    def same_dict(self, tag):
        self.dict["text"] = tag
        return self.dict

    def nested(self, tag):
        self.inner.tag = tag
        return Output(inner=self.inner)

    def any_list(self, tag):
        self.list[:] = [tag]
        return Output(anything=self.list)

    def any_deep(self, tag):
        self.dict["tag"] = tag
        return Output(anything=({"x": [self.dict["tag"], self.inner_of(tag)]},))

    def inner_of(self, tag):
        self.inner.tag = tag
        return self.inner

    def unchecked(self, tag):
        self.list[:] = [tag]
        return Output.model_construct(items=self.list)

    def iterator(self, tag):
        self.list[:] = [tag]
        return Output(anything=(one for one in self.list))

    def late(self, tag):
        self.tag = tag
        return Output(anything=(self.tag for _ in [0]))

    def computed(self, tag):
        LAST["tag"] = tag
        return Output(anything=Computed())

    def path_given(self, tag):
        self.path.write_text(tag)
        return Output(file=self.path)

    def path_in_dict(self, tag):
        self.path.write_text(tag)
        return {"file": str(self.path)}

    def from_path(self, tag):
        self.path.write_text(tag)
        return Output(file=Binary.from_path(self.path))

    def files_by_name(self, tag):
        self.path.write_text(tag)
        return Output(files={"a": Binary.from_path(self.path), "b": Binary.from_bytes(tag.encode())})

    def linked(self, tag):
        self.count += 1
        target = self.path.with_name(f"target-{self.count % 50}")
        target.write_text(tag)
        target.with_suffix(".new").symlink_to(target)
        target.with_suffix(".new").replace(self.link)
        return Output(file=self.link)

    def painted(self, tag):
        self.canvas.paste(tuple(int(tag).to_bytes(3, "big")), (0, 0, 64, 64))
        return self.canvas

    def canvas_given(self, tag):
        return Output(picture=Image.from_pil_image(self.painted(tag)))

    def picture_file(self, tag):
        self.painted(tag).save(self.picture)
        return Output(picture=Image.from_path(self.picture))

    def picture_opened(self, tag):
        path = self.picture.with_name("opened.png")
        self.painted(tag).save(path)
        return Output(picture=Image.from_pil_image(PIL.Image.open(path)))

    def picture_encoded(self, tag):
        picture = Image.from_pil_image(self.painted(tag))
        picture.to_bytes()
        return Output(picture=picture, file=picture.path)

    def path_read(self, tag):
        self.path.write_text(tag)
        return Output(file=Binary.from_bytes(self.path.read_bytes()))

    def picture_read(self, tag):
        self.painted(tag).save(self.picture)
        return Output(picture=Image.from_pil_image(PIL.Image.open(self.picture)))

    def bad(self, tag):
        raise ValueError(tag)
"""

WAYS = sorted(
    line.split("(")[0].split()[1]
    for line in MODEL.splitlines()
    if line.startswith("    def ") and line.endswith("(self, tag):")
)
WAYS = [way for way in WAYS if way not in ("inner_of", "painted")]

INPUT = {"type": "object", "properties": {"tag": {"type": "string"}, "way": {"type": "string"}}}
OUTPUT = {"type": "object", "properties": {}}


@pytest.fixture(scope="module", params=[1, 4], ids=["batches of 1", "batches of 4"])
def server(request, tmp_path_factory):
    spec = {
        **SPEC,
        "input-schema": {**INPUT, "required": ["tag", "way"]},
        "output-schema": OUTPUT,
        "demo-output-schema": OUTPUT,
        "batch-size": request.param,
    }
    with running_server(tmp_path_factory.mktemp("answers"), model=MODEL, spec=spec) as server:
        yield server


def tags(value, name=""):
    """All that an output says, as tags."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from tags(inner, key)
    elif isinstance(value, list):
        for inner in value:
            yield from tags(inner, name)
    elif isinstance(value, str) and value.startswith("data:"):
        content = base64.b64decode(value.partition(",")[2])
        if not content.startswith(b"\x89PNG"):
            yield content.decode()
            return
        with PIL.Image.open(io.BytesIO(content)) as picture:
            ((_, colour),) = picture.getcolors()
        yield str(int.from_bytes(bytes(colour), "big"))
    elif value is not None:
        yield value


class Clients:
    """16 of them, each of which sends one request after the other."""

    def __init__(self, server):
        self.server = server
        self.numbers = itertools.count(1000)

    def run(self, requests):
        with ThreadPoolExecutor(CLIENTS) as pool:
            list(pool.map(self.check, requests))

    def check(self, request):
        is_demo, ways = request
        inputs = [{"tag": str(next(self.numbers)), "way": way} for way in ways]
        response = self.server.post(inputs, "/demo" if is_demo else "/predict")
        assert response.status_code == 200
        answer = response.json()
        if is_demo:
            answer = self.server.ended(f"/demo/{answer['demo_id']}")
        if answer["status"] == "failed":
            message = answer["error_message"]
            if message.startswith("ValueError: "):
                assert message.split()[1] in [one["tag"] for one in inputs if one["way"] == "bad"]
            else:
                assert message.startswith("InvalidOutput: one ")
                assert "different inputs" in message
                assert len(inputs) > 1, "a request of one input shares nothing with itself"
            return
        assert "bad" not in ways
        for name in ("outputs", "demo_outputs") if is_demo else ("outputs",):
            for one, output in zip(inputs, answer[name], strict=True):
                expected = "constant" if one["way"].startswith("constant") else one["tag"]
                found = set(tags(output))
                # An iterator has nothing left for a second output.
                nothing = name == "demo_outputs" and one["way"] in ("iterator", "late") and not found
                assert nothing or found == {expected}, (one, json.dumps(output)[:500], ways)


requests = st.tuples(
    st.sampled_from([False] * 7 + [True]), st.lists(st.sampled_from(WAYS), min_size=1, max_size=3)
)


# Nothing is made smaller: what fails once need not fail again.
@settings(max_examples=12, deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
@given(st.lists(requests, min_size=30, max_size=60))
def test_no_mixture_of_outputs_gives_a_client_what_is_another_s(server, mixture):
    Clients(server).run(mixture)


@pytest.mark.parametrize("way", WAYS)
def test_no_kind_of_output_gives_a_client_what_is_another_s(server, way):
    Clients(server).run([(False, [way])] * 60 + [(False, [way] * 3)] * 10 + [(True, [way])] * 3)


@pytest.mark.parametrize(
    "way", ["constant_object", "constant_file", "list_in_place", "same_dict", "any_list", "late"]
)
def test_what_can_be_told_apart_succeeds(server, way):
    answer = server.post([{"tag": str(number), "way": way} for number in range(1000, 1003)]).json()
    assert answer["status"] == "success"


@pytest.mark.parametrize(
    ("way", "what"),
    [
        ("same_object", "one Output object, changed since it was made,"),
        ("nested", "one Inner object, changed since it was made,"),
        ("path_given", "one file that was written during the call"),
        ("path_in_dict", "one file that was written during the call"),
        ("linked", "one file that was written during the call"),
    ],
)
def test_one_thing_that_stands_for_different_inputs_of_a_batch_is_said_so(server, way, what):
    answer = server.post([{"tag": str(number), "way": way} for number in (1000, 1001)]).json()
    if answer["status"] == "success":  # in batches of 1
        assert [set(tags(output)) for output in answer["outputs"]] == [{"1000"}, {"1001"}]
    else:
        assert answer["error_message"].startswith(f"InvalidOutput: {what} is returned for different inputs")
    same = server.post([{"tag": "1000", "way": way}] * 2).json()
    assert [set(tags(output)) for output in same["outputs"]] == [{"1000"}] * 2


COMPUTES = """
import pydantic
from tungstenkit import BaseIO, define_model

LAST = {}

class Input(BaseIO):
    tag: str

class Output(BaseIO):
    tag: str = ""
    %s

@define_model(input=Input, output=Output, batch_size=4)
class Model:
    def predict(self, inputs):
        LAST["tag"] = inputs[-1].tag
        return [%s for _ in inputs]
"""


@pytest.mark.parametrize(
    "how",
    [
        "pydantic.computed_field(alias='tag', return_type=str)(property(lambda self: LAST['tag']))",
        "pydantic.field_serializer('tag')(lambda self, value: LAST['tag'])",
        "pydantic.model_serializer()(lambda self: dict(LAST))",
    ],
)
@pytest.mark.parametrize("returned", ["Output()", "{}"])
def test_what_an_output_computes_when_it_is_written_is_of_its_own_input(start_server, how, returned):
    model = COMPUTES % (f"late = {how}", returned)
    spec = {
        **SPEC,
        "input-schema": {"type": "object", "properties": {"tag": {"type": "string"}}, "required": ["tag"]},
        "output-schema": OUTPUT,
    }
    with start_server(model=model, spec=spec) as server:
        answer = server.post([{"tag": tag} for tag in "abc"]).json()
    assert [set(output.values()) & set("abc") for output in answer["outputs"]] == [{"a"}, {"b"}, {"c"}], (
        answer
    )
