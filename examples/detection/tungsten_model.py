"""Finds things of one colour on a plain background: a detector without weights, in Pillow alone."""

import PIL.Image
from PIL import ImageChops, ImageDraw

from tungstenkit import BaseIO, Field, Image, Option, define_model

# What the largest side becomes before things are looked for: it bounds the time, whatever the picture's size.
LARGEST_SIDE = 200

COLOURS = {
    "black": (0, 0, 0),
    "white": (255, 255, 255),
    "grey": (128, 128, 128),
    "red": (220, 40, 40),
    "orange": (245, 150, 30),
    "yellow": (245, 220, 50),
    "green": (50, 160, 70),
    "blue": (40, 90, 220),
    "purple": (140, 60, 180),
}


class BoundingBox(BaseIO):
    xmin: int
    ymin: int
    xmax: int
    ymax: int


class Detection(BaseIO):
    label: str = Field(description="The colour's name")
    score: float = Field(description="The part of the box that the thing fills", ge=0, le=1)
    bbox: BoundingBox


class Input(BaseIO):
    image: Image = Field(description="Things of one colour each, on a plain background")
    min_area: float = Option(0.002, ge=0, le=1, description="The smallest thing, as a part of the picture")


class Output(BaseIO):
    detections: list[Detection] = Field(description="From the largest to the smallest")


class Visualization(BaseIO):
    result: Image = Field(description="The picture with its boxes")


@define_model(
    input=Input,
    output=Output,
    demo_output=Visualization,
    batch_size=4,
    mem_gb=1,
    examples=[{"image": "shapes.png"}, {"image": "shapes.png", "min_area": 0.02}],
)
class Detector:
    def predict(self, inputs: list[Input]) -> list[Output]:
        min_area = inputs[0].min_area  # all options are equal within a batch
        return [Output(detections=detect(one.image.to_pil_image(), min_area)) for one in inputs]

    def predict_demo(self, inputs: list[Input]) -> tuple[list[Output], list[Visualization]]:
        outputs = self.predict(inputs)
        pictures = [
            draw(one.image.to_pil_image(), output) for one, output in zip(inputs, outputs, strict=True)
        ]
        for output in outputs:
            print(f"{len(output.detections)} found")
        return outputs, [Visualization(result=Image.from_pil_image(picture)) for picture in pictures]


def detect(picture: PIL.Image.Image, min_area: float) -> list[Detection]:
    """Find connected areas that differ from the picture's most frequent colour."""
    small = picture.copy()
    small.thumbnail((LARGEST_SIDE, LARGEST_SIDE))
    area = small.width * small.height
    # Few colours, so that noise makes no background of its own.
    rough = small.point(lambda value: value & 0xF0)
    _, background = max(rough.getcolors(area))
    difference = ImageChops.difference(rough, PIL.Image.new("RGB", small.size, background))
    red, green, blue = difference.split()
    mask = ImageChops.lighter(ImageChops.lighter(red, green), blue).point(
        lambda value: 255 if value > 32 else 0
    )

    found = []
    while (first := mask.tobytes().find(b"\xff")) >= 0:
        ImageDraw.floodfill(mask, (first % mask.width, first // mask.width), 1)
        thing = mask.point(lambda value: 255 if value == 1 else 0)
        mask.paste(0, mask=thing)
        size = thing.histogram()[255]
        if size >= min_area * area:
            found.append(
                (size, describe(small, thing, picture.width / small.width, picture.height / small.height))
            )
    return [detection for _, detection in sorted(found, key=lambda one: -one[0])]


def describe(small: PIL.Image.Image, thing: PIL.Image.Image, wider: float, higher: float) -> Detection:
    """Name a thing, and say where it is in the picture that was not made smaller."""
    left, top, right, bottom = thing.getbbox()
    size = thing.histogram()[255]
    pixels = [channel.histogram(thing) for channel in small.split()]
    mean = [sum(value * count for value, count in enumerate(one)) / size for one in pixels]
    label = min(COLOURS, key=lambda name: sum((a - b) ** 2 for a, b in zip(COLOURS[name], mean, strict=True)))
    return Detection(
        label=label,
        score=round(size / ((right - left) * (bottom - top)), 3),
        bbox=BoundingBox(
            xmin=round(left * wider),
            ymin=round(top * higher),
            xmax=round(right * wider),
            ymax=round(bottom * higher),
        ),
    )


def draw(picture: PIL.Image.Image, output: Output) -> PIL.Image.Image:
    """Draw the boxes and their labels."""
    canvas = ImageDraw.Draw(picture)
    width = max(2, max(picture.size) // 200)
    for one in output.detections:
        box = one.bbox
        canvas.rectangle((box.xmin, box.ymin, box.xmax, box.ymax), outline="black", width=width)
        text = f"{one.label} {one.score:.0%}"
        place = (box.xmin, max(box.ymin - width, 12))
        canvas.text(place, text, anchor="lb", fill="black", stroke_width=1, stroke_fill="white")
    return picture
