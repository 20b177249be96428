"""Tungstenkit: a decorated Python class becomes a container image that serves it.

This package's top level is the SDK, which model code imports. It needs pydantic and Pillow alone. The
compiler, `tungstenkit.spec.spec` and everything after it, is never imported from here, and is not part of an image.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tungstenkit.sdk.define import define_model
    from tungstenkit.sdk.downloads import Download, HuggingFace
    from tungstenkit.sdk.io import BaseIO, Field, Option
    from tungstenkit.sdk.media import Audio, Binary, Image, MaskedImage, Video

__all__ = [
    "Audio",
    "BaseIO",
    "Binary",
    "Download",
    "Field",
    "HuggingFace",
    "Image",
    "MaskedImage",
    "Option",
    "Video",
    "define_model",
]

_HOME = {
    "define_model": "define",
    **dict.fromkeys(("Download", "HuggingFace"), "downloads"),
    **dict.fromkeys(("BaseIO", "Field", "Option"), "io"),
    **dict.fromkeys(("Audio", "Binary", "Image", "MaskedImage", "Video"), "media"),
}


def __getattr__(name: str) -> object:
    """What a model asks for, brought in then: the command line starts without pydantic and Pillow (PEP 562)."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
