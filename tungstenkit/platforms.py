"""The platforms that images can be made for: what each is called by Nix, by Debian and by wheels, and which this
machine is.
"""

from __future__ import annotations

import platform
import sys
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Architecture:
    """A processor's names."""

    debian: str
    """As in a .deb's file name."""
    machine: str
    """As `uname -m` and a wheel's platform tag have it."""


ARCHITECTURES = {
    "x86_64-linux": Architecture("amd64", "x86_64"),
    "aarch64-linux": Architecture("arm64", "aarch64"),
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

    @property
    def architecture(self) -> Architecture:
        """The processor's names."""
        return ARCHITECTURES[self.system]


def this_system() -> str:
    """This machine's Nix system; not always one of `ARCHITECTURES`."""
    return f"{platform.machine()}-{sys.platform}"
