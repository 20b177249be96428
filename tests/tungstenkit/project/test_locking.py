"""Making a lock: a value of what was made; what a person should know goes to the observer, and nothing is printed."""

import shutil
from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest

from tests import generate
from tests.tungstenkit.observers import Told
from tungstenkit.audit.vulnerabilities import Advisories
from tungstenkit.lock.document import LOCK_NAME, read_lock
from tungstenkit.lock.parts import Choice, Tungsten
from tungstenkit.project import locking
from tungstenkit.project.folder import Project
from tungstenkit.project.locking import Relock, make_lock
from tungstenkit.spec.document import ModelSpec

NOW = datetime(2026, 3, 1, tzinfo=UTC)
CHOICE = Choice(kind="library", subject="a needs b", chosen="c", reason="d")


@pytest.fixture
def project(tmp_path, monkeypatch):
    """Of a copy of an example with post_build, whose solve gives the example's lock and one choice more."""
    example = generate.ROOT / "examples" / "iris"
    shutil.copytree(example, tmp_path / "iris", ignore=shutil.ignore_patterns(".tungsten"))
    solved = read_lock(example / LOCK_NAME)
    solved = solved.model_copy(update={"sealed": False, "choices": (*solved.choices, CHOICE)})

    def resolve(_spec, solver, *_, **__):
        solver.notice("something was odd")
        return solved

    monkeypatch.setattr(
        "tungstenkit.fetch.machine_mirrors.find_mirrors",
        lambda *_, **__: SimpleNamespace(notices=("a mirror is slow",), found=NOW),
    )
    monkeypatch.setattr(locking, "resolve", resolve)
    monkeypatch.setattr(locking, "look_up", lambda *_: Advisories())
    spec = ModelSpec.from_json((example / "spec.json").read_text())
    return Project(tmp_path / "iris", spec, Told())


@pytest.fixture
def sealed(project, monkeypatch):
    """The steps of sealing, each with whether its lock was sealed by then."""
    steps = []

    def seal(lock, workshop):
        steps.append(("seal", lock.sealed))
        assert workshop.downloads.is_dir()
        return lock.model_copy(update={"sealed": True})

    def results(_project, lock, _workshop):
        steps.append(("results", lock.sealed))
        return lock

    monkeypatch.setattr(locking, "seal", seal)
    monkeypatch.setattr(locking, "_add_results", results)
    return steps


def test_what_was_made_is_a_value_and_nothing_is_printed(project, capsys):
    (project.directory / ".dockerignore").write_text("")
    project = replace(project, spec=project.spec.with_notices(["an option changes nothing"]))
    before = read_lock(project.lock_path)
    made = make_lock(project, Relock(resolve_only=True))
    assert capsys.readouterr() == ("", "")
    assert (made.before, made.lock) == (before, read_lock(project.lock_path))
    assert made.new_choices == [CHOICE]
    assert made.is_written
    assert made.lock.tungsten == Tungsten.this()
    assert made.wish.systems == tuple(before.platforms)
    said, dockerignore, *others = project.watch.notices
    assert said == "an option changes nothing"
    assert dockerignore.startswith(".dockerignore is not read")
    assert others == ["a mirror is slow", "something was odd"]
    assert project.watch.made == []


def test_a_lock_in_which_nothing_moves_but_days_is_left_as_it_is(project, monkeypatch):
    before = make_lock(project, Relock(resolve_only=True)).lock
    text = project.lock_path.read_bytes()

    def another_day(*_, **__):
        found = before.releases["trixie"]
        suites = tuple(one.model_copy(update={"date": "2030-01-01T00:00:00Z"}) for one in found.suites)
        newer = {**before.releases, "trixie": found.model_copy(update={"suites": suites})}
        return before.model_copy(update={"releases": newer})

    monkeypatch.setattr(locking, "resolve", another_day)
    made = make_lock(project, Relock(resolve_only=True))
    assert made.lock == before
    assert project.lock_path.read_bytes() == text
    # Where something else is otherwise, too, all of it counts.
    monkeypatch.setattr(locking, "resolve", lambda *_, **__: another_day().model_copy(update={"choices": ()}))
    made = make_lock(project, Relock(resolve_only=True))
    assert "2030-01-01" in project.lock_path.read_text()
    assert made.lock == read_lock(project.lock_path)


def test_what_is_only_asked_for_is_not_written(project, sealed):
    before = project.lock_path.read_bytes()
    made = make_lock(project, Relock(write=False))
    assert not made.is_written
    assert project.lock_path.read_bytes() == before
    # The user's own code does not run for it.
    assert sealed == [("seal", False)]


def test_the_models_own_steps_run_when_all_else_is_there(project, sealed):
    assert make_lock(project).lock.sealed
    assert sealed == [("seal", False), ("results", True)]


def test_a_base_image_is_read_for_each_platform_and_what_it_makes_void_is_told_once(project, monkeypatch):
    solve, given, read = locking.resolve, {}, []

    def resolve(*arguments, bases, **options):
        given.update(bases)
        return solve(*arguments, **options)

    def read_base(wish, system, _get):
        read.append((wish.reference, wish.python, system))
        return SimpleNamespace(system=SimpleNamespace(release=None), left=("HEALTHCHECK",), name=system)

    monkeypatch.setattr(locking, "resolve", resolve)
    monkeypatch.setattr(locking, "read_base", read_base)
    changes = {"base_image": "debian:12", "system_packages": ["git"]}
    project = replace(project, spec=project.spec.model_copy(update=changes))
    systems = ("aarch64-linux", "x86_64-linux")
    make_lock(project, Relock(resolve_only=True, write=False, systems=systems, python="3.11.2"))
    assert read == [("debian:12", "3.11", system) for system in systems]
    assert {system: base.name for system, base in given.items()} == dict(zip(systems, systems, strict=True))
    told = [text for text in project.watch.notices if "system_packages" in text or "taken over" in text]
    assert told == [
        "system_packages is ignored: the system is that of base_image; leave it out",
        "not taken over from debian:12: HEALTHCHECK",
    ]
