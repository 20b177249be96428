"""The platforms that images can be made for: what each is called by Nix, by Debian and by wheels, and which this
machine is.
"""

from __future__ import annotations

import platform
import sys
from dataclasses import dataclass
from pathlib import Path

from tungstenkit.data import FACTS


@dataclass(frozen=True, slots=True)
class Architecture:
    """A processor's names."""

    debian: str
    """As in a .deb's file name."""
    machine: str
    """As `uname -m` and a wheel's platform tag have it."""
    elf: int
    """As `e_machine` of an ELF file (System V ABI) has it."""


ARCHITECTURES = {
    system: Architecture(names["debian"], names["machine"], names["elf"])
    for system, names in sorted(FACTS["platforms"].items(), reverse=True)
}
"""By Nix system."""


@dataclass(frozen=True, slots=True)
class Target:
    """What packages are chosen for."""

    system: str
    """One of `ARCHITECTURES`."""
    release: str
    """Debian's code name."""
    python: str
    """CPython's version, such as `3.11`."""
    glibc: tuple[int, int] | None = None
    """The C library's version, where it is not the release's: that of a base image."""

    @property
    def architecture(self) -> Architecture:
        """The processor's names."""
        return ARCHITECTURES[self.system]

    @property
    def markers(self) -> dict[str, str]:
        """What a requirement's marker may ask for (PEP 508), without extras."""
        return {
            "extra": "",
            "implementation_name": "cpython",
            "implementation_version": f"{self.python}.0",
            "os_name": "posix",
            "platform_machine": self.architecture.machine,
            "platform_python_implementation": "CPython",
            "platform_release": "",
            "platform_system": "Linux",
            "platform_version": "",
            "python_full_version": f"{self.python}.0",
            "python_version": self.python,
            "sys_platform": "linux",
        }


def this_system() -> str:
    """This machine's Nix system; not always one of `ARCHITECTURES`."""
    return f"{platform.machine()}-{sys.platform}"


def runs_here(system: str, registered: Path = Path("/proc/sys/fs/binfmt_misc")) -> bool:
    """Whether containers for a platform can run: it is this machine's, or the kernel has an interpreter for it.

    registered: where the kernel shows its interpreters (Linux, admin-guide/binfmt-misc).
    """
    if system == this_system():
        return True
    program = (
        b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x02\x00" + ARCHITECTURES[system].elf.to_bytes(2, "little")
    )
    entries = [path for path in registered.glob("*") if path.name not in {"register", "status"}]
    return any(_starts(path.read_text(encoding="utf-8"), program) for path in entries)


def _starts(entry: str, program: bytes) -> bool:
    """Whether an interpreter is for programs that begin so, and is open already: a container has no path to it."""
    lines = dict(line.partition(" ")[::2] for line in entry.splitlines())
    magic = bytes.fromhex(lines.get("magic", ""))
    mask = bytes.fromhex(lines.get("mask", "ff" * len(magic)))
    begins = all(found & bits == byte & bits for found, byte, bits in zip(program, magic, mask, strict=False))
    return "enabled" in lines and "F" in lines["flags:"] and magic != b"" and begins
