"""The nixpkgs package set, seen from outside: exports evaluate purely, errors say what to do, and the table of names is
in order.

Nothing of nixpkgs is built here. poetry2nix's own reader takes part where TUNGSTEN_POETRY2NIX and TUNGSTEN_NIXPKGS_LIB
name checkouts: of poetry2nix at the pinned revision, and of nixpkgs or of its `lib` alone.
"""

import json
import os
import re
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from tests import generate
from tests.machine import needs
from tests.tungstenkit.locks import wheel
from tungstenkit import nix_program, store
from tungstenkit.export import poetry
from tungstenkit.export.flake import Contents, export
from tungstenkit.lock.document import read_lock
from tungstenkit.spec.document import ModelSpec
from tungstenkit.spec.files import select_files

HERE = Path(__file__).parent
ROOT = HERE.parent.parent.parent
STAND_IN = HERE / "stand_in"
SYSTEM = "x86_64-linux"
EXAMPLES = sorted(path.parent.name for path in generate.GOLDEN.glob("*/tungsten.lock"))

pytestmark = needs("nix")


def nix(*arguments):
    command = ["nix", "--extra-experimental-features", "nix-command flakes", *arguments]
    return nix_program.run(command)


@pytest.fixture
def exported(tmp_path):
    """Writes an example's export, of its golden lock, with changes of the spec."""

    def write(name, **changes):
        directory = ROOT / "examples" / name
        spec = ModelSpec.from_json((directory / "spec.json").read_text()).model_copy(update=changes)
        lock = read_lock(generate.GOLDEN / name / "tungsten.lock")
        files = select_files(directory, spec.include_files, spec.exclude_files, spec.module)
        export(spec, lock, Contents(directory, files), {}, tmp_path / "out")
        return tmp_path / "out"

    return write


def evaluate(flake, attribute):
    """What a flake's attribute is where its inputs are the stand-ins: purely, and without network."""
    return nix(
        "eval",
        "--json",
        "--no-write-lock-file",
        *("--override-input", "nixpkgs", f"path:{STAND_IN / 'nixpkgs'}"),
        *("--override-input", "poetry2nix", f"path:{STAND_IN / 'poetry2nix'}"),
        f"path:{flake}#{attribute}",
    )


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_export_evaluates_purely(exported, name):
    run = evaluate(exported(name), f"packages.{SYSTEM}.model-image.arguments")
    assert run.returncode == 0, run.stderr
    arguments = json.loads(run.stdout)
    assert set(arguments) == {"name", "tag", "contents", "config", "created", "fakeRootCommands"}
    assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ", arguments["created"])  # the commit's date


def test_nix_takes_the_lock_of_an_export_as_it_is(exported):
    """Nothing is resolved again: the pinned revision is asked for, at which this machine may fail or not."""
    out = exported("blur")
    before = (out / "flake.lock").read_bytes()
    run = nix("flake", "metadata", "--json", f"path:{out}")
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout)["locks"] == json.loads(before)
    assert (out / "flake.lock").read_bytes() == before


def test_an_unknown_system_package_is_named_with_what_is_near_and_how_to_add_it(exported):
    out = exported("blur", system_packages=["libgl1-messa-glx"])
    run = evaluate(out, f"packages.{SYSTEM}.model-image.name")
    assert run.returncode != 0
    assert "libgl1-messa-glx: near are" in run.stderr
    assert "libgl1-mesa-glx" in run.stderr
    assert "[tool.tungsten.nixpkgs]" in run.stderr
    assert '"libgl1-messa-glx" = ["an attribute of nixpkgs"]' in run.stderr


def test_an_attribute_that_nixpkgs_lacks_is_named(exported):
    out = exported("blur", system_packages=["mine"], nixpkgs={"mine": ["xorg.libNone"]})
    run = evaluate(out, f"packages.{SYSTEM}.model-image.name")
    assert "this nixpkgs has no xorg, libNone (for mine)" in run.stderr


def test_a_python_that_nixpkgs_lacks_is_named(exported):
    out = exported("blur")
    lock = json.loads((out / "tungsten.lock").read_text())
    lock["platforms"][SYSTEM]["python"] = "3.8"
    (out / "tungsten.lock").write_text(json.dumps(lock))
    run = evaluate(out, f"packages.{SYSTEM}.model-image.name")
    assert "the nixpkgs of this lock (nixos-25.05) has no python38" in run.stderr


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ("contents = 1;", "contents is of type int"),
        ("layers = 1;", "no argument is called layers"),
    ],
)
def test_the_stand_in_refuses_what_dockertools_would(change, problem):
    """Else the tests that rest on it would show nothing."""
    run = nix(
        "eval",
        "--impure",
        "--expr",
        f'(import {STAND_IN}/nixpkgs {{ system = "{SYSTEM}"; config = {{ }}; overlays = [ ]; }})'
        f'.dockerTools.buildLayeredImage {{ name = "a"; {change} }}',
    )
    assert f"buildLayeredImage: {problem}" in run.stderr


def test_the_users_folders_have_the_modes_that_the_other_set_gives_them(exported, tmp_path):
    run = evaluate(exported("blur"), f"packages.{SYSTEM}.model-image.arguments.fakeRootCommands")
    commands = json.loads(run.stdout)
    model = tmp_path / "model"
    (model / "data").mkdir(parents=True)
    (model / "data" / "run.sh").touch(0o555)
    (model / "tungsten_model.py").touch(0o444)
    (source,) = {word for word in commands.split() if word.startswith(f"{store.place()}/")}
    root = tmp_path / "root"
    root.mkdir()
    # Who owns what is recorded only: it takes root.
    script = f'chown() {{ echo "$@"; }}\n{commands.replace(source, f"{model}/.")}'
    run = subprocess.run(["bash", "-ec", script], cwd=root, capture_output=True, text=True, check=True)
    assert run.stdout == "-R 65532:0 app home/nonroot\n"
    modes = {str(path.relative_to(root)): stat.S_IMODE(path.stat().st_mode) for path in root.rglob("*")}
    assert modes == {
        "app": 0o775,
        "app/data": 0o775,
        "app/data/run.sh": 0o775,
        "app/tungsten_model.py": 0o664,
        "home": modes["home"],
        "home/nonroot": 0o775,
        "tmp": 0o1777,
    }


def test_this_repositorys_flake_has_an_image_of_each_set_and_asks_for_nixpkgs_for_its_own_alone():
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    names = nix("eval", "--json", f"{ROOT}#packages.{SYSTEM}", "--apply", "builtins.attrNames")
    assert {"model-image", "model-image-nixpkgs"} <= set(json.loads(names.stdout))
    # Without network: no flake input, no fetch.
    offline = nix("eval", "--offline", "--json", f"{ROOT}#packages.{SYSTEM}.model-image.drvPath")
    assert offline.returncode == 0, offline.stderr
    assert json.loads((nix("flake", "metadata", "--json", str(ROOT))).stdout)["locks"]["nodes"] == {
        "root": {}
    }


def apt_names():
    return (ROOT / "nix" / "sets" / "apt-names.json").read_text()


def test_the_table_of_names_is_sorted_and_names_nothing_twice():
    pairs = json.loads(apt_names(), object_pairs_hook=list)
    names = [name for name, _ in pairs]
    assert names == sorted(set(names))
    assert all(attributes and len(attributes) == len(set(attributes)) for _, attributes in pairs)


@pytest.mark.parametrize(
    "name",
    [
        *("libgl1-mesa-glx", "libgl1", "libglib2.0-0", "ffmpeg", "python3-opencv", "ninja-build"),
        *("build-essential", "libsndfile1", "git", "fonts-dejavu-core", "libgeos-c1v5"),
    ],
)
def test_what_models_ask_for_most_is_known(name):
    assert name in json.loads(apt_names())


@pytest.fixture
def real(tmp_path):
    """The stand-in with nixpkgs' own lib, and poetry2nix itself."""
    poetry2nix, lib = os.environ.get("TUNGSTEN_POETRY2NIX"), os.environ.get("TUNGSTEN_NIXPKGS_LIB")
    if not poetry2nix or not lib:
        pytest.skip("TUNGSTEN_POETRY2NIX and TUNGSTEN_NIXPKGS_LIB name no checkouts")
    nixpkgs = tmp_path / "nixpkgs"
    shutil.copytree(STAND_IN / "nixpkgs", nixpkgs)
    (nixpkgs / "lib.nix").write_text(f"import {Path(lib).resolve()}/lib")

    def read(project, python, wheels="null", system=SYSTEM):
        run = nix(
            "eval",
            "--impure",
            "--json",
            "--expr",
            f"import {HERE}/lock_reader.nix {{ nixpkgs = {nixpkgs}; poetry2nix = {Path(poetry2nix).resolve()}; "
            f'project = {project}; python = "python{python.replace(".", "")}"; '
            f'system = "{system}"; wheels = {wheels}; }}',
        )
        assert run.returncode == 0, run.stderr
        return {(one["pname"], one["version"], one["file"], one["hash"]) for one in json.loads(run.stdout)}

    return read


def listed(wheels):
    return {(one.project, one.version, one.file, f"sha256:{one.sha256}") for one in wheels}


@pytest.mark.parametrize("name", EXAMPLES)
def test_poetry2nix_reads_the_locks_versions_and_hashes(real, name):
    golden = generate.GOLDEN / name
    lock = read_lock(golden / "tungsten.lock")
    for system, platform in lock.platforms.items():
        for part, wheels in (("model", platform.wheels), ("server", lock.server[system].wheels)):
            project = golden / "poetry" / system / part
            assert real(project, platform.python, system=system) == listed(wheels)


def test_poetry2nix_itself_would_take_another_setuptools(real, tmp_path):
    """Which is why nix/sets/poetry.nix takes such a project from the lock by itself."""
    wheels = [wheel("setuptools", "80.0"), wheel("wheel", "1")]
    project = tmp_path / "project"
    project.mkdir()
    for name, text in poetry.project("a-project", "3.11", wheels).items():
        (project / name).write_text(text)
    assert ("setuptools", "80.0") not in {one[:2] for one in real(project, "3.11")}
    entries = " ".join(
        f'{{ project = "{w.project}"; version = "{w.version}"; file = "{w.file}"; sha256 = "{w.sha256}"; }}'
        for w in wheels
    )
    assert real(project, "3.11", f"[ {entries} ]") == listed(wheels)
