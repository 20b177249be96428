"""The server's end of one model process: start it, give it batches, notice its death, end it.

The process is `worker/main.py` under the model's interpreter, the leader of a session and process group of its
own, so that whatever the user's code has started ends with it. One thread, the driver, calls everything here
but `kill`, and waits in `receive` alone; one more, the reaper, waits for the process to exit, and a third reads what
it prints.
"""

from __future__ import annotations

import json
import math
import mmap
import os
import select
import signal
import socket
import subprocess
import threading
import time
from collections import deque
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from tungsten_server.words.logs import LogPipe
from tungsten_server.words.prediction import Answer, Failure, Outcome, Output
from tungsten_server.worker import frames

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tungsten_server.words.logs import Log

_WORKER = Path(__file__).parent.parent / "worker" / "main.py"

_MOST_BUFFERS = 64
"""Frames in one system call; the kernel's own limit is 1024."""

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


class Doing(NamedTuple):
    """The numbers of the batches that a model process is doing something with; 0 where there is none."""

    reading: int = 0
    """Its JSON is read."""
    predicting: int = 0
    """It is inside the user's `predict`."""
    writing: int = 0
    """Its files are encoded."""


class Answers(NamedTuple):
    """Answers to inputs that stand together in a batch."""

    number: int
    """The batch's."""
    place: int
    """Of the first input, in the batch."""
    answers: list[Answer]
    is_early: bool = False
    """Whether the call of `predict` that they are of goes on for other inputs."""


class Pieces(NamedTuple):
    """Pieces of the outputs for some inputs of a batch."""

    number: int
    """The batch's."""
    pieces: list[tuple[int, bytes]]
    """The inputs' places in the batch, each with a piece as JSON."""


class ModelProcess:
    """A running model process."""

    def __init__(self, program: Program, wake_fd: int, told: deque[str]) -> None:
        """Start it: import the module, make an instance of the class, set it up.

        wake_fd: of a non-blocking pipe's read end; what is written to it ends `receive`.
        told: why setups have failed; this one adds its own. The traceback of a reason is printed once.

        The driver calls this, and must outlive the process: Linux sends the parent-death signal when the
        *thread* that started it ends. Raises ModelProcessError.
        """
        self._wake_fd = wake_fd
        self._told = told
        self._scratch = f"tungsten-{os.urandom(8).hex()}"
        """The name of the folder in which the process has its temporary files, if it has any."""
        self._socket, theirs = socket.socketpair()
        self._log_pipe = LogPipe()
        doing = os.memfd_create("doing")
        try:
            os.ftruncate(doing, frames.DOING.size)
            self._shared = mmap.mmap(doing, frames.DOING.size)
            for end in (self._socket, theirs):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SOCKET_BUFFER)
            self._socket.setblocking(False)
            self._process = self._start(program, theirs.fileno(), doing)
        except OSError as error:
            self._socket.close()
            self._log_pipe.close_read_end()
            msg = f"the model process can't be started: {error}"
            raise ModelProcessError(msg) from error
        finally:
            theirs.close()
            os.close(self._log_pipe.write_end)
            os.close(doing)
        self._decoder = frames.Decoder()
        self._unsent: deque[memoryview] = deque()
        self._capture = ExitStack()
        """Closed when the demo that runs is answered."""
        self._captured = 0
        """How many inputs of it are not answered yet."""
        self._poll = select.poll()
        self._poll.register(self._wake_fd, select.POLLIN)
        self._gone = threading.Event()
        # Held to signal the group and to reap its leader, so that no signal goes to an id that is free again.
        self._reap_lock = threading.Lock()
        self._log_pipe.start(f"log-{self.pid}")
        threading.Thread(target=self._reap, name=f"reaper-{self.pid}", daemon=True).start()

    def _start(self, program: Program, theirs: int, doing: int) -> subprocess.Popen[bytes]:
        """Start the process. theirs, doing: file descriptors of its end of the socket and of the shared memory."""
        log = self._log_pipe.write_end
        arguments = {
            "socket": theirs,
            "log": log,
            "doing": doing,
            "server": os.getpid(),
            "folder": str(program.model_dir),
            "module": program.module,
            "class": program.class_name,
            "scratch": self._scratch,
            "max-output": program.max_output,
            "max-pixels": program.max_pixels,
            "told": list(self._told),
        }
        # -u, so that what is printed last is not lost with the process, and a demo shows half lines.
        return subprocess.Popen(
            [program.python, "-u", _WORKER, json.dumps(arguments)],
            stdin=subprocess.DEVNULL,
            cwd=program.model_dir,
            pass_fds=[theirs, log, doing],
            start_new_session=True,
        )

    @property
    def pid(self) -> int:
        """Its process id, and that of its group."""
        return self._process.pid

    @property
    def doing(self) -> Doing:
        """What it does, or did when it died."""
        return Doing(*frames.DOING.unpack_from(self._shared))

    def wait_ready(self, timeout: float) -> None:
        """Wait for the end of `setup`, at most `timeout` seconds.

        Raises ModelProcessError; then the process is gone.
        """
        deadline = time.monotonic() + timeout
        received: list[frames.Frame] = []
        while not received:
            received = self._receive(deadline, timeout, "setup")
        ((kind, parts),) = received
        if kind == frames.SETUP_FAILED:
            self.close(grace=1.0)
            reason = parts[0].decode()
            self._told.append(reason)
            raise ModelProcessError(reason)

    def begin(
        self, number: int, owners: Sequence[int], inputs: Sequence[bytes], log: Log | None = None
    ) -> None:
        """Have it run a batch of JSON inputs, after those that it has already. `receive` sends it.

        number: the batch's; they rise from 1.
        owners: for each input the number of its request, and whether its pieces are to be told (`frames.PIECES`).
        log: makes it a demo's batch, and gets what is printed meanwhile. All else must be answered before, and it
        before all else begins.
        """
        if log is not None:
            self._capture.enter_context(self._log_pipe.captured(log))
            self._captured = len(inputs)
        kind = frames.RUN if log is None else frames.RUN_DEMO
        self._unsent.append(memoryview(frames.encode(kind, [frames.numbers(number, owners), *inputs])))

    def cancel(self, number: int, places: Sequence[int]) -> None:
        """Tell it that some inputs of a batch need no answer; they get one all the same. `receive` sends it.

        `predict` is interrupted if it runs, lets itself be interrupted, and no input of the batch needs an answer.
        """
        self._unsent.append(memoryview(frames.encode(frames.CANCEL, [frames.numbers(number, places)])))

    def receive(self, deadline: float | None, limit: float) -> list[Answers | Pieces]:
        """Send what there is to send, wait until answers or pieces come, and return them.

        Returns early, perhaps with nothing, when something is written to `wake_fd`.

        deadline: the time when what runs has run for too long; None if nothing does. limit: seconds, for the message.

        Raises ModelProcessError; then the process is gone.
        """
        return self._read_answers(self._receive(deadline, limit, "predict" if deadline else "no call"))

    def _read_answers(self, received: list[frames.Frame]) -> list[Answers | Pieces]:
        found: list[Answers | Pieces] = []
        for kind, (head, *parts) in received:
            number, numbers = frames.read_numbers(head)
            if kind == frames.TELL_PIECES:
                found.append(Pieces(number, list(zip(numbers, parts))))
                continue
            place, *statuses = numbers
            answers = [
                Output(part, demo) if status == frames.SUCCEEDED else Failure(part.decode())
                for status, part, demo in zip(statuses, parts[::2], parts[1::2])
            ]
            self._captured -= len(answers)
            if self._captured <= 0:
                self._capture.close()
            found.append(Answers(number, place, answers, kind == frames.EARLY_ANSWERS))
        return found

    def close(self, grace: float) -> None:
        """End it: by closing its socket, and by SIGKILL where it still runs after `grace` seconds.

        Returns when it is gone.
        """
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)
        self._gone.wait(grace)
        self.kill()
        self._gone.wait()
        self._capture.close()
        self._socket.close()

    def kill(self) -> None:
        """Kill its group, which ends the driver's wait with ModelProcessError. For any thread."""
        with self._reap_lock, suppress(ProcessLookupError):
            if self._process.returncode is None:
                os.killpg(self.pid, signal.SIGKILL)

    def _receive(self, deadline: float | None, limit: float, doing: str) -> list[frames.Frame]:
        """Return the frames that have come whole; none if there was only a part of one, or a call to wake."""
        try:
            self._send()
            self._poll.register(self._socket, select.POLLIN | (select.POLLOUT if self._unsent else 0))
            wait = None if deadline is None else max(math.ceil((deadline - time.monotonic()) * 1000), 0)
            ready = dict(self._poll.poll(wait))
            if not ready:
                self.close(grace=0.0)
                msg = f"{doing} took longer than {limit:g} seconds, and its process was killed: Timeout"
                raise ModelProcessError(msg, "timeout")
            if self._wake_fd in ready:
                os.read(self._wake_fd, 4096)
            if not ready.get(self._socket.fileno(), 0) & ~select.POLLOUT:
                return []
            data = self._socket.recv(self._decoder.wanted)
        except OSError:
            data = b""
        if not data:
            # It may have closed the socket and run on: then that counts as death too.
            self.close(grace=1.0)
            msg = f"The model process died ({_exit_reason(self._process.returncode)}) during {doing}"
            raise ModelProcessError(msg)
        return self._decoder.feed(data)

    def _send(self) -> None:
        """Send as much as goes without waiting."""
        while self._unsent:
            try:
                sent = self._socket.sendmsg(list(islice(self._unsent, _MOST_BUFFERS)))
            except BlockingIOError:
                return
            except OSError:  # it is dead: reading finds out how far it came
                self._unsent.clear()
                return
            while sent:
                first = self._unsent.popleft()
                if sent < len(first):
                    self._unsent.appendleft(first[sent:])
                sent -= min(sent, len(first))

    def _reap(self) -> None:
        """Wait for the leader, and kill what is left of its group."""
        # Not reaped yet: as a zombie it still holds its id, so the group can't be somebody else's.
        os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
        self.kill()
        with self._reap_lock:
            self._process.wait()
        self._remove_scratch()
        # A grandchild may hold the other end of the socket open, so the end of file has to come from here.
        # What the process had sent stays readable.
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._gone.set()

    def _remove_scratch(self) -> None:
        """Remove what a process that was killed leaves behind."""
        # Here, since the process is to start before all else is imported.
        import shutil
        import tempfile

        with suppress(FileNotFoundError):  # no folder for temporary files can be written
            shutil.rmtree(Path(tempfile.gettempdir(), self._scratch), ignore_errors=True)


def _exit_reason(returncode: int) -> str:
    return f"signal {-returncode}" if returncode < 0 else f"exit status {returncode}"
