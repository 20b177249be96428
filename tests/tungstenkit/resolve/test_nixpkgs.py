"""Locks for the package set `nixpkgs`, with solves that succeed or fail as a test says."""

import tomllib
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.tungstenkit.resolve.test_model import FakeSolver, spec
from tungstenkit.lock.document import Lock, read_lock
from tungstenkit.resolve import nixpkgs
from tungstenkit.resolve.compatible import GLIBC
from tungstenkit.resolve.nixpkgs import resolve
from tungstenkit.resolve.solver import Solver
from tungstenkit.sdk.errors import ResolveError

EXAMPLES = Path(__file__).resolve().parent.parent.parent.parent / "examples"


@pytest.fixture(autouse=True)
def _python_3_11(monkeypatch):
    # Not of `sys` itself: pytest asks it, too.
    monkeypatch.setattr(nixpkgs, "sys", SimpleNamespace(version_info=SimpleNamespace(major=3, minor=11)))


def python_of(lock):
    ((python, release),) = {(platform.python, platform.release) for platform in lock.platforms.values()}
    return python, release


def test_the_lock_holds_no_debian_and_is_sealed_as_it_is_made():
    lock = resolve(spec(), FakeSolver(), None)
    assert (lock.package_set, lock.sealed, lock.tools, lock.releases) == ("nixpkgs", True, {}, {})
    assert not any(platform.debs for platform in lock.platforms.values())
    assert '"debs"' not in lock.to_json()
    assert Lock.model_validate_json(lock.to_json()) == lock


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (None, ("3.11", "nixos-25.05")),
        ("3.9", ("3.9", "nixos-24.11")),
        ("3.10", ("3.10", "nixos-25.05")),
        ("3.12", ("3.12", "nixos-25.05")),
        ("3.14", ("3.14", "nixos-25.11")),
        ("3", ("3.14", "nixos-25.11")),
    ],
)
def test_each_python_is_taken_from_a_revision_that_has_it(asked, expected):
    lock = resolve(spec(python_version=asked), FakeSolver(), None)
    assert python_of(lock) == expected
    assert lock.flake_inputs["nixpkgs"].ref == expected[1]
    assert expected[1] in GLIBC


def test_a_python_that_no_revision_has_is_refused_with_what_there_is():
    with pytest.raises(ResolveError, match=r"Python 3\.15 is in none") as caught:
        resolve(spec(python_version="3.15"), FakeSolver(), None)
    assert "there are 3.14, 3.13, 3.12, 3.11, 3.10, 3.9" in caught.value.hint


def test_a_python_stays_until_the_model_asks_for_another():
    lock = resolve(spec(), FakeSolver(), None, python="3.12.4")
    assert python_of(lock)[0] == "3.12"
    assert resolve(spec(), FakeSolver(), lock) == lock
    assert python_of(resolve(spec(python_version="3.10"), FakeSolver(), lock))[0] == "3.10"


def test_the_next_python_is_tried_where_nothing_fits():
    lock = resolve(spec(), FakeSolver(without=["3.11", "3.14"]), None)
    assert python_of(lock)[0] == "3.13"
    assert "nothing fits on Python 3.11, 3.14" in lock.choices[0].reason


def test_where_nothing_fits_every_try_is_told():
    with pytest.raises(ResolveError) as caught:
        resolve(
            spec(python_version="3"), FakeSolver(without=["3.9", *(f"3.{n}" for n in range(10, 15))]), None
        )
    assert "with Python 3.14: nothing fits 3.14" in caught.value.what
    assert "with Python 3.9: nothing fits 3.9" in caught.value.what


def test_what_is_taken_for_each_system_package_is_recorded():
    lock = resolve(
        spec(system_packages=["libgl1", "mine"], nixpkgs={"mine": ["a.b", "c"]}), FakeSolver(), None
    )
    found = {choice.subject: (choice.chosen, choice.reason) for choice in lock.choices[1:]}
    assert found == {
        "libgl1": ("libGL", "the table of apt's names"),
        "mine": ("a.b, c", "[tool.tungsten.nixpkgs]"),
    }


def test_a_model_may_take_nothing_for_a_name():
    lock = resolve(spec(system_packages=["git"], nixpkgs={"git": []}), FakeSolver(), None)
    assert lock.choices[1].chosen == "nothing"


def test_unknown_system_packages_are_refused_all_at_once_with_what_is_near():
    with pytest.raises(ResolveError) as caught:
        resolve(spec(system_packages=["libgl1-messa-glx", "no-such", "git"]), FakeSolver(), None)
    assert "'libgl1-messa-glx'; near: libgl1-mesa-glx" in caught.value.what
    assert "'no-such'" in caught.value.what
    assert "'git'" not in caught.value.what
    pasted = tomllib.loads(caught.value.hint.partition("pyproject.toml:\n")[2])
    assert pasted["tool"]["tungsten"]["nixpkgs"] == {"libgl1": ["libGL"]}


def test_what_this_set_has_no_answer_to_is_refused_all_at_once():
    asked = spec(has_post_build=True, dockerfile_commands=["RUN true"], base_image="debian:12")
    with pytest.raises(
        ResolveError, match="post_build, dockerfile_commands, base_image: not available in the"
    ):
        resolve(asked, FakeSolver(), None)


def test_libraries_of_debians_are_noticed_and_count_for_nothing():
    solver = FakeSolver()
    resolve(spec(libraries={"libGL.so.1": "libgl1"}), solver, None)
    assert ["[tool.tungsten.libraries]" in notice for notice in solver.notices] == [True]


def test_nothing_is_built_from_source(tmp_path):
    solver = Solver(None, None, print, print, tmp_path, tmp_path)
    target = SimpleNamespace(release="nixos-25.05")
    with pytest.raises(ResolveError, match="wheels alone") as caught:
        solver.debs(target, {"build": ["gcc"]}, "the build of a 1", ())
    assert caught.value.where == "the build of a 1"


def test_a_lock_that_mixes_the_sets_is_refused():
    lock = resolve(spec(), FakeSolver(), None)
    debian = read_lock(EXAMPLES / "caption" / "tungsten.lock")
    with pytest.raises(ValueError, match="tools: not of this package set"):
        Lock.model_validate({**dict(lock), "tools": dict(debian.tools)})
    with pytest.raises(ValueError, match="flake-inputs: no nixpkgs; flake-inputs: no poetry2nix"):
        Lock.model_validate({**dict(lock), "flake_inputs": {}})
    with pytest.raises(ValueError, match="flake-inputs: not of this package set"):
        Lock.model_validate({**dict(debian), "flake_inputs": dict(lock.flake_inputs)})
