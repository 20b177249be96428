"""Writes a caption below the middle of a picture whose contrast it stretches first."""

import numpy as np
import PIL.Image
from PIL import ImageDraw, ImageFont

from tungstenkit import BaseIO, Field, Image, Option, define_model

# Where Debian's fonts-dejavu-core has it.
FONT = "/usr/share/fonts/truetype/dejavu/DejaVuSans-Bold.ttf"


class Input(BaseIO):
    image: Image = Field(description="The picture")
    text: str = Field(min_length=1, max_length=200, description="The caption")
    font_size: int = Option(32, ge=8, le=256, description="Height of the letters, in pixels")
    color: str = Option("white", choices=["white", "black", "yellow"], description="Colour of the letters")


class Output(BaseIO):
    image: Image = Field(description="The picture with its caption, a PNG")


def stretch_contrast(picture: PIL.Image.Image) -> PIL.Image.Image:
    """Spread each colour channel over the whole range, but for its darkest and lightest hundredth."""
    pixels = np.asarray(picture, dtype=np.float32)
    low, high = np.percentile(pixels, (1, 99), axis=(0, 1))
    stretched = (pixels - low) * (255 / np.maximum(high - low, 1))
    return PIL.Image.fromarray(stretched.clip(0, 255).round().astype(np.uint8))


@define_model(
    input=Input,
    output=Output,
    batch_size=8,
    mem_gb=1,
    python_version="3.13",
    python_packages=["numpy"],
    system_packages=["fonts-dejavu-core"],
)
class Caption:
    def predict(self, inputs: list[Input]) -> list[Output]:
        # All inputs of a batch have the same options.
        font = ImageFont.truetype(FONT, inputs[0].font_size)
        return [Output(image=Image.from_pil_image(self.draw(one, font))) for one in inputs]

    def draw(self, one: Input, font: ImageFont.FreeTypeFont) -> PIL.Image.Image:
        picture = stretch_contrast(one.image.to_pil_image())
        outline = "white" if one.color == "black" else "black"
        ImageDraw.Draw(picture).text(
            (picture.width / 2, picture.height - one.font_size / 2),
            one.text,
            fill=one.color,
            font=font,
            anchor="md",
            stroke_width=max(1, one.font_size // 16),
            stroke_fill=outline,
        )
        return picture
