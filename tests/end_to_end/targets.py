"""The servers that the black-box tests speak to, in this Python and in a container, both by `tungsten serve`."""

import os
import subprocess
from contextlib import contextmanager
from pathlib import Path

import requests

from tests.end_to_end.harness import TUNGSTEN, container_arguments, free_port
from tests.server.conftest import DEADLINE, Gate, Server, wait_until

MODEL = Path(__file__).with_name("surface_model")
LIMITS = {"TUNGSTEN_MAX_PENDING": "16", "TUNGSTEN_MAX_BODY": "300000", "TUNGSTEN_MAX_INPUTS": "64"}


class Target(Server):
    """A server, as its clients and the one who started it see it."""

    def __init__(self, process, port, log, gates):
        self.process = process
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self.log_file = log
        self.gates = gates

    def gate(self, name):
        """A gate that `wait NAME` waits at."""
        return make_gate(self.gates / name)

    def wait_listening(self):
        def listens():
            assert self.process.poll() is None, self.log_file.read_text()
            try:
                return self.get("/healthz").status_code == 200
            except requests.ConnectionError:
                return False

        wait_until(listens, "listening")
        return self


def make_gate(path):
    """A gate for a model of any user, as in a container."""
    gate = Gate(path)
    gate.path.chmod(0o666)
    return gate


@contextmanager
def served(model, folder, **environment):
    """`tungsten serve` of a folder (`--local`) or of an image's name; it listens, and is ready or not.

    SURFACE_SETUP=wait: `setup` waits at the gate `target.setup`.
    """
    port = free_port()
    gates, log = folder / "gates", folder / "log"
    gates.mkdir()
    gates.chmod(0o777)
    setup = make_gate(gates / "setup") if environment.get("SURFACE_SETUP") == "wait" else None
    command = [*TUNGSTEN, "serve", str(model), "--port", str(port)]
    # The server's own settings come through `tungsten serve`; the model's environment is the engine's business.
    if isinstance(model, Path):
        command.append("--local")
        environment["SURFACE_GATES"] = str(gates)
    else:
        names = [name for name in environment if name.startswith("SURFACE_")]
        arguments = [*container_arguments(), f"--volume={gates}:/gates", *(f"--env={name}" for name in names)]
        command += [f"--engine-arg={argument}" for argument in arguments]
    with log.open("wb") as file:
        process = subprocess.Popen(command, stdout=file, stderr=file, env={**os.environ, **environment})
    try:
        target = Target(process, port, log, gates)
        target.setup = setup
        yield target.wait_listening()
    finally:
        process.terminate()
        try:
            process.wait(DEADLINE)
        finally:
            process.kill()
            process.wait()
            print(log.read_text())
