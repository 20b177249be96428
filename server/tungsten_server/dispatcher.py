"""Keeps a model process running and hands it batches: the one place where requests and the model meet.

Threads. HTTP threads call `submit` and `wait`. One driver thread owns the model process: it starts it, feeds
it, and starts another when it dies. One lock guards everything that both touch: the batcher, the pending
predictions and the state. Nothing blocks under it; both sides wait on its condition or on a prediction, never
on a timer.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Callable

from tungsten_server.batcher import Batcher
from tungsten_server.model_process import ModelProcess, ModelProcessError
from tungsten_server.prediction import Answer, Failure, Prediction

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tungsten_server.inputs import Input

MAX_FAILED_SETUPS = 5
"""Failed setups in a row that end the server: by then the cause is not a passing one."""

_MAX_PAUSE = 30.0
"""Seconds between two starts of a model process that does nothing but die."""

_CLOSE_GRACE = 2.0
"""Seconds that a model process gets to leave by itself: `atexit` functions, threads of the user's."""

_log = logging.getLogger("tungsten.model")


class UnavailableError(Exception):
    """A request that can't be accepted now; its text is for the client."""

    def __init__(self, message: str, retry_after: int) -> None:
        """retry_after: seconds after which trying again makes sense."""
        super().__init__(message)
        self.retry_after = retry_after


@dataclass(frozen=True)
class _Task:
    prediction: Prediction
    index: int
    json: bytes


class Dispatcher:
    """Accepts inputs, runs them in batches on the model process, and answers each of them once.

    start_process: starts a model process; its argument is to be called when that process is gone.
    batch_size: most inputs in a batch.
    max_pending: predictions that may be waiting or running at a time.
    setup_timeout, prediction_timeout: seconds. The latter limits an input's time in the queue, and a call of
    predict.
    backoff: seconds to wait after the first failed setup, doubled after each more; so too, from the second on,
        after model processes that were gone before they answered anything.
    """

    def __init__(
        self,
        start_process: Callable[[Callable[[], None]], ModelProcess],
        *,
        batch_size: int,
        max_pending: int,
        setup_timeout: float,
        prediction_timeout: float,
        backoff: float = 0.5,
    ) -> None:
        """Prepare; nothing runs before `start`."""
        self._start_process = start_process
        self._max_pending = max_pending
        self._setup_timeout = setup_timeout
        self._prediction_timeout = prediction_timeout
        self._backoff = backoff
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        """For the driver: something to run, the process is gone, or stop."""
        self._batcher: Batcher[_Task] = Batcher(batch_size, prediction_timeout, time.monotonic)
        self._pending: set[Prediction] = set()
        self._process: ModelProcess | None = None
        self._unready: str | None = "the model is being set up"
        self._was_ready = False
        self._stopping = threading.Event()
        self._fatal: str | None = None
        self._on_fatal: Callable[[], None] | None = None
        self._idle = False
        """Whether the driver waits for something to run."""
        self._driver = threading.Thread(target=self._live, name="driver", daemon=True)

    def start(self) -> None:
        """Start the driver, and with it the model process. Call once."""
        self._driver.start()

    @property
    def unready(self) -> str | None:
        """Why no model process is ready; None when one is."""
        return self._unready

    @property
    def fatal(self) -> str | None:
        """Why the server can't go on; None while it can."""
        return self._fatal

    def on_fatal(self, callback: Callable[[], None]) -> None:
        """Have `callback` called, once, when the server can't go on; at once if that is so already."""
        with self._lock:
            self._on_fatal = callback
            fatal = self._fatal
        if fatal:
            callback()

    def submit(self, inputs: Sequence[Input]) -> Prediction:
        """Accept one request's inputs, at least one. Raises UnavailableError.

        While a model process that was ready is being replaced, inputs are accepted and wait for the next one.
        """
        with self._lock:
            if self._stopping.is_set() or self._fatal or not self._was_ready:
                raise UnavailableError(self._unready or "the server is stopping", retry_after=5)
            if len(self._pending) >= self._max_pending:
                msg = "too many predictions are waiting"
                raise UnavailableError(msg, retry_after=1)
            prediction = Prediction(len(inputs))
            self._pending.add(prediction)
            self._batcher.add(
                (one.key, _Task(prediction, index, one.json)) for index, one in enumerate(inputs)
            )
            self._changed.notify_all()
        return prediction

    def wait(self, prediction: Prediction) -> None:
        """Return when the prediction is done.

        That is at the latest when its inputs' time in the queue, and then on the model, is up.
        """
        while not prediction.wait(self._prediction_timeout):
            with self._lock:
                self._expire()

    def fail_pending(self, message: str) -> None:
        """Fail every prediction that is not done, and empty the queue."""
        with self._lock:
            for prediction in list(self._pending):
                self._answer(prediction, 0, Failure(message))

    def stop(self) -> None:
        """End the model process and the driver. Fails what is pending; accepts nothing more."""
        with self._lock:
            self._stopping.set()
            self._unready = "the server is stopping"
            self._changed.notify_all()
            process, idle = self._process, self._idle
        self.fail_pending("the server is stopping")
        if process and not idle:
            process.kill()
        if self._driver.is_alive():
            self._driver.join()

    def _live(self) -> None:
        """Be the driver thread."""
        try:
            self._drive()
        except Exception:
            _log.exception("defect in the driver")
            self._give_up("internal error")  # rather than accept what nobody will run

    def _drive(self) -> None:
        """Run model processes, one after the other, until stopped or beyond hope."""
        failed_setups = 0
        futile_lives = 0  # in a row: ready, but gone before it answered anything
        while not self._stopping.is_set():
            began = time.monotonic()
            try:
                process = self._set_up()
            except ModelProcessError as error:
                if self._stopping.is_set():
                    return
                failed_setups += 1
                self._set_unready(f"setup failed, trying again: {error}")
                _log.error("setup failed (%d of %d): %s", failed_setups, MAX_FAILED_SETUPS, error)
                if failed_setups == MAX_FAILED_SETUPS:
                    self._give_up(f"setup failed {MAX_FAILED_SETUPS} times in a row: {error}")
                    return
                self._pause(self._backoff * 2 ** (failed_setups - 1))
                continue
            failed_setups = 0
            _log.info("ready pid=%d setup_seconds=%.2f", process.pid, time.monotonic() - began)
            self._set_ready()
            futile_lives = 0 if self._serve(process) else futile_lives + 1
            if not self._stopping.is_set():
                _log.warning("restart of the model process")
            if futile_lives > 1:
                self._pause(self._backoff * 2 ** min(futile_lives - 2, 30))

    def _set_up(self) -> ModelProcess:
        process = self._start_process(self._wake)
        with self._lock:
            self._process = process
        if self._stopping.is_set():  # `stop` may have come before it could see this process
            process.close(grace=0.0)
            msg = "the server is stopping"
            raise ModelProcessError(msg)
        process.wait_ready(self._setup_timeout)
        return process

    def _serve(self, process: ModelProcess) -> bool:
        """Give it batches until it is gone or the server stops; return whether it has answered any."""
        useful = False
        while True:
            batch = self._next_batch(process)
            if not batch:
                process.close(_CLOSE_GRACE)
                self._set_unready("the model process is being restarted")
                return useful
            unanswered = deque(batch)
            try:
                for answers in process.run([task.json for task in batch], self._prediction_timeout):
                    with self._lock:
                        for answer in answers:
                            task = unanswered.popleft()
                            self._answer(task.prediction, task.index, answer)
            except ModelProcessError as error:
                _log.error("batch failed inputs=%d: %s", len(unanswered), error)
                self._set_unready("the model process is being restarted")
                with self._lock:
                    for task in unanswered:
                        self._answer(task.prediction, task.index, Failure(str(error)))
                return useful
            useful = True

    def _next_batch(self, process: ModelProcess) -> list[_Task]:
        """Wait for something to run; empty when the process is gone or the server stops."""
        with self._lock:
            while process.alive and not self._stopping.is_set():
                self._expire()
                batch = self._batcher.take()
                if batch:
                    return batch
                self._idle = True
                self._changed.wait()
                self._idle = False
        return []

    def _answer(self, prediction: Prediction, index: int, answer: Answer) -> None:
        """Record an answer; holds the lock. A failure ends the prediction: its other inputs need not run."""
        if prediction not in self._pending:
            return
        prediction.answer(index, answer)
        if prediction.done:
            self._pending.remove(prediction)
            if prediction.failure:
                self._batcher.remove(lambda task: task.prediction is prediction)

    def _expire(self) -> None:
        """Fail what has waited too long; holds the lock."""
        for task in self._batcher.expire():
            message = f"Timeout: it waited longer than {self._prediction_timeout:g} seconds for the model"
            self._answer(task.prediction, task.index, Failure(message))

    def _set_ready(self) -> None:
        with self._lock:
            self._was_ready = True
            if not self._stopping.is_set():
                self._unready = None

    def _set_unready(self, reason: str) -> None:
        with self._lock:
            if not self._stopping.is_set():
                self._unready = reason

    def _give_up(self, reason: str) -> None:
        with self._lock:
            self._fatal = self._unready = reason
            callback = self._on_fatal
        self.fail_pending(reason)
        if callback:
            callback()

    def _pause(self, seconds: float) -> None:
        with self._lock:
            self._changed.wait_for(self._stopping.is_set, min(seconds, _MAX_PAUSE))

    def _wake(self) -> None:
        with self._lock:
            self._changed.notify_all()
