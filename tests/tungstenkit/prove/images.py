"""Images and exports made on the spot."""

import gzip
import hashlib
import io
import json
import os
import tarfile

from tests.generate import ROOT
from tungstenkit.nix_build.image import blob, read_layout
from tungstenkit.registry.artifact import (
    EXPORT,
    EXPORT_TAR,
    INPUTS,
    MANIFEST,
    OCTETS,
    TITLE,
    Artifact,
    Layer,
    spelled,
)
from tungstenkit.registry.layout import LayoutPlace

GZIP = "application/vnd.oci.image.layer.v1.tar+gzip"
CONFIG = "application/vnd.oci.image.config.v1+json"


def member(name, content=b"", kind=tarfile.REGTYPE, **facts):
    """A member of a tar, with its content."""
    info = tarfile.TarInfo(name)
    info.type = kind
    info.size = len(content)
    info.mtime = 1
    info.mode = 0o755 if kind == tarfile.DIRTYPE else 0o644
    for fact, value in facts.items():
        setattr(info, fact, value)
    return info, content


def link(name, target, kind=tarfile.SYMTYPE):
    """A link in a tar."""
    return member(name, kind=kind, linkname=target)


def tar(*members):
    """The bytes of a tar."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for info, content in members:
            archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


def digest(data):
    """The digest of bytes."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def write_image(folder, tars, made_of=None, pack=gzip.compress, config=None, **more):
    """An image as a layout; its place and the manifest's descriptor.

    tars: the layers'. made_of: what its history says of each. config: of containers. more: of the whole config.
    """
    place = LayoutPlace(folder)
    blobs = [Layer(pack(one), GZIP) for one in tars]
    told = {
        "architecture": "amd64",
        "os": "linux",
        "config": config or {},
        "rootfs": {"type": "layers", "diff_ids": [digest(one) for one in tars]},
        "history": [{"created_by": one} for one in made_of or [f"layer {i}" for i in range(len(tars))]],
        **more,
    }
    described = Layer(json.dumps(told).encode(), CONFIG)
    place.put_blobs([*blobs, described])
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": described.descriptor.to_json(),
        "layers": [one.descriptor.to_json() for one in blobs],
    }
    return place, place.put_manifest(spelled(manifest), tag="latest")


LOCK = (ROOT / "examples" / "caption" / "tungsten.lock").read_bytes()


def export(*more, **replaced):
    """The members of an export's tar. replaced: the contents of documents, by their names but for the suffix."""
    documents = {
        "files.json": b"[]",
        "flake.nix": b"{}",
        "spec.json": b'{"spec-version": 1}',
        "tungsten.lock": LOCK,
    }
    return [
        *(member(name, replaced.get(name.partition(".")[0], text)) for name, text in documents.items()),
        *more,
    ]


def export_tar(folder):
    """An export's folder as a tar, without what says where bytes come from."""
    members = []
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink():
            members.append(link(name, str(path.readlink())))
        elif path.is_file() and name != "sources.json":
            members.append(member(name, path.read_bytes(), mode=0o755 if os.access(path, os.X_OK) else 0o644))
    return tar(*members)


def keep(place, layout, files, folder, tag="latest"):
    """Have a place keep a built image, and beside it its export and what it was built of.

    layout: of Nix. files: by the store's paths, with their names. folder: the export's.
    """
    manifest = blob(layout, read_layout(layout).digest).read_bytes()
    document = json.loads(manifest)
    blobs = [Layer(blob(layout, one["digest"]).resolve(), one["mediaType"]) for one in document["layers"]]
    config = document["config"]
    blobs.append(Layer(blob(layout, config["digest"]), config["mediaType"]))
    place.put_blobs(place.lacking(blobs))
    subject = place.put_manifest(manifest, tag=tag)
    layers = [Layer(path, OCTETS, {TITLE: name}) for path, name in sorted(files.items())]
    place.attach(Artifact(INPUTS, layers, subject))
    place.attach(Artifact(EXPORT, [Layer(export_tar(folder), EXPORT_TAR)], subject))
    return subject
