"""Tungstenkit: a decorated Python class becomes a container image that serves it.

This package's top level is the SDK, which model code imports. It needs pydantic and Pillow alone. The
compiler, `tungstenkit.spec` and everything after it, is never imported from here, and is not part of an image.
"""

from tungstenkit.define import define_model
from tungstenkit.downloads import Download, HuggingFace
from tungstenkit.io import BaseIO, Field, Option
from tungstenkit.media import Audio, Binary, Image, MaskedImage, Video

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
