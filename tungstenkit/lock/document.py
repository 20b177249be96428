"""`tungsten.lock`: what was chosen for a model, down to each file's hash.

This module owns the document: its form, its reader and its writer. It knows neither the network nor how a choice is
made; `tungstenkit.resolve` makes locks and `tungstenkit.seal` completes them. A lock names files, never hosts.
"""

from __future__ import annotations

import errno
import hashlib
import re
from collections import Counter
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Self

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from tungstenkit.document import Document, check_version, to_json, write_atomically
from tungstenkit.lock.packages import Deb, Source, Wheel
from tungstenkit.lock.parts import (
    Choice,
    Files,
    FlakeInput,
    LockedDownload,
    LockedRelease,
    LockedRepository,
    Platform,
    ServerEnvironment,
    Tools,
    Tungsten,
)
from tungstenkit.outside import contents, text_problem, texts
from tungstenkit.platforms import ARCHITECTURES
from tungstenkit.sdk.errors import LockError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

_SHOWN = 20  # problems of a kind
LOCK_VERSIONS = (1, 2, 3)
"""Those that are read; the last is written."""
LOCK_NAME = "tungsten.lock"
_REMEDY = (
    "use the tungsten that wrote it, restore it from version control, or delete it and run `tungsten lock`"
)

FLAKE_INPUTS = ("nixpkgs", "poetry2nix")
"""What an export for the package set `nixpkgs` takes from elsewhere."""

# Of what a base image has, and of what commands say, any letter may be meant.
_ANYTHING = re.compile(
    r"^inputs\.dockerfile-commands\.|^platforms\.[^.]+\.base-image\.(environment|labels)\b"
)
_LARGEST_LOCK = 64 << 20
"""In bytes; a hundred times what the largest model's has."""


class Lock(Document):
    """The whole document."""

    lock_version: Literal[1, 2, 3] = 3
    """1: made before 0.2.0. 2: by 0.2.0, and no package has a snapshot of its own."""
    tungsten: Tungsten | None = None
    """What made it, so that one that would make another image of it says so; unknown of a lock of version 1."""
    package_set: Literal["debian", "nixpkgs"]
    inputs: dict[str, Any] = Field(default_factory=dict)
    """What it was made from, for a reader and for telling what has changed since: `stale.made_from`."""
    input_digest: str = Field(pattern=r"^sha256:[0-9a-f]{64}$")
    sealed: bool
    """Whether everything that had to be run has been run; only a sealed lock can be built."""
    choices: tuple[Choice, ...]
    releases: dict[str, LockedRelease]
    """By Debian's code name."""
    platforms: dict[str, Platform]
    """By Nix system, such as `x86_64-linux`."""
    server: dict[str, ServerEnvironment]
    tools: dict[str, Tools]
    """By the platform that builds."""
    # What checks it comes with the lock.
    files: Files = Files.model_construct()
    """Absent where the model declares none."""
    flake_inputs: dict[str, FlakeInput] = Field(default_factory=dict)
    """What the flake of an export takes from elsewhere, in a lock for the package set `nixpkgs`."""

    @model_serializer(mode="wrap")
    def _without_empty(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        written = write(self)
        empty = {
            "files": self.files == Files(),
            "flake-inputs": not self.flake_inputs,
            "tungsten": self.tungsten is None,
        }
        return {key: value for key, value in written.items() if not empty.get(key)}

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> Self:
        """What a build would find out later, or not at all."""
        problems = [*self._package_set_problems(), *self._system_problems()]
        for system, platform in self.platforms.items():
            problems += self._platform_problems(system, platform)
        problems += self._tool_problems()
        if problems:
            raise ValueError("; ".join(problems))
        return self

    @property
    def _is_debian(self) -> bool:
        return self.package_set == "debian"

    def _package_set_problems(self) -> Iterator[str]:
        if self.lock_version == 1 and self.tungsten is not None:
            yield "tungsten: not of lock-version 1"
        if self._is_debian:
            if self.flake_inputs:
                yield "flake-inputs: not of this package set"
        else:
            yield from self._debians()
            yield from (f"flake-inputs: no {name}" for name in FLAKE_INPUTS if name not in self.flake_inputs)
        if self.inputs and self.input_digest != digest_of(self.inputs):
            yield "input-digest: is not that of inputs"

    def _debians(self) -> list[str]:
        """What only a lock for the package set `debian` may hold."""
        held = {"releases": self.releases, "tools": self.tools}
        for system, platform in self.platforms.items():
            held |= {
                f"platforms.{system}.debs": platform.debs,
                f"platforms.{system}.sources": platform.sources,
            }
        return [f"{name}: not of this package set" for name, value in held.items() if value]

    def _system_problems(self) -> Iterator[str]:
        if not self.platforms:
            yield "platforms: there is none"
        # A name from here becomes a part of what Nix is asked for.
        yield from (
            f"{part}.{system[:100]!a}: no platform that is known here"
            for part, named in (("platforms", self.platforms), ("server", self.server), ("tools", self.tools))
            for system in named
            if system not in ARCHITECTURES
        )
        if len({(platform.release, platform.python) for platform in self.platforms.values()}) > 1:
            yield "platforms: not all of one Debian release and Python"

    def _platform_problems(self, system: str, platform: Platform) -> Iterator[str]:
        where = f"platforms.{system}"
        if self._is_debian and system not in self.tools:
            yield f"tools.{system}: missing"
        if system not in self.server or self.server[system].python != platform.python:
            yield f"server.{system}: not there for Python {platform.python}"
        has_own_python = self._is_debian and platform.has_own_python
        if has_own_python and not any(deb.name == f"python{platform.python}" for deb in platform.debs):
            yield f"{where}.debs: no python{platform.python}"
        added = platform.added.debs if platform.added else ()
        yield from (
            f"{where}.{part}: {name} twice"
            for part, debs in (("debs", platform.debs), ("base-image.added.debs", added))
            for name in _twice(deb.name for deb in debs)
        )
        owners: tuple[Wheel | Source, ...] = (*platform.wheels, *platform.sources)
        projects = [owner.project for owner in owners]
        yield from (f"{where}.wheels: {name} twice" for name in _twice(projects))
        yield from (
            f"{where}: {owner.project} yields to {name}, which is none of the others"
            for owner in owners
            for name in owner.yields_to
            if name not in projects or name == owner.project
        )
        cuda = platform.cuda.wheels if platform.cuda else ()
        yield from (f"{where}.cuda: no wheel of {name}" for name in cuda if name not in projects)
        if self.sealed and self.inputs.get("has-post-build") and platform.post_build is None:
            yield f"{where}: sealed, but without a result of post_build"
        yield from (
            f"{where}.sources: sealed, but {source.project} has no wheel"
            for source in platform.sources
            if self.sealed and source.wheel is None
        )

    def _tool_problems(self) -> Iterator[str]:
        roots = [root for tools in self.tools.values() for root in (tools.layers, tools.byte_code)]
        used = {platform.release for platform in self.platforms.values()} if self._is_debian else set()
        used |= {root.release for root in roots}
        used |= {platform.added.release for platform in self.platforms.values() if platform.added}
        yield from (f"releases.{name}: missing" for name in sorted(used - set(self.releases)))
        # A base image may have a Python that Debian has not: then no byte-code of its modules is made.
        pythons = {platform.python for platform in self.platforms.values() if platform.has_own_python}
        yield from (
            f"tools.{system}.byte-code: not of the images' Python"
            for system, tools in self.tools.items()
            if pythons and tools.byte_code.python not in pythons
        )
        if self.sealed and any(tools.busybox.tree_sha256 is None for tools in self.tools.values()):
            yield "tools: sealed, but busybox has no tree-sha256"


Place = Literal["image", "server", "sources", "layers", "byte-code"]
"""What a package is for: the model's own part of the image, the server's environment, or builds alone."""


class Located(NamedTuple):
    """A locked package and where it is used."""

    system: str
    """Nix system, such as `x86_64-linux`."""
    place: Place
    release: str
    """Debian's code name."""
    package: Deb | Wheel | Source

    @property
    def kind(self) -> Literal["deb", "wheel"]:
        """What it is; of a source, what it becomes."""
        return "deb" if isinstance(self.package, Deb) else "wheel"

    @property
    def name(self) -> str:
        """Its name among its kind."""
        return self.package.name if isinstance(self.package, Deb) else self.package.project


def packages(lock: Lock) -> Iterator[Located]:
    """Every package of a lock, a platform after the other."""
    for system, platform in lock.platforms.items():
        for release, deb in platform.every_deb:
            yield Located(system, "image", release, deb)
        for wheel in platform.wheels:
            yield Located(system, "image", platform.release, wheel)
        for source in platform.sources:
            yield Located(system, "image", platform.release, source)
            parts: tuple[Deb | Wheel, ...] = (*source.build.debs, *source.build.wheels)
            for part in parts:
                yield Located(system, "sources", platform.release, part)
        for wheel in lock.server[system].wheels:
            yield Located(system, "server", platform.release, wheel)
    for system, tools in lock.tools.items():
        for deb in (tools.busybox, tools.bash, *tools.layers.debs):
            yield Located(system, "layers", tools.layers.release, deb)
        for deb in tools.byte_code.debs:
            yield Located(system, "byte-code", tools.byte_code.release, deb)


def is_as_before(lock: Lock, before: Lock) -> bool:
    """Whether a lock says nothing that the one before does not, but for which day's indexes were read for it.

    Then it need not take the place of that: the moments of that one have all its files, whatever is listed by now.
    """
    return _undated(lock) == _undated(before)


def _undated(lock: Lock) -> dict[str, Any]:
    document = lock.model_dump(mode="json", by_alias=True, exclude={"releases"})
    return document | {part: _without_snapshots(document[part]) for part in ("platforms", "tools")}


def _without_snapshots(value: Any) -> Any:  # noqa: ANN401 - a part of a document
    if isinstance(value, dict):
        return {key: _without_snapshots(one) for key, one in value.items() if key != "snapshot"}
    return [_without_snapshots(one) for one in value] if isinstance(value, list) else value


EVERY_PLATFORM = "every platform"
"""Stands in place of a platform's name for what all of them share."""


def declared_by_name(lock: Lock | None) -> dict[str, LockedDownload | LockedRepository]:
    """What the model declares in `files`, by the name that a user knows it by: its place, or a repository's name."""
    if lock is None:
        return {}
    found: dict[str, LockedDownload | LockedRepository] = {one.to: one for one in lock.files.downloads}
    for one in lock.files.repositories:
        # Few take one repository at several revisions.
        found[one.repository if one.repository not in found else f"{one.repository}@{one.revision}"] = one
    return found


def digest_of(inputs: Mapping[str, Any]) -> str:
    """The digest of a lock's `inputs`."""
    return f"sha256:{hashlib.sha256(to_json(inputs).encode()).hexdigest()}"


def _twice(names: Iterable[str]) -> list[str]:
    return [name for name, count in Counter(names).items() if count > 1]


def read_lock(path: Path) -> Lock:
    """Read `tungsten.lock`; LockError where it is missing, damaged, or of a version that is not known here."""
    try:
        data = contents(path, _LARGEST_LOCK)
    except FileNotFoundError:
        raise LockError("there is no lock", where=str(path), hint="run `tungsten lock`") from None
    except OSError as problem:
        raise LockError(f"the lock can't be read: {problem}", where=str(path)) from None
    return parse_lock(data, str(path))


@lru_cache(maxsize=1)
def parse_lock(data: bytes, where: str) -> Lock:
    """A lock's bytes; where: whose, for messages. LockError as `read_lock`.

    The last one is kept: a command begins to read it before it is asked for.
    """
    if len(data) > _LARGEST_LOCK:
        raise LockError(
            f"it is larger than any lock: over {_LARGEST_LOCK >> 20} MiB", where=where, hint=_REMEDY
        )
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as problem:
        raise LockError(f"the lock can't be read: {problem}", where=where) from None
    document = check_version(text, "lock-version", LOCK_VERSIONS, where=where, error=LockError, hint=_REMEDY)
    if problems := [
        f"{place[:200]!a}: {what}"
        for place, one in texts(document)
        if not _ANYTHING.search(place) and (what := text_problem(one))
    ]:
        raise LockError("\n".join(sorted(problems)[:_SHOWN]), where=where, hint=_REMEDY)
    return Lock.parse(text, where=where, error=LockError, hint=_REMEDY)


def write_lock(lock: Lock, path: Path) -> None:
    """Write `tungsten.lock`, whole or not at all."""
    try:
        write_atomically(path, lock.to_json())
    except OSError as problem:
        raise LockError(
            f"the lock can't be written: {problem.strerror}",
            where=str(path),
            hint="make room on the disk, and lock again"
            if problem.errno in (errno.ENOSPC, errno.EDQUOT)
            else "it lies beside the model: make that folder writable, or copy the model",
        ) from None
