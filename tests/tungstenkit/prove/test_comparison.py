"""Two images are told apart by what is in their layers, and by what their configs say."""

import gzip
import tarfile
import zlib

import pytest

from tests.tungstenkit.prove.images import link, member, tar, write_image
from tungstenkit.prove.comparison import compare
from tungstenkit.prove.image import image_at

BASE = tar(member("usr", kind=tarfile.DIRTYPE), member("usr/a", b"a"))


def stored(data):
    """The same in other bytes."""
    return gzip.compress(data, compresslevel=0)


@pytest.fixture
def images(tmp_path):
    """Makes images, each of its layers' tars and of what else is said of it."""

    def make(*tars, **said):
        scratch = tmp_path / f"image-{len(list(tmp_path.iterdir()))}"
        place, _ = write_image(scratch, tars, **said)
        return image_at(place, tmp_path)

    return make


def differing(images, tmp_path, old, new):
    """How one layer differs that stands between two others; its files by path."""
    (layer,) = compare(images(BASE, tar(*old), tar()), images(BASE, tar(*new), tar()), tmp_path).layers
    assert (layer.first, layer.second, layer.made_of, layer.more) == (2, 2, "layer 1", 0)
    return {file.path: file for file in layer.files}


def test_the_same_is_the_same_however_it_is_packed(images, tmp_path):
    found = compare(images(BASE, tar()), images(BASE, tar(), pack=stored), tmp_path)
    assert found.is_none
    assert found.repacked == (1, 2)
    assert compare(images(BASE), images(BASE), tmp_path).repacked == ()


def test_each_kind_of_difference_is_named(images, tmp_path):
    old = [
        member("a", b"one\ntwo\n"),
        member("b", b"b", mode=0o644),
        member("c", b"c", uid=0),
        member("d", b"d", mtime=1),
        link("e", "a"),
        member("f", b"f"),
        member("g", b"g"),
        member("same", b"same"),
        member("i", b"\0" * 5000 + b"1"),
        member("j", b"j", pax_headers={"SCHILY.xattr.user.x": "1"}),
    ]
    new = [
        member("a", b"one\nthree\n"),
        member("b", b"b", mode=0o755),
        member("c", b"c", uid=1000, gid=7),
        member("d", b"d", mtime=2),
        link("e", "b"),
        member("f", kind=tarfile.DIRTYPE),
        member("h", b"h"),
        member("same", b"same"),
        member("i", b"\0" * 5000 + b"2"),
        member("j", b"j", uname="root"),
    ]
    found = differing(images, tmp_path, old, new)
    assert {path: (file.kinds, file.told) for path, file in found.items()} == {
        "/a": (("content",), ("-two", "+three")),
        "/b": (("mode",), ("mode 0644 and 0755",)),
        "/c": (("owner",), ("owner 0:0 and 1000:7",)),
        "/d": (("time",), ("time 1 and 2",)),
        "/e": (("target",), ("leads to a and to b",)),
        "/f": (("kind",), ("a file and a folder",)),
        "/g": (("missing",), ()),
        "/h": (("added",), ()),
        "/j": (
            ("attributes",),
            ("SCHILY.xattr.user.x: '1' and 'nothing'", "uname: 'nothing' and 'root'"),
        ),
        "/i": (("content",), ("5001 bytes; from byte 5000 on: 31", "and then: 32")),
    }
    # Nobody knows better whose they are.
    assert {file.input for file in found.values()} == {"layer 1"}


def test_several_differences_of_one_file_are_all_named(images, tmp_path):
    found = differing(images, tmp_path, [member("a", b"1", mode=0o600)], [member("a", b"2", uid=5)])
    assert found["/a"].kinds == ("content", "mode", "owner")


def test_files_in_another_order_are_another_layer(images, tmp_path):
    one, two = member("a", b"1"), member("b", b"2")
    for new in ([two, one], [one, one, two]):
        assert differing(images, tmp_path, [one, two], new) == {}


def test_what_differs_far_into_a_file_is_told(images, tmp_path):
    rest = zlib.compress(b"x") * 200_000
    found = differing(images, tmp_path, [member("a", rest + b"1")], [member("a", rest + b"2")])
    size = len(rest) + 1
    assert size > 1 << 20
    assert found["/a"].told == (f"{size} and {size} bytes, which differ beyond the first 1048576",)


def test_of_many_files_some_are_told_and_the_rest_counted(images, tmp_path):
    old, new = ([member(f"{number:03}", content) for number in range(70)] for content in (b"1", b"2"))
    (layer,) = compare(images(tar(*old)), images(tar(*new)), tmp_path).layers
    assert [file.path for file in layer.files] == [f"/{number:03}" for number in range(50)]
    assert layer.more == 20


def test_layers_that_one_alone_has_are_named(images, tmp_path):
    first = images(BASE, tar(member("b", b"1")), tar(), made_of=["debian", "wheels", "model"])
    second = images(BASE, tar(), made_of=["debian", "model"])
    (layer,) = compare(first, second, tmp_path).layers
    assert (layer.first, layer.second, layer.made_of, layer.files) == (2, None, "wheels", ())
    (layer,) = compare(second, first, tmp_path).layers
    assert (layer.first, layer.second, layer.made_of) == (None, 2, "wheels")


def test_of_layers_that_differ_those_made_of_the_same_are_compared(images, tmp_path):
    first = images(BASE, tar(member("m", b"1")), made_of=["debian", "model"])
    second = images(
        BASE, tar(member("w", b"")), tar(member("m", b"2")), made_of=["debian", "wheels", "model"]
    )
    found = {layer.made_of: layer for layer in compare(first, second, tmp_path).layers}
    assert [(one.first, one.second) for one in (found["model"], found["wheels"])] == [(2, 3), (None, 2)]
    assert [file.path for file in found["model"].files] == ["/m"]


def test_configs_are_told_apart_one_by_one(images, tmp_path):
    first = images(
        BASE,
        config={"Env": ["A=1", "B=2"], "Labels": {"x": "1"}, "User": "1"},
        created="2026-01-01T00:00:00Z",
    )
    second = images(BASE, config={"Env": ["B=2", "A=3"], "Labels": {"y": "1"}, "User": "1"})
    assert compare(first, second, tmp_path).config == {
        "created": ("2026-01-01T00:00:00Z", None),
        "label x": ("1", None),
        "label y": (None, "1"),
        "variable A": ("1", "3"),
    }


def test_a_history_that_says_otherwise_is_a_difference(images, tmp_path):
    found = compare(images(BASE, made_of=["one"]), images(BASE, made_of=["two"]), tmp_path)
    assert list(found.config) == ["history"]


def test_a_date_that_is_the_images_is_told_once(images, tmp_path):
    first, second = (
        images(BASE, created=date, history=[{"created": date, "created_by": "one"}])
        for date in ("2025-01-01T00:00:00Z", "2026-01-01T00:00:00Z")
    )
    assert list(compare(first, second, tmp_path).config) == ["created"]
    third = images(
        BASE,
        created="2026-01-01T00:00:00Z",
        history=[{"created": "2024-01-01T00:00:00Z", "created_by": "one"}],
    )
    assert list(compare(second, third, tmp_path).config) == ["history"]


OURS = {"User": "65532:0", "Env": ["PATH=/bin", "A=1"], "Labels": {"x": "1"}}


@pytest.mark.parametrize(
    ("theirs", "more", "told"),
    [
        ({"User": "0"}, {"User": "65532:0"}, ["User", "config User"]),
        ({"Env": ["PATH=/theirs", "A=1"]}, {"variable PATH": "/bin"}, ["variable PATH", "config Env PATH"]),
        ({"Labels": {"x": "2"}}, {"label x": "1"}, ["label x", "config Labels x"]),
        ({"Entrypoint": ["/theirs"]}, {"Entrypoint": None}, ["Entrypoint"]),
        ({"Env": ["PATH=/theirs", "A=1", "PATH=/bin"]}, {}, ["Env", "variable A", "variable PATH"]),
        ({"Env": ["PATH=/bin", "A=1", "LD_PRELOAD"]}, {}, ["Env", "variable A", "variable PATH"]),
        ({}, {"rootfs": {"type": "theirs"}}, ["type"]),
    ],
)
def test_nothing_that_a_config_says_stands_for_something_else_in_it(images, tmp_path, theirs, more, told):
    ours = images(BASE, config=OURS)
    if "rootfs" in more:
        more = {"rootfs": {**ours.config["rootfs"], **more["rootfs"]}}
    found = compare(images(BASE, config={**OURS, **theirs}, **more), ours, tmp_path)
    assert not found.is_none
    assert sorted(found.config) == sorted(told)
