"""What a model's requirements come to: wheels, and sources of which wheels are built.

The newest release that fits is taken, and its source where no wheel of it fits. uv never sees a source, so it never
runs one: each takes part in the solve as a wheel that holds its metadata alone, with what the source says of itself.
That is believed here and proved when it is built. A source that is known to be none that can be built is no candidate.
"""

from __future__ import annotations

import re
import shutil
import tempfile
import zipfile
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name, parse_sdist_filename, parse_wheel_filename
from packaging.version import Version

from tungstenkit.digest import measure, sha256_of
from tungstenkit.fetch.archives import Facts, read_facts
from tungstenkit.fetch.packing import check_out, pack
from tungstenkit.lock.packages import GitCommit, Source, SourceBuild, Wheel
from tungstenkit.lock.parts import PLACE, Choice
from tungstenkit.resolve.build_rules import (
    BuildRule,
    bad_requirements,
    build_debs,
    build_requires,
    is_never_built,
)
from tungstenkit.resolve.newest import older
from tungstenkit.resolve.view import StandIn, View, runs_on, stand_in_name
from tungstenkit.resolve.wheels import resolve_wheels
from tungstenkit.sdk.errors import NothingFitsError, ResolveError, UnusableError
from tungstenkit.settings import MACHINE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from tungstenkit.fetch.index_pages import IndexFile
    from tungstenkit.lock.packages import Deb
    from tungstenkit.lock.parts import Platform
    from tungstenkit.platforms import Target
    from tungstenkit.resolve.pinned import Pinned
    from tungstenkit.resolve.python_index import PythonIndex
    from tungstenkit.spec.requirements import Wanted, Wishes


_MACHINES_OTHERS = "the further indexes and links of the machine's own client"


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
    index: PythonIndex
    report: Callable[[str], None]
    rules: Mapping[str, BuildRule] = field(default_factory=dict)
    _known: dict[object, Obtained] = field(default_factory=dict)

    def direct(self, wanted: Wanted) -> Obtained:
        """What a requirement that says itself where it comes from leads to.

        Raises UnusableError where it leads to something else, FetchError where it can't be had.
        """
        key = wanted.url, wanted.path, wanted.git, wanted.subdirectory
        if key not in self._known:
            self._known[key] = self._direct(wanted)
        found = self._known[key]
        if wanted.name is not None and found.project != wanted.name:
            raise UnusableError(
                f"leads to the project {found.project}",
                where=wanted.text,
                hint="write its name before the `@`",
            )
        if wanted.hashes and found.sha256 not in wanted.hashes:
            raise UnusableError(
                f"is another file: its sha256 is {found.sha256}",
                where=wanted.text,
                hint="whoever changed it may have done so on purpose; if you trust the file, write its hash",
            )
        return found

    def check_paths(self, wishes: Iterable[Wanted]) -> None:
        """UnusableError that names every file and folder of the model's that is not there."""
        paths = {one.text: self.directory / one.path for one in wishes if one.path is not None}
        gone = [text for text, path in paths.items() if not (path.is_dir() or path.is_file())]
        if gone:
            raise UnusableError(
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
            self.index.save(wanted.url, place / name)
            return self._file(place / name, wanted, url=wanted.url)
        assert wanted.path is not None
        local = self.directory / wanted.path
        if local.is_dir():
            pack(local, place / "source.tar")
            return self._source(place / "source.tar", None, wanted, path=wanted.path)
        shutil.copyfile(local, place / local.name)
        return self._file(place / local.name, wanted, path=wanted.path)

    def of_index(self, project: str, listed: IndexFile) -> Obtained:
        """A source archive of the Python index. Thread-safe.

        Raises ResolveError where it is none, FetchError where it can't be had.
        """
        if listed not in self._known:
            self.report(f"reading {listed.name}")
            place = self.fresh_folder() / listed.name
            self.index.save(listed.url, place)
            found = measure(place)
            if listed.sha256 not in (None, found[1]):
                raise UnusableError(
                    f"is not what the index says: its sha256 is {found[1]}", where=listed.name
                )
            facts = read_facts(place, listed.name)
            _, version = parse_sdist_filename(listed.name)
            self._known[listed] = Obtained(
                place, listed.name, project, str(version), *found, facts=replace(facts, version=str(version))
            )
        return self._known[listed]

    def fresh_folder(self) -> Path:
        """An empty folder of its own."""
        return Path(tempfile.mkdtemp(dir=self.folder))

    def _file(self, place: Path, wanted: Wanted, **origin: str) -> Obtained:
        if place.suffix != ".whl":
            return self._source(place, place.name, wanted, **origin)
        project, version, _, _ = parse_wheel_filename(place.name)
        size, sha256 = measure(place)
        return Obtained(place, place.name, project, str(version), size, sha256, **origin)  # type: ignore[arg-type]

    def _source(self, place: Path, name: str | None, wanted: Wanted, **origin: Any) -> Obtained:  # noqa: ANN401
        """name: the archive's own; None for one of ours, which is named after what is in it."""
        try:
            facts = read_facts(place, name or "source.tar", wanted.subdirectory)
        except ResolveError as problem:
            # The archive is ours, or was just downloaded: the user knows it as what is written.
            raise UnusableError(problem.what, where=wanted.text, hint=problem.hint) from None
        project = facts.name or wanted.name
        if project is None:
            raise UnusableError("does not state its name", where=wanted.text, hint=f"write '{wanted.named}'")
        version = self._rule(project).version or facts.version
        if version is None:
            raise UnusableError(
                f"the source of {project} does not state its version, and nothing is run to find out",
                where=wanted.text,
                hint=f'[tool.tungsten.build.{project}] in pyproject.toml may say: version = "1.0"',
            )
        return Obtained(
            place,
            name or f"{project}-{version}.tar",
            project,
            str(Version(version)),
            *measure(place),
            subdirectory=wanted.subdirectory,
            facts=replace(facts, version=version),
            **origin,
        )

    def _rule(self, project: str) -> BuildRule:
        return self.rules.get(project, BuildRule())


class PythonPackages:
    """What a model wishes of Python packages, on one platform: lines to solve, a solver, and what its answer means."""

    def __init__(
        self,
        wishes: Wishes,
        target: Target,
        sources: Sources,
        *,
        debs: Callable[[Mapping[str, Sequence[str]], str, Iterable[Deb]], tuple[Deb, ...]],
        where: str,
        previous: Platform | None = None,
        pinned: Pinned | None = None,
        unbuildable: str | None = None,
    ) -> None:
        """Get what the wishes say themselves where it is.

        debs: solves Debian packages for groups of names. where: whose wishes these are, for messages.
        previous: an earlier lock's platform; its pins are kept where they still fit.
        pinned: another tool's lock file; its pins are, too.
        unbuildable: why no source of the index can be built; None where they can.

        Raises ResolveError where something is not what is said, FetchError where it can't be had.
        """
        self._wishes = wishes
        self._target = target
        self._sources = sources
        self._debs = debs
        self._where = where
        self._previous = previous
        self._pinned = pinned
        self._unbuildable = unbuildable
        self._constraints = [_line(wanted) for wanted in wishes.constraints]
        # What a file that uv was given stands for, by its sha256; and why a project is built from source.
        self._stands_for: dict[str, Obtained] = {}
        self._reasons = dict.fromkeys(wishes.from_source, "asked for by --no-binary")
        self._view = View(
            sources.index,
            target,
            stand_in=self._stand_in,
            from_source=wishes.from_source,
            wheels_only=wishes.wheels_only,
            declared={one.name: one.url for one in wishes.requirements if one.name and one.url},
        )
        self._direct: set[str] = set()
        # What each answer was asked for with.
        self._asked: dict[frozenset[tuple[str, str]], tuple[Sequence[str], Sequence[str]]] = {}
        self._builds: dict[str, tuple[Wheel, ...]] = {}
        # What a marker leaves out need not be there.
        markers = target.markers
        counting = [one for one in wishes.requirements if one.marker is None or one.marker.evaluate(markers)]
        sources.check_paths(counting)
        self.written = {self._line(wanted): wanted.text for wanted in counting}
        """For each requirement as PEP 508 has it what was written; one that says where it comes from names a file on
        this machine."""

    @property
    def lines(self) -> list[str]:
        """The requirements to solve."""
        return list(self.written)

    def solve(self, requirements: Sequence[str], constraints: Sequence[str] = ()) -> tuple[Wheel, ...]:
        """Wheels for requirements, and stand-ins for what must be built.

        Raises ResolveError where nothing fits, FetchError where something can't be had.
        """
        wheels = self._solved(requirements, constraints)
        if unasked := self._unasked(wheels, requirements, constraints):
            wheels = self._final(wheels, unasked, requirements, constraints)
        self._asked[_key(wheels)] = (requirements, [*self._constraints, *constraints])
        return wheels

    def _solved(self, requirements: Sequence[str], constraints: Sequence[str]) -> tuple[Wheel, ...]:
        """One source less after the other, until all that is left can be built as far as is known."""
        refusal: ResolveError | None = None
        while True:
            try:
                wheels = resolve_wheels(
                    requirements,
                    self._view,
                    where=self._where,
                    constraints=[*self._constraints, *constraints],
                    prefer=self._pins(),
                )
            except ResolveError as problem:
                self._check_forced()
                refusal = refusal or problem
                explained = refusal.explanation if isinstance(refusal, NothingFitsError) else ""
                raise refusal.with_hint(self._way_out(explained)) from None
            refusal = self._refusal(wheels)
            if refusal is None:
                return wheels

    def _refusal(self, wheels: Iterable[Wheel]) -> ResolveError | None:
        """What is wrong with how the sources of an answer would be built; those of the index are left out then."""
        first = None
        for wheel in wheels:
            obtained = self._stands_for.get(wheel.sha256)
            if obtained is None or obtained.facts is None:
                continue
            try:
                self._build_wheels(obtained, obtained.facts)
            except ResolveError as problem:
                key = obtained.project, Version(obtained.version)
                if obtained.url or obtained.path or obtained.git or key in self._view.refused:
                    raise
                self._view.refused[key] = f"what its source is built with can't be had: {problem.what}"
                first = first or problem
        return first

    def _way_out(self, explanation: str) -> str | None:
        """How to have from elsewhere what uv names, and a further index answers for."""
        named = set(re.findall(r"[a-z0-9][a-z0-9._-]*[a-z0-9]", explanation.lower()))
        found = {
            project: label
            for project in sorted(set(map(canonicalize_name, named)) & self._view.known)
            if (label := self._view.answered_by(project)) is not None
        }
        if not found:
            return None
        taken = ", ".join(f"{project} from {label}" for project, label in found.items())
        names = ", ".join(f'"{project}"' for project in found)
        return (
            f"the first place that knows a project answers for it alone: {taken}; to have these from the machine's own "
            f"index, write into the model's pyproject.toml:\n[tool.tungsten.indexes.{MACHINE}]\n"
            f"projects = [{names}]"
        )

    def _check_forced(self) -> None:
        for project in sorted(self._wishes.from_source):
            releases = self._view.releases(project)
            if not any(release.source for release in releases.values()):
                raise ResolveError(
                    f"there is no source of {project} that fits",
                    where=f"python_packages: --no-binary {project}",
                )

    # Pre-releases

    def _unasked(
        self, wheels: Iterable[Wheel], requirements: Sequence[str], constraints: Sequence[str]
    ) -> set[str]:
        """The projects of pre-releases that no requirement of the model asks for, though there are final ones."""
        lines = [Requirement(line) for line in (*requirements, *self._constraints, *constraints)]
        asked = {canonicalize_name(line.name) for line in lines if line.url or line.specifier.prereleases}
        pinned = {(pin.project, pin.version) for pin in self._pins()}
        return {
            wheel.project
            for wheel in wheels
            if Version(wheel.version).is_prerelease
            and wheel.project not in asked
            and (wheel.project, wheel.version) not in pinned
            and any(
                not version.is_prerelease and self._view.is_offered(wheel.project, release)
                for version, release in self._view.releases(wheel.project).items()
            )
        }

    def _final(
        self,
        wheels: tuple[Wheel, ...],
        unasked: set[str],
        requirements: Sequence[str],
        constraints: Sequence[str],
    ) -> tuple[Wheel, ...]:
        """An answer without some pre-releases, where final releases do: those that the model's own lines allow, or
        those with which nothing else is older; the answer as it is otherwise.
        """
        self._view.final_only = unasked
        try:
            again = self._solved(requirements, constraints)
        except ResolveError:
            return wheels
        finally:
            self._view.final_only = set()
        before = {wheel.project: Version(wheel.version) for wheel in wheels}
        is_older = any(
            Version(wheel.version) < before.get(wheel.project, Version("0"))
            for wheel in again
            if wheel.project not in unasked
        )
        own = {canonicalize_name(Requirement(line).name) for line in requirements}
        return again if unasked <= own or not is_older else wheels

    def split(self, wheels: Iterable[Wheel]) -> tuple[tuple[Wheel, ...], tuple[Source, ...], list[Choice]]:
        """A solve's answer as the lock has it: wheels, sources with what they are built with, and why."""
        wheels = tuple(wheels)
        taken: list[Wheel] = []
        built: list[Source] = []
        requirements, constraints = self._asked.get(_key(wheels), ((), ()))
        choices = older(self._view, wheels, requirements, constraints, self._pins())
        if self._pinned is not None:
            choices = self._pinned.unexplained(self._target, choices)
        for wheel in self._placed(wheels):
            obtained = self._stands_for.get(wheel.sha256)
            if obtained is None:
                taken.append(wheel)
            elif obtained.facts is None:
                taken.append(wheel.model_copy(update={"url": obtained.url, "path": obtained.path}))
            else:
                built.append(self._locked(obtained, obtained.facts, wheel))
                choices.append(
                    Choice(
                        kind="source",
                        subject=f"{obtained.project} is built from source",
                        chosen=f"{obtained.version} ({obtained.file})",
                        reason=self._reasons.get(
                            obtained.project, "no wheel of it fits this Python and platform"
                        ),
                    )
                )
        _check_hashes(self._wishes, taken, built, self._where, self._target)
        if self._pinned is not None:
            self._pinned.check(self._target, (*taken, *built), self._where)
            choices += self._pinned.differences(self._target, (*taken, *built), self._wishes)
        for place in dict.fromkeys(wheel.index for wheel in wheels if wheel.index):
            choices.append(
                Choice(
                    kind=PLACE,
                    subject=f"from {_MACHINES_OTHERS if place == MACHINE else place}",
                    chosen=", ".join(wheel.project for wheel in wheels if wheel.index == place),
                    reason="the first place that knows a project answers for it",
                )
            )
        return tuple(taken), tuple(built), choices

    def _placed(self, wheels: Sequence[Wheel]) -> list[Wheel]:
        """With the index of each, where there are several."""
        sources = (self._stands_for[wheel.sha256] for wheel in wheels if wheel.sha256 in self._stands_for)
        builds = (self._builds.get(source.sha256, ()) for source in sources)
        if not any(wheel.index for several in (wheels, *builds) for wheel in several):
            return list(wheels)
        label = {"index": self._sources.index.main_label}
        self._builds = {
            sha256: tuple(wheel if wheel.index else wheel.model_copy(update=label) for wheel in build)
            for sha256, build in self._builds.items()
        }
        return [
            wheel if wheel.index or wheel.project in self._direct else wheel.model_copy(update=label)
            for wheel in wheels
        ]

    def _pins(self) -> list[Wheel]:
        earlier = self._earlier()
        return self._pinned.preferred(self._target, earlier) if self._pinned else earlier

    def _earlier(self) -> list[Wheel]:
        if self._previous is None:
            return []
        # uv takes names and versions of these, and nothing else.
        stand_ins = [
            Wheel(
                project=source.project,
                version=source.version,
                file=stand_in_name(source.project, source.version),
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
        self._direct.add(obtained.project)
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

    def _stand_in(self, project: str, listed: IndexFile) -> StandIn:
        """A source of the index, as it takes part in a solve; ResolveError where it can't be built."""
        if self._unbuildable:
            raise ResolveError(f"no wheel of it fits, and {self._unbuildable}")
        if is_never_built(project):
            raise ResolveError("what the index has as its source is a stub that only fails")
        obtained = self._sources.of_index(project, listed)
        assert obtained.facts is not None
        if obtained.facts.needs_cargo:
            raise ResolveError(
                "no wheel of it fits, and its source is in Rust, whose crates a build without network can't have"
            )
        if not runs_on(self._target.python, obtained.facts.requires_python):
            raise ResolveError(f"its source is not for Python {self._target.python}")
        self._stands_for[obtained.sha256] = obtained
        return StandIn(_metadata(obtained, obtained.facts), obtained.sha256)

    def _stub(self, obtained: Obtained, folder: Path) -> Path:
        """A wheel that holds a source's metadata alone."""
        assert obtained.facts is not None
        stub = folder / stand_in_name(obtained.project, obtained.version)
        info = f"{stub.name.partition('-py3')[0]}.dist-info"
        with zipfile.ZipFile(stub, "w") as archive:
            archive.writestr(f"{info}/METADATA", _metadata(obtained, obtained.facts))
            archive.writestr(
                f"{info}/WHEEL",
                "Wheel-Version: 1.0\nGenerator: tungsten\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
            )
            archive.writestr(f"{info}/RECORD", "")
        self._stands_for[sha256_of(stub)] = obtained
        return stub

    def _build_wheels(self, obtained: Obtained, facts: Facts) -> tuple[Wheel, ...]:
        """What a source is built with, of Python's; once for each."""
        if obtained.sha256 not in self._builds:
            where = f"the build of {obtained.project} {obtained.version}"
            rule = self._sources.rules.get(obtained.project, BuildRule())
            if bad := bad_requirements(facts.build_requires):
                raise ResolveError("\n".join(bad), where=where)
            kept = self._kept(obtained.project)
            self._builds[obtained.sha256] = resolve_wheels(
                build_requires(facts, rule),
                View(self._sources.index, self._target),
                where=where,
                prefer=kept.build.wheels if kept else (),
            )
        return self._builds[obtained.sha256]

    def _kept(self, project: str) -> Source | None:
        """The project as the earlier lock has it, if it was built then."""
        sources = self._previous.sources if self._previous else ()
        return next((source for source in sources if source.project == project), None)

    def _locked(self, obtained: Obtained, facts: Facts, wheel: Wheel) -> Source:
        """A source with what it is built with. wheel: what stood for it."""
        where = f"the build of {obtained.project} {obtained.version}"
        rule = self._sources.rules.get(obtained.project, BuildRule())
        kept = self._kept(obtained.project)
        debs = self._debs(
            {"build": build_debs(obtained.project, facts, rule, self._target)},
            where,
            kept.build.debs if kept else (),
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
                backend=facts.backend,
                backend_path=facts.backend_path,
                wheels=self._build_wheels(obtained, facts),
                debs=debs,
            ),
            index=wheel.index,
            needed_by=wheel.needed_by,
        )
        if kept and _what(kept) == _what(source):
            # Nothing has changed, so what was built from it stands.
            return source.model_copy(
                update={key: getattr(kept, key) for key in ("wheel", "wheel_size", "wheel_sha256")}
            )
        return source


def _what(source: Source) -> dict[str, Any]:
    """What a source is and is built with; not who needs it, and where it was found."""
    build = source.build.model_copy(
        update={"wheels": tuple(wheel.model_copy(update={"index": None}) for wheel in source.build.wheels)}
    )
    plain = source.model_copy(update={"build": build})
    return plain.model_dump(
        exclude={"needed_by", "yields_to", "index", "wheel", "wheel_size", "wheel_sha256"}
    )


def _key(wheels: Iterable[Wheel]) -> frozenset[tuple[str, str]]:
    return frozenset((wheel.project, wheel.version) for wheel in wheels)


def _metadata(obtained: Obtained, facts: Facts) -> str:
    """A METADATA of what a source says of itself."""
    requires = facts.requires or ()
    extras = sorted(
        {extra for text in requires for extra in re.findall(r"extra == ['\"]([^'\"]+)['\"]", text)}
    )
    lines = ["Metadata-Version: 2.1", f"Name: {obtained.project}", f"Version: {obtained.version}"]
    if facts.requires_python:
        lines.append(f"Requires-Python: {facts.requires_python}")
    lines += [f"Requires-Dist: {text}" for text in requires]
    lines += [f"Provides-Extra: {extra}" for extra in extras]
    return "".join(f"{line}\n" for line in lines)


def _line(wanted: Wanted) -> str:
    extras = f"[{','.join(wanted.extras)}]" if wanted.extras else ""
    marker = f" ; {wanted.marker}" if wanted.marker else ""
    return f"{wanted.name}{extras}{wanted.specifier}{marker}"


def _check_hashes(
    wishes: Wishes, wheels: Sequence[Wheel], built: Sequence[Source], where: str, target: Target
) -> None:
    taken: dict[str | None, Wheel | Source] = {wheel.project: wheel for wheel in wheels}
    taken |= {source.project: source for source in built}
    wrong = [
        f"{wanted.name}: {taken[wanted.name].file} is none of the files whose hashes are given"
        for wanted in (*wishes.requirements, *wishes.constraints)
        if wanted.marker is None or wanted.marker.evaluate(target.markers)
        if wanted.hashes and wanted.name in taken and taken[wanted.name].sha256 not in wanted.hashes
    ]
    if wrong:
        raise ResolveError(
            "\n".join(wrong),
            where=where,
            hint="give the hashes of the files for this platform and Python, too",
        )
