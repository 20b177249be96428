"""A server that can be started: the command, and what it is given."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tungstenkit.run.faults import APP

if TYPE_CHECKING:
    from pathlib import Path

    from tungstenkit.run.address import Address


@dataclass(frozen=True)
class Program:
    """A server that can be started."""

    command: list[str]
    address: Address
    environment: dict[str, str]
    kill: list[str] | None = None
    """The command that ends what killing the process leaves: the container."""
    inherited: tuple[int, ...] = ()
    """File descriptors that the command names."""
    folder: str = APP
    """The model's, as its process sees it."""
    here: Path | None = None
    """The same as we see it, where it is known."""


def environment_for_server() -> dict[str, str]:
    """Ours, for a server that somebody is waiting for: what is wrong with `setup` is told once, and at once."""
    return {"TUNGSTEN_MAX_SETUPS": "1", **os.environ}
