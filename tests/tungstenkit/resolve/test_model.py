"""The choice of Python and Debian release, with solves that succeed or fail as a test says."""

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from tungstenkit.errors import FetchError, ResolveError
from tungstenkit.lock import Release, read_lock
from tungstenkit.resolve.debs import Choice, DebSolution, ResolvedDeb
from tungstenkit.resolve.model import resolve
from tungstenkit.spec import ModelSpec

EXAMPLES = Path(__file__).resolve().parent.parent.parent.parent / "examples"
HASH = "0" * 64


class FakeSolver:
    """Answers each question with one package; wheels fail for the Pythons in `without`."""

    def __init__(self, without=(), error=ResolveError):
        self.without = without
        self.error = error
        self.asked = []
        self.releases = dict.fromkeys(["bookworm", "trixie"], Release(suites=(), timestamps={}))

    def report(self, text):
        pass

    def index(self, release):
        return release

    def debs(self, release, groups, where, prefer):
        self.asked.append((release, {group: list(names) for group, names in groups.items()}))
        return solution(*(name for names in groups.values() for name in names))

    def wheels(self, requirements, python, release, where, prefer):
        if python in self.without and where == "python_packages":
            raise self.error(f"nothing fits {python}", where=where)
        return ()


def solution(*names):
    debs = [
        ResolvedDeb(n, "1", "amd64", f"mirror://debian/pool/{n}_1_amd64.deb", 1, HASH, "base") for n in names
    ]
    return DebSolution(debs, [Choice("alternative", "a | b", "a", "the first")])


def spec(**changes):
    """A declaration that asks for nothing."""
    base = ModelSpec.from_json((EXAMPLES / "blur" / "spec.json").read_text())
    return base.model_copy(update=changes)


def python_of(lock):
    (platform,) = lock.platforms.values()
    return platform.python, platform.release


@pytest.mark.parametrize(
    ("here", "expected"),
    [((3, 11), ("3.11", "bookworm")), ((3, 13), ("3.13", "trixie")), ((3, 12), ("3.13", "trixie"))],
)
def test_the_python_that_locks_is_preferred_if_debian_has_it(monkeypatch, here, expected):
    monkeypatch.setattr(sys, "version_info", SimpleNamespace(major=here[0], minor=here[1]))
    assert python_of(resolve(spec(), FakeSolver(), None)) == expected


def test_the_first_python_whose_whole_solve_succeeds_is_taken_and_the_lock_says_why(monkeypatch):
    monkeypatch.setattr(sys, "version_info", SimpleNamespace(major=3, minor=11))
    lock = resolve(spec(), FakeSolver(without=["3.11"]), None)
    assert python_of(lock) == ("3.13", "trixie")
    assert lock.choices[0].kind == "python"
    assert "Python 3.11 failed: nothing fits 3.11" in lock.choices[0].reason


def test_a_recorded_python_does_not_move_on_another_machine(monkeypatch):
    monkeypatch.setattr(sys, "version_info", SimpleNamespace(major=3, minor=11))
    previous = read_lock(EXAMPLES / "caption" / "tungsten.lock")
    assert python_of(resolve(spec(), FakeSolver(), previous)) == ("3.13", "trixie")


@pytest.mark.parametrize(("asked", "expected"), [("3.11", "3.11"), ("3.13", "3.13"), ("3", "3.13")])
def test_a_python_that_is_asked_for_is_taken(asked, expected):
    assert python_of(resolve(spec(python_version=asked), FakeSolver(), None))[0] == expected


def test_relocking_keeps_the_reason_too():
    previous = resolve(spec(), FakeSolver(), None)
    assert resolve(spec(), FakeSolver(), previous).choices == previous.choices


def test_a_python_that_debian_lacks_is_refused_with_what_there_is():
    with pytest.raises(ResolveError, match=r"Python 3\.12") as caught:
        resolve(spec(python_version="3.12"), FakeSolver(), None)
    assert "3.11 (bookworm), 3.13 (trixie)" in caught.value.hint


def test_where_nothing_fits_every_try_is_told():
    with pytest.raises(ResolveError) as caught:
        resolve(spec(), FakeSolver(without=["3.11", "3.13"]), None)
    assert "with Python 3.11: nothing fits 3.11" in caught.value.what
    assert "with Python 3.13: nothing fits 3.13" in caught.value.what


def test_a_broken_network_is_no_reason_to_choose_another_python():
    with pytest.raises(FetchError):
        resolve(spec(), FakeSolver(without=["3.11"], error=FetchError), None)


def test_system_packages_are_a_group_of_their_own():
    solver = FakeSolver()
    resolve(spec(system_packages=["fonts-dejavu-core"]), solver, None)
    _, groups = solver.asked[0]
    assert list(groups) == ["base", "python", "system"]
    assert groups["system"][0] == "fonts-dejavu-core"


def test_with_system_packages_come_the_essential_ones_that_they_may_use():
    """Debian policy 3.8: packages do not name them among their dependencies."""
    solver = FakeSolver()
    lock = resolve(spec(system_packages=["git"]), solver, None)
    _, groups = solver.asked[0]
    assert {"coreutils", "sed", "grep"} <= set(groups["system"])
    assert [choice.chosen for choice in lock.choices if choice.kind == "essential"]
    solver = FakeSolver()
    resolve(spec(), solver, None)
    assert solver.asked[0][1]["system"] == []


def test_a_cuda_version_is_refused_until_it_can_be_chosen():
    with pytest.raises(ResolveError, match="CUDA"):
        resolve(spec(gpu=True, cuda_version="12.4"), FakeSolver(), None)


def test_a_new_lock_is_not_sealed():
    assert resolve(spec(), FakeSolver(), None).sealed is False
