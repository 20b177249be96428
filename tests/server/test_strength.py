"""What the server stands: a model process that is killed again and again under load, and far too many requests."""

import json
import os
import re
import selectors
import signal
import socket
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.server.conftest import DEADLINE, SPEC, wait_until
from tests.server.speed import children, pss_megabytes

pytestmark = pytest.mark.timeless("about load; test_main stops and kills servers")

SECONDS = int(os.environ.get("TUNGSTEN_STRENGTH_SECONDS", "6"))
"""How long each load lasts; a minute says more about memory."""

CLIENTS = 16

MODEL = """
import subprocess, time
from tungstenkit import BaseIO, define_model

class Input(BaseIO):
    do: str

class Output(BaseIO):
    did: str

@define_model(input=Input, output=Output, batch_size=4)
class Model:
    def setup(self):
        self.child = subprocess.Popen(["sleep", "1000"])

    def predict(self, inputs):
        time.sleep(0.005)
        return [Output(did=i.do) for i in inputs]
"""


class Load:
    """Clients that send one request after the other, and note what comes of each. A thread runs all of them."""

    def __init__(self, server, clients, padding=0):
        self.address = ("127.0.0.1", server.port)
        self.padding = "x" * padding
        self.outcomes = Counter()
        self.seconds = []
        """Of each accepted request."""
        self.longest_silence = 0.0
        self._last = time.monotonic()
        self._stop = threading.Event()
        self._selector = selectors.DefaultSelector()
        self._clients = clients
        self._pool = ThreadPoolExecutor(1)
        self._running = self._pool.submit(self._run)

    def _run(self):
        for number in range(self._clients):
            self._begin(socket.create_connection(self.address, DEADLINE), number, 0)
        while self._selector.get_map():
            ready = self._selector.select(DEADLINE)
            assert ready, f"no answer in {DEADLINE} seconds"
            for key, _ in ready:
                sock, (client, number, began, data) = key.fileobj, key.data
                received = sock.recv(65536)
                assert received, f"the connection was closed after {data!r}"
                data += received
                head, _, body = data.partition(b"\r\n\r\n")
                length = re.search(rb"Content-Length: (\d+)", head)
                self._selector.unregister(sock)
                if not length or len(body) < int(length.group(1)):
                    self._selector.register(sock, selectors.EVENT_READ, (client, number, began, data))
                    continue
                self._note(f"{client} {number}", head, json.loads(body), began)
                if self._stop.is_set():
                    sock.close()
                    continue
                if b"Connection: close" in head:
                    sock.close()
                    sock = socket.create_connection(self.address, DEADLINE)
                self._begin(sock, client, number + 1)

    def _begin(self, sock, client, number):
        body = json.dumps([{"do": f"{client} {number}", "padding": self.padding}])
        head = (
            "POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: "
        )
        sock.sendall(f"{head}{len(body)}\r\n\r\n{body}".encode())
        self._selector.register(sock, selectors.EVENT_READ, (client, number, time.monotonic(), b""))

    def _note(self, do, head, answer, began):
        now = time.monotonic()
        self.longest_silence, self._last = max(self.longest_silence, now - self._last), now
        if head.startswith(b"HTTP/1.1 503"):
            assert re.search(rb"Retry-After: [1-9]", head)
            self.outcomes["refused"] += 1
            return
        assert head.startswith(b"HTTP/1.1 200"), answer
        self.seconds.append(now - began)
        if answer["status"] == "success":
            assert answer["outputs"] == [{"did": do}], "another one's output"
        else:
            assert re.match(r"The model process died \(signal 9\)", answer["error_message"])
        self.outcomes[answer["status"]] += 1

    def end(self):
        """Stop when each client has its last answer, and raise what went wrong."""
        self._stop.set()
        self._running.result(2 * DEADLINE)
        self._pool.shutdown()
        self._selector.close()

    def percentile(self, part):
        return sorted(self.seconds)[int(part * (len(self.seconds) - 1))]


def settled_memory(server):
    """Megabytes of the server and all that it has started, once its model process and its child are there."""
    wait_until(lambda: len(children(server.process.pid)) == 3, "the model process and its child")
    return pss_megabytes(server.process.pid)


def sleepers(folder):
    """Children that models in this folder have started, whoever is their parent now."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes()
            if command.startswith(b"sleep\x001000") and (process / "cwd").resolve() == folder.resolve():
                found.append(process.name)
        except OSError:
            continue
    return found


def test_a_model_process_that_is_killed_every_second_costs_what_ran_and_nothing_more(
    start_server, tmp_path, record_property
):
    with start_server(model=MODEL, spec={**SPEC, "input-schema": {"type": "object"}}) as server:
        warm = Load(server, CLIENTS)
        time.sleep(1)
        warm.end()
        before = settled_memory(server)
        load = Load(server, CLIENTS)
        killed = 0
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            time.sleep(1)
            assert server.get("/healthz").status_code == 200
            # On a busy machine the one before is not replaced within a second.
            wait_until(lambda: len(server.model_pids()) > killed, "the next model process")  # noqa: B023 (called at once)
            os.kill(server.model_pid(), signal.SIGKILL)
            killed += 1
        load.end()
        server.wait_ready()
        after = settled_memory(server)
        report = (
            f"{killed} kills, {dict(load.outcomes)}, longest silence {load.longest_silence:.2f} s, "
            f"p99 {load.percentile(0.99):.2f} s, memory {before:.1f} to {after:.1f} MB"
        )
        print(report)
        record_property("strength", report)
        assert load.outcomes["success"] > 100
        # At most one batch, and perhaps one that was ahead at two deaths, for each death.
        assert load.outcomes["failed"] <= 8 * killed
        assert load.longest_silence < 20
        assert after < before + 12
        assert len(sleepers(tmp_path / "model")) == 1
        assert server.end() == 0
        assert sleepers(tmp_path / "model") == []


def test_twenty_times_what_fits_is_refused_in_time_and_leaves_nothing_behind(start_server, record_property):
    pending = 10
    with start_server(
        "--max-pending", str(pending), model=MODEL, spec={**SPEC, "input-schema": {"type": "object"}}
    ) as server:
        warm = Load(server, CLIENTS)
        time.sleep(1)
        warm.end()
        before = settled_memory(server)
        load = Load(server, 20 * pending, padding=20_000)
        peak = 0.0
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            time.sleep(0.5)
            assert server.get("/healthz").status_code == 200
            peak = max(peak, pss_megabytes(server.process.pid))
        load.end()
        after = settled_memory(server)
        report = (
            f"{dict(load.outcomes)}, p99 of what was accepted {load.percentile(0.99):.2f} s, "
            f"memory {before:.1f}, at most {peak:.1f}, then {after:.1f} MB"
        )
        print(report)
        record_property("strength", report)
        assert load.outcomes["refused"] > 0
        assert load.outcomes["success"] > 0
        assert load.outcomes["failed"] == 0
        assert load.percentile(0.99) < 20
        assert peak < before + 100
        assert after < before + 30
        assert server.predict("x")["outputs"] == [{"did": "x"}]
