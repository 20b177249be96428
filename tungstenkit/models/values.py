"""What a program gives for an input, made JSON; and the JSON of an output, made what a program likes to have.

A model's schema says which texts are files. Files of an input are the program's own, so that a path is a path; those of
an output come as data URIs.
"""

from __future__ import annotations

import enum
import json
import math
import os
import re
import sys
import uuid
from collections.abc import Mapping
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Any

import PIL.Image

from tungstenkit.run.client import SavedFile, did_you_mean, server_module
from tungstenkit.run.fields import file_type, member
from tungstenkit.sdk.errors import RunError
from tungstenkit.sdk.io import BaseIO
from tungstenkit.sdk.media import Audio, Binary, File, Image, Video

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tungstenkit.run.fields import Schema

_FILES: dict[str, type[File]] = {one.file_type: one for one in (Image, Audio, Video, Binary)}
_URI = re.compile(r"(data|https?):", re.IGNORECASE)

Place = tuple[str | int, ...]


class Output(Mapping[str, Any]):
    """An output, or an object in one: read-only; its fields are items and attributes alike.

    A field that is called as a method of mappings is, such as `items`, is an item alone.
    """

    __slots__ = ("_fields",)

    def __init__(self, fields: Mapping[str, Any]) -> None:
        object.__setattr__(self, "_fields", dict(fields))

    def __getitem__(self, name: str) -> Any:  # noqa: ANN401 (whatever the model returns)
        return self._fields[name]

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401
        try:
            return self._fields[name]
        except KeyError:
            known = ", ".join(self._fields) or "none"
            raise AttributeError(f"the output has no field {name!r}; it has {known}") from None

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError("an output is read-only")

    def __iter__(self) -> Iterator[str]:
        return iter(self._fields)

    def __len__(self) -> int:
        return len(self._fields)

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *self._fields})

    def __repr__(self) -> str:
        return f"Output({', '.join(f'{name}={value!r}' for name, value in self._fields.items())})"

    def __reduce__(self) -> tuple[Any, ...]:
        return Output, (self._fields,)


def output_of(value: Any, schema: Schema | None) -> Any:  # noqa: ANN401 (JSON)
    """JSON of an output with `Output`s in place of objects, and the SDK's files in place of theirs.

    A file is a data URI, or the path of one that was saved: a path that a server names is a text.
    """
    if isinstance(value, dict):
        return Output(
            {name: output_of(item, schema and member(schema, name)) for name, item in value.items()}
        )
    if isinstance(value, list):
        return [output_of(item, schema and member(schema, number)) for number, item in enumerate(value)]
    kind = file_type(schema) if schema is not None and isinstance(value, str) else None
    if kind is None or not (value.startswith("data:") or isinstance(value, SavedFile)):
        return value
    return _FILES[kind](value)


class InputSchema:
    """Makes JSON of a model's inputs, and says all that is wrong with one: by the server's own rules.

    What a server's settings decide, such as how large files may be and whether it fetches from addresses, it says
    itself.
    """

    def __init__(self, schema: Schema) -> None:
        """schema: the model's own."""
        checks = server_module("tungsten_server.checks.inputs")
        self._schema = schema
        try:
            self._checks = checks.InputSchema(schema, max_file=sys.maxsize)
        except (ValueError, TypeError, LookupError, AttributeError) as problem:
            raise RunError(f"the model's inputs are described by no JSON Schema: {problem}") from None
        self._error: type[Exception] = checks.InputError

    def json(self, value: object, options: Mapping[str, Any] | None, where: str) -> bytes:
        """One input as JSON. options: more of its fields. where: what errors call it. Raises RunError."""
        if not isinstance(value, (BaseIO, Mapping)):
            raise RunError(
                f"an input is a dict, or an instance of the model's input class, not {_named(value)}",
                where=where,
            )
        making = _Making()
        fields = {**(options or {}), **(_fields(value) if isinstance(value, BaseIO) else value)}
        known = self._schema.get("properties", {})
        for name in [one for one in fields if one not in known]:
            making.say((str(name),), f"the model has no such input{did_you_mean(str(name), known)}")
        try:
            made = making.made(fields, self._schema, ())
        except RecursionError:
            raise RunError("it holds itself, or is nested too deeply", where=where) from None
        for place, text in self._refused(made):
            making.say(place, text)
        if making.problems:
            lines = [f"{'.'.join(map(str, place))}: {text}" for place, text in making.problems.items()]
            names = ", ".join(known) or "none"
            raise RunError("\n".join(lines), where=where, hint=f"the model's inputs are: {names}")
        return making.text(made)

    def _refused(self, value: object) -> Iterator[tuple[Place, str]]:
        """What a server would refuse, by its place."""
        try:
            self._checks.check([value])
        except self._error as error:
            problems: Sequence[Any] = error.problems  # type: ignore[attr-defined] # the server's class
            for one in problems:
                if one.kind != "url_not_enabled":
                    yield tuple(one.location[1:]), one.message


def _fields(value: BaseIO) -> dict[str, Any]:
    return {name: getattr(value, name) for name in type(value).model_fields}


def _named(value: object) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}".removeprefix("builtins.")


class _Making:
    """One input that is made: its problems by their places, and its files, which are written last.

    Meanwhile a mark stands for each: JSON with megabytes of base64 in it is neither checked nor encoded.
    """

    def __init__(self) -> None:
        self.problems: dict[Place, str] = {}
        self._files: list[str] = []
        # Made anew for each, so that no text that somebody gives can stand for a file.
        self._mark = f"data:,{uuid.uuid4().hex}-"

    def say(self, place: Place, text: str) -> None:
        """Note a problem; the first of a place counts."""
        self.problems.setdefault(place, text)

    def made(self, value: object, schema: Schema | None, place: Place) -> Any:  # noqa: ANN401 (JSON)
        """A value as JSON has it."""
        if isinstance(value, enum.Enum):
            value = value.value
        kind = file_type(schema) if schema is not None else None
        if isinstance(value, float) and not math.isfinite(value):
            # Else it would be the only problem that is told.
            self.say(place, f"{value} is not a finite number")
            return None
        if isinstance(value, (bool, int, float, NoneType)) or (isinstance(value, str) and kind is None):
            return value
        if isinstance(value, BaseIO):
            value = _fields(value)
        if isinstance(value, Mapping):
            return {
                str(name): self.made(item, schema and member(schema, str(name)), (*place, str(name)))
                for name, item in value.items()
            }
        if isinstance(value, (list, tuple)):
            return [
                self.made(item, schema and member(schema, number), (*place, number))
                for number, item in enumerate(value)
            ]
        is_array = hasattr(value, "__array_interface__") and not isinstance(value, PIL.Image.Image)
        if is_array and getattr(value, "ndim", None) == 0:
            return self.made(value.item(), schema, place)  # type: ignore[attr-defined] # numpy's numbers
        if kind is not None and not is_array:
            return self._file(value, _FILES[kind], place)
        if is_array:
            made = "tolist()" if kind is None else "tobytes()"
            how = "PIL.Image.fromarray(array)" if kind == "image" else f"array.{made}"
            self.say(place, f"an array is not taken as it is; write {how}")
        else:
            self.say(place, f"this field is no file, and {_named(value)} is no JSON")
        return None

    def _file(self, value: object, kind: type[File], place: Place) -> str:
        """A file's URI, or the mark that stands for it."""
        if isinstance(value, str) and _URI.match(value):
            return value
        try:
            uri = _opened(value, kind).uri
        except OSError as problem:
            self.say(place, f"{problem.filename or value} can't be read: {problem.strerror or problem}")
            uri = ""
        except (TypeError, ValueError) as problem:
            self.say(place, str(problem))
            uri = ""
        self._files.append(uri)
        return f"{self._mark}{len(self._files) - 1}-"

    def text(self, value: object) -> bytes:
        """The JSON, with the files in it."""
        encoded = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
        first, *others = re.split(rb"%b(\d+)-" % self._mark.encode(), encoded)
        parts = [first]
        for number, after in zip(others[::2], others[1::2], strict=True):
            header, comma, data = self._files[int(number)].partition(",")
            # Base64 needs no escapes, and would take as long again to be looked at.
            parts += json.dumps(header)[1:-1].encode(), comma.encode(), data.encode(), after
        return b"".join(parts)


def _opened(value: object, kind: type[File]) -> File:
    """The SDK's file of what was given for one. Raises TypeError, ValueError or OSError."""
    if isinstance(value, File):
        return value
    if isinstance(value, (str, os.PathLike)):
        return kind.from_path(Path(value).expanduser())
    if isinstance(value, (bytes, bytearray, memoryview)):
        return kind.from_bytes(bytes(value))
    if isinstance(value, PIL.Image.Image) and issubclass(kind, Image):
        return kind.from_pil_image(value)
    if hasattr(value, "read"):
        return kind.from_buffer(value)  # type: ignore[arg-type]
    picture = " or a PIL.Image" if issubclass(kind, Image) else ""
    raise TypeError(f"a file is a path, a URI, bytes, an open file{picture}, not {_named(value)}")
