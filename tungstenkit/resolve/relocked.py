"""What became of an earlier lock's pins: which had to move and why, and which stay behind what there is."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from tungstenkit.resolve.compatible import counts, read_requirements
from tungstenkit.resolve.newest import lagging
from tungstenkit.resolve.wheels import Need, needs
from tungstenkit.sdk.errors import FetchError, ResolveError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tungstenkit.debian.solution import DebSolution
    from tungstenkit.lock.document import Located
    from tungstenkit.lock.packages import Deb, Source, Wheel
    from tungstenkit.lock.parts import Choice
    from tungstenkit.resolve.offer import Offer
    from tungstenkit.resolve.unlisted import Unlisted

_UNSAID = "it does not fit the other packages"
_ANOTHER = "the index has another file of this version"


class OneVersion(NamedTuple):
    """A version of a package on a platform."""

    system: str
    kind: str
    """`deb` or `wheel`, as a `Located`'s."""
    name: str
    version: str


def version_of(located: Located) -> OneVersion:
    """A locked package's."""
    return OneVersion(located.system, located.kind, located.name, located.package.version)


@dataclass
class Relocked:
    """What solves have found out of pins; of several solves of one package the last one's word counts."""

    moved: dict[OneVersion, str] = field(default_factory=dict)
    """Why a pin did not stay."""
    newer: dict[OneVersion, str] = field(default_factory=dict)
    """The newest version that there is, where one stays that is older."""

    def tell_debs(self, system: str, pins: Iterable[Deb], solution: DebSolution, unlisted: Unlisted) -> None:
        """Take down what became of Debian packages."""
        files = {deb.name: deb.sha256 for deb in solution.debs}
        for pin in pins:
            key = OneVersion(system, "deb", pin.name, pin.version)
            if pin.name in solution.moved:
                self.moved[key] = solution.moved[pin.name] or unlisted.why.get(pin.sha256, _UNSAID)
            elif files.get(pin.name, pin.sha256) != pin.sha256:
                self.moved[key] = _ANOTHER
        for deb in solution.debs:
            if deb.newer:
                self.newer[OneVersion(system, "deb", deb.name, deb.version)] = deb.newer

    def tell_wheels(
        self,
        offer: Offer,
        pins: Iterable[Wheel | Source],
        wheels: Sequence[Wheel],
        asked: Sequence[str],
        choices: Iterable[Choice] = (),
    ) -> None:
        """Take down what became of Python packages.

        wheels: those of a solve. asked: what it was asked for, and its constraints. choices: what `older` says of it.
        """
        system = offer.target.system
        taken = {wheel.project: wheel.version for wheel in wheels}
        files = {wheel.project: wheel.sha256 for wheel in wheels}
        moved = [pin for pin in pins if files.get(pin.project, pin.sha256) != pin.sha256]
        # What is needed was read by then.
        stated = needs(wheels, asked, offer) if moved else []
        for pin in moved:
            why = offer.pinned.why_gone(pin.project) or _why_not(pin, taken, asked, stated, offer)
            self.moved[OneVersion(system, "wheel", pin.project, pin.version)] = why
        for project, newest in lagging(choices).items():
            self.newer[OneVersion(system, "wheel", project, taken[project])] = newest


def _why_not(
    pin: Wheel | Source, taken: dict[str, str], asked: Iterable[str], stated: Iterable[Need], offer: Offer
) -> str:
    """What of a solve forbids a pinned version, which can be had."""
    if taken[pin.project] == pin.version:
        return _ANOTHER
    for line in map(Requirement, asked):
        if _excludes(line, pin, offer):
            return f"{line} is asked for"
    for need in stated:
        if _excludes(need.requirement, pin, offer):
            requirement = need.requirement
            return f"{need.by} {taken[need.by]} needs {requirement.name}{requirement.specifier}"
    try:
        own = read_requirements(offer.metadata(pin.project, pin.file) or "")
    except (FetchError, LookupError, ResolveError):
        return _UNSAID  # for an explanation alone nothing fails
    for requirement in own:
        version = taken.get(canonicalize_name(requirement.name))
        if (
            version
            and counts(requirement, offer.target, ())
            and not requirement.specifier.contains(version, prereleases=True)
        ):
            return f"{pin.version} needs {requirement.name}{requirement.specifier}, and {version} is taken"
    return _UNSAID


def _excludes(line: Requirement, pin: Wheel | Source, offer: Offer) -> bool:
    return (
        canonicalize_name(line.name) == pin.project
        and (line.marker is None or counts(line, offer.target, ()))
        and not line.specifier.contains(Version(pin.version), prereleases=True)
    )
