"""What was left out is told, and on a machine on which all is installed nothing may be."""

import json
import re
import shutil
import subprocess

import pytest

from tests import machine
from tests.machine import need


def test_what_is_lacking_leaves_a_test_out_by_one_wording(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert machine.lacks("podman", "skopeo") == ["podman", "skopeo"]
    with pytest.raises(pytest.skip.Exception, match=r"^needs skopeo, podman$"):
        machine.need("skopeo", "podman")
    mark = machine.needs("podman").mark
    assert (mark.args, mark.kwargs["reason"]) == ((True,), "needs podman")
    (tmp_path / "podman").write_text("#!/bin/sh\n")
    (tmp_path / "podman").chmod(0o755)
    machine.need("podman")
    assert machine.needs("podman").mark.args == (False,)


def test_without_any_nix_what_needs_it_is_left_out(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("TUNGSTEN_HOME", str(tmp_path / "empty"))
    assert machine.lacks("nix") == ["nix"]
    own = tmp_path / "empty" / "nix" / "own"
    folder = machine.nix_program.own_folder() / "bin"
    assert folder.is_relative_to(own)
    folder.mkdir(parents=True)
    (folder / "nix").write_text(f"exec {folder.parent}/lib/nix")
    assert machine.lacks("nix") == []


@pytest.fixture
def told(tmp_path, capsys, monkeypatch):
    """Has runs note what they left out; what is told in the end, with the status."""

    def tell(*runs, can_install):
        monkeypatch.setattr(machine, "can_install", lambda: can_install)
        monkeypatch.setenv(machine.FOLDER, str(tmp_path))
        for number, reasons in enumerate(runs):
            monkeypatch.setattr(machine.os, "getpid", lambda number=number: number)
            machine.note(reasons)
        status = machine.tell(tmp_path)
        said = capsys.readouterr()
        return status, said.out.strip(), said.err.strip()

    return tell


RUNS = (
    {"a": "needs podman, runc", "b": "needs podman, runc", "c": "the mirror has lost it"},
    {"b": "needs podman, runc", "d": "needs zsh"},
)
LINE = "left out: 2 tests for want of podman, runc; 1 test (the mirror has lost it); 1 test for want of zsh"


def test_all_runs_are_summed_up_in_one_line(told):
    assert told(*RUNS, can_install=False) == (0, LINE, "")


def test_where_all_is_installed_nothing_may_be_left_out_for_want_of_it(told):
    status, line, problem = told(*RUNS, can_install=True)
    assert (status, line) == (1, LINE)
    assert problem == "error: examples/need.sh installs podman, runc, and tests went without"


def test_what_nobody_installs_may_be_lacking_there(told):
    assert told(RUNS[0] | {"a": "needs zsh", "b": "needs IPv6"}, can_install=True)[0] == 0


def test_a_run_without_anything_left_out_says_so(told):
    assert told({}, can_install=True) == (0, "left out: nothing", "")


def test_what_is_installed_is_what_the_script_names():
    """It is read by a pattern: of both kinds one, and one that is looked for by another name than its package's."""
    assert {"podman", "prometheus", "chromedriver", "root", "nix"} <= machine.installed()


def test_a_run_notes_what_was_skipped_and_nothing_else(pytester_run, tmp_path):
    noted = pytester_run(
        """
import pytest
from tests.machine import need, needs

@needs("no-such-program")
def test_marked(): raise AssertionError
def test_asks(): need("no-such-program")
def test_skips(): pytest.skip("for a reason")
def test_passes(): pass
@pytest.mark.xfail(strict=True)
def test_is_known(): raise AssertionError
"""
    )
    assert {name.rpartition("::")[2]: reason for name, reason in noted.items()} == {
        "test_marked": "needs no-such-program",
        "test_asks": "needs no-such-program",
        "test_skips": "for a reason",
    }


@pytest.fixture
def pytester_run(tmp_path, monkeypatch):
    """Runs a module's tests in this process, by a pytest of their own; what was noted."""

    def run(text):
        (tmp_path / "noted").mkdir()
        (tmp_path / "test_of_tests.py").write_text(text)
        monkeypatch.setenv(machine.FOLDER, str(tmp_path / "noted"))
        options = ["-q", "-p", "no:cacheprovider", "-c", "/dev/null", f"--rootdir={tmp_path}"]
        assert pytest.main([*options, str(tmp_path / "test_of_tests.py")], plugins=[machine.LeftOut()]) == 0
        (noted,) = (tmp_path / "noted").iterdir()
        return json.loads(noted.read_text())

    return run


@pytest.mark.parametrize(
    ("there", "status", "said"),
    [
        (
            ("unshare",),
            0,
            "not here, so the tests that need them are left out; Debian's packages of them: podman runc",
        ),
        (
            (),
            1,
            "error: these programs are missing; Debian's packages of them are called: util-linux podman runc",
        ),
    ],
)
def test_setting_up_for_the_tests_asks_an_ordinary_user_for_nothing(tmp_path, there, status, said):
    """What only tests need is named; Nix is not, for tungsten brings it."""
    need("sh")
    for name, text in {"id": "echo 1000", "python3": "", **dict.fromkeys(there, "")}.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    command = [shutil.which("sh"), machine.ROOT / "examples" / "need.sh", "python3", "test"]
    done = subprocess.run(command, env={"PATH": str(tmp_path)}, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == status
    assert done.stderr.splitlines()[0].startswith(said)
    assert "nix" not in done.stderr.splitlines()[0]


def test_no_test_has_a_wording_of_its_own_for_what_is_lacking():
    """What is skipped so would be counted by itself, and missed by nobody where all is installed."""
    ways = (
        r"skipif\([^)]*which\(",
        r"which\([^)\n]*\)(?: is None)?:\n\s+pytest\.skip",
        r"(?:skip\(|reason=)f?\"[^\"]*not installed",
    )
    own = re.compile("|".join(ways))
    found = [path.name for path in (machine.ROOT / "tests").rglob("*.py") if own.search(path.read_text())]
    assert set(found) <= {"test_machine.py"}
