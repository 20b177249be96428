"""Fields are declared and checked as the contract says, and described in one normal form."""

# ruff: noqa: RUF012, UP006, UP007, UP035, UP045 (people write annotations in all of these ways)

import dataclasses
import datetime as dt
import enum
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Dict, List, Literal, NewType, Optional, Set, Tuple, Union

import annotated_types
import PIL.Image
import pydantic
import pytest

from tungstenkit import Audio, BaseIO, Binary, Field, Image, MaskedImage, Option, Video
from tungstenkit.sdk.errors import DefinitionError
from tungstenkit.sdk.schema import json_schema


def problems_of(io_class):
    with pytest.raises(DefinitionError) as caught:
        json_schema(io_class)
    return list(caught.value.problems)


def schema_of(annotation):
    class Holder(BaseIO):
        field: annotation

    return json_schema(Holder)["properties"]["field"]


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Box(BaseIO):
    x: int
    y: int = 0


class Example(BaseIO):
    image: Image
    prompt: str = Field(description="What to draw", min_length=1, max_length=20)
    width: int = Option(128, choices=[128, 256])
    strength: float = Option(1, ge=0, le=2)
    myColor: Color = Color.RED  # noqa: N815
    mode: Literal["fast", "slow"] = "fast"
    boxes: List[Box] = []
    style: Optional[str] = Option(None, choices=["oil", "ink"])


def test_normal_form():
    """Byte for byte, whatever release of pydantic is installed."""
    expected = {
        "type": "object",
        "required": ["image", "prompt"],
        "x-order": ["image", "prompt", "width", "strength", "myColor", "mode", "boxes", "style"],
        "properties": {
            "image": {"type": "string", "format": "uri", "x-file-type": "image", "description": "Image"},
            "prompt": {"type": "string", "description": "What to draw", "minLength": 1, "maxLength": 20},
            "width": {
                "type": "integer",
                "description": "Width",
                "default": 128,
                "choices": [128, 256],
                "enum": [128, 256],
                "x-option": True,
            },
            "strength": {
                "type": "number",
                "description": "Strength",
                "default": 1.0,
                "minimum": 0,
                "maximum": 2,
                "x-option": True,
            },
            "myColor": {
                "type": "string",
                "description": "My Color",
                "enum": ["red", "blue"],
                "default": "red",
                "x-option": True,
            },
            "mode": {
                "type": "string",
                "description": "Mode",
                "enum": ["fast", "slow"],
                "default": "fast",
                "x-option": True,
            },
            "boxes": {
                "type": "array",
                "description": "Boxes",
                "default": [],
                "x-option": True,
                "items": {
                    "type": "object",
                    "required": ["x"],
                    "x-order": ["x", "y"],
                    "properties": {
                        "x": {"type": "integer", "description": "X"},
                        "y": {"type": "integer", "description": "Y", "default": 0, "x-option": True},
                    },
                },
            },
            "style": {
                "anyOf": [{"type": "string"}, {"type": "null"}],
                "description": "Style",
                "default": None,
                "choices": ["oil", "ink"],
                "enum": ["oil", "ink", None],
                "x-option": True,
            },
        },
    }
    written = json.dumps(json_schema(Example, describe=True), sort_keys=True)
    assert written == json.dumps(expected, sort_keys=True)


def test_an_optional_field_need_not_be_given_and_is_no_option():
    class Holder(BaseIO):
        mask: Optional[Image]
        described: "Optional[int]" = Field(description="A number", ge=1)
        chosen: Optional[int] = None

    class Sub(Holder):
        own: Union[str, None]
        needed: int

    schema = json_schema(Sub)
    assert schema["required"] == ["needed"]
    assert [name for name in schema["x-order"] if schema["properties"][name].get("x-option")] == ["chosen"]
    assert "default" not in schema["properties"]["mask"]
    assert Sub(needed=1).model_dump() == dict.fromkeys(Sub.model_fields, None) | {"needed": 1}
    assert Sub.model_validate_json('{"needed": 1, "described": 2}').described == 2
    with pytest.raises(pydantic.ValidationError, match="described"):
        Sub(needed=1, described=0)


UserId = NewType("UserId", int)


class Foreign:
    """An integer as numpy has them: pydantic reads it by way of a float."""

    def __init__(self, value):
        self.value = value

    def __index__(self):
        return self.value

    def __float__(self):
        return float(self.value)


class Switch(enum.Enum):
    ON = 1


@pytest.mark.parametrize("number", [2**53 + 1, 2**63 - 1, -(2**63), 2**80])
def test_integers_of_other_libraries_stay_exact(number):
    class Holder(BaseIO):
        whole: int
        limited: int = Field(ge=-(2**70))
        listed: List[int]
        paired: Tuple[int, float]
        named: Dict[str, List[Optional[int]]]
        either: Union[int, str]
        anything: Any
        box: Box
        boxes: List[Box]
        switch: Switch
        user: UserId
        bare: list
        older: List
        some: Sequence[UserId]

    one = Foreign(number)
    held = Holder(
        whole=one,
        limited=one,
        listed=[1, one],
        paired=(one, 0.5),
        named={"a": [one, None]},
        either=one,
        anything=[{"deep": (one,)}],
        box={"x": one},
        boxes=[{"x": one}],
        switch=Foreign(1),
        user=one,
        bare=[one],
        older=[one],
        some=[one],
    )
    held.whole = one
    assert json.loads(held.model_dump_json()) == {
        "whole": number,
        "limited": number,
        "listed": [1, number],
        "paired": [number, 0.5],
        "named": {"a": [number, None]},
        "either": number,
        "anything": [{"deep": [number]}],
        "box": {"x": number, "y": 0},
        "boxes": [{"x": number, "y": 0}],
        "switch": 1,
        "user": number,
        "bare": [number],
        "older": [number],
        "some": [number],
    }


def test_what_is_no_integer_is_left_alone():
    class Array(Foreign):
        def __index__(self):
            raise TypeError("only one element can be an index")

    class Holder(BaseIO):
        anything: Any
        whole: int = 0

    kept = [1, {"a": [True, "x"]}, Array(1)]
    assert Holder(anything=kept).anything is kept
    with pytest.raises(pydantic.ValidationError):
        Holder(anything=None, whole=Foreign)


@pytest.mark.parametrize(
    ("annotation", "schema"),
    [
        (str, {"type": "string"}),
        (int, {"type": "integer"}),
        (float, {"type": "number"}),
        (bool, {"type": "boolean"}),
        (None, {"type": "null"}),
        (Any, {}),
        (UserId, {"type": "integer"}),
        (Optional[int], {"anyOf": [{"type": "integer"}, {"type": "null"}]}),
        (Union[int, str], {"anyOf": [{"type": "integer"}, {"type": "string"}]}),
        (list, {"type": "array"}),
        (List[int], {"type": "array", "items": {"type": "integer"}}),
        (Sequence[int], {"type": "array", "items": {"type": "integer"}}),
        (dict, {"type": "object"}),
        (Dict[str, int], {"type": "object", "additionalProperties": {"type": "integer"}}),
        (
            Dict[int, str],
            {
                "type": "object",
                "additionalProperties": {"type": "string"},
                "propertyNames": {"pattern": "^-?[0-9]+$"},
            },
        ),
        (
            Dict[Color, int],
            {
                "type": "object",
                "additionalProperties": {"type": "integer"},
                "propertyNames": {"enum": ["red", "blue"]},
            },
        ),
        (tuple, {"type": "array"}),
        (Tuple[int, ...], {"type": "array", "items": {"type": "integer"}}),
        (
            Tuple[int, str],
            {
                "type": "array",
                "minItems": 2,
                "maxItems": 2,
                "prefixItems": [{"type": "integer"}, {"type": "string"}],
            },
        ),
        (Literal["a", 1], {"enum": ["a", 1]}),
        (Annotated[int, annotated_types.Gt(0)], {"type": "integer", "exclusiveMinimum": 0}),
        (Annotated[str, pydantic.Field(pattern="^a")], {"type": "string", "pattern": "^a"}),
        (List[Annotated[int, pydantic.Field(ge=1)]], {"type": "array", "items": {"type": "integer", "minimum": 1}}),
        (Audio, {"type": "string", "format": "uri", "x-file-type": "audio"}),
        (Video, {"type": "string", "format": "uri", "x-file-type": "video"}),
        (Binary, {"type": "string", "format": "uri", "x-file-type": "binary"}),
        (
            MaskedImage,
            {
                "type": "object",
                "x-file-type": "masked_image",
                "required": ["image", "mask"],
                "x-order": ["image", "mask"],
                "properties": {
                    "image": {"type": "string", "format": "uri", "x-file-type": "image"},
                    "mask": {"type": "string", "format": "uri", "x-file-type": "image"},
                },
            },
        ),
    ],
)  # fmt: skip
def test_supported_types(annotation, schema):
    assert schema_of(annotation) == schema


@pytest.mark.parametrize("annotation", [set, bytes, complex, List[set], Dict[float, int], Optional[object]])
def test_unsupported_types_are_named_with_their_field(annotation):
    class Holder(BaseIO):
        field: annotation

    (problem,) = problems_of(Holder)
    assert problem.startswith("Holder.field: ")


@dataclasses.dataclass
class Plain:
    x: int


@pytest.mark.parametrize(
    ("annotation", "written"),
    [
        (type("ndarray", (), {"__module__": "numpy"}), "write list[float]"),
        (PIL.Image.Image, "write tungstenkit's Image"),
        (PIL.Image, "write tungstenkit's Image"),
        (List[PIL.Image.Image], "write tungstenkit's Image"),
        (bytes, "write Binary"),
        (io.BytesIO, "write Binary"),
        (Path, "write Image, Audio, Video or Binary"),
        (dt.date, "write str"),
        (Set[int], "write list"),
        (object, "write Any"),
        (any, "write Any"),
        (Plain, "make it a subclass of BaseIO"),
        (pydantic.BaseModel, "make it a subclass of BaseIO"),
        (complex, "use str, int, float, bool"),
    ],
)
@pytest.mark.filterwarnings("ignore::pydantic.warnings.ArbitraryTypeWarning")
def test_what_to_write_in_place_of_a_type_is_told(annotation, written):
    class Holder(BaseIO):
        field: annotation

    (problem,) = problems_of(Holder)
    assert f" is not supported; {written}" in problem


class Node(BaseIO):
    children: List["Node"] = []


def test_recursive_types_are_refused():
    assert problems_of(Node) == ["Node: recursive types are not supported (Node -> Node)"]


def test_an_undefined_annotation_is_named():
    class Holder(BaseIO):
        field: "Nowhere"  # noqa: F821

    (problem,) = problems_of(Holder)
    assert problem.startswith("Holder: ")
    assert "Nowhere" in problem


def test_every_problem_is_reported_at_once():
    class Inner(BaseIO):
        number: int = "many"

    class Holder(BaseIO):
        a: set
        inner: Inner
        again: Inner
        low: int = Option(1, ge=5)
        limit: int = Field(ge="0")
        choices: str = Option("c", choices=["a", "b"])
        wrong: int = Field(choices=["a"])
        empty: int = Field(choices=[])
        text: str = Field(description=3)
        infinite: float = float("inf")

    starts = [problem.split(" ")[0] for problem in problems_of(Holder)]
    assert starts == [
        f"{name}:"
        for name in [
            "Holder.a",
            "Inner.number",
            "Holder.low",
            "Holder.limit",
            "Holder.choices",
            "Holder.wrong",
            "Holder.empty",
            "Holder.text",
            "Holder.infinite",
        ]
    ]


def test_aliases_are_refused():
    class Holder(BaseIO):
        field: int = pydantic.Field(alias="other")

    assert problems_of(Holder) == ["Holder.field: aliases are not supported"]


def test_a_limit_that_fits_no_part_of_a_type():
    class Holder(BaseIO):
        field: Image = Field(min_length=3)

    # Pydantic may refuse it when the field is used; we do when it is described.
    assert problems_of(Holder) == ["Holder.field: min_length does not apply to this type"]


def test_choices_are_enforced():
    assert Example(image="x.png", prompt="a", width=256).width == 256
    with pytest.raises(pydantic.ValidationError, match="must be one of 128, 256"):
        Example(image="x.png", prompt="a", width=200)
    with pytest.raises(pydantic.ValidationError, match="must be one of 'oil', 'ink'"):
        Example(image="x.png", prompt="a", style="chalk")
    assert Example(image="x.png", prompt="a", style=None).style is None


def test_choices_of_an_enumeration_may_be_given_by_value():
    class Holder(BaseIO):
        color: Color = Option("red", choices=["red"])

    assert Holder().color is Color.RED
    with pytest.raises(pydantic.ValidationError):
        Holder(color="blue")
    assert json_schema(Holder)["properties"]["color"]["enum"] == ["red"]


def test_limits_are_enforced():
    for wrong in ({"strength": -1}, {"strength": 3}, {"prompt": ""}, {"prompt": "x" * 21}):
        with pytest.raises(pydantic.ValidationError):
            Example(**{"image": "x.png", "prompt": "a", **wrong})


def test_limits_of_optional_values_apply_to_the_values():
    class Holder(BaseIO):
        count: Optional[int] = Option(None, ge=1)

    assert json_schema(Holder)["properties"]["count"]["anyOf"] == [
        {"type": "integer", "minimum": 1},
        {"type": "null"},
    ]
    assert Holder().count is None
    with pytest.raises(pydantic.ValidationError):
        Holder(count=0)


def test_unknown_fields_are_ignored():
    assert not hasattr(Box(x=1, z=2), "z")


def test_defaults_are_checked_and_converted():
    assert isinstance(Example(image="x.png", prompt="a").strength, float)


def test_assignments_are_checked():
    box = Box(x=1)
    with pytest.raises(pydantic.ValidationError):
        box.x = "far"


def test_option_needs_a_default_and_field_takes_none():
    with pytest.raises(TypeError):
        Option()
    with pytest.raises(TypeError):
        Field(3)


def test_nested_outputs():
    """Lists and dicts of BaseIO classes, both ways."""

    class Output(BaseIO):
        boxes: List[Box]
        named: Dict[str, Box]
        pair: Tuple[int, Box]

    output = Output(boxes=[Box(x=1)], named={"a": {"x": 2}}, pair=(3, Box(x=4)))
    written = output.model_dump_json()
    assert json.loads(written) == {
        "boxes": [{"x": 1, "y": 0}],
        "named": {"a": {"x": 2, "y": 0}},
        "pair": [3, {"x": 4, "y": 0}],
    }
    assert Output.model_validate_json(written) == output


def test_field_names_that_pydantic_guards():
    class Holder(BaseIO):
        model_id: str

    assert Holder(model_id="a").model_id == "a"
