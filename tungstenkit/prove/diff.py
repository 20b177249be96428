"""What differs between two images of anybody's: packages, files, sizes, what their configs say, and what they share."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from tungstenkit import started
from tungstenkit.nix_build.loaded import Layer
from tungstenkit.prove.comparison import Difference, compare
from tungstenkit.prove.image import built_image, image_at, opened

if TYPE_CHECKING:
    from pathlib import Path

    from tungstenkit.prove.image import Image
    from tungstenkit.watch import Watch


@dataclass(frozen=True)
class Packages:
    """One package that the images have in different versions, or only one of them."""

    name: str
    first: tuple[str, ...]
    """Its versions in the first; none where it has it not."""
    second: tuple[str, ...]


@dataclass(frozen=True)
class Side:
    """One of two images."""

    name: str
    digest: str
    platform: str | None
    size: int
    """Of its layers as they are packed, in bytes."""
    layers: int


@dataclass(frozen=True)
class Told:
    """Two images, and what differs."""

    first: Side
    second: Side
    shared: int
    """How many layers of the first the second has, too."""
    shared_size: int
    """In bytes."""
    packages: tuple[Packages, ...]
    difference: Difference
    """Of layers that both have, only how they are packed."""


class Here(NamedTuple):
    """An image that was built here."""

    name: str
    """What its user calls it."""
    layout: Path


def diff(first: str | Here, second: str | Here, watch: Watch, platform: str | None = None) -> Told:
    """Compare two images. Each is a reference, a layout's folder or an archive, or was built here.

    platform: which one of an index. Raises FetchError.
    """
    with started.scratch() as scratch, ExitStack() as stack:
        with watch.working("reading manifests"):
            one = _image(first, scratch / "first", stack, platform)
            other = _image(second, scratch / "second", stack, platform)
        with watch.working("reading layers that differ"):
            difference = compare(one, other, scratch)
    there = {*other.diff_ids}
    shared = [layer for layer, diff_id in zip(one.layers, one.diff_ids, strict=True) if diff_id in there]
    return Told(
        _side(one),
        _side(other),
        len(shared),
        sum(layer.size for layer in shared),
        _packages(one, other),
        difference,
    )


def _image(target: str | Here, scratch: Path, stack: ExitStack, platform: str | None) -> Image:
    scratch.mkdir()
    if isinstance(target, Here):
        return built_image(target.layout, scratch, target.name)
    return image_at(stack.enter_context(opened(target, scratch)), scratch, platform)


def _side(image: Image) -> Side:
    return Side(image.name, image.digest, image.system, image.size, len(image.layers))


def _packages(first: Image, second: Image) -> tuple[Packages, ...]:
    old, new = _versions(first), _versions(second)
    return tuple(
        Packages(name, old.get(name, ()), new.get(name, ()))
        for name in sorted(old.keys() | new.keys())
        if old.get(name) != new.get(name)
    )


def _versions(image: Image) -> dict[str, tuple[str, ...]]:
    """The packages that an image's history names."""
    found: dict[str, set[str]] = {}
    for number in range(len(image.layers)):
        for name, version in Layer("", 0, image.made_of(number)).packages:
            found.setdefault(name, set()).add(version)
    return {name: tuple(sorted(versions)) for name, versions in found.items()}
