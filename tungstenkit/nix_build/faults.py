"""What the log of a model's server says of a fault in the model's code: its traceback, its place, and what helps.

The server's clients get a short reason; whoever has started the server has its log, too. What helps where a package is
missing is what the import check of a build says: `nix/tools/import_check.py` is asked.
"""

from __future__ import annotations

import importlib.util
import json
import re
from functools import cache
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, NamedTuple

from tungstenkit.data import FACTS, NIX, SERVER

if TYPE_CHECKING:
    from pathlib import Path
    from types import ModuleType

APP = "/app"
"""The model's folder in an image."""

WORKER = " ERROR tungsten.worker: "
"""What stands before what a model process says of a failure; its traceback follows."""

_SERVERS = ("/opt/tungsten/server/", f"{SERVER}/")
_LINE = re.compile(r"\S+ [A-Z]+ tungsten\.\w+: ")
"""How a line of the server's begins."""
_FRAME = re.compile(r'  File "(?P<file>.+?)", line (?P<line>\d+)')
_NO_PROGRAM = re.compile(r"FileNotFoundError: .*No such file or directory: '([^'/\s]+)'")
_NO_MODULE = re.compile(r"ModuleNotFoundError: No module named '([\w.]+)'")


class Fault(NamedTuple):
    """A fault in the model's code."""

    reason: str
    """The exception's type and text."""
    frames: str
    """The traceback above that, without the server's own frames."""
    where: str | None
    """The model's file and line; None where it is not in the model's files."""
    hint: str | None


def last_fault(log: str, folder: str = APP, own: Path | None = None) -> Fault | None:
    """The last fault in a log; None where the model's code is not at fault, or did not get as far as to say so.

    folder: the model's, where it ran. own: the same here, where it is known.
    """
    _, begin, rest = log.rpartition(WORKER)
    if not begin:
        return None
    _, *lines = rest.splitlines()
    end = next((number for number, line in enumerate(lines) if _LINE.match(line)), len(lines))
    traceback = own_frames("\n".join(lines[:end])).strip()
    if not traceback:
        return None
    frames, reason = _parts(traceback)
    last = frames.rpartition("Traceback (most recent call last):")[2]
    where = _place(last, folder) or _place(frames, folder)
    hint = package_hint(reason, own)
    if hint is None and "_execute_child" in frames and (program := _NO_PROGRAM.search(reason)):
        # subprocess's own, so that it is a program that was to be started.
        name = program[1]
        hint = (
            f"add the Debian package that has it to system_packages: `apt-file search bin/{name}` says which"
        )
    return Fault(reason, _import_check().last_lines(frames), where, hint)


def _parts(traceback: str) -> tuple[str, str]:
    """The frames, and what the last exception says: perhaps several lines, from where the last frame ends."""
    lines = traceback.splitlines()
    start = max((number for number, line in enumerate(lines) if _FRAME.match(line)), default=0) + 1
    while start < len(lines) and lines[start].startswith(("    ", "  [Previous line repeated")):
        start += 1
    return "\n".join(lines[:start]), "\n".join(lines[start:])


def package_hint(text: str, own: Path | None = None) -> str | None:
    """What to install where an exception's text says that a module or a shared library is missing.

    own: the model's folder here, where it is known.
    """
    program = _import_check()
    hint: str | None = None
    if library := program.missing_library(text):
        hint = program.library_hint(library, FACTS["driver-libraries"])
    elif module := _NO_MODULE.search(text):
        is_local = own is not None and own.joinpath(module[1].partition(".")[0]).is_dir()
        missing = {"name": module[1], "distribution": "", "is-local": is_local}
        hint = program.module_hint(
            missing, json.loads((NIX / "steps" / "import-names.json").read_text("utf-8"))
        )
    return hint


def own_frames(log: str) -> str:
    """What was printed, its tracebacks without the frames of the server."""
    kept, skipping = [], False
    for line in log.splitlines():
        if frame := _FRAME.match(line):
            skipping = frame["file"].startswith(_SERVERS)
        elif not line.startswith("    "):
            skipping = False
        if not skipping:
            kept.append(line)
    return "\n".join(kept)


def _place(traceback: str, folder: str) -> str | None:
    """The innermost frame of the model's own files."""
    found = None
    for frame in _FRAME.finditer(traceback):
        path = PurePosixPath(frame["file"])
        if path.is_relative_to(folder):
            found = f"{path.relative_to(folder)}, line {frame['line']}"
    return found


@cache
def _import_check() -> ModuleType:
    found = importlib.util.spec_from_file_location(
        "tungstenkit_import_check", NIX / "tools" / "import_check.py"
    )
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module
