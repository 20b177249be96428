"""Sealing: what is run, in which order; busybox's hash is Nix's own."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.binaries import deb
from tests.machine import needs
from tungstenkit import nix_program
from tungstenkit.lock.document import read_lock
from tungstenkit.lock.parts import Choice
from tungstenkit.seal.busybox import busybox_tree_hash
from tungstenkit.seal.steps import seal

EXAMPLE = Path(__file__).resolve().parent.parent.parent.parent / "examples" / "caption"


@pytest.fixture
def package(tmp_path):
    """A .deb with a busybox of our own."""
    return deb(tmp_path / "busybox.deb", {"usr/share/doc": b"no", "usr/bin/busybox": b"#!busybox\n"})


@pytest.fixture
def ran(monkeypatch):
    """The steps that have run, each with the choices of the lock that it was given."""
    ran = []

    def step(name):
        def run(lock, *_):
            ran.append((name, [choice.kind for choice in lock.choices]))
            # The tools that build are sealed by now.
            assert all(tools.busybox.tree_sha256 for tools in lock.tools.values())
            choice = Choice(kind=name, subject="", chosen="", reason="")
            return lock.model_copy(update={"choices": (*lock.choices, choice)})

        return run

    for name in ("build_wheels", "add_libraries", "check_installed"):
        monkeypatch.setattr(f"tungstenkit.seal.steps.{name}", step(name))
    return ran


def workshop(get):
    return SimpleNamespace(get=get, solver=SimpleNamespace(notice=None))


def never(_what):
    pytest.fail("nothing is to be done")


def unsealed():
    lock = read_lock(EXAMPLE / "tungsten.lock")
    return lock.model_copy(update={"sealed": False, "choices": ()})


def without_a_tree():
    lock = unsealed()
    (system, tools), *_ = lock.tools.items()
    busybox = tools.busybox.model_copy(update={"tree_sha256": None})
    return lock.model_copy(update={"tools": {system: tools.model_copy(update={"busybox": busybox})}})


@pytest.mark.usefixtures("ran")
def test_an_unknown_busybox_is_downloaded_and_hashed(package):
    wanted = []

    def get(entry):
        wanted.append(entry.file)
        return package

    lock = seal(without_a_tree(), workshop(get))
    (tools,) = lock.tools.values()
    assert lock.sealed
    assert wanted == [tools.busybox.file]
    assert tools.busybox.tree_sha256 == busybox_tree_hash(package)


@pytest.mark.usefixtures("ran")
def test_a_known_busybox_is_not_downloaded():
    assert seal(unsealed(), workshop(never)).sealed


def test_each_step_has_what_the_one_before_it_gave(ran):
    """Libraries are looked for when all is built, and what is installed when all is there."""
    lock = seal(unsealed(), workshop(never))
    assert ran == [
        ("build_wheels", []),
        ("add_libraries", ["build_wheels"]),
        ("check_installed", ["build_wheels", "add_libraries"]),
    ]
    assert [choice.kind for choice in lock.choices] == ["build_wheels", "add_libraries", "check_installed"]


@needs("nix")
def test_the_hash_is_nixs(package, tmp_path):
    program = tmp_path / "tree" / "bin" / "busybox"
    program.parent.mkdir(parents=True)
    program.write_bytes(b"#!busybox\n")
    program.chmod(0o755)
    command = ["nix", "--extra-experimental-features", "nix-command", "hash", "path", str(tmp_path / "tree")]
    printed = nix_program.run(command).stdout.strip()
    assert busybox_tree_hash(package) == printed
