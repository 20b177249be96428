"""The observer of the work on a model: what takes long, and what a person should know, is told to it.

Nothing below the command line prints. `progress.Terminal` shows what is told here; `UNWATCHED` is told as much, and
keeps it to itself.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from tungstenkit.fetch.download import Progress
    from tungstenkit.lock.parts import Tungsten
    from tungstenkit.nix_build.log import View
    from tungstenkit.project.locking import Locked


class Watch(Protocol):
    """An observer of the work on a model."""

    def notice(self, text: str) -> None:
        """A person should know something; plain text."""

    def warn(self, text: str) -> None:
        """A person should look at something, though the work goes on; plain text."""

    def locked(self, made: Locked) -> None:
        """A lock was made."""

    def made_by_another(self, maker: Tungsten | None, this: Tungsten) -> None:
        """A lock is used that another tungsten has made than this one; None is one that has noted nothing of itself."""

    def reading(self, what: str) -> AbstractContextManager[None]:
        """Something goes on that mostly takes a moment."""

    def working(self, what: str) -> AbstractContextManager[Callable[[str], None]]:
        """Something goes on that may take long; what it yields is told each next part of it, a short line."""

    def fetching(self, doing: str = "fetching") -> AbstractContextManager[Progress]:
        """Files are fetched, or whatever else is done to them, one by one."""

    def building(self) -> AbstractContextManager[View]:
        """A build goes on."""


def _ignore(_text: str) -> None:
    pass


class Unwatched:
    """An observer that nobody looks at: of the work, of a fetch, of a build."""

    def notice(self, text: str) -> None:
        """As `Watch`."""

    def warn(self, text: str) -> None:
        """As `Watch`."""

    def locked(self, made: Locked) -> None:
        """As `Watch`."""

    def made_by_another(self, maker: Tungsten | None, this: Tungsten) -> None:
        """As `Watch`."""

    def reading(self, what: str) -> AbstractContextManager[None]:  # noqa: ARG002
        """As `Watch`."""
        return nullcontext()

    def working(self, what: str) -> AbstractContextManager[Callable[[str], None]]:  # noqa: ARG002
        """As `Watch`."""
        return nullcontext(_ignore)

    def fetching(self, doing: str = "fetching") -> AbstractContextManager[Progress]:  # noqa: ARG002
        """As `Watch`."""
        return nullcontext(self)

    def building(self) -> AbstractContextManager[View]:
        """As `Watch`."""
        return nullcontext(self)

    def start(self, files: int, size: int) -> None:
        """As `download.Progress`."""

    def advance(self, size: int) -> None:
        """As `download.Progress`."""

    def done(self, name: str) -> None:
        """As `download.Progress`."""

    def begin(self, step: str) -> None:
        """As `build.View`."""

    def say(self, step: str, line: str) -> None:
        """As `build.View`."""

    def shows(self, step: str) -> bool:  # noqa: ARG002
        """As `build.View`."""
        return False

    def end(self, step: str) -> None:
        """As `build.View`."""

    def note(self, text: str) -> None:
        """As `build.View`."""


UNWATCHED = Unwatched()
"""The observer of who looks at nothing."""
