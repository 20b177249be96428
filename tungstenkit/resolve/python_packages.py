"""What a model's `python_packages` come to: wheels, and sources of which wheels are built.

The newest release that fits is taken, and its source where no wheel of it fits. uv never sees a source, so it never
runs one: each takes part in the solve as a wheel that holds its metadata alone, with what the source says of itself.
That is believed here and proved when it is built. A source that is known to be none that can be built is no candidate.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from tungstenkit.data import OWN_WHEELS
from tungstenkit.digest import sha256_of
from tungstenkit.lock.packages import WISH, Source, Wheel
from tungstenkit.lock.parts import PLACE, SOURCE, Choice
from tungstenkit.resolve.build_rules import is_never_built
from tungstenkit.resolve.cuda import solve_wheels
from tungstenkit.resolve.cuda_table import stands_for
from tungstenkit.resolve.newest import Held, older
from tungstenkit.resolve.offer import Offer, StandIn, runs_on, stand_in_name
from tungstenkit.resolve.pinned import is_direct
from tungstenkit.resolve.relocked import Relocked
from tungstenkit.resolve.sources import metadata, write_stub
from tungstenkit.resolve.unlisted import PinnedFiles, Unlisted
from tungstenkit.resolve.wheels import resolve_wheels
from tungstenkit.sdk.errors import NothingFitsError, ResolveError
from tungstenkit.settings import MACHINE, to_paste
from tungstenkit.spec.requirements import project_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from tungstenkit.fetch.index_pages import IndexFile
    from tungstenkit.lock.parts import Platform
    from tungstenkit.platforms import Target
    from tungstenkit.resolve.builds import Builds
    from tungstenkit.resolve.cuda import Solution
    from tungstenkit.resolve.pinned import Pinned
    from tungstenkit.resolve.sources import Obtained, Sources
    from tungstenkit.spec.document import ModelSpec
    from tungstenkit.spec.requirements import Wanted, Wishes

_MACHINES_OTHERS = "the further indexes and links of the machine's own client"


@dataclass(frozen=True)
class Pins:
    """What was locked before, by tungsten or by another tool."""

    previous: Platform | None = None
    """An earlier lock's platform."""
    pinned: Pinned | None = None
    """Another tool's lock file."""
    unlisted: Unlisted = field(default_factory=Unlisted)
    record: Relocked = field(default_factory=Relocked)
    """Gets what became of them."""

    def preferred(self, target: Target) -> list[Wheel]:
        """The versions to prefer: of each project one."""
        earlier = self._earlier()
        return self.pinned.preferred(target, earlier) if self.pinned else earlier

    def entries(self, target: Target) -> list[Wheel | Source]:
        """Those of the earlier lock that are of the indexes, and are preferred."""
        if self.previous is None:
            return []
        preferred = {(wheel.project, wheel.version) for wheel in self.preferred(target)}
        every: tuple[Wheel | Source, ...] = (*self.previous.wheels, *self.previous.sources)
        return [one for one in every if (one.project, one.version) in preferred and not is_direct(one)]

    def _earlier(self) -> list[Wheel]:
        if self.previous is None:
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
            for source in self.previous.sources
        ]
        return [*self.previous.wheels, *stand_ins]


class PythonPackages:
    """What a model wishes of Python packages, on one platform: lines to solve, a solver, and what its answer means."""

    def __init__(
        self,
        wishes: Wishes,
        target: Target,
        sources: Sources,
        builds: Builds,
        pins: Pins,
        *,
        where: str,
    ) -> None:
        """Get what the wishes say themselves where it is.

        pins: these are kept where they still fit. where: whose wishes these are, for messages.

        Raises ResolveError where something is not what is said, FetchError where it can't be had.
        """
        self._wishes = wishes
        self._target = target
        self._sources = sources
        self._builds = builds
        self._pins = pins
        self._where = where
        self._constraints = [_line(wanted) for wanted in wishes.constraints]
        # What a file that uv was given stands for, by its sha256; and why a project is built from source.
        self._stands_for: dict[str, Obtained] = {}
        self._reasons = dict.fromkeys(wishes.from_source, "asked for by --no-binary")
        self._offer = Offer(
            sources.index,
            target,
            stand_in=self._stand_in,
            from_source=wishes.from_source,
            wheels_only=wishes.wheels_only,
            declared={one.name: one.url for one in wishes.requirements if one.name and one.url},
        )
        self._offer.pinned = PinnedFiles(pins.entries(target), pins.unlisted, sources.index.main_label)
        self._direct: set[str] = set()
        # What each answer was asked for with.
        self._asked: dict[frozenset[tuple[str, str]], tuple[Sequence[str], Sequence[str]]] = {}
        self.held_by: str | None = None
        """What further constraints of a solve are for, where that is a version of CUDA."""
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
        self._asked[_key(wheels)] = (requirements, constraints)
        return wheels

    def _solved(self, requirements: Sequence[str], constraints: Sequence[str]) -> tuple[Wheel, ...]:
        """One source less after the other, until all that is left can be built as far as is known."""
        refusal: ResolveError | None = None
        while True:
            try:
                wheels = resolve_wheels(
                    requirements,
                    self._offer,
                    where=self._where,
                    constraints=[*self._constraints, *constraints],
                    prefer=self._pins.preferred(self._target),
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
                self._builds.wheels(obtained, obtained.facts)
            except ResolveError as problem:
                key = obtained.project, Version(obtained.version)
                if obtained.url or obtained.path or obtained.git or key in self._offer.refused:
                    raise
                self._offer.refused[key] = f"what its source is built with can't be had: {problem.what}"
                first = first or problem
        return first

    def _way_out(self, explanation: str) -> str | None:
        """How to have from elsewhere what uv names, and a further index answers for."""
        named = set(re.findall(r"[a-z0-9][a-z0-9._-]*[a-z0-9]", explanation.lower()))
        found = {
            project: label
            for project in sorted(set(map(canonicalize_name, named)) & self._offer.known)
            if (label := self._offer.answered_by(project)) is not None
        }
        if not found:
            return None
        taken = ", ".join(f"{project} from {label}" for project, label in found.items())
        names = ", ".join(f'"{project}"' for project in found)
        return (
            f"the first place that knows a project answers for it alone: {taken}; to have these from the machine's own "
            f"index, {to_paste('indexes', MACHINE, f'projects = [{names}]')}"
        )

    def _check_forced(self) -> None:
        for project in sorted(self._wishes.from_source):
            releases = self._offer.releases(project)
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
        pinned = {(pin.project, pin.version) for pin in self._pins.preferred(self._target)}
        return {
            wheel.project
            for wheel in wheels
            if Version(wheel.version).is_prerelease
            and wheel.project not in asked
            and (wheel.project, wheel.version) not in pinned
            and any(
                not version.is_prerelease and self._offer.is_offered(wheel.project, release)
                for version, release in self._offer.releases(wheel.project).items()
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
        self._offer.final_only = unasked
        try:
            again = self._solved(requirements, constraints)
        except ResolveError:
            return wheels
        finally:
            self._offer.final_only = set()
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
        held = Held(self.held_by, constraints) if self.held_by else None
        limits = self._constraints if held else [*self._constraints, *constraints]
        choices = older(self._offer, wheels, requirements, limits, self._pins.preferred(self._target), held)
        asked = (*requirements, *self._constraints, *constraints)
        self._pins.record.tell_wheels(self._offer, self._pins.entries(self._target), wheels, asked, choices)
        if self._pins.pinned is not None:
            choices = self._pins.pinned.unexplained(self._target, choices)
        for wheel in self._placed(wheels):
            obtained = self._stands_for.get(wheel.sha256)
            if obtained is None:
                taken.append(wheel)
            elif obtained.facts is None:
                taken.append(wheel.model_copy(update={"url": obtained.url, "path": obtained.path}))
            else:
                built.append(self._builds.locked(obtained, obtained.facts, wheel))
                choices.append(
                    Choice(
                        kind=SOURCE,
                        subject=f"{obtained.project} is built from source",
                        chosen=f"{obtained.version} ({obtained.file})",
                        reason=self._reasons.get(
                            obtained.project, "no wheel of it fits this Python and platform"
                        )
                        + self._builds.for_whom(obtained.project, obtained.facts),
                    )
                )
        _check_hashes(self._wishes, taken, built, self._where, self._target)
        if self._pins.pinned is not None:
            self._pins.pinned.check(self._target, (*taken, *built), self._where)
            choices += self._pins.pinned.differences(self._target, (*taken, *built), self._wishes)
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
        builds = map(self._builds.found, sources)
        if not any(wheel.index for several in (wheels, *builds) for wheel in several):
            return list(wheels)
        label = {"index": self._sources.index.main_label}
        self._builds.place(label)
        return [
            wheel if wheel.index or wheel.project in self._direct else wheel.model_copy(update=label)
            for wheel in wheels
        ]

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
            place = write_stub(obtained, obtained.facts, folder)
            self._stands_for[sha256_of(place)] = obtained
            self._reasons[obtained.project] = "the model says where its source is"
        extras = f"[{','.join(wanted.extras)}]" if wanted.extras else ""
        marker = f" ; {wanted.marker}" if wanted.marker else ""
        return f"{obtained.project}{extras} @ {place.resolve().as_uri()}{marker}"

    def _stand_in(self, project: str, listed: IndexFile) -> StandIn:
        """A source of the index, as it takes part in a solve; ResolveError where it can't be built."""
        if self._builds.unbuildable:
            raise ResolveError(f"no wheel of it fits, and {self._builds.unbuildable}")
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
        return StandIn(metadata(obtained, obtained.facts), obtained.sha256)


def _key(wheels: Iterable[Wheel]) -> frozenset[tuple[str, str]]:
    return frozenset((wheel.project, wheel.version) for wheel in wheels)


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


def solve_python(spec: ModelSpec, packages: PythonPackages, cuda_version: str | None) -> Solution:
    """A model's Python packages and the SDK's, solved together; ResolveError where nothing fits."""
    own = OWN_WHEELS["sdk"]["requires"]
    if spec.gpu:
        packages.held_by = (
            f"cuda_version={cuda_version!r}" if cuda_version else "the CUDA that all packages can work with"
        )
    try:
        return solve_wheels(packages.solve, packages.lines, own, gpu=spec.gpu, cuda_version=cuda_version)
    except NothingFitsError as problem:
        named = [text for text in own if project_of(text) in problem.explanation]
        if not named:
            raise
        # uv says of these, too, that it is the user who requires them.
        more = f"\nThe SDK, which is in every image, requires {' and '.join(named)}."
        raise problem.reworded(problem.what + more) from None


def _is_for(project: str, name: str) -> bool:
    """Whether a project is one that is required, or stands for it. name: the requirement's project."""
    return project == name or any(stands_for(project, name, gpu=gpu) for gpu in (True, False))


def whose(wheel: Wheel, written: Mapping[str, str]) -> Wheel:
    """The wheel, with the user's requirements told from the SDK's and from those that CUDA's choice put in.

    written: for each line that was solved what the user wrote.
    """
    own = OWN_WHEELS["sdk"]["requires"]
    needed_by = set()
    for entry in wheel.needed_by:
        whose, _, line = entry.partition(WISH)
        if whose != "python_packages":
            needed_by.add(entry)
            continue
        if line in own:
            needed_by.add(f"sdk: {line}")
        if line in written:
            needed_by.add(f"python_packages: {written[line]}")
        elif line not in own:
            users = {text for other, text in written.items() if _is_for(wheel.project, project_of(other))}
            needed_by |= {f"python_packages: {text}" for text in users} or {f"gpu: {line}"}
    return wheel.model_copy(update={"needed_by": tuple(sorted(needed_by))})
