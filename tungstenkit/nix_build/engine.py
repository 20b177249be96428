"""The container engine of this machine: which it is, what an image is called in it, and how one gets there."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from typing import TYPE_CHECKING

from tungstenkit import started
from tungstenkit.lacks import ids_hint
from tungstenkit.outside import IMAGE_NAME, IMAGE_TAG, LONGEST_NAME
from tungstenkit.sdk.errors import BuildError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tungstenkit.nix_build.image import Image


PATIENCE = 60
"""Seconds for an answer: a daemon that was paused, or waits for a lock, gives none."""


def ask(
    engine: str, arguments: Sequence[str], patience: float | None = PATIENCE
) -> subprocess.CompletedProcess[str]:
    """What an engine answers. Raises BuildError where it can't be run, or says nothing.

    patience: seconds; None for what may take as long as it likes.
    """
    try:
        return subprocess.run(
            [engine, *arguments],
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=patience,
        )
    except OSError as problem:
        raise BuildError(f"{engine} can't be run: {problem.strerror}") from None
    except subprocess.TimeoutExpired:
        raise BuildError(
            f"{engine} has not answered for {patience:g} seconds",
            where=" ".join([engine, *arguments[:2]]),
            hint=f"see whether `{engine} info` answers: another {engine} may be at work, or its daemon may hang; "
            "TUNGSTEN_ENGINE names another engine",
        ) from None


def find_engine() -> str | None:
    """The container engine that images are loaded into and run by: `podman`, `docker` with a daemon, or None.

    `TUNGSTEN_ENGINE` chooses where there are both. Raises BuildError where it names another one, or one that is not
    there.
    """
    wanted = os.environ.get("TUNGSTEN_ENGINE", "")
    if wanted not in ("", "podman", "docker"):
        raise BuildError(
            f"{wanted!r} is no engine that we know", where="TUNGSTEN_ENGINE", hint="podman or docker"
        )
    if wanted != "docker" and shutil.which("podman"):
        return "podman"
    if wanted != "podman" and shutil.which("docker") and ask("docker", ["info"]).returncode == 0:
        return "docker"
    if wanted:
        raise BuildError(
            f"there is no {wanted}" + (" with a daemon that answers" if wanted == "docker" else ""),
            where="TUNGSTEN_ENGINE",
        )
    return None


def image_reference(name: str, tag: str, engine: str | None) -> str:
    """What an image is called in an engine. Raises BuildError for a name or tag that no engine takes.

    A name without a registry gets podman's own, `localhost`; docker has none for it. The rules are those of the OCI
    distribution specification.
    """
    if not IMAGE_NAME.fullmatch(name) or len(name) > LONGEST_NAME:
        raise BuildError(
            f"{name!r} is not a name for an image",
            where="-n",
            hint="lower-case letters and digits, with single `.`, `_` or `-` between them, and `/` between parts",
        )
    if not IMAGE_TAG.fullmatch(tag):
        raise BuildError(
            f"{tag!r} is not a tag for an image",
            where="--tag",
            hint="letters, digits, `_`, `.` and `-`, at most 128",
        )
    host = name.partition("/")[0]
    has_registry = "/" in name and (host == "localhost" or "." in host or ":" in host)
    return f"{name}:{tag}" if has_registry or engine != "podman" else f"localhost/{name}:{tag}"


def has_image(image: Image, engine: str, reference: str) -> bool:
    """Whether an engine has an image under a reference already."""
    # docker with containerd's store calls an image by its manifest.
    wanted = [{image.image_id}, {image.digest}] if engine == "podman" else [{image.image_id, image.digest}]
    form = "{{.Id}} {{.Digest}}" if engine == "podman" else "{{.Id}}"
    run = ask(engine, ["image", "inspect", "--format", form, "--", reference])
    found = [f"sha256:{one.removeprefix('sha256:')}" for one in run.stdout.split()]
    return (
        run.returncode == 0
        and len(found) == len(wanted)
        and all(one in some for one, some in zip(found, wanted, strict=True))
    )


def load_image(image: Image, engine: str, reference: str) -> None:
    """Load an image into an engine under a reference. Raises BuildError."""
    if engine == "podman":
        # A layout is read blob by blob: what podman has already is not copied again. podman names it after the path
        # that it is given, too: a link of the name that it is to have, so that there mostly is no other.
        name = re.sub(r"^localhost/|:latest$", "", reference)
        name = image.layout.name if {"/", ":"}.intersection(name) else name
        with started.scratch() as folder:
            (folder / name).symlink_to(image.layout)
            pulled = _engine([engine, "pull", "--quiet", "--", f"oci:{name}"], folder).split()[-1]
        _engine([engine, "tag", "--", pulled, reference])
        given = f"localhost/{name}:latest"
        if given != reference:
            subprocess.run([engine, "untag", pulled, given], capture_output=True, check=False)
        return
    with subprocess.Popen(["tar", "-C", str(image.layout), "-chf", "-", "."], stdout=subprocess.PIPE) as tar:
        command = [engine, "load", "--quiet"]
        loaded = subprocess.run(command, stdin=tar.stdout, capture_output=True, text=True, check=False)
    if loaded.returncode != 0:
        raise BuildError(f"docker could not load the image: {loaded.stderr.strip()}")
    _engine([engine, "tag", "--", image.image_id, reference])


_BUILT = (
    "the image is built all the same: `tungsten build --no-load` leaves it in the Nix store, and --no-engine runs a "
    "folder's from there"
)


def _engine(command: list[str], folder: Path | None = None) -> str:
    run = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if run.returncode != 0:
        raise BuildError(
            f"{command[0]} could not load the image: {run.stderr.strip()}",
            where=" ".join(command),
            hint="; ".join(filter(None, (ids_hint(run.stderr), _BUILT))),
        )
    return run.stdout
