"""`spec.json`: what a model asks for, as a document. `ModelSpec` owns its shape."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import (
    ConfigDict,
    Field,
    PrivateAttr,
    SerializerFunctionWrapHandler,
    model_serializer,
)

from tungstenkit.document import Document, check_version
from tungstenkit.sdk.downloads import Download, HuggingFace
from tungstenkit.sdk.errors import SpecError
from tungstenkit.spec.commands import Commands  # noqa: TC001 - pydantic reads it

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["ModelSpec"]

_REMEDY = "use the version of tungsten that wrote it, or write it again with `tungsten nix-export`"


class DownloadWish(Document):
    """A `Download`."""

    url: str
    sha256: str | None
    to: str
    """Relative to the model's folder."""
    executable: bool

    def as_declared(self) -> Download:
        """As the model's module has it."""
        return Download(self.url, self.sha256, self.to, self.executable)


class RepositoryWish(Document):
    """A `HuggingFace`."""

    repository: str
    type: Literal["model", "dataset"]
    revision: str
    to: str | None
    """A folder, relative to the model's; null is the hub's cache."""
    include: list[str]
    exclude: list[str]

    def as_declared(self) -> HuggingFace:
        """As the model's module has it."""
        return HuggingFace(self.repository, self.revision, self.to, self.include, self.exclude, self.type)


class LockFileWish(Document):
    """A lock file of another tool, whose versions are kept."""

    file: str
    """Relative to the model's folder."""
    sha256: str


class ModelSpec(Document):
    """What `spec.json` holds; ARCHITECTURE.md says what each key means."""

    model_config = ConfigDict(
        alias_generator=lambda name: name.removesuffix("_name").replace("_", "-"), strict=True
    )

    spec_version: Literal[1] = 1
    name: str
    module: str
    class_name: str
    batch_size: int = Field(ge=1)
    gpu: bool
    gpu_mem_gb: int | float
    mem_gb: int | float
    cuda_version: str | None
    python_version: str | None
    python_packages: list[str]
    system_packages: list[str]
    libraries: dict[str, str | Literal[False]] = Field(default_factory=dict)
    """`[tool.tungsten.libraries]`."""
    build: dict[str, dict[str, str | list[str] | dict[str, str]]] = Field(default_factory=dict)
    """`[tool.tungsten.build]`; absent where it is empty."""
    indexes: dict[str, dict[str, str | int | list[str]]] = Field(default_factory=dict)
    """`[tool.tungsten.indexes]`; absent where it is empty."""
    nixpkgs: dict[str, list[str]] = Field(default_factory=dict)
    """`[tool.tungsten.nixpkgs]`."""
    lock_file: LockFileWish | None = None
    """`-c uv.lock` in `python_packages`, or `[tool.tungsten] lock`; absent where there is none."""
    about: dict[str, str] = Field(default_factory=dict)
    """What `[project]` of the same file says of the model, as images say it; absent where it says nothing."""
    compression: Literal["gzip", "zstd"] = "gzip"
    """`[tool.tungsten] compression`, of the image's layers; absent where it is gzip."""
    dockerfile_commands: list[str]
    base_image: str | None
    include_files: list[str]
    exclude_files: list[str]
    has_setup: bool
    has_post_build: bool
    has_predict_demo: bool
    stream: bool = False
    """Whether outputs come piece by piece; absent where they don't."""
    input_schema: dict[str, Any]
    output_schema: dict[str, Any]
    demo_output_schema: dict[str, Any] | None
    examples: list[dict[str, Any]] = Field(default_factory=list)
    commands: Commands | None = None
    """What `dockerfile_commands` come to; absent where there are none."""
    files: list[DownloadWish | RepositoryWish] = Field(default_factory=list)
    """`files`; absent where it is empty."""

    _notices: tuple[str, ...] = PrivateAttr(default=())

    @property
    def notices(self) -> tuple[str, ...]:
        """What of the declaration counts otherwise than it looks, as whoever read it found; no part of the document."""
        return self._notices

    def with_notices(self, notices: Iterable[str]) -> ModelSpec:
        """The same, with what whoever read the declaration found."""
        spec = self.model_copy()
        spec._notices = tuple(notices)
        return spec

    @model_serializer(mode="wrap")
    def _without_empty(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        written: dict[str, Any] = write(self)
        optional = ("about", "build", "commands", "files", "indexes", "lock-file", "nixpkgs", "stream")
        return {
            key: value
            for key, value in written.items()
            if (value or key not in optional) and (key, value) != ("compression", "gzip")
        }

    @classmethod
    def from_json(cls, text: str, *, where: str = "spec.json") -> ModelSpec:
        """Read the document; `where` is the file's name. Raises SpecError that names every wrong key."""
        check_version(text, "spec-version", (1,), where=where, error=SpecError, hint=_REMEDY)
        return cls.parse(text, where=where, error=SpecError, hint=_REMEDY)
