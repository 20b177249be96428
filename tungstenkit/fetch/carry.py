"""Everything that a build takes, in a folder to carry to a machine without a network.

The folder is an OCI image layout with one blob for each file, by its sha256, and no more: any Nix store takes it,
wherever it is, and so do registries. A script beside the blobs adds them to a store without tungsten.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tungstenkit import nix_program, store
from tungstenkit.fetch import inputs
from tungstenkit.registry import artifact as artifacts
from tungstenkit.registry.artifact import EMPTY, INPUTS, Artifact, Layer
from tungstenkit.registry.layout import LayoutPlace
from tungstenkit.sdk.errors import FetchError
from tungstenkit.spec.files import CARRIED

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tungstenkit.fetch.download import Progress
    from tungstenkit.fetch.inputs import Contents, Key
    from tungstenkit.fetch.needs import LockedFile
    from tungstenkit.registry.artifact import Descriptor
    from tungstenkit.registry.base import Place

_AT_ONCE = 500
"""Paths in one command, for the limit on its length."""

LAYOUT, TAKE = CARRIED
"""The script of such a folder, by which it is known, too."""
_KINDS = (INPUTS, "application/vnd.tungsten.inputs")
"""As an earlier tungsten called it, too."""

_SCRIPT = """#!/bin/sh
# Adds all that is carried here to a Nix store: sh take.sh [OPTION OF NIX-STORE]...
set -eu
here=$(cd "${0%/*}" && pwd)
there=$(mktemp -d)
trap 'rm -rf "$there"' EXIT
# A store has a file under its own name.
while read -r sha256 name kind; do
  if [ "$kind" = program ]; then place=$there/programs/$sha256/$name/bin; else place=$there/files/$sha256; fi
  mkdir -p "$place"
  cp "$here/blobs/sha256/$sha256" "$place/$name"
done <<'END'
@FILES@END
for program in "$there"/programs/*/*; do
  [ -d "$program" ] || continue
  chmod 755 "$program"/bin/*
  ${NIX_STORE:-nix-store} "$@" --add-fixed --recursive sha256 "$program"
done
find "$there/files" -type f -exec ${NIX_STORE:-nix-store} "$@" --add-fixed sha256 {} +
"""


def pack(contents: Contents, folder: Path, progress: Progress) -> None:
    """Copy what is to be carried into a folder; what that has already stays. Raises FetchError."""
    layout = LayoutPlace(folder)
    with layout.alone():
        _pack(contents, layout, progress)


def _pack(contents: Contents, layout: LayoutPlace, progress: Progress) -> None:
    before = _carried(layout)
    # Of an archive two times are none.
    kept = [layer for layer in before if not contents.archive or inputs.key(layer)[2] != "archive"]
    layers = {
        inputs.key(one): Layer(
            layout.path(one.digest), one.media_type, one.annotations, known=(one.size, one.sha256)
        )
        for one in kept
    }
    layers |= inputs.layers(contents)
    listed = dict(sorted(layers.items()))
    lacking = layout.lacking([*listed.values(), EMPTY])
    progress.start(len(lacking), sum(layer.descriptor.size for layer in lacking))
    layout.put_blobs(
        lacking, progress.advance, lambda layer: progress.done(layer.annotations.get(artifacts.TITLE, ""))
    )
    layout.write(TAKE, _script(list(listed)))
    found = layout.put_manifest(artifacts.manifest(Artifact(INPUTS, list(listed.values()))))
    layout.say([found])


def _script(keys: Sequence[Key]) -> bytes:
    """What whoever has Nix alone runs."""
    lines = (f"{' '.join(key)}\n" for key in keys if key[2] != "archive")
    return _SCRIPT.replace("@FILES@", "".join(lines)).encode()


def unpack(files: Sequence[LockedFile], place: Place, folder: Path, progress: Progress) -> None:
    """Bring those of the files into the store that a place has and the store has not, as `inputs.take`.

    A place may be a folder as an earlier tungsten has written it. Raises FetchError.
    """
    if isinstance(place, LayoutPlace):
        if (place.folder / "nix-cache-info").is_file():
            gone = store.missing([file.path for file in files])
            _from_cache([file for file in files if file.path in gone], place.folder)
            return
        # The script does not come along through a registry.
        if not (place.folder / "index.json").exists():
            raise FetchError(
                "nothing here was made by `tungsten fetch --to`",
                where=place.name,
                hint="name the folder itself",
            )
    inputs.take(files, place, folder, progress)


def archive_in(layout: Place) -> dict[str, Path]:
    """The part of Debian's archive that a folder has: files by their places there.

    An earlier folder has nothing of it, nor has a registry, nor a folder that keeps what builds images beside them.
    """
    if not isinstance(layout, LayoutPlace) or (layout.folder / "nix-cache-info").is_file():
        return {}
    try:
        carried = _carried(layout)
    except FetchError:
        return {}
    return {
        layer.annotations.get(inputs.PLACE, ""): layout.path(layer.digest)
        for layer in carried
        if inputs.key(layer)[2] == "archive" and layout.has_blob(layer.digest)
    }


def _carried(layout: LayoutPlace) -> list[Descriptor]:
    """What a folder says that it has; nothing where it is new."""
    if not (layout.folder / "index.json").exists():
        return []
    try:
        content = layout.manifest(layout.resolve().digest)
        layers = artifacts.layers_of(content)
        if artifacts.described(content).artifact_type in _KINDS and all(map(inputs.key, layers)):
            return layers
    except (FetchError, ValueError):
        pass
    raise FetchError(
        "something else is in this folder",
        where=layout.name,
        hint="name a new one, or one of `tungsten fetch --to`",
    )


# What an earlier tungsten has written: a binary cache of Nix's, for stores in one place.


def _from_cache(wanted: Sequence[LockedFile], folder: Path) -> None:
    described = dict(re.findall(r"(\w+): (.*)", (folder / "nix-cache-info").read_text(encoding="utf-8")))
    if (place := described.get("StoreDir", store.place())) != store.place():
        raise FetchError(
            f"this was copied for a Nix store in {place}, and this machine's is in {store.place()}",
            where=str(folder),
            hint="make the copy again, with this tungsten: that is for a store in any place",
        )
    # A binary cache describes each path in a file called after the path's own hash.
    paths = [file.path for file in wanted if (folder / _info(file.path)).is_file()]
    for start in range(0, len(paths), _AT_ONCE):
        url = f"file://{folder.resolve()}"
        some = sorted(paths)[start : start + _AT_ONCE]
        run = nix_program.run(["nix", *store.options(), "copy", "--from", url, *some])
        if run.returncode != 0:
            raise FetchError(
                f"the files could not be copied: {run.stderr.strip()}",
                where=url,
                hint="a full disk or a damaged copy: make room, or make the copy again with `tungsten fetch --to`",
            )


def _info(path: str) -> str:
    return f"{path.rpartition('/')[2].partition('-')[0]}.narinfo"
