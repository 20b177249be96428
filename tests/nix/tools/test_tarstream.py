"""The tar and gzip writers: what goes in comes out, and the bytes depend on nothing else."""

import gzip
import hashlib
import io
import random
import shutil
import subprocess
import tarfile
import zipfile
import zlib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

relaxed = settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
)

names = st.text(
    st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=60
).filter(lambda name: name not in (".", "..") and not name.startswith(".wh."))
paths = st.lists(names, min_size=1, max_size=5).map("/".join)


class Bytes(io.BytesIO):
    """A blob that keeps the tar as it is."""


@relaxed
@given(
    st.dictionaries(
        paths,
        st.tuples(
            st.binary(max_size=2000), st.integers(0, 0o7777), st.integers(0, 2**31), st.integers(0, 2**31)
        ),
    )
)
@example({"long/" * 40 + "x": (b"", 0o644, 0, 0)})
def test_tar_round_trip(tools, contents):
    """Any path, mode and owner survives; the archive ends as Python's tarfile ends one."""
    entry = tools.rootfs.Entry
    out = Bytes()
    tools.tarstream.write_tar(
        [
            entry(path, "file", mode, uid, gid, content=tools.contents.Text(data))
            for path, (data, mode, uid, gid) in sorted(contents.items())
        ],
        out,
    )
    assert len(out.getvalue()) % tarfile.RECORDSIZE == 0
    out.seek(0)
    with tarfile.open(fileobj=out) as archive:
        found = {
            info.name: (archive.extractfile(info).read(), info.mode, info.uid, info.gid)
            for info in archive.getmembers()
        }
        assert all(info.mtime == 1 and not info.uname and not info.gname for info in archive.getmembers())
    assert found == contents


def test_tar_is_what_tarfile_writes(tools):
    """The bytes are those of the standard library's own writer, padding included."""
    data = {"a": b"x" * 511, "b/" + "c" * 120: b"y" * 512, "é": b""}
    out, expected = Bytes(), io.BytesIO()
    entry = tools.rootfs.Entry
    tools.tarstream.write_tar(
        [entry(path, "file", 0o644, content=tools.contents.Text(value)) for path, value in data.items()], out
    )
    with tarfile.open(fileobj=expected, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for path, value in data.items():
            info = tarfile.TarInfo(path)
            info.size, info.mtime = len(value), 1
            archive.addfile(info, io.BytesIO(value))
    assert out.getvalue() == expected.getvalue()


def pieces(data, sizes):
    """Cut data at places given by sizes, which repeat."""
    place = 0
    while place < len(data):
        for size in sizes:
            yield data[place : place + size]
            place += size


@relaxed
@given(st.binary(max_size=5000), st.lists(st.integers(1, 700), min_size=1, max_size=4), st.integers(1, 400))
def test_blob_round_trip(tools, tmp_path_factory, data, sizes, repeat):
    """gzip gives the bytes back, digests are those of the bytes, and how the bytes come in pieces does not show."""
    data *= repeat
    for kind in (tools.blob.Blob, tools.blob.SplicedBlob):
        results = []
        for cut in (sizes, [1 << 20]):
            path = tmp_path_factory.mktemp("blob") / "blob"
            blob = kind(path)
            for piece in pieces(data, cut):
                blob.write(piece)
            facts = blob.close()
            packed = path.read_bytes()
            assert (gzip.decompress(packed) if packed else b"") == data
            assert facts.diff_id == "sha256:" + hashlib.sha256(data).hexdigest()
            assert facts.digest == "sha256:" + hashlib.sha256(packed).hexdigest()
            assert facts.size == len(packed)
            results.append(packed)
        assert results[0] == results[1]


@relaxed
@given(st.lists(st.tuples(st.binary(max_size=3000), st.integers(0, 9)), max_size=8))
def test_splicing_round_trip(tools, tmp_path_factory, parts):
    """Deflate streams of any kind between stored bytes read back as one file."""
    path = tmp_path_factory.mktemp("blob") / "blob"
    blob = tools.blob.SplicedBlob(path)
    for number, (data, level) in enumerate(parts):
        if number % 2:
            blob.write(data)
        else:
            compressor = zlib.compressobj(level, zlib.DEFLATED, -15)
            blob.splice([(compressor.compress(data) + compressor.flush(), data)])
    blob.close()
    with gzip.open(path) as file:
        assert file.read() == b"".join(data for data, _ in parts)


def test_stored_members_are_as_rfc_1951_says(tools, tmp_path):
    """Stored blocks and members end where the format ends them, whatever the size."""
    for size in (1, 0xFFFF, 0x10000, 16 * 0xFFFF, 16 * 0xFFFF + 1):
        path = tmp_path / str(size)
        blob = tools.blob.SplicedBlob(path)
        data = random.Random(size).randbytes(size)
        blob.write(data)
        blob.close()
        assert subprocess.run(["gzip", "-dc", path], input=b"", capture_output=True, check=False).stdout in (
            data,
            b"",
        )
        assert gzip.decompress(path.read_bytes()) == data


def test_another_compressor_is_refused(tools, monkeypatch):
    """A zlib with other bytes (zlib-ng has them) must not make layers: their digests would not be those of others."""
    tools.blob.check_compressor()
    monkeypatch.setattr(tools.blob, "_LEVEL", 5)
    with pytest.raises(tools.program.ToolError, match="zlib"):
        tools.blob.check_compressor()


def test_spliced_layer_reads_everywhere(make_layer, make_wheel, tmp_path):
    """Python, GNU tar and gzip read a spliced layer; what is in it is what a plain layer has."""
    source = b"VALUE = 1\n" * 5000
    noise = random.Random(1).randbytes(200_000)
    members = {
        "pkg/__init__.py": source,
        "pkg/noise.bin": noise,
        "pkg/empty.txt": b"",
        "pkg/stored.txt": b"as it is",
    }
    wheel = make_wheel("pkg", members, stored=("pkg/stored.txt",))
    spliced, plain = make_layer({**wheel, "splice": True}), make_layer(wheel)
    assert spliced.facts["diff-id"] == plain.facts["diff-id"]
    assert spliced.facts["digest"] != plain.facts["digest"]
    assert gzip.decompress(spliced.blob) == gzip.decompress(plain.blob)
    with zipfile.ZipFile(wheel["path"]) as archive, Path(wheel["path"]).open("rb") as file:
        info = archive.getinfo("pkg/__init__.py")
        file.seek(info.header_offset + 30 + len(info.filename))
        assert file.read(info.compress_size) in spliced.blob
    if shutil.which("tar"):
        (tmp_path / "unpacked").mkdir()
        subprocess.run(["tar", "-xzf", spliced.path / "blob", "-C", tmp_path / "unpacked"], check=True)
        site = tmp_path / "unpacked/usr/local/lib/python3.11/dist-packages"
        assert (site / "pkg/noise.bin").read_bytes() == noise
        assert (site / "pkg/stored.txt").read_bytes() == b"as it is"
