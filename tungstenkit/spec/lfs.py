"""Git LFS: pointers, small texts that stand in the place of large files until somebody fetches these."""

from __future__ import annotations

import re
import stat
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

_LARGEST = 1024  # bytes of a pointer (Git LFS specification, "The Pointer")
_SHOWN = 20
_POINTER = re.compile(
    rb"version https://(?:git-lfs\.github\.com|hawser\.github\.com)/spec/v1\n(?:ext-[^\n]+\n)*"
    rb"oid sha256:(?P<oid>[0-9a-f]{64})\nsize (?P<size>[0-9]{1,19})\n"
)


class Pointer(NamedTuple):
    """What a pointer says of its file."""

    sha256: str
    size: int


def pointer_in(content: bytes) -> Pointer | None:
    """The pointer that some bytes are, if they are one."""
    match = _POINTER.fullmatch(content)
    return Pointer(match["oid"].decode(), int(match["size"])) if match else None


def pointers(folder: Path, names: Iterable[str]) -> dict[str, Pointer]:
    """Those of the files in a folder that are pointers, by their names."""
    found = {}
    for name in names:
        status = (folder / name).lstat()
        if stat.S_ISREG(status.st_mode) and status.st_size <= _LARGEST:
            pointer = pointer_in((folder / name).read_bytes())
            if pointer is not None:
                found[name] = pointer
    return found


def named(found: Iterable[str]) -> str:
    """The names of pointers as a sentence, not all of very many."""
    names = sorted(found)
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    many = (
        "are Git LFS pointers, and not the files"
        if len(names) > 1
        else "is a Git LFS pointer, and not the file"
    )
    return f"{', '.join(names[:_SHOWN])}{more} {many}"
