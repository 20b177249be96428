"""`tungsten` and locks for the package set `nixpkgs`: which set is locked, and what is refused."""

import json
import shutil
import sys
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest

from tests import generate
from tests.tungstenkit.observers import Unread
from tungstenkit.audit.vulnerabilities import Advisories
from tungstenkit.cli import main as command_line
from tungstenkit.lock.document import LOCK_NAME, read_lock
from tungstenkit.project import folder as project_folder
from tungstenkit.project import locking
from tungstenkit.spec.document import ModelSpec

NAME = "caption"


@pytest.fixture
def model(tmp_path):
    """A copy of an example with its lock for this set."""
    folder = tmp_path / "model"
    shutil.copytree(generate.ROOT / "examples" / NAME, folder, ignore=shutil.ignore_patterns(".tungsten"))
    shutil.copyfile(generate.GOLDEN / NAME / LOCK_NAME, folder / LOCK_NAME)
    return folder


@pytest.fixture
def solved(monkeypatch, model):
    """The package sets that were solved for, in order; each solve gives the committed lock of its set."""
    spec = ModelSpec.from_json((model / "spec.json").read_text())
    asked = []

    def give(package_set, folder):
        def resolve(spec, solver, pins, *arguments, **options):
            asked.append((package_set, pins is not None))
            return read_lock(folder / NAME / LOCK_NAME)

        return resolve

    monkeypatch.setattr("tungstenkit.spec.reading.Reading", Unread)
    monkeypatch.setattr(project_folder, "spec_of", lambda *arguments, **options: spec)
    monkeypatch.setattr(
        "tungstenkit.fetch.machine_mirrors.find_mirrors",
        lambda folder, wishes, get=None: SimpleNamespace(notices=(), found=datetime(2026, 3, 1, tzinfo=UTC)),
    )
    monkeypatch.setattr(locking, "resolve", give("debian", generate.ROOT / "examples"))
    monkeypatch.setattr("tungstenkit.resolve.nixpkgs.resolve", give("nixpkgs", generate.GOLDEN))
    monkeypatch.setattr(locking, "look_up", lambda wanted, mirrors: Advisories())
    return asked


@pytest.fixture
def tungsten(monkeypatch, capsys):
    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["tungsten", *map(str, arguments)])
        with pytest.raises(SystemExit) as caught:
            command_line.main()
        return caught.value.code or 0, capsys.readouterr().err

    return run


def test_a_lock_keeps_its_package_set(tungsten, model, solved):
    status, err = tungsten("lock", model)
    assert (status, solved) == (0, [("nixpkgs", True)])
    assert "locked x86_64-linux: Python 3.13 of nixos-25.05, 7 wheels" in err


def test_the_pins_of_the_other_set_are_not_its_own(tungsten, model, solved):
    assert tungsten("lock", "--package-set", "debian", "--resolve-only", model)[0] == 0
    assert tungsten("lock", "--package-set", "nixpkgs", model)[0] == 0
    assert solved == [("debian", False), ("nixpkgs", False)]
    assert read_lock(model / LOCK_NAME).package_set == "nixpkgs"


def test_without_a_lock_it_is_debian(tungsten, model, solved):
    (model / LOCK_NAME).unlink()
    assert tungsten("lock", "--resolve-only", model)[0] == 0
    assert solved == [("debian", False)]


def test_an_export_for_another_set_than_the_locks_is_refused(tungsten, model, tmp_path):
    status, err = tungsten("nix-export", model, "--package-set", "debian", "-o", tmp_path / "out")
    assert status == 1
    assert "the lock is for the package set nixpkgs" in err
    assert "tungsten lock --package-set debian" in err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("command", [["lock"], ["nix-export", "-o", "out"]])
def test_a_set_that_there_is_not_is_wrong_usage(tungsten, model, command):
    status, err = tungsten(*command, model, "--package-set", "guix")
    assert status == 2
    assert "debian" in err
    assert "nixpkgs" in err


def test_a_build_names_the_way_for_this_set(tungsten, model):
    status, err = tungsten("build", "--no-load", model)
    assert status == 1
    assert "tungsten nix-export" in err


def test_an_export_names_no_file_that_it_has_no_use_for(tungsten, model, solved, monkeypatch, tmp_path):
    mirrors = SimpleNamespace(notices=(), npm="https://npm.example")
    monkeypatch.setattr(
        "tungstenkit.fetch.machine_mirrors.find_mirrors", lambda folder, wishes, get=None: mirrors
    )
    found = {"0" * 64: ["https://index.example/a.whl"]}
    monkeypatch.setattr("tungstenkit.fetch.locate.locate", lambda *arguments: found)
    assert tungsten("nix-export", model, "-o", tmp_path / "out")[0] == 0
    assert json.loads((tmp_path / "out" / "sources.json").read_text()) == found
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "thesis.tex").touch()
    status, err = tungsten("nix-export", model, "-o", tmp_path / "thesis")
    assert status == 1
    assert "hint: remove it; -o names another folder" in err
