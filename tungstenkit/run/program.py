"""A server that can be started: the command, and what it is given."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tungstenkit.run.faults import APP

if TYPE_CHECKING:
    from collections.abc import Mapping
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


_SETTINGS = re.compile(
    r"TUNGSTEN_(?!MIRROR_|ENGINE|SHELL|MODEL_PYTHON|PORT$|HOST$|NIX$|HOME$).+"
    r"|SETUP_TIMEOUT|PREDICTION_TIMEOUT|RESULT_EXPIRATION"
)
"""The environment variables that the server reads: one that has an environment of its own gets those that are set here.
"""


def settings_for_server(environment: Mapping[str, str]) -> dict[str, str]:
    """Those of an environment's variables that the server reads, in the order of their names."""
    return {name: environment[name] for name in sorted(environment) if _SETTINGS.fullmatch(name)}


def environment_for_server() -> dict[str, str]:
    """Ours, for a server that somebody is waiting for: what is wrong with `setup` is told once, and at once."""
    return {"TUNGSTEN_MAX_SETUPS": "1", **os.environ}
