"""The model's `spec.json`, read as data: the part of it that the server needs.

The file is written when the image is built and never changes under a running server. `ARCHITECTURE.md` gives
its keys.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from pathlib import Path

SPEC_VERSION = 1

T = TypeVar("T")


class SpecError(ValueError):
    """A spec that is no JSON, lacks a key, or is of a version that this server doesn't know."""


@dataclass(frozen=True)
class Spec:
    """What the server knows about the model that it serves."""

    name: str
    module: str
    class_name: str
    batch_size: int
    input_schema: dict[str, Any]
    output_schema: dict[str, Any]
    demo_output_schema: dict[str, Any]
    """The output's schema where the model has no demo output of its own."""
    examples: list[dict[str, Any]] = field(default_factory=list)
    """Inputs to try the model with."""


def read_spec(path: Path) -> Spec:
    """Read a spec. Raises SpecError, whose text names the key at fault, and OSError."""
    try:
        document = json.loads(path.read_bytes())
    except ValueError as error:
        msg = f"not JSON: {error}"
        raise SpecError(msg) from error
    if not isinstance(document, dict):
        msg = "not a JSON object"
        raise SpecError(msg)
    version = document.get("spec-version")
    if version != SPEC_VERSION:
        msg = f"spec-version is {version!r}; this server knows version {SPEC_VERSION}"
        raise SpecError(msg)
    batch_size = _get(document, "batch-size", int)
    if batch_size < 1:
        msg = f"batch-size is {batch_size}, not at least 1"
        raise SpecError(msg)
    output_schema = _get(document, "output-schema", dict)
    demo_output_schema = document.get("demo-output-schema")
    return Spec(
        name=_get(document, "name", str),
        module=_get(document, "module", str),
        class_name=_get(document, "class", str),
        batch_size=batch_size,
        input_schema=_get(document, "input-schema", dict),
        output_schema=output_schema,
        demo_output_schema=output_schema
        if demo_output_schema is None
        else _get(document, "demo-output-schema", dict),
        # Not in specs of earlier versions.
        examples=_get({"examples": [], **document}, "examples", list),
    )


def _get(document: dict[str, Any], key: str, kind: type[T]) -> T:
    value = document.get(key)
    if not isinstance(value, kind) or isinstance(value, bool):
        msg = f"{key} is {'missing' if key not in document else f'not of type {kind.__name__}'}"
        raise SpecError(msg)
    return value
