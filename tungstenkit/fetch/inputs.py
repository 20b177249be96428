"""What a build takes, as an artifact of a registry or of an image layout: a blob for each file, by its sha256.

A file's path in a store is made of the hash of its content, so neither a signature nor trust in whoever kept it is
needed.
"""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from tungstenkit import store
from tungstenkit.at_once import at_once
from tungstenkit.digest import measure
from tungstenkit.registry.artifact import TITLE, Layer
from tungstenkit.registry.base import PARALLEL, DamagedError, MissingError
from tungstenkit.sdk.errors import FetchError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tungstenkit.fetch.download import Progress
    from tungstenkit.fetch.needs import LockedFile
    from tungstenkit.registry.artifact import Descriptor
    from tungstenkit.registry.base import Place

_AT_ONCE = 500
"""Paths in one command, for the limit on its length."""
KIND = "tungsten.kind"
"""Of a blob, `file`; `program`, which the store has as NAME/bin/NAME; or `archive`, which is Debian's and no input."""
PLACE = "tungsten.place"
"""Of what is Debian's: where its archive has it."""

Key = tuple[str, str, str]
"""What a file is known by: its hash, its name and its kind."""


@dataclass(frozen=True)
class Contents:
    """What a build takes, and where it is on this machine."""

    files: Sequence[LockedFile]
    """Of the store."""
    programs: Sequence[str] = ()
    """Store paths with a program each, which is called as they are, below `bin/`."""
    archive: Mapping[str, Path] = field(default_factory=dict)
    """A part of Debian's archive, from which a machine without Nix takes one: files by their places there."""


def layers(contents: Contents) -> dict[Key, Layer]:
    """The blobs of an artifact, in its order."""
    found = [
        Layer(Path(file.path), annotations={TITLE: file.name}, known=(file.size, file.sha256))
        for file in contents.files
    ]
    for folder in contents.programs:
        (program,) = Path(folder, "bin").iterdir()
        found.append(Layer(program, annotations={TITLE: program.name, KIND: "program"}))
    for place, path in contents.archive.items():
        about = {TITLE: store.store_name(path.name), KIND: "archive", PLACE: place}
        found.append(Layer(path, annotations=about))
    by_key = {key(layer.descriptor): layer for layer in found}
    return dict(sorted(by_key.items()))


def key(layer: Descriptor) -> Key:
    """What a blob of somebody's is. ValueError for what is none of ours."""
    name, kind = layer.annotations.get(TITLE, ""), layer.annotations.get(KIND, "file")
    # They become lines of a script.
    if (
        not re.fullmatch(r"[A-Za-z0-9+._-]+", name)
        or store.store_name(name) != name
        or kind not in ("file", "program", "archive")
    ):
        raise ValueError(f"{name!a} is no name of a store, or {kind!a} no kind")
    return layer.sha256, name, kind


def get(file: LockedFile, place: Place, folder: Path, progress: Progress) -> Path | None:
    """Download a file that a place has, verified, under its store name; None where it has it not. Raises FetchError.

    folder: where it waits; what broke off goes on from there.
    """
    # A file is added under its own name; two may have one.
    path = folder / file.sha256 / file.name
    path.parent.mkdir(parents=True, exist_ok=True)
    # What lies there was renamed when it was whole, but somebody else may have put it there.
    if path.is_symlink() or not path.is_file() or measure(path) != (file.size, file.sha256):
        try:
            place.blob(f"sha256:{file.sha256}", file.size, path, progress.advance)
        except MissingError:
            return None
        except DamagedError as problem:
            raise problem.reworded(f"this is not {file.name} as the lock has it") from None
    progress.done(file.name)
    return path


def take(files: Sequence[LockedFile], place: Place, folder: Path, progress: Progress) -> None:
    """Bring those of the files into the store that a place has and the store has not.

    folder: as `get` has it. Raises FetchError; what arrived before it stays, and after DamagedError all that is whole.
    """
    gone = store.missing([file.path for file in files])
    wanted = [file for file in {file.path: file for file in files}.values() if file.path in gone]
    if not wanted:
        return
    progress.start(len(wanted), sum(file.size for file in wanted))

    def one(file: LockedFile) -> Path | DamagedError | None:
        try:
            return get(file, place, folder, progress)
        except DamagedError as problem:
            return problem  # which says nothing of the others

    found = list(zip(wanted, at_once(one, wanted, PARALLEL), strict=True))
    arrived = [(file, path) for file, path in found if isinstance(path, Path)]
    damaged = next((problem for _, problem in found if isinstance(problem, DamagedError)), None)
    for start in range(0, len(arrived), _AT_ONCE):
        some = arrived[start : start + _AT_ONCE]
        added = store.add_files([path for _, path in some])
        for (file, path), there in zip(some, added, strict=True):
            if there != file.path:
                raise FetchError(f"this is not {file.name} as the lock has it", where=str(path))
    for file in wanted:
        shutil.rmtree(folder / file.sha256, ignore_errors=True)
    if damaged is not None:
        raise damaged
