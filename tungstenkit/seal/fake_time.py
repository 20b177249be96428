"""libfaketime's library, for a run of the user's code under another clock.

It is Debian's, of the release of the root that it is loaded in. No lock names it: nothing that is built for good sees
it.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

from tungstenkit.debian.deb import open_files
from tungstenkit.fetch.needs import LockedFile
from tungstenkit.sdk.errors import FetchError, ResolveError, UnusableError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tungstenkit.platforms import Target
    from tungstenkit.resolve.solver import Solver

_LIBRARY = "libfaketimeMT.so.1"
"""The one for programs with threads."""


def fake_time(target: Target, solver: Solver, get: Callable[[LockedFile], Path], folder: Path) -> Path | None:
    """The library for a target's root, put into a folder; None where it can't be had, which is said.

    get: downloads a file, verified.
    """
    try:
        solution = solver.debs(target, {"build": ["libfaketime"]}, "libfaketime", ())
        (deb,) = (deb for deb in solution.debs if deb.name == "libfaketime")
        package = get(LockedFile(deb.file, deb.size, deb.sha256, release=target.release))
        with package.open("rb") as file, open_files(file, package.name) as members:
            for member in members:
                if member.isfile() and member.name.endswith(f"/{_LIBRARY}"):
                    content = members.extractfile(member)
                    assert content is not None  # it is a file
                    library = folder / _LIBRARY
                    # It takes a moment of the monotonic clock, which stays true, for one of the false clock, and
                    # refuses it: Python's time.sleep would fail.
                    library.write_bytes(without(content.read(), "clock_nanosleep"))
                    return library
    except (FetchError, ResolveError, UnusableError) as problem:
        solver.notice(f"the second run has the same clock as the first: no libfaketime ({problem.what})")
        return None
    solver.notice("the second run has the same clock as the first: this libfaketime is not known")
    return None


def without(library: bytes, function: str) -> bytes:
    """A 64-bit library whose function the loader does not find: it passes over local symbols (STB_LOCAL, ELF)."""
    changed = bytearray(library)
    table = ELFFile(io.BytesIO(library)).get_section_by_name(".dynsym")
    assert isinstance(table, SymbolTableSection)  # a library that programs call functions of has one
    for number, symbol in enumerate(table.iter_symbols()):
        if symbol.name == function:
            changed[table["sh_offset"] + number * table["sh_entsize"] + 4] &= 0x0F  # st_info: binding, type
    return bytes(changed)
