"""What of a solution is not the newest final release that was asked for, and why: for the lock, and for who reads it.

A project that the model names is held to its own lines alone; another to what the packages that need it say together.
Nothing is solved for this: it is told from what the solve has read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

from tungstenkit.lock.parts import OF_VERSIONS, OLDER, PLACE, PRE_RELEASE, Choice
from tungstenkit.resolve.offer import stand_in_name
from tungstenkit.resolve.wheels import counts, needs, read_requirements
from tungstenkit.sdk.errors import ResolveError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from tungstenkit.lock.packages import Wheel
    from tungstenkit.resolve.offer import Offer, ProjectRelease
    from tungstenkit.resolve.wheels import Need

_NOT_FOR = ": it is not for Python "


def older(
    offer: Offer,
    wheels: Sequence[Wheel],
    requirements: Sequence[str],
    constraints: Sequence[str],
    pins: Iterable[Wheel] = (),
) -> list[Choice]:
    """A choice for each project that is older than its own requirements allow, or a pre-release unasked for.

    requirements, constraints: what was solved. pins: of an earlier lock; nothing is fetched to explain one of these.
    """
    pinned = {(pin.project, pin.version) for pin in pins}
    lines = [line for line in map(Requirement, requirements) if _is_in_force(line, offer)]
    limits = [line for line in map(Requirement, constraints) if _is_in_force(line, offer)]
    direct = {canonicalize_name(line.name) for line in lines if line.url}
    solution = _Solution(offer, wheels, limits, needs(wheels, requirements, offer))
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
        newest = solution.newest(wheel.project, asked)
        if newest is not None and newest.version > version:
            is_pinned = (wheel.project, wheel.version) in pinned
            holder = solution.why_not(wheel, newest, own=bool(own), is_pinned=is_pinned)
            choices.append(
                Choice(
                    kind=OLDER,
                    subject=f"{wheel.project} is older than it could be",
                    chosen=wheel.version,
                    reason=f"not {newest.version}: {holder}",
                )
            )
    return choices


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
        self, offer: Offer, wheels: Sequence[Wheel], limits: Sequence[Requirement], needs: Sequence[Need]
    ) -> None:
        self._offer = offer
        self._versions = {wheel.project: wheel.version for wheel in wheels}
        self._limits = limits
        self._needs = needs

    def needs_of(self, project: str) -> list[Need]:
        """What the packages require of one of them."""
        return [need for need in self._needs if canonicalize_name(need.requirement.name) == project]

    def newest(self, project: str, asked: Iterable[Requirement]) -> ProjectRelease | None:
        """The newest final release that some requirements allow, whether it can be had here or not."""
        allowed = SpecifierSet()
        for requirement in asked:
            allowed &= requirement.specifier
        releases = self._offer.releases(project)
        fitting = [
            version
            for version, release in releases.items()
            if not version.is_prerelease and not release.is_yanked and version in allowed
        ]
        return releases[max(fitting)] if fitting else None

    def why_not(self, wheel: Wheel, newest: ProjectRelease, *, own: bool, is_pinned: bool) -> str:
        """Who keeps a project from its newest release. own: whether the model has lines for it."""
        python = self._offer.target.python
        if not newest.runs_on(python):
            return f"{_NOT_FOR}{python}".removeprefix(": ")
        if refused := self._offer.refused.get((wheel.project, newest.version)):
            return refused
        if not self._offer.is_offered(wheel.project, newest):
            return "no wheel of it fits this Python and platform, and there is no source"
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
            return "; ".join(dict.fromkeys(holders)) or "it was locked before, and still fits"
        holders += self._conflicts(wheel.project, newest)
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

    def _conflicts(self, project: str, release: ProjectRelease) -> Iterator[str]:
        """What a release requires, and the solution has not."""
        name = release.wheels[0].name if release.wheels else stand_in_name(project, release.version)
        try:
            stated = read_requirements(self._offer.metadata(project, name) or "")
        except ResolveError:
            return
        for requirement in stated:
            other = canonicalize_name(requirement.name)
            if not counts(requirement, self._offer.target, ()):
                continue
            text = f"it needs {requirement.name}{requirement.specifier}"
            if other not in self._versions:
                if any("<0" in str(limit.specifier) for limit in self._limits_of(other)):
                    yield f"{text}, which is left out"
            elif not requirement.specifier.contains(self._versions[other], prereleases=True):
                yield f"{text}, and {self._versions[other]} is locked"


def _is_in_force(line: Requirement, offer: Offer) -> bool:
    return line.marker is None or line.marker.evaluate(offer.target.markers)
