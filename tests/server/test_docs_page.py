"""The documentation's examples, run as they stand there; and its look on a phone is the browser tests' business."""

import html
import json
import re
import subprocess

import pytest
from PIL import Image
from tungsten_server.checks.inputs import InputSchema
from tungsten_server.http.openapi import openapi_document
from tungsten_server.page.curl import as_form, as_json, example_input
from tungsten_server.page.docs import docs_page
from tungsten_server.words.settings import Settings
from tungsten_server.words.spec import Spec

from tests.machine import needs
from tests.server.conftest import DEADLINE, running_server
from tungstenkit.spec.read import read_spec

HEAD = """
from typing import Dict, List, Optional, Tuple
from tungstenkit import Audio, BaseIO, Binary, Field, Image, MaskedImage, Option, define_model

class Point(BaseIO):
    x: float
    name: str = "p"
"""

WITHOUT_FILES = """
class Input(BaseIO):
    prompt: str
    count: int = Field(ge=3)
    tags: List[str]
    sizes: Tuple[int, float]
    where: Point
    weights: Dict[str, float]
    fine: bool
    seed: Optional[int] = Option(None)
    strength: float = Option(0.5, ge=0, le=1)
EXAMPLES = None
"""

WITH_FILES = """
class Pair(BaseIO):
    one: Image
    two: Binary

class Input(BaseIO):
    picture: MaskedImage
    pair: Pair
    sounds: List[Audio]
    text: str = Option("x")
EXAMPLES = None
"""

WITH_AN_EXAMPLE = """
class Input(BaseIO):
    text: str
    picture: Image
EXAMPLES = [{"text": "it's $HOME, `id`, $(id), \\\\ and \\"so\\" on;\\n@file", "picture": "data:image/png;base64,AAAA"}]
"""

WITHOUT_ANYTHING = """
class Input(BaseIO):
    pass
EXAMPLES = None
"""

TAIL = """
class Output(BaseIO):
    seen: str

@define_model(input=Input, output=Output, examples=EXAMPLES)
class AllKinds:
    def predict(self, inputs):
        return [Output(seen=getattr(i, "text", "")) for i in inputs]
"""


def commands_of(page):
    return [
        html.unescape(text) for text in re.findall(r"<pre[^>]* class=example>(.*?)</pre>", page, re.DOTALL)
    ]


@needs("curl")
@pytest.mark.parametrize("given", [WITHOUT_FILES, WITH_FILES, WITH_AN_EXAMPLE, WITHOUT_ANYTHING])
def test_the_examples_work(tmp_path, given):
    (tmp_path / "model").mkdir()
    model = HEAD + given + TAIL
    (tmp_path / "model" / "tungsten_model.py").write_text(model)
    spec = json.loads(read_spec(tmp_path / "model").to_json())
    for name in ("image.png", "mask.png", "one.png", "picture.png"):
        Image.new("L", (2, 2)).save(tmp_path / name)
    for name in ("sounds.wav", "two.bin"):
        (tmp_path / name).write_bytes(b"a file")
    with running_server(tmp_path / "model", model=model, spec=spec) as server:
        page = server.get("/docs").text
        *at_once, later = commands_of(page)
        assert len(at_once) == (2 if given == WITHOUT_ANYTHING else 3)
        for command in at_once:
            answer = json.loads(run(command, tmp_path))
            assert answer.get("status") == "success", (command, answer)
            text = (spec["examples"] or [{}])[0].get("text", "x" if given == WITH_FILES else "")
            assert answer["outputs"] == [{"seen": text}]
        assert json.loads(run(later, tmp_path))["status"] in ("pending", "running", "success")
        assert f"http://127.0.0.1:{server.port}/predict" in at_once[0]


def run(command, folder):
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "integer", "minimum": 2.5},
        {"type": "integer", "exclusiveMinimum": 1},
        {"type": "integer", "exclusiveMaximum": 1},
        {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1},
        {"type": "number", "maximum": -3},
        {"type": "number", "exclusiveMinimum": 1},
        {"type": "integer", "multipleOf": 8, "minimum": 9},
        {"type": "string", "minLength": 9},
        {"type": "string", "maxLength": 2},
        {"enum": ["a", "b"], "choices": ["a", "b"]},
        {"type": "array", "items": {"type": "integer"}, "minItems": 3},
        {"type": "array", "items": {"type": "integer"}, "maxItems": 0},
        {
            "type": "array",
            "prefixItems": [{"type": "integer"}, {"type": "string"}],
            "minItems": 2,
            "maxItems": 2,
        },
        {"anyOf": [{"type": "null"}, {"type": "boolean"}]},
        {},
    ],
)
def test_an_example_is_a_valid_input(schema):
    whole = {"type": "object", "properties": {"it": schema}, "required": ["it"]}
    InputSchema(whole, 1000).check([example_input(whole, [])])


def test_an_example_of_the_model_s_is_shown_with_names_for_its_files():
    file = {"type": "string", "format": "uri", "x-file-type": "audio"}
    masked = {"type": "object", "properties": {"image": {**file, "x-file-type": "image"}}}
    schema = {"type": "object", "properties": {"one": {"anyOf": [file, {"type": "null"}]}, "masked": masked}}
    example = {"one": "data:audio/wav;base64,AAAA", "masked": {"image": "data:image/png;base64,AAAA"}}
    value = example_input(schema, [example])
    assert "-F one=@one.wav \\\n  -F masked.image=@image.png" in as_form("http://x/predict", value)
    assert "AAAA" not in as_json("http://x/predict", value)


def test_the_page_is_called_by_words(tmp_path):
    spec = Spec(
        "text-to-image-model",
        "module",
        "Class",
        1,
        {"type": "object"},
        {"type": "object"},
        {"type": "object"},
    )
    page = docs_page(openapi_document(spec, Settings(tmp_path / "spec.json")), address="http://x'y")
    assert "<title>Text to image model: API</title>" in page
    assert "<h1>Text to image model</h1>" in page
