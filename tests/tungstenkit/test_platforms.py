"""The names of platforms agree with Nix's side, and with this machine."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from tungstenkit.platforms import ARCHITECTURES, this_system

NIX = Path(__file__).resolve().parent.parent.parent / "nix"


@pytest.mark.skipif(not shutil.which("nix-instantiate"), reason="needs nix")
def test_debian_names_are_those_of_the_nix_side():
    command = ["nix-instantiate", "--eval", "--strict", "--json", str(NIX / "platforms.nix")]
    table = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    assert {system: row["debian"] for system, row in table.items()} == {
        system: ARCHITECTURES[system].debian for system in table
    }


def test_this_machine_is_called_as_nix_calls_it(monkeypatch):
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    monkeypatch.setattr("sys.platform", "linux")
    assert this_system() == "aarch64-linux"
