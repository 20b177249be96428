"""The session that docs/first-session.md records, from `pip install` to `push`, as an ordinary user of a machine that
has neither Nix nor an engine: each command is run as it is written, and prints what is written below it.
"""

import os
import re
import secrets
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.end_to_end import bases
from tests.end_to_end.harness import ROOT, checkout
from tests.end_to_end.somebody import path_without
from tests.frozen.take import INSTALLED, TAKEN
from tests.machine import need

RECORDED = ROOT / "docs" / "first-session.md"
REGISTRY = "registry.example"
"""What the document calls a registry."""
ANY_LINES, ANY_TEXT = "...", "…"


@dataclass
class Step:
    """A command of a session, and what it prints."""

    command: str
    printed: list

    def fits(self, text):
        """Whether a text is what the document says: `…` is any text of a line, `...` alone any lines."""
        lines = [
            r"(?:.*\n)*?" if line == ANY_LINES else ".*".join(map(re.escape, line.split(ANY_TEXT))) + r"\n"
            for line in self.printed
        ]
        return re.fullmatch("".join(lines), "".join(f"{line}\n" for line in text.splitlines())) is not None


def read_session(text):
    """The steps in a document's console blocks: `$ ` begins a command, `> ` is more of it."""
    steps = []
    for block in re.findall(r"^```console\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        for line in block.splitlines():
            if line.startswith("$ "):
                steps.append(Step(line[2:], []))
            elif line.startswith("> ") and not steps[-1].printed:
                steps[-1].command += f"\n{line[2:]}"
            else:
                steps[-1].printed.append(line)
    return steps


def test_what_is_printed_is_compared():
    (step, other) = read_session(
        "```console\n$ one \\\n> two\nfirst … 3\n...\nlast\n$ three\n```\n\n```python\n$ no\n```\n"
    )
    assert (step.command, other) == ("one \\\ntwo", Step("three", []))
    assert step.fits("first 1 2 3\nlast")
    assert step.fits("first 3 3\nmore\n\nmore\nlast\n")
    assert not step.fits("first 3\nlast\nmore\n")
    assert not step.fits("first 1 2 4\nlast\n")
    assert other.fits("")
    assert not other.fits("something\n")


@pytest.fixture
def registry(somebody):
    """A registry on loopback; its host and port."""
    need("docker-registry")
    folder = somebody.folder / "registry"
    folder.mkdir()
    with bases.registry(folder) as host:
        yield host


def run_session(commands, before, environment):
    """Run the commands in one shell; for each what it printed, and its exit status."""
    mark = secrets.token_hex(8)
    lines = ["exec 2>&1"]
    for command in commands:
        lines += [command, f"printf '\\n%s %s\\n' {mark} $?"]
    shell = [*before, "bash", "-c", "\n".join(lines)]
    done = subprocess.run(shell, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True, env=environment)
    *printed, rest = re.split(rf"\n{mark} (\d+)\n", done.stdout)
    assert not rest, rest
    return list(zip(printed[::2], map(int, printed[1::2]), strict=True))


def test_a_first_session_is_as_it_is_recorded(somebody, registry, frozen, tmp_path):
    steps = read_session(RECORDED.read_text(encoding="utf-8"))
    shutil.copytree(checkout(tmp_path), somebody.home / "tungstenkit-nix")
    keys = shutil.copytree(frozen.keys, somebody.folder / "keys")
    wheels = shutil.copytree(TAKEN / INSTALLED, somebody.folder / "wheels")
    path = path_without(somebody.folder / "path", "nix", "podman", "docker", "tungsten", "python")
    # Ours, which they may enter.
    (path / "python3").symlink_to(Path(sys.base_prefix) / "bin" / "python3")
    containers = somebody.home / ".config" / "containers"
    containers.mkdir(parents=True)
    (containers / "registries.conf").write_text(f'[[registry]]\nlocation = "{registry}"\ninsecure = true\n')
    runtime = somebody.folder / "run"
    runtime.mkdir(mode=0o700)
    somebody.own(somebody.folder)
    environment = {
        **os.environ,
        "PATH": str(path),
        "TUNGSTEN_TESTS_KEYS": str(keys),
        "XDG_RUNTIME_DIR": str(runtime),
    }
    del environment["XDG_CACHE_HOME"]
    # What an installed tungsten can't be talked into: to believe the tests' own archive.
    own = f'tungsten() {{ python {shlex.quote(str(ROOT / "tests" / "frozen" / "tungsten.py"))} "$@"; }}'
    offline = f'pip() {{ command pip "$@" --no-index --find-links {wheels}; }}'
    before = [*somebody.before, "env", "-C", str(somebody.home)]
    commands = [step.command.replace(REGISTRY, registry) for step in steps]
    printed = run_session([f"{own}\n{offline}", *commands], before, environment)
    ran = [
        (step, text.replace(registry, REGISTRY), status)
        for step, (text, status) in zip(steps, printed[1:], strict=True)
    ]
    wrong = [step.command for step, text, status in ran if status != 0 or not step.fits(text)]
    # To record it anew.
    whole = "\n".join(f"$ {step.command}\n{text}" for step, text, _ in ran)
    assert not wrong, whole
