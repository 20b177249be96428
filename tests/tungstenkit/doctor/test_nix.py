"""Which Nix builds, as whom, and its sandbox: by stand-ins for `nix`."""

import json
import os

import pytest

from tests.machine import needs
from tungstenkit import nix_program, store
from tungstenkit.doctor import nix as looking
from tungstenkit.doctor.finding import State


@pytest.fixture
def programs(tmp_path, monkeypatch):
    """A PATH with nothing on it; puts shell scripts there. Builds are the user's own."""
    (folder := tmp_path / "bin").mkdir()
    (scratch := tmp_path / "scratch").mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setenv("TMPDIR", str(scratch))
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    monkeypatch.setenv("TUNGSTEN_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("TUNGSTEN_NIX")
    monkeypatch.setattr(store, "builders", lambda: store.Builders.OWN)
    monkeypatch.setattr(looking.process, "check_daemon", lambda: None)
    store._version_of.cache_clear()

    def put(script, *names):
        for name in names or ("nix", "nix-store"):
            (folder / name).write_text(f"#!/bin/sh\n{script}\n")
            (folder / name).chmod(0o755)

    yield put
    assert list(scratch.iterdir()) == []


def looked():
    return {one.lack.name: one for one in looking.nix()}


WORKS = 'case "$*" in --version) echo "nix (Nix) 2.26.3" ;; *) exit 0 ;; esac'


def test_without_a_nix_tungsten_brings_one(programs, tmp_path):
    found = looked()
    assert found["Nix"].state is State.OK
    assert found["Nix"].found.startswith("none is on PATH: tungsten brings Debian")
    assert "sandbox" not in found
    assert not (tmp_path / "home").exists()  # nothing was brought, and no store made


def test_the_machine_s(programs, tmp_path):
    programs(WORKS)
    found = looked()
    assert found["Nix"].found.startswith(f"2.26.3, {tmp_path}/bin/nix, store ")
    assert found["sandbox"].state is State.OK
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize(
    ("script", "part"),
    [("exit 1", "can't be started"), ("echo 'nix (Nix) 2.3.16'", "older than 2.8")],
)
def test_one_that_does_not_do_is_replaced_by_tungsten_s(programs, script, part):
    programs(script)
    found = looked()["Nix"]
    assert part in found.found
    assert found.forbids_building
    assert found.remedies[0].command == "export TUNGSTEN_NIX=own"


def test_a_store_that_is_another_s(programs, monkeypatch):
    """As root's, whose daemon does not run."""
    programs(
        'case "$*" in --version) echo "nix (Nix) 2.26.3" ;;'
        " *--check-validity*) echo error: cannot connect to socket >&2; exit 1 ;; *) exit 0 ;; esac"
    )
    monkeypatch.setattr(nix_program, "_has_no_store", lambda *_: False)
    nix_program._chosen.cache_clear()
    found = looked()
    assert found["Nix"].found.endswith("which this user can't use: error: cannot connect to socket")
    assert [one.command for one in found["Nix"].remedies] == [
        "export TUNGSTEN_NIX=own",
        "systemctl start nix-daemon",
    ]
    assert "sandbox" not in found


def test_a_variable_that_names_none(programs, monkeypatch):
    monkeypatch.setenv("TUNGSTEN_NIX", "/no/nix")
    found = looked()["Nix"]
    assert "is not the path of a `nix`" in found.found
    assert "TUNGSTEN_NIX=own" in found.remedies[0].says


def test_a_processor_that_nothing_is_for(programs, monkeypatch):
    monkeypatch.setattr(looking, "this_system", lambda: "riscv64-linux")
    (found,) = looking.nix()
    assert found.forbids_building
    assert "riscv64-linux" in found.found


def test_root_without_build_users_has_the_command_that_makes_them(programs, monkeypatch):
    programs(WORKS)
    monkeypatch.setattr(store, "builders", lambda: store.Builders.NONE)
    monkeypatch.setattr(nix_program, "_has_no_store", lambda *_: False)
    nix_program._chosen.cache_clear()
    found = looked()
    assert found["build users"].forbids_building
    assert found["build users"].remedies[0].command == store.BUILD_USERS_COMMAND
    assert found["build users"].remedies[0].as_root
    assert "sandbox" not in found


@pytest.mark.parametrize(
    ("said", "what"),
    [
        ("error: cloning builder process: Operation not permitted", "does not allow user namespaces"),
        ("error: cannot set host name: Operation not permitted", "does not allow user namespaces"),
        ("error: writing to file: No space left on device", "the disk is full"),
        ("error: something else", "something else"),
    ],
)
def test_a_sandbox_that_fails_is_told_as_a_build_would(programs, said, what):
    fails = f'*" build "*) echo "{said}" >&2; exit 1 ;;'
    programs(f'case "$*" in --version) echo "nix (Nix) 2.8.0" ;; {fails} *) exit 0 ;; esac')
    found = looked()["sandbox"]
    assert found.state is State.LACKING
    assert what in found.found


def test_a_build_that_hangs_is_left(programs, monkeypatch):
    monkeypatch.setattr(looking, "_SECONDS", 0.1)
    programs("exec /bin/sleep 600")
    assert looking.sandbox().state is State.UNSURE


@pytest.mark.nix
@needs("nix")
def test_the_sandbox_of_this_machine_s_nix(tmp_path, monkeypatch):
    """And what it built is in no store that stays."""
    expression = looking._SMALLEST
    found = looking.sandbox()
    assert found.state is State.OK, found.found
    command = ["nix", *store.options(), "eval", "--impure", "--json", "--expr", f"({expression}).outPath"]
    path = json.loads(nix_program.run(command).stdout)
    assert not os.path.lexists(path)
