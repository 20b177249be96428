"""What a container engine has of ours: images, by their labels and what they start, and containers, by a label.

What the engine says of them may be anybody's words: an image is asked for and removed by its id alone.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tungstenkit.nix_build.engine import PATIENCE, ask
from tungstenkit.outside import image_problem
from tungstenkit.platforms import ARCHITECTURES
from tungstenkit.sdk.errors import BuildError
from tungstenkit.started import this_process

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

_LABEL = "tungsten.started-by"
_ID = re.compile(r"(?:sha256:)?[0-9a-f]{64}")


@dataclass(frozen=True)
class Layer:
    """One layer of an image."""

    digest: str
    """Of what is packed, in a layout; in an engine of the tar."""
    size: int
    made_of: str
    """What the image's history says of it: packages with their versions, or in words."""

    @property
    def packages(self) -> list[tuple[str, str]]:
        """Names and versions of the packages in it, as far as it says so."""
        return re.findall(r"(?:^|(?<=, ))([A-Za-z0-9][\w.+-]*) (\d\S*?)(?=, |$)", self.made_of, re.ASCII)


@dataclass(frozen=True)
class Loaded:
    """An image of ours in an engine."""

    engine: str
    image_id: str
    """`sha256:…`, of the config; of the manifest where docker has containerd's store."""
    digest: str
    """The manifest's, where the engine knows it, or empty."""
    names: tuple[str, ...]
    platform: str
    size: int
    diff_ids: tuple[str, ...]
    labels: dict[str, str]

    @property
    def title(self) -> str:
        """The model's own name."""
        return self.labels.get("org.opencontainers.image.title", "")

    def layers(self) -> list[Layer]:
        """Its layers, lowest first; of no size where the engine does not say which history is whose."""
        told = [one for one in _history(self.engine, self.image_id) if one[1] or one[0]]
        filled = told if len(told) == len(self.diff_ids) else [one for one in told if one[1]]
        if len(filled) != len(self.diff_ids):
            filled = [("", 0)] * len(self.diff_ids)
        return [Layer(digest, size, made) for digest, (made, size) in zip(self.diff_ids, filled, strict=True)]


@dataclass(frozen=True)
class Container:
    """A container that a tungsten has started."""

    engine: str
    container_id: str
    name: str
    is_running: bool
    started_by: str
    """The process, as `started.this_process` names it."""


def label() -> str:
    """The option that marks a container as this process's."""
    return f"--label={_LABEL}={this_process()}"


def images(engine: str) -> list[Loaded]:
    """The images of ours that an engine has, without a name, too. Raises BuildError where it can't say."""
    listed = ["image", "ls", "--quiet", "--no-trunc", "--filter=label=mem_gb", "--filter=label=device"]
    return [_loaded(engine, one) for one in _inspected(engine, "image", listed) if _is_ours(one)]


def image(engine: str, name: str) -> Loaded:
    """One of them by what a user calls it. Raises BuildError where there is none, or it is none of ours."""
    if re.fullmatch(r"[0-9a-f]{6,64}", name) is None and (problem := image_problem(name)):
        raise BuildError(f"{name!r} {problem}", where="TARGET")
    run = ask(engine, ["image", "inspect", "--", name])
    found = [one for one in _json_list(run.stdout) if _ID.fullmatch(str(one.get("Id")))]
    if run.returncode != 0 or not found:
        raise BuildError(
            f"{engine} has no image {name!r}, and there is no such folder",
            hint="`tungsten models` lists what was built here",
        )
    if not _is_ours(found[0]):
        raise BuildError(
            f"the image {name!r} is not one that tungsten has built",
            hint=f"`{engine} image inspect` shows it",
        )
    return _loaded(engine, found[0])


def containers(engine: str) -> list[Container]:
    """The containers that tungstens have started, and that are still there. Raises BuildError."""
    listed = ["container", "ls", "--all", "--quiet", "--no-trunc", f"--filter=label={_LABEL}"]
    found = [
        Container(
            engine,
            one["Id"],
            str(one.get("Name", "")).lstrip("/"),
            bool((one.get("State") or {}).get("Running")),
            str(((one.get("Config") or {}).get("Labels") or {}).get(_LABEL, "")),
        )
        for one in _inspected(engine, "container", listed)
    ]
    return [one for one in found if one.started_by]


def used_images(engine: str, without: Collection[Container] = ()) -> set[str]:
    """The ids of images that containers of anybody's are made of, `without` some. Raises BuildError."""
    found = _inspected(engine, "container", ["container", "ls", "--all", "--quiet", "--no-trunc"])
    left_out = {one.container_id for one in without}
    return {_with_algorithm(str(one.get("Image", ""))) for one in found if one["Id"] not in left_out}


def remove_image(engine: str, name: str) -> None:
    """Take a name from an image, or by its id remove it; it goes with its last name. Raises BuildError."""
    _run(engine, ["image", "rm", "--", name], patience=None)


def remove_container(container: Container) -> None:
    """Remove a container, whatever it does. Raises BuildError."""
    kill = ["--time=0"] if container.engine == "podman" else []
    remove = ["container", "rm", "--force", *kill, "--", container.container_id]
    _run(container.engine, remove, patience=None)


def tag_image(engine: str, image_id: str, reference: str) -> None:
    """Give an image one name more. Raises BuildError."""
    _run(engine, ["image", "tag", "--", image_id, reference])


def unshared(removed: Iterable[Loaded], left: Iterable[Loaded]) -> int:
    """What images take that no other one has: the engine keeps each layer once."""
    kept = {chain for one in left for chain in _chains(one.diff_ids)}
    sizes: dict[tuple[str, ...], int] = {}
    for one in removed:
        layers = one.layers()
        sizes |= dict(zip(_chains(one.diff_ids), (layer.size for layer in layers), strict=True))
    return sum(size for chain, size in sizes.items() if chain not in kept)


def _chains(diff_ids: Sequence[str]) -> list[tuple[str, ...]]:
    """A layer is kept for what lies below it (OCI image specification, "ChainID")."""
    return [tuple(diff_ids[: number + 1]) for number in range(len(diff_ids))]


def _is_ours(found: dict[str, Any]) -> bool:
    config = found.get("Config") or {}
    return {"mem_gb", "device"} <= set(config.get("Labels") or {}) and "tungsten_server" in (
        config.get("Entrypoint") or ()
    )


def _loaded(engine: str, found: dict[str, Any]) -> Loaded:
    machine = str(found.get("Architecture", ""))
    system = next((name for name, one in ARCHITECTURES.items() if one.debian == machine), machine)
    digests = [str(one).rpartition("@")[2] for one in found.get("RepoDigests") or ()]
    return Loaded(
        engine=engine,
        image_id=_with_algorithm(found["Id"]),
        digest=str(found.get("Digest") or (digests[0] if digests else "")),
        # What no engine would take as a name is never given back to one.
        names=tuple(sorted(name for name in found.get("RepoTags") or () if image_problem(str(name)) is None)),
        platform=system,
        size=int(found.get("Size", 0)),
        diff_ids=tuple(map(str, (found.get("RootFS") or {}).get("Layers") or ())),
        labels={str(name): str(value) for name, value in found["Config"]["Labels"].items()},
    )


def _with_algorithm(identity: str) -> str:
    return identity if identity.startswith("sha256:") else f"sha256:{identity}"


def _history(engine: str, image_id: str) -> list[tuple[str, int]]:
    """What an engine says of each step, lowest first: what was made, and its size."""
    form = "json" if engine == "podman" else "{{json .}}"
    said = _run(
        engine, ["image", "history", "--no-trunc", "--human=false", f"--format={form}", "--", image_id]
    )
    entries = _json_list(said) if engine == "podman" else [json.loads(line) for line in said.splitlines()]
    found = [(str(one.get("CreatedBy", "")), one.get("size", one.get("Size", 0))) for one in entries]
    return [(made, int(size) if str(size).isdecimal() else 0) for made, size in reversed(found)]


def _inspected(engine: str, kind: str, listing: Sequence[str]) -> list[dict[str, Any]]:
    """All that an engine knows of each of what it lists; what goes meanwhile is left out."""
    ids = [one for one in dict.fromkeys(_run(engine, listing).split()) if _ID.fullmatch(one)]
    if not ids:
        return []
    said = ask(engine, [kind, "inspect", "--", *ids]).stdout
    return [one for one in _json_list(said) if _ID.fullmatch(str(one.get("Id")))]


def _json_list(text: str) -> list[dict[str, Any]]:
    try:
        found = json.loads(text)
    except ValueError:
        return []
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


def _run(engine: str, arguments: Sequence[str], patience: float | None = PATIENCE) -> str:
    run = ask(engine, arguments, patience)
    if run.returncode != 0:
        raise BuildError(
            f"{engine} refused: {run.stderr.strip()}", where=" ".join([engine, *arguments[:2], arguments[-1]])
        )
    return run.stdout
