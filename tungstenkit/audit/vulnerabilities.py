"""Known vulnerabilities of a lock's packages, and the user's cache of what was asked of them (`advisories` asks).

Nothing of this stands in a lock, and nothing depends on it.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Literal, TypeVar

from pydantic import AfterValidator, AwareDatetime

from tungstenkit.cache import cache_folder
from tungstenkit.debian.version import order
from tungstenkit.document import Document, write_atomically
from tungstenkit.lock.packages import Deb, Source
from tungstenkit.outside import text_problem

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from tungstenkit.lock.packages import Wheel

_KEPT = timedelta(hours=24)


def _showable(text: str) -> str:
    if problem := text_problem(text):
        raise ValueError(problem)
    return text


_Text = Annotated[str, AfterValidator(_showable)]
"""What somebody else says, and a terminal shows."""


class Vulnerability(Document):
    """A known vulnerability of one package."""

    id: _Text
    """Its CVE, or what the source calls it where there is none."""
    urgency: _Text | None
    """As Debian's security team judges it for Debian; None for wheels."""
    fixed: tuple[_Text, ...]
    """Versions without it: of the Debian source package, or of the project; empty where there is none yet."""


Row = tuple[_Text, _Text | None, _Text | None]
"""Of the tracker's data on one problem: id, the version that fixes it if there is one, urgency."""


class _Answer(Document):
    """What was asked of a source."""

    version: Literal[1] = 1
    source: str
    """Which one: a hash of its URL, which may hold a password."""
    checked: AwareDatetime


_C = TypeVar("_C", bound=_Answer)


class DebianAnswer(_Answer):
    """What the security tracker says of Debian's source packages."""

    etag: str | None = None
    releases: dict[str, dict[str, list[Row]]]
    """By release and source package: what is open there, or fixed by a version."""


class ProjectAnswer(Document):
    """What the Python index says of one version of a project."""

    checked: AwareDatetime
    vulnerabilities: tuple[Vulnerability, ...]


class PythonAnswer(_Answer):
    """What the Python index says of versions of projects."""

    projects: dict[str, ProjectAnswer]
    """By `project==version`."""


@dataclass(frozen=True)
class Advisories:
    """What is known, and what could not be asked."""

    debian: Mapping[str, Mapping[str, Sequence[Row]]] = field(default_factory=dict)
    python: Mapping[str, tuple[Vulnerability, ...]] = field(default_factory=dict)
    notices: tuple[str, ...] = ()

    @property
    def is_nothing(self) -> bool:
        """Whether no source has said anything: then nothing follows from there being no vulnerability."""
        return not (self.debian or self.python)

    def of(self, package: Deb | Wheel | Source, release: str) -> tuple[Vulnerability, ...] | None:
        """What a locked package is known to have, by id; None where nobody was asked about it.

        release: Debian's, by code name.
        """
        if not isinstance(package, Deb):
            return self.python.get(key_of(package)) if is_of_the_index(package) else None
        if package.source is None or release not in self.debian:
            return None
        source, version = package.source.rstrip(")").split(" (")
        return tuple(
            Vulnerability(id=identifier, urgency=urgency, fixed=(fixed,) if fixed else ())
            for identifier, fixed, urgency in sorted(self.debian[release].get(source, ()))
            if fixed is None or _is_older(version, fixed)
        )


def known_here(*, cache: Path | None = None) -> Advisories:
    """What the cache has, however old: for commands that use no network."""
    folder = (cache or cache_folder()) / "advisories"
    debian, python = read_kept(folder, DebianAnswer), read_kept(folder, PythonAnswer)
    notices = [
        f"vulnerabilities of {what} are as known on {cached.checked:%Y-%m-%d}"
        if cached
        else f"vulnerabilities of {what} are not known here: no `tungsten lock` has been told them yet"
        for what, cached in (("Debian packages", debian), ("wheels", python))
    ]
    return Advisories(
        debian.releases if debian else {}, by_project(python.projects if python else {}), tuple(notices)
    )


def _is_older(version: str, fixed: str) -> bool:
    try:
        return order(version) < order(fixed)
    except ValueError:
        return True  # the tracker's version is none: what can't be judged is shown


def by_project(projects: Mapping[str, ProjectAnswer]) -> dict[str, tuple[Vulnerability, ...]]:
    """The vulnerabilities of projects, by `project==version`."""
    return {key: project.vulnerabilities for key, project in projects.items()}


def is_of_the_index(wheel: Wheel | Source) -> bool:
    """Whether the Python index has it; what else the model brings may be private, and only have a name there."""
    origins = (wheel.url, wheel.path, wheel.git if isinstance(wheel, Source) else None)
    return not any(origins)


def key_of(wheel: Wheel | Source) -> str:
    """A version of a project, as the kept answers name it."""
    return f"{wheel.project}=={wheel.version}"


# The cache


def is_fresh(checked: datetime, now: datetime) -> bool:
    """Whether what was asked is young enough not to be asked again."""
    return timedelta(0) <= now - checked < _KEPT


def read_kept(folder: Path, kind: type[_C], url: str | None = None) -> _C | None:
    """What is kept; None where there is nothing, it is damaged, or it is of another source than `url`."""
    try:
        cached = kind.model_validate_json((folder / _FILES[kind]).read_bytes())
    except (OSError, ValueError):
        return None
    return cached if url is None or cached.source == hashed(url) else None


def write_kept(folder: Path, cached: _Answer, notices: list[str]) -> None:
    """Keep an answer. notices: gets a line where that fails."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / _FILES[type(cached)], cached.model_dump_json(by_alias=True))
    except OSError as problem:
        notices.append(f"what is known of vulnerabilities can't be kept in {folder}: {problem.strerror}")


_FILES: Mapping[type[_Answer], str] = MappingProxyType(
    {DebianAnswer: "debian.json", PythonAnswer: "python.json"}
)


def hashed(url: str) -> str:
    """What stands for a source, whose URL may hold a password."""
    return hashlib.sha256(url.encode()).hexdigest()
