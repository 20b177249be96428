"""An export of anybody's is laid out in a folder of ours, or refused by the name of what no export has."""

import os
import tarfile

import pytest

from tests.tungstenkit.prove.images import LOCK, export, link, member, tar
from tungstenkit.prove import exported
from tungstenkit.sdk.errors import FetchError, LockError


def unpack(folder, *more):
    (folder / "export.tar").write_bytes(tar(*export(*more)))
    return exported.unpack(folder / "export.tar", folder, "REF")


def test_it_is_laid_out_with_links_of_the_model_and_programs(tmp_path):
    found = unpack(
        tmp_path,
        member("model/lib/one.py", b"1"),
        member("./model/run.sh", b"#!/bin/sh", mode=0o755, uid=3),
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


@pytest.mark.parametrize(
    ("hostile", "said"),
    [
        ([member("../out", b"")], "'../out' is no path"),
        ([member("model/../../out", b"")], "is no path"),
        ([member("/out", b"")], "'/out' is no path"),
        ([member("model//a", b"")], "is no path"),
        ([member("model/a\nb", b"")], "is no path"),
        ([member("model/" + "a" * 256, b"")], "is no path"),
        ([member("/".join(["model", *"a" * 2100]), b"")], "is no path"),
        ([link("model/a", "/etc")], "leads out of the model's files, to '/etc'"),
        ([link("model/a", "../nix")], "leads out"),
        ([link("nix/a", "b")], "leads out"),
        ([link("model", "nix")], "leads out"),
        ([link("model/a", "b"), member("model/a/c", b"")], "goes through what is no folder"),
        ([link("model/a", "b"), member("model/a", b"")], "stands there twice"),
        ([member("model/a", b"1"), member("model/a", b"2")], "stands there twice"),
        ([member("model/a", b"1"), member("model/a/b", kind=tarfile.DIRTYPE)], "goes through"),
        ([link("model/a", "spec.json", tarfile.LNKTYPE)], "neither a file, a folder nor a link"),
        ([member("model/a", kind=tarfile.FIFOTYPE)], "neither a file, a folder nor a link"),
        ([member("model/a", kind=tarfile.CHRTYPE)], "neither a file, a folder nor a link"),
        ([member("flake.lock", b"{}")], "flake with inputs of its own"),
    ],
)
def test_what_no_export_has_is_refused_by_its_name(tmp_path, hostile, said):
    (tmp_path / "in").mkdir()
    with pytest.raises(FetchError) as caught:
        unpack(tmp_path / "in", *hostile)
    assert said in caught.value.what
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_what_is_too_much_is_refused_before_it_is_written(tmp_path):
    info, _ = member("model/huge")
    info.size = 2 << 30
    (tmp_path / "export.tar").write_bytes(info.tobuf())
    with pytest.raises(FetchError, match="'model/huge' is too much: an export has 1 GiB at most"):
        exported.unpack(tmp_path / "export.tar", tmp_path, "REF")


def test_too_many_files_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(exported, "_MOST_FILES", 10)
    with pytest.raises(FetchError, match="an export has 10 files at most"):
        unpack(tmp_path, *(member(f"model/{number}", b"") for number in range(20)))


def test_a_tar_that_is_compressed_or_cut_is_refused(tmp_path):
    import gzip

    whole = tar(*export())
    for data in (gzip.compress(whole), whole[: len(whole) // 2 + 100], b"nothing", b""):
        (tmp_path / "export.tar").write_bytes(data)
        with pytest.raises(FetchError):
            exported.unpack(tmp_path / "export.tar", tmp_path, "REF")
        for path in sorted((tmp_path / "source").rglob("*"), reverse=True):
            path.unlink() if path.is_file() else path.rmdir()
        (tmp_path / "source").rmdir()


def test_a_lock_that_is_none_is_refused_by_name(tmp_path):
    (tmp_path / "export.tar").write_bytes(tar(*export(tungsten=b"{}")))
    with pytest.raises(LockError) as caught:
        exported.unpack(tmp_path / "export.tar", tmp_path, "REF")
    assert caught.value.where == "REF, tungsten.lock"


@pytest.mark.parametrize("listed", [b"{", b"[1]", b'[{"path": "a"}]', b"[" * 100_000])
def test_big_files_that_are_none_are_refused(tmp_path, listed):
    (tmp_path / "export.tar").write_bytes(tar(*export(files=listed)))
    with pytest.raises(FetchError, match=r"files\.json"):
        exported.unpack(tmp_path / "export.tar", tmp_path, "REF")


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
    with pytest.raises(FetchError, match="'model/b' leads out of the model's files"):
        exported.copy(there, tmp_path / "copy")
