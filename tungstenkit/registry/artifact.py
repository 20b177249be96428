"""What a registry keeps beside images: blobs of any kind, under one manifest (OCI image specification 1.1, "Guidelines
for Artifact Usage"). The bytes of a manifest follow from what is in it alone.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from tungstenkit.digest import measure
from tungstenkit.document import compact
from tungstenkit.outside import LARGEST_FILE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
OCTETS = "application/octet-stream"
TITLE = "org.opencontainers.image.title"

INPUTS = "application/vnd.tungsten.inputs.v1"
"""The kind of artifact that holds what an image is built of: a layer for each file."""
EXPORT = "application/vnd.tungsten.export.v1"
"""The kind that holds an image's export."""
EXPORT_TAR = "application/vnd.tungsten.export.v1.tar"
"""A part of it: a tar, not compressed."""

DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_EMPTY = "application/vnd.oci.empty.v1+json"
_KEYS = {
    key.casefold(): key
    for key in (
        *("schemaVersion", "mediaType", "artifactType", "subject", "config", "layers", "manifests"),
        *("annotations", "digest", "size", "urls", "data", "platform"),
    )
}
"""What keys of manifests and descriptors mean something, whatever their case is to programs that are lax."""


@dataclass(frozen=True)
class Descriptor:
    """What is known of a blob or a manifest where it is named."""

    media_type: str
    digest: str
    size: int
    annotations: Mapping[str, str] = field(default_factory=dict)
    artifact_type: str | None = None
    platform: Mapping[str, Any] = field(default_factory=dict)
    """Where an index names it: what it is for, by OCI's names, `os` and `architecture` among them."""

    @property
    def sha256(self) -> str:
        """Its hash, in hexadecimal."""
        return self.digest.removeprefix("sha256:")

    def to_json(self) -> dict[str, Any]:
        """As a manifest has it."""
        found: dict[str, Any] = {"mediaType": self.media_type, "digest": self.digest, "size": self.size}
        if self.annotations:
            found["annotations"] = dict(self.annotations)
        if self.artifact_type is not None:
            found["artifactType"] = self.artifact_type
        if self.platform:
            found["platform"] = dict(self.platform)
        return found

    @classmethod
    def of(cls, value: object) -> Descriptor:
        """What a manifest of anybody's says. Raises ValueError for what is no descriptor of sha256."""
        if not isinstance(value, dict):
            raise ValueError("no object")
        _check_keys(value)
        media_type, digest, size = value.get("mediaType"), value.get("digest"), value.get("size")
        annotations, kind = value.get("annotations") or {}, value.get("artifactType")
        platform = value.get("platform") or {}
        if not isinstance(media_type, str) or not isinstance(digest, str) or not DIGEST.fullmatch(digest):
            raise ValueError("no media type, or no sha256")
        if isinstance(size, bool) or not isinstance(size, int) or not 0 <= size <= LARGEST_FILE:
            raise ValueError("no size")
        if not isinstance(annotations, dict) or not all(isinstance(one, str) for one in annotations.values()):
            raise ValueError("annotations that are no texts")
        if not isinstance(platform, dict):
            raise ValueError("a platform that is none")
        kind = kind if isinstance(kind, str) and kind else None
        return cls(media_type, digest, size, annotations, kind, platform)


@dataclass(frozen=True)
class Layer:
    """A blob of an artifact, and where its bytes are on this machine."""

    source: Path | bytes = field(repr=False)
    media_type: str = OCTETS
    annotations: Mapping[str, str] = field(default_factory=dict)
    known: tuple[int, str] | None = None
    """Its size and its sha256 in hexadecimal, where that need not be found out by reading it."""

    @cached_property
    def descriptor(self) -> Descriptor:
        """What a manifest says of it; a file may be read for that."""
        if isinstance(self.source, bytes):
            size, sha256 = len(self.source), hashlib.sha256(self.source).hexdigest()
        else:
            size, sha256 = self.known or measure(self.source)
        return Descriptor(self.media_type, f"sha256:{sha256}", size, self.annotations)


EMPTY = Layer(b"{}", _EMPTY)
"""What stands where a manifest must name a blob and there is nothing to say."""


@dataclass(frozen=True)
class Artifact:
    """Blobs under one manifest."""

    kind: str
    """Its `artifactType`."""
    layers: Sequence[Layer]
    subject: Descriptor | None = None
    """The manifest that it is about, of which it is a referrer then."""
    annotations: Mapping[str, str] = field(default_factory=dict)


def manifest(artifact: Artifact) -> bytes:
    """The manifest of an artifact: the same bytes each time."""
    document: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "artifactType": artifact.kind,
        "config": EMPTY.descriptor.to_json(),
        "layers": [layer.descriptor.to_json() for layer in artifact.layers or [EMPTY]],
    }
    if artifact.subject is not None:
        subject = artifact.subject
        document["subject"] = Descriptor(subject.media_type, subject.digest, subject.size).to_json()
    if artifact.annotations:
        document["annotations"] = dict(artifact.annotations)
    return spelled(document)


def index(kind: str, manifests: Sequence[Descriptor], subject: Descriptor | None = None) -> bytes:
    """The index of several artifacts of a kind: the same bytes each time.

    subject: what they are about, where they name nothing themselves, and so are the same for all that they are about.
    """
    entries = [one.to_json() for one in manifests]
    document = {"schemaVersion": 2, "mediaType": INDEX, "artifactType": kind, "manifests": entries}
    if subject is not None:
        document["subject"] = Descriptor(subject.media_type, subject.digest, subject.size).to_json()
    return spelled(document)


def described(content: bytes) -> Descriptor:
    """What an index says of a manifest, by its content. Raises ValueError for what is none."""
    document = read(content)
    media_type = document.get("mediaType")
    if not isinstance(media_type, str):
        # Of OCI's documents it is optional.
        media_type = INDEX if "manifests" in document else MANIFEST
    kind = document.get("artifactType")
    if kind is None and isinstance(config := document.get("config"), dict) and "subject" in document:
        kind = config.get("mediaType")
    annotations = document.get("annotations") or {}
    size, digest = len(content), f"sha256:{hashlib.sha256(content).hexdigest()}"
    return Descriptor.of(
        {"mediaType": media_type, "digest": digest, "size": size, "annotations": annotations}
        | ({"artifactType": kind} if kind else {})
    )


def read(content: bytes) -> dict[str, Any]:
    """A manifest, an index or a config. Raises ValueError for what is no JSON object, and for one in which another
    program could see something else: what is judged here is run there.
    """
    try:
        document = json.loads(content, object_pairs_hook=_once)
    except RecursionError:
        raise ValueError("too deep") from None
    if not isinstance(document, dict):
        raise ValueError("no object")
    _check_keys(document)
    if "manifests" in document and not document.keys().isdisjoint({"config", "layers"}):
        raise ValueError("a manifest and an index in one")
    return document


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key stands twice in one object")
    return found


def _check_keys(found: dict[str, Any]) -> None:
    """Raises ValueError for a key that some programs take for another: Go's `encoding/json` looks at no case."""
    for key in found:
        if _KEYS.get(key.casefold(), key) != key:
            raise ValueError(f"{key[:40]!a} stands for {_KEYS[key.casefold()]!a}")


def layers_of(content: bytes) -> list[Descriptor]:
    """The layers that a manifest names, in its order. Raises ValueError for what is none."""
    return [Descriptor.of(one) for one in _listed(read(content), "layers")]


def manifests_of(content: bytes) -> list[Descriptor]:
    """The manifests that an index names, in its order. Raises ValueError for what is none."""
    return [Descriptor.of(one) for one in _listed(read(content), "manifests")]


def subject_of(content: bytes) -> str | None:
    """The digest of what a manifest is about; None where it is about nothing. Raises ValueError."""
    found = read(content).get("subject")
    return None if found is None else Descriptor.of(found).digest


def _listed(document: dict[str, Any], key: str) -> list[Any]:
    found = document.get(key)
    if not isinstance(found, list):
        raise ValueError(f"no {key}")
    return found


def spelled(document: dict[str, Any]) -> bytes:
    """A document, the same bytes each time."""
    return compact(document)
