"""A small model, and the real server run on it: what the black-box tests share."""

import json
import os
import re
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import requests

REPOSITORY = Path(__file__).resolve().parents[2]
SERVER = str(REPOSITORY / "server")

DEADLINE = 60
"""Seconds after which a test gives up on what must happen; far above what it takes on a busy machine, too."""

MODEL = """
import os, subprocess, sys, time
from typing import List
from tungstenkit import BaseIO, Image, Option, define_model
import batcher  # a module of the model's own, called like one of the server's

class Input(BaseIO):
    do: str
    scale: float = Option(1.0)
    picture: Image = Option("data:,")

class Output(BaseIO):
    did: str
    batch: List[str]
    scales: List[float]

@define_model(input=Input, output=Output, batch_size=4)
class Model:
    def setup(self):
        self.run = batcher.run
        print("printed by setup")

    def predict(self, inputs):
        outputs = []
        batch, scales = [i.do for i in inputs], [i.scale for i in inputs]
        for i in inputs:
            word, _, argument = i.do.partition(" ")
            if word in self.run:
                outputs += self.run[word](argument)
            else:
                outputs.append(Output(did=i.do, batch=batch, scales=scales))
        return outputs
"""

BATCHER = """
import os, subprocess, sys

def block(path):
    with open(path) as fifo:  # opens when the test opens its other end, and ends when it closes it
        fifo.read()
        return [{"did": "blocked", "batch": [], "scales": []}]

def raises(argument):
    raise ValueError(argument)

def hang(path):
    child = subprocess.Popen(["sleep", "1000"])
    with open(path, "w") as file:
        file.write(str(child.pid))
    child.wait()

run = {
    "block": block,
    "raise": raises,
    "hang": hang,
    "sys.exit": lambda _: sys.exit("bye"),
    "interrupt": lambda _: raises_interrupt(),
    "die": lambda status: os._exit(int(status)),
    "kill": lambda _: os.kill(os.getpid(), 9),
    "none": lambda _: [],
    "wrong": lambda _: ["a string"],
    "incomplete": lambda _: [{"did": "x"}],
    "fork": lambda path: fork(path),
    "forked": lambda how: forked(how),
    "close-files": lambda _: os.closerange(3, 200),
    "silent": lambda _: raises_silent(),
    "liar": lambda _: [Liar()],
}

def raises_interrupt():
    raise KeyboardInterrupt

class Silent(Exception):
    def __str__(self):
        raise SystemExit

def raises_silent():
    raise Silent

class Liar:
    @property
    def __class__(self):
        raise RuntimeError("no class")

def forked(how):
    pid = os.fork()
    if pid == 0:
        if how == "exits":
            sys.exit(3)
        if how == "raises":
            raise ValueError(how)
        return [{"did": how, "batch": [], "scales": []}]
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return [{"did": str(status), "batch": [], "scales": []}]

def fork(path):
    # The child holds the model's end of the socket open when the model dies.
    if os.fork() == 0:
        with open(path):
            os._exit(0)
    os._exit(7)
"""

SPEC = {
    "spec-version": 1,
    "name": "test-model",
    "module": "tungsten_model",
    "class": "Model",
    "batch-size": 4,
    "input-schema": {
        "type": "object",
        "properties": {
            "do": {"type": "string"},
            "scale": {"type": "number", "default": 1.0, "maximum": 10, "x-option": True},
            "picture": {
                "type": "string",
                "format": "uri",
                "x-file-type": "image",
                "default": "data:,",
                "x-option": True,
            },
        },
        "required": ["do"],
        "x-order": ["do", "scale", "picture"],
    },
    "output-schema": {"type": "object", "properties": {"did": {"type": "string"}}},
    "demo-output-schema": None,
}


def wait_until(condition, what):
    """Return the condition's first true value."""
    end = time.monotonic() + DEADLINE
    while not (value := condition()):
        assert time.monotonic() < end, f"{what}: did not happen"
        time.sleep(0.02)
    return value


def request(method, path, headers="", body=b""):
    """The bytes of a request."""
    return f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n".encode() + body


def connect(port):
    """A connection to a server on this machine."""
    return socket.create_connection(("127.0.0.1", port), DEADLINE)


class Server:
    """A running server, as a client and its operator see it."""

    def __init__(self, process, log):
        self.process = process
        self.log_file = log
        self.port = int(wait_until(lambda: self.logged(r" start .* port=(\d+)"), "start").group(1))
        self.url = f"http://127.0.0.1:{self.port}"

    def logged(self, pattern):
        return re.search(pattern, self.log_file.read_text())

    def wait_for_log(self, pattern):
        return wait_until(lambda: self.logged(pattern), f"log line {pattern!r}")

    def wait_ready(self):
        wait_until(lambda: self.get("/readyz").status_code == 200, "readiness")
        return self

    def get(self, path):
        return requests.get(self.url + path, timeout=DEADLINE)

    def post(self, body, path="/predict", **headers):
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = {"Content-Type": "application/json", **headers}
        return requests.post(self.url + path, data=data, headers=headers, timeout=DEADLINE)

    def post_form(self, path="/predict", **fields):
        """Post a form: text, or a file as (name, content, type)."""
        parts = {name: field if isinstance(field, tuple) else (None, field) for name, field in fields.items()}
        return requests.post(self.url + path, files=parts, timeout=DEADLINE)

    def begin(self, *todo, path="/predictions", **options):
        """Start a prediction without waiting for it; return its own path."""
        response = self.post([{"do": do, **options} for do in todo], path)
        assert response.status_code == 200, response.text
        (prediction_id,) = response.json().values()
        return f"{path}/{prediction_id}"

    def ended(self, path):
        """Return a prediction's object once it is done."""
        return wait_until(
            lambda: (state := self.get(path).json())["status"] in ("success", "failed") and state, path
        )

    def cancel(self, path):
        response = requests.post(f"{self.url}{path}/cancel", timeout=DEADLINE)
        assert (response.status_code, response.content) == (200, b"")

    def predict(self, *todo, **options):
        """Post one input for each of `todo`; return the prediction object."""
        response = self.post([{"do": do, **options} for do in todo])
        assert response.status_code == 200, response.text
        return response.json()

    def model_pids(self):
        """Of all model processes that were ever ready."""
        return [int(pid) for pid in re.findall(r" ready pid=(\d+)", self.log_file.read_text())]

    def model_pid(self):
        return self.model_pids()[-1]

    def end(self, signum=15):
        """Signal it; return its exit status."""
        self.process.send_signal(signum)
        return self.process.wait(DEADLINE)


def write_model(folder, model=MODEL, spec=SPEC):
    """Write a model's folder and, beside it, its spec; return the spec's path."""
    folder.mkdir(exist_ok=True)
    (folder / "tungsten_model.py").write_text(model)
    (folder / "batcher.py").write_text(BATCHER)
    for name in ("flask.py", "waitress.py"):
        (folder / name).write_text("raise ImportError('a module of the model in the HTTP process')")
    (folder / "tungstenkit").symlink_to(REPOSITORY / "tungstenkit")
    path = folder.with_suffix(".json")
    path.write_text(json.dumps(spec))
    return path


@contextmanager
def running_server(folder, *flags, model=MODEL, spec=SPEC, ready=True, **environment):
    """Run the server on a model until the block ends."""
    folder = folder / "model"
    spec_path = write_model(folder, model, spec)
    log = folder.with_suffix(".log")
    command = [sys.executable, "-m", "tungsten_server", "--spec", spec_path, "--model-dir", folder]
    command += ["--model-python", sys.executable, "--host", "127.0.0.1", "--port", "0", *flags]
    environment = {**os.environ, "PYTHONPATH": SERVER, **environment}
    with log.open("wb") as file:
        process = subprocess.Popen(command, stderr=file, stdout=file, cwd=folder, env=environment)
    try:
        server = Server(process, log)
        yield server.wait_ready() if ready else server
    finally:
        process.kill()
        process.wait()
        print(log.read_text())


@pytest.fixture
def start_server(tmp_path):
    """Run the server, with flags and environment variables of the test's own."""
    return lambda *flags, **arguments: running_server(tmp_path, *flags, **arguments)


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    """One server for the tests that leave it as it was."""
    with running_server(tmp_path_factory.mktemp("shared")) as server:
        yield server


@pytest.fixture
def pool():
    """Threads to send requests from."""
    with ThreadPoolExecutor(64) as pool:
        yield pool


class Gate:
    """A FIFO: `block PATH` keeps the model inside `predict` until the test has opened it for writing and closed it."""

    def __init__(self, path):
        self.path = path
        os.mkfifo(path)

    def __str__(self):
        return str(self.path)

    def open(self):
        """Open it, which works once the model waits at the other end."""

        def try_to_open():
            with suppress(OSError):
                return os.fdopen(os.open(self.path, os.O_WRONLY | os.O_NONBLOCK), "w")

        return wait_until(try_to_open, "the model's waiting at the gate")


@pytest.fixture
def gate(tmp_path):
    """A gate for the model to wait at."""
    return Gate(tmp_path / "gate")
