"""A model's server, run on this machine: in a container of its image, or in this Python without any.

Both take the server's own flags and listen where they are told. This module owns the process: it ends with the `with`
block at the latest.
"""

from __future__ import annotations

import io
import ipaddress
import json
import os
import re
import secrets
import shlex
import signal
import socket
import subprocess
import sys
import tarfile
import threading
import time
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple

from tungstenkit.data import SERVER
from tungstenkit.machine import Needs
from tungstenkit.nix_build.faults import APP, last_fault
from tungstenkit.sdk.errors import RunError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tungstenkit.run.client import PredictionError
    from tungstenkit.spec.spec import ModelSpec

_SETTINGS = re.compile(
    r"TUNGSTEN_(?!MIRROR_|ENGINE|SHELL|MODEL_PYTHON|PORT$|HOST$).+|SETUP_TIMEOUT|PREDICTION_TIMEOUT|RESULT_EXPIRATION"
)
"""The environment variables that the server reads: a container gets those that are set here."""

_LISTEN_SECONDS = 120.0
"""In which a container starts and listens: that is 0.2 s of the server's, the rest is the engine's."""

_SAID = 3000
"""Characters of a server's last words."""

_KEPT = 256 * 1024
"""Bytes of what a server prints that are kept where no file has them: more than its last words and a traceback."""

_END_SECONDS = 2.0
"""How long the last words of a server that has ended are waited for: an engine may hold the pipe a little longer."""

_SERVERS_ERROR = " ERROR tungsten.server: "
"""What stands before the reason in the line by which a server that gives up says why."""

_SETUP_FAILED = " ERROR tungsten.model: setup failed ("
"""What the line has by which a server says that one of several setups failed."""

_ENGINE_FAILED = {125, 126, 127}
"""Exit statuses by which `podman run` and `docker run` say that the container itself did not start."""

_STDERR = 2

SPEC = "opt/tungsten/spec.json"
"""Where an image has its spec."""

CDI_FOLDERS = [Path("/etc/cdi"), Path("/var/run/cdi")]
"""Where podman looks for what a GPU is (containers.conf(5), cdi_spec_dirs)."""

_START_SERVER = (
    "import os, sys; sys.path.insert(0, sys.argv[1]);"
    "from tungsten_server.launch import main; sys.exit(main(sys.argv[2:], os.environ))"
)


@dataclass(frozen=True)
class Address:
    """Where a server listens: a free port of an address of this machine."""

    host: str
    port: int

    @classmethod
    def choose(cls, host: str, port: int) -> Address:
        """Resolve the host, and take a free port for 0. Raises RunError where it can't be listened on."""
        try:
            family, *_, found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
            with socket.socket(family) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(found)
                return cls(str(found[0]), probe.getsockname()[1])
        except (OSError, OverflowError) as problem:
            reason = problem.strerror if isinstance(problem, OSError) else str(problem)
            raise RunError(
                f"can't listen there: {reason}",
                where=f"{host} port {port}",
                hint="-p chooses another port, and -p 0 a free one; --host an address of this machine",
            ) from None

    def listen(self) -> socket.socket:
        """Listen there."""
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        return socket.create_server((self.host, self.port), family=family, backlog=1024)

    @property
    def url(self) -> str:
        """The base URL for clients on this machine."""
        reached = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)  # noqa: S104
        return f"http://{self.bracketed(reached)}:{self.port}"

    @staticmethod
    def bracketed(host: str) -> str:
        """As URLs and engines want it (RFC 3986, section 3.2.2)."""
        return f"[{host}]" if ":" in host else host


@dataclass(frozen=True)
class Program:
    """A server that can be started."""

    command: list[str]
    address: Address
    environment: dict[str, str]
    kill: list[str] | None = None
    """The command that ends what killing the process leaves: the container."""
    inherited: tuple[int, ...] = ()
    """File descriptors that the command names."""
    folder: str = APP
    """The model's, as its process sees it."""
    here: Path | None = None
    """The same as we see it, where it is known."""


class Handover(NamedTuple):
    """What a server is given that takes another one's place: file descriptors."""

    listener: int
    """A socket that listens."""
    control: int
    """The end of a socket to say that it is ready, to be told that it is its turn, and to close when it is no more."""


def image_needs(engine: str, image: str) -> Needs:
    """What an image of ours says that its model needs: its labels. Raises RunError where it is none, or isn't there."""
    if image.startswith("-"):
        raise RunError(f"{image!r} is no name of an image", hint="options stand before the name")
    command = [engine, "image", "inspect", "--format", "{{json .Config.Labels}}", "--", image]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    if run.returncode != 0:
        raise RunError(
            f"{engine} has no image {image!r}, and there is no such folder",
            where=run.stderr.strip(),
            hint=f"`{engine} images` lists them; `tungsten build DIR` makes one of a model's folder; "
            "a server that runs already is http://…",
        )
    labels = json.loads(run.stdout) or {}
    try:
        return Needs(float(labels["mem_gb"]), labels["device"] == "gpu", float(labels.get("gpu_mem_gb", 0)))
    except (KeyError, ValueError):
        raise RunError(
            f"the image {image!r} is not one that tungsten has built: its labels say nothing of a model",
            hint=f"run it with `{engine} run`",
        ) from None


def image_input_schema(engine: str, image: str, engine_args: Sequence[str] = ()) -> dict[str, Any] | None:
    """What an image's model takes, read from the image, of which nothing is run; None where it can't be read.

    engine_args: as for `container`.
    """
    name = f"tungsten-{secrets.token_hex(6)}"
    create = [engine, "create", "--pull=never", f"--name={name}", *engine_args, image]
    try:
        subprocess.run(create, capture_output=True, check=True)
        # As a tar with one file in it.
        copy = subprocess.run([engine, "cp", f"{name}:/{SPEC}", "-"], capture_output=True, check=True)
        with tarfile.open(fileobj=io.BytesIO(copy.stdout)) as tar:
            file = tar.extractfile(Path(SPEC).name)
            schema: dict[str, Any] | None = None if file is None else json.load(file).get("input-schema")
            return schema
    except (subprocess.CalledProcessError, tarfile.TarError, KeyError, ValueError):
        return None
    finally:
        subprocess.run([engine, "rm", "--force", name], capture_output=True, check=False)


def container(
    engine: str,
    image: str,
    address: Address,
    flags: Sequence[str],
    *,
    gpus: str | None,
    engine_args: Sequence[str] = (),
) -> Program:
    """A container of an image, removed when it ends.

    flags: the server's. gpus: `all`, numbers or UUIDs with commas between them, or None for none.
    engine_args: more for `podman run` or `docker run`, before the image.
    """
    name = f"tungsten-{secrets.token_hex(6)}"
    host, port = address.host, str(address.port)
    if re.search(r"--net(work)?[= ]host\b", " ".join(engine_args)):
        listen, publish = ["--host", host], []
    else:
        # The same port inside: so it is right, too, where the engine's configuration chooses the host's network.
        listen, publish = [], ["--publish", f"{Address.bracketed(host)}:{port}:{port}"]
        if ipaddress.ip_address(host).is_loopback:
            # Inside, the server listens on all addresses, and can't tell that only this machine reaches it.
            publish.append("--env=TUNGSTEN_ALLOW_HOST=localhost")
    environment = _environment()
    settings = sorted(name for name in environment if _SETTINGS.fullmatch(name))
    return Program(
        [
            *(engine, "run", "--rm", "--pull=never", f"--name={name}", *publish),
            *(f"--env={name}" for name in settings),
            *_gpu_arguments(engine, gpus),
            *(*engine_args, image, "--port", port, *listen, *flags),
        ],
        address,
        environment,
        kill=[engine, "rm", "--force", *(["--time=0"] if engine == "podman" else []), name],
    )


def _environment() -> dict[str, str]:
    """Ours, for a server that somebody is waiting for: what is wrong with `setup` is told once, and at once."""
    return {"TUNGSTEN_MAX_SETUPS": "1", **os.environ}


def _gpu_arguments(engine: str, gpus: str | None) -> list[str]:
    if gpus is None:
        return []
    if engine == "docker":
        return ["--gpus", "all" if gpus == "all" else f'"device={gpus}"']
    files = [path for folder in CDI_FOLDERS for path in folder.glob("*.[jy]*")]
    if not any(b"nvidia.com/gpu" in path.read_bytes() for path in files):
        raise RunError(
            "the model wants a GPU, and podman knows of none: there is no CDI specification of NVIDIA's",
            where=" and ".join(map(str, CDI_FOLDERS)),
            hint="install the NVIDIA container toolkit and run `nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml`;"
            " --no-gpu runs the model without",
        )
    return [f"--device=nvidia.com/gpu={one}" for one in gpus.split(",")]


def local(
    spec: ModelSpec,
    spec_file: Path,
    folder: Path,
    address: Address,
    flags: Sequence[str],
    *,
    gpus: str | None,
    python: str | None = None,
    handover: Handover | None = None,
) -> Program:
    """The server in this Python, and the model in it or another one, with the packages that are installed there.

    spec_file: where the spec is written for the server. gpus: as for `container`. python: the model's.
    handover: of a socket, in place of the address.
    Raises RunError naming every package that the model declares and that isn't there.
    """
    _require(spec.python_packages, python or sys.executable)
    spec_file.write_text(spec.to_json(), encoding="utf-8")
    environment = _environment()
    if gpus != "all":
        environment["CUDA_VISIBLE_DEVICES"] = gpus or ""
    # Where the model's Python is a development shell's, it must see the server's part in its process.
    shown = [environment.get("TUNGSTEN_SHELL_PATHS", ""), str(SERVER.parent), str(folder)]
    environment["TUNGSTEN_SHELL_PATHS"] = ":".join(filter(None, shown))
    arguments = [
        *("--spec", str(spec_file), "--model-dir", str(folder)),
        *("--model-python", python or sys.executable),
    ]
    if handover is None:
        where = ["--host", address.host, "--port", str(address.port)]
    else:
        where = ["--listen-fd", str(handover.listener), "--handover-fd", str(handover.control)]
    # -P: the working directory may be the model's folder, and a `flask.py` there is not for the server.
    command = [sys.executable, "-P", "-c", _START_SERVER, str(SERVER.parent), *arguments, *where, *flags]
    inherited = () if handover is None else handover
    return Program(command, address, environment, inherited=inherited, folder=str(folder), here=folder)


_DESCRIBE = """
import importlib.metadata, json, os, platform, sys

def version(name):
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None

print(json.dumps({
    "versions": {name: version(name) for name in sys.argv[1:]},
    "environment": {
        "implementation_name": sys.implementation.name,
        "os_name": os.name,
        "platform_machine": platform.machine(),
        "platform_python_implementation": platform.python_implementation(),
        "platform_system": platform.system(),
        "python_full_version": platform.python_version(),
        "python_version": "%d.%d" % sys.version_info[:2],
        "sys_platform": sys.platform,
    },
}))
"""
"""Run by a Python, says which versions of some packages it has, and what markers mean there (PEP 508)."""


def _require(packages: Sequence[str], python: str) -> None:
    """Raises RunError where requirements are not met whose project is known. What they require is pip's business."""
    from tungstenkit.spec.requirements import parse

    requirements = [one for one in parse(packages).requirements if one.name is not None]
    command = [python, "-c", _DESCRIBE, *(str(one.name) for one in requirements)]
    try:
        run = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as problem:
        raise RunError(f"the model's Python can't be run: {problem.strerror}", where=python) from None
    if run.returncode != 0:
        raise RunError(f"the model's Python can't be run; it said:\n{run.stderr.strip()}", where=python)
    found = json.loads(run.stdout)
    problems, unmet = [], []
    for requirement in requirements:
        text = requirement.text
        version = found["versions"][requirement.name]
        if requirement.marker is not None and not requirement.marker.evaluate(found["environment"]):
            continue
        if version is None:
            problems.append(f"{text} is not installed")
        elif not requirement.specifier.contains(version, prereleases=True):
            problems.append(f"{text} is asked for, and {version} is installed")
        else:
            continue
        unmet.append(text)
    if unmet:
        in_shell = os.environ.get("TUNGSTEN_MODEL_PYTHON") == python
        raise RunError(
            "the model's packages are not all in this Python:\n" + "\n".join(f"- {one}" for one in problems),
            where=python,
            hint="leave the shell, run `tungsten lock`, and enter it again"
            if in_shell
            else shlex.join([python, "-m", "pip", "install", *unmet]),
        )


class Running:
    """A started server."""

    def __init__(self, program: Program, process: subprocess.Popen[bytes], log: Path | _Echo | None) -> None:
        """log: where it prints, if it isn't where we do alone."""
        from tungstenkit.run.client import Client

        self._program = program
        self._log = log
        self._process = process
        self.url = program.address.url
        self.client = Client(self.url, here=True)

    @property
    def pid(self) -> int:
        """Of its first process, or of the engine's client."""
        return self._process.pid

    def wait_until(self, path: str) -> bool:
        """Wait until a path is answered with 200; False if the server ends instead.

        `/healthz`: it listens. `/readyz`: it takes requests; how long that may take is a setting of the server's.
        Raises RunError where `/healthz` is not answered in time.
        """
        deadline = time.monotonic() + _LISTEN_SECONDS
        while self._process.poll() is None:
            if path == "/healthz" and time.monotonic() > deadline:
                raise RunError(
                    f"the server is started, and can't be reached within {_LISTEN_SECONDS:g} s",
                    where=self.url,
                    hint="is the engine's network shut off from this machine? --engine-arg=--network=host goes without",
                )
            if self.client.answers(path):
                return True
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(0.1)
        return False

    def expect(self, path: str) -> None:
        """Wait likewise. Raises RunError that says what is wrong with the model, if it ends instead."""
        if not self.wait_until(path):
            if error := self.setup_error():
                raise error
            printed = self._printed()
            why = [
                line.partition(_SERVERS_ERROR)[2] for line in printed.splitlines() if _SERVERS_ERROR in line
            ]
            what = ": ".join(["the model's server ended before it was ready", *why[-1:]])
            printed = _last_attempt(printed)
            # Whole lines only.
            end = (
                printed if len(printed) <= _SAID else printed[-_SAID:].partition("\n")[2] or printed[-_SAID:]
            )
            raise RunError(f"{what}; it said:\n{end}", where=shlex.join(self._program.command))

    def setup_error(self) -> RunError | None:
        """The model's fault, where it has ended by one before it was ready."""
        fault = last_fault(self._printed(), self._program.folder, self._program.here)
        if fault is None:
            return None
        # Once: what is on the terminal has the traceback.
        frames = "" if isinstance(self._log, _Echo) else f"\n{fault.frames}"
        return RunError(f"setup fails: {fault.reason}{frames}", where=fault.where, hint=fault.hint)

    def prediction_error(self, problem: PredictionError) -> RunError:
        """What a prediction that failed says of the model's own code, once the server has ended."""
        fault = last_fault(self._printed(), self._program.folder, self._program.here)
        if fault is None or fault.where is None:
            # What was returned is at fault, and the problem says how.
            return problem
        return RunError(f"{problem.what}\n{fault.frames}", where=fault.where, hint=fault.hint)

    def _printed(self) -> str:
        if isinstance(self._log, Path):
            return self._log.read_text(errors="replace").strip()
        return self._log.text().strip() if self._log is not None else ""

    def wait(self) -> int:
        """Wait until it ends; its exit status. Raises RunError where the engine could not start it."""
        status = self._process.wait()
        if isinstance(self._log, _Echo):
            self._log.text()  # all of it, before what we say
        if self._program.kill is not None and status in _ENGINE_FAILED:
            raise RunError(
                f"{self._program.command[0]} could not start the container; it says why above",
                where=shlex.join(self._program.command),
                hint="TUNGSTEN_ENGINE_ARGS has the arguments that this machine always needs, such as `--network=host`;"
                " --engine-arg gives one more",
            )
        return status if status >= 0 else 128 - status

    def terminate(self) -> None:
        """Let it answer what it has accepted, and end. How long that may take is its own setting."""
        self._process.terminate()

    def stop(self) -> int:
        """Do likewise, and wait for it; its exit status."""
        self.terminate()
        return self.wait()

    def kill(self) -> None:
        """End it now, and the container with it."""
        with suppress(ProcessLookupError):
            # A session of its own: what a wrapper has started goes with it.
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        if self._program.kill is not None:
            # Of the container that was killed is only the engine's client.
            subprocess.run(self._program.kill, capture_output=True, check=False)


class _Echo:
    """Passes on what a server prints to our standard error, and keeps the end of it."""

    def __init__(self, source: int) -> None:
        """source: a pipe's end, closed at its end."""
        self._source = source
        self._kept = b""
        self._thread = threading.Thread(target=self._run, name="tungsten-echo", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while data := os.read(self._source, 1 << 16):
            self._kept = (self._kept + data)[-_KEPT:]
            with suppress(OSError):  # nobody reads it any more
                left = memoryview(data)
                while left:
                    left = left[os.write(_STDERR, left) :]
        os.close(self._source)

    def text(self) -> str:
        """What it has printed last, once it has ended."""
        self._thread.join(_END_SECONDS)
        return self._kept.decode(errors="replace")


def _last_attempt(printed: str) -> str:
    """What a server printed, but for the setups before the last one: they failed likewise."""
    lines = printed.splitlines()
    ends = [number for number, line in enumerate(lines) if _SETUP_FAILED in line]
    return "\n".join(lines[ends[-2] + 1 :]) if len(ends) > 1 else printed


@contextmanager
def running(program: Program, log: Path | None = None, *, echo: bool = False) -> Iterator[Running]:
    """Start a server, and end it with the block.

    log: a file for what it prints; None: our standard error. echo: whether the end of the latter is kept, too.
    """
    with ExitStack() as stack:
        pipe = os.pipe() if echo else None
        output: int | IO[bytes] = _STDERR
        if pipe is not None:
            output = pipe[1]
        elif log is not None:
            output = stack.enter_context(log.open("wb"))
        process = stack.enter_context(
            subprocess.Popen(
                program.command,
                env=program.environment,
                pass_fds=program.inherited,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                # Ctrl-C is for us alone: we tell the server once.
                start_new_session=True,
            )
        )
        if pipe is None:
            server = Running(program, process, log)
        else:
            os.close(pipe[1])
            server = Running(program, process, _Echo(pipe[0]))
        try:
            yield server
        finally:
            # Where a signal has ended an engine's client, the container may live on.
            if process.poll() is None or process.returncode < 0:
                server.kill()
