"""Completion, by the shells themselves: what a line becomes at a press of the tabulator."""

import os
import pty
import re
import select
import subprocess
import time

import pytest
import typer.main

from tests.machine import need
from tests.server.conftest import DEADLINE
from tungstenkit.cli.completion import Shell, script
from tungstenkit.cli.main import command_line

COMMANDS = typer.main.get_command(command_line())

STARTS = {
    "bash": ["bash", "--norc", "--noprofile", "-i"],
    "zsh": ["zsh", "-f", "-i"],
    "fish": ["fish", "--no-config", "-i"],
}
# Shows what the line has become.
SHOWS = {
    "bash": "tungsten() { printf '<%s>' \"$@\"; echo '<e''nd>'; }",
    "zsh": "tungsten() { printf '<%s>' \"$@\"; echo '<e''nd>'; }",
    "fish": "function tungsten; printf '<%s>' $argv; echo '<e''nd>'; end",
}
EVIL = "mo$(touch run) `touch run` x"


@pytest.fixture(scope="module")
def scripts(tmp_path_factory):
    """Each shell's script, in a file."""
    folder = tmp_path_factory.mktemp("scripts")
    for shell in Shell:
        (folder / shell).write_text(script(shell, COMMANDS))
    return folder


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where the line is typed: two models, one with an odd name; a lock; and an engine with images."""
    for name in ("blur", EVIL, "deep/inner"):
        (tmp_path / "here" / name).mkdir(parents=True)
        (tmp_path / "here" / name / "tungsten_model.py").write_text("open('/run-by-completion', 'w')\n")
    (tmp_path / "here" / "empty").mkdir()
    lock = '{\n  "name": "libc6",\n  "project": "pydantic-core",\n  "name": "$(touch run)",\n  "name": "pyd`x`"\n}\n'
    (tmp_path / "here" / "tungsten.lock").write_text(lock)
    (tmp_path / "bin").mkdir()
    images = (
        "localhost/blurred:latest\\nregistry.example:5000/team/caption:v1\\n<none>:<none>\\n$(touch run):x\\n"
    )
    (tmp_path / "bin" / "podman").write_text(f"#!/bin/sh\nprintf '{images}'\n")
    (tmp_path / "bin" / "podman").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=os.pathsep)
    monkeypatch.setenv("TUNGSTEN_ENGINE", "podman")
    return tmp_path / "here"


class Terminal:
    """A shell in a terminal."""

    def __init__(self, shell, script_file, folder):
        self.process, self.file = pty.fork()
        if self.process == 0:
            os.chdir(folder)
            os.environ.update(TERM="dumb", HOME=str(folder), PS1="", HISTFILE="/dev/null")
            os.execvp(STARTS[shell][0], STARTS[shell])
        self.type(f"source {script_file}; {SHOWS[shell]}; echo rea''dy\n")
        self.until("ready")

    def type(self, text):
        os.write(self.file, text.encode())

    def until(self, pattern):
        shown, end = "", time.monotonic() + DEADLINE
        while not re.search(pattern, shown):
            assert select.select([self.file], [], [], max(0, end - time.monotonic()))[0], shown
            shown += os.read(self.file, 1 << 16).decode(errors="replace")
        return shown

    def completed(self, line):
        """What a line becomes; a shell takes what follows the tabulator when it is done with that."""
        self.type(f"{line}\t\n")
        return re.findall("<([^<>]*)>", re.search("(<[^<>]*>)*<end>", self.until("<end>"))[0])[:-1]

    def close(self):
        os.close(self.file)
        os.waitpid(self.process, 0)


@pytest.fixture(params=list(Shell))
def terminal(request, scripts, folder):
    shell = request.param.value
    need(shell)
    made = Terminal(shell, scripts / shell, folder)
    yield made
    made.close()


def test_a_shell_completes_what_the_line_asks_for(terminal, folder):
    for line, words in {
        "tungsten bui": ["build"],
        "tungsten build --pla": ["build", "--platform"],
        "tungsten build --platform x86": ["build", "--platform", "x86_64-linux"],
        "tungsten build bl": ["build", "blur"],
        "tungsten build deep/": ["build", "deep/inner"],
        "tungsten build --tag x bl": ["build", "--tag", "x", "blur"],
        "tungsten serve blurr": ["serve", "blurred:latest"],
        "tungsten serve localhost/blurred:la": ["serve", "localhost/blurred:latest"],
        "tungsten demo registry.example:5000/t": ["demo", "registry.example:5000/team/caption:v1"],
        "tungsten models insp": ["models", "inspect"],
        "tungsten models remove x b": ["models", "remove", "x", "blur"],
        "tungsten why pydantic": ["why", "pydantic-core"],
        "tungsten completion z": ["completion", "zsh"],
        "tungsten build mo": ["build", EVIL],
    }.items():
        found = [word.removesuffix("/") for word in terminal.completed(line)]
        assert found == words, line
    assert not (folder / "run").exists()


def program(folder, *words):
    """What is offered, by the program that the shells ask."""
    run = subprocess.run(
        ["sh", "-c", WORDS, "tungsten", *words], cwd=folder, capture_output=True, text=True, check=False
    )
    return run.stdout.splitlines()


WORDS = re.search(r"(?s)_tungsten_words='(.*?)\n'\n", script(Shell.BASH, COMMANDS).replace("'\"'\"'", "\0"))[
    1
].replace("\0", "'")


def test_every_command_and_option_is_offered_and_none_that_is_not_there(folder):
    commands = COMMANDS.commands
    assert program(folder, "") == ["words", *sorted(commands)]
    for name, command in commands.items():
        options = {text for param in command.params for text in param.opts if text.startswith("--")}
        offered = program(folder, name, "--")
        assert options | {"--help"} <= set(offered)
    assert program(folder, "no-such", "x") == []


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["build", "--no-load", "bl"], ["paths", "blur"]),
        (["build", "-n", "bl"], []),
        (["lock", "--platform", "a"], ["words", "aarch64-linux"]),
        (["fetch", "--platform", "a"], ["words", "aarch64-linux"]),
        (["init", "--template", "pl"], ["words", "plain"]),
        (["build", "bl", "x"], []),
        (["--help", "bui"], ["words", "build"]),
        (["shell", "--", "x", ""], []),
        (["lock", "--package-set", "x"], []),
        (["models", "remove", "a", "blurr"], ["words", "blurred:latest"]),
        (["models", ""], ["words", "inspect", "remove"]),
        (["why", ""], ["words", "libc6", "pydantic-core"]),
        (["build", "*"], []),
        (["build", "[b]l"], []),
        (["serve", "$(touch run)"], ["words"]),
        (
            [
                "build",
                "",
            ],
            ["paths", "blur", "deep/", EVIL],
        ),
    ],
)
def test_what_is_offered(folder, words, offered):
    assert program(folder, *words) == offered
    assert not (folder / "run").exists()


def test_no_python_is_started_and_no_model_is_read(folder, tmp_path, monkeypatch):
    for name in ("python", "python3", "tungsten"):
        (tmp_path / "bin" / name).write_text(f"#!/bin/sh\ntouch {tmp_path}/started\n")
        (tmp_path / "bin" / name).chmod(0o755)
    assert program(folder, "build", "bl") == ["paths", "blur"]
    assert not (tmp_path / "started").exists()


def test_the_command_prints_all_of_it(capsys):
    with pytest.raises(SystemExit):
        command_line("completion")(["completion", "zsh"], prog_name="tungsten")
    assert capsys.readouterr().out.strip() == script(Shell.ZSH, COMMANDS)
