"""What the model prints during a demo: a bounded log, and the pipe that fills it while the model runs.

The worker points its file descriptors 1 and 2 at the pipe for as long as a demo's batch runs, so output of C
libraries and of child processes is caught, too. One thread for each model process reads the pipe; the driver
says whose log it fills; HTTP threads read the log at any time.
"""

from __future__ import annotations

import os
import select
import threading
from collections import deque
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_LOG = 256 * 1024
"""Bytes kept of one prediction's log, its end: thousands of lines, yet small enough to be asked for twice a second."""

_CUT = "… (the beginning was cut)\n"

_CAPACITY = 65536
"""Bytes that a pipe holds (pipe(7))."""


class Log:
    """The last MAX_LOG bytes of what was printed. For any thread."""

    def __init__(self, limit: int = MAX_LOG) -> None:
        """Be empty. limit: bytes kept."""
        self._limit = limit
        self._chunks: deque[bytes] = deque()
        self._size = 0
        self._cut = False
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """Bytes kept."""
        return self._size

    def append(self, data: bytes) -> None:
        """Add what was printed; forget what came first where it is too much."""
        with self._lock:
            self._chunks.append(data)
            self._size += len(data)
            while self._size > self._limit:
                self._cut = True
                first = self._chunks.popleft()
                kept = first[self._size - self._limit :]
                if kept:
                    self._chunks.appendleft(kept)
                self._size -= len(first) - len(kept)

    def text(self) -> str:
        """All that is kept, as text; bytes that are not UTF-8 are replaced."""
        with self._lock:
            cut, data = self._cut, b"".join(self._chunks)
        return (_CUT if cut else "") + data.decode(errors="replace")


class LogPipe:
    """A pipe for what a model process prints. All of it also goes to the container's log."""

    def __init__(self) -> None:
        """Open it. Close `write_end` once the model process has it."""
        self._read_end, self.write_end = os.pipe()
        os.set_blocking(self._read_end, False)
        self._log: Log | None = None
        # Guards the above, and keeps two readers from swapping what they read.
        self._lock = threading.Lock()

    def start(self, name: str) -> None:
        """Start the reading thread, which ends when every process that could write is gone."""
        threading.Thread(target=self._read, name=name, daemon=True).start()

    def close_read_end(self) -> None:
        """Close it, where no process was started."""
        os.close(self._read_end)

    @contextmanager
    def captured(self, log: Log) -> Iterator[None]:
        """Append to `log` what is written in the meantime, all of it: what is in the pipe at the end, too."""
        with self._lock:
            self._drain()
            self._log = log
        try:
            yield
        finally:
            with self._lock:
                self._drain()
                self._log = None

    def _read(self) -> None:
        poll = select.poll()
        poll.register(self._read_end, select.POLLIN)
        more = True
        while more:
            poll.poll()
            with self._lock:
                more = self._drain()
                if not more:
                    os.close(self._read_end)
                    self._read_end = -1

    def _drain(self) -> bool:
        """Read what is there; holds the lock. Returns whether more may come.

        One read gets all that a pipe can hold. Reading until nothing is left might never end.
        """
        if self._read_end < 0:
            return False
        try:
            data = os.read(self._read_end, _CAPACITY)
        except BlockingIOError:
            return True
        if self._log is not None:
            self._log.append(data)
        with suppress(OSError):  # the container's log is gone: that is no reason to stop
            os.write(2, data)
        return bool(data)
