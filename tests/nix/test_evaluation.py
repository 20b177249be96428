"""The rules in `test_*.nix`, each a test here; and every file of nix/ parses and is in the table of contents."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tungstenkit.dockerfile import parse

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


def test_a_wheel_of_ours_is_made_of_all_files_of_its_package_but_byte_code(tmp_path):
    for name in ("a.py", "a.pyc", "static/page.html", "sub/__pycache__/x.py", "__pycache__/b.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    own = '{ name = "kit"; version = "1"; requires = []; requires-python = ">=3.9"; package = "kit"; modules = null; }'
    environment = '{ prefix = "/usr"; interpreter = "/p"; sitePackages = "/s"; layer = "kit"; }'
    wheel = f"(import {NIX}/wheel.nix {{ fetch = null; runTool = given: given; }}).own {environment} {own} {tmp_path}"
    folder = Path(evaluate(f'"${{(builtins.head ({wheel}).inputs).path.config.packages.kit}}"'))
    files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert files == {"a.py", "static/page.html"}


@pytest.mark.parametrize(
    ("path", "taken"),
    [
        ("a?", "a? ab aé aö aß a日 a😀"),
        ("?", "a é"),
        ("a[äöü]", "aö"),
        ("a[^b]", "a? aé aö aß a日 a😀"),
        ("a[a-ö]", "aé aö aß ab"),
        ("*é", "aé é"),
        ("a日", "a日"),
        ("a[?]", "a?"),
    ],
)
def test_a_wildcard_of_copy_stands_for_any_letter(tools, tmp_path, path, taken):
    """Nix must let in at least what the step then takes, and take no pattern for an error."""
    for name in ("a", "ab", "abcde", "a?", "aé", "aö", "aß", "a日", "a😀", "é"):
        (tmp_path / name).touch()
    (source,) = parse([f"COPY {path} /x/"]).commands.segments[0].steps[0].sources
    found = tools.context.Context(tmp_path).matches(source.pattern)
    assert {one.name for one in found} == set(taken.split())
    steps = json.dumps([{"kind": "copy", "text": "", "sources": [{"pattern": source.pattern}]}])
    made = f"""(import {NIX}/commands.nix {{
      spec = {{
        gpu = false;
        commands.segments = [
          {{ network = false; uid = 0; gid = 0; steps = builtins.fromJSON (builtins.readFile {tmp_path}.json); }}
        ];
      }};
      results = [ ]; model = {tmp_path}; bigFiles = [ ]; system = "x"; busybox = "x"; platform.debian = "amd64";
      files = import {NIX}/files.nix {{ fetch = null; }}; runTool = given: given;
      packageSet = {{ systemContents = [ ]; dockerTools.layers = below: below; }};
    }}).contents"""
    tmp_path.with_suffix(".json").write_text(steps)
    seen = evaluate(f'"${{(builtins.head (builtins.head {made}).inputs).path.config.context}}"')
    assert set(taken.split()) <= {file.name for file in Path(seen).iterdir()}


@pytest.mark.parametrize("file", sorted(NIX.glob("*.nix")), ids=lambda file: file.name)
def test_file_is_in_the_table_of_contents(file):
    """A file that nobody names would be dead; `exported-*flake.nix` are what exports' flake.nix are."""
    contents = (NIX / "default.nix").read_text()
    flakes = {"exported-flake.nix", "exported-nixpkgs-flake.nix"}
    assert file.name in {"default.nix", *flakes} or f"./{file.name};" in contents


@pytest.mark.parametrize(
    "file", sorted([*NIX.glob("*.nix"), *HERE.rglob("*.nix")]), ids=lambda file: file.name
)
def test_style(file):
    """No tabs, no trailing blanks, at most 120 columns, no `with`, which hides where a name comes from."""
    for line in file.read_text().splitlines():
        assert "\t" not in line
        assert line == line.rstrip()
        assert len(line) <= 120
        assert not re.search(r"\bwith [a-z.]+;", line)
