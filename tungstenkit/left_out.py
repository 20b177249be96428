"""What the import check can't know, because it sees only what ships: that a file which is missing lies in the model's
folder, that locking left out a shared library on purpose, and that a package starts a program which is not there. And
what could have been left out.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tungstenkit.errors import BuildError
from tungstenkit.files import excluding, pattern_of
from tungstenkit.lock_parts import LIBRARY, NOTHING
from tungstenkit.wishes import DEFAULT_EXCLUDE_FILES

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from tungstenkit.files import ModelFile
    from tungstenkit.lock_parts import Choice
    from tungstenkit.resolve.libraries import Start

# As `nix/tools/import_check.py` words it.
_NO_LIBRARY = re.compile(r"the shared library (\S+) is missing$")
_NO_MODULE = re.compile(r"there is no module ([\w.]+)$")
_IMPORT_FAILS = "the import fails:"
_NO_FILE = re.compile(r"FileNotFoundError: .*No such file or directory: '(?:/app/)?([^/'][^']*)'\s*$")

# As `nix/tools/lib/rootfs.py` words it, of a label in `nix/steps/post-build.nix`.
_MADE_TWICE = re.compile(r"/app/(.+): in both what post_build made and ")


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
    if library := _NO_LIBRARY.search(problem.what):
        for choice in choices:
            if (
                choice.kind == LIBRARY
                and choice.chosen == NOTHING
                and choice.subject.endswith(f" needs {library[1]}")
            ):
                hint = f"locking left it out: {choice.reason}; [tool.tungsten.libraries] can name a package for it"
                return BuildError(problem.what, where=problem.where, hint=hint)
    if made := _MADE_TWICE.search(problem.what):
        hint = (
            "post_build makes it, so the one in the folder must not ship: write "
            f"{excluding(exclude, pattern_of(made[1]))} in define_model(…)"
        )
        return BuildError(problem.what, where=problem.where, hint=hint)
    if not problem.hint and problem.what.startswith(_IMPORT_FAILS):
        for start in starts:
            if re.search(rf"\b{re.escape(start.package)}\b", problem.what):
                hint = f"add {start.package!r} to system_packages, and run `tungsten lock`: {start.project} starts it"
                return BuildError(problem.what, where=problem.where, hint=hint)
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
