"""What may go from this machine, how much each kind is, and its going: `tungsten clean`.

Each kind is found by facts that are there: a process that has ended, a folder that is gone, a name that an image has
lost, a path that no root holds. What is in use is left, and said. Nothing is written to find any of it, nor by us to
remove it: a full disk is when it is wanted.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from tungstenkit import disk, nix_program, roots, started
from tungstenkit.cache import cache_folder
from tungstenkit.models.built import check_ours, erase_state, folders
from tungstenkit.nix_build import loaded
from tungstenkit.project.folder import STATE
from tungstenkit.sdk.errors import RunError, TungstenError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from tungstenkit.roots import Store

SCRATCH, FOLDERS, CONTAINERS, IMAGES, OWN_STORE, STORE, CACHE, NIX = KINDS = (
    "scratch",
    "folders",
    "containers",
    "images",
    "own-store",
    "store",
    "cache",
    "nix",
)
"""In the order in which they go: first what is let go of, then what held nothing else."""
UNASKED = (SCRATCH, FOLDERS, CONTAINERS, IMAGES, OWN_STORE)
"""What nothing needs any more. The others are in use: by other users of the machine, or by the next command."""


@dataclass(frozen=True)
class Found:
    """What there is of one kind."""

    kind: str
    things: tuple[str, ...] = ()
    """What goes, each in a few words."""
    size: int = 0
    """What the disk has more then, in bytes."""
    left: tuple[str, ...] = ()
    """What stays, with the reason."""
    problem: TungstenError | None = None
    """Why nobody can say."""
    remove: Callable[[], int] = field(default=lambda: 0, repr=False, compare=False)
    """Removes it; how many bytes that were. Raises TungstenError."""


def find(kinds: Collection[str], engine: str | None = None) -> list[Found]:
    """What there is of some kinds, in the order in which it should go."""
    finders: dict[str, Callable[[], Found]] = {
        SCRATCH: _scratch,
        FOLDERS: _folders,
        CONTAINERS: partial(_containers, engine),
        IMAGES: partial(_images, engine),
        OWN_STORE: partial(_stores, OWN_STORE),
        STORE: partial(_stores, STORE),
        CACHE: _cache,
        NIX: _nix,
    }
    found = []
    for kind in (kind for kind in KINDS if kind in kinds):
        try:
            found.append(finders[kind]())
        except TungstenError as problem:
            found.append(Found(kind, problem=problem))
        except OSError as problem:
            found.append(Found(kind, problem=RunError(str(problem.strerror), where=str(problem.filename))))
    return found


def _scratch() -> Found:
    """Temporary folders whose process was killed, and servers that it has left without a container."""
    paths = list(started.abandoned())
    found = _of_paths(SCRATCH, paths)

    def remove() -> int:
        for path in paths:
            started.end_servers(path)
        return found.remove()

    things = tuple(
        f"{path}{', and a server that runs' if started.servers_of(path) else ''}" for path in paths
    )
    return replace(found, things=things, remove=remove)


def _folders() -> Found:
    """What is left of models: `.tungsten` alone, as where git has removed the rest, and roots that lead nowhere."""
    states, gone, left = [], [], []
    for folder, known in folders().items():
        if not os.path.lexists(folder / STATE):
            gone.append((folder, [root for root in known if root.store.is_writable]))
        elif _is_left_alone(folder):
            try:
                check_ours(folder / STATE)
            except RunError as problem:
                left.append(f"{problem.where}: {problem.what}")
                continue
            if started.is_held(folder / STATE / "busy"):
                left.append(f"{folder}: another tungsten is at work on it")
            else:
                states.append((folder, known))
    gone = [(folder, known) for folder, known in gone if known]

    def remove() -> int:
        size = sum(erase_state(folder) for folder, _ in states)
        for root in (root for _, known in (*states, *gone) for root in known):
            root.forget()
        return size

    things = [f"{folder / STATE}: nothing else is there" for folder, _ in states]
    things += [f"{folder}: it is gone, and Nix has its {len(known)} roots noted" for folder, known in gone]
    size = disk.used(folder / STATE for folder, _ in states)
    return Found(FOLDERS, tuple(things), size, tuple(left), remove=remove)


def _is_left_alone(folder: Path) -> bool:
    try:
        return {entry.name for entry in os.scandir(folder)} <= {STATE, "__pycache__"}
    except OSError:
        return False


def _containers(engine: str | None) -> Found:
    """Containers whose tungsten was killed."""
    going = _left_behind(engine) if engine is not None else []
    left = [
        f"{one.name}: whoever has started it is {'there' if started.lives(one.started_by) else 'elsewhere'}"
        for one in (loaded.containers(engine) if engine is not None else ())
        if one not in going
    ]

    def remove() -> int:
        for one in going:
            loaded.remove_container(one)
        return 0

    things = tuple(f"{one.name}{', which still runs' if one.is_running else ''}" for one in going)
    return Found(CONTAINERS, things, 0, tuple(left), remove=remove)


def _left_behind(engine: str) -> list[loaded.Container]:
    return [
        one
        for one in loaded.containers(engine)
        # Of another machine's, or a container's, nobody here knows more than that it has ended.
        if (lives := started.lives(one.started_by)) is False or (lives is None and not one.is_running)
    ]


def _images(engine: str | None) -> Found:
    """Images that a newer one has taken the name of."""
    if engine is None:
        return Found(IMAGES)
    every = loaded.images(engine)
    nameless = [one for one in every if not one.names]
    # A container that is left behind goes before its image.
    used = loaded.used_images(engine, without=_left_behind(engine)) if nameless else set()
    going = [one for one in nameless if one.image_id not in used]
    left = [f"{_called(one)}: a container is made of it" for one in nameless if one.image_id in used]

    def remove() -> int:
        for one in going:
            loaded.remove_image(engine, one.image_id)
        return size

    size = loaded.unshared(going, [one for one in every if one not in going])
    return Found(IMAGES, tuple(map(_called, going)), size, tuple(left), remove=remove)


def _called(image: loaded.Loaded) -> str:
    return f"{image.title or 'a model'} {image.image_id.removeprefix('sha256:')[:12]}"


def _stores(kind: str) -> Found:
    """What no root holds in the user's own store, or in the others that are here."""
    found = [store for store in roots.stores() if store.is_own is (kind == OWN_STORE)]
    things, left, size, going = [], [], 0, []
    for store in found:
        if reason := _busy(store):
            left.append(f"{store.place}: {reason}")
            continue
        if not (dead := store.dead()):
            continue
        here = store.size(dead)
        size += here
        things.append(f"{store.place}: {len(dead)} paths that no root holds")
        going.append(store)

    def remove() -> int:
        freed = 0
        for store in going:
            if reason := _busy(store):
                raise RunError(f"it is left: {reason}", where=str(store.place))
            dead = store.dead()
            before = store.size(dead)
            store.collect()
            freed += before - store.size(path for path in dead if os.path.lexists(path))
        return freed

    return Found(kind, tuple(things), size, tuple(left), remove=remove)


def _busy(store: Store) -> str | None:
    """Who is at work on a store. Nix knows what itself is at work on; what is fetched, nothing holds at first."""
    for folder in {root.link.parent for root in store.roots() if STATE in root.link.parent.parts}:
        state = Path(*folder.parts[: folder.parts.index(STATE) + 1])
        if started.is_held(state / "busy"):
            return f"a tungsten is at work in {state.parent}"
    # A model that is worked at for the first time has no root yet.
    return "a tungsten is at work on it" if started.is_held(store.place) else None


def _cache() -> Found:
    """What was read of indexes and packages."""
    folder = cache_folder()
    return _of_paths(CACHE, [folder] if folder.is_dir() and not folder.is_symlink() else [])


def _nix() -> Found:
    """Our own Nix, with all of its store."""
    from tungstenkit.fetch import own_nix

    folder = nix_program.folder_of_nix()
    own = next((store for store in roots.stores() if store.is_own), None)
    if own is not None and (reason := "a Nix is at work on it" if own.is_in_use else _busy(own)):
        return Found(NIX, left=(f"{folder}: {reason}",))
    parts = [path for path in own_nix.parts() if path.is_dir()]
    if not parts:
        return Found(NIX)
    return Found(NIX, (str(folder),), disk.used(parts), remove=own_nix.remove)


def _of_paths(kind: str, paths: Sequence[Path]) -> Found:
    def remove() -> int:
        size = 0
        for path in paths:
            with suppress(FileNotFoundError):
                try:
                    size += disk.erase(path)
                except PermissionError as problem:
                    raise RunError(
                        f"it can't be removed: {problem.strerror}", where=str(problem.filename or path)
                    ) from None
        return size

    return Found(kind, tuple(map(str, paths)), disk.used(paths), remove=remove)
