"""How two tars of the same thing differ, in words: which files, where, and what that looks like.

It is for people who must find out why their code makes something else each time; so a guess is only said where what
is seen leaves little else.
"""

from __future__ import annotations

import difflib
import re
import tarfile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_SHOWN_LINES = 12
_SHOWN_BYTES = 16
_TEXT = 1 << 20
"""Bytes of a file that is still compared line by line."""


def differences(first: Path, second: Path) -> list[str]:
    """How two tars differ, a paragraph for each path; empty where they hold the same."""
    with tarfile.open(first) as one, tarfile.open(second) as other:
        old = {member.name: member for member in one}
        new = {member.name: member for member in other}
        found = []
        for name in sorted(old.keys() | new.keys()):
            if name not in old or name not in new:
                found.append(f"/{name}: only the {'first' if name in old else 'second'} run made it")
                continue
            how = "".join(f"\n  {line}" for line in _difference(one, old[name], other, new[name]))
            if how:
                found.append(f"/{name}:{how}")
    return found


def _difference(
    one: tarfile.TarFile, old: tarfile.TarInfo, other: tarfile.TarFile, new: tarfile.TarInfo
) -> Iterator[str]:
    if old.type != new.type:
        yield f"{_kind(old)} and {_kind(new)}"
        return
    if old.mode != new.mode:
        yield f"mode {old.mode:04o} and {new.mode:04o}"
    if old.linkname != new.linkname:
        yield f"links to {old.linkname} and to {new.linkname}"
    if old.isreg():
        yield from _content_difference(_read(one, old), _read(other, new), old.size, new.size)


def _kind(member: tarfile.TarInfo) -> str:
    return "a folder" if member.isdir() else "a link" if member.issym() or member.islnk() else "a file"


def _read(tar: tarfile.TarFile, member: tarfile.TarInfo) -> Iterator[bytes]:
    content = tar.extractfile(member)
    assert content is not None  # it is a file
    with content:
        while data := content.read(_TEXT):
            yield data


def _content_difference(
    first: Iterator[bytes], second: Iterator[bytes], old_size: int, new_size: int
) -> Iterator[str]:
    offset = 0
    while True:
        old, new = next(first, b""), next(second, b"")
        if old != new:
            break
        if not old:
            return
        offset += len(old)
    if offset == 0 and max(old_size, new_size) <= _TEXT:
        lines = _text_difference(old, new)
        if lines is not None:
            yield from lines
            return
    place = next(
        (i for i, (a, b) in enumerate(zip(old, new, strict=False)) if a != b), min(len(old), len(new))
    )
    shown = slice(place, place + _SHOWN_BYTES)
    sizes = f"{old_size} bytes" if old_size == new_size else f"{old_size} and {new_size} bytes"
    yield f"{sizes}; from byte {offset + place} on: {old[shown].hex(' ') or 'the end'}"
    yield f"and then: {new[shown].hex(' ') or 'the end'}"
    if hint := _numbers(old, new):
        yield hint


def _text_difference(old: bytes, new: bytes) -> list[str] | None:
    """A short diff of two texts, and what it looks like; None where they are not both text."""
    try:
        before, after = old.decode(), new.decode()
    except UnicodeDecodeError:
        return None
    if "\0" in before + after:
        return None
    changed = [
        line if len(line) <= 160 else f"{line[:160]}…"
        for line in difflib.unified_diff(before.splitlines(), after.splitlines(), n=0, lineterm="")
        if not line.startswith(("---", "+++", "@@"))
    ]
    more = ["…"] if len(changed) > _SHOWN_LINES else []
    hint = _looks_like(before, after)
    return changed[:_SHOWN_LINES] + more + ([f"({hint})"] if hint else [])


_TIME = re.compile(r"\d{4}-\d\d-\d\d|\d\d:\d\d|\b1[6-9]\d{8}(\.\d+)?\b|\b(Mon|Tue|Wed|Thu|Fri|Sat|Sun)\b")
_NUMBER = re.compile(r"-?\d+\.\d+(e[+-]?\d+)?", re.IGNORECASE)


def _looks_like(before: str, after: str) -> str | None:
    if sorted(re.findall(r"\w+", before)) == sorted(re.findall(r"\w+", after)):
        return "the same words in another order: sort what comes out of a set"
    times = [_TIME.sub("", text) for text in (before, after)]
    if len({re.sub(r"\d+", "", text) for text in times}) == 1 and times != [before, after]:
        return "looks like a time stamp"
    if _NUMBER.sub("", before) == _NUMBER.sub("", after):
        return f"numbers that the CPU or the number of threads decides: {_REMEDY}"
    return None


_REMEDY = '`cpu = "baseline"` in [tool.tungsten.post-build] of pyproject.toml makes every run use the same'


def _numbers(old: bytes, new: bytes) -> str | None:
    """What a few bytes that differ in files of one size may be; few of many, all over the file, are rounding."""
    if len(old) != len(new):
        return None
    different = sum(a != b for a, b in zip(old, new, strict=True))
    if different * 8 < len(old) and different > 1:
        return f"(where these are floating-point numbers, the CPU or the number of threads decides them: {_REMEDY})"
    return None
