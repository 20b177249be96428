"""A model's big files: told from its code by size, and named by hash.

Nix reads the whole source of a flake at each evaluation, so a file of some GB among it would cost seconds or minutes
each time. Such a file is in the store by itself, and an export only names it. Its hash is kept in the user's cache for
as long as the file is not touched.
"""

from __future__ import annotations

import hashlib
import shutil
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tungstenkit import store
from tungstenkit.cache import cache_folder, keep, kept
from tungstenkit.lacks import installing
from tungstenkit.sdk.errors import SpecError
from tungstenkit.spec.lfs import named, pointers

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence
    from pathlib import Path

    from tungstenkit.fetch.download import Progress
    from tungstenkit.spec.files import ModelFile

_PIECE = 1 << 20
_SETTLED = 2_000_000_000
"""Nanoseconds: a change so soon after another may leave all times as they are, on file systems with coarse clocks."""


@dataclass(frozen=True)
class BigFile:
    """A file of a model that is in the Nix store by itself."""

    path: str
    """Relative to the model's folder."""
    size: int
    """In bytes."""
    sha256: str
    executable: bool

    @property
    def store_name(self) -> str:
        """Its name in the store; `nix/inputs/fetch.nix` gives it the same."""
        return store.store_name(self.path.rpartition("/")[2])

    @property
    def store_path(self) -> str:
        """Its path in the store."""
        return store.file_path(self.sha256, self.store_name)

    def to_json(self) -> dict[str, Any]:
        """As an export's `files.json` has it."""
        return {
            "path": self.path,
            "size": self.size,
            "sha256": self.sha256,
            "executable": self.executable,
        }


def big_files(
    directory: Path, files: Sequence[ModelFile], limit: int, progress: Progress
) -> tuple[BigFile, ...]:
    """Those of a model's files that have more than `limit` bytes.

    progress: is told of what must be read; nothing where all is known.

    Raises SpecError for a file that changes while it is read, and for pointers of Git LFS, all at once.
    """
    if unfetched := pointers(directory, (file.path for file in files)):
        raise SpecError(
            named(unfetched),
            where=str(directory),
            hint="`git lfs install && git lfs pull` there brings the files"
            + ("" if shutil.which("git-lfs") else f"; {installing('git-lfs')}"),
        )
    sizes = {file: (directory / file.path).stat().st_size for file in files if file.kind == "file"}
    found = {file: size for file, size in sizes.items() if size > limit}
    hashes = hashes_of([directory / file.path for file in found], progress)
    return tuple(
        BigFile(file.path, size, sha256, file.executable)
        for (file, size), sha256 in zip(found.items(), hashes, strict=True)
    )


def hashes_of(paths: Sequence[Path], progress: Progress) -> list[str]:
    """The sha256 of files, in order; only what is new or was touched is read. Raises SpecError as `big_files`."""
    known = {path: _kept(path, path.stat()) for path in paths}
    unknown = [path for path, sha256 in known.items() if sha256 is None]
    if unknown:
        progress.start(len(unknown), sum(path.stat().st_size for path in unknown))
    return [known[path] or _hash(path, progress) for path in paths]


def kept_sha256_of(path: Path) -> str:
    """The sha256 of one file, which is read again only where it is small or was touched.

    Raises SpecError as `big_files`.
    """
    if path.stat().st_size <= _PIECE:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    return hashes_of([path], _Nobody())[0]


class _Nobody:
    """Who is told of progress where nobody waits for it."""

    def start(self, files: int, size: int) -> None: ...

    def advance(self, size: int) -> None: ...

    def done(self, name: str) -> None: ...


def _key(path: Path, status: os.stat_result) -> str:
    facts = (path, status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_dev)
    return hashlib.sha256(repr(facts).encode("utf-8", "surrogateescape")).hexdigest()


def _kept(path: Path, status: os.stat_result) -> str | None:
    found = kept(cache_folder() / "files", _key(path, status))
    return found.read_text() if found else None


def _hash(path: Path, progress: Progress) -> str:
    status = path.stat()
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            digest.update(piece)
            progress.advance(len(piece))
    if _key(path, path.stat()) != _key(path, status):
        raise SpecError(
            f"{path.name} changes while it is read", where=str(path), hint="wait until it is written"
        )
    sha256 = digest.hexdigest()
    if time.time_ns() - status.st_ctime_ns > _SETTLED:
        keep(cache_folder() / "files", _key(path, status), lambda place: _write(place, sha256))
    progress.done(path.name)
    return sha256


def _write(place: Path, text: str) -> None:
    place.write_text(text)
