"""What is kept of an image is found beside it, or where the user says."""

import io
import shutil
import tarfile
from dataclasses import replace

import pytest

from tests.binaries import unpack
from tests.registry import registry
from tests.tungstenkit.prove.images import GZIP, digest, export, member, tar, write_image
from tungstenkit.export.packed import LABEL, pack_export
from tungstenkit.fetch.kept import MOST_MANIFESTS
from tungstenkit.prove import evidence
from tungstenkit.prove.image import image_at
from tungstenkit.registry.artifact import (
    EMPTY,
    EXPORT,
    EXPORT_TAR,
    INDEX,
    INPUTS,
    OCTETS,
    TITLE,
    Artifact,
    Layer,
    index,
    layers_of,
    read,
)
from tungstenkit.registry.layout import LayoutPlace
from tungstenkit.registry.place import place as place_of
from tungstenkit.sdk.errors import FetchError

LAYERS = [tar(member("a", b"a"))]
TAR = tar(*export())
OTHER = tar(*export(member("model/a.py", b"")))


def of_export(data, subject=None):
    return Artifact(EXPORT, [Layer(data, EXPORT_TAR)], subject)


def of_inputs(*contents, subject=None):
    return Artifact(INPUTS, [Layer(one, OCTETS, {TITLE: "a"}) for one in contents], subject)


@pytest.fixture
def written(tmp_path):
    """Makes an image; it, its place, and its manifest's descriptor."""

    def write(name="image", **config):
        place, manifest = write_image(tmp_path / name, LAYERS, config=config)
        return image_at(place, tmp_path), place, manifest

    return write


def test_its_referrers_are_found(tmp_path, written):
    image, place, manifest = written()
    place.attach(of_export(TAR, manifest))
    place.attach(of_inputs(b"1", b"2", subject=manifest))
    kept = evidence.find(image, place, ())
    assert {*kept.inputs} == {digest(b"1").removeprefix("sha256:"), digest(b"2").removeprefix("sha256:")}
    found, named = kept.export(image, tmp_path)
    assert named == place.referrers(manifest.digest, EXPORT)[0].digest
    assert (found.folder / "flake.nix").read_text() == "{}"


def test_what_other_images_are_built_of_too_is_found(tmp_path, written):
    image, place, manifest = written()
    shared = of_inputs(b"1", b"2")
    place.put_blobs(shared.layers)
    place.attach_shared(shared, manifest)
    known = {digest(one).removeprefix("sha256:") for one in (b"1", b"2")}
    assert {*evidence.find(image, place, ()).inputs} == known
    # A copy of the image has none beside it, and the folder lists them.
    _, other, _ = written("other", User="1")
    assert {*evidence.find(image, other, [str(tmp_path / "image")]).inputs} == known


def test_what_is_about_another_image_is_none_of_its(tmp_path, written):
    image, place, _ = written()
    _, other, manifest = written("other", User="1")
    other.attach(of_export(TAR, manifest))
    assert evidence.find(image, other, ()).exports == {}
    with pytest.raises(FetchError, match="no export is kept beside the image"):
        evidence.find(image, place, ()).export(image, tmp_path)


def test_it_is_sought_in_another_place_and_in_folders_of_files(tmp_path, written):
    image, place, _ = written()
    _, other, manifest = written("other", User="1")
    other.attach(of_export(TAR, manifest))
    LayoutPlace(tmp_path / "carried").attach(of_inputs(b"1"))
    kept = evidence.find(image, place, [str(tmp_path / "other"), str(tmp_path / "carried")])
    assert len(kept.exports) == 1
    assert list(kept.inputs) == [digest(b"1").removeprefix("sha256:")]
    with pytest.raises(FetchError, match="nothing is kept in this folder"):
        evidence.find(image, place, [str(tmp_path)])


def test_a_folder_may_keep_what_builds_many_images(tmp_path, written):
    image, place, manifest = written()
    (tmp_path / "kept").mkdir()
    kept = LayoutPlace(tmp_path / "kept")
    for number in range(MOST_MANIFESTS):
        kept.attach(of_inputs(b"%d" % number))
    kept.attach(of_inputs(b"its own", subject=manifest))
    found = evidence.find(image, place, [str(tmp_path / "kept")])
    assert digest(b"its own").removeprefix("sha256:") in found.inputs


def put_index(place, kind, *manifests, tag):
    """Have a place name an index of manifests, each with a platform's name. kind: empty for images."""
    named = [
        replace(one, platform={"os": "linux", "architecture": architecture})
        for architecture, one in zip(("amd64", "arm64"), manifests, strict=True)
    ]
    place.put_manifest(index(kind, named), INDEX, tag)


def test_what_was_kept_of_several_platforms_is_found_by_the_tag_of_their_index(tmp_path, written):
    """Though an engine has packed the image anew: that was named as an index of images, or of what was kept of them."""
    image, place, _ = written()
    _, first, own = written("own", User="1")
    _, second, foreign = written("foreign", User="2")
    with registry() as there:
        for images in (True, False):
            other = place_of(f"{there.host}/{images}:both".lower())
            kept = []
            for layout, about, content in ((first, own, b"1"), (second, foreign, b"2")):
                other.put_blobs(
                    [Layer(layout.path(one.digest)) for one in layers_of(layout.manifest(about.digest))]
                )
                other.put_blobs([Layer(layout.path(read(layout.manifest(about.digest))["config"]["digest"]))])
                other.put_manifest(layout.manifest(about.digest))
                other.attach(of_export(TAR, about))
                shared = of_inputs(content)
                other.put_blobs([*shared.layers, EMPTY])
                kept.append(other.attach_shared(shared, about))
            put_index(other, *(("", own, foreign) if images else (INPUTS, *kept)), tag="both")
            found = evidence.find(image, place, [f"{other.name}:both"])
            assert list(found.inputs) == [digest(b"1").removeprefix("sha256:")]
            assert len(found.exports) == 1


def test_an_index_of_which_only_some_manifests_are_there_will_do(tmp_path, written):
    image, place, manifest = written()
    there = place.attach(of_inputs(b"1", subject=manifest))
    place.put_manifest(index(INPUTS, [replace(there, digest=digest(b"gone")), there]), INDEX)
    kept = evidence.find(image, place, [place.name])
    assert list(kept.inputs) == [digest(b"1").removeprefix("sha256:")]


def test_one_export_that_was_kept_of_several_images_is_one(tmp_path, written):
    image, place, _ = written(Labels={LABEL: name(tmp_path, TAR)})
    for user in ("1", "2"):
        _, other, manifest = written(f"of-{user}", User=user)
        other.attach(of_export(TAR, manifest))
    kept = evidence.find(image, place, [str(tmp_path / "of-1"), str(tmp_path / "of-2")])
    assert len(kept.exports) == 2
    found, _ = kept.export(image, tmp_path)
    assert (found.folder / "flake.nix").is_file()


def test_an_export_s_folder_is_taken(tmp_path, written):
    image, place, manifest = written()
    place.attach(of_export(TAR, manifest))
    found, _ = evidence.find(image, place, ()).export(image, tmp_path)
    folder = found.folder.rename(tmp_path / "export")
    kept = evidence.find(image, place, [str(folder)])
    (tmp_path / "scratch").mkdir()
    copy, named = kept.export(image, tmp_path / "scratch")
    assert named is None
    assert (copy.folder / "flake.nix").read_text() == "{}"


def test_several_exports_are_too_many(tmp_path, written):
    image, place, manifest = written()
    place.attach(of_export(OTHER, manifest))
    place.attach(of_export(TAR, manifest))
    with pytest.raises(FetchError, match="several exports are kept beside the image"):
        evidence.find(image, place, ()).export(image, tmp_path)


def name(tmp_path, data):
    """By what an image names an export."""
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        unpack(archive, tmp_path / "named")
    digest = pack_export(tmp_path / "named", tmp_path / "named.tar")
    shutil.rmtree(tmp_path / "named")
    (tmp_path / "named.tar").unlink()
    return digest


def test_of_several_exports_the_one_that_the_image_names_is_taken(tmp_path, written):
    image, place, manifest = written(Labels={LABEL: name(tmp_path, TAR)})
    place.attach(of_export(OTHER, manifest))
    meant = place.attach(of_export(TAR, manifest))
    (scratch := tmp_path / "scratch").mkdir()
    found, digest = evidence.find(image, place, ()).export(image, scratch)
    assert digest == meant.digest
    assert not (found.folder / "model").exists()
    # Of the others nothing stays: there may be many, and large ones.
    assert [path.name for path in scratch.iterdir()] == [meant.sha256]


def test_another_export_than_the_image_names_is_refused(tmp_path, written):
    image, place, manifest = written(Labels={LABEL: name(tmp_path, TAR)})
    place.attach(of_export(OTHER, manifest))
    with pytest.raises(FetchError, match="built of another export than is kept here, sha256:"):
        evidence.find(image, place, ()).export(image, tmp_path)


def test_a_folder_is_no_other_export_than_the_image_names(tmp_path, written):
    image, place, manifest = written(Labels={LABEL: name(tmp_path, TAR)})
    place.attach(of_export(OTHER, manifest))
    (tmp_path / "other").mkdir()
    with tarfile.open(fileobj=io.BytesIO(OTHER)) as archive:
        unpack(archive, tmp_path / "other")
    with pytest.raises(FetchError, match="built of another export"):
        evidence.find(image, place, [str(tmp_path / "other")]).export(image, tmp_path)


def test_a_flipped_byte_in_the_export_is_refused_by_name(tmp_path, written):
    image, place, manifest = written()
    place.attach(of_export(TAR, manifest))
    path = place.path(digest(TAR))
    data = bytearray(path.read_bytes())
    data[600] ^= 1
    path.write_bytes(data)
    with pytest.raises(FetchError, match=r"the export .*: this is not what its digest says"):
        evidence.find(image, place, ()).export(image, tmp_path)


def test_what_an_artifact_has_besides_is_no_export(tmp_path, written):
    image, place, manifest = written()
    place.attach(Artifact(EXPORT, [Layer(b"layer", GZIP)], manifest))
    with pytest.raises(FetchError, match="this is no export: it has no tungsten"):
        evidence.find(image, place, ()).export(image, tmp_path)
