"""The images of a model for several platforms as one: an image index, of which each engine takes its own platform's."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tungstenkit.digest import sha256_of
from tungstenkit.document import to_json
from tungstenkit.nix_build.image import Image, blob
from tungstenkit.registry.artifact import INDEX

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


@dataclass(frozen=True)
class Index:
    """Images for several platforms, as a layout whose one manifest is the index of them."""

    layout: Path
    digest: str
    """Of the index: `sha256:…`."""
    images: Mapping[str, Image]
    """By platform, each under the digest that it has by itself."""


def as_one(images: Mapping[str, Image], folder: Path) -> Image | Index:
    """What is pushed of some images: one by itself, several as an index, which is written into a new folder."""
    return make_index(images, folder) if len(images) > 1 else next(iter(images.values()))


def make_index(images: Mapping[str, Image], folder: Path) -> Index:
    """Write an index of images into a new folder, as a layout that has links to what theirs have.

    The same images give the same bytes. images: by platform, more than one.
    """
    described, said = [], []
    blobs = folder / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    for _, image in sorted(images.items()):
        (descriptor,) = _read(image.layout / "index.json")["manifests"]
        described.append({key: descriptor[key] for key in ("mediaType", "digest", "size", "platform")})
        said.append(_read(blob(image.layout, image.digest)).get("annotations", {}))
        for path in (image.layout / "blobs" / "sha256").iterdir():
            if not (blobs / path.name).is_symlink():  # layers without anything of a platform are one
                (blobs / path.name).symlink_to(path.resolve())
    # What is true of each of them is true of all.
    annotations = {name: text for name, text in said[0].items() if all(one.get(name) == text for one in said)}
    index = {
        "schemaVersion": 2,
        "mediaType": INDEX,
        "manifests": described,
        **({"annotations": annotations} if annotations else {}),
    }
    content = json.dumps(index, sort_keys=True, separators=(",", ":")).encode()
    (folder / "index").write_bytes(content)
    digest = sha256_of(folder / "index")
    (folder / "index").rename(blobs / digest)
    entry = {"mediaType": INDEX, "digest": f"sha256:{digest}", "size": len(content)}
    for name, document in {
        "oci-layout": {"imageLayoutVersion": "1.0.0"},
        "index.json": {"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]},
    }.items():
        (folder / name).write_text(to_json(document), encoding="utf-8")
    return Index(folder, f"sha256:{digest}", dict(images))


def _read(path: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return document
