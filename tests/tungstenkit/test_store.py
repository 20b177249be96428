"""Names and paths of the Nix store, as Nix and our Nix code make them."""

import json
import os
import secrets
import shutil
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.machine import needs
from tungstenkit import nix_program, store
from tungstenkit.sdk.errors import FetchError

TABLE = json.loads((Path(__file__).parent.parent / "nix" / "inputs" / "store_names.json").read_text())
needs_nix = needs("nix")


@pytest.mark.parametrize(("file", "name"), TABLE)
def test_store_names(file, name):
    """The same table as tests/nix/inputs/test_store_name.nix."""
    assert store.store_name(file) == name


@given(st.text(min_size=1))
def test_a_store_name_is_one_that_nix_allows(file):
    name = store.store_name(file)
    assert 0 < len(name) <= 161
    assert not name.startswith(".")
    assert all(letter.isascii() and (letter.isalnum() or letter in "+._-") for letter in name)


@needs_nix
def test_the_path_of_a_file_is_nixs(tmp_path):
    sha256 = "3d3fdbe91d4660c873e14b092c213fe81c1da6362daa236eb25d0171eb108744"
    printed = nix_program.run(["nix-store", "--print-fixed-path", "sha256", sha256, "x.deb"]).stdout.strip()
    assert store.file_path(sha256, "x.deb") == printed


def test_the_path_of_a_tree_is_nixs(monkeypatch):
    """Seen from Nix 2.8 for this hash and name."""
    monkeypatch.setenv("NIX_STORE_DIR", "/nix/store")
    path = store.tree_path("sha256-jz+MLzrTom5xsDTOBe8Mz3FknzGlp5evAoovrhSSi0c=", "busybox")
    assert path == "/nix/store/czaa97fdrgf0vp2hln21x8km38s5a1ah-busybox"


def test_a_full_disk_is_no_riddle(tmp_path, monkeypatch):
    (tmp_path / "nix-store").write_text(
        "#!/bin/sh\necho 'error: creating x: No space left on device' >&2\nexit 1\n"
    )
    (tmp_path / "nix-store").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    with pytest.raises(FetchError) as caught:
        store.missing(["/nix/store/x"])
    assert caught.value.hint == "make room"


@needs_nix
def test_added_files_are_where_their_names_say_and_are_kept(tmp_path):
    file = tmp_path / "tungsten-test.txt"
    file.write_text("tungsten test\n")
    sha256 = "9c29b4a16fb0a3b0e3ee6f1a3c2ea8a3d0b4c9c5e2f8f3e9f9b6f7a3c2d1e0f9"
    absent = store.file_path(sha256, "never.txt")
    (path,) = store.add_files([file])
    assert store.missing([path, absent]) == {absent}
    roots = tmp_path / "roots"
    store.keep([path], roots)
    assert [str(link.resolve()) for link in roots.iterdir()] == [path]
    assert store.holds([path], roots)
    store.keep([path], roots)
    assert len(list(roots.iterdir())) == 1


@needs_nix
def test_what_a_folder_holds_is_what_nix_knows_of_it(tmp_path):
    """Links alone hold nothing: those of a copied or moved folder are not Nix's."""
    paths = []
    for name in ("one", "two"):
        (tmp_path / name).write_text(f"tungsten test {name}\n")
        paths += store.add_files([tmp_path / name])
    # Nix remembers places, also those of a run before that had the same temporary folder.
    place = tmp_path / secrets.token_hex(8)
    place.mkdir()
    roots = place / "roots"
    assert not store.holds(paths, roots)
    store.keep(paths, roots)
    assert store.holds(paths, roots)
    assert not store.holds(paths[:1], roots)
    assert not store.holds([*paths, f"{paths[0]}-more"], roots)
    link = next(link for link in roots.iterdir() if str(link.readlink()) == paths[0])
    assert store.is_held(paths[0], link)
    assert not store.is_held(paths[1], link)
    shutil.copytree(roots, place / "copied", symlinks=True)
    assert not store.holds(paths, place / "copied")
    assert not store.is_held(paths[0], place / "copied" / link.name)
    roots.rename(place / "moved")
    assert not store.holds(paths, place / "moved")
    assert not store.is_held(paths[0], link)
    store.keep(paths, place / "moved")
    assert store.holds(paths, place / "moved")
    (place / "moved" / link.name).unlink()
    assert not store.holds(paths, place / "moved")
    assert not store.holds(paths, place / "one"), "no folder"


@needs_nix
@pytest.mark.timeless("Nix notes its own clock, and files have the system's")
def test_what_was_changed_in_the_store_is_found(tmp_path):
    file = tmp_path / f"tungsten-test-{secrets.token_hex(8)}.txt"
    file.write_text("as it was")
    (path,) = store.add_files([file])
    assert store.changed([path]) == []
    inside, times = Path(path), (1, 1)
    while time.time() < inside.stat().st_ctime + 3:
        time.sleep(0.1)  # registered to the second
    inside.chmod(0o644)
    inside.write_text("as it is")
    inside.chmod(0o444)
    os.utime(inside, times)
    assert store.changed([path]) == [path]
    assert store.changed([path], {f"{path}-other": time.time()}) == [path]
    assert store.changed([path], {path: time.time()}) == []
    inside.chmod(0o644)
    inside.write_text("as it was")
    inside.chmod(0o444)
    os.utime(inside, times)
    # Touched, and the same.
    assert store.changed([path]) == []


ALL_IDS = [(0, 4294967295)]


@pytest.mark.parametrize(
    ("uid", "ids", "users", "version", "variable", "expected"),
    [
        (1000, ALL_IDS, False, (2, 8), "", store.Builders.OWN),
        (0, ALL_IDS, False, (2, 8), "daemon", store.Builders.OWN),
        (0, [(0, 1)], False, (2, 8), "", store.Builders.OWN),
        (0, ALL_IDS, True, (2, 8), "", store.Builders.USERS),
        (0, ALL_IDS, False, (2, 11), "", store.Builders.NONE),
        (0, ALL_IDS, False, (2, 26), "", store.Builders.ALLOCATED),
        # root of a container whose engine is an ordinary user's: Nix's own choice of ids is not among these
        (0, [(0, 1), (1, 65536)], False, (2, 26), "", store.Builders.NONE),
        (0, [(0, 1), (1, 65536)], True, (2, 26), "", store.Builders.USERS),
    ],
)
def test_whose_processes_builds_are(monkeypatch, uid, ids, users, version, variable, expected):
    monkeypatch.setattr(store.os, "geteuid", lambda: uid)
    monkeypatch.setattr(store, "_user_ids", lambda: ids)
    monkeypatch.setattr(store, "_has_build_users", lambda: users)
    monkeypatch.setattr(store, "_nix_version", lambda: version)
    monkeypatch.setenv("NIX_REMOTE", variable)
    assert store.builders() is expected
    options = store.options()
    allocated = expected is store.Builders.ALLOCATED
    assert (
        ("auto-allocate-uids" in options) == ("nix-command flakes auto-allocate-uids" in options) == allocated
    )
    # Nix takes root's store without build users only when told; a daemon must never hear of it.
    alone = uid == 0 and not users and not allocated and variable != "daemon"
    assert ("build-users-group" in options) == alone


class TestConfiguration:
    """Which settings somebody has made: nix.conf(5), "Configuration file"."""

    @pytest.fixture
    def home(self, monkeypatch, tmp_path):
        for name in ("NIX_CONFIG", "NIX_USER_CONF_FILES", "XDG_CONFIG_DIRS"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("NIX_CONF_DIR", str(tmp_path / "etc"))
        monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home"))
        monkeypatch.setenv("XDG_CONFIG_DIRS", str(tmp_path / "xdg"))
        (tmp_path / "etc").mkdir()
        (tmp_path / "home" / "nix").mkdir(parents=True)
        return tmp_path

    def test_without_any_nothing_is_said(self, home):
        assert store.configured() == set()

    def test_the_machines_the_users_and_the_environments_count(self, home, monkeypatch):
        (home / "etc" / "nix.conf").write_text("# max-jobs = 3\n\nsandbox = true # cores = 1\n")
        (home / "home" / "nix" / "nix.conf").write_text("  build-cores = 0\n")
        assert store.configured() == {"sandbox", "build-cores"}
        monkeypatch.setenv("NIX_CONFIG", "cores = 1\nmax-jobs = auto")
        assert store.configured() == {"sandbox", "build-cores", "cores", "max-jobs"}
        (home / "named").write_text("extra-platforms = x\n")
        monkeypatch.setenv("NIX_USER_CONF_FILES", f"{home}/none:{home}/named")
        assert store.configured() == {"sandbox", "cores", "max-jobs", "extra-platforms"}

    def test_included_files_count_and_one_that_includes_itself_ends(self, home):
        (home / "etc" / "nix.conf").write_text("include more\n!include none\n!include nix.conf\n")
        (home / "etc" / "more").write_text(f"max-jobs = 1\ninclude {home}/last\n")
        (home / "last").write_text("cores = 1\ninclude etc/more\n")
        assert store.configured() == {"max-jobs", "cores"}


def test_this_namespace_has_the_users_that_its_map_says():
    total = sum(int(line.split()[2]) for line in Path("/proc/self/uid_map").read_text().splitlines())
    assert store.has_other_users() == (total > 1)
    assert store.has_user(os.geteuid())


def test_setting_up_makes_the_users_that_the_hint_names():
    assert store.BUILD_USERS_COMMAND in (Path(__file__).parents[2] / "examples" / "need.sh").read_text()


def test_a_store_that_is_elsewhere_than_its_paths_say_is_told(tmp_path, monkeypatch):
    """As `store = /somewhere` in nix.conf makes it."""
    (tmp_path / "nix-store").write_text("#!/bin/sh\necho /nix/store/00000000000000000000000000000000-x\n")
    (tmp_path / "nix-store").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    for add in (lambda: store.add_files([tmp_path / "x"]), lambda: store.add_tree(tmp_path)):
        with pytest.raises(FetchError, match="elsewhere than its paths say") as caught:
            add()
        assert "NIX_STORE_DIR" in caught.value.hint
