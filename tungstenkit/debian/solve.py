"""Requested Debian packages to an exact set of them, with the choices that were made on the way.

What may be installed together is libsolv's to say. What is *preferred* where there is a choice is said here,
in `_Walk`, as Debian policy leaves it open: whatever is needed anyway counts first; then a real package
before those that only provide its name, alternatives from left to right, and providers by Priority, then by
name. The walk's packages are the answer if libsolv finds nothing wrong with them; otherwise it searches,
favouring them. Both see what the requests can reach by dependencies, and nothing else of an archive. Recommends are
not followed, and Essential packages are not implied: no dpkg and no maintainer script ever runs in an image.
"""

from __future__ import annotations

import difflib
import re
from collections import defaultdict
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

import solv

from tungstenkit.debian.control import Alternatives, Relation
from tungstenkit.debian.former_names import successor, why_gone
from tungstenkit.debian.packages import PackagesFile
from tungstenkit.debian.version import order, rank
from tungstenkit.sdk.errors import ResolveError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from tungstenkit.debian.index import ReleaseIndex
    from tungstenkit.debian.packages import Package

_DEBCONF = "debconf only asks questions while a package is installed, and no maintainer script runs here"

NOT_FOLLOWED: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "base-files": {"awk": "only its maintainer script runs awk"},
        "ca-certificates": {
            "openssl": "only update-ca-certificates runs openssl; the bundle is made without it",
            "debconf": _DEBCONF,
        },
        "dash": {
            "debianutils": "only its maintainer script runs add-shell",
            "dpkg": "only its maintainer script runs dpkg-divert",
        },
        "readline-common": {"dpkg": "only its maintainer script runs dpkg or install-info"},
        "tzdata": {"debconf": _DEBCONF},
    }
)
"""Dependencies that images don't need, by package and by the dependency's first name, with the reasons."""

_REQUEST = re.compile(
    r"(?P<name>[a-z0-9][a-z0-9+.-]*)(?::(?P<architecture>[a-z0-9-]+))?(?:=(?P<version>[A-Za-z0-9.+~:-]+))?"
)
_OPERATORS = {
    "<<": solv.REL_LT,
    "<=": solv.REL_LT | solv.REL_EQ,
    "=": solv.REL_EQ,
    ">=": solv.REL_GT | solv.REL_EQ,
    ">>": solv.REL_GT,
}
_PRIORITIES = ("required", "important", "standard", "optional", "extra")
_LISTED = 12  # lines of an explanation, names of a list: more is not read


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


@dataclass(frozen=True)
class Choice:
    """Something that could have been otherwise, and why it is as it is."""

    kind: str
    """`alternative` (`a | b`), `virtual` (several provide a name), `dropped` (a dependency left out) or `renamed` (a
    request that the release knows by another name).
    """
    subject: str
    chosen: str
    reason: str


@dataclass(frozen=True)
class Present:
    """Packages that are installed already, by name: they stay, and nothing takes them away but a newer version."""

    packages: Mapping[str, Package]
    held: frozenset[str] = frozenset()
    """Those that somebody wants as they are."""


NOTHING = Present(MappingProxyType({}))


@dataclass(frozen=True)
class DebSolution:
    """The packages, by name, and the choices, by subject."""

    debs: list[ResolvedDeb]
    choices: list[Choice]


class DebSolver:
    """Solves with the packages of one index, which is opened once; not for several threads."""

    def __init__(
        self, index: ReleaseIndex, not_followed: Mapping[str, Mapping[str, str]] = NOT_FOLLOWED
    ) -> None:
        """Open the index.

        not_followed: dependencies to leave out, as `NOT_FOLLOWED`.

        Raises UnusableError where a file of it can't be read.
        """
        self._catalogue = _Catalogue(index)
        self._not_followed = not_followed

    def solve(
        self,
        groups: Mapping[str, Sequence[str]],
        prefer: Mapping[str, str] = MappingProxyType({}),
        *,
        where: str = "system_packages",
        present: Present = NOTHING,
    ) -> DebSolution:
        """Choose packages that satisfy every request.

        groups: requests by group, in the groups' order: `NAME`, `NAME=VERSION`, `NAME:ARCHITECTURE`; a virtual
            name too, if one package provides it or one that does is needed anyway; and a name that the release
            has given up, if `former_names` knows what took its place.
        prefer: versions of an earlier lock by name; each is kept while the archive has it and it fits.
        where: whose requests these are, for messages.
        present: what there is already. The solution is what comes beside it or in its place; as with apt, what is asked
            for by name comes in its newest version, and every dependency is followed, since dpkg will look at them.

        Of a package's versions, the highest in all suites is the only candidate beside a preferred one.

        Raises ResolveError for unknown or malformed requests, all at once, and for those that can't be met
        together.
        """
        names = {match["name"] for match in _matches(groups)}
        names |= {new for name in names if (new := successor(name, self._catalogue))}
        wanted = _Wanted(frozenset(names), _pins(groups), prefer, present)
        archive = _Archive(self._catalogue, {} if present.packages else self._not_followed, wanted)
        requests, problems = archive.read_requests(groups)
        if problems:
            raise ResolveError("\n".join(problems), where=where, hint=_search_hint(archive.index))
        walk = _Walk(archive)
        walk.run(requests)
        if unmet := [r for r in requests if r.virtual and not any(p in walk.why for p in r.options)]:
            raise ResolveError(
                "\n".join(_ask_for_provider(archive, r) for r in unmet), where=where, hint="name one of them"
            )
        solution = _solve(archive, requests, walk.why, where)
        return _describe(archive, requests, solution, walk)


@dataclass(frozen=True)
class _Wanted:
    """What decides which versions are candidates: the requests' names, and versions by name."""

    names: frozenset[str]
    pins: Mapping[str, str]
    prefer: Mapping[str, str]
    present: Present


@dataclass(frozen=True)
class _Request:
    group: str
    text: str
    options: tuple[int, ...]
    virtual: bool


class _Catalogue:
    """All packages of an index, by name; `in` says whether there is one."""

    def __init__(self, index: ReleaseIndex) -> None:
        self.index = index
        self._files = [PackagesFile(suite.packages, suite.archive) for suite in index.suites]
        self.names = {name for file in self._files for name in file.names()}
        self._versions: dict[str, list[Package]] = {}

    def __contains__(self, name: object) -> bool:
        return name in self.names

    def versions(self, name: str) -> list[Package]:
        """Every version of a package, the highest first; of two that have the same, the one of the earlier suite."""
        if name not in self._versions:
            found = [package for file in self._files for package in file.named(name)]
            if len(found) > 1:
                found.sort(key=lambda package: order(package.version), reverse=True)
            self._versions[name] = found
        return self._versions[name]

    def providers(self, name: str) -> set[str]:
        """The packages of which a version says that it provides a name."""
        return {package.name for file in self._files for package in file.providers(name)}


class _Archive:
    """The packages that a solve may choose from, as libsolv's numbers: what its requests can reach."""

    def __init__(
        self,
        catalogue: _Catalogue,
        not_followed: Mapping[str, Mapping[str, str]],
        wanted: _Wanted,
    ) -> None:
        """Of a name's versions, the candidates are the pinned one alone, or else the preferred one and the highest; of
        what is present, that and what is newer.
        """
        self.index, self._catalogue = catalogue.index, catalogue
        self.pool = solv.Pool()
        self._not_followed = not_followed
        self._options: dict[Alternatives, list[int]] = {}
        self._candidates: dict[str, list[int]] = {}
        self._packages: dict[int, Package] = {}
        self.present = wanted.present.packages
        self._wanted = wanted
        self.kept: set[int] = set()
        """Those that are present."""
        repo = self.pool.add_repo("packages")
        self.pool.installed = self.pool.add_repo("present")
        # In an order that no earlier solve and no other request has a part in: libsolv's search may depend on it.
        for name, versions in sorted(self._reached().items()):
            self._candidates[name] = [self._add(repo, package) for package in versions]
        self.pool.createwhatprovides()

    def _reached(self) -> dict[str, list[Package]]:
        """The candidates of every package that a dependency can lead to, by name."""
        found: dict[str, list[Package]] = {}
        seen: set[str] = set()
        pending = [*self._wanted.names, *self.present]
        while pending:
            name = pending.pop()
            if name in seen:
                continue
            seen.add(name)
            for real in {name, *self._catalogue.providers(name)} - found.keys():
                found[real] = self._versions(real)
                for package in found[real]:
                    pending += (r.name for element in self._followed(package) for r in element)
        return found

    def _versions(self, name: str) -> list[Package]:
        """The candidates of one name, the most wanted first."""
        versions, there = self._catalogue.versions(name), self.present.get(name)
        if there is not None:
            is_held = name in self._wanted.present.held
            newer = order(there.version)
            versions = [p for p in versions if not is_held and order(p.version) > newer]
        if name in self._wanted.pins:
            chosen = [p for p in versions if p.version == self._wanted.pins[name]][:1]
        else:
            preferred = [p for p in versions if p.version == self._wanted.prefer.get(name)][:1]
            chosen = [*preferred, *(p for p in versions[:1] if p not in preferred)]
        if there is None:
            return chosen
        return [*chosen, there] if name in self._wanted.names else [there, *chosen]

    def _add(self, repo: solv.Repo, package: Package) -> int:
        evr = rank(package.version)
        is_present = self.present.get(package.name) is package
        solvable = (self.pool.installed if is_present else repo).add_solvable()
        solvable.name = package.name
        solvable.evr = evr
        # One architecture is resolved, and `all` is part of it: libsolv need not know the difference.
        solvable.archid = solv.ARCH_NOARCH
        for provided in (Relation(package.name, None, "=", package.version), *package.provides):
            solvable.add_provides(self.dependency((Relation(provided.name),)))
            if provided.operator:
                solvable.add_provides(self.dependency((provided,)))
        # libsolv finds a package to install by a versioned provision of its plain name.
        solvable.add_provides(self.pool.Dep(package.name).Rel(solv.REL_EQ, self.pool.Dep(evr)))
        for element in self._followed(package):
            solvable.add_requires(self.dependency(element))
        for element in package.conflicts:
            solvable.add_conflicts(self.dependency(element))
        number = int(solvable.id)
        self._packages[number] = package
        if is_present:
            self.kept.add(number)
        return number

    def dependency(self, options: Alternatives) -> int:
        """libsolv's number for "one of these must be there".

        Unversioned dependencies and versioned ones live in two name spaces, `NAME` and `NAME#`: an unversioned
        Provides must not satisfy a versioned dependency (Debian policy 7.5); in libsolv's RPM mode it would.
        """
        combined = self._relation(options[-1])
        for option in reversed(options[:-1]):
            combined = self._relation(option).Rel(solv.REL_OR, combined)
        return int(combined.id)

    def _relation(self, relation: Relation) -> solv.Dep:
        # One architecture is resolved, so `any` and `native` are that one. A dependency that names an architecture
        # names another: the archive never spells out a package's own.
        name = relation.name
        if relation.qualifier not in (None, "any", "native"):
            name = f"{name}:{relation.qualifier}"
        if not relation.operator:
            return self.pool.Dep(name)
        return self.pool.Dep(f"{name}#").Rel(
            _OPERATORS[relation.operator], self.pool.Dep(rank(relation.version))
        )

    def candidates(self, name: str) -> list[int]:
        """The packages that really have this name, the most wanted first."""
        return self._candidates.get(name, [])

    def package(self, number: int) -> Package:
        """What the index says of one."""
        return self._packages[number]

    def name(self, number: int) -> str:
        return self._packages[number].name

    def label(self, number: int) -> str:
        """Name and version, for messages."""
        whose = " of the base image" if number in self.kept else ""
        return f"{self.name(number)} {self.package(number).version}{whose}"

    def resolved(
        self, number: int, group: str, needed_by: Iterable[int], requests: Iterable[_Request]
    ) -> ResolvedDeb:
        package = self.package(number)
        return ResolvedDeb(
            name=package.name,
            version=package.version,
            architecture=package.architecture,
            file=f"mirror://{package.archive}/{package.file}",
            size=package.size,
            sha256=package.sha256,
            group=group,
            source=_source(package),
            needed_by=tuple(sorted({self.name(n) for n in needed_by})),
            requests=tuple((r.group, r.text) for r in requests),
        )

    def _followed(self, package: Package) -> list[Alternatives]:
        dropped = self._not_followed.get(package.name, {})
        return [element for element in package.depends if element[0].name not in dropped]

    def depends(self, number: int) -> list[Alternatives]:
        """The dependencies that are followed."""
        return self._followed(self.package(number))

    def dropped(self, number: int) -> list[tuple[Alternatives, str]]:
        """The dependencies that are not followed, each with the reason."""
        reasons = self._not_followed.get(self.name(number), {})
        return [(e, reasons[e[0].name]) for e in self.package(number).depends if e[0].name in reasons]

    def providers(self, options: Alternatives) -> set[int]:
        return {s.id for s in self.pool.whatprovides(self.dependency(options))}

    def excluded_by(self, number: int) -> set[int]:
        """What can't be beside a package: other versions of it, what it conflicts with and what it breaks."""
        excluded = set(self.candidates(self.name(number)))
        for element in self.package(number).conflicts:
            excluded |= self.providers(element)
        return excluded - {number}

    def options(self, element: Alternatives) -> list[int]:
        """What satisfies a dependency, the most wanted first."""
        if element not in self._options:
            found: dict[int, None] = {}
            for relation in element:
                satisfying = self.providers((relation,))
                real = [n for n in self.candidates(relation.name) if n in satisfying]
                found.update(dict.fromkeys([*real, *sorted(satisfying - set(real), key=self._provider_rank)]))
            self._options[element] = list(found)
        return self._options[element]

    def _provider_rank(self, number: int) -> tuple[int, str, int]:
        priority = self.package(number).priority
        known = _PRIORITIES.index(priority) if priority in _PRIORITIES else len(_PRIORITIES)
        name = self.name(number)
        return known, name, self.candidates(name).index(number)

    def read_requests(self, groups: Mapping[str, Sequence[str]]) -> tuple[list[_Request], list[str]]:
        """The requests, and what is wrong with the others, a line each."""
        requests: list[_Request] = []
        problems: list[str] = []
        for group, texts in groups.items():
            for text in dict.fromkeys(texts):
                match = _REQUEST.fullmatch(text)
                if not match:
                    problems.append(f"{text!r} is not NAME, NAME=VERSION or NAME:ARCHITECTURE")
                elif match["architecture"] not in (None, "all", self.index.architecture):
                    problems.append(
                        f"{text!r}: an image for {self.index.architecture} has no packages for another processor"
                    )
                elif match["name"] in self.present:
                    # Of what is there, that which apt would take, and no other.
                    options = self.candidates(match["name"])[:1]
                    chosen = self.package(options[0]).version
                    if match["version"] not in (None, chosen):
                        problems.append(
                            f"{text!r}: the base image has version {self.present[match['name']].version}, whose place "
                            + (f"{chosen} can take" if options[0] not in self.kept else "no other can take")
                        )
                    requests.append(_Request(group, text, tuple(options), virtual=False))
                elif match["name"] in self._catalogue:
                    options = self.candidates(match["name"])
                    if not options:
                        versions = ", ".join(p.version for p in self._catalogue.versions(match["name"]))
                        problems.append(f"{text!r}: {self._release} has version {versions}")
                    elif match["version"] not in (None, self.package(options[0]).version):
                        problems.append(
                            f"{text!r}: another request names version {self.package(options[0]).version}"
                        )
                    requests.append(_Request(group, text, tuple(options), virtual=False))
                elif providers := self.options((Relation(match["name"]),)):
                    if match["version"]:
                        problems.append(
                            f"{text!r}: {match['name']} is a virtual package, which has no version"
                        )
                    requests.append(_Request(group, text, tuple(providers), virtual=True))
                elif name := successor(match["name"], self._catalogue):
                    if match["version"]:
                        problems.append(
                            f"{text!r}: {self._release} has {name} in its place, without that version"
                        )
                    requests.append(_Request(group, text, tuple(self.candidates(name)), virtual=False))
                else:
                    problems.append(
                        f"{self._release} has no package {match['name']!r}{self._advice(match['name'])}"
                    )
        return requests, problems

    def _advice(self, name: str) -> str:
        if why := why_gone(name):
            return f": {why}"
        near = difflib.get_close_matches(name, self._catalogue.names, n=4, cutoff=0.75)
        return f"; near: {', '.join(near)}" if near else ""

    @property
    def _release(self) -> str:
        return f"Debian {self.index.release}"


class _Walk:
    """Follows dependencies from the requests and chooses as the rules say; it never takes a choice back.

    A choice is made only when nothing else is left to do: what another package needs anyway counts as chosen.
    """

    def __init__(self, archive: _Archive) -> None:
        self._archive = archive
        self.why: dict[int, tuple[str, Alternatives | None]] = {}
        """What was taken: what for, and for which dependency if it wasn't requested."""
        self._excluded: set[int] = set()
        self._pending: list[tuple[int, Alternatives]] = []

    def run(self, requests: Sequence[_Request]) -> None:
        asked = {self._archive.name(number) for request in requests for number in request.options}
        for number in sorted(self._archive.kept):
            # It has what it needs.
            if self._archive.name(number) not in asked:
                self.why[number] = "in the base image", None
                self._excluded |= self._archive.excluded_by(number)
        for request in requests:
            # Whether a virtual name is met is known at the end; one provider is no choice.
            if not request.virtual or self._names(request.options) == 1:
                self._take(request.options[0], "requested", None)
        while True:
            self._take_what_is_forced()
            if not self._pending:
                return
            dependent, element = self._pending.pop(0)
            options = self._possible(element)
            chosen = next((o for o in options if self._is_installable(o)), options[0])
            self._take(chosen, f"chosen for {self._archive.name(dependent)}", element)

    def _take(self, number: int, why: str, element: Alternatives | None) -> None:
        if number in self.why:
            return
        self.why[number] = why, element
        self._excluded |= self._archive.excluded_by(number)
        self._pending += ((number, element) for element in self._archive.depends(number))

    def _take_what_is_forced(self) -> None:
        while True:
            pending, self._pending = self._pending, []
            taken = len(self.why)
            for dependent, element in pending:
                if any(o in self.why for o in self._archive.options(element)):
                    continue
                options = self._possible(element)
                if self._names(options) == 1:
                    self._take(options[0], f"needed by {self._archive.name(dependent)}", element)
                elif options:
                    self._pending.append((dependent, element))
                # Without any option there is no solution, or not this way: libsolv will tell.
            if len(self.why) == taken:
                return

    def _possible(self, element: Alternatives) -> list[int]:
        return [o for o in self._archive.options(element) if o not in self._excluded]

    def _is_installable(self, number: int) -> bool:
        return not any(o in self.why for o in self._archive.excluded_by(number)) and all(
            self._possible(element) for element in self._archive.depends(number)
        )

    def _names(self, options: Iterable[int]) -> int:
        return len({self._archive.name(o) for o in options})


def _solve(archive: _Archive, requests: Sequence[_Request], walked: Iterable[int], where: str) -> set[int]:
    pool = archive.pool
    wanted = [
        pool.Job(
            solv.Job.SOLVER_INSTALL | solv.Job.SOLVER_SOLVABLE_ONE_OF, pool.towhatprovides(list(r.options))
        )
        for r in requests
    ]
    walked = list(walked)
    problems: list[solv.Problem] = []
    # First as the walk went; where that leads nowhere, as near to it as possible.
    for command in (solv.Job.SOLVER_INSTALL, solv.Job.SOLVER_FAVOR):
        solver = pool.Solver()
        solver.set_flag(solv.Solver.SOLVER_FLAG_IGNORE_RECOMMENDED, 1)
        problems = solver.solve(wanted + [pool.Job(command | solv.Job.SOLVER_SOLVABLE, n) for n in walked])
        if not problems:
            done = solver.transaction()
            return {s.id for s in (*done.newsolvables(), *done.keptsolvables())}
    lines = [line for problem in problems for line in _explain(archive, problem)]
    raise ResolveError(
        "no set of Debian packages satisfies all requests:\n"
        + "\n".join(f"- {line}" for line in dict.fromkeys(lines)),
        where=where,
        hint="take away one of the requests that lead to the packages named here, or its version"
        + ("; packages of the base image are replaced by newer ones alone" if archive.kept else ""),
    )


def _explain(archive: _Archive, problem: solv.Problem) -> Iterator[str]:
    """libsolv's proof that there is no solution, a sentence for each step."""
    shown = 0
    for rule in problem.findallproblemrules():
        for info in rule.allinfos():
            if shown < _LISTED and (line := _sentence(archive, info)):
                shown += 1
                yield line


def _sentence(archive: _Archive, info: solv.Ruleinfo) -> str | None:
    here = archive.label(info.solvable.id) if info.solvable else ""
    other = archive.label(info.othersolvable.id) if info.othersolvable else ""
    if info.type == solv.Solver.SOLVER_RULE_PKG_REQUIRES:
        return f"{here} depends on {_written(archive, archive.depends(info.solvable.id), info.dep_id)}"
    if info.type == solv.Solver.SOLVER_RULE_PKG_NOTHING_PROVIDES_DEP:
        return (
            f"{here} depends on {_written(archive, archive.depends(info.solvable.id), info.dep_id)}, "
            "which is not to be had"
        )
    if info.type == solv.Solver.SOLVER_RULE_PKG_CONFLICTS:
        stated = _written(archive, archive.package(info.solvable.id).conflicts, info.dep_id)
        return f"{here} can't be beside {other} (it conflicts with {stated})"
    if info.type == solv.Solver.SOLVER_RULE_PKG_SAME_NAME:
        return f"{here} and {other} can't both be installed"
    return None  # jobs: the request is what the user knows


def _written(archive: _Archive, elements: Iterable[Alternatives], dependency: int) -> str:
    """A dependency as its package states it: libsolv knows only the ranks of versions."""
    return next(
        (_as_text(e) for e in elements if archive.dependency(e) == dependency),
        "another package",
    )


def _as_text(element: Alternatives) -> str:
    return " | ".join(map(str, element))


def _describe(
    archive: _Archive, requests: Sequence[_Request], solution: set[int], walk: _Walk
) -> DebSolution:
    group_of: dict[int, str] = {}
    needed_by: defaultdict[int, set[int]] = defaultdict(set)
    requested: defaultdict[int, list[_Request]] = defaultdict(list)
    for request in requests:
        requested[_first(request.options, solution)].append(request)
    choices: dict[tuple[str, str], Choice] = {}
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
        for choice in _choices(archive, number, group_of, walk):
            # Many packages state the same alternatives: one line says how they were decided.
            key = choice.kind, choice.subject.partition(" depends on ")[2]
            choices.setdefault(key if choice.kind != "dropped" else (choice.kind, choice.subject), choice)
    for request in requests:
        name, asked = archive.name(request.options[0]), _name(request.text)
        if not request.virtual and name != asked:
            choices["renamed", request.text] = Choice(
                "renamed",
                f"{request.text} was requested",
                name,
                f"Debian {archive.index.release} has no {asked}; this one took its place",
            )
        if request.virtual and len(request.options) > 1:
            choices[("virtual", request.text)] = Choice(
                "virtual",
                f"{request.text} was requested",
                archive.name(_first(request.options, solution)),
                "needed anyway",
            )
    return DebSolution(
        sorted(
            (
                archive.resolved(n, g, needed_by[n] - {n}, requested[n])
                for n, g in group_of.items()
                if n not in archive.kept
            ),
            key=lambda d: d.name,
        ),
        sorted(choices.values(), key=lambda c: (c.subject, c.kind)),
    )


def _replaced(archive: _Archive, solution: set[int]) -> dict[int, set[int]]:
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


def _choices(archive: _Archive, number: int, solution: Mapping[int, str], walk: _Walk) -> Iterator[Choice]:
    name = archive.name(number)
    for element, reason in archive.dropped(number):
        if not any(o in solution for o in archive.options(element)):
            yield Choice("dropped", f"{name} depends on {_as_text(element)}", "nothing", reason)
    for element in archive.depends(number):
        options = archive.options(element)
        names = list(dict.fromkeys(map(archive.name, options)))
        chosen = archive.name(_first(options, solution))
        is_alternative = len(element) > 1
        if len(names) < 2 or (not is_alternative and chosen == element[0].name):
            continue
        yield Choice(
            "alternative" if is_alternative else "virtual",
            f"{name} depends on {_as_text(element)}",
            chosen,
            _reason(archive, element, _first(options, solution), walk),
        )


def _reason(archive: _Archive, element: Alternatives, chosen: int, walk: _Walk) -> str:
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


def _ask_for_provider(archive: _Archive, request: _Request) -> str:
    names = list(dict.fromkeys(map(archive.name, request.options)))
    shown = ", ".join(names[:_LISTED]) + (", …" if len(names) > _LISTED else "")
    return f"{request.text!r} is a virtual package, which several provide: {shown}"


def _matches(groups: Mapping[str, Sequence[str]]) -> Iterator[re.Match[str]]:
    for texts in groups.values():
        yield from filter(None, map(_REQUEST.fullmatch, texts))


def _pins(groups: Mapping[str, Sequence[str]]) -> dict[str, str]:
    return {match["name"]: match["version"] for match in _matches(groups) if match["version"]}


def _source(package: Package) -> str:
    # A package leaves out what is as its own (Debian policy 5.6.1); a binary rebuild has only its own version's
    # `+bN`, which no source has (Developer's Reference 5.10.2).
    name, _, version = package.source.partition(" ")
    plain = re.sub(r"\+b\d+$", "", package.version)
    return f"{name or package.name} {version or f'({plain})'}"


def _name(request: str) -> str:
    return re.split("[:=]", request, maxsplit=1)[0]


def _search_hint(index: ReleaseIndex) -> str:
    return f"the names are those of Debian {index.release}, as `apt-cache search` prints them there"
