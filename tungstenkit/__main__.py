"""The first lines of the command: an interruption has one line before anything is imported, too.

tungsten …    python -m tungstenkit …
"""

from __future__ import annotations

import atexit
import gc
import os
import signal
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tungstenkit.spec.reading import Reader


def main() -> None:
    """Import the command line, and run it."""
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # What is ignored already, as by `nohup`, stays so.
        if signal.getsignal(signum) is not signal.SIG_IGN:
            signal.signal(signum, _leave)
    # What is imported and what indexes list are many objects that stay, and hardly any is part of a cycle: looking for
    # these at the usual pace is a fifth of a lock's time.
    gc.set_threshold(100_000)
    # At the end Python would look through all of it again.
    atexit.register(gc.freeze)
    reader = _reader(sys.argv[1:])
    from tungstenkit.cli import main as command_line

    command_line.main(reader)


def _reader(line: list[str]) -> Reader | None:
    """What will read a model's module, started before the line is looked at, if it may be one that has it read.

    It runs nothing of a model's before it is told to, and ends with us.
    """
    if (
        line[:1] not in (["lock"], ["build"])
        or not _UNREAD.isdisjoint(line)
        or "TUNGSTEN_TRUST" in os.environ
    ):
        return None
    from tungstenkit.spec.reading import Reader

    with suppress(OSError):  # what keeps it from starting is told in its turn
        return Reader()
    return None


_UNREAD = {"-h", "--help", "--against", "--trust"}
"""With one of these a module is not read, or by whom the line says."""


def _leave(*_: object) -> None:
    """Go at once: nothing has been begun, and an exception could be taken for a module that can't be imported."""
    os.write(2, b"interrupted\n")
    os._exit(130)


if __name__ == "__main__":
    main()
