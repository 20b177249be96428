"""What a person sees while work on a model goes on: the bar of a fetch, the steps of a build, notices.

What draws is imported when there is something to show: mostly all is there, and nothing is said.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from rich.progress import Progress

    from tungstenkit.lock.parts import Tungsten
    from tungstenkit.project.locking import Locked


@contextmanager
def slow(what: str, seconds: float = 2) -> Iterator[None]:
    """Say what is being done where it takes longer than it mostly does, to who waits for it; never in a log."""
    over = threading.Event()

    def say() -> None:
        if over.wait(seconds):
            return
        from tungstenkit.cli.progress import err

        if err.is_terminal:
            with err.status(what):
                over.wait()

    thread = threading.Thread(target=say, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


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
        from tungstenkit.cli.progress import err

        if self._bar is None:
            self._bar = self._new_bar()
        self._bar.start()
        self._bar.update(self._bar.task_ids[0], total=size, completed=0, files=f"0/{files} files")
        if not err.is_terminal:
            from rich.filesize import decimal

            err.print(f"{self._doing} {files} {'file' if files == 1 else 'files'}, {decimal(size)}")

    def _new_bar(self) -> Progress:
        from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeElapsedColumn

        from tungstenkit.cli.progress import err

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

    def __init__(self) -> None:
        self._bar: Progress | None = None
        self._running: list[str] = []
        self._done = 0

    def __enter__(self) -> BuildBar:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def begin(self, step: str) -> None:
        """As `build.View`."""
        from tungstenkit.cli.progress import err

        self._running.append(step)
        if err.is_terminal:
            self._show()
        else:
            err.print(f"building {step}")

    def say(self, step: str, line: str) -> None:
        """As `build.View`. What the user's own code prints is shown at once: it may run for an hour."""
        from tungstenkit.cli.progress import err

        if self.shows(step):
            err.print(f"  {line}", style="dim", markup=False)

    def shows(self, step: str) -> bool:
        """As `build.View`."""
        return step.startswith(_USERS_STEPS)

    def end(self, step: str) -> None:
        """As `build.View`."""
        self._running.remove(step)
        self._done += 1
        if self._bar is not None:
            self._show()

    def note(self, text: str) -> None:
        """As `build.View`."""
        from tungstenkit.cli.progress import err

        err.print(text, markup=False)

    def _show(self) -> None:
        if self._bar is None:
            self._bar = self._new_bar()
            self._bar.start()
        description = f"building ({self._done} done): {', '.join(self._running)}"
        self._bar.update(self._bar.task_ids[0], description=description)

    def _new_bar(self) -> Progress:
        # Nix is at work by now.
        from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        from tungstenkit.cli.progress import err

        columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
        bar = Progress(*columns, console=err, transient=True)
        bar.add_task("building", total=None)
        return bar


class Terminal:
    """The observer that shows all it is told, on standard error."""

    def notice(self, text: str) -> None:
        """As `watch.Watch`."""
        from tungstenkit.cli.progress import err
        from tungstenkit.outside import plain

        err.print(plain(text), markup=False)

    def warn(self, text: str) -> None:
        """As `watch.Watch`."""
        from rich.markup import escape

        from tungstenkit.cli.progress import err
        from tungstenkit.outside import plain

        # What a server has said may be among it.
        err.print(f"[yellow]warning:[/] {escape(plain(text))}")

    def locked(self, made: Locked) -> None:
        """As `watch.Watch`."""
        from tungstenkit.cli.progress import err
        from tungstenkit.cli.words import locked_lines

        for line in locked_lines(made):
            err.print(line)

    def made_by_another(self, maker: Tungsten | None, this: Tungsten) -> None:
        """As `watch.Watch`."""
        from tungstenkit.cli.words import of_another

        self.notice(of_another(maker, this))

    def reading(self, what: str) -> AbstractContextManager[None]:
        """As `watch.Watch`."""
        return slow(what)

    def working(self, what: str) -> AbstractContextManager[Callable[[str], None]]:
        """As `watch.Watch`."""
        from tungstenkit.cli.progress import working

        return working(what)

    def fetching(self, doing: str = "fetching") -> AbstractContextManager[FetchBar]:
        """As `watch.Watch`."""
        return FetchBar(doing)

    def building(self) -> AbstractContextManager[BuildBar]:
        """As `watch.Watch`."""
        return BuildBar()


TERMINAL = Terminal()
