"""Sealing: what is run, in which order; busybox's hash is Nix's own."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.binaries import deb
from tungstenkit.lock import read_lock
from tungstenkit.seal import busybox_tree_hash, seal

EXAMPLE = Path(__file__).resolve().parent.parent.parent / "examples" / "caption"


@pytest.fixture
def package(tmp_path):
    """A .deb with a busybox of our own."""
    return deb(tmp_path / "busybox.deb", {"usr/share/doc": b"no", "usr/bin/busybox": b"#!busybox\n"})


def never(_what):
    pytest.fail("nothing is to be done")


def built(lock):
    """There is nothing to build in these locks; the tools that would build are sealed by now."""
    assert all(tools.busybox.tree_sha256 for tools in lock.tools.values())
    return lock


def unsealed():
    lock = read_lock(EXAMPLE / "tungsten.lock")
    (system, tools), *_ = lock.tools.items()
    busybox = tools.busybox.model_copy(update={"tree_sha256": None})
    return lock.model_copy(
        update={"sealed": False, "tools": {system: tools.model_copy(update={"busybox": busybox})}}
    )


def same(lock):
    return lock


def test_an_unknown_busybox_is_downloaded_and_hashed(package):
    wanted = []

    def get(entry):
        wanted.append(entry.file)
        return package

    lock = seal(unsealed(), get, built, same, same)
    (tools,) = lock.tools.values()
    assert lock.sealed
    assert wanted == [tools.busybox.file]
    assert tools.busybox.tree_sha256 == busybox_tree_hash(package)


def test_a_known_busybox_is_not_downloaded():
    lock = read_lock(EXAMPLE / "tungsten.lock").model_copy(update={"sealed": False})
    assert seal(lock, never, built, same, same).sealed


def test_the_libraries_that_packages_lack_are_added_when_all_is_built():
    lock = read_lock(EXAMPLE / "tungsten.lock").model_copy(update={"sealed": False})
    done = lock.model_copy(update={"choices": ()})
    grown = lock.model_copy(update={"choices": lock.choices[:1]})

    def libraries(lock):
        assert lock == done
        return grown

    assert seal(lock, never, lambda _lock: done, libraries, same) == grown.model_copy(update={"sealed": True})


def test_post_build_runs_when_all_else_is_there():
    lock = read_lock(EXAMPLE / "tungsten.lock").model_copy(update={"sealed": False})
    grown, ran = lock.model_copy(update={"choices": lock.choices[:1]}), []

    def post_build(lock):
        ran.append(lock.choices == grown.choices)
        return lock

    seal(lock, never, built, lambda _lock: grown, post_build)
    assert ran == [True]


@pytest.mark.skipif(shutil.which("nix") is None, reason="nix is not installed")
def test_the_hash_is_nixs(package, tmp_path):
    program = tmp_path / "tree" / "bin" / "busybox"
    program.parent.mkdir(parents=True)
    program.write_bytes(b"#!busybox\n")
    program.chmod(0o755)
    command = ["nix", "--extra-experimental-features", "nix-command", "hash", "path", str(tmp_path / "tree")]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    assert busybox_tree_hash(package) == printed
