"""A model's image out of a registry: into the engine, under the name that it has there, or into a folder or a file.

It is the image as it was pushed, by its digest, whatever its name means a moment later.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tungstenkit import started
from tungstenkit.data import FACTS
from tungstenkit.document import to_json
from tungstenkit.nix_build.engine import find_engine, image_reference, load_image
from tungstenkit.nix_build.image import Image, blob, read_layout, write_archive
from tungstenkit.nix_build.push import check_skopeo
from tungstenkit.outside import image_problem
from tungstenkit.platforms import this_system
from tungstenkit.registry import skopeo
from tungstenkit.registry.artifact import DIGEST, DOCKER_INDEX, DOCKER_MANIFEST, INDEX, Descriptor
from tungstenkit.registry.client import Name
from tungstenkit.sdk.errors import FetchError, RunError
from tungstenkit.watch import UNWATCHED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from tungstenkit.fetch.download import Progress
    from tungstenkit.watch import Watch


@dataclass(frozen=True)
class Pulled:
    """An image that came out of a registry."""

    reference: str
    """What the engine calls it; of one that the engine has not got, what the registry does."""
    digest: str
    """Of its manifest, as in the registry: `sha256:…`."""
    platform: str
    size: int
    """Of all blobs, in bytes."""
    place: Path | None = None
    """The folder or the file that it was written to; None for one that the engine has."""


def pull(
    reference: str,
    *,
    platform: str | None = None,
    folder: str | Path | None = None,
    archive: str | Path | None = None,
    watch: Watch = UNWATCHED,
) -> Pulled:
    """Bring an image out of a registry into podman or docker, which `get` then finds it in by what it is called.

    platform: which image of an index; by default this machine's, or the only one. folder: write it there as an image
    layout instead, archive: as one file. watch: is told how much of it there is, and how much has come.

    Raises TungstenError.
    """
    if problem := image_problem(reference):
        raise FetchError(
            f"{reference!a} {problem}", where="REF", hint="such as registry.example:5000/team/blur:1"
        )
    check_skopeo()
    folder, archive = (None if one is None else Path(one) for one in (folder, archive))
    _check_places(folder, archive)
    engine = find_engine() if folder is None and archive is None else None
    if engine is None and folder is None and archive is None:
        raise RunError(
            "there is no podman, nor docker with a daemon, that an image could be brought into",
            hint="-o DIR keeps it as a folder, --archive FILE as a file for `podman load` and `docker load`",
        )
    with watch.reading(f"reading the manifest of {reference}"):
        digest, system, blobs = _find(reference, platform)
    name = _name(reference)
    with started.scratch() as scratch:
        layout = scratch / "layout"
        with watch.fetching(f"pulling {reference}:") as bar:
            bar.start(len(blobs), sum(one.size for one in blobs))
            skopeo.copy_layout(skopeo.with_digest(reference, digest), layout, _told(bar, layout, blobs))
        image = _completed(layout, digest, ":".join(name))
        if folder is not None:
            _move(layout, folder)
        elif archive is not None:
            write_archive(image, archive)
        else:
            assert engine is not None  # else it was refused
            called = image_reference(*name, engine)
            load_image(image, engine, called)
            return Pulled(called, digest, system, image.size)
    return Pulled(reference, digest, system, image.size, folder or archive)


def _check_places(folder: Path | None, archive: Path | None) -> None:
    if folder is not None and folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise RunError("there is something here already", where=str(folder), hint="name a new folder")
    for place in (folder, archive):
        if place is not None and not place.absolute().parent.is_dir():
            raise RunError("no such folder", where=str(place.parent))
    if archive is not None and archive.exists() and not archive.is_file():
        raise RunError("this is no file that could be replaced", where=str(archive))


def _find(reference: str, platform: str | None) -> tuple[str, str, list[Descriptor]]:
    """The digest of the one image that is meant, its platform, and its blobs."""
    digest, document = skopeo.manifest(skopeo.without_tag(reference))
    media_type = document.get("mediaType")
    if media_type in (INDEX, DOCKER_INDEX) or "manifests" in document:
        found = _listed(document)
        wanted = platform or (this_system() if this_system() in found else None)
        if wanted is None and len(found) == 1:
            wanted = next(iter(found))
        if wanted not in found:
            known = [system for system in found if system in FACTS["platforms"]]
            raise FetchError(
                f"there is no image for {wanted or this_system()} here, but for {', '.join(found) or 'no platform'}",
                where=reference,
                hint=f"`--platform {known[0]}` takes that" if known else None,
            )
        named = skopeo.with_digest(reference, found[wanted])
        return found[wanted], wanted, _blobs(skopeo.manifest(named)[1], named)
    if media_type == DOCKER_MANIFEST:
        raise FetchError(
            "docker has written this manifest, which an image layout can't hold under its digest",
            where=reference,
            hint="`tungsten push`, `podman push` and `skopeo copy --preserve-digests` leave images as they were built; "
            f"as it is, `podman pull {reference}` or `docker pull {reference}` takes it",
        )
    system = _system(skopeo.configuration(skopeo.with_digest(reference, digest)))
    if system is None:
        raise FetchError(
            "this is no image", where=reference, hint="something else was pushed under this name"
        )
    if platform not in (None, system):
        raise FetchError(f"the image is for {system}, and for {platform} there is none", where=reference)
    return digest, system, _blobs(document, reference)


def _told(bar: Progress, layout: Path, blobs: Iterable[Descriptor]) -> Callable[[int], None]:
    """What tells a bar of bytes that have arrived, and of each blob that is whole."""
    left = {one.sha256 for one in blobs}

    def told(size: int) -> None:
        bar.advance(size)
        for name in [one for one in left if (layout / "blobs" / "sha256" / one).exists()]:
            left.remove(name)
            bar.done(name[:12])

    return told


def _blobs(manifest: dict[str, Any], reference: str) -> list[Descriptor]:
    try:
        return [Descriptor.of(one) for one in (manifest["config"], *manifest["layers"])]
    except (ValueError, LookupError, TypeError):
        raise FetchError("this is no image", where=reference) from None


def _listed(index: dict[str, Any]) -> dict[str, str]:
    """The images of an index, their digests by platform."""
    listed = index.get("manifests")
    found: dict[str, str] = {}
    for one in listed if isinstance(listed, list) else ():
        system = _system(one.get("platform")) if isinstance(one, dict) else None
        if system is not None and DIGEST.fullmatch(str(one.get("digest"))):
            found.setdefault(system, one["digest"])
    return found


def _system(platform: object) -> str | None:
    """A platform as Nix calls it, or as OCI does where we know none; None for what is none, as of an attestation."""
    if not isinstance(platform, dict) or platform.get("architecture") in (None, "unknown"):
        return None
    architecture, system = str(platform["architecture"]), str(platform.get("os"))
    for name, known in FACTS["platforms"].items() if system == "linux" else ():
        if known["oci"] == architecture:
            return str(name)
    return f"{system}/{architecture}"


def _name(reference: str) -> tuple[str, str]:
    """The name and the tag that an image is to have in an engine: that of a digest says which."""
    found = Name.of(reference)
    tag = (found.reference or "latest").removeprefix("sha256:")
    return str(found), tag[:12] if "@" in reference else tag


def _completed(layout: Path, digest: str, name: str) -> Image:
    """Give a layout that skopeo has written the form of ours, which engines take as one file, too."""
    try:
        image = read_layout(layout)
        index = _read(layout / "index.json")
        (entry,) = index["manifests"]
        config = _read(blob(layout, image.image_id))
        entry["platform"] = {key: config.get(key) for key in ("architecture", "os")}
        entry["annotations"] = {
            "io.containerd.image.name": name,
            "org.opencontainers.image.ref.name": name.rpartition(":")[2],
        }
        layers = [one["digest"] for one in _read(blob(layout, digest))["layers"]]
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        raise FetchError("this is no image", where=f"{name} {digest}") from None
    if image.digest != digest:
        raise FetchError(
            f"the registry has given another image, {image.digest}",
            where=f"{name} {digest}",
            hint="try again; if it stays so, the registry, or something on the way to it, is wrong",
        )
    saved = {
        "Config": blob(layout, image.image_id).relative_to(layout).as_posix(),
        "RepoTags": [name],
        "Layers": [blob(layout, one).relative_to(layout).as_posix() for one in layers],
    }
    for file, document in {"index.json": index, "manifest.json": [saved]}.items():
        (layout / file).write_text(to_json(document), encoding="utf-8")
    return image


def _move(layout: Path, folder: Path) -> None:
    """Put a layout where it is wanted, whole or not at all."""
    with tempfile.TemporaryDirectory(dir=folder.absolute().parent, prefix=f".{folder.name}.") as beside:
        try:
            Path(shutil.move(layout, beside)).rename(folder)
        except OSError as problem:
            raise RunError(f"the image can't be written: {problem.strerror}", where=str(folder)) from None


def _read(path: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return document
