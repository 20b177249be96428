"""A folder that carries store paths: what is in it comes back, and what was tampered with does not."""

import os
import shutil
import subprocess

import pytest

from tungstenkit import store
from tungstenkit.fetch import carry
from tungstenkit.sdk.errors import FetchError

pytestmark = pytest.mark.skipif(shutil.which("nix-store") is None, reason="nix is not installed")


@pytest.fixture
def paths(tmp_path):
    """Two paths that the store has."""
    files = [tmp_path / name for name in ("one.bin", "two.bin")]
    for file in files:
        file.write_bytes(os.urandom(1000))
    return store.add_files(files)


def forget(*paths):
    subprocess.run(["nix-store", *store.options(), "--delete", *paths], check=True, capture_output=True)
    assert store.missing(paths) == set(paths)


def test_what_was_packed_comes_back(paths, tmp_path):
    carry.pack(paths, tmp_path / "carried")
    forget(*paths)
    carry.unpack(paths, tmp_path / "carried")
    assert store.missing(paths) == set()


def test_what_the_folder_does_not_have_is_left_to_the_caller(paths, tmp_path):
    carry.pack(paths[:1], tmp_path / "carried")
    forget(*paths)
    carry.unpack(paths, tmp_path / "carried")
    assert store.missing(paths) == {paths[1]}


def test_what_was_tampered_with_is_refused(paths, tmp_path):
    carry.pack(paths[:1], tmp_path / "carried")
    forget(paths[0])
    (archive,) = (tmp_path / "carried" / "nar").iterdir()
    content = bytearray(archive.read_bytes())
    content[500] ^= 1
    archive.write_bytes(content)
    with pytest.raises(FetchError, match="could not be copied"):
        carry.unpack(paths[:1], tmp_path / "carried")
    assert store.missing(paths[:1]) == {paths[0]}


def test_another_folder_is_refused(tmp_path):
    with pytest.raises(FetchError, match="fetch --to"):
        carry.unpack([], tmp_path)


def test_a_copy_for_a_store_in_another_place_is_told(paths, tmp_path):
    carry.pack(paths[:1], tmp_path / "carried")
    info = tmp_path / "carried" / "nix-cache-info"
    info.write_text(info.read_text().replace(store.place(), "/home/somebody/store"))
    with pytest.raises(FetchError, match="in /home/somebody/store, and this machine's is in /nix/store"):
        carry.unpack(paths[:1], tmp_path / "carried")
