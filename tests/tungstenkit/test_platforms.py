"""The names of platforms agree with Nix's side, and with this machine."""

import json
from pathlib import Path

import pytest

from tests.machine import needs
from tungstenkit import nix_program
from tungstenkit.platforms import ARCHITECTURES, runs_here, this_system

NIX = Path(__file__).resolve().parent.parent.parent / "nix"


@needs("nix")
def test_the_platforms_are_those_of_the_nix_side():
    command = ["nix-instantiate", "--eval", "--strict", "--json", str(NIX), "--attr", "platforms"]
    table = json.loads(nix_program.run(command).stdout)
    assert {system: (row["debian"], row["machine"], row["elf"]) for system, row in table.items()} == {
        system: (names.debian, names.machine, names.elf) for system, names in ARCHITECTURES.items()
    }


def test_this_machine_is_called_as_nix_calls_it(monkeypatch):
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    monkeypatch.setattr("sys.platform", "linux")
    assert this_system() == "aarch64-linux"


# As the kernel shows what Debian's qemu-user-static registers, and what Wine does.
QEMU = """{state}
interpreter /usr/libexec/qemu-binfmt/aarch64-binfmt-P
flags: {flags}
offset 0
magic 7f454c460201010000000000000000000200{machine}
mask ffffffffffffff00fffffffffffffffffeffffff
"""
OTHER = "enabled\ninterpreter /usr/bin/wine\nflags: F\nextension .exe\n"


@pytest.mark.parametrize(
    ("state", "flags", "machine", "runs"),
    [
        ("enabled", "POCF", "b700", True),
        ("disabled", "POCF", "b700", False),
        # Without F the interpreter would have to be in the container.
        ("enabled", "POC", "b700", False),
        ("enabled", "F", "f300", False),
    ],
)
def test_another_platforms_containers_run_where_the_kernel_has_an_interpreter(
    monkeypatch, tmp_path, state, flags, machine, runs
):
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    (tmp_path / "status").write_text("enabled\n")
    (tmp_path / "register").mkdir()  # what can't be read must not be
    (tmp_path / "wine").write_text(OTHER)
    assert not runs_here("aarch64-linux", tmp_path)
    (tmp_path / "qemu-aarch64").write_text(QEMU.format(state=state, flags=flags, machine=machine))
    assert runs_here("aarch64-linux", tmp_path) == runs
    assert runs_here("x86_64-linux", tmp_path)


def test_where_the_kernel_shows_no_interpreters_only_its_own_platform_runs(monkeypatch, tmp_path):
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    assert not runs_here("aarch64-linux", tmp_path / "nothing")
