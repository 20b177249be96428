"""Images as other tools expect them: an index of platforms, labels, layers by zstd, out of a registry again."""

import json
import subprocess
from pathlib import Path

import pytest

from tests.end_to_end import bases
from tests.end_to_end.harness import (
    ENGINE,
    ROOT,
    SYSTEM,
    container_arguments,
    nix,
    remove_images,
    succeed,
    tungsten,
)
from tests.machine import need, needs
from tungstenkit.export.packed import pack_export
from tungstenkit.lock.document import LOCK_NAME, read_lock
from tungstenkit.nix_build.image import Image, blob, read_layout

pytestmark = needs("docker-registry", "skopeo")

ARM64 = "aarch64-linux"
PYPROJECT = """\
[project]
name = "blur"
version = "1.2"
description = "Blurs pictures"
license = "Apache-2.0"

[tool.tungsten]
compression = "zstd"
"""
PICTURE = ROOT / "examples" / "picture.jpg"
ZSTD = "application/vnd.oci.image.layer.v1.tar+zstd"


@pytest.fixture(scope="module")
def model(copy_of):
    """examples/blur for two platforms, with layers by zstd."""
    folder = copy_of("blur", SYSTEM, ARM64)
    (folder / "pyproject.toml").write_text(PYPROJECT)
    return folder


@pytest.fixture(scope="module")
def registry(tmp_path_factory):
    with bases.registry(tmp_path_factory.mktemp("registry")) as host:
        yield host


@pytest.fixture(scope="module")
def pushed(model, registry):
    """What `push` has said of all platforms."""
    reference = f"{registry}/team/blur:1"
    done = tungsten("push", reference, model, "--skopeo-arg=--dest-tls-verify=false")
    assert done.returncode == 0, done.stderr
    return done


@pytest.fixture(scope="module")
def images(model, pushed):
    """What was built for each platform."""
    return {system: read_layout(model / ".tungsten" / f"image-{system}") for system in (SYSTEM, ARM64)}


def document(image: Image, digest=None):
    return json.loads(blob(image.layout, digest or image.digest).read_text())


def config(image):
    return document(image, image.image_id)


def skopeo(*arguments):
    done = subprocess.run(["skopeo", *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout) if done.stdout.startswith("{") else done.stdout


def inspect(reference, *options):
    return skopeo("inspect", "--tls-verify=false", *options, f"docker://{reference}")


def test_a_push_is_one_index_of_each_platform_s_own_image(pushed, images, registry):
    reference, _, digest = pushed.stdout.strip().rpartition("@")
    assert reference == f"{registry}/team/blur:1"
    assert f"an index of {ARM64}, {SYSTEM} is pushed, so the image for {ARM64} is built, too" in pushed.stderr
    index = inspect(f"{registry}/team/blur@{digest}", "--raw")
    assert {one["platform"]["architecture"]: one["digest"] for one in index["manifests"]} == {
        "amd64": images[SYSTEM].digest,
        "arm64": images[ARM64].digest,
    }
    assert index["annotations"]["org.opencontainers.image.title"] == "blur"
    for system, image in images.items():
        assert inspect(f"{registry}/team/blur@{image.digest}")["Architecture"] == (
            "amd64" if system == SYSTEM else "arm64"
        )


def test_podman_takes_this_machine_s_image_out_of_the_index(pushed, images, registry):
    need(*ENGINE)
    reference = f"{registry}/team/blur:1"
    try:
        command = ["podman", "pull", "--quiet", "--tls-verify=false", reference]
        done = subprocess.run(command, capture_output=True, text=True)
        assert (done.returncode, f"sha256:{done.stdout.strip()}") == (0, images[SYSTEM].image_id), done.stderr
    finally:
        remove_images(reference)


def test_a_platform_that_is_asked_for_is_pushed_alone(model, images, registry):
    reference = f"{registry}/team/alone:1"
    said = succeed("push", reference, model, "--platform", ARM64, "--skopeo-arg=--dest-tls-verify=false")
    assert said == f"{reference}@{images[ARM64].digest}\n"
    assert "config" in inspect(reference, "--raw")


def test_an_image_says_what_it_is_when_it_is_of_and_of_which_export(model, images, registry, tmp_path):
    labels = inspect(f"{registry}/team/blur:1")["Labels"]
    lock = read_lock(model / LOCK_NAME)
    release = lock.releases[lock.platforms[SYSTEM].release]
    created = max(suite.date for suite in release.suites if suite.architecture == "amd64")
    assert labels == {
        "device": "cpu",
        "mem_gb": "1",
        "io.tungstenkit.export": pack_export(model / ".tungsten" / "export", tmp_path / "export.tar"),
        "org.opencontainers.image.created": created,
        "org.opencontainers.image.description": "Blurs pictures",
        "org.opencontainers.image.licenses": "Apache-2.0",
        "org.opencontainers.image.title": "blur",
        "org.opencontainers.image.version": "1.2",
    }
    own = config(images[SYSTEM])
    assert {own["created"], *(step["created"] for step in own["history"])} == {created}
    annotations = document(images[SYSTEM])["annotations"]
    assert annotations == {name: text for name, text in labels.items() if "." in name}


def test_an_export_elsewhere_is_the_same_image_of_the_same_name(model, images, tmp_path):
    succeed("nix-export", model, "-o", tmp_path / "export")
    # As users leave there; none of it is the image's.
    (tmp_path / "export" / "notes.txt").write_text("mine")
    for system, image in images.items():
        flake = f"path:{tmp_path}/export#packages.{SYSTEM}.model-image-{system}-dir"
        nix("nix", "build", "--out-link", tmp_path / "image", flake)
        assert read_layout(tmp_path / "image").digest == image.digest


def test_layers_are_the_same_tars_by_zstd_and_the_same_bytes_again(images, blur):
    image = images[SYSTEM]
    assert {layer["mediaType"] for layer in document(image)["layers"]} == {ZSTD}
    assert image.size < blur_size(blur) * 0.95
    # The last has the model's files, and this one has one more.
    assert config(image)["rootfs"]["diff_ids"][:-1] == blur.config["rootfs"]["diff_ids"][:-1]
    (deriver,) = nix("nix-store", "--query", "--deriver", image.layout.resolve()).split()
    layers = [
        path
        for path in nix("nix-store", "--query", "--references", deriver).split()
        if "-layer-" in Path(path).name
    ]
    assert layers
    nix("nix-store", "--realise", "--check", *(path for path in layers if "layer-model" in path))


def blur_size(blur):
    return sum(layer["size"] for layer in blur.manifest["layers"])


def test_a_root_of_such_layers_runs_without_an_engine(model, images, tmp_path):
    answer = succeed("predict", model, "--no-engine", "-i", f"image={PICTURE}", "-o", tmp_path)
    assert "image" in json.loads(answer)


def test_skopeo_and_podman_read_one_file_of_such_layers_as_both_its_kinds(model, images, tmp_path):
    file = tmp_path / "image.tar"
    succeed("build", model, "--no-load", "--archive", file)
    for kind in ("oci-archive", "docker-archive"):
        skopeo("copy", "--quiet", f"{kind}:{file}", f"dir:{tmp_path}/{kind}")
    need(*ENGINE)
    done = subprocess.run(["podman", "load", "-i", file], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    loaded = done.stdout.strip().rpartition(" ")[2]
    try:
        command = ["podman", "image", "inspect", "--format={{.Id}}", loaded]
        found = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
        assert f"sha256:{found}" == images[SYSTEM].image_id
    finally:
        remove_images(loaded)


def test_an_image_is_pulled_under_its_digest_and_predicts(images, registry, tmp_path):
    reference = f"{registry}/team/blur:1"
    digest = images[SYSTEM].digest
    folder = tmp_path / "layout"
    assert succeed("pull", reference, "-o", folder) == f"{folder} {digest}\n"
    assert read_layout(folder).size == images[SYSTEM].size
    need(*ENGINE)
    try:
        assert succeed("pull", reference) == f"{reference} {digest}\n"
        shown = json.loads(succeed("models", "inspect", reference, "--json"))
        assert digest in json.dumps(shown)
        engine = {"TUNGSTEN_ENGINE_ARGS": " ".join(container_arguments())}
        answer = succeed("predict", reference, "-i", f"image={PICTURE}", "-o", tmp_path / "out", env=engine)
        assert "image" in json.loads(answer)
    finally:
        remove_images(reference)
