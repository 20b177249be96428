"""What the import check can't know, because it sees only what ships: that a file which is missing lies in the model's
folder, that locking left out a shared library on purpose, and that a package starts a program which is not there. And
what could have been left out.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tungstenkit.lock.parts import LIBRARY, NOTHING
from tungstenkit.sdk.wishes import DEFAULT_EXCLUDE_FILES
from tungstenkit.spec.files import excluding, pattern_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from tungstenkit.lock.parts import Choice
    from tungstenkit.resolve.opened import Start
    from tungstenkit.sdk.errors import BuildError
    from tungstenkit.spec.files import ModelFile

_APP = "/app/"


def with_better_hint(
    problem: BuildError,
    directory: Path,
    files: Iterable[ModelFile],
    choices: Iterable[Choice],
    *,
    exclude: Sequence[str] = DEFAULT_EXCLUDE_FILES,
    starts: Iterable[Start] = (),
) -> BuildError:
    """The error of a build, with the right hint where what it misses was left out.

    directory: the model's folder. files: what of it ships. choices: the lock's. exclude: the model's `exclude_files`.
    starts: the programs that packages start, and that the image has not.
    """
    kind, name = problem.told.get("kind"), str(problem.told.get("name", ""))
    if kind == "missing-library":
        for choice in choices:
            if (
                choice.kind == LIBRARY
                and choice.chosen == NOTHING
                and choice.subject.endswith(f" needs {name}")
            ):
                hint = f"locking left it out: {choice.reason}; [tool.tungsten.libraries] can name a package for it"
                return problem.reworded(hint=hint)
    path = str(problem.told.get("path", ""))
    if kind == "in-both" and path.startswith(_APP):
        # What else is put there gives way, or was refused when it was locked.
        hint = (
            "post_build makes it, so the one in the folder must not ship: write "
            f"{excluding(exclude, pattern_of(path.removeprefix(_APP)))} in define_model(…)"
        )
        return problem.reworded(hint=hint)
    if not problem.hint and kind == "import-fails":
        for start in starts:
            if re.search(rf"\b{re.escape(start.package)}\b", problem.what):
                hint = f"add {start.package!r} to system_packages, and run `tungsten lock`: {start.project} starts it"
                return problem.reworded(hint=hint)
    if kind == "missing-module":
        stem = name.replace(".", "/")
        candidates = [f"{stem}.py", f"{stem}/__init__.py", stem]
    elif kind == "import-fails" and (file := name.removeprefix(_APP)) and not file.startswith("/"):
        candidates = [file]
    else:
        return problem
    shipped = {str(file.path) for file in files}
    shipped |= {str(parent) for path in list(shipped) for parent in _parents(path)}
    for candidate in candidates:
        if (directory / candidate).exists() and candidate not in shipped:
            return problem.reworded(
                hint=f"{candidate} lies in the model's folder, and include_files or exclude_files leaves it out"
            )
    return problem


def _parents(path: str) -> list[str]:
    parts = path.split("/")
    return ["/".join(parts[:count]) for count in range(1, len(parts))]
