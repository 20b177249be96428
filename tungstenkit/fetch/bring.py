"""What a lock's builds need, brought into the Nix store as the paths that the build asks for.

A file lands in the store whole or not at all; afterwards a build needs no network. A `Progress` is told of every byte,
and nothing is printed here.
"""

from __future__ import annotations

import errno
import shutil
import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from tungstenkit import store
from tungstenkit.at_once import at_once
from tungstenkit.digest import measure
from tungstenkit.fetch.needs import LockedFile, built_files, needed_files, result_files
from tungstenkit.lock.selection import part_of
from tungstenkit.nix_program import MAKE_ROOM
from tungstenkit.platforms import this_system
from tungstenkit.sdk.errors import FetchError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from tungstenkit.fetch.big_files import BigFile
    from tungstenkit.fetch.download import Progress
    from tungstenkit.fetch.mirrors import Mirrors
    from tungstenkit.lock.document import Lock
    from tungstenkit.lock.parts import Busybox
    from tungstenkit.registry.base import Place
    from tungstenkit.watch import Watch


@dataclass(frozen=True)
class Folders:
    """Where a model is, and where its downloads wait."""

    model: Path
    state: Path
    """Its `.tungsten`."""


def unfinished(lock: Lock, gone: AbstractSet[str]) -> tuple[LockedFile, ...]:
    """The lock's files without those that only build wheels which the store has already. gone: what it has not."""
    built = {entry.path: source for source, entry in built_files(lock)}
    finished = {id(source) for path, source in built.items() if path not in gone}
    platforms = {
        system: platform.model_copy(
            update={"sources": tuple(source for source in platform.sources if id(source) not in finished)}
        )
        for system, platform in lock.platforms.items()
    }
    return needed_files(lock.model_copy(update={"platforms": platforms}))


def missing_files(lock: Lock) -> tuple[LockedFile, ...]:
    """Those of the lock's files that are not in the store yet; what builds a wheel that is there is not needed."""
    wanted = unfinished(lock, store.missing([entry.path for _, entry in built_files(lock)]))
    gone = store.missing([entry.path for entry in wanted])
    return tuple(entry for entry in wanted if entry.path in gone)


def is_brought(
    lock: Lock,
    folders: Folders,
    *,
    whole: Lock | None = None,
    big: Sequence[BigFile] = (),
    more: Sequence[str] = (),
) -> bool:
    """Whether the store has what `bring` would bring and what the lock's steps made, and holds it as that leaves it.

    It is one question to Nix.

    more: paths that must be there, too, whoever holds them. The others are those of `bring`.
    """
    held = store_paths(whole or lock, big)
    gone = store.missing([*held, *more])
    needed = {entry.path for entry in unfinished(lock, gone)}
    needed |= {entry.path for entry in result_files(lock)}
    needed |= {*programs(lock)}
    needed |= {file.store_path for file in big}
    return gone.isdisjoint({*needed, *more}) and store.holds(set(held) - gone, folders.state / "roots")


def store_paths(lock: Lock, big: Sequence[BigFile] = ()) -> list[str]:
    """The store paths that a build of the lock takes, if they are there: downloads, what sealing built or made, the
    model's big files.
    """
    return [*(file.path for file in store_files(lock, big)), *programs(lock)]


def store_files(lock: Lock, big: Sequence[BigFile] = ()) -> list[LockedFile]:
    """Those of them that are files."""
    files = [*needed_files(lock), *(entry for _, entry in built_files(lock)), *result_files(lock)]
    return files + [LockedFile(file.path, file.size, file.sha256) for file in big]


def programs(lock: Lock) -> list[str]:
    """The others: folders with a program."""
    return [_busybox_path(tools.busybox) for tools in lock.tools.values()]


def find_in_store(entry: LockedFile) -> Path | None:
    """Where a file lies in the Nix store; None where it is not there, whole. Nix itself need not be there."""
    path = Path(entry.path)
    try:
        return path if measure(path) == (entry.size, entry.sha256) else None
    except OSError:
        return None


def bring_inputs(
    lock: Lock,
    systems: Sequence[str],
    folders: Folders,
    big: Sequence[BigFile],
    mirrors: Callable[[], Mirrors],
    watch: Watch,
) -> int:
    """Bring into the store what images for some platforms need and it has not got; of how many files in all.

    big: files of the model that the build takes from the store, too. mirrors: finds them, where something is missing.
    """
    part = part_of(lock, systems, this_system())
    _ask_by_hash(part, folders, watch)
    wanted = missing_files(part)
    urls = {}
    if wanted:
        with watch.working("asking the mirrors where each file is"):
            from tungstenkit.fetch.locate import locate

            urls = locate(wanted, lock, mirrors())
    with watch.fetching() as bar:
        bring(part, urls, folders, bar, whole=lock, big=big)
    return len(needed_files(part)) + len(big)


def _ask_by_hash(part: Lock, folders: Folders, watch: Watch) -> None:
    """Take what the machine's own registries have of what is missing, before anybody else is asked for it.

    They have exactly these bytes, whatever indexes list today; and results of steps, which no mirror has. What the
    model's folder has is not asked for. One that fails is told, and the others are asked; so is a file that is damaged.
    """
    from tungstenkit.fetch.machine_mirrors import oci_mirrors

    for reference in oci_mirrors(folders.model):
        from tungstenkit.fetch import inputs
        from tungstenkit.registry.base import DamagedError
        from tungstenkit.registry.place import place

        where = place(reference)

        def take(wanted: Sequence[LockedFile], where: Place = where) -> None:
            try:
                with watch.fetching(f"asking {where.name} for") as bar:
                    inputs.take(wanted, where, folders.state / "downloads", bar)
            except DamagedError as problem:
                watch.warn(f"{where.name}: {problem.what}")

        try:
            take([*(file for _, file in built_files(part)), *result_files(part)])
            # What builds a wheel that is there by now is not needed.
            take([file for file in missing_files(part) if file.local is None])
        except FetchError as problem:
            watch.warn(f"{where.name} can't be used as a mirror: {problem.what}")


def bring(
    lock: Lock,
    urls: Mapping[str, Sequence[str]],
    folders: Folders,
    progress: Progress,
    *,
    whole: Lock | None = None,
    big: Sequence[BigFile] = (),
) -> None:
    """Bring what is missing into the store, and hold all of the lock's files there.

    urls: for each sha256 the places to try, in order. big: files of the model that the build takes from the store, too.
    whole: the lock that `lock` is a part of; what the store has of its other files is held as before.

    Raises FetchError for the first file that can't be had; those that arrived before it stay, and a part of a file
    waits to be resumed.
    """
    wanted = missing_files(lock)
    progress.start(len(wanted), sum(file.size for file in wanted))
    state = folders.state
    try:
        (state / "downloads").mkdir(parents=True, exist_ok=True)
        # One process adds them all; a name is a store name only in a folder of its own.
        store.add_files(_downloaded(wanted, urls, folders, progress))
        # Sealing may have left what the store had already.
        for file in needed_files(lock):
            shutil.rmtree(state / "downloads" / file.sha256, ignore_errors=True)
        for tools in lock.tools.values():
            add_busybox(tools.busybox, state)
        add_big(big, folders.model, state)
        held = store_paths(whole or lock, big)
        gone = store.missing(held)
        store.keep([path for path in held if path not in gone], state / "roots")
    except OSError as problem:
        raise disk_error(problem, state) from None


def _downloaded(
    wanted: Sequence[LockedFile], urls: Mapping[str, Sequence[str]], folders: Folders, progress: Progress
) -> list[Path]:
    """The paths of files that were downloaded or made, in parallel."""
    # Of a fetch that has nothing to ask for, this would be most of its time.
    from tungstenkit.fetch.download import download, pull_layers
    from tungstenkit.fetch.web import PARALLEL

    folder = folders.state / "downloads"
    images: dict[str, list[LockedFile]] = {}
    for file in wanted:
        if file.image is not None:
            images.setdefault(file.image, []).append(file)

    def alone(file: LockedFile) -> list[Path]:
        return [download(file, urls[file.sha256], folder, progress, folders.model)]

    # An image's blobs come together, and before what waits for a thread.
    jobs: list[Callable[[], list[Path]]] = [
        *(partial(pull_layers, found, folder, progress) for found in images.values()),
        *(partial(alone, file) for file in wanted if file.image is None),
    ]
    return [path for paths in at_once(lambda job: job(), jobs, PARALLEL) for path in paths]


def add_big(big: Sequence[BigFile], directory: Path, state: Path) -> None:
    """Put the model's big files into the store; one copy each, and none where they are there already.

    directory: the model's folder. state: its `.tungsten`. Raises FetchError for one that has changed meanwhile.
    """
    gone = store.missing([file.store_path for file in big])
    for file in big:
        if file.store_path not in gone:
            continue
        source = directory / file.path
        with tempfile.TemporaryDirectory(dir=state, prefix=".big-") as folder:
            if source.name != file.store_name:
                # A file is added under its own name.
                link = Path(folder) / file.store_name
                try:
                    link.hardlink_to(source)
                except OSError:
                    shutil.copyfile(source, link)
                source = link
            (added,) = store.add_files([source])
        if added != file.store_path:
            raise FetchError(
                f"{file.path} changed while it was read",
                where=str(directory),
                hint="wait until it is written",
            )


def _busybox_path(busybox: Busybox) -> str:
    assert busybox.tree_sha256 is not None  # the lock is sealed
    return store.tree_path(busybox.tree_sha256, "busybox")


def add_busybox(busybox: Busybox, state: Path) -> None:
    """Put `bin/busybox` where the bootstrap would have put it, so that its 7-Zip and npm are not needed."""
    path = _busybox_path(busybox)
    if store.missing([path]):
        deb = store.file_path(busybox.sha256, store.store_name(busybox.file.rpartition("/")[2]))
        folder = state / "downloads" / "busybox"
        unpack_busybox(Path(deb), folder)
        added = store.add_tree(folder)
        shutil.rmtree(folder)
        if added != path:
            raise FetchError(
                "busybox does not unpack to what the lock says",
                where=busybox.file,
                hint="the lock is damaged: restore it, or run `tungsten lock`",
            )


def unpack_busybox(deb: Path, folder: Path) -> None:
    """Unpack a busybox-static .deb's `bin/busybox`, and nothing else, into `folder`."""
    from tungstenkit.debian.deb import open_files

    with deb.open("rb") as file, open_files(file, deb.name) as tar:
        content = next(tar.extractfile(member) for member in tar if member.name == "./usr/bin/busybox")
        assert content is not None  # it is a file
        program = content.read()
    if folder.exists():
        shutil.rmtree(folder)
    target = folder / "bin" / "busybox"
    target.parent.mkdir(parents=True)
    target.write_bytes(program)
    target.chmod(0o755)


def disk_error(problem: OSError, state: Path) -> FetchError:
    """What to tell a user about a file below `state` that can't be written."""
    if problem.errno in (errno.ENOSPC, errno.EDQUOT):
        free = shutil.disk_usage(state if state.exists() else state.parent).free
        return FetchError(
            f"the disk is full ({free >> 20} MiB free)",
            where=str(problem.filename or state),
            hint=f"{MAKE_ROOM}, then run `tungsten fetch` again: it goes on where it stopped",
        )
    return FetchError(
        f"a file can't be written: {problem.strerror}",
        where=str(problem.filename or state),
        hint="downloads wait below the model's folder: make it writable, or copy the model",
    )
