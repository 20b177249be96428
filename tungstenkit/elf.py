"""What the dynamic loader would do with an ELF file: the few facts of its headers that say what it needs and offers.

Only a file's own words are read here; who provides what to whom is `resolve.libraries`' business.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from elftools.common.exceptions import ELFError
from elftools.elf.dynamic import DynamicSegment
from elftools.elf.elffile import ELFFile

from tungstenkit.document import Document

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import IO

MAGIC = b"\x7fELF"
MACHINES = {"amd64": 62, "arm64": 183}
"""`e_machine` of each Debian architecture (the ELF specification's EM_X86_64 and EM_AARCH64)."""

# Letters of all names in DT_NEEDED: no real file comes near, and one that was made to could fill the memory.
_LONGEST = 1 << 20

# What damaged headers lead to in the parser, beside its own errors.
_DAMAGED = (
    ELFError,
    ValueError,
    KeyError,
    IndexError,
    OverflowError,
    AttributeError,
    TypeError,
    AssertionError,
)


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


def read_elf(file: IO[bytes]) -> Elf | None:
    """The facts of a seekable file; None where it is no ELF file, a static one, or damaged."""
    try:
        parsed = ELFFile(file)
        dynamic = next((s for s in parsed.iter_segments() if isinstance(s, DynamicSegment)), None)
        if dynamic is None:
            return None
        return _facts(file, parsed, dynamic)
    except _DAMAGED:
        return None


def _facts(file: IO[bytes], parsed: ELFFile, dynamic: DynamicSegment) -> Elf:
    needed: list[str] = []
    single = {"DT_SONAME": "", "DT_RPATH": "", "DT_RUNPATH": ""}
    size = length = 0
    for tag in dynamic.iter_tags():
        kind = tag.entry.d_tag
        if kind == "DT_NEEDED":
            needed.append(tag.needed)  # type: ignore[attr-defined] # there for this kind of tag
            length += len(needed[-1])
            if length > _LONGEST:
                raise ELFError("names more libraries than any file needs")
        elif kind in single:
            single[kind] = getattr(tag, kind.removeprefix("DT_").lower())
        elif kind == "DT_STRSZ":
            size = tag.entry.d_val
    _, offset = dynamic.get_table_offset("DT_STRTAB")
    return Elf(
        machine=parsed.header.e_machine if isinstance(parsed.header.e_machine, int) else _machine(file),
        soname=single["DT_SONAME"],
        needed=tuple(needed),
        rpath=_folders(single["DT_RPATH"]),
        runpath=_folders(single["DT_RUNPATH"]),
        is_program=any(s.header.p_type == "PT_INTERP" for s in parsed.iter_segments()),
        modules=tuple(sorted(set(_modules(file, offset, size)))),
    )


def _machine(file: IO[bytes]) -> int:
    file.seek(0)
    head = file.read(20)
    return int.from_bytes(head[18:20], "little" if head[5] == 1 else "big")


def _folders(path: str) -> tuple[str, ...]:
    return tuple(folder for folder in path.split(":") if folder)


def _modules(file: IO[bytes], offset: int | None, size: int) -> Iterator[str]:
    # The names of dynamic symbols stand in this table: no need to walk the symbols.
    if offset is None:
        return
    end = file.seek(0, io.SEEK_END)
    file.seek(offset)
    # A damaged size must not ask for more memory than there is.
    for name in file.read(min(size, max(end - offset, 0))).split(b"\0"):
        if name.startswith(b"PyInit_"):
            yield name.removeprefix(b"PyInit_").decode("ascii", "replace")
