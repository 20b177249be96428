"""What solves read: mirrors and the indexes behind them, each once, and the pins that are kept."""

from __future__ import annotations

import threading
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypeVar

from tungstenkit.debian.archive import NOTHING
from tungstenkit.debian.index import ReleaseIndex, Trust, fetch_index
from tungstenkit.debian.release import RELEASES
from tungstenkit.debian.solve import DebSolver
from tungstenkit.fetch import web
from tungstenkit.lock.parts import LockedRelease, Platform, Suite
from tungstenkit.resolve.build_rules import read_build_rules
from tungstenkit.resolve.builds import Builds
from tungstenkit.resolve.debs import locked_debs
from tungstenkit.resolve.newest import older
from tungstenkit.resolve.offer import Offer
from tungstenkit.resolve.python_index import PythonIndex
from tungstenkit.resolve.python_packages import Pins, PythonPackages
from tungstenkit.resolve.relocked import Relocked
from tungstenkit.resolve.sources import Sources
from tungstenkit.resolve.unlisted import PinnedFiles, Unlisted
from tungstenkit.resolve.wheels import resolve_wheels
from tungstenkit.sdk.errors import ResolveError, UnusableError
from tungstenkit.spec.requirements import parse

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from tungstenkit.debian.archive import Present
    from tungstenkit.debian.packages import Package
    from tungstenkit.debian.solution import DebSolution
    from tungstenkit.fetch.mirrors import Mirrors
    from tungstenkit.lock.document import Lock
    from tungstenkit.lock.packages import Deb, Wheel
    from tungstenkit.platforms import Target
    from tungstenkit.resolve.pinned import Pinned

_Wanted = TypeVar("_Wanted")
_WHEELS_ALONE = "nothing is built from source in this package set"


@dataclass
class Solver:
    """What a solve reads: mirrors, indexes (each loaded once), and the pins to keep."""

    mirrors: Mirrors
    get: Callable[[str], bytes]
    report: Callable[[str], None]
    """Is told what is being done; a short line."""
    notice: Callable[[str], None]
    """Is told what a person should know when all is done."""
    directory: Path
    """The model's folder."""
    scratch: Path
    """A folder for what is downloaded to be looked at; the caller's to remove."""
    not_before: Mapping[str, datetime] = field(default_factory=dict)
    """For each of Debian's suites the date of the oldest index to be believed."""
    pinned: Pinned | None = None
    """A lock file of another tool, whose versions are kept."""
    unlisted: Unlisted = field(default_factory=Unlisted)
    """Reads the pins that no index lists any more."""
    record: Relocked = field(default_factory=Relocked)
    """Gets what became of pins."""
    _sources: Sources | None = None
    _python_indexes: dict[Mirrors, PythonIndex] = field(default_factory=dict)
    _indexes: dict[tuple[str, str], ReleaseIndex] = field(default_factory=dict)
    _deb_solvers: dict[tuple[str, str], DebSolver] = field(default_factory=dict)
    _inreleases: dict[str, bytes] = field(default_factory=dict)
    _releases: dict[str, threading.RLock] = field(default_factory=dict)
    """Of each Debian release one thread at a time reads."""

    def read_ahead(self, targets: Iterable[Target], projects: Iterable[str]) -> None:
        """Begin to read indexes that will be needed, while something else is waited for; an error is told then.

        projects: those of the Python index.
        """
        by_release: dict[str, list[Target]] = {}
        for target in targets:
            by_release.setdefault(target.release, []).append(target)
        for release in by_release.values():
            _begin(self._deb_solver, release)
        projects = list(projects)
        # Each takes what no other has taken.
        pages = iter(projects)
        for _ in projects[: web.PARALLEL]:
            _begin(self._python_index(self.mirrors).files, pages)

    def index(self, target: Target) -> ReleaseIndex:
        """The package index of a target's Debian release."""
        key = target.release, target.architecture.debian
        with self._releases.setdefault(target.release, threading.RLock()):
            if key not in self._indexes:
                self._indexes[key] = fetch_index(
                    *key,
                    self.mirrors.debian_bases,
                    self._get_once,
                    Trust(self.mirrors.found, not_before=self.not_before),
                )
            return self._indexes[key]

    def _deb_solver(self, target: Target) -> DebSolver:
        key = target.release, target.architecture.debian
        with self._releases.setdefault(target.release, threading.RLock()):
            if key not in self._deb_solvers:
                self._deb_solvers[key] = DebSolver(self.index(target))
            return self._deb_solvers[key]

    def _get_once(self, url: str) -> bytes:
        # The architectures of one lock must stand as one InRelease has them.
        if not url.endswith("/InRelease"):
            return self.get(url)
        if url not in self._inreleases:
            self._inreleases[url] = self.get(url)
        return self._inreleases[url]

    def debs(
        self,
        target: Target,
        groups: Mapping[str, Sequence[str]],
        where: str,
        prefer: Iterable[Deb],
        present: Present = NOTHING,
    ) -> DebSolution:
        """Debian packages of a target's release. present: those that are installed already."""
        if target.release not in RELEASES:
            raise ResolveError(
                f"{_WHEELS_ALONE}: it takes wheels alone",
                where=where,
                hint="ask for a version that has a wheel, or lock with `--package-set debian`",
            )
        if (target.release, target.architecture.debian) not in self._deb_solvers:
            self.report(f"reading Debian {target.release}'s indexes for {target.architecture.debian}")
        # Of one name the last one's word counts.
        pinned = {deb.name: deb for deb in prefer}.values()
        pins = self.unlisted.pins(pinned, target.release)
        solution = self._deb_solver(target).solve(groups, pins, where=where, present=present)
        self.record.tell_debs(target.system, pinned, solution, self.unlisted)
        return solution

    def newest_deb(self, target: Target, name: str) -> Package | None:
        """What the index lists as the newest of a Debian package."""
        return self._deb_solver(target).newest(name)

    def wheels(
        self,
        target: Target,
        requirements: Sequence[str],
        where: str,
        prefer: Iterable[Wheel],
        constraints: Sequence[str] = (),
    ) -> tuple[Wheel, ...]:
        """Wheels for a target's Python, from the Python index alone."""
        pins, index = tuple(prefer), self._python_index(self.mirrors.main_index)
        offer = Offer(index, target)
        offer.pinned = PinnedFiles(pins, self.unlisted, index.main_label)
        wheels = resolve_wheels(requirements, offer, where=where, prefer=pins, constraints=constraints)
        behind = older(offer, wheels, requirements, constraints, pins)
        self.record.tell_wheels(offer, pins, wheels, (*requirements, *constraints), behind)
        return wheels

    def _python_index(self, mirrors: Mirrors) -> PythonIndex:
        """What a machine's indexes, or some of them, have of projects; each page is read once for all solves."""
        new = PythonIndex(mirrors.project_files, web.part, web.save, mirrors.main_label)
        return self._python_indexes.setdefault(mirrors, new)

    def packages(
        self,
        target: Target,
        entries: Sequence[str],
        where: str,
        previous: Platform | None,
        unbuildable: str | None = None,
    ) -> PythonPackages:
        """What a model's `python_packages` ask for, ready to be solved. unbuildable: why no source can be built."""
        try:
            wishes = parse(entries)
        except ValueError as problem:
            raise UnusableError(f"an entry {problem}", where=where) from None
        if self._sources is None:
            self._sources = Sources(
                directory=self.directory,
                folder=self.scratch,
                index=self._python_index(self.mirrors),
                report=self.report,
                rules=read_build_rules(self.directory),
            )
        builds = Builds(
            self._sources,
            target,
            debs=lambda groups, whose, prefer: locked_debs(self.debs(target, groups, whose, prefer)),
            previous=previous.sources if previous else (),
            unbuildable=unbuildable if target.release in RELEASES else _WHEELS_ALONE,
            unlisted=self.unlisted,
            record=self.record,
        )
        pins = Pins(previous, self.pinned, self.unlisted, self.record)
        return PythonPackages(wishes, target, self._sources, builds, pins, where=where)

    @property
    def releases(self) -> dict[str, LockedRelease]:
        """What was read, for the lock."""
        suites: dict[str, list[Suite]] = {}
        timestamps: dict[str, dict[str, str]] = {}
        for (name, architecture), index in sorted(self._indexes.items()):
            suites.setdefault(name, []).extend(
                Suite(
                    archive=suite.archive,  # type: ignore[arg-type] # one of ARCHIVES
                    suite=suite.suite,
                    architecture=architecture,
                    date=f"{suite.date:%Y-%m-%dT%H:%M:%SZ}",
                    packages_sha256=suite.packages_sha256,
                )
                for suite in index.suites
            )
            # The same for every architecture: the dates are the InReleases'.
            timestamps[name] = index.timestamps
        return {
            name: LockedRelease(suites=tuple(suites[name]), timestamps=timestamps[name]) for name in suites
        }


def dates_of(lock: Lock | None) -> dict[str, datetime]:
    """The dates of Debian's indexes that a lock was made of, by suite."""
    suites = [suite for release in lock.releases.values() for suite in release.suites] if lock else []
    found: dict[str, datetime] = {}
    for suite in suites:
        date = datetime.strptime(suite.date, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
        found[suite.suite] = max(date, found.get(suite.suite, date))
    return found


def _begin(read: Callable[[_Wanted], object], wanted: Iterable[_Wanted]) -> None:
    """Read one after the other in a thread, for which nobody waits, and the program's end does not."""

    def run() -> None:
        # Whatever it is, it comes again where the index is needed.
        with suppress(Exception):
            for one in wanted:
                read(one)

    threading.Thread(target=run, daemon=True).start()
