"""A set of packages that satisfies all requests, as it is told: which group needs what, and what was chosen why."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from tungstenkit.debian.archive import Archive, Request
    from tungstenkit.debian.control import Alternatives
    from tungstenkit.debian.packages import Package
    from tungstenkit.debian.walk import Walk


@dataclass(frozen=True)
class ResolvedDeb:
    """A Debian binary package of a solution."""

    name: str
    version: str
    architecture: str
    file: str
    """`mirror://ARCHIVE/pool/…`"""
    size: int
    """In bytes."""
    sha256: str
    group: str
    """The first group whose requests need it."""
    source: str = ""
    """`SOURCE (VERSION)`: the source package that it is built from."""
    needed_by: tuple[str, ...] = ()
    """Packages of the solution that depend on it, sorted."""
    requests: tuple[tuple[str, str], ...] = ()
    """The group and the text of each request that it meets."""
    snapshot: str | None = None
    """As a `Package`'s."""
    newer: str | None = None
    """The newest version that the index lists, where that is newer and nobody asked for this one."""


@dataclass(frozen=True)
class Decision:
    """Something that could have been otherwise, and why it is as it is."""

    kind: str
    """`alternative` (`a | b`), `virtual` (several provide a name), `dropped` (a dependency left out) or `renamed` (a
    request that the release knows by another name).
    """
    subject: str
    chosen: str
    reason: str


@dataclass(frozen=True)
class DebSolution:
    """The packages, by name, and the decisions, by subject."""

    debs: list[ResolvedDeb]
    decisions: list[Decision]
    moved: Mapping[str, str | None] = field(default_factory=dict)
    """For each pin whose package has another version now what forbids the pinned one; None where that can't be had."""


def describe(archive: Archive, requests: Sequence[Request], solution: set[int], walk: Walk) -> DebSolution:
    """What of a set is needed for the requests, with the decisions that led there."""
    group_of: dict[int, str] = {}
    needed_by: defaultdict[int, set[int]] = defaultdict(set)
    requested: defaultdict[int, list[Request]] = defaultdict(list)
    for request in requests:
        requested[_first(request.options, solution)].append(request)
    decisions: dict[tuple[str, str], Decision] = {}
    replaced = _replaced(archive, solution)
    for group in dict.fromkeys(r.group for r in requests):
        pending = [*replaced, *(_first(r.options, solution) for r in requests if r.group == group)]
        while pending:
            number = pending.pop()
            if number not in group_of:
                group_of[number] = group
                if number in archive.kept:
                    continue
                for element in archive.depends(number):
                    needed = _first(archive.options(element), solution)
                    needed_by[needed].add(number)
                    pending.append(needed)
    for number, why in replaced.items():
        needed_by[number] |= set() if needed_by[number] or requested[number] else why
    # What is reached satisfies every dependency of what is reached; nothing else is needed.
    for number in sorted(group_of.keys() - archive.kept, key=archive.name):
        for decision in _decisions(archive, number, group_of, walk):
            # Many packages state the same alternatives: one line says how they were decided.
            key = decision.kind, decision.subject.partition(" depends on ")[2]
            decisions.setdefault(
                key if decision.kind != "dropped" else (decision.kind, decision.subject), decision
            )
    for request in requests:
        name, asked = archive.name(request.options[0]), _name(request.text)
        if not request.virtual and name != asked:
            decisions["renamed", request.text] = Decision(
                "renamed",
                f"{request.text} was requested",
                name,
                f"Debian {archive.index.release} has no {asked}; this one took its place",
            )
        if request.virtual and len(request.options) > 1:
            decisions[("virtual", request.text)] = Decision(
                "virtual",
                f"{request.text} was requested",
                archive.name(_first(request.options, solution)),
                "needed anyway",
            )
    return DebSolution(
        sorted(
            (
                _resolved(archive, n, g, needed_by[n] - {n}, requested[n])
                for n, g in group_of.items()
                if n not in archive.kept
            ),
            key=lambda d: d.name,
        ),
        sorted(decisions.values(), key=lambda c: (c.subject, c.kind)),
        _moved(archive, group_of),
    )


def _moved(archive: Archive, solution: Iterable[int]) -> dict[str, str | None]:
    names = [archive.name(number) for number in solution if _is_moved(archive, number)]
    return {name: _why_moved(archive, name, solution) for name in names}


def _is_moved(archive: Archive, number: int) -> bool:
    """Whether a package has another version than its pin."""
    pin = archive.pins.get(archive.name(number))
    return pin is not None and pin.version != archive.package(number).version


def _why_moved(archive: Archive, name: str, solution: Iterable[int]) -> str | None:
    """What of a solution forbids the pinned version of a package; None where that is no candidate."""
    pin = archive.pins[name].version
    numbers = [number for number in archive.candidates(name) if archive.package(number).version == pin]
    if not numbers and name in archive.exact:
        return f"{name}={archive.exact[name]} is asked for"
    if not numbers and name in archive.present:
        return f"the base image has {archive.present[name].version}"
    if not numbers:
        return None
    number = numbers[0]
    # What has moved itself is rarely the first cause.
    others = sorted(
        (n for n in solution if archive.name(n) != name),
        key=lambda n: (_is_moved(archive, n), archive.label(n)),
    )
    for other in others:
        for element in archive.depends(other):
            # Of what a base image has, a dependency may be met by nothing.
            taken = [option for option in archive.options(element) if option in solution][:1]
            if number not in archive.options(element) and name in map(archive.name, taken):
                return f"{archive.label(other)} depends on {as_text(element)}"
        for element in archive.package(other).conflicts:
            if number in archive.providers(element):
                return f"{archive.label(other)} conflicts with {as_text(element)}"
    for element in archive.depends(number):
        if not any(option in solution for option in archive.options(element)):
            return f"{pin} depends on {as_text(element)}, which is not as it was"
    for element in archive.package(number).conflicts:
        if in_the_way := archive.providers(element) & {*others}:
            return f"{pin} conflicts with {archive.label(min(in_the_way))}"
    return "it does not fit the other packages"


def _resolved(
    archive: Archive, number: int, group: str, needed_by: Iterable[int], requests: Iterable[Request]
) -> ResolvedDeb:
    package = archive.package(number)
    return ResolvedDeb(
        name=package.name,
        version=package.version,
        architecture=package.architecture,
        file=f"mirror://{package.archive}/{package.file}",
        size=package.size,
        sha256=package.sha256,
        group=group,
        source=source_of(package),
        needed_by=tuple(sorted({archive.name(n) for n in needed_by})),
        requests=tuple((r.group, r.text) for r in requests),
        snapshot=package.snapshot,
        newer=None if package.name in archive.exact else archive.newer(number),
    )


def source_of(package: Package) -> str:
    """`SOURCE (VERSION)`, the source package that one is built from."""
    # A package leaves out what is as its own (Debian policy 5.6.1); a binary rebuild has only its own version's
    # `+bN`, which no source has (Developer's Reference 5.10.2).
    name, _, version = package.source.partition(" ")
    plain = re.sub(r"\+b\d+$", "", package.version)
    return f"{name or package.name} {version or f'({plain})'}"


def _replaced(archive: Archive, solution: set[int]) -> dict[int, set[int]]:
    """What takes the place of a package that is present, each with what of the solution must have led to that."""
    new = solution - archive.kept
    found = {}
    for number in sorted(n for n in new if archive.name(n) in archive.present):
        old = next(n for n in archive.candidates(archive.name(number)) if n in archive.kept)
        needs = {relation.name for element in archive.depends(number) for relation in element}
        excluding = {n for n in new - {number} if old in archive.excluded_by(n)}
        found[number] = excluding or {n for n in new - {number} if archive.name(n) in needs}
    return found


def _first(options: Iterable[int], solution: Iterable[int]) -> int:
    return next(o for o in options if o in solution)


def _decisions(archive: Archive, number: int, solution: Mapping[int, str], walk: Walk) -> Iterator[Decision]:
    name = archive.name(number)
    for element, reason in archive.dropped(number):
        if not any(o in solution for o in archive.options(element)):
            yield Decision("dropped", f"{name} depends on {as_text(element)}", "nothing", reason)
    for element in archive.depends(number):
        options = archive.options(element)
        names = list(dict.fromkeys(map(archive.name, options)))
        chosen = archive.name(_first(options, solution))
        is_alternative = len(element) > 1
        if len(names) < 2 or (not is_alternative and chosen == element[0].name):
            continue
        yield Decision(
            "alternative" if is_alternative else "virtual",
            f"{name} depends on {as_text(element)}",
            chosen,
            _reason(archive, element, _first(options, solution), walk),
        )


def _reason(archive: Archive, element: Alternatives, chosen: int, walk: Walk) -> str:
    first = archive.name(archive.options(element)[0])
    if archive.name(chosen) != first:
        why, needed_for = walk.why.get(chosen, ("", element))
        if needed_for != element:
            return f"{why} anyway"
        return f"{first}, which comes first, can't be installed with the rest"
    if archive.name(chosen) == element[0].name:
        return "the first alternative"
    priority = archive.package(chosen).priority
    return f"of those that provide {element[0].name}, the first by Priority ({priority}) and name"


def as_text(element: Alternatives) -> str:
    """A dependency as a package states it."""
    return " | ".join(map(str, element))


def _name(request: str) -> str:
    return re.split("[:=]", request, maxsplit=1)[0]
