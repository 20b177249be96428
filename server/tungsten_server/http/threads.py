"""The threads that run the application: as many as there is work for, started when it comes, ended when it stays away.

Takes the place of waitress' own task dispatcher, which has all its threads from the start.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from contextlib import suppress
from typing import Protocol

_IDLE_SECONDS = 10.0
"""How long a thread waits for work before it ends."""

_log = logging.getLogger("tungsten.http")


class Task(Protocol):
    """What a thread runs."""

    def service(self) -> None:
        """Run it."""


class TaskThreads:
    """Threads that take tasks from one queue.

    most: threads at a time. idle_seconds: how long one waits for a task before it ends; one is always there.
    """

    def __init__(self, most: int, idle_seconds: float = _IDLE_SECONDS) -> None:
        """Start one thread. Raises RuntimeError where not even that can be had."""
        self._most = most
        self._idle_seconds = idle_seconds
        self._tasks: deque[Task] = deque()
        # Guards what is below, too.
        self._changed = threading.Condition()
        self._count = 0
        self._idle = 0
        """Threads that wait for a task, or have been woken for one and not taken it yet."""
        with self._changed:
            self._start()

    @property
    def count(self) -> int:
        """How many threads there are."""
        return self._count

    def add_task(self, task: Task) -> None:
        """Have a task run: at once where a thread is idle or can be started, else when one has time."""
        with self._changed:
            self._tasks.append(task)
            self._changed.notify()
            self._grow()

    def grow(self) -> None:
        """Start the threads that are missing, where that could not be done when they were needed."""
        with self._changed:
            self._grow()

    def _grow(self) -> None:
        """Start threads for the tasks that no idle one will take; holds the lock."""
        # A process may start no more threads: those that there are will come to it.
        with suppress(RuntimeError):
            while len(self._tasks) > self._idle and self._count < self._most:
                self._start()

    def _start(self) -> None:
        threading.Thread(target=self._work, name="application", daemon=True).start()
        self._count += 1
        self._idle += 1

    def _work(self) -> None:
        while True:
            with self._changed:
                if not self._changed.wait_for(lambda: self._tasks, self._idle_seconds) and self._count > 1:
                    self._idle -= 1
                    self._count -= 1
                    return
                if not self._tasks:
                    continue
                task = self._tasks.popleft()
                self._idle -= 1
            try:
                task.service()
            except BaseException:
                _log.exception("defect in a task")
            del task  # perhaps megabytes, and the next may be long in coming
            with self._changed:
                self._idle += 1
