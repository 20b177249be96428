"""Layers by zstd: the same bytes each time, the same tar as by gzip, and read again by what reads layers.

This machine's libzstd may be another than Debian 13's, whose bytes are known: what checks that is left out here, and
the end-to-end tests have it.
"""

import hashlib
import io
import json
import os

import pytest


@pytest.fixture(scope="module")
def data():
    return os.urandom(300_000) + b"abc" * 500_000


@pytest.fixture
def compress(tools, data):
    def compress(step, level=9):
        compressor = tools.zstd.Compressor(level)
        pieces = [compressor.compress(data[start : start + step]) for start in range(0, len(data), step)]
        return b"".join(pieces) + compressor.flush()

    return compress


@pytest.mark.parametrize("step", [7777, 1 << 17, 1 << 20, 1 << 22])
def test_in_which_pieces_it_came_does_not_show(compress, tools, data, step):
    packed = compress(step)
    assert packed == compress(100_003)
    assert len(packed) < 310_000
    assert tools.zstd.decompressed(io.BytesIO(packed)).read() == data


def test_frames_that_follow_one_another_are_read_and_what_is_to_be_skipped_is_skipped(compress, tools, data):
    skipped = b"\x50\x2a\x4d\x18\x04\0\0\0abcd"
    packed = skipped + compress(1 << 20) + skipped + compress(1 << 20)
    assert tools.zstd.decompressed(io.BytesIO(packed)).read() == data + data


def test_what_is_damaged_is_an_error(compress, tools):
    packed = compress(1 << 20)
    flipped = bytearray(packed)
    flipped[200] ^= 1
    for bad, what in (
        (packed[:-5], "the end is missing"),
        (packed[:100], "the end is missing"),
        (bytes(flipped), "checksum"),
        (b"no frame", "Unknown frame"),
    ):
        with pytest.raises(tools.program.ToolError, match=what):
            tools.zstd.decompressed(io.BytesIO(bad)).read()


@pytest.fixture
def make(tools, monkeypatch, tmp_path):
    """Make a layer of a file, with a hard link's twin, in a folder by its name."""
    monkeypatch.setattr(tools.layer, "check_zstd", lambda: None)

    def make(name, *inputs, **config):
        out = tmp_path / name
        text = {"kind": "files", "entries": [{"path": "a/b", "type": "file", "text": "text " * 100_000}]}
        source = tmp_path / f"{name}.json"
        config = {"created-by": name, "inputs": inputs or [text], "lower": [], "python": None, **config}
        source.write_text(json.dumps(config))
        tools.layer.make_layer(source, out)
        return out, json.loads((out / "layer.json").read_text())

    return make


# A program's files close with it.
spooled = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@spooled
def test_a_layer_is_the_same_tar_by_zstd_as_by_gzip(make, tools, tmp_path):
    _, plain = make("gzip")
    out, packed = make("zstd", compression="zstd")
    _, again = make("again", compression="zstd")
    assert packed["media-type"] == "application/vnd.oci.image.layer.v1.tar+zstd"
    assert (plain["diff-id"], plain["media-type"][-5:]) == (packed["diff-id"], "+gzip")
    assert packed["digest"] == again["digest"] != plain["digest"]
    blob = (out / "blob").read_bytes()
    assert (packed["size"], packed["digest"]) == (len(blob), f"sha256:{hashlib.sha256(blob).hexdigest()}")
    root = tmp_path / "root"
    root.mkdir()
    tools.unpacking.unpack([out], root)
    assert (root / "a" / "b").read_text() == "text " * 100_000


@spooled
def test_what_does_not_compress_is_stored_all_the_same(make, tmp_path):
    (tmp_path / "weights").write_bytes(os.urandom(100_000))
    placed = {"kind": "placed", "path": str(tmp_path / "weights"), "base": "app", "to": "weights"}
    placed |= {"uid": 0, "gid": 0, "directory-mode": "0755", "stored": True}
    _, plain = make("gzip", placed)
    _, stored = make("zstd", placed, compression="zstd")
    assert {**stored, "created-by": "gzip"} == plain


def test_a_library_of_other_bytes_is_refused(tools, monkeypatch):
    monkeypatch.setattr(tools.blob, "_ZSTD_VECTOR_SHA256", "0" * 64)
    with pytest.raises(tools.program.ToolError, match=r"libzstd \(\d.*\) compresses to other bytes"):
        tools.blob.check_zstd()
