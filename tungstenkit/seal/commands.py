"""`dockerfile_commands`: what a RUN with the network sees, when its result is stale, and how commands are sealed.

Nix runs them, as `nix/steps/commands.nix` says. Every segment runs twice before a lock is sealed, the second time under
other conditions: an image is the same wherever it is built only if its commands make the same thing each time. What has
the network is recorded by hash.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tungstenkit import store
from tungstenkit.digest import measure
from tungstenkit.document import to_json
from tungstenkit.fetch.big_files import kept_sha256_of
from tungstenkit.lock.parts import CommandResult
from tungstenkit.platforms import Target, this_system
from tungstenkit.sdk.errors import BuildError, LockError
from tungstenkit.seal.twice import ExportedStep, MismatchError, discard, make, settled
from tungstenkit.spec.commands import Commands, Copy

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tungstenkit.lock.document import Lock
    from tungstenkit.lock.parts import Platform
    from tungstenkit.seal.workshop import SealingBench
    from tungstenkit.spec.commands import Segment
    from tungstenkit.spec.document import ModelSpec
    from tungstenkit.spec.files import ModelFile

_UNKNOWN = "0" * 64
_WHERE = "dockerfile_commands"
_NETWORKED = "a RUN --network=default"

UNSEEN = frozenset(
    {
        "spec_version",
        "name",
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
    return tuple(CommandResult(sees=digest, size=0, sha256=_UNKNOWN) for digest in seen)


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
                f"the lock is stale: a RUN --network=default of {_WHERE} sees something else than when it ran",
                where=where,
                hint="run `tungsten lock`, which runs it again",
            )


def add_commands(lock: Lock, previous: Lock | None, bench: SealingBench) -> Lock:
    """The lock with the results of the commands that have the network; every segment is run twice.

    previous: the lock before; a result stands while its RUN sees the same.

    Raises LockError where a segment makes something else each time, or must run on another platform; BuildError where
    one fails.
    """
    commands = bench.spec.commands or Commands()
    for system, platform in lock.platforms.items():
        old = previous.platforms.get(system) if previous else None
        known = {one.sees: one for one in old.commands} if old else {}
        plan = _known(bench, platform, known)
        lock = _with(lock, system, plan)
        if system != this_system():
            if any(one.sha256 == _UNKNOWN for one in plan):
                raise not_here(_NETWORKED, system)
            # What it makes without the network is made, or refused, where the image is built.
            continue
        for number, segment in enumerate(commands.segments):
            place = commands.networks.index(number) if segment.network else None
            entry = None if place is None else plan[place]
            if (
                entry is not None
                and entry.sha256 != _UNKNOWN
                and not store.missing([str(result_path(entry))])
            ):
                continue
            result = _settled(lock, system, number, segment, entry, bench)
            if place is not None and entry is not None:
                done = (*plan[:place], _recorded(entry, result))
                plan = _known(bench, platform, known, done)
                lock = _with(lock, system, plan)
    return lock


def refuse_elsewhere(spec: ModelSpec, system: str, previous: Lock | None) -> None:
    """LockError where a RUN with the network would have to run for another platform than this machine's.

    previous: the lock before, whose results may stand.
    """
    wanted = len((spec.commands or Commands()).networks)
    old = previous.platforms.get(system) if previous else None
    if system != this_system() and wanted > (len(old.commands) if old else 0):
        raise not_here(_NETWORKED, system)


def not_here(what: str, system: str) -> LockError:
    """The error for what must run on a platform that is not this machine's."""
    return LockError(
        f"{what} must run on {system}; this machine is {this_system()}",
        where=f"platforms.{system}",
        hint=f"run `tungsten lock --platform {system}` on such a machine, and commit its lock; or lock "
        f"{this_system()} alone",
    )


def _known(
    bench: SealingBench,
    platform: Platform,
    known: Mapping[str, CommandResult],
    done: tuple[CommandResult, ...] = (),
) -> tuple[CommandResult, ...]:
    """What each RUN with the network is recorded with: what was made, what is known by what it sees, else a plan.

    done: of the first of them.
    """
    found = done
    for _ in range(len(done), len((bench.spec.commands or Commands()).networks)):
        below = platform.model_copy(update={"commands": found})
        one = planned(bench.spec, below, bench.directory, bench.files)[len(found)]
        found = (*found, known.get(one.sees, one))
    return found


def _with(lock: Lock, system: str, results: Sequence[CommandResult]) -> Lock:
    platform = lock.platforms[system].model_copy(update={"commands": tuple(results)})
    return lock.model_copy(update={"platforms": {**lock.platforms, system: platform}})


def _settled(
    lock: Lock, system: str, number: int, segment: Segment, entry: CommandResult | None, bench: SealingBench
) -> Path:
    """What a segment makes, whatever the conditions.

    entry: of one with the network, what it is or will be recorded with.
    """
    platform = lock.platforms[system]
    target = Target(system, platform.release, platform.python)
    name = f"command-{number}"
    step = bench.step(lock, system, name)
    first = segment.steps[0]
    shown = first.text + (" …" if len(segment.steps) > 1 else "")

    def run(again: bool) -> Path:
        how = "again, with another clock, CPU and order of sets" if again else "as builds do"
        bench.report(f"running {how}: {shown}")
        library = bench.fake_time(target) if again else None
        try:
            return make(step, entry.file if entry else f"{name}.tar", again=again, fake_time=library)
        except BuildError as problem:
            raise _explained(problem, again=again) from None

    recorded = result_path(entry) if entry and entry.sha256 != _UNKNOWN else None
    try:
        result = settled(run, recorded, first.where)
        # Held until the next fetch, which knows of what the lock names.
        store.hold(str(result), step.state / "roots" / f"{name}-{system}")
    finally:
        discard(step)
    return result


def _recorded(entry: CommandResult, result: Path) -> CommandResult:
    size, sha256 = measure(result)
    return entry.model_copy(update={"size": size, "sha256": sha256})


def result_path(entry: CommandResult) -> Path:
    """Where a result is in the store, or would be."""
    return Path(store.file_path(entry.sha256, entry.file))


def missing(spec: ModelSpec, platform: Platform) -> list[int]:
    """The numbers of the segments whose recorded results are not in the store."""
    commands = spec.commands or Commands()
    paths = {
        number: str(result_path(one))
        for number, one in zip(commands.networks, platform.commands, strict=True)
    }
    gone = store.missing(list(paths.values()))
    return [number for number, path in paths.items() if path in gone]


def provide(number: int, platform: Platform, step: ExportedStep, spec: ModelSpec) -> None:
    """Make a recorded result that is not in the store. Raises BuildError where it fails, or makes something else."""
    assert spec.commands is not None  # it has that segment
    entry = platform.commands[spec.commands.networks.index(number)]
    first = spec.commands.segments[number].steps[0]
    try:
        make(step, entry.file, sha256=entry.sha256)
    except MismatchError:
        raise BuildError(
            f"{first.text}: it made something else than when the model was locked: what it downloads has changed",
            where=first.where,
            hint="`tungsten lock` runs it again and records the new result; a URL whose file never changes, or a "
            "checksum in the RUN, keeps it from happening",
        ) from None
    except BuildError as problem:
        raise _explained(problem, again=False) from None
    finally:
        discard(step)


def _explained(problem: BuildError, *, again: bool) -> BuildError:
    """A failure with the line at fault, and with what its log calls for."""
    if problem.told.get("kind") != "command":
        return problem
    hint = str(problem.told.get("hint", ""))
    if again:
        hint = "it ran well at first, and failed with another clock, order of sets, and CPU" + (
            f"; {hint}" if hint else ""
        )
    what = "\n".join(filter(None, [problem.what, problem.told.get("log")]))
    return problem.reworded(what, hint=hint or None)
