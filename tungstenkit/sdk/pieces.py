"""Outputs that come piece by piece: what a piece may be, and how pieces come to an output.

A model whose `predict` is a generator yields, for the whole batch, one piece or None for each input. A piece is an
instance of the output class of which only the fields that were set count, or a dict of some of its fields; the fold
of all pieces is the output, field by field.
"""

# ruff: noqa: ANN401 (values and types of every kind are what this module is about)

from __future__ import annotations

import collections.abc
import enum
import functools
import types
import typing
from typing import Any, Union

import pydantic

from tungstenkit.sdk import io

__all__ = ["END", "End", "concatenated", "piece_class", "problems_of"]


class End(enum.Enum):
    """The type of END, for annotations."""

    END = "end"


END = End.END
"""Yielded in place of a piece: the output for this input is complete, whatever the other inputs still need."""


def concatenated(declared: type[io.BaseIO]) -> list[str]:
    """The fields of an output class whose values in pieces come one after the other; of all others the last counts."""
    return [name for name in declared.model_fields if _is_concatenated(declared, name)]


def problems_of(declared: type[io.BaseIO]) -> collections.abc.Iterator[str]:
    """What keeps outputs of a class from being folded of pieces."""
    from tungstenkit.sdk.outputs import computes

    if computes(declared):
        yield (
            f"output: {declared.__name__} has a serializer or a computed field, and predict yields: what is computed "
            "of a piece is not what is computed of the output; make it a field, and yield it with the last piece"
        )
    for name, field in declared.model_fields.items():
        if io.declared(field, "fold") == "concatenate" and _container(field.annotation) not in (str, list):
            yield f"{declared.__name__}.{name}: only strings and lists can be concatenated"


def _is_concatenated(declared: type[io.BaseIO], name: str) -> bool:
    field = declared.model_fields[name]
    fold = io.declared(field, "fold")
    if fold is not None:
        return bool(fold == "concatenate")
    nullable = type(None) in typing.get_args(field.annotation)
    chosen = io.declared(field, "choices") is not None
    return _container(field.annotation) in (str, list) and not nullable and not chosen


def _container(annotation: Any) -> Any:
    """`str` or `list` where values are such, or None; something else for everything else."""
    if hasattr(annotation, "__supertype__"):  # typing.NewType
        return _container(annotation.__supertype__)
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return _container(arguments[0])
    if origin is Union or origin is getattr(types, "UnionType", Union):
        kinds = {_container(one) for one in arguments if one is not type(None)}
        return kinds.pop() if len(kinds) == 1 else None
    container = origin or annotation
    return list if container is collections.abc.Sequence else container


@functools.cache
def piece_class(declared: type[io.BaseIO]) -> type[pydantic.BaseModel]:
    """A class of what pieces of an output hold: any of its fields, of the same types.

    The output class's own validators are for whole outputs, and so are the limits of what is concatenated.
    """
    declared.model_rebuild()
    whole = frozenset(concatenated(declared))
    fields: dict[str, Any] = {}
    for name, field in declared.model_fields.items():
        kept = [one for one in field.metadata if name not in whole or isinstance(one, io.Exact)]
        annotation: Any = field.annotation
        if kept:
            annotation = typing.Annotated[(annotation, *kept)]
        fields[name] = (annotation, None)
    config = pydantic.ConfigDict(
        arbitrary_types_allowed=True,
        protected_namespaces=(),
        ser_json_inf_nan="constants",
        extra=declared.model_config.get("extra"),
    )
    return pydantic.create_model(f"{declared.__name__}Piece", __config__=config, **fields)
