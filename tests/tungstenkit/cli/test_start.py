"""How a command starts: what it imports before its first line of work, and what ends it there."""

import errno
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tungstenkit.cli import main as command_line

pytestmark = pytest.mark.timeless("what a start imports, and what ends it, has no date")

BLUR = Path(__file__).parents[3] / "examples" / "blur"

PROGRAM = """
import sys
from tungstenkit.cli.main import main
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
print("modules:", *{name.partition(".")[0] for name in sys.modules})
"""
NETWORK = {"requests", "urllib3", "pysequoia"}
SOLVING = {"solv", "elftools"}
MODEL = {"pydantic", "PIL", "pathspec"}


@pytest.mark.parametrize(
    ("arguments", "unused"),
    [
        (["--version"], NETWORK | SOLVING | {"PIL", "pathspec"}),
        (["--help"], NETWORK | SOLVING | {"PIL", "pathspec"}),
        (["lock", "--help"], NETWORK | SOLVING | {"PIL", "pathspec"}),
        (["lock", "--check", str(BLUR)], NETWORK | SOLVING | {"PIL"}),
    ],
)
def test_a_command_imports_what_it_needs_alone(arguments, unused):
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments], capture_output=True, text=True, check=True
    )
    imported = set(run.stdout.rpartition("modules: ")[2].split())
    assert "typer" in imported
    assert imported & unused == set()


STOPPED = """
import os, signal, sys
from importlib.abc import MetaPathFinder

class Stopping(MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == module:
            os.kill(os.getpid(), getattr(signal, sent))

module, sent, *sys.argv[1:] = sys.argv[1:]
sys.meta_path.insert(0, Stopping())
# As in a terminal, whoever runs the tests.
signal.signal(signal.SIGHUP, signal.SIG_DFL)
from tungstenkit.__main__ import main
main()
"""


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
@pytest.mark.parametrize("module", ["tungstenkit.cli.main", "typer", "tungstenkit.sdk.errors"])
def test_an_interruption_while_it_starts_is_one_line(module, name):
    command = [sys.executable, "-c", STOPPED, module, name, "lock", "--check", str(BLUR)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (run.returncode, run.stderr, run.stdout) == (130, "interrupted\n", "")


@pytest.mark.parametrize("module", ["tungstenkit.project.folder", "pydantic"])
def test_an_interruption_of_a_command_is_one_line(module):
    command = [sys.executable, "-c", STOPPED, module, "SIGINT", "lock", "--check", str(BLUR)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (run.returncode, run.stderr, run.stdout) == (130, "interrupted; nothing is half-written\n", "")


def test_the_command_starts_where_that_holds():
    scripts = tomllib.loads((BLUR.parents[1] / "pyproject.toml").read_text())["project"]["scripts"]
    assert scripts == {"tungsten": "tungstenkit.__main__:main"}


@pytest.mark.parametrize("arguments", [["--version"], ["lock", "--check", str(BLUR)], ["--help"]])
def test_what_reads_no_more_or_is_full_has_no_traceback(arguments):
    command = [sys.executable, "-m", "tungstenkit", *arguments]
    with Path("/dev/full").open("w") as full:
        run = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert run.returncode == 1
    assert run.stderr.splitlines()[0] == "error: the disk is full"
    assert "TMPDIR" in run.stderr.splitlines()[1]
    assert len(run.stderr.splitlines()) == 2
    read, write = os.pipe()
    os.close(read)
    run = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True, check=False)
    os.close(write)
    assert (run.returncode, run.stderr) == (1, "")


@pytest.mark.parametrize(
    ("problem", "lines"),
    [
        (
            OSError(errno.ENOSPC, "No space left on device", "/x/y"),
            ["error: the disk is full", "  in:   /x/y", "  hint: make room"],
        ),
        (
            FileNotFoundError(errno.ENOENT, "No usable temporary directory found in ['/tmp', '/x']"),
            ["error: temporary files can't be written anywhere", "  in:   /tmp, /x", "  hint: make room"],
        ),
        (
            OSError(errno.EROFS, "Read-only file system", "/x"),
            ["error: a file can't be written", "  in:   /x"],
        ),
        (
            OSError(errno.EMFILE, "Too many open files"),
            ["error: too many files are open", "  hint: allow more"],
        ),
    ],
)
def test_what_is_wrong_with_the_machine_is_told_wherever_it_comes_up(monkeypatch, capfd, problem, lines):
    def app():
        raise problem

    monkeypatch.setattr(command_line, "app", app)
    saved = os.dup(1)
    try:
        with pytest.raises(SystemExit) as caught:
            command_line.main()
    finally:
        os.dup2(saved, 1)
        os.close(saved)
    assert caught.value.code == 1
    said = capfd.readouterr().err.splitlines()
    assert len(said) == len(lines)
    assert all(line.startswith(start) for line, start in zip(said, lines, strict=True))


def test_a_defect_of_ours_keeps_its_traceback(monkeypatch):
    def app():
        raise FileNotFoundError(errno.ENOENT, "No such file or directory", "/x")

    monkeypatch.setattr(command_line, "app", app)
    with pytest.raises(FileNotFoundError):
        command_line.main()
