"""Debian packages become layers with their owners, modes and links, on a merged /usr."""

import bz2
import gzip
import lzma
from pathlib import Path

import pytest

from tungstenkit.debian.deb import open_files


def test_modes_and_owners_come_from_the_archive(make_deb, make_layer):
    deb = make_deb(
        "tools",
        [
            ("usr", None),
            ("usr/bin", None),
            ("usr/bin/su", b"su", 0o4755),
            ("usr/bin/mine", b"m", 0o640, 12, 34),
            ("var/local", None, 0o2775, 0, 50),
            ("tmp", None, 0o1777),
            ("root", None, 0o700),
            ("etc/link", ("link", "/usr/bin/su")),
        ],
    )
    members = make_layer(deb).members()
    modes = {name: (oct(info.mode), info.uid, info.gid) for name, info in members.items()}
    assert modes["usr/bin/su"] == ("0o4755", 0, 0)
    assert modes["usr/bin/mine"] == ("0o640", 12, 34)
    assert modes["var/local"] == ("0o2775", 0, 50)
    assert modes["tmp"] == ("0o1777", 0, 0)
    assert modes["root"] == ("0o700", 0, 0)
    assert members["etc/link"].linkname == "/usr/bin/su"
    assert all(info.mtime == 1 and info.uname == info.gname == "" for info in members.values())


def test_members_are_sorted_and_have_their_parents(make_deb, make_layer):
    members = list(make_layer(make_deb("a", [("z/deep/er/file", b""), ("b", b"")])).members())
    assert members == sorted(members)
    assert {"z", "z/deep", "z/deep/er", "var", "var/lib/dpkg/status.d"} <= set(members)


def test_paths_below_aliases_move_and_the_aliases_are_dropped(make_deb, make_layer):
    """Debian 12 ships /bin as a folder, Debian 13 as a link; neither may reach a layer (merged /usr, DEP-17)."""
    old = make_deb(
        "old",
        [("bin", None), ("bin/sh", b"sh", 0o755), ("lib64/ld.so", ("link", "/lib/x")), ("var/run", None)],
    )
    new = make_deb("new", [("bin", ("link", "usr/bin")), ("lib", ("link", "usr/lib")), ("var/lock/l", b"")])
    members = make_layer(old, new).members()
    assert {"usr/bin/sh", "usr/lib64/ld.so", "run/lock/l"} <= set(members)
    assert not {"bin", "lib", "lib64", "var/run", "var/lock", "bin/sh"} & set(members)


def test_scanners_find_the_package(make_deb, make_layer):
    layer = make_layer(make_deb("libfoo", [("usr/x", b"")]))
    assert layer.read("var/lib/dpkg/status.d/libfoo").startswith(b"Package: libfoo\nVersion: 1.0-1\n")
    assert layer.read("var/lib/dpkg/status.d/libfoo.md5sums").endswith(b"  usr/x\n")
    assert layer.entry("usr/x")["package"] == "libfoo"


def test_hard_links_stay_links(make_deb, make_layer):
    deb = make_deb("dri", [("usr/b", b"driver", 0o755), ("usr/a", ("hard", "./usr/b"), 0o755)])
    members = make_layer(deb).members()
    assert members["usr/a"].isreg()
    assert members["usr/b"].islnk()
    assert members["usr/b"].linkname == "usr/a"


@pytest.mark.parametrize(
    ("suffix", "compress"),
    [
        (".xz", lzma.compress),
        (".gz", gzip.compress),
        (".bz2", bz2.compress),
        (".lzma", lambda data: lzma.compress(data, lzma.FORMAT_ALONE)),
        ("", bytes),
    ],
)
def test_every_compression_of_the_standard_library(make_deb, make_layer, suffix, compress):
    deb = make_deb("a", [("usr/x", b"data")], suffix=suffix, compress=compress)
    assert make_layer(deb).read("usr/x") == b"data"


def test_zstd_is_an_error_that_says_so(make_deb, layer_error):
    error = layer_error(make_deb("a", [], suffix=".zst"))
    assert "a_1.0-1_amd64.deb" in error
    assert ".zst" in error


def test_the_ca_bundle_is_made(make_deb, make_layer):
    """In order of name, with the final newline that a certificate may lack."""
    deb = make_deb(
        "ca-certificates",
        [
            ("usr/share/ca-certificates/mozilla/B.crt", b"B"),
            ("usr/share/ca-certificates/mozilla/A.crt", b"A\n"),
            ("usr/share/ca-certificates/mozilla/README", b"no"),
        ],
    )
    assert make_layer(deb).read("etc/ssl/certs/ca-certificates.crt") == b"A\nB\n"


def test_two_packages_with_one_file_are_an_error(make_deb, layer_error):
    error = layer_error(make_deb("one", [("usr/x", b"1")]), make_deb("two", [("bin/../usr/x", b"2")]))
    assert "'..'" in error
    error = layer_error(make_deb("one", [("usr/bin/x", b"1")]), make_deb("two", [("bin/x", b"2")]))
    assert error == "/usr/bin/x: in both one and two"


@pytest.mark.parametrize(
    ("replaces", "wins"), [("one", b"2"), ("one (<< 2.0)", b"2"), ("one (<< 1.0)", None), ("on", None)]
)
def test_replaces_settles_who_has_a_file(make_deb, make_layer, layer_error, replaces, wins):
    """Debian policy 7.6.1, in either order of the two."""
    one, two = make_deb("one", [("x", b"1")]), make_deb("two", [("x", b"2")], replaces=f"other, {replaces}")
    for inputs in ((one, two), (two, one)):
        if wins:
            assert make_layer(*inputs).read("x") == wins
        else:
            assert "in both" in layer_error(*inputs)


def test_what_is_replaced_is_not_compiled(make_deb, make_layer, python):
    path = f"usr/lib/python{python['version']}/m.py"
    old = make_deb("old", [(path, b"old = 1\n")])
    new = make_deb("new", [(path, b"new = 1\n")], replaces="old")
    for inputs in ((old, new), (new, old)):
        layer = make_layer(*inputs, python=python)
        (compiled,) = (layer.read(name) for name in layer.members() if name.endswith(".pyc"))
        assert b"new" in compiled
        assert b"old" not in compiled


def test_a_file_below_a_link_is_an_error(make_deb, layer_error):
    """In a container it would land elsewhere, or hide the link."""
    error = layer_error(make_deb("one", [("usr/d", ("link", "e"))]), make_deb("two", [("usr/d/x", b"")]))
    assert error == "/usr/d: a link of one, but a folder of two"


def test_folders_with_different_modes(make_deb, make_layer, layer_error):
    """A statement that is not 0755 root:root stands; two such that differ are an error."""
    plain, private = make_deb("plain", [("d", None)]), make_deb("private", [("d", None, 0o700)])
    for inputs in ((plain, private), (private, plain)):
        assert make_layer(*inputs).members()["d"].mode == 0o700
    assert "0700 0:0 by private, but 0750 0:0 by third" in layer_error(
        private, make_deb("third", [("d", None, 0o750)])
    )


def test_diversions_are_an_error(make_deb, layer_error, make_layer):
    divert = "dpkg-divert --package a --add --rename \\\n  --divert /usr/bin/x.orig /usr/bin/x\n"
    assert layer_error(make_deb("a", [], scripts={"preinst": divert})).startswith(
        "package a: its scripts divert files"
    )
    protective = 'dpkg-divert --quiet --add --no-rename --divert "/lib64/l.usr-is-merged" "/lib64/l"\n'
    removal = "dpkg-divert --package a --remove /usr/bin/x\n# dpkg-divert --add /x\n"
    make_layer(make_deb("a", [], scripts={"preinst": protective, "postinst": removal}))


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:40],
        lambda data: data[:-30],
        lambda data: b"PK" + data,
        lambda data: data.replace(b"data.tar.xz", b"date.tar.xz"),
        lambda data: data[:-60] + bytes(40) + data[-20:],
        lambda data: b"",
    ],
    ids=["header", "cut", "no-ar", "no-data", "flipped", "empty"],
)
def test_a_damaged_package_is_named(make_deb, layer_error, damage):
    assert layer_error(make_deb("bad", [("usr/x", b"x" * 5000)], damage=damage)).startswith(
        "bad_1.0-1_amd64.deb: "
    )


def test_a_broken_header_inside_is_not_the_end(make_deb, layer_error):
    """Python's tarfile stops without a word at a header whose checksum is wrong."""

    def compress(data):
        place = data.index(b"./usr/two")
        return lzma.compress(data[:place] + b"X" + data[place + 1 :])

    error = layer_error(make_deb("bad", [("usr/one", b"1"), ("usr/two", b"2")], compress=compress))
    assert "damaged" in error


def test_a_missing_file_is_named(layer_error):
    assert (
        layer_error({"kind": "deb", "path": "/nowhere/x.deb"}) == "/nowhere/x.deb: No such file or directory"
    )


def test_sources_are_compiled_for_the_configured_python(make_deb, make_layer, python):
    """Only those of this Python's library folders, at the path that they will have; what is no Python is listed."""
    version = python["version"]
    deb = make_deb(
        "libpython",
        [
            (f"usr/lib/python{version}/good.py", b"x = 1\n"),
            (f"usr/lib/python{version}/bad.py", b"x = = 1\n"),
            ("usr/lib/python3/dist-packages/also.py", b"y = 2\n"),
            ("usr/lib/python2.7/old.py", b"z = 3\n"),
            ("usr/share/app/other.py", b"z = 3\n"),
        ],
    )
    layer = make_layer(deb, python=python)
    tag = version.replace(".", "")
    compiled = {name for name in layer.members() if name.endswith(".pyc")}
    assert compiled == {
        f"usr/lib/python{version}/__pycache__/good.cpython-{tag}.pyc",
        f"usr/lib/python3/dist-packages/__pycache__/also.cpython-{tag}.pyc",
    }
    assert layer.files["not-compiled"] == [f"usr/lib/python{version}/bad.py"]
    code = layer.read(f"usr/lib/python{version}/__pycache__/good.cpython-{tag}.pyc")
    assert code[4:8] == b"\x01\0\0\0"  # PEP 552: hash-based and unchecked
    assert f"/usr/lib/python{version}/good.py".encode() in code
    assert not {name for name in make_layer(deb).members() if name.endswith(".pyc")}


@pytest.mark.parametrize(
    ("suffix", "compress"), [(".xz", lzma.compress), (".gz", gzip.compress), (".bz2", bz2.compress)]
)
def test_locking_reads_the_files_that_a_layer_has(make_deb, make_layer, suffix, compress):
    deb = make_deb("a", [("usr/bin/x", b"x", 0o755), ("usr/y", b"yy")], compress=compress, suffix=suffix)
    with Path(deb["path"]).open("rb") as file, open_files(file, "a") as tar:
        read = {info.name.removeprefix("./"): tar.extractfile(info).read() for info in tar if info.isfile()}
    layer = make_layer(deb)
    assert read == {name: layer.read(name) for name in ("usr/bin/x", "usr/y")}
