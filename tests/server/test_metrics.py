import re
import subprocess
import sys
from collections import Counter

import pytest
from prometheus_client.parser import text_string_to_metric_families
from tungsten_server.http.metrics import Metrics
from tungsten_server.http.results import Results
from tungsten_server.queue.dispatcher import Counts
from tungsten_server.words.budget import ByteBudget

from tests.server.conftest import SERVER


class FakeDispatcher:
    def __init__(self, **counts):
        self._counts = Counts(**counts)

    def counts(self):
        return self._counts


def samples(text):
    """Each sample's value by its name and labels, as a Prometheus reads it."""
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


@pytest.fixture
def make():
    def make(batch_size=6, **counts):
        dispatcher = FakeDispatcher(**counts)
        return Metrics(dispatcher, Results(9, 9, lambda: 0), ByteBudget(9), batch_size)

    return make


def test_requests_are_counted_by_route_method_and_status(make):
    metrics = make()
    for status in (200, 200, 503):
        metrics.count("/predict", "POST", status, 0.1)
    values = samples(metrics.text().decode())
    labels = [("method", "POST"), ("route", "/predict")]
    assert values["tungsten_http_requests_total", *labels, ("status", "200")] == 2
    assert values["tungsten_http_requests_total", *labels, ("status", "503")] == 1


def test_a_client_cannot_make_labels(make):
    metrics = make()
    for number in range(100):
        metrics.count(None, f"METHOD{number}", 404, 0.1)
    series = [key for key in samples(metrics.text().decode()) if key[0] == "tungsten_http_requests_total"]
    assert series == [
        ("tungsten_http_requests_total", ("method", "other"), ("route", "unmatched"), ("status", "404"))
    ]


def test_latencies_are_a_histogram(make):
    metrics = make()
    for seconds in (0.001, 0.2, 0.2, 5000):
        metrics.count("/", "GET", 200, seconds)
    values = samples(metrics.text().decode())
    name = "tungsten_http_request_duration_seconds"
    buckets = {
        bound: values[f"{name}_bucket", ("le", bound), ("route", "/")] for bound in ("0.001", "0.25", "+Inf")
    }
    assert buckets == {"0.001": 1, "0.25": 3, "+Inf": 4}
    assert values[f"{name}_count", ("route", "/")] == 4
    assert values[f"{name}_sum", ("route", "/")] == pytest.approx(5000.401)


def test_the_dispatcher_s_counts_are_written(make):
    metrics = make(
        restarts=3,
        queued=5,
        pending=2,
        ready=1,
        batches=Counter({1: 10, 3: 2, 6: 1}),
        predictions=Counter({"success": 7}),
    )
    values = samples(metrics.text().decode())
    sizes = {
        bound: values["tungsten_batch_inputs_bucket", ("le", bound)] for bound in ("1", "2", "4", "6", "+Inf")
    }
    assert sizes == {"1": 10, "2": 10, "4": 12, "6": 13, "+Inf": 13}
    assert values["tungsten_batch_inputs_sum",] == 22
    assert values["tungsten_predictions_total", ("outcome", "success")] == 7
    assert values["tungsten_predictions_total", ("outcome", "timeout")] == 0
    assert values["tungsten_model_process_restarts_total",] == 3
    gauges = ("queue_inputs", "predictions_pending", "model_processes_ready")
    assert [values[f"tungsten_{name}",] for name in gauges] == [5, 2, 1]


def test_every_metric_says_what_it_is(make):
    for family in text_string_to_metric_families(make().text().decode()):
        assert family.documentation, family.name
        assert family.type in ("counter", "gauge", "histogram")


def test_over_http(start_server):
    with start_server() as server:
        server.predict("x")
        server.begin("raise it")
        server.get("/predictions/some-id")
        server.get("/unknown/route")
        server.post(b"not json")
        response = server.get("/metrics")
        assert response.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
        values = samples(response.text)
        counted = {key[2][1]: key[3][1] for key in values if key[0] == "tungsten_http_requests_total"}
        assert counted["/predictions/<prediction_id>"] == "404"
        assert counted["unmatched"] == "404"
        assert "some-id" not in response.text
        requests = "tungsten_http_requests_total", ("method", "POST"), ("route", "/predict")
        assert values[*requests, ("status", "200")] == 1
        assert values[*requests, ("status", "422")] == 1
        assert re.search(r"(?m)^process_resident_memory_bytes ", response.text)


def test_prometheus_client_is_not_loaded_before_the_first_scrape():
    program = """
import sys
import tungsten_server.launch, tungsten_server.http.app, tungsten_server.http.metrics
assert "prometheus_client" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], check=True, env={"PYTHONPATH": SERVER})
