"""What a program is told by way of Python's `logging`, under the name `tungstenkit`: nothing, unless it asks for it."""

from __future__ import annotations

import logging
from contextlib import nullcontext
from typing import TYPE_CHECKING

from tungstenkit.watch import Unwatched

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from tungstenkit.lock.parts import Tungsten

LOG = logging.getLogger("tungstenkit")
LOG.addHandler(logging.NullHandler())

SERVER_LOG = logging.getLogger("tungstenkit.server")
"""Where the lines go that a server, and the model in it, print."""


class Logged(Unwatched):
    """The observer that logs what it is told."""

    def notice(self, text: str) -> None:
        """As `watch.Watch`."""
        LOG.info(text)

    def warn(self, text: str) -> None:
        """As `watch.Watch`."""
        LOG.warning(text)

    def made_by_another(self, maker: Tungsten | None, this: Tungsten) -> None:
        """As `watch.Watch`."""
        known = f"tungsten {maker.version}" if maker else "a tungsten before 0.2.0"
        LOG.info("%s has made the lock, and this is %s", known, this.version)

    def working(self, what: str) -> AbstractContextManager[Callable[[str], None]]:
        """As `watch.Watch`."""
        LOG.info(what)
        return nullcontext(LOG.info)

    def begin(self, step: str) -> None:
        """As `build.View`."""
        LOG.info("building %s", step)

    def shows(self, step: str) -> bool:  # noqa: ARG002
        """As `build.View`."""
        return LOG.isEnabledFor(logging.DEBUG)

    def say(self, step: str, line: str) -> None:
        """As `build.View`."""
        LOG.debug("%s: %s", step, line)

    def note(self, text: str) -> None:
        """As `build.View`."""
        LOG.info(text)


def log_lines() -> Callable[[bytes], None]:
    """What logs the lines of what a server prints, which comes in pieces."""
    rest = b""

    def say(data: bytes) -> None:
        nonlocal rest
        *lines, rest = (rest + data).split(b"\n")
        rest = rest[-_LONGEST:]
        for line in lines:
            SERVER_LOG.info(line.decode(errors="replace"))

    return say


_LONGEST = 1 << 16
"""Bytes of a line that has no end."""
