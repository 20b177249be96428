"""Generated inputs: every valid one is accepted, every invalid one refused, by pydantic's classes and by the server."""

import enum
import json
from typing import Annotated, Any, Literal

import hypothesis
import hypothesis.strategies as st
import pydantic
import pytest
from tungsten_server.checks.inputs import InputSchema
from tungsten_server.words.problems import InputError

from tungstenkit import Audio, BaseIO, Binary, Field, Image, MaskedImage, Option, Video
from tungstenkit.sdk.schema import json_schema
from tungstenkit.trial.samples import make_samples

MAX_FILE = 10**7


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Box(BaseIO):
    left: int = Field(ge=0)
    label: str = Option("thing", min_length=2)
    inner: tuple[int, float] | None = None


class Everything(BaseIO):
    picture: Image
    sound: Audio
    film: Video
    file: Binary
    masked: MaskedImage
    text: str
    short: str = Field(min_length=1, max_length=3)
    code: Annotated[str, pydantic.Field(pattern="^[A-Z]{2}$")] = "EN"
    count: int = Field(ge=3, le=9)
    ratio: Annotated[float, pydantic.Field(gt=0, lt=1)]
    even: Annotated[int, pydantic.Field(multiple_of=2, ge=1)] = 4
    loose: int
    yes: bool
    colour: Colour = Colour.RED
    size: Literal[1, 2, 3] = 2
    choice: str = Option("a", choices=["a", "b"])
    boxes: list[Box] = Field(min_length=1, max_length=4)
    pictures: list[Image] = Option([])
    pair: tuple[int, str]
    table: dict[str, float]
    numbers: dict[int, Box] = Option({})
    either: int | list[str] | None = None
    anything: Any = None


def accepted(schema, value):
    try:
        InputSchema(schema, MAX_FILE).check([value])
    except InputError:
        return False
    return True


def check_all(io_class, seed=0):
    schema = json_schema(io_class)
    samples = make_samples(schema, seed)
    for sample in [*samples.valid, *samples.broken]:
        assert accepted(schema, sample.value), sample.what
    for sample in samples.valid:
        io_class.model_validate_json(json.dumps(sample.value))
    for sample in samples.invalid:
        assert not accepted(schema, sample.value), (sample.what, str(sample.value)[:300])
    return samples


def test_every_valid_one_is_accepted_and_every_invalid_one_refused():
    samples = check_all(Everything)
    assert samples.gaps == []
    tried = {sample.what for sample in samples.valid}
    for wanted in (
        "count: the least, 3",
        "count: the most, 9",
        'colour: the choice "blue"',
        "text: empty",
        "picture: grey",
        "pictures: 0 items",
        "pictures: 2 items",
        "boxes: inner: null",
    ):
        assert wanted in tried
    refused = {sample.what for sample in samples.invalid}
    for wanted in (
        "picture: left out",
        "count: below the least",
        "count: above the most",
        "ratio: the least, which is excluded",
        "short: too long",
        "short: too short",
        "boxes: too many items",
        "boxes: too few items",
        "choice: a text in place of it",
        "picture: no base64",
        "boxes: an item: left: below the least",
    ):
        assert wanted in refused


def test_a_seed_always_gives_the_same_and_another_others():
    schema = json_schema(Everything)
    assert make_samples(schema, 1) == make_samples(schema, 1)
    assert make_samples(schema, 1) != make_samples(schema, 2)


def test_each_option_is_left_out_once_and_given_once():
    class Greeting(BaseIO):
        name: str
        times: int = Option(2, ge=1, le=3)

    values = [sample.value for sample in make_samples(json_schema(Greeting)).valid]
    assert any("times" not in value for value in values)
    assert {value.get("times") for value in values} >= {1, 2, 3}


def test_a_field_that_no_value_is_known_for_is_named():
    class Strange(BaseIO):
        code: Annotated[str, pydantic.Field(pattern="^zq{7}[0-9]{9}$")]

    samples = make_samples(json_schema(Strange))
    assert samples.valid == []
    assert samples.gaps[0].startswith("code: no value is known")


def test_an_option_that_no_value_is_known_for_keeps_its_default():
    class Strange(BaseIO):
        code: Annotated[str, pydantic.Field(pattern="^zq{7}[0-9]$")] = "zqqqqqqq1"

    samples = check_all(Strange)
    assert {"code": "zqqqqqqq1"} in [sample.value for sample in samples.valid]


@pytest.mark.parametrize("kind", [Image, MaskedImage])
def test_broken_pictures_are_what_a_schema_can_not_refuse(kind):
    class Picture(BaseIO):
        picture: kind

    samples = check_all(Picture)
    assert samples.broken


def test_a_model_may_refuse_a_picture_of_16_bits():
    """As `to_pil_image` does, until it is told how to scale it."""

    class Picture(BaseIO):
        picture: Image

    samples = check_all(Picture)
    assert "picture: a picture of 16 bits" in {sample.what for sample in samples.broken}
    assert not any("16 bits" in sample.what for sample in samples.valid)


# Whatever a schema may be made of.
numbers = st.integers(-1000, 1000)


@st.composite
def annotations(draw, depth=2):
    kinds = ["text", "int", "float", "bool", "literal", "image", "none"]
    kind = draw(st.sampled_from(kinds + (["list", "tuple", "dict", "union", "class"] if depth else [])))
    inner = annotations(depth=depth - 1)
    if kind == "text":
        low = draw(st.integers(0, 5))
        return Annotated[str, pydantic.Field(min_length=low, max_length=low + draw(st.integers(0, 3000)))]
    if kind in ("int", "float"):
        low = draw(numbers)
        high = low + draw(st.integers(2, 1000))
        limits = draw(
            st.sampled_from([{}, {"ge": low}, {"le": high}, {"ge": low, "lt": high}, {"gt": low, "le": high}])
        )
        if kind == "int" and draw(st.booleans()):
            limits["multiple_of"] = draw(st.integers(1, 2))
        return Annotated[int if kind == "int" else float, pydantic.Field(**limits)]
    if kind == "list":
        low = draw(st.integers(0, 3))
        return Annotated[
            list[draw(inner)], pydantic.Field(min_length=low, max_length=low + draw(st.integers(0, 30)))
        ]
    if kind == "tuple":
        return tuple[draw(inner), draw(inner)]
    if kind == "dict":
        return dict[str, draw(inner)]
    if kind == "union":
        return draw(inner) | draw(inner)
    if kind == "class":
        return pydantic.create_model(
            "Inner", __base__=BaseIO, a=(draw(inner), ...), b=(draw(inner) | None, None)
        )
    return {"bool": bool, "literal": Literal["x", 3], "image": Image, "none": type(None)}[kind]


@hypothesis.settings(deadline=None, max_examples=60, suppress_health_check=list(hypothesis.HealthCheck))
@hypothesis.given(annotations(), annotations())
def test_of_any_class(first, second):
    io_class = pydantic.create_model(
        "Input", __base__=BaseIO, first=(first, ...), second=(second | None, None)
    )
    samples = check_all(io_class)
    assert samples.valid
