"""A tar of anybody's is read, or refused: no header of it takes memory or time without end."""

import io
import tarfile

import pytest

from tests.tungstenkit.prove.images import member, tar
from tungstenkit import tars


def header(name, kind, size, content=b""):
    """A member as it lies in a tar, whatever its size says."""
    block = bytearray(tarfile.TarInfo(name).tobuf(tarfile.GNU_FORMAT))
    block[156:157] = kind
    if size < 0:
        block[124:136] = b"\xff" + (256**11 + size).to_bytes(11, "big")
    else:
        block[124:136] = b"%011o\0" % size
    block[482] = kind == tarfile.GNUTYPE_SPARSE  # more of its map follows
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block) + content + bytes(-len(content) % 512)


def record(key, value):
    """A line of an extended header."""
    size = len(f" {key}={value}\n")
    size += len(str(size + len(str(size))))
    return f"{size} {key}={value}\n".encode()


LINE = record("x", "y")
GLOBAL = b"".join(record(f"k{number}", "v") for number in range(200))
END = bytes(1024)
HOLES = record("GNU.sparse.major", "1") + record("GNU.sparse.minor", "0")
BACK = record("size", "-2048")
PLAIN = header("a", tarfile.REGTYPE, 1, b"a")
HOSTILE = {
    "a size that leads back": PLAIN + header("b", tarfile.REGTYPE, -512) + END,
    "a size that leads back in words": PLAIN + header("b", tarfile.XHDTYPE, len(BACK), BACK) + PLAIN + END,
    "a header without end": PLAIN + header("b", tarfile.XHDTYPE, 1 << 30) + END,
    "a header of less than nothing": header("b", tarfile.XHDTYPE, -512, LINE) + PLAIN + END,
    "a name without end": header("b", tarfile.GNUTYPE_LONGNAME, 1 << 30) + END,
    "headers behind headers": PLAIN + header("x", tarfile.XHDTYPE, len(LINE), LINE) * 2000 + PLAIN + END,
    "names behind names": header("x", tarfile.GNUTYPE_LONGNAME, 2, b"n\0") * 2000 + PLAIN + END,
    "said of all": header("g", tarfile.XGLTYPE, len(GLOBAL), GLOBAL) + PLAIN + END,
    "digits without end": header("x", tarfile.XHDTYPE, 1 << 17, b"1" * (1 << 17)) + PLAIN + END,
    "holes without end": header("x", tarfile.XHDTYPE, len(HOLES), HOLES)
    + header("b", tarfile.REGTYPE, 1 << 20, b"500000\n" + b"1\n" * 500_000)
    + END,
    "a map of holes that goes on": PLAIN + header("b", tarfile.GNUTYPE_SPARSE, 0),
}


@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize("read", [iter, tars.members])
def test_headers_of_anybody_s_end(content, read):
    with pytest.raises(tarfile.TarError), tars.opened(io.BytesIO(content)) as archive:
        assert len([info.name for info in read(archive)]) < 10


@pytest.mark.parametrize("mode", ["r:", "r:*", "r|*"])
def test_what_archives_have_is_read(tmp_path, mode):
    long = "a/" * 100 + "b"
    content = tar(member(long, b"1"), member("c", b"2", pax_headers={"SCHILY.xattr.user.x": "x" * 65_000}))
    (tmp_path / "it.tar").write_bytes(content)
    for source in (io.BytesIO(content), tmp_path / "it.tar"):
        with tars.opened(source, mode) as archive:
            found = [(info.name, archive.extractfile(info).read()) for info in tars.members(archive)]
        assert found == [(long, b"1"), ("c", b"2")]
