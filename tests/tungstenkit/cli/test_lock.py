"""`tungsten lock` and `tungsten why`: what they print where, what they write, and their exit status.

The solve is replaced by one that gives a new version of `numpy` unless the pins hold the old one.
"""

import hashlib
import json
import shlex
import shutil
import signal
import sys
import tempfile
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest

from tests import generate
from tests.tungstenkit import locks
from tests.tungstenkit.locks import SYSTEM
from tests.tungstenkit.observers import Unread
from tungstenkit.audit.vulnerabilities import Advisories, Vulnerability
from tungstenkit.cli import main as command_line
from tungstenkit.lock.document import LOCK_NAME, read_lock, write_lock
from tungstenkit.lock.parts import Choice, PostBuild
from tungstenkit.lock.stale import input_digest, made_from
from tungstenkit.project import folder as project_folder
from tungstenkit.project import locking
from tungstenkit.seal import steps
from tungstenkit.spec.document import LockFileWish, ModelSpec

NEW = "99.0"
OTHER_SYSTEM = "aarch64-linux"
RESULT = PostBuild(sees="0" * 64, files={}, size=1, sha256="0" * 64)


def with_numpy(lock, version):
    """The lock with numpy at a version."""
    platform = lock.platforms[SYSTEM]
    changed = [
        wheel.model_copy(
            update={
                "version": version,
                "file": wheel.file.replace(wheel.version, version),
                "sha256": hashlib.sha256(version.encode()).hexdigest(),
                "needed_by": ("python_packages: numpy",),
            }
        )
        if wheel.project == "numpy"
        else wheel
        for wheel in platform.wheels
    ]
    return lock.model_copy(
        update={"platforms": {SYSTEM: platform.model_copy(update={"wheels": tuple(changed)})}}
    )


@pytest.fixture
def model(tmp_path, monkeypatch):
    """A copy of an example with a fresh lock; its numpy is at version 1.0."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    example = generate.ROOT / "examples" / "caption"
    folder = tmp_path / "model"
    shutil.copytree(example, folder, ignore=shutil.ignore_patterns(".tungsten"))
    lock = read_lock(folder / LOCK_NAME)
    spec = ModelSpec.from_json((example / "spec.json").read_text())
    stated = {"inputs": made_from(spec, "debian"), "input_digest": input_digest(spec, "debian")}
    write_lock(with_numpy(lock.model_copy(update=stated), "1.0"), folder / LOCK_NAME)

    def resolve(spec, solver, pins, *arguments, **options):
        kept = pins and any(wheel.project == "numpy" for wheel in pins.platforms[SYSTEM].wheels)
        return with_numpy(lock.model_copy(update=stated), "1.0" if kept else NEW)

    known = (Vulnerability(id="CVE-1", urgency=None, fixed=(NEW,)),)
    advisories = Advisories(python={"numpy==1.0": known, f"numpy=={NEW}": ()}, notices=("not all was asked",))
    monkeypatch.setattr(
        "tungstenkit.fetch.machine_mirrors.find_mirrors",
        lambda folder, wishes, get=None: SimpleNamespace(notices=(), found=datetime(2026, 3, 1, tzinfo=UTC)),
    )
    monkeypatch.setattr(steps, "add_libraries", lambda lock, workshop: lock)
    monkeypatch.setattr("tungstenkit.spec.reading.Reading", Unread)
    monkeypatch.setattr(project_folder, "spec_of", lambda *arguments, **options: spec)
    monkeypatch.setattr(locking, "resolve", resolve)
    monkeypatch.setattr(locking, "look_up", lambda wanted, mirrors: advisories)
    return folder


@pytest.fixture
def tungsten(model, monkeypatch, capsys):
    """Runs a command; its exit status, what it made, what it told, and whether the lock is as it was."""
    handlers = {signum: signal.getsignal(signum) for signum in (signal.SIGTERM, signal.SIGHUP)}

    def run(*arguments):
        before = (model / LOCK_NAME).read_bytes()
        monkeypatch.setattr(sys, "argv", ["tungsten", *map(str, arguments)])
        with pytest.raises(SystemExit) as caught:
            command_line.main()
        out, err = capsys.readouterr()
        return caught.value.code or 0, out, err, (model / LOCK_NAME).read_bytes() == before

    yield run
    for signum, handler in handlers.items():
        signal.signal(signum, handler)


class TestLock:
    def test_a_lock_that_fits_keeps_its_pins(self, tungsten, model):
        status, out, err, _ = tungsten("lock", "--resolve-only", model)
        assert (status, out.strip()) == (0, str(model / LOCK_NAME))
        assert "nothing moved" in err
        assert "1 known vulnerability in numpy" in err
        assert "of numpy: `tungsten lock --security` takes these" in err
        assert "not all was asked" in err

    @pytest.mark.parametrize("option", [["--upgrade"], ["-P", "NumPy"], ["--upgrade-package", "numpy"]])
    def test_an_upgrade_tells_what_moved(self, tungsten, model, option):
        status, _, err, same = tungsten("lock", "--resolve-only", model, *option)
        assert (status, same) == (0, False)
        assert f"numpy 1.0 -> {NEW}" in err
        assert "closes 1 known vulnerability: CVE-1" in err

    def test_security_moves_what_a_fix_concerns_and_says_for_what(self, tungsten, model):
        status, _, err, same = tungsten("lock", "--resolve-only", model, "--security")
        assert (status, same) == (0, False)
        assert "1 moved, 0 added, 0 removed" in err
        assert f"numpy 1.0 -> {NEW}: closes CVE-1" in err
        _, _, err, _ = tungsten("lock", "--resolve-only", model, "--security")
        assert "no known vulnerability of what was checked is closed by something newer" in err

    def test_security_says_nothing_of_what_nobody_could_be_asked_about(self, tungsten, model, monkeypatch):
        advisories = Advisories(notices=("the tracker did not answer", "the index did not answer"))
        monkeypatch.setattr(locking, "look_up", lambda wanted, mirrors: advisories)
        status, _, err, same = tungsten("lock", "--resolve-only", model, "--security")
        assert (status, same) == (1, True)
        assert "can't be asked" in err
        assert "the tracker did not answer" in err
        assert "the index did not answer" in err
        assert "no known vulnerability" not in err
        assert tungsten("lock", "--resolve-only", model)[0] == 0

    def test_security_moves_nothing_where_what_fits_closes_nothing(self, tungsten, model, monkeypatch):
        known = (Vulnerability(id="CVE-1", urgency=None, fixed=("9.0",)),)
        advisories = Advisories(python={"numpy==1.0": known, f"numpy=={NEW}": known})
        monkeypatch.setattr(locking, "look_up", lambda wanted, mirrors: advisories)
        _, _, err, _ = tungsten("lock", "--resolve-only", model, "--security")
        assert "numpy 1.0 stays: what fits here of it closes none of CVE-1" in err
        assert "nothing moved" in err

    def test_security_is_no_upgrade_of_all(self, tungsten, model):
        status, _, err, same = tungsten("lock", model, "--security", "--upgrade")
        assert (status, same) == (2, True)
        assert "leave the other options out" in " ".join(err.replace("│", " ").split())

    def test_an_upgrade_of_what_is_not_locked_is_an_error(self, tungsten, model):
        status, _, err, same = tungsten("lock", "--resolve-only", model, "-P", "nump", "-P", "numpy")
        assert (status, same) == (1, True)
        assert "no package 'nump'; near: numpy" in err

    def test_what_can_not_move_is_named(self, tungsten, model):
        _, _, err, _ = tungsten("lock", "--resolve-only", model, "-P", "Pillow")
        pillow = next(
            wheel
            for wheel in read_lock(model / LOCK_NAME).platforms[SYSTEM].wheels
            if wheel.project == "pillow"
        )
        assert f"Pillow stays at {pillow.version}: no newer one fits" in " ".join(err.split())

    @pytest.mark.parametrize(
        ("name", "change", "said"),
        [
            ("base_image", {"base_image": locks.base_image()}, "its name still means the same image"),
            ("post_build", {"post_build": RESULT}, "was not run"),
        ],
    )
    def test_what_is_no_package_stays_for_a_reason_of_its_own(
        self, tungsten, model, monkeypatch, name, change, said
    ):
        lock = read_lock(model / LOCK_NAME)
        platform = lock.platforms[SYSTEM].model_copy(update=change)
        lock = lock.model_copy(update={"platforms": {SYSTEM: platform}})
        write_lock(lock, model / LOCK_NAME)
        monkeypatch.setattr(locking, "resolve", lambda *_, **__: lock)
        status, _, err, _ = tungsten("lock", "--diff", "--resolve-only", model, "-P", name)
        assert status == 0
        assert said in " ".join(err.split())

    def test_another_tools_lock_file_is_read_and_what_differs_from_it_is_told(
        self, tungsten, model, monkeypatch
    ):
        (model / "uv.lock").write_text('version = 1\npackage = [{name = "numpy", version = "0.5"}]\n')
        wish = LockFileWish(
            file="uv.lock", sha256=hashlib.sha256((model / "uv.lock").read_bytes()).hexdigest()
        )
        spec = project_folder.spec_of().model_copy(update={"lock_file": wish})
        stated = {"inputs": made_from(spec, "debian"), "input_digest": input_digest(spec, "debian")}
        choice = Choice(
            kind="lock-file", subject="numpy is not as uv.lock has it", chosen="1.0", reason="not 0.5: x"
        )
        lock = read_lock(model / LOCK_NAME)
        pinned = []

        def resolve(spec, solver, *_, **__):
            pinned.append(solver.pinned)
            return lock.model_copy(update={**stated, "choices": (*lock.choices, choice)})

        monkeypatch.setattr(project_folder, "spec_of", lambda *_, **__: spec)
        monkeypatch.setattr(locking, "resolve", resolve)
        said = "numpy is not as uv.lock has it: 1.0, not 0.5: x"
        assert said in tungsten("lock", "--resolve-only", model)[2]
        assert said not in tungsten("lock", "--resolve-only", model)[2]
        err = " ".join(tungsten("lock", "--resolve-only", model, "-P", "numpy")[2].split())
        assert (
            "numpy stays at 1.0: no newer one fits the model and what else is locked, or uv.lock has this one"
            in err
        )
        assert [(one.file.name, one.is_new) for one in pinned[:2]] == [("uv.lock", True), ("uv.lock", False)]

    def test_what_must_run_elsewhere_is_refused_before_anything_is_asked_for(
        self, tungsten, model, monkeypatch
    ):
        spec = project_folder.spec_of().model_copy(update={"has_post_build": True})
        monkeypatch.setattr(project_folder, "spec_of", lambda *arguments, **options: spec)
        monkeypatch.setattr(locking, "resolve", None)
        status, _, err, same = tungsten("lock", model, "--platform", OTHER_SYSTEM)
        assert (status, same) == (1, True)
        assert f"post_build must run on {OTHER_SYSTEM}" in err
        assert "looking for mirrors" not in err

    def test_a_folder_that_can_not_be_written_is_told_before_anything_is_asked_for(
        self, tungsten, model, monkeypatch
    ):
        monkeypatch.setattr(locking, "resolve", None)
        (model / ".tungsten").touch()
        status, _, err, same = tungsten("lock", model)
        assert (status, same) == (1, True)
        assert "the model's folder can't be written" in err

    def test_a_dockerignore_counts_for_nothing_and_that_is_said(self, tungsten, model):
        assert ".dockerignore" not in tungsten("lock", "--resolve-only", model)[2]
        (model / ".dockerignore").write_text("*.bin\n")
        said = " ".join(tungsten("lock", "--resolve-only", model)[2].split())
        assert said.count(".dockerignore is not read: include_files and exclude_files say") == 1

    @pytest.mark.parametrize("asked", [[], [OTHER_SYSTEM]])
    def test_an_upgrade_keeps_the_locks_platforms(self, tungsten, model, monkeypatch, asked):
        lock = read_lock(model / LOCK_NAME)
        both = [SYSTEM, OTHER_SYSTEM]
        parts = {
            part: dict.fromkeys(both, getattr(lock, part)[SYSTEM])
            for part in ("platforms", "server", "tools")
        }
        write_lock(lock.model_copy(update=parts), model / LOCK_NAME)
        solved = []

        def resolve(*arguments, systems, **options):
            solved.extend(systems)
            return lock

        monkeypatch.setattr(locking, "resolve", resolve)
        options = [f"--platform={system}" for system in asked]
        assert tungsten("lock", "--resolve-only", model, "--upgrade", *options)[0] == 0
        assert sorted(solved) == sorted(asked or both)

    @pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
    def test_an_interrupt_is_told_and_leaves_nothing(self, tungsten, model, monkeypatch, tmp_path, signum):
        scratch = tmp_path / "scratch"
        scratch.mkdir()
        monkeypatch.setattr(tempfile, "tempdir", str(scratch))

        def resolve(*arguments, **options):
            assert list(scratch.iterdir())
            signal.raise_signal(signum)

        monkeypatch.setattr(locking, "resolve", resolve)
        status, out, err, same = tungsten("lock", "--resolve-only", model)
        assert (status, out, same) == (130, "", True)
        assert "interrupted; nothing is half-written" in err
        assert list(scratch.iterdir()) == []

    def test_an_upgrade_needs_no_readable_lock(self, tungsten, model):
        (model / LOCK_NAME).write_text("{}")
        assert tungsten("lock", "--resolve-only", model)[0] == 1
        assert tungsten("lock", "--resolve-only", model, "--upgrade")[0] == 0
        assert read_lock(model / LOCK_NAME)


class TestDiff:
    def test_it_shows_what_locking_would_change_and_writes_nothing(self, tungsten, model):
        status, out, err, same = tungsten("lock", "--resolve-only", model, "--upgrade", "--diff")
        assert (status, same) == (0, True)
        (line,) = [line for line in out.splitlines() if line.startswith("numpy")]
        assert line.split()[:3] == ["numpy", "1.0", NEW]
        assert "-CVE-1" in line
        assert "would lock" in err

    def test_it_is_a_document_too(self, tungsten, model):
        _, out, _, same = tungsten("lock", "--resolve-only", model, "--upgrade", "--diff", "--json")
        assert same
        (change,) = json.loads(out)["changes"]
        assert (change["name"], change["before"], change["after"]) == ("numpy", "1.0", NEW)
        assert [one["id"] for one in change["closed"]] == ["CVE-1"]

    def test_what_was_locked_is_a_document_as_well(self, tungsten, model):
        _, out, _, same = tungsten("lock", "--resolve-only", model, "--upgrade", "--json")
        assert not same
        assert json.loads(out)["changes"]

    def test_against_an_older_lock_nothing_is_solved(self, tungsten, model, tmp_path, monkeypatch):
        monkeypatch.setattr(locking, "resolve", None)
        monkeypatch.setattr(project_folder, "spec_of", None)
        old = tmp_path / "old.lock"
        write_lock(with_numpy(read_lock(model / LOCK_NAME), "0.5"), old)
        status, out, _, same = tungsten("lock", model, "--against", old)
        assert (status, same) == (0, True)
        assert "0.5" in out
        assert tungsten("lock", model, "--against", "no-such-thing")[0] == 1


class TestCheck:
    def test_a_fresh_lock(self, tungsten, model, monkeypatch):
        monkeypatch.setattr("tungstenkit.fetch.machine_mirrors.find_mirrors", None)  # it is offline
        status, out, _, same = tungsten("lock", "--check", model)
        assert (status, same) == (0, True)
        assert "fits the model" in out

    def test_a_stale_lock_says_what_changed(self, tungsten, model, monkeypatch):
        changed = project_folder.spec_of().model_copy(update={"python_packages": ["scipy>=1"]})
        monkeypatch.setattr(project_folder, "spec_of", lambda *arguments, **options: changed)
        status, out, err, same = tungsten("lock", "--check", model)
        assert (status, out, same) == (1, "", True)
        assert "python_packages: +scipy>=1 -numpy" in err

    def test_a_lock_that_is_not_sealed(self, tungsten, model):
        lock = read_lock(model / LOCK_NAME)
        write_lock(lock.model_copy(update={"sealed": False}), model / LOCK_NAME)
        status, _, err, _ = tungsten("lock", "--check", model)
        assert status == 1
        assert "not sealed" in err

    def test_a_lock_that_is_damaged_or_missing(self, tungsten, model, monkeypatch):
        (model / LOCK_NAME).write_text('{"lock-version": 1}')
        assert tungsten("lock", "--check", model)[0] == 1
        (model / LOCK_NAME).unlink()
        monkeypatch.setattr(sys, "argv", ["tungsten", "lock", "--check", str(model)])
        with pytest.raises(SystemExit) as caught:
            command_line.main()
        assert caught.value.code == 1


@pytest.mark.parametrize(
    "options",
    [
        ["--check", "--upgrade"],
        ["--check", "--diff"],
        ["--against", "HEAD", "--check"],
        ["--against", "HEAD", "-P", "numpy"],
        ["--upgrade", "-P", "numpy"],
        ["--check", "--json"],
        ["--check", "--python", "3.11"],
        ["--against", "HEAD", "--platform", "x86_64-linux"],
    ],
)
def test_options_that_exclude_each_other_are_wrong_usage(tungsten, model, options):
    status, _, _, same = tungsten("lock", model, *options)
    assert (status, same) == (2, True)


class TestWhy:
    def test_it_tells_the_chain_from_the_lock_alone(self, tungsten, model, monkeypatch):
        monkeypatch.setattr("tungstenkit.fetch.machine_mirrors.find_mirrors", None)
        (model / "tungsten_model.py").unlink()
        status, out, err, _ = tungsten("why", "numpy", model)
        assert status == 0
        assert out.splitlines()[0].startswith("numpy 1.0 (Python wheel, ")
        assert "  python_packages: numpy" in out.splitlines()
        assert "not known here" in err

    def test_it_is_a_document_too(self, tungsten, model):
        _, out, _, _ = tungsten("why", "NumPy", model, "--json")
        (reason,) = json.loads(out)
        assert reason["chains"] == [["python_packages: numpy", "numpy"]]
        assert reason["vulnerabilities"] is None

    def test_an_unknown_name_is_an_error(self, tungsten, model):
        status, out, err, _ = tungsten("why", "nump", model)
        assert (status, out) == (1, "")
        assert "near: numpy" in err

    def test_an_empty_name_is_none_of_what_was_left_out(self, tungsten, model):
        assert "left out" not in tungsten("why", "", model)[2]

    def test_without_a_lock_the_command_is_named(self, tungsten, model):
        status, _, err, _ = tungsten("why", "numpy", model / "..")
        assert status == 1
        assert f"run `tungsten lock {shlex.quote(str(model / '..'))}`" in err
