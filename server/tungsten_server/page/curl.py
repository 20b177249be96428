"""A model's requests as commands for a shell: what the documentation shows of each way to send an input.

The input is the model's own first example, or one made of its schema; files are named, and are the reader's. Pure.
"""

from __future__ import annotations

import json
import math
import re
import shlex
from typing import TYPE_CHECKING, Any, NamedTuple

from tungsten_server.checks.files import FILE_TYPES

if TYPE_CHECKING:
    from collections.abc import Iterator

_TYPES = {
    "image": (".png", "image/png"),
    "audio": (".wav", "audio/wav"),
    "video": (".mp4", "video/mp4"),
    "binary": (".bin", "application/octet-stream"),
}

_LONGEST_TEXT = 200
"""Characters of a text of an example's; a longer one says no more of how it is sent."""


class _File(NamedTuple):
    """A file of the reader's."""

    name: str
    media_type: str


def example_input(schema: dict[str, Any], examples: list[dict[str, Any]]) -> dict[str, Any]:
    """Make an input, with `_File` where files belong. examples: the model's own; the first one is taken."""
    value = _with_files(schema, examples[0], "") if examples else _sample(schema, "")
    return value if isinstance(value, dict) else {}


def as_json(url: str, value: dict[str, Any]) -> str:
    """Write the command that sends an input as JSON, its files as `data:` URIs."""
    head = f"curl -s {shlex.quote(url)} -H 'Content-Type: application/json'"
    marks: list[_File] = []

    def marked(one: object) -> str:
        if not isinstance(one, _File):
            raise TypeError
        marks.append(one)
        return f"\0{len(marks) - 1}\0"

    text = json.dumps([_plain(value, marked)], ensure_ascii=False)
    if not marks:
        return f"{head} -d {shlex.quote(text)}"
    # On standard input, since a file is longer than an argument may be.
    text = re.sub(r"([\\$`])", r"\\\1", text.replace("\\u0000", "\0"))
    for number, file in enumerate(marks):
        content = f"$(base64 < {shlex.quote(file.name)} | tr -d '\\n')"
        text = text.replace(f"\0{number}\0", f"data:{file.media_type};base64,{content}")
    return f"{head} --data-binary @- <<JSON\n{text}\nJSON"


def as_form(url: str, value: dict[str, Any]) -> str:
    """Write the command that sends an input as a form."""
    parts = [
        f"-F {shlex.quote(f'{name}=@{one.name}')}"
        if isinstance(one, _File)
        else f"--form-string {shlex.quote(f'{name}={one}')}"
        for name, one in _form_parts(value, "")
    ]
    return " \\\n  ".join([f"curl -s {shlex.quote(url)}", *parts])


def _form_parts(value: dict[str, Any], prefix: str) -> Iterator[tuple[str, object]]:
    for name, one in value.items():
        if one is None:
            continue
        if isinstance(one, dict) and _holds_file(one):
            yield from _form_parts(one, f"{prefix}{name}.")
        elif isinstance(one, list) and one and all(isinstance(item, _File) for item in one):
            yield from ((prefix + name, _text(item)) for item in one)
        else:
            yield prefix + name, _text(one)


def _text(value: object) -> object:
    """Write a value as a part of a form."""
    return value if isinstance(value, (str, _File)) else json.dumps(value, ensure_ascii=False)


def _holds_file(value: object) -> bool:
    if isinstance(value, dict):
        return any(map(_holds_file, value.values()))
    return isinstance(value, _File) or (isinstance(value, list) and any(map(_holds_file, value)))


def _plain(value: object, marked: Any) -> object:  # noqa: ANN401 (a function)
    """Copy a value, with texts in place of files."""
    if isinstance(value, _File):
        return marked(value)
    if isinstance(value, dict):
        return {name: _plain(one, marked) for name, one in value.items()}
    return [_plain(one, marked) for one in value] if isinstance(value, list) else value


def _file(schema: dict[str, Any], field: str) -> _File | None:
    """Name a file after the field that it is for; None where the schema is of no file."""
    kind = schema.get("x-file-type")
    if kind not in FILE_TYPES:
        return None
    suffix, media_type = _TYPES[kind]
    return _File(f"{field}{suffix}", media_type)


def _with_files(schema: dict[str, Any], value: object, field: str) -> object:
    """Copy an example, with names of files in place of their contents."""
    members = schema.get("anyOf", [schema])
    if isinstance(value, str):
        files = (_file(member, field) for member in members if value.startswith("data:"))
        return next(filter(None, files), value[:_LONGEST_TEXT])
    for member in members:
        if isinstance(value, dict) and ("properties" in member or "additionalProperties" in member):
            others = member.get("additionalProperties")
            fields = member.get("properties", {})
            rest = others if isinstance(others, dict) else {}
            return {name: _with_files(fields.get(name, rest), one, name) for name, one in value.items()}
        if isinstance(value, list) and member.get("type") == "array":
            places = member.get("prefixItems", [])
            items = member.get("items")
            rest = items if isinstance(items, dict) else {}
            return [
                _with_files(places[index] if index < len(places) else rest, one, field)
                for index, one in enumerate(value)
            ]
    return value


def _sample(schema: dict[str, Any], field: str) -> Any:  # noqa: ANN401 (JSON)
    """Make a value that a schema takes, as near as it says."""
    file = _file(schema, field)
    if file is not None:
        return file
    if "default" in schema:
        return schema["default"]
    if schema.get("enum"):
        return schema["enum"][0]
    if "anyOf" in schema:
        others = (one for one in schema["anyOf"] if one.get("type") != "null")
        return _sample(next(others, {"type": "null"}), field)
    kind = schema.get("type")
    if kind == "object":
        fields = schema.get("properties", {})
        required = schema.get("required", ())
        # What has a default need not be sent: it is shown where it is short.
        shown = (
            name
            for name, one in fields.items()
            if name in required or (one.get("default") and not _file(one, name))
        )
        return {name: _sample(fields[name], name) for name in shown}
    if kind == "array":
        places = [_sample(one, field) for one in schema.get("prefixItems", [])]
        count = 0 if places or schema.get("maxItems") == 0 else max(schema.get("minItems", 1), 1)
        items = schema.get("items")
        return [*places, *(_sample(items if isinstance(items, dict) else {}, field) for _ in range(count))]
    if kind in ("integer", "number"):
        return _number(schema, whole=kind == "integer")
    if kind in ("boolean", "null"):
        return True if kind == "boolean" else None
    text = "text".ljust(schema.get("minLength", 0), "x")
    return text[: schema.get("maxLength", len(text))]


def _number(schema: dict[str, Any], *, whole: bool) -> float:
    low = schema.get("minimum", schema.get("exclusiveMinimum", -math.inf))
    high = schema.get("maximum", schema.get("exclusiveMaximum", math.inf))
    step = schema.get("multipleOf", 1 if whole else 0)
    number: float = min(max(low, 1), high)
    if number == schema.get("exclusiveMinimum"):
        number = number + step if step else (number + min(high, number + 2)) / 2
    if number == schema.get("exclusiveMaximum"):
        number = number - step if step else (number + max(low, number - 2)) / 2
    return math.ceil(number / step) * step if step else number
