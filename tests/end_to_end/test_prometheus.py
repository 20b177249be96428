"""Debian's Prometheus reads what the server says about itself, here and in a container."""

import os
import shutil
import subprocess
from contextlib import contextmanager

import pytest
import requests

from tests.end_to_end.harness import ROOT, free_port
from tests.end_to_end.targets import served
from tests.machine import need
from tests.server.conftest import DEADLINE, wait_until

UNPACKED = ROOT / ".venv" / "prometheus" / "usr" / "bin"
"""Where `make test` unpacks the package: installed, it would start a service."""


def program(name):
    need("prometheus")
    return shutil.which(name, path=os.pathsep.join([str(UNPACKED), os.environ["PATH"]]))


@contextmanager
def prometheus(target, folder):
    """Prometheus, scraping one server each second; its own URL."""
    url = f"127.0.0.1:{free_port()}"
    config = folder / "prometheus.yml"
    config.write_text(
        "global: {scrape_interval: 1s}\n"
        "scrape_configs: [{job_name: model, static_configs: "
        f"[{{targets: ['127.0.0.1:{target.port}']}}]}}]\n"
    )
    options = [
        f"--config.file={config}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address={url}",
    ]
    log = folder / "prometheus.log"
    with log.open("wb") as file:
        process = subprocess.Popen([program("prometheus"), *options], stdout=file, stderr=file, cwd=folder)
    try:
        yield f"http://{url}"
    finally:
        process.kill()
        process.wait()
        print(log.read_text())


def query(url, expression):
    """The value of an expression whose result is one number; None where there is no data yet."""
    try:
        answer = requests.get(f"{url}/api/v1/query", {"query": expression}, timeout=DEADLINE).json()
    except (requests.ConnectionError, requests.JSONDecodeError):
        return None  # it is still starting
    result = answer.get("data", {}).get("result")
    return float(result[0]["value"][1]) if result else None


@pytest.fixture
def target(surface, tmp_path):
    with served(surface, tmp_path) as target:
        yield target.wait_ready()


def test_prometheus_has_what_happened(target, tmp_path):
    program("prometheus")
    target.predict("a", "b", "c")
    target.predict("raise it")
    with prometheus(target, tmp_path) as url:
        wait_until(lambda: query(url, 'up{job="model"}') == 1, "a scrape")
        expected = {
            'tungsten_predictions_total{outcome="success"}': 1,
            'tungsten_predictions_total{outcome="failed"}': 1,
            'tungsten_http_requests_total{route="/predict",status="200"}': 2,
            "tungsten_batch_inputs_sum": 4,
            "tungsten_model_process_restarts_total": 0,
            "tungsten_queue_inputs": 0,
        }
        for expression, value in expected.items():
            assert query(url, expression) == value, expression
        assert query(url, 'tungsten_http_request_duration_seconds_count{route="/predict"}') == 2


def test_promtool_finds_nothing_to_complain_of(target):
    promtool = program("promtool")
    target.predict("x")
    checked = subprocess.run(
        [promtool, "check", "metrics"], input=target.get("/metrics").content, capture_output=True
    )
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, b"")
