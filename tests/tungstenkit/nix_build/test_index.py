"""Images for several platforms as one index, which skopeo takes to a registry and podman out of it."""

import hashlib
import json
import shutil
import subprocess

import pytest

from tests.machine import needs
from tests.registry import registry as running
from tungstenkit.nix_build.image import read_layout
from tungstenkit.nix_build.index import as_one, make_index
from tungstenkit.nix_build.push import push_image

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"


def written(folder, document):
    content = json.dumps(document, sort_keys=True).encode()
    digest = hashlib.sha256(content).hexdigest()
    (folder / "blobs" / "sha256" / digest).write_bytes(content)
    return {"digest": f"sha256:{digest}", "size": len(content)}


def image(folder, architecture, annotations):
    """An image as a build leaves it, of two layers; one of them has nothing of its platform in it."""
    blobs = folder / "store"
    (folder / "blobs" / "sha256").mkdir(parents=True)
    blobs.mkdir()
    layers, diff_ids = [], []
    for text in ("the same everywhere", architecture):
        path = blobs / text
        path.write_bytes(text.encode().ljust(10240, b"\0"))
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        (folder / "blobs" / "sha256" / digest).symlink_to(path)
        layer = {"mediaType": "application/vnd.oci.image.layer.v1.tar", "size": 10240}
        layers.append({**layer, "digest": f"sha256:{digest}"})
        diff_ids.append(f"sha256:{digest}")
    platform = {"architecture": architecture, "os": "linux"}
    config = {**platform, "config": {}, "rootfs": {"type": "layers", "diff_ids": diff_ids}}
    named = written(folder, config)
    config = {"mediaType": "application/vnd.oci.image.config.v1+json", **named}
    manifest = {"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers}
    named = written(folder, {**manifest, "annotations": annotations})
    entry = {"mediaType": MANIFEST, **named, "platform": platform, "annotations": {"name": "latest"}}
    (folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))
    return read_layout(folder)


@pytest.fixture
def images(tmp_path):
    same = {"org.opencontainers.image.title": "blur"}
    return {
        "x86_64-linux": image(tmp_path / "x86", "amd64", {**same, "created": "2026"}),
        "aarch64-linux": image(tmp_path / "arm", "arm64", {**same, "created": "2025"}),
    }


def test_an_index_names_each_image_by_the_digest_that_it_has_by_itself(images, tmp_path):
    made = make_index(images, tmp_path / "index")
    (entry,) = json.loads((made.layout / "index.json").read_text())["manifests"]
    assert (entry["mediaType"], entry["digest"]) == (INDEX, made.digest)
    index = json.loads((made.layout / "blobs" / "sha256" / made.digest[7:]).read_text())
    assert [(one["platform"]["architecture"], one["digest"]) for one in index["manifests"]] == [
        ("arm64", images["aarch64-linux"].digest),
        ("amd64", images["x86_64-linux"].digest),
    ]
    assert all({*one} == {"mediaType", "digest", "size", "platform"} for one in index["manifests"])
    assert index["annotations"] == {"org.opencontainers.image.title": "blur"}
    for path in (made.layout / "blobs" / "sha256").iterdir():
        assert hashlib.sha256(path.read_bytes()).hexdigest() == path.name


def test_the_same_images_give_the_same_index(images, tmp_path):
    made = make_index(images, tmp_path / "index")
    again = make_index(dict(reversed(images.items())), tmp_path / "again")
    assert again.digest == made.digest


def test_an_image_for_one_platform_is_pushed_by_itself(images, tmp_path):
    one = {"x86_64-linux": images["x86_64-linux"]}
    assert as_one(one, tmp_path / "index") is one["x86_64-linux"]
    assert not (tmp_path / "index").exists()


@needs("skopeo")
def test_a_registry_has_the_index_and_every_image_of_it_under_their_digests(images, tmp_path):
    made = make_index(images, tmp_path / "index")
    with running() as registry:
        target = f"{registry.host}/blur:1"
        push_image(made, target, ["--dest-tls-verify=false"])
        kept = {digest for _, digest in registry.manifests}
        assert kept == {"1", made.digest, *(one.digest for one in images.values())}
        # As who has one of the platforms gets it.
        command = ["skopeo", "--override-arch=arm64", "inspect", "--tls-verify=false", "--no-tags"]
        command += ["--format={{.Architecture}}", f"docker://{target}"]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert done.stdout.strip() == "arm64"


@needs("skopeo")
def test_an_image_that_is_pushed_alone_is_no_index(images, tmp_path):
    shutil.rmtree(images["aarch64-linux"].layout)
    with running() as registry:
        push_image(images["x86_64-linux"], f"{registry.host}/blur:1", ["--dest-tls-verify=false"])
        assert {digest for _, digest in registry.manifests} == {"1", images["x86_64-linux"].digest}
