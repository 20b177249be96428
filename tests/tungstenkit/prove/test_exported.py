"""An export of anybody's is laid out in a folder of ours, or refused by the name of what no export has."""

import gzip
import os
import tarfile

import pytest

from tests.tungstenkit.prove.images import LOCK, export, link, member, tar
from tungstenkit.fetch import kept
from tungstenkit.fetch.kept import Kept
from tungstenkit.prove import exported
from tungstenkit.registry import artifact as artifacts
from tungstenkit.registry.artifact import EXPORT, EXPORT_TAR, Artifact, Layer
from tungstenkit.registry.layout import LayoutPlace
from tungstenkit.sdk.errors import FetchError, LockError


def unpack(folder, *more, **replaced):
    """Lay out an export that a place has."""
    return of_tars(folder, tar(*export(*more, **replaced)))


def of_tars(folder, *tars):
    place = LayoutPlace(folder / "place")
    manifest = place.attach(Artifact(EXPORT, [Layer(one, EXPORT_TAR) for one in tars]))
    layers = artifacts.layers_of(place.manifest(manifest.digest))
    return exported.unpack(Kept(place, manifest, layers), folder)


def test_it_is_laid_out_with_links_of_the_model_and_programs(tmp_path):
    found = unpack(
        tmp_path,
        member("model/lib/one.py", b"1"),
        member("model/run.sh", b"#!/bin/sh", mode=0o755, uid=3),
        link("model/lib/two.py", "../lib/one.py"),
        member("sources.json", b'{"0": ["http://127.0.0.1:9/x"]}'),
    )
    assert found.folder == tmp_path / "source"
    assert (found.folder / "model/lib/two.py").read_bytes() == b"1"
    assert os.access(found.folder / "model/run.sh", os.X_OK)
    assert not os.access(found.folder / "model/lib/one.py", os.X_OK)
    # Nothing is fetched for it, wherever it says that bytes are.
    assert (found.folder / "sources.json").read_text() == "{}\n"
    assert found.lock.to_json().encode() == LOCK


def test_parts_make_one_export(tmp_path):
    members = export(member("model/a.py", b"a"))
    found = of_tars(tmp_path, tar(*members[:2]), tar(*members[2:]))
    assert (found.folder / "model/a.py").read_bytes() == b"a"


UP = [member("model/d/e/f", b""), link("model/d/e/up", "..")]


@pytest.mark.parametrize(
    ("hostile", "said"),
    [
        ([member("../out", b"")], "'../out' is no path"),
        ([member("model/../../out", b"")], "is no path"),
        ([member("/out", b"")], "'/out' is no path"),
        ([member("model//a", b"")], "is no path"),
        ([member("model/a\nb", b"")], "is no path"),
        ([member("model/" + "a" * 256, b"")], "name too long"),
        ([member("/".join(["model", *"a" * 2100]), b"")], "is no path"),
        ([member("/".join(["model", *"a" * 1500]), b"")], "is no path"),
        ([link("model/a", "/etc")], "leads out of the model"),
        ([link("model/a", "../nix")], "leads out of the model"),
        ([*UP, link("model/x", "d/e/up/../../..")], "'model/x' leads out of the model"),
        ([link("model/x", "d/e/up/../../.."), *UP], "'model/x' leads out of the model"),
        ([link("nix/a", "b")], "is a link"),
        ([link("model", "nix")], "is a link"),
        ([link("model/a", "b"), member("model/a/c", b"")], "is behind a link"),
        ([link("model/a", "b"), member("model/a", b"")], "is no path"),
        ([member("model/a", b"1"), member("model/a", b"2")], "is no path"),
        ([member("model/a", b"1"), member("model/a/b", b"")], "File exists"),
        ([link("model/a", "spec.json", tarfile.LNKTYPE)], "neither a file nor a link"),
        ([member("model/a", kind=tarfile.FIFOTYPE)], "neither a file nor a link"),
        ([member("model/a", kind=tarfile.CHRTYPE)], "neither a file nor a link"),
        ([member("flake.lock", b"{}")], "flake with inputs of its own"),
    ],
)
def test_what_no_export_has_is_refused_by_its_name(tmp_path, hostile, said):
    (tmp_path / "in").mkdir()
    with pytest.raises(FetchError) as caught:
        unpack(tmp_path / "in", *hostile)
    assert said.casefold() in caught.value.what.casefold()
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_a_file_that_is_all_hole_is_refused(tmp_path):
    info, _ = member("model/huge")
    info.type = tarfile.GNUTYPE_SPARSE
    with pytest.raises(FetchError, match="'model/huge' is neither a file nor a link"):
        of_tars(tmp_path, info.tobuf(tarfile.GNU_FORMAT) + bytes(1024))


def test_too_many_files_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(kept, "MOST_FILES", 10)
    with pytest.raises(FetchError, match="it has more than 10 files"):
        unpack(tmp_path, *(member(f"model/{number}", b"") for number in range(20)))


@pytest.mark.parametrize(
    "spoil", [gzip.compress, lambda data: data[: len(data) // 2 + 100], lambda _: b"nothing"]
)
def test_a_tar_that_is_compressed_or_cut_is_refused(tmp_path, spoil):
    with pytest.raises(FetchError, match="this is no part of an export"):
        of_tars(tmp_path, spoil(tar(*export())))


def test_what_has_no_lock_is_no_export(tmp_path):
    with pytest.raises(FetchError, match=r"this is no export: it has no tungsten\.lock"):
        of_tars(tmp_path, tar(member("files.json", b"[]")))


def test_a_lock_that_is_none_is_refused_by_name(tmp_path):
    with pytest.raises(LockError) as caught:
        unpack(tmp_path, tungsten=b"{}")
    assert caught.value.where.endswith(", tungsten.lock")


BIG = b'[{"path": "%s", "size": 1, "sha256": "' + b"0" * 64 + b'", "executable": false}]'


@pytest.mark.parametrize(
    "listed",
    [
        *(b"{", b"[1]", b'[{"path": "a"}]', b"[" * 100_000),
        *(BIG % path for path in (b"", b"/etc/a", b"../a", b"a/../../b", b"a\\u001b[2J", b"~/a")),
    ],
)
def test_big_files_that_are_none_are_refused(tmp_path, listed):
    with pytest.raises(FetchError, match=r"files\.json"):
        unpack(tmp_path, files=listed)


def test_a_folder_is_taken_without_what_is_not_of_the_export(tmp_path):
    there = unpack(tmp_path, member("model/a.py", b"1")).folder
    (there / "result").symlink_to("/nix/store")
    (there / ".git").mkdir()
    (there / ".git" / "config").write_text("")
    (tmp_path / "copy").mkdir()
    found = exported.copy(there, tmp_path / "copy")
    assert sorted(path.name for path in found.folder.iterdir()) == [
        *("files.json", "flake.nix", "model", "sources.json", "spec.json", "tungsten.lock"),
    ]


def test_a_folder_s_links_may_not_lead_out(tmp_path):
    there = unpack(tmp_path, member("model/a.py", b"1")).folder
    (there / "model" / "b").symlink_to("/etc/passwd")
    (tmp_path / "copy").mkdir()
    with pytest.raises(FetchError, match="'model/b' leads out of the model"):
        exported.copy(there, tmp_path / "copy")
