"""A `multipart/form-data` body made into one input not yet checked, so that a file need not travel as base64.

One part is one field; a dotted name leads into an object (`photo.mask`), and a name that comes several times
makes a list. Parts are text, so the field's schema says what a text means; a text that can't mean that stays
one, and the schema's check says what is wrong with it. Only what begins as JSON does and is none is told as that.
Pure; HTTP threads call it.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass, replace
from typing import IO, TYPE_CHECKING, Any

from werkzeug.exceptions import RequestEntityTooLarge
from werkzeug.http import parse_options_header
from werkzeug.sansio.multipart import (
    NEED_DATA,
    Data,
    Epilogue,
    Event,
    Field,
    File,
    MultipartDecoder,
)

from tungsten_server.checks.body import MAX_DEPTH, parse_json
from tungsten_server.checks.files import FILE_TYPES
from tungsten_server.words.problems import InputError, Location, Problem
from tungsten_server.words.suffixes import UNKNOWN_MEDIA_TYPE, suffix_of_name, with_suffix

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

LEAST_PARTS = 1024
"""Parts that every form may have, however few inputs a request may."""

_CHUNK = 65536

_WORDS = {"true": True, "on": True, "1": True, "false": False, "off": False, "0": False}
"""What HTML forms and people write for booleans."""


@dataclass(frozen=True)
class Part:
    """One part of the body."""

    name: str
    content: bytes
    is_file: bool
    """Whether it came with a file name."""
    media_type: str = ""
    file_name: str = ""


def read_parts(stream: IO[bytes], content_type: str, most: int) -> list[Part]:
    """Take a body apart.

    content_type: with the boundary. most: parts that it may have. Raises InputError where the body is not a whole
    form, and RequestEntityTooLarge.
    """
    parts: list[Part] = []
    content: list[bytes] = []
    part = Part("", b"", is_file=False)
    boundary = parse_options_header(content_type)[1].get("boundary", "").encode()
    if not boundary:
        raise InputError([Problem((), "the form's Content-Type names no boundary", "form_invalid")])
    try:
        for event in _events(stream, boundary, most):
            if isinstance(event, Data):
                content.append(event.data)
                if not event.more_data:
                    parts.append(replace(part, content=b"".join(content)))
                continue
            content = []
            media_type = parse_options_header(event.headers.get("Content-Type", ""))[0].lower()
            # A part without a name gets the empty one, which is no field's.
            if isinstance(event, File):
                part = Part(
                    event.name or "", b"", is_file=True, media_type=media_type, file_name=event.filename
                )
            else:
                part = Part(event.name or "", b"", is_file=False, media_type=media_type)
    except RequestEntityTooLarge:
        raise RequestEntityTooLarge(f"the form has more than {most} parts") from None
    except ValueError as error:
        what = "the body is not a whole form: parts with a name, in UTF-8, and the boundary that closes it"
        raise InputError([Problem((), what, "form_invalid")]) from error
    return parts


def _events(stream: IO[bytes], boundary: bytes, most: int) -> Iterator[Field | File | Data]:
    """What werkzeug's decoder finds, without what stands before and behind the parts."""
    decoder = MultipartDecoder(boundary, max_parts=most)
    event: Event = NEED_DATA
    while not isinstance(event, Epilogue):
        if event is NEED_DATA:
            decoder.receive_data(stream.read(_CHUNK) or None)
        event = decoder.next_event()
        if isinstance(event, (Field, File, Data)):
            yield event


def read_form(schema: dict[str, Any], parts: Iterable[Part]) -> dict[str, Any]:
    """Make one input of a form's parts.

    schema: the input's, in the spec's normal form. Raises InputError.
    """
    named: dict[str, list[Part]] = {}
    for part in parts:
        # What HTML sends for a file that was not chosen is no file, and what has no name is no field's.
        not_chosen = part.is_file and not part.file_name and not part.content
        if part.name and not not_chosen:
            named.setdefault(part.name, []).append(part)
    value: dict[str, Any] = {}
    problems = []
    for name, same in named.items():
        path = name.split(".")
        if len(path) > MAX_DEPTH:
            raise InputError([Problem((), "a part's name leads too deep", "form_invalid")])
        field = _at(schema, path)
        try:
            # A field that is not known is given all the same: the schema's check knows whether that is wrong.
            _set(value, path, _unknown(same[-1]) if field is None else _field(field, same, (0, *path)))
        except InputError as error:
            problems += error.problems
    if problems:
        raise InputError(problems)
    return value


def _field(schema: dict[str, Any], parts: list[Part], location: Location) -> Any:  # noqa: ANN401
    """Make one field's value of the parts of its name."""
    items = next((one["items"] for one in _choices(schema) if isinstance(one.get("items"), dict)), None)
    if items is None:
        if len(parts) > 1:
            raise InputError([Problem(location, "the field is given more than once", "duplicate")])
        return _value(schema, parts[0], location)
    if len(parts) == 1 and not (parts[0].is_file and _is_file(items)):
        try:
            whole = _value(schema, parts[0], location)  # a list as JSON
        except InputError:
            # An item that is a text may begin as a list does.
            if not any("string" in _types(choice) for choice in _choices(items)):
                raise
            whole = ""
        if isinstance(whole, list) or whole is None:
            return whole
    return [_value(items, part, (*location, index)) for index, part in enumerate(parts)]


def _value(schema: dict[str, Any], part: Part, location: Location) -> Any:  # noqa: ANN401
    is_file = _is_file(schema)
    if part.is_file and is_file:
        return _uri(part)
    try:
        text = part.content.decode()
    except UnicodeDecodeError as error:
        raise InputError([Problem(location, "the part is not text in UTF-8", "text_invalid")]) from error
    types = {kind for choice in _choices(schema) for kind in _types(choice)}
    if is_file and text == "null" and "null" in types:
        return None
    if part.is_file and part.media_type == "application/json":
        types.discard("string")
    if "string" in types or not types:
        return text
    if "boolean" in types and text.lower() in _WORDS:
        return _WORDS[text.lower()]
    try:
        return parse_json(part.content, "the text")
    except InputError as error:
        if text.lstrip().startswith(("[", "{")) and not types.isdisjoint(("array", "object")):
            raise InputError([replace(problem, location=location) for problem in error.problems]) from None
        return text


def _uri(part: Part) -> str:
    media_type = with_suffix(part.media_type or UNKNOWN_MEDIA_TYPE, suffix_of_name(part.file_name))
    return f"data:{media_type};base64,{base64.b64encode(part.content).decode()}"


def _unknown(part: Part) -> str:
    return _uri(part) if part.is_file else part.content.decode(errors="replace")


def _at(schema: dict[str, Any], path: list[str]) -> dict[str, Any] | None:
    """The schema of the field that a path leads to; None where the model has no such field."""
    name, *rest = path
    inner = (_property(choice, name) for choice in _choices(schema))
    field = next((one for one in inner if one is not None), None)
    return _at(field, rest) if field is not None and rest else field


def _property(schema: dict[str, Any], name: str) -> dict[str, Any] | None:
    inner = schema.get("properties", {}).get(name, schema.get("additionalProperties", False))
    return inner if isinstance(inner, dict) else {} if inner else None


def _choices(schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The schema itself, and what it may be instead."""
    yield schema
    for word in ("anyOf", "oneOf", "allOf"):
        for choice in schema.get(word, ()):
            yield from _choices(choice)


def _types(schema: dict[str, Any]) -> Iterator[str]:
    kind = schema.get("type", [])
    yield from [kind] if isinstance(kind, str) else kind
    for constant in [*schema.get("enum", ()), *([schema["const"]] if "const" in schema else ())]:
        yield "string" if isinstance(constant, str) else "constant"


def _is_file(schema: dict[str, Any]) -> bool:
    return any(choice.get("x-file-type") in FILE_TYPES for choice in _choices(schema))


def _set(value: dict[str, Any], path: list[str], item: Any) -> None:  # noqa: ANN401
    """Put an item where the path says, making objects on the way."""
    *parents, name = path
    for depth, parent in enumerate(parents, 1):
        value = value.setdefault(parent, {})
        if not isinstance(value, dict):
            raise InputError([Problem((0, *path[:depth]), "the field is given more than once", "duplicate")])
    if name in value:
        raise InputError([Problem((0, *path), "the field is given more than once", "duplicate")])
    value[name] = item
