"""What may go from a machine: found by what is there, measured, and gone; what is in use stays."""

import fcntl
import os
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tungstenkit.models.engine import container, image
from tungstenkit import roots, started
from tungstenkit.models import garbage
from tungstenkit.sdk.errors import TungstenError

ONE, TWO, THREE = "1" * 64, "2" * 64, "3" * 64
DEAD = f"{started._where()}/1/0"


def only(kind, engine=None):
    (found,) = garbage.find([kind], engine)
    if found.problem:
        raise found.problem
    return found


def test_kinds_come_in_the_order_in_which_they_go(alone):
    every = garbage.find(garbage.KINDS)
    assert [one.kind for one in every] == list(garbage.KINDS)
    assert garbage.find([]) == []


def test_scratch_folders_of_processes_that_are_gone(alone, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    left = tmp_path / "temporary" / "tungsten-held-left"
    left.mkdir()
    (left / "file").write_bytes(b"x" * 10_000)
    with started.scratch() as used:
        found = only("scratch")
        assert str(left) in found.things
        assert str(used) not in found.things
        assert found.remove() >= 10_000
        assert used.exists()
    assert not left.exists()


class TestFolders:
    def test_what_git_has_left_and_what_is_gone(self, alone):
        left, gone, whole = (alone.model(name) for name in ("left", "gone", "whole"))
        for name in ("tungsten_model.py", "tungsten.lock"):
            (left / name).unlink()
        (left / "__pycache__").mkdir()
        shutil.rmtree(gone)
        found = only("folders")
        assert len(found.things) == 2
        assert str(left / ".tungsten") in found.things[0]
        assert str(gone) in found.things[1]
        assert found.size > 10_000
        assert found.remove() == found.size
        assert not (left / ".tungsten").exists()
        assert [root.link.parent.parent for root in alone.store.roots()] == [whole]
        assert only("folders").things == ()

    def test_one_that_is_being_built_is_left_and_said(self, alone):
        left = alone.model("left")
        for name in ("tungsten_model.py", "tungsten.lock"):
            (left / name).unlink()
        with (left / ".tungsten" / "busy").open() as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            found = only("folders")
        assert found.things == ()
        assert found.left == (f"{left}: another tungsten is at work on it",)

    def test_a_link_in_its_place_is_left_and_said(self, alone, tmp_path):
        left = alone.model("left")
        for name in ("tungsten_model.py", "tungsten.lock"):
            (left / name).unlink()
        (left / ".tungsten").rename(tmp_path / "elsewhere")
        (left / ".tungsten").symlink_to(tmp_path / "elsewhere")
        found = only("folders")
        assert found.things == ()
        assert "is a link" in found.left[0]
        found.remove()
        assert (tmp_path / "elsewhere").is_dir()


class TestEngine:
    def test_containers_go_whose_process_is_gone(self, alone, engine):
        elsewhere = "another-boot/1/2/3"
        engine.put(
            "container",
            container(ONE, "dead", TWO, DEAD, runs=True),
            container(TWO, "lives", TWO, started.this_process(), runs=True),
            container(THREE, "elsewhere", TWO, elsewhere, runs=True),
            container("4" * 64, "ended-elsewhere", TWO, elsewhere),
        )
        found = only("containers", "podman")
        assert found.things == ("dead, which still runs", "ended-elsewhere")
        assert found.left == (
            "lives: whoever has started it is there",
            "elsewhere: whoever has started it is elsewhere",
        )
        found.remove()
        assert engine.containers() == ["lives", "elsewhere"]

    def test_images_go_that_have_lost_their_name(self, alone, engine):
        shared = [("base", 100_000)]
        engine.put(
            "image",
            image(ONE, "localhost/blur:latest", layers=[*shared, ("new", 10)]),
            image(TWO, layers=[*shared, ("old", 3000)]),
            image(THREE, layers=[*shared, ("used", 500)]),
            image("4" * 64, layers=[*shared, ("left", 70)]),
        )
        engine.put(
            "container",
            container("5" * 64, "somebody's", THREE, None),
            container("6" * 64, "ours", "4" * 64, DEAD),
        )
        found = only("images", "podman")
        assert found.things == (f"blur {TWO[:12]}", "blur 444444444444")
        assert found.left == (f"blur {THREE[:12]}: a container is made of it",)
        assert found.size == 3070
        assert found.remove() == 3070
        assert set(engine.names()) == {ONE, THREE}

    def test_an_engine_that_fails_keeps_nothing_else_from_going(self, alone, engine):
        (engine.folder / "podman").write_text("#!/bin/sh\necho 'no space left on device' >&2\nexit 1\n")
        found = garbage.find([*garbage.UNASKED], "podman")
        assert [one.kind for one in found if one.problem] == ["containers", "images"]

    def test_without_an_engine_there_are_none(self, alone):
        assert only("containers").things == only("images").things == ()


class Store:
    """A store in which some paths are dead."""

    state = nix = None

    def __init__(self, place, links, *, is_own=True):
        self.place, self.is_own, self.links = place, is_own, links
        self.is_in_use = False
        place.mkdir()
        for name in ("one", "two"):
            (place / name).write_bytes(b"x" * 10_000)

    def roots(self):
        return [roots.Root(self, link, link) for link in self.links]

    def dead(self):
        return sorted(map(str, self.place.iterdir()))

    def size(self, paths):
        return 10_000 * len([path for path in paths if Path(path).exists()])

    def collect(self):
        (self.place / "one").unlink()


class TestStores:
    @pytest.fixture
    def two(self, tmp_path, monkeypatch):
        (tmp_path / "model" / ".tungsten").mkdir(parents=True)
        (tmp_path / "model" / ".tungsten" / "busy").touch()
        link = tmp_path / "model" / ".tungsten" / "roots" / "input"
        found = [Store(tmp_path / "own", [link]), Store(tmp_path / "machines", [], is_own=False)]
        monkeypatch.setattr(roots, "stores", lambda: found)
        return found

    def test_each_kind_is_its_own_stores(self, two):
        own, machines = two
        found = only("own-store")
        assert found.things == (f"{own.place}: 2 paths that no root holds",)
        assert found.size == 20_000
        # What has gone counts, and not what was to.
        assert found.remove() == 10_000
        assert len(machines.dead()) == 2
        assert only("store").remove() == 10_000
        assert len(machines.dead()) == 1

    def test_nothing_is_collected_while_a_model_is_worked_at(self, two, tmp_path):
        found = only("own-store")
        with (tmp_path / "model" / ".tungsten" / "busy").open() as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            reason = f"a tungsten is at work in {tmp_path / 'model'}"
            assert only("own-store").left == (f"{two[0].place}: {reason}",)
            with pytest.raises(TungstenError, match="it is left"):
                found.remove()
        assert len(two[0].dead()) == 2

    def test_nor_while_a_model_is_that_has_no_root_yet(self, two):
        found = only("own-store")
        with started.held(two[0].place):
            assert only("own-store").left == (f"{two[0].place}: a tungsten is at work on it",)
            assert len(only("store").things) == 1
            with pytest.raises(TungstenError, match="it is left"):
                found.remove()
        assert len(two[0].dead()) == 2


def test_the_cache_goes_as_a_whole_and_no_link_in_its_place(alone, tmp_path):
    cache = tmp_path / "cache" / "tungsten"
    (cache / "debian").mkdir(parents=True)
    (cache / "debian" / "index").write_bytes(b"x" * 10_000)
    found = only("cache")
    assert found.things == (str(cache),)
    assert found.remove() == found.size > 10_000
    cache.symlink_to(tmp_path)
    assert only("cache").things == ()


def test_tungstens_own_nix_goes_unless_it_is_at_work(alone):
    own = alone.store.state.parents[1] / "own"
    own.mkdir()
    (own / "nix").write_bytes(b"x" * 10_000)
    busy = alone.store.state / "temproots"
    busy.mkdir()
    with (busy / "1").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        assert "a Nix is at work" in only("nix").left[0]
    found = only("nix")
    assert found.things == (str(own.parent),)
    assert found.remove() == found.size > 10_000
    assert not own.parent.exists()
    assert only("nix").things == ()


CLEAN = """
import sys
from tungstenkit.cli.main import main
sys.argv = ["tungsten", "clean", "--yes", "--cache", "--folders", "--scratch", "--containers", "--images"]
main()
"""


def nothing_can_be_written():
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))


def test_nothing_is_written_to_make_room(machine, tmp_path):
    """As where a disk is full: no file can have a byte."""
    cache = tmp_path / "cache" / "tungsten"
    cache.mkdir(parents=True)
    (cache / "index").write_bytes(b"x" * 10_000)
    left = machine.model("left")
    for name in ("tungsten_model.py", "tungsten.lock"):
        (left / name).unlink()
    scratch = tmp_path / "temporary" / "tungsten-held-x"
    scratch.mkdir()
    probe = "import os; open(os.environ['PROBE'], 'w').write('x' * 100000)"
    command = [sys.executable, "-c", probe]
    environment = {**os.environ, "PROBE": str(tmp_path / "probe"), "TUNGSTEN_ENGINE": ""}
    failed = subprocess.run(command, preexec_fn=nothing_can_be_written, env=environment, capture_output=True)
    assert b"File too large" in failed.stderr
    run = subprocess.run(
        [sys.executable, "-c", CLEAN],
        preexec_fn=nothing_can_be_written,
        env=environment | {"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    assert not cache.exists()
    assert not (left / ".tungsten").exists()
    assert not scratch.exists()
    assert "removed what is left of models that are gone" in run.stdout
