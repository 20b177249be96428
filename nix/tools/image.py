#!/usr/bin/env python3
"""Put layers together to an image: `image.py CONFIG.json OUT`.

OUT becomes an OCI image layout that is a `docker save` folder as well. Its layer blobs are links to the
layers' own files. Before it is written, the layers are checked against each other: a container shows the last
layer's word on every path, so that must be the true one.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent / "lib"))

from base_root import PACKAGE as IMPORTED
from debversion import Package
from exported import digest
from facts import EXPORT_LABEL
from ldcache import Root
from program import Config, ToolError, read_json, run, tell, write_json
from rootfs import Entry, Table

_INDEX = "application/vnd.oci.image.index.v1+json"
_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_CONFIG = "application/vnd.oci.image.config.v1+json"
_DANGLING_SHOWN = 20
# A module of the top level, of a wheel and of the model (Python's reference, "The import system").
_MODULE = r"([A-Za-z_]\w*)(?:\.py|\.[\w.-]*so|/__init__\.py)"
_INSTALLED = re.compile(rf".*/(?:site|dist)-packages/{_MODULE}")
_OWN = re.compile(rf"app/{_MODULE}")
_SERVER = "opt/tungsten/server/"


def make_image(config_path: Path, out: Path) -> None:
    """Make the image that a configuration describes."""
    config = read_json(config_path)
    folders = [Path(path) for path in config["layers"]]
    if len(folders) > config["max-layers"]:
        raise ToolError(f"{len(folders)} layers are more than the {config['max-layers']} that are allowed")
    layers = [read_json(folder / "layer.json") for folder in folders]
    table = check_layers(folders, layers)
    hidden = _hidden(table)
    for line in [*_dangling(table), *hidden]:
        print("note:", line, file=sys.stderr)
    for what in hidden:
        tell(
            kind="note",
            what=what,
            where="the model's folder",
            hint="give it another name, if the package is meant",
        )
    _write_layout(config, folders, layers, out)


def check_layers(folders: list[Path], layers: list[Config]) -> Table:
    """The root that the layers make together; `ToolError` if a container would not show it as its inputs state it."""
    table = Table()
    by: dict[str, str] = {}  # path -> the layer that spoke last of it
    last: dict[str, Entry] = {}
    for folder, layer in zip(folders, layers):
        files = read_json(folder / "files.json")
        for value in files["packages"]:
            package = Package.from_json(value)
            table.packages[package.name] = package
        name = layer["created-by"]
        entries = [Entry.from_json(value) for value in files["entries"]]
        if files.get("changes"):
            table.change(entries)
            by.update((entry.path, name) for entry in entries)
            last.update((entry.path, entry) for entry in entries)
            continue
        for entry in entries:
            try:
                table.add(entry)
            except ToolError as error:
                these = f"(layers '{by[entry.path]}' and '{name}')"
                raise ToolError(f"{error} {these}", **error.told) from None
            stays = table.entries[entry.path]
            if entry.kind != "dir" and stays is not entry and not stays.is_same(entry):
                raise ToolError(
                    f"/{entry.path}: the one of {stays.package} must stay, but layer '{name}' comes after"
                    f" '{by[entry.path]}'"
                )
            by[entry.path], last[entry.path] = name, entry
    for path, truth in table.entries.items():
        if truth.kind == "dir" and last[path].statement != truth.statement:
            raise ToolError(f"/{path}: {truth.describe()}, but {last[path].describe()} in layer '{by[path]}'")
    return table


def _dangling(table: Table) -> list[str]:
    root = Root(table)
    found = [
        f"/{entry.path} -> {entry.target} leads nowhere"
        for entry in table.sorted()
        # What a base image has is not ours to judge.
        if entry.package != IMPORTED
        and entry.kind == "link"
        and entry.target.startswith("/")
        and root.resolve(entry.path) is None
    ]
    more = len(found) - _DANGLING_SHOWN
    return found[:_DANGLING_SHOWN] + ([f"{more} more links lead nowhere"] if more > 0 else [])


def _hidden(table: Table) -> list[str]:
    """What of the model's folder, which is first on its `sys.path`, takes the place of an installed package."""
    installed: dict[str, str] = {}
    for entry in table.entries.values():
        match = _INSTALLED.fullmatch(entry.path) if entry.package.endswith(".whl") else None
        if match is not None and not entry.path.startswith(_SERVER):
            installed[match.group(1)] = entry.package
    return [
        f"{path[len('app/') :]} hides what {installed[match.group(1)]} has installed"
        for path in sorted(table.entries)
        if (match := _OWN.fullmatch(path)) is not None and match.group(1) in installed
    ]


def _write_layout(config: Config, folders: list[Path], layers: list[Config], out: Path) -> None:
    blobs = out / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    created = config["created"]
    platform = {"architecture": config["architecture"], "os": config["os"]}
    settings, annotations = config["config"], config.get("annotations", {})
    if "export" in config:
        named = {EXPORT_LABEL: digest({name: Path(path) for name, path in config["export"].items()})}
        settings = {**settings, "Labels": {**settings.get("Labels", {}), **named}}
        annotations = {**annotations, **named}
    image_config = _add_blob(
        blobs,
        _CONFIG,
        {
            **platform,
            "created": created,
            "config": settings,
            "rootfs": {"type": "layers", "diff_ids": [layer["diff-id"] for layer in layers]},
            "history": [{"created": created, "created_by": layer["created-by"]} for layer in layers],
        },
    )
    for folder, layer in zip(folders, layers):
        link = blobs / _hex(layer["digest"])
        if not link.is_symlink():  # two equal layers are one blob
            link.symlink_to((folder / "blob").absolute())
    manifest = _add_blob(
        blobs,
        _MANIFEST,
        {
            "schemaVersion": 2,
            "mediaType": _MANIFEST,
            "config": image_config,
            "layers": [
                {"mediaType": layer["media-type"], "digest": layer["digest"], "size": layer["size"]}
                for layer in layers
            ],
            **({"annotations": annotations} if annotations else {}),
        },
    )
    _write_index(config, manifest, out)
    write_json(
        out / "manifest.json",
        [
            {
                "Config": f"blobs/sha256/{_hex(str(image_config['digest']))}",
                "RepoTags": [_reference(config)],
                "Layers": [f"blobs/sha256/{_hex(layer['digest'])}" for layer in layers],
            }
        ],
    )


def _reference(config: Config) -> str:
    return f"{_qualified(config['name'])}:{config['tag']}"


def _write_index(config: Config, manifest: dict[str, object], out: Path) -> None:
    # Engines name the image after the first annotation, and skopeo finds it by the second, which must be the
    # bare tag.
    names = {
        "io.containerd.image.name": _reference(config),
        "org.opencontainers.image.ref.name": config["tag"],
    }
    platform = {"architecture": config["architecture"], "os": config["os"]}
    write_json(out / "oci-layout", {"imageLayoutVersion": "1.0.0"})
    write_json(
        out / "index.json",
        {
            "schemaVersion": 2,
            "mediaType": _INDEX,
            "manifests": [{**manifest, "platform": platform, "annotations": names}],
        },
    )


def _add_blob(blobs: Path, media_type: str, value: dict[str, object]) -> dict[str, object]:
    data = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()
    digest = hashlib.sha256(data).hexdigest()
    (blobs / digest).write_bytes(data)
    return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(data)}


def _hex(digest: str) -> str:
    match = re.fullmatch(r"sha256:([0-9a-f]{64})", digest)
    if match is None:
        raise ToolError(f"not a digest: {digest}")
    return match.group(1)


def _qualified(name: str) -> str:
    """A name with the registry it belongs to; one that names none belongs to this machine."""
    first, slash, _ = name.partition("/")
    return name if slash and (first == "localhost" or set(first) & set(".:")) else f"localhost/{name}"


if __name__ == "__main__":
    run(make_image, "CONFIG.json OUT")
