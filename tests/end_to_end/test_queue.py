"""The queue of the image that users run: what crashes, hangs, has gone or is large costs nobody else anything.

One container, no clock: what must be waited for is an event. Every detail is in tests/server.
"""

import json
import os
import re
import signal
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.end_to_end.harness import container
from tests.end_to_end.targets import Target
from tests.server.conftest import connect, request, wait_until

pytestmark = pytest.mark.parametrize("kind", ["container"], indirect=True, scope="session")

MOST = 16
LIMIT = 10


@pytest.fixture(scope="module")
def target(surface, tmp_path_factory):
    gates = tmp_path_factory.mktemp("gates")
    gates.chmod(0o777)
    settings = {"TUNGSTEN_MAX_PENDING": MOST, "PREDICTION_TIMEOUT": LIMIT}
    options = [f"--volume={gates}:/gates", *(f"--env={name}={value}" for name, value in settings.items())]
    with container(surface, *options) as (url, name):
        target = Target(None, int(url.rpartition(":")[2]), None, gates)
        target.container = name
        yield target


@pytest.fixture
def held(target, request):
    """The gate at which the model waits, in a batch of its own."""
    name = f"gate-{abs(hash(request.node.nodeid))}"
    gate = target.gate(name)
    gate.prediction = target.begin(f"wait {name}", mode="fancy")
    yield gate
    assert target.ended(gate.prediction)["status"] == "success"


def metric(target, pattern):
    found = re.search(rf"^{pattern} (\d+)", target.get("/metrics").text, re.MULTILINE)
    return int(found[1]) if found else 0


def processes(target):
    """Of the container, with what they were started as, as the machine calls them."""
    command = ["podman", "inspect", "--format={{.State.Pid}}", target.container]
    first = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    inside = Path(f"/proc/{first}/ns/pid").readlink()
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "ns" / "pid").readlink() == inside:
                found[process] = (process / "cmdline").read_bytes()
        except OSError:
            continue
    return found


def test_a_crash_costs_the_inputs_of_its_batch_alone(target, held):
    """However many lie between others'."""
    good, bad = [], []
    with held.open():
        for number in range(3):
            good += [target.begin(f"good {number} {other}") for other in range(4)]
            bad.append(target.begin("die 3", scale=2 + number))
    for number, path in enumerate(good):
        state = target.ended(path)
        assert state["status"] == "success", state
        assert state["outputs"][0]["did"] == f"good {number // 4} {number % 4}"
    assert all("died" in target.ended(path)["error_message"] for path in bad)


def test_clients_that_have_gone_leave_their_places(target, held):
    outcome = r'tungsten_predictions_total\{outcome="disconnected"\}'
    before = metric(target, outcome)
    body = json.dumps([{"do": "of nobody"}]).encode()
    headers = f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    with held.open():
        clients = [connect(target.port) for _ in range(MOST - 1)]
        for client in clients:
            client.sendall(request("POST", "/predict", headers, body))
        wait_until(lambda: metric(target, "tungsten_predictions_pending") == MOST, "that all wait")
        assert target.post([{"do": "too many"}]).status_code == 503
        for client in clients:
            client.close()
        wait_until(lambda: metric(target, outcome) == before + MOST - 1, "the notice that they have gone")
        alive = target.begin("alive")
    assert target.ended(alive)["outputs"][0]["batch"] == ["alive"]


def test_a_call_that_hangs_costs_what_waits_behind_it_nothing(target):
    """What has waited for longer than a call may take is run all the same: a wait has a limit of its own."""
    hangs = target.begin("sleep 1000", mode="fancy")
    waits = [target.begin(f"behind it {number}") for number in range(4)]
    assert target.ended(hangs)["error_message"].endswith("Timeout")
    for number, path in enumerate(waits):
        assert target.ended(path)["outputs"][0]["did"] == f"behind it {number}"


def test_others_are_answered_while_a_large_body_is_read(target):
    """By a process of its own, which is stopped here for as long as others ask."""

    def readers():
        return [process for process, command in processes(target).items() if b".reading" in command]

    body = json.dumps([{"do": "large", "more": list(range(2_000_000))}]).encode()
    assert len(body) > 10_000_000
    assert target.post(body).json()["status"] == "success"
    (reader,) = readers()
    with ThreadPoolExecutor(1) as pool:
        os.kill(int(reader.name), signal.SIGSTOP)
        try:
            large = pool.submit(target.post, body)
            for _ in range(10):
                assert target.get("/readyz").status_code == 200
                assert target.predict("small")["status"] == "success"
            assert not large.done()
        finally:
            os.kill(int(reader.name), signal.SIGCONT)
        assert large.result().json()["status"] == "success"


def test_an_idle_server_has_few_threads_and_processes(target):
    """Once there were 264; four such containers of one user stay below a limit of 1000."""

    def threads():
        return sum(len(list((process / "task").iterdir())) for process in processes(target))

    wait_until(lambda: threads() <= 40, "that threads end")
