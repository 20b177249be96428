"""When post_build runs, what is recorded of it, and who is told its secrets."""

import json
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.tungstenkit import locks
from tests.tungstenkit.audit.test_post_build_seen import Model, lock_with
from tests.tungstenkit.observers import View
from tests.tungstenkit.seal.bench import FakeBench
from tests.tungstenkit.seal.test_differences import tar
from tungstenkit import store
from tungstenkit.lock.parts import Files, LockedDownload, PostBuild
from tungstenkit.nix_build.log import Log
from tungstenkit.sdk.errors import BuildError, LockError
from tungstenkit.seal import post_build
from tungstenkit.seal.post_build import add_post_build
from tungstenkit.seal.twice import MismatchError

HERE = locks.SYSTEM
OTHER = {"x86_64-linux": "aarch64-linux", "aarch64-linux": "x86_64-linux"}[HERE]


@pytest.fixture
def model(tmp_path):
    model = Model(tmp_path / "model")
    model.folder.mkdir()
    model.write()
    (model.folder / "helper.py").write_text("1")
    return model


@pytest.fixture
def platform():
    lock = locks.lock(locks.deb("one"), locks.wheel("two"), locks.source("three"))
    return lock.platforms[HERE]


@pytest.fixture
def machine(model, tmp_path, monkeypatch):
    """Runs nothing: `results` are what the runs make; the store has what was made."""
    runs = []
    made = set()
    bench = FakeBench(
        model.spec,
        model.folder,
        model.files,
        step=lambda lock, system: SimpleNamespace(state=tmp_path, view=View()),
        fake_time=lambda target: Path(f"/faketime-{target.release}"),
    )

    def make(step, file, **how):
        runs.append(how)
        result = tar(tmp_path / f"result-{len(runs)}.tar", results[len(runs) - 1])
        made.add(result)
        return result

    results = [{"app/made": b"1", "app/helper.py": b"2", "home/nonroot/x": b""}] * 2
    monkeypatch.setattr(post_build, "make", make)
    monkeypatch.setattr(post_build, "discard", lambda step: None)
    monkeypatch.setattr(store, "hold", lambda path, link: None)
    monkeypatch.setattr(store, "missing", lambda paths: set())
    return SimpleNamespace(bench=bench, runs=runs, results=results, model=model)


def test_it_runs_twice_and_its_result_is_recorded(machine, platform):
    lock = add_post_build(lock_with(None, platform), None, machine.bench)
    entry = lock.platforms[HERE].post_build
    assert [how["again"] for how in machine.runs] == [False, True]
    assert [how["fake_time"] for how in machine.runs] == [None, Path(f"/faketime-{platform.release}")]
    assert entry.replaces == ("helper.py",)
    assert entry.size > 0
    assert entry.sha256 != "0" * 64


def test_what_files_brings_is_not_to_be_made(machine, platform):
    """The image can't have both; a build would be the first to say so."""
    download = LockedDownload(url="http://loopback/made", size=1, sha256="0" * 64, to="made")
    lock = lock_with(None, platform).model_copy(update={"files": Files(downloads=(download,))})
    with pytest.raises(LockError, match=r"makes what files=\[…\] brings already: made"):
        add_post_build(lock, None, machine.bench)


def test_it_does_not_run_while_it_sees_the_same(machine, platform):
    lock = add_post_build(lock_with(None, platform), None, machine.bench)
    machine.runs.clear()
    assert add_post_build(lock_with(None, platform), lock, machine.bench) == lock
    assert machine.runs == []


def test_it_runs_again_where_its_result_is_gone_or_it_sees_another(machine, platform, monkeypatch):
    lock = add_post_build(lock_with(None, platform), None, machine.bench)
    monkeypatch.setattr(store, "missing", set)
    machine.runs.clear()
    add_post_build(lock_with(None, platform), lock, machine.bench)
    assert len(machine.runs) == 2
    monkeypatch.setattr(store, "missing", lambda paths: set())
    machine.runs.clear()
    other = platform.model_copy(update={"wheels": ()})
    add_post_build(lock_with(None, other), lock, machine.bench)
    assert len(machine.runs) == 2


def test_another_platforms_result_is_kept_and_never_made(machine, platform):
    with pytest.raises(LockError, match=f"must run on {OTHER}"):
        add_post_build(lock_with(None, platform, OTHER), None, machine.bench)
    entry = machine.model.planned(platform)
    kept = add_post_build(lock_with(None, platform, OTHER), lock_with(entry, platform, OTHER), machine.bench)
    assert kept.platforms[OTHER].post_build == entry
    assert machine.runs == []


def test_a_file_that_it_makes_unseen_is_refused(machine, platform):
    (machine.model.folder / "pyproject.toml").write_text("[tool.tungsten.post-build]\nfiles = []\n")
    with pytest.raises(LockError, match=r"has already: helper\.py") as caught:
        add_post_build(lock_with(None, platform), None, machine.bench)
    assert 'exclude_files=[".*", "__pycache__/", "*.py[cod]", "/helper.py"]' in caught.value.hint


def test_nothing_runs_without_the_variables_that_it_names(machine, platform, monkeypatch):
    (machine.model.folder / "pyproject.toml").write_text(
        '[tool.tungsten.post-build]\nenvironment = ["A_TOKEN"]\n'
    )
    monkeypatch.delenv("A_TOKEN", raising=False)
    with pytest.raises(LockError, match="needs A_TOKEN"):
        add_post_build(lock_with(None, platform), None, machine.bench)
    assert machine.runs == []
    monkeypatch.setenv("A_TOKEN", "value-of-it")
    lock = add_post_build(lock_with(None, platform), None, machine.bench)
    assert all(how["secrets"].startswith("tungsten-") for how in machine.runs)
    assert "value-of-it" not in lock.to_json()


def test_a_model_without_it_is_left_alone(machine, platform):
    lock = lock_with(None, platform)
    assert add_post_build(lock, None, replace(machine.bench, spec=locks.spec())) is lock


ENTRY = PostBuild(sees="1" * 64, files={}, size=1, sha256="2" * 64)


def test_another_result_than_recorded_says_what_to_do(monkeypatch, model):
    def make(step, file, **how):
        raise MismatchError(how["sha256"], "3" * 64)

    monkeypatch.setattr(post_build, "make", make)
    monkeypatch.setattr(post_build, "discard", lambda step: None)
    with pytest.raises(BuildError, match="something else than when the model was locked") as caught:
        post_build.provide(ENTRY, None, model.spec)
    assert "tungsten lock" in caught.value.hint


@pytest.mark.parametrize(
    ("log", "hint"),
    [
        ("OSError: [Errno 30] Read-only file system: '/usr/x'", "below HOME"),
        ("OSError: [Errno 30] Read-only file system: '/app/weights/w.bin'", "a big file can only be read"),
        ("OSError: [Errno 16] Device or resource busy: '/app/new' -> '/app/w.bin'", "big-file-mb"),
        ("OSError: [Errno 16] Device or resource busy: 'w.bin'", "big-file-mb"),
        (
            "in _execute_child\n    raise\nFileNotFoundError: [Errno 2] No such file or directory: 'git'",
            "`apt-file search bin/git` says which",
        ),
        ("ModuleNotFoundError: No module named 'scipy'", "python_packages"),
        (
            "    raise KeyError(key) from None\nKeyError: 'HF_TOKEN'",
            "`environment` in [tool.tungsten.post-build]",
        ),
        ("requests.exceptions.HTTPError: 401 Client Error: Unauthorized", "`environment` in"),
        ("urllib.error.URLError: <urlopen error [Errno 111] Connection refused>", "network"),
    ],
)
def test_a_failure_says_what_its_log_calls_for(monkeypatch, model, log, hint):
    def make(step, file, **how):
        raise BuildError(log, where="a step", step="post-build-1.tar")

    monkeypatch.setattr(post_build, "make", make)
    monkeypatch.setattr(post_build, "discard", lambda step: None)
    with pytest.raises(BuildError) as caught:
        post_build.provide(ENTRY, SimpleNamespace(view=View()), model.spec)
    assert caught.value.where == "post_build of tungsten_model.Model"
    assert hint in caught.value.hint


def test_while_it_is_locked_the_package_of_a_missing_program_is_looked_up(monkeypatch, machine, platform):
    def make(step, file, **how):
        log = "in _execute_child\nFileNotFoundError: [Errno 2] No such file or directory: 'sleep'"
        raise BuildError(log, step="post-build-1.tar")

    monkeypatch.setattr(post_build, "make", make)
    with pytest.raises(BuildError) as caught:
        add_post_build(lock_with(None, platform), None, machine.bench)
    assert caught.value.hint == f"add 'sleep-of-{platform.release}' to system_packages: it has sleep"


def test_a_file_that_ships_and_was_not_to_be_seen_is_named(monkeypatch, machine, platform):
    """A template's `files` outlives the file that it names."""
    (machine.model.folder / "pyproject.toml").write_text('[tool.tungsten.post-build]\nfiles = ["data.csv"]\n')

    def make(step, file, **how):
        raise BuildError("No such file or directory: 'helper.py'", step="post-build-1.tar")

    monkeypatch.setattr(post_build, "make", make)
    with pytest.raises(BuildError) as caught:
        add_post_build(lock_with(None, platform), None, machine.bench)
    assert caught.value.hint == (
        "`files` in [tool.tungsten.post-build] of pyproject.toml leaves helper.py out: add it there"
    )


TRACEBACK = (
    'Traceback (most recent call last):\n  File "/app/m.py", line 3, in post_build\n    run()\n'
    "OSError: [Errno 30] Read-only file system: '/usr/x'\n"
)


def failed(printed):
    """What is raised of a step that has printed something and failed, as Nix tells of it."""
    derivation = f"/nix/store/{'0' * 32}-post-build-1.tar.drv"
    start = {"action": "start", "id": 1, "type": 105, "fields": [derivation, "", 1, 1]}
    lines = [{"action": "result", "id": 1, "type": 101, "fields": [line]} for line in printed.splitlines()]
    end = {"action": "msg", "level": 0, "msg": f"error: builder for '{derivation}' failed with exit code 1"}
    log = Log(View())
    for event in (start, *lines, end):
        log.read(f"@nix {json.dumps(event)}\n")
    return log.error(1)


@pytest.mark.parametrize("shows", [False, True])
@pytest.mark.parametrize(
    ("before", "last"),
    [
        (
            TRACEBACK.partition("OSError")[0],
            f"{TRACEBACK.splitlines()[-1]}\nerror: post_build ended with status 1",
        ),
        (f"error: of the user's\n{TRACEBACK}", "error: a secret would be in the image:\n/app/a: holds X"),
    ],
)
def test_what_a_person_has_seen_already_is_not_said_again(monkeypatch, model, shows, before, last):
    """Whatever stderr is: what the user's code prints is shown as it comes. The hint is still that of all of it."""
    problem = failed(before + last)

    def make(step, file, **how):
        raise problem

    monkeypatch.setattr(post_build, "make", make)
    monkeypatch.setattr(post_build, "discard", lambda step: None)
    with pytest.raises(BuildError) as caught:
        post_build.provide(ENTRY, SimpleNamespace(view=View(shows=shows)), model.spec)
    printed = last if shows else before + last
    assert caught.value.what == re.sub("(?m)^error: ", "", printed)
    assert "below HOME" in caught.value.hint
