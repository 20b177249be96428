"""A model's server in a container of its image, and what an image says of its model."""

from __future__ import annotations

import io
import ipaddress
import json
import os
import re
import secrets
import subprocess
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tungstenkit.lacks import giving_gpus, hint, this_linux
from tungstenkit.machine import Needs
from tungstenkit.nix_build.loaded import label
from tungstenkit.run.address import Address
from tungstenkit.run.program import Program, environment_for_server, settings_for_server
from tungstenkit.sdk.errors import RunError

if TYPE_CHECKING:
    from collections.abc import Sequence

SPEC = "opt/tungsten/spec.json"
"""Where an image has its spec."""

CDI_FOLDERS = [Path("/etc/cdi"), Path("/var/run/cdi")]
"""Where podman looks for what a GPU is (containers.conf(5), cdi_spec_dirs)."""


def with_the_machines(given: Sequence[str]) -> list[str]:
    """An engine's arguments: those that this machine always needs, and those that are given besides.

    The command line may have taken the former for the latter, where none are.
    """
    always = os.environ.get("TUNGSTEN_ENGINE_ARGS", "").split()
    # Said twice, some are errors of the engine's, such as a network.
    return (
        list(given)
        if list(given) == always
        else [*always, *(one for one in given if "=" not in one or one not in always)]
    )


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

    engine_args: as for `container_program`.
    """
    name = f"tungsten-{secrets.token_hex(6)}"
    create = [engine, "create", "--pull=never", f"--name={name}", label(), *engine_args, image]
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


def container_program(
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
    environment = environment_for_server()
    return Program(
        [
            *(engine, "run", "--rm", "--pull=never", f"--name={name}", label(), *publish),
            *(f"--env={name}" for name in settings_for_server(environment)),
            *gpu_arguments(engine, gpus),
            *(*engine_args, image, "--port", port, *listen, *flags),
        ],
        address,
        environment,
        kill=[engine, "rm", "--force", *(["--time=0"] if engine == "podman" else []), name],
    )


def gpu_arguments(engine: str, gpus: str | None) -> list[str]:
    """What gives a container some GPUs, or none. Raises RunError where podman knows of none."""
    if gpus is None:
        return []
    if engine == "docker":
        return ["--gpus", "all" if gpus == "all" else f'"device={gpus}"']
    files = [path for folder in CDI_FOLDERS for path in folder.glob("*.[jy]*")]
    if not any(b"nvidia.com/gpu" in path.read_bytes() for path in files):
        raise RunError(
            "the model wants a GPU, and podman knows of none: there is no CDI specification of NVIDIA's",
            where=" and ".join(map(str, CDI_FOLDERS)),
            hint=f"{hint(giving_gpus(engine, this_linux()))}; --no-gpu runs the model without",
        )
    return [f"--device=nvidia.com/gpu={one}" for one in gpus.split(",")]
