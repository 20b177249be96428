"""What type checkers make of the API: mypy holds this file, as strictly as the rest, and nobody runs it."""

from collections.abc import Generator
from typing import assert_type

from tungstenkit import END, BaseIO, End, Option, define_model, models


class Input(BaseIO):
    text: str
    number: int = Option(1)


class Output(BaseIO):
    text: str


@define_model(input=Input, output=Output)
class Echo:
    def predict(self, inputs: list[Input]) -> list[Output]:
        return [Output(text=one.text) for one in inputs]


@define_model(input=Input, output=Output)
class Writer:
    def predict(self, inputs: list[Input]) -> Generator[list[Output | End | None], list[bool], None]:
        gone = yield [Output(text=one.text) for one in inputs]
        assert_type(gone, list[bool])
        yield [END for _ in inputs]


async def of_a_stream() -> None:
    with models.get(Writer, local=True) as model:
        assert_type(model, models.Model[Input, Output])
        stream = model.stream({"text": "a"})
        for piece in stream:
            assert_type(piece, models.Output)
        assert_type(stream.result(), Output)
        following = model.stream_async(Input(text="a"))
        async for piece in following:
            assert_type(piece, models.Output)
        assert_type(await following.result(), Output)


def of_an_image() -> None:
    model = models.get("echo", gpus=None)
    assert_type(model, models.Model[BaseIO, models.Output])
    assert_type(model.predict({"text": "a"}), models.Output)
    assert_type(model.predict([Input(text="a"), {"text": "b"}]), list[models.Output])
    models.get("echo", gpu=None)  # type: ignore[call-overload]
    models.get("echo", workers="2")  # type: ignore[call-overload]


def of_a_class() -> None:
    with models.get(Echo, local=True) as model:
        assert_type(model, models.Model[Input, Output])
        assert_type(model.predict(Input(text="a")), Output)
        assert_type(model.predict({"text": "a"}, options={"number": 2}), Output)
        assert_type(model.predict([Input(text="a")]), list[Output])
        assert_type(model.predict_demo({"text": "a"}).output, Output)
        model.predict(Output(text="a"))  # type: ignore[call-overload]
        for output in model.predict_many({"text": text} for text in "abc"):
            assert_type(output, Output)


async def of_a_url() -> None:
    async with models.get("http://127.0.0.1:3000", model_class=Echo) as model:
        assert_type(model, models.Model[Input, Output])
        assert_type(await model.predict_async({"text": "a"}), Output)
        assert_type(await model.predict_async([{"text": "a"}]), list[Output])
        async for output in model.predict_many_async([Input(text="a")]):
            assert_type(output, Output)
