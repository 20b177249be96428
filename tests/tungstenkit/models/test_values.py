"""What a program gives for an input, made JSON; and an output's JSON, made what a program likes to have."""

import enum
import io
import json
import pickle
from pathlib import Path

import PIL.Image
import pytest

from tungstenkit import BaseIO, Binary, Image, MaskedImage, Option
from tungstenkit.models.values import InputSchema, Output, output_of
from tungstenkit.run.client import SavedFile
from tungstenkit.sdk.errors import RunError
from tungstenkit.sdk.schema import json_schema


class Size(enum.Enum):
    SMALL = "s"


class Part(BaseIO):
    image: Image
    name: str = ""


class Input(BaseIO):
    image: Image
    text: str = ""
    number: float = Option(1.0, le=9)
    size: Size = Size.SMALL
    data: Binary | None = None
    photos: list[Image] = []  # noqa: RUF012
    parts: list[Part] = []  # noqa: RUF012
    by: dict[str, Image] = {}  # noqa: RUF012
    pair: tuple[str, Binary] | None = None
    masked: MaskedImage | None = None
    whole: int = 1


SCHEMA = json_schema(Input)
PNG = Image.from_pil_image(PIL.Image.new("RGB", (2, 1))).to_bytes()
URI = Image.from_bytes(PNG, "image/png").uri


@pytest.fixture(scope="module")
def schema():
    return InputSchema(SCHEMA)


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "a b.png"
    path.write_bytes(PNG)
    return path


def made(schema, **fields):
    return json.loads(schema.json({"image": URI, **fields}, None, "the input"))


def refused(schema, value, options=None):
    with pytest.raises(RunError) as caught:
        schema.json(value, options, "the input")
    assert caught.value.where == "the input"
    return caught.value.what.splitlines()


class Numbers:
    """As numpy's are: a number if it has no dimensions."""

    def __init__(self, value, ndim):
        self.ndim, self._value = ndim, value
        self.__array_interface__ = {}

    def item(self):
        return self._value


@pytest.mark.parametrize(
    "of", [str, Path, lambda path: path.read_bytes(), lambda path: path.open("rb"), Image.from_path]
)
def test_a_file_is_whatever_a_program_has(schema, picture, of):
    given = of(picture)
    value = made(schema, image=given)["image"]
    if hasattr(given, "close"):
        given.close()
    assert Image(value).to_bytes() == PNG
    assert value.startswith("data:image/png;" if not isinstance(given, bytes) else "data:image/png;base64,")


def test_a_picture_is_pillows_too(schema):
    value = made(schema, image=PIL.Image.new("RGB", (2, 1)))["image"]
    assert Image(value).to_pil_image().size == (2, 1)
    (problem,) = refused(schema, {"image": URI, "data": PIL.Image.new("RGB", (2, 1))})
    assert problem.startswith("data: a file is a path, a URI, bytes, an open file, not PIL.Image.Image")


@pytest.mark.parametrize("uri", [URI, "https://example.invalid/a.png", "DATA:,x"])
def test_a_uri_stays(schema, uri):
    assert made(schema, image=uri)["image"] == uri


def test_files_may_stand_anywhere(schema, picture):
    value = made(
        schema,
        data=b"\x00",
        photos=[picture, PNG],
        parts=[Part(image=Image.from_path(picture), name="n"), {"image": str(picture)}],
        by={"x": picture},
        pair=("t", io.BytesIO(b"1")),
        masked=MaskedImage(image=Image.from_path(picture), mask=Image.from_path(picture)),
    )
    assert Binary(value["data"]).to_bytes() == b"\x00"
    assert [Image(one).to_bytes() for one in value["photos"]] == [PNG, PNG]
    assert [part["name"] for part in value["parts"] if "name" in part] == ["n"]
    assert Image(value["parts"][1]["image"]).to_bytes() == Image(value["by"]["x"]).to_bytes() == PNG
    assert Binary(value["pair"][1]).to_bytes() == b"1"
    assert Image(value["masked"]["mask"]).to_pil_image().size == (2, 1)


def test_numbers_and_enumerations_are_pythons(schema):
    value = made(schema, number=Numbers(2.5, 0), size=Size.SMALL, whole=Numbers(3, 0), text="ü")
    assert (value["number"], value["size"], value["whole"], value["text"]) == (2.5, "s", 3, "ü")


def test_an_instance_of_the_input_class_is_an_input(schema, picture):
    value = json.loads(schema.json(Input(image=picture, number=3), None, "the input"))
    assert (value["number"], value["size"], value["data"]) == (3, "s", None)
    assert Image(value["image"]).to_bytes() == PNG


def test_options_are_for_all_and_an_inputs_own_come_first(schema):
    one = json.loads(schema.json({"image": URI, "number": 2}, {"number": 3, "text": "t"}, "x"))
    assert (one["number"], one["text"]) == (2, "t")
    assert refused(schema, {"image": URI}, {"numbr": 1}) == [
        "numbr: the model has no such input; did you mean number?"
    ]


def test_everything_that_is_wrong_is_told_at_once(schema, tmp_path):
    problems = refused(
        schema,
        {
            "text": {1, 2},
            "number": 10,
            "data": tmp_path / "none",
            "photos": [tmp_path, 3],
            "parts": [{"name": b"x"}],
            "pair": Numbers([1], 1),
            "by": {"x": Numbers([1], 2)},
            "whole": float("nan"),
            "txt": "",
        },
    )
    assert sorted(problems) == [
        "by.x: an array is not taken as it is; write PIL.Image.fromarray(array)",
        f"data: {tmp_path}/none can't be read: No such file or directory",
        "image: the field is required",
        "number: the value is greater than the maximum of 9",
        "pair: an array is not taken as it is; write array.tolist()",
        "parts.0.image: the field is required",
        "parts.0.name: this field is no file, and bytes is no JSON",
        f"photos.0: {tmp_path} can't be read: Is a directory",
        'photos.1: the value is not of type "string"',
        "text: this field is no file, and set is no JSON",
        "txt: the model has no such input; did you mean text?",
        "whole: nan is not a finite number",
    ]


@pytest.mark.parametrize("value", [3, None, "text", [("a", 1)]])
def test_what_is_no_input_is_told(schema, value):
    (problem,) = refused(schema, value)
    assert problem.startswith("an input is a dict, or an instance of the model's input class, not ")


def test_no_text_can_stand_for_a_file(schema):
    value = made(schema, text="data:,0-", photos=[PNG, PNG])
    assert value["text"] == "data:,0-"
    assert len(value["photos"]) == 2


FILES = {"properties": {"image": {"type": "string", "x-file-type": "image"}, "text": {"type": "string"}}}


def test_an_output_is_read_by_attributes_and_by_items():
    schema = {"properties": {**FILES["properties"], "found": {"items": FILES}, "items": {"type": "string"}}}
    out = output_of({"image": URI, "text": URI, "found": [{"image": URI}], "items": "i"}, schema)
    assert isinstance(out.image, Image)
    assert out.image.to_bytes() == PNG
    assert out["text"] == out.text == URI
    assert out.found[0].image == out.image
    assert out["items"] == "i"
    assert dict(out) == {"image": out.image, "text": URI, "found": out.found, "items": "i"}
    assert out == output_of({"image": URI, "text": URI, "found": [{"image": URI}], "items": "i"}, schema)
    assert "found" in dir(out)
    assert repr(Output({"a": 1})) == "Output(a=1)"


def test_an_output_is_read_only_and_names_what_it_has():
    out = Output({"a": 1, "b": 2})
    with pytest.raises(AttributeError, match="read-only"):
        out.a = 3
    with pytest.raises(TypeError):
        out["a"] = 3
    with pytest.raises(AttributeError, match="no field 'c'; it has a, b"):
        _ = out.c
    assert pickle.loads(pickle.dumps(out)) == out


def test_what_was_saved_and_what_is_nothing():
    schema = {"properties": {"image": {"anyOf": [FILES["properties"]["image"], {"type": "null"}]}}}
    assert output_of({"image": None}, schema).image is None
    assert output_of({"image": SavedFile("/x/a.png")}, schema).image.path == "/x/a.png"
    # What a server says, and nobody here has saved.
    assert output_of({"image": "/x/a.png"}, schema).image == "/x/a.png"
    assert output_of(None, None) is None
    assert output_of({"more": [{"x": 1}]}, schema).more[0].x == 1
