"""`dockerfile_commands`: how commands are sealed. What they see is `audit.commands_seen`'s.

Nix runs them, as `nix/steps/commands.nix` says. Every segment runs twice before a lock is sealed, the second time under
other conditions: an image is the same wherever it is built only if its commands make the same thing each time. What has
the network is recorded by hash.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tungstenkit import store
from tungstenkit.audit.commands_seen import UNKNOWN, planned
from tungstenkit.digest import measure
from tungstenkit.platforms import Target, this_system
from tungstenkit.sdk.errors import BuildError, LockError
from tungstenkit.seal.twice import ExportedStep, MismatchError, discard, make, settled
from tungstenkit.spec.commands import Commands

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tungstenkit.lock.document import Lock
    from tungstenkit.lock.parts import CommandResult, Platform
    from tungstenkit.nix_build.log import View
    from tungstenkit.seal.workshop import SealingBench
    from tungstenkit.spec.commands import Segment
    from tungstenkit.spec.document import ModelSpec

_NETWORKED = "a RUN --network=default"


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
            if any(one.sha256 == UNKNOWN for one in plan):
                raise not_here(_NETWORKED, system)
            # What it makes without the network is made, or refused, where the image is built.
            continue
        for number, segment in enumerate(commands.segments):
            place = commands.networks.index(number) if segment.network else None
            entry = None if place is None else plan[place]
            if entry is not None and entry.sha256 != UNKNOWN and not store.missing([str(result_path(entry))]):
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
            raise _explained(problem, step.view, again=again) from None

    recorded = result_path(entry) if entry and entry.sha256 != UNKNOWN else None
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
        raise _explained(problem, step.view) from None
    finally:
        discard(step)


def _explained(problem: BuildError, view: View, *, again: bool = False) -> BuildError:
    """A failure with the line at fault, and with what its log calls for. view: who has seen the log."""
    if problem.told.get("kind") != "command":
        return problem
    hint = str(problem.told.get("hint", ""))
    if again:
        hint = "it ran well at first, and failed with another clock, order of sets, and CPU" + (
            f"; {hint}" if hint else ""
        )
    log = None if view.shows(problem.step) else problem.told.get("log")
    what = "\n".join(filter(None, [problem.what, log]))
    return problem.reworded(what, hint=hint or None)
