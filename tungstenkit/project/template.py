"""A model to start from: one of the folders of `tungstenkit/templates`, as it is, in a folder of the user's.

Each is a model that works, and nothing in it is filled in: its class has a name of its own, and its image that of
the folder.
"""

from __future__ import annotations

import os
import shlex
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from tungstenkit.sdk.errors import RunError

TEMPLATES = Path(__file__).resolve().parents[1] / "templates"
DEFAULT = "plain"
MODEL = "tungsten_model.py"


@dataclass(frozen=True)
class Begun:
    """What was written, and what was there already that the model may be made of."""

    files: list[Path]
    code: list[str]
    """Python files and packages of the folder."""
    requirements: str | None
    """The file beside it that names the code's packages, as pip or another tool has it."""


def templates() -> list[str]:
    """Their names, with the one first that does without a reason."""
    names = (path.parent.name for path in TEMPLATES.glob(f"*/{MODEL}"))
    return sorted(names, key=lambda name: (name != DEFAULT, name))


def about(template: str) -> str:
    """What a template is, as its module says it."""
    # What no help needs.
    import ast

    module = ast.parse((TEMPLATES / template / MODEL).read_text(encoding="utf-8"))
    return (ast.get_docstring(module) or "").partition("\n")[0].rstrip(".")


def begin(template: str, directory: Path) -> Begun:
    """Write a template's files into a folder, which is made if need be; all of them, or none.

    Raises RunError where there is one of them already, or where it can't be written.
    """
    files = {
        path.name: path.read_bytes() for path in sorted((TEMPLATES / template).iterdir()) if path.is_file()
    }
    try:
        if directory.exists() and not directory.is_dir():
            raise RunError("it is a file, and no folder", where=str(directory), hint="name another folder")
        if there := [name for name in files if os.path.lexists(directory / name)]:
            raise RunError(
                f"already there, and not overwritten: {', '.join(there)}",
                where=str(directory),
                hint=f"begin in another folder: `tungsten init -t {template} {quoted(_free(directory))}`",
            )
        code, requirements = _code_in(directory), _requirements_in(directory)
        _write(directory, files)
    except OSError as problem:
        where = problem.filename or directory
        raise RunError(f"the model can't be written: {problem.strerror}", where=str(where)) from None
    return Begun([directory / name for name in files], code, requirements)


def quoted(directory: Path) -> str:
    """A folder as a shell's word, and no option."""
    text = str(directory)
    return shlex.quote(f"./{text}" if text.startswith("-") else text)


def _free(directory: Path) -> Path:
    """A folder that is not there yet, beside one that is; in it, if it is where we are."""
    base = directory if directory.name.strip(".") else Path("model")
    return next(path for n in count(2) if not os.path.lexists(path := base.with_name(f"{base.name}-{n}")))


def _code_in(directory: Path) -> list[str]:
    modules = (path.name for path in directory.glob("*.py"))
    packages = (f"{path.parent.name}/" for path in directory.glob("*/__init__.py"))
    return sorted(name for name in (*modules, *packages) if not name.startswith("."))


_REQUIREMENTS = ("uv.lock", "poetry.lock", "pylock.toml", "requirements.txt")


def _requirements_in(directory: Path) -> str | None:
    return next((name for name in _REQUIREMENTS if (directory / name).is_file()), None)


def _write(directory: Path, files: dict[str, bytes]) -> None:
    made: list[Path] = []
    try:
        for folder in reversed([directory, *directory.parents]):
            if not folder.exists():
                folder.mkdir()
                made.append(folder)
        for name, content in files.items():
            # Whoever has made it meanwhile keeps it.
            with (directory / name).open("xb") as file:
                made.append(directory / name)
                file.write(content)
    except BaseException:
        for path in reversed(made):
            with suppress(OSError):
                path.rmdir() if path.is_dir() else path.unlink()
        raise
