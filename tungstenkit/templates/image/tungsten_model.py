"""A picture in, a picture out: draws it in a few colours, and names them."""

from tungstenkit import BaseIO, Field, Image, Option, define_model


class Input(BaseIO):
    image: Image
    colors: int = Option(6, ge=2, le=64, description="How many are left")


class Output(BaseIO):
    image: Image = Field(description="A PNG")
    colors: list[str] = Field(description="As #rrggbb, the most frequent first")


@define_model(
    input=Input,
    output=Output,
    batch_size=4,
    mem_gb=1,
    python_packages=[],  # such as "opencv-python-headless"; Pillow is in every image
    examples=[{"image": "example.png"}, {"image": "example.png", "colors": 3}],
)
class Poster:
    def setup(self) -> None:
        """Load what is loaded once, such as weights from a file beside this one."""

    def predict(self, inputs: list[Input]) -> list[Output]:
        colors = inputs[0].colors  # all options are equal within a batch
        return [draw(one.image, colors) for one in inputs]


def draw(image: Image, colors: int) -> Output:
    """Your own code in place of this."""
    picture = image.to_pil_image()  # RGB, as it is seen
    poster = picture.quantize(colors)
    counts, palette = poster.histogram(), poster.getpalette() or []
    used = sorted((place for place in range(colors) if counts[place]), key=lambda place: -counts[place])
    names = ["#" + bytes(palette[3 * place : 3 * place + 3]).hex() for place in used]
    return Output(image=Image.from_pil_image(poster.convert("RGB")), colors=names)
