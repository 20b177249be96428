"""An image as it is judged: what a reference, a folder with an image layout or an archive holds.

All of it is somebody else's word until it is read: each blob is what its digest says before anything is done by it.
"""

from __future__ import annotations

import json
import os
import re
import tarfile
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tungstenkit import store, tars
from tungstenkit.data import FACTS
from tungstenkit.lock.document import LOCK_NAME
from tungstenkit.nix_build.image import blob
from tungstenkit.outside import contents
from tungstenkit.platforms import this_system
from tungstenkit.prove.layers import diff_id
from tungstenkit.registry.artifact import (
    DIGEST,
    DOCKER_INDEX,
    DOCKER_MANIFEST,
    INDEX,
    MANIFEST,
    Descriptor,
    described,
    layers_of,
    manifests_of,
)
from tungstenkit.registry.artifact import read as read_document
from tungstenkit.registry.base import LARGEST_MANIFEST
from tungstenkit.registry.place import place as place_of
from tungstenkit.sdk.errors import FetchError
from tungstenkit.spec.files import is_export

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from tungstenkit.registry.base import Place

_IMAGES, INDEXES = (MANIFEST, DOCKER_MANIFEST), (INDEX, DOCKER_INDEX)
_MOST_LAYERS = 1000
_SYSTEMS = {one["oci"]: name for name, one in FACTS["platforms"].items()}
"""Nix's names of platforms by OCI's."""
_LARGEST_CONFIG = 1 << 24
_LARGEST_LIST = 1 << 28
"""Of what is in a layer, as its programs have listed it."""
_LAYER = re.compile(
    r"application/vnd\.(?:oci\.image\.layer(?:\.nondistributable)?\.v1\.tar|docker\.image\.rootfs(?:\.foreign)?\.diff\.tar)"
    r"(?:[.+](?:gzip|zstd))?"
)
"""Kinds of blobs that every engine lays over each other."""
_TABLES = ("io.github.containers.zstd-chunked.", "containerd.io/snapshot/")
"""What annotations of layers begin with by which some engines read files in another way than through the tar."""


@dataclass(frozen=True)
class Image:
    """An image of anybody's."""

    name: str
    """What a person calls it."""
    manifest: Descriptor
    config: Mapping[str, Any]
    diff_ids: tuple[str, ...]
    """The digests of the layers' tars, as the config states them."""
    config_digest: str
    layers: tuple[Descriptor, ...]
    get: Callable[[Descriptor, Path], Path]
    """Where a blob is, if need be in a path that is given: verified."""
    scratch: Path
    layout: Path | None = None
    """Where it is in the Nix store, if it was built here."""

    @property
    def digest(self) -> str:
        """Of its manifest."""
        return self.manifest.digest

    @property
    def size(self) -> int:
        """Of the blobs of its layers, in bytes."""
        return sum(layer.size for layer in self.layers)

    @property
    def labels(self) -> dict[str, str]:
        """What its config says of it."""
        inner = self.config.get("config")
        found = inner.get("Labels") if isinstance(inner, dict) else None
        return {str(name): str(text) for name, text in found.items()} if isinstance(found, dict) else {}

    @property
    def system(self) -> str | None:
        """The Nix system that it is for; None for what is none of ours."""
        return system_of(self.config)

    @cached_property
    def _history(self) -> list[str]:
        history = self.config.get("history")
        return [
            str(one.get("created_by", ""))
            for one in (history if isinstance(history, list) else ())
            if isinstance(one, dict) and not one.get("empty_layer")
        ]

    def made_of(self, number: int) -> str:
        """What its history says of a layer, or nothing."""
        return self._history[number] if len(self._history) == len(self.layers) else ""

    def layer_name(self, number: int) -> str:
        """What a person calls a layer."""
        made_of = self.made_of(number)
        shown = made_of if len(made_of) <= 60 else f"{made_of[:60]}…"
        return f"{self.name}, layer {number + 1}{f' ({shown})' if shown else ''}"

    @contextmanager
    def layer(self, number: int) -> Iterator[Path]:
        """A layer's blob, as long as it is looked at."""
        path = self.scratch / f"layer-{self.layers[number].sha256}"
        try:
            try:
                found = self.get(self.layers[number], path)
            except FetchError as problem:
                raise problem.reworded(where=self.layer_name(number)) from None
            yield found
        finally:
            path.unlink(missing_ok=True)

    def owners(self, number: int) -> dict[str, str]:
        """Whose each path of a layer is; nothing where it was not built here."""
        if self.layout is None:
            return {}
        try:
            beside = blob(self.layout, self.layers[number].digest).readlink().parent / "files.json"
            entries = json.loads(_in_store(beside, _LARGEST_LIST))["entries"]
            owned = {f"/{one['path']}": str(one["package"]) for one in entries if one.get("package")}
        except (FetchError, OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
            return {}
        # What no package has, tungsten has stated, and is what the layer is made of.
        stated = {"files": self.made_of(number)}
        return {
            path: "the model's files" if owner.startswith("tree ") else stated.get(owner, owner)
            for path, owner in owned.items()
        }

    def check(self, advance: Callable[[int], None]) -> None:
        """Raises FetchError for a layer that is not what the manifest says, or whose tar is not what the config says.

        advance: is told of every byte of the layers.
        """
        for number, layer in enumerate(self.layers):
            if not _LAYER.fullmatch(layer.media_type) or any(map(_is_table, layer.annotations)):
                raise FetchError(
                    "engines may see other files here than its tar has, or none, by what the manifest says of it",
                    where=self.layer_name(number),
                    hint="push the image again, or copy it by `skopeo copy --dest-compress-format gzip "
                    "--dest-force-compress-format`",
                )
            with self.layer(number) as path:
                found = diff_id(path, self.layer_name(number))
            if found != self.diff_ids[number]:
                raise FetchError(
                    f"this layer is not what the image's config says: {found}, and not {self.diff_ids[number]}",
                    where=self.layer_name(number),
                    hint="what has packed it has changed it: push the image again",
                )
            advance(layer.size)


def _is_table(annotation: str) -> bool:
    return annotation.startswith(_TABLES)


@contextmanager
def opened(reference: str, scratch: Path) -> Iterator[Place]:
    """Where a reference leads, an archive too, whose blobs are then in a folder of ours. Raises FetchError."""
    path = Path(reference)
    if path.is_file() and not reference.startswith(("docker://", "oci:")):
        folder = scratch / "archive"
        _unpack(path, folder)
        found = place_of(f"oci:{folder}")
        found.name = reference
        yield found
    elif path.is_dir() and not (path / "index.json").is_file():
        hint = (
            "`skopeo copy … oci:FOLDER` makes one; the archive of `tungsten build --archive FILE` does, too"
        )
        if (path / LOCK_NAME).is_file() and not is_export(path):
            hint = "it is a model's: name the image that `tungsten push REF --with-inputs` has made of it"
        raise FetchError("this folder is no image layout", where=reference, hint=hint)
    else:
        yield place_of(reference)


def system_of(platform: Mapping[str, Any]) -> str | None:
    """The Nix system of what OCI says of a platform; None for what is none of ours."""
    is_linux = platform.get("os") == "linux"
    return _SYSTEMS.get(str(platform.get("architecture"))) if is_linux else None


def image_at(place: Place, scratch: Path, system: str | None = None) -> Image:
    """The image that a place has. system: of an index of several platforms' images the one that is meant.

    Raises FetchError for what is none.
    """
    found = place.resolve()
    if found.media_type in INDEXES:
        found = _of_platform(place, found, system)
    content = place.manifest(found.digest)

    def get(layer: Descriptor, path: Path) -> Path:
        place.blob(layer.digest, layer.size, path)
        return path

    try:
        config = Descriptor.of(read_document(content).get("config"))
        layers = layers_of(content)
        if found.media_type not in _IMAGES or len(layers) > _MOST_LAYERS:
            raise ValueError("it is of another kind")
    except ValueError as problem:
        raise _no_image(place.name, problem) from None
    told = place.document(config.digest, config.size, _LARGEST_CONFIG)
    return Image(
        place.name,
        found,
        *_configured(place.name, told, len(layers)),
        config_digest=config.digest,
        layers=tuple(layers),
        get=get,
        scratch=scratch,
    )


def built_image(layout: Path, scratch: Path, name: str = "") -> Image:
    """An image that this machine's Nix has built, by anybody's `nix/`. Raises FetchError where it is none.

    name: what it is called, by default its path.
    """

    try:
        (only,) = manifests_of(_in_store(layout / "index.json", LARGEST_MANIFEST))
        content = _in_store(blob(layout, only.digest), LARGEST_MANIFEST)
        manifest, layers = described(content), layers_of(content)
        config = Descriptor.of(read_document(content).get("config"))
        told = _in_store(blob(layout, config.digest), _LARGEST_CONFIG)
    except (OSError, ValueError) as problem:
        raise _no_image(str(layout), problem) from None
    return Image(
        name or str(layout),
        manifest,
        *_configured(str(layout), told, len(layers)),
        config_digest=config.digest,
        layers=tuple(layers),
        get=lambda layer, _path: _stored(blob(layout, layer.digest)),
        scratch=scratch,
        layout=layout,
    )


def _stored(path: Path) -> Path:
    """Where in the Nix store a file of it is: what builds it may be anybody's, and have it lead to another file.

    Raises FetchError for what is not there.
    """
    found = Path(os.path.realpath(path))
    if not found.is_file() or not found.is_relative_to(store.place()):
        raise FetchError("the image that was built lacks a file", where=str(path))
    return found


def _in_store(path: Path, most: int) -> bytes:
    return contents(_stored(path), most)


def _configured(name: str, told: bytes, count: int) -> tuple[dict[str, Any], tuple[str, ...]]:
    """What a config holds, and the digests of so many layers' tars that it states."""
    try:
        config = read_document(told)
        diff_ids = config["rootfs"]["diff_ids"]
        if not all(isinstance(one, str) and DIGEST.fullmatch(one) for one in diff_ids):
            raise ValueError("its layers' digests are none")
        if len(diff_ids) != count:
            raise ValueError(f"its config names {len(diff_ids)} layers, and its manifest {count}")
    except (ValueError, LookupError, TypeError) as problem:
        raise _no_image(name, problem) from None
    return config, tuple(diff_ids)


def _of_platform(place: Place, index: Descriptor, system: str | None) -> Descriptor:
    found: dict[str, dict[str, Descriptor]] = {}
    try:
        for one in manifests_of(place.manifest(index.digest)):
            if one.media_type in _IMAGES:
                found.setdefault(system_of(one.platform) or "", {})[one.digest] = one
    except ValueError as problem:
        raise _no_image(place.name, problem) from None
    found.pop("", None)
    wanted = system or (this_system() if this_system() in found or len(found) != 1 else next(iter(found)))
    if wanted not in found:
        raise FetchError(
            f"there is no image for {wanted}; there are those for {', '.join(found) or 'no platform'}",
            where=place.name,
            hint="--platform names one",
        )
    if len(found[wanted]) > 1:
        # By a variant of the processor, or by their order: another program may take another.
        raise FetchError(
            f"the index has several images for {wanted}: {', '.join(found[wanted])}",
            where=place.name,
            hint="name one by its digest",
        )
    return next(iter(found[wanted].values()))


def _no_image(name: str, problem: Exception) -> FetchError:
    return FetchError(
        f"this is no image: {problem}", where=name, hint="name an image, or the folder or archive of one"
    )


def _unpack(archive: Path, folder: Path) -> None:
    """The blobs of an image's archive, as a layout. What is in it beside those is not looked at."""
    blobs = folder / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    left = archive.stat().st_size
    try:
        with tars.opened(archive) as tar:
            for member in tar:
                name = member.name.removeprefix("./")
                is_blob = DIGEST.fullmatch(f"sha256:{name.removeprefix('blobs/sha256/')}")
                if not member.isreg() or not (is_blob or name in ("oci-layout", "index.json")):
                    continue
                left -= member.size
                content = tar.extractfile(member)
                # What is sparse takes no bytes there, and all of them here.
                if content is None or member.issparse() or left < 0:
                    raise ValueError(f"{name} is no file of an image's archive")
                with (folder / name).open("xb") as file:
                    while piece := content.read(1 << 20):
                        file.write(piece)
    except (tarfile.TarError, ValueError, EOFError, FileExistsError) as problem:
        raise FetchError(
            f"this is no archive of an image: {problem}",
            where=str(archive),
            hint="`tungsten build --archive FILE` writes one, and `skopeo copy … oci-archive:FILE`",
        ) from None
    if not (folder / "index.json").exists():
        raise FetchError(
            "this is no archive of an image: it has no index.json",
            where=str(archive),
            hint="`tungsten build --archive FILE` writes one, and `skopeo copy … oci-archive:FILE`",
        )
