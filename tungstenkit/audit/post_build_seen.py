"""`post_build`: its settings, what it sees of a model, and when its result is stale.

The record holds the digest of everything that it saw.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pathspec import GitIgnoreSpec

from tungstenkit.audit.commands_seen import UNKNOWN, described, seen_of_base, sees
from tungstenkit.data import VERSION
from tungstenkit.document import to_json
from tungstenkit.lock.parts import PostBuild
from tungstenkit.sdk.errors import LockError, TungstenError
from tungstenkit.settings import read_table
from tungstenkit.spec.commands import Commands
from tungstenkit.tools import tool_module

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tungstenkit.lock.document import Lock
    from tungstenkit.lock.parts import Platform
    from tungstenkit.spec.document import ModelSpec
    from tungstenkit.spec.files import ModelFile

TABLE = "post-build"
_CAPTURE = 1
"""Counts up where `nix/tools/post_build.py` makes another tar of the same files."""
_FIRST = "0.1.0"
"""The tungsten of a lock that does not say which."""
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
    table = read_table(directory, TABLE, hint=hint)
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
        where = f"[tool.tungsten.{TABLE}] in {directory / 'pyproject.toml'}"
        raise TungstenError("\n".join(problems), where=where, hint=hint)
    return Settings(
        cpu == "baseline", tuple(sorted(set(environment))), None if files is None else tuple(files)
    )


def _are_texts(value: Any) -> bool:  # noqa: ANN401 - whatever TOML holds
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def planned(
    spec: ModelSpec,
    platform: Platform,
    directory: Path,
    files: Sequence[ModelFile],
    settings: Settings,
    sdk: str = VERSION,
) -> PostBuild:
    """What post_build would be recorded with, but for its result.

    files: what of the model's folder ships. sdk: the version of the SDK that it sees. Raises LockError where the module
    can't be read.
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
        "sdk": sdk,
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
        sha256=UNKNOWN,
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
            maker = lock.tungsten.version if lock.tungsten else _FIRST
            then = planned(spec, platform, directory, files, settings, maker)
            # Nothing else, where that of then explains it.
            is_sdk = then.model_dump(exclude=result) == platform.post_build.model_dump(exclude=result)
            sdk = f"the SDK, which was that of tungsten {maker}, and is that of {VERSION}"
            changed = sdk if is_sdk else "; ".join(what_changed(platform.post_build, now))
            raise LockError(
                f"the lock is stale: post_build sees something else than when it ran: {changed}",
                where=where,
                hint="run `tungsten lock`, which runs it again; `files` in [tool.tungsten.post-build] narrows what "
                "it sees",
            )


_SHOWN = 8


def what_changed(before: PostBuild, after: PostBuild) -> list[str]:
    """What a record saw otherwise than another one, in short."""
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
