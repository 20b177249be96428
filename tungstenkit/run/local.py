"""A model's server in this Python, without a container."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from tungstenkit.data import SERVER
from tungstenkit.run.program import Program, environment_for_server
from tungstenkit.sdk.errors import RunError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tungstenkit.run.address import Address
    from tungstenkit.spec.document import ModelSpec

_START_SERVER = (
    "import os, sys; sys.path.insert(0, sys.argv[1]);"
    "from tungsten_server.launch import main; sys.exit(main(sys.argv[2:], os.environ))"
)


class Handover(NamedTuple):
    """What a server is given that takes another one's place: file descriptors."""

    listener: int
    """A socket that listens."""
    control: int
    """The end of a socket to say that it is ready, to be told that it is its turn, and to close when it is no more."""


@dataclass(frozen=True)
class LocalModel:
    """What is run without a container: a model's folder, and in what."""

    spec: ModelSpec
    folder: Path
    gpus: str | None
    """As for `container_program`."""
    python: str
    """The model's Python; the server's is this one."""


def local_program(
    model: LocalModel,
    spec_file: Path,
    address: Address,
    flags: Sequence[str],
    handover: Handover | None = None,
) -> Program:
    """The server in this Python, and the model in its own, with the packages that are installed there.

    spec_file: where the spec is written for the server. handover: of a socket, in place of the address.
    Raises RunError naming every package that the model declares and that isn't there.
    """
    _require(model.spec.python_packages, model.python)
    spec_file.write_text(model.spec.to_json(), encoding="utf-8")
    environment = environment_for_server()
    if model.gpus != "all":
        environment["CUDA_VISIBLE_DEVICES"] = model.gpus or ""
    # Where the model's Python is a development shell's, it must see the server's part in its process.
    shown = [environment.get("TUNGSTEN_SHELL_PATHS", ""), str(SERVER.parent), str(model.folder)]
    environment["TUNGSTEN_SHELL_PATHS"] = ":".join(filter(None, shown))
    arguments = [
        *("--spec", str(spec_file), "--model-dir", str(model.folder)),
        *("--model-python", model.python),
    ]
    if handover is None:
        where = ["--host", address.host, "--port", str(address.port)]
    else:
        where = ["--listen-fd", str(handover.listener), "--handover-fd", str(handover.control)]
    # -P: the working directory may be the model's folder, and a `flask.py` there is not for the server.
    command = [sys.executable, "-P", "-c", _START_SERVER, str(SERVER.parent), *arguments, *where, *flags]
    inherited = () if handover is None else handover
    return Program(
        command, address, environment, inherited=inherited, folder=str(model.folder), here=model.folder
    )


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
