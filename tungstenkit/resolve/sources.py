"""What a model's requirements come to: wheels, and sources of which wheels are built.

Wheels are preferred. uv never sees a source, so it never runs one: each takes part in the solve as a wheel that
holds its metadata alone, with what the source says of itself. That is believed here and proved when it is built.
A source is taken where the model says so, or where no wheel of a project fits.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import zipfile
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import (
    InvalidSdistFilename,
    parse_sdist_filename,
    parse_wheel_filename,
)
from packaging.version import InvalidVersion, Version

from tungstenkit.errors import ResolveError
from tungstenkit.lock import Choice, GitCommit, Source, SourceBuild, Wheel
from tungstenkit.resolve.archives import Facts, check_out, pack, read_facts
from tungstenkit.resolve.build_rules import (
    BuildRule,
    bad_requirements,
    build_debs,
    build_requires,
    is_never_built,
)
from tungstenkit.resolve.wheels import NoWheelError, Places, resolve_wheels

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from tungstenkit.lock import Deb, Platform
    from tungstenkit.mirrors import IndexFile
    from tungstenkit.platforms import Target
    from tungstenkit.requirements import Wanted, Wishes

_MOST_VERSIONS = 8
"""So many versions of a project are looked at for a source that fits: each must be downloaded."""


@dataclass(frozen=True)
class Obtained:
    """A wheel or source that a requirement leads to, here on this machine."""

    place: Path
    file: str
    project: str
    version: str
    size: int
    sha256: str
    url: str | None = None
    path: str | None = None
    git: GitCommit | None = None
    subdirectory: str | None = None
    facts: Facts | None = None
    """None for a wheel."""


@dataclass
class Sources:
    """Gets wheels and sources from where requirements say that they are, each once for all platforms."""

    directory: Path
    """The model's folder."""
    folder: Path
    """Where to put them; the caller's to remove."""
    files_of: Callable[[str], list[IndexFile]]
    """What the Python index has of a project."""
    save: Callable[[str, Path], None]
    """Downloads a URL to a path; raises FetchError."""
    report: Callable[[str], None]
    rules: Mapping[str, BuildRule] = field(default_factory=dict)
    _known: dict[object, Obtained] = field(default_factory=dict)

    def direct(self, wanted: Wanted) -> Obtained:
        """What a requirement that says itself where it comes from leads to.

        Raises ResolveError where it leads to something else, FetchError where it can't be had.
        """
        key = wanted.url, wanted.path, wanted.git, wanted.subdirectory
        if key not in self._known:
            self._known[key] = self._direct(wanted)
        found = self._known[key]
        if wanted.name is not None and found.project != wanted.name:
            raise ResolveError(
                f"leads to the project {found.project}",
                where=wanted.text,
                hint="write its name before the `@`",
            )
        if wanted.hashes and found.sha256 not in wanted.hashes:
            raise ResolveError(
                f"is another file: its sha256 is {found.sha256}",
                where=wanted.text,
                hint="whoever changed it may have done so on purpose; if you trust the file, write its hash",
            )
        return found

    def check_paths(self, wishes: Iterable[Wanted]) -> None:
        """ResolveError that names every file and folder of the model's that is not there."""
        paths = {one.text: self.directory / one.path for one in wishes if one.path is not None}
        gone = [text for text, path in paths.items() if not (path.is_dir() or path.is_file())]
        if gone:
            raise ResolveError(
                f"there is no such file or folder: {', '.join(gone)}",
                where="python_packages",
                hint=f"paths are relative to {self.directory}",
            )

    def _direct(self, wanted: Wanted) -> Obtained:
        self.report(f"getting {wanted.text}")
        place = self.fresh_folder()
        if wanted.git is not None:
            commit = check_out(wanted.git.url, wanted.git.ref, place / "source.tar")
            git = GitCommit(url=wanted.git.url, commit=commit)
            return self._source(place / "source.tar", None, wanted, git=git)
        if wanted.url is not None:
            # Of the name alone: an escaped slash must not lead out of the folder.
            name = PurePosixPath(unquote(urlsplit(wanted.url).path)).name
            self.save(wanted.url, place / name)
            return self._file(place / name, wanted, url=wanted.url)
        assert wanted.path is not None
        local = self.directory / wanted.path
        if local.is_dir():
            pack(local, place / "source.tar")
            return self._source(place / "source.tar", None, wanted, path=wanted.path)
        shutil.copyfile(local, place / local.name)
        return self._file(place / local.name, wanted, path=wanted.path)

    def of_index(self, project: str, listed: IndexFile) -> Obtained:
        """A source archive of the Python index."""
        if listed not in self._known:
            self.report(f"reading {listed.name}")
            place = self.fresh_folder() / listed.name
            self.save(listed.url, place)
            found = _measured(place)
            if listed.sha256 not in (None, found[1]):
                raise ResolveError(f"is not what the index says: its sha256 is {found[1]}", where=listed.name)
            facts = read_facts(place, listed.name)
            _, version = parse_sdist_filename(listed.name)
            self._known[listed] = Obtained(
                place, listed.name, project, str(version), *found, facts=replace(facts, version=str(version))
            )
        return self._known[listed]

    def fresh_folder(self) -> Path:
        """An empty folder of its own."""
        place = self.folder / f"{len(list(self.folder.iterdir()))}"
        place.mkdir()
        return place

    def _file(self, place: Path, wanted: Wanted, **origin: str) -> Obtained:
        if place.suffix != ".whl":
            return self._source(place, place.name, wanted, **origin)
        project, version, _, _ = parse_wheel_filename(place.name)
        size, sha256 = _measured(place)
        return Obtained(place, place.name, project, str(version), size, sha256, **origin)  # type: ignore[arg-type]

    def _source(self, place: Path, name: str | None, wanted: Wanted, **origin: Any) -> Obtained:  # noqa: ANN401
        """name: the archive's own; None for one of ours, which is named after what is in it."""
        try:
            facts = read_facts(place, name or "source.tar", wanted.subdirectory)
        except ResolveError as problem:
            # The archive is ours, or was just downloaded: the user knows it as what is written.
            problem.where = wanted.text
            raise
        project = facts.name or wanted.name
        if project is None:
            raise ResolveError("does not state its name", where=wanted.text, hint="write '<name> @ <path>'")
        version = self._rule(project).version or facts.version
        if version is None:
            raise ResolveError(
                f"the source of {project} does not state its version, and nothing is run to find out",
                where=wanted.text,
                hint=f'[tool.tungsten.build.{project}] in pyproject.toml may say: version = "1.0"',
            )
        return Obtained(
            place,
            name or f"{project}-{version}.tar",
            project,
            str(Version(version)),
            *_measured(place),
            subdirectory=wanted.subdirectory,
            facts=replace(facts, version=version),
            **origin,
        )

    def _rule(self, project: str) -> BuildRule:
        return self.rules.get(project, BuildRule())


def _measured(place: Path) -> tuple[int, str]:
    with place.open("rb") as file:
        return place.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest()


class PythonPackages:
    """What a model wishes of Python packages, on one platform: lines to solve, a solver, and what its answer means."""

    def __init__(
        self,
        wishes: Wishes,
        target: Target,
        sources: Sources,
        *,
        places: Places,
        debs: Callable[[Mapping[str, Sequence[str]], str, Iterable[Deb]], tuple[Deb, ...]],
        where: str,
        previous: Platform | None = None,
    ) -> None:
        """Get what the wishes say themselves where it is.

        debs: solves Debian packages for groups of names. where: whose wishes these are, for messages.
        previous: an earlier lock's platform; its pins are kept where they still fit.

        Raises ResolveError where something is not what is said, FetchError where it can't be had.
        """
        self._wishes = wishes
        self._target = target
        self._sources = sources
        self._debs = debs
        self._where = where
        self._previous = previous
        self._links = sources.fresh_folder()
        self._places = places
        self._constraints = [_line(wanted) for wanted in wishes.constraints]
        self._tried: Counter[str] = Counter()
        # What a file that uv was given stands for, by its sha256; and why a project is built from source.
        self._stands_for: dict[str, Obtained] = {}
        self._reasons: dict[str, str] = {}
        # What a marker leaves out need not be there.
        markers = target.markers
        counting = [one for one in wishes.requirements if one.marker is None or one.marker.evaluate(markers)]
        sources.check_paths(counting)
        self.written = {self._line(wanted): wanted.text for wanted in counting}
        """For each requirement as PEP 508 has it what was written; one that says where it comes from names a file on
        this machine."""
        for project in sorted(wishes.from_source):
            self._force(project)

    @property
    def lines(self) -> list[str]:
        """The requirements to solve."""
        return list(self.written)

    def solve(self, requirements: Sequence[str], constraints: Sequence[str] = ()) -> tuple[Wheel, ...]:
        """Wheels for requirements, and stand-ins for what must be built: again with one source more, until all fits.

        Raises ResolveError where nothing fits, FetchError where something can't be had.
        """
        while True:
            try:
                return resolve_wheels(
                    requirements,
                    self._target,
                    places=replace(self._places, find_links=(*self._places.find_links, str(self._links))),
                    where=self._where,
                    constraints=[*self._constraints, *constraints],
                    prefer=self._pins(),
                )
            except NoWheelError as problem:
                offered = [self._offer(project) for project in problem.projects]
                if not any(offered):
                    raise

    def split(self, wheels: Iterable[Wheel]) -> tuple[tuple[Wheel, ...], tuple[Source, ...], list[Choice]]:
        """A solve's answer as the lock has it: wheels, sources with what they are built with, and why."""
        taken: list[Wheel] = []
        built: list[Source] = []
        choices: list[Choice] = []
        for wheel in wheels:
            obtained = self._stands_for.get(wheel.sha256)
            if obtained is None:
                taken.append(wheel)
            elif obtained.facts is None:
                taken.append(wheel.model_copy(update={"url": obtained.url, "path": obtained.path}))
            else:
                built.append(self._locked(obtained, obtained.facts, wheel.needed_by))
                choices.append(
                    Choice(
                        kind="source",
                        subject=f"{obtained.project} is built from source",
                        chosen=f"{obtained.version} ({obtained.file})",
                        reason=self._reasons[obtained.project],
                    )
                )
        _check_hashes(self._wishes, taken, built, self._where)
        return tuple(taken), tuple(built), choices

    def _pins(self) -> list[Wheel]:
        if self._previous is None:
            return []
        # uv takes names and versions of these, and nothing else.
        stand_ins = [
            Wheel(
                project=source.project,
                version=source.version,
                file=_stub_name(source.project, source.version),
                size=0,
                sha256=source.sha256,
            )
            for source in self._previous.sources
        ]
        return [*self._previous.wheels, *stand_ins]

    def _line(self, wanted: Wanted) -> str:
        if not wanted.is_direct:
            return _line(wanted)
        obtained = self._sources.direct(wanted)
        if obtained.facts is None:
            place = obtained.place
            self._stands_for[obtained.sha256] = obtained
        else:
            # One for all requirements that lead there: uv takes a project from one URL alone.
            folder = obtained.place.parent / "stand-in"
            folder.mkdir(exist_ok=True)
            place = self._stub(obtained, folder)
            self._reasons[obtained.project] = "the model says where its source is"
        extras = f"[{','.join(wanted.extras)}]" if wanted.extras else ""
        marker = f" ; {wanted.marker}" if wanted.marker else ""
        return f"{obtained.project}{extras} @ {place.resolve().as_uri()}{marker}"

    def _force(self, project: str) -> None:
        """Have a project from source, though there is a wheel."""
        candidates = self._candidates(project)
        if not candidates:
            raise ResolveError(
                f"there is no source of {project} that fits", where=f"python_packages: --no-binary {project}"
            )
        self._reasons[project] = "asked for by --no-binary"
        obtained = self._obtained(project, candidates[0])
        stub = self._stub(obtained, self._sources.fresh_folder())
        self._constraints.append(f"{project} @ {stub.resolve().as_uri()}")

    def _offer(self, project: str) -> bool:
        """Let the next version of a project without a wheel take part; whether there is one."""
        if is_never_built(project):
            return False
        candidates = self._candidates(project)
        if self._tried[project] >= min(len(candidates), _MOST_VERSIONS):
            return False
        obtained = self._obtained(project, candidates[self._tried[project]])
        self._tried[project] += 1
        self._stub(obtained, self._links)
        self._reasons.setdefault(project, "no wheel of it fits this Python and platform")
        return True

    def _obtained(self, project: str, listed: IndexFile) -> Obtained:
        obtained = self._sources.of_index(project, listed)
        assert obtained.facts is not None
        if obtained.facts.needs_cargo:
            raise ResolveError(
                f"{project} {obtained.version} has no wheel that fits, and its source is in Rust, "
                "whose crates a build without network can't have",
                where=self._where,
                hint="ask for a version, or a python_version, that has a wheel",
            )
        return obtained

    def _candidates(self, project: str) -> list[IndexFile]:
        """A project's source archives that may fit: the earlier lock's version first, then the newest."""
        allowed = SpecifierSet()
        for wanted in (*self._wishes.requirements, *self._wishes.constraints):
            if wanted.name == project:
                allowed &= wanted.specifier
        found: dict[Version, IndexFile] = {}
        for listed in self._sources.files_of(project):
            version = _sdist_version(project, listed.name)
            if version is None or listed.yanked or not _runs_on(self._target.python, listed.requires_python):
                continue
            found.setdefault(version, listed)
        kept = [source.version for source in (self._previous.sources if self._previous else ())]
        fitting = sorted(allowed.filter(found), reverse=True)
        fitting.sort(key=lambda version: str(version) not in kept)
        return [found[version] for version in fitting]

    def _stub(self, obtained: Obtained, folder: Path) -> Path:
        """A wheel that holds a source's metadata alone."""
        assert obtained.facts is not None
        stub = folder / _stub_name(obtained.project, obtained.version)
        requires = obtained.facts.requires or ()
        extras = sorted(
            {extra for text in requires for extra in re.findall(r"extra == ['\"]([^'\"]+)['\"]", text)}
        )
        lines = ["Metadata-Version: 2.1", f"Name: {obtained.project}", f"Version: {obtained.version}"]
        if obtained.facts.requires_python:
            lines.append(f"Requires-Python: {obtained.facts.requires_python}")
        lines += [f"Requires-Dist: {text}" for text in requires]
        lines += [f"Provides-Extra: {extra}" for extra in extras]
        info = f"{stub.name.partition('-py3')[0]}.dist-info"
        with zipfile.ZipFile(stub, "w") as archive:
            archive.writestr(f"{info}/METADATA", "".join(f"{line}\n" for line in lines))
            archive.writestr(
                f"{info}/WHEEL",
                "Wheel-Version: 1.0\nGenerator: tungsten\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
            )
            archive.writestr(f"{info}/RECORD", "")
        self._stands_for[hashlib.sha256(stub.read_bytes()).hexdigest()] = obtained
        return stub

    def _locked(self, obtained: Obtained, facts: Facts, needed_by: tuple[str, ...]) -> Source:
        """A source with what it is built with."""
        where = f"the build of {obtained.project} {obtained.version}"
        rule = self._sources.rules.get(obtained.project, BuildRule())
        known = self._previous.sources if self._previous else ()
        kept = [source for source in known if source.project == obtained.project]
        if bad := bad_requirements(facts.build_requires):
            raise ResolveError("\n".join(bad), where=where)
        wheels = resolve_wheels(
            build_requires(facts, rule),
            self._target,
            places=self._places,
            where=where,
            prefer=kept[0].build.wheels if kept else (),
        )
        debs = self._debs(
            {"build": build_debs(obtained.project, facts, rule, self._target)},
            where,
            kept[0].build.debs if kept else (),
        )
        source = Source(
            project=obtained.project,
            version=obtained.version,
            file=obtained.file,
            size=obtained.size,
            sha256=obtained.sha256,
            url=obtained.url,
            path=obtained.path,
            git=obtained.git,
            subdirectory=obtained.subdirectory,
            build=SourceBuild(
                backend=facts.backend, backend_path=facts.backend_path, wheels=wheels, debs=debs
            ),
            needed_by=needed_by,
        )
        unbuilt = dict.fromkeys(("wheel", "wheel_size", "wheel_sha256"))
        around = {"needed_by": needed_by, "yields_to": ()}
        if kept and kept[0].model_copy(update={**unbuilt, **around}) == source:
            # Nothing has changed, so what was built from it stands.
            return kept[0].model_copy(update=around)
        return source


def _stub_name(project: str, version: str) -> str:
    return f"{project.replace('-', '_')}-{version}-py3-none-any.whl"


def _line(wanted: Wanted) -> str:
    extras = f"[{','.join(wanted.extras)}]" if wanted.extras else ""
    marker = f" ; {wanted.marker}" if wanted.marker else ""
    return f"{wanted.name}{extras}{wanted.specifier}{marker}"


def _sdist_version(project: str, file: str) -> Version | None:
    try:
        name, version = parse_sdist_filename(file)
    except (InvalidSdistFilename, InvalidVersion):
        return None
    return version if name == project else None


def _runs_on(python: str, requires_python: str | None) -> bool:
    try:
        # A micro version of its own: `>=3.11.2` means 3.11 well enough.
        return SpecifierSet(requires_python or "").contains(f"{python}.99")
    except InvalidSpecifier:
        return True


def _check_hashes(wishes: Wishes, wheels: Sequence[Wheel], built: Sequence[Source], where: str) -> None:
    taken: dict[str | None, Wheel | Source] = {wheel.project: wheel for wheel in wheels}
    taken |= {source.project: source for source in built}
    wrong = [
        f"{wanted.name}: {taken[wanted.name].file} is none of the files whose hashes are given"
        for wanted in wishes.requirements
        if wanted.hashes and wanted.name in taken and taken[wanted.name].sha256 not in wanted.hashes
    ]
    if wrong:
        raise ResolveError(
            "\n".join(wrong),
            where=where,
            hint="give the hashes of the files for this platform and Python, too",
        )
