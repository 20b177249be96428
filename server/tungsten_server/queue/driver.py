"""Keeps one model process running and feeds it batches: a thread that starts it, and another one when it dies.

What there is to run, and who asked for it, is the dispatcher's. Everything here but `wake` and `kill`
happens on the driver's thread.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Callable, Protocol

from tungsten_server.model.process import Answers, ModelProcess, ModelProcessError
from tungsten_server.words.prediction import Failure
from tungsten_server.worker import events

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tungsten_server.model.process import Pieces
    from tungsten_server.queue.batches import Orders

_MAX_PAUSE = 30.0
"""Seconds between two starts of a model process that does nothing but die."""

_CLOSE_GRACE = 2.0
"""Seconds that a model process gets to leave by itself: `atexit` functions, threads of the user's."""

_QUICK_SECONDS = 0.0005
"""Below it, a batch takes about as long as waking the model process for it."""

_AHEAD_OF_QUICK = 7

_TRUSTED_AFTER = 32
"""Answered batches after which a process that took a dead one's place gets batches ahead: of one that keeps dying they
would only have to be sent again."""

_log = logging.getLogger("tungsten.model")


@dataclass(frozen=True)
class Patience:
    """The bounds of a driver's patience: how long its model processes may take, and how often they may fail."""

    setup_timeout: float
    """Seconds."""
    prediction_timeout: float
    """Seconds of one call of predict."""
    max_setups: int
    """Failed setups in a row that end the server."""
    backoff: float = 0.5
    """Seconds to wait after the first failed setup, doubled after each more; so too, from the second on, after model
    processes that were gone before they answered anything."""


class Queue(Protocol):
    """The dispatcher, which has the batches, as a driver needs it. Every call may come from any driver's thread."""

    @property
    def fatal(self) -> str | None:
        """Why the server can't go on; None while it can."""

    def next(self, driver: Driver, ahead: int) -> Orders | None:
        """Say what to do next; None when the server stops.

        ahead: how many full batches may wait behind the one that runs.
        """

    def take_answers(self, driver: Driver, received: Sequence[Answers | Pieces]) -> None:
        """Take answers to items of the driver's batches, and pieces of them."""

    def settle_lost(self, driver: Driver, failure: Failure) -> None:
        """Settle what the driver's process had when it was lost."""

    def set_ready(self, driver: Driver, process: ModelProcess) -> None:
        """Note that the driver's process is set up."""

    def set_unready(self, driver: Driver, reason: str) -> None:
        """Note that it is not, and why."""

    def count_restart(self) -> None:
        """Note that a process takes the place of another."""

    def give_up(self, reason: str) -> None:
        """End the server, because of this."""

    def is_stopping(self) -> bool:
        """Whether the server stops."""

    def pause(self, seconds: float) -> None:
        """Wait, but not longer than until the server stops."""


class Driver:
    """One model process after the other, until the server stops or there is no hope.

    queue: has the batches.
    number: tells drivers apart in the log.
    start_process: starts a model process; its argument is the `wake_fd`, see there.
    """

    def __init__(
        self,
        queue: Queue,
        number: int,
        start_process: Callable[[int], ModelProcess],
        patience: Patience,
    ) -> None:
        """Prepare; nothing runs before `start`."""
        self.number = number
        self._queue = queue
        self._start_process = start_process
        self._patience = patience
        self._process: ModelProcess | None = None
        # Never closed: any thread may write to it at any time, and there are as many as there are drivers.
        self._wake_fd, self._wake_pipe = os.pipe()
        for fd in (self._wake_fd, self._wake_pipe):
            os.set_blocking(fd, False)
        self._seconds = 1.0
        """How long a batch takes, about; unknown at first."""
        self._doubted = 0
        """How many batches are to be answered before one is sent ahead again."""
        self._thread = threading.Thread(target=self._live, name=f"driver-{number}", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def join(self) -> None:
        """Wait for the thread's end, which comes once the dispatcher stops and the process is idle or killed."""
        if self._thread.is_alive():
            self._thread.join()

    def wake(self) -> None:
        """Have it ask the dispatcher what there is to do. For any thread; never waits."""
        with suppress(BlockingIOError):  # full of calls that it has not seen yet
            os.write(self._wake_pipe, b"!")

    def kill(self) -> None:
        """Kill the process. For any thread."""
        if self._process:
            self._process.kill()

    def _live(self) -> None:
        try:
            self._drive()
        except Exception:
            _log.exception("defect in the driver")
            self._queue.give_up("internal error")  # rather than accept what nobody will run

    def _drive(self) -> None:
        failed_setups = 0
        futile_lives = 0  # in a row: ready, but gone before it answered anything
        while not self._queue.is_stopping() and not self._queue.fatal:
            began = time.monotonic()
            try:
                process = self._set_up()
            except ModelProcessError as error:
                if self._queue.is_stopping():
                    return
                failed_setups += 1
                self._queue.set_unready(self, f"setup failed, trying again: {error}")
                _log.error(
                    "[%s] setup failed (%d of %d): %s",
                    events.SETUP_FAILED,
                    failed_setups,
                    self._patience.max_setups,
                    error,
                )
                if failed_setups == self._patience.max_setups:
                    times = f" {failed_setups} times in a row" if failed_setups > 1 else ""
                    self._queue.give_up(f"setup failed{times}: {error}")
                    return
                self._pause(failed_setups - 1)
                continue
            failed_setups = 0
            _log.info("ready pid=%d setup_seconds=%.2f", process.pid, time.monotonic() - began)
            self._queue.set_ready(self, process)
            futile_lives = 0 if self._serve(process) else futile_lives + 1
            if not self._queue.is_stopping():
                _log.warning("restart of the model process")
                self._queue.count_restart()
            if futile_lives > 1:
                self._pause(futile_lives - 2)

    def _set_up(self) -> ModelProcess:
        self._process = process = self._start_process(self._wake_fd)
        if self._queue.is_stopping():  # the order to kill may have come before this process could be seen
            process.close(grace=0.0)
            msg = "the server is stopping"
            raise ModelProcessError(msg)
        process.wait_ready(self._patience.setup_timeout)
        return process

    def _serve(self, process: ModelProcess) -> bool:
        """Give it batches until it is gone or the server stops; return whether it has answered any."""
        useful = False
        since = 0.0  # when it was idle last, or gave its last answers
        try:
            while True:
                orders = self._queue.next(self, self._ahead())
                if orders is None:
                    process.close(_CLOSE_GRACE)
                    return useful
                for batch in orders.batches:
                    process.begin(batch.number, batch.owners, [item.json for item in batch.items], batch.log)
                for number, places in orders.unwanted:
                    process.cancel(number, places)
                if orders.was_idle:
                    since = time.monotonic()
                deadline = since + self._patience.prediction_timeout if orders.busy else None
                received = process.receive(deadline, self._patience.prediction_timeout)
                # What comes before a call has ended gives it no more time.
                ended = sum(isinstance(one, Answers) and not one.is_early for one in received)
                if ended:
                    now = time.monotonic()
                    # Those that came together have shared the time; half of what was known is kept.
                    self._seconds += ((now - since) / ended - self._seconds) / 2
                    since, useful = now, True
                    self._doubted -= min(ended, self._doubted)
                if received:
                    self._queue.take_answers(self, received)
        except ModelProcessError as error:
            if not self._queue.is_stopping():
                _log.error("%s", error)
            self._doubted = _TRUSTED_AFTER
            self._queue.settle_lost(self, Failure(str(error), error.outcome))
            return useful
        finally:
            self._queue.set_unready(self, "the model process is being restarted")

    def _ahead(self) -> int:
        """How many full batches may wait in the process behind the one that runs.

        One, so that the model need not wait for the next; more would be missed by other processes. But a batch that
        takes no longer than handing it over is best handed over with others.
        """
        if self._doubted:
            return 0
        return _AHEAD_OF_QUICK if self._seconds < _QUICK_SECONDS else 1

    def _pause(self, doublings: int) -> None:
        self._queue.pause(min(self._patience.backoff * 2 ** min(doublings, 30), _MAX_PAUSE))
