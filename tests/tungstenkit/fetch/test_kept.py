"""What builds an image, kept where anybody may have written: taken by its hash, read with suspicion."""

import io
import os
import subprocess
import tarfile

import pytest

from tests.machine import needs
from tests.registry import digest_of, registry
from tests.tungstenkit.observers import Told
from tungstenkit import nix_program, store
from tungstenkit.digest import measure
from tungstenkit.fetch import bring, carry, inputs, kept
from tungstenkit.fetch.bring import Folders
from tungstenkit.fetch.inputs import Contents
from tungstenkit.fetch.needs import LockedFile
from tungstenkit.registry import artifact as artifacts
from tungstenkit.registry import client
from tungstenkit.registry.artifact import (
    EMPTY,
    EXPORT,
    EXPORT_TAR,
    INPUTS,
    MANIFEST,
    TITLE,
    Artifact,
    Descriptor,
    Layer,
)
from tungstenkit.registry.base import MissingError
from tungstenkit.registry.place import place
from tungstenkit.sdk.errors import FetchError
from tungstenkit.watch import UNWATCHED

pytestmark = pytest.mark.timeless(
    "what is kept has no date, and Nix deletes by waiting for threads of its own"
)
IMAGE = Descriptor(MANIFEST, digest_of(b"an image"), 8)


@pytest.fixture(autouse=True)
def _nobody_waits(monkeypatch):
    monkeypatch.setattr(client, "_pause", lambda _: None)


@pytest.fixture
def there():
    with registry() as found:
        yield found


@pytest.fixture
def files(tmp_path):
    """Two files that the store has had."""
    paths = [tmp_path / name for name in ("one.bin", "two.bin")]
    for path in paths:
        path.write_bytes(os.urandom(1000))
    added = store.add_files(paths)
    yield [LockedFile(path.name, *measure(path)) for path in paths]
    nix_program.run(["nix-store", *store.options(), "--delete", *added])


def forget(files):
    paths = [file.path for file in files]
    nix_program.run(["nix-store", *store.options(), "--delete", *paths]).check_returncode()
    assert store.missing(paths) == set(paths)


@needs("nix")
class TestTake:
    """By their hashes, from any registry."""

    def put(self, there, files):
        layers = list(inputs.layers(Contents(files)).values())
        where = place(f"{there.host}/kept")
        where.put_blobs([*layers, EMPTY])
        where.attach_shared(Artifact(INPUTS, layers), IMAGE)
        forget(files)
        return where

    def test_what_was_kept_comes_back(self, there, files, tmp_path):
        where = self.put(there, files)
        inputs.take(files, where, tmp_path / "downloads", UNWATCHED)
        assert store.missing([file.path for file in files]) == set()
        assert list((tmp_path / "downloads").iterdir()) == []
        (found,) = kept.inputs_of(IMAGE.digest, [where])
        assert [inputs.key(layer) for layer in found.layers] == [
            (file.sha256, file.name, "file") for file in sorted(files, key=lambda file: file.sha256)
        ]

    def test_what_is_not_there_is_left_to_the_caller(self, there, files, tmp_path):
        where = self.put(there, files)
        del there.blobs["kept", f"sha256:{files[0].sha256}"]
        inputs.take(files, where, tmp_path / "downloads", UNWATCHED)
        assert store.missing([file.path for file in files]) == {files[0].path}

    def test_other_bytes_are_told_with_the_file_s_name(self, there, files, tmp_path):
        where = self.put(there, files)
        there.damaged.add(f"sha256:{files[1].sha256}")
        with pytest.raises(FetchError, match=r"this is not two.bin as the lock has it") as caught:
            inputs.take([files[1], files[0]], where, tmp_path / "downloads", UNWATCHED)
        assert files[1].sha256 in caught.value.where
        assert store.missing([file.path for file in files]) == {files[1].path}

    @needs("skopeo")
    def test_a_folder_that_skopeo_has_put_into_a_registry_is_taken_from_there(self, there, files, tmp_path):
        carry.pack(Contents(files), tmp_path / "carried", UNWATCHED)
        forget(files)
        command = ["skopeo", "copy", "--quiet", "--dest-tls-verify=false", f"oci:{tmp_path / 'carried'}"]
        subprocess.run([*command, f"docker://{there.host}/kept"], check=True)
        inputs.take(files, place(f"{there.host}/kept"), tmp_path / "downloads", UNWATCHED)
        assert store.missing([file.path for file in files]) == set()

    @pytest.fixture
    def lacking(self, monkeypatch, files):
        """A lock of which these files are needed, and none is made."""
        monkeypatch.setattr(bring, "missing_files", lambda _: tuple(files))
        monkeypatch.setattr(bring, "built_files", lambda _: [])
        monkeypatch.setattr(bring, "result_files", lambda _: [])

    @pytest.mark.usefixtures("lacking")
    def test_a_mirror_by_hash_is_asked_first_and_what_fails_is_passed_by(
        self, there, files, tmp_path, monkeypatch
    ):
        self.put(there, files)
        monkeypatch.setenv("TUNGSTEN_MIRROR_OCI", f"127.0.0.1:9/nobody {there.host}/kept")
        told = Told()
        bring._ask_by_hash(None, Folders(tmp_path, tmp_path), told)
        assert store.missing([file.path for file in files]) == set()
        (warning,) = told.warnings
        assert warning.startswith("127.0.0.1:9/nobody can't be used as a mirror: ")

    @pytest.mark.usefixtures("lacking")
    def test_what_is_damaged_in_a_mirror_says_nothing_of_its_other_files(
        self, there, files, tmp_path, monkeypatch
    ):
        self.put(there, files)
        there.damaged.add(f"sha256:{files[0].sha256}")
        monkeypatch.setattr(bring, "result_files", lambda _: [files[0]])
        monkeypatch.setenv("TUNGSTEN_MIRROR_OCI", f"{there.host}/kept")
        told = Told()
        bring._ask_by_hash(None, Folders(tmp_path, tmp_path), told)
        assert store.missing([file.path for file in files]) == {files[0].path}
        assert set(told.warnings) == {f"{there.host}/kept: this is not {files[0].name} as the lock has it"}

    def test_what_builds_a_wheel_that_a_mirror_has_is_not_asked_for(
        self, there, files, tmp_path, monkeypatch
    ):
        self.put(there, files)
        monkeypatch.setattr(bring, "built_files", lambda _: [(None, files[0])])
        monkeypatch.setattr(bring, "result_files", lambda _: [])
        gone = store.missing
        monkeypatch.setattr(bring, "missing_files", lambda _: files[1:] if gone([files[0].path]) else ())
        monkeypatch.setenv("TUNGSTEN_MIRROR_OCI", f"{there.host}/kept")
        bring._ask_by_hash(None, Folders(tmp_path, tmp_path), UNWATCHED)
        assert store.missing([file.path for file in files]) == {files[1].path}

    def test_what_steps_have_made_is_asked_for_too(self, there, files, tmp_path, monkeypatch):
        self.put(there, files)
        monkeypatch.setattr(bring, "missing_files", lambda _: ())
        monkeypatch.setattr(bring, "built_files", lambda _: [(None, files[0])])
        monkeypatch.setattr(bring, "result_files", lambda _: [files[1]])
        monkeypatch.setenv("TUNGSTEN_MIRROR_OCI", f"{there.host}/kept")
        bring._ask_by_hash(None, Folders(tmp_path, tmp_path), UNWATCHED)
        assert store.missing([file.path for file in files]) == set()

    @pytest.mark.usefixtures("lacking")
    def test_the_model_s_settings_name_one_too(self, there, files, tmp_path, monkeypatch):
        self.put(there, files)
        monkeypatch.delenv("TUNGSTEN_MIRROR_OCI", raising=False)
        settings = f'[tool.tungsten.mirrors]\noci = "{there.host}/kept"\n'
        (tmp_path / "pyproject.toml").write_text(settings)
        bring._ask_by_hash(None, Folders(tmp_path, tmp_path), UNWATCHED)
        assert store.missing([file.path for file in files]) == set()


def test_what_was_not_kept_is_told(there):
    with pytest.raises(MissingError, match="what builds the image was not kept here") as caught:
        kept.inputs_of(IMAGE.digest, [place(f"{there.host}/kept")])
    assert "--with-inputs" in caught.value.hint


def test_a_fallback_s_tag_that_names_another_image_s_is_not_believed(there):
    there.has_referrers = False
    where = place(f"{there.host}/kept")
    other = Descriptor(MANIFEST, digest_of(b"another image"), 13)
    where.attach(Artifact(INPUTS, [Layer(b"x", annotations={TITLE: "x"})], other))
    tag = f"sha256-{other.sha256}"
    there.put("kept", there.manifests["kept", tag][1], f"sha256-{IMAGE.sha256}")
    assert len(where.referrers(IMAGE.digest)) == 1
    with pytest.raises(MissingError):
        kept.inputs_of(IMAGE.digest, [where])


@pytest.mark.parametrize("name", ["", "a/b", "x\ny", ".x", "$(x)"])
def test_a_name_that_no_store_has_is_refused(there, name):
    where = place(f"{there.host}/kept")
    where.attach(Artifact(INPUTS, [Layer(b"x", annotations={TITLE: name})], IMAGE))
    with pytest.raises(FetchError, match="no artifact of ours"):
        kept.inputs_of(IMAGE.digest, [where])


def test_of_an_index_each_manifest_is_read_as_its_digest_has_it(there):
    where = place(f"{there.host}/kept")
    inner = [where.attach(Artifact(INPUTS, [Layer(one, annotations={TITLE: "x"})])) for one in (b"1", b"2")]
    where.put_manifest(artifacts.index(INPUTS, inner, IMAGE), artifacts.INDEX)
    (found,) = kept.inputs_of(IMAGE.digest, [where])
    assert [layer.digest for layer in found.layers] == [digest_of(b"1"), digest_of(b"2")]
    there.manifests["kept", inner[0].digest] = (MANIFEST, b"{}")
    with pytest.raises(FetchError, match="answers with another manifest"):
        kept.inputs_of(IMAGE.digest, [where])
    del there.manifests["kept", inner[0].digest]
    with pytest.raises(MissingError):
        kept.inputs_of(IMAGE.digest, [where])


def test_an_index_of_another_kind_or_of_too_many_is_none_of_ours(there):
    where = place(f"{there.host}/kept")
    inner = where.attach(Artifact(INPUTS, [Layer(b"1", annotations={TITLE: "x"})]))
    nested = where.put_manifest(artifacts.index(INPUTS, [inner], IMAGE), artifacts.INDEX)
    for some in ([nested], [inner] * 101):
        put = where.put_manifest(artifacts.index(INPUTS, some, IMAGE), artifacts.INDEX)
        with pytest.raises(FetchError, match="no artifact of ours") as caught:
            kept.inputs_of(IMAGE.digest, [where])
        assert caught.value.where.endswith(put.digest)
        del there.manifests["kept", put.digest]


def tar(*members):
    """A tar of files, where there is content, and else of what a TarInfo is told to be."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        for name, content, about in members:
            info = tarfile.TarInfo(name)
            for key, value in about.items():
                setattr(info, key, value)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return data.getvalue()


def put_export(there, *tars):
    where = place(f"{there.host}/kept")
    where.attach(Artifact(EXPORT, [Layer(one, EXPORT_TAR, {TITLE: "part"}) for one in tars], IMAGE))
    (found,) = kept.export_of(IMAGE.digest, [where])
    return found


def test_an_export_comes_back_from_its_parts(there, tmp_path):
    link = {"type": tarfile.SYMTYPE, "linkname": "../a.py"}
    found = put_export(
        there,
        tar(("nix/default.nix", b"1", {})),
        tar(("model/a.py", b"2", {"mode": 0o755}), ("model/b/c.py", b"", link)),
    )
    kept.unpack_export(found, tmp_path)
    assert (tmp_path / "nix" / "default.nix").read_bytes() == b"1"
    assert (tmp_path / "model" / "a.py").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "model" / "b" / "c.py").read_bytes() == b"2"


@pytest.mark.parametrize(
    "members",
    [
        [("/x", b"", {})],
        [("../x", b"", {})],
        [("model/../../x", b"", {})],
        [("./x", b"", {})],
        [("x\n", b"", {})],
        [("x", b"1", {}), ("x", b"2", {})],
        [("nix", b"", {"type": tarfile.SYMTYPE, "linkname": "model"})],
        [("model/x", b"", {"type": tarfile.SYMTYPE, "linkname": "/etc"})],
        [("model/x", b"", {"type": tarfile.SYMTYPE, "linkname": "../x"})],
        [("model/a/x", b"", {"type": tarfile.SYMTYPE, "linkname": "../../x"})],
        [("model/x", b"", {"type": tarfile.SYMTYPE, "linkname": "y"}), ("model/x/z", b"", {})],
        [("model/x", b"", {"type": tarfile.LNKTYPE, "linkname": "/etc/passwd"})],
        [("model/x", b"", {"type": tarfile.FIFOTYPE})],
        [("model/x", b"", {"type": tarfile.CHRTYPE})],
        [("model/x", b"", {}), ("model/x/y", b"", {})],
    ],
)
def test_what_is_no_export_is_refused_and_leads_nowhere(there, tmp_path, members):
    (tmp_path / "export").mkdir()
    found = put_export(there, tar(*members))
    with pytest.raises(FetchError, match="no part of an export"):
        kept.unpack_export(found, tmp_path / "export")
    assert [path.name for path in tmp_path.iterdir()] == ["export"]


def test_what_is_no_tar_is_refused(there, tmp_path):
    with pytest.raises(FetchError, match="no part of an export"):
        kept.unpack_export(put_export(there, b"x" * 1000), tmp_path)


def test_an_export_has_an_end(there, tmp_path, monkeypatch):
    monkeypatch.setattr(kept, "LARGEST_EXPORT", 100)
    with pytest.raises(FetchError, match="no artifact of ours"):
        kept.unpack_export(put_export(there, tar(("x", b"1" * 1000, {}))), tmp_path)


def test_more_artifacts_than_anybody_keeps_are_not_looked_at(there, monkeypatch):
    """Each is asked for by itself, and whoever may write there may write thousands."""
    monkeypatch.setattr(kept, "MOST_MANIFESTS", 3)
    where = place(f"{there.host}/a")
    for number in range(4):
        where.attach(Artifact(INPUTS, [Layer(b"%d" % number)], IMAGE))
    there.asked.clear()
    with pytest.raises(FetchError, match="4 artifacts of this kind are kept of the image"):
        kept.find(INPUTS, IMAGE.digest, [where])
    assert not [path for _, path, _ in there.asked if "manifests/sha256:" in path]
