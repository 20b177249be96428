"""A folder that carries files of a store: they come back, in a store in any place; what was tampered with does not."""

import json
import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from tests.machine import needs
from tungstenkit import nix_program, store
from tungstenkit.digest import measure
from tungstenkit.fetch import carry, inputs
from tungstenkit.fetch.inputs import Contents
from tungstenkit.fetch.needs import LockedFile
from tungstenkit.registry.artifact import EXPORT, INPUTS, Artifact, Layer, manifest
from tungstenkit.registry.layout import LayoutPlace
from tungstenkit.sdk.errors import FetchError
from tungstenkit.watch import UNWATCHED

pytestmark = [
    needs("nix"),
    pytest.mark.timeless("what is carried has no date, and Nix deletes by waiting for threads of its own"),
]


@pytest.fixture
def files(tmp_path):
    """Two files that the store has."""
    paths = [tmp_path / name for name in ("one.bin", "two+2.bin")]
    for path in paths:
        path.write_bytes(os.urandom(1000))
    store.add_files(paths)
    return [LockedFile(path.name, *measure(path)) for path in paths]


@pytest.fixture
def program(tmp_path):
    """A program that the store has; its path."""
    path = tmp_path / "made" / "busybox" / "bin" / "busybox"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"#!/bin/sh\n" + os.urandom(10).hex().encode())
    path.chmod(0o755)
    return store.add_tree(path.parents[1])


def take(files, folder, scratch):
    carry.unpack(files, LayoutPlace(folder), scratch / "downloads", UNWATCHED)


def forget(*paths):
    nix_program.run(["nix-store", *store.options(), "--delete", *paths]).check_returncode()
    assert store.missing(paths) == set(paths)


def paths_of(files):
    return [file.path for file in files]


@pytest.fixture
def carried(files, program, tmp_path):
    """A folder with all of it, which the store has not any more."""
    carry.pack(Contents(files, [program]), tmp_path / "carried", UNWATCHED)
    forget(*paths_of(files), program)
    return tmp_path / "carried"


def test_what_was_packed_comes_back(files, carried, tmp_path):
    take(files, carried, tmp_path)
    assert store.missing(paths_of(files)) == set()
    # Nothing is left, and nothing more is taken.
    assert not list((tmp_path / "downloads").iterdir())
    take(files, carried, tmp_path)


def test_a_store_in_another_place_takes_it(files, carried, tmp_path, monkeypatch):
    monkeypatch.setenv("NIX_STORE_DIR", str(tmp_path / "elsewhere" / "store"))
    monkeypatch.setenv("NIX_STATE_DIR", str(tmp_path / "elsewhere" / "state"))
    assert all(path.startswith(str(tmp_path)) for path in paths_of(files))
    take(files, carried, tmp_path)
    assert store.missing(paths_of(files)) == set()
    subprocess.run(["chmod", "-R", "u+w", tmp_path / "elsewhere"], check=True)


def test_it_is_an_image_layout_with_a_blob_for_each_file(files, carried, program):
    """OCI image layout specification."""
    assert json.loads((carried / "oci-layout").read_text()) == {"imageLayoutVersion": "1.0.0"}
    (entry,) = json.loads((carried / "index.json").read_text())["manifests"]
    blobs = carried / "blobs" / "sha256"
    for blob in blobs.iterdir():
        assert measure(blob)[1] == blob.name
    text = (blobs / entry["digest"].removeprefix("sha256:")).read_text()
    assert len(text) == entry["size"]
    manifest = json.loads(text)
    found = {
        (layer["annotations"]["org.opencontainers.image.title"], layer["size"], layer["digest"])
        for layer in manifest["layers"]
    }
    assert {(file.name, file.size, f"sha256:{file.sha256}") for file in files} < found
    assert {name for name, *_ in found} == {"one.bin", "two+2.bin", "busybox"}


def test_the_script_takes_it_without_tungsten(files, carried, program):
    line = ["sh", str(carried / carry.TAKE), *store.options()]
    subprocess.run(shlex.join(line), shell=True, check=True, capture_output=True)
    assert store.missing([*paths_of(files), program]) == set()
    assert os.access(Path(program) / "bin" / "busybox", os.X_OK)


def test_a_part_of_debians_archive_is_carried_by_its_places(files, tmp_path):
    """And not with one of another day; no store gets it."""
    for day in ("one", "two"):
        (tmp_path / "InRelease").write_text(day)
        archive = {"debian/dists/trixie/InRelease": tmp_path / "InRelease"}
        carry.pack(Contents(files[:1], archive=archive), tmp_path / "carried", UNWATCHED)
    carry.pack(Contents(files[1:]), tmp_path / "carried", UNWATCHED)
    (found,) = carry.archive_in(LayoutPlace(tmp_path / "carried")).items()
    assert found[0] == "debian/dists/trixie/InRelease"
    assert found[1].read_text() == "two"
    script = (tmp_path / "carried" / carry.TAKE).read_text()
    assert "InRelease" not in script
    assert all(file.name in script for file in files)


def test_a_folder_that_keeps_what_builds_an_image_has_no_part_of_it_and_is_taken_from(files, tmp_path):
    """As `push --inputs-to FOLDER` leaves one; where there is no Nix yet, too."""
    kept = LayoutPlace(tmp_path / "kept")
    image = kept.put_manifest(manifest(Artifact("", [])))
    for kind, layers in ((INPUTS, [*inputs.layers(Contents(files)).values()]), (EXPORT, [Layer(b"tar")])):
        kept.attach(Artifact(kind, layers, image))
    assert carry.archive_in(kept) == {}
    forget(*paths_of(files))
    take(files, kept.folder, tmp_path)
    assert store.missing(paths_of(files)) == set()


def test_what_is_there_stays_and_more_is_added(files, tmp_path):
    folder = tmp_path / "carried"
    carry.pack(Contents(files[:1]), folder, UNWATCHED)
    blob = folder / "blobs" / "sha256" / files[0].sha256
    before = blob.stat().st_ino
    carry.pack(Contents(files[1:]), folder, UNWATCHED)
    assert blob.stat().st_ino == before
    forget(*paths_of(files))
    take(files, folder, tmp_path)
    assert store.missing(paths_of(files)) == set()


@needs("skopeo")
def test_a_registry_s_client_carries_it_too(files, carried, tmp_path):
    there = tmp_path / "there"
    subprocess.run(["skopeo", "copy", "--quiet", f"oci:{carried}", f"oci:{there}"], check=True)
    take(files, there, tmp_path)
    assert store.missing(paths_of(files)) == set()


def test_what_the_folder_does_not_have_is_left_to_the_caller(files, tmp_path):
    carry.pack(Contents(files[:1]), tmp_path / "carried", UNWATCHED)
    forget(*paths_of(files))
    take(files, tmp_path / "carried", tmp_path)
    assert store.missing(paths_of(files)) == {files[1].path}


def test_what_was_tampered_with_is_refused(files, carried, tmp_path):
    blob = carried / "blobs" / "sha256" / files[0].sha256
    content = bytearray(blob.read_bytes())
    content[500] ^= 1
    blob.write_bytes(content)
    with pytest.raises(FetchError, match=r"not one.bin as the lock has it") as caught:
        take(files, carried, tmp_path)
    assert caught.value.where == str(blob)
    assert files[0].path in store.missing(paths_of(files))


def test_a_link_to_a_file_of_this_machine_is_not_followed(files, carried, tmp_path):
    blob = carried / "blobs" / "sha256" / files[0].sha256
    blob.rename(tmp_path / "elsewhere")
    blob.symlink_to(tmp_path / "elsewhere")
    take(files, carried, tmp_path)
    assert store.missing(paths_of(files)) == {files[0].path}


@pytest.mark.parametrize("name", ["x\nEND\necho", ".x", "a b", "$(x)"])
def test_no_name_of_somebody_else_s_becomes_a_line_of_the_script(files, tmp_path, name):
    folder = tmp_path / "carried"
    carry.pack(Contents(files[:1]), folder, UNWATCHED)
    layout = LayoutPlace(folder)
    content = layout.manifest(layout.resolve().digest).replace(b'"one.bin"', json.dumps(name).encode())
    layout.say([])
    layout.put_manifest(content)
    with pytest.raises(FetchError, match="something else is in this folder"):
        carry.pack(Contents(files), folder, UNWATCHED)


def test_another_folder_is_refused(files, tmp_path):
    with pytest.raises(FetchError, match="nothing here was made by `tungsten fetch --to`"):
        take(files, tmp_path, tmp_path)
    (tmp_path / "index.json").write_text('{"manifests": []}')
    with pytest.raises(FetchError, match="something else is in this folder"):
        carry.pack(Contents(files), tmp_path, UNWATCHED)


def test_a_folder_that_can_t_be_written_is_told(files, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(FetchError, match="the copy can't be written"):
        carry.pack(Contents(files), tmp_path / "file" / "carried", UNWATCHED)


def test_a_folder_that_calls_itself_as_before_is_taken_and_added_to(files, program, tmp_path):
    """By the name of version 0.2.0 and before."""
    folder = tmp_path / "carried"
    carry.pack(Contents(files[:1]), folder, UNWATCHED)
    layout = LayoutPlace(folder)
    content = layout.manifest(layout.resolve().digest)
    layout.say([])
    before = json.loads(content) | {"artifactType": "application/vnd.tungsten.inputs"}
    layout.put_manifest(json.dumps(before, indent=2).encode())
    carry.pack(Contents(files[1:], [program]), folder, UNWATCHED)
    forget(*paths_of(files))
    take(files, folder, tmp_path)
    assert store.missing(paths_of(files)) == set()


@pytest.fixture
def earlier(files, tmp_path):
    """A folder as an earlier tungsten has written it."""
    url = f"file://{tmp_path / 'earlier'}?compression=none"
    nix_program.run(["nix", *store.options(), "copy", "--to", url, *paths_of(files)]).check_returncode()
    forget(*paths_of(files))
    return tmp_path / "earlier"


def test_a_folder_of_an_earlier_tungsten_is_taken(files, earlier, tmp_path):
    take(files, earlier, tmp_path)
    assert store.missing(paths_of(files)) == set()


def test_what_was_tampered_with_there_is_refused(files, earlier, tmp_path):
    for archive in (earlier / "nar").iterdir():
        content = bytearray(archive.read_bytes())
        content[500] ^= 1
        archive.write_bytes(content)
    with pytest.raises(FetchError, match="could not be copied"):
        take(files, earlier, tmp_path)


def test_one_for_a_store_in_another_place_is_told(files, earlier, tmp_path):
    info = earlier / "nix-cache-info"
    info.write_text(info.read_text().replace(store.place(), "/home/somebody/store"))
    here = re.escape(store.place())
    with pytest.raises(FetchError, match=f"in /home/somebody/store, and this machine's is in {here}"):
        take(files, earlier, tmp_path)
