"""What is kept of an image, and where: its export, and the files that it is built of, each by its digest.

They are sought beside the image first, as its referrers, and then where the user says: copies of images by other tools
come without them.
"""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from tungstenkit import store
from tungstenkit.at_once import at_once
from tungstenkit.export.packed import LABEL, pack_export
from tungstenkit.fetch.bring import add_busybox, programs, store_files, unfinished
from tungstenkit.fetch.kept import MOST_MANIFESTS, Kept, layers_of
from tungstenkit.fetch.kept import find as find_kept
from tungstenkit.fetch.needs import built_files, result_files
from tungstenkit.outside import contents
from tungstenkit.prove.exported import Export, copy, unpack
from tungstenkit.prove.image import INDEXES, system_of
from tungstenkit.registry import artifact as artifacts
from tungstenkit.registry.artifact import EXPORT, INPUTS
from tungstenkit.registry.base import LARGEST_MANIFEST, PARALLEL, MissingError
from tungstenkit.registry.layout import LayoutPlace
from tungstenkit.registry.place import place as place_of
from tungstenkit.sdk.errors import FetchError
from tungstenkit.spec.files import is_export

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from tungstenkit.fetch.download import Progress
    from tungstenkit.fetch.needs import LockedFile
    from tungstenkit.lock.document import Lock
    from tungstenkit.prove.image import Image
    from tungstenkit.registry.artifact import Descriptor
    from tungstenkit.registry.base import Place

_OLD_INPUTS = "application/vnd.tungsten.inputs"
"""Of folders that `fetch --to` of 0.2.0 has written."""
_TOLD = 20
_AT_ONCE = 200


@dataclass
class Evidence:
    """What was found."""

    exports: dict[str, Kept] = field(default_factory=dict)
    """By the digests of their manifests."""
    folder: Path | None = None
    """An export's folder, where the user names one."""
    inputs: dict[str, tuple[Place, Descriptor]] = field(default_factory=dict)
    """Files by their sha256, in hexadecimal."""

    def export(self, image: Image, scratch: Path) -> tuple[Export, str | None]:
        """The export of an image, laid out, and the digest of its manifest; None for a folder.

        Raises FetchError where there is no one, and where the image names another.
        """
        named = image.labels.get(LABEL)
        if self.folder is not None:
            only = copy(self.folder, scratch)
            meant: list[tuple[Export, str | None]] = [(only, None)] if named in (None, _name(only)) else []
        else:
            laid_out = ((self._laid_out(digest, named, scratch), digest) for digest in self.exports)
            meant = [(found, digest) for found, digest in laid_out if found is not None]
        # Those of one name are the same export, which was kept of several images.
        if len(meant) == 1 or (meant and named is not None):
            return meant[0]
        if meant:
            what = f"several exports are kept beside the image: {', '.join(self.exports)}"
        elif self.folder is not None or self.exports:
            what = f"the image says that it was built of another export than is kept here, {named}"
        else:
            what = "no export is kept beside the image: what it was built of is not known"
        raise FetchError(
            what,
            where=image.name,
            hint="--inputs names the image that was pushed with --with-inputs, or the folder of an export",
        )

    def _laid_out(self, digest: str, named: str | None, scratch: Path) -> Export | None:
        """An export that is kept, if it is the one that is named; else nothing of it stays: others may be as large."""
        folder = scratch / digest.removeprefix("sha256:")
        folder.mkdir()
        found = unpack(self.exports[digest], folder)
        if named in (None, _name(found)):
            return found
        shutil.rmtree(folder)
        return None

    def add(self, place: Place, manifests: Iterable[Descriptor]) -> None:
        """Add those of some manifests that are artifacts of ours. Raises FetchError."""
        for one in islice(manifests, MOST_MANIFESTS):
            content = place.manifest(one.digest)
            try:
                described = artifacts.described(content)
                if described.artifact_type not in (EXPORT, INPUTS, _OLD_INPUTS):
                    continue
                layers = layers_of(place, content)
            except (ValueError, MissingError):
                continue  # none of ours, or a part of an index, whose other parts are listed
            if described.artifact_type == EXPORT:
                self.exports[described.digest] = Kept(place, described, layers)
            else:
                for layer in layers:
                    self.inputs.setdefault(layer.sha256, (place, layer))


def find(image: Image, place: Place, others: Sequence[str]) -> Evidence:
    """What is kept beside an image, and in other places. Raises FetchError."""
    found = Evidence()
    found.add(place, _referrers(place, image.digest))
    for other in others:
        folder = Path(other)
        if is_export(folder):
            found.folder = found.folder or folder.absolute()
        else:
            elsewhere = place_of(other)
            found.add(elsewhere, _of(elsewhere, image))
    return found


def _of(place: Place, image: Image) -> Iterator[Descriptor]:
    """The manifests of a place that may be about an image: those that a folder has, or what a reference leads to."""
    if isinstance(place, LayoutPlace):
        try:
            listed = artifacts.manifests_of(contents(place.folder / "index.json", LARGEST_MANIFEST))
        except (OSError, ValueError):
            raise FetchError(
                "nothing is kept in this folder",
                where=place.name,
                hint="name one of `tungsten fetch --to`, an image layout, or an export",
            ) from None
        # First what is about this image: a folder may be that of many models.
        yield from _referrers(place, image.digest)
        for one in listed:
            yield from (one, *_listed(place, one, image))
        return
    yield from _referrers(place, image.digest)
    try:
        named = place.resolve()
    except MissingError:
        return  # a repository for inputs alone may have no tag
    meant = [named, *_listed(place, named, image)]
    yield from meant
    # Where an engine has packed the image anew, what was kept is about the one before.
    about = {one.digest for one in meant} | {_subject(place, one) for one in meant}
    for digest in sorted(filter(None, about - {image.digest})):
        yield from _referrers(place, digest)


def _listed(place: Place, named: Descriptor, image: Image) -> list[Descriptor]:
    """Where an index was named, what it has for an image's platform: an image, or what was kept of one."""
    if named.media_type not in INDEXES:
        return []
    try:
        listed = artifacts.manifests_of(place.manifest(named.digest))
    except ValueError:
        return []
    meant = [one for one in listed if system_of(one.platform) in (image.system, None)][:MOST_MANIFESTS]
    # A copy of an index may have some of its manifests alone.
    return [one for one in meant if place.has_manifest(one.digest)]


def _subject(place: Place, named: Descriptor) -> str | None:
    try:
        return artifacts.subject_of(place.manifest(named.digest))
    except ValueError:
        return None


def _referrers(place: Place, digest: str) -> list[Descriptor]:
    return [one.manifest for kind in (EXPORT, INPUTS) for one in find_kept(kind, digest, [place])]


def _name(export: Export) -> str:
    """By what an image would name an export."""
    tar = export.folder.with_name("named.tar")
    digest = pack_export(export.folder, tar)
    tar.unlink()
    return digest


@dataclass(frozen=True)
class Brought:
    """What an image is built of, by now in the Nix store."""

    files: int
    size: int
    """In bytes, of all of them."""
    read: int
    """In bytes, of those that were kept somewhere and were read there."""


def bring(
    part: Lock, export: Export, evidence: Evidence, scratch: Path, progress: Progress, without: frozenset[str]
) -> Brought:
    """Have in the Nix store, and held there, all that a part of a lock names: each file by its hash.

    Every one that is kept is read and compared with its hash, though the store has it. without: store paths that are
    to be made anew. Raises FetchError, with all files that are nowhere.
    """
    wanted = [file for file in store_files(part, export.big) if file.path not in without]
    wanted = list({file.path: file for file in wanted}.values())
    gone = store.missing([file.path for file in wanted])
    absent = {
        file.path
        for file in wanted
        if file.path in gone and file.sha256 not in evidence.inputs and not _is_in(export, file)
    }
    # What only builds wheels that are there is not needed.
    made = [*result_files(part), *(entry for _, entry in built_files(part))]
    needed = {file.path for file in (*unfinished(part, absent), *made)} | {
        file.store_path for file in export.big
    }
    lost = [file for file in wanted if file.path in absent & needed]
    if lost:
        names = [f"{file.name} (sha256 {file.sha256})" for file in lost[:_TOLD]]
        names += [f"and {len(lost) - _TOLD} more"] if len(lost) > _TOLD else []
        raise FetchError(
            "\n".join(["of what the image is built of, these are kept nowhere here:", *names]),
            hint="--inputs names another place where they are kept, a reference or a folder of `tungsten fetch --to`",
        )
    found = [file for file in wanted if file.sha256 in evidence.inputs]
    progress.start(len(found), sum(file.size for file in found))
    for start in range(0, len(found), _AT_ONCE):
        _read(found[start : start + _AT_ONCE], evidence, gone, scratch, progress)
    for tools in part.tools.values():
        add_busybox(tools.busybox, scratch)
    paths = {*(file.path for file in wanted), *programs(part)}
    store.keep(paths - store.missing([*paths]), scratch / "roots")
    return Brought(len(wanted), sum(file.size for file in wanted), sum(file.size for file in found))


def _is_in(export: Export, file: LockedFile) -> bool:
    """Whether an export has a file itself, as it has what is the model's own; its build looks at the hash."""
    return (export.folder / "files" / file.name).is_file()


def _read(
    files: Sequence[LockedFile], evidence: Evidence, gone: set[str], scratch: Path, progress: Progress
) -> None:
    """Read files where they are kept, and add to the store those that it has not."""
    # What is interrupted may still write there; all of `scratch` goes.
    with tempfile.TemporaryDirectory(dir=scratch, prefix="kept-", ignore_cleanup_errors=True) as folder:

        def one(number: int, file: LockedFile) -> Path:
            place, layer = evidence.inputs[file.sha256]
            path = Path(folder) / str(number) / file.name
            path.parent.mkdir()
            if layer.size != file.size:
                raise FetchError(
                    f"{file.name} has {layer.size} bytes there, and {file.size} in the lock", where=place.name
                )
            try:
                place.blob(layer.digest, layer.size, path, progress.advance)
            except MissingError as problem:
                raise problem.reworded(f"{file.name} is named there, and is not there") from None
            except FetchError as problem:
                raise problem.reworded(f"{file.name}: {problem.what}") from None
            progress.done(file.name)
            if file.path not in gone:
                path.unlink()
            return path

        paths = at_once(lambda numbered: one(*numbered), enumerate(files), PARALLEL)
        new = [(file, path) for file, path in zip(files, paths, strict=True) if file.path in gone]
        added = store.add_files([path for _, path in new])
        for (file, path), there in zip(new, added, strict=True):
            if there != file.path:
                raise FetchError(f"this is not {file.name} as the lock has it", where=str(path))
