"""The fields of a model's schema: what stands at a place of an input or output, and which of them are files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

Schema = dict[str, Any]


def at(schema: Schema, path: Sequence[str]) -> Schema | None:
    """The schema of the field that a path leads to."""
    found: Schema | None = schema
    for name in path:
        found = found and member(found, name)
    return found


def member(schema: Schema, key: str | int) -> Schema | None:
    """The schema of an object's field, or of a list's item."""
    for choice in choices(schema):
        if isinstance(key, int):
            first = choice.get("prefixItems", ())
            found = first[key] if key < len(first) else choice.get("items")
        else:
            found = choice.get("properties", {}).get(key, choice.get("additionalProperties"))
        if isinstance(found, dict):
            return found
    return None


def choices(schema: Schema) -> Iterator[Schema]:
    """What a value may be: the schema itself, and each member of its unions."""
    yield schema
    for choice in schema.get("anyOf", ()):
        yield from choices(choice)


def file_type(schema: Schema) -> str | None:
    """`image`, `audio`, `video` or `binary` where a field is a file; a `MaskedImage` is an object of two."""
    kinds = (choice.get("x-file-type") for choice in choices(schema) if choice.get("type") == "string")
    return next(filter(None, kinds), None)


def holds_files(schema: Schema) -> bool:
    """Whether a field is a file or a list of files."""
    if file_type(schema) is not None:
        return True
    item = member(schema, 0)
    return item is not None and holds_files(item)
