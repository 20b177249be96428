"""How a person is told: the console, and a line for what is being done.

What goes on goes to standard error. On a terminal it moves and leaves nothing behind; in a log each thing is said
once, as a plain line.
"""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

err = Console(stderr=True, highlight=False, soft_wrap=True)
out = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 200)
"""What a command makes; a table in a file or a pipe is not squeezed into a terminal's width."""


@contextmanager
def working(what: str) -> Iterator[Callable[[str], None]]:
    """Show what is being done: a moving line on a terminal, a plain line each elsewhere."""
    if not err.is_terminal:
        err.print(what)
        yield err.print
        return
    with err.status(what) as status:
        yield status.update
