"""A folder that is an image layout (OCI image specification), as a place."""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
import stat
import threading
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from tungstenkit.outside import contents
from tungstenkit.registry import artifact as artifacts
from tungstenkit.registry.artifact import DIGEST, INDEX, MANIFEST, Descriptor
from tungstenkit.registry.base import (
    DOCUMENTS,
    LARGEST_MANIFEST,
    MissingError,
    Place,
    damaged,
    digest_of,
    no_manifest,
    nothing,
    take,
)
from tungstenkit.sdk.errors import FetchError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from tungstenkit.registry.artifact import Layer

_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
_REF_NAME = "org.opencontainers.image.ref.name"


class LayoutPlace(Place):
    """A folder that is an image layout."""

    ends = True

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.name = str(folder)
        self.reference = None
        self._turn = threading.RLock()
        self._is_alone = False

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Say what the layout has, and nobody else meanwhile: what they have said is seen, and theirs comes after."""
        with self._turn:
            if self._is_alone:
                yield
                return
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
                file = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY)
            except OSError as problem:
                raise _unwritable(problem, self.folder) from None
            try:
                # Where a file system knows no locks, nobody waits.
                with suppress(OSError):
                    fcntl.flock(file, fcntl.LOCK_EX)
                self._is_alone = True
                yield
            finally:
                self._is_alone = False
                os.close(file)

    def path(self, digest: str) -> Path:
        """Where a blob is."""
        return self.folder / "blobs" / "sha256" / digest.removeprefix("sha256:")

    def resolve(self, reference: str | None = None) -> Descriptor:
        """As `Place`; without a tag, the one image that a layout has."""
        listed = self._listed()
        if reference is None:
            images = [one for one in listed if one.artifact_type is None]
            found = images if len(images) == 1 else listed
        else:
            found = [one for one in listed if reference in (one.digest, one.annotations.get(_REF_NAME))]
        if len({one.digest for one in found}) != 1:
            raise MissingError(
                "the layout does not have this" if reference else "the layout has no one image",
                where=f"{self.name}{f' {reference}' if reference else ''}",
                hint="name the folder of one image, as `skopeo copy … oci:FOLDER` writes it",
            )
        return found[0]

    def manifest(self, digest: str) -> bytes:
        """As `Place`."""
        path = self._plain(digest)
        if path.stat().st_size > LARGEST_MANIFEST or digest_of(content := path.read_bytes()) != digest:
            raise damaged(str(path), digest)
        return content

    def _plain(self, digest: str) -> Path:
        """The path of a blob, which is a file, and no link to one of this machine's."""
        path = self.path(digest)
        if not DIGEST.fullmatch(digest) or not path.is_file() or path.is_symlink():
            raise MissingError("the layout does not have this", where=str(path), hint="copy it again, whole")
        return path

    def blob(self, digest: str, size: int, to: Path, advance: Callable[[int], None] = nothing) -> None:
        """As `Place`."""
        path = self._plain(digest)
        part = to.with_name(f"{to.name}~")
        part.unlink(missing_ok=True)
        if path.stat().st_size == size:
            _link(path, part)
            take(part, to, digest, size, str(path))
        else:
            raise damaged(str(path), digest)
        advance(size)

    def has_blob(self, digest: str) -> bool:
        """As `Place`."""
        path = self.path(digest)
        return path.is_file() and not path.is_symlink()

    def put_blob(
        self,
        layer: Layer,
        advance: Callable[[int], None] = nothing,
        *,
        mount: Sequence[str] = (),  # noqa: ARG002 (another folder is no other repository)
    ) -> None:
        """As `Place`."""
        found = layer.descriptor
        target = self.path(found.digest)
        with _written(target) as part:
            if isinstance(layer.source, bytes):
                part.write_bytes(layer.source)
            else:
                shutil.copyfile(layer.source, part)
        advance(found.size)

    def put_manifest(self, content: bytes, media_type: str = MANIFEST, tag: str | None = None) -> Descriptor:
        """As `Place`."""
        self.write(f"blobs/sha256/{digest_of(content).removeprefix('sha256:')}", content)
        found = replace(artifacts.described(content), media_type=media_type)
        name = {_REF_NAME: tag} if tag is not None else {}
        with self.alone():
            listed = self._listed()
            kept = next((one.annotations for one in listed if one.digest == found.digest), {})
            others = [
                one
                for one in listed
                if one.digest != found.digest and (tag is None or one.annotations.get(_REF_NAME) != tag)
            ]
            self.say([*others, replace(found, annotations={**kept, **found.annotations, **name})])
        return found

    def say(self, manifests: Sequence[Descriptor]) -> None:
        """Say which manifests the layout has, in place of what it said before."""
        self.write("oci-layout", artifacts.spelled({"imageLayoutVersion": "1.0.0"}))
        entries = [one.to_json() for one in manifests]
        # The last: what it names is there.
        index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}
        self.write("index.json", artifacts.spelled(index))

    def referrers(self, digest: str, kind: str | None = None) -> list[Descriptor]:
        """As `Place`."""
        found = []
        for one in {one.digest: one for one in self._listed()}.values():
            if one.media_type not in DOCUMENTS:
                continue
            content = self.manifest(one.digest)
            if artifacts.subject_of(content) == digest:
                described = artifacts.described(content)
                found.append(described)
        return [one for one in found if kind is None or one.artifact_type == kind]

    def _listed(self) -> list[Descriptor]:
        path = self.folder / "index.json"
        if not path.exists():
            return []
        try:
            return artifacts.manifests_of(contents(path, LARGEST_MANIFEST))
        except (OSError, ValueError):
            raise no_manifest(str(path)) from None

    def write(self, name: str, content: bytes) -> None:
        """Put a file beside the layout's own. Raises FetchError."""
        with _written(self.folder / name) as part:
            part.write_bytes(content)


class _written:  # noqa: N801 (used as a function)
    """A path for a new file, which gets its name when it is whole. Raises FetchError."""

    def __init__(self, path: Path) -> None:
        self._path = path
        # Another process may write the same.
        self._part = path.with_name(f"{path.name}.{secrets.token_hex(4)}~")

    def __enter__(self) -> Path:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as problem:
            raise _unwritable(problem, self._path) from None
        return self._part

    def __exit__(self, _kind: object, problem: BaseException | None, _trace: object) -> None:
        try:
            if problem is None:
                self._part.replace(self._path)
        except OSError as other:
            problem = other
        if problem is not None:
            with suppress(OSError):
                self._part.unlink()
        if isinstance(problem, OSError):
            raise _unwritable(problem, self._path) from None


def _unwritable(problem: OSError, path: Path) -> FetchError:
    return FetchError(
        f"the copy can't be written: {problem.strerror}",
        where=str(problem.filename2 or problem.filename or path),
        hint="make room there",
    )


def _link(source: Path, path: Path) -> None:
    """Another name for a file that nobody else may write, so that what was verified stays so; else a copy."""
    with suppress(OSError):
        os.link(source, path, follow_symlinks=False)
        found = path.lstat()
        if stat.S_ISREG(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & _OTHERS_WRITE:
            return
        path.unlink()
    shutil.copyfile(source, path)
