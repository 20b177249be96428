"""An image of anybody's is read, or it is said why it is none."""

import json
import os
import tarfile
from dataclasses import replace

import pytest

from tests.tungstenkit.prove.images import digest, member, tar, write_image
from tungstenkit import store
from tungstenkit.prove import image as images
from tungstenkit.registry.artifact import INDEX, MANIFEST, Descriptor, Layer, spelled
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


def test_what_was_built_here_says_whose_each_file_is(tmp_path, monkeypatch):
    monkeypatch.setattr(store, "place", lambda: str(tmp_path))
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
    with pytest.raises(FetchError, match="this folder is no image layout") as caught:
        opened(tmp_path, tmp_path)
    assert "skopeo copy" in caught.value.hint
    (tmp_path / "tungsten.lock").touch()
    with pytest.raises(FetchError, match="this folder is no image layout") as caught:
        opened(tmp_path, tmp_path)
    assert "`tungsten push REF --with-inputs`" in caught.value.hint


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


def test_a_history_is_read_once_however_long_it_is(tmp_path):
    write_image(
        tmp_path / "image", LAYERS, history=[{"empty_layer": True}] * 1000 + [{"created_by": "a"}] * 2
    )
    image = opened(tmp_path / "image", tmp_path)
    read = []

    class Config(dict):
        def get(self, name):
            read.append(name)
            return super().get(name)

    image = replace(image, config=Config(image.config))
    assert [image.made_of(number % 2) for number in range(1000)] == ["a"] * 1000
    assert read == ["history"]


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


@pytest.mark.parametrize(
    "said",
    [
        {"mediaType": "application/vnd.theirs+json"},
        {"annotations": {"io.github.containers.zstd-chunked.manifest-checksum": "sha256:0"}},
        {"annotations": {"containerd.io/snapshot/stargz/toc.digest": "sha256:0"}},
    ],
)
def test_a_layer_that_some_engines_see_otherwise_is_refused(tmp_path, said):
    """By the first none of it is there, by the others what a table says that stands beside its tar."""
    place, found = write_image(tmp_path / "image", LAYERS)
    manifest = json.loads(place.manifest(found.digest))
    manifest["layers"][1] |= said
    place.say([place.put_manifest(spelled(manifest))])
    with pytest.raises(FetchError, match="engines may see other files here") as caught:
        checked(opened(tmp_path / "image", tmp_path))
    assert "layer 2" in caught.value.where


EVIL = [{"mediaType": MANIFEST, "digest": digest(b"theirs"), "size": 6}]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda text: text.replace('"layers":', '"layers":[],"layers":'), "a key stands twice"),
        (lambda text: text.replace('{"config":', '{"Layers":[],"config":'), "'Layers' stands for 'layers'"),
        (lambda text: text.replace('{"config":', '{"layer\u017f":[],"config":'), "stands for 'layers'"),
        (lambda text: text.replace('"size":', '"Digest":"theirs","size":'), "'Digest' stands for 'digest'"),
        (lambda text: f'{{"manifests":{json.dumps(EVIL)},{text[1:]}', "a manifest and an index in one"),
    ],
)
def test_a_manifest_that_others_could_read_otherwise_is_refused(tmp_path, change, said):
    """Programs take the first of two keys, or the last, or none by its case: what they run was not looked at."""
    place, found = write_image(tmp_path / "image", LAYERS)
    content = change(place.manifest(found.digest).decode()).encode()
    path = place.path(digest(content))
    path.write_bytes(content)
    place.say([Descriptor(MANIFEST, digest(content), len(content))])
    with pytest.raises(FetchError, match="this is no image") as caught:
        opened(tmp_path / "image", tmp_path)
    assert said in caught.value.what


def test_a_config_whose_keys_stand_twice_is_refused(tmp_path):
    place, found = write_image(tmp_path / "image", LAYERS, config={"User": "65532:0"})
    manifest = json.loads(place.manifest(found.digest))
    config = place.path(manifest["config"]["digest"]).read_bytes()
    config = b'{"config": {"User": "0", "Volumes": {}}, ' + config[1:]
    place.put_blob(Layer(config))
    manifest["config"] |= {"digest": digest(config), "size": len(config)}
    place.say([place.put_manifest(spelled(manifest))])
    with pytest.raises(FetchError, match="this is no image: a key stands twice"):
        opened(tmp_path / "image", tmp_path)


def test_of_an_index_with_two_images_of_a_platform_none_is_taken(tmp_path):
    """Engines choose by the processor's variant, or the first, or the last."""
    folder = tmp_path / "image"
    entries = []
    for variant in ({}, {"variant": "v8"}):
        place, manifest = write_image(folder, LAYERS, architecture="arm64", **variant)
        entries.append(manifest.to_json() | {"platform": {"architecture": "arm64", "os": "linux", **variant}})
    index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}
    place.say([place.put_manifest(spelled(index), INDEX, "all")])
    with pytest.raises(FetchError, match="several images for aarch64-linux"):
        opened(folder, tmp_path, "aarch64-linux")
    index["manifests"] = entries[:1] * 2
    place.say([place.put_manifest(spelled(index), INDEX, "all")])
    assert opened(folder, tmp_path, "aarch64-linux").digest == entries[0]["digest"]


@pytest.fixture
def built(tmp_path, monkeypatch):
    """A layout that somebody's build has made, in a store."""
    monkeypatch.setattr(store, "place", lambda: str(tmp_path / "store"))
    write_image(tmp_path / "store" / "layout", LAYERS)
    return tmp_path / "store" / "layout"


def test_what_was_built_is_read(built, tmp_path):
    image = images.built_image(built, tmp_path)
    assert len(checked(image)) == 2
    assert image.owners(0) == {}


@pytest.mark.parametrize("target", ["/dev/zero", "/etc/passwd", "loop", "{outside}"])
@pytest.mark.parametrize("which", ["index.json", "manifest", "config", "layer"])
def test_what_was_built_leads_nowhere_else(built, tmp_path, which, target):
    """A build's output may have links: none is followed out of the store, and none without end."""
    image = images.built_image(built, tmp_path)
    digests = {"manifest": image.digest, "config": image.config_digest, "layer": image.layers[0].digest}
    path = built / (which if which == "index.json" else f"blobs/sha256/{digests[which][7:]}")
    outside = tmp_path / "outside"
    path.rename(outside)
    path.symlink_to(path.name if target == "loop" else target.format(outside=outside))
    with pytest.raises(FetchError, match="lacks a file"):
        checked(images.built_image(built, tmp_path))


@pytest.mark.parametrize("content", [b"[" * 100_000, b"[]", b'{"entries": [1]}', b'{"entries": 1}', None])
def test_who_owns_files_of_what_was_built_may_be_said_anyhow(built, tmp_path, content):
    """By whoever has written `nix/`; a pipe, too."""
    image = images.built_image(built, tmp_path)
    layer = built / "blobs" / "sha256" / image.layers[0].sha256
    made = tmp_path / "store" / "layer"
    made.mkdir()
    layer.rename(made / "layer.tar")
    layer.symlink_to(made / "layer.tar")
    if content is None:
        os.mkfifo(made / "files.json")
    else:
        (made / "files.json").write_bytes(content)
    assert image.owners(0) == {}
