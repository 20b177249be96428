"""Builds the wheels of what a lock has from source, for sealing.

A build is an ordinary derivation of `nix/inputs/source.nix`: it has what the lock names and no network. What it needs
is brought into the store, what it made is looked at, and the wheel is added to the store as the file that an image's
build asks for, so it is not built again. What the source said of itself while the lock was made is proved here.
"""

from __future__ import annotations

import re
import shutil
import zipfile
from email.parser import HeaderParser
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name, parse_wheel_filename
from packaging.version import Version

from tungstenkit import store
from tungstenkit.at_once import at_once
from tungstenkit.cache import cache_folder
from tungstenkit.data import NIX
from tungstenkit.debian.contents import fetch_paths
from tungstenkit.digest import measure
from tungstenkit.document import write_atomically
from tungstenkit.fetch.bring import find_in_store, unpack_busybox
from tungstenkit.fetch.needs import LockedFile, built_file, source_files, tool_files
from tungstenkit.fetch.web import PARALLEL
from tungstenkit.nix_build.hints import hint
from tungstenkit.nix_build.process import run_build
from tungstenkit.platforms import Target, this_system
from tungstenkit.resolve.scan import kept_scan
from tungstenkit.sdk.errors import BuildError, LockError, TungstenError
from tungstenkit.seal.installed import kept_installed
from tungstenkit.settings import to_paste

if TYPE_CHECKING:
    from email.message import Message

    from tungstenkit.lock.document import Lock
    from tungstenkit.lock.packages import Source
    from tungstenkit.lock.parts import Platform
    from tungstenkit.nix_build.log import View
    from tungstenkit.resolve.solver import Solver
    from tungstenkit.seal.workshop import Workshop


_MOST_TEXT = 8 << 20  # of a wheel's metadata


def find_unbuilt(lock: Lock) -> list[tuple[str, Source]]:
    """The sources of a lock whose wheels nobody has here, each with its platform's Nix system.

    A wheel that was built elsewhere is not needed where it is known already what is in it.
    """
    return [
        (system, source)
        for system, platform in lock.platforms.items()
        for source in platform.sources
        if source.wheel_sha256 is None
        or not (find_in_store(built_file(source)) or _is_known(source.wheel_sha256))
    ]


def _is_known(sha256: str) -> bool:
    cache = cache_folder()
    return kept_scan(sha256, cache) is not None and kept_installed(sha256, cache) is not None


def build_wheels(lock: Lock, workshop: Workshop) -> Lock:
    """The lock with the wheels of its sources. lock: its tools are sealed.

    Raises BuildError where a source can't be built, LockError where what it became is not what was locked.
    """
    if not (wanted := find_unbuilt(lock)):
        return lock
    with workshop.watch.building() as view:
        # What this machine builds may do for other platforms, too.
        for system, source in sorted(wanted, key=lambda one: one[0] != this_system()):
            lock = _build_one(lock, system, source, view, workshop)
    return lock


def _build_one(lock: Lock, system: str, source: Source, view: View, workshop: Workshop) -> Lock:
    """The lock with the wheel of one source."""
    platform = lock.platforms[system]
    if system == this_system():
        _provide(lock, system, source, workshop)
        built = _build(lock, system, source, view, workshop)
        _check(built, built.name, source, platform, system)
        size, sha256 = measure(built)
        named = {"wheel": built.name, "wheel_size": size, "wheel_sha256": sha256}
        _keep(built, source, workshop.state)
    else:
        own = _for_every_platform(lock, system, source)
        assert own.wheel is not None
        _check(Path(built_file(own).path), own.wheel, source, platform, system)
        named = own.model_dump(include={"wheel", "wheel_size", "wheel_sha256"}, by_alias=False)
    done = source.model_copy(update=named)
    sources = tuple(done if one is source else one for one in platform.sources)
    changed = platform.model_copy(update={"sources": sources})
    return lock.model_copy(update={"platforms": {**lock.platforms, system: changed}})


def _for_every_platform(lock: Lock, system: str, source: Source) -> Source:
    """What this machine has built of the same source, for a platform that it can't build for.

    Raises LockError where that is for this machine's platform alone.
    """
    here = lock.platforms.get(this_system())
    for own in here.sources if here else ():
        same = (own.project, own.sha256) == (source.project, source.sha256)
        if same and own.wheel and own.wheel.endswith("-none-any.whl"):
            return own
    raise LockError(
        f"{source.project} is built from source, which {system} must do itself; this is {this_system()}",
        where=f"platforms.{system}",
        hint=f"lock that platform alone, on a machine of its kind, or ask for a version of {source.project} "
        "that has a wheel",
    )


def _provide(lock: Lock, system: str, source: Source, workshop: Workshop) -> None:
    """Bring what a build needs into the store."""
    tools = lock.tools[system]
    wanted = {
        entry.path: entry
        for entry in [*tool_files(tools), *source_files(source, lock.platforms[system].release)]
    }
    gone = store.missing(list(wanted))
    store.add_files(at_once(workshop.get, [wanted[path] for path in sorted(gone)], PARALLEL))
    assert tools.busybox.tree_sha256 is not None  # the tools are sealed
    if store.missing([store.tree_path(tools.busybox.tree_sha256, "busybox")]):
        folder = workshop.downloads / "busybox"
        unpack_busybox(
            Path(LockedFile(tools.busybox.file, tools.busybox.size, tools.busybox.sha256).path), folder
        )
        store.add_tree(folder)
        shutil.rmtree(folder)


def _build(lock: Lock, system: str, source: Source, view: View, workshop: Workshop) -> Path:
    """Build a wheel; its path in the store."""
    state = workshop.state
    document, link = state / "sealing.json", state / "sealing"
    write_atomically(document, lock.to_json())
    named = {"lock": str(document.resolve()), "system": system, "project": source.project}
    arguments = [part for name, value in named.items() for part in ("--argstr", name, value)]
    try:
        run_build(
            ["--file", str(NIX / "flake" / "seal.nix"), *arguments, "--out-link", str(link.absolute())],
            view,
            state,
        )
    except BuildError as problem:
        raise BuildError(
            problem.what,
            where=f"building {source.project} {source.version} from source",
            hint=_hint(problem, source.project, lock.platforms[system], system, workshop.solver)
            or problem.hint
            or f"'--only-binary {source.project}' in python_packages asks for a release that has a wheel",
        ) from None
    finally:
        document.unlink(missing_ok=True)
    (wheel,) = link.resolve().glob("*.whl")
    return wheel


def _hint(problem: BuildError, project: str, platform: Platform, system: str, solver: Solver) -> str | None:
    """What the end of a failed build's log calls for; None where that can't be looked up, either."""
    target = Target(system, platform.release, platform.python)
    told = problem.told.get("requirements") if problem.told.get("kind") == "undeclared" else None
    undeclared = [str(requirement) for requirement in told] if isinstance(told, list) else []
    try:
        return hint(
            problem.what,
            project,
            lambda pattern: fetch_paths(solver.index(target), solver.get, pattern),
            lambda name: bool(solver.mirrors.project_files(name)),
            undeclared,
        )
    except TungstenError:
        return None


def _check(built: Path, file: str, source: Source, platform: Platform, system: str) -> None:
    """LockError where a wheel, whose own name is `file`, is not what its source said that it would be."""
    where = f"{source.project} {source.version}, built from source"
    name, version, _, _ = parse_wheel_filename(file)
    metadata = _metadata(built)
    said = canonicalize_name(metadata.get("Name", "")), Version(metadata.get("Version", "0"))
    if (name, version) != (source.project, Version(source.version)) or said != (name, version):
        raise LockError(
            f"the source became {said[0]} {said[1]} ({file})",
            where=where,
            hint=to_paste("build", source.project, f'version = "{said[1]}"'),
        )
    if not SpecifierSet(metadata.get("Requires-Python", "")).contains(f"{platform.python}.99"):
        raise LockError(f"it needs Python {metadata['Requires-Python']}", where=where)
    have = {wheel.project: wheel.version for wheel in platform.wheels}
    have |= {other.project: other.version for other in platform.sources}
    markers = Target(system, platform.release, platform.python).markers
    try:
        needed = [Requirement(text) for text in metadata.get_all("Requires-Dist") or ()]
    except InvalidRequirement as problem:
        raise LockError(
            f"it needs what is no requirement: {str(problem).splitlines()[0]}", where=where
        ) from None
    missing = [
        str(requirement)
        for requirement in needed
        if requirement.marker is None or requirement.marker.evaluate(markers)
        if canonicalize_name(requirement.name) not in have
        or not requirement.specifier.contains(have[canonicalize_name(requirement.name)], prereleases=True)
    ]
    if missing:
        raise LockError(
            f"it needs {', '.join(missing)}, which its source did not say",
            where=where,
            hint=f"add to python_packages: {', '.join(repr(text) for text in missing)}",
        )


def _metadata(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        name = next(name for name in archive.namelist() if re.fullmatch(r"[^/]+\.dist-info/METADATA", name))
        with archive.open(name) as member:
            return HeaderParser().parsestr(member.read(_MOST_TEXT).decode("utf-8", errors="replace"))


def _keep(built: Path, source: Source, state: Path) -> None:
    """Put a wheel into the store as the file that an image's build asks for, and hold it."""
    folder = state / "downloads" / "built"
    folder.mkdir(parents=True, exist_ok=True)
    copy = folder / store.store_name(built.name)
    shutil.copyfile(built, copy)
    (path,) = store.add_files([copy])
    shutil.rmtree(folder)
    store.hold(path, state / "roots" / f"built-{source.project}")
    (state / "sealing").unlink()
