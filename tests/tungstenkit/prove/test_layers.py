"""A layer is read whichever way it is packed, and what it unpacks to is counted."""

import gzip
import hashlib
import subprocess
import tarfile

import pytest

from tests.machine import need
from tests.tungstenkit.prove.images import digest, link, member, tar
from tungstenkit.prove import layers
from tungstenkit.sdk.errors import FetchError

TAR = tar(
    member("usr", kind=tarfile.DIRTYPE),
    member("./usr/a", b"1" * 3000, mode=0o4755, uid=5, gid=6, mtime=7),
    link("usr/b", "a"),
    link("usr/c", "usr/a", tarfile.LNKTYPE),
    member("usr/.wh.d"),
)


def zstd(data):
    need("zstd")
    return subprocess.run(["zstd", "--stdout"], input=data, capture_output=True, check=True).stdout


@pytest.mark.parametrize(
    "pack", [bytes, gzip.compress, lambda data: gzip.compress(data[:600]) + gzip.compress(data[600:]), zstd]
)
def test_its_tar_is_hashed_and_read(tmp_path, pack):
    (tmp_path / "blob").write_bytes(pack(TAR))
    assert layers.diff_id(tmp_path / "blob", "it") == digest(TAR)
    with layers.unpacked(tmp_path / "blob", "it", tmp_path) as file:
        found = layers.members(file, "it")
        content = layers.read(file, {"/usr/a", "/usr/b"}, 5, "it")
    sha256 = hashlib.sha256(b"1" * 3000).hexdigest()
    assert found == {
        "/usr": layers.Member("folder", 0o755, (0, 0), 1),
        "/usr/a": layers.Member("file", 0o4755, (5, 6), 7, 3000, "", sha256),
        "/usr/b": layers.Member("link", 0o644, (0, 0), 1, target="a"),
        "/usr/c": layers.Member("hard link", 0o644, (0, 0), 1, target="usr/a"),
        "/usr/.wh.d": layers.Member("whiteout", 0o644, (0, 0), 1),
    }
    assert content == {"/usr/a": b"11111"}
    assert [path.name for path in tmp_path.iterdir()] == ["blob"]


@pytest.mark.parametrize("pack", [gzip.compress, zstd])
def test_a_flood_is_refused(tmp_path, monkeypatch, pack):
    monkeypatch.setattr(layers, "_LEAST", 1000)
    (tmp_path / "blob").write_bytes(pack(bytes(1 << 22)))
    with pytest.raises(FetchError, match="more than 200 times its size"):
        layers.diff_id(tmp_path / "blob", "it")


@pytest.mark.parametrize("pack", [gzip.compress, zstd])
def test_what_is_cut_is_refused(tmp_path, pack):
    import os

    whole = pack(os.urandom(100_000))
    (tmp_path / "blob").write_bytes(whole[:-5])
    with pytest.raises(FetchError, match="a layer can't be read") as caught:
        layers.diff_id(tmp_path / "blob", "the image, layer 3")
    assert caught.value.where == "the image, layer 3"


def sparse(name, size):
    """A file that is all hole."""
    info, _ = member(name)
    info.type = tarfile.GNUTYPE_SPARSE
    block = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    block[483:495] = b"\x80" + size.to_bytes(11, "big")  # its size, once the holes are filled
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


@pytest.mark.parametrize("sizes", [[1 << 40], [600, 600]])
def test_sparse_files_without_end_are_refused(tmp_path, monkeypatch, sizes):
    monkeypatch.setattr(layers, "_LEAST", 1000)
    files = [sparse(f"a{number}", size) for number, size in enumerate(sizes)]
    (tmp_path / "blob").write_bytes(b"".join(files) + bytes(1024))
    with (
        layers.unpacked(tmp_path / "blob", "it", tmp_path) as file,
        pytest.raises(FetchError, match="larger"),
    ):
        layers.members(file, "it")


def test_what_engines_would_take_for_a_tar_is_read_as_one(tmp_path):
    """A frame that zstd skips may be a tar to whoever looks at the first four bytes alone."""
    theirs = bytearray(tar(member("P*M\x18" + "\x01" * 60, b"theirs")))
    theirs[:8] = b"\x50\x2a\x4d\x18" + (len(theirs) - 8).to_bytes(4, "little")
    theirs[148:156] = b" " * 8
    theirs[148:156] = b"%06o\0 " % sum(theirs[:512])
    blob = bytes(theirs) + zstd(TAR)
    (tmp_path / "blob").write_bytes(blob)
    assert subprocess.run(["zstd", "-dc"], input=blob, capture_output=True, check=True).stdout == TAR
    assert layers.diff_id(tmp_path / "blob", "it") == digest(blob)


def test_more_names_and_attributes_than_images_have_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(layers, "_MOST_SAID", 1000)
    named = [member(f"a{number}", pax_headers={"SCHILY.xattr.user.x": "x" * 100}) for number in range(10)]
    (tmp_path / "blob").write_bytes(tar(*named))
    with (
        layers.unpacked(tmp_path / "blob", "it", tmp_path) as file,
        pytest.raises(FetchError, match="says more of its files"),
    ):
        layers.members(file, "it")
