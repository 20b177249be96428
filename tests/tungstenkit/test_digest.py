"""Hashes of files."""

import hashlib

from tungstenkit.digest import measure, sha256_of


def test_a_files_size_and_hash(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"bytes" * 100_000)
    assert sha256_of(path) == hashlib.sha256(path.read_bytes()).hexdigest()
    assert measure(path) == (500_000, sha256_of(path))
