"""The parts of a lock beside its packages: releases, tools, platforms, what steps made, declared files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, Field, SerializerFunctionWrapHandler, model_serializer

from tungstenkit.data import VERSION, digests
from tungstenkit.document import Document
from tungstenkit.lock.packages import (
    MOMENT,
    Deb,
    InnerPath,
    Sha256,
    Size,
    Source,
    WebUrl,
    Wheel,
    without_empty,
)
from tungstenkit.outside import image_problem

if TYPE_CHECKING:
    from collections.abc import Iterator


def _check_image(reference: str) -> str:
    if problem := image_problem(reference):
        raise ValueError(problem)
    return reference


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


class LockedRelease(Document):
    """A Debian release, as it stood when the lock was made."""

    suites: tuple[Suite, ...]
    timestamps: dict[str, Annotated[str, Field(pattern=MOMENT)]]
    """For each archive a moment whose snapshot holds every file that the lock takes from it, but for those that have
    one of their own."""


class Choice(Document):
    """Something that could have been otherwise, and why it is as it is."""

    kind: str
    subject: str
    chosen: str
    reason: str


class Tungsten(Document):
    """Which tungsten made a lock: of this lock, it makes this image."""

    version: str = Field(pattern=r"^[0-9][0-9A-Za-z.+!-]{0,50}$")
    sdk: str = Sha256
    server: str = Sha256
    nix: str = Sha256
    """As `data.digests` has them; for the compiler, which reads the declaration, the version stands."""

    @classmethod
    def this(cls) -> Tungsten:
        """The one that runs."""
        return cls(version=VERSION, **digests())


LIBRARY = "library"
"""The kind of the choices of packages for shared libraries that nobody asked for."""
NOTHING = "nothing"
"""What is chosen where no package is added."""
OLDER = "older"
"""The kind of a choice of a Python package that is older than its own requirements allow."""
PRE_RELEASE = "pre-release"
"""The kind of a choice of a pre-release that the model does not ask for."""
OF_VERSIONS = (OLDER, PRE_RELEASE)
SOURCE = "source"
"""The kind of a choice of a source, where there is no wheel."""
OVERLAP = "overlap"
"""The kind of choices that say whose files count where two packages bring the same."""
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
        return without_empty(write(self), "baseline-cpu", "environment", "replaces")


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


class AddedDebs(Document):
    """Debian packages that are installed into a base image, on top of what its dpkg knows."""

    release: str
    """The base image's, by its code name."""
    debs: tuple[Deb, ...]


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
    added: AddedDebs | None = None
    """Null where nothing is installed into it."""

    @model_serializer(mode="wrap")
    def _without_empty(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return without_empty(write(self), "added")


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
        return without_empty(write(self), "debs", "sources", "post-build", "commands", "base-image")

    @property
    def has_own_python(self) -> bool:
        """Whether its Python is among `debs`."""
        return self.base_image is None or self.base_image.python is None

    @property
    def added(self) -> AddedDebs | None:
        """What is installed into its base image."""
        return self.base_image.added if self.base_image else None

    @property
    def every_deb(self) -> list[tuple[str, Deb]]:
        """All its Debian packages, each with its release."""
        added = [(self.added.release, deb) for deb in self.added.debs] if self.added else []
        return [*((self.release, deb) for deb in self.debs), *added]


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
        return without_empty(write(self), "executable")


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
        return without_empty(write(self), "restricted", "to", "include", "exclude")


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
