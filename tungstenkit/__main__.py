"""The first lines of the command: an interruption has one line before anything is imported, too.

tungsten …    python -m tungstenkit …
"""

from __future__ import annotations

import gc
import os
import signal


def main() -> None:
    """Import the command line, and run it."""
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # What is ignored already, as by `nohup`, stays so.
        if signal.getsignal(signum) is not signal.SIG_IGN:
            signal.signal(signum, _leave)
    # What is imported and what indexes list are many objects that stay, and hardly any is part of a cycle: looking for
    # these at the usual pace is a fifth of a lock's time.
    gc.set_threshold(100_000)
    from tungstenkit.cli import main as command_line

    command_line.main()


def _leave(*_: object) -> None:
    """Go at once: nothing has been begun, and an exception could be taken for a module that can't be imported."""
    os.write(2, b"interrupted\n")
    os._exit(130)


if __name__ == "__main__":
    main()
