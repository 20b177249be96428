"""What was built on this machine: which folders have an image, which images an engine has, what each is, how it goes.

Nothing of ours notes it. A folder that has an image holds it by a link that Nix has registered, and an image of ours
in an engine has labels: so what was moved, copied or removed by other means is told as it is.
"""

from __future__ import annotations

import hashlib
import json
import os
import shlex
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tungstenkit import disk, roots
from tungstenkit.lock.document import LOCK_NAME
from tungstenkit.nix_build import loaded
from tungstenkit.nix_build.engine import has_image, image_reference, load_image
from tungstenkit.nix_build.image import blob, read_layout
from tungstenkit.nix_build.loaded import Layer
from tungstenkit.platforms import ARCHITECTURES, this_system
from tungstenkit.project.folder import STATE
from tungstenkit.sdk.errors import BuildError, RunError, TungstenError
from tungstenkit.started import is_held

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tungstenkit.nix_build.loaded import Loaded
    from tungstenkit.roots import Root, Store

_IMAGE = {f"image-{system}": system for system in ARCHITECTURES}
"""A folder's links to its images, by their names, with the platforms."""


@dataclass(frozen=True)
class Built:
    """An image that was built here, or is in the engine."""

    name: str
    """The model's, or the folder's where nothing is left that would say."""
    platform: str
    folder: Path | None = None
    """The model's; None for an image that only the engine has."""
    store: Path | None = None
    """The Nix store that the folder's image is in."""
    layout: Path | None = None
    """The image itself there; None where the folder or the image is gone."""
    digest: str | None = None
    image_id: str | None = None
    size: int | None = None
    """In bytes: of all blobs, as they are pushed; of an image that only the engine has, as the engine says."""
    built: datetime | None = None
    names: tuple[str, ...] = ()
    """What the engine calls it."""
    lock: str | None = None
    """The sha256 of the lock that lies in the folder now."""

    @property
    def is_gone(self) -> bool:
        """Whether the folder is there no more, or no more what it was."""
        return self.folder is not None and not (self.folder / STATE).is_dir()


@dataclass(frozen=True)
class Inspected:
    """All that is known of one image."""

    built: Built
    layers: tuple[Layer, ...]
    labels: dict[str, str]
    is_locks: bool | None
    """Whether the folder's lock is the one that was exported last; None where there is none to compare."""


@dataclass(frozen=True)
class Removal:
    """What goes with a model."""

    target: str
    folder: Path | None
    """Whose `.tungsten` goes."""
    images: tuple[Loaded, ...]
    names: tuple[str, ...]
    """Of them, those that go."""
    size: int
    """In bytes, of the folder and the engine."""
    in_store: int | None
    """What nothing else holds in the Nix store then, and what collecting it would free; None where nobody can say."""
    left: tuple[str, ...] = ()
    """What stays, with the reason."""


def built(engine: str | None = None) -> list[Built]:
    """Every image that this user's folders have, and each of ours that the engine has besides."""
    images = loaded.images(engine) if engine is not None else []
    found = [_of_root(root) for root in _image_roots()]
    known = [replace(one, names=_names(one, images)) for one in found]
    of_folders = {one.image_id for one in known} | {one.digest for one in known}
    rest = [_of_image(image) for image in images if not {image.image_id, image.digest} & of_folders]
    return [*known, *sorted(rest, key=lambda one: (one.names, one.name, one.image_id or ""))]


def inspect(target: str, engine: str | None = None) -> list[Inspected]:
    """An image by its folder, one for each platform, or by its name in the engine. Raises TungstenError."""
    if found := _of_target(target):
        images = loaded.images(engine) if engine is not None else []
        return [_inspected(replace(one, names=_names(one, images))) for one in found]
    image = _in_engine(target, engine)
    for one in built(engine):
        if one.layout is not None and set(one.names) & set(image.names):
            return [_inspected(one)]
    return [Inspected(_of_image(image), tuple(image.layers()), image.labels, None)]


def layout_of(target: str, platform: str | None = None) -> Path | None:
    """The layout of an image that was built here, by its folder, or by the model's name; None for anything else.

    platform: which of a folder's, by default this machine's. Raises RunError where a folder's image is gone, and where
    several models have the name.
    """
    folder = Path(target)
    if (folder / STATE).is_dir():
        found = _of_target(target)
    else:
        found = [] if folder.exists() else [one for one in built() if one.name == target]
    there = [one for one in found if one.layout is not None]
    if found and not there:
        raise RunError(
            "its image is in the Nix store no more",
            where=target,
            hint=f"`tungsten build {shlex.quote(str(found[0].folder))}` builds it again",
        )
    wanted = [one for one in there if one.platform == (platform or this_system())] or there
    if len({one.digest for one in wanted}) > 1:
        raise RunError(
            "several images are called so",
            where=target,
            hint=f"name a folder: {', '.join(shlex.quote(str(one.folder)) for one in wanted)}",
        )
    return wanted[0].layout if wanted else None


def removal(target: str, engine: str | None = None) -> Removal:
    """What removing a model would remove: of a folder all that was made there and its image's names, or one name.

    Raises TungstenError for what is not this user's, and what is being built.
    """
    found = _of_target(target)
    if not found:
        return _removal_of_name(target, _in_engine(target, engine))
    folder = found[0].folder
    assert folder is not None  # it is of a folder
    check_ours(folder / STATE)
    if is_held(folder / STATE / "busy"):
        raise RunError("another tungsten is at work on this model", where=str(folder))
    images = loaded.images(engine) if engine is not None else []
    others = {one.image_id for one in built() if one.folder != folder and one.image_id is not None}
    own = tuple(image for image in images if any(_is(one, image) for one in found))
    going = tuple(image for image in own if image.image_id not in others)
    left = tuple(
        f"{', '.join(image.names) or image.image_id}: another folder's image is the same"
        for image in own
        if image not in going
    )
    size = disk.used([folder / STATE]) + loaded.unshared(going, [one for one in images if one not in going])
    names = tuple(name for image in going for name in image.names or (image.image_id,))
    return Removal(str(folder), folder, going, names, size, _held_alone(folder), left)


def remove(target: str | Removal, engine: str | None = None) -> Removal:
    """Remove a model: what `removal` says; what was removed. Raises TungstenError."""
    what = target if isinstance(target, Removal) else removal(target, engine)
    for image in what.images:
        for name in (name for name in what.names if name in (*image.names, image.image_id)):
            loaded.remove_image(image.engine, name)
    if what.folder is not None:
        known = [root for root in _roots() if root.link.is_relative_to(what.folder / STATE)]
        if os.path.lexists(what.folder / STATE):
            erase_state(what.folder)
        for root in known:
            root.forget()
    return what


def tag(source: str, references: Sequence[str], engine: str | None) -> list[str]:
    """Give an image in the engine more names; what the engine calls it by them. Raises TungstenError.

    A folder's is the one that was built last for this machine.
    """
    if engine is None:
        raise RunError(
            "there is no podman, nor docker with a daemon, in which an image would have a name",
            hint="`tungsten push REF DIR` gives it one in a registry",
        )
    names = [image_reference(*_name_and_tag(one), engine) for one in references]
    if not (found := _of_target(source)):
        image_id = _in_engine(source, engine).image_id
        for name in names:
            loaded.tag_image(engine, image_id, name)
        return names
    here = [one for one in found if one.layout is not None]
    best = next((one for one in here if one.platform == this_system()), here[0] if here else None)
    if best is None or best.layout is None:
        raise RunError(
            "its image is in the Nix store no more",
            where=source,
            hint=f"`tungsten build {shlex.quote(source)}` builds it again",
        )
    image = read_layout(best.layout)
    for name in names:
        if not has_image(image, engine, name):
            load_image(image, engine, name)
    return names


def _name_and_tag(reference: str) -> tuple[str, str]:
    name, colon, tag = reference.rpartition(":")
    return (name, tag) if colon and "/" not in tag else (reference, "latest")


def erase_state(folder: Path) -> int:
    """Remove what we have made in a model's folder; how many bytes that were. Raises RunError."""
    state = folder / STATE
    check_ours(state)
    with _exclusively(state):
        try:
            return disk.erase(state)
        except OSError as problem:
            raise RunError(
                f"it can't be removed: {problem.strerror}", where=str(problem.filename or state)
            ) from None


def check_ours(state: Path) -> None:
    """RunError where a folder of our making, or anything in it, is a link elsewhere or another user's."""
    if state.is_symlink():
        raise RunError("this is a link, and not a folder that tungsten has made", where=str(state))
    for parent, folders, files in os.walk(state):
        for name in (".", *folders, *files):
            owner = os.lstat(f"{parent}/{name}").st_uid
            if owner != os.geteuid():
                raise RunError(f"there is something of the user {owner}'s", where=f"{parent}/{name}")


@contextmanager
def _exclusively(state: Path) -> Iterator[None]:
    """Keep others from work on a model, as `Project.exclusively` does, without writing anything."""
    import fcntl

    try:
        file = os.open(state / "busy", os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        yield  # nobody has been at work yet
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise RunError("another tungsten is at work on this model", where=str(state.parent)) from None
    finally:
        os.close(file)


def folders() -> dict[Path, list[Root]]:
    """This user's folders in which tungsten has made something, with what each holds; those that are gone, too."""
    found: dict[Path, list[Root]] = {}
    for root in _roots():
        if STATE in root.link.parts:
            # The last of them: a model may lie in what another one has made.
            depth = root.link.parts[::-1].index(STATE) + 1
            folder = Path(*root.link.parts[:-depth])
            found.setdefault(folder, []).append(root)
    return {folder: known for folder, known in sorted(found.items()) if _is_ours(folder)}


def _roots() -> Iterator[Root]:
    for store in roots.stores():
        yield from store.roots()


def _image_roots() -> Iterator[Root]:
    """One for each link: two stores may know it, and it leads into one of them."""
    for folder, known in folders().items():
        links: dict[Path, Root] = {}
        for root in known:
            is_image = root.link.parent == folder / STATE and root.link.name in _IMAGE
            if is_image and (root.link not in links or root.target is not None):
                links[root.link] = root
        yield from links.values()


def _is_ours(folder: Path) -> bool:
    """Whether a folder, or what is left above it, is this user's: Nix registers what anybody names."""
    if not folder.is_absolute() or ".." in folder.parts:
        return False
    for path in (folder / STATE, folder, *folder.parents):
        try:
            return path.lstat().st_uid == os.geteuid()
        except OSError:
            continue  # it is not there, or not ours to look at
    return False


def _of_root(root: Root) -> Built:
    folder, system = root.link.parent.parent, _IMAGE[root.link.name]
    known = Built(folder.name, system, folder, root.store.place, lock=_sha256(folder / LOCK_NAME))
    target = root.target
    if target is None:
        return known
    known = replace(known, built=datetime.fromtimestamp(root.link.lstat().st_mtime, UTC))
    try:
        image = read_layout(Path(target))
        title = _config(Path(target), image.image_id).get("Labels", {}).get("org.opencontainers.image.title")
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return known  # collected, or damaged
    return replace(
        known,
        name=str(title or folder.name),
        layout=image.layout,
        digest=image.digest,
        image_id=image.image_id,
        size=image.size,
    )


def _of_image(image: Loaded) -> Built:
    return Built(
        name=image.title or "?",
        platform=image.platform,
        digest=image.digest or None,
        image_id=image.image_id,
        size=image.size,
        names=image.names,
    )


def _of_target(target: str) -> list[Built]:
    """The images of a folder that is named, though it be gone; none where it has none."""
    if not target:
        return []
    folder = Path(os.path.abspath(target))  # noqa: PTH100 (no link is followed: as Nix was told)
    wanted = {folder, folder.resolve()}
    found = [_of_root(root) for root in _image_roots() if root.link.parent.parent in wanted]
    if not found and folder.is_dir():
        raise RunError(
            "no image was built of this folder, or it has moved since",
            where=str(folder),
            hint=f"`tungsten build {shlex.quote(target)}` builds one",
        )
    return found


def _in_engine(target: str, engine: str | None) -> Loaded:
    if engine is None:
        raise RunError(
            f"no image was built of a folder {target!r}, and there is no podman, nor docker with a daemon, that would "
            "have one of this name",
            hint=folders_hint(target) or "`tungsten models` lists what was built here",
        )
    try:
        return loaded.image(engine, target)
    except BuildError as problem:
        raise (problem.reworded(hint=hint) if (hint := folders_hint(target)) else problem) from None


def folders_hint(name: str) -> str | None:
    """Where a model of this name was built: what runs and shows a folder's image is called by the folder, and the model
    may be called otherwise.
    """
    # As `build` prints it.
    model = name.removeprefix("localhost/").removesuffix(":latest")
    of_name = sorted({str(one.folder) for one in built() if one.name == model and not one.is_gone})
    return (
        f"that is a model's name: name its folder, {' or '.join(map(shlex.quote, of_name))}"
        if of_name
        else None
    )


def _inspected(one: Built) -> Inspected:
    if one.layout is None or one.image_id is None or one.digest is None:
        return Inspected(one, (), {}, None)
    manifest = json.loads(blob(one.layout, one.digest).read_text(encoding="utf-8"))
    whole = json.loads(blob(one.layout, one.image_id).read_text(encoding="utf-8"))
    told = [
        str(step.get("created_by", "")) for step in whole.get("history", ()) if not step.get("empty_layer")
    ]
    layers = manifest["layers"]
    if len(told) != len(layers):
        told = [""] * len(layers)
    found = tuple(
        Layer(layer["digest"], layer["size"], made) for layer, made in zip(layers, told, strict=True)
    )
    is_locks = None
    if one.folder is not None and one.lock is not None:
        exported = _sha256(one.folder / STATE / "export" / LOCK_NAME)
        is_locks = exported == one.lock if exported is not None else None
    return Inspected(one, found, _config(one.layout, one.image_id).get("Labels") or {}, is_locks)


def _config(layout: Path, image_id: str) -> dict[str, Any]:
    whole = json.loads(blob(layout, image_id).read_text(encoding="utf-8"))
    config: dict[str, Any] = whole.get("config") or {}
    return config


def _is(one: Built, image: Loaded) -> bool:
    """Whether an image of a folder's is one of an engine's, as `engine.has_image` has it."""
    return one.image_id is not None and bool(
        {one.image_id, one.digest} & {image.image_id, image.digest or None}
    )


def _names(one: Built, images: Sequence[Loaded]) -> tuple[str, ...]:
    return tuple(name for image in images if _is(one, image) for name in image.names)


def _removal_of_name(target: str, image: Loaded) -> Removal:
    """Of an image that is called by its id all names go; else the one, and the image with its last."""
    given = [name for name in image.names if target in (name, *_short(name))]
    names = tuple(given) or image.names or (image.image_id,)
    is_whole = set(names) >= set(image.names)
    others = [one for one in loaded.images(image.engine) if one.image_id != image.image_id]
    size = loaded.unshared([image], others) if is_whole else 0
    left = () if is_whole else (f"the image stays: it is {', '.join(set(image.names) - set(names))}, too",)
    return Removal(target, None, (image,), names, size, None, left)


def _short(name: str) -> set[str]:
    """What a user may leave out of an image's name."""
    without = {name, name.removeprefix("localhost/")}
    return without | {one.removesuffix(":latest") for one in without}


def _held_alone(folder: Path) -> int | None:
    """What a folder's links alone hold in the stores, in bytes; None where no Nix says so."""
    size = None
    for store in roots.stores():
        known = [root for root in store.roots() if root.link.is_relative_to(folder / STATE)]
        own = sorted({root.target for root in known if root.target is not None})
        # It is a help, and no more: a store may be damaged, or its Nix gone.
        with suppress(TungstenError):
            if own:
                size = (size or 0) + _alone(store, {str(root.link) for root in known}, own)
    return size


def _alone(store: Store, links: set[str], own: Sequence[str]) -> int:
    there = [path for path in own if os.path.lexists(path)]
    others = [path for root, path in store.every_root() if root not in links]
    return store.size(store.held(there) - store.held(sorted(set(others))))


def _sha256(path: Path) -> str | None:
    try:
        file = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        with os.fdopen(file, "rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError:
        return None
