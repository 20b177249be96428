"""A model's big files are told by size, hashed once, and put into the store once."""

import math
import os

import pytest

from tests.hub import sha256
from tests.machine import needs
from tests.tungstenkit.fetch.test_fetch import Count
from tests.tungstenkit.locks import deb, lock
from tungstenkit import store
from tungstenkit.fetch import big_files as module
from tungstenkit.fetch.big_files import BigFile, big_files, kept_sha256_of
from tungstenkit.fetch.bring import add_big, store_paths
from tungstenkit.sdk.errors import FetchError, SpecError, TungstenError
from tungstenkit.settings import big_file_size
from tungstenkit.spec.files import ModelFile

OLD = 1_000_000_000  # seconds since 1970


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    # What was changed a moment ago is not kept; the tests' files are.
    monkeypatch.setattr(module, "_SETTLED", 0)


@pytest.fixture
def folder(tmp_path):
    model = tmp_path / "model"
    (model / "weights").mkdir(parents=True)
    (model / "weights" / "big.bin").write_bytes(b"x" * 101)
    (model / "small.bin").write_bytes(b"x" * 100)
    (model / "link.bin").symlink_to("weights/big.bin")
    return model


FILES = [
    ModelFile("link.bin", "link", target="weights/big.bin"),
    ModelFile("small.bin", "file"),
    ModelFile("weights/big.bin", "file", executable=True),
]
BIG = BigFile("weights/big.bin", 101, sha256(b"x" * 101), executable=True)


def read(folder):
    """How many bytes were read to tell the hashes."""
    count = Count()
    found = big_files(folder, FILES, 100, count)
    assert found == (BIG,)
    return count.size


def test_a_file_above_the_limit_is_big_and_a_link_to_one_is_a_link(folder):
    assert big_files(folder, FILES, 100, Count()) == (BIG,)
    assert big_files(folder, FILES, 101, Count()) == ()


def test_pointers_of_git_lfs_are_named_and_what_only_looks_like_one_ships(folder):
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 5\n"
    for name, text in {"a.bin": pointer, "weights/b.bin": pointer, "c.txt": f"{pointer}..."}.items():
        (folder / name).write_text(text)
    files = [*FILES, *(ModelFile(name, "file") for name in ("a.bin", "c.txt"))]
    with pytest.raises(SpecError) as caught:
        big_files(folder, [*files, ModelFile("weights/b.bin", "file")], 100, Count())
    assert caught.value.what == "a.bin, weights/b.bin are Git LFS pointers, and not the files"
    assert caught.value.hint.startswith("`git lfs install && git lfs pull` there")
    (folder / "a.bin").write_bytes(b"large")
    assert big_files(folder, files, 1000, Count()) == ()


def test_it_is_read_once(folder):
    assert read(folder) == 101
    assert read(folder) == 0


@pytest.mark.parametrize("keeps_times", [False, True])
def test_it_is_read_again_when_it_was_touched(folder, keeps_times):
    """Also where the times that a program may set, and the size, are what they were."""
    big = folder / "weights" / "big.bin"
    os.utime(big, (OLD, OLD))
    assert read(folder) == 101
    other = big.with_name("other")
    other.write_bytes(b"y" * 101)
    if keeps_times:
        os.utime(other, (OLD, OLD))
    other.replace(big)
    (found,) = big_files(folder, FILES, 100, Count())
    assert found.sha256 == sha256(b"y" * 101)


def test_a_hash_is_not_kept_of_what_was_changed_a_moment_ago(folder, monkeypatch):
    """Such a file may change once more, and look the same."""
    monkeypatch.setattr(module, "_SETTLED", math.inf)
    assert read(folder) == 101
    assert read(folder) == 101


def test_one_large_file_is_read_once_too(tmp_path, monkeypatch):
    large = tmp_path / "large.bin"
    large.write_bytes(bytes(2_000_000))
    assert kept_sha256_of(large) == sha256(bytes(2_000_000))
    monkeypatch.delattr(module, "_hash")
    assert kept_sha256_of(large) == sha256(bytes(2_000_000))


def test_a_file_that_changes_while_it_is_read_is_refused(folder):
    class Writer(Count):
        def advance(self, size):
            (folder / "weights" / "big.bin").write_bytes(b"z" * 102)

    with pytest.raises(SpecError, match=r"big.bin changes while it is read"):
        big_files(folder, FILES, 100, Writer())


def test_the_limit_is_a_setting(tmp_path):
    assert big_file_size(tmp_path) == 8_000_000
    settings = tmp_path / "pyproject.toml"
    settings.write_text("[tool.tungsten]\nbig-file-mb = 0.5\n[tool.tungsten.mirrors]\n")
    assert big_file_size(tmp_path) == 500_000
    for wrong in ("0", "-1", "true", '"8"', "inf"):
        settings.write_text(f"[tool.tungsten]\nbig-file-mb = {wrong}\n")
        with pytest.raises(TungstenError, match="is not a number above 0"):
            big_file_size(tmp_path)


def test_a_build_takes_them_from_the_store():
    assert BIG.store_path in store_paths(lock(deb("python3.13")), [BIG])


@needs("nix")
@pytest.mark.parametrize("name", ["big.bin", ".odd ~name.bin"])
def test_it_comes_into_the_store_under_the_name_that_a_build_asks_for(tmp_path, name):
    content = os.urandom(300)
    (tmp_path / name).write_bytes(content)
    big = BigFile(name, 300, sha256(content), executable=False)
    add_big([big], tmp_path, tmp_path)
    assert store.missing([big.store_path]) == set()
    other = BigFile(name, 300, sha256(b"something else"), executable=False)
    with pytest.raises(FetchError, match="changed while it was read"):
        add_big([other], tmp_path, tmp_path)
