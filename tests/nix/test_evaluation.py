"""The rules in `test_*.nix`, each a test here; and every file of nix/ parses and is in the table of contents."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).parent
NIX = HERE.parent.parent / "nix"

pytestmark = pytest.mark.skipif(shutil.which("nix-instantiate") is None, reason="nix is not installed")


def evaluate(expression):
    command = ["nix-instantiate", "--eval", "--strict", "--json", "--read-write-mode", "--expr", expression]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def rules():
    if shutil.which("nix-instantiate") is None:
        return {"nix is not installed": {"expr": None, "expected": None}}
    return evaluate(f"import {HERE} {{ nix = import {NIX}; }}")


RULES = rules()


@pytest.mark.parametrize("rule", RULES)
def test_rule(rule):
    assert RULES[rule]["expr"] == RULES[rule]["expected"]


@pytest.mark.parametrize("file", sorted(NIX.glob("*.nix")), ids=lambda file: file.name)
def test_file_is_in_the_table_of_contents(file):
    """A file that nobody names would be dead; `exported-flake.nix` is what an export's flake.nix is."""
    contents = (NIX / "default.nix").read_text()
    assert file.name in {"default.nix", "exported-flake.nix"} or f"./{file.name};" in contents


@pytest.mark.parametrize(
    "file", sorted([*NIX.glob("*.nix"), *HERE.glob("*.nix")]), ids=lambda file: file.name
)
def test_style(file):
    """No tabs, no trailing blanks, at most 120 columns, no `with`, which hides where a name comes from."""
    for line in file.read_text().splitlines():
        assert "\t" not in line
        assert line == line.rstrip()
        assert len(line) <= 120
        assert not re.search(r"\bwith [a-z.]+;", line)
