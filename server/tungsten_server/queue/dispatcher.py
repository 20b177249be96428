"""The queue between requests and model processes: accepts inputs, hands them out in batches, answers each once.

Threads. HTTP threads call `submit`, `wait` and `cancel`. Each driver thread (`driver`) owns one model process
and calls `next`, `take_answers` and what else is below them. One lock guards everything that both touch: the batcher,
the pending predictions, what runs, and the counts. Nothing blocks under it. Clients' threads wait on a prediction,
drivers for their process or for `Driver.wake`; nobody looks at a clock again and again.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import TYPE_CHECKING, Callable

from tungsten_server.model.process import Pieces
from tungsten_server.queue.batcher import Batcher
from tungsten_server.queue.batches import Batch, Item, Orders
from tungsten_server.queue.driver import Driver, Patience
from tungsten_server.words.logs import Log
from tungsten_server.words.prediction import (
    CANCELED,
    GONE,
    Answer,
    Failure,
    Outcome,
    Prediction,
    too_large,
)
from tungsten_server.words.problems import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tungsten_server.checks.inputs import Input
    from tungsten_server.model.process import Answers, ModelProcess
    from tungsten_server.words.stream import Stream

_BEING_SET_UP = "the model is being set up"
_STOPPING = "the server is stopping"


@dataclass
class _Flight:
    """What a driver has been given, and what it is to be told."""

    process: ModelProcess
    batches: dict[int, Batch] = field(default_factory=dict)
    """Those not answered, by their numbers, which rise."""
    unwanted: list[tuple[int, list[int]]] = field(default_factory=list)
    ahead: int = 1
    taken: int = 0
    """Batches so far."""
    woken: bool = False
    """Whether it has been woken and has not asked since."""


@dataclass(frozen=True)
class Limits:
    """The bounds of what a dispatcher takes on."""

    batch_size: int
    """Most inputs in a batch."""
    max_pending: int
    """Predictions that may be waiting or running at a time."""
    max_result: int
    """Bytes of JSON that all outputs of a prediction may have."""
    queue_timeout: float
    """Seconds that an input may wait before a call of predict."""


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

    start_process, patience: see `Driver`. workers: model processes.
    """

    def __init__(
        self,
        start_process: Callable[[int], ModelProcess],
        limits: Limits,
        patience: Patience,
        *,
        workers: int,
    ) -> None:
        """Prepare; nothing runs before `start`."""
        self._limits = limits
        self._lock = threading.Lock()
        self._batcher: Batcher[Item] = Batcher(limits.batch_size, limits.queue_timeout, time.monotonic)
        self._pending: set[Prediction] = set()
        self._ready: dict[Driver, _Flight] = {}
        self._why_unready = _BEING_SET_UP
        self._was_ready = False
        self._settled = threading.Event()
        """Set once a process has been ready, or there is no hope."""
        self._counts = Counts()
        self._stopping = threading.Event()
        self._fatal: str | None = None
        self._on_fatal: Callable[[], None] | None = None
        self._drivers = [Driver(self, number, start_process, patience) for number in range(workers)]

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

    def wait_settled(self) -> None:
        """Wait until a model process is ready for the first time, or `fatal` says why none will be."""
        self._settled.wait()

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
        stream: Stream | None = None,
        on_done: Callable[[Prediction], None] | None = None,
        more: bool = False,
    ) -> Prediction:
        """Accept one request's inputs, at least one. Raises UnavailableError.

        demo: have them run apart from all others, for a demo page. stream, on_done: see `Prediction`. more: others
        follow at once, and `wake` after the last of them, so that they can share a batch.

        While model processes that were ready are being replaced, inputs are accepted and wait for the next one.
        """
        with self._lock:
            if self._stopping.is_set() or self._fatal or not self._was_ready:
                raise UnavailableError(self._why_unready, retry_after=5)
            if len(self._pending) >= self._limits.max_pending:
                msg = "too many predictions are waiting"
                raise UnavailableError(msg, retry_after=1)
            prediction = Prediction(
                len(inputs),
                max_bytes=self._limits.max_result,
                log=Log() if demo else None,
                stream=stream,
                on_done=on_done,
            )
            self._pending.add(prediction)
            # A demo's options include who asked, so nobody else's inputs can meet them in a batch.
            key = f"demo {prediction.id} " if demo else ""
            self._batcher.add(
                (key + one.key, Item(prediction, place, one.json)) for place, one in enumerate(inputs)
            )
            if not more:
                self._wake()
        return prediction

    def wake(self) -> None:
        """Have what was submitted with `more` run."""
        with self._lock:
            self._wake()

    def wait(self, prediction: Prediction) -> None:
        """Return when the prediction is done.

        That is at the latest when its inputs' time in the queue, and then on the model, is up.
        """
        while not prediction.wait(self._limits.queue_timeout):
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
            self._record(prediction, 0, CANCELED)

    def abandon(self, prediction: Prediction) -> None:
        """Do as `cancel` does, for a client that has gone."""
        with self._lock:
            self._record(prediction, 0, GONE)

    def fail_pending(self, message: str) -> None:
        """Fail every prediction that is not done, and empty the queue."""
        with self._lock:
            for prediction in list(self._pending):
                self._record(prediction, 0, Failure(message))

    def stop(self) -> None:
        """End the model processes and the drivers. Fails what is pending; accepts nothing more."""
        with self._lock:
            self._stopping.set()
            self._why_unready = _STOPPING
            idle = {driver for driver, flight in self._ready.items() if not flight.batches}
        self.fail_pending(_STOPPING)
        for driver in self._drivers:
            driver.wake()
            if driver not in idle:
                driver.kill()
        for driver in self._drivers:
            driver.join()

    # What follows is for drivers.

    def next(self, driver: Driver, ahead: int) -> Orders | None:
        """Say what to do next; None when the server stops.

        To be called whenever the driver has been woken, and after `take_answers`.

        ahead: how many full batches may wait behind the one that runs.
        """
        with self._lock:
            if self._stopping.is_set():
                return None
            self._expire()
            flight = self._ready[driver]
            flight.woken, flight.ahead = False, ahead
            was_idle = not flight.batches
            batches = []
            while self._may_take(flight):
                flight.taken += 1
                batch = Batch(flight.taken, self._batcher.take())
                self._counts.batches[len(batch.items)] += 1
                for item in batch.items:
                    item.prediction.start()
                flight.batches[batch.number] = batch
                batches.append(batch)
            unwanted, flight.unwanted = flight.unwanted, []
            self._wake()  # now that this one is busy, others may take batches ahead
            return Orders(batches, unwanted, was_idle, bool(flight.batches))

    def take_answers(self, driver: Driver, received: Sequence[Answers | Pieces]) -> None:
        """Record answers to items of the driver's batches; those that are answered already are left alone.

        Pieces go to those who follow the predictions.
        """
        for is_pieces, together in groupby(received, lambda one: isinstance(one, Pieces)):
            if is_pieces:
                self._take_pieces(driver, together)  # type: ignore[arg-type]
            else:
                self._record_answers(driver, together)  # type: ignore[arg-type]

    def _take_pieces(self, driver: Driver, received: Iterable[Pieces]) -> None:
        with self._lock:
            batches = self._ready[driver].batches
            taken = [
                (batches[number].items[place], piece)
                for number, pieces in received
                if number in batches
                for place, piece in pieces
                if place in batches[number].open
            ]
        # Putting them together takes its time, and the answers come after them by this same thread.
        for item, piece in taken:
            stream = item.prediction.stream
            if stream and stream.add(item.place, piece) > 2 * self._limits.max_result:
                with self._lock:
                    self._record(item.prediction, item.place, too_large(self._limits.max_result))

    def _record_answers(self, driver: Driver, received: Iterable[Answers]) -> None:
        with self._lock:
            batches = self._ready[driver].batches
            for number, first, answers, _ in received:
                batch = batches.get(number)
                if batch is None:
                    continue
                new = [(place, one) for place, one in enumerate(answers, first) if place in batch.open]
                batch.open.difference_update(place for place, _ in new)
                if not batch.open:
                    del batches[number]
                for place, answer in new:
                    item = batch.items[place]
                    self._record(item.prediction, item.place, answer)

    def settle_lost(self, driver: Driver, failure: Failure) -> None:
        """Settle what the driver's process had when it was lost: what ran fails, what waited is queued again.

        What was only read or written then may be to blame or not. So it is run again alone, once.
        """
        with self._lock:
            flight = self._ready.pop(driver)
            reading, running, writing = flight.process.doing
            if failure.outcome == "timeout" and not running:
                running = reading or next(iter(flight.batches), 0)
            for number, batch in flight.batches.items():
                touched = number in (reading, writing)
                # A key of its own, so that nobody else's inputs can meet them in a batch.
                key = f"after {driver.number} {flight.process.pid} {number} " if touched else ""
                waiting = []
                for index in sorted(batch.open):
                    ticket, item = batch.taken[index]
                    # What was told of can't be told again.
                    stream = item.prediction.stream
                    is_told = stream is not None and stream.has_begun(item.place)
                    if number == running or (touched and item.suspect) or is_told:
                        self._record(item.prediction, item.place, failure)
                    elif touched:
                        waiting.append((ticket._replace(key=key + ticket.key), item._replace(suspect=True)))
                    else:
                        waiting.append((ticket, item))
                self._batcher.put_back(one for one in waiting if one[1].prediction in self._pending)
            self._wake()

    def set_ready(self, driver: Driver, process: ModelProcess) -> None:
        """Note that the driver's process is set up."""
        with self._lock:
            self._was_ready = True
            self._ready[driver] = _Flight(process)
        self._settled.set()

    def set_unready(self, driver: Driver, reason: str) -> None:
        """Note that it is not, and why."""
        with self._lock:
            self._ready.pop(driver, None)
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
        self._settled.set()
        if callback:
            callback()

    def is_stopping(self) -> bool:
        """Whether the server stops."""
        return self._stopping.is_set()

    def pause(self, seconds: float) -> None:
        """Wait, but not longer than until the server stops."""
        self._stopping.wait(seconds)

    def _may_take(self, flight: _Flight) -> bool:
        """Whether the driver may have the next batch; holds the lock.

        Any batch when it has none. Ahead, a full one, since another may still fill up, and only while no process is
        idle that could have it. A demo's batch is on its process alone, since what is printed meanwhile is its log, and
        so is one that another process may have died of.
        """
        if not self._batcher:
            return False
        if not flight.batches:
            return True
        first = self._batcher.first
        return (
            len(flight.batches) <= flight.ahead
            and self._batcher.full
            and all(other.batches for other in self._ready.values())
            and not next(iter(flight.batches.values())).items[0].alone
            and first is not None
            and not first.alone
        )

    def _wake(self) -> None:
        """Wake the drivers that may take a batch; holds the lock."""
        for driver, flight in self._ready.items():
            if not flight.woken and self._may_take(flight):
                flight.woken = True
                driver.wake()

    def _record(self, prediction: Prediction, index: int, answer: Answer) -> None:
        """Record an answer; holds the lock. A failure ends the prediction: its other inputs need not run."""
        if prediction not in self._pending:
            return
        prediction.record(index, answer)
        if prediction.done:
            self._pending.remove(prediction)
            self._counts.predictions[prediction.outcome] += 1
            if prediction.failure:
                self._batcher.remove(lambda item: item.prediction is prediction)
                self._disown(prediction)

    def _disown(self, prediction: Prediction) -> None:
        """Tell drivers that what they have of a prediction needs no answer; holds the lock."""
        for driver, flight in self._ready.items():
            for batch in flight.batches.values():
                places = [
                    place for place in sorted(batch.open) if batch.items[place].prediction is prediction
                ]
                if places:
                    flight.unwanted.append((batch.number, places))
                    driver.wake()

    def _expire(self) -> None:
        """Fail what has waited too long, in the queue or ahead in a process; holds the lock."""
        now = time.monotonic()
        late = self._batcher.expire()
        for flight in self._ready.values():
            begun = max(flight.process.doing[1:])
            for number, batch in flight.batches.items():
                if number > begun and batch.taken[0][0].deadline <= now:
                    late += [item for ticket, item in batch.taken if ticket.deadline <= now]
        for item in late:
            message = f"it waited longer than {self._limits.queue_timeout:g} seconds for the model: Timeout"
            self._record(item.prediction, item.place, Failure(message, "timeout"))
