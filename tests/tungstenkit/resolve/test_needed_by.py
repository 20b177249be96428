"""Who needs each wheel, as uv tells it: real solves against an index on the loopback, of wheels without contents."""

import pytest

from tests.tungstenkit import locks
from tests.tungstenkit.resolve.package_index import serve, view, wheel
from tungstenkit.platforms import Target
from tungstenkit.resolve.wheels import resolve_wheels

WHEELS = [
    wheel("app", "1", "lib[fast]>=1", "old ; python_version < '3.11'", "new ; python_version >= '3.11'"),
    wheel("lib", "1", "base", extras={"fast": ["speed"], "docs": ["docs"]}),
    wheel("other-app", "1", "base<2"),
    wheel("base", "1"),
    wheel("base", "2", "later"),
    *(wheel(name, "1") for name in ("speed", "docs", "old", "new", "later")),
]


@pytest.fixture
def solve(tmp_path, monkeypatch):
    """Who needs each project of a solution."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def solve(*requirements, prefer=(), **answers):
        with serve(WHEELS, **answers) as url:
            target = Target("x86_64-linux", "bookworm", "3.11")
            wheels = resolve_wheels(requirements, view(url, target), where="python_packages", prefer=prefer)
        return {wheel.project: wheel.needed_by for wheel in wheels}

    return solve


def test_extras_and_markers_count_as_they_did_in_the_solve(solve):
    assert solve("app", "base") == {
        "app": ("python_packages: app",),
        "base": ("lib", "python_packages: base"),
        "later": ("base",),
        "lib": ("app",),
        "new": ("app",),
        "speed": ("lib",),
    }


def test_the_users_own_words_are_kept(solve):
    needed_by = solve("other.app==1", "lib[docs] >= 1", "old ; python_version < '3'")
    assert needed_by == {
        "base": ("lib", "other-app"),
        "docs": ("lib",),
        "lib": ("python_packages: lib[docs] >= 1",),
        "other-app": ("python_packages: other.app==1",),
    }


def test_two_requirements_of_one_project_are_both_told(solve):
    assert solve("base>=1", "base!=1.5")["base"] == ("python_packages: base!=1.5", "python_packages: base>=1")


def test_an_index_that_may_not_be_kept_is_asked_again(solve):
    assert solve("new", cache_control="no-store") == {"new": ("python_packages: new",)}


def test_what_is_explained_is_what_the_pins_left(solve):
    """`base` 2 would be newer, and a solve of its own would take it."""
    pin = locks.wheel("base", "1")
    assert solve("lib", prefer=[pin], cache_control="no-store") == {
        "base": ("lib",),
        "lib": ("python_packages: lib",),
    }


def test_a_requirement_that_is_written_wrongly_counts_as_in_the_solve(tmp_path, monkeypatch):
    """omegaconf 2.0.6 asks for `PyYAML (>=5.1.*)`, which uv reads as it was meant."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    wheels = [
        wheel("conf", "1", "base (>=1.*)", "old (>=1.*) ; python_version < '3'"),
        wheel("base", "2"),
        wheel("old", "2"),
    ]
    with serve(wheels) as url:
        offered = view(url, Target("x86_64-linux", "bookworm", "3.11"))
        found = resolve_wheels(["conf"], offered, where="python_packages")
    assert {one.project: one.needed_by for one in found} == {
        "conf": ("python_packages: conf",),
        "base": ("conf",),
    }
