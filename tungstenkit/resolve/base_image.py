"""Base images: what a reference names now, and what that image offers to a model.

An image is known by the digest of its manifest, so what was found out of its layers is kept in the user's cache: a
relock asks no registry, and downloads nothing. Looking into layers is the work of `nix/tools`, which builds run, too;
here is what follows from it.
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from tungstenkit import started
from tungstenkit.cache import cache_folder, keep, kept
from tungstenkit.document import Document
from tungstenkit.fetch.needs import layer_files
from tungstenkit.lacks import installing
from tungstenkit.lock.parts import BaseImage, BaseLayer, BasePython
from tungstenkit.platforms import ARCHITECTURES
from tungstenkit.registry.skopeo import configuration, manifest, with_digest, without_tag
from tungstenkit.resolve.base import Base, libc_version
from tungstenkit.resolve.base_debs import read_system
from tungstenkit.resolve.compatible import OLDEST_GLIBC
from tungstenkit.sdk.errors import FetchError, ResolveError
from tungstenkit.tools import run_tool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from tungstenkit.fetch.needs import LockedFile

_FORMAT = "5"  # of what is kept: raise it whenever something else would be found
_WHERE = "base_image"
_TAR = (
    "application/vnd.oci.image.layer.v1.tar",
    "application/vnd.oci.image.layer.v1.tar+gzip",
    "application/vnd.oci.image.layer.v1.tar+zstd",
    "application/vnd.docker.image.rootfs.diff.tar",
    "application/vnd.docker.image.rootfs.diff.tar.gzip",
)
_MOST_LAYERS = 125  # as in `nix/image/image.nix`
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# What a model's image has its own of, or OCI's has not (OCI image specification, "Image Configuration").
_LEFT = (
    "Cmd",
    "Entrypoint",
    "Healthcheck",
    "OnBuild",
    "Shell",
    "StopSignal",
    "User",
    "Volumes",
    "WorkingDir",
)
# Where its Python looks for modules (Python's manual, "Environment variables"): another one would not even start.
_OF_ITS_PYTHON = ("PYTHONHOME", "PYTHONPATH")


class _Python(BasePython):
    version: str
    distributions: dict[str, str]
    """The versions of the packages that it has, by project."""
    problem: str
    """Why it can't be used; empty where it can."""


class _System(Document):
    """What decides whether Debian packages can be installed into an image, and on top of what."""

    os_release: str
    """The text of os-release(5); empty where there is none."""
    status: str
    """dpkg's list of what is installed; empty where there is none."""
    has_merged_usr: bool


class _Facts(Document):
    """What is known of an image, by the digest of its manifest."""

    layers: tuple[BaseLayer, ...]
    environment: dict[str, str]
    labels: dict[str, str]
    exposed_ports: tuple[str, ...]
    left: tuple[str, ...]
    libc: str | None
    is_musl: bool
    is_ours: bool
    """Whether it was made by tungsten."""
    certificates: str | None
    libraries: tuple[str, ...]
    pythons: tuple[_Python, ...]
    system: _System


@dataclass(frozen=True)
class BaseWish:
    """What base image a model asks for, on whatever platform."""

    reference: str
    python: str | None
    """The version that is asked for, `3` or `3.11`; None for any."""
    previous: Mapping[str, BaseImage]
    """Base images of the lock before, by system; while they are of the same reference, they stay."""
    ours: int = 0
    """How many layers the model needs at least."""


def read_base(
    wish: BaseWish,
    system: str,
    get: Callable[[Sequence[LockedFile]], Sequence[Path]],
    *,
    cache: Path | None = None,
) -> Base:
    """The base image that a model names, for one platform.

    system: the Nix system. get: downloads layers, verified; their paths, in order.
    cache: a folder (default: the user's cache).

    Raises ResolveError for an image that no model can go on, FetchError where it can't be read.
    """
    reference = wish.reference
    known = {name: image for name, image in wish.previous.items() if image.reference == reference}
    if system in known:
        named, digest = known[system].named, known[system].digest
    else:
        named, digest = _find(reference, system, known)
    found = _facts(with_digest(reference, digest), system, get, wish.ours, cache or cache_folder())
    _check_count(reference, found.layers, wish.ours)
    _check(reference, found)
    chosen, reason = _choose(found.pythons, wish.python)
    # Only a Python of its own understands them.
    strange = () if chosen else tuple(name for name in _OF_ITS_PYTHON if name in found.environment)
    image = BaseImage(
        reference=reference,
        named=named,
        digest=digest,
        layers=found.layers,
        environment={name: value for name, value in found.environment.items() if name not in strange},
        labels=found.labels,
        exposed_ports=found.exposed_ports,
        libc=found.libc,
        certificates=found.certificates,
        python=BasePython.model_validate(chosen.model_dump(include=set(BasePython.model_fields)))
        if chosen
        else None,
    )
    return Base(
        image=image,
        version=chosen.version if chosen else None,
        reason=reason,
        distributions=chosen.distributions if chosen else {},
        libraries=frozenset(found.libraries),
        left=found.left + strange,
        system=read_system(
            found.system.os_release,
            found.system.status,
            ARCHITECTURES[system].debian,
            has_merged_usr=found.system.has_merged_usr,
        ),
    )


def _choose(pythons: Sequence[_Python], asked: str | None) -> tuple[_Python | None, str]:
    """The Python of an image's that a model gets, if one fits, and why that is so."""
    usable = [one for one in pythons if not one.problem]
    fitting = [one for one in usable if asked is None or f"{one.version}.".startswith(f"{asked}.")]
    if fitting:
        return fitting[0], f"the base image has it: {fitting[0].path}"
    if usable:
        return (
            None,
            f"the base image has {', '.join(one.version for one in usable)}, and {asked} is asked for",
        )
    problems = "".join(f"; {one.path}: {one.problem}" for one in pythons if one.problem)
    return None, "the base image has no Python" + (f" that can be used{problems}" if problems else "")


def _find(reference: str, system: str, known: Mapping[str, BaseImage]) -> tuple[str, str]:
    """The digest of what a reference names, and that of its manifest for a platform."""
    architecture = ARCHITECTURES[system].debian  # OCI has Go's names, which are the same
    # All platforms are of one index, whatever the tag names by now.
    pinned = next((image.named for image in known.values()), None)
    named, content = manifest(with_digest(reference, pinned) if pinned else without_tag(reference))
    if "manifests" not in content:
        return named, named
    platforms = []
    with _well_formed(reference):
        for entry in content["manifests"]:
            platform = entry.get("platform", {})
            if (platform.get("os"), platform.get("architecture")) == ("linux", architecture):
                return named, _digest(entry, reference)
            platforms.append(f"{platform.get('os')}/{platform.get('architecture')}")
    raise ResolveError(
        f"{reference} has no image for linux/{architecture}",
        where=_WHERE,
        hint=f"it has {', '.join(sorted(set(platforms)))}",
    )


def _facts(
    reference: str, system: str, get: Callable[[Sequence[LockedFile]], Sequence[Path]], ours: int, cache: Path
) -> _Facts:
    """What is known of the image whose digest a reference names."""
    key = f"{reference.rpartition(':')[2]}.{_FORMAT}.json"
    if path := kept(cache / "base-images", key):
        return _Facts.model_validate_json(path.read_bytes())
    _, content = manifest(reference)
    if "layers" not in content:
        raise ResolveError(
            f"{reference} has a manifest of an old form",
            where=_WHERE,
            hint="pull and push it with a present-day podman, docker or skopeo, and name that copy",
        )
    config = configuration(reference)
    if config.get("architecture") != ARCHITECTURES[system].debian or config.get("os") != "linux":
        raise ResolveError(
            f"{reference} is an image for {config.get('os')}/{config.get('architecture')}, "
            f"and the platform is {system}",
            where=_WHERE,
        )
    with _well_formed(reference):
        layers = _layers(content, config, reference)
    _check_count(reference, layers, ours)
    zstd = shutil.which("zstd")
    if zstd is None and any(layer.is_zstd for layer in layers):
        raise ResolveError(
            f"{reference} has layers that are compressed by zstd, and there is no `zstd` on PATH",
            where=_WHERE,
            hint=str(installing("zstd")),
        )
    paths = get(layer_files(reference, layers))
    variables = config.get("config") or {}
    with _well_formed(reference):
        environment = dict(entry.partition("=")[::2] for entry in variables.get("Env") or ())
    with started.scratch() as folder:
        seen = _look_into(layers, paths, environment, folder, zstd)
    facts = _Facts.model_validate(
        {
            **seen,
            "layers": layers,
            "environment": environment,
            "labels": variables.get("Labels") or {},
            "exposed-ports": tuple(sorted(variables.get("ExposedPorts") or ())),
            "left": tuple(name for name in _LEFT if variables.get(name)),
        }
    )
    text = facts.model_dump_json(by_alias=True)

    def write(path: Path) -> None:
        path.write_text(text, encoding="utf-8")

    keep(cache / "base-images", key, write)
    return facts


@contextlib.contextmanager
def _well_formed(reference: str) -> Iterator[None]:
    """Raises FetchError where what a registry has is not of the form that the OCI image specification gives it."""
    try:
        yield
    except (AttributeError, KeyError, TypeError, ValidationError):
        raise FetchError(
            "the registry's manifest or configuration is not of the form that OCI's specification gives them",
            where=reference,
            hint="the image is damaged, or made by a program that is: make it anew, or take another",
        ) from None


def _layers(content: dict[str, Any], config: dict[str, Any], reference: str) -> tuple[BaseLayer, ...]:
    diff_ids = config.get("rootfs", {}).get("diff_ids", [])
    if len(diff_ids) != len(content["layers"]):
        raise ResolveError(f"{reference}: its manifest and its configuration disagree", where=_WHERE)
    refused = sorted({entry["mediaType"] for entry in content["layers"]} - set(_TAR))
    if refused:
        raise ResolveError(
            f"{reference} has layers that can't be taken over as they are: {', '.join(refused)}",
            where=_WHERE,
            hint=_remedy(refused[0]),
        )
    return tuple(
        BaseLayer(
            digest=_digest(entry, reference),
            diff_id=diff_id,
            size=entry["size"],
            media_type=entry["mediaType"],
        )
        for entry, diff_id in zip(content["layers"], diff_ids, strict=True)
    )


def _remedy(media_type: str) -> str:
    if "encrypted" in media_type:
        return "make a copy that is not encrypted, by `skopeo copy --decryption-key`, and name that"
    return "their bytes are not in the registry, or of no form that images have: take another base image"


def _digest(entry: dict[str, Any], reference: str) -> str:
    digest = str(entry.get("digest", ""))
    if not re.fullmatch("sha256:[0-9a-f]{64}", digest):
        raise ResolveError(f"{reference}: only sha256 is known here, and it has {digest}", where=_WHERE)
    return digest


def _look_into(
    layers: Sequence[BaseLayer],
    paths: Sequence[Path],
    environment: Mapping[str, str],
    folder: Path,
    zstd: str | None,
) -> dict[str, Any]:
    """What `base_facts.py` says of layers. folder: an empty one. zstd: where that program is, if one needs it."""
    for number, (layer, path) in enumerate(zip(layers, paths, strict=True)):
        blob = {"blob": str(path), "created-by": "", **layer.model_dump(mode="json", by_alias=True)}
        if layer.is_zstd:
            blob["zstd"] = [zstd]
        run_tool("import_layer.py", blob, folder / f"{number}", _WHERE)
    question = {
        "layers": [str(folder / f"{number}") for number in range(len(layers))],
        "path": environment.get("PATH", _PATH),
        "library-path": environment.get("LD_LIBRARY_PATH", ""),
    }
    run_tool("base_facts.py", question, folder / "facts.json", _WHERE)
    answer: dict[str, Any] = json.loads((folder / "facts.json").read_text(encoding="utf-8"))
    return answer


def _check_count(reference: str, layers: Sequence[BaseLayer], ours: int) -> None:
    if len(layers) + ours > _MOST_LAYERS:
        raise ResolveError(
            f"{reference} has {len(layers)} layers: an image has {_MOST_LAYERS} at most, and this model needs {ours}",
            where=_WHERE,
            hint=f"make a copy in one layer, push that and name it: `echo FROM {reference} | podman build --squash-all "
            "-t COPY -`",
        )


def _check(reference: str, found: _Facts) -> None:
    if found.is_ours:
        raise ResolveError(
            f"{reference} is the image of a model already",
            where=_WHERE,
            hint="name what that model is based on, and put what both need beside each",
        )
    if found.is_musl:
        raise ResolveError(
            f"{reference} has the C library musl, and packages for Python are built for GNU's",
            where=_WHERE,
            hint="take a base with the GNU C library: of most images there is one on Debian or Ubuntu beside Alpine's",
        )
    oldest = ".".join(map(str, OLDEST_GLIBC))
    if found.libc is not None and libc_version(found.libc) < OLDEST_GLIBC:
        raise ResolveError(
            f"{reference} has the C library {found.libc}, and packages for Python need {oldest} or newer",
            where=_WHERE,
            hint="take a newer base image",
        )
