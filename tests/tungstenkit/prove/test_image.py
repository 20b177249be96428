"""An image of anybody's is read, or it is said why it is none."""

import json
import tarfile
from dataclasses import replace

import pytest

from tests.tungstenkit.prove.images import digest, member, tar, write_image
from tungstenkit.prove import image as images
from tungstenkit.registry.artifact import INDEX, MANIFEST, spelled
from tungstenkit.sdk.errors import FetchError

LAYERS = [tar(member("a", b"a")), tar(member("b", b"b"))]


def opened(reference, scratch, system=None):
    with images.opened(str(reference), scratch) as place:
        return images.image_at(place, scratch, system)


def flip(path):
    """Another byte in the middle of a file."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def checked(image):
    read = []
    image.check(read.append)
    return read


def test_it_is_read_from_a_layout(tmp_path):
    _, manifest = write_image(tmp_path / "image", LAYERS, made_of=["one", "two"])
    image = opened(tmp_path / "image", tmp_path)
    assert (image.digest, image.system) == (manifest.digest, "x86_64-linux")
    assert image.layer_name(1) == f"{tmp_path / 'image'}, layer 2 (two)"
    assert checked(image) == [layer.size for layer in image.layers]
    assert image.owners(0) == {}


def test_what_was_built_here_says_whose_each_file_is(tmp_path):
    place, _ = write_image(tmp_path / "image", LAYERS[:1], made_of=["settings"])
    image = opened(tmp_path / "image", tmp_path)
    built = tmp_path / "layer"
    built.mkdir()
    entries = [
        {"path": path, "package": owner}
        for path, owner in (("app", "tree app"), ("etc/a", "files"), ("b", "tini"), ("c", None))
    ]
    (built / "files.json").write_text(json.dumps({"entries": entries}))
    blob = place.folder / "blobs" / "sha256" / image.layers[0].sha256
    blob.rename(built / "blob")
    blob.symlink_to(built / "blob")
    owners = replace(image, layout=place.folder).owners(0)
    assert owners == {"/app": "the model's files", "/etc/a": "settings", "/b": "tini"}


def test_it_is_read_from_an_archive(tmp_path):
    _, manifest = write_image(tmp_path / "image", LAYERS)
    (tmp_path / "scratch").mkdir()
    with tarfile.open(tmp_path / "image.tar", "w") as archive:
        archive.add(tmp_path / "image", ".")
    image = opened(tmp_path / "image.tar", tmp_path / "scratch")
    assert image.digest == manifest.digest
    assert image.name == str(tmp_path / "image.tar")
    assert len(checked(image)) == 2


@pytest.mark.parametrize("hostile", ["blobs/sha256/../../../out", "../out", "/out", "out"])
def test_an_archive_s_other_members_are_not_written(tmp_path, hostile):
    scratch = tmp_path / "deep" / "scratch"
    scratch.mkdir(parents=True)
    link = member("index.json", kind=tarfile.SYMTYPE, linkname="/etc/passwd")
    (tmp_path / "image.tar").write_bytes(tar(member(hostile, b"bad"), link))
    with pytest.raises(FetchError, match="has no index"):
        opened(tmp_path / "image.tar", scratch)
    assert not [path for path in tmp_path.rglob("*") if path.name in ("out", "passwd")]


def test_what_is_no_archive_is_said(tmp_path):
    (tmp_path / "image.tar").write_bytes(b"nothing" * 1000)
    with pytest.raises(FetchError, match="this is no archive of an image"):
        opened(tmp_path / "image.tar", tmp_path)


def test_a_folder_without_an_image_is_said(tmp_path):
    with pytest.raises(FetchError, match="this folder is no image layout"):
        opened(tmp_path, tmp_path)


def test_a_flipped_byte_in_a_layer_is_refused_by_its_name(tmp_path):
    write_image(tmp_path / "image", LAYERS, made_of=["debian", "model"])
    image = opened(tmp_path / "image", tmp_path)
    flip(tmp_path / "image" / "blobs" / "sha256" / image.layers[1].sha256)
    with pytest.raises(FetchError, match="this is not what its digest says") as caught:
        checked(image)
    assert caught.value.where == f"{tmp_path / 'image'}, layer 2 (model)"


def test_a_flipped_byte_in_the_config_or_the_manifest_is_refused(tmp_path):
    for number, wanted in enumerate(("config", "manifest")):
        folder = tmp_path / str(number)
        write_image(folder, LAYERS)
        image = opened(folder, tmp_path)
        found = image.config_digest if wanted == "config" else image.digest
        flip(folder / "blobs" / "sha256" / found.removeprefix("sha256:"))
        with pytest.raises(FetchError, match=f"this is not what its digest says, {found}"):
            opened(folder, tmp_path)


def test_a_layer_of_which_the_config_says_something_else_is_refused(tmp_path):
    diff_ids = [digest(LAYERS[0]), digest(b"other")]
    write_image(tmp_path / "image", LAYERS, rootfs={"type": "layers", "diff_ids": diff_ids})
    image = opened(tmp_path / "image", tmp_path)
    with pytest.raises(FetchError, match="this layer is not what the image's config says") as caught:
        checked(image)
    assert "layer 2" in caught.value.where


@pytest.mark.parametrize(
    "rootfs",
    [{}, None, {"diff_ids": []}, {"diff_ids": ["sha256:0"] * 2}, {"diff_ids": [1, 2]}, {"diff_ids": 3}],
)
def test_a_config_that_is_none_is_refused(tmp_path, rootfs):
    write_image(tmp_path / "image", LAYERS, rootfs=rootfs)
    with pytest.raises(FetchError, match="this is no image"):
        opened(tmp_path / "image", tmp_path)


@pytest.mark.parametrize(
    "more",
    [{"config": 3}, {"config": {"Labels": 3}}, {"history": [3, {}]}, {"history": 3}, {"architecture": {}}],
)
def test_what_else_a_config_says_may_be_anything(tmp_path, more):
    write_image(tmp_path / "image", LAYERS, **{"config": {}, **more})
    image = opened(tmp_path / "image", tmp_path)
    assert image.made_of(0) == ("" if "history" in more else "layer 0")


def test_of_an_index_the_platform_s_is_taken(tmp_path):
    folder = tmp_path / "image"
    digests = {}
    for machine in ("arm64", "amd64", "riscv64"):
        place, manifest = write_image(folder, LAYERS, architecture=machine)
        digests[machine] = manifest
    entries = [
        one.to_json() | {"platform": {"architecture": machine, "os": "linux"}}
        for machine, one in digests.items()
    ]
    index = place.put_manifest(
        spelled({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}), INDEX, "all"
    )
    place.say([index])
    image = opened(folder, tmp_path, "aarch64-linux")
    assert (image.digest, image.system) == (digests["arm64"].digest, "aarch64-linux")
    with pytest.raises(
        FetchError, match="no image for s390x-linux; there are those for aarch64-linux, x86_64-linux"
    ):
        opened(folder, tmp_path, "s390x-linux")


@pytest.mark.parametrize(
    "manifest", [{}, {"config": 1, "layers": []}, {"layers": "x"}, {"config": {}, "layers": [1]}]
)
def test_a_manifest_that_is_none_is_refused(tmp_path, manifest):
    place, _ = write_image(tmp_path / "image", LAYERS)
    content = json.dumps({"schemaVersion": 2, "mediaType": MANIFEST, **manifest}).encode()
    place.say([place.put_manifest(content)])
    with pytest.raises(FetchError, match="this is no image"):
        opened(tmp_path / "image", tmp_path)
