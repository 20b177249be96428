"""The packages of a lock: Debian's, wheels, and projects that are built from source."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from packaging.utils import parse_wheel_filename
from packaging.version import Version
from pydantic import AfterValidator, Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from tungstenkit.document import Document
from tungstenkit.outside import GIT, LARGEST_FILE, WEB, path_problem, url_problem

MOMENT = r"^\d{8}T\d{6}Z$"
"""Of Debian's snapshots, `YYYYMMDDTHHMMSSZ`."""
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


Size = Annotated[int, Field(ge=0, le=LARGEST_FILE)]
"""In bytes."""
WebUrl = Annotated[str, AfterValidator(_check_url)]
InnerPath = Annotated[str, AfterValidator(_check_place)]
"""Of a file or folder, relative to another folder and below it."""


VariableName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]

WISH = ": "
"""Stands in an entry of `needed-by` that is a wish, and in no package's name."""


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
    snapshot: str | None = Field(default=None, pattern=MOMENT)
    """Of one that no index listed any more when it was locked again: the moment whose snapshot of its archive has it;
    absent where that is its release's."""

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

    @model_serializer(mode="wrap")
    def _without_empty(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return without_empty(write(self), "snapshot")


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
        return without_empty(write(self), "url", "path", "index", "yields-to")


def without_empty(written: dict[str, Any], *keys: str) -> dict[str, Any]:
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
    environment: dict[VariableName, str] = Field(default_factory=dict)
    """Variables that the model's `[tool.tungsten.build]` gives to it."""

    @model_serializer(mode="wrap")
    def _without_empty(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return without_empty(write(self), "environment")


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
        return without_empty(write(self), "url", "path", "git", "subdirectory", "index", "yields-to")
