"""The server of one model, for whoever wants its predictions: one that runs already, or one that is started when it is
first needed, and ended with whoever started it."""

from __future__ import annotations

import os
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from tungstenkit import started
from tungstenkit.outside import redact
from tungstenkit.run.client import AT_ONCE, Client, PredictionError
from tungstenkit.sdk.errors import RunError, TungstenError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path
    from typing import Self

    from tungstenkit.models.target import Target
    from tungstenkit.run.fields import Schema
    from tungstenkit.run.program import Program
    from tungstenkit.run.server import Running

BUSY_SECONDS = 600.0
"""In which a server that is busy, or sets its model up anew, is asked again."""

_STOP_SECONDS = 30.0
"""In which a server that is told to stop answers what it has accepted: a little more than its own setting's default."""

_END_SECONDS = 5.0
"""The same, where nobody waits for answers any more."""


class Serving:
    """One server; any thread may ask for it, and one of them starts it.

    It is ended by `close`, or when the object is collected, or when the interpreter exits; where this process is
    killed, by the keeper beside the server. A process that is forked goes on with the server, and ends nothing.
    """

    def __init__(
        self,
        target: Target,
        flags: Sequence[str] = (),
        say: Callable[[bytes], None] = lambda _: None,
        *,
        patience: float = 0.0,
        inputs: str = "-i",
    ) -> None:
        """Start nothing yet.

        flags: the server's. say: is told what it prints, in pieces. patience, inputs: as for `Client`.
        """
        self._target = target
        self._flags = flags
        self._say = say
        self._client_options: dict[str, Any] = {"patience": patience, "inputs": inputs}
        self._made = _Made()
        self._end = weakref.finalize(self, _end, self._made)
        self._lock = threading.Lock()
        self._failure: TungstenError | None = None
        self._is_closed = False
        self._metadata: dict[str, Any] | None = None
        _EVERY.add(self)

    def schema_of_folder(self) -> Schema | None:
        """What the model takes, where its folder says so: before anything is built."""
        with self._lock:
            project = self._target.project
        return None if project is None else project.spec.input_schema

    def schema_of_image(self) -> Schema | None:
        """What the model takes, where an image says so, which is told where it isn't there: before it is run."""
        from tungstenkit.run.container import image_input_schema

        with self._lock:
            if self._target.is_url or self._target.project is not None:
                return None
            engine = self._program().command[0]
        return image_input_schema(engine, self._target.name, self._target.engine_args)

    def metadata(self) -> dict[str, Any]:
        """What the server says of its model, its schemas above all, once it takes requests; it is started for that."""
        found = self._metadata
        if found is None:
            with self._lock:
                found = self._metadata or self._open()
                self._metadata = found
        return found

    def __enter__(self) -> Self:
        """Start nothing yet."""
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Close it; after an exception nobody waits for answers."""
        self.close(seconds=_STOP_SECONDS if kind is None else _END_SECONDS)

    @property
    def threads(self) -> ThreadPoolExecutor:
        """Threads in which callers wait who can't wait themselves."""
        self._check_open()
        return self._made.threads

    @property
    def client(self) -> Client:
        """What talks to the server, which must be there: see `metadata`."""
        client = self._made.client
        if client is None:
            self._check_open()
            raise RunError("there is no server yet")
        return client

    @property
    def what(self) -> str:
        """What is served, as it was named, without a password."""
        return redact(self._target.name)

    @property
    def url(self) -> str | None:
        """Where the server answers; None where there is none."""
        return self._made.url

    def explained(self, problem: RunError) -> RunError:
        """What a request's failure comes to, where the server is ours: by the model's own lines, or by its end."""
        server = self._made.server
        if server is None or not server.is_ours:
            return problem
        if isinstance(problem, PredictionError):
            return server.prediction_error(problem)
        return server.end_error() if server.ends() else problem

    def close(self, *, seconds: float = _STOP_SECONDS) -> None:
        """End the server, once it has answered what it has accepted, or that has taken too long."""
        if self._metadata is None:
            self.give_up()
        with self._lock:
            self._is_closed = True
            self._metadata = None
            if self._end.detach():
                self._made.end(seconds)
                self._made.threads.shutdown(wait=False)

    def give_up(self) -> None:
        """Have whoever starts the server now fail: nobody wants it any more."""
        self._is_closed = True
        server = self._made.server
        if server is not None:
            server.kill()

    def _check_open(self) -> None:
        if self._is_closed:
            raise RunError("the model is closed", where=self.what, hint="make another by models.get(…)")

    def _open(self) -> dict[str, Any]:
        self._check_open()
        if self._failure is not None:
            raise self._failure.reworded()
        try:
            if self._target.is_url:
                self._made.answer(self._target.name, Client(self._target.name, **self._client_options))
                with self._target.watch.working("asking the server"):
                    return self.client.metadata()
            return self._start()
        except BaseException as problem:
            self._made.end()
            if isinstance(problem, TungstenError) and not self._target.is_url and not self._is_closed:
                # It would take as long again, and end likewise.
                self._failure = problem
            raise

    def _start(self) -> dict[str, Any]:
        from tungstenkit.run.server import running

        program = self._program()
        self._check_open()
        with self._target.watch.working("starting the model"):
            scratch = self._made.scratch()
            server = self._made.stack.enter_context(running(program, echo=self._say, kept=scratch))
            self._made.server = server
            url = program.address.url
            self._made.answer(url, Client(url, here=True, **self._client_options))
            server.expect("/healthz")
            server.expect("/readyz")
            try:
                return self.client.metadata()
            except RunError as problem:
                raise self.explained(problem) from None

    def _program(self) -> Program:
        from tungstenkit.run.address import Address

        if self._made.program is None:
            address = Address.choose("127.0.0.1", 0)
            self._made.program = self._target.program(address, self._flags, self._made.scratch())
        return self._made.program

    def _forked(self) -> None:
        """Be another process's: the server, its folder and its keeper are not ours."""
        before, self._made = self._made, _Made()
        self._lock = threading.Lock()
        self._end.detach()
        if before.url is not None:
            client = Client(before.url, here=before.server is not None, **self._client_options)
            self._made.answer(before.url, client)
        if before.server is not None:
            before.server.leave()
        self._end = weakref.finalize(self, _end, self._made)


class _Made:
    """What was made for a server, and is to be undone."""

    def __init__(self) -> None:
        self.stack = ExitStack()
        self.threads = ThreadPoolExecutor(AT_ONCE, "tungsten-call")
        self.program: Program | None = None
        self.server: Running | None = None
        self.client: Client | None = None
        self.url: str | None = None
        self._scratch: Path | None = None

    def scratch(self) -> Path:
        """A folder of the server's alone."""
        if self._scratch is None:
            self._scratch = self.stack.enter_context(started.scratch())
        return self._scratch

    def answer(self, url: str, client: Client) -> None:
        """Note who answers."""
        self.url, self.client = url, client
        self.stack.callback(client.close)

    def end(self, seconds: float = _END_SECONDS) -> None:
        """Undo all of it. seconds: that the server has for what it has accepted."""
        server, self.server, self.client, self.url = self.server, None, None, None
        self.program = self._scratch = None
        with self.stack.pop_all():
            if server is not None:
                server.stop_within(seconds)


def _end(made: _Made) -> None:
    made.end()
    made.threads.shutdown(wait=False)


_EVERY: weakref.WeakSet[Serving] = weakref.WeakSet()


def _after_fork() -> None:
    for one in list(_EVERY):
        one._forked()


os.register_at_fork(after_in_child=_after_fork)
