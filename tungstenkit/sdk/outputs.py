"""What a model's code has returned, fixed: as it is now, whatever that code does to it later.

The server's model process calls this when `predict` has returned and before the model's code runs again. What is
left to do afterwards, encoding pictures and writing files as base64, needs nothing that this code can change.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import decimal
import enum
import functools
import json
import os
import re
import shutil
import sys
import typing
import uuid
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, NamedTuple

import pydantic

from tungstenkit.sdk import io
from tungstenkit.sdk.look import Look, file_clock
from tungstenkit.sdk.media import READ_LATE, File, writing_files
from tungstenkit.sdk.temporary import new_temporary_file

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator, Sequence
    from typing import BinaryIO, Callable

__all__ = [
    "FileRead",
    "FixedJson",
    "Fixing",
    "PerhapsSharedError",
    "SharedError",
    "check_files",
    "check_objects",
    "computes",
    "looking_at_files",
]

_BIG_FILE = 16 * 1024 * 1024
"""Bytes from which a file is copied to another one, and not into memory."""

_FICLONE = 0x40049409  # ioctl_ficlone(2)


class SharedError(ValueError):
    """One thing that is returned for inputs that differ: what it says of the one may be the other's."""


class PerhapsSharedError(ValueError):
    """Outputs that may be fine, but only a call for each input alone can tell."""


class FileRead(NamedTuple):
    """What is known of a file that was read."""

    changed: int
    """When it, or a link to it, was changed last."""
    is_as_made: bool
    """Whether it is as it was when the `File` was made."""


class FixedJson:
    """JSON as it was at one moment, whose files are still to be written into it, as they were at that moment.

    They have been read: into memory, big ones into `temporary_files`. Pictures may still have to be encoded.
    """

    def __init__(self, limit: int) -> None:
        """Begin. limit: bytes of JSON beyond which files are not read; `size` tells."""
        self._limit = limit
        # Made anew for each, so that no text that a model has can stand for a file.
        self._mark = uuid.uuid4().hex
        self._files: list[File] = []
        self._kinds: list[type[File]] = []
        """What each was, before it was a file of no machine's."""
        self.json = ""
        """The JSON, with marks in place of the files."""
        self.size = 0
        """Bytes of the files in JSON, at least."""
        self.read: dict[Hashable, FileRead] = {}
        """The files of this machine that were read, by what they are on their file system."""
        self._missing: dict[str, str] = {}
        """The paths that lead nowhere, by what stands for their files."""

    def text(self) -> bytes:
        """Write the JSON with its files in it."""
        first, *others = re.split(rf"{self._mark}-(\d+)-", self.json)
        parts = [first.encode()]
        for index, after in zip(others[::2], others[1::2]):
            parts += json.dumps(self._files[int(index)].uri)[1:-1].encode(), after.encode()
        return b"".join(parts)

    def value(self, read: Callable[[str], Any]) -> Any:  # noqa: ANN401 (JSON)
        """The JSON, with the files as objects in it, as an output class takes them. read: makes values of JSON."""
        marks = {f"{self._mark}-{index}-": index for index in range(len(self._files))}

        def made(value: object) -> object:
            if isinstance(value, dict):
                return {key: made(item) for key, item in value.items()}
            if isinstance(value, list):
                return [made(item) for item in value]
            index = marks.get(value) if isinstance(value, str) else None
            return value if index is None else self._file(index)

        return made(read(self.json))

    def _file(self, index: int) -> File:
        file, kind = self._files[index], self._kinds[index]
        if isinstance(file, kind):
            return file
        made = kind._of(file._given, file.media_type)
        made._suffix = file._suffix
        return made

    def take(self, file: File) -> str:
        """Keep a file as it is now; return what stands for it."""
        given = file._given
        self._kinds.append(type(file))
        if isinstance(given, Path):
            with given.open("rb") as opened:
                status = os.fstat(opened.fileno())
                self.size += status.st_size * 4 // 3
                contents = self._contents(opened, status.st_size)
            identity = status.st_dev, status.st_ino
            changed = max(status.st_ctime_ns, os.lstat(given).st_ctime_ns)
            is_as_made = file._look is not None and file._look.is_same(status, contents)
            before = self.read.get(identity)
            self.read[identity] = FileRead(changed, is_as_made and (before is None or before.is_as_made))
            # Of the base class, as a file of this machine is called what its name says.
            suffix, file = file.suffix, File._of(contents, file.media_type)
            file._suffix = suffix
        self._files.append(file)
        return f"{self._mark}-{len(self._files) - 1}-"

    def note_missing(self, path: str) -> str:
        """Keep that a file is not there, which `refuse_missing` tells by its place; return what stands for it."""
        mark = f"{self._mark}-missing-{len(self._missing)}"
        self._missing[mark] = path
        return mark

    def refuse_missing(self) -> None:
        """Raise FileNotFoundError where files are not there, with the place of each in the JSON."""
        if not self._missing:
            return
        found: list[str] = []

        def walk(value: object, place: tuple[object, ...]) -> None:
            if isinstance(value, str) and value in self._missing:
                found.append(f"{'.'.join(map(str, place))}: {self._missing[value]}")
            elif isinstance(value, (list, dict)):
                for key, item in value.items() if isinstance(value, dict) else enumerate(value):
                    walk(item, (*place, key))

        walk(json.loads(self.json), ())
        told = "; ".join(f"{one} is not there" for one in found or self._missing.values())
        raise FileNotFoundError(f"{told}; {READ_LATE}")

    def _contents(self, file: BinaryIO, size: int) -> bytes | Path:
        if self.size > self._limit:
            return b""
        if size >= _BIG_FILE:
            with contextlib.suppress(OSError):  # no room, or no place to write to
                return _copied(file)
            file.seek(0)
        return file.read()


class Fixing:
    """Fixes pydantic objects, within a `with` block: as bytes of JSON, or as FixedJson where they hold files."""

    def __init__(self, limit: int) -> None:
        """limit: see FixedJson."""
        self._limit = limit
        self._fixed: FixedJson | None = None

    def __enter__(self) -> Fixing:
        self._token = writing_files.set(self._take)
        return self

    def __exit__(self, *_: object) -> None:
        writing_files.reset(self._token)

    def __call__(self, value: pydantic.BaseModel, include: set[str] | None = None) -> bytes | FixedJson:
        """Fix one, or those of its fields. Raises what serialising raises."""
        try:
            text = value.model_dump_json(include=include)
            fixed = self._fixed
        finally:
            self._fixed = None
        if fixed is None:
            return text.encode()
        fixed.json = text
        fixed.refuse_missing()
        return fixed

    def _take(self, file: File) -> str:
        if self._fixed is None:
            self._fixed = FixedJson(self._limit)
        try:
            return self._fixed.take(file)
        except FileNotFoundError as missing:
            return self._fixed.note_missing(str(missing.filename))


def _copied(file: BinaryIO) -> Path:
    """Copy an open file to a temporary one; on file systems that can share blocks this takes no time."""
    import fcntl

    target = new_temporary_file()
    try:
        with target.open("xb") as copy:
            try:
                fcntl.ioctl(copy.fileno(), _FICLONE, file.fileno())
            except OSError:
                shutil.copyfileobj(file, copy, 1 << 20)
    except OSError:
        target.unlink(missing_ok=True)
        raise
    return target


@contextlib.contextmanager
def looking_at_files() -> Iterator[int]:
    """Within the block, note what files are like when a `File` is made of them. Gives `file_clock` at its beginning."""
    Look.wanted = True
    try:
        yield file_clock()
    finally:
        Look.wanted = False


def check_files(files: Sequence[dict[Hashable, FileRead]], keys: Sequence[Hashable], since: int) -> None:
    """Refuse a file that was written during a call, and may hold what is of another input than it is returned for.

    files: `FixedJson.read` of what was returned for each input. keys: equal where the inputs are. since: what
    `looking_at_files` gave, within which the call was. Raises SharedError and PerhapsSharedError.
    """
    first: dict[Hashable, Hashable] = {}
    written = [
        (identity, one, key)
        for found, key in zip(files, keys)
        for identity, one in found.items()
        if one.changed >= since
    ]
    for identity, _, key in written:
        if first.setdefault(identity, key) != key:
            raise SharedError(
                "one file that was written during the call is returned for different inputs; "
                "write a file for each input"
            )
    if not all(one.is_as_made for _, one, _ in written):
        raise PerhapsSharedError(
            "a file was written after it was made an output; write a file for each input"
        )


def check_objects(returned: Sequence[object], keys: Sequence[Hashable]) -> None:
    """Refuse what is returned for inputs that differ, and may say of one what is another's.

    returned: for each input. keys: equal where the inputs are. Raises SharedError and PerhapsSharedError.
    """
    first: dict[int, Hashable] = {}
    perhaps = False
    for value, key in zip(returned, keys):
        is_flat = (
            isinstance(value, io.BaseIO)
            and not computes(type(value))
            and not value.__pydantic_extra__
            and _PLAIN.issuperset(map(type, vars(value).values()))
        )
        for part in (value,) if is_flat else _changeable(value):
            if part is _LIVE:
                perhaps = True
            elif first.setdefault(id(part), key) != key:
                if isinstance(part, io.BaseIO) and io.changed.get(id(part)) is part:
                    raise SharedError(
                        f"one {type(part).__name__} object, changed since it was made, is returned for different "
                        "inputs; make one for each input"
                    )
                # What nobody has assigned to, and has nothing in it that can change, is what it was.
                perhaps |= not isinstance(part, io.BaseIO)
    if perhaps:
        raise PerhapsSharedError(
            "a list, a dict or the like is returned for different inputs; make one for each"
        )


@functools.cache
def computes(declared: type[pydantic.BaseModel]) -> bool:
    """Whether what is written of a class, or of one in its fields, is computed by the model's code at that moment.

    Then it may be what this code has kept since, of another input.
    """
    waiting, seen = [declared], {declared}
    while waiting:
        one = waiting.pop()
        known = one.__pydantic_decorators__
        if known.computed_fields or known.field_serializers or known.model_serializers:
            return True
        if any(
            getattr(one, name) is not getattr(io.BaseIO, name)
            for name in _WRITERS
            if issubclass(one, io.BaseIO)
        ):
            return True
        for field in one.model_fields.values():
            if any(isinstance(part, _SERIALIZERS) for part in _parts_of(field.annotation, *field.metadata)):
                return True
            inner = {
                part
                for part in _parts_of(field.annotation)
                if isinstance(part, type) and issubclass(part, pydantic.BaseModel)
            }
            waiting += inner - seen
            seen |= inner
    return False


_WRITERS = ("model_dump", "model_dump_json", "__iter__")
_SERIALIZERS = (pydantic.PlainSerializer, pydantic.WrapSerializer)


def _parts_of(*annotations: object) -> Iterator[object]:
    for one in annotations:
        yield one
        yield from _parts_of(*getattr(one, "__metadata__", ()), *typing.get_args(one))


_PLAIN = frozenset({str, int, float, bool, type(None), bytes, complex})

_UNCHANGEABLE = (
    *(str, int, float, bytes, complex, enum.Enum, decimal.Decimal, uuid.UUID, PurePath, File, range),
    *(dt.date, dt.time, dt.timedelta, dt.tzinfo),
)

_LIVE = object()
"""In place of what is not looked into: its values may be made of what other outputs' are made of."""


def _changeable(value: object) -> Iterator[object]:
    """All that can change in a value, itself included."""
    if type(value) in _PLAIN or isinstance(value, _UNCHANGEABLE):
        return
    parts: Any
    if isinstance(value, pydantic.BaseModel):
        yield value
        if computes(type(value)):
            yield _LIVE
        parts = [*vars(value).values(), *(value.__pydantic_extra__ or {}).values()]
    elif isinstance(value, dict):
        yield value
        parts = value.values()
    elif isinstance(value, (list, set)):
        yield value
        parts = value
    elif isinstance(value, (tuple, frozenset)):
        parts = value
    else:
        numpy = sys.modules.get("numpy")
        if numpy is None or not isinstance(value, numpy.generic):
            yield value
            yield _LIVE
        return
    if not _PLAIN.issuperset(map(type, parts)):
        for part in parts:
            yield from _changeable(part)
