"""What a person sees while work goes on: a status line, the bar of a fetch, the steps of a build, notices.

All of it goes to standard error. On a terminal it moves and leaves nothing behind; in a log each thing is said
once, as a plain line.
"""

from __future__ import annotations

import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from rich.progress import Progress

    from tungstenkit.project.locking import Locked

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


@contextmanager
def slow(what: str, seconds: float = 2) -> Iterator[None]:
    """Say what is being done where it takes longer than it mostly does, to who waits for it; never in a log."""
    if not err.is_terminal:
        yield
        return
    over, status = threading.Event(), err.status(what)

    def say() -> None:
        if not over.wait(seconds):
            status.start()

    thread = threading.Thread(target=say, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        status.stop()


class FetchBar:
    """The bar of a fetch: bytes, files and time; plain lines where there is no terminal, nothing where all is there."""

    def __init__(self, doing: str = "fetching") -> None:
        self._doing = doing
        self._bar: Progress | None = None
        self._files = 0
        self._done = 0

    def __enter__(self) -> FetchBar:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def start(self, files: int, size: int) -> None:
        """As `download.Progress`."""
        self._files, self._done = files, 0
        if not files:
            return
        if self._bar is None:
            self._bar = self._new_bar()
        self._bar.start()
        self._bar.update(self._bar.task_ids[0], total=size, completed=0, files=f"0/{files} files")
        if not err.is_terminal:
            err.print(f"{self._doing} {files} {'file' if files == 1 else 'files'}, {size / 1e6:.1f} MB")

    def _new_bar(self) -> Progress:
        # Mostly all is there, and nothing of this is needed.
        from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeElapsedColumn

        bar = Progress(
            TextColumn(self._doing),
            BarColumn(),
            DownloadColumn(),
            TextColumn("{task.fields[files]}"),
            TimeElapsedColumn(),
            console=err,
            disable=not err.is_terminal,
            transient=True,
        )
        bar.add_task("fetch", total=None, files="")
        return bar

    def advance(self, size: int) -> None:
        """As `download.Progress`."""
        if self._bar is not None:
            self._bar.advance(self._bar.task_ids[0], size)

    def done(self, name: str) -> None:
        """As `download.Progress`."""
        self._done += 1
        if self._bar is not None:
            files = f"{self._done}/{self._files} files  {name[:40]}"
            self._bar.update(self._bar.task_ids[0], files=files)


_USERS_STEPS = ("post-build-", "command")


class BuildBar:
    """The steps of a build that run now, and how many are done."""

    def __init__(self, bar: Progress) -> None:
        self._bar = bar
        self._running: list[str] = []
        self._done = 0
        self._task = bar.add_task("building", total=None)

    def begin(self, step: str) -> None:
        """As `build.View`."""
        self._running.append(step)
        self._show()
        if not err.is_terminal:
            err.print(f"building {step}")

    def say(self, step: str, line: str) -> None:
        """As `build.View`. What the user's own code prints is shown at once: it may run for an hour."""
        if step.startswith(_USERS_STEPS):
            err.print(f"  {line}", style="dim", markup=False)

    def end(self, step: str) -> None:
        """As `build.View`."""
        self._running.remove(step)
        self._done += 1
        self._show()

    def note(self, text: str) -> None:
        """As `build.View`."""
        self._bar.console.print(text, markup=False)

    def _show(self) -> None:
        self._bar.update(self._task, description=f"building ({self._done} done): {', '.join(self._running)}")


@contextmanager
def build_view() -> Iterator[BuildBar]:
    """Show a build."""
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=err, disable=not err.is_terminal, transient=True) as bar:
        yield BuildBar(bar)


class Terminal:
    """The observer that shows all it is told, on standard error."""

    def notice(self, text: str) -> None:
        """As `watch.Watch`."""
        err.print(text, markup=False)

    def warn(self, text: str) -> None:
        """As `watch.Watch`."""
        err.print(f"[yellow]warning:[/] {escape(text)}")

    def locked(self, made: Locked) -> None:
        """As `watch.Watch`."""
        from tungstenkit.cli.words import locked_lines

        for line in locked_lines(made):
            err.print(line)

    def reading(self, what: str) -> AbstractContextManager[None]:
        """As `watch.Watch`."""
        return slow(what)

    def working(self, what: str) -> AbstractContextManager[Callable[[str], None]]:
        """As `watch.Watch`."""
        return working(what)

    def fetching(self, doing: str = "fetching") -> AbstractContextManager[FetchBar]:
        """As `watch.Watch`."""
        return FetchBar(doing)

    def building(self) -> AbstractContextManager[BuildBar]:
        """As `watch.Watch`."""
        return build_view()


TERMINAL = Terminal()
