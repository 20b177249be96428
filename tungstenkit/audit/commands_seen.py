"""`dockerfile_commands`: what a RUN with the network sees, and when its result is stale."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Any

from tungstenkit.document import to_json
from tungstenkit.fetch.big_files import kept_sha256_of
from tungstenkit.lock.parts import CommandResult
from tungstenkit.sdk.errors import LockError
from tungstenkit.spec.commands import Commands, Copy

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tungstenkit.lock.document import Lock
    from tungstenkit.lock.parts import Platform
    from tungstenkit.spec.commands import Segment
    from tungstenkit.spec.document import ModelSpec
    from tungstenkit.spec.files import ModelFile

UNKNOWN = "0" * 64
"""In place of the hash of a result that nobody has made yet."""

UNSEEN = frozenset(
    {
        "spec_version",
        "name",
        # Said of the image, and done with its layers.
        "about",
        "compression",
        # Of the server and of whoever starts it.
        "batch_size",
        "gpu_mem_gb",
        "mem_gb",
        "input_schema",
        "output_schema",
        "demo_output_schema",
        "examples",
        "has_setup",
        "has_predict_demo",
        "has_post_build",
        "stream",
        # Declared downloads are put into an image that is done.
        "files",
        # Seen as what is chosen for them: in the lock's platform, or in the files that ship.
        "base_image",
        "build",
        "cuda_version",
        "exclude_files",
        "include_files",
        "indexes",
        "libraries",
        "lock_file",
        "nixpkgs",
        "python_packages",
        "python_version",
        "system_packages",
        # Seen as what they come to: `commands`.
        "dockerfile_commands",
    }
)
"""The fields of a spec that no step of a build sees. One that is not named here is seen: a stale result is worse than a
step that runs once too often.
"""

_SAID = frozenset({"module", "class_name", "commands", "gpu"})
"""Those that a digest has in its own words, where its step sees them."""

_UNSEEN_OF_PLATFORM = frozenset({"release", "post_build"})
"""Likewise of a lock's platform: the packages say the release."""
_SAID_OF_PLATFORM = frozenset({"base_image", "commands", "cuda", "debs", "python", "sources", "wheels"})


def sees(
    spec: ModelSpec,
    platform: Platform,
    directory: Path,
    files: Sequence[ModelFile],
    segments: Sequence[Segment],
) -> str:
    """The digest of all that some segments of a model, from the first on, can see.

    platform: the lock's, with what earlier segments had of the network. files: what of the model's folder ships.
    """
    parts: dict[str, Any] = {
        "base-image": seen_of_base(platform),
        "cuda": (platform.cuda.model_dump(mode="json") if platform.cuda else "none") if spec.gpu else None,
        "debs": sorted(deb.sha256 for _, deb in platform.every_deb),
        "files": _seen(segments, directory, files),
        "python": platform.python,
        # Not on which line they stand.
        "segments": [
            segment.model_dump(mode="json", by_alias=True, exclude={"steps": {"__all__": {"where", "text"}}})
            for segment in segments
        ],
    }
    below = sum(segment.network for segment in segments[:-1])
    if below:
        parts["results"] = [one.sha256 for one in platform.commands[:below]]
    parts |= _unsaid(spec, platform)
    return hashlib.sha256(to_json(parts).encode()).hexdigest()


def _unsaid(spec: ModelSpec, platform: Platform) -> dict[str, Any]:
    """What else there is of a spec and of a lock's platform: all that nobody has called unseen.

    Nothing while there is nothing, so that a field which comes to be named moves no digest.
    """
    left = {
        "spec": spec.model_dump(mode="json", by_alias=True, exclude={*UNSEEN, *_SAID}),
        "platform": platform.model_dump(
            mode="json", by_alias=True, exclude={*_UNSEEN_OF_PLATFORM, *_SAID_OF_PLATFORM}
        ),
    }
    return {name: fields for name, fields in left.items() if fields}


def seen_of_base(platform: Platform) -> dict[str, Any] | None:
    """What a build step can see of a base image: what its name was locked as, since that may mean another by now."""
    unseen = {"reference", "named", "labels", "exposed_ports", "added"}
    return platform.base_image.model_dump(mode="json", exclude=unseen) if platform.base_image else None


def planned(
    spec: ModelSpec, platform: Platform, directory: Path, files: Sequence[ModelFile]
) -> tuple[CommandResult, ...]:
    """What each RUN with the network would be recorded with, but for its result. Arguments as for `sees`."""
    commands = spec.commands or Commands()
    seen = (
        sees(spec, platform, directory, files, commands.segments[: number + 1])
        for number in commands.networks
    )
    return tuple(CommandResult(sees=digest, size=0, sha256=UNKNOWN) for digest in seen)


def _seen(segments: Sequence[Segment], directory: Path, files: Sequence[ModelFile]) -> dict[str, str]:
    """What segments copy, each file with what it is."""
    patterns = [
        source.pattern
        for segment in segments
        for step in segment.steps
        if isinstance(step, Copy)
        for source in step.sources
    ]
    return {
        file.path: described(directory / file.path, file)
        for file in files
        if any(_matches(file.path.split("/"), pattern) for pattern in patterns)
    }


def _matches(names: Sequence[str], pattern: Sequence[str]) -> bool:
    # What lies below a folder that is copied is copied, too.
    return len(names) >= len(pattern) and all(map(re.fullmatch, pattern, names))


def described(path: Path, file: ModelFile) -> str:
    """What a file is, as `nix/tools/lib/model_view.py` has it. path: where it is."""
    if file.target is not None:
        # As it ships; on disk it may be absolute.
        return f"-> {file.target}"
    return kept_sha256_of(path) + (" x" if file.executable else "")


def check(lock: Lock, spec: ModelSpec, directory: Path, files: Sequence[ModelFile], where: str) -> None:
    """LockError where the lock's results are not those of what the commands would see now.

    where: the lock's path, for messages.
    """
    for platform in lock.platforms.values():
        now = [one.sees for one in planned(spec, platform, directory, files)]
        if now != [one.sees for one in platform.commands]:
            raise LockError(
                "the lock is stale: a RUN --network=default of dockerfile_commands sees something else than when it"
                " ran",
                where=where,
                hint="run `tungsten lock`, which runs it again",
            )
