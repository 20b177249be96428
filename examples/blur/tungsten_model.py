"""Blurs a picture with Pillow's Gaussian blur."""

from PIL import ImageFilter

from tungstenkit import BaseIO, Field, Image, Option, define_model


class Input(BaseIO):
    image: Image = Field(description="The picture to blur")
    radius: float = Option(2.0, ge=0, le=100, description="Standard deviation of the blur, in pixels")


class Output(BaseIO):
    image: Image = Field(description="The blurred picture, a PNG")


@define_model(input=Input, output=Output, batch_size=4, mem_gb=1)
class Blur:
    def predict(self, inputs: list[Input]) -> list[Output]:
        # All inputs of a batch have the same options.
        blur = ImageFilter.GaussianBlur(inputs[0].radius)
        pictures = [one.image.to_pil_image().filter(blur) for one in inputs]
        return [Output(image=Image.from_pil_image(picture)) for picture in pictures]
