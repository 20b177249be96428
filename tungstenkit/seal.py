"""The second step of locking: what only running or downloading something can tell.

`seal` takes a resolved lock and gives one that can be built. It is the only place that writes the results of
running things, and it writes them only into the lock: the hash of busybox's tree, where the shared pin no longer
stands in the archive, the wheels of what is built from source, the shared libraries that packages need, and what
`dockerfile_commands` and `post_build` make.
"""

from __future__ import annotations

import base64
import hashlib
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from tungstenkit.fetch import Input, unpack_busybox

if TYPE_CHECKING:
    from collections.abc import Callable

    from tungstenkit.lock import Lock


def seal(
    lock: Lock,
    get: Callable[[Input], Path],
    build: Callable[[Lock], Lock],
    libraries: Callable[[Lock], Lock],
    steps: Callable[[Lock], Lock],
) -> Lock:
    """The sealed lock.

    get: downloads a file that the lock names, verified. build: builds the wheels of the lock's sources, whose
    tools are sealed (`build_wheels`). libraries: adds the Debian packages whose shared libraries the lock's packages
    lack (`add_libraries`). steps: adds what the model's own steps make in the root that is complete by then
    (`add_commands`, `add_post_build`).

    Raises what they raise.
    """
    tools = {}
    for system, entry in lock.tools.items():
        busybox = entry.busybox
        if busybox.tree_sha256 is None:
            deb = get(Input(busybox.file, busybox.size, busybox.sha256, release=entry.layers.release))
            busybox = busybox.model_copy(update={"tree_sha256": busybox_tree_hash(deb)})
        tools[system] = entry.model_copy(update={"busybox": busybox})
    lock = libraries(build(lock.model_copy(update={"tools": tools})))
    return steps(lock.model_copy(update={"sealed": True}))


def busybox_tree_hash(deb: Path) -> str:
    """The SRI hash of a folder that holds a busybox-static .deb's `bin/busybox` alone, as a Nix archive."""
    with tempfile.TemporaryDirectory(prefix="tungsten-") as folder:
        unpack_busybox(deb, Path(folder) / "tree")
        program = (Path(folder) / "tree" / "bin" / "busybox").read_bytes()
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
