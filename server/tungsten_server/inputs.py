"""One model's inputs as JSON: are they valid, and which options do they carry.

The JSON Schema in the spec decides, so the HTTP process needs neither the model's code nor pydantic.
Immutable once built; any thread may use it.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, Union

import jsonschema_rs

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

MAX_PROBLEMS = 100
"""Problems told about one request: enough to mend it, too few to make a large answer of a bad one."""

_FILE_TYPES = frozenset({"image", "audio", "video", "binary"})
_BASE64 = re.compile(r"[A-Za-z0-9+/]+={0,2}")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")

Location = tuple[Union[str, int], ...]


@dataclass(frozen=True)
class Input:
    """A valid input."""

    json: bytes
    key: str
    """Equal for inputs whose options are equal."""


@dataclass(frozen=True)
class Problem:
    """What is wrong with one part of an input."""

    location: Location
    """Where: the input's index in the list, then field names and list indexes."""
    message: str
    kind: str
    """The schema's keyword that it breaks, or a word of ours; for programs."""


class InputError(ValueError):
    """Inputs that are not valid, with every problem found up to MAX_PROBLEMS."""

    def __init__(self, problems: list[Problem]) -> None:
        """Hold at least one problem."""
        super().__init__("; ".join(problem.message for problem in problems))
        self.problems = problems


class InputSchema:
    """Checks one model's inputs against their JSON Schema.

    schema: an object schema in the spec's normal form (no references). Raises ValueError if it is no JSON
    Schema.
    """

    def __init__(self, schema: dict[str, Any]) -> None:
        """Compile the schema."""
        # Masked, since a message would otherwise repeat the value, and that may be megabytes of base64.
        self._validator = jsonschema_rs.Draft202012Validator(schema, validate_formats=False, mask="the value")
        self._files = _file_part(schema)
        required = set(schema.get("required", ()))
        properties: dict[str, Any] = schema.get("properties", {})
        self._options = [(name, field) for name, field in properties.items() if name not in required]

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

    def _check(self, value: object) -> Input | list[Problem]:
        try:
            # First of all: what is no JSON (an infinity, half a surrogate pair) is no input for the validator.
            encoded = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
            if not self._validator.is_valid(value):
                return [_problem(error) for error in islice(self._validator.iter_errors(value), MAX_PROBLEMS)]
            problems = list(islice(_file_problems(self._files, value, ()), MAX_PROBLEMS))
            return problems or Input(encoded, self._key(value))
        except (ValueError, RecursionError) as error:
            return [Problem((), f"the value is not JSON that can be read: {error}", "json_invalid")]

    def _key(self, value: object) -> str:
        """Make canonical JSON of all options, defaults filled in.

        An option that is neither given nor has a default in the schema is left out.
        """
        given = value if isinstance(value, dict) else {}
        options = {}
        for name, field in self._options:
            if name in given:
                options[name] = _canonical(given[name])
            elif "default" in field:
                options[name] = _canonical(field["default"])
        return json.dumps(options, sort_keys=True, separators=(",", ":"))


def _canonical(value: object) -> object:
    """Make equal JSON numbers equal text: 1.0 becomes 1. True stays true."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, list):
        return [_canonical(item) for item in value]
    if isinstance(value, dict):
        return {name: _canonical(item) for name, item in value.items()}
    return value


def _problem(error: jsonschema_rs.ValidationError) -> Problem:
    location: Location = tuple(error.instance_path)
    if isinstance(error.kind, jsonschema_rs.ValidationErrorKind.Required):
        return Problem((*location, error.kind.property), "the field is required", "missing")
    return Problem(location, error.message, str(error.schema_path[-1]))


def _file_part(schema: object) -> dict[str, Any]:
    """Reduce a schema to what leads to file fields, so that checking them costs little; {} if there are none."""
    if not isinstance(schema, dict):
        return {}
    if schema.get("x-file-type") in _FILE_TYPES:
        return {"file": True}
    part: dict[str, Any] = {
        "fields": {name: _file_part(field) for name, field in schema.get("properties", {}).items()},
        "others": _file_part(schema.get("additionalProperties")),
        "prefix": [_file_part(item) for item in schema.get("prefixItems", ())],
        "items": _file_part(schema.get("items")),
        "choices": [_file_part(c) for word in ("anyOf", "oneOf", "allOf") for c in schema.get(word, ())],
    }
    leads_to_files = (
        *part["fields"].values(),
        part["others"],
        *part["prefix"],
        part["items"],
        *part["choices"],
    )
    return part if any(leads_to_files) else {}


def _file_problems(part: dict[str, Any], value: object, location: Location) -> Iterator[Problem]:
    """Walk a value that its schema allows along that schema's file part."""
    if "file" in part:
        if isinstance(value, str) and (problem := _file_problem(value)):
            yield Problem(location, *problem)
        return
    if not part:
        return
    for choice in part["choices"]:
        yield from _file_problems(choice, value, location)
    if isinstance(value, dict):
        for name, item in value.items():
            yield from _file_problems(part["fields"].get(name, part["others"]), item, (*location, name))
    elif isinstance(value, list):
        prefix = part["prefix"]
        for index, item in enumerate(value):
            inner = prefix[index] if index < len(prefix) else part["items"]
            yield from _file_problems(inner, item, (*location, index))


def _file_problem(text: str) -> tuple[str, str] | None:
    """Say why a file field's text is refused.

    A client may send a file's bytes; it may not make this machine fetch or open one.
    """
    scheme = _SCHEME.match(text)
    if scheme is None:
        data = "".join(text.split())  # base64 may be wrapped
        if len(data) % 4 == 0 and _BASE64.fullmatch(data):
            return None
    elif scheme.group(1).lower() == "data":
        return None
    elif scheme.group(1).lower() in ("http", "https"):
        return "URL inputs are not enabled; send the file as a data: URI", "url_not_enabled"
    return "a file must be a data: URI or base64", "file_invalid"
