"""The container engine, GPUs, and GPUs in containers.

A container is really started: of an image that is made here, of one program of some bytes, and is removed again.
"""

from __future__ import annotations

import getpass
import io
import os
import re
import secrets
import shlex
import shutil
import struct
import subprocess
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING

from tungstenkit import lacks
from tungstenkit.doctor.finding import fine, lacking, lacking_by, unsure
from tungstenkit.nix_build.engine import find_engine
from tungstenkit.platforms import ARCHITECTURES, this_system
from tungstenkit.run.container import gpu_arguments
from tungstenkit.sdk.errors import TungstenError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tungstenkit.doctor.finding import Finding
    from tungstenkit.lacks import Linux

_SECONDS = 25
_USER = "65532:0"
"""The user of images."""
_EXIT = {
    # exit(0), by the numbers of system calls (syscalls(2)).
    "x86_64-linux": bytes.fromhex("31ff b83c000000 0f05"),  # xor edi, edi; mov eax, 60; syscall
    "aarch64-linux": bytes.fromhex("000080d2 a80b80d2 010000d4"),  # mov x0, 0; mov x8, 93; svc 0
}
_AT = 0x400000
_HEADERS = 64 + 56
_NVIDIA = "0x10de"
"""The vendor of PCI devices (PCI ID repository)."""


def engines(linux: Linux, root: Path = Path("/")) -> Iterator[Finding]:
    """The engine and its containers, GPUs and GPUs in containers."""
    try:
        engine = find_engine()
    except TungstenError as problem:
        yield lacking_by(lacks.ENGINE, problem)
        engine = None
    else:
        if engine is None:
            yield _no_engine(linux)
        else:
            version = _run([engine, "--version"])
            if version.returncode == 0:
                yield fine(lacks.ENGINE, f"{version.stdout.strip()}, {shutil.which(engine)}")
                yield containers(engine, linux)
            else:
                why = f"{shutil.which(engine)} does not say its version: {_last(version.stderr)}"
                yield lacking(lacks.ENGINE, why, [lacks.installing("podman", linux)])
                engine = None
    found = gpu(linux, root)
    yield found
    if engine is not None and found.state is found.state.OK and shutil.which("nvidia-smi"):
        yield _gpus_in(engine, linux)


def _no_engine(linux: Linux) -> Finding:
    if shutil.which("docker"):
        said = _run(["docker", "info", "--format", "{{.ServerVersion}}"]).stderr.strip()
        first = (said or "it does not answer").splitlines()[0]
        remedies = [lacks.starting_docker(said, linux, _user()), lacks.installing("podman", linux)]
        return lacking(lacks.ENGINE, f"docker is here, and its daemon does not answer: {first}", remedies)
    return lacking(lacks.ENGINE, "neither podman nor docker is on PATH", [lacks.installing("podman", linux)])


def containers(engine: str, linux: Linux) -> Finding:
    """Have a container started; where the engine refuses, with what it might."""
    system = this_system()
    if system not in ARCHITECTURES:
        return unsure(lacks.CONTAINERS, f"there is no program to try on {system}")
    name = f"localhost/tungsten-doctor-{secrets.token_hex(6)}:latest"
    imported = _run([engine, "import", "-", name], _root_of(program(system)))
    try:
        if imported.returncode != 0:
            return _refused(f"{engine} takes no image", imported.stderr, linux)
        configured = shlex.split(os.environ.get(lacks.ENGINE_ARGS, ""))
        given: list[str] = []
        first = None
        while True:
            command = [
                engine,
                "run",
                "--rm",
                "--pull=never",
                f"--user={_USER}",
                *configured,
                *given,
                name,
                "/exit",
            ]
            done = _run(command)
            if done.returncode == 0:
                break
            first = first or done
            more = [one for one in lacks.engine_arguments(done.stderr) if one not in (*configured, *given)]
            if not more:
                return _refused(f"{engine} can't start one", done.stderr, linux)
            given += more
    finally:
        _run([engine, "rmi", "--force", name])
    if first is None:
        return fine(
            lacks.CONTAINERS, "one was started" + (f", with {shlex.join(configured)}" if configured else "")
        )
    remedy = lacks.Remedy(f"export {lacks.ENGINE_ARGS}={shlex.quote(shlex.join([*configured, *given]))}")
    what = f"{engine} can't start one as it is, and can with {shlex.join(given)}: {_last(first.stderr)}"
    return lacking(lacks.CONTAINERS, what, [remedy])


def _refused(what: str, said: str, linux: Linux) -> Finding:
    return lacking(lacks.CONTAINERS, f"{what}: {_last(said)}", lacks.giving_ids(said, _user(), linux))


def _last(said: str) -> str:
    return (said.strip().splitlines() or ["it says nothing"])[-1]


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return ""  # the user has no name


def program(system: str) -> bytes:
    """A whole program for Linux, which ends at once and well (System V ABI, "Object Files")."""
    code = _EXIT[system]
    size = _HEADERS + len(code)
    ident = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    machine = ARCHITECTURES[system].elf
    header = struct.pack("<HHIQQQIHHHHHH", 2, machine, 1, _AT + _HEADERS, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    segment = struct.pack("<IIQQQQQQ", 1, 5, 0, _AT, _AT, size, size, 0x1000)
    return ident + header + segment + code


def _root_of(content: bytes) -> bytes:
    """A root with that program alone, as a tar. It is the image's user's: an engine must have such an id to give."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        member = tarfile.TarInfo("exit")
        member.size, member.mode, member.uid = len(content), 0o755, int(_USER.partition(":")[0])
        tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def gpu(linux: Linux, root: Path = Path("/")) -> Finding:
    """NVIDIA's GPUs and their driver."""
    if shutil.which("nvidia-smi"):
        query = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
        done = _run(query)
        if done.returncode == 0 and done.stdout.strip():
            cuda = re.search(r"CUDA Version: *([\d.]+)", _run(["nvidia-smi"]).stdout)
            said = "; ".join(line.strip() for line in done.stdout.strip().splitlines())
            return fine(
                lacks.GPU, f"{said} (name, driver, memory)" + (f"; CUDA up to {cuda[1]}" if cuda else "")
            )
        why = f"nvidia-smi fails: {_last(done.stdout + done.stderr)}"
        return lacking(lacks.GPU, why, [lacks.installing_driver(linux)])
    if _has_gpu(root):
        return lacking(
            lacks.GPU,
            "an NVIDIA GPU is here, and no driver (no nvidia-smi)",
            [lacks.installing_driver(linux)],
        )
    return fine(lacks.GPU, "none of NVIDIA's is here: models with gpu=True are built, and run elsewhere")


def _has_gpu(root: Path) -> bool:
    """Whether the kernel shows a device of NVIDIA's; display controllers have the class 0x03."""
    if (root / "dev/nvidiactl").exists():
        return True
    for device in (root / "sys/bus/pci/devices").glob("*"):
        try:
            vendor, kind = (
                (device / name).read_text(encoding="ascii").strip() for name in ("vendor", "class")
            )
        except OSError:
            continue
        if vendor == _NVIDIA and kind.startswith("0x03"):
            return True
    return False


def _gpus_in(engine: str, linux: Linux) -> Finding:
    if engine == "docker":
        runtimes = _run(["docker", "info", "--format", "{{json .Runtimes}}"]).stdout
        if "nvidia" in runtimes or shutil.which("nvidia-container-runtime-hook"):
            return fine(lacks.GPU_CONTAINERS, "docker has NVIDIA's runtime")
        what = "docker has no runtime of NVIDIA's"
        return lacking(lacks.GPU_CONTAINERS, what, lacks.giving_gpus(engine, linux))
    try:
        gpu_arguments(engine, "all")
    except TungstenError as problem:
        return lacking(lacks.GPU_CONTAINERS, problem.what, lacks.giving_gpus(engine, linux))
    return fine(lacks.GPU_CONTAINERS, "podman knows them by NVIDIA's CDI specification")


def _run(command: Sequence[str], given: bytes = b"") -> subprocess.CompletedProcess[str]:
    """Run a program that may hang, or be gone: what it says, as text."""
    try:
        done = subprocess.run(command, input=given, capture_output=True, timeout=_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(command, 124, "", f"it has not ended in {_SECONDS} s")
    except OSError as problem:
        return subprocess.CompletedProcess(command, 127, "", problem.strerror or str(problem))
    return subprocess.CompletedProcess(
        command, done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")
    )
