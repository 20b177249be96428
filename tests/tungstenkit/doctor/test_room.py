"""Room where builds write, and memory."""

import os
import tempfile

import pytest

from tungstenkit import lacks, nix_program
from tungstenkit.doctor import room
from tungstenkit.doctor.finding import State
from tungstenkit.machine import GB, Room


@pytest.fixture(autouse=True)
def machine(monkeypatch, tmp_path):
    """A machine whose Nix has a store below the test's folder, and enough of everything."""
    monkeypatch.setattr(room.os, "statvfs", disk())
    monkeypatch.setattr(room, "memory", lambda: Room(8 * GB, 4 * GB))
    monkeypatch.setenv("NIX_STORE_DIR", str(tmp_path / "nix" / "store"))
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "tmp").mkdir()
    return tmp_path


def disk(free=100 * GB, flags=0):
    """A `statvfs` of a disk with some bytes free."""
    real = os.statvfs

    def statvfs(path):
        fields = [*real(path)]
        fields[1], fields[4], fields[8] = 1, free, flags
        return os.statvfs_result(fields)

    return statvfs


def looked():
    return {one.lack.name: one for one in room.room()}


def test_there_is_room(machine):
    found = looked()
    assert {one.state for one in found.values()} == {State.OK}
    assert found["room for the store"].found == f"100.0 GB free in {machine}/nix/store"
    assert list(machine.rglob("*")) == [machine / "tmp"]  # nothing was made


def test_a_disk_that_is_nearly_full(machine, monkeypatch):
    monkeypatch.setattr(room.os, "statvfs", disk(free=GB // 10))
    (machine / "cache/tungsten").mkdir(parents=True)
    (machine / "nix/store").mkdir(parents=True)
    found = looked()
    for name in ("room for the store", "room for temporary files", "room for the cache"):
        assert found[name].forbids_building
        assert "0.1 GB free" in found[name].found
    assert found["room for the store"].remedies[0].command.startswith("tungsten clean --")
    assert found["room for the cache"].remedies[0].command == f"rm -rf {machine}/cache/tungsten"
    assert found["room for temporary files"].remedies[0].command == "export TMPDIR=FOLDER"


def test_a_folder_with_room_is_named(machine, monkeypatch):
    """One on another disk."""
    (other := machine / "other").mkdir()
    monkeypatch.setattr(room, "_ELSEWHERE", (str(machine / "none"), str(other)))
    real = os.stat

    def stat(path, **options):
        found = real(path, **options)
        if str(path) != str(other):
            return found
        return os.stat_result((*found[:2], found.st_dev + 1, *found[3:]))

    monkeypatch.setattr(os, "stat", stat)
    assert room._other(machine / "tmp") == other
    monkeypatch.setattr(room.os, "statvfs", disk(free=0))
    assert room._other(machine / "tmp") is None


def test_a_disk_that_takes_nothing_is_found_by_writing(machine, monkeypatch):
    """Whatever it says is free: a quota, or no inodes."""

    def full(**_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tempfile, "TemporaryFile", full)
    found = looked()["room for temporary files"]
    assert found.found == f"{machine}/tmp can't be written: No space left on device"
    assert found.forbids_building


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written(machine):
    (machine / "tmp").chmod(0o500)
    assert "Permission denied" in looked()["room for temporary files"].found


@pytest.mark.skipif(os.geteuid() == 0, reason="root may look everywhere")
def test_a_folder_below_one_that_may_not_be_looked_into(machine, monkeypatch):
    (closed := machine / "closed").mkdir(mode=0)
    monkeypatch.setenv("TMPDIR", str(closed / "tmp"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(closed / "cache"))
    found = looked()
    closed.chmod(0o700)
    for name in ("room for temporary files", "room for the cache"):
        assert "can't be written: Permission denied" in found[name].found


def test_another_s_store_is_not_written(machine, monkeypatch):
    monkeypatch.setattr(room.os, "access", lambda *_: False)
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda **_: pytest.fail("written"))
    assert room._store().state is State.OK


def test_a_user_s_own_store_is(machine, monkeypatch):
    """As that of who has no home that they may write."""

    def refuses(**_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(tempfile, "TemporaryFile", refuses)
    variables = {"NIX_STORE_DIR": f"{machine}/store"}
    monkeypatch.setattr(nix_program, "current", lambda: nix_program.Nix(machine, variables, True))
    found = room._store()
    assert found.found == f"{machine}/store can't be written: Permission denied"
    assert found.remedies[0].command == "export TUNGSTEN_HOME=FOLDER"


def test_no_program_can_be_run_there(machine, monkeypatch):
    monkeypatch.setattr(room.os, "statvfs", disk(flags=os.ST_NOEXEC))
    monkeypatch.setattr(
        nix_program, "current", lambda: nix_program.Nix(machine, {"NIX_STORE_DIR": f"{machine}/store"}, True)
    )
    found = looked()
    assert "noexec" in found["room for the store"].found
    assert found["room for the store"].remedies[0].command == "export TUNGSTEN_HOME=FOLDER"
    assert found["programs in the temporary folder"].state is State.LACKING
    assert not found["programs in the temporary folder"].forbids_building


def test_a_store_below_a_name_that_no_url_has(machine, monkeypatch):
    place = machine / "ein Ordner" / "store"
    monkeypatch.setattr(
        nix_program, "current", lambda: nix_program.Nix(machine, {"NIX_STORE_DIR": str(place)}, True)
    )
    assert "such letters" in looked()["room for the store"].found


@pytest.mark.parametrize(
    ("memory", "state"),
    [(Room(8 * GB, 4 * GB), State.OK), (Room(8 * GB, GB), State.LACKING), (None, State.UNSURE)],
)
def test_memory(monkeypatch, memory, state):
    monkeypatch.setattr(room, "memory", lambda: memory)
    found = looked()["memory"]
    assert found.state is state
    assert found.lack is lacks.MEMORY
    assert not found.forbids_building
