"""The predictions that clients ask for by id, their files by another one, and for how long.

One that is not done stays; its number is bounded by the dispatcher. One that is done is forgotten when it is
too old, or when all results together take too much memory: the oldest first. Any thread may use it. Its lock is
taken under the dispatcher's, never the other way round.
"""

from __future__ import annotations

import threading
import uuid
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Callable

if TYPE_CHECKING:
    from tungsten_server.words.prediction import Prediction


OVERHEAD = 2048
"""Bytes that a result takes beside what is in it: as measured, rounded up."""


@dataclass(frozen=True)
class _Finished:
    prediction: Prediction
    expires: float
    size: int
    files_id: str
    """Leads to its files and to nothing else: who is shown a picture can't read the rest with its address."""


class Results:
    """Predictions by id.

    max_age: seconds that a prediction is kept once it is done.
    max_bytes: memory that the results of all of them may take. The newest is kept whatever its size.
    clock: seconds, never going back.
    """

    def __init__(self, max_age: float, max_bytes: int, clock: Callable[[], float]) -> None:
        """Hold nothing."""
        self._max_age = max_age
        self._max_bytes = max_bytes
        self._clock = clock
        self._lock = threading.Lock()
        self._unfinished: dict[str, Prediction] = {}
        self._finished: OrderedDict[str, _Finished] = OrderedDict()
        self._by_files_id: dict[str, Prediction] = {}
        self._bytes = 0

    @property
    def held_bytes(self) -> int:
        """Bytes of the results held."""
        with self._lock:
            self._expire()
            return self._bytes

    def add(self, prediction: Prediction) -> None:
        """Hold a prediction, which may be done already."""
        with self._lock:
            self._expire()
            self._unfinished[prediction.id] = prediction
            if prediction.done:
                self._finish(prediction)

    def finished(self, prediction: Prediction) -> None:
        """Note that a prediction is done; one that is not held here is none of its business."""
        with self._lock:
            self._expire()
            if prediction.id in self._unfinished:
                self._finish(prediction)

    def get(self, prediction_id: str) -> Prediction | None:
        """Return the prediction with this id; None if it never was, or is no more."""
        with self._lock:
            self._expire()
            if prediction_id in self._unfinished:
                return self._unfinished[prediction_id]
            finished = self._finished.get(prediction_id)
            return finished.prediction if finished else None

    def files_id(self, prediction: Prediction) -> str | None:
        """Return the id of a prediction's files; None if the prediction is not done, or is no more."""
        with self._lock:
            if prediction.done and prediction.id in self._unfinished:
                self._finish(prediction)  # nobody has said so yet
            finished = self._finished.get(prediction.id)
            return finished.files_id if finished else None

    def of_files(self, files_id: str) -> Prediction | None:
        """Return the prediction whose files have this id; None if it never was, or is no more."""
        with self._lock:
            self._expire()
            return self._by_files_id.get(files_id)

    def _finish(self, prediction: Prediction) -> None:
        del self._unfinished[prediction.id]
        size = prediction.held_bytes + OVERHEAD
        files_id = uuid.uuid4().hex
        self._finished[prediction.id] = _Finished(prediction, self._clock() + self._max_age, size, files_id)
        self._by_files_id[files_id] = prediction
        self._bytes += size
        while self._bytes > self._max_bytes and len(self._finished) > 1:
            self._forget_oldest()

    def _expire(self) -> None:
        now = self._clock()
        while self._finished and next(iter(self._finished.values())).expires <= now:
            self._forget_oldest()

    def _forget_oldest(self) -> None:
        _, oldest = self._finished.popitem(last=False)
        del self._by_files_id[oldest.files_id]
        self._bytes -= oldest.size
