"""What a model declares in `files` and its folder may have as well."""

import pytest

from tests.hub import sha256
from tests.tungstenkit.fetch.test_fetch import Count
from tungstenkit.fetch.declared_here import find_absent, find_clashes, leave_out_declared
from tungstenkit.lock.parts import Files, LockedDownload
from tungstenkit.sdk.errors import SpecError
from tungstenkit.spec.document import DownloadWish, RepositoryWish
from tungstenkit.spec.files import ModelFile


def from_url(to):
    return DownloadWish(url="http://host/x", sha256=None, to=to, executable=False)


def repository(to):
    return RepositoryWish(repository="o/n", type="model", revision="main", to=to, include=[], exclude=[])


def test_what_a_local_server_would_miss_is_named(tmp_path):
    (tmp_path / "here.bin").touch()
    wishes = [from_url("here.bin"), from_url("not.bin"), repository(None), repository("folder")]
    assert find_absent(wishes, tmp_path) == ["not.bin", "folder"]


def test_two_files_can_not_be_in_one_place():
    assert find_clashes([("a", "1"), ("a", "1"), ("b", "2")]) == []
    assert find_clashes([("a", "1"), ("a", "2")]) == ["a: two different files"]
    assert find_clashes([("a", "1"), ("a/b", "2")]) == ["a/b: a is a file"]


def test_a_declared_file_that_lies_here_too_is_not_taken_twice(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    one = LockedDownload(url="http://host/w.bin", size=7, sha256=sha256(b"weights"), to="weights/w.bin")
    found = Files(downloads=(one,))
    files = [ModelFile("m.py", "file"), ModelFile("weights/w.bin", "file")]
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "w.bin").write_bytes(b"weights")
    assert leave_out_declared(tmp_path, files, found, Count(), []) == files[:1]
    (tmp_path / "weights" / "w.bin").write_bytes(b"other")
    with pytest.raises(SpecError, match=r"weights/w.bin: another file") as caught:
        leave_out_declared(tmp_path, files, found, Count(), [])
    assert 'exclude_files=[".*", "__pycache__/", "*.py[cod]", "weights/w.bin"]' in caught.value.hint
    with pytest.raises(SpecError, match="weights is a file"):
        leave_out_declared(tmp_path, [ModelFile("weights", "file")], found, Count(), [])
