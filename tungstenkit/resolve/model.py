"""From a spec to a resolved lock: Python, Debian packages and wheels chosen together, each choice with its
reason.

A Python version stands for a Debian release, so the release is chosen by the first Python whose whole solve
succeeds, on every platform. Only indexes and metadata are read here. Pins of the previous lock are kept where
they still fit; for what all models share (the tools, the server) the pins that came with tungsten come first, so
that models share those layers.
"""

from __future__ import annotations

import json
import re
import sys
import threading
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from importlib import resources
from types import MappingProxyType
from typing import TYPE_CHECKING

from packaging.specifiers import SpecifierSet
from packaging.version import Version

from tungstenkit.data import OWN_WHEELS
from tungstenkit.debian.archive import NOTHING
from tungstenkit.debian.index import ReleaseIndex, Trust, fetch_index
from tungstenkit.debian.release import RELEASES
from tungstenkit.debian.solve import DebSolver
from tungstenkit.document import Document
from tungstenkit.fetch import web
from tungstenkit.lock.document import Lock
from tungstenkit.lock.packages import WISH, Deb, Wheel
from tungstenkit.lock.parts import (
    OF_VERSIONS,
    AddedDebs,
    Busybox,
    Choice,
    Platform,
    PythonRoot,
    Release,
    ServerEnvironment,
    Suite,
    Tools,
)
from tungstenkit.lock.stale import input_digest, made_from
from tungstenkit.platforms import ARCHITECTURES, Target, this_system
from tungstenkit.resolve.base import (
    check_sources,
    choices_on,
    groups_on,
    libc_version,
    pythons_on,
    why_nothing_is_built,
    with_packages,
)
from tungstenkit.resolve.base_debs import check_installable, told_of
from tungstenkit.resolve.build_rules import read_build_rules
from tungstenkit.resolve.builds import Builds
from tungstenkit.resolve.cuda import nearest_working
from tungstenkit.resolve.cuda_table import have_own_builds
from tungstenkit.resolve.libraries import packages as packages_of
from tungstenkit.resolve.python_index import PythonIndex
from tungstenkit.resolve.python_packages import Pins, PythonPackages, solve_python, whose
from tungstenkit.resolve.rules import ESSENTIAL, base_packages, tool_programs
from tungstenkit.resolve.sources import Sources
from tungstenkit.resolve.view import View
from tungstenkit.resolve.wheels import resolve_wheels
from tungstenkit.sdk.errors import CudaError, NothingFitsError, ResolveError, UnusableError
from tungstenkit.spec.commands import Commands
from tungstenkit.spec.requirements import parse, project_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from tungstenkit.debian.archive import Present
    from tungstenkit.debian.solution import DebSolution
    from tungstenkit.fetch.mirrors import Mirrors
    from tungstenkit.resolve.base import Base
    from tungstenkit.resolve.pinned import Pinned
    from tungstenkit.spec.document import ModelSpec

_WHEELS_ALONE = "nothing is built from source in this package set"
_SHORT = 200  # letters of an explanation, where it is not the subject

_TOOLS = "the tools that builds run"
(_TOOLS_RELEASE,) = (name for name, release in RELEASES.items() if release.makes_layers)
_BASH, _BUSYBOX = "bash-static", "busybox-static"
_RELEASE_OF = {release.python: name for name, release in RELEASES.items()}
_FINAL = {release.python: name for name, release in RELEASES.items() if release.is_final}
_NEWEST_FIRST = sorted(_FINAL, key=Version, reverse=True)
_OFFICIAL = [f"3.{minor}" for minor in range(9, 15)]
"""The Pythons whose own images, `python:3.12-slim`, a model can stand on."""

_UNMADE = {
    "libgvc6": (
        "the list of graphviz's plugins, without which dot writes no format",
        "libgvc6-config-update -c",
    ),
    "locales": ("locales other than C.UTF-8", "localedef -i en_US -f UTF-8 en_US.UTF-8"),
    "r-base-core": ("R's Renviron", "cp /usr/lib/R/etc/Renviron.ucf /etc/R/Renviron"),
}
"""What packages' scripts would make and nothing here does, and the command that does: of packages that are of little
use without."""


_DEB_CHOICES = ("alternative", "virtual", "dropped", "renamed", "essential")
"""The kinds of choices that a solve of Debian packages makes."""


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
    _sources: Sources | None = None
    _python_indexes: dict[Mirrors, PythonIndex] = field(default_factory=dict)
    _indexes: dict[tuple[str, str], ReleaseIndex] = field(default_factory=dict)
    _deb_solvers: dict[tuple[str, str], DebSolver] = field(default_factory=dict)
    _inreleases: dict[str, bytes] = field(default_factory=dict)
    _releases: dict[str, threading.RLock] = field(default_factory=dict)
    """Of each Debian release one thread at a time reads."""

    def read_ahead(self, targets: Iterable[Target]) -> None:
        """Begin to read indexes that will be needed, while something else is waited for; an error is told then."""

        def read(release: list[Target]) -> None:
            # Whatever it is, it comes again where the index is needed.
            with suppress(Exception):
                for target in release:
                    self._deb_solver(target)

        by_release: dict[str, list[Target]] = {}
        for target in targets:
            by_release.setdefault(target.release, []).append(target)
        for release in by_release.values():
            # Nobody waits for one that is not needed after all, nor does the end of the program.
            threading.Thread(target=read, args=(release,), daemon=True).start()

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
        versions = {deb.name: deb.version for deb in prefer}
        return self._deb_solver(target).solve(groups, versions, where=where, present=present)

    def wheels(
        self,
        target: Target,
        requirements: Sequence[str],
        where: str,
        prefer: Iterable[Wheel],
        constraints: Sequence[str] = (),
    ) -> tuple[Wheel, ...]:
        """Wheels for a target's Python, from the Python index alone."""
        view = View(self._python_index(self.mirrors.main_index), target)
        return resolve_wheels(requirements, view, where=where, prefer=prefer, constraints=constraints)

    def _python_index(self, mirrors: Mirrors) -> PythonIndex:
        """What a machine's indexes, or some of them, have of projects; each page is read once for all solves."""
        if mirrors not in self._python_indexes:
            self._python_indexes[mirrors] = PythonIndex(
                mirrors.project_files, web.part, web.save, mirrors.main_label
            )
        return self._python_indexes[mirrors]

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
            debs=lambda groups, whose, prefer: _debs(self.debs(target, groups, whose, prefer)),
            previous=previous.sources if previous else (),
            unbuildable=unbuildable if target.release in RELEASES else _WHEELS_ALONE,
        )
        pins = Pins(previous, self.pinned)
        return PythonPackages(wishes, target, self._sources, builds, pins, where=where)

    @property
    def releases(self) -> dict[str, Release]:
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
        return {name: Release(suites=tuple(suites[name]), timestamps=timestamps[name]) for name in suites}


def dates_of(lock: Lock | None) -> dict[str, datetime]:
    """The dates of Debian's indexes that a lock was made of, by suite."""
    suites = [suite for release in lock.releases.values() for suite in release.suites] if lock else []
    found: dict[str, datetime] = {}
    for suite in suites:
        date = datetime.strptime(suite.date, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
        found[suite.suite] = max(date, found.get(suite.suite, date))
    return found


def resolve(
    spec: ModelSpec,
    solver: Solver,
    previous: Lock | None,
    package_set: str = "debian",
    *,
    systems: Iterable[str] = (),
    python: str | None = None,
    base_of: Callable[[str], Base] | None = None,
) -> Lock:
    """A resolved lock, not sealed yet.

    systems: the platforms to lock (default: those of the previous lock, else this machine's).
    python: a Python version that goes before the one that the spec asks for.
    base_of: reads the model's base image for a platform; None where it names none.

    Raises ResolveError where nothing fits, FetchError where an index can't be had, UnusableError where it can't be
    believed.
    """
    if package_set != "debian":
        raise ResolveError(f"there is no package set {package_set!r}", hint="there are debian, nixpkgs")
    systems = chosen_systems(systems, previous)
    bases = {system: base_of(system) for system in systems} if base_of is not None else {}
    search = _Search(spec, solver, previous, systems, bases, python)
    newest = RELEASES[_TOOLS_RELEASE].python
    first = newest if bases else next(iter(_candidates(spec, previous, python)))
    solver.read_ahead(
        _target(system, version) for version in dict.fromkeys((first, newest)) for system in systems
    )
    solved = _resolve_python(search)
    for notice in solved.notices:
        solver.notice(notice)
    targets = {system: search.target(system, solved.python) for system in systems}
    # An image may be built by any platform that locked it, or that it is for.
    builders = {*systems, *(previous.tools if previous else ()), this_system()} & set(ARCHITECTURES)
    server = {system: resolve_server(target, solver, previous) for system, target in targets.items()}
    # Of a Python that Debian has not, nothing can be compiled; what makes layers is there all the same.
    is_debians = all(target.release == _RELEASE_OF.get(solved.python) for target in targets.values())
    compiled = solved.python if is_debians else RELEASES[_TOOLS_RELEASE].python
    programs = tool_programs(base.image for base in bases.values())
    tools = {
        system: _resolve_tools(_target(system, compiled), solver, previous, programs)
        for system in sorted(builders)
    }
    used = {_TOOLS_RELEASE, *(target.release for target in targets.values())}
    used |= {platform.added.release for platform in solved.platforms.values() if platform.added}
    return Lock(
        package_set="debian",
        inputs=made_from(spec, package_set),
        input_digest=input_digest(spec, package_set),
        sealed=False,
        choices=tuple(solved.choices),
        # Not those of candidates that failed.
        releases={name: release for name, release in solver.releases.items() if name in used},
        platforms=dict(solved.platforms),
        server=server,
        tools=tools,
    )


def _target(system: str, python: str, base: Base | None = None) -> Target:
    libc = base.image.libc if base and base.image.python else None
    # A base image may have a Python that no final release has; builds run the tools then, and nothing else of Debian.
    known = _FINAL if base and base.image.python else _RELEASE_OF
    return Target(system, known.get(python, _TOOLS_RELEASE), python, libc_version(libc) if libc else None)


def chosen_systems(asked: Iterable[str], previous: Lock | None) -> list[str]:
    """The platforms to lock: those asked for, else the lock's, else this machine's; ResolveError as `resolve`."""
    systems = sorted({*asked} or (previous.platforms if previous else {this_system()}))
    if unknown := [system for system in systems if system not in ARCHITECTURES]:
        raise ResolveError(
            f"no image can be made for {', '.join(unknown)}",
            where="--platform",
            hint=f"there are {', '.join(ARCHITECTURES)}",
        )
    return systems


@dataclass(frozen=True)
class _Search:
    """A search for the Python that everything fits on."""

    spec: ModelSpec
    solver: Solver
    previous: Lock | None
    systems: Sequence[str]
    bases: Mapping[str, Base]
    """By system the model's base image; empty where it names none."""
    override: str | None
    """A Python version that goes before the one that the spec asks for."""

    def target(self, system: str, python: str) -> Target:
        """What is solved for."""
        return _target(system, python, self.bases.get(system))

    def candidates(self) -> dict[str, str]:
        """The Pythons to try, in order, each with the reason for its place."""

        def debians() -> dict[str, str]:
            return _candidates(self.spec, self.previous, self.override)

        found = pythons_on(self.bases, debians) if self.bases else debians()
        if self.solver.pinned is None:
            return found
        # What it is for comes first, and nothing is left out.
        wanted = self.solver.pinned.file.requires_python
        return dict(sorted(found.items(), key=lambda one: not wanted.contains(f"{one[0]}.99")))


@dataclass(frozen=True)
class _Solved:
    """What was chosen for one Python, on all platforms."""

    python: str
    platforms: Mapping[str, Platform]
    choices: Sequence[Choice]
    notices: Sequence[str]


def _resolve_python(search: _Search) -> _Solved:
    """The first candidate whose whole solve succeeds. Raises ResolveError that says of each why it failed."""
    failures: dict[str, ResolveError] = {}
    for python, reason in search.candidates().items():
        found = _attempt(search, python)
        if isinstance(found, _Solved):
            return _with_reasons(search, found, reason, failures)
        failures[python] = found
    if search.spec.cuda_version is not None:
        _refuse_cuda(search, failures)
    raise _refusal(search, failures) from None


def _attempt(search: _Search, python: str) -> _Solved | ResolveError:
    """Solve for a Python on every platform; why nothing fits, where nothing does."""
    platforms: dict[str, Platform] = {}
    choices: dict[tuple[str, str], Choice] = {}
    told: dict[str, list[str]] = {}
    for system in search.systems:
        target = search.target(system, python)
        search.solver.report(f"solving for Python {python} on Debian {target.release}, {system}")
        try:
            platforms[system], made, said = _resolve_platform(
                search.spec, target, search.solver, search.previous, search.bases.get(system)
            )
        except ResolveError as problem:
            return problem.at(system) if len(search.systems) > 1 else problem
        for notice in said:
            told.setdefault(notice, []).append(system)
        for choice in made:
            add_choice(choices, choice, system)
    notices = [
        notice if len(where) == len(search.systems) else f"{', '.join(where)}: {notice}"
        for notice, where in told.items()
    ]
    return _Solved(python, platforms, tuple(choices.values()), notices)


def _with_reasons(
    search: _Search, found: _Solved, reason: str, failures: Mapping[str, ResolveError]
) -> _Solved:
    """What was found, with why it is this Python, and what a person should know of its release.

    reason: for its place among the candidates. failures: of those before it.
    """
    python = found.python
    failed = "".join(
        f"; Python {version} failed: {_in_short(problem)}" for version, problem in failures.items()
    )
    choice = Choice(
        kind="python",
        subject="the Python version, and with it the Debian release",
        chosen=f"{python} on {'the base image' if search.bases else _RELEASE_OF[python]}",
        reason=reason + failed,
    )
    kept = keep_reasons([choice, *found.choices], search.spec, search.previous)
    release = RELEASES[search.target(search.systems[0], python).release]
    notices = []
    if release.supported_until is None:
        notices.append(
            f"Python {python} is that of Debian {release.codename}, which is not final: its files are superseded "
            "within days, and this lock's are gone from the mirrors then. `tungsten fetch --to FOLDER` keeps all "
            "that a build takes, and `tungsten fetch --from FOLDER` takes it"
        )
    elif search.solver.mirrors.found.date() > release.supported_until:
        notices.append(
            f"Python {python} is that of Debian {release.codename}, which has had no security updates since "
            f"{release.supported_until}"
        )
    return replace(found, choices=tuple(kept), notices=(*notices, *found.notices))


def _refusal(search: _Search, failures: Mapping[str, ResolveError]) -> ResolveError:
    """The error for a search that has found nothing: the first's, and what else was said where that is another."""
    first, *others = failures.values()
    if not search.bases and (more := _other_pythons(search, failures)):
        first = first.with_hint(more)
    if any(str(other) != str(first) for other in others):
        what = "\n".join(f"with Python {python}: {problem.what}" for python, problem in failures.items())
        return ResolveError(what, where=first.where, hint=first.hint)
    return first


def _other_pythons(search: _Search, failures: Mapping[str, ResolveError]) -> str:
    """What to write for a Python that each failure says would do, and that is not taken unasked; empty for none."""
    if search.spec.python_version is not None or search.override is not None:
        return ""
    for python in sorted({*_OFFICIAL} - failures.keys(), key=Version, reverse=True):
        if all(
            isinstance(problem, NothingFitsError) and _would_do(python, failed, problem.explanation)
            for failed, problem in failures.items()
        ):
            if python in _RELEASE_OF:
                return f"python_version='{python}' takes Debian {_RELEASE_OF[python]}, which is not final"
            return f"base_image='python:{python}-slim' has Python {python}"
    return ""


def _would_do(python: str, failed: str, explanation: str) -> bool:
    """Whether uv says that something is for a Python, and not for the one that failed: by a range, or a wheel's tag."""
    texts = re.findall(r"Python ?((?:[<>]=?\d[\d.]*(?:, *)?)+)", explanation)
    ranges = [SpecifierSet(text.rstrip(", ")) for text in texts]
    tags = {f"{major}.{minor}" for major, minor in re.findall(r"`cp(\d)(\d+)`", explanation)}
    return python in tags or any(
        one.contains(f"{python}.99") and not one.contains(f"{failed}.99") for one in ranges
    )


def keep_reasons(
    choices: Iterable[Choice], spec: ModelSpec, previous: Lock | None, package_set: str = "debian"
) -> Iterator[Choice]:
    """What was chosen before and is chosen again keeps its reason: that there was a pin is none."""
    before = {(c.kind, c.subject, c.chosen): c for c in previous.choices} if previous else {}
    is_same = previous is not None and previous.input_digest == input_digest(spec, package_set)
    pins: set[tuple[str, str]] = set()
    for platform in previous.platforms.values() if previous else ():
        pins |= {(wheel.project, wheel.version) for wheel in platform.wheels}
        pins |= {(source.project, source.version) for source in platform.sources}
    for choice in choices:
        known = before.get((choice.kind, choice.subject, choice.chosen))
        # A pin is not told of for what has come out since.
        if (
            known is None
            and choice.kind in OF_VERSIONS
            and (project_of(choice.subject), choice.chosen) in pins
        ):
            continue
        yield known if known is not None and is_same else choice


def _refuse_cuda(search: _Search, failures: Mapping[str, ResolveError]) -> None:
    """ResolveError where it is the CUDA version that nothing fits, with the nearest that something does."""
    spec, solver, systems = search.spec, search.solver, search.systems
    for problem in failures.values():
        if isinstance(problem, CudaError):
            raise problem from None

    def works(version: str | None) -> str | None:
        for python in failures:
            try:
                found = [
                    solve_python(
                        spec,
                        solver.packages(
                            _target(system, python), spec.python_packages, "python_packages", None
                        ),
                        version,
                    ).cuda
                    for system in systems
                ]
            except ResolveError:
                continue
            return next((cuda.version for cuda in found if cuda), None)
        return None

    solver.report(f"nothing fits CUDA {spec.cuda_version}: looking for the nearest version that works")
    working = nearest_working(str(spec.cuda_version), works) or [free for free in [works(None)] if free]
    if not working:
        # It is not CUDA's fault.
        return
    # uv's explanation is of our constraints; what else was said is of use.
    said = [
        f"\n- on Python {python}: {_in_short(problem)}"
        for python, problem in failures.items()
        if not isinstance(problem, NothingFitsError)
    ]
    raise ResolveError(
        f"no releases of python_packages fit CUDA {spec.cuda_version}, on Python {', '.join(failures)}"
        + "".join(said),
        where="cuda_version",
        hint=f"these work: {', '.join(working)}" + _own_builds(spec),
    )


def _own_builds(spec: ModelSpec) -> str:
    names = ", ".join(have_own_builds(spec.python_packages))
    index = f"an index of {names} built for CUDA {spec.cuda_version}"
    return f"; or name {index}, by --extra-index-url in python_packages" if names else ""


def _in_short(problem: ResolveError) -> str:
    """The first sentence of an explanation that may have fifty."""
    text = problem.what
    if isinstance(problem, NothingFitsError):
        # uv's own words: what it did, and the cause that it found.
        text = problem.explanation.partition("cause: ")[2] or text
    first = re.sub(r"\s+", " ", text)
    return first if len(first) <= _SHORT else first[:_SHORT].rpartition(" ")[0] + " …"


def add_choice(choices: dict[tuple[str, str], Choice], choice: Choice, system: str) -> None:
    """Add a choice that a platform made: one line where it is every platform's."""
    known = choices.setdefault((choice.kind, choice.subject), choice)
    if known != choice:
        subject = f"{choice.subject} on {system}"
        choices[choice.kind, subject] = choice.model_copy(update={"subject": subject})


def _candidates(spec: ModelSpec, previous: Lock | None, override: str | None) -> dict[str, str]:
    """Python versions to try, in order, each with the reason for its place."""
    if override is not None:
        # As the spec has it: the patch version is Debian's.
        return _fitting(".".join(override.split(".")[:2]), "--python")
    kept = {}
    if previous is not None:
        # With the reason that it was chosen for: relocking alone changes nothing.
        reasons = (choice.reason for choice in previous.choices if choice.kind == "python")
        # One Python for all platforms.
        (python,) = {platform.python for platform in previous.platforms.values()}
        kept[python] = next(reasons, "kept from the lock before")
    if spec.python_version is not None:
        fitting = _fitting(spec.python_version, "python_version")
        # What `--python` chose stands until the model asks for something else.
        asks_the_same = previous is not None and previous.input_digest == input_digest(spec, "debian")
        kept = {python: why for python, why in kept.items() if python in fitting or asks_the_same}
        return kept | {python: why for python, why in fitting.items() if python not in kept}
    here = f"{sys.version_info.major}.{sys.version_info.minor}"
    if here in _FINAL:
        kept.setdefault(here, "the Python that made the lock")
    for python in _NEWEST_FIRST:
        kept.setdefault(python, "the newest that fits")
    return kept


def _fitting(asked: str, where: str) -> dict[str, str]:
    """The Pythons that a version, `3` or `3.11`, allows."""
    fitting = [python for python in _NEWEST_FIRST if f"{python}.".startswith(f"{asked}.")]
    if asked in _RELEASE_OF:
        fitting = [asked]
    if not fitting:
        available = ", ".join(f"{python} ({name})" for python, name in _RELEASE_OF.items())
        other = f"a base_image may have another, and so has `--package-set nixpkgs`; Debian has {available}"
        if asked in _OFFICIAL:
            other = (
                f"Python's own image has it: write base_image='python:{asked}-slim' in define_model. Debian has "
                f"{available}; `--package-set nixpkgs` has others, too"
            )
        raise ResolveError(
            f"Python {asked} is in no Debian release that images are made of", where=where, hint=other
        )
    return dict.fromkeys(fitting, f"{where}={asked!r}")


def _resolve_platform(
    spec: ModelSpec, target: Target, solver: Solver, previous: Lock | None, base: Base | None
) -> tuple[Platform, list[Choice], list[str]]:
    pinned = previous.platforms.get(target.system) if previous else None
    unbuildable = why_nothing_is_built(base, target)
    packages = solver.packages(target, spec.python_packages, "python_packages", pinned, unbuildable)
    python = solve_python(spec, packages, spec.cuda_version)
    wheels, sources, reasons = packages.split(whose(wheel, packages.written) for wheel in python.wheels)
    old = pinned.debs if pinned and pinned.release == target.release else ()
    image = None
    if base is None:
        debs, choices = _resolve_debs(spec, target, solver, old)
    else:
        check_sources(base, target, sources)
        debs = _debs_on(base, target, solver, old)
        versions = {wheel.project: wheel.version for wheel in wheels}
        versions |= {source.project: source.version for source in sources}
        # The SDK is in every image; it has no version that a lock knows.
        image = with_packages(base, versions | {OWN_WHEELS["sdk"]["name"]: ""})
        added, made = _debs_in(spec, base, target, solver, pinned)
        image = image.model_copy(update={"added": added})
        choices = [*choices_on(base, target, versions), *made]
    platform = Platform(
        release=target.release,
        python=target.python,
        cuda=python.cuda,
        debs=debs,
        wheels=wheels,
        sources=sources,
        base_image=image,
    )
    return platform, [*python.choices, *reasons, *choices], python.notices


def _resolve_debs(
    spec: ModelSpec, target: Target, solver: Solver, pinned: Iterable[Deb], libraries: Sequence[Choice] = ()
) -> tuple[tuple[Deb, ...], list[Choice]]:
    """An image's Debian packages.

    libraries: choices of packages that nobody asked for by name, but for what is in them.
    """
    commands = spec.commands or Commands()
    # A RUN, too, uses what every Debian has.
    essential = ESSENTIAL if spec.system_packages or commands.packages or commands.runs_programs else ()
    groups = {
        "base": base_packages(has_old_zones_apart=RELEASES[target.release].has_old_zones_apart),
        "python": [f"python{target.python}"],
        "system": [*spec.system_packages, *commands.packages, *essential, *packages_of(libraries)],
    }
    asked = ["system_packages", *(["dockerfile_commands"] if commands.packages else [])]
    where = " and ".join([*asked, *(["[tool.tungsten.libraries]"] if libraries else [])])
    solution = solver.debs(target, groups, where, pinned)
    wishes = packages_of(libraries)
    wishes |= {name: f"essential: {name}" for name in essential}
    wishes |= {text: f"dockerfile_commands: {text}" for text in commands.packages}
    wishes |= {text: f"system_packages: {text}" for text in spec.system_packages}
    choices = _locked_choices(solution)
    if essential:
        choices.append(
            Choice(
                kind="essential",
                subject="system_packages" if spec.system_packages else "dockerfile_commands",
                chosen=", ".join(essential),
                reason="packages use essential ones without naming them (Debian policy, 3.8)",
            )
        )
    debs = _debs(solution, wishes)
    _tell_unmade(debs, spec, solver)
    return debs, choices


def _tell_unmade(debs: Iterable[Deb], spec: ModelSpec, solver: Solver) -> None:
    for deb in debs:
        what, command = _UNMADE.get(deb.name, ("", ""))
        if command and not any(command.split()[0] in line for line in spec.dockerfile_commands):
            solver.notice(f"{deb.name}: {what} is made by no script here; to have it: RUN {command}")


def _locked_choices(solution: DebSolution) -> list[Choice]:
    return [
        Choice(kind=choice.kind, subject=choice.subject, chosen=choice.chosen, reason=choice.reason)
        for choice in solution.choices
    ]


def _debs_in(
    spec: ModelSpec, base: Base, target: Target, solver: Solver, previous: Platform | None
) -> tuple[AddedDebs | None, list[Choice]]:
    """What a RUN of apt installs into a base image, from the archive of its own release."""
    packages = spec.commands.packages if spec.commands else ()
    if not packages:
        return None, []
    release = check_installable(base.system, base.image.reference, packages)
    old = previous.added if previous else None
    solution = solver.debs(
        replace(target, release=release),
        {"system": packages},
        "dockerfile_commands",
        old.debs if old and old.release == release else (),
        base.system.present,
    )
    debs = _debs(solution, {text: f"dockerfile_commands: {text}" for text in packages})
    _tell_unmade(debs, spec, solver)
    told = list(told_of(base.system, solution, packages))
    for choice in told:
        solver.notice(f"{choice.subject} {choice.chosen}: {choice.reason}")
    return AddedDebs(release=release, debs=debs), [*_locked_choices(solution), *told]


def _debs_on(base: Base, target: Target, solver: Solver, pinned: Iterable[Deb]) -> tuple[Deb, ...]:
    """The Debian packages beside a base image: a few programs alone, and a whole Python where it has none."""
    pinned = tuple(pinned)
    groups = groups_on(base, target)
    debs = _debs(solver.debs(target, {"base": groups["base"]}, "what a base image lacks", pinned))
    alone = _apart(deb for deb in debs if deb.name in groups["base"])
    if "python" not in groups:
        return alone
    python = _debs(solver.debs(target, {"python": groups["python"]}, "Python beside a base image", pinned))
    return tuple(sorted((*alone, *python), key=lambda deb: deb.name))


def add_debs(
    lock: Lock,
    spec: ModelSpec,
    solver: Solver,
    previous: Lock | None,
    libraries: Mapping[str, Sequence[Choice]],
) -> Lock:
    """The lock with more Debian packages; its pins are kept where they fit.

    libraries: for each platform what `resolve.libraries` chose.

    Raises ResolveError where they don't fit the rest.
    """
    platforms = dict(lock.platforms)
    choices: dict[tuple[str, str], Choice] = {}
    for system, made in libraries.items():
        platform = lock.platforms[system]
        if platform.base_image is not None:
            # Nothing is added to a base image; what it lacks is told.
            for choice in made:
                add_choice(choices, choice, system)
            continue
        old = previous.platforms.get(system) if previous else None
        pinned = (*(old.debs if old and old.release == platform.release else ()), *platform.debs)
        debs, found = _resolve_debs(spec, _target(system, platform.python), solver, pinned, made)
        platforms[system] = platform.model_copy(update={"debs": debs})
        for choice in (*found, *made):
            add_choice(choices, choice, system)
    others = [choice for choice in lock.choices if choice.kind not in _DEB_CHOICES]
    return lock.model_copy(update={"platforms": platforms, "choices": (*others, *choices.values())})


def _debs(solution: DebSolution, wishes: Mapping[str, str] = MappingProxyType({})) -> tuple[Deb, ...]:
    """Debian packages as a lock has them.

    wishes: for the text of a request how `needed-by` says it, where that is not by its group.
    """
    return tuple(
        Deb(
            name=deb.name,
            version=deb.version,
            architecture=deb.architecture,
            file=deb.file,
            size=deb.size,
            sha256=deb.sha256,
            source=deb.source or None,
            needed_by=tuple(
                sorted(
                    {wishes.get(text, f"{group}: {text}") for group, text in deb.requests} | {*deb.needed_by}
                )
            ),
            group=deb.group,  # type: ignore[arg-type] # one of the groups asked for
        )
        for deb in solution.debs
    )


def resolve_server(target: Target, solver: Solver, previous: Lock | None) -> ServerEnvironment:
    """The server's environment for a target, with the pins that all models share where there are such."""
    solver.report(f"solving the server's environment for {target.system}")
    pinned = previous.server.get(target.system) if previous else None
    if pinned is None or pinned.python != target.python:
        pinned = shared_pins(target).server
    wheels = solver.wheels(
        target,
        OWN_WHEELS["server"]["requires"],
        "the server's environment",
        pinned.wheels if pinned else (),
    )
    return ServerEnvironment(python=target.python, wheels=wheels)


def _resolve_tools(target: Target, solver: Solver, previous: Lock | None, beside: Sequence[str]) -> Tools:
    solver.report(f"solving {_TOOLS} on {target.system}")
    pinned = previous.tools.get(target.system) if previous else None
    if pinned is None or pinned.byte_code.python != target.python:
        pinned = shared_pins(target).tools
    # What makes layers is the same for every Python.
    pythons = (replace(target, python=python) for python in _NEWEST_FIRST)
    common = pinned or next((pins.tools for pins in map(shared_pins, pythons) if pins.tools), None)
    newest = Target(target.system, _TOOLS_RELEASE, RELEASES[_TOOLS_RELEASE].python)
    # In one solve: each reads the whole index.
    groups = {"python": [*_python_root(newest), *beside], "base": [_BASH, _BUSYBOX]}
    old = (*common.layers.debs, common.bash, common.busybox) if common else ()
    debs = _debs(solver.debs(newest, groups, _TOOLS, old))
    programs = {deb.name: deb for deb in debs}
    busybox = programs[_BUSYBOX]
    layers = PythonRoot(
        release=newest.release,
        python=newest.python,
        debs=_apart(deb for deb in debs if deb.group == "python"),
    )
    if target == newest:
        byte_code = layers
    else:
        pins = pinned.byte_code.debs if pinned else ()
        own = _debs(solver.debs(target, {"python": _python_root(target)}, _TOOLS, pins))
        byte_code = PythonRoot(release=target.release, python=target.python, debs=own)
    known = {common.busybox.sha256: common.busybox.tree_sha256} if common else {}
    return Tools(
        busybox=Busybox(**dict(busybox), tree_sha256=known.get(busybox.sha256)),
        bash=programs[_BASH],
        layers=layers,
        byte_code=byte_code,
    )


def _apart(debs: Iterable[Deb]) -> tuple[Deb, ...]:
    """A part of a solution, whose packages name none of the others as who needs them."""
    part = tuple(debs)
    names = {deb.name for deb in part}
    return tuple(
        deb.model_copy(
            update={"needed_by": tuple(entry for entry in deb.needed_by if WISH in entry or entry in names)}
        )
        for deb in part
    )


def _python_root(target: Target) -> list[str]:
    # Enough to run a program of the standard library's; nothing of the base system.
    return [f"python{target.python}-minimal", f"libpython{target.python}-stdlib"]


class SharedPins(Document):
    """Pins that came with tungsten for what all models of one Python version and platform share."""

    server: ServerEnvironment | None = None
    tools: Tools | None = None


def shared_pins(target: Target) -> SharedPins:
    """The pins in `shared_pins.json`; empty for a version or a platform that it does not hold."""
    text = resources.files(__package__).joinpath("shared_pins.json").read_text(encoding="utf-8")
    found = json.loads(text).get(target.python, {}).get(target.system, {})
    return SharedPins.model_validate_json(json.dumps(found))
