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
from typing import TYPE_CHECKING, Callable

from tungsten_server.model_process import ModelProcess, ModelProcessError
from tungsten_server.prediction import Failure

if TYPE_CHECKING:
    from tungsten_server.dispatcher import Dispatcher

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


class Driver:
    """One model process after the other, until the server stops or there is no hope.

    dispatcher: has the batches.
    number: tells drivers apart in the log.
    start_process: starts a model process; its argument is the `wake_fd`, see there.
    setup_timeout, prediction_timeout: seconds. The latter limits a call of predict.
    max_setups: failed setups in a row that end the server.
    backoff: seconds to wait after the first failed setup, doubled after each more; so too, from the second on,
        after model processes that were gone before they answered anything.
    """

    def __init__(
        self,
        dispatcher: Dispatcher,
        number: int,
        start_process: Callable[[int], ModelProcess],
        setup_timeout: float,
        prediction_timeout: float,
        max_setups: int,
        backoff: float,
    ) -> None:
        """Prepare; nothing runs before `start`."""
        self.number = number
        self._dispatcher = dispatcher
        self._start_process = start_process
        self._setup_timeout = setup_timeout
        self._prediction_timeout = prediction_timeout
        self._max_setups = max_setups
        self._backoff = backoff
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
            self._dispatcher.give_up("internal error")  # rather than accept what nobody will run

    def _drive(self) -> None:
        failed_setups = 0
        futile_lives = 0  # in a row: ready, but gone before it answered anything
        while not self._dispatcher.is_stopping() and not self._dispatcher.fatal:
            began = time.monotonic()
            try:
                process = self._set_up()
            except ModelProcessError as error:
                if self._dispatcher.is_stopping():
                    return
                failed_setups += 1
                self._dispatcher.set_unready(self, f"setup failed, trying again: {error}")
                _log.error("setup failed (%d of %d): %s", failed_setups, self._max_setups, error)
                if failed_setups == self._max_setups:
                    times = f" {failed_setups} times in a row" if failed_setups > 1 else ""
                    self._dispatcher.give_up(f"setup failed{times}: {error}")
                    return
                self._pause(failed_setups - 1)
                continue
            failed_setups = 0
            _log.info("ready pid=%d setup_seconds=%.2f", process.pid, time.monotonic() - began)
            self._dispatcher.set_ready(self, process)
            futile_lives = 0 if self._serve(process) else futile_lives + 1
            if not self._dispatcher.is_stopping():
                _log.warning("restart of the model process")
                self._dispatcher.count_restart()
            if futile_lives > 1:
                self._pause(futile_lives - 2)

    def _set_up(self) -> ModelProcess:
        self._process = process = self._start_process(self._wake_fd)
        if (
            self._dispatcher.is_stopping()
        ):  # the order to kill may have come before this process could be seen
            process.close(grace=0.0)
            msg = "the server is stopping"
            raise ModelProcessError(msg)
        process.wait_ready(self._setup_timeout)
        return process

    def _serve(self, process: ModelProcess) -> bool:
        """Give it batches until it is gone or the server stops; return whether it has answered any."""
        useful = False
        since = 0.0  # when it was idle last, or gave its last answers
        try:
            while True:
                orders = self._dispatcher.next(self, self._ahead())
                if orders is None:
                    process.close(_CLOSE_GRACE)
                    return useful
                for batch in orders.batches:
                    process.begin(batch.number, batch.owners, [task.json for task in batch.tasks], batch.log)
                for number, places in orders.unwanted:
                    process.cancel(number, places)
                if orders.was_idle:
                    since = time.monotonic()
                deadline = since + self._prediction_timeout if orders.busy else None
                received = process.receive(deadline, self._prediction_timeout)
                if received:
                    now = time.monotonic()
                    # Those that came together have shared the time; half of what was known is kept.
                    self._seconds += ((now - since) / len(received) - self._seconds) / 2
                    since, useful = now, True
                    self._doubted -= min(len(received), self._doubted)
                    self._dispatcher.answer(self, received)
        except ModelProcessError as error:
            if not self._dispatcher.is_stopping():
                _log.error("%s", error)
            self._doubted = _TRUSTED_AFTER
            self._dispatcher.lose(self, Failure(str(error), error.outcome))
            return useful
        finally:
            self._dispatcher.set_unready(self, "the model process is being restarted")

    def _ahead(self) -> int:
        """How many full batches may wait in the process behind the one that runs.

        One, so that the model need not wait for the next; more would be missed by other processes. But a batch that
        takes no longer than handing it over is best handed over with others.
        """
        if self._doubted:
            return 0
        return _AHEAD_OF_QUICK if self._seconds < _QUICK_SECONDS else 1

    def _pause(self, doublings: int) -> None:
        self._dispatcher.pause(min(self._backoff * 2 ** min(doublings, 30), _MAX_PAUSE))
