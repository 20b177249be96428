"""What the log of a model's server says: of its setups, of its end, and of a fault in the model's code, with its
traceback, its place, and what helps.

The server's clients get a short reason; whoever has started the server has its log, too. A line of the server's own
that is acted on begins with a word (`server/tungsten_server/worker/events.py`); no other file knows the words.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, NamedTuple

from tungstenkit.data import SERVER
from tungstenkit.missing import package_hint, program_hint
from tungstenkit.tools import tool_module

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

APP = "/app"
"""The model's folder in an image."""

RAISED, INPUT_REFUSED, SETUP_FAILED, GAVE_UP = "raised", "input-refused", "setup-failed", "gave-up"
"""The words; `events.py` of the server says what each means."""

_LINE = re.compile(r"^.*?\b[A-Z]+ tungsten\.\w+: (?:\[(?P<word>[a-z-]+)\] )?(?P<rest>.*)$", re.MULTILINE)
"""A line of the server's; the model may have printed something before it, and not ended that line."""
_SERVERS = ("/opt/tungsten/server/", f"{SERVER}/")
_FRAME = re.compile(r'  File "(?P<file>.+?)", line (?P<line>\d+)')
_NO_PROGRAM = re.compile(r"FileNotFoundError: .*No such file or directory: '([^'/\s]+)'")


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
    line = _last(log, RAISED, INPUT_REFUSED)
    return _fault(line, log, folder, own) if line is not None else None


def fault_of(reason: str, log: str, folder: str = APP, own: Path | None = None) -> Fault | None:
    """The last fault in a log for which a client was given this reason.

    folder, own: as for `last_fault`.
    """
    for line in reversed(list(_lines(log, RAISED, INPUT_REFUSED))):
        # After what has failed, the server writes the reason in the client's words, which may be several lines.
        if log.find(f": {reason}\n", line.start("rest"), line.end() + len(reason) + 1) >= 0:
            return _fault(line, log, folder, own)
    return None


def _fault(line: re.Match[str], log: str, folder: str, own: Path | None) -> Fault | None:
    """What a line of the server's, and the traceback after it, say."""
    end = _LINE.search(log, line.end())
    traceback = own_frames(log[line.end() : end.start() if end else None]).strip()
    if not traceback:
        return None
    frames, reason = _parts(traceback)
    last = frames.rpartition("Traceback (most recent call last):")[2]
    where = _place(last, folder) or _place(frames, folder)
    hint = package_hint(reason, own)
    if hint is None and "_execute_child" in frames and (program := _NO_PROGRAM.search(reason)):
        # subprocess's own, so that it is a program that was to be started.
        hint = program_hint(program[1])
    return Fault(reason, tool_module("import_check.py").last_lines(frames), where, hint)


def has_raised(log: str) -> bool:
    """Whether the model's code has raised an exception, or its classes have refused an input."""
    return any(_lines(log, RAISED, INPUT_REFUSED))


def has_refused(log: str) -> bool:
    """Whether the model's own validators have refused an input that the schema allows."""
    return any(_lines(log, INPUT_REFUSED))


def why_it_gave_up(log: str) -> str | None:
    """Why a server ended by itself, in its own words; None where it does not say."""
    line = _last(log, GAVE_UP)
    return line["rest"] if line is not None else None


def last_attempt(log: str) -> str:
    """What a server printed, but for the setups before the last one: they failed likewise."""
    ends = [line.end() for line in _lines(log, SETUP_FAILED)]
    return log[ends[-2] + 1 :] if len(ends) > 1 else log


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


def _lines(log: str, *words: str) -> Iterator[re.Match[str]]:
    """The lines of the server's that begin with one of some words."""
    return (line for line in _LINE.finditer(log) if line["word"] in words)


def _last(log: str, *words: str) -> re.Match[str] | None:
    """The last of these lines."""
    found = list(_lines(log, *words))
    return found[-1] if found else None


def _parts(traceback: str) -> tuple[str, str]:
    """The frames, and what the last exception says: perhaps several lines, from where the last frame ends."""
    lines = traceback.splitlines()
    start = max((number for number, line in enumerate(lines) if _FRAME.match(line)), default=0) + 1
    while start < len(lines) and lines[start].startswith(("    ", "  [Previous line repeated")):
        start += 1
    return "\n".join(lines[:start]), "\n".join(lines[start:])


def _place(traceback: str, folder: str) -> str | None:
    """The innermost frame of the model's own files."""
    found = None
    for frame in _FRAME.finditer(traceback):
        path = PurePosixPath(frame["file"])
        if path.is_relative_to(folder):
            found = f"{path.relative_to(folder)}, line {frame['line']}"
    return found
