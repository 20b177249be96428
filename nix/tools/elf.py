"""What the dynamic loader's cache needs to know of a shared library, read from its ELF headers."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

_ET_DYN = 3
_PT_LOAD, _PT_DYNAMIC, _PT_GNU_PROPERTY = 1, 2, 0x6474E553
_DT_NULL, _DT_STRTAB, _DT_SONAME = 0, 5, 14
_NT_GNU_PROPERTY_TYPE_0 = 5
_X86_ISA_1_NEEDED = 0xC0008002
_EM_X86_64 = 62
_NOTE_UNIT = 8  # of properties in 64-bit objects; glibc passes over any other
_TABLE_LIMIT = 1 << 20

ReadAt = Callable[[int, int], bytes]


@dataclass
class SharedObject:
    """An ELF shared object. `bits` is 32 or 64, `machine` is e_machine, `soname` is "" without DT_SONAME, and
    `isa_level` is the highest x86 level that its notes ask for.
    """

    path: str
    bits: int
    machine: int
    soname: str
    isa_level: int

    def to_json(self) -> dict[str, object]:
        """The object as files.json has it."""
        return vars(self)

    @staticmethod
    def from_json(value: dict[str, Any]) -> SharedObject:
        """The inverse of `to_json`."""
        return SharedObject(**value)


def shared_object(path: str, read_at: ReadAt) -> SharedObject | None:
    """The facts of the shared object behind `read_at(offset, size)`; None for any other file, a damaged one
    included.
    """
    ident = read_at(0, 64)
    if (
        ident[:4] != b"\x7fELF"
        or ident[4:5] not in (b"\x01", b"\x02")
        or ident[5:6] not in (b"\x01", b"\x02")
    ):
        return None
    try:
        return _parse(path, read_at, ident)
    except (struct.error, ValueError):
        return None


def _parse(path: str, read_at: ReadAt, ident: bytes) -> SharedObject | None:
    wide = ident[4] == 2
    order = "<" if ident[5] == 1 else ">"
    kind, machine = struct.unpack_from(order + "HH", ident, 16)
    if kind != _ET_DYN:
        return None
    program_offset, entry_size, count = (
        (*struct.unpack_from(order + "Q", ident, 32), *struct.unpack_from(order + "HH", ident, 54))
        if wide
        else (*struct.unpack_from(order + "I", ident, 28), *struct.unpack_from(order + "HH", ident, 42))
    )
    table = read_at(program_offset, entry_size * count)
    load_address = dynamic = None
    isa_level = 0
    for place in range(0, entry_size * count, entry_size):
        if wide:
            segment, _, offset, address, _, size, _, alignment = struct.unpack_from(
                order + "IIQQQQQQ", table, place
            )
        else:
            segment, offset, address, _, size, _, _, alignment = struct.unpack_from(
                order + "IIIIIIII", table, place
            )
        if segment == _PT_LOAD and load_address is None:
            load_address = address - offset
        elif segment == _PT_DYNAMIC:
            dynamic = read_at(offset, min(size, _TABLE_LIMIT))
        elif segment == _PT_GNU_PROPERTY and machine == _EM_X86_64 and alignment == _NOTE_UNIT:
            isa_level = max(isa_level, _isa_level(read_at(offset, min(size, _TABLE_LIMIT))))
    if not dynamic:
        return None
    return SharedObject(
        path,
        64 if wide else 32,
        machine,
        _soname(dynamic, order, wide, load_address or 0, read_at),
        isa_level,
    )


def _soname(dynamic: bytes, order: str, wide: bool, load_address: int, read_at: ReadAt) -> str:
    layout = order + ("qQ" if wide else "iI")
    strings = name = None
    for place in range(0, len(dynamic), struct.calcsize(layout)):
        tag, value = struct.unpack_from(layout, dynamic, place)
        if tag == _DT_NULL:
            break
        if tag == _DT_STRTAB and strings is None:
            strings = value - load_address
        elif tag == _DT_SONAME and name is None:
            name = value
    if strings is None:
        raise ValueError("no string table")
    if name is None:
        return ""
    return read_at(strings + name, 4096).partition(b"\0")[0].decode("utf-8", "surrogateescape")


def _isa_level(notes: bytes) -> int:
    """The number of the highest bit of GNU_PROPERTY_X86_ISA_1_NEEDED, as glibc counts levels."""
    place = level = 0
    while place + 16 <= len(notes):
        name_size, size, kind = struct.unpack_from("<III", notes, place)
        start = place + _up(12 + name_size)
        if kind == _NT_GNU_PROPERTY_TYPE_0 and notes[place + 12 : place + 16] == b"GNU\0":
            at = start
            while at + 8 <= start + size:
                property_kind, property_size = struct.unpack_from("<II", notes, at)
                if property_kind == _X86_ISA_1_NEEDED and property_size == 4:
                    (needed,) = struct.unpack_from("<I", notes, at + 8)
                    level = max(level, needed.bit_length() - 1)
                at += 8 + _up(property_size)
        place = _up(start + size)
    return level


def _up(size: int) -> int:
    return -(-size // _NOTE_UNIT) * _NOTE_UNIT
