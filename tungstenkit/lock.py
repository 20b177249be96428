"""`tungsten.lock`: what was chosen for a model, down to each file's hash.

This module owns the document: its form, its reader and writer, and the rule that says when it is stale. It
knows neither the network nor how a choice is made; `tungstenkit.resolve` makes locks and `tungstenkit.seal`
completes them. A lock names files, never hosts.
"""

from __future__ import annotations

import difflib
import errno
import hashlib
import json
import re
from collections import Counter
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, Self
from urllib.parse import urlsplit

from packaging.utils import canonicalize_name, parse_wheel_filename
from packaging.version import Version
from pydantic import AfterValidator, Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from tungstenkit.document import Document, check_version, to_json, write_atomically
from tungstenkit.errors import LockError
from tungstenkit.outside import (
    GIT,
    LARGEST_FILE,
    WEB,
    contents,
    image_problem,
    path_problem,
    text_problem,
    texts,
    url_problem,
)
from tungstenkit.platforms import ARCHITECTURES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from tungstenkit.spec import ModelSpec

_SHOWN = 20  # problems of a kind
LOCK_VERSION: Literal[1] = 1
LOCK_NAME = "tungsten.lock"
_REMEDY = (
    "use the tungsten that wrote it, restore it from version control, or delete it and run `tungsten lock`"
)

FLAKE_INPUTS = ("nixpkgs", "poetry2nix")
"""What an export for the package set `nixpkgs` takes from elsewhere."""

Sha256 = Field(pattern=r"^[0-9a-f]{64}$")


def _check_origin(url: str | None, path: str | None, *others: object) -> None:
    if sum(origin is not None for origin in (url, path, *others)) > 1:
        raise ValueError("comes from two places")
    if url is not None:
        _check_url(url)
    if path is not None and (problem := path_problem(path)):
        raise ValueError(f"the path {problem}")


def _check_url(url: str, schemes: tuple[str, ...] = WEB) -> str:
    if problem := url_problem(url, schemes):
        raise ValueError(f"the URL {problem}")
    parts = urlsplit(url)
    # Of ssh the user is part of the place.
    if "@" in parts.netloc and (parts.scheme != "ssh" or parts.password is not None):
        raise ValueError("the URL holds a user name or password")
    return url


def _check_place(path: str) -> str:
    if problem := path_problem(path):
        raise ValueError(problem)
    if {"", ".", ".."} & set(path.split("/")):
        raise ValueError("leads out of its folder, or has an empty part")
    return path


def _check_image(reference: str) -> str:
    if problem := image_problem(reference):
        raise ValueError(problem)
    return reference


Size = Annotated[int, Field(ge=0, le=LARGEST_FILE)]
"""In bytes."""
WebUrl = Annotated[str, AfterValidator(_check_url)]
InnerPath = Annotated[str, AfterValidator(_check_place)]
"""Of a file or folder, relative to another folder and below it."""


class Deb(Document):
    """A Debian binary package."""

    name: str
    version: str
    architecture: str
    file: str = Field(
        pattern=r"^mirror://debian(-security)?/pool/([A-Za-z0-9+._~-]+/)*[A-Za-z0-9+._~-]+\.deb$"
    )
    """Where it is in the archive, such as `mirror://debian/pool/main/t/tini/tini_0.19.0-1_amd64.deb`."""
    size: Size
    """In bytes."""
    sha256: str = Sha256
    group: Literal["base", "python", "system", "build"]
    """The layer that it belongs to: the first of these whose roots need it; `build` is in no image."""
    source: str | None = Field(default=None, pattern=r"^\S+ \(\S+\)$")
    """The source package and its version, `glibc (2.36-9+deb12u14)`: what security advisories name."""
    needed_by: tuple[str, ...] = ()
    """Who asked for it, sorted: names of locked packages that depend on it, and wishes, `WHOSE: WHAT` (`WISH`)."""

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
    """A wheel (PEP 427); without `url` and `path` it is one of the Python index's, whichever mirror has it."""

    project: str
    """Normalised as PEP 503 says."""
    version: str
    file: str = Field(pattern=r"^[A-Za-z0-9_.+!~-]+\.whl$")
    size: Size
    sha256: str = Sha256
    url: str | None = None
    """Where the model itself says that it is, without credentials."""
    path: str | None = None
    """The same, relative to the model's folder."""
    index: str | None = None
    """Which of several indexes and pages has it: a name of `[tool.tungsten.indexes]`, the declaration's own text, or
    `machine`, for one that this machine's configuration names; absent where there is one alone."""
    needed_by: tuple[str, ...] = ()
    """As a `Deb`'s."""
    yields_to: tuple[str, ...] = ()
    """The projects whose files stand in the place of its own of the same name."""

    @model_validator(mode="after")
    def _agrees_with_its_file(self) -> Self:
        name, version, _, _ = parse_wheel_filename(self.file)
        if (name, str(version)) != (self.project, str(Version(self.version))):
            raise ValueError(f"the file is not that of {self.project} {self.version}")
        _check_origin(self.url, self.path)
        return self

    @model_serializer(mode="wrap")
    def _without_empty(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return _without(write(self), "url", "path", "index", "yields-to")


def _without(written: dict[str, Any], *keys: str) -> dict[str, Any]:
    """Leave out what is empty for most entries."""
    return {key: value for key, value in written.items() if value or key not in keys}


class GitCommit(Document):
    """A commit of a git repository."""

    url: Annotated[str, AfterValidator(lambda url: _check_url(url, GIT))]
    """As `git clone` takes it, without credentials."""
    commit: str = Field(pattern=r"^([0-9a-f]{40}|[0-9a-f]{64})$")


class SourceBuild(Document):
    """How a source becomes a wheel (PEP 517), and with what; none of it is in an image."""

    backend: str
    """`module:object`."""
    backend_path: tuple[str, ...] = ()
    """Folders of the source that hold the backend, where it brings its own."""
    wheels: tuple[Wheel, ...]
    debs: tuple[Deb, ...]
    """The whole root that it is built in."""


class Source(Document):
    """A project that is built from source. Without `url`, `path` and `git` its archive is the Python index's."""

    project: str
    """Normalised as PEP 503 says."""
    version: str
    file: str = Field(pattern=r"^[^/\\\x00-\x1f]+$")
    """The archive's name. One of a folder or a git commit is made by us, the same bytes each time."""
    size: Size
    sha256: str = Sha256
    url: str | None = None
    path: str | None = None
    """A folder or an archive, relative to the model's folder."""
    git: GitCommit | None = None
    subdirectory: str | None = None
    """Where the project lies in the archive."""
    index: str | None = None
    """As a `Wheel`'s."""
    build: SourceBuild
    wheel: str | None = None
    """The file name of what was built; null until it is sealed."""
    wheel_size: Size | None = None
    wheel_sha256: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")
    needed_by: tuple[str, ...] = ()
    """As a `Deb`'s."""
    yields_to: tuple[str, ...] = ()
    """As a `Wheel`'s."""

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> Self:
        _check_origin(self.url, self.path, self.git)
        if len({value is None for value in (self.wheel, self.wheel_size, self.wheel_sha256)}) > 1:
            raise ValueError("what was built is named in part only")
        if self.wheel is not None:
            name, version, _, _ = parse_wheel_filename(self.wheel)
            if (name, str(version)) != (self.project, str(Version(self.version))):
                raise ValueError(f"{self.wheel} is not a wheel of {self.project} {self.version}")
        return self

    @model_serializer(mode="wrap")
    def _without_empty(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return _without(write(self), "url", "path", "git", "subdirectory", "index", "yields-to")


class Suite(Document):
    """One suite of a Debian archive, as it stood when the lock was made."""

    archive: Literal["debian", "debian-security"]
    suite: str
    architecture: str = "amd64"
    """Debian's name of the processor whose packages were read."""
    date: str = Field(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$")
    """The date of its signed Release file, RFC 3339, UTC."""
    packages_sha256: str = Sha256
    """Of the Packages index that was read."""


class Release(Document):
    """A Debian release, as it stood when the lock was made."""

    suites: tuple[Suite, ...]
    timestamps: dict[str, Annotated[str, Field(pattern=r"^\d{8}T\d{6}Z$")]]
    """For each archive a moment (`YYYYMMDDTHHMMSSZ`) whose snapshot holds every file that the lock takes from it."""


class Choice(Document):
    """Something that could have been otherwise, and why it is as it is."""

    kind: str
    subject: str
    chosen: str
    reason: str


LIBRARY = "library"
"""The kind of the choices of packages for shared libraries that nobody asked for."""
NOTHING = "nothing"
"""What is chosen where no package is added."""
OLDER = "older"
"""The kind of a choice of a Python package that is older than its own requirements allow."""
PRE_RELEASE = "pre-release"
"""The kind of a choice of a pre-release that the model does not ask for."""
OF_VERSIONS = (OLDER, PRE_RELEASE)
PLACE = "place"
"""The kind of a choice of an index or a page: what comes from it."""


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


class PostBuild(Document):
    """What `post_build` made, and of what."""

    sees: str = Sha256
    """Of everything that it can see; while that is the same, so is the result."""
    files: dict[str, str]
    """What it sees of the model's files: by path the sha256, followed by ` x` where it may be run, or `-> TARGET`."""
    baseline_cpu: bool = False
    """Whether every run uses one thread and the CPU's oldest instructions."""
    environment: tuple[str, ...] = ()
    """Names of variables that it gets from whoever builds."""
    replaces: tuple[str, ...] = ()
    """Those of the model's files that it has written anew."""
    size: Size
    """Of the result, a tar, in bytes."""
    sha256: str = Sha256

    @property
    def file(self) -> str:
        """The result's name, as in `nix/steps/post-build.nix`: an older one must not be taken for a new one."""
        return f"post-build-{self.sees[:16]}.tar"

    @model_serializer(mode="wrap")
    def _without_empty(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return _without(write(self), "baseline-cpu", "environment", "replaces")


class CommandResult(Document):
    """What a RUN with the network made, and of what."""

    sees: str = Sha256
    """Of everything that it can see; while that is the same, so is the result."""
    size: Size
    """Of the result, a tar, in bytes."""
    sha256: str = Sha256

    @property
    def file(self) -> str:
        """The result's name, as in `nix/steps/commands.nix`."""
        return f"command-{self.sees[:16]}.tar"


class BaseLayer(Document):
    """A layer of a base image, as its registry has it."""

    digest: str = Field(pattern=r"^sha256:[0-9a-f]{64}$")
    """Of the blob."""
    diff_id: str = Field(pattern=r"^sha256:[0-9a-f]{64}$")
    """Of the unpacked blob."""
    size: Size
    """Of the blob, in bytes."""
    media_type: str

    @property
    def is_zstd(self) -> bool:
        """Whether it is compressed by zstd, for which the Pythons that read it have no module."""
        return self.media_type.endswith("+zstd")


class BasePython(Document):
    """A Python that a base image has, and where it looks for packages; all are absolute paths there."""

    path: str
    """The program, such as `/usr/local/bin/python3.11`."""
    home: str
    """The folder of the program itself, where `path` is a link or in a virtual environment."""
    prefix: str
    site_packages: str
    replaces: tuple[str, ...] = ()
    """The projects there whose place the model's own packages take."""


class BaseImage(Document):
    """The image that a model's goes on."""

    reference: Annotated[str, AfterValidator(_check_image)]
    """As the model names it."""
    named: str = Field(pattern=r"^sha256:[0-9a-f]{64}$")
    """The digest of what the reference named when it was locked: an index, or the manifest itself."""
    digest: str = Field(pattern=r"^sha256:[0-9a-f]{64}$")
    """Of the manifest for this platform."""
    layers: tuple[BaseLayer, ...]
    """The lowest first."""
    environment: dict[str, str]
    """The variables of its configuration, which ours go on."""
    labels: dict[str, str]
    exposed_ports: tuple[str, ...]
    """Such as `80/tcp`."""
    libc: str | None = Field(pattern=r"^2\.\d+$")
    """The version of its GNU C library; null where it has no C library."""
    certificates: str | None
    """The path of its bundle of authorities; null where it has none."""
    python: BasePython | None
    """Null where it has none that can be used, and gets Debian's in a prefix of its own."""


class Platform(Document):
    """What an image for one platform is made of."""

    release: str
    """Debian's code name; nixpkgs' branch in a lock of that package set."""
    python: str = Field(pattern=r"^3\.\d+$")
    cuda: Cuda | None = None
    """Null where the wheels hold no CUDA."""
    debs: tuple[Deb, ...] = ()
    wheels: tuple[Wheel, ...]
    sources: tuple[Source, ...] = ()
    """What is built from source; `wheels` holds none of it."""
    post_build: PostBuild | None = None
    """Null until it is sealed, and where the model has none."""
    commands: tuple[CommandResult, ...] = ()
    """Of each RUN with the network, in order."""

    base_image: BaseImage | None = None
    """Null where the image is Debian's packages alone; else `debs` stand beside the base image's own files."""

    @model_serializer(mode="wrap")
    def _without_empty(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return _without(write(self), "debs", "sources", "post-build", "commands", "base-image")

    @property
    def has_own_python(self) -> bool:
        """Whether its Python is among `debs`."""
        return self.base_image is None or self.base_image.python is None


class LockedDownload(Document):
    """A file behind a URL that the model declares."""

    url: WebUrl
    """Without credentials."""
    size: Size
    sha256: str = Sha256
    to: InnerPath
    """Relative to the model's folder in the image."""
    executable: bool = False

    @property
    def version(self) -> str:
        """What tells it from another file of its name."""
        return self.sha256[:12]

    @model_serializer(mode="wrap")
    def _without_empty(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return _without(write(self), "executable")


class RepositoryFile(Document):
    """A file of a repository."""

    path: InnerPath
    """In the repository."""
    size: Size
    sha256: str = Sha256


class LockedRepository(Document):
    """Files of a repository on the Hugging Face hub that the model declares."""

    repository: str = Field(pattern=r"^([A-Za-z0-9][A-Za-z0-9_.-]*/)?[A-Za-z0-9][A-Za-z0-9_.-]*$")
    type: Literal["model", "dataset"]
    revision: InnerPath
    """The branch, tag or commit that was asked for."""
    commit: str = Field(pattern=r"^[0-9a-f]{40}$")
    """What it was."""
    restricted: bool = False
    """Whether the hub gives its files only to some."""
    to: InnerPath | Literal["."] | None = None
    """A folder, relative to the model's; null is the hub's cache."""
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    """What was asked for, so that a later lock knows whether the files are still those."""
    files: tuple[RepositoryFile, ...]

    @property
    def version(self) -> str:
        """The commit, as git shortens it."""
        return self.commit[:12]

    @property
    def size(self) -> int:
        """In bytes, of all its files."""
        return sum(file.size for file in self.files)

    @model_serializer(mode="wrap")
    def _without_empty(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return _without(write(self), "restricted", "to", "include", "exclude")


class Files(Document):
    """What the model declares in `files`."""

    downloads: tuple[LockedDownload, ...] = ()
    repositories: tuple[LockedRepository, ...] = ()

    def in_model(self) -> Iterator[tuple[str, str]]:
        """Path, relative to the model's folder, and sha256 of each file that goes there."""
        yield from ((one.to, one.sha256) for one in self.downloads)
        for repository in self.repositories:
            if repository.to is not None:
                above = "" if repository.to == "." else f"{repository.to}/"
                yield from ((f"{above}{file.path}", file.sha256) for file in repository.files)


class ServerEnvironment(Document):
    """The server's own environment; the model's packages can't touch it."""

    python: str = Field(pattern=r"^3\.\d+$")
    wheels: tuple[Wheel, ...]


class FlakeInput(Document):
    """A repository of GitHub's at one revision, as a flake's lock file names it (Nix manual, "Lock files")."""

    owner: str = Field(pattern=r"^[A-Za-z0-9_.-]+$")
    repo: str = Field(pattern=r"^[A-Za-z0-9_.-]+$")
    ref: str | None = Field(default=None, pattern=r"^[A-Za-z0-9_][A-Za-z0-9_./-]*$")
    """The branch that the revision is of."""
    rev: str = Field(pattern=r"^[0-9a-f]{40}$")
    nar_hash: str = Field(pattern=r"^sha256-[A-Za-z0-9+/]{43}=$")
    """Of the repository's files, as a Nix archive (SRI)."""
    last_modified: int
    """When the revision was committed, in seconds since 1970, UTC."""
    flake: bool
    """Whether it is taken as a flake, or as its files alone."""


class Lock(Document):
    """The whole document."""

    lock_version: Literal[1] = LOCK_VERSION
    package_set: Literal["debian", "nixpkgs"]
    inputs: dict[str, Any] = Field(default_factory=dict)
    """What it was made from, for a reader and for telling what has changed since: `inputs`."""
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
    files: Files = Files()
    """Absent where the model declares none."""
    flake_inputs: dict[str, FlakeInput] = Field(default_factory=dict)
    """What the flake of an export takes from elsewhere, in a lock for the package set `nixpkgs`."""

    @model_serializer(mode="wrap")
    def _without_empty(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        written = write(self)
        empty = {"files": self.files == Files(), "flake-inputs": not self.flake_inputs}
        return {key: value for key, value in written.items() if not empty.get(key)}

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> Self:
        """What a build would find out later, or not at all."""
        problems = []
        is_debian = self.package_set == "debian"
        if not is_debian:
            problems += self._debians()
            problems += [f"flake-inputs: no {name}" for name in FLAKE_INPUTS if name not in self.flake_inputs]
        elif self.flake_inputs:
            problems.append("flake-inputs: not of this package set")
        if self.inputs and self.input_digest != _digest(self.inputs):
            problems.append("input-digest: is not that of inputs")
        if not self.platforms:
            problems.append("platforms: there is none")
        # A name from here becomes a part of what Nix is asked for.
        problems += [
            f"{part}.{system[:100]!a}: no platform that is known here"
            for part, named in (("platforms", self.platforms), ("server", self.server), ("tools", self.tools))
            for system in named
            if system not in ARCHITECTURES
        ]
        if len({(platform.release, platform.python) for platform in self.platforms.values()}) > 1:
            problems.append("platforms: not all of one Debian release and Python")
        for system, platform in self.platforms.items():
            where = f"platforms.{system}"
            if is_debian and system not in self.tools:
                problems.append(f"tools.{system}: missing")
            if system not in self.server or self.server[system].python != platform.python:
                problems.append(f"server.{system}: not there for Python {platform.python}")
            has_own_python = is_debian and platform.has_own_python
            if has_own_python and not any(deb.name == f"python{platform.python}" for deb in platform.debs):
                problems.append(f"{where}.debs: no python{platform.python}")
            problems += [f"{where}.debs: {name} twice" for name in _twice(deb.name for deb in platform.debs)]
            projects = [wheel.project for wheel in platform.wheels]
            projects += [source.project for source in platform.sources]
            problems += [f"{where}.wheels: {name} twice" for name in _twice(projects)]
            yielding = [(wheel.project, wheel.yields_to) for wheel in platform.wheels]
            yielding += [(source.project, source.yields_to) for source in platform.sources]
            problems += [
                f"{where}: {project} yields to {name}, which is none of the others"
                for project, winners in yielding
                for name in winners
                if name not in projects or name == project
            ]
            cuda = platform.cuda.wheels if platform.cuda else ()
            problems += [f"{where}.cuda: no wheel of {name}" for name in cuda if name not in projects]
            if self.sealed and self.inputs.get("has-post-build") and platform.post_build is None:
                problems.append(f"{where}: sealed, but without a result of post_build")
            problems += [
                f"{where}.sources: sealed, but {source.project} has no wheel"
                for source in platform.sources
                if self.sealed and source.wheel is None
            ]
        roots = [root for tools in self.tools.values() for root in (tools.layers, tools.byte_code)]
        used = {platform.release for platform in self.platforms.values()} if is_debian else set()
        used |= {root.release for root in roots}
        problems += [f"releases.{name}: missing" for name in sorted(used - set(self.releases))]
        # A base image may have a Python that Debian has not: nothing of its is compiled then.
        pythons = {platform.python for platform in self.platforms.values() if platform.has_own_python}
        problems += [
            f"tools.{system}.byte-code: not of the images' Python"
            for system, tools in self.tools.items()
            if pythons and tools.byte_code.python not in pythons
        ]
        if self.sealed and any(tools.busybox.tree_sha256 is None for tools in self.tools.values()):
            problems.append("tools: sealed, but busybox has no tree-sha256")
        if problems:
            raise ValueError("; ".join(problems))
        return self

    def _debians(self) -> list[str]:
        """What only a lock for the package set `debian` may hold."""
        held = {"releases": self.releases, "tools": self.tools}
        for system, platform in self.platforms.items():
            held |= {
                f"platforms.{system}.debs": platform.debs,
                f"platforms.{system}.sources": platform.sources,
            }
        return [f"{name}: not of this package set" for name, value in held.items() if value]


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
        for deb in platform.debs:
            yield Located(system, "image", platform.release, deb)
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


BASE_IMAGE = "base_image"
"""Names the base image's digest among the pins; no package is called so."""


EVERY_PLATFORM = "every platform"
"""Stands in place of a platform's name for what all of them share."""


def declared(lock: Lock | None) -> dict[str, LockedDownload | LockedRepository]:
    """What the model declares in `files`, by the name that a user knows it by: its place, or a repository's name."""
    if lock is None:
        return {}
    found: dict[str, LockedDownload | LockedRepository] = {one.to: one for one in lock.files.downloads}
    for one in lock.files.repositories:
        # Few take one repository at several revisions.
        found[one.repository if one.repository not in found else f"{one.repository}@{one.revision}"] = one
    return found


POST_BUILD = "post_build"
"""Names its result among the pins; no package is called so."""

OVERLAP = "overlap"
"""The kind of choices that say whose files count where two packages bring the same."""

WISH = ": "
"""Stands in an entry of `needed-by` that is a wish, and in no package's name."""


def unpinned(lock: Lock, names: Iterable[str]) -> Lock:
    """The lock without the pins of some of an image's packages: relocked, they may move, and what they need.

    names: of Debian packages, or of Python projects in any spelling (PEP 503), both where a name is both; of declared
        repositories, or paths of declared downloads. `POST_BUILD` is the result of that, `BASE_IMAGE` that image.

    Raises LockError for names that the image's pins do not have, all at once.
    """
    declared = lock.files
    chosen = {download.to for download in declared.downloads}
    chosen |= {repository.repository for repository in declared.repositories}
    names = tuple(names)
    moving = {BASE_IMAGE, POST_BUILD, *chosen}.intersection(names)
    wanted = {name: {name, canonicalize_name(name)} for name in names if name not in moving}
    names_of: dict[Place, set[str]] = {}
    for located in packages(lock):
        names_of.setdefault(located.place, set()).add(located.name)
    image = names_of.pop("image", set())
    building = names_of.pop("sources", set())
    others = set().union(*names_of.values())
    problems = []
    if BASE_IMAGE in names and not any(platform.base_image for platform in lock.platforms.values()):
        problems.append(f"the lock has no {BASE_IMAGE}")
    if POST_BUILD in names and not any(platform.post_build for platform in lock.platforms.values()):
        problems.append(f"the lock has no result of {POST_BUILD}")
    for name, spellings in wanted.items():
        if spellings & image:
            continue
        if spellings & building:
            problems.append(
                f"{name!r} is what a source is built with: it moves with the project of that source"
            )
        elif spellings & others:
            problems.append(f"{name!r} is the server's or a tool of builds: its pin comes with tungsten")
        else:
            problems.append(f"the lock has no package {name!r}{near(name, image | chosen)}")
    if problems:
        raise LockError("\n".join(problems), hint="`tungsten lock --upgrade` takes the newest of everything")
    dropped = set().union(*wanted.values())
    platforms = {
        system: platform.model_copy(
            update={
                "debs": tuple(deb for deb in platform.debs if deb.name not in dropped),
                "wheels": tuple(wheel for wheel in platform.wheels if wheel.project not in dropped),
                "sources": tuple(source for source in platform.sources if source.project not in dropped),
                "base_image": None if BASE_IMAGE in names else platform.base_image,
                "post_build": None if POST_BUILD in names else platform.post_build,
            }
        )
        for system, platform in lock.platforms.items()
    }
    files = Files(
        downloads=tuple(one for one in declared.downloads if one.to not in moving),
        repositories=tuple(one for one in declared.repositories if one.repository not in moving),
    )
    return lock.model_copy(update={"platforms": platforms, "files": files})


def near(name: str, known: Iterable[str]) -> str:
    """`; near: …` where names are like one that is not known, for the end of a message."""
    names = difflib.get_close_matches(name, sorted(known), n=4, cutoff=0.6)
    return f"; near: {', '.join(names)}" if names else ""


def _twice(names: Iterable[str]) -> list[str]:
    return [name for name, count in Counter(names).items() if count > 1]


def inputs(spec: ModelSpec, package_set: str) -> dict[str, Any]:
    """What a lock is made from: the arguments that are resolved, and nothing else.

    Schemas, descriptions, sizes and file patterns are left out, so that editing them makes no lock stale.
    """
    made_from: dict[str, Any] = {
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
    # Absent where it is empty, so that older locks stay fresh.
    if spec.files:
        made_from["files"] = [wish.model_dump(mode="json", by_alias=True) for wish in spec.files]
    if spec.lock_file is not None:
        made_from["lock-file"] = spec.lock_file.model_dump(mode="json", by_alias=True)
    if spec.indexes:
        made_from["indexes"] = spec.indexes
    if package_set == "nixpkgs":
        return made_from | ({"nixpkgs": spec.nixpkgs} if spec.nixpkgs else {})
    settings = {"libraries": spec.libraries, "build": spec.build}
    return made_from | {key: value for key, value in settings.items() if value}


def input_digest(spec: ModelSpec, package_set: str) -> str:
    """The digest of a lock's `inputs`."""
    return _digest(inputs(spec, package_set))


def _digest(value: dict[str, Any]) -> str:
    return f"sha256:{hashlib.sha256(to_json(value).encode()).hexdigest()}"


def changed_inputs(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """What differs between two locks' `inputs`, a line for each argument: `python_packages: +scipy -six`."""
    lines = []
    for key in sorted(before.keys() | after.keys()):
        old, new = before.get(key), after.get(key)
        argument = key.replace("-", "_")
        if old == new:
            continue
        if isinstance(old, list) and isinstance(new, list):
            parts = [f"+{_shown(one)}" for one in new if one not in old] + [
                f"-{_shown(one)}" for one in old if one not in new
            ]
            lines.append(f"{argument}: {' '.join(parts) or 'in another order'}")
        else:
            lines.append(f"{argument}: {_shown(old)} -> {_shown(new)}")
    return lines


def _shown(value: object) -> str:
    is_plain = isinstance(value, str) and text_problem(value) is None
    return str(value) if is_plain else json.dumps(value, sort_keys=True)


# Of what a base image has, and of what commands say, any letter may be meant.
_ANYTHING = re.compile(
    r"^inputs\.dockerfile-commands\.|^platforms\.[^.]+\.base-image\.(environment|labels)\b"
)
_LARGEST_LOCK = 64 << 20
"""In bytes; a hundred times what the largest model's has."""


def read_lock(path: Path) -> Lock:
    """Read `tungsten.lock`; LockError where it is missing, damaged, or of a version that is not known here."""
    try:
        data = contents(path, _LARGEST_LOCK)
    except FileNotFoundError:
        raise LockError("there is no lock", where=str(path), hint="run `tungsten lock`") from None
    except OSError as problem:
        raise LockError(f"the lock can't be read: {problem}", where=str(path)) from None
    return parse_lock(data, str(path))


def parse_lock(data: bytes, where: str) -> Lock:
    """A lock's bytes; where: whose, for messages. LockError as `read_lock`."""
    if len(data) > _LARGEST_LOCK:
        raise LockError(
            f"it is larger than any lock: over {_LARGEST_LOCK >> 20} MiB", where=where, hint=_REMEDY
        )
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as problem:
        raise LockError(f"the lock can't be read: {problem}", where=where) from None
    document = check_version(text, "lock-version", LOCK_VERSION, where=where, error=LockError, hint=_REMEDY)
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


def check_lock(lock: Lock, spec: ModelSpec, path: Path) -> None:
    """LockError if the lock was made from other arguments, or is not sealed."""
    if lock.input_digest != input_digest(spec, lock.package_set):
        changed = changed_inputs(lock.inputs, inputs(spec, lock.package_set)) if lock.inputs else []
        raise LockError(
            "\n".join(
                [
                    "the lock is stale: the model's packages or versions have changed since it was made",
                    *changed,
                ]
            ),
            where=str(path),
            hint="run `tungsten lock`; pins that still fit are kept",
        )
    if not lock.sealed:
        raise LockError(
            "the lock is not sealed: it was made with --resolve-only",
            where=str(path),
            hint="run `tungsten lock`",
        )


def check_package_set(lock: Lock, asked: str | None, hint: str = "") -> None:
    """LockError where another package set is asked for than the lock's; hint: what to do instead of locking again."""
    if asked not in (None, lock.package_set):
        raise LockError(
            f"the lock is for the package set {lock.package_set}, not {asked}",
            where=LOCK_NAME,
            hint=hint or f"run `tungsten lock --package-set {asked}`",
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
    if lock.tools and builder not in lock.tools:
        can = ", ".join(lock.tools)
        raise LockError(
            f"the lock has tools to build on {can}, and none for this machine ({builder})",
            where=LOCK_NAME,
            hint="run `tungsten lock` on this machine: pins are kept, and tools are added"
            if builder in ARCHITECTURES
            else f"build on one of these: {', '.join(ARCHITECTURES)}",
        )
    systems = set(platforms)
    # As `nix/scope.nix`: a wheel that is for all platforms is built on the one that builds.
    here = lock.platforms.get(builder)
    own = {source.wheel_sha256: source for source in here.sources} if here else {}
    return lock.model_copy(
        update={
            "platforms": {
                name: found.model_copy(
                    update={"sources": tuple(own.get(s.wheel_sha256, s) for s in found.sources)}
                )
                for name, found in lock.platforms.items()
                if name in systems
            },
            "server": {name: found for name, found in lock.server.items() if name in systems},
            "tools": {name: found for name, found in lock.tools.items() if name == builder},
        }
    )
