"""One model's inputs as JSON: are they valid, and which options do they carry.

The JSON Schema in the spec decides, so the HTTP process needs neither the model's code nor pydantic.
Immutable once built; any thread may use it.
"""

from __future__ import annotations

import json
import math
import sys
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import jsonschema_rs

from tungsten_server.checks.files import FileFields, is_url
from tungsten_server.words.problems import MAX_PROBLEMS, InputError, Location, Problem

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence


# Made once: json.dumps makes a new encoder for each call with options.
_compact = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode
_canonical_text = json.JSONEncoder(sort_keys=True, separators=(",", ":")).encode


@dataclass(frozen=True)
class Input:
    """A valid input."""

    json: bytes
    key: str
    """Equal for inputs whose options are equal."""


class InputSchema:
    """Checks one model's inputs against their JSON Schema.

    schema: an object schema in the spec's normal form (no references). Raises ValueError if it is no JSON
    Schema.
    max_file: bytes that a file may have.
    """

    def __init__(self, schema: dict[str, Any], max_file: int) -> None:
        """Compile the schema."""
        # Masked, since a message would otherwise repeat the value, and that may be megabytes of base64.
        self._validator = jsonschema_rs.Draft202012Validator(
            _bounded(schema), validate_formats=False, mask="the value"
        )
        self._files = FileFields(schema, max_file)
        properties: dict[str, Any] = schema.get("properties", {})
        self._options = [(name, field) for name, field in properties.items() if field.get("x-option")]

    def check(self, values: Sequence[object]) -> list[Input]:
        """Check inputs, as `json.loads` gives them.

        Raises InputError. Unknown fields are no error; they travel to the model process, which ignores them.
        """
        inputs: list[Input] = []
        problems: list[Problem] = []
        for index, value in enumerate(values):
            one = self._check(value)
            if isinstance(one, Input):
                inputs.append(one)
            else:
                problems += [Problem((index, *p.location), p.message, p.kind) for p in one]
                if len(problems) >= MAX_PROBLEMS:
                    break
        if problems:
            raise InputError(problems[:MAX_PROBLEMS])
        return inputs

    def urls(self, values: Sequence[object]) -> dict[Location, str]:
        """Find the http(s) addresses in the inputs' file fields, valid or not; `check` refuses them."""
        return {
            (index, *place): text
            for index, value in enumerate(values)
            for place, text in self._files.texts(value)
            if is_url(text)
        }

    def _check(self, value: object) -> Input | list[Problem]:
        try:
            # First of all: what is no JSON (an infinity, half a surrogate pair) is no input for the validator.
            encoded = _compact(value).encode()
            if not self._validator.is_valid(value):
                return list(islice(_problems(self._validator.iter_errors(value)), MAX_PROBLEMS))
            return self._files.problems(value) or Input(encoded, self._key(value))
        except (ValueError, RecursionError) as error:
            places = _infinities(value, ()) if isinstance(error, ValueError) else ()
            message = "not a finite number"
            return [Problem(place, message, "json_invalid") for place in islice(places, MAX_PROBLEMS)] or [
                Problem((), f"the value is not JSON that can be read: {error}", "json_invalid")
            ]

    def _key(self, value: object) -> str:
        """Make canonical JSON of all options, defaults filled in.

        An option that is neither given nor has a default in the schema is left out.
        """
        if not self._options:
            return ""
        given = value if isinstance(value, dict) else {}
        options = {}
        for name, field in self._options:
            if name in given:
                options[name] = _canonical(given[name])
            elif "default" in field:
                options[name] = _canonical(field["default"])
        return _canonical_text(options)


def _bounded(schema: Any) -> Any:  # noqa: ANN401 (any part of a schema)
    """Copy a schema, its numbers bounded by what a float holds: a longer integer would reach the model as infinity."""
    if isinstance(schema, list):
        return [_bounded(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    # Names of fields are no keywords, and values of enumerations no schemas.
    copy = {
        key: {name: _bounded(field) for name, field in value.items()} if key == "properties"
        else value if key in ("enum", "choices", "const", "default") else _bounded(value)
        for key, value in schema.items()
    }  # fmt: skip
    return (
        {"minimum": -sys.float_info.max, "maximum": sys.float_info.max, **copy}
        if copy.get("type") == "number"
        else copy
    )


def _infinities(value: object, location: Location) -> Iterator[Location]:
    """Where JSON that was read has numbers that are none: `1e999` is read as infinity."""
    if isinstance(value, float) and not math.isfinite(value):
        yield location
    elif isinstance(value, (list, dict)):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _infinities(item, (*location, key))


def _canonical(value: object) -> object:
    """Make equal JSON numbers equal text: 1.0 becomes 1. True stays true."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, list):
        return [_canonical(item) for item in value]
    if isinstance(value, dict):
        return {name: _canonical(item) for name, item in value.items()}
    return value


def _problems(errors: Iterable[jsonschema_rs.ValidationError]) -> Iterator[Problem]:
    """Say what is wrong, where: of a union, what is wrong with the one member that can be meant."""
    for error in errors:
        location: Location = tuple(error.instance_path)
        kind = error.kind
        if isinstance(kind, jsonschema_rs.ValidationErrorKind.AnyOf):
            meant = _meant(kind.context, location)
            if meant is not None:
                yield from _problems(meant)
                continue
        if isinstance(kind, jsonschema_rs.ValidationErrorKind.Required):
            yield Problem((*location, kind.property), "the field is required", "missing")
        elif isinstance(kind, jsonschema_rs.ValidationErrorKind.Enum):
            values = [_compact(value) for value in kind.options]
            known = " or ".join(filter(None, [", ".join(values[:-1]), values[-1]]))
            yield Problem(location, f"the value is not one of {known}", "enum")
        else:
            yield Problem(location, error.message, str(error.schema_path[-1]))


def _meant(
    members: Sequence[Sequence[jsonschema_rs.ValidationError]], location: Location
) -> Sequence[jsonschema_rs.ValidationError] | None:
    """Which errors are told of a union: of the only member beside null, else of the only one of the value's type."""

    def wanted(errors: Sequence[jsonschema_rs.ValidationError]) -> list[str]:
        """Which types the value itself should have had, if that is what is wrong."""
        for error in errors:
            kind = error.kind
            if (
                isinstance(kind, jsonschema_rs.ValidationErrorKind.Type)
                and tuple(error.instance_path) == location
            ):
                return kind.types
        return []

    others = [errors for errors in members if wanted(errors) != ["null"]]
    if len(others) != 1:
        others = [errors for errors in others if not wanted(errors)]
    return others[0] if len(others) == 1 else None
