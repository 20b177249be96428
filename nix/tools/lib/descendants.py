"""What a program has started ends before what it left is read: all of it, also what has left its session.

A process whose parent has ended becomes a child of its nearest subreaper (prctl(2), PR_SET_CHILD_SUBREAPER). So a
program that is one finds in turn whatever it has started among its own children, and kills nothing else.
"""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path

_SET_CHILD_SUBREAPER = 36  # <linux/prctl.h>


def adopt() -> bool:
    """Become the parent of what is started from now on, once its own ends; False where that can't be."""
    try:
        import ctypes
    except ImportError:  # A base image's Python may lack it.
        return False
    result: int = ctypes.CDLL(None).prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    return result == 0


def end(session: int, adopted: bool) -> None:
    """Kill what this process has started, and wait until none of it is there.

    adopted: what `adopt` has said; where it is False, only what is still in a session is killed.
    """
    if not adopted:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(session, signal.SIGKILL)
        return
    while True:
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                # An error for what is no child. The number of one can't be another's before it was waited for.
                with contextlib.suppress(ChildProcessError):
                    if os.waitpid(int(entry.name), os.WNOHANG) == (0, 0):
                        os.kill(int(entry.name), signal.SIGKILL)
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return
