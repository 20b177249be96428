"""Inputs and outputs of models: how they are declared, checked and described.

`BaseIO`, `Field` and `Option` are what model code uses. `json_schema` writes the description that everything
after this module reads (`spec.json`, the server, the demo page). It comes from the type annotations alone and
never from pydantic's own JSON Schema, whose shape changes from release to release.
"""

# ruff: noqa: ANN401 (values and types of every kind are what this module is about)

from __future__ import annotations

import collections.abc
import enum
import json
import math
import operator
import re
import types
import typing
import weakref
from typing import Any, Literal, Union

import pydantic
import pydantic.fields
from pydantic_core import core_schema

from tungstenkit.sdk.errors import DefinitionError

__all__ = ["BaseIO", "Field", "Option", "json_schema"]


changed: weakref.WeakValueDictionary[int, BaseIO] = weakref.WeakValueDictionary()
"""Objects whose attributes have been set since they were made, by `id`."""


class BaseIO(pydantic.BaseModel):
    """Base class of the inputs and outputs of a model.

    A pydantic model: fields are annotated attributes, unknown fields are ignored, defaults are checked like
    any other value. A field with a default is an option: all inputs of a batch have the same options. An
    `Optional[…]` without a default need not be given, and is then None; it is no option.
    """

    model_config = pydantic.ConfigDict(
        # Lets every class through, so that `json_schema` can name the field whose type is not supported.
        arbitrary_types_allowed=True,
        # Allows names such as `model_id`, which are common here.
        protected_namespaces=(),
        validate_assignment=True,
        validate_default=True,
        # As they are, so that who writes JSON can refuse them: `null` would be another value.
        ser_json_inf_nan="constants",
    )

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: pydantic.GetCoreSchemaHandler) -> Any:
        """Read the fields as this module means them; called when their types are known."""
        for field in cls.model_fields.values():
            if field.is_required() and _is_nullable(field.annotation):
                field.default_factory = _nothing
            if _EXACT not in field.metadata and _may_hold_integers(field.annotation):
                field.metadata.append(_EXACT)
            choices = _declared(field, "choices")
            if choices is not None and _Choice not in map(type, field.metadata):
                field.metadata.append(_Choice(choices))
        return handler(source)

    if not typing.TYPE_CHECKING:  # or a type checker would let every attribute through

        def __setattr__(self, name: str, value: Any) -> None:
            """Note that the object is no more what it was when it was made; `outputs` asks."""
            super().__setattr__(name, value)
            changed[id(self)] = self


def _nothing() -> None:
    """What a field that need not be given is without a value."""


def _is_nullable(annotation: Any) -> bool:
    is_union = typing.get_origin(annotation) in (Union, getattr(types, "UnionType", Union))
    return is_union and type(None) in typing.get_args(annotation)


class _Exact:
    """Metadata of a field: integers that are not Python's, such as numpy's, become Python's before they are checked.

    Pydantic would read them by way of a float, which holds 53 bits. JSON has none of them.
    """

    def __get_pydantic_core_schema__(self, source: Any, handler: pydantic.GetCoreSchemaHandler) -> Any:
        plain = handler(source)
        exact = core_schema.no_info_before_validator_function(_with_own_integers, plain)
        return core_schema.json_or_python_schema(json_schema=plain, python_schema=exact)


_EXACT = _Exact()


class _Choice:
    """Metadata of a field with choices: a value is one of them."""

    def __init__(self, choices: typing.Collection[Any]) -> None:
        self._choices = choices

    def __get_pydantic_core_schema__(self, source: Any, handler: pydantic.GetCoreSchemaHandler) -> Any:
        return core_schema.no_info_after_validator_function(self._checked, handler(source))

    def _checked(self, value: Any) -> Any:
        # None is right only where the annotation says so, which pydantic has checked.
        if value is None or value in self._choices:
            return value
        if isinstance(value, enum.Enum) and value.value in self._choices:
            return value
        raise ValueError(f"must be one of {', '.join(map(repr, self._choices))}")


_BARE = (int, list, tuple, dict, collections.abc.Sequence, collections.abc.Mapping)

_PLAIN = frozenset({int, str, float, bool, type(None), bytes})


def _may_hold_integers(annotation: Any) -> bool:
    """Whether values of a type may be, or hold, integers that no class of their own checks."""
    if hasattr(annotation, "__supertype__"):  # typing.NewType
        return _may_hold_integers(annotation.__supertype__)
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation is Any or origin is Literal or (origin is not None and not arguments):
        return True
    if isinstance(annotation, type) and not arguments:
        return annotation in _BARE or issubclass(annotation, enum.Enum)
    return any(map(_may_hold_integers, arguments))


def _with_own_integers(value: Any) -> Any:
    """`value`, or a copy of it in which every integer is a Python one."""
    kind = type(value)
    if kind in _PLAIN:
        return value
    if kind is list or kind is tuple:
        if _PLAIN.issuperset(map(type, value)):
            return value
        items = kind(map(_with_own_integers, value))
        return value if all(map(operator.is_, items, value)) else items
    if kind is dict:
        fields = {_with_own_integers(key): _with_own_integers(item) for key, item in value.items()}
        same = all(map(operator.is_, fields, value)) and all(
            map(operator.is_, fields.values(), value.values())
        )
        return value if same else fields
    if hasattr(kind, "__index__") and not isinstance(value, int):
        try:
            return operator.index(value)
        except TypeError:  # an array, or a truth value
            return value
    return value


def Field(  # noqa: N802 (the contract's name)
    *,
    description: str | None = None,
    choices: collections.abc.Collection[Any] | None = None,
    ge: float | None = None,
    le: float | None = None,
    min_length: int | None = None,
    max_length: int | None = None,
) -> Any:
    """Declare a field that has no default: it is required, unless it is an `Optional[…]`.

    description: shown in the API's documentation and on the demo page.
    choices: the values allowed.
    ge, le: the least and the greatest number allowed.
    min_length, max_length: limits of a string (in characters), a list or a dict (in items).
    """
    return _field(
        ...,
        description=description,
        choices=choices,
        ge=ge,
        le=le,
        min_length=min_length,
        max_length=max_length,
    )


def Option(  # noqa: N802 (as above)
    default: Any,
    *,
    description: str | None = None,
    choices: collections.abc.Collection[Any] | None = None,
    ge: float | None = None,
    le: float | None = None,
    min_length: int | None = None,
    max_length: int | None = None,
) -> Any:
    """Declare an optional field, which is equal for all inputs of a batch.

    default: the value where a request has none.
    The rest is as in `Field`.
    """
    return _field(
        default,
        description=description,
        choices=choices,
        ge=ge,
        le=le,
        min_length=min_length,
        max_length=max_length,
    )


def _field(default: Any, *, description: Any, choices: Any, **limits: Any) -> Any:
    # The field's name is not known here: what is wrong is kept until `json_schema` can say where it is.
    problems = []
    if description is not None and not isinstance(description, str):
        problems.append(f"description {description!r} is not a string")
        description = None
    if choices is not None:
        ordered = (collections.abc.Sequence, collections.abc.KeysView, collections.abc.ValuesView)
        if isinstance(choices, ordered) and not isinstance(choices, (str, bytes)) and len(choices) > 0:
            choices = list(choices)
        else:
            problems.append(f"choices {choices!r} is not a list with at least one value")
            choices = None
    for name, limit in limits.items():
        kind = (int,) if "length" in name else (int, float)
        if limit is not None and (isinstance(limit, bool) or not isinstance(limit, kind)):
            problems.append(f"{name} {limit!r} is not {'a whole' if len(kind) == 1 else 'a'} number")
            limits[name] = None
    kept: Any = {key: value for key, value in (("choices", choices), ("problems", problems)) if value}
    return pydantic.Field(default, description=description, json_schema_extra=kept, **limits)


def _declared(field: pydantic.fields.FieldInfo, key: str) -> Any:
    """What `_field` kept beside a field."""
    extra = field.json_schema_extra
    return extra.get(key) if isinstance(extra, dict) else None


def json_schema(io_class: type[BaseIO], *, describe: bool = False) -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of a `BaseIO` class, in normal form.

    describe: give fields without a description their name in title case ("my_field" is "My Field").

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
        self.problems.extend(f"{where}: {problem}" for problem in _declared(field, "problems") or ())
        if (field.alias, field.validation_alias, field.serialization_alias) != (None, None, None):
            self.problems.append(f"{where}: aliases are not supported")
        schema = self._constrained(self.of_type(field.annotation, where), field.metadata, where)
        if len(self.problems) == known:
            # Only a type that is right can tell whether its values are.
            self._add_values(schema, field, where)
        if not field.is_required() and field.default_factory is not _nothing:
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
        metadata = [one for one in field.metadata if not isinstance(one, _Choice)]
        plain: Any = annotated[(field.annotation, *metadata)] if metadata else field.annotation
        adapter = pydantic.TypeAdapter[Any](plain)
        choices = _declared(field, "choices")
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
