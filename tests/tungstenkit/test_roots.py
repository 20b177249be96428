"""The Nix stores that are here, what is registered in them, and what nothing holds."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.machine import needs
from tungstenkit import disk, nix_program, roots

needs_nix = needs("nix")


@pytest.fixture
def own(tmp_path, monkeypatch):
    """The user's own store, in which nothing is; another Nix's is the one that is used."""
    monkeypatch.setenv("TUNGSTEN_HOME", str(tmp_path / "home"))
    folder = nix_program.folder_of_nix()
    for path in nix_program.store_variables(folder).values():
        Path(path).mkdir(parents=True, exist_ok=True)
    (store,) = (one for one in roots.stores() if one.is_own)
    yield store
    # A store's folders can't be written by their owner.
    disk.erase(folder)


def nix(store, *arguments):
    environment = {**os.environ, **store.nix.variables}
    command = ["nix-store", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.strip()


@needs_nix
def test_what_no_root_holds_in_the_users_own_store_is_found_measured_and_collected(own, tmp_path):
    made = []
    for name in ("held", "dead", "like"):
        (tmp_path / name).write_bytes(
            os.urandom(100_000) if name != "like" else (tmp_path / "dead").read_bytes()
        )
        made.append(nix(own, "--add", str(tmp_path / name)))
    held, *dead = made
    link = tmp_path / "model" / ".tungsten" / "image-x86_64-linux"
    link.parent.mkdir(parents=True)
    nix(own, "--realise", held, "--add-root", str(link), "--indirect")
    assert sorted(own.dead()) == sorted(dead)
    assert 200_000 < own.size(dead) < 220_000
    # Files that are alike become one, with a name more in the store's own folder.
    nix(own, "--optimise")
    assert 100_000 < own.size(dead) < 110_000
    (root,) = own.roots()
    assert (root.link, root.target) == (link, held)
    assert own.held([held]) == {held}
    assert (str(link), held) in own.every_root()
    # An entry of a folder that is gone is Nix's to forget, or ours; not one that leads somewhere.
    root.forget()
    assert len(list(own.roots())) == 1
    own.collect()
    assert [Path(path).exists() for path in made] == [True, False, False]
    assert own.dead() == []
    shutil.rmtree(link.parent.parent)
    (root,) = own.roots()
    assert root.target is None
    root.forget()
    assert list(own.roots()) == []


@needs_nix
def test_both_stores_are_known_and_each_has_its_nix(own):
    found = {store.place: store for store in roots.stores()}
    if not Path("/nix/store").is_dir():
        pytest.skip("there is no /nix here")
    assert found[own.place].nix.variables["NIX_STORE_DIR"] == str(own.place)
    assert not found[Path("/nix/store")].is_own


def test_where_there_is_no_nix_a_store_is_read_all_the_same(own, monkeypatch, tmp_path):
    auto = own.state / "gcroots" / "auto"
    auto.mkdir(parents=True)
    (auto / "x").symlink_to(tmp_path / "model" / ".tungsten" / "shell")
    (auto / "no-link").touch()
    monkeypatch.setenv("PATH", str(tmp_path))
    (store,) = (one for one in roots.stores() if one.is_own)
    assert store.nix is None
    assert [root.target for root in store.roots()] == [None]
    with pytest.raises(roots.FetchError, match="no Nix to ask"):
        store.dead()


@pytest.mark.parametrize(
    "target", ["/etc/passwd", "STORE", "STORE/../../x", f"STORE/{'0' * 32}-x/bin/sh", "STORE/short-x", "x"]
)
def test_a_link_that_leads_elsewhere_holds_nothing(own, tmp_path, target):
    link = tmp_path / "link"
    link.symlink_to(target.replace("STORE", str(own.place)))
    assert roots.Root(own, tmp_path / "entry", link).target is None
    good = f"{own.place}/{'0' * 32}-x"
    (tmp_path / "good").symlink_to(good)
    assert roots.Root(own, tmp_path / "entry", tmp_path / "good").target == good


def test_a_nix_at_work_is_seen(own):
    import fcntl

    (own.state / "temproots").mkdir()
    with (own.state / "temproots" / "1").open("w") as file:
        assert not own.is_in_use
        fcntl.flock(file, fcntl.LOCK_SH)
        assert own.is_in_use


FULL = """
disk=$1 file=$2 python=$3
mount -t tmpfs -o size=40m tmpfs "$disk" && cd "$disk" && mkdir -p home/nix/store home/nix/var/nix || exit 77
export NIX_STORE_DIR="$disk/home/nix/store" NIX_STATE_DIR="$disk/home/nix/var/nix" NIX_REMOTE=local
nix-store --option build-users-group '' --add "$file" >&2 || exit 77
cat /dev/zero > fill 2>/dev/null
unset NIX_STORE_DIR NIX_STATE_DIR NIX_REMOTE
exec "$python" -c 'from tungstenkit import roots; (own,) = (one for one in roots.stores() if one.is_own); print(
    len(own.dead())); own.collect(); print(len(own.dead()))'
"""


@needs_nix
def test_a_store_on_a_disk_that_is_full_is_collected(tmp_path):
    """Nix by itself may be unable to open its database there, though it has a file in reserve for that."""
    (tmp_path / "disk").mkdir()
    (tmp_path / "file").write_bytes(os.urandom(1_000_000))
    command = [
        *("unshare", "-r", "-m", "sh", "-c", FULL, "sh"),
        tmp_path / "disk",
        tmp_path / "file",
        sys.executable,
    ]
    environment = {**os.environ, "TUNGSTEN_HOME": str(tmp_path / "disk" / "home")}
    run = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if run.returncode == 77 or "unshare" in run.stderr:
        pytest.skip(f"a disk of one's own can't be mounted here: {run.stderr.strip()}")
    assert (run.returncode, run.stdout.split()) == (0, ["1", "0"]), run.stderr


@needs_nix
def test_a_root_may_be_called_anything(own, tmp_path):
    """As another user's, whose folders' names are in another encoding."""
    (tmp_path / "file").write_text("x")
    path = nix(own, "--add", str(tmp_path / "file"))
    link = Path(os.fsdecode(os.fsencode(tmp_path) + b"/mod\xe9l"))
    (own.state / "gcroots" / "auto").mkdir(parents=True, exist_ok=True)
    link.symlink_to(path)
    (own.state / "gcroots" / "auto" / "0").symlink_to(link)
    assert (str(link), path) in own.every_root()
    assert [root.target for root in own.roots()] == [path]
