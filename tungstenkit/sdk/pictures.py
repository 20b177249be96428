"""Pillow's images: how they are encoded, which modes are converted, and the camera's turn."""

from __future__ import annotations

import io
import struct
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import PIL.Image


class Picture:
    """A Pillow image that nobody else has, and how it is to be encoded."""

    def __init__(self, image: PIL.Image.Image, image_format: str, **options: Any) -> None:  # noqa: ANN401
        self.image = image
        self._format = image_format
        self._options = options

    def encoded(self) -> bytes:
        """The file that it is encoded as."""
        buffer = io.BytesIO()
        if getattr(self.image, "n_frames", 1) > 1:
            self._options["save_all"] = True
        self.image.save(buffer, format=self._format, **self._options)
        return buffer.getvalue()


# The formats that an image keeps, with the options that change its pixels least.
KEPT_FORMATS: dict[str, dict[str, Any]] = {
    "JPEG": {"quality": "keep"},
    "WEBP": {"lossless": True},
    "GIF": {},
    "BMP": {},
    "TIFF": {},
}

# Modes with more than 8 bits a colour.
DEEP = ("I", "F", "I;16", "I;16L", "I;16B", "I;16N")

# Of those that are converted, the greatest value that is kept.
HELD = {"I": 65535, "F": 255}

# Python for who gets a picture of such a mode.
SCALING = """\
    grey = image.to_pil_image("F")
    low, high = grey.getextrema()
    scale = 255 / ((high - low) or 1)
    picture = grey.point(lambda value: value * scale - low * scale).convert("L").convert("{mode}")"""

_ORIENTATION = 0x0112  # EXIF's tag


def orientation(image: PIL.Image.Image) -> int:
    """What EXIF says of the camera's turn: 1 to 8; 1 where it says nothing that is known."""
    try:
        found = image.getexif().get(_ORIENTATION)
    except (OSError, SyntaxError, ValueError, struct.error):  # EXIF that is damaged
        return 1
    return found if isinstance(found, int) and 1 < found <= 8 else 1


def turned(image: PIL.Image.Image) -> PIL.Image.Image:
    """An image that is loaded, turned as its EXIF says."""
    if orientation(image) == 1:
        return image
    from PIL import ImageOps  # few pictures need it

    # Forgets what EXIF says of it, too: model code that does the same turns nothing twice.
    return ImageOps.exif_transpose(image)


MODES = ("RGB", "RGBA", "CMYK", "YCbCr", "LAB", "HSV", "1", "L", "P", "I", "F")

# The nearest mode that PNG has; RGB where none is named.
PNG_MODES = {"I": "I;16", "F": "L", "La": "LA", "PA": "RGBA", "RGBa": "RGBA"}
