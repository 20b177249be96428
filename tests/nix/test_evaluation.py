"""The rules in `test_*.nix`, each a test here; and every file of nix/ is in the table of contents."""

import ast
import json
import re
import subprocess
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from tests.machine import lacks, needs
from tungstenkit import nix_program
from tungstenkit.spec.dockerfile import parse

HERE = Path(__file__).parent
NIX = HERE.parent.parent / "nix"

pytestmark = needs("nix")


def evaluate(expression):
    command = ["nix-instantiate", "--eval", "--strict", "--json", "--read-write-mode", "--expr", expression]
    done = nix_program.run(command)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def rules():
    if lacks("nix"):
        return {"every rule": {"expr": None, "expected": None}}
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
    wheel = f"(nix.scope.bind {{ fetch = null; runTool = given: given; }} nix.wheel).own {environment} {own} {tmp_path}"
    folder = Path(
        evaluate(
            f'let nix = import {NIX}; in "${{(builtins.head ({wheel}).inputs).path.config.packages.kit}}"'
        )
    )
    files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert files == {"a.py", "static/page.html"}


def test_our_own_image_is_there_for_every_platform_on_every_system():
    root = NIX.parent
    image = f"import {root}/builder/image.nix {{ nix = import {NIX}; checkout = {root}; }}"
    made = evaluate(
        f"builtins.mapAttrs (_: images: builtins.mapAttrs (_: made: made.drvPath) images) ({image}).packages"
    )
    forms = [
        f"tungsten-image{system}{form}"
        for system in ("", "-aarch64-linux", "-x86_64-linux")
        for form in ("", "-dir")
    ]
    assert {system: sorted(images) for system, images in made.items()} == {
        "aarch64-linux": sorted(forms),
        "x86_64-linux": sorted(forms),
    }
    # What is assembled here for here is what that platform's name leads to.
    here = made["x86_64-linux"]
    assert (
        here["tungsten-image"] == here["tungsten-image-x86_64-linux"] != here["tungsten-image-aarch64-linux"]
    )


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
    made = f"""(nix.scope.bind {{
      spec = {{
        gpu = false;
        commands.segments = [
          {{ network = false; uid = 0; gid = 0; steps = builtins.fromJSON (builtins.readFile {tmp_path}.json); }}
        ];
      }};
      locked = {{ }}; model = {tmp_path}; bigFiles = [ ]; platform.debian = "amd64";
      files = nix.scope.bind {{ fetch = null; }} nix.files;
      runner = {{ system = "x"; busybox = "x"; runTool = given: given; }};
      underneath = {{ base = null; systemContents = [ ]; }};
      dockerTools.layers = below: below;
    }} nix.commands).contents"""
    tmp_path.with_suffix(".json").write_text(steps)
    seen = evaluate(
        f'let nix = import {NIX}; in "${{(builtins.head (builtins.head {made}).inputs).path.config.context}}"'
    )
    assert set(taken.split()) <= {file.name for file in Path(seen).iterdir()}


@pytest.mark.parametrize(("skopeo", "index"), [(1, "sha256:ab"), (0, "no digest"), (0, "sha256:ab")])
def test_a_push_that_fails_names_no_image(tmp_path, skopeo, index):
    """The program of an export, with a skopeo that ends as it is told."""
    for name, text in {"bin/busybox": 'exec "$@"', "bin/skopeo": f"exit {skopeo}"}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    (tmp_path / "index.json").write_text(index)
    # A derivation's path is its text here, so nothing is built.
    script = evaluate(f'''(builtins.scopedImport {{ derivation = given: {{ outPath = given.text; }}; }}
      {NIX}/flake/apps.nix
      {{ busybox = "{tmp_path}"; programs = {{ }}; python = {{ }}; system = "x"; }}
    ).push "{tmp_path}"''')
    done = subprocess.run(
        ["sh", "-c", script.removesuffix("/run"), "push-image", "host/blur"],
        env={"PATH": f"{tmp_path}/bin:/usr/bin:/bin"},
        capture_output=True,
        text=True,
    )
    is_well = skopeo == 0 and index.startswith("sha256:")
    assert (done.returncode, done.stdout) == ((0, "host/blur@sha256:ab\n") if is_well else (1, ""))


FILES = {file.relative_to(NIX).as_posix(): file for file in sorted(NIX.rglob("*.nix"))}
FLAKES = {"flake/exported-flake.nix", "flake/exported-nixpkgs-flake.nix"}
"""What exports' flake.nix are: they are copied there."""
ENTRIES = {"flake/seal.nix", "flake/seal-step.nix"}
"""What `nix build --file` is given."""


def paths_in(file):
    """The paths that a file names, as Nix itself reads it, below nix/."""
    parsed = nix_program.run(["nix-instantiate", "--parse", str(file)])
    assert parsed.returncode == 0, parsed.stderr
    code = re.sub(r'"(\\.|[^"\\])*"', "", parsed.stdout)
    return {path.removeprefix(f"{NIX}").lstrip("/") for path in re.findall(rf"{NIX}\b[\w./-]*", code)}


@pytest.mark.parametrize("name", FILES)
def test_only_the_table_of_contents_names_other_files(name):
    """What a file needs stands in its arguments. By path it has its own folder's data and the programs."""
    paths = paths_in(FILES[name])
    if name == "default.nix":
        assert {path for path in paths if path.endswith(".nix")} == {*FILES} - FLAKES - {name}
    elif name in FLAKES:
        assert paths == {"flake", "flake/nix"}
    else:
        own = {path for path in paths if Path(path).parent == Path(name).parent and path.endswith(".json")}
        programs = {path for path in paths if path.split("/")[0] == "tools"}
        assert paths - own - programs == ({""} if name in ENTRIES else set())


@pytest.mark.parametrize("scope", ["exported", "builder", "target", "nixpkgs"])
def test_no_parts_of_a_scope_need_one_another_in_a_circle(scope):
    """Nix would allow it, as long as nobody asks for what leads round."""
    (text,) = re.findall(
        rf"^  {scope} =\n(.*?)^    \);", (NIX / "scope.nix").read_text(), re.DOTALL | re.MULTILINE
    )
    values = dict(entry.split(" = ", 1) for entry in re.split(r"\n {8}(?=\w+ = )", text)[1:])
    arguments = evaluate(
        f"let nix = import {NIX}; in builtins.mapAttrs (_: part: if builtins.isFunction part then "
        "builtins.attrNames (builtins.functionArgs part) else [ ]) nix"
    )
    needs = {
        name: {*re.findall(r"\bself\.(\w+)", made)}.union(
            *(arguments[part] for part in re.findall(r"\bnix\.(\w+)", made))
        )
        & set(values)
        for name, made in values.items()
    }
    assert any(needs.values()) or scope == "exported"
    list(TopologicalSorter(needs).static_order())


@pytest.mark.parametrize("name", sorted(path.name for path in (NIX / "tools").iterdir() if path.is_file()))
def test_a_program_has_with_it_what_it_imports(name):
    """And nothing else, so that no other's change makes again what it has made."""
    programs = evaluate(f"""let programs = (import {NIX}).programs; in programs.{json.dumps(name)}.lib""")
    wanted, new = set(), {NIX / "tools" / name} if name.endswith(".py") else set()
    while new:
        files = {NIX / "tools" / "lib" / f"{one}.py" for file in new for one in imported(file)}
        new = {file for file in files if file.exists()} - wanted
        wanted |= new
    data = {file.with_suffix(".json") for file in wanted if file.with_suffix(".json").exists()}
    assert set(programs) == {file.name for file in wanted | data}


def imported(file):
    """The modules that a program imports when it runs."""
    tree = ast.parse(file.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            yield node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


@pytest.mark.parametrize("file", sorted([*FILES.values(), *HERE.rglob("*.nix")]), ids=lambda file: file.name)
def test_style(file):
    """No tabs, no trailing blanks, at most 120 columns, no `with`, which hides where a name comes from."""
    for line in file.read_text().splitlines():
        assert "\t" not in line
        assert line == line.rstrip()
        assert len(line) <= 120
        assert not re.search(r"\bwith [a-z.]+;", line)
