"""What of a solution is not the newest final release that was asked for, and why: for the lock, and for who reads it.

A project that the model names is held to its own lines alone; another to what the packages that need it say together.
Nothing is solved for this: it is told from what the solve has read.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

from tungstenkit.lock.parts import OF_VERSIONS, OLDER, PLACE, PRE_RELEASE, Choice
from tungstenkit.resolve.compatible import counts, read_requirements
from tungstenkit.resolve.cuda_wheels import is_nvidias
from tungstenkit.resolve.offer import stand_in_name
from tungstenkit.resolve.wheels import needs
from tungstenkit.sdk.errors import FetchError, ResolveError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from tungstenkit.lock.packages import Wheel
    from tungstenkit.resolve.offer import Offer, ProjectRelease
    from tungstenkit.resolve.wheels import Need

_NOT_FOR = ": it is not for Python "
_STILL_FITS = "it was locked before, and still fits"


@dataclass(frozen=True)
class Held:
    """What holds a solve to a version of CUDA, beside what the model and the packages say."""

    why: str
    """Whose wish that is, as in `cuda_version='12.4'`."""
    constraints: Sequence[str]


def older(
    offer: Offer,
    wheels: Sequence[Wheel],
    requirements: Sequence[str],
    constraints: Sequence[str],
    pins: Iterable[Wheel] = (),
    held: Held | None = None,
) -> list[Choice]:
    """A choice for each project that is older than its own requirements allow, or a pre-release unasked for.

    requirements, constraints: what was solved, and within what of `held`. pins: of an earlier lock; nothing is fetched
    to explain one of these.
    """
    pinned = {(pin.project, pin.version) for pin in pins}
    lines = [line for line in map(Requirement, requirements) if _is_in_force(line, offer)]
    limits = [line for line in map(Requirement, constraints) if _is_in_force(line, offer)]
    direct = {canonicalize_name(line.name) for line in lines if line.url}
    solution = _Solution(offer, lines, limits, needs(wheels, requirements, offer), wheels, held)
    choices = []
    for wheel in wheels:
        if wheel.project in direct:
            continue
        own = [line for line in lines if canonicalize_name(line.name) == wheel.project]
        asked = own or [need.requirement for need in solution.needs_of(wheel.project)]
        version = Version(wheel.version)
        if version.is_prerelease and not any(line.specifier.prereleases for line in own):
            choices.append(
                Choice(
                    kind=PRE_RELEASE,
                    subject=f"{wheel.project} is a pre-release",
                    chosen=wheel.version,
                    reason=solution.why_pre_release(wheel),
                )
            )
        newer = solution.newer(wheel, asked)
        if newer:
            is_pinned = (wheel.project, wheel.version) in pinned
            holder = solution.why_not(wheel, newer, own=bool(own), is_pinned=is_pinned)
            choices.append(
                Choice(
                    kind=OLDER,
                    subject=f"{wheel.project} is older than it could be",
                    chosen=wheel.version,
                    reason=f"not {newer[0].version}: {holder}",
                )
            )
    return choices


def lagging(choices: Iterable[Choice]) -> dict[str, str]:
    """Of the projects that only an earlier lock keeps from their newest release, that one."""
    found = {}
    for choice in choices:
        newest, _, why = choice.reason.removeprefix("not ").partition(": ")
        if choice.kind == OLDER and why == _STILL_FITS:
            found[choice.subject.partition(" ")[0]] = newest
    return found


def told(choices: Iterable[Choice]) -> Iterator[str]:
    """What a person should read of such choices, a line each; those that Python alone is the reason of, in one."""
    by_python: dict[str, list[str]] = {}
    for choice in choices:
        name = choice.subject.partition(" ")[0]
        newest, _, python = choice.reason.partition(_NOT_FOR)
        if choice.kind == OLDER and python:
            by_python.setdefault(python, []).append(f"{name} {choice.chosen} ({newest})")
        elif choice.kind in OF_VERSIONS:
            yield f"{choice.subject}: {choice.chosen}, {choice.reason}"
        elif choice.kind == PLACE:
            yield f"{choice.subject}: {choice.chosen}"
    for python, packages in by_python.items():
        yield f"newer releases are not for Python {python}: {', '.join(packages)}"


class _Solution:
    """A solve's answer, and what it was found among."""

    def __init__(
        self,
        offer: Offer,
        lines: Sequence[Requirement],
        limits: Sequence[Requirement],
        needs: Sequence[Need],
        wheels: Sequence[Wheel],
        held: Held | None,
    ) -> None:
        """lines, limits: what was required, and within what, as far as it is in force here."""
        self._offer = offer
        self._versions = {wheel.project: wheel.version for wheel in wheels}
        self._lines = lines
        self._limits = limits
        self._needs = needs
        self._held = held
        self._of_cuda = [Requirement(text) for text in held.constraints] if held else []

    def needs_of(self, project: str) -> list[Need]:
        """What the packages require of one of them."""
        return [need for need in self._needs if canonicalize_name(need.requirement.name) == project]

    def newer(self, wheel: Wheel, asked: Iterable[Requirement]) -> list[ProjectRelease]:
        """The newer final releases that some requirements allow, whether they can be had here or not; newest first."""
        allowed = SpecifierSet()
        for requirement in asked:
            allowed &= requirement.specifier
        fitting = [
            release
            for version, release in self._offer.releases(wheel.project).items()
            if version > Version(wheel.version)
            and not version.is_prerelease
            and not release.is_yanked
            and version in allowed
        ]
        return sorted(fitting, key=lambda release: release.version, reverse=True)

    def why_not(self, wheel: Wheel, newer: Sequence[ProjectRelease], *, own: bool, is_pinned: bool) -> str:
        """Who keeps a project from the first of some releases. own: whether the model has lines for it."""
        newest, python = newer[0], self._offer.target.python
        if not newest.runs_on(python):
            return f"{_NOT_FOR}{python}".removeprefix(": ")
        if refused := self._offer.refused.get((wheel.project, newest.version)):
            return refused
        if not self._offer.is_offered(wheel.project, newest):
            return "no wheel of it fits this Python and platform, and there is no source"
        if self._held and self._is_barred(newest, wheel.project, only_itself=is_pinned):
            # What a release beyond that would need besides has nothing to do with it.
            first = next(
                (
                    number
                    for number, release in enumerate(newer)
                    if self._offer.is_offered(wheel.project, release)
                    and not self._is_barred(release, wheel.project, only_itself=is_pinned)
                ),
                None,
            )
            if first is None:
                return f"{self._held.why} allows no newer one"
            why = self.why_not(wheel, newer[first:], own=own, is_pinned=is_pinned)
            return f"{self._held.why} allows none above {newer[first].version}, and that is not taken: {why}"
        holders = [
            f"{need.by} {self._versions[need.by]} needs {need.requirement.name}{need.requirement.specifier}"
            for need in (self.needs_of(wheel.project) if own else ())
            if not need.requirement.specifier.contains(newest.version, prereleases=True)
        ]
        holders += [
            f"{limit.name}{limit.specifier} is a limit"
            for limit in self._limits_of(wheel.project)
            if str(limit.specifier) != f"=={wheel.version}"
            and not limit.specifier.contains(newest.version, prereleases=True)
        ]
        if is_pinned:
            return "; ".join(dict.fromkeys(holders)) or _STILL_FITS
        conflicts = self._conflicts(wheel.project, newest)
        followers = self._followers(wheel.project)
        holders += [text for other, text in conflicts if other not in followers or self._limits_of(other)]
        # What is there for the project alone would move with it, unless something further holds it.
        holders = holders or [text for _, text in conflicts]
        return "; ".join(dict.fromkeys(holders)) or "the other packages fit no newer one"

    def why_pre_release(self, wheel: Wheel) -> str:
        """What asks for a pre-release, or that there is nothing else."""
        releases = self._offer.releases(wheel.project)
        if not any(
            not version.is_prerelease and self._offer.is_offered(wheel.project, release)
            for version, release in releases.items()
        ):
            return "there is no final release that can be had"
        named = [
            f"{need.by} {self._versions[need.by]} needs {need.requirement.name}{need.requirement.specifier}"
            for need in self.needs_of(wheel.project)
        ]
        return "; ".join(dict.fromkeys(named)) or "no final release fits the other packages"

    def _limits_of(self, project: str) -> list[Requirement]:
        return [limit for limit in self._limits if canonicalize_name(limit.name) == project]

    def _conflicts(self, project: str, release: ProjectRelease) -> list[tuple[str, str]]:
        """What a release requires, and the solution has not: the projects, and the words for it."""
        found: list[tuple[str, str]] = []
        for requirement in self._stated(project, release):
            other = canonicalize_name(requirement.name)
            if not counts(requirement, self._offer.target, ()):
                continue
            text = f"it needs {requirement.name}{requirement.specifier}"
            if other not in self._versions:
                if any("<0" in str(limit.specifier) for limit in self._limits_of(other)):
                    found.append((other, f"{text}, which is left out"))
            elif not requirement.specifier.contains(self._versions[other], prereleases=True):
                found.append((other, f"{text}, and {self._versions[other]} is locked"))
        return found

    def _stated(self, project: str, release: ProjectRelease) -> list[Requirement]:
        """What a release says that it requires; nothing where that can't be read."""
        name = release.wheels[0].name if release.wheels else stand_in_name(project, release.version)
        try:
            return read_requirements(self._offer.metadata(project, name) or "")
        except ResolveError:
            return []

    def _followers(self, project: str) -> set[str]:
        """What is there for a project alone: without that, nothing leads to it."""
        reached: set[str] = set()
        waiting = [canonicalize_name(line.name) for line in self._lines]
        while waiting:
            name = waiting.pop()
            if name not in reached and name != project:
                reached.add(name)
                waiting += [canonicalize_name(n.requirement.name) for n in self._needs if n.by == name]
        return self._versions.keys() - reached - {project}

    def _is_barred(self, release: ProjectRelease, project: str, *, only_itself: bool) -> bool:
        """Whether CUDA's version forbids a release, or one of NVIDIA's packages that it requires.

        only_itself: look at nothing that the release requires.
        """
        extras = {
            extra for line in self._lines if canonicalize_name(line.name) == project for extra in line.extras
        }
        waiting = [(project, release, extras)]
        seen = {project}
        while waiting:
            name, one, used = waiting.pop()
            if not self._suits_cuda(name, one):
                return True
            for requirement in () if only_itself else self._stated(name, one):
                other = canonicalize_name(requirement.name)
                if (
                    other in seen
                    or not is_nvidias(other)
                    or not counts(requirement, self._offer.target, used)
                ):
                    continue
                seen.add(other)
                try:
                    listed = self._offer.releases(other)
                except FetchError:
                    continue  # the solve could do without
                fitting = [
                    each
                    for version, each in listed.items()
                    if version in requirement.specifier and self._offer.is_offered(other, each)
                ]
                allowed = [each for each in fitting if self._suits_cuda(other, each)]
                if fitting and not allowed:
                    return True
                if allowed:
                    newest = max(allowed, key=lambda each: each.version)
                    waiting.append((other, newest, set(requirement.extras)))
        return False

    def _suits_cuda(self, project: str, release: ProjectRelease) -> bool:
        return all(
            limit.specifier.contains(release.version, prereleases=True)
            for limit in self._of_cuda
            if canonicalize_name(limit.name) == project
        )


def _is_in_force(line: Requirement, offer: Offer) -> bool:
    return line.marker is None or line.marker.evaluate(offer.target.markers)
