"""What a solve may choose from: of one release's packages those that its requests can reach, in libsolv's numbers.

Which of a package's versions are candidates, in which order what satisfies a dependency is wanted, and what a request
means, is said here.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING

import solv

from tungstenkit.at_once import at_once
from tungstenkit.debian.control import Alternatives, Relation
from tungstenkit.debian.former_names import successor, why_gone
from tungstenkit.debian.packages import PackagesFile
from tungstenkit.debian.version import order, rank

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from tungstenkit.debian.index import ReleaseIndex
    from tungstenkit.debian.packages import Package

REQUEST = re.compile(
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
_PARALLEL = 8  # files that are read at a time


@dataclass(frozen=True)
class Present:
    """Packages that are installed already, by name: they stay, and nothing takes them away but a newer version."""

    packages: Mapping[str, Package]
    held: frozenset[str] = frozenset()
    """Those that somebody wants as they are."""


NOTHING = Present(MappingProxyType({}))


def _unread() -> None:
    return None


@dataclass(frozen=True)
class Pin:
    """A version of an earlier lock, which stays where it can, whether an index lists it still or not."""

    version: str
    needed_by: tuple[str, ...] = ()
    """Packages that needed it then."""
    read: Callable[[], Package | None] = _unread
    """Reads its control data from its file, where no index lists it; None where that can't be. From any thread."""


@dataclass(frozen=True)
class Wanted:
    """What decides which versions are candidates: the requests' names, and versions by name."""

    names: frozenset[str]
    exact: Mapping[str, str]
    """Those that a request names."""
    pins: Mapping[str, Pin]
    present: Present


@dataclass(frozen=True)
class Request:
    """What is asked for by a name, and what may be taken for it, the most wanted first."""

    group: str
    text: str
    options: tuple[int, ...]
    virtual: bool


class Catalogue:
    """All packages of an index, by name; `in` says whether there is one."""

    def __init__(self, index: ReleaseIndex) -> None:
        self.index = index
        self._files = [PackagesFile(suite.packages, suite.places, suite.archive) for suite in index.suites]
        self._versions: dict[str, list[Package]] = {}

    def __contains__(self, name: object) -> bool:
        return any(name in file for file in self._files)

    @property
    def names(self) -> set[str]:
        """All packages' names."""
        return {name for file in self._files for name in file.names()}

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


class Archive:
    """The packages that a solve may choose from, as libsolv's numbers: what its requests can reach."""

    def __init__(
        self,
        catalogue: Catalogue,
        not_followed: Mapping[str, Mapping[str, str]],
        wanted: Wanted,
    ) -> None:
        """Of a name's versions, the candidates are the one that a request names, or else the pinned one and the
        highest; of what is present, that and what is newer. A pin's file is read where no index lists it.
        """
        self.index, self._catalogue = catalogue.index, catalogue
        self.pool = solv.Pool()
        self._not_followed = not_followed
        self._options: dict[Alternatives, list[int]] = {}
        self._candidates: dict[str, list[int]] = {}
        self._packages: dict[int, Package] = {}
        self.present = wanted.present.packages
        self.pins, self.exact = wanted.pins, wanted.exact
        self._wanted = wanted
        self._unlisted: dict[str, Package] = {}
        self._tried: set[str] = set()
        self.kept: set[int] = set()
        """Those that are present."""
        repo = self.pool.add_repo("packages")
        self.pool.installed = self.pool.add_repo("present")
        # In an order that no earlier solve and no other request has a part in: libsolv's search may depend on it.
        reached = self._reached()
        while self._read_pins(reached.keys()):
            reached = self._reached()
        for name, versions in sorted(reached.items()):
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
            for real in {
                name,
                *self._catalogue.providers(name),
                *self._unlisted_providers(name),
            } - found.keys():
                found[real] = self._versions(real)
                for package in found[real]:
                    pending += (r.name for element in self._followed(package) for r in element)
        return found

    def _read_pins(self, reached: Iterable[str]) -> bool:
        """Read the pins that no index lists, of packages that were reached or that those needed; whether any was."""
        names = {*reached}
        wanted = [
            name
            for name, pin in self.pins.items()
            if name not in self._tried and (name in names or not names.isdisjoint(pin.needed_by))
        ]
        self._tried.update(wanted)
        gone = [name for name in wanted if self._is_gone(name)]
        if not gone:
            return False
        read = at_once(lambda name: self.pins[name].read(), gone, _PARALLEL)
        found = {name: package for name, package in zip(gone, read, strict=True) if package is not None}
        for name, package in found.items():
            # An archive may rank a package otherwise than its file does (Debian's override files).
            listed = self._catalogue.versions(name)[:1]
            self._unlisted[name] = replace(package, priority=listed[0].priority) if listed else package
        return bool(found)

    def _is_gone(self, name: str) -> bool:
        """Whether a pin could be a candidate, and no index lists it."""
        version = self.pins[name].version
        listed = (one.version for one in self._catalogue.versions(name))
        return self.exact.get(name, version) == version and version not in listed

    def _unlisted_providers(self, name: str) -> set[str]:
        found = self._unlisted.values()
        return {package.name for package in found if any(one.name == name for one in package.provides)}

    def _all_versions(self, name: str) -> list[Package]:
        """Every version of a package that can be had, the highest first."""
        listed = self._catalogue.versions(name)
        if name not in self._unlisted:
            return listed
        every = [*listed, self._unlisted[name]]
        return sorted(every, key=lambda package: order(package.version), reverse=True)

    def _versions(self, name: str) -> list[Package]:
        """The candidates of one name, the most wanted first."""
        versions, there = self._all_versions(name), self.present.get(name)
        if there is not None:
            is_held = name in self._wanted.present.held
            newer = order(there.version)
            versions = [p for p in versions if not is_held and order(p.version) > newer]
        if name in self.exact:
            chosen = [p for p in versions if p.version == self.exact[name]][:1]
        else:
            pinned = self.pins[name].version if name in self.pins else None
            preferred = [p for p in versions if p.version == pinned][:1]
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

    def newer(self, number: int) -> str | None:
        """The version of the newest of a package's name, where that is newer than it."""
        package = self.package(number)
        listed = self._catalogue.versions(package.name)[:1]
        is_newer = listed and order(listed[0].version) > order(package.version)
        return listed[0].version if is_newer else None

    def candidates(self, name: str) -> list[int]:
        """The packages that really have this name, the most wanted first."""
        return self._candidates.get(name, [])

    def package(self, number: int) -> Package:
        """What the index says of one."""
        return self._packages[number]

    def name(self, number: int) -> str:
        """The name of one."""
        return self._packages[number].name

    def label(self, number: int) -> str:
        """Name and version, for messages."""
        whose = " of the base image" if number in self.kept else ""
        return f"{self.name(number)} {self.package(number).version}{whose}"

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
        """All that satisfies one of some relations."""
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

    def read_requests(self, groups: Mapping[str, Sequence[str]]) -> tuple[list[Request], list[str]]:
        """The requests, and what is wrong with the others, a line each."""
        requests: list[Request] = []
        problems: list[str] = []
        for group, texts in groups.items():
            for text in dict.fromkeys(texts):
                match = REQUEST.fullmatch(text)
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
                    requests.append(Request(group, text, tuple(options), virtual=False))
                elif match["name"] in self._catalogue or match["name"] in self._unlisted:
                    options = self.candidates(match["name"])
                    if not options:
                        versions = ", ".join(p.version for p in self._all_versions(match["name"]))
                        problems.append(f"{text!r}: {self._release} has version {versions}")
                    elif match["version"] not in (None, self.package(options[0]).version):
                        problems.append(
                            f"{text!r}: another request names version {self.package(options[0]).version}"
                        )
                    requests.append(Request(group, text, tuple(options), virtual=False))
                elif providers := self.options((Relation(match["name"]),)):
                    if match["version"]:
                        problems.append(
                            f"{text!r}: {match['name']} is a virtual package, which has no version"
                        )
                    requests.append(Request(group, text, tuple(providers), virtual=True))
                elif name := successor(match["name"], self._catalogue):
                    if match["version"]:
                        problems.append(
                            f"{text!r}: {self._release} has {name} in its place, without that version"
                        )
                    requests.append(Request(group, text, tuple(self.candidates(name)), virtual=False))
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
