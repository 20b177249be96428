"""Where the program `tungsten` begins: outside the package, whose import takes a moment in which Ctrl-C may come.

Nothing is begun by then, so there is nothing to say either: the program ends, with the status of what is interrupted.
"""

from __future__ import annotations

import os
import signal
import sys


def main() -> None:
    """Run the command line."""
    interrupt = signal.getsignal(signal.SIGINT)
    # What is ignored already, as by `nohup`, stays so.
    if interrupt is signal.default_int_handler:
        signal.signal(signal.SIGINT, lambda *_: os._exit(130))
    from tungstenkit.cli import main as command_line

    try:
        signal.signal(signal.SIGINT, interrupt)
        command_line()
    except KeyboardInterrupt:
        sys.exit(130)
