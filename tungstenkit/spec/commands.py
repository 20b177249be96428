"""The `commands` of `spec.json`: the steps that a build takes, and what the image's config gets."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from tungstenkit.document import Document
from tungstenkit.spec.dockerfile_words import Text  # noqa: TC001 - pydantic reads it


class Run(Document):
    """A program to run."""

    kind: Literal["run"] = "run"
    where: str
    """The line that asks for it, for messages."""
    text: str
    """What it says, for the log."""
    argv: tuple[str, ...]
    cwd: str
    environment: dict[str, Text]
    """What ENV and ARG have set up to here; the image's own variables come below."""


class Source(Document):
    """What a COPY or an ADD takes."""

    path: str
    """As it is written, for messages."""
    pattern: tuple[str, ...]
    """For each name of the path a regular expression."""


class Copy(Document):
    """Files of the model's folder that go into the image."""

    kind: Literal["copy", "add"]
    where: str
    text: str
    sources: tuple[Source, ...]
    destination: str
    """An absolute path; a folder where a slash ends it."""
    uid: int = 0
    gid: int = 0
    mode: str | None = None
    """Octal; null where each file keeps its own."""


class Folder(Document):
    """A working directory, made where it is not there."""

    kind: Literal["folder"] = "folder"
    where: str
    text: str
    path: str
    uid: int = 0
    gid: int = 0


class Segment(Document):
    """Steps that are taken one after the other in one root."""

    network: bool
    uid: int
    gid: int
    """Whose is what its programs make."""
    steps: tuple[Run | Copy | Folder, ...]


class Commands(Document):
    """What `dockerfile_commands` come to."""

    segments: tuple[Segment, ...] = ()
    packages: tuple[str, ...] = ()
    """Debian packages, as apt names them."""
    environment: dict[str, Text] = Field(default_factory=dict)
    """Variables of the image."""
    labels: dict[str, str] = Field(default_factory=dict)
    ports: tuple[str, ...] = ()
    """`<number>/<protocol>`."""
    user: str | None = None
    """`<uid>:<gid>`; null where no USER names one."""

    @property
    def networks(self) -> list[int]:
        """The numbers of the segments that have the network."""
        return [number for number, segment in enumerate(self.segments) if segment.network]

    @property
    def runs_programs(self) -> bool:
        """Whether there is a RUN that is more than a wish for packages."""
        return any(isinstance(step, Run) for segment in self.segments for step in segment.steps)
