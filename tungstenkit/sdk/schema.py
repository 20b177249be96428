"""The JSON Schema of inputs and outputs, which everything after the SDK reads.

It comes from the type annotations alone and never from pydantic's own JSON Schema, whose shape changes from release
to release.
"""

# ruff: noqa: ANN401 (values and types of every kind are what this module is about)

from __future__ import annotations

import collections.abc
import enum
import json
import math
import re
import types
import typing
from typing import Any, Literal, Union

import pydantic
import pydantic.fields

from tungstenkit.sdk.errors import DefinitionError
from tungstenkit.sdk.io import BaseIO, OneOf, declared, nothing
from tungstenkit.sdk.pieces import concatenated

__all__ = ["json_schema"]


def json_schema(io_class: type[BaseIO], *, describe: bool = False, in_pieces: bool = False) -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of a `BaseIO` class, in normal form.

    describe: give fields without a description their name in title case ("my_field" is "My Field").
    in_pieces: it is an output that comes piece by piece: what of it is concatenated has an `x-fold`.

    Normal form: no `$schema`, `title`, `$ref` or `$defs`; the properties of an object stand in `x-order` as they
    are declared; an option has `x-option`; files are strings with an `x-file-type`; `choices` stands there both as
    `enum` and as `choices`. Raises `DefinitionError` with every problem of the class and of those it holds:
    unsupported or recursive types, wrong defaults and choices.
    """
    writer = _SchemaWriter(describe=describe)
    schema = writer.of_class(io_class)
    if writer.problems:
        raise DefinitionError(
            dict.fromkeys(writer.problems), where=f"{io_class.__module__}.{io_class.__qualname__}"
        )
    for name in concatenated(io_class) if in_pieces else ():
        schema["properties"][name]["x-fold"] = "concatenate"
    return schema


_SCALARS: dict[Any, str] = {
    str: "string",
    int: "integer",
    float: "number",
    bool: "boolean",
    type(None): "null",
}

_KEYWORDS = {
    "ge": {"integer": "minimum", "number": "minimum"},
    "gt": {"integer": "exclusiveMinimum", "number": "exclusiveMinimum"},
    "le": {"integer": "maximum", "number": "maximum"},
    "lt": {"integer": "exclusiveMaximum", "number": "exclusiveMaximum"},
    "multiple_of": {"integer": "multipleOf", "number": "multipleOf"},
    "min_length": {"string": "minLength", "array": "minItems", "object": "minProperties"},
    "max_length": {"string": "maxLength", "array": "maxItems", "object": "maxProperties"},
    "pattern": {"string": "pattern"},
}

_SUPPORTED = (
    "str, int, float, bool, None, Any, list, tuple, dict, Optional, Union, Literal, Enum, BaseIO classes, "
    "Image, Audio, Video, Binary and MaskedImage"
)


_ARRAY = (
    "write list[float], or list[list[float]] and so on, which numpy.asarray(…) and .tolist() convert; for a picture "
    "Image, for a file of numbers Binary"
)
_PICTURE = (
    "write tungstenkit's Image (`from tungstenkit import Image`), whose to_pil_image() gives Pillow's, and "
    "Image.from_pil_image(…) makes one of that"
)
_INSTEAD = (
    (re.compile(r"PIL\.Image(\.Image)?"), _PICTURE),
    (re.compile(r"(numpy|cupy|torch|tensorflow|jax|jaxlib|jaxtyping)\b.*"), _ARRAY),
    (re.compile(r"(pandas|polars)\b.*"), "write list[dict[str, Any]], or Binary for a file"),
    (re.compile(r"bytes|bytearray|memoryview|(_?io|typing)\..*IO"), "write Binary"),
    (re.compile(r"pathlib\..*"), "write Image, Audio, Video or Binary, each of which has a path"),
    (re.compile(r"datetime\..*"), "write str, as ISO 8601 has it"),
    (re.compile(r"set|frozenset|(typing|collections\.abc)\.(Set|Iterable|Iterator|Generator)"), "write list"),
    (re.compile(r"decimal\.Decimal|fractions\.Fraction"), "write float, or str where it must be exact"),
    (re.compile(r"uuid\.UUID"), "write str"),
    (re.compile(r"object|builtins\.any"), "write Any"),
)
"""What to write in place of types that people write."""


def _instead(annotation: Any) -> str:
    """What to write in place of a type."""
    name = re.sub(r"\[.*|\(.*", "", _type_name(annotation))
    for pattern, text in _INSTEAD:
        if pattern.fullmatch(name):
            return text
    if isinstance(annotation, type) and (
        issubclass(annotation, (pydantic.BaseModel, tuple, dict))
        or hasattr(annotation, "__dataclass_fields__")
    ):
        return "make it a subclass of BaseIO"
    unknown = (
        "" if _stub_name(annotation) is None else "write what it stands for, as its package is not imported: "
    )
    return f"{unknown}use {_SUPPORTED}"


class _SchemaWriter:
    """Writes one schema, and notes every problem on the way."""

    def __init__(self, *, describe: bool) -> None:
        self.describe = describe
        self.problems: list[str] = []
        self.open_classes: list[type[BaseIO]] = []

    def of_class(self, io_class: type[BaseIO]) -> dict[str, Any]:
        """The schema of an object."""
        if io_class in self.open_classes:
            names = [c.__name__ for c in [*self.open_classes[self.open_classes.index(io_class) :], io_class]]
            self.problems.append(
                f"{io_class.__name__}: recursive types are not supported ({' -> '.join(names)})"
            )
            return {}
        try:
            io_class.model_rebuild()
        except (pydantic.PydanticUserError, NameError) as error:
            self.problems.append(f"{io_class.__name__}: {str(error).splitlines()[0]}")
            return {}
        self.open_classes.append(io_class)
        properties = {name: self._of_field(io_class, name) for name in io_class.model_fields}
        self.open_classes.pop()
        schema: dict[str, Any] = {"type": "object", "properties": properties, "x-order": list(properties)}
        required = [name for name, field in io_class.model_fields.items() if field.is_required()]
        if required:
            schema["required"] = required
        if io_class.model_config.get("extra") == "forbid":
            schema["additionalProperties"] = False
        file_type = getattr(io_class, "file_type", None)
        if isinstance(file_type, str):
            schema["x-file-type"] = file_type
        return schema

    def _of_field(self, io_class: type[BaseIO], name: str) -> dict[str, Any]:
        field = io_class.model_fields[name]
        where = f"{io_class.__name__}.{name}"
        known = len(self.problems)
        self.problems.extend(f"{where}: {problem}" for problem in declared(field, "problems") or ())
        if (field.alias, field.validation_alias, field.serialization_alias) != (None, None, None):
            self.problems.append(f"{where}: aliases are not supported")
        schema = self._constrained(self.of_type(field.annotation, where), field.metadata, where)
        if len(self.problems) == known:
            # Only a type that is right can tell whether its values are.
            self._add_values(schema, field, where)
        if not field.is_required() and field.default_factory is not nothing:
            schema["x-option"] = True
        if field.description:
            schema["description"] = field.description
        elif self.describe:
            schema["description"] = _title_case(name)
        return schema

    def _add_values(self, schema: dict[str, Any], field: pydantic.fields.FieldInfo, where: str) -> None:
        """Add the choices and the default, as JSON."""
        annotated: Any = typing.Annotated
        # Without the choices: a default that is none of them is told in words that name the field.
        metadata = [one for one in field.metadata if not isinstance(one, OneOf)]
        plain: Any = annotated[(field.annotation, *metadata)] if metadata else field.annotation
        adapter = pydantic.TypeAdapter[Any](plain)
        choices = declared(field, "choices")
        if choices is not None:
            schema["choices"] = [self._as_json(adapter, choice, f"{where}: choice") for choice in choices]
            nullable = {"type": "null"} in schema.get("anyOf", ())
            schema["enum"] = [*schema["choices"], *([None] if nullable and None not in choices else [])]
        if field.is_required() or field.default_factory is not None:
            return
        schema["default"] = default = self._as_json(adapter, field.default, f"{where}: default")
        if choices is not None and default not in schema["enum"]:
            self.problems.append(f"{where}: default {field.default!r} is not one of the choices {choices!r}")

    def _as_json(self, adapter: pydantic.TypeAdapter[Any], value: Any, where: str) -> Any:
        """`value` as validation makes it and as JSON writes it."""
        try:
            written = adapter.dump_python(adapter.validate_python(value), mode="json")
            return json.loads(json.dumps(written, allow_nan=False))
        except pydantic.ValidationError as error:
            reasons = "; ".join(str(e["msg"]) for e in error.errors(include_url=False))
            self.problems.append(f"{where} {value!r}: {reasons}")
        except Exception as error:  # a file that can't be read, NaN, a user's own serialiser
            self.problems.append(f"{where} {value!r} can't be written as JSON: {error}")
        return None

    def of_type(self, annotation: Any, where: str) -> dict[str, Any]:
        """The schema of a value of a type."""
        origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
        if annotation is Any:
            return {}
        if annotation is None:
            return {"type": "null"}
        if origin is typing.Annotated:
            return self._constrained(self.of_type(arguments[0], where), arguments[1:], where)
        if origin is Union or origin is getattr(types, "UnionType", Union):
            return {"anyOf": [self.of_type(argument, where) for argument in arguments]}
        if origin is Literal:
            return self._of_values(list(arguments), where)
        if hasattr(annotation, "__supertype__"):  # typing.NewType
            return self.of_type(annotation.__supertype__, where)
        container = origin or annotation
        if container is list or container is collections.abc.Sequence:
            return self._of_items(arguments, where)
        if container is tuple:
            return self._of_tuple(annotation, arguments, where)
        if container is dict or container is collections.abc.Mapping:
            return self._of_dict(arguments, where)
        if isinstance(annotation, type) and origin is None:
            if annotation in _SCALARS:
                return {"type": _SCALARS[annotation]}
            if issubclass(annotation, BaseIO):
                return self.of_class(annotation)
            if issubclass(annotation, enum.Enum):
                return self._of_values([member.value for member in annotation], where)
            file_type = getattr(annotation, "file_type", None)
            if isinstance(file_type, str):
                return {"type": "string", "format": "uri", "x-file-type": file_type}
        self.problems.append(
            f"{where}: the type {_type_name(annotation)} is not supported; {_instead(container)}"
        )
        return {}

    def _of_values(self, values: list[Any], where: str) -> dict[str, Any]:
        if any(type(value) not in _SCALARS for value in values):
            self.problems.append(
                f"{where}: values must be strings, numbers, booleans or None, not {values!r}"
            )
        kinds = {_SCALARS.get(type(value)) for value in values}
        return {"enum": values, "type": kinds.pop()} if len(kinds) == 1 else {"enum": values}

    def _of_items(self, arguments: tuple[Any, ...], where: str) -> dict[str, Any]:
        return {"type": "array", **({"items": self.of_type(arguments[0], where)} if arguments else {})}

    def _of_tuple(self, annotation: Any, arguments: tuple[Any, ...], where: str) -> dict[str, Any]:
        if len(arguments) == 2 and arguments[1] is Ellipsis:
            return self._of_items(arguments, where)
        if not arguments and annotation != tuple[()]:
            return {"type": "array"}
        items = [self.of_type(argument, where) for argument in arguments if argument != ()]
        schema: dict[str, Any] = {"type": "array", "minItems": len(items), "maxItems": len(items)}
        return {**schema, "prefixItems": items} if items else schema

    def _of_dict(self, arguments: tuple[Any, ...], where: str) -> dict[str, Any]:
        schema: dict[str, Any] = {"type": "object"}
        if not arguments:
            return schema
        keys, schema["additionalProperties"] = (
            self.of_type(arguments[0], where),
            self.of_type(arguments[1], where),
        )
        if keys == {"type": "integer"}:
            schema["propertyNames"] = {"pattern": "^-?[0-9]+$"}
        elif keys.get("type") == "string" and "x-file-type" not in keys:
            if len(keys) > 1:
                schema["propertyNames"] = {key: value for key, value in keys.items() if key != "type"}
        elif keys:
            self.problems.append(
                f"{where}: keys of a dict must be str or int, not {_type_name(arguments[0])}"
            )
        return schema

    def _constrained(
        self, schema: dict[str, Any], metadata: collections.abc.Iterable[Any], where: str
    ) -> dict[str, Any]:
        """Write the limits in an annotation's metadata (annotated-types, or pydantic's own) into `schema`."""
        for item in metadata:
            if isinstance(item, pydantic.fields.FieldInfo):
                self._constrained(schema, item.metadata, where)
                continue
            for name in _KEYWORDS:
                limit = getattr(item, name, None)
                limit = getattr(limit, "pattern", limit)  # of a compiled regular expression
                if limit is None:
                    continue
                if not isinstance(limit, (int, float, str)) or (
                    isinstance(limit, float) and not math.isfinite(limit)
                ):
                    self.problems.append(f"{where}: {name} {limit!r} can't be written as JSON")
                elif not _constrain(schema, name, limit):
                    self.problems.append(f"{where}: {name} does not apply to this type")
        return schema


def _constrain(schema: dict[str, Any], name: str, limit: Any) -> bool:
    """Write one limit where it applies; False where it applies nowhere."""
    if "anyOf" in schema:
        # A list, because every member that can take the limit must get it.
        return any([_constrain(member, name, limit) for member in schema["anyOf"]])  # noqa: C419
    keyword = _KEYWORDS[name].get(schema.get("type", ""))
    if keyword is None or not {"enum", "properties", "x-file-type"}.isdisjoint(schema):
        return False
    schema[keyword] = limit
    return True


def _title_case(name: str) -> str:
    """ "my_field", "myField" and "MyField" are all "My Field"."""
    words = re.sub(r"([a-z0-9])([A-Z])", r"\1 \2", name).replace("_", " ").split()
    return " ".join(word[:1].upper() + word[1:] for word in words)


def _stub_name(annotation: Any) -> str | None:
    """What a stub stands for: a definition is read without a model's packages (`load.py`)."""
    name = vars(annotation).get("__stub_name__") if hasattr(annotation, "__dict__") else None
    return name if isinstance(name, str) else None


def _type_name(annotation: Any) -> str:
    if stub := _stub_name(annotation):
        return stub
    if isinstance(annotation, types.ModuleType):
        return annotation.__name__
    if annotation is any:
        return "builtins.any"
    if isinstance(annotation, type) and not typing.get_args(annotation):
        module = annotation.__module__
        return annotation.__qualname__ if module == "builtins" else f"{module}.{annotation.__qualname__}"
    return repr(annotation)
