"""What places have in common: each holds manifests and blobs by their digests, whatever it is.

Whatever one gives is what its digest says, or an error; and no more than was expected.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from tungstenkit import started
from tungstenkit.at_once import at_once
from tungstenkit.digest import measure
from tungstenkit.registry import artifact as artifacts
from tungstenkit.registry.artifact import DOCKER_INDEX, DOCKER_MANIFEST, INDEX, MANIFEST
from tungstenkit.sdk.errors import FetchError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from tungstenkit.registry.artifact import Artifact, Descriptor, Layer

LARGEST_MANIFEST = 1 << 22
"""In bytes: what registries take at least (distribution specification, "Pushing Manifests")."""
PARALLEL = 8
"""Blobs at a time."""
DOCUMENTS = (MANIFEST, INDEX, DOCKER_MANIFEST, DOCKER_INDEX)
"""What manifests are, by their media types."""


class MissingError(FetchError):
    """A place has no such manifest or blob."""


def nothing(_size: int) -> None:
    """Who is told of bytes and does not care."""


class DamagedError(FetchError):
    """A place has other bytes than a digest says."""


class Place(ABC):
    """Where manifests and blobs are kept."""

    name: str
    """What a person calls it."""
    ends = False
    """Whether what is asked of it ends by itself, as what a disk does."""
    reference: str | None
    """The tag or digest that was named with it; None where none was."""

    @abstractmethod
    def resolve(self, reference: str | None = None) -> Descriptor:
        """What a tag or a digest names, by default `self.reference`. Raises MissingError, FetchError."""

    @abstractmethod
    def manifest(self, digest: str) -> bytes:
        """A manifest or an index, as it is kept. Raises MissingError, FetchError."""

    @abstractmethod
    def blob(self, digest: str, size: int, to: Path, advance: Callable[[int], None] = nothing) -> None:
        """Write a blob to a file, whole or not at all; what broke off goes on the next time.

        advance: is told of every byte. Raises MissingError, and FetchError for one that is not what it should be.
        """

    @abstractmethod
    def has_blob(self, digest: str) -> bool:
        """Whether a blob is there. Raises FetchError."""

    @abstractmethod
    def put_blob(
        self, layer: Layer, advance: Callable[[int], None] = nothing, *, mount: Sequence[str] = ()
    ) -> None:
        """Have a blob kept that is not there. mount: repositories of the same registry that may have it.

        Raises FetchError.
        """

    @abstractmethod
    def put_manifest(self, content: bytes, media_type: str = MANIFEST, tag: str | None = None) -> Descriptor:
        """Have a manifest kept, under a tag, too, or by its digest alone. What it names is there. Raises FetchError.

        What it is about has it as a referrer afterwards.
        """

    @abstractmethod
    def referrers(self, digest: str, kind: str | None = None) -> list[Descriptor]:
        """What is kept about a manifest, of one kind or of all. Raises FetchError."""

    def has_manifest(self, digest: str) -> bool:
        """Whether a manifest is there. Raises FetchError."""
        try:
            self.manifest(digest)
        except MissingError:
            return False
        return True

    def document(self, digest: str, size: int, most: int = LARGEST_MANIFEST) -> bytes:
        """A small blob, such as an image's configuration. Raises as `blob`."""
        if size > most:
            raise FetchError(f"a document of {size} bytes is none", where=f"{self.name}@{digest}")
        with started.scratch() as folder:
            self.blob(digest, size, folder / "document")
            content = (folder / "document").read_bytes()
        # It may be a file of somebody's folder, who writes it meanwhile.
        if digest_of(content) != digest:
            raise damaged(f"{self.name}@{digest}", digest)
        return content

    def lacking(self, layers: Sequence[Layer]) -> list[Layer]:
        """Those of the layers whose blobs are not there, each once. Raises FetchError."""
        found = list({layer.descriptor.digest: layer for layer in layers}.values())
        there = at_once(self.has_blob, [layer.descriptor.digest for layer in found], PARALLEL)
        return [layer for layer, is_there in zip(found, there, strict=True) if not is_there]

    def put_blobs(
        self,
        layers: Sequence[Layer],
        advance: Callable[[int], None] = nothing,
        done: Callable[[Layer], None] = lambda _: None,
        mount: Callable[[str], Sequence[str]] = lambda _: (),
    ) -> None:
        """Have blobs kept that are not there. done: is told of each. mount: for each digest, as `put_blob`.

        Raises the first FetchError.
        """

        def put(layer: Layer) -> None:
            self.put_blob(layer, advance, mount=mount(layer.descriptor.digest))
            done(layer)

        at_once(put, layers, PARALLEL, ends=self.ends)

    def attach(
        self,
        artifact: Artifact,
        *,
        sent: bool = False,
        mount: Callable[[str], Sequence[str]] = lambda _: (),
    ) -> Descriptor:
        """Have an artifact kept, of which only what is not there is sent; its manifest. Raises FetchError.

        sent: whether its blobs are known to be there. mount: as `put_blobs`.
        """

        def blobs() -> None:
            if not sent:
                self.put_blobs(self.lacking([*artifact.layers, artifacts.EMPTY]), mount=mount)

        return self._keep(artifacts.manifest(artifact), artifact.subject, blobs)

    def attach_shared(self, artifact: Artifact, subject: Descriptor) -> Descriptor:
        """Have an artifact kept that others may be about, too, and whose blobs are there; what is about the subject.

        Its manifest is the same for all of them, and so is not sent again: an index of it names the subject. Raises
        FetchError.
        """
        found = self.attach(artifact, sent=True)
        return self._keep(artifacts.index(artifact.kind, [found], subject), subject)

    def _keep(
        self,
        content: bytes,
        subject: Descriptor | None,
        blobs: Callable[[], None] = lambda: None,
    ) -> Descriptor:
        """Have a manifest kept that is not there, or not known as what it is. blobs: sees to what it names."""
        found = artifacts.described(content)
        if self.has_manifest(found.digest):
            if subject is None or found.digest in {one.digest for one in self.referrers(subject.digest)}:
                return found
        else:
            blobs()
        return self.put_manifest(content, found.media_type)


def take(part: Path, to: Path, digest: str, size: int, where: str) -> None:
    """Give what has arrived its name, if it is what its digest says."""
    if measure(part) != (size, digest.removeprefix("sha256:")):
        part.unlink()
        raise damaged(where, digest)
    part.replace(to)


def damaged(where: str, digest: str) -> DamagedError:
    """What to say of a blob of other bytes."""
    return DamagedError(
        f"this is not what its digest says, {digest}",
        where=where,
        hint="it is damaged there, or on the way: copy or push it again",
    )


def no_manifest(where: str) -> FetchError:
    """What to say of a document that is none."""
    return FetchError(
        "this is no manifest",
        where=where,
        hint="another server may answer in the registry's place, a proxy or a page to sign in at: check the network",
    )


def digest_of(content: bytes) -> str:
    """The digest of a document."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"
