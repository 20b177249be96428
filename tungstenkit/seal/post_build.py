"""`post_build`: how it is run and recorded. What it sees is `audit.post_build_seen`'s.

Its result is a pure function of what it sees only as far as it keeps to the rules: so it runs twice before a result is
recorded, and the record holds the digest of everything that it saw. Nix runs it, as `nix/steps/post-build.nix` says;
here is what happens around that.
"""

from __future__ import annotations

import os
import re
import tarfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from tungstenkit import store
from tungstenkit.audit.post_build_seen import TABLE, planned, read_settings, what_changed
from tungstenkit.digest import measure
from tungstenkit.missing import package_hint, program_hint
from tungstenkit.platforms import Target, this_system
from tungstenkit.sdk.errors import BuildError, LockError
from tungstenkit.seal.commands import not_here
from tungstenkit.seal.step_secrets import serve_secrets
from tungstenkit.seal.twice import ExportedStep, MismatchError, discard, make, settled
from tungstenkit.spec.files import excluding, pattern_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from tungstenkit.lock.document import Lock
    from tungstenkit.lock.parts import PostBuild
    from tungstenkit.nix_build.log import View
    from tungstenkit.seal.workshop import SealingBench
    from tungstenkit.spec.document import ModelSpec


def add_post_build(lock: Lock, previous: Lock | None, bench: SealingBench) -> Lock:
    """The lock with the results of post_build, run where it must be.

    previous: the lock before; what post_build made then stands while it sees the same and the result is here.

    Raises LockError where it makes something else each time, or is for another platform than this machine's; BuildError
    where it fails.
    """
    if not bench.spec.has_post_build:
        return lock
    settings = read_settings(bench.directory)
    for system, platform in lock.platforms.items():
        plan = planned(bench.spec, platform, bench.directory, bench.files, settings)
        old = previous.platforms[system].post_build if previous and system in previous.platforms else None
        if old is not None and old.sees != plan.sees:
            bench.report(f"post_build sees something else: {'; '.join(what_changed(old, plan))}")
            old = None
        if old is None or (system == this_system() and is_missing(old)):
            if system != this_system():
                raise not_here("post_build", system)
            old = _run(_with(lock, system, plan), system, old, bench)
        lock = _with(lock, system, old)
    return lock


def refuse_elsewhere(spec: ModelSpec, system: str, previous: Lock | None) -> None:
    """LockError where post_build would have to run for another platform than this machine's.

    previous: the lock before, whose result may stand.
    """
    old = previous.platforms.get(system) if previous else None
    if spec.has_post_build and system != this_system() and (old is None or old.post_build is None):
        raise not_here("post_build", system)


def _with(lock: Lock, system: str, entry: PostBuild) -> Lock:
    platform = lock.platforms[system].model_copy(update={"post_build": entry})
    return lock.model_copy(update={"platforms": {**lock.platforms, system: platform}})


def _run(lock: Lock, system: str, recorded: PostBuild | None, bench: SealingBench) -> PostBuild:
    """Run it, twice but where the recorded result comes out again; the entry."""
    platform = lock.platforms[system]
    plan = platform.post_build
    assert plan is not None  # it was put there to be run
    values = _values(plan.environment)
    step = bench.step(lock, system)
    target = Target(system, platform.release, platform.python)
    where = _where(bench.spec)

    def run(again: bool) -> Path:
        how = " again, with another clock, CPU and order of sets" if again else ""
        bench.report(f"running post_build{how}")
        library = bench.fake_time(target) if again else None
        try:
            with serve_secrets(values) as place:
                return make(step, plan.file, again=again, fake_time=library, secrets=place)
        except BuildError as problem:
            package_of = partial(bench.package_of, target=target)
            unseen = {file.path for file in bench.files} - plan.files.keys()
            raise _explained(
                problem, where, step.view, again=again, package_of=package_of, unseen=unseen
            ) from None

    try:
        result = settled(run, None if recorded is None else result_path(recorded), where)
        ours = {file.path for file in bench.files}
        entry = _entry(plan, result, ours, set(dict(lock.files.in_model())), bench.spec.exclude_files, where)
        # Held until the next fetch, which knows of it by the lock.
        store.hold(str(result), step.state / "roots" / f"post-build-{system}")
    finally:
        discard(step)
    return entry


def _entry(
    plan: PostBuild, result: Path, ours: set[str], declared: set[str], exclude: Sequence[str], where: str
) -> PostBuild:
    """What is recorded of a result.

    ours: the paths of what of the model's folder ships; declared: of `files`; exclude: the model's `exclude_files`.
    """
    with tarfile.open(result) as tar:
        made = {member.name for member in tar if not member.isdir()}
    if twice := sorted(path for path in declared if f"app/{path}" in made):
        raise LockError(
            f"post_build makes what files=[…] brings already: {', '.join(twice)}",
            where=where,
            hint="write it under another name, or declare another place; post_build does not see declared downloads",
        )
    replaced = {path for path in ours if f"app/{path}" in made}
    if unseen := sorted(replaced - plan.files.keys()):
        raise LockError(
            f"post_build makes what the model's folder has already: {', '.join(unseen)}",
            where=where,
            hint="let it see them (`files` in [tool.tungsten.post-build]), or keep them out by "
            f"{excluding(exclude, *map(pattern_of, unseen))} in define_model(…)",
        )
    size, sha256 = measure(result)
    return plan.model_copy(update={"size": size, "sha256": sha256, "replaces": tuple(sorted(replaced))})


def _where(spec: ModelSpec) -> str:
    return f"post_build of {spec.module}.{spec.class_name}"


def result_path(entry: PostBuild) -> Path:
    """Where a result is in the store, or would be."""
    return Path(store.file_path(entry.sha256, entry.file))


def is_missing(entry: PostBuild) -> bool:
    """Whether a result is not in the store."""
    return bool(store.missing([str(result_path(entry))]))


def provide(entry: PostBuild, step: ExportedStep, spec: ModelSpec) -> None:
    """Make a recorded result that is not in the store, with the variables that it needs of whoever builds.

    Raises BuildError where it fails, or makes something else than what is recorded.
    """
    where = _where(spec)
    try:
        with serve_secrets(_values(entry.environment)) as place:
            make(step, entry.file, sha256=entry.sha256, secrets=place)
    except MismatchError:
        raise BuildError(
            "post_build made something else than when the model was locked: what it downloads has changed, or it "
            "depends on this machine",
            where=where,
            hint="`tungsten lock` runs it again and records the new result; `tungsten fetch --from DIR` brings the "
            "recorded one from where it still is",
        ) from None
    except BuildError as problem:
        raise _explained(problem, where, step.view) from None
    finally:
        discard(step)


def _explained(
    problem: BuildError,
    where: str,
    view: View,
    *,
    again: bool = False,
    package_of: Callable[[str], str | None] = lambda _program: None,
    unseen: Collection[str] = (),
) -> BuildError:
    """A failure with what its log calls for.

    view: who has seen the log. package_of: finds the Debian package that has a program. unseen: what ships, and it was
    not to see.
    """
    if not problem.step.startswith("post-build-"):
        return problem
    if program := _NO_PROGRAM.search(problem.what):
        hint: str | None = program_hint(program[1], package_of(program[1]))
    elif (file := _NO_FILE.search(problem.what)) and file[1] in unseen:
        hint = f"`files` in [tool.tungsten.{TABLE}] of pyproject.toml leaves {file[1]} out: add it there"
    else:
        hint = package_hint(problem.what) or next(
            (hint for pattern, hint in _HINTS if re.search(pattern, problem.what)), problem.hint
        )
    if again:
        hint = "it ran well at first, and failed with another clock, order of sets, and CPU" + (
            f"; {hint}" if hint else ""
        )
    # Where it says nothing of its own.
    log = "" if "kind" in problem.told else str(problem.told.get("log", ""))
    what = _last_words(log) if view.shows(problem.step) else ""
    return problem.reworded(what or problem.what, where=where, hint=hint)


def _last_words(log: str) -> str:
    """What the step's own program says at its end, and where that is an exception's, what the exception says."""
    lines = log.splitlines()
    start = max((number for number, line in enumerate(lines) if line.startswith("error: ")), default=0)
    if start and lines[start].startswith(("error: post_build ended", "error: post_build was killed")):
        start -= 1
    return "\n".join(line.removeprefix("error: ") for line in lines[start:])


_NO_PROGRAM = re.compile(r"_execute_child[\s\S]*No such file or directory: '([^/']+)'")
_NO_FILE = re.compile(r"No such file or directory: '(?:/app/)?(?:\./)?([^/'][^']*)'")
_HINTS = (
    (
        # All else there can be written: these are files of the store, bound to their places.
        r"(?:Read-only file system|Device or resource busy)(?:: '.*' ->|:) '(?:/app/|[^/])",
        "a big file can only be read: write under another name, or raise [tool.tungsten] big-file-mb",
    ),
    (
        r"Read-only file system",
        "it may write below the model's folder, below HOME and below /tmp; only what is in the first two is kept",
    ),
    (
        r"KeyError: '[A-Z][A-Z0-9_]*'|HTTP Error 401|401 Client Error|GatedRepo",
        "of your variables, such as a token's, it has those that `environment` in [tool.tungsten.post-build] names",
    ),
    (
        r"No such file or directory: '(?:/app/|[^/])",
        "it sees the files that ship; `files` in [tool.tungsten.post-build] narrows them",
    ),
    (
        r"name resolution|Connection refused|timed out|Network is unreachable",
        "check the network; a proxy is taken from http_proxy and https_proxy",
    ),
)


def _values(names: Sequence[str]) -> dict[str, str]:
    """The variables that the model names, from our environment; LockError where one is not set."""
    missing = [name for name in names if not os.environ.get(name)]
    if missing:
        raise LockError(
            f"post_build needs {', '.join(missing)} in the environment",
            where=f"[tool.tungsten.{TABLE}]",
            hint=f"set it: export {missing[0]}=…; it lands neither in the lock nor in the image",
        )
    return {name: os.environ[name] for name in names}
