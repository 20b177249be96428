"""A model's server on this machine that is replaced when the model's files change.

One socket listens all the time. Once the model of the new code is set up, its server takes the clients from it, and
the old one answers what it has accepted, and ends. Until then the old one serves: code that can't be read or set up is
told, and nothing else happens. This module owns the servers, and the thread that watches the files.
"""

from __future__ import annotations

import threading
from contextlib import ExitStack, suppress
from pathlib import Path
from socket import socketpair
from typing import TYPE_CHECKING, NamedTuple

from tungstenkit.run.local import Handover
from tungstenkit.run.server import Running, running
from tungstenkit.sdk.errors import TungstenError

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterable
    from queue import SimpleQueue

    from tungstenkit.run.program import Program

_QUIET_MS = 50
"""How long nothing may change before a change counts: editors write, rename and write again."""

_LONGEST_MS = 400
"""After which it counts, whatever goes on."""

State = dict[str, tuple[int, int, int]]
"""Of each file when it was written, its size and its number: what is replaced by a rename is another file."""


class Server:
    """A server that is being set up, serves, or has ended."""

    def __init__(self, running: Running, control: socket.socket) -> None:
        self.running = running
        self._control = control
        self._takes_none = threading.Event()

    def follow(self, events: SimpleQueue[Event]) -> None:
        """Report when it is ready and when it has ended: in a thread of its own."""
        with self._control as control:
            # One that is killed resets it.
            with suppress(ConnectionResetError):
                if control.recv(100):
                    events.put(Event("ready", self))
                    control.recv(100)
            self._takes_none.set()
        with suppress(TungstenError):
            self.running.wait()
        events.put(Event("ended", self))

    def begin(self) -> None:
        """Let it take clients."""
        with suppress(OSError):  # it has ended, and an event says so
            self._control.sendall(b"!")

    def leave(self) -> None:
        """Let it answer what it has accepted, and end; wait until it takes no more clients."""
        self.running.terminate()
        self._takes_none.wait()


class Event(NamedTuple):
    """Something that has happened: `changed`, or a server that is `ready` or has `ended`."""

    what: str
    server: Server | None = None


class Reloading:
    """Servers of a model, one at a time.

    start: makes a program for a handover. Raises TungstenError where the code is wrong.
    listener: the socket that clients come to.
    say: tells the user.
    on_ready: called once the first server is ready.
    alone: whether no two may be set up at a time, because of what they need of a GPU: then the old one ends first.
    """

    def __init__(
        self,
        start: Callable[[Handover], Program],
        listener: socket.socket,
        *,
        say: Callable[[str], None],
        on_ready: Callable[[], None],
        alone: bool,
    ) -> None:
        self._start = start
        self._listener = listener
        self._say = say
        self._on_ready = on_ready
        self._alone = alone
        self._serving: Server | None = None
        self._coming: Server | None = None
        self._was_ready = False

    def run(self, events: SimpleQueue[Event]) -> None:
        """Serve until KeyboardInterrupt; then answer what was accepted. A second one ends it at once."""
        with ExitStack() as stack:
            try:
                self._replace(stack, events)
                while True:
                    self._handle(events.get(), stack, events)
            except KeyboardInterrupt:
                self._say("stopping: what was accepted is answered first; Ctrl-C again ends it now")
                if self._coming is not None:
                    self._coming.running.kill()
                if self._serving is not None:
                    self._serving.running.stop()

    def _handle(self, event: Event, stack: ExitStack, events: SimpleQueue[Event]) -> None:
        match event:
            case Event("changed"):
                if self._coming is not None:
                    self._coming.running.kill()
                self._replace(stack, events)
            case Event("ready", server) if server is not None and server is self._coming:
                # No client is taken by the old code once one was by the new.
                if self._serving is not None:
                    self._serving.leave()
                self._serving, self._coming = server, None
                server.begin()
                if self._was_ready:
                    self._say("the new code answers")
                else:
                    self._was_ready = True
                    self._on_ready()
            case Event("ended", server) if server is self._coming:
                self._coming = None
                self._say_who_serves("the new code can't be set up")
            case Event("ended", server) if server is self._serving:
                self._serving = None
                self._say_who_serves("the server has ended")

    def _replace(self, stack: ExitStack, events: SimpleQueue[Event]) -> None:
        self._coming = None
        ours, theirs = socketpair()
        with ExitStack() as control, theirs:
            control.enter_context(ours)
            try:
                program = self._start(Handover(self._listener.fileno(), theirs.fileno()))
                if self._alone and self._serving is not None:
                    old, self._serving = self._serving, None
                    old.running.stop()
                self._coming = Server(stack.enter_context(running(program)), ours)
            except TungstenError as problem:
                self._say(str(problem))
                self._say_who_serves("the new code can't be read")
                return
            control.pop_all()
        threading.Thread(target=self._coming.follow, args=[events], daemon=True).start()

    def _say_who_serves(self, why: str) -> None:
        self._say(f"{why}; {'the code before it goes on' if self._serving else 'waiting for a change'}")


def state(directory: Path, files: Iterable[str]) -> State:
    """What files of a folder are like now; those that are gone are not in it."""
    found: State = {}
    for name in files:
        with suppress(OSError):
            status = (directory / name).stat()
            found[name] = status.st_mtime_ns, status.st_size, status.st_ino
    return found


def watch(
    directory: Path, look: Callable[[], State], events: SimpleQueue[Event], stop: threading.Event
) -> None:
    """Report each change of what `look` sees in a folder, until told to stop: in a thread of its own.

    The kernel says when anything changes there; `look` says whether it counts.
    """
    from watchfiles import watch

    def visible(_change: object, path: str) -> bool:
        parts = Path(path).relative_to(directory).parts
        return not any(part.startswith(".") or part == "__pycache__" for part in parts)

    before = look()
    for _ in watch(
        directory,
        watch_filter=visible,
        debounce=_LONGEST_MS,
        step=_QUIET_MS,
        stop_event=stop,
        raise_interrupt=False,
    ):
        now = look()
        if now != before:
            before = now
            events.put(Event("changed"))
