"""What Prometheus scrapes: counts kept cheaply while requests are answered, written out when somebody asks.

prometheus_client is imported by the first scrape, and not before: it takes longer to load than the rest of the
HTTP parts, and a server that nobody scrapes has no use for it. Any thread may use this.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, get_args

from tungsten_server.words.prediction import Outcome

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client.metrics_core import Metric

    from tungsten_server.http.results import Results
    from tungsten_server.queue.dispatcher import Counts, Dispatcher
    from tungsten_server.words.budget import ByteBudget

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800)
"""Bounds of the latency buckets: from a model that does nothing to a film."""

_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "POST"})


@dataclass
class _Latencies:
    buckets: list[int] = field(default_factory=lambda: [0] * (len(_SECONDS) + 1))
    total: float = 0.0

    def add(self, seconds: float) -> None:
        self.buckets[bisect_left(_SECONDS, seconds)] += 1
        self.total += seconds


class Metrics:
    """Counts requests, and writes them down beside the dispatcher's counts.

    batch_size: bounds the buckets of the batches' sizes.
    """

    def __init__(self, dispatcher: Dispatcher, results: Results, budget: ByteBudget, batch_size: int) -> None:
        """Start at zero."""
        self._dispatcher = dispatcher
        self._results = results
        self._budget = budget
        self._sizes = [2**n for n in range(batch_size.bit_length()) if 2**n < batch_size] + [batch_size]
        self._lock = threading.Lock()
        self._requests: Counter[tuple[str, str, int]] = Counter()
        self._latencies: dict[str, _Latencies] = {}
        self._first_pieces: dict[str, _Latencies] = {}

    def count(self, route: str | None, method: str, status: int, seconds: float) -> None:
        """Count one answered request. route: the pattern that it matched; None if it matched none."""
        # Only what is in the program can become a label: a client can't make new ones.
        route, method = route or "unmatched", method if method in _METHODS else "other"
        with self._lock:
            self._requests[route, method, status] += 1
            self._latencies.setdefault(route, _Latencies()).add(seconds)

    def count_first_piece(self, route: str | None, seconds: float) -> None:
        """Count the first piece of a stream. seconds: since the request had come."""
        with self._lock:
            self._first_pieces.setdefault(route or "unmatched", _Latencies()).add(seconds)

    def text(self) -> bytes:
        """Write all of it in Prometheus' text format."""
        from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest

        registry = CollectorRegistry(auto_describe=False)
        ProcessCollector(registry=registry)
        registry.register(self)
        return generate_latest(registry)

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics; prometheus_client calls it."""
        from prometheus_client.core import (
            CounterMetricFamily,
            GaugeMetricFamily,
            HistogramMetricFamily,
        )

        with self._lock:
            answered = self._requests.copy()
            latencies, first_pieces = (
                {route: (list(one.buckets), one.total) for route, one in sorted(found.items())}
                for found in (self._latencies, self._first_pieces)
            )
        counts = self._dispatcher.counts()

        requests = CounterMetricFamily(
            "tungsten_http_requests", "Requests answered.", labels=["route", "method", "status"]
        )
        for (route, method, status), number in sorted(answered.items()):
            requests.add_metric([route, method, str(status)], number)
        yield requests

        for name, what, found in (
            ("request_duration", "Time from a whole request to its answer, waiting included.", latencies),
            ("first_piece", "Time from a whole request to the first piece of its stream.", first_pieces),
        ):
            seconds = HistogramMetricFamily(f"tungsten_http_{name}_seconds", what, labels=["route"])
            for route, (buckets, total) in found.items():
                seconds.add_metric([route], _cumulative(_SECONDS, buckets), total)
            yield seconds

        sizes = [0] * (len(self._sizes) + 1)
        for size, number in counts.batches.items():
            sizes[bisect_left(self._sizes, size)] += number
        batches = HistogramMetricFamily("tungsten_batch_inputs", "Inputs in a batch given to the model.")
        batches.add_metric(
            [], _cumulative(self._sizes, sizes), sum(size * number for size, number in counts.batches.items())
        )
        yield batches

        predictions = CounterMetricFamily("tungsten_predictions", "Predictions ended.", labels=["outcome"])
        for outcome in get_args(Outcome):
            predictions.add_metric([outcome], counts.predictions[outcome])
        yield predictions

        yield CounterMetricFamily(
            "tungsten_model_process_restarts", "Model processes started in another's place.", counts.restarts
        )
        for name, what, value in self._gauges(counts):
            yield GaugeMetricFamily(name, what, value)

    def _gauges(self, counts: Counts) -> list[tuple[str, str, int]]:
        """What is so now: each with its name and what it is."""
        budget, results = self._budget, self._results
        return [
            ("tungsten_model_processes_ready", "Model processes that are set up.", counts.ready),
            ("tungsten_queue_inputs", "Inputs that wait for the model.", counts.queued),
            ("tungsten_predictions_pending", "Predictions that wait or run.", counts.pending),
            ("tungsten_request_bytes_held", "Bytes of request bodies not yet answered.", budget.taken),
            (
                "tungsten_result_bytes_held",
                "Bytes of results of asynchronous predictions.",
                results.held_bytes,
            ),
        ]


def _cumulative(bounds: tuple[float, ...] | list[int], buckets: list[int]) -> list[tuple[str, float]]:
    """Prometheus' buckets: how many are at most each bound."""
    total = 0
    result: list[tuple[str, float]] = []
    for bound, number in zip([*map(str, bounds), "+Inf"], buckets):
        total += number
        result.append((bound, total))
    return result
