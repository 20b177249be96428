"""Runs the command line, Nix and podman for the tests, and reads what they made.

What runs a container leaves the test out where there is no engine.
"""

import atexit
import contextlib
import functools
import json
import os
import random
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

from tests.frozen.served import TUNGSTEN
from tests.frozen.starter import Starter
from tests.machine import lacks, need
from tungstenkit import nix_program, store

ROOT = Path(__file__).resolve().parent.parent.parent
SYSTEM = "x86_64-linux"
ENGINE = ("podman", "runc")
"""What a container takes, by the names that `need` knows."""


@functools.cache
def starter():
    """What starts the command line; one for all tests."""
    folder = tempfile.TemporaryDirectory(prefix="tungsten-starter-")
    started = Starter(Path(folder.name))
    atexit.register(folder.cleanup)
    atexit.register(started.stop)
    return started


def tungsten(*arguments, before=(), env=None):
    """Run a command; the finished process with its output, for tests that expect a failure too."""
    environ, texts = {**os.environ, **(env or {})}, [*map(str, arguments)]
    if not before:
        return starter().run(texts, environ)
    return subprocess.run([*before, *TUNGSTEN, *texts], capture_output=True, text=True, env=environ)


def succeed(*arguments, **options):
    done = tungsten(*arguments, **options)
    assert done.returncode == 0, done.stderr
    return done.stdout


def nix(*arguments):
    done = subprocess.run(nix_line(*arguments), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def nix_line(command, *arguments, options=None):
    """A command of the Nix that tungsten starts, for its store; with our options, or with others."""
    chosen = nix_program.current()
    given = [f"{name}={value}" for name, value in chosen.variables.items()]
    line = chosen.line([command, *(store.options() if options is None else options), *map(str, arguments)])
    return [*(["/usr/bin/env", *given] if given else []), *line]


def checkout(tmp_path):
    """The files that git has, as a clone would have them."""
    target = tmp_path / "checkout"
    target.mkdir()
    listed = subprocess.run(["git", "-C", ROOT, "ls-files", "-z"], capture_output=True, text=True, check=True)
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).exists():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, target / name)
    return target


def derivation(path):
    """What Nix does to make a path: one in a list."""
    return list(json.loads(nix("nix", "show-derivation", path)).values())


class Build:
    """A built model."""

    def __init__(self, directory, answer):
        self.directory = directory
        self.digest = answer["digest"]
        self.reference = answer["reference"]
        self.layout = Path(answer["layout"])
        links = sorted((self.directory / ".tungsten").glob(f"image-{answer['platform']}-*"))
        self._required = [link.resolve() for link in links]

    def blob(self, digest):
        return self.layout / "blobs" / "sha256" / digest.removeprefix("sha256:")

    @property
    def image_id(self):
        """What engines know the image by, whatever else is built under its name meanwhile."""
        return self.manifest["config"]["digest"]

    @property
    def manifest(self):
        return json.loads(self.blob(self.digest).read_text())

    @property
    def config(self):
        return json.loads(self.blob(self.manifest["config"]["digest"]).read_text())

    @property
    def layers(self):
        """Digests, lowest first."""
        return [layer["digest"] for layer in self.manifest["layers"]]

    @property
    def derivation(self):
        (deriver,) = nix("nix-store", "--query", "--deriver", self.layout).split()
        return deriver

    @property
    def required(self):
        """The derivations of what had to succeed for the image."""
        return nix("nix-store", "--query", "--deriver", *self._required).split() if self._required else []

    @property
    def requisites(self):
        """Everything that its layout, and what had to succeed for it, is built with; derivations, too."""
        return set(nix("nix-store", "--query", "--requisites", self.derivation, *self.required).split())


def build(directory, *options, **keywords):
    return Build(directory, json.loads(succeed("build", directory, "--json", *options, **keywords)))


def free_port():
    """A port that nobody listens at. It is below those that Linux gives to who asks for any (ip_local_port_range): what
    else starts meanwhile does not get it.
    """
    while True:
        port = random.randrange(10_000, 32_768)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def container_arguments():
    """For `podman run`: crun and the default limits fail on virtual machines such as CI's; less than most is enough."""
    return [
        *("--runtime=runc", "--network=host", "--read-only", "--tmpfs=/tmp"),
        *("--ulimit=nofile=1024:1024", "--ulimit=nproc=1000:1000"),
    ]


@contextlib.contextmanager
def container(reference, *options):
    """A started container, on a free loopback port; its base URL and its name, once it is ready."""
    need(*ENGINE)
    port = free_port()
    command = [
        *("podman", "run", "--detach", *container_arguments(), f"--env=TUNGSTEN_PORT={port}"),
        *options,
        reference,
    ]
    started = subprocess.run(command, capture_output=True, text=True)
    assert started.returncode == 0, started.stderr
    name = started.stdout.strip()
    try:
        url = f"http://127.0.0.1:{port}"
        wait_until_ready(url, name)
        yield url, name
    finally:
        subprocess.run(["podman", "rm", "--force", "--time", "5", name], capture_output=True)


def remove_images(*references):
    """Remove images from the engine, where there is one; also those that are not there."""
    if references and not lacks(*ENGINE):
        command = ["podman", "rmi", "--force", "--ignore", *references]
        subprocess.run(command, capture_output=True, check=True)


def wait_until_ready(url, name):
    deadline = time.monotonic() + 60
    while True:
        try:
            urllib.request.urlopen(f"{url}/readyz", timeout=5).close()
        except OSError:
            logs = subprocess.run(["podman", "logs", name], capture_output=True, text=True)
            assert time.monotonic() < deadline, logs.stdout + logs.stderr
            time.sleep(0.1)
        else:
            return


def post(url, value):
    """POST JSON; the status and the answer."""
    request = urllib.request.Request(url, json.dumps(value).encode(), {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def run_in(reference, *command):
    """Run a program of an image, in place of its entry point."""
    need(*ENGINE)
    program, *arguments = command
    done = subprocess.run(
        ["podman", "run", "--rm", *container_arguments(), f"--entrypoint={program}", reference, *arguments],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
