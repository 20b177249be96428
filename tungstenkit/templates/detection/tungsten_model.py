"""A picture in, a list of objects out, with boxes on the demo page: finds what is not background."""

import PIL.Image
from PIL import ImageChops, ImageDraw

from tungstenkit import BaseIO, Field, Image, Option, define_model


class BoundingBox(BaseIO):
    xmin: int
    ymin: int
    xmax: int
    ymax: int


class Detection(BaseIO):
    label: str
    score: float = Field(ge=0, le=1)
    bbox: BoundingBox


class Input(BaseIO):
    image: Image
    threshold: float = Option(0.3, ge=0, le=1, description="The least score")


class Output(BaseIO):
    detections: list[Detection]


class Visualization(BaseIO):
    result: Image = Field(description="The picture with its boxes")


@define_model(
    input=Input,
    output=Output,
    demo_output=Visualization,
    batch_size=4,
    mem_gb=1,
    python_packages=[],  # such as "ultralytics", with gpu=True
    examples=[{"image": "example.png"}],
)
class Detector:
    def setup(self) -> None:
        """Load what is loaded once, such as weights from a file beside this one."""

    def predict(self, inputs: list[Input]) -> list[Output]:
        threshold = inputs[0].threshold  # all options are equal within a batch
        found = [detect(one.image.to_pil_image()) for one in inputs]
        return [Output(detections=[one for one in each if one.score >= threshold]) for each in found]

    def predict_demo(self, inputs: list[Input]) -> tuple[list[Output], list[Visualization]]:
        """What the demo page runs: the outputs, and what it shows for each."""
        outputs = self.predict(inputs)
        pictures = [
            draw(one.image.to_pil_image(), output.detections)
            for one, output in zip(inputs, outputs, strict=True)
        ]
        return outputs, [Visualization(result=Image.from_pil_image(picture)) for picture in pictures]


def detect(picture: PIL.Image.Image) -> list[Detection]:
    """Your own detector in place of this: it takes the corner for the background, and all else for one thing."""
    background = PIL.Image.new("RGB", picture.size, picture.getpixel((0, 0)))
    different = (
        ImageChops.difference(picture, background).convert("L").point(lambda value: 255 * (value > 40))
    )
    box = different.getbbox()
    if box is None:
        return []
    left, top, right, bottom = box
    part = different.histogram()[255] / ((right - left) * (bottom - top))
    return [
        Detection(
            label="thing",
            score=round(part, 3),  # the part of its box that it fills
            bbox=BoundingBox(xmin=left, ymin=top, xmax=right, ymax=bottom),
        )
    ]


def draw(picture: PIL.Image.Image, detections: list[Detection]) -> PIL.Image.Image:
    canvas = ImageDraw.Draw(picture)
    for one in detections:
        box = one.bbox
        canvas.rectangle((box.xmin, box.ymin, box.xmax, box.ymax), outline="red", width=3)
        text = f"{one.label} {one.score:.0%}"
        canvas.text(
            (box.xmin, max(box.ymin, 12)),
            text,
            anchor="lb",
            fill="black",
            stroke_width=1,
            stroke_fill="white",
        )
    return picture
