"""A `Packages` file of Debian's, of which nothing is read but what is asked for.

An index lists 60,000 packages, and a solve can reach some hundred of them. So the file is kept as it is signed;
where a name and where a provided name stand in it is found by one search each, which Python's regular expressions
do in C, and is written beside it; and a stanza is parsed when somebody asks for its package (decision 30).
"""

from __future__ import annotations

import mmap
import re
from bisect import bisect_left
from dataclasses import dataclass, replace
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

from tungstenkit.debian.control import Alternatives, Relation, relations, stanzas
from tungstenkit.debian.version import rank
from tungstenkit.sdk.errors import UnusableError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

_NAME = b"Package"
_PROVIDES = b"Provides"
_PROVIDED = re.compile(rb"(?:^|,)\s*([^\s,(:]+)")


@dataclass(frozen=True, slots=True)
class Package:
    """What an index says of a binary package, as far as it counts here."""

    archive: str
    """`debian` or `debian-security`."""
    name: str
    version: str
    architecture: str
    priority: str
    source: str
    """As the field has it: empty where it is as the package (Debian policy 5.6.1)."""
    file: str
    """Its path below the archive's base."""
    size: int
    """In bytes."""
    sha256: str
    depends: tuple[Alternatives, ...]
    """`Pre-Depends` first."""
    conflicts: tuple[Alternatives, ...]
    """And `Breaks`. `Replaces` alone lets files be overwritten, no more (Debian policy 7.6)."""
    provides: tuple[Relation, ...]
    snapshot: str | None = None
    """Of one that no index lists: a moment, `YYYYMMDDTHHMMSSZ`, whose snapshot of the archive has it, where known."""


class FileOf(NamedTuple):
    """A package's file, as an archive had it."""

    archive: str
    path: str
    """Below the archive's base."""
    size: int
    sha256: str
    snapshot: str | None


def write_places(packages: Path, path: Path) -> None:
    """Write where in a `Packages` file which names stand: sorted lines of a field, a name, and places in bytes.

    Raises UnusableError where the file can't be read.
    """
    text = _mapped(packages)
    places: dict[bytes, list[bytes]] = {}
    for place, name in _values(text, _NAME):
        places.setdefault(b"%s %s " % (_NAME, name.strip()), []).append(b"%d" % place)
    for place, provided in _values(text, _PROVIDES):
        for name in _PROVIDED.findall(provided):
            places.setdefault(b"%s %s " % (_PROVIDES, name), []).append(b"%d" % place)
    path.write_bytes(b"\n".join(sorted(key + b" ".join(found) for key, found in places.items())))


class PackagesFile:
    """The packages of one suite; a package is named by the place of its stanza."""

    def __init__(self, path: Path, places: Path, archive: str) -> None:
        """Open a file of an archive. places: what `write_places` wrote. Raises UnusableError for what can't be read."""
        self._archive = archive
        self._text = _mapped(path)
        self._places = bytes(_mapped(places)).split(b"\n")
        self._read: dict[int, Package] = {}

    def names(self) -> Iterator[str]:
        """The names of all packages, each once."""
        lines = (line.split(b" ")[:2] for line in self._places)
        return (line[1].decode("utf-8", "replace") for line in lines if line[0] == _NAME)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and bool(self._places_of(_NAME, name))

    def named(self, name: str) -> list[Package]:
        """The packages of a name: its versions. Raises UnusableError for one that can't be read."""
        return [self._package(place) for place in self._places_of(_NAME, name)]

    def providers(self, name: str) -> list[Package]:
        """The packages that say that they provide a name. Raises as `named` does."""
        return [self._package(place) for place in self._places_of(_PROVIDES, name)]

    def _places_of(self, field: bytes, name: str) -> list[int]:
        key = b"%s %s " % (field, name.encode())
        at = bisect_left(self._places, key)
        if at == len(self._places) or not self._places[at].startswith(key):
            return []
        return [int(place) for place in self._places[at].removeprefix(key).split()]

    def _package(self, place: int) -> Package:
        before, after = self._text.rfind(b"\n\n", 0, place), self._text.find(b"\n\n", place)
        begin = before + 2 if before >= 0 else 0
        if begin not in self._read:
            end = after if after >= 0 else len(self._text)
            self._read[begin] = _read(self._text[begin:end], self._archive)
        return self._read[begin]


def _mapped(path: Path) -> bytes | mmap.mmap:
    try:
        with path.open("rb") as file:
            # An empty suite's file can't be mapped.
            empty = not path.stat().st_size
            return b"" if empty else mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except OSError as problem:
        raise UnusableError(
            f"a kept package index can't be read: {problem.strerror}", where=str(path), hint="try again"
        ) from None


def _values(text: bytes | mmap.mmap, field: bytes) -> Iterator[tuple[int, bytes]]:
    """A field's values, each with its place."""
    value = field + b": " + rb"([^\n]*(?:\n[ \t][^\n]*)*)"
    if first := re.compile(value).match(text):
        yield 0, first[1]
    # A fixed text before all else is what makes the search fast: `^` would try each letter.
    for match in re.finditer(b"\n" + value, text):
        yield match.start() + 1, match[1]


def installed_package(fields: Mapping[str, str]) -> Package:
    """What dpkg's `status` says of an installed package, which no archive need have. Raises as `PackagesFile.named`."""
    return _package({**fields, "Filename": "", "Size": "0", "SHA256": ""}, "")


def unlisted_package(control: Mapping[str, str], file: FileOf) -> Package:
    """What the control file of a package says of it, which no index lists. Raises as `PackagesFile.named`."""
    fields = {**control, "Filename": file.path, "Size": str(file.size), "SHA256": file.sha256}
    return replace(_package(fields, file.archive), snapshot=file.snapshot)


def _read(stanza: bytes, archive: str) -> Package:
    return _package(next(stanzas(stanza.decode("utf-8", "replace")), {}), archive)


def _package(fields: Mapping[str, str], archive: str) -> Package:
    try:
        package = Package(
            archive=archive,
            name=fields["Package"],
            version=fields["Version"],
            architecture=fields["Architecture"],
            priority=fields.get("Priority", "optional"),
            source=fields.get("Source", ""),
            file=fields["Filename"],
            size=int(fields["Size"]),
            sha256=fields["SHA256"],
            depends=_elements(fields, "Pre-Depends", "Depends"),
            conflicts=_elements(fields, "Conflicts", "Breaks"),
            provides=tuple(one for options in _elements(fields, "Provides") for one in options),
        )
        rank(package.version)
        for relation in (*chain(*package.depends, *package.conflicts), *package.provides):
            if relation.operator:
                rank(relation.version)
    except (KeyError, ValueError) as problem:
        raise UnusableError(
            f"a package can't be read: {problem}", where=f"{fields.get('Package', '?')} in the package index"
        ) from None
    return package


def _elements(fields: Mapping[str, str], *names: str) -> tuple[Alternatives, ...]:
    return tuple(element for name in names for element in relations(fields.get(name, "")))
