"""What builds an image, kept in a registry beside it or elsewhere: its inputs and its export, as artifacts."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from tungstenkit import started, store
from tungstenkit.audit.post_build_seen import read_settings
from tungstenkit.data import FACTS
from tungstenkit.export import flake
from tungstenkit.fetch import inputs
from tungstenkit.fetch.bring import programs, store_files, store_paths
from tungstenkit.fetch.private import private_hashes
from tungstenkit.lock.selection import part_of
from tungstenkit.platforms import this_system
from tungstenkit.registry import elsewhere
from tungstenkit.registry.artifact import (
    DIGEST,
    EMPTY,
    EXPORT,
    EXPORT_TAR,
    INDEX,
    INPUTS,
    TITLE,
    Artifact,
    Layer,
    index,
)
from tungstenkit.registry.client import Access, RegistryError
from tungstenkit.registry.place import place

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from tungstenkit.fetch.needs import LockedFile
    from tungstenkit.lock.document import Lock
    from tungstenkit.project.folder import Project
    from tungstenkit.registry.artifact import Descriptor
    from tungstenkit.registry.base import Place


@dataclass(frozen=True)
class Keeping:
    """How a user wishes that what builds an image is kept."""

    to: str | None = None
    """Where, instead of beside the image."""
    private: bool = False
    """Whether what came with credentials is kept, too."""
    access: Access = field(default_factory=Access)
    """How both registries are spoken to."""


def keep(project: Project, images: Mapping[str, str], reference: str, wish: Keeping) -> None:
    """Keep what builds images that were pushed. images: digests of their manifests, by platform. reference: where.

    Raises FetchError; what was sent until then stays.
    """
    beside = place(reference, wish.access)
    where = place(wish.to, wish.access, may_be_new=True) if wish.to is not None else beside
    kept = {}
    for system, digest in images.items():
        kept[system] = _keep(project, system, beside.resolve(digest), where, private=wish.private)
    # A tag that is the image's own stays that.
    if where.reference and not DIGEST.fullmatch(where.reference) and not _is_same(where, beside):
        _give_tag(where, kept, where.reference)


def _is_same(one: Place, other: Place) -> bool:
    latest = "latest"  # what a registry's reference without a tag names
    return (one.name, one.reference or latest) == (other.name, other.reference or latest)


def _give_tag(where: Place, kept: Mapping[str, Descriptor], tag: str) -> None:
    """Have what was kept of images' inputs under a tag: of several platforms an index of each one's."""
    if len(kept) == 1:
        (one,) = kept.values()
        content, media_type = where.manifest(one.digest), one.media_type
    else:
        named = [
            replace(one, platform={"architecture": FACTS["platforms"][system]["oci"], "os": "linux"})
            for system, one in sorted(kept.items())
        ]
        content, media_type = index(INPUTS, named), INDEX
    with _refusals():
        where.put_manifest(content, media_type, tag)


def _keep(project: Project, system: str, subject: Descriptor, where: Place, *, private: bool) -> Descriptor:
    """Keep what builds the image for a platform; what refers to it, of its inputs."""
    lock = project.checked_lock()
    shipped = project.select_shipped(lock)
    part = part_of(lock, [system], this_system())
    gone = store.missing(store_paths(part, shipped.big))
    files = [file for file in store_files(part, shipped.big) if file.path not in gone]
    if not private:
        files = _without_private(project, part, files)
    contents = inputs.Contents(files, [path for path in programs(part) if path not in gone])
    with started.scratch() as scratch:
        kept = list(inputs.layers(contents).values())
        exported = _export_layers(flake.pack(project.spec, lock, shipped.contents(project), scratch))
        _send(project, where, [*kept, *exported])
        with _refusals():
            found = where.attach_shared(Artifact(INPUTS, kept), subject)
            where.attach(Artifact(EXPORT, exported, subject), sent=True)
    return found


def _export_layers(parts: dict[str, Path]) -> list[Layer]:
    return [Layer(path, EXPORT_TAR, {TITLE: name}) for name, path in parts.items()]


def _without_private(project: Project, lock: Lock, files: Sequence[LockedFile]) -> list[LockedFile]:
    private = private_hashes(lock, project.mirrors())
    # What it makes by a variable of the user's, such as a token, others could not make.
    if read_settings(project.directory).environment:
        results = [platform.post_build for platform in lock.platforms.values()]
        private |= {one.sha256 for one in results if one is not None}
    kept = [file for file in files if file.sha256 not in private]
    if left := len(files) - len(kept):
        what = "1 file that came" if left == 1 else f"{left} files that came"
        project.watch.warn(f"not kept: {what} by a password; --with-private-inputs keeps such, too")
    return kept


def _send(project: Project, where: Place, layers: Sequence[Layer]) -> None:
    """Have blobs kept that are not there, and say beforehand what that comes to."""
    with project.watch.working(f"asking {where.name} what it has"):
        lacking = where.lacking([*layers, EMPTY])
    others = elsewhere.repositories(where)
    unique = list({layer.descriptor.digest: layer for layer in layers}.values())
    # The empty one is of the form, and nobody's file.
    new = [layer for layer in lacking if layer is not EMPTY]
    sent = [layer for layer in new if layer.descriptor.digest not in others]
    rest = [layer for layer in new if layer.descriptor.digest in others]
    mounted = f"; in another repository of it: {_amount(rest)}" if rest else ""
    project.watch.notice(
        f"keeping what builds it in {where.name}: {_amount(unique)}; not there yet: {_amount(sent)}{mounted}"
    )
    with project.watch.fetching("sending and mounting" if rest else "sending") as bar:
        bar.start(len(lacking), sum(layer.descriptor.size for layer in lacking))
        where.put_blobs(
            lacking,
            bar.advance,
            lambda layer: bar.done(layer.annotations.get(TITLE, "")),
            lambda digest: others.get(digest, ()),
        )
    elsewhere.note(where, [layer.descriptor.digest for layer in layers])


def _amount(layers: Sequence[Layer]) -> str:
    size = sum(layer.descriptor.size for layer in layers)
    said = f"{size / 1e6:.1f} MB" if size >= 100_000 else f"{size / 1e3:.0f} kB"
    return f"{len(layers)} {'file' if len(layers) == 1 else 'files'}, {said}" if layers else "nothing"


@contextmanager
def _refusals() -> Iterator[None]:
    """Says what to do about a registry that takes no artifacts."""
    try:
        yield
    except RegistryError as problem:
        if problem.status in (400, 405, 406, 415, 422):
            raise problem.reworded(
                f"this registry takes no such artifact: {problem.what}",
                hint="--inputs-to REF names a repository of a registry that does",
            ) from None
        raise
