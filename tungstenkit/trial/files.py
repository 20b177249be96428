"""Files to try a model with: small and real, a function of a seed."""

from __future__ import annotations

import base64
import functools
import io
import math
import random
import struct
import wave
from importlib import resources
from typing import TYPE_CHECKING

from PIL import Image, ImageDraw

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tungstenkit.trial.scalars import Value


def data_uri(media_type: str, content: bytes) -> str:
    """A file as JSON has it."""
    return f"data:{media_type};base64,{base64.b64encode(content).decode()}"


def encoded(picture: Image.Image, image_format: str) -> bytes:
    """A picture's file."""
    buffer = io.BytesIO()
    picture.save(buffer, image_format)
    return buffer.getvalue()


def picture_uri(picture: Image.Image, image_format: str) -> str:
    """A picture's file as JSON has it."""
    content = encoded(picture, image_format)  # first: Pillow knows a format's media type once it was used
    return data_uri(Image.MIME[image_format], content)


@functools.lru_cache(16)
def picture_of(seed: int, size: tuple[int, int]) -> Image.Image:
    """Things of one colour each on a gradient: something to find, and something to blur."""
    width, height = size
    chance = random.Random(f"{seed} {size}")  # noqa: S311 (no secret)
    rows = Image.linear_gradient("L").resize(size)
    picture = Image.merge(
        "RGB", (rows, rows.transpose(Image.Transpose.ROTATE_180), Image.new("L", size, 128))
    )
    draw = ImageDraw.Draw(picture)
    for _ in range(4 if min(size) > 8 else 0):
        left, top = chance.randrange(width // 2), chance.randrange(height // 2)
        colour = (chance.randrange(256), chance.randrange(256), chance.randrange(256))
        draw.ellipse((left, top, left + width // 3, top + height // 3), fill=colour)
    return picture


def _images(seed: int) -> Iterator[Value]:
    picture = picture_of(seed, (64, 48))
    yield "a PNG of 64 x 48", picture_uri(picture, "PNG")
    yield "a JPEG of 320 x 240", picture_uri(picture_of(seed, (320, 240)), "JPEG")
    yield "grey", picture_uri(picture.convert("L"), "PNG")
    clear = picture.convert("RGBA")
    clear.putalpha(Image.linear_gradient("L").resize(clear.size))
    yield "with transparency", picture_uri(clear, "PNG")
    yield "with a palette", picture_uri(picture.convert("P"), "PNG")
    yield "black and white", picture_uri(picture.convert("1"), "PNG")
    yield "a CMYK JPEG", picture_uri(picture.convert("CMYK"), "JPEG")
    yield "one pixel", picture_uri(picture_of(seed, (1, 1)), "PNG")
    yield "wide and flat", picture_uri(picture_of(seed, (500, 2)), "PNG")


def _sounds(_seed: int) -> Iterator[Value]:
    yield "half a second, mono, 16 kHz", data_uri("audio/wav", _sound(16000, 1, 0.5))
    yield "half a second, stereo, 44.1 kHz", data_uri("audio/wav", _sound(44100, 2, 0.5))
    yield "a hundredth of a second", data_uri("audio/wav", _sound(16000, 1, 0.01))


def _sound(rate: int, channels: int, seconds: float) -> bytes:
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(2)
        file.setframerate(rate)
        for place in range(int(rate * seconds)):
            level = int(12000 * math.sin(2 * math.pi * 440 * place / rate))
            file.writeframesraw(struct.pack("<h", level) * channels)
    return buffer.getvalue()


def _films(_seed: int) -> Iterator[Value]:
    film = resources.files(__package__).joinpath("sample.mp4").read_bytes()
    yield "a second, 64 x 48, H.264 and AAC", data_uri("video/mp4", film)


def _binaries(seed: int) -> Iterator[Value]:
    yield "a text file", data_uri("text/plain", b"one\ntwo\n")
    yield "a kilobyte of noise", data_uri("application/octet-stream", random.Random(seed).randbytes(1000))  # noqa: S311
    yield "one byte", data_uri("application/octet-stream", b"\0")


FILES = {"image": _images, "audio": _sounds, "video": _films, "binary": _binaries}
