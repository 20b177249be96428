"""tungsten's own Nix, of an archive whose Nix and loader are scripts: what is taken, how it starts, what is left."""

import json
import os
import stat
import subprocess
import threading
from contextlib import contextmanager
from datetime import UTC, datetime

import pytest

from tests.binaries import deb
from tests.frozen import served
from tests.frozen.archive import Archive, Deb, new_key
from tests.tungstenkit.observers import Told
from tungstenkit import nix_program, store
from tungstenkit.debian import release
from tungstenkit.debian.release import RELEASES
from tungstenkit.fetch import own_nix
from tungstenkit.fetch.mirrors import Mirrors
from tungstenkit.fetch.own_nix import Origin
from tungstenkit.platforms import ARCHITECTURES, this_system
from tungstenkit.sdk.errors import BuildError, FetchError, UnusableError

MOMENT = datetime(2026, 3, 1, 12, tzinfo=UTC)
ARCHITECTURE = ARCHITECTURES.get(this_system(), ARCHITECTURES["x86_64-linux"])
LIBRARIES = f"usr/lib/{ARCHITECTURE.machine}-linux-gnu"
LOADER = f"{LIBRARIES}/ld-linux-of-tests.so.2"
# As the true one: options, then the program.
LOADS = b"""#!/bin/sh
while :; do
  case $1 in
    --inhibit-cache) shift ;;
    --library-path) library=$2; shift 2 ;;
    --argv0) name=$2; shift 2 ;;
    *) break ;;
  esac
done
export library name; exec /bin/sh "$@"
"""
NIX = b"""[ "$1" = --version ] && { echo nix 1; exit; }
echo "$name $library $NIX_STORE_DIR $NIX_STATE_DIR $NIX_REMOTE $NIX_CONF_DIR"
for one; do echo "[$one]"; done
"""


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A user without a Nix; where what is theirs will be."""
    (tmp_path / "path").mkdir()
    for name in ("sh", "env"):
        (tmp_path / "path" / name).symlink_to(f"/bin/{name}")
    monkeypatch.setenv("PATH", str(tmp_path / "path"))
    monkeypatch.setenv("TUNGSTEN_HOME", str(tmp_path / "home"))
    for name in ("TUNGSTEN_NIX", "NIX_STORE_DIR", "NIX_STATE_DIR", "NIX_REMOTE"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "home"


@pytest.fixture
def mirror(tmp_path, monkeypatch):
    """Serves an archive with a Nix; what makes it takes other files of its package."""
    running = []

    @contextmanager
    def serve(files=(), links=()):
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        archive = Archive(tmp_path / "archive", new_key())
        debs = tmp_path / "debs"
        program = {"usr/bin/nix": NIX, "usr/share/doc/nix/copyright": b"x", **dict(files)}
        wanted = {"Depends": "libc6, liba, bash-static, perl | perl-base, curl"}
        made = [
            deb(
                debs / "nix-bin_2.26_amd64.deb",
                program,
                {"usr/bin/nix-store": "nix", **dict(links)},
                control=wanted,
            ),
            deb(
                debs / "libc6_2_amd64.deb",
                {LOADER: LOADS, "usr/lib64/other.so.1": b"x", f"{LIBRARIES}/x.a": b"x"},
            ),
            deb(
                debs / "liba_1_amd64.deb",
                {
                    f"{LIBRARIES}/liba.so.1.2": b"library",
                    f"{LIBRARIES}/deeper/libb.so": b"x",
                    f"{LIBRARIES}/c": None,
                },
                {f"{LIBRARIES}/liba.so.1": "liba.so.1.2", f"{LIBRARIES}/libd.so": "../../../../etc/passwd"},
            ),
        ]
        for path in made:
            one = Deb.read(path)
            text = one.control.replace("Architecture: amd64", f"Architecture: {ARCHITECTURE.debian}")
            archive.add_deb(
                Deb(path, one.pool, text, one.files, one.sha256, one.size), nix_program.OWN_RELEASE
            )
        archive.publish(MOMENT)
        with served.serve(archive) as mirror:
            monkeypatch.setattr(release, "PINNED", mirror.keys / "archive_keys.json")
            monkeypatch.setattr(release, "KEYRING_FOLDERS", (mirror.keys,))
            running.append(mirror)
            bases = [(f"{mirror.url}/{name}",) for name in ("debian", "debian-security")]
            yield lambda: Origin.of(Mirrors(*bases, pypi="", npm=None, found=MOMENT))

    return serve


def left(home):
    """What is in the folder of our own Nix."""
    return sorted(path.name for path in (home / "nix" / "own").iterdir())


def test_what_was_carried_is_enough_where_nothing_answers(home, mirror, tmp_path, monkeypatch):
    """It is believed by Debian's keys all the same, as of the day on which it was carried away."""
    (scratch := tmp_path / "scratch").mkdir()
    with mirror() as origin:
        files = own_nix.collect(origin(), scratch, Told())
        assert not (home / "nix").exists()
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "another"))
        there = Origin.carried(files)
        assert there.now == MOMENT
        inrelease = next(
            path
            for place, path in files.items()
            if place == f"debian/dists/{nix_program.OWN_RELEASE}/InRelease"
        )
        signed = inrelease.read_bytes()
        inrelease.write_bytes(signed.replace(b"Origin: Debian", b"Origin: Nobody"))
        with pytest.raises(UnusableError, match="no pinned Debian key"):
            own_nix.bring(lambda: there, Told())
        inrelease.write_bytes(signed)
    own_nix.bring(lambda: there, Told())
    assert nix_program.run(["nix", "--version"]).returncode == 0
    lacking = {place: path for place, path in files.items() if "liba" not in place}
    own_nix.remove()
    with pytest.raises(FetchError, match="no longer has this file"):
        own_nix.bring(lambda: Origin.carried(lacking), Told())


def test_it_is_of_debians_newest_release():
    """What this tungsten knows as such; a new entry there takes Nix anew."""
    final = [one for one in RELEASES.values() if one.is_final]
    assert max(final, key=lambda one: int(one.version_id)).codename == nix_program.OWN_RELEASE


def test_what_runs_is_taken_and_written_down(home, mirror):
    watch = Told()
    with mirror() as mirrors:
        own_nix.bring(mirrors, watch)
    folder = nix_program.own_folder()
    assert folder.parent == home / "nix" / "own"
    assert left(home) == ["busy", folder.name]
    assert {path.name for path in (folder / "lib").iterdir()} == {
        *("nix", "liba.so.1", "liba.so.1.2", "ld-linux-of-tests.so.2")
    }
    assert (folder / "lib" / "liba.so.1").read_bytes() == b"library"
    record = json.loads((folder / own_nix.RECORD).read_text())
    assert [one["name"] for one in record["debs"]] == ["liba", "libc6", "nix-bin"]
    assert all(len(one["sha256"]) == 64 for one in record["debs"])
    assert record["release"] == nix_program.OWN_RELEASE
    assert {one["date"] for one in record["indexes"]} == {"2026-03-01T12:00:00Z"}
    assert watch.notices == [
        f"there is no Nix on PATH: taking Debian {nix_program.OWN_RELEASE}'s, into {home}/nix/own"
    ]
    # It stays, and no mirror is asked again.
    own_nix.bring(lambda: pytest.fail("a mirror is asked"), watch)


def test_it_is_started_by_its_own_loader_for_its_own_store(home, mirror, monkeypatch):
    with mirror() as mirrors:
        own_nix.bring(mirrors, Told())
    monkeypatch.setenv("NIX_REMOTE", "daemon")
    place = home / "nix"
    expected = f"{nix_program.own_folder()}/lib {place}/store {place}/var/nix local {place}/etc"
    said = nix_program.run(["nix-store", "--add", "a b"]).stdout.splitlines()
    assert said[0] == f"nix-store {expected}"
    assert said[1:] == [
        f"[{one}]" for one in ("--option", "build-hook", "", "--option", "sandbox-paths", "", "--add", "a b")
    ]
    assert store.place() == f"{place}/store"
    assert "NIX_STORE_DIR" not in os.environ
    # What is printed for a user works in a shell that knows nothing of it.
    line = nix_program.for_a_shell("nix-collect-garbage", "-d")
    run = subprocess.run(["/bin/sh", "-c", line], env={}, capture_output=True, text=True, check=True)
    assert run.stdout.splitlines()[0] == f"nix-collect-garbage {expected}"
    monkeypatch.setenv("NIX_STORE_DIR", str(home / "else"))
    assert str(home / "else") in nix_program.run(["nix", "build"]).stdout


@pytest.mark.parametrize("path", [".local/a b", "ö", "$HOME"])
def test_a_place_where_no_store_can_be_is_told_before_anything_is_asked(tmp_path, home, monkeypatch, path):
    monkeypatch.setenv("TUNGSTEN_HOME", str(tmp_path / path))
    with pytest.raises(BuildError, match="such letters") as caught:
        own_nix.bring(lambda: pytest.fail("a mirror is asked"), Told())
    assert "TUNGSTEN_HOME" in caught.value.hint
    assert not (tmp_path / path).exists()


def test_what_can_t_be_run_is_told_and_leaves_nothing(home, mirror):
    with mirror({"usr/bin/nix": b"echo no such library >&2; exit 1\n"}) as mirrors:
        with pytest.raises(BuildError, match="can't be run here: no such library") as caught:
            own_nix.bring(mirrors, Told())
        assert "TUNGSTEN_NIX=/path/of/nix" in caught.value.hint
    assert left(home) == ["busy"]


def test_a_nix_without_its_program_is_refused(home, mirror):
    with (
        mirror(links={"usr/bin/nix": "somewhere"}, files={"usr/bin/nix": None}) as mirrors,
        pytest.raises(FetchError, match="0 files that are called nix"),
    ):
        own_nix.bring(mirrors, Told())
    assert left(home) == ["busy"]


def test_what_a_process_has_left_that_was_killed_is_removed(home, mirror):
    (home / "nix" / "own" / ".new-x" / "nix" / "lib").mkdir(parents=True)
    with mirror() as mirrors:
        own_nix.bring(mirrors, Told())
    assert left(home) == ["busy", nix_program.own_folder().name]


def test_of_two_at_once_one_waits_and_one_takes(home, mirror):
    asked, waits = [], threading.Event()

    class First(Told):
        def fetching(self, doing=""):
            assert waits.wait(60)
            return super().fetching(doing)

    class Second(Told):
        def notice(self, text):
            super().notice(text)
            waits.set()

    with mirror() as mirrors:
        begun = threading.Event()

        def ask():
            asked.append(1)
            begun.set()
            return mirrors()

        first = threading.Thread(target=own_nix.bring, args=(ask, First()))
        first.start()
        assert begun.wait(60)
        second = Second()
        own_nix.bring(ask, second)
        first.join()
    assert second.notices == ["another tungsten is bringing Nix: waiting for it"]
    assert len(asked) == 1


def test_all_of_it_is_removed(home, mirror, tmp_path):
    with mirror() as mirrors:
        own_nix.bring(mirrors, Told())
    kept = home / "nix" / "store" / "x"
    (kept / "inner").mkdir(parents=True)
    (kept / "inner" / "file").write_text("x" * 5000)
    (tmp_path / "other").mkdir()
    (kept / "link").symlink_to(tmp_path / "other")
    for path in (kept / "inner", kept, kept.parent):
        path.chmod(0o555)
    mode = stat.S_IMODE((tmp_path / "other").stat().st_mode)
    (home / "nix" / "flake.nix").touch()
    assert own_nix.remove() > 5000
    # A folder of that name may be somebody's own.
    assert [path.name for path in (home / "nix").iterdir()] == ["flake.nix"]
    assert stat.S_IMODE((tmp_path / "other").stat().st_mode) == mode
    assert own_nix.remove() == 0
    assert nix_program.current().is_absent


def test_a_machine_of_no_debian_is_told(home, monkeypatch):
    monkeypatch.setattr(own_nix, "this_system", lambda: "riscv64-linux")
    with pytest.raises(BuildError, match="no Nix of its own for riscv64-linux"):
        own_nix.bring(lambda: pytest.fail("a mirror is asked"), Told())


def test_where_there_is_a_nix_nothing_is_taken(home, tmp_path, monkeypatch):
    for name in ("nix", "nix-store"):
        (tmp_path / "path" / name).write_text("")
        (tmp_path / "path" / name).chmod(0o755)
    own_nix.bring(lambda: pytest.fail("a mirror is asked"), Told())
    assert not home.exists()
