"""A running server and what it prints.

`running` owns the process: it ends with the `with` block at the latest.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import threading
import time
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING

from tungstenkit.lacks import engine_hint
from tungstenkit.run.faults import last_attempt, last_fault, why_it_gave_up
from tungstenkit.sdk.errors import RunError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tungstenkit.run.client import Client, PredictionError
    from tungstenkit.run.program import Program

_LISTEN_SECONDS = 120.0
"""In which a container starts and listens: that is 0.2 s of the server's, the rest is the engine's."""

_SAID = 3000
"""Characters of a server's last words."""

_KEPT = 256 * 1024
"""Bytes of what a server prints that are kept where no file has them: more than its last words and a traceback."""

_END_SECONDS = 2.0
"""How long the last words of a server that has ended are waited for: an engine may hold the pipe a little longer."""

_ENGINE_FAILED = {125, 126, 127}
"""Exit statuses by which `podman run` and `docker run` say that the container itself did not start."""

_STDERR = 2


class Running:
    """A started server."""

    def __init__(
        self, program: Program, client: Client, process: subprocess.Popen[bytes], log: Path | _Echo | None
    ) -> None:
        """log: where it prints, if it isn't where we do alone."""
        self._program = program
        self._log = log
        self._process = process
        self.url = program.address.url
        self.client = client

    @property
    def pid(self) -> int:
        """Of its first process, or of the engine's client."""
        return self._process.pid

    def wait_until(self, path: str) -> bool:
        """Wait until a path is answered with 200; False if the server ends instead.

        `/healthz`: it listens. `/readyz`: it takes requests; how long that may take is a setting of the server's.
        Raises RunError where `/healthz` is not answered in time.
        """
        deadline = time.monotonic() + _LISTEN_SECONDS
        while self._process.poll() is None:
            if path == "/healthz" and time.monotonic() > deadline:
                raise RunError(
                    f"the server is started, and can't be reached within {_LISTEN_SECONDS:g} s",
                    where=self.url,
                    hint="is the engine's network shut off from this machine? --engine-arg=--network=host goes without",
                )
            if self.client.answers(path):
                return True
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(0.1)
        return False

    def expect(self, path: str) -> None:
        """Wait likewise. Raises RunError that says what is wrong with the model, if it ends instead."""
        if not self.wait_until(path):
            if error := self.setup_error() or self._engine_error():
                raise error
            printed = self._printed()
            what = ": ".join(
                filter(None, ["the model's server ended before it was ready", why_it_gave_up(printed)])
            )
            raise RunError(
                f"{what}; it said:\n{_end(last_attempt(printed))}", where=shlex.join(self._program.command)
            )

    def setup_error(self) -> RunError | None:
        """The model's fault, where it has ended by one before it was ready."""
        fault = last_fault(self._printed(), self._program.folder, self._program.here)
        if fault is None:
            return None
        # Once: what is on the terminal has the traceback.
        frames = "" if isinstance(self._log, _Echo) else f"\n{fault.frames}"
        return RunError(f"setup fails: {fault.reason}{frames}", where=fault.where, hint=fault.hint)

    def prediction_error(self, problem: PredictionError) -> RunError:
        """What a prediction that failed says of the model's own code, once the server has ended."""
        fault = last_fault(self._printed(), self._program.folder, self._program.here)
        if fault is None or fault.where is None:
            # What was returned is at fault, and the problem says how.
            return problem
        return RunError(f"{problem.what}\n{fault.frames}", where=fault.where, hint=fault.hint)

    def _printed(self) -> str:
        if isinstance(self._log, Path):
            return self._log.read_text(errors="replace").strip()
        return self._log.text().strip() if self._log is not None else ""

    def wait(self) -> int:
        """Wait until it ends; its exit status. Raises RunError where the engine could not start it."""
        status = self._process.wait()
        if isinstance(self._log, _Echo):
            self._log.text()  # all of it, before what we say
        if error := self._engine_error():
            raise error
        return status if status >= 0 else 128 - status

    def _engine_error(self) -> RunError | None:
        """Why the engine could not start the container, where that is how it has ended."""
        if self._program.kill is None or self._process.returncode not in _ENGINE_FAILED:
            return None
        said = self._printed()
        # Once, here too.
        why = "it says why above" if isinstance(self._log, _Echo | None) else f"it said:\n{_end(said)}"
        return RunError(
            f"{self._program.command[0]} could not start the container; {why}",
            where=shlex.join(self._program.command),
            hint=engine_hint(said),
        )

    def terminate(self) -> None:
        """Let it answer what it has accepted, and end. How long that may take is its own setting."""
        self._process.terminate()

    def stop(self) -> int:
        """Do likewise, and wait for it; its exit status."""
        self.terminate()
        return self.wait()

    def kill(self) -> None:
        """End it now, and the container with it."""
        with suppress(ProcessLookupError):
            # A session of its own: what a wrapper has started goes with it.
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        if self._program.kill is not None:
            # Of the container that was killed is only the engine's client.
            subprocess.run(self._program.kill, capture_output=True, check=False)


def _end(said: str) -> str:
    """Last words, in whole lines."""
    return said if len(said) <= _SAID else said[-_SAID:].partition("\n")[2] or said[-_SAID:]


class _Echo:
    """Passes on what a server prints to our standard error, and keeps the end of it."""

    def __init__(self, source: int) -> None:
        """source: a pipe's end, closed at its end."""
        self._source = source
        self._kept = b""
        self._thread = threading.Thread(target=self._run, name="tungsten-echo", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while data := os.read(self._source, 1 << 16):
            self._kept = (self._kept + data)[-_KEPT:]
            with suppress(OSError):  # nobody reads it any more
                left = memoryview(data)
                while left:
                    left = left[os.write(_STDERR, left) :]
        os.close(self._source)

    def text(self) -> str:
        """What it has printed last, once it has ended."""
        self._thread.join(_END_SECONDS)
        return self._kept.decode(errors="replace")


@contextmanager
def running(program: Program, log: Path | None = None, *, echo: bool = False) -> Iterator[Running]:
    """Start a server, and end it with the block.

    log: a file for what it prints; None: our standard error. echo: whether the end of the latter is kept, too.
    """
    from tungstenkit.run.client import Client

    # What takes time comes first: who interrupts a server that has started wants it to answer what it has accepted.
    client = Client(program.address.url, here=True)
    with ExitStack() as stack:
        pipe = os.pipe() if echo else None
        output: int | IO[bytes] = _STDERR
        if pipe is not None:
            output = pipe[1]
        elif log is not None:
            output = stack.enter_context(log.open("wb"))
        process = stack.enter_context(
            subprocess.Popen(
                program.command,
                env=program.environment,
                pass_fds=program.inherited,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                # Ctrl-C is for us alone: we tell the server once.
                start_new_session=True,
            )
        )
        if pipe is None:
            server = Running(program, client, process, log)
        else:
            os.close(pipe[1])
            server = Running(program, client, process, _Echo(pipe[0]))
        try:
            yield server
        finally:
            # Where a signal has ended an engine's client, the container may live on.
            if process.poll() is None or process.returncode < 0:
                server.kill()
