"""The queue between requests and model processes: accepts inputs, hands them out in batches, answers each once.

Threads. HTTP threads call `submit`, `wait` and `cancel`. Each driver thread (`driver`) owns one model process
and calls `take`, `answer` and what else is below them. One lock guards everything that both touch: the batcher,
the pending predictions, what runs, and the counts. Nothing blocks under it; both sides wait on its condition
or on a prediction, never on a timer.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Callable

from tungsten_server.batcher import Batcher
from tungsten_server.driver import Driver
from tungsten_server.logs import Log
from tungsten_server.prediction import CANCELED, Answer, Failure, Outcome, Prediction

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tungsten_server.inputs import Input
    from tungsten_server.model_process import ModelProcess

_log = logging.getLogger("tungsten.model")

_BEING_SET_UP = "the model is being set up"
_STOPPING = "the server is stopping"


class UnavailableError(Exception):
    """A request that can't be accepted now; its text is for the client."""

    def __init__(self, message: str, retry_after: int) -> None:
        """retry_after: seconds after which trying again makes sense."""
        super().__init__(message)
        self.retry_after = retry_after


@dataclass(frozen=True)
class Task:
    """One input of a prediction, to be run."""

    prediction: Prediction
    index: int
    json: bytes


@dataclass(frozen=True)
class Batch:
    """Tasks to run together. Those of a demo are all of one prediction."""

    number: int
    """Rises from 1 for each driver."""
    tasks: list[Task]

    @property
    def log(self) -> Log | None:
        """Where to put what is printed, if this is a demo's batch."""
        return self.tasks[0].prediction.log


@dataclass
class Counts:
    """What has happened since the start, and what is so now, for metrics."""

    restarts: int = 0
    batches: Counter[int] = field(default_factory=Counter)
    """How many batches there were of each size."""
    predictions: Counter[Outcome] = field(default_factory=Counter)
    queued: int = 0
    """Inputs that wait."""
    pending: int = 0
    """Predictions that wait or run."""
    ready: int = 0
    """Model processes that are set up."""


class Dispatcher:
    """Accepts inputs, has model processes run them in batches, and answers each of them once.

    start_process: starts a model process; its argument is to be called when that process is gone.
    workers: model processes.
    batch_size: most inputs in a batch.
    max_pending: predictions that may be waiting or running at a time.
    max_result: bytes of JSON that all outputs of a prediction may have.
    setup_timeout, prediction_timeout: seconds. The latter limits an input's time in the queue, and a call of
    predict.
    backoff: see `Driver`.
    """

    def __init__(
        self,
        start_process: Callable[[Callable[[], None]], ModelProcess],
        *,
        workers: int,
        batch_size: int,
        max_pending: int,
        max_result: int,
        setup_timeout: float,
        prediction_timeout: float,
        backoff: float = 0.5,
    ) -> None:
        """Prepare; nothing runs before `start`."""
        self._max_pending = max_pending
        self._max_result = max_result
        self._prediction_timeout = prediction_timeout
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        """For the drivers: something to run, a process is gone, or stop."""
        self._batcher: Batcher[Task] = Batcher(batch_size, prediction_timeout, time.monotonic)
        self._pending: set[Prediction] = set()
        self._running: dict[Driver, Batch] = {}
        self._batches_taken: Counter[Driver] = Counter()
        self._ready: set[Driver] = set()
        self._why_unready = _BEING_SET_UP
        self._was_ready = False
        self._counts = Counts()
        self._stopping = threading.Event()
        self._fatal: str | None = None
        self._on_fatal: Callable[[], None] | None = None
        self._drivers = [
            Driver(self, number, start_process, setup_timeout, prediction_timeout, backoff)
            for number in range(workers)
        ]

    def start(self) -> None:
        """Start the drivers, and with them the model processes. Call once."""
        for driver in self._drivers:
            driver.start()

    @property
    def unready(self) -> str | None:
        """Why no model process is ready; None when one is."""
        with self._lock:
            return None if self._ready and not self._stopping.is_set() else self._why_unready

    @property
    def fatal(self) -> str | None:
        """Why the server can't go on; None while it can."""
        return self._fatal

    def counts(self) -> Counts:
        """Return a copy of the counts."""
        with self._lock:
            return replace(
                self._counts,
                batches=self._counts.batches.copy(),
                predictions=self._counts.predictions.copy(),
                queued=len(self._batcher),
                pending=len(self._pending),
                ready=len(self._ready),
            )

    def on_fatal(self, callback: Callable[[], None]) -> None:
        """Have `callback` called, once, when the server can't go on; at once if that is so already."""
        with self._lock:
            self._on_fatal = callback
            fatal = self._fatal
        if fatal:
            callback()

    def submit(
        self,
        inputs: Sequence[Input],
        *,
        demo: bool = False,
        on_done: Callable[[Prediction], None] | None = None,
    ) -> Prediction:
        """Accept one request's inputs, at least one. Raises UnavailableError.

        demo: have them run apart from all others, for a demo page. on_done: see `Prediction`.

        While model processes that were ready are being replaced, inputs are accepted and wait for the next one.
        """
        with self._lock:
            if self._stopping.is_set() or self._fatal or not self._was_ready:
                raise UnavailableError(self._why_unready, retry_after=5)
            if len(self._pending) >= self._max_pending:
                msg = "too many predictions are waiting"
                raise UnavailableError(msg, retry_after=1)
            prediction = Prediction(
                len(inputs), max_bytes=self._max_result, log=Log() if demo else None, on_done=on_done
            )
            self._pending.add(prediction)
            # A demo's options include who asked, so nobody else's inputs can meet them in a batch.
            key = f"demo {prediction.id} " if demo else ""
            self._batcher.add(
                (key + one.key, Task(prediction, index, one.json)) for index, one in enumerate(inputs)
            )
            self._changed.notify_all()
        return prediction

    def wait(self, prediction: Prediction) -> None:
        """Return when the prediction is done.

        That is at the latest when its inputs' time in the queue, and then on the model, is up.
        """
        while not prediction.wait(self._prediction_timeout):
            self.expire()

    def expire(self) -> None:
        """Fail what has waited too long. To be called before somebody looks at a prediction that may have."""
        with self._lock:
            self._expire()

    def cancel(self, prediction: Prediction) -> None:
        """Fail a prediction that is not done. Its queued inputs won't run.

        A running batch is interrupted if it has no other prediction's inputs, else its result is ignored.
        """
        with self._lock:
            if prediction not in self._pending:
                return
            self._answer(prediction, 0, CANCELED)
            for driver, batch in self._running.items():
                if all(task.prediction is prediction for task in batch.tasks):
                    driver.interrupt(batch.number)

    def fail_pending(self, message: str) -> None:
        """Fail every prediction that is not done, and empty the queue."""
        with self._lock:
            for prediction in list(self._pending):
                self._answer(prediction, 0, Failure(message))

    def stop(self) -> None:
        """End the model processes and the drivers. Fails what is pending; accepts nothing more."""
        with self._lock:
            self._stopping.set()
            self._why_unready = _STOPPING
            idle = {driver for driver in self._ready if driver not in self._running}
            self._changed.notify_all()
        self.fail_pending(_STOPPING)
        for driver in self._drivers:
            if driver not in idle:
                driver.kill()
        for driver in self._drivers:
            driver.join()

    # What follows is for drivers.

    def take(self, driver: Driver, process: ModelProcess) -> Batch | None:
        """Wait for something to run; None when the driver's process is gone or the server stops."""
        with self._lock:
            while process.alive and not self._stopping.is_set():
                self._expire()
                tasks = self._batcher.take()
                if tasks:
                    self._batches_taken[driver] += 1
                    self._counts.batches[len(tasks)] += 1
                    for task in tasks:
                        task.prediction.start()
                    batch = self._running[driver] = Batch(self._batches_taken[driver], tasks)
                    return batch
                self._changed.wait()
        return None

    def answer(self, answers: Sequence[tuple[Task, Answer]]) -> None:
        """Record the answers to tasks."""
        with self._lock:
            for task, answer in answers:
                self._answer(task.prediction, task.index, answer)

    def end_batch(self, driver: Driver) -> None:
        """Note that the driver's batch is over."""
        with self._lock:
            self._running.pop(driver, None)

    def set_ready(self, driver: Driver) -> None:
        """Note that the driver's process is set up."""
        with self._lock:
            self._was_ready = True
            self._ready.add(driver)

    def set_unready(self, driver: Driver, reason: str) -> None:
        """Note that it is not, and why."""
        with self._lock:
            self._ready.discard(driver)
            if not self._stopping.is_set() and not self._fatal:
                self._why_unready = reason

    def count_restart(self) -> None:
        """Note that a process takes the place of another."""
        with self._lock:
            self._counts.restarts += 1

    def give_up(self, reason: str) -> None:
        """End the server, because of this."""
        with self._lock:
            if self._fatal:
                return
            self._fatal = self._why_unready = reason
            self._ready.clear()
            callback = self._on_fatal
        self.fail_pending(reason)
        if callback:
            callback()

    def is_stopping(self) -> bool:
        """Whether the server stops."""
        return self._stopping.is_set()

    def pause(self, seconds: float) -> None:
        """Wait, but not longer than until the server stops."""
        self._stopping.wait(seconds)

    def wake(self) -> None:
        """Have drivers look whether their process is gone."""
        with self._lock:
            self._changed.notify_all()

    def _answer(self, prediction: Prediction, index: int, answer: Answer) -> None:
        """Record an answer; holds the lock. A failure ends the prediction: its other inputs need not run."""
        if prediction not in self._pending:
            return
        prediction.answer(index, answer)
        if prediction.done:
            self._pending.remove(prediction)
            self._counts.predictions[prediction.outcome] += 1
            if prediction.failure:
                self._batcher.remove(lambda task: task.prediction is prediction)

    def _expire(self) -> None:
        """Fail what has waited too long; holds the lock."""
        for task in self._batcher.expire():
            message = f"it waited longer than {self._prediction_timeout:g} seconds for the model: Timeout"
            self._answer(task.prediction, task.index, Failure(message, "timeout"))
