"""What people are told of two results that should be one."""

import io
import os
import tarfile

import pytest

from tungstenkit.differences import differences


def tar(path, members):
    with tarfile.open(path, "w") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            if content is None:
                info.type = tarfile.DIRTYPE
                archive.addfile(info)
            elif isinstance(content, tuple):
                kind, value = content
                if kind == "link":
                    info.type, info.linkname = tarfile.SYMTYPE, value
                    archive.addfile(info)
                else:
                    info.mode = value
                    archive.addfile(info)
            else:
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    return path


@pytest.fixture
def of(tmp_path):
    def run(first, second):
        return differences(tar(tmp_path / "1.tar", first), tar(tmp_path / "2.tar", second))

    return run


def test_the_same_files_do_not_differ(of):
    same = {"app/a": b"x" * 3_000_000, "app/d": None, "app/l": ("link", "a")}
    assert of(same, dict(reversed(same.items()))) == []


def test_each_kind_of_difference_is_named(of):
    found = of(
        {"a": b"1", "b": b"", "c": ("link", "x"), "d": ("mode", 0o644), "e": None},
        {"b": None, "c": ("link", "y"), "d": ("mode", 0o755), "e": None, "f": b""},
    )
    assert found == [
        "/a: only the first run made it",
        "/b:\n  a file and a folder",
        "/c:\n  links to x and to y",
        "/d:\n  mode 0644 and 0755",
        "/f: only the second run made it",
    ]


@pytest.mark.parametrize(
    ("old", "new", "hint"),
    [
        (b'{"made": "2026-11-22T20:00:00"}', b'{"made": "2026-11-23T22:00:01"}', "time stamp"),
        (b"Sun Nov 22 20:19:53 2026", b"Mon Nov 23 22:19:54 2026", "time stamp"),
        (b"at 1795378654.25\n", b"at 1795472254.75\n", "time stamp"),
        (b"{b, a, c}", b"{a, c, b}", "another order"),
        (b"loss 0.1234567891\n", b"loss 0.1234567893\n", "the CPU"),
        (b"key 8f3a\n", b"key 77b0\n", None),
    ],
)
def test_a_text_shows_its_lines_and_what_they_look_like(of, old, new, hint):
    (found,) = of({"f": b"same\n" + old}, {"f": b"same\n" + new})
    assert f"-{old.decode().strip()}" in found
    assert f"+{new.decode().strip()}" in found
    assert "same\n" not in found
    assert (hint in found) if hint else ("(" not in found)


def test_bytes_show_where_they_begin_to_differ(of):
    old = bytes(5) + b"\0\xff" + os.urandom(10)
    new = bytes(5) + b"\0\xfe" + old[7:] + b"more"
    (found,) = of({"f": old}, {"f": new})
    assert "17 and 21 bytes; from byte 6 on: ff" in found
    assert "and then: fe" in found


def test_a_large_file_is_compared_piece_by_piece(of):
    old = bytearray(5_000_000)
    new = bytearray(old)
    new[3_000_000] = 1
    (found,) = of({"f": bytes(old)}, {"f": bytes(new)})
    assert "from byte 3000000 on" in found


def test_a_long_text_is_cut(of):
    (found,) = of({"f": b"a\n" * 500}, {"f": b"b\n" * 500})
    assert len(found.splitlines()) < 20
    assert found.rstrip().endswith("…")
