"""What the dynamic loader would do with an ELF file: the few facts of its headers that say what it needs and offers.

Four places of a file are read, whatever its size: its header, the table of its segments, the dynamic section and the
names that this points to. So a file need not be unpacked to be read: one that is decompressed on the way is gone
through once, or twice where the names stand before the section. Only a file's own words are read here; who provides
what to whom is `resolve.libraries`' business.
"""

from __future__ import annotations

import re
import struct
from typing import TYPE_CHECKING, NamedTuple

from tungstenkit.document import Document
from tungstenkit.platforms import ARCHITECTURES

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import IO

MAGIC = b"\x7fELF"
MACHINES = {names.debian: names.elf for names in ARCHITECTURES.values()}
"""`e_machine` of each Debian architecture."""

# Letters of all names in DT_NEEDED: no real file comes near, and one that was made to could fill the memory.
_LONGEST = 1 << 20
_MOST_TAGS = 1 << 16  # bytes of a dynamic section; real ones have some hundred
_MOST_NAMES = 1 << 28  # bytes of names; no real library comes near
_PIECE = 1 << 20

_PT_LOAD, _PT_DYNAMIC, _PT_INTERP = 1, 2, 3
_NULL, _NEEDED, _STRTAB, _STRSZ, _SONAME, _RPATH, _RUNPATH = 0, 1, 5, 10, 14, 15, 29

# By the class in the fifth byte, 32 or 64 bits. Of the header, from its 18th byte on: the machine, and of the table of
# segments the place, the size of an entry and their number.
_HEADERS = {1: "H4x4xI4x4x2xHH", 2: "H4x8xQ8x4x2xHH"}
# Of a segment: its kind, place, address and size in the file.
_SEGMENTS = {1: "III4xI12x", 2: "I4xQQ8xQ16x"}
# Of the dynamic section: a tag and its value.
_TAGS = {1: "iI", 2: "qQ"}


class Elf(Document):
    """A dynamically linked ELF file."""

    machine: int
    """`e_machine`."""
    soname: str
    """Empty where it has none."""
    needed: tuple[str, ...]
    """DT_NEEDED, in order."""
    rpath: tuple[str, ...]
    """Folders of DT_RPATH, as written; they count for what the file loads, too."""
    runpath: tuple[str, ...]
    """Folders of DT_RUNPATH, as written; where there are any, DT_RPATH counts for nothing (ld.so(8))."""
    is_program: bool
    """It names a loader, as programs do."""
    modules: tuple[str, ...]
    """The names that Python could import it by: of each, it has a symbol `PyInit_NAME` (PEP 489)."""


class _Segment(NamedTuple):
    kind: int
    place: int
    address: int
    size: int


def read_elf(file: IO[bytes]) -> Elf | None:
    """The facts of a seekable file; None where it is no ELF file, a static one, or damaged."""
    try:
        return _facts(file)
    except (struct.error, ValueError, LookupError, OverflowError):
        return None


def _facts(file: IO[bytes]) -> Elf | None:
    head = _at(file, 0, 64)
    if not head.startswith(MAGIC):
        return None
    bits, order = head[4], {1: "<", 2: ">"}[head[5]]
    machine, place, size, count = struct.unpack_from(order + _HEADERS[bits], head, 18)
    table = _at(file, place, size * count)
    form = order + _SEGMENTS[bits]
    segments = [_Segment(*struct.unpack_from(form, table, size * number)) for number in range(count)]
    dynamic = next((segment for segment in segments if segment.kind == _PT_DYNAMIC), None)
    if dynamic is None:
        return None
    tags = list(_tags(_at(file, dynamic.place, min(dynamic.size, _MOST_TAGS)), order + _TAGS[bits]))
    single = dict(tags)
    if _STRTAB not in single:
        return None
    names = _at(file, _offset(single[_STRTAB], segments), min(single.get(_STRSZ, 0), _MOST_NAMES))
    needed: list[str] = []
    length = 0
    for tag, value in tags:
        if tag == _NEEDED:
            needed.append(_name(names, value))
            length += len(needed[-1])
            if length > _LONGEST:
                raise ValueError("names more libraries than any file needs")
    soname, rpath, runpath = (
        _name(names, single[tag]) if tag in single else "" for tag in (_SONAME, _RPATH, _RUNPATH)
    )
    return Elf(
        machine=machine,
        soname=soname,
        needed=tuple(needed),
        rpath=_folders(rpath),
        runpath=_folders(runpath),
        is_program=any(segment.kind == _PT_INTERP for segment in segments),
        modules=tuple(sorted(set(_modules(names)))),
    )


def _at(file: IO[bytes], place: int, size: int) -> bytes:
    """The bytes of a place, fewer where the file ends; a size that was made up asks for no memory."""
    file.seek(place)
    pieces = []
    while size > 0 and (piece := file.read(min(size, _PIECE))):
        pieces.append(piece)
        size -= len(piece)
    return b"".join(pieces)


def _tags(section: bytes, form: str) -> Iterator[tuple[int, int]]:
    whole = len(section) // struct.calcsize(form) * struct.calcsize(form)
    for tag, value in struct.iter_unpack(form, section[:whole]):
        if tag == _NULL:
            return
        yield tag, value


def _offset(address: int, segments: list[_Segment]) -> int:
    """Where in the file what is loaded at an address stands. Raises ValueError where nothing is."""
    for segment in segments:
        if segment.kind == _PT_LOAD and 0 <= address - segment.address < segment.size:
            return address - segment.address + segment.place
    raise ValueError("its names are nowhere")


def _name(names: bytes, place: int) -> str:
    if place >= len(names):
        raise ValueError("a name is nowhere")
    return names[place : names.find(b"\0", place)].decode("utf-8", "replace")


def _folders(path: str) -> tuple[str, ...]:
    return tuple(folder for folder in path.split(":") if folder)


def _modules(names: bytes) -> Iterator[str]:
    # The names of dynamic symbols stand in this table: no need to walk the symbols.
    for name in re.findall(rb"(?:^|\0)PyInit_([^\0]*)", names):
        yield name.decode("ascii", "replace")
