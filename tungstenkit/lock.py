"""`tungsten.lock`: what was chosen for a model, down to each file's hash.

This module owns the document: its form, its reader and writer, and the rule that says when it is stale. It
knows neither the network nor how a choice is made; `tungstenkit.resolve` makes locks and `tungstenkit.seal`
completes them. A lock names files, never hosts.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from typing import TYPE_CHECKING, Literal, Self

from packaging.utils import parse_wheel_filename
from packaging.version import Version
from pydantic import Field, model_validator

from tungstenkit.document import Document, check_version, to_json, write_atomically
from tungstenkit.errors import LockError
from tungstenkit.platforms import ARCHITECTURES

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from tungstenkit.spec import ModelSpec

LOCK_VERSION: Literal[1] = 1
LOCK_NAME = "tungsten.lock"
_REMEDY = (
    "use the tungsten that wrote it, restore it from version control, or delete it and run `tungsten lock`"
)

Sha256 = Field(pattern=r"^[0-9a-f]{64}$")


class Deb(Document):
    """A Debian binary package."""

    name: str
    version: str
    architecture: str
    file: str = Field(
        pattern=r"^mirror://debian(-security)?/pool/([A-Za-z0-9+._~-]+/)*[A-Za-z0-9+._~-]+\.deb$"
    )
    """Where it is in the archive, such as `mirror://debian/pool/main/t/tini/tini_0.19.0-1_amd64.deb`."""
    size: int = Field(ge=0)
    """In bytes."""
    sha256: str = Sha256
    group: Literal["base", "python", "system"]
    """The layer that it belongs to: the first of these whose roots need it."""

    @model_validator(mode="after")
    def _agrees_with_its_file(self) -> Self:
        # A reviewer reads the version, a build takes the file. The archive's file names have no epoch.
        if (
            self.file.rpartition("/")[2]
            != f"{self.name}_{self.version.split(':', 1)[-1]}_{self.architecture}.deb"
        ):
            raise ValueError(f"the file is not that of {self.name} {self.version}")
        if ".." in self.file.split("/"):
            raise ValueError("the file is not below the mirror's pool")
        return self


class Wheel(Document):
    """A wheel of the Python index (PEP 427)."""

    project: str
    """Normalised as PEP 503 says."""
    version: str
    file: str = Field(pattern=r"^[^/\\]+\.whl$")
    size: int = Field(ge=0)
    sha256: str = Sha256

    @model_validator(mode="after")
    def _agrees_with_its_file(self) -> Self:
        name, version, _, _ = parse_wheel_filename(self.file)
        if (name, str(version)) != (self.project, str(Version(self.version))):
            raise ValueError(f"the file is not that of {self.project} {self.version}")
        return self


class Suite(Document):
    """One suite of a Debian archive, as it stood when the lock was made."""

    archive: Literal["debian", "debian-security"]
    suite: str
    architecture: str = "amd64"
    """Debian's name of the processor whose packages were read."""
    date: str
    """The date of its signed Release file, RFC 3339, UTC."""
    packages_sha256: str = Sha256
    """Of the Packages index that was read."""


class Release(Document):
    """A Debian release, as it stood when the lock was made."""

    suites: tuple[Suite, ...]
    timestamps: dict[str, str]
    """For each archive a moment (`YYYYMMDDTHHMMSSZ`) whose snapshot holds every file that the lock takes from it."""


class Choice(Document):
    """Something that could have been otherwise, and why it is as it is."""

    kind: str
    subject: str
    chosen: str
    reason: str


class PythonRoot(Document):
    """A Debian Python that runs during builds; no part of an image."""

    release: str
    python: str = Field(pattern=r"^3\.\d+$")
    debs: tuple[Deb, ...]


class Busybox(Deb):
    """Debian's static busybox, the first program of every build."""

    tree_sha256: str | None = Field(pattern=r"^sha256-[A-Za-z0-9+/]{43}=$")
    """Of a folder that holds `bin/busybox` alone, as a Nix archive (SRI); null until it is sealed."""


class Tools(Document):
    """What builds run on one platform."""

    busybox: Busybox
    layers: PythonRoot
    """Makes the layers; the same for every model. busybox and bash are of its release."""
    byte_code: PythonRoot
    """Compiles byte-code: the model's Python version."""
    bash: Deb
    """Debian's static bash, for the development shell."""


class Cuda(Document):
    """The CUDA of an image, as its wheels have it."""

    version: str = Field(pattern=r"^\d+(\.\d+)?$")
    """The toolkit's, such as `12.4`; the major version alone where no runtime wheel tells more."""
    minimum_driver: str | None
    """The oldest NVIDIA driver for Linux that runs programs of this major version (minor version compatibility)."""
    native_driver: str | None
    """The driver that came with the version: from it on every feature works. Null where it is not known here."""
    wheels: tuple[str, ...]
    """The projects that hold CUDA."""
    libraries: tuple[str, ...]
    """Folders of CUDA's libraries, below the one of the Python packages."""


class Platform(Document):
    """What an image for one platform is made of."""

    release: str
    """Debian's code name."""
    python: str = Field(pattern=r"^3\.\d+$")
    cuda: Cuda | None = None
    """Null where the wheels hold no CUDA."""
    debs: tuple[Deb, ...]
    wheels: tuple[Wheel, ...]


class ServerEnvironment(Document):
    """The server's own environment; the model's packages can't touch it."""

    python: str = Field(pattern=r"^3\.\d+$")
    wheels: tuple[Wheel, ...]


class Lock(Document):
    """The whole document."""

    lock_version: Literal[1] = LOCK_VERSION
    package_set: Literal["debian", "nixpkgs"]
    input_digest: str = Field(pattern=r"^sha256:[0-9a-f]{64}$")
    sealed: bool
    """Whether everything that had to be run has been run; only a sealed lock can be built."""
    choices: tuple[Choice, ...]
    releases: dict[str, Release]
    """By Debian's code name."""
    platforms: dict[str, Platform]
    """By Nix system, such as `x86_64-linux`."""
    server: dict[str, ServerEnvironment]
    tools: dict[str, Tools]
    """By the platform that builds."""

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> Self:
        """What a build would find out later, or not at all."""
        problems = []
        if not self.platforms:
            problems.append("platforms: there is none")
        if len({(platform.release, platform.python) for platform in self.platforms.values()}) > 1:
            problems.append("platforms: not all of one Debian release and Python")
        for system, platform in self.platforms.items():
            where = f"platforms.{system}"
            if system not in self.tools:
                problems.append(f"tools.{system}: missing")
            if system not in self.server or self.server[system].python != platform.python:
                problems.append(f"server.{system}: not there for Python {platform.python}")
            if not any(deb.name == f"python{platform.python}" for deb in platform.debs):
                problems.append(f"{where}.debs: no python{platform.python}")
            problems += [f"{where}.debs: {name} twice" for name in _twice(deb.name for deb in platform.debs)]
            held = {wheel.project for wheel in platform.wheels}
            cuda = platform.cuda.wheels if platform.cuda else ()
            problems += [f"{where}.cuda: no wheel of {name}" for name in cuda if name not in held]
            problems += [
                f"{where}.wheels: {name} twice" for name in _twice(w.project for w in platform.wheels)
            ]
        roots = [root for tools in self.tools.values() for root in (tools.layers, tools.byte_code)]
        used = {platform.release for platform in self.platforms.values()} | {root.release for root in roots}
        problems += [f"releases.{name}: missing" for name in sorted(used - set(self.releases))]
        pythons = {platform.python for platform in self.platforms.values()}
        problems += [
            f"tools.{system}.byte-code: not of the images' Python"
            for system, tools in self.tools.items()
            if tools.byte_code.python not in pythons
        ]
        if self.sealed and any(tools.busybox.tree_sha256 is None for tools in self.tools.values()):
            problems.append("tools: sealed, but busybox has no tree-sha256")
        if problems:
            raise ValueError("; ".join(problems))
        return self


def _twice(names: Iterable[str]) -> list[str]:
    return [name for name, count in Counter(names).items() if count > 1]


def input_digest(spec: ModelSpec, package_set: str) -> str:
    """What a lock was made from: the arguments that are resolved, and nothing else.

    Schemas, descriptions, sizes and file patterns are left out, so that editing them makes no lock stale.
    """
    inputs: dict[str, object] = {
        "package-set": package_set,
        "python-packages": list(spec.python_packages),
        "system-packages": list(spec.system_packages),
        "python-version": spec.python_version,
        "gpu": spec.gpu,
        "cuda-version": spec.cuda_version,
        "base-image": spec.base_image,
        "dockerfile-commands": list(spec.dockerfile_commands),
        "has-post-build": spec.has_post_build,
    }
    if spec.libraries:
        inputs["libraries"] = spec.libraries
    return f"sha256:{hashlib.sha256(to_json(inputs).encode()).hexdigest()}"


def read_lock(path: Path) -> Lock:
    """Read `tungsten.lock`; LockError where it is missing, damaged, or of a version that is not known here."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise LockError("there is no lock", where=str(path), hint="run `tungsten lock`") from None
    except (OSError, UnicodeDecodeError) as problem:
        raise LockError(f"the lock can't be read: {problem}", where=str(path)) from None
    check_version(text, "lock-version", LOCK_VERSION, where=str(path), error=LockError, hint=_REMEDY)
    return Lock.parse(text, where=str(path), error=LockError, hint=_REMEDY)


def write_lock(lock: Lock, path: Path) -> None:
    """Write `tungsten.lock`, whole or not at all."""
    try:
        write_atomically(path, lock.to_json())
    except OSError as problem:
        raise LockError(
            f"the lock can't be written: {problem.strerror}",
            where=str(path),
            hint="it lies beside the model: make that folder writable, or copy the model",
        ) from None


def check_lock(lock: Lock, spec: ModelSpec, path: Path) -> None:
    """LockError if the lock was made from other arguments, or is not sealed."""
    if lock.input_digest != input_digest(spec, lock.package_set):
        raise LockError(
            "the lock is stale: the model's packages or versions have changed since it was made",
            where=str(path),
            hint="run `tungsten lock`; pins that still fit are kept",
        )
    if not lock.sealed:
        raise LockError(
            "the lock is not sealed: it was made with --resolve-only",
            where=str(path),
            hint="run `tungsten lock`",
        )


def choose_platform(lock: Lock, asked: str | None, here: str) -> str:
    """The platform whose image is meant: the one asked for, else that of this machine, else the only one.

    here: this machine's Nix system. Raises LockError where the lock has not got it, or has several others.
    """
    have = ", ".join(lock.platforms)
    if asked is not None and asked not in lock.platforms:
        more = " ".join(f"--platform {system}" for system in sorted({*lock.platforms, asked}))
        raise LockError(
            f"the lock has no platform {asked}; it has {have}",
            where="--platform",
            hint=f"run `tungsten lock {more}`"
            if asked in ARCHITECTURES
            else f"images can be made for {', '.join(ARCHITECTURES)}",
        )
    if asked is None and here not in lock.platforms and len(lock.platforms) > 1:
        raise LockError(
            f"the lock has several platforms, and none is this machine's ({here})",
            where="--platform",
            hint=f"choose one: {have}",
        )
    return asked or (here if here in lock.platforms else next(iter(lock.platforms)))


def part_of(lock: Lock, platforms: Iterable[str], builder: str) -> Lock:
    """What of a lock counts where the images of some platforms are built on one machine.

    builder: the machine's Nix system. Raises LockError where the lock has no tools for it.
    """
    if builder not in lock.tools:
        can = ", ".join(lock.tools)
        raise LockError(
            f"the lock has tools to build on {can}, and none for this machine ({builder})",
            where=LOCK_NAME,
            hint="run `tungsten lock` on this machine: pins are kept, and tools are added"
            if builder in ARCHITECTURES
            else f"build on one of these: {', '.join(ARCHITECTURES)}",
        )
    systems = set(platforms)
    return lock.model_copy(
        update={
            "platforms": {name: found for name, found in lock.platforms.items() if name in systems},
            "server": {name: found for name, found in lock.server.items() if name in systems},
            "tools": {builder: lock.tools[builder]},
        }
    )
