"""The server's end of one model process: start it, give it batches, notice its death, end it.

The process is `worker.py` under the model's interpreter, the leader of a session and process group of its
own, so that whatever the user's code has started ends with it. One thread, the driver, calls everything here
but `kill` and `interrupt`; one more, the reaper, waits for the process to exit, and a third reads what it prints.
"""

from __future__ import annotations

import json
import mmap
import os
import signal
import socket
import subprocess
import threading
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Callable

from tungsten_server import frames
from tungsten_server.logs import LogPipe
from tungsten_server.prediction import Answer, Failure, Outcome, Output

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from tungsten_server.logs import Log

_WORKER = Path(__file__).with_name("worker.py")

_SOCKET_BUFFER = 1024 * 1024
"""Asked for, in bytes; a batch that fits needs one wake-up of the other side. The kernel may grant less."""


class ModelProcessError(Exception):
    """The model process could not be started or set up, has died, or was killed for taking too long.

    Its text is short and fit for clients; what the user's code said about it stands on stderr.
    """

    def __init__(self, message: str, outcome: Outcome = "failed") -> None:
        """outcome: what becomes of the predictions that were running."""
        super().__init__(message)
        self.outcome = outcome


@dataclass(frozen=True)
class Program:
    """What a model process runs, and what it may."""

    python: Path
    model_dir: Path
    module: str
    class_name: str
    max_output: int
    """Bytes of one output's JSON."""
    max_pixels: int
    """Pixels of an image that is read."""


class ModelProcess:
    """A running model process."""

    def __init__(self, program: Program, on_exit: Callable[[], None]) -> None:
        """Start it: import the module, make an instance of the class, set it up.

        on_exit: called by the reaper once the process and its group are gone.

        The driver calls this, and must outlive the process: Linux sends the parent-death signal when the
        *thread* that started it ends. Raises ModelProcessError.
        """
        self._on_exit = on_exit
        self._socket, theirs = socket.socketpair()
        self._log_pipe = LogPipe()
        canceled = os.memfd_create("canceled-batch")
        try:
            os.ftruncate(canceled, frames.NUMBER.size)
            self._canceled = mmap.mmap(canceled, frames.NUMBER.size)
            for end in (self._socket, theirs):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SOCKET_BUFFER)
            arguments = {
                "socket": theirs.fileno(),
                "log": self._log_pipe.write_end,
                "canceled": canceled,
                "server": os.getpid(),
                "folder": str(program.model_dir),
                "module": program.module,
                "class": program.class_name,
                "max-output": program.max_output,
                "max-pixels": program.max_pixels,
            }
            # -u, so that what is printed last is not lost with the process, and a demo shows half lines.
            self._process = subprocess.Popen(
                [program.python, "-u", _WORKER, json.dumps(arguments)],
                stdin=subprocess.DEVNULL,
                cwd=program.model_dir,
                pass_fds=[theirs.fileno(), self._log_pipe.write_end, canceled],
                start_new_session=True,
            )
        except OSError as error:
            self._socket.close()
            self._log_pipe.close_read_end()
            msg = f"the model process can't be started: {error}"
            raise ModelProcessError(msg) from error
        finally:
            theirs.close()
            os.close(self._log_pipe.write_end)
            os.close(canceled)
        self._stream = self._socket.makefile("rb")
        self._gone = threading.Event()
        # Held to signal the group and to reap its leader, so that no signal goes to an id that is free again.
        self._reap_lock = threading.Lock()
        self._log_pipe.start(f"log-{self.pid}")
        threading.Thread(target=self._reap, name=f"reaper-{self.pid}", daemon=True).start()

    @property
    def pid(self) -> int:
        """Its process id, and that of its group."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return not self._gone.is_set()

    def wait_ready(self, timeout: float) -> None:
        """Wait for the end of `setup`, at most `timeout` seconds.

        Raises ModelProcessError; then the process is gone.
        """
        kind, parts = self._receive(timeout, "setup")
        if kind == frames.SETUP_FAILED:
            self.close(grace=1.0)
            raise ModelProcessError(parts[0].decode())

    def run(
        self, number: int, inputs: Sequence[bytes], timeout: float, log: Log | None = None
    ) -> Generator[list[Answer], None, None]:
        """Run one batch of JSON inputs; yield the answers in order, in one list or, after a failure, in several.

        number: the batch's, for `interrupt`; they rise from 1.
        timeout: seconds between two lists, that is, for one call of `predict`.
        log: makes it a demo's batch, and gets what is printed meanwhile.

        Raises ModelProcessError; then the process is gone, and the inputs without an answer won't get one.
        """
        kind = frames.RUN if log is None else frames.RUN_DEMO
        self._socket.settimeout(timeout)
        with nullcontext() if log is None else self._log_pipe.captured(log):
            with suppress(OSError):  # it is dead or hangs: the next lines find out which
                frames.send(self._socket, kind, [frames.NUMBER.pack(number), *inputs])
            answered = 0
            while answered < len(inputs):
                _, (statuses, *parts) = self._receive(timeout, "predict")
                answers: list[Answer] = [
                    Output(part, demo) if status == frames.SUCCEEDED else Failure(part.decode())
                    for status, part, demo in zip(statuses, parts[::2], parts[1::2])
                ]
                answered += len(answers)
                yield answers

    def interrupt(self, number: int) -> None:
        """Have the batch with this number end early, if it runs and its code lets itself be interrupted.

        For any thread. Nothing else happens if the batch has ended or not begun.
        """
        frames.NUMBER.pack_into(self._canceled, 0, number)
        with self._reap_lock, suppress(ProcessLookupError):
            if self._process.returncode is None:
                os.kill(self.pid, frames.CANCEL_SIGNAL)

    def close(self, grace: float) -> None:
        """End it: by closing its socket, and by SIGKILL where it still runs after `grace` seconds.

        Returns when it is gone.
        """
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)
        self._gone.wait(grace)
        self.kill()
        self._gone.wait()
        self._stream.close()
        self._socket.close()

    def kill(self) -> None:
        """Kill its group, which ends the driver's wait with ModelProcessError. For any thread."""
        with self._reap_lock, suppress(ProcessLookupError):
            if self._process.returncode is None:
                os.killpg(self.pid, signal.SIGKILL)

    def _receive(self, timeout: float, doing: str) -> tuple[int, list[bytes]]:
        self._socket.settimeout(timeout)
        try:
            return frames.receive(self._stream)
        except socket.timeout as error:  # not yet TimeoutError in Python 3.9
            self.close(grace=0.0)
            msg = f"{doing} took longer than {timeout:g} seconds, and its process was killed: Timeout"
            raise ModelProcessError(msg, "timeout") from error
        except (EOFError, OSError) as error:
            # It may have closed the socket and run on: then that counts as death too.
            self.close(grace=1.0)
            msg = f"The model process died ({_exit_reason(self._process.returncode)}) during {doing}"
            raise ModelProcessError(msg) from error

    def _reap(self) -> None:
        """Wait for the leader, kill what is left of its group, and wake the driver."""
        # Not reaped yet: as a zombie it still holds its id, so the group can't be somebody else's.
        os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
        self.kill()
        with self._reap_lock:
            self._process.wait()
        # A grandchild may hold the other end of the socket open, so the end of file has to come from here.
        # What the process had sent stays readable.
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._gone.set()
        self._on_exit()


def _exit_reason(returncode: int) -> str:
    return f"signal {-returncode}" if returncode < 0 else f"exit status {returncode}"
