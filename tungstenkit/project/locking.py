"""`tungsten lock`, step by step: what there is, resolve, the declared files, seal, and what has changed.

Each step is another module's; here is their order. What goes on is told to the project's observer, and what has been
made is a value.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from tungstenkit import started, store
from tungstenkit.audit.advisories import look_up
from tungstenkit.audit.diff import compare, old_lock
from tungstenkit.audit.fixes import concerned, fixable, has_fix, in_vain
from tungstenkit.audit.newer import keep_newer
from tungstenkit.export.flake import Contents
from tungstenkit.fetch.bring import disk_error, find_in_store
from tungstenkit.fetch.download import pull_layers
from tungstenkit.fetch.machine_mirrors import find_mirrors
from tungstenkit.fetch.web import Fetcher
from tungstenkit.lock.document import LOCK_NAME, Lock, is_as_before, packages, read_lock, write_lock
from tungstenkit.lock.packages import Deb
from tungstenkit.lock.parts import Files, Tungsten
from tungstenkit.lock.unpin import unpinned, without
from tungstenkit.resolve import nixpkgs
from tungstenkit.resolve.base_image import BaseWish, read_base
from tungstenkit.resolve.model import resolve
from tungstenkit.resolve.pinned import Pinned
from tungstenkit.resolve.relocked import version_of
from tungstenkit.resolve.solver import Solver, dates_of
from tungstenkit.resolve.targets import chosen_systems
from tungstenkit.resolve.unlisted import Unlisted
from tungstenkit.sdk.errors import FetchError, LockError, ResolveError
from tungstenkit.seal import commands, post_build
from tungstenkit.seal.declared import lock_files
from tungstenkit.seal.steps import seal
from tungstenkit.seal.workshop import SealingBench, Workshop
from tungstenkit.spec.pins import read_lock_file
from tungstenkit.spec.requirements import parse
from tungstenkit.watch import UNWATCHED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from tungstenkit.audit.diff import Difference
    from tungstenkit.audit.vulnerabilities import Advisories
    from tungstenkit.fetch.mirrors import Mirrors
    from tungstenkit.fetch.needs import LockedFile
    from tungstenkit.lock.parts import Choice
    from tungstenkit.project.folder import Project
    from tungstenkit.resolve.base import Base
    from tungstenkit.spec.document import ModelSpec
    from tungstenkit.watch import Watch


@dataclass(frozen=True)
class Relock:
    """What is asked of a new lock beside what the model declares."""

    upgrade: bool = False
    """Whether the newest of everything is taken, whatever is locked."""
    upgrade_packages: Sequence[str] = ()
    """What moves to its newest, with what must move with it."""
    security: bool = False
    """Whether what a known vulnerability concerns moves, where something newer closes it."""
    write: bool = True
    """Whether the lock is written; where not, nothing of the user's is run for it."""
    resolve_only: bool = False
    """Whether indexes alone are read, so that the lock is not sealed."""
    package_set: str = ""
    """Empty: that of the lock before, or else `debian`."""
    systems: Sequence[str] = ()
    """The platforms; empty: those of the lock before, or else this machine's."""
    python: str | None = None
    """Whatever the model asks for."""
    allow_older_index: bool = False
    """Whether an index may be older than the one that the lock before was made of."""

    def completed(self, before: Lock | None) -> Relock:
        """The same, with what the lock before says where nothing is asked for."""
        # What is upgraded is versions: the platforms are those of the lock all the same.
        systems = self.systems or (tuple(before.platforms) if before is not None else ())
        package_set = self.package_set or (before.package_set if before is not None else "debian")
        return replace(self, systems=systems, package_set=package_set)


@dataclass(frozen=True)
class Locked:
    """A lock that was made, and what became of the one before."""

    lock: Lock
    before: Lock | None
    difference: Difference
    wish: Relock

    @property
    def is_written(self) -> bool:
        """Whether it stands on the disk by now."""
        return self.wish.write

    @property
    def new_choices(self) -> list[Choice]:
        """What was chosen otherwise than for the lock before."""
        known = self.before.choices if self.before is not None else ()
        return [choice for choice in self.lock.choices if choice not in known]


def make_lock(project: Project, wish: Relock | None = None) -> Locked:
    """Resolve and seal, and write the lock."""
    _tell_of_declaration(project)
    wish = wish or Relock()
    before, pins = _read_pins(project.lock_path, wish)
    wish = wish.completed(before)
    if pins is not None and pins.package_set != wish.package_set:
        pins = None
    _refuse_early(project, wish, pins)
    with (
        project.watch.working("looking for mirrors") as report,
        started.scratch() as scratch,
    ):
        get = Fetcher()
        mirrors = project.mirrors(get)
        solver = Solver(
            mirrors,
            get,
            report,
            project.watch.notice,
            project.directory,
            scratch,
            {} if wish.allow_older_index else dates_of(before),
            _read_pinned(project, pins),
        )
        solver.unlisted = _unlisted(project, wish, before, solver)
        bases = _read_bases(project, wish, pins, report) if wish.package_set == "debian" else {}
        if wish.security and pins is not None:
            pins = _insecure_unpinned(project, wish, pins, solver, bases)
        lock = _resolve(project, wish, pins, solver, bases)
        # What is not sealed yet keeps its pins for when it will be.
        files = pins.files if pins else Files()
        resolve_only = wish.resolve_only or lock.sealed
        if not resolve_only:
            report("sealing")
            files = _lock_files(project, files)
        lock = lock.model_copy(update={"files": files, "tungsten": Tungsten.this()})
        if not resolve_only:
            lock = _seal(project, lock, pins, solver, bases, run=wish.write)
        if before is not None and is_as_before(lock, before):
            lock = before
        elif wish.write:
            write_lock(lock, project.lock_path)
        report("asking for known vulnerabilities")
        advisories = advisories_for(mirrors, before, lock)
        difference = compare(before, lock, advisories, solver.record, solver.unlisted.given)
        keep_newer(lock, solver.record.newer, mirrors.found)
    return Locked(lock, before, difference, wish)


def _tell_of_declaration(project: Project) -> None:
    for notice in project.spec.notices:
        project.watch.notice(notice)
    if (project.directory / ".dockerignore").exists():
        project.watch.notice(
            ".dockerignore is not read: include_files and exclude_files say what is in the image, COPY or not"
        )


def _refuse_early(project: Project, wish: Relock, pins: Lock | None) -> None:
    """Tell what can't be done here before all that is asked of the network, and have a Nix."""
    if wish.resolve_only or wish.package_set != "debian":
        return
    project.check_writable()
    if wish.write:
        for system in chosen_systems(wish.systems, pins):
            commands.refuse_elsewhere(project.spec, system, pins)
            post_build.refuse_elsewhere(project.spec, system, pins)
    project.bring_nix()


def _resolve(
    project: Project, wish: Relock, pins: Lock | None, solver: Solver, bases: Mapping[str, Base]
) -> Lock:
    if wish.package_set == "nixpkgs":
        return nixpkgs.resolve(project.spec, solver, pins, systems=wish.systems, python=wish.python)
    if wish.package_set != "debian":
        raise ResolveError(f"there is no package set {wish.package_set!r}", hint="there are debian, nixpkgs")
    return resolve(project.spec, solver, pins, systems=wish.systems, python=wish.python, bases=bases)


def _read_pinned(project: Project, previous: Lock | None) -> Pinned | None:
    """The lock file of another tool that the model names."""
    wish = project.spec.lock_file
    if wish is None:
        return None
    known = previous.inputs.get("lock-file") if previous else None
    is_new = known != wish.model_dump(mode="json", by_alias=True)
    return Pinned(read_lock_file(project.directory, wish.file), is_new)


def _read_pins(path: Path, wish: Relock) -> tuple[Lock | None, Lock | None]:
    """The lock that there is, and as much of it as shall be kept."""
    if wish.upgrade:
        try:
            return (read_lock(path) if path.exists() else None), None
        except LockError:
            return None, None  # it is not needed, and is about to be replaced
    if not path.exists() and not wish.upgrade_packages and not wish.security:
        return None, None
    lock = read_lock(path)
    return lock, unpinned(lock, wish.upgrade_packages)


def _unlisted(project: Project, wish: Relock, before: Lock | None, solver: Solver) -> Unlisted:
    """Reads the pins that no index lists any more; their files go into the store, where a build will look for them."""
    workshop = Workshop(
        spec=project.spec,
        state=solver.scratch,
        resolved=before,
        previous=None,
        base_libraries={},
        solver=solver,
        watch=project.watch,
        progress=UNWATCHED,
    )
    is_for_the_store = wish.package_set == "debian" and not wish.resolve_only

    def bring(entry: LockedFile) -> Path:
        if path := find_in_store(entry):
            return path
        solver.report(f"getting {entry.name}, which no index lists any more")
        workshop.downloads.mkdir(exist_ok=True)
        path = workshop.get(entry)
        if is_for_the_store:
            store.add_files([path])
        return path

    return Unlisted(bring, before.releases if before else {})


def _insecure_unpinned(
    project: Project, wish: Relock, pins: Lock, solver: Solver, bases: Mapping[str, Base]
) -> Lock:
    """The pins without those that a known vulnerability concerns and something newer closes; which, is told."""
    known = advisories_for(solver.mirrors, pins)
    if known.is_nothing:
        raise FetchError(
            "\n".join(("what is known to be wrong with what is locked can't be asked", *known.notices)),
            where="--security",
            hint="try again where the network has them; TUNGSTEN_SECURITY_TRACKER=URL names another place of the "
            "security tracker's data",
        )
    found = concerned(pins, known)
    moving = [one for one in found if has_fix(one, known, solver.newest_deb)]
    if any(not isinstance(one.package, Deb) for one in moving):
        # Of a Python project only a solve tells what fits.
        tried = _resolve(project, wish, without(pins, moving), solver, bases)
        useless = in_vain(moving, tried, known, advisories_for(solver.mirrors, tried))
        moving = [one for one in moving if one not in useless]
    for one in found:
        ids = ", ".join(sorted(fixable(one, known)))
        if one in moving:
            solver.record.moved[version_of(one)] = f"closes {ids}"
        else:
            project.watch.notice(
                f"{one.name} {one.package.version} stays: what fits here of it closes none of {ids}"
            )
    if not moving:
        whose = "was checked" if known.notices else "is locked"
        project.watch.notice(f"no known vulnerability of what {whose} is closed by something newer")
    return without(pins, moving)


def advisories_for(mirrors: Mirrors, *locks: Lock | None) -> Advisories:
    """What is known of the packages in some locks' images."""
    wanted = [p for lock in locks if lock for p in packages(lock) if p.place in ("image", "server")]
    return look_up(wanted, mirrors)


def compare_locks(directory: Path, old: str, watch: Watch) -> Difference:
    """What changed from an old lock to the one in a folder."""
    path = directory / LOCK_NAME
    lock, before = read_lock(path), old_lock(old, path)
    with watch.working("asking for known vulnerabilities"):
        try:
            wishes = parse(lock.inputs.get("python-packages", ()))
        except (AttributeError, TypeError, ValueError) as problem:
            raise LockError(f"its inputs are none of a model: {problem}", where=str(path)) from None
        mirrors = find_mirrors(directory, wishes=wishes)
        return compare(before, lock, advisories_for(mirrors, before, lock))


def _lock_files(project: Project, previous: Files) -> Files:
    """What the model declares in `files`; what is downloaded for it is where `tungsten fetch` looks for it."""
    if not project.spec.files:
        return Files()
    downloads = project.state / "downloads"
    with project.exclusively(), project.watch.fetching() as bar:
        try:
            downloads.mkdir(exist_ok=True)
            return lock_files(project.spec.files, previous, downloads, bar, project.watch.notice)
        except OSError as problem:
            raise disk_error(problem, project.state) from None


def _read_bases(
    project: Project, wish: Relock, pins: Lock | None, report: Callable[[str], None]
) -> dict[str, Base]:
    """The model's base image for each platform; what of the declaration it makes void is said, once."""
    spec = project.spec
    if spec.base_image is None:
        return {}
    platforms = pins.platforms if pins else {}
    before = {name: one.base_image for name, one in platforms.items() if one.base_image}
    python = ".".join(wish.python.split(".")[:2]) if wish.python else spec.python_version
    # The system's, the steps' one each, what is installed, what is without the base's packages, and the rest.
    ours = 3 + (len(spec.commands.segments) + bool(spec.commands.packages) if spec.commands else 0)
    wanted = BaseWish(spec.base_image, python, before, ours)
    bases: dict[str, Base] = {}
    for system in chosen_systems(wish.systems, pins):
        report(f"reading the base image {spec.base_image} for {system}")
        base = read_base(wanted, system, partial(_get_layers, project))
        for notice in _void_by(base, spec) if not bases else ():
            project.watch.notice(notice)
        bases[system] = base
    return bases


def _void_by(base: Base, spec: ModelSpec) -> Iterator[str]:
    """What of a declaration, and of the image itself, a base image makes void."""
    if spec.system_packages:
        line = f"RUN apt-get install {' '.join(spec.system_packages)}"
        way = f'dockerfile_commands=["{line}"] installs them there' if base.system.release else "leave it out"
        yield f"system_packages is ignored: the system is that of base_image; {way}"
    if base.left:
        yield f"not taken over from {spec.base_image}: {', '.join(base.left)}"


def _get_layers(project: Project, entries: Sequence[LockedFile]) -> list[Path]:
    """Download an image's layers that the store has not got; where each is."""
    state = project.state
    with project.exclusively(), project.watch.fetching() as bar:
        found = {entry: find_in_store(entry) for entry in entries}
        absent = list(dict.fromkeys(entry for entry, path in found.items() if path is None))
        bar.start(len(absent), sum(entry.size for entry in absent))
        try:
            (state / "downloads").mkdir(exist_ok=True)
            pulled = dict(zip(absent, pull_layers(absent, state / "downloads", bar), strict=True))
        except OSError as problem:
            raise disk_error(problem, state) from None
    return [found[entry] or pulled[entry] for entry in entries]


def _seal(
    project: Project,
    lock: Lock,
    previous: Lock | None,
    solver: Solver,
    bases: Mapping[str, Base],
    *,
    run: bool,
) -> Lock:
    """The sealed lock. What is downloaded for it is where `tungsten fetch` looks for it.

    run: whether the user's own code runs; without its results the lock is good for a look alone.
    """
    with project.exclusively(), project.watch.fetching() as bar:
        workshop = Workshop(
            spec=project.spec,
            state=project.state,
            resolved=lock,
            previous=previous,
            base_libraries={system: base.libraries for system, base in bases.items()},
            solver=solver,
            watch=project.watch,
            progress=bar,
        )
        try:
            workshop.downloads.mkdir(exist_ok=True)
            lock = seal(lock, workshop)
            return _add_results(project, lock, workshop) if run else lock
        except OSError as problem:
            raise disk_error(problem, project.state) from None


def _add_results(project: Project, lock: Lock, workshop: Workshop) -> Lock:
    """The lock with what the model's own steps make, in the root that is complete by now."""
    spec = project.spec
    if not (spec.has_post_build or spec.commands):
        return lock
    shipped = project.select_shipped(lock)
    with project.watch.building() as view:
        contents = Contents(project.directory, shipped.files, shipped.big)
        bench = SealingBench(spec, contents, project.state, view, workshop)
        lock = commands.add_commands(lock, workshop.previous, bench)
        return post_build.add_post_build(lock, workshop.previous, bench)
