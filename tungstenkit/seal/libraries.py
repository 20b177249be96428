"""Shared libraries: every wheel and Debian package of a lock is read, and what an image lacks is added to the lock.

Reading needs the files themselves, so it is a part of sealing. What was read is kept by each file's sha256: a
relock downloads only what it has not seen. `resolve.libraries` says what is missing; here is the work around it.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from tungstenkit.at_once import at_once
from tungstenkit.cache import cache_folder
from tungstenkit.debian.contents import fetch_libraries
from tungstenkit.fetch.needs import built_file, deb_file, wheel_file
from tungstenkit.fetch.web import PARALLEL
from tungstenkit.platforms import Target
from tungstenkit.resolve.image_debs import add_debs
from tungstenkit.resolve.libraries import Image, additions, library_of, only_told
from tungstenkit.resolve.scan import keep_scan, kept_scan, scan_deb, scan_wheel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from tungstenkit.fetch.needs import LockedFile
    from tungstenkit.lock.document import Lock
    from tungstenkit.lock.packages import Deb
    from tungstenkit.lock.parts import Choice, Platform
    from tungstenkit.resolve.scan import Scan
    from tungstenkit.resolve.solver import Solver
    from tungstenkit.seal.workshop import Workshop


def add_libraries(lock: Lock, workshop: Workshop, *, cache: Path | None = None) -> Lock:
    """The lock with the Debian packages whose libraries its packages need.

    Nothing is added to a base image: what it lacks is told. cache: a folder (default: the user's cache).

    Raises ResolveError where what is needed doesn't fit the rest, FetchError where a file can't be had or read.
    """
    cache = cache or cache_folder()
    spec, solver = workshop.spec, workshop.solver
    resolved = lock
    known: dict[str, dict[str, Choice]] = {system: {} for system in lock.platforms}
    same: dict[tuple[str, str], Choice] = {}
    notices: dict[str, None] = {}
    scans: dict[str, Scan] = {}
    while True:
        _read(lock, scans, workshop, cache)
        for system, platform in lock.platforms.items():
            target = Target(system, platform.release, platform.python)
            image = _image(target, platform, scans, workshop.base_libraries.get(system, frozenset()))
            locked = _locked_for(system, platform, workshop.previous)
            found = additions(image, spec.libraries, _contents(target, solver, cache, locked))
            if platform.base_image is not None:
                found = only_told(found)
            # What was added may lack something, too; what was missing at first stays recorded. Where platforms differ
            # only in the name of the file that needs a library, one says it for all.
            known[system] |= {
                choice.subject: same.setdefault((choice.subject, choice.chosen), choice)
                for choice in found.choices
            }
            notices |= dict.fromkeys(found.notices)
        if not any(known.values()):
            break
        wanted = {system: list(choices.values()) for system, choices in known.items()}
        grown = add_debs(resolved, spec, solver, workshop.previous, wanted)
        if grown == lock:
            break
        lock = grown
    for notice in notices:
        solver.notice(notice)
    return lock


def _contents(
    target: Target, solver: Solver, cache: Path, locked: Mapping[str, Deb]
) -> Callable[[], dict[str, tuple[str, ...]]]:
    # Read at most once, and only where something is missing.
    @functools.cache
    def contents() -> dict[str, tuple[str, ...]]:
        solver.report(f"reading which libraries Debian {target.release}'s packages have")
        found = fetch_libraries(solver.index(target), solver.get, cache=cache)
        listed = {name for names in found.values() for name in names}
        for library, deb in locked.items():
            # What was locked for a library is asked for again, as long as it can be had.
            if deb.name in listed or solver.unlisted.package(deb, target.release):
                found[library] = (deb.name,)
        return found

    return contents


def _locked_for(system: str, platform: Platform, previous: Lock | None) -> dict[str, Deb]:
    """By library the package that an earlier lock has for it."""
    old = previous.platforms.get(system) if previous else None
    if previous is None or old is None or old.release != platform.release:
        return {}
    debs = {deb.name: deb for deb in old.debs}
    return {
        library: debs[choice.chosen]
        for choice in previous.choices
        if choice.chosen in debs and (library := library_of(choice))
    }


def _image(
    target: Target, platform: Platform, scans: dict[str, Scan], base_libraries: frozenset[str]
) -> Image:
    # Beside a base image, only Python's packages are unpacked whole; what is installed into it is, too.
    debs = [deb for deb in platform.debs if platform.base_image is None or deb.group == "python"]
    debs += platform.added.debs if platform.added else ()
    return Image(
        target,
        wheels={wheel.project: scans[wheel.sha256] for wheel in platform.wheels}
        | {source.project: scans[built_file(source).sha256] for source in platform.sources},
        debs={deb.name: scans[deb.sha256] for deb in debs},
        others=base_libraries,
    )


def _read(lock: Lock, scans: dict[str, Scan], workshop: Workshop, cache: Path) -> None:
    """Complete `scans`, by sha256: what is in each of the images' files."""
    entries = {entry.sha256: entry for platform in lock.platforms.values() for entry in _inputs(platform)}
    scans |= {s: scan for s in entries if s not in scans and (scan := kept_scan(s, cache))}
    unread = [entry for sha256, entry in entries.items() if sha256 not in scans]
    if unread:
        workshop.solver.report("looking for the shared libraries that packages have and need")
    workshop.progress.start(len(unread), sum(entry.size for entry in unread))

    def read(entry: LockedFile) -> Scan:
        path = workshop.get(entry)
        scan = scan_deb(path) if entry.project is None else scan_wheel(path)
        keep_scan(scan, entry.sha256, cache)
        return scan

    found = at_once(read, unread, PARALLEL)
    scans |= {entry.sha256: scan for entry, scan in zip(unread, found, strict=True)}


def _inputs(platform: Platform) -> Iterable[LockedFile]:
    for release, deb in platform.every_deb:
        yield deb_file(deb, release)
    for wheel in platform.wheels:
        yield wheel_file(wheel)
    for source in platform.sources:
        yield built_file(source)
