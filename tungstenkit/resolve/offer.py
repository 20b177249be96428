"""What one solve is offered of the Python indexes: of each version the wheels that fit, or the source.

Sources take part from the first solve on, each as a wheel that holds its metadata alone. That is read when uv comes to
it, so it is a range, and not a number of versions, that says which ones are looked at.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from functools import cache, cached_property
from itertools import product
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import InvalidSdistFilename, canonicalize_name, parse_sdist_filename
from packaging.version import InvalidVersion, Version

from tungstenkit.resolve.compatible import counts, fitting_tags, read_requirements
from tungstenkit.resolve.unlisted import NO_PINS, is_file_of
from tungstenkit.sdk.errors import ResolveError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from tungstenkit.fetch.index_pages import IndexFile
    from tungstenkit.platforms import Target
    from tungstenkit.resolve.python_index import PythonIndex
    from tungstenkit.resolve.unlisted import PinnedFiles

_WHEEL = "py3-none-any.whl"
_BY_URL = re.compile(r"(?mi)^Requires-Dist:[^;\n]*@")


class StandIn(NamedTuple):
    """What stands for a source in a solve: the metadata of the wheel that it would become."""

    metadata: str
    sha256: str
    """The source's."""


@dataclass
class ProjectRelease:
    """A version of a project, for one target."""

    version: Version
    wheels: list[IndexFile] = field(default_factory=list)
    """Those that fit."""
    others: list[IndexFile] = field(default_factory=list)
    source: IndexFile | None = None

    @property
    def files(self) -> list[IndexFile]:
        """Everything that there is of it."""
        return [*self.wheels, *self.others, *([self.source] if self.source else [])]

    @property
    def is_yanked(self) -> bool:
        """Whether its author has withdrawn all of it (PEP 592)."""
        return all(file.yanked for file in self.files)

    def wheel(self, name: str) -> IndexFile:
        """The one of a name, of the first place that has it; raises LookupError where there is none."""
        return {file.name: file for file in reversed([*self.wheels, *self.others])}[name]

    def runs_on(self, python: str) -> bool:
        """Whether something of it says that it is for a Python."""
        return any(runs_on(python, file.requires_python) for file in self.files)


class Offer:
    """What one solve is offered: of each version the wheels that fit its target, or else the source.

    The sources that proved to be none that can be built are `refused`, with the reason.
    """

    def __init__(
        self,
        index: PythonIndex,
        target: Target,
        *,
        stand_in: Callable[[str, IndexFile], StandIn] | None = None,
        from_source: Collection[str] = (),
        wheels_only: Collection[str] = (),
        declared: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """stand_in: reads a source; raises ResolveError where it can't be built. Without it there are wheels alone.

        from_source: projects of which there are no wheels here. wheels_only: those without sources; `:all:` are all.
        declared: the URLs that the model itself has projects from.
        """
        self.index = index
        self.target = target
        self.refused: dict[tuple[str, Version], str] = {}
        self.final_only: set[str] = set()
        """Projects whose pre-releases are left out."""
        self.pinned: PinnedFiles = NO_PINS
        """What an earlier lock has of the indexes; to be set before anything is asked for."""
        self.failure: Exception | None = None
        """The first thing that could not be had while uv asked."""
        self._stand_in = stand_in
        self._from_source = from_source
        self._wheels_only = wheels_only
        self._declared = declared
        self._releases: dict[str, dict[Version, ProjectRelease]] = {}
        self._read: dict[tuple[str, str], StandIn] = {}
        self._fitting: dict[tuple[str, ...], bool] = {}

    @cached_property
    def _tags(self) -> frozenset[str]:
        return frozenset(map(str, fitting_tags(self.target)))

    def _fits(self, *tags: str) -> bool:
        """Whether a wheel whose name ends with these tags is for the target; there are few sets of them."""
        if tags not in self._fitting:
            every = product(*(tag.split(".") for tag in tags))
            self._fitting[tags] = any("-".join(one) in self._tags for one in every)
        return self._fitting[tags]

    @property
    def known(self) -> set[str]:
        """The projects that were asked for."""
        return set(self._releases)

    def answered_by(self, project: str) -> str | None:
        """Which further place answers for a project; None for the machine's own index."""
        return next((file.listed_by for file in self.index.files(project) if file.listed_by), None)

    def releases(self, project: str) -> dict[Version, ProjectRelease]:
        """What there is of a project, by version. Raises FetchError."""
        if project not in self._releases:
            releases: dict[Version, ProjectRelease] = {}
            for file in self.pinned.among(project, self.index.files(project)):
                if file.name.endswith(".whl"):
                    version, fits = self._judged(project, file.name)
                else:
                    version, fits = _sdist_version(project, file.name), False
                if version is None:
                    continue
                release = releases.get(version)
                if release is None:
                    release = releases[version] = ProjectRelease(version)
                if not file.name.endswith(".whl"):
                    release.source = release.source or file
                elif fits and project not in self._from_source:
                    release.wheels.append(file)
                else:
                    release.others.append(file)
            pin = self.pinned.of(project)
            if pin is not None and (release := releases.get(Version(pin.version))):
                # The file that is locked is taken again, whatever else there is by now of its version.
                release.wheels = [file for file in release.wheels if is_file_of(pin, file)] or release.wheels
            self._releases[project] = releases
        return self._releases[project]

    def _judged(self, project: str, wheel: str) -> tuple[Version | None, bool]:
        """A wheel's version, and whether it is for the target (PEP 427); by hand, since an index has thousands."""
        parts = wheel.removesuffix(".whl").split("-")
        if len(parts) not in (5, 6) or _normal(parts[0]) != project:
            return None, False
        return _version(parts[1]), self._fits(*parts[-3:])

    def has_source(self, project: str, release: ProjectRelease) -> bool:
        """Whether a release takes part by its source."""
        counts_here = self._stand_in is not None and not {project, ":all:"} & {*self._wheels_only}
        return counts_here and release.source is not None and not release.wheels

    def is_offered(self, project: str, release: ProjectRelease) -> bool:
        """Whether a release can be taken, as far as is known."""
        is_there = bool(release.wheels) or self.has_source(project, release)
        return is_there and (project, release.version) not in self.refused

    def found(self, project: str, name: str) -> tuple[IndexFile, StandIn | None]:
        """The file that uv chose by a name, and what it stood for."""
        if read := self._read.get((project, name)):
            release = self._release(project, name)
            assert release.source is not None
            return release.source, read
        return self._release(project, name).wheel(name), None

    def _release(self, project: str, name: str) -> ProjectRelease:
        """The release that a wheel is of, by its name; raises LookupError where there is none."""
        version = _version(name.partition("-")[2].partition("-")[0])
        return self.releases(project)[version or Version("0")]

    def metadata(self, project: str, name: str) -> str | None:
        """What uv was told of a file, or would be; None for a release that is refused.

        Raises FetchError, and LookupError for a file that is not offered.
        """
        release = self._release(project, name)
        try:
            if name != stand_in_name(project, release.version) or not self.has_source(project, release):
                return self._without_urls(self.index.metadata(release.wheel(name)))
            assert self._stand_in is not None
            assert release.source is not None
            if (project, release.version) in self.refused:
                return None
            read = self._read.get((project, name)) or self._stand_in(project, release.source)
        except ResolveError as problem:
            self.refused[project, release.version] = problem.what
            return None
        self._read[project, name] = read
        return read.metadata

    def _without_urls(self, metadata: str) -> str:
        """A wheel's METADATA in which no other is said to come from a URL, which only the model may say.

        Raises ResolveError for a requirement that does, and is not the model's own; where that is one of an extra, the
        extra is to fit nothing.
        """
        if not _BY_URL.search(metadata):
            return metadata
        found = []
        for requirement in read_requirements(metadata):
            if requirement.url is None:
                continue
            url, requirement.url = requirement.url, None
            if url.partition("#")[0] != self._declared.get(canonicalize_name(requirement.name)):
                if counts(requirement, self.target, ()):
                    what = "it says itself where another is to be had, which only the model may"
                    raise ResolveError(f"{what}: {requirement.name} @ {url}")
                requirement.specifier = SpecifierSet("<0")
            found.append(f"Requires-Dist: {requirement}")
        first, *lines = [line for line in metadata.splitlines() if not _BY_URL.match(line)]
        return "\n".join([first, *found, *lines]) + "\n"

    def page(self, project: str, base: str) -> list[dict[str, object]]:
        """What uv is told of a project (PEP 691)."""
        listed = []
        for release in self.releases(project).values():
            if release.version.is_prerelease and project in self.final_only:
                continue
            files = release.wheels
            if not files and project not in self._from_source:
                # They fit nothing, and are there for uv to explain.
                files = release.others
            names = {file.name: file for file in reversed(files)}
            if self.has_source(project, release):
                assert release.source is not None
                names = {stand_in_name(project, release.version): release.source}
            for name, file in names.items():
                entry: dict[str, object] = {
                    "filename": name,
                    "url": f"{base}/files/{project}/{quote(name)}",
                    # uv asks for the metadata alone of that whose hash it knows, and knows the metadata by the hash.
                    "hashes": {"sha256": file.sha256 or hashlib.sha256(file.url.encode()).hexdigest()},
                    "core-metadata": True,
                    "yanked": file.yanked,
                }
                if file.size is not None:
                    entry["size"] = file.size
                if file.requires_python is not None:
                    entry["requires-python"] = file.requires_python
                listed.append(entry)
        return listed


def stand_in_name(project: str, version: Version | str) -> str:
    """The name of the wheel that stands for a source."""
    return f"{project.replace('-', '_')}-{version}-{_WHEEL}"


@cache
def _normal(name: str) -> str:
    return canonicalize_name(name)


@cache
def _version(text: str) -> Version | None:
    try:
        return Version(text)
    except InvalidVersion:
        return None


def _sdist_version(project: str, file: str) -> Version | None:
    try:
        name, version = parse_sdist_filename(file)
    except (InvalidSdistFilename, InvalidVersion):
        return None
    return version if name == project else None


@cache
def runs_on(python: str, requires_python: str | None) -> bool:
    """Whether a file that says so of itself is for a Python."""
    try:
        # A micro version of its own: `>=3.11.2` means 3.11 well enough.
        return SpecifierSet(requires_python or "").contains(f"{python}.99")
    except InvalidSpecifier:
        return True
