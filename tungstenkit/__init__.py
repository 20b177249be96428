"""Tungstenkit: a decorated Python class becomes a container image that serves it.

The names here are the SDK, `tungstenkit.sdk`, which model code imports and which is in images. It needs pydantic
and Pillow alone. The compiler is never imported from here: `tungstenkit.cli` and what is below it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tungstenkit.sdk.define import define_model
    from tungstenkit.sdk.downloads import Download, HuggingFace
    from tungstenkit.sdk.io import BaseIO, Field, Option
    from tungstenkit.sdk.media import Audio, Binary, Image, MaskedImage, Video
    from tungstenkit.sdk.pieces import END, End

__all__ = [
    "END",
    "Audio",
    "BaseIO",
    "Binary",
    "Download",
    "End",
    "Field",
    "HuggingFace",
    "Image",
    "MaskedImage",
    "Option",
    "Video",
    "define_model",
]

_HOME = {
    "define_model": "sdk.define",
    **dict.fromkeys(("Download", "HuggingFace"), "sdk.downloads"),
    **dict.fromkeys(("BaseIO", "Field", "Option"), "sdk.io"),
    **dict.fromkeys(("Audio", "Binary", "Image", "MaskedImage", "Video"), "sdk.media"),
    **dict.fromkeys(("END", "End"), "sdk.pieces"),
}


def __getattr__(name: str) -> object:
    """What a model asks for, brought in then: the command line starts without pydantic and Pillow (PEP 562)."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
