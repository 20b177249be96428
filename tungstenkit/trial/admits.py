"""Whether a schema in normal form allows a value."""

from __future__ import annotations

import math
import re
from typing import Any

Schema = dict[str, Any]


def admits(schema: Schema, value: Any) -> bool:  # noqa: ANN401 (JSON)
    """Whether a schema in normal form allows a value; files as the server reads them."""
    if "anyOf" in schema:
        return any(admits(choice, value) for choice in schema["anyOf"])
    if "enum" in schema and not any(
        value == one and isinstance(value, bool) == isinstance(one, bool) for one in schema["enum"]
    ):
        return False
    if schema.get("x-file-type") not in (None, "masked_image"):
        return isinstance(value, str) and (
            "@" not in value if value.startswith("data:") else _is_base64("".join(value.split()))
        )
    kind = schema.get("type")
    if kind is None:
        return True
    if kind in ("integer", "number"):
        return _admits_number(schema, value, whole=kind == "integer")
    if kind == "string":
        return (
            isinstance(value, str)
            and schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", math.inf)
            and ("pattern" not in schema or re.search(schema["pattern"], value) is not None)
        )
    if kind == "array":
        prefix = schema.get("prefixItems", [])
        return (
            isinstance(value, list)
            and schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", math.inf)
            and all(admits(item, one) for item, one in zip(prefix, value, strict=False))
            and all(admits(schema.get("items", {}), one) for one in value[len(prefix) :])
        )
    if kind == "object":
        return isinstance(value, dict) and _admits_object(schema, value)
    return isinstance(value, bool) if kind == "boolean" else value is None


def _is_base64(text: str) -> bool:
    return len(text) % 4 == 0 and re.fullmatch(r"[A-Za-z0-9+/]+={0,2}", text) is not None


def _admits_number(schema: Schema, value: Any, *, whole: bool) -> bool:  # noqa: ANN401
    if isinstance(value, bool) or not isinstance(value, (int, float)) or (whole and value != int(value)):
        return False
    multiple = schema.get("multipleOf")
    return (
        schema.get("minimum", -math.inf) <= value <= schema.get("maximum", math.inf)
        and ("exclusiveMinimum" not in schema or value > schema["exclusiveMinimum"])
        and ("exclusiveMaximum" not in schema or value < schema["exclusiveMaximum"])
        and (multiple is None or math.isclose(value / multiple, round(value / multiple), abs_tol=1e-12))
    )


def _admits_object(schema: Schema, value: dict[str, Any]) -> bool:
    fields, others = schema.get("properties", {}), schema.get("additionalProperties", {})
    if not schema.get("minProperties", 0) <= len(value) <= schema.get("maxProperties", math.inf):
        return False
    if any(name not in value for name in schema.get("required", ())):
        return False
    names = {**schema.get("propertyNames", {}), "type": "string"}
    return all(
        admits(fields[name], item) if name in fields else others is not False and admits(others or {}, item)
        for name, item in value.items()
    ) and all(admits(names, name) for name in value)
