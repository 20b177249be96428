"""Everything that a build takes, in a folder to carry to a machine without a network.

The folder is an OCI image layout with one blob for each file, by its sha256, and no more: any Nix store takes it,
wherever it is, and so do registries. A file's path in a store is made of the hash of its content, so neither a
signature nor trust in whoever carried it is needed. A script beside the blobs adds them to a store without tungsten.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tungstenkit import nix_program, store
from tungstenkit.digest import measure
from tungstenkit.sdk.errors import FetchError
from tungstenkit.spec.files import CARRIED

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tungstenkit.fetch.needs import LockedFile

_AT_ONCE = 500
"""Paths in one command, for the limit on its length."""

LAYOUT, TAKE = CARRIED
"""The script of such a folder, by which it is known, too."""
_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_KIND = "application/vnd.tungsten.inputs"
_EMPTY = b"{}"
_TITLE = "org.opencontainers.image.title"
_KIND_OF = "tungsten.kind"
"""Of a blob, `file`; `program`, which the store has as NAME/bin/NAME; or `archive`, which is Debian's and no input."""
_PLACE = "tungsten.place"
"""Of what is Debian's: where its archive has it."""

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


@dataclass(frozen=True)
class Contents:
    """What is carried."""

    files: Sequence[LockedFile]
    """Of the store."""
    programs: Sequence[str] = ()
    """Store paths with a program each, which is called as they are, below `bin/`."""
    archive: Mapping[str, Path] = field(default_factory=dict)
    """A part of Debian's archive, from which a machine without Nix takes one: files by their places there."""


def pack(contents: Contents, folder: Path) -> None:
    """Copy what is to be carried into a folder; what that has already stays. Raises FetchError."""
    before = _carried(folder)
    # Of an archive two times are none.
    kept = [layer for layer in before if not contents.archive or _key(layer)[2] != "archive"]
    layers = {_key(layer): layer for layer in kept}
    try:
        for file in contents.files:
            layer = _layer(folder, Path(file.path), (file.size, file.sha256), {_TITLE: file.name})
            layers[_key(layer)] = layer
        for folder_of_program in contents.programs:
            (program,) = Path(folder_of_program, "bin").iterdir()
            layer = _layer(folder, program, measure(program), {_TITLE: program.name, _KIND_OF: "program"})
            layers[_key(layer)] = layer
        for place, path in contents.archive.items():
            about = {_TITLE: store.store_name(path.name), _KIND_OF: "archive", _PLACE: place}
            layer = _layer(folder, path, measure(path), about)
            layers[_key(layer)] = layer
        _describe(layers, folder)
    except OSError as problem:
        raise FetchError(
            f"the copy can't be written: {problem.strerror}",
            where=str(problem.filename or folder),
            hint="make room there",
        ) from None


def _layer(
    folder: Path, source: Path, measured: tuple[int, str], annotations: dict[str, str]
) -> dict[str, Any]:
    """A file as a manifest has it, and its blob in a folder. measured: its size and hash."""
    size, sha256 = measured
    blob = folder / "blobs" / "sha256" / sha256
    if not blob.exists():
        blob.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, part := blob.with_name(f"{sha256}~"))
        part.replace(blob)
    return _descriptor("application/octet-stream", sha256, size) | {"annotations": annotations}


def _describe(layers: Mapping[tuple[str, str, str], dict[str, Any]], folder: Path) -> None:
    """Write what a folder of blobs holds, for programs of OCI's and for whoever has Nix alone."""
    listed = [layers[key] for key in sorted(layers)]
    lines = (f"{' '.join(key)}\n" for key in map(_key, listed) if key[2] != "archive")
    _write(folder / TAKE, _SCRIPT.replace("@FILES@", "".join(lines)).encode())
    config = _blob(folder, "application/vnd.oci.empty.v1+json", _EMPTY)
    manifest = {
        "schemaVersion": 2,
        "mediaType": _MANIFEST,
        "artifactType": _KIND,
        "config": config,
        "layers": listed,
    }
    index = {"schemaVersion": 2, "manifests": [_blob(folder, _MANIFEST, _spelled(manifest))]}
    _write(folder / LAYOUT, _spelled({"imageLayoutVersion": "1.0.0"}))
    # The last: what it names is there.
    _write(folder / "index.json", _spelled(index))


def unpack(files: Sequence[LockedFile], folder: Path, scratch: Path) -> None:
    """Bring those of the files into the store that a folder has and the store has not. Raises FetchError.

    scratch: a folder on the disk of the store, if that can be.
    """
    gone = store.missing([file.path for file in files])
    wanted = [file for file in files if file.path in gone]
    if (folder / "nix-cache-info").is_file():
        _from_cache(wanted, folder)
        return
    # The script does not come along through a registry.
    if not _carried(folder):
        raise FetchError(
            "nothing here was made by `tungsten fetch --to`", where=str(folder), hint="name the folder itself"
        )
    blobs = folder / "blobs" / "sha256"
    there = [file for file in wanted if _is_plain(blobs / file.sha256)]
    for start in range(0, len(there), _AT_ONCE):
        some = there[start : start + _AT_ONCE]
        with tempfile.TemporaryDirectory(dir=scratch, prefix=".carried-") as place:
            # A file is added under its own name; two may have one.
            paths = [Path(place) / str(number) / file.name for number, file in enumerate(some)]
            for file, named in zip(some, paths, strict=True):
                named.parent.mkdir()
                _link(blobs / file.sha256, named)
            added = store.add_files(paths)
        for file, path in zip(some, added, strict=True):
            if path != file.path:
                raise FetchError(
                    f"this is not {file.name} as the lock has it",
                    where=str(blobs / file.sha256),
                    hint="the copy is damaged: make it again, with `tungsten fetch --to`",
                )


def archive_in(folder: Path) -> dict[str, Path]:
    """The part of Debian's archive that a folder has: files by their places there; nothing of an earlier folder."""
    if (folder / "nix-cache-info").is_file():
        return {}
    return {
        layer["annotations"].get(_PLACE, ""): folder / "blobs" / "sha256" / _key(layer)[0]
        for layer in _carried(folder)
        if _key(layer)[2] == "archive" and _is_plain(folder / "blobs" / "sha256" / _key(layer)[0])
    }


def _carried(folder: Path) -> list[dict[str, Any]]:
    """What a folder says that it has; nothing where it is new."""
    if not (folder / "index.json").exists():
        return []
    try:
        index = json.loads((folder / "index.json").read_text(encoding="utf-8"))
        name = index["manifests"][0]["digest"].removeprefix("sha256:")
        manifest = json.loads((folder / "blobs" / "sha256" / name).read_text(encoding="utf-8"))
        layers: list[dict[str, Any]] = manifest["layers"]
        if manifest["artifactType"] == _KIND and all(map(_key, layers)):
            return layers
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        pass
    raise FetchError(
        "something else is in this folder",
        where=str(folder),
        hint="name a new one, or one of `tungsten fetch --to`",
    )


def _key(layer: dict[str, Any]) -> tuple[str, str, str]:
    """What a file is known by: its hash, its name and its kind. ValueError for what is none of ours."""
    annotations = layer["annotations"]
    sha256, name = layer["digest"].removeprefix("sha256:"), annotations[_TITLE]
    kind = annotations.get(_KIND_OF, "file")
    # They become lines of a script.
    if (
        not re.fullmatch(r"[0-9a-f]{64}", sha256)
        or store.store_name(name) != name
        or kind not in ("file", "program", "archive")
    ):
        raise ValueError(name)
    return sha256, name, kind


def _descriptor(kind: str, sha256: str, size: int) -> dict[str, Any]:
    return {"mediaType": kind, "digest": f"sha256:{sha256}", "size": size}


def _blob(folder: Path, kind: str, content: bytes) -> dict[str, Any]:
    sha256 = hashlib.sha256(content).hexdigest()
    _write(folder / "blobs" / "sha256" / sha256, content)
    return _descriptor(kind, sha256, len(content))


def _spelled(document: dict[str, Any]) -> bytes:
    return json.dumps(document, indent=2, sort_keys=True).encode() + b"\n"


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    (part := path.with_name(f"{path.name}~")).write_bytes(content)
    part.replace(path)


def _is_plain(blob: Path) -> bool:
    """Whether it is a file, and no link to one of this machine's, which a store would show to everybody."""
    return blob.is_file() and not blob.is_symlink()


def _link(source: Path, path: Path) -> None:
    """Another name for a file, or a copy where that can't be."""
    try:
        path.hardlink_to(source)
    except OSError:
        shutil.copyfile(source, path)


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
