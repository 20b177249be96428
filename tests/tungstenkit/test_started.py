"""Who has started what is left behind, and whether they are still there."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tungstenkit import started


def test_a_process_lives_until_it_has_ended():
    program = "from tungstenkit.started import this_process; print(this_process(), flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        named = process.stdout.readline().strip()
        assert started.lives(named) is True
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        # Nobody has waited for it.
        assert started.lives(named) is False
    assert started.lives(named) is False


def test_its_number_alone_is_not_enough():
    named = started.this_process()
    assert started.lives(named) is True
    place, start = named.rsplit("/", 1)
    assert started.lives(f"{place}/{int(start) + 1}") is False
    boot, rest = named.split("/", 1)
    assert started.lives(f"{boot}x/{rest}") is None


@pytest.mark.parametrize("text", ["", "x", "a/b/c/d", "/../1/1", "é/1/2/3"])
def test_what_names_no_process_of_ours_is_nobody_we_know(text):
    assert started.lives(text) is None


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where temporary folders are."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return tmp_path


def ours(folder):
    return [path for path in started.abandoned() if path.parent == folder]


def test_a_scratch_folder_is_known_once_its_process_is_gone(folder):
    program = (
        "import os, sys; from tungstenkit.started import scratch\n"
        "with scratch() as place: print(place, flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        place = process.stdout.readline().strip()
        assert Path(place).parent == folder
        assert ours(folder) == []
        process.send_signal(signal.SIGKILL)
    assert list(map(str, ours(folder))) == [place]


def test_a_scratch_folder_goes_at_its_end(folder):
    with started.scratch() as place:
        (place / "file").touch()
        assert place.stat().st_mode & 0o777 == 0o700
        assert ours(folder) == []
    assert list(folder.iterdir()) == []
    with started.scratch() as place:
        place.rmdir()


def test_a_process_that_was_forked_does_not_remove_it(folder):
    begun = started.scratch()
    place = begun.__enter__()
    child = os.fork()
    if child == 0:
        begun.__exit__(None, None, None)
        os._exit(0)
    os.waitpid(child, 0)
    assert place.exists()
    assert ours(folder) == []
    begun.__exit__(None, None, None)
    assert not place.exists()


def test_what_a_store_s_owner_can_t_write_is_removed(folder):
    with started.scratch() as place:
        (place / "store" / "path").mkdir(parents=True)
        (place / "store" / "path" / "link").symlink_to("/")
        (place / "store" / "path").chmod(0o500)
        (place / "store").chmod(0o500)
    assert not os.path.lexists(place)


def test_what_others_have_called_so_is_left(folder, monkeypatch):
    (folder / "tungsten-held-link").symlink_to("/")
    (folder / "tungsten-held-file").touch()
    os.mkfifo(folder / "tungsten-held-pipe")
    (folder / "tungsten-other").mkdir()
    (folder / "tungsten-held-ours").mkdir()
    assert [path.name for path in ours(folder)] == ["tungsten-held-ours"]
    monkeypatch.setattr(started.os, "geteuid", lambda: 12345)
    assert ours(folder) == []


@pytest.mark.parametrize("is_deaf", [False, True])
def test_a_server_that_outlives_its_command_is_known_by_its_folder_and_ended(folder, monkeypatch, is_deaf):
    monkeypatch.setattr(started, "_PATIENCE", 0.2 if is_deaf else 60)
    ignore = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN);" if is_deaf else ""
    program = f"{ignore}print(flush=True); import time; time.sleep(600)"

    def start(*words):
        command = [sys.executable, "-c", program, *map(str, words)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE)
        process.stdout.readline()
        return process

    ours = start("tungsten_server", folder / "x" / "spec.json")
    others = [
        start("less", folder / "x" / "spec.json"),
        start("tungsten_server", folder / "xy" / "spec.json"),
    ]
    try:
        assert started.servers_of(folder / "x") == [ours.pid]
        started.end_servers(folder / "x")
        assert ours.wait(timeout=60) == -(signal.SIGKILL if is_deaf else signal.SIGTERM)
        assert [process.poll() for process in others] == [None, None]
        assert started.servers_of(folder / "x") == []
    finally:
        for process in (ours, *others):
            process.kill()
            process.wait()
            process.stdout.close()


def test_several_hold_a_folder_and_one_that_cant_be_held_is_no_problem(tmp_path):
    with started.held(tmp_path), started.held(tmp_path):
        assert started.is_held(tmp_path)
    assert not started.is_held(tmp_path)
    with started.held(tmp_path / "none"):
        assert not started.is_held(tmp_path / "none")


def test_of_a_process_that_is_hidden_nobody_says_that_it_is_gone(monkeypatch):
    """As where `/proc` is mounted with `hidepid`, and an engine is several users'."""
    process = f"{started._where()}/{2**22 - 1}/1"
    monkeypatch.setattr(started, "_start_of", lambda _: "")
    assert started.lives(process) is False

    def refuse(*_):
        raise PermissionError

    monkeypatch.setattr(os, "kill", refuse)
    assert started.lives(process) is None
    # Whoever labels a container may say any number.
    assert started.lives(f"{started._where()}/{'9' * 30}/1") is None
