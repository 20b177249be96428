"""How every program here is run: two arguments, one message on failure.

A program gets an input (a JSON configuration or a folder) and the path of the output that it must make. It
either makes the output whole, or removes what it made and prints one line `error: …` that names the file at
fault.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from collections.abc import Callable


class ToolError(Exception):
    """What is wrong with the input, in one line that names the file, package or path."""

    def __init__(self, what: str, /, **told: str) -> None:
        """State it. told: the same for programs, as `tell` writes it; nothing where no program acts on it."""
        super().__init__(what)
        self.told = told


class Config(dict[str, Any]):
    """A JSON object of a configuration; a missing key is a `ToolError`."""

    def __missing__(self, key: str) -> NoReturn:
        """Name the key that the configuration lacks."""
        raise ToolError(f"the configuration has no key {key!r} beside {', '.join(map(repr, sorted(self)))}")


def read_json(path: Path) -> Config:
    """The object in a JSON file; `ToolError` if the file holds none."""
    try:
        value = json.loads(path.read_text("utf-8"), object_hook=Config)
    except ValueError as error:
        raise ToolError(f"{path}: not JSON: {error}") from None
    if not isinstance(value, Config):
        raise ToolError(f"{path}: not a JSON object")
    return value


def write_json(path: Path, value: object) -> None:
    """Write JSON as all our documents are: sorted keys, two spaces, a final newline."""
    path.write_text(json.dumps(value, indent=2, sort_keys=True, ensure_ascii=True) + "\n", "utf-8")


def tell(**fields: object) -> None:
    """Say something in a build's log to `tungstenkit/nix_build/log.py`, which shows none of it: one line of JSON.

    What people read is printed beside it, and nothing reads that.
    """
    print(f"@tungsten {json.dumps(fields, sort_keys=True)}", file=sys.stderr, flush=True)


def run(program: Callable[[Path, Path], None], usage: str) -> NoReturn:
    """Run `program(input, output)` with the two arguments of the command line, and exit.

    The exit status is 2 for a wrong command line, 1 for a failure, 0 otherwise.
    """
    if len(sys.argv) != 3:
        print(f"usage: {Path(sys.argv[0]).name} {usage}", file=sys.stderr)
        raise SystemExit(2)
    source, out = (Path(argument).absolute() for argument in sys.argv[1:])
    if os.path.lexists(out):
        print(f"error: {out}: there is something already", file=sys.stderr)
        raise SystemExit(1)
    try:
        program(source, out)
    except (ToolError, OSError) as error:
        _remove(out)
        message = (
            f"{error.filename}: {error.strerror}"
            if isinstance(error, OSError) and error.filename
            else str(error)
        )
        if isinstance(error, ToolError) and error.told:
            # First: what is in the log by now is what others have said.
            tell(**error.told)
        print("error:", " ".join(message.split()), file=sys.stderr)
        raise SystemExit(1) from None
    except BaseException:
        _remove(out)
        raise
    raise SystemExit(0)


def _remove(out: Path) -> None:
    if out.is_dir() and not out.is_symlink():
        shutil.rmtree(out)
    else:
        out.unlink(missing_ok=True)
