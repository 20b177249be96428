"""The hash of busybox's tree, which seals the tools that build wheels."""

from __future__ import annotations

import base64
import hashlib
from typing import TYPE_CHECKING

from tungstenkit import started
from tungstenkit.fetch.bring import unpack_busybox
from tungstenkit.fetch.needs import deb_file

if TYPE_CHECKING:
    from pathlib import Path

    from tungstenkit.lock.document import Lock
    from tungstenkit.seal.workshop import Workshop


def add_busybox_tree(lock: Lock, workshop: Workshop) -> Lock:
    """The lock with the hash of each busybox's tree, which seals the tools that build wheels."""
    tools = {}
    for system, entry in lock.tools.items():
        busybox = entry.busybox
        if busybox.tree_sha256 is None:
            deb = workshop.get(deb_file(busybox, entry.layers.release))
            busybox = busybox.model_copy(update={"tree_sha256": busybox_tree_hash(deb)})
        tools[system] = entry.model_copy(update={"busybox": busybox})
    return lock.model_copy(update={"tools": tools})


def busybox_tree_hash(deb: Path) -> str:
    """The SRI hash of a folder that holds a busybox-static .deb's `bin/busybox` alone, as a Nix archive."""
    with started.scratch() as folder:
        unpack_busybox(deb, folder / "tree")
        program = (folder / "tree" / "bin" / "busybox").read_bytes()
    return f"sha256-{base64.b64encode(hashlib.sha256(_nix_archive(program)).digest()).decode()}"


def _nix_archive(program: bytes) -> bytes:
    """The Nix archive of a folder with the executable `bin/busybox` (Nix manual, "Nix Archive format")."""

    def text(*parts: bytes) -> bytes:
        return b"".join(len(part).to_bytes(8, "little") + part + b"\0" * (-len(part) % 8) for part in parts)

    file = text(b"(", b"type", b"regular", b"executable", b"", b"contents", program, b")")
    inner = (
        text(b"(", b"type", b"directory", b"entry", b"(", b"name", b"busybox", b"node")
        + file
        + text(b")", b")")
    )
    outer = (
        text(b"(", b"type", b"directory", b"entry", b"(", b"name", b"bin", b"node") + inner + text(b")", b")")
    )
    return text(b"nix-archive-1") + outer
