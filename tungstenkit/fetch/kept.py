"""What builds an image, where a push has kept it: the artifacts that refer to it, found and read.

They are kept beside the image or in another place, and are somebody else's: their digests say that they are whole, and
not what is in them.
"""

from __future__ import annotations

import errno
import os
import tarfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from tungstenkit import started, tars
from tungstenkit.fetch import inputs
from tungstenkit.outside import path_problem
from tungstenkit.registry import artifact as artifacts
from tungstenkit.registry.artifact import EXPORT, EXPORT_TAR, INPUTS, TITLE
from tungstenkit.registry.base import DamagedError, MissingError
from tungstenkit.sdk.errors import FetchError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tungstenkit.registry.artifact import Descriptor
    from tungstenkit.registry.base import Place

LARGEST_EXPORT = 1 << 32
"""In bytes: what is larger of a model lies in a store, and not in an export."""
MOST_FILES = 100_000
MOST_MANIFESTS = 100
"""Of artifacts of one kind that are about an image, and in one index: a push keeps one."""
_PIECE, _SHOWN = 1 << 20, 200
_DEEPEST = 200
"""Folders in folders: what removes them goes into each."""


@dataclass(frozen=True)
class Kept:
    """An artifact of one kind, and where it is."""

    place: Place
    manifest: Descriptor
    layers: Sequence[Descriptor]


def find(kind: str, image: str, places: Sequence[Place]) -> list[Kept]:
    """The artifacts of a kind that refer to an image, in the order of the places. image: the digest of its manifest.

    A place may be named by such an artifact itself. Raises FetchError where a place can't be asked.
    """
    found: dict[str, Kept] = {}
    for place in places:
        listed = place.referrers(image, kind)
        if len(listed) > MOST_MANIFESTS:
            raise FetchError(
                f"{len(listed)} artifacts of this kind are kept of the image, {kind}",
                where=f"{place.name}@{image}",
                hint="remove those that nobody needs, or name another place",
            )
        for one in listed:
            content = place.manifest(one.digest)
            # Whoever may write a fallback's tag may say anything there.
            if _subject(content, one, place) == image:
                found.setdefault(one.digest, _kept(place, one, content))
    return list(found.values())


def layers_of(place: Place, content: bytes) -> list[Descriptor]:
    """What a manifest of a place holds, or each of an index. Raises ValueError for what is neither, and FetchError."""
    if "manifests" not in artifacts.read(content):
        return artifacts.layers_of(content)
    some = artifacts.manifests_of(content)
    if len(some) > MOST_MANIFESTS:
        raise ValueError("too many manifests")
    return [layer for one in some for layer in artifacts.layers_of(place.manifest(one.digest))]


def inputs_of(image: str, places: Sequence[Place]) -> list[Kept]:
    """What was kept of the inputs of an image. Raises as `find`, and MissingError where nothing was."""
    return _some(find(INPUTS, image, places), "what builds the image", image)


def export_of(image: str, places: Sequence[Place]) -> list[Kept]:
    """What was kept of an image's export, as `inputs_of`."""
    return _some(find(EXPORT, image, places), "the export of the image", image)


def _some(found: list[Kept], what: str, image: str) -> list[Kept]:
    if not found:
        raise MissingError(
            f"{what} was not kept here",
            where=image,
            hint="`tungsten push --with-inputs` keeps it; a copy of an image has it where it was copied from",
        )
    return found


def _subject(content: bytes, one: Descriptor, place: Place) -> str | None:
    try:
        return artifacts.subject_of(content)
    except ValueError:
        raise _unreadable(one, place) from None


def _kept(place: Place, manifest: Descriptor, content: bytes) -> Kept:
    try:
        layers = layers_of(place, content)
        if manifest.artifact_type == INPUTS:
            for layer in layers:
                inputs.key(layer)
        return Kept(place, manifest, layers)
    except ValueError:
        raise _unreadable(manifest, place) from None


def _unreadable(manifest: Descriptor, place: Place) -> FetchError:
    return FetchError(
        "this is no artifact of ours, though it says so",
        where=f"{place.name}@{manifest.digest}",
        hint="another program has put it there: remove it, or name another place",
    )


def unpack_export(kept: Kept, folder: Path) -> None:
    """Write an export into a folder that is new. Raises FetchError for what is no export, whoever made it."""
    layers = [layer for layer in kept.layers if layer.media_type == EXPORT_TAR]
    if sum(layer.size for layer in layers) > LARGEST_EXPORT:
        raise _unreadable(kept.manifest, kept.place)
    seen: set[str] = set()
    with started.scratch() as scratch:
        for number, layer in enumerate(layers):
            path = scratch / str(number)
            title = layer.annotations.get(TITLE, layer.digest)
            try:
                kept.place.blob(layer.digest, layer.size, path)
            except DamagedError as problem:
                raise problem.reworded(f"the export ({title}): {problem.what}") from None
            lay_out(path, folder, seen, f"{kept.place.name}@{layer.digest} ({title})")


def lay_out(path: Path, folder: Path, seen: set[str], where: str) -> None:
    """Write what a tar of an export has into a folder. Raises FetchError for what no export has.

    seen: what is there already. where: the tar, in an error's words.
    """
    try:
        with tars.opened(path) as tar:
            for member in tar:
                _unpack(tar, member, folder, seen)
        _check_links(folder)
    except (tarfile.TarError, EOFError, OSError, ValueError, UnicodeError) as problem:
        if isinstance(problem, OSError) and problem.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise FetchError(
            f"this is no part of an export: {problem}",
            where=where,
            hint="another program has put it there: remove it, or name another place",
        ) from None


def _check_links(folder: Path) -> None:
    """ValueError for a link that leads out of the model by way of others, whichever was there first."""
    model = folder / "model"
    inside = os.path.realpath(model)
    for parent, folders, files in os.walk(model):
        for path in (Path(parent, name) for name in (*folders, *files)):
            # Links may go round, which `resolve` does not like.
            if path.is_symlink() and not Path(os.path.realpath(path)).is_relative_to(inside):
                name = path.relative_to(folder).as_posix()
                raise ValueError(f"{name[:_SHOWN]!a} leads out of the model")


def _unpack(tar: tarfile.TarFile, member: tarfile.TarInfo, folder: Path, seen: set[str]) -> None:
    """A file or a link of an export; ValueError for what none has. seen: what is there already."""
    name = member.name
    path = PurePosixPath(name)
    is_deep = len(path.parts) > _DEEPEST
    if path_problem(name) or ".." in path.parts or str(path) != name or name in seen or is_deep:
        raise ValueError(f"{name[:_SHOWN]!a} is no path of it")
    seen.add(name)
    if len(seen) > MOST_FILES:
        raise ValueError(f"it has more than {MOST_FILES} files")
    target = folder / name
    # Nothing is written through a link: that above a file is a folder which we have made.
    if any((folder / above).is_symlink() for above in path.parents):
        raise ValueError(f"{name[:_SHOWN]!a} is behind a link")
    target.parent.mkdir(parents=True, exist_ok=True)
    if member.issym():
        depth = 0
        for part in (*path.parent.parts[1:], *PurePosixPath(member.linkname).parts):
            depth += -1 if part == ".." else 1
            if depth < 0 or part == "/":
                raise ValueError(f"{name[:_SHOWN]!a} leads out of the model")
        if not name.startswith("model/"):
            raise ValueError(f"{name[:_SHOWN]!a} is a link")
        target.symlink_to(member.linkname)
    # What is sparse takes no bytes there, and all of them here.
    elif member.isreg() and not member.issparse():
        content = tar.extractfile(member)
        assert content is not None  # it is a file
        with target.open("xb") as file:
            while piece := content.read(_PIECE):
                file.write(piece)
        target.chmod(0o755 if member.mode & 0o100 else 0o644)
    else:
        raise ValueError(f"{name[:_SHOWN]!a} is neither a file nor a link")
