"""Whose an export's `nix/`, SDK and server are: this tungsten's, a release's that it knows, or nobody's.

An image that is built again to the same bytes by code of nobody's says nothing: such code may hand out any bytes. What
releases have is kept as data, of the exports that are kept of them (`tests/kept`).
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from tungstenkit.data import VERSION, digests_of, exported_files

RELEASES = Path(__file__).with_name("releases.json")
_LARGEST = 64 << 20
FLAKE = "flake"
"""What an export's `flake.nix` is called among the parts; no build of ours reads it."""


@dataclass(frozen=True)
class Maker:
    """Who has made the parts of an export that are tungsten's."""

    version: str | None
    """None where nobody has made all of them."""
    strange: tuple[str, ...] = ()
    """The names of the parts that no tungsten has that this one knows; all, where each is of another one."""


def digests(folder: Path) -> dict[str, str]:
    """A sha256 of each part of an export, as `data.digests` has it, and of its `flake.nix`."""
    files = {
        path.relative_to(folder).as_posix(): _sha256(path)
        for part in ("nix", "server", "tungstenkit")
        for path in (folder / part).rglob("*")
        if path.is_file() or path.is_symlink()
    }
    return digests_of(files) | {FLAKE: _sha256(folder / "flake.nix")}


def maker(folder: Path) -> Maker:
    """Who has made an export's parts."""
    found, known = digests(folder), _known()
    for version, parts in known.items():
        if parts == found:
            return Maker(version)
    strange = [
        part
        for part, digest in sorted(found.items())
        if digest not in {one.get(part) for one in known.values()}
    ]
    return Maker(None, tuple(strange or sorted(found)))


def _known() -> dict[str, dict[str, str]]:
    """The parts of each tungsten that is known, this one first."""
    ours = {name: hashlib.sha256(content).hexdigest() for name, content in exported_files().items()}
    flake = ours["nix/flake/exported-flake.nix"]
    releases: dict[str, dict[str, str]] = json.loads(RELEASES.read_text(encoding="utf-8"))
    return {VERSION: digests_of(ours) | {FLAKE: flake}} | {
        # A checkout on the way to a release has that one's version, and is another.
        (version if version != VERSION else f"{version}, as it was released"): parts
        for version, parts in releases.items()
    }


def _sha256(path: Path) -> str:
    """Of a file; of anything else what is the hash of nothing that tungsten has."""
    if path.is_symlink() or not path.is_file() or path.stat().st_size > _LARGEST:
        return "none"
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
