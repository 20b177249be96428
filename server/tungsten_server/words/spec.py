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
    stream: bool = False
    """Whether outputs come piece by piece."""


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
    input_schema = _in_order(_get(document, "input-schema", dict))
    output_schema = _in_order(_get(document, "output-schema", dict))
    demo_output_schema = document.get("demo-output-schema")
    return Spec(
        name=_get(document, "name", str),
        module=_get(document, "module", str),
        class_name=_get(document, "class", str),
        batch_size=batch_size,
        input_schema=input_schema,
        output_schema=output_schema,
        demo_output_schema=output_schema
        if demo_output_schema is None
        else _in_order(_get(document, "demo-output-schema", dict)),
        # Not in specs of earlier versions.
        examples=_value_in_order(
            _get({"examples": [], **document}, "examples", list), {"items": input_schema}
        ),
        stream=document.get("stream") is True,
    )


def _in_order(schema: Any) -> Any:  # noqa: ANN401 (any part of a schema)
    """A schema whose objects have their fields in the order of `x-order`: the file's keys are sorted."""
    if isinstance(schema, list):
        return [_in_order(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    # Values of enumerations and defaults are no schemas.
    ordered = {
        key: value if key in ("enum", "choices", "const", "default", "properties") else _in_order(value)
        for key, value in schema.items()
    }
    properties = schema.get("properties", {})
    if properties:
        names = schema.get("x-order") or properties
        ordered["properties"] = {name: _in_order(properties[name]) for name in names}
    return ordered


def _value_in_order(value: Any, schema: dict[str, Any]) -> Any:  # noqa: ANN401 (JSON)
    """An input with its fields in the schema's order."""
    if isinstance(value, list):
        return [_value_in_order(item, schema.get("items", {})) for item in value]
    if not isinstance(value, dict):
        return value
    known = schema.get("properties", {})
    names = [*(name for name in known if name in value), *(name for name in value if name not in known)]
    return {name: _value_in_order(value[name], known.get(name, {})) for name in names}


def _get(document: dict[str, Any], key: str, kind: type[T]) -> T:
    value = document.get(key)
    if not isinstance(value, kind) or isinstance(value, bool):
        msg = f"{key} is {'missing' if key not in document else f'not of type {kind.__name__}'}"
        raise SpecError(msg)
    return value
