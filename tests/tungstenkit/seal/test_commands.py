"""Sealing commands: what runs, how often, what is recorded, and when a record no longer stands."""

import io
import shutil
import tarfile
from types import SimpleNamespace

import pytest

from tests.tungstenkit.audit.test_commands_seen import DOWNLOAD, EXAMPLE, files, spec
from tests.tungstenkit.observers import View
from tests.tungstenkit.seal.bench import FakeBench
from tungstenkit.audit import commands_seen
from tungstenkit.lock.document import read_lock
from tungstenkit.lock.parts import CommandResult
from tungstenkit.platforms import this_system
from tungstenkit.sdk.errors import BuildError, LockError
from tungstenkit.seal import commands
from tungstenkit.seal.twice import MismatchError


@pytest.fixture
def directory(tmp_path):
    """A model's folder."""
    shutil.copy(EXAMPLE / "tungsten_model.py", tmp_path)
    (tmp_path / "sub").mkdir()
    for name in ("data", "other", "sub/file"):
        (tmp_path / name).write_text(name)
    return tmp_path


@pytest.fixture
def lock():
    """A lock of this machine's platform."""
    lock = read_lock(EXAMPLE / "tungsten.lock")
    platform = next(iter(lock.platforms.values()))
    return lock.model_copy(update={"platforms": {this_system(): platform}})


class Machine:
    """Stands for Nix: what each run makes is a file, and what was made is in the store."""

    def __init__(self, monkeypatch, folder):
        self.folder = folder
        self.view = View()
        self.ran = []
        self.made = {}
        self.contents = {}
        monkeypatch.setattr(commands, "make", self.make)
        self.discarded = []
        monkeypatch.setattr(commands, "discard", lambda step: self.discarded.append(step.name))
        monkeypatch.setattr(commands.store, "hold", lambda path, link: None)
        monkeypatch.setattr(commands.store, "file_path", lambda sha256, name: f"{sha256} {name}")
        monkeypatch.setattr(commands.store, "missing", lambda paths: set(paths) - set(self.made))

    def make(self, step, file, *, again=False, fake_time=None, sha256=None):
        self.ran.append((step.name, again))
        path = self.folder / f"{step.name}-{again}"
        path.write_bytes(self.contents.get((step.name, again), step.name.encode()))
        return path

    def bench(self, spec, directory):
        def step(lock, system, name):
            self.lock = lock
            return SimpleNamespace(name=name, state=self.folder, view=self.view)

        return FakeBench(spec, directory, files(directory), step, lambda target: None)


@pytest.fixture
def machine(monkeypatch, tmp_path_factory):
    return Machine(monkeypatch, tmp_path_factory.mktemp("machine"))


def test_every_segment_runs_twice_and_the_networks_result_is_recorded(lock, directory, machine):
    wanted = spec("RUN a", DOWNLOAD, "RUN b")
    locked = commands.add_commands(lock, None, machine.bench(wanted, directory))
    assert machine.ran == [(f"command-{number}", again) for number in range(3) for again in (False, True)]
    assert machine.discarded == ["command-0", "command-1", "command-2"]
    (entry,) = locked.platforms[this_system()].commands
    assert (entry.size, entry.file) == (len(b"command-1"), f"command-{entry.sees[:16]}.tar")
    # What comes after it is built upon the result.
    assert machine.lock.platforms[this_system()].commands == (entry,)
    commands_seen.check(locked, wanted, directory, files(directory), "tungsten.lock")


def test_a_result_that_comes_out_again_runs_once(lock, directory, machine, monkeypatch):
    wanted = spec(DOWNLOAD)
    before = commands.add_commands(lock, None, machine.bench(wanted, directory))
    (entry,) = before.platforms[this_system()].commands
    monkeypatch.setattr(commands, "result_path", lambda entry: machine.folder / "command-0-False")
    machine.ran.clear()
    after = commands.add_commands(lock, before, machine.bench(wanted, directory))
    assert after.platforms[this_system()].commands == (entry,)
    assert machine.ran == [("command-0", False)]


def test_a_result_that_is_there_stands(lock, directory, machine):
    wanted = spec(DOWNLOAD, "RUN a")
    before = commands.add_commands(lock, None, machine.bench(wanted, directory))
    (entry,) = before.platforms[this_system()].commands
    machine.made[str(commands.result_path(entry))] = True
    machine.ran.clear()
    assert commands.add_commands(lock, before, machine.bench(wanted, directory)) == before
    assert {name for name, _ in machine.ran} == {"command-1"}


def test_what_stands_on_a_result_is_made_again_where_that_is_another(lock, directory, machine):
    wanted = spec(DOWNLOAD, "RUN a", DOWNLOAD)
    before = commands.add_commands(lock, None, machine.bench(wanted, directory))
    first, second = before.platforms[this_system()].commands
    machine.made[str(commands.result_path(second))] = True
    machine.contents |= {("command-0", again): b"another" for again in (False, True)}
    machine.ran.clear()
    after = commands.add_commands(lock, before, machine.bench(wanted, directory))
    assert ("command-2", False) in machine.ran
    other, above = after.platforms[this_system()].commands
    assert other.sees == first.sees
    assert above.sees != second.sees
    commands_seen.check(after, wanted, directory, files(directory), "tungsten.lock")


def test_what_differs_is_refused_with_its_line(lock, directory, machine, tmp_path_factory):

    for again, text in ((False, b"one"), (True, b"two")):
        made = io.BytesIO()
        with tarfile.open(fileobj=made, mode="w") as tar:
            member = tarfile.TarInfo("opt/when")
            member.size = len(text)
            tar.addfile(member, io.BytesIO(text))
        machine.contents["command-0", again] = made.getvalue()
    with pytest.raises(LockError, match="/opt/when") as error:
        commands.add_commands(lock, None, machine.bench(spec("\nRUN date"), directory))
    assert error.value.where == "dockerfile_commands[0], line 2"


def test_what_must_run_elsewhere_is_not_locked_here(lock, directory, machine):
    (platform,) = lock.platforms.values()
    elsewhere = lock.model_copy(update={"platforms": {"other-system": platform}})
    with pytest.raises(LockError, match="must run on other-system"):
        commands.add_commands(elsewhere, None, machine.bench(spec(DOWNLOAD), directory))
    # Without the network nothing is recorded, so nothing must run.
    assert commands.add_commands(elsewhere, None, machine.bench(spec("RUN a"), directory)) == elsewhere
    assert machine.ran == []


def test_what_must_run_elsewhere_is_known_before_anything_is_solved(lock):
    (platform,) = lock.platforms.values()
    result = CommandResult(sees="0" * 64, size=1, sha256="0" * 64)
    done = platform.model_copy(update={"commands": (result,)})
    before = lock.model_copy(update={"platforms": {"other-system": done}})
    for wanted, previous in (
        (spec(DOWNLOAD), None),
        (spec(DOWNLOAD), lock),
        (spec(DOWNLOAD, DOWNLOAD), before),
    ):
        with pytest.raises(LockError, match="must run on other-system"):
            commands.refuse_elsewhere(wanted, "other-system", previous)
    commands.refuse_elsewhere(spec(DOWNLOAD), "other-system", before)  # it may stand
    commands.refuse_elsewhere(spec("RUN a"), "other-system", None)
    commands.refuse_elsewhere(spec(DOWNLOAD), this_system(), None)


def test_a_stale_record_is_told(lock, directory, machine):
    wanted = spec("COPY data /x", DOWNLOAD)
    locked = commands.add_commands(lock, None, machine.bench(wanted, directory))
    (directory / "data").write_text("changed")
    with pytest.raises(LockError, match="stale"):
        commands_seen.check(locked, wanted, directory, files(directory), "tungsten.lock")


@pytest.mark.parametrize("shows", [False, True])
def test_a_failure_says_its_line_what_happened_and_what_to_do(lock, directory, machine, monkeypatch, shows):
    told = {"kind": "command", "log": "x: not found"}
    words = {"where": "dockerfile_commands[3], line 2", "hint": "name the package"}

    def fails(*_arguments, **_options):
        raise BuildError("the command ended with status 1", **words, told={**told, **words})

    monkeypatch.setattr(commands, "make", fails)
    machine.view.is_shown = shows
    with pytest.raises(BuildError) as error:
        commands.add_commands(lock, None, machine.bench(spec("RUN x"), directory))
    log = [] if shows else ["x: not found"]  # what a person has seen already
    assert error.value.what.split("\n") == ["the command ended with status 1", *log]
    assert (error.value.where, error.value.hint) == ("dockerfile_commands[3], line 2", "name the package")


def test_a_result_that_is_gone_is_made_again_or_refused(lock, directory, machine, monkeypatch):
    wanted = spec("RUN a", DOWNLOAD)
    locked = commands.add_commands(lock, None, machine.bench(wanted, directory))
    platform = locked.platforms[this_system()]
    assert commands.missing(wanted, platform) == [1]

    def other(*_arguments, **_options):
        raise MismatchError("a", "b")

    monkeypatch.setattr(commands, "make", other)
    step = SimpleNamespace(name="command-1", state=directory)
    with pytest.raises(BuildError, match="something else than when the model was locked"):
        commands.provide(1, platform, step, wanted)
    assert machine.discarded[-1] == "command-1"
