"""Everything that a build takes, in a folder to carry to a machine without a network.

The folder is a binary cache of Nix's: each path in it is named by the hash of its content, which Nix checks when it
takes it, so that neither a signature nor trust in whoever carried it is needed.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tungstenkit import nix_program, store
from tungstenkit.sdk.errors import FetchError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_AT_ONCE = 500
"""Paths in one command, for the limit on its length."""


def pack(paths: Sequence[str], folder: Path) -> None:
    """Copy store paths into a folder; what it has already stays. Raises FetchError."""
    folder.mkdir(parents=True, exist_ok=True)
    # Weights do not compress, and packages are compressed.
    _copy("--to", f"{_url(folder)}?compression=none", paths)


def unpack(paths: Sequence[str], folder: Path) -> None:
    """Bring those of the paths into the store that a folder has and the store has not. Raises FetchError."""
    if not (folder / "nix-cache-info").is_file():
        raise FetchError(
            "nothing here was made by `tungsten fetch --to`", where=str(folder), hint="name the folder itself"
        )
    described = dict(re.findall(r"(\w+): (.*)", (folder / "nix-cache-info").read_text(encoding="utf-8")))
    if (place := described.get("StoreDir", store.place())) != store.place():
        raise FetchError(
            f"this was copied for a Nix store in {place}, and this machine's is in {store.place()}",
            where=str(folder),
            hint="make the copy where the store has the same place; NIX_STORE_DIR and NIX_STATE_DIR say which it is",
        )
    wanted = store.missing(paths)
    # A binary cache describes each path in a file called after the path's own hash.
    _copy("--from", _url(folder), [path for path in sorted(wanted) if (folder / _info(path)).is_file()])


def _info(path: str) -> str:
    return f"{path.rpartition('/')[2].partition('-')[0]}.narinfo"


def _url(folder: Path) -> str:
    return f"file://{folder.resolve()}"


def _copy(direction: str, url: str, paths: Sequence[str]) -> None:
    for start in range(0, len(paths), _AT_ONCE):
        command = ["nix", *store.options(), "copy", direction, url, *paths[start : start + _AT_ONCE]]
        run = nix_program.run(command)
        if run.returncode != 0:
            raise FetchError(
                f"the files could not be copied: {run.stderr.strip()}",
                where=url,
                hint="a full disk or a damaged copy: make room, or make the copy again with `tungsten fetch --to`",
            )
