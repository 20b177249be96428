"""`tungsten lock`, step by step: what there is, resolve, the declared files, seal, and what has changed.

Each step is another module's; here is their order, and what is told of it by `progress`.
"""

from __future__ import annotations

import tempfile
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

from rich.filesize import decimal

from tungstenkit import commands, dockerfile, post_build, tables
from tungstenkit.base_image import read_base
from tungstenkit.declared import lock_files
from tungstenkit.diff import compare, old_lock
from tungstenkit.errors import LockError
from tungstenkit.fake_time import fake_time
from tungstenkit.fetch import (
    Input,
    disk_error,
    download,
    locate,
    pull_layers,
    stored,
)
from tungstenkit.installed import check_installed
from tungstenkit.libraries import add_libraries
from tungstenkit.lock import (
    LIBRARY,
    LOCK_NAME,
    NOTHING,
    OVERLAP,
    POST_BUILD,
    Files,
    Lock,
    declared,
    packages,
    read_lock,
    unpinned,
    write_lock,
)
from tungstenkit.mirrors import Fetcher, find_mirrors
from tungstenkit.pins import read_lock_file
from tungstenkit.post_build import Runner, add_post_build
from tungstenkit.progress import FetchBar, build_view, err, working
from tungstenkit.project import Project, export_step, fetch_inputs
from tungstenkit.requirements import parse
from tungstenkit.resolve.base import loadable_on
from tungstenkit.resolve.model import Solver, chosen_systems, dates_of, resolve
from tungstenkit.resolve.newest import told
from tungstenkit.resolve.nixpkgs import resolve as resolve_nixpkgs
from tungstenkit.resolve.pinned import KIND as LOCK_FILE
from tungstenkit.resolve.pinned import Pinned
from tungstenkit.seal import seal
from tungstenkit.source_wheels import build_wheels, unbuilt
from tungstenkit.vulnerabilities import look_up

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from tungstenkit.diff import Difference
    from tungstenkit.mirrors import Mirrors
    from tungstenkit.platforms import Target as Platform
    from tungstenkit.resolve.base import Base
    from tungstenkit.twice import Step
    from tungstenkit.vulnerabilities import Advisories


def make_lock(
    project: Project,
    *,
    upgrade: bool = False,
    upgrade_packages: Sequence[str] = (),
    write: bool = True,
    resolve_only: bool = False,
    package_set: str | None = None,
    systems: Sequence[str] = (),
    python: str | None = None,
    allow_older_index: bool = False,
) -> tuple[Lock, Difference]:
    """Resolve and seal, and write the lock; the result says also how it differs from the one before."""
    for notice in dockerfile.parse(project.spec.dockerfile_commands).notices:
        err.print(notice, markup=False)
    for notice in parse(project.spec.python_packages).notices:
        err.print(notice, markup=False)
    if (project.directory / ".dockerignore").exists():
        err.print(
            ".dockerignore is not read: include_files and exclude_files say what is in the image, COPY or not"
        )
    before, pins = _pins(project.lock_path, upgrade=upgrade, upgrade_packages=upgrade_packages)
    # What is upgraded is versions: the platforms are those of the lock all the same.
    systems = systems or (tuple(before.platforms) if before is not None else ())
    package_set = package_set or (before.package_set if before is not None else "debian")
    if pins is not None and pins.package_set != package_set:
        pins = None
    # What can't be done here is told before all that is asked of the network.
    if not resolve_only and package_set == "debian":
        with project.alone():
            pass
    if write and not resolve_only and package_set == "debian":
        for system in chosen_systems(systems, pins):
            commands.refuse_elsewhere(project.spec, system, pins)
            post_build.refuse_elsewhere(project.spec, system, pins)
    with working("looking for mirrors") as report, tempfile.TemporaryDirectory(prefix="tungsten-") as scratch:
        get = Fetcher()
        mirrors = project.mirrors(get)
        solver = Solver(
            mirrors,
            get,
            report,
            partial(err.print, markup=False),
            project.directory,
            Path(scratch),
            {} if allow_older_index else dates_of(before),
            _pinned(project, pins),
        )
        bases = Bases(project, pins, python, report) if project.spec.base_image is not None else None
        if package_set == "nixpkgs":
            lock = resolve_nixpkgs(project.spec, solver, pins, systems=systems, python=python)
        else:
            lock = resolve(
                project.spec, solver, pins, package_set, systems=systems, python=python, base_of=bases
            )
        # What is not sealed yet keeps its pins for when it will be.
        files = pins.files if pins else Files()
        resolve_only = resolve_only or lock.sealed
        if not resolve_only:
            report("sealing")
            files = _lock_files(project, files)
        lock = lock.model_copy(update={"files": files})
        if not resolve_only:
            lock = _seal(project, lock, pins, solver, bases.libraries if bases else {}, run=write)
        if write:
            write_lock(lock, project.lock_path)
        report("asking for known vulnerabilities")
        difference = compare(before, lock, advisories_for(mirrors, before, lock))
    for choice in lock.choices:
        kinds = (LIBRARY, LOCK_FILE, OVERLAP, "renamed")
        if choice.kind in kinds and (before is None or choice not in before.choices):
            chosen = f"not added: {choice.reason}" if choice.chosen == NOTHING else choice.chosen
            if choice.kind == OVERLAP:
                chosen = f"that of {choice.chosen} is taken, {choice.reason}"
            if choice.kind == LOCK_FILE:
                chosen = f"{choice.chosen}, {choice.reason}"
            err.print(f"{choice.subject}: {chosen}", markup=False)
    for line in told(choice for choice in lock.choices if before is None or choice not in before.choices):
        err.print(line, markup=False)
    for system, platform in lock.platforms.items():
        cuda = f", CUDA {platform.cuda.version}" if platform.cuda else ""
        built = f", {len(platform.sources)} built from source" if platform.sources else ""
        base = platform.base_image.reference if platform.base_image else f"Debian {platform.release}"
        root = f"on {base}, {len(platform.debs)} Debian packages"
        if lock.package_set == "nixpkgs":
            root = f"of {platform.release}"
        made = f", {decimal(platform.post_build.size)} by post_build" if platform.post_build else ""
        old = before.platforms.get(system) if before is not None else None
        if old and old.post_build and platform.post_build:
            same = old.post_build.sha256 == platform.post_build.sha256
            if not same:
                made += ", which has changed"
            elif POST_BUILD in upgrade_packages:
                made += ", the same as before"
        err.print(
            f"{'locked' if write else 'would lock'} {system}: Python {platform.python} {root}, "
            f"{len(platform.wheels)} wheels{built}{cuda}{made}"
        )
    for name, file in declared(lock).items():
        err.print(
            f"{'locked' if write else 'would lock'} {name}: {file.version}, {decimal(file.size)}",
            markup=False,
        )
    if write:
        for line in tables.summary(difference):
            err.print(line)
    return lock, difference


def _pinned(project: Project, previous: Lock | None) -> Pinned | None:
    """The lock file of another tool that the model names."""
    wish = project.spec.lock_file
    if wish is None:
        return None
    known = previous.inputs.get("lock-file") if previous else None
    is_new = known != wish.model_dump(mode="json", by_alias=True)
    return Pinned(read_lock_file(project.directory, wish.file), is_new)


def _pins(path: Path, *, upgrade: bool, upgrade_packages: Sequence[str]) -> tuple[Lock | None, Lock | None]:
    """The lock that there is, and as much of it as shall be kept."""
    if upgrade:
        try:
            return (read_lock(path) if path.exists() else None), None
        except LockError:
            return None, None  # it is not needed, and is about to be replaced
    if not path.exists() and not upgrade_packages:
        return None, None
    lock = read_lock(path)
    return lock, unpinned(lock, upgrade_packages)


def advisories_for(mirrors: Mirrors, *locks: Lock | None) -> Advisories:
    """What is known of the packages in some locks' images."""
    wanted = [p for lock in locks if lock for p in packages(lock) if p.place in ("image", "server")]
    return look_up(wanted, mirrors)


def compare_locks(directory: Path, old: str) -> Difference:
    """What changed from an old lock to the one in a folder."""
    path = directory / LOCK_NAME
    lock, before = read_lock(path), old_lock(old, path)
    with working("asking for known vulnerabilities"):
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
    with project.alone(), FetchBar() as bar:
        try:
            downloads.mkdir(exist_ok=True)
            return lock_files(project.spec.files, previous, downloads, bar, partial(err.print, markup=False))
        except OSError as problem:
            raise disk_error(problem, project.state) from None


class Bases:
    """Reads a model's base image, for each platform once."""

    def __init__(
        self, project: Project, previous: Lock | None, python: str | None, report: Callable[[str], None]
    ) -> None:
        self._project = project
        platforms = previous.platforms if previous else {}
        self._previous = {name: one.base_image for name, one in platforms.items() if one.base_image}
        self._python = ".".join(python.split(".")[:2]) if python else project.spec.python_version
        self._report = report
        self.libraries: dict[str, frozenset[str]] = {}

    def __call__(self, system: str) -> Base:
        """The base image for a platform; what of the declaration it makes void is said."""
        spec = self._project.spec
        assert spec.base_image is not None
        self._report(f"reading the base image {spec.base_image} for {system}")
        # The system's, the steps' one each, what is without the base's packages, and the rest.
        ours = 3 + (len(spec.commands.segments) if spec.commands else 0)
        base = read_base(spec.base_image, system, self._python, self._previous, self._get, ours=ours)
        if not self.libraries:
            if spec.system_packages:
                err.print("system_packages is ignored: the system is that of base_image")
            if base.left:
                err.print(f"not taken over from {spec.base_image}: {', '.join(base.left)}", markup=False)
        self.libraries[system] = base.libraries
        return base

    def _get(self, entries: Sequence[Input]) -> list[Path]:
        state = self._project.state
        with self._project.alone(), FetchBar() as bar:
            found = {entry: stored(entry) for entry in entries}
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
    base_libraries: Mapping[str, frozenset[str]],
    *,
    run: bool,
) -> Lock:
    """The sealed lock. What is downloaded for it is where `tungsten fetch` looks for it.

    run: whether the user's own code runs; without its results the lock is good for a look alone.
    """
    downloads = project.state / "downloads"
    with project.alone(), FetchBar() as bar:

        def get(entry: Input) -> Path:
            if path := stored(entry):
                return path
            urls = locate([entry], lock, solver.mirrors)[entry.sha256]
            return download(entry, urls, downloads, bar, project.directory)

        def build(lock: Lock) -> Lock:
            if not unbuilt(lock):
                return lock
            with build_view() as view:
                return build_wheels(lock, get, view, project.state, solver)

        def libraries(lock: Lock) -> Lock:
            lock = add_libraries(
                lock, project.spec, solver, previous, get, bar, base_libraries=base_libraries
            )
            return check_installed(lock, get, solver.notice)

        def made(lock: Lock) -> Lock:
            if not (run and (project.spec.has_post_build or project.spec.commands)):
                return lock
            files, big = project.shipped(lock)
            with build_view() as view:

                def step(lock: Lock, system: str, name: str = "post-build") -> Step:
                    fetch_inputs(project, lock, [system], big)
                    return export_step(project, lock, system, (files, big), view, name)

                @cache
                def library(target: Platform) -> Path | None:
                    fitting = loadable_on(lock.platforms[target.system].base_image, target)
                    if fitting is not None:
                        return fake_time(fitting, solver, get, downloads)
                    solver.notice(
                        "the second run has the same clock as the first: the base image is too old for it"
                    )
                    return None

                how = (project.spec, project.directory, files, step, library, solver.report)
                lock = commands.add_commands(lock, previous, commands.Runner(*how))
                return add_post_build(lock, previous, Runner(*how))

        try:
            downloads.mkdir(exist_ok=True)
            return seal(lock, get, build, libraries, made)
        except OSError as problem:
            raise disk_error(problem, project.state) from None
