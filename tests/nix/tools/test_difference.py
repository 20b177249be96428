"""What has changed in a root: contents, modes, kinds and what is gone, with the owners that were; and nothing else."""

import os
import shutil
import tarfile

import pytest


@pytest.fixture
def lower(make_deb, make_elf, make_layer):
    """Two layers, as a system has them."""
    banner = b"GNU C Library (Debian GLIBC 2.36-9+deb12u10) stable release version 2.36.\n"
    folder = "usr/lib/x86_64-linux-gnu"
    libc = make_deb(
        "libc6",
        [
            (f"{folder}/libc.so.6", make_elf("libc.so.6") + b"\0" + banner),
            ("etc/ld.so.conf", b"/usr/local/lib\n"),
            ("var/mail", None, 0o2775, 0, 8),
            ("opt/tool", b"tool", 0o4755, 5, 6),
            ("opt/same", b"same"),
            ("opt/folder/one", b"1"),
            ("opt/folder/two", b"2"),
            ("opt/link", ("link", "tool")),
        ],
    )
    system = {"kind": "system", "alternatives": False, "ld-so-cache": True, "architecture": "amd64"}
    below = make_layer(libc)
    return [below.path, make_layer(system, lower=[below.path]).path]


@pytest.fixture
def root(tmp_path):
    root = tmp_path / "root"
    root.mkdir()
    return root


@pytest.fixture
def changed(tools, lower, root):
    """What a change of the root comes to: path -> entry."""
    tools.unpacking.unpack(lower, root)
    difference = tools.difference.Difference(root, lower)

    def left_out():
        return difference.left_out

    def entries(owners=None, owner=(0, 0), left_out=frozenset(), cache=False):
        below = tools.system.Lower(lower)
        found = difference.entries(below.table, owners or {}, owner, set(left_out))
        if cache:
            found = difference.with_loader_cache(found, below, "amd64")
        return {entry.path: entry for entry in found}

    entries.left_out = left_out
    return entries


def test_nothing_changed_is_nothing(changed, root):
    (root / "opt/tool").read_bytes()
    assert changed() == {}


def test_every_file_is_as_old_as_in_a_layer(changed, root):
    assert {path.lstat().st_mtime for path in root.rglob("*")} == {1}


def test_what_is_new_belongs_to_its_step_and_brings_its_folders(changed, root):
    (root / "opt/new").mkdir(mode=0o1777)
    (root / "opt/new").chmod(0o1777)
    (root / "opt/new/file").write_text("x")
    (root / "opt/new/file").chmod(0o640)
    found = changed(owner=(65532, 0), owners={"opt/new": (7, 8)})
    assert {path: (entry.kind, entry.statement) for path, entry in found.items()} == {
        "opt": ("dir", (0o755, 0, 0)),
        "opt/new": ("dir", (0o1777, 7, 8)),
        "opt/new/file": ("file", (0o640, 65532, 0)),
    }


def test_what_was_there_keeps_its_owner_but_runs_as_nobody_else_once_it_is_written(changed, root):
    (root / "opt/tool").write_text("other")
    assert changed(owner=(65532, 0))["opt/tool"].statement == (0o755, 5, 6)
    (root / "opt/tool").chmod(0o700)
    assert changed(owner=(65532, 0))["opt/tool"].statement == (0o700, 5, 6)


def test_what_is_new_in_the_folders_of_the_images_user_is_that_users(changed, root):
    for path in ("app/made", "home/nonroot/.cache/x", "home/other/x"):
        (root / path).mkdir(parents=True)
    found = changed()
    assert {
        path: found[path].statement[1:] for path in ("app/made", "home/nonroot/.cache", "home/other/x")
    } == {
        "app/made": (65532, 0),
        "home/nonroot/.cache": (65532, 0),
        "home/other/x": (0, 0),
    }


def test_a_folder_that_only_got_something_keeps_its_true_mode(changed, root):
    (root / "var/mail/letter").write_text("x")
    assert changed()["var/mail"].statement == (0o2775, 0, 8)


def test_a_file_written_with_what_it_held_is_no_change(changed, root):
    (root / "opt/same").unlink()
    (root / "opt/same").write_text("same")
    os.utime(root / "opt/same", (1, 1))
    assert changed() == {}


def test_a_layer_below_may_be_stored_as_it_is(tools, tmp_path, root):
    """As a base image's may be; some engines write its paths with `./` first."""
    layer = tmp_path / "layer"
    layer.mkdir()
    (layer / "files.json").write_text('{"entries": []}')
    (layer / "layer.json").write_text("{}")
    (tmp_path / "same").write_text("same")
    with tarfile.open(layer / "blob", "w") as archive:
        archive.add(tmp_path / "same", "./opt/same")
    tools.unpacking.unpack([layer], root)
    difference = tools.difference.Difference(root, [layer])
    (root / "opt/same").unlink()
    shutil.copy(tmp_path / "same", root / "opt/same")
    assert difference.entries(tools.rootfs.Table(), {}, (0, 0), set()) == []


def test_a_file_of_the_same_size_and_time_is_read(changed, root):
    (root / "opt/same").write_text("SAME")
    os.utime(root / "opt/same", (1, 1))
    assert set(changed()) == {"opt", "opt/same"}


def test_links_count_by_their_targets(changed, root):
    (root / "opt/link").unlink()
    (root / "opt/link").symlink_to("tool")
    assert changed() == {}
    (root / "opt/link").unlink()
    (root / "opt/link").symlink_to("same")
    assert changed()["opt/link"].target == "same"


def test_hard_links_stay_links(changed, root):
    (root / "opt/a").write_text("x")
    (root / "opt/b").hardlink_to(root / "opt/a")
    found = changed()
    assert found["opt/a"].content is found["opt/b"].content


def test_what_is_gone_is_one_whiteout(changed, root):
    for path in ("opt/folder/one", "opt/folder/two"):
        (root / path).unlink()
    assert {path for path, entry in changed().items() if entry.kind == "whiteout"} == {
        "opt/folder/.wh.one",
        "opt/folder/.wh.two",
    }
    (root / "opt/folder").rmdir()
    assert set(changed()) == {"opt", "opt/.wh.folder"}


def test_another_kind_replaces_what_was_there_without_a_whiteout(changed, root):
    for path in ("opt/folder/one", "opt/folder/two"):
        (root / path).unlink()
    (root / "opt/folder").rmdir()
    (root / "opt/folder").write_text("a file now")
    assert {path: entry.kind for path, entry in changed().items()} == {"opt": "dir", "opt/folder": "file"}


def test_what_only_a_running_system_has_is_left_out(changed, root):
    os.mkfifo(root / "opt/pipe")
    (root / "proc").mkdir()
    (root / "proc/1").mkdir()
    (root / "opt/note").write_text("x")
    assert changed(left_out={"opt/note"}) == {}
    assert changed.left_out() == ["opt/pipe"]


def test_the_loaders_cache_is_made_again_where_it_must_be(changed, root, make_elf):
    (root / "opt/new").write_text("x")
    assert "etc/ld.so.cache" not in changed(cache=True)
    (root / "usr/local/lib").mkdir(parents=True)
    (root / "usr/local/lib/libnew.so.1").write_bytes(make_elf("libnew.so.1"))
    (root / "opt/same").unlink()
    found = changed(cache=True)
    assert b"/usr/local/lib/libnew.so.1" in found["etc/ld.so.cache"].content.data
    assert list(found) == sorted(found)


def test_a_cache_that_was_taken_away_comes_back(changed, root):
    (root / "etc/ld.so.cache").unlink()
    assert "etc/.wh.ld.so.cache" not in changed(cache=True)
    assert changed(cache=True)["etc/ld.so.cache"].content.data.startswith(b"glibc-ld.so.cache1.1")
