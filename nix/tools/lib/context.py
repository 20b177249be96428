"""Paths on both sides of a COPY: which of the model's files match, and where a path of a root really is."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from program import ToolError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

_LINKS = 40


class Context:
    """The model's files."""

    def __init__(self, folder: Path) -> None:
        """Name the folder."""
        self.folder = folder

    def matches(self, pattern: Iterable[str]) -> list[Path]:
        """What a pattern, a regular expression for each name of a path, stands for, in order."""
        found = [self.folder]
        for expression in pattern:
            found = [
                child
                for folder in found
                if folder.is_dir()
                for child in sorted(folder.iterdir())
                if re.fullmatch(expression, child.name)
            ]
        return found


def inside(root: Path, path: str) -> Path:
    """Where an absolute path of a root is on this machine, its links followed as a process in the root follows them.

    What is not there is taken as it is written. `ToolError` for links that lead in a circle.
    """
    waiting = [name for name in path.split("/") if name not in ("", ".")][::-1]
    real: list[str] = []
    links = 0
    while waiting:
        name = waiting.pop()
        if name == "..":
            del real[-1:]
            continue
        here = root.joinpath(*real, name)
        if not here.is_symlink():
            real.append(name)
            continue
        links += 1
        if links > _LINKS:
            raise ToolError(f"{path}: its links lead in a circle")
        target = os.readlink(here)  # noqa: PTH115  as it is written
        if target.startswith("/"):
            real = []
        waiting += [part for part in target.split("/") if part not in ("", ".")][::-1]
    return root.joinpath(*real)
