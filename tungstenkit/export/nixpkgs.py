"""What an export for the package set `nixpkgs` holds beside the rest: its `flake.nix`, a `flake.lock`, and the Poetry
projects that its environments are made from. All of it follows from the lock, so no network is needed to write it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tungstenkit.data import NIX
from tungstenkit.document import to_json
from tungstenkit.export import poetry

if TYPE_CHECKING:
    from tungstenkit.lock.document import Lock
    from tungstenkit.lock.parts import FlakeInput

_PLACEHOLDER = "@release@"


def files(lock: Lock) -> dict[str, str]:
    """The texts by path, relative to the export."""
    ref = lock.flake_inputs["nixpkgs"].ref
    assert ref is not None
    flake = (
        (NIX / "flake" / "exported-nixpkgs-flake.nix").read_text(encoding="utf-8").replace(_PLACEHOLDER, ref)
    )
    texts = {"flake.nix": flake, "flake.lock": flake_lock(lock.flake_inputs)}
    for system, platform in lock.platforms.items():
        for part, wheels in (("model", platform.wheels), ("server", lock.server[system].wheels)):
            project = poetry.project(f"tungsten-{part}-environment", platform.python, wheels)
            texts |= {f"poetry/{system}/{part}/{name}": text for name, text in project.items()}
    return texts


def flake_lock(inputs: dict[str, FlakeInput]) -> str:
    """`flake.lock`, version 7, as Nix writes it (Nix manual, "Lock files")."""
    nodes: dict[str, Any] = {name: _node(entry) for name, entry in inputs.items()}
    nodes["root"] = {"inputs": {name: name for name in inputs}}
    return to_json({"nodes": nodes, "root": "root", "version": 7})


def _node(entry: FlakeInput) -> dict[str, Any]:
    place = {"owner": entry.owner, "repo": entry.repo, "type": "github"}
    node: dict[str, Any] = {
        "locked": place | {"lastModified": entry.last_modified, "narHash": entry.nar_hash, "rev": entry.rev},
        "original": place | ({} if entry.ref is None else {"ref": entry.ref}),
    }
    return node if entry.flake else node | {"flake": False}
