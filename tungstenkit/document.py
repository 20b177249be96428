"""How our JSON documents are written and read: one shape for `spec.json` and `tungsten.lock`.

A document is a frozen pydantic model with kebab-case keys. Writing is deterministic (sorted keys, two spaces, a
final newline), so that a document reads well in a diff and its digest means something. Reading names the spot
of each problem.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from tungstenkit.data import VERSION

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tungstenkit.sdk.errors import TungstenError


_SHOWN, _LONGEST = 20, 2000
"""So many problems of a document are told, in so many letters each: somebody else may have written it."""


class Document(BaseModel):
    """A JSON document, or a part of one."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        alias_generator=lambda name: name.replace("_", "-"),
        populate_by_name=True,
        protected_namespaces=(),
        # What checks a part comes with what checks the whole: most parts are never read or made by themselves.
        defer_build=True,
    )

    def to_json(self) -> str:
        """The document's one spelling."""
        return to_json(self.model_dump(mode="json", by_alias=True))

    @classmethod
    def parse(cls, text: str, *, where: str, error: type[TungstenError], hint: str) -> Self:
        """Read a document.

        where: the file's name, for messages. error: what to raise. hint: what the user can do about a bad document.
        """
        try:
            return cls.model_validate_json(text)
        except ValidationError as problem:
            lines = [
                f"{'.'.join(str(part) for part in one['loc'])[:_LONGEST] or 'the document'}: {one['msg'][:_LONGEST]}"
                for one in problem.errors(include_url=False, include_input=False)
            ]
            if more := len(lines) - _SHOWN:
                lines[_SHOWN:] = [f"and {more} more"] if more > 0 else []
            raise error("\n".join(lines), where=where, hint=hint) from None


def check_version(
    text: str, key: str, known: Sequence[int], *, where: str, error: type[TungstenError], hint: str
) -> dict[str, Any]:
    """What a document holds; refuses one of another version: nothing else in it means what we think it does.

    key: the key that holds the version. known: those that are read here, in order.
    """
    try:
        document: dict[str, Any] = json.loads(text, object_pairs_hook=_once)
        version = document[key]
    except _TwiceError as problem:
        # A reader sees one of them, and what is read may be the other.
        raise error(
            f"the key {str(problem)[:100]!a} stands twice in one object", where=where, hint=hint
        ) from None
    except (ValueError, KeyError, TypeError, RecursionError):
        raise error(f"no JSON object with the key `{key}`", where=where, hint=hint) from None
    if type(version) is int and version > known[-1]:
        raise error(
            f"{key} {str(version)[:20]} is of a newer tungsten than this one, {VERSION}, which reads {_listed(known)}",
            where=where,
            hint=f"update tungsten; or {hint}",
        )
    if type(version) is not int or version not in known:
        raise error(
            f"{key} {repr(version)[:20]} is not known here; this tungsten reads {_listed(known)}",
            where=where,
            hint=hint,
        )
    return document


def _listed(known: Sequence[int]) -> str:
    *first, last = map(str, known)
    return f"{', '.join(first)} and {last}" if first else last


class _TwiceError(Exception):
    """A JSON object has a key twice."""


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        ((key, _),) = Counter(key for key, _ in pairs).most_common(1)
        raise _TwiceError(key)
    return found


def to_json(value: Any) -> str:  # noqa: ANN401 - any JSON value
    """JSON with sorted keys, two spaces and a final newline."""
    return json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def compact(value: Any) -> bytes:  # noqa: ANN401 - any JSON value
    """JSON for programs: sorted keys, in ASCII, and nothing that need not be there."""
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def write_atomically(path: Path, text: str) -> None:
    """Write a file so that a reader sees the old text or the new one, never a part.

    Raises OSError, as `open` does; then the old file is untouched.
    """
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
