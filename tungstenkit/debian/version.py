"""Debian's version order, made usable by a library that compares versions otherwise.

Debian policy 5.6.12 and deb-version(7) define the order; this build of libsolv compares as RPM does, which
differs (`+`, `~` within a revision, a missing revision). So libsolv is given not versions but their `rank`,
which it, RPM and a comparison of integer tuples all order as Debian orders the versions. Programs of builds, which can
import nothing of ours, need no ranks and have `nix/tools/lib/debversion.py`; a test holds that both agree.
"""

from __future__ import annotations

import re
from functools import cache

_PARTS = re.compile(r"([^0-9]*)([0-9]*)")
_VERSION = re.compile(
    r"(?:(?P<epoch>[0-9]+):)?(?P<upstream>[A-Za-z0-9.+~-]+?)(?:-(?P<revision>[A-Za-z0-9.+~]+))?"
)

# `~` sorts before the end of a part, which sorts before letters, which sort before all else.
_TILDE, _END, _LETTERS, _OTHERS = 0, 1, 2, 200


def _character(c: str) -> int:
    if c == "~":
        return _TILDE
    return (_LETTERS if c.isalpha() else _OTHERS) + ord(c)


def _numbers(part: str) -> list[str]:
    """An upstream version or a revision, closed by what dpkg reads past its end: an empty text and a 0."""
    numbers: list[str] = []
    for text, digits in _PARTS.findall(part):
        if not text and not digits:
            break
        numbers += [str(_character(c)) for c in text]
        numbers += [str(_END), digits.lstrip("0") or "0"]
    return [*numbers, str(_END), "0"]


@cache
def rank(version: str) -> str:
    """Dotted integers that compare, number by number, as Debian compares the versions.

    Raises ValueError for what is no Debian version.
    """
    if not (match := _VERSION.fullmatch(version)):
        raise ValueError(f"not a Debian version: {version!r}")
    epoch = (match["epoch"] or "0").lstrip("0") or "0"
    return ".".join([epoch, *_numbers(match["upstream"]), *_numbers(match["revision"] or "0")])


def order(version: str) -> tuple[int, ...]:
    """A sort key for Debian versions. Raises ValueError as `rank` does."""
    return tuple(map(int, rank(version).split(".")))
