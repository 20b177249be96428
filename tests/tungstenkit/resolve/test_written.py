"""A lock says what was written, whatever the solver was given for it: real solves of all kinds of `python_packages`."""

import json
import subprocess
from datetime import UTC, datetime

import pytest

from tests.tungstenkit.resolve.package_index import serve, wheel
from tests.tungstenkit.resolve.test_model import FakeSolver, solution, spec
from tests.tungstenkit.resolve.test_sources import sdist
from tungstenkit.audit.vulnerabilities import Advisories
from tungstenkit.audit.why import why
from tungstenkit.fetch.mirrors import Mirrors
from tungstenkit.resolve.model import resolve
from tungstenkit.resolve.solver import Solver

SYSTEM = "x86_64-linux"
PROJECT = """[project]
name = "lib"
version = "1.2"
dependencies = ["base"]
optional-dependencies = {fast = ["speed"]}
"""
APP = wheel("app", "1", "base")
WHEELS = [
    *(wheel(name, "1") for name in ("base", "speed")),
    wheel("needs-foo", "1", "foo"),
    wheel("pillow", "12.0"),
    wheel("pydantic", "2.12"),
    wheel("setuptools", "80.0"),
    (*sdist("foo", "1.0"), b""),
]


class PythonOnly(Solver):
    """Python packages are solved; Debian's are made up, and the server needs none."""

    releases = FakeSolver().releases

    def debs(self, target, groups, where, prefer):
        return solution(groups)

    def wheels(self, *arguments, **options):
        return ()


@pytest.fixture
def model(tmp_path):
    """A model's folder with a project and a wheel in it."""
    (tmp_path / "model" / "lib").mkdir(parents=True)
    (tmp_path / "model" / "lib" / "pyproject.toml").write_text(PROJECT)
    (tmp_path / "model" / APP[0]).write_bytes(APP[1])
    return tmp_path / "model"


@pytest.fixture
def locked(model, tmp_path, monkeypatch):
    """Lock a model that asks for these; its lock."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")

    def locked(*entries, url, previous=None):
        scratch = tmp_path / f"scratch-{len(list(tmp_path.iterdir()))}"
        scratch.mkdir()
        mirrors = Mirrors((), (), url, None, datetime(2026, 3, 1, tzinfo=UTC))
        notices = []
        solver = PythonOnly(mirrors, None, lambda text: None, notices.append, model, scratch)
        asked = spec(python_packages=list(entries), python_version="3.13")
        lock = resolve(asked, solver, previous, systems=[SYSTEM])
        assert notices == []
        return lock

    with serve(WHEELS) as url:
        yield lambda *entries, **options: locked(
            *(entry.replace("URL", url.removesuffix("/simple")) for entry in entries), url=url, **options
        )


def needed_by(lock):
    platform = lock.platforms[SYSTEM]
    return {one.project: one.needed_by for one in (*platform.wheels, *platform.sources)}


@pytest.mark.parametrize(
    ("entry", "project"),
    [
        ("./lib", "lib"),
        ("lib @ ./lib", "lib"),
        ("Lib[fast] @ file:lib ; python_version >= '3'", "lib"),
        (f"./{APP[0]}", "app"),
        (f"APP @ ./{APP[0]}", "app"),
        ("foo @ URL/files/foo-1.0.tar.gz", "foo"),
        ("speed @ URL/files/speed-1-py3-none-any.whl", "speed"),
        ("Needs.Foo  >= 1", "needs-foo"),
    ],
)
def test_who_needs_what_is_told_in_the_users_words(locked, tmp_path, entry, project):
    lock = locked(entry)
    (wish,) = needed_by(lock)[project]
    written = lock.inputs["python-packages"]
    assert [wish] == [f"python_packages: {text}" for text in written]
    assert str(tmp_path) not in lock.to_json()


def test_what_a_folder_depends_on_is_needed_by_its_project(locked):
    found = needed_by(locked("./lib", "base>=1", "lib[fast] @ ./lib"))
    assert found["base"] == ("lib", "python_packages: base>=1")
    assert found["speed"] == ("lib",)
    assert found["lib"] == ("python_packages: ./lib", "python_packages: lib[fast] @ ./lib")


def test_a_git_repositorys_commit_is_needed_by_what_was_written(locked, model):
    git = ["git", "-c", "user.name=n", "-c", "user.email=e@host.example", "-C", str(model / "lib")]
    subprocess.run([*git, "init", "--quiet"], check=True)
    subprocess.run([*git, "add", "."], check=True)
    subprocess.run([*git, "commit", "--quiet", "-m", "one"], check=True)
    entry = f"lib @ git+{(model / 'lib').as_uri()}"
    assert needed_by(locked(entry))["lib"] == (f"python_packages: {entry}",)


def test_what_was_asked_for_from_source_was_asked_for_by_name(locked, tmp_path):
    lock = locked("foo>=1", "--no-binary foo")
    assert needed_by(lock)["foo"] == ("python_packages: foo>=1",)
    assert str(tmp_path) not in lock.to_json()


def test_why_finds_a_source_and_what_builds_it(locked):
    lock = locked("needs-foo")
    (foo,) = why(lock, "foo", Advisories())
    assert foo.chains == (("python_packages: needs-foo", "needs-foo", "foo"),)
    (setuptools,) = why(lock, "setuptools", Advisories())
    assert setuptools.place == "sources"
    assert setuptools.chains == (("the build of foo 1.0: setuptools>=40.8.0", "setuptools"),)


def test_relocking_changes_nothing_and_a_new_needer_only_itself(locked):
    entries = ["./lib", "foo", f"./{APP[0]}"]
    lock = locked(*entries)
    assert json.loads(locked(*entries, previous=lock).to_json()) == json.loads(lock.to_json())
    again = locked(*entries, "needs-foo", previous=lock)
    assert needed_by(again)["foo"] == ("needs-foo", "python_packages: foo")
    sources = {one.project: one for one in again.platforms[SYSTEM].sources}
    (foo,) = [one for one in lock.platforms[SYSTEM].sources if one.project == "foo"]
    assert sources["foo"] == foo.model_copy(update={"needed_by": sources["foo"].needed_by})
