"""What the import check can't know, because it sees only what ships: that a file which is missing lies in the model's
folder, and that the model's patterns leave it out.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tungstenkit.errors import BuildError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from tungstenkit.files import ModelFile

# As `nix/tools/import_check.py` words it.
_NO_MODULE = re.compile(r"there is no module ([\w.]+)$")
_NO_FILE = re.compile(r"FileNotFoundError: .*No such file or directory: '(?:/app/)?([^/'][^']*)'\s*$")


def explained(problem: BuildError, directory: Path, files: Iterable[ModelFile]) -> BuildError:
    """The error of a build, with the right hint where what it misses is in the model's folder and does not ship.

    files: what ships.
    """
    if module := _NO_MODULE.search(problem.what):
        stem = module[1].replace(".", "/")
        candidates = [f"{stem}.py", f"{stem}/__init__.py", stem]
    elif file := _NO_FILE.search(problem.what):
        candidates = [file[1]]
    else:
        return problem
    shipped = {str(file.path) for file in files}
    shipped |= {str(parent) for path in list(shipped) for parent in _parents(path)}
    for name in candidates:
        if (directory / name).exists() and name not in shipped:
            return BuildError(
                problem.what,
                where=problem.where,
                hint=f"{name} lies in the model's folder, and include_files or exclude_files leaves it out",
            )
    return problem


def _parents(path: str) -> list[str]:
    parts = path.split("/")
    return ["/".join(parts[:count]) for count in range(1, len(parts))]
