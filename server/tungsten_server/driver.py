"""Keeps one model process running and feeds it batches: a thread that starts it, and another one when it dies.

What there is to run, and who asked for it, is the dispatcher's. Everything here but `interrupt` and `kill`
happens on the driver's thread.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from contextlib import closing
from typing import TYPE_CHECKING, Callable

from tungsten_server.model_process import ModelProcess, ModelProcessError
from tungsten_server.prediction import Failure

if TYPE_CHECKING:
    from tungsten_server.dispatcher import Batch, Dispatcher

MAX_FAILED_SETUPS = 5
"""Failed setups in a row that end the server: by then the cause is not a passing one."""

_MAX_PAUSE = 30.0
"""Seconds between two starts of a model process that does nothing but die."""

_CLOSE_GRACE = 2.0
"""Seconds that a model process gets to leave by itself: `atexit` functions, threads of the user's."""

_log = logging.getLogger("tungsten.model")


class Driver:
    """One model process after the other, until the server stops or there is no hope.

    dispatcher: has the batches.
    number: tells drivers apart in the log.
    start_process: starts a model process; its argument is to be called when that process is gone.
    setup_timeout, prediction_timeout: seconds. The latter limits a call of predict.
    backoff: seconds to wait after the first failed setup, doubled after each more; so too, from the second on,
        after model processes that were gone before they answered anything.
    """

    def __init__(
        self,
        dispatcher: Dispatcher,
        number: int,
        start_process: Callable[[Callable[[], None]], ModelProcess],
        setup_timeout: float,
        prediction_timeout: float,
        backoff: float,
    ) -> None:
        """Prepare; nothing runs before `start`."""
        self._dispatcher = dispatcher
        self._start_process = start_process
        self._setup_timeout = setup_timeout
        self._prediction_timeout = prediction_timeout
        self._backoff = backoff
        self._process: ModelProcess | None = None
        self._thread = threading.Thread(target=self._live, name=f"driver-{number}", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def join(self) -> None:
        """Wait for the thread's end, which comes once the dispatcher stops and the process is idle or killed."""
        if self._thread.is_alive():
            self._thread.join()

    def interrupt(self, number: int) -> None:
        """Have the batch with this number end early if it runs. For any thread."""
        if self._process:
            self._process.interrupt(number)

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
                _log.error("setup failed (%d of %d): %s", failed_setups, MAX_FAILED_SETUPS, error)
                if failed_setups == MAX_FAILED_SETUPS:
                    self._dispatcher.give_up(f"setup failed {MAX_FAILED_SETUPS} times in a row: {error}")
                    return
                self._pause(failed_setups - 1)
                continue
            failed_setups = 0
            _log.info("ready pid=%d setup_seconds=%.2f", process.pid, time.monotonic() - began)
            self._dispatcher.set_ready(self)
            futile_lives = 0 if self._serve(process) else futile_lives + 1
            if not self._dispatcher.is_stopping():
                _log.warning("restart of the model process")
                self._dispatcher.count_restart()
            if futile_lives > 1:
                self._pause(futile_lives - 2)

    def _set_up(self) -> ModelProcess:
        self._process = process = self._start_process(self._dispatcher.wake)
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
        while True:
            batch = self._dispatcher.take(self, process)
            if not batch:
                process.close(_CLOSE_GRACE)
                self._dispatcher.set_unready(self, "the model process is being restarted")
                return useful
            answered = self._run(process, batch)
            self._dispatcher.end_batch(self)
            if not answered:
                return useful
            useful = True

    def _run(self, process: ModelProcess, batch: Batch) -> bool:
        """Run a batch; return whether the process has lived to its end."""
        unanswered = deque(batch.tasks)
        inputs = [task.json for task in batch.tasks]
        try:
            # Closed at once when something goes wrong, for what it holds: a demo's log.
            with closing(process.run(batch.number, inputs, self._prediction_timeout, batch.log)) as lists:
                for answers in lists:
                    self._dispatcher.answer([(unanswered.popleft(), answer) for answer in answers])
        except ModelProcessError as error:
            _log.error("batch failed inputs=%d: %s", len(unanswered), error)
            self._dispatcher.set_unready(self, "the model process is being restarted")
            failure = Failure(str(error), error.outcome)
            self._dispatcher.answer([(task, failure) for task in unanswered])
            return False
        return True

    def _pause(self, doublings: int) -> None:
        self._dispatcher.pause(min(self._backoff * 2 ** min(doublings, 30), _MAX_PAUSE))
