"""`post_build`: what it sees of a model, when its result is stale, and how it is run and recorded.

Its result is a pure function of what it sees only as far as it keeps to the rules: so it runs twice before a result is
recorded, and the record holds the digest of everything that it saw. Nix runs it, as `nix/steps/post-build.nix` says;
here is what happens around that.
"""

from __future__ import annotations

import hashlib
import os
import re
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pathspec import GitIgnoreSpec

from tungstenkit import store
from tungstenkit.data import OWN_WHEELS
from tungstenkit.digest import measure
from tungstenkit.document import to_json
from tungstenkit.lock.parts import PostBuild
from tungstenkit.missing import package_hint
from tungstenkit.platforms import Target, this_system
from tungstenkit.sdk.errors import BuildError, LockError, TungstenError
from tungstenkit.seal.commands import described, not_here, seen_of_base, sees
from tungstenkit.seal.step_secrets import serve_secrets
from tungstenkit.seal.twice import ExportedStep, MismatchError, discard, make, settled
from tungstenkit.settings import read_table
from tungstenkit.spec.commands import Commands
from tungstenkit.spec.files import excluding, pattern_of
from tungstenkit.tools import tool_module

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tungstenkit.lock.document import Lock
    from tungstenkit.lock.parts import Platform
    from tungstenkit.seal.workshop import SealingBench
    from tungstenkit.spec.document import ModelSpec
    from tungstenkit.spec.files import ModelFile

_TABLE = "post-build"
_UNKNOWN = "0" * 64
_CAPTURE = 1
"""Counts up where `nix/tools/post_build.py` makes another tar of the same files."""
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True)
class Settings:
    """`[tool.tungsten.post-build]`."""

    baseline_cpu: bool = False
    """`cpu = "baseline"`."""
    environment: tuple[str, ...] = ()
    """Names of variables that it gets from whoever builds."""
    files: tuple[str, ...] | None = None
    """Patterns as in `.gitignore` of the files that it sees; None for all that ship."""


def read_settings(directory: Path) -> Settings:
    """The settings of the model in a folder. Raises TungstenError for what is of another form, all at once."""
    hint = 'it may hold `environment = ["HF_TOKEN"]`, `files = ["*.csv"]` and `cpu = "baseline"`'
    table = read_table(directory, _TABLE, hint=hint)
    problems = [f"{key!r} is no setting" for key in table.keys() - {"cpu", "environment", "files"}]
    cpu, environment, files = table.get("cpu", "any"), table.get("environment", []), table.get("files")
    if cpu not in ("any", "baseline"):
        problems.append(f'cpu: {cpu!r} is neither "any" nor "baseline"')
    if not _are_texts(environment) or not all(_NAME.fullmatch(name) for name in environment):
        problems.append(f"environment: {environment!r} is not a list of names of variables")
    if files is not None and not _are_texts(files):
        problems.append(f"files: {files!r} is not a list of patterns")
    if not problems and files is not None:
        try:
            GitIgnoreSpec.from_lines(files)
        except ValueError as problem:
            problems.append(f"files: {problem}")
    if problems:
        where = f"[tool.tungsten.{_TABLE}] in {directory / 'pyproject.toml'}"
        raise TungstenError("\n".join(problems), where=where, hint=hint)
    return Settings(
        cpu == "baseline", tuple(sorted(set(environment))), None if files is None else tuple(files)
    )


def _are_texts(value: Any) -> bool:  # noqa: ANN401 - whatever TOML holds
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def planned(
    spec: ModelSpec, platform: Platform, directory: Path, files: Sequence[ModelFile], settings: Settings
) -> PostBuild:
    """What post_build would be recorded with, but for its result.

    files: what of the model's folder ships. Raises LockError where the module can't be read.
    """
    seen = _files(spec, directory, files, settings)
    commands = spec.commands or Commands()
    parts: dict[str, Any] = {
        "base-image": seen_of_base(platform),
        "capture": _CAPTURE,
        "class": spec.class_name,
        # With all of the spec and the platform that has no line here, and is not called unseen.
        "commands": sees(spec, platform, directory, files, commands.segments),
        "cpu": settings.baseline_cpu,
        "cuda": platform.cuda.version if platform.cuda and spec.gpu else None,
        "debs": sorted(deb.sha256 for _, deb in platform.every_deb),
        "environment": settings.environment,
        "files": seen,
        "gpu": spec.gpu,
        "module": spec.module,
        "python": platform.python,
        "sdk": OWN_WHEELS["sdk"]["version"],
        "wheels": sorted(
            [wheel.sha256 for wheel in platform.wheels]
            + [source.wheel_sha256 or source.sha256 for source in platform.sources]
        ),
    }
    if platform.commands:
        parts["results"] = [one.sha256 for one in platform.commands]
    # What segments make is in the results; the rest only a container has.
    said = {"segments", "packages", "labels", "ports", "user"}
    if variables := commands.model_dump(
        mode="json", by_alias=True, exclude=said if commands.environment else {*said, "environment"}
    ):
        parts["variables"] = variables
    return PostBuild(
        sees=hashlib.sha256(to_json(parts).encode()).hexdigest(),
        files=seen,
        baseline_cpu=settings.baseline_cpu,
        environment=settings.environment,
        size=0,
        sha256=_UNKNOWN,
    )


def _files(
    spec: ModelSpec, directory: Path, files: Sequence[ModelFile], settings: Settings
) -> dict[str, str]:
    # As builds do: what is staleness here must be staleness there.
    view = tool_module("lib/model_view.py")
    module = view.module_file(directory, spec.module)
    patterns = None if settings.files is None else GitIgnoreSpec.from_lines(settings.files)
    seen = {}
    for file in files:
        if file.path != module and patterns is not None and not patterns.match_file(file.path):
            continue
        path = directory / file.path
        if file.path != module or file.target is not None:
            seen[file.path] = described(path, file)
            continue
        try:
            source = view.without_serving(path.read_bytes(), spec.class_name)
        except ValueError as problem:
            raise LockError(str(problem), where=str(path)) from None
        seen[file.path] = view.describe(path, source)
    return seen


def check(lock: Lock, spec: ModelSpec, directory: Path, files: Sequence[ModelFile], where: str) -> None:
    """LockError where the lock's result of post_build is not that of what it would see now.

    where: the lock's path, for messages.
    """
    settings = read_settings(directory)
    for platform in lock.platforms.values():
        if platform.post_build is None:
            continue
        now = planned(spec, platform, directory, files, settings)
        # What it sees is the lock's word; what it is given of whoever builds must be the model's.
        result = {"size", "sha256", "replaces"}
        if now.model_dump(exclude=result) != platform.post_build.model_dump(exclude=result):
            changed = "; ".join(_changes(platform.post_build, now))
            raise LockError(
                f"the lock is stale: post_build sees something else than when it ran: {changed}",
                where=where,
                hint="run `tungsten lock`, which runs it again; `files` in [tool.tungsten.post-build] narrows what "
                "it sees",
            )


_SHOWN = 8


def _changes(before: PostBuild, after: PostBuild) -> list[str]:
    old, new = before.files, after.files
    files = [f"+{name}" for name in sorted(new.keys() - old.keys())]
    files += [f"-{name}" for name in sorted(old.keys() - new.keys())]
    files += [name for name in sorted(old.keys() & new.keys()) if old[name] != new[name]]
    more = [f"and {len(files) - _SHOWN} more"] if len(files) > _SHOWN else []
    changes = [f"files {', '.join(files[:_SHOWN] + more)}"] if files else []
    if before.environment != after.environment:
        changes.append(f"environment {', '.join(after.environment) or 'none'}")
    if before.baseline_cpu != after.baseline_cpu:
        changes.append("cpu")
    return changes or [
        "packages, the base image, what dockerfile_commands make, the model's class, or the version of tungsten"
    ]


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
            bench.report(f"post_build sees something else: {'; '.join(_changes(old, plan))}")
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
            raise _explained(problem, where, again) from None

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
        raise _explained(problem, where, again=False) from None
    finally:
        discard(step)


def _explained(problem: BuildError, where: str, again: bool) -> BuildError:
    """A failure with what its log calls for."""
    if not problem.step.startswith("post-build-"):
        return problem
    hint = package_hint(problem.what) or next(
        (hint for pattern, hint in _HINTS if re.search(pattern, problem.what)), problem.hint
    )
    if again:
        hint = "it ran well at first, and failed with another clock, order of sets, and CPU" + (
            f"; {hint}" if hint else ""
        )
    return problem.reworded(where=where, hint=hint)


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
        r"_execute_child[\s\S]*No such file or directory: '[^/']+'",
        "name the package of a program in system_packages",
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
            where=f"[tool.tungsten.{_TABLE}]",
            hint=f"set it: export {missing[0]}=…; it lands neither in the lock nor in the image",
        )
    return {name: os.environ[name] for name in names}
