"""Changesets: what build steps did to a root, as later layers and the image understand it."""

import io

import pytest


@pytest.fixture
def entry(tools):
    return tools.rootfs.Entry


@pytest.fixture
def make_changes(tools, entry, make_layer, tmp_path):
    """A layer of changes: path=text for a file, None for a folder, False for what is gone."""
    count = iter(range(1000))

    def make(**changes):
        entries = []
        for path, value in changes.items():
            folder, slash, name = path.replace("__", "/").rpartition("/")
            if value is False:
                entries.append(entry(f"{folder}{slash}.wh.{name}", "whiteout", 0o644))
            elif value is None:
                entries.append(entry(folder + slash + name, "dir", 0o755))
            else:
                content = tools.contents.Text(value.encode())
                entries.append(entry(folder + slash + name, "file", 0o640, 7, 8, content=content))
        tar = tmp_path / f"changes-{next(count)}.tar"
        tools.changes.write_changes(sorted(entries, key=lambda one: one.path), tar)
        return make_layer({"kind": "changes", "path": str(tar)}, created_by="the commands")

    return make


def file(path, text="", **values):
    return {
        "kind": "files",
        "entries": [{"path": path, "type": "file", "text": text}],
        **values,
    }


def root_of(tools, layers):
    table = tools.image.check_layers([layer.path for layer in layers], [layer.facts for layer in layers])
    return {path: one.kind for path, one in table.entries.items()}


def test_a_changeset_comes_back_as_it_was(tools, entry, tmp_path):
    content = tools.contents.Text(b"x")
    entries = [
        entry("a", "dir", 0o1777, 5, 6),
        entry("a/.wh.gone", "whiteout", 0o644),
        entry("a/file", "file", 0o4755, 1, 2, content=content),
        entry("a/link", "link", 0o777, target="../elsewhere"),
        entry("a/same", "file", 0o4755, 1, 2, content=content),
    ]
    tools.changes.write_changes(entries, tmp_path / "x.tar")
    with io.BytesIO() as spool:
        found = list(tools.changes.read_changes(tmp_path / "x.tar", spool))
        assert [(e.path, e.kind, e.statement, e.target) for e in found] == [
            (e.path, e.kind, e.statement, e.target) for e in entries
        ]
        assert found[2].content is found[4].content
        assert tools.contents.read_all(found[2].content) == b"x"


def test_what_is_gone_is_gone_with_all_below_it(tools, make_layer, make_changes):
    below = make_layer(file("usr/share/doc/x/y"), file("usr/share/docs"), created_by="system")
    layers = [below, make_changes(usr=None, usr__share=None, usr__share__doc=False)]
    assert set(root_of(tools, layers)) == {"usr", "usr/share", "usr/share/docs"}


def test_an_opaque_folder_shows_only_its_own(tools, entry, make_layer, tmp_path):
    tools.changes.write_changes(
        [entry("a", "dir", 0o755), entry("a/.wh..wh..opq", "whiteout", 0o644), entry("a/new", "dir", 0o755)],
        tmp_path / "x.tar",
    )
    layers = [make_layer(file("a/old")), make_layer({"kind": "changes", "path": str(tmp_path / "x.tar")})]
    assert set(root_of(tools, layers)) == {"a", "a/new"}


def test_a_change_replaces_whatever_was_there(tools, make_layer, make_changes):
    layers = [make_layer(file("a/b", "1"), file("c", "2")), make_changes(a="a file now", c=None)]
    assert root_of(tools, layers) == {"a": "file", "c": "dir"}


def test_what_comes_after_a_change_may_replace_it(tools, make_layer, make_changes):
    layers = [make_changes(a=None, a__b="from RUN"), make_layer(file("a/b", "from a wheel"))]
    assert root_of(tools, layers) == {"a": "dir", "a/b": "file"}


def test_a_layer_of_changes_keeps_modes_and_owners(make_changes):
    member = make_changes(a="x").members()["a"]
    assert (member.mode, member.uid, member.gid) == (0o640, 7, 8)


def test_changes_stand_alone(tools, layer_error, tmp_path):
    tools.changes.write_changes([], tmp_path / "x.tar")
    assert "alone" in layer_error(file("a"), {"kind": "changes", "path": str(tmp_path / "x.tar")})


def test_what_is_no_changeset_is_refused(layer_error, tmp_path):
    (tmp_path / "x.tar").write_bytes(b"no tar at all")
    assert "can't be read" in layer_error({"kind": "changes", "path": str(tmp_path / "x.tar")})


def test_libraries_that_a_change_takes_away_are_in_no_cache(
    tools, make_deb, make_elf, make_layer, make_changes
):
    banner = b"GNU C Library (Debian GLIBC 2.36-9+deb12u10) stable release version 2.36.\n"
    folder = "usr/lib/x86_64-linux-gnu"
    libc = make_deb(
        "libc6",
        [
            (f"{folder}/libc.so.6", make_elf("libc.so.6") + b"\0" + banner),
            (f"{folder}/libgone.so.1", make_elf("libgone.so.1")),
            (f"{folder}/libtext.so.1", make_elf("libtext.so.1")),
        ],
    )
    names = {
        f"usr__lib__x86_64-linux-gnu__{name}": value
        for name, value in (("libgone.so.1", False), ("libtext.so.1", "no"))
    }
    lower = [make_layer(libc).path, make_changes(**names).path]
    cache = tools.system.Lower(lower).cache("amd64").content.data
    assert b"libc.so.6" in cache
    assert b"libgone" not in cache
    assert b"libtext" not in cache
