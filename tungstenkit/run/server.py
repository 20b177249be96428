"""A running server and what it prints.

`running` owns the process: it ends with the `with` block at the latest, or, where a keeper stands between, with us.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING

from tungstenkit.lacks import engine_hint
from tungstenkit.run import keeper
from tungstenkit.run.faults import fault_of, last_attempt, last_fault, why_it_gave_up
from tungstenkit.sdk.errors import RunError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

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

_FAULT_SECONDS = 1.0
"""How long what a server says of a fault may come after the answer that says less of it."""

_GONE_SECONDS = 10.0
"""How long one that does not answer may take to be gone: an engine clears its container away before."""

_STDERR = 2


def to_stderr(data: bytes) -> None:
    """Pass on what a server prints to our standard error."""
    with suppress(OSError):  # nobody reads it any more
        left = memoryview(data)
        while left:
            left = left[os.write(_STDERR, left) :]


class Running:
    """A started server."""

    def __init__(
        self,
        program: Program,
        client: Client,
        process: subprocess.Popen[bytes],
        log: Path | _Echo | None,
        held: int | None = None,
    ) -> None:
        """Note what was started.

        log: where it prints, if it isn't where we do alone. held: the file descriptor that its keeper watches.
        """
        self._program = program
        self._log = log
        self._process = process
        self._held = held
        self._owner = os.getpid()
        self.url = program.address.url
        self.client = client

    @property
    def has_ended(self) -> bool:
        """Whether its first process has."""
        return self._process.poll() is not None

    @property
    def is_ours(self) -> bool:
        """Whether this process has started it; one that was forked since has not."""
        return os.getpid() == self._owner

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
        frames = "" if self._is_shown else f"\n{fault.frames}"
        return RunError(f"setup fails: {fault.reason}{frames}", where=fault.where, hint=fault.hint)

    def prediction_error(self, problem: PredictionError) -> PredictionError:
        """What a prediction that failed says of the model's own code, as soon as the log has it."""
        deadline = time.monotonic() + _FAULT_SECONDS
        while True:
            has_ended = self.has_ended
            fault = fault_of(problem.reason, self._printed(), self._program.folder, self._program.here)
            if fault is not None or has_ended or time.monotonic() > deadline:
                break
            time.sleep(_FAULT_SECONDS / 50)
        if fault is None or fault.where is None:
            # What was returned is at fault, and the problem says how.
            return problem
        return problem.reworded(f"{problem.what}\n{fault.frames}", where=fault.where, hint=fault.hint)

    def ends(self) -> bool:
        """Whether one that gave no good answer has ended, or is about to: its port is closed before it is gone."""
        deadline = time.monotonic() + _GONE_SECONDS
        while not self.has_ended and time.monotonic() < deadline and not self.client.answers("/healthz"):
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(0.1)
        return self.has_ended

    def end_error(self) -> RunError:
        """Why it does not answer any more, once it has ended."""
        printed = self._printed()
        what = ": ".join(filter(None, ["the model's server has ended", why_it_gave_up(printed)]))
        return RunError(f"{what}; it said:\n{_end(printed)}", where=shlex.join(self._program.command))

    def _printed(self) -> str:
        if isinstance(self._log, Path):
            return self._log.read_text(errors="replace").strip()
        return self._log.text(wait=self.has_ended).strip() if self._log is not None else ""

    @property
    def _is_shown(self) -> bool:
        """Whether a person has seen what it prints."""
        return self._log is None or (isinstance(self._log, _Echo) and self._log.shown)

    def wait(self) -> int:
        """Wait until it ends; its exit status. Raises RunError where the engine could not start it."""
        status = self._process.wait()
        if isinstance(self._log, _Echo):
            self._log.text(wait=True)  # all of it, before what we say
        if error := self._engine_error():
            raise error
        return status if status >= 0 else 128 - status

    def _engine_error(self) -> RunError | None:
        """Why the engine could not start the container, where that is how it has ended."""
        if self._program.kill is None or self._process.returncode not in _ENGINE_FAILED:
            return None
        said = self._printed()
        # Once, here too.
        why = "it says why above" if self._is_shown else f"it said:\n{_end(said)}"
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

    def stop_within(self, seconds: float) -> None:
        """Do likewise, and end it after so many seconds, if it hasn't ended by then."""
        self.terminate()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)
            return
        self.kill()

    def leave(self) -> None:
        """Be a forked process that has not started it, and whose end is not to be waited for by the keeper."""
        self._process.returncode = 0  # nor is it waited for here
        if self._held is not None:
            os.close(self._held)
        if isinstance(self._log, _Echo):
            self._log.leave()

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
    """Passes on what a server prints, and keeps the end of it."""

    def __init__(self, source: int, say: Callable[[bytes], None]) -> None:
        """source: a pipe's end, closed at its end. say: is told it in pieces, in a thread of its own."""
        self._source = source
        self._say = say
        self._kept = b""
        self.shown = say is to_stderr
        self._thread = threading.Thread(target=self._run, name="tungsten-echo", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while data := os.read(self._source, 1 << 16):
            self._kept = (self._kept + data)[-_KEPT:]
            self._say(data)
        source, self._source = self._source, -1
        os.close(source)

    def leave(self) -> None:
        """Read no more: a forked process has not the thread."""
        if self._source >= 0:
            os.close(self._source)

    def text(self, *, wait: bool) -> str:
        """What it has printed last. wait: to the end, where it has ended."""
        if wait:
            self._thread.join(_END_SECONDS)
        return self._kept.decode(errors="replace")


@contextmanager
def running(
    program: Program,
    log: Path | None = None,
    *,
    echo: Callable[[bytes], None] | None = None,
    kept: Path | None = None,
) -> Iterator[Running]:
    """Start a server, and end it with the block.

    log: a file for what it prints; None: our standard error. echo: is told that in its place, and the end of it is
    kept, too. kept: the folder that is the server's alone: a keeper ends the server with this process, in whatever way
    that ends, and removes the folder then.
    """
    from tungstenkit.run.client import Client

    # What takes time comes first: who interrupts a server that has started wants it to answer what it has accepted.
    client = Client(program.address.url, here=True)
    with ExitStack() as stack:
        pipe = os.pipe() if echo is not None else None
        output: int | IO[bytes] = _STDERR
        if pipe is not None:
            output = pipe[1]
        elif log is not None:
            output = stack.enter_context(log.open("wb"))
        keeping = stack.enter_context(_Keeping(program, kept)) if kept is not None else None
        process = stack.enter_context(
            subprocess.Popen(
                program.command if keeping is None else keeping.command,
                env=program.environment,
                pass_fds=program.inherited if keeping is None else (*program.inherited, keeping.watched),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                # Ctrl-C is for us alone: we tell the server once.
                start_new_session=True,
            )
        )
        held = keeping.begun() if keeping is not None else None
        if pipe is None or echo is None:
            server = Running(program, client, process, log, held)
        else:
            os.close(pipe[1])
            server = Running(program, client, process, _Echo(pipe[0], echo), held)
        try:
            yield server
        finally:
            # Where a signal has ended an engine's client, the container may live on.
            if server.is_ours and (process.poll() is None or process.returncode < 0):
                server.kill()


class _Keeping(AbstractContextManager["_Keeping"]):
    """A keeper before a server: a pipe whose one end it watches, and whose other end is closed with this process."""

    def __init__(self, program: Program, scratch: Path) -> None:
        """scratch: the folder that it removes."""
        self.watched, self._held = os.pipe()
        self._owner = os.getpid()
        plan = json.dumps({"kill": program.kill, "scratch": str(scratch)})
        keep = [sys.executable, "-I", "-S", "-B", keeper.__file__, str(self.watched), plan]
        self.command = [*keep, *program.command]

    def begun(self) -> int:
        """Leave the one end to the keeper, which has it by now; return the other one."""
        os.close(self.watched)
        self.watched = -1
        return self._held

    def __exit__(self, *_: object) -> None:
        if os.getpid() == self._owner:  # a forked process has closed it: `Running.leave`
            os.close(self._held)
            if self.watched >= 0:
                os.close(self.watched)
