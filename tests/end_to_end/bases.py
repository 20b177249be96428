"""A registry on loopback, and base images to serve from it, made on the spot of Debian's packages."""

import contextlib
import gzip
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import time
import urllib.error
import urllib.request
from pathlib import Path

from tests.end_to_end.harness import ROOT, free_port
from tungstenkit.fetch.needs import LockedFile
from tungstenkit.lock.document import read_lock

# Unpacked there by `make test`.
_UNPACKED = ROOT / ".venv" / "docker-registry" / "usr" / "bin" / "docker-registry"
REGISTRY = shutil.which("docker-registry") or shutil.which(_UNPACKED)
TAR = "application/vnd.oci.image.layer.v1.tar"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
NOBODY = {
    name: f"http://127.0.0.1:{free_port()}"
    for name in (
        "TUNGSTEN_MIRROR_DEBIAN",
        "TUNGSTEN_MIRROR_DEBIAN_SECURITY",
        "TUNGSTEN_MIRROR_PYPI",
        "TUNGSTEN_MIRROR_NPM",
    )
}
"""Mirrors at which nothing answers."""
ALONE = """
ip link set lo up
"$REGISTRY" serve "$FOLDER/registry.yml" >"$FOLDER/again.log" 2>&1 &
served=$!
trap 'kill $served' EXIT
until curl --silent --fail --output /dev/null --noproxy '*' "http://$REGISTRY_HTTP_ADDR/v2/"; do sleep 0.1; done
"$@"
"""
"""Has a registry of the same files and address, and no network but loopback."""


@contextlib.contextmanager
def registry(folder):
    """Debian's docker-registry, with its files in a folder; its host and port."""
    host = f"127.0.0.1:{free_port()}"
    config = folder / "registry.yml"
    config.write_text("version: 0.1\n")
    environment = {
        **os.environ,
        "REGISTRY_HTTP_ADDR": host,
        "REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY": str(folder / "blobs"),
        "REGISTRY_STORAGE_DELETE_ENABLED": "true",
    }
    with (folder / "registry.log").open("wb") as log:
        process = subprocess.Popen([REGISTRY, "serve", config], env=environment, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 30
        while True:
            try:
                urllib.request.urlopen(f"http://{host}/v2/", timeout=5).close()
                break
            except urllib.error.URLError:
                assert time.monotonic() < deadline, (folder / "registry.log").read_text()
                time.sleep(0.05)
        yield host
    finally:
        process.kill()
        process.wait()


def alone(folder, host, empty_store):
    """What a command begins with that has nothing but what the registry of a folder has kept, and its environment.

    Of that registry, which is served no more, the host and port. empty_store: the fixture.
    """
    environment = NOBODY | {
        "REGISTRY": str(REGISTRY),
        "FOLDER": str(folder),
        "REGISTRY_HTTP_ADDR": host,
        "REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY": str(folder / "blobs"),
    }
    return ["unshare", "--net", *empty_store, "sh", "-euc", ALONE, "sh"], environment


def debian_root(lock, names, folder):
    """A layer of some of a lock's packages, as `nix/tools` lay them out; its tar."""
    platform = read_lock(lock).platforms["x86_64-linux"]
    debs = [deb for deb in platform.debs if deb.name in names]
    assert {deb.name for deb in debs} == set(names)
    paths = [LockedFile(deb.file, deb.size, deb.sha256).path for deb in debs]
    # Compressed once: as layers of the base.
    inputs = [{"kind": "deb", "path": path, "stored": True} for path in paths]
    layer = _tool(
        "layer.py", {"created-by": "packages", "python": None, "lower": [], "inputs": inputs}, folder / "debs"
    )
    system = {"kind": "system", "alternatives": True, "ld-so-cache": True, "architecture": "amd64"}
    config = {"created-by": "system", "python": None, "lower": [layer], "inputs": [system]}
    top = _tool("layer.py", config, folder / "system")
    return [gzip.decompress((one / "blob").read_bytes()) for one in (layer, top)]


def _tool(program, config, out):
    source = out.with_name(f"{out.name}.json")
    source.write_text(json.dumps(config, default=str))
    command = [sys.executable, "-I", "-S", "-B", ROOT / "nix" / "tools" / program, source, out]
    subprocess.run(command, check=True)
    return out


def tar(*entries, **options):
    """A layer's tar: (path, bytes, mode) is a file, (path, None, mode) a folder, (path, "target") a link."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for path, content, *mode in entries:
            info = tarfile.TarInfo(path)
            info.mode = mode[0] if mode else 0o644
            if isinstance(content, str):
                info.type, info.linkname = tarfile.SYMTYPE, content
                archive.addfile(info)
            elif content is None:
                info.type = tarfile.DIRTYPE
                archive.addfile(info)
            else:
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    return data.getvalue()


def image(folder, layers, architecture="amd64", media_type=f"{TAR}+gzip", **config):
    """An image layout of tars, in a fresh folder; the digests of its layers."""
    blobs = folder / "blobs" / "sha256"
    blobs.mkdir(parents=True)

    def add(data):
        digest = hashlib.sha256(data).hexdigest()
        (blobs / digest).write_bytes(data)
        return {"digest": f"sha256:{digest}", "size": len(data)}

    packed = [add(_packed(layer, media_type)) for layer in layers]
    value = {
        "architecture": architecture,
        "os": "linux",
        "config": config,
        "rootfs": {
            "type": "layers",
            "diff_ids": [f"sha256:{hashlib.sha256(one).hexdigest()}" for one in layers],
        },
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": {
            "mediaType": "application/vnd.oci.image.config.v1+json",
            **add(json.dumps(value).encode()),
        },
        "layers": [{"mediaType": media_type, **one} for one in packed],
    }
    described = {"mediaType": MANIFEST, **add(json.dumps(manifest).encode())}
    described["annotations"] = {"org.opencontainers.image.ref.name": "latest"}
    described["platform"] = {"os": "linux", "architecture": architecture}
    (folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    (folder / "index.json").write_text(
        json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": [described]})
    )
    return [one["digest"] for one in packed]


def _packed(layer, media_type):
    if media_type.endswith("gzip"):
        return gzip.compress(layer, 1, mtime=0)
    if media_type.endswith("zstd"):
        return subprocess.run(["zstd", "-c"], input=layer, capture_output=True, check=True).stdout
    return layer


def push(layout: Path, reference):
    command = ["skopeo", "copy", "--quiet", "--preserve-digests", "--dest-tls-verify=false"]
    subprocess.run([*command, f"oci:{layout}:latest", f"docker://{reference}"], check=True)


def push_index(layouts, reference):
    """An index of images that are in the registry already, by architecture."""
    entries = [
        {"mediaType": MANIFEST, "platform": {"os": "linux", "architecture": name}, **_manifest(layout)}
        for name, layout in layouts.items()
    ]
    host, _, rest = reference.partition("/")
    name, _, tag = rest.partition(":")
    request = urllib.request.Request(
        f"http://{host}/v2/{name}/manifests/{tag}",
        json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}).encode(),
        {"Content-Type": INDEX},
        method="PUT",
    )
    urllib.request.urlopen(request, timeout=10).close()


def digest(layout):
    return _manifest(layout)["digest"]


def _manifest(layout):
    (entry,) = json.loads((layout / "index.json").read_text())["manifests"]
    return {"digest": entry["digest"], "size": entry["size"]}


def remove(reference):
    """Take an image away from the registry."""
    command = ["skopeo", "delete", "--tls-verify=false", f"docker://{reference}"]
    subprocess.run(command, check=True)


def member(layer, path):
    with tarfile.open(fileobj=io.BytesIO(layer)) as archive:
        return archive.extractfile(path).read()


def relocate(layer, moves):
    """A layer's tar with some of its files and folders at other paths."""
    data = io.BytesIO()
    with (
        tarfile.open(fileobj=io.BytesIO(layer)) as source,
        tarfile.open(fileobj=data, mode="w", format=tarfile.PAX_FORMAT) as target,
    ):
        for info in source:
            content = source.extractfile(info) if info.isreg() else None
            for old, new in moves.items():
                if info.name == old or info.name.startswith(f"{old}/"):
                    info.name = info.path = new + info.name[len(old) :]
            target.addfile(info, content)
    return data.getvalue()
