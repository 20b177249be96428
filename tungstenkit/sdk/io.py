"""Inputs and outputs of models: how they are declared and checked.

`BaseIO`, `Field` and `Option` are what model code uses; `schema` describes them.
"""

# ruff: noqa: ANN401 (values and types of every kind are what this module is about)

from __future__ import annotations

import collections.abc
import enum
import operator
import types
import typing
import weakref
from typing import Any, Literal, Union

import pydantic
import pydantic.fields
from pydantic_core import core_schema

__all__ = ["BaseIO", "Field", "Option"]

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
                field.default_factory = nothing
            if _EXACT not in field.metadata and _may_hold_integers(field.annotation):
                field.metadata.append(_EXACT)
            choices = declared(field, "choices")
            if choices is not None and OneOf not in map(type, field.metadata):
                field.metadata.append(OneOf(choices))
        return handler(source)

    if not typing.TYPE_CHECKING:  # or a type checker would let every attribute through

        def __setattr__(self, name: str, value: Any) -> None:
            """Note that the object is no more what it was when it was made; `outputs` asks."""
            super().__setattr__(name, value)
            changed[id(self)] = self


def nothing() -> None:
    """What a field that need not be given is without a value."""


def _is_nullable(annotation: Any) -> bool:
    is_union = typing.get_origin(annotation) in (Union, getattr(types, "UnionType", Union))
    return is_union and type(None) in typing.get_args(annotation)


class Exact:
    """Metadata of a field: integers that are not Python's, such as numpy's, become Python's before they are checked.

    Pydantic would read them by way of a float, which holds 53 bits. JSON has none of them.
    """

    def __get_pydantic_core_schema__(self, source: Any, handler: pydantic.GetCoreSchemaHandler) -> Any:
        plain = handler(source)
        exact = core_schema.no_info_before_validator_function(_with_own_integers, plain)
        return core_schema.json_or_python_schema(json_schema=plain, python_schema=exact)


_EXACT = Exact()


class OneOf:
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
    fold: Literal["concatenate", "last"] | None = None,
) -> Any:
    """Declare a field that has no default: it is required, unless it is an `Optional[…]`.

    description: shown in the API's documentation and on the demo page.
    choices: the values allowed.
    ge, le: the least and the greatest number allowed.
    min_length, max_length: limits of a string (in characters), a list or a dict (in items).
    fold: of an output that comes piece by piece: whether the pieces' values come one after the other, or the last one
        counts. By default strings and lists are concatenated, and of everything else the last one counts.
    """
    return _field(
        ...,
        description=description,
        choices=choices,
        ge=ge,
        le=le,
        min_length=min_length,
        max_length=max_length,
        fold=fold,
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
    fold: Literal["concatenate", "last"] | None = None,
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
        fold=fold,
    )


def _field(default: Any, *, description: Any, choices: Any, fold: Any, **limits: Any) -> Any:
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
    if fold not in (None, "concatenate", "last"):
        problems.append(f'fold {fold!r} is neither "concatenate" nor "last"')
        fold = None
    for name, limit in limits.items():
        kind = (int,) if "length" in name else (int, float)
        if limit is not None and (isinstance(limit, bool) or not isinstance(limit, kind)):
            problems.append(f"{name} {limit!r} is not {'a whole' if len(kind) == 1 else 'a'} number")
            limits[name] = None
    known = (("choices", choices), ("fold", fold), ("problems", problems))
    kept: Any = {key: value for key, value in known if value}
    return pydantic.Field(default, description=description, json_schema_extra=kept, **limits)


def declared(field: pydantic.fields.FieldInfo, key: str) -> Any:
    """What `_field` kept beside a field."""
    extra = field.json_schema_extra
    return extra.get(key) if isinstance(extra, dict) else None
