"""Model code as a type checker sees it; checked, never run."""

from typing import assert_type

from tungstenkit import BaseIO, Field, Image, MaskedImage, Option, define_model


class Input(BaseIO):
    image: Image
    masked: MaskedImage
    text: str = Field(description="a text", min_length=1)
    size: int = Option(3, choices=[1, 2, 3])


class Output(BaseIO):
    image: Image


@define_model(input=Input, output=Output, batch_size=2, gpu=True, gpu_mem_gb=0.5, python_packages=["torch"])
class Model:
    def setup(self) -> None:
        self.factor = 2

    def predict(self, inputs: list[Input]) -> list[Output]:
        assert_type(inputs[0].size, int)
        assert_type(inputs[0].image.to_bytes(), bytes)
        return [Output(image=Image.from_pil_image(one.image.to_pil_image())) for one in inputs]


assert_type(Model, type[Model])
assert_type(Model().factor, int)


class Plain:
    def predict(self, inputs: list[Input]) -> list[Output]:
        return []


assert_type(define_model(Plain, input=Input, output=Output), type[Plain])

define_model(input=Input, output=Output, batchsize=2)  # type: ignore[call-overload]
define_model(input=Input)  # type: ignore[call-overload]
define_model(input=Input, output=Output, batch_size="2")  # type: ignore[call-overload]
define_model(input=str, output=Output)  # type: ignore[arg-type]
