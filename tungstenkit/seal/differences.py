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

_SHOWN_LINES, _COMPARED_LINES = 12, 1000
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
        yield from content_difference(_read(one, old), _read(other, new), old.size, new.size)


def _kind(member: tarfile.TarInfo) -> str:
    return "a folder" if member.isdir() else "a link" if member.issym() or member.islnk() else "a file"


def _read(tar: tarfile.TarFile, member: tarfile.TarInfo) -> Iterator[bytes]:
    content = tar.extractfile(member)
    assert content is not None  # it is a file
    with content:
        while data := content.read(_TEXT):
            yield data


def content_difference(
    first: Iterator[bytes], second: Iterator[bytes], old_size: int, new_size: int
) -> Iterator[str]:
    """How the contents of two files differ, in lines; nothing where they don't."""
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
        for line in difflib.unified_diff(
            *_where_they_differ(before.splitlines(), after.splitlines()), n=0, lineterm=""
        )
        if not line.startswith(("---", "+++", "@@"))
    ]
    more = ["…"] if len(changed) > _SHOWN_LINES else []
    hint = looks_like(before, after)
    return changed[:_SHOWN_LINES] + more + ([f"({hint})"] if hint else [])


def _where_they_differ(before: list[str], after: list[str]) -> tuple[list[str], list[str]]:
    """Lines of two texts without those that both begin and end with, and no more of them than are compared in a moment:
    who has written them may have written them so that it takes hours.
    """
    pairs = enumerate(zip(before, after, strict=False))
    start = next((place for place, (old, new) in pairs if old != new), min(len(before), len(after)))
    before, after = before[start:], after[start:]
    pairs = enumerate(zip(reversed(before), reversed(after), strict=False))
    end = next((place for place, (old, new) in pairs if old != new), min(len(before), len(after)))
    return tuple(lines[: len(lines) - end][:_COMPARED_LINES] for lines in (before, after))  # type: ignore[return-value]


# How dates and times are written. What is no more than a number has to be a likely one.
_YEAR = r"(?:19|20|21)\d\d"
_MONTH = r"(?:0[1-9]|1[0-2])"
_DAY = r"(?:0[1-9]|[12]\d|3[01])"
_ANY_DAY = r"(?:0?[1-9]|[12]\d|3[01])(?i:st|nd|rd|th)?"
_MONTH_NAME = (
    r"(?i:jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?|oct(?:ober)?"
    r"|nov(?:ember)?|dec(?:ember)?)"
)
_WEEKDAY = r"(?i:mon(?:day)?|tue(?:s(?:day)?)?|wed(?:nesday)?|thu(?:rs(?:day)?)?|fri(?:day)?|sat(?:urday)?|sun(?:day)?)"
_ZONE = r"(?:\s?(?:Z|UTC|GMT|MSK|[CEMW]ET|[A-Z]{1,3}[SD]T))?(?:\s?[+-]\d\d(?::?\d\d)?)?(?:\s\([A-Z][\w\s]{3,40}\))?"
_CLOCK = rf"(?:[01]?\d|2[0-3]):[0-5]\d(?::[0-6]\d(?:[.,]\d+)?)?(?:\s?(?i:[ap]\.?m\.?))?{_ZONE}"
_BARE_CLOCK = rf"(?:[01]\d|2[0-3])-?[0-5]\d(?:-?[0-6]\d(?:[.,]?\d{{3}}(?:\d{{3}})?)?)?{_ZONE}"
_AT = rf"(?:,?\s{{1,2}}(?:at\s{{1,2}})?{_CLOCK})?"
_FORMS = (
    # Sun Nov  1 03:06:42 2026 +0000; November 1, 2026 at 3:06 AM; Nov 01 03:06:42
    rf"(?:{_WEEKDAY},?\s{{1,2}})?{_MONTH_NAME}\.?\s{{1,2}}{_ANY_DAY}{_AT}(?:,?\s{{1,2}}{_YEAR}{_ZONE})?{_AT}",
    # Sun, 01 Nov 2026 03:06:42 GMT; Sunday, 01-Nov-26 03:06 GMT; 01/Nov/2026:03:06:42 +0000; Sun 1 Nov 03:06 UTC 2026
    (
        rf"(?:{_WEEKDAY},?)?\s{{0,2}}{_ANY_DAY}[\s/-]{_MONTH_NAME}\.?(?:,?[\s/-]{_YEAR}|-\d\d)?"
        rf"(?::{_CLOCK}|{_AT}(?:\s{{1,2}}{_YEAR})?)"
    ),
    # November 2026
    rf"{_MONTH_NAME}\.?,?\s{{1,2}}{_YEAR}",
    # 2026-11-01T03:06:42.125+00:00; 2026/11/01 03:06; 2026-11-01_03-06-42
    rf"(?:{_YEAR}-{_MONTH}-{_DAY}|{_YEAR}/{_MONTH}/{_DAY})(?:[T\s_-](?:{_CLOCK}|{_BARE_CLOCK})|,\s{_CLOCK})?",
    # 20261101T030642Z; 20261101-0306; 20261101030642; 20261101
    rf"{_YEAR}{_MONTH}{_DAY}(?:T{_CLOCK}|[T_-]?{_BARE_CLOCK})?",
    # 11/1/2026, 3:06:42 AM; 01/11/26; 01.11.2026 03:06; 01-11-2026
    rf"(?:{_ANY_DAY}/{_ANY_DAY}/(?:{_YEAR}|\d\d)|{_DAY}\.{_MONTH}\.{_YEAR}|{_DAY}-{_MONTH}-{_YEAR}){_AT}",
    # Sunday, 03:06; 3:06:42 AM
    rf"(?:{_WEEKDAY},?)?\s{{0,2}}{_CLOCK}",
    _WEEKDAY,
    # Seconds since 1970, to the milli-, micro- or nanosecond
    r"(?P<epoch>[1-9]\d{9})(?:\d{3}|\d{6}|\d{9})?(?:\.\d+)?",
)
# No part of a longer word, number, version, address, or of bytes in hexadecimal.
_STAMP = re.compile(
    rf"(?<![0-9A-Za-z])(?<!\d[.,:/])(?<!\b[0-9A-Fa-f]{{2}}:)(?:{'|'.join(_FORMS)})"
    r"(?![0-9A-Za-z])(?![./]\d|:[0-9A-Fa-f]{2}\b)"
)
_APART = 7 * 24 * 60 * 60
"""Seconds: runs that are compared are closer to each other, and two numbers that mean nothing hardly ever are."""
_NUMBER = re.compile(r"-?(?<!\d)\d+\.\d+(e[+-]?\d+)?", re.IGNORECASE)


def looks_like(before: str, after: str) -> str | None:
    """What two texts that differ, and should not, suggest; None where that could be much."""
    if _is_another_time(before, after):
        return "looks like a time stamp"
    if sorted(re.findall(r"\w+", before)) == sorted(re.findall(r"\w+", after)):
        return "the same words in another order: sort what comes out of a set"
    if _NUMBER.sub("", before) == _NUMBER.sub("", after):
        return f"numbers that the CPU or the number of threads decides: {_REMEDY}"
    return None


def _is_another_time(before: str, after: str) -> bool:
    """Whether two texts are the same but for dates and times; how long something took may differ, too."""
    (old, rest), (new, other_rest) = _stamps(before), _stamps(after)
    if _NUMBER.sub("", rest) != _NUMBER.sub("", other_rest):
        return False
    if sorted(stamp[0] for stamp in old) == sorted(stamp[0] for stamp in new):
        return False  # there is none, or they are in another order
    return any(one[0] != other[0] and _may_be_near(one, other) for one, other in zip(old, new, strict=True))


def _stamps(text: str) -> tuple[list[re.Match[str]], str]:
    """The dates and times of a text, and what it is without; it holds no NUL, which stands for them."""
    found: list[re.Match[str]] = []

    def keep(stamp: re.Match[str]) -> str:
        found.append(stamp)
        return "\0"

    return found, _STAMP.sub(keep, text)


def _may_be_near(one: re.Match[str], other: re.Match[str]) -> bool:
    seconds = [stamp["epoch"] for stamp in (one, other)]
    if None in seconds:
        return seconds[0] is seconds[1]
    return abs(int(seconds[0]) - int(seconds[1])) <= _APART


_REMEDY = '`cpu = "baseline"` below [tool.tungsten.post-build] in pyproject.toml makes every run use the same'


def _numbers(old: bytes, new: bytes) -> str | None:
    """What a few bytes that differ in files of one size may be; few of many, all over the file, are rounding."""
    if len(old) != len(new):
        return None
    different = sum(a != b for a, b in zip(old, new, strict=True))
    if different * 8 < len(old) and different > 1:
        return f"(where these are floating-point numbers, the CPU or the number of threads decides them: {_REMEDY})"
    return None
