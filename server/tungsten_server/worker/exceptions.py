"""Exceptions as they are told: to clients in a line, to the container's log whole."""

from __future__ import annotations

import ctypes
import os
import sys
import time
import traceback
from contextlib import suppress
from typing import TYPE_CHECKING

from . import events

if TYPE_CHECKING:
    from collections.abc import Sequence

_MAX_MESSAGE = 2000
"""Characters of an exception's message that a client gets; one that quotes its input could be megabytes."""


def reason(error: BaseException) -> str:
    """Say "ExceptionType: message", short and without a traceback."""
    # Whichever pydantic the model has brought along; none if it failed before that.
    validation_error = getattr(sys.modules.get("pydantic"), "ValidationError", ())
    try:
        if isinstance(error, validation_error):
            details = error.errors(include_url=False, include_context=False, include_input=False)
            message = "; ".join(": ".join([*filter(None, [dotted(d["loc"])]), d["msg"]]) for d in details)
        else:
            message = str(error)
    except BaseException:  # a __str__ of the user's
        message = ""
    if len(message) > _MAX_MESSAGE:
        message = message[:_MAX_MESSAGE] + "…"
    return f"{type(error).__name__}: {message}" if message else type(error).__name__


def dotted(location: Sequence[object]) -> str:
    """Write the place of a value in others: names and indexes."""
    return ".".join(map(str, location))


def log(event: str, error: BaseException, word: str = events.RAISED) -> None:
    """Write an event to the container's log, with the exception's traceback. word: one of `events`."""
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    text = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    line = f"{now} ERROR tungsten.worker: [{word}] {event}: {reason(error)}\n{text}"
    with suppress(OSError):  # not by sys.stderr, which the user's code may have closed or replaced
        os.write(2, line.encode(errors="backslashreplace"))


def end_fork(pid: int, error: BaseException | None = None) -> None:
    """End this process if it is a child that the user's code has forked: it has no threads, and must not answer."""
    if os.getpid() == pid:
        return
    status = error.code if isinstance(error, SystemExit) else error and 1
    if error is not None and not isinstance(error, SystemExit):
        log("a forked process failed", error)
    flush()
    os._exit(status if isinstance(status, int) else int(status is not None))


def flush() -> None:
    """Write out what is buffered: by streams of the user's in the place of ours, and by C's."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except Exception:  # noqa: PERF203, S112 (closed, or anything that the user's code put there)
            continue
    ctypes.CDLL(None).fflush(None)
