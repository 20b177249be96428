"""What the dynamic loader's cache needs to know of a shared library, read from its ELF headers."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from facts import PLATFORMS

_ET_DYN = 3
_PT_LOAD, _PT_DYNAMIC, _PT_NOTE, _PT_GNU_PROPERTY = 1, 2, 4, 0x6474E553
_DT_NULL, _DT_STRTAB, _DT_SONAME = 0, 5, 14
_NT_GNU_ABI_TAG, _NT_GNU_PROPERTY_TYPE_0 = 1, 5
_X86_ISA_1_NEEDED = 0xC0008002
_EM_X86_64: int = PLATFORMS["x86_64-linux"]["elf"]
_NOTE_UNIT = 8  # of properties in 64-bit objects; glibc passes over any other
_TABLE_LIMIT = 1 << 20

ReadAt = Callable[[int, int], bytes]


@dataclass
class SharedObject:
    """An ELF shared object. `bits` is 32 or 64, `machine` is e_machine, `soname` is "" without DT_SONAME,
    `isa_level` is the highest x86 level that its notes ask for, and `kernel` the oldest one (5.10.2 is 0x050a02).
    """

    path: str
    bits: int
    machine: int
    soname: str
    isa_level: int
    kernel: int

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
    isa_level = kernel = 0
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
        elif segment == _PT_NOTE:
            notes = read_at(offset, min(size, _TABLE_LIMIT))
            kernel = kernel or _kernel(notes, order, 8 if alignment == 8 else 4)
    if not dynamic:
        return None
    return SharedObject(
        path,
        64 if wide else 32,
        machine,
        _soname(dynamic, order, wide, load_address or 0, read_at),
        isa_level,
        kernel,
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
    level = 0
    for description in _gnu_notes(notes, _NT_GNU_PROPERTY_TYPE_0, "<", _NOTE_UNIT):
        at = 0
        while at + 8 <= len(description):
            kind, size = struct.unpack_from("<II", description, at)
            if kind == _X86_ISA_1_NEEDED and size == 4:
                (needed,) = struct.unpack_from("<I", description, at + 8)
                level = max(level, needed.bit_length() - 1)
            at += 8 + _up(size, _NOTE_UNIT)
    return level


def _kernel(notes: bytes, order: str, unit: int) -> int:
    """The oldest Linux that NT_GNU_ABI_TAG asks for; 0 without one."""
    description = next(_gnu_notes(notes, _NT_GNU_ABI_TAG, order, unit), bytes(16))
    system, major, minor, patch = struct.unpack_from(order + "IIII", description)
    kernel: int = system << 24 | major << 16 | minor << 8 | patch
    return kernel


def _gnu_notes(notes: bytes, kind: int, order: str, unit: int) -> Iterator[bytes]:
    """The descriptions of GNU's notes of one kind (System V ABI, "Note Section")."""
    place = 0
    while place + 16 <= len(notes):
        name_size, size, found = struct.unpack_from(order + "III", notes, place)
        start = place + _up(12 + name_size, unit)
        if found == kind and notes[place + 12 : place + 16] == b"GNU\0":
            yield notes[start : start + size]
        place = _up(start + size, unit)


def _up(size: int, unit: int) -> int:
    return -(-size // unit) * unit
