"""Models from Python: `models.get("blur").predict({…})`, without the command line, which makes the same calls.

What is here is for programs: the names below, as `tungstenkit` itself has those of the SDK, each brought in when it is
first asked for. Nothing here prints.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tungstenkit.models.find import get
    from tungstenkit.models.here import inspect, list, remove  # noqa: A004 (as a program reads it: `models.list()`)
    from tungstenkit.models.model import Demo, Model
    from tungstenkit.models.pulling import Pulled, pull
    from tungstenkit.models.stream import AsyncStream, Stream
    from tungstenkit.models.values import Output
    from tungstenkit.run.client import PredictionError
    from tungstenkit.sdk.errors import TungstenError

__all__ = [
    "AsyncStream",
    "Demo",
    "Model",
    "Output",
    "PredictionError",
    "Pulled",
    "Stream",
    "TungstenError",
    "get",
    "inspect",
    "list",
    "pull",
    "remove",
]

_HOME = {
    "get": "models.find",
    **dict.fromkeys(("Demo", "Model"), "models.model"),
    **dict.fromkeys(("AsyncStream", "Stream"), "models.stream"),
    **dict.fromkeys(("inspect", "list", "remove"), "models.here"),
    **dict.fromkeys(("Pulled", "pull"), "models.pulling"),
    "Output": "models.values",
    "PredictionError": "run.client",
    "TungstenError": "sdk.errors",
}


def __getattr__(name: str) -> object:
    """What a program asks for, brought in then (PEP 562)."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value = getattr(import_module(f"tungstenkit.{_HOME[name]}"), name)
    return value


def __dir__() -> Iterable[str]:
    return sorted({*globals(), *__all__})
