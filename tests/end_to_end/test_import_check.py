"""A model that would not start in its image is not built, and the error names what is wrong."""

import json
import secrets
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.end_to_end.harness import ROOT, TUNGSTEN, build, derivation, nix, nix_line, succeed, tungsten
from tests.machine import need
from tungstenkit.nix_build.image import blob, read_layout

IN_THE_IMAGE = "if pathlib.Path.cwd() == pathlib.Path('/app'):"
SOURCE = (ROOT / "examples" / "blur" / "tungsten_model.py").read_text()


@pytest.fixture
def changed(copy_of):
    """examples/blur with lines before its own, and its lock: what is resolved does not change."""

    def change(before="", old="", new="", files=()):
        folder = copy_of("blur")
        (folder / "tungsten_model.py").write_text(before + SOURCE.replace(old, new))
        for name, text in dict(files).items():
            (folder / name).write_text(text)
        return folder

    return change


def error_of(folder):
    done = tungsten("build", folder, "--no-load")
    assert done.returncode == 1, done.stderr
    assert not (folder / ".tungsten" / "image-x86_64-linux").exists()
    return done.stderr[done.stderr.index("error: ") :]


def test_a_missing_package(changed):
    error = error_of(changed("import sklearn\n"))
    assert error.startswith("error: there is no module sklearn\n  in:   tungsten_model.py, line 1\n")
    assert "add 'scikit-learn' to python_packages" in error


def test_a_missing_shared_library(changed):
    # By name while it runs: no file of a package is linked against it, so that locking could have seen it.
    error = error_of(changed(f"import ctypes, pathlib\n{IN_THE_IMAGE}\n    ctypes.CDLL('libsndfile.so.1')\n"))
    assert "the shared library libsndfile.so.1 is missing" in error
    assert "'libsndfile1'" in error


def test_a_file_that_does_not_ship(changed):
    folder = changed(
        "import helpers\n", "mem_gb=1", 'mem_gb=1, exclude_files=["helpers.py"]', {"helpers.py": ""}
    )
    error = error_of(folder)
    assert "there is no module helpers" in error
    assert "helpers.py lies in the model's folder, and include_files or exclude_files leaves it out" in error


def test_an_output_that_depends_on_what_is_installed(changed):
    before = "try:\n    import pandas\n    number = float\nexcept ImportError:\n    number = int\n"
    error = error_of(
        changed(
            before,
            'image: Image = Field(description="The blurred',
            'count: number\n    image: Image = Field(description="The blurred',
        )
    )
    assert 'output-schema.properties.count.type: "number" in the spec, "integer" in the image' in error


def test_a_crash(changed):
    error = error_of(changed(f"import ctypes, pathlib\n{IN_THE_IMAGE}\n    ctypes.string_at(0)\n"))
    assert "SIGSEGV" in error


def test_a_class_that_was_renamed_in_an_export(blur, tmp_path):
    succeed("nix-export", blur.directory, "-o", tmp_path / "out")
    model = tmp_path / "out" / "model" / "tungsten_model.py"
    model.write_text(SOURCE.replace("class Blur:", "class Blurr:"))
    command = nix_line("nix", "build", "path:.#model-image-dir", "--no-link", "-L")
    done = subprocess.run(command, cwd=tmp_path / "out", capture_output=True, text=True)
    assert done.returncode != 0
    assert (
        "the spec's model is the class Blur, and the module has no such model; its models: Blurr"
        in done.stderr
    )


def test_a_gpus_driver_may_be_missing(copy_of):
    """The image is built; what could not be looked at is told."""
    folder = copy_of("blur")
    text = f"import ctypes, pathlib\n{IN_THE_IMAGE}\n    ctypes.CDLL('libcuda.so.1')\n"
    text += f"# {secrets.token_hex()}\n"  # never checked before: what is in the store says nothing again
    (folder / "tungsten_model.py").write_text(text + SOURCE.replace("mem_gb=1", "mem_gb=1, gpu=True"))
    succeed("lock", folder)
    done = tungsten("build", folder, "--no-load")
    assert done.returncode == 0, done.stderr
    assert "note: the import needs a GPU's driver" in done.stderr


def config_of(layout):
    image = read_layout(layout)
    return json.loads(blob(image.layout, image.image_id).read_text())


def test_the_check_is_no_part_of_the_image(blur, tmp_path):
    """Without it the same comes out, of another export."""
    export = blur.directory / ".tungsten" / "export"
    shutil.copytree(export, tmp_path / "export", symlinks=True)
    scope = tmp_path / "export" / "nix" / "scope.nix"
    text = scope.read_text()
    assert "if system == target then" in text
    scope.write_text(text.replace("if system == target then", "if false then"))
    link = tmp_path / "image"
    command = nix_line("nix", "build", "path:.#model-image-dir", "--out-link", link)
    done = subprocess.run(command, cwd=tmp_path / "export", capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    without, with_it = config_of(link), config_of(blur.layout)
    label = "io.tungstenkit.export"
    assert without["config"]["Labels"].pop(label) != with_it["config"]["Labels"].pop(label)
    assert without == with_it
    assert "import-check" not in nix("nix-store", "--query", "--requisites", link.resolve())


def test_of_an_edit_only_what_it_changes_is_made_again(copy_of):
    folder = copy_of("blur")
    build(folder, "--no-load")
    (folder / "tungsten_model.py").write_text(SOURCE + f"\n# {secrets.token_hex()}\n")  # never built before
    done = tungsten("build", folder, "--no-load")
    built = {
        line.removeprefix("building ") for line in done.stderr.splitlines() if line.startswith("building ")
    }
    assert built == {"import-check", "layer-model", "blur-layout"}


def test_what_is_big_is_bound_and_not_copied(blur, tmp_path):
    """A step's folders that lie over its root: small files as copies, big ones in their place."""
    (tmp_path / "over" / "app" / "sub").mkdir(parents=True)
    (tmp_path / "over" / "home" / "nonroot" / ".cache").mkdir(parents=True)
    (tmp_path / "over" / "app" / "sub" / "small.py").write_text("SMALL = 1\n")
    (tmp_path / "over" / "app" / "sub" / "big.bin").write_bytes(b"b" * 3_000_000)
    (tmp_path / "over" / "app" / "both.bin").write_bytes(b"o" * 3_000_000)
    (tmp_path / "over" / "home" / "nonroot" / ".cache" / "big.bin").write_bytes(b"h" * 3_000_000)
    (tmp_path / "over" / "app" / "sub" / "both.py").write_text("OVER = 1\n")
    (tmp_path / "model" / "sub").mkdir(parents=True)
    (tmp_path / "model" / "sub" / "both.py").write_text("MODEL = 1\n")
    (tmp_path / "model" / "both.bin").write_text("m")
    (tmp_path / "program.py").write_text(PROGRAM)
    # How it is run apart, as the model's own check is.
    (required,) = blur.required
    (check,) = derivation(required)
    expression = f"""
      let
        nix = import {blur.directory}/.tungsten/export/nix;
        outputs = nix.exported {blur.directory}/.tungsten/export;
        image = outputs.packages.x86_64-linux.model-image;
        step = nix.scope.bind {{
          system = "x86_64-linux";
          enter = map (word: if builtins.substring 0 1 word == "/" then builtins.storePath word else word)
            (builtins.filter builtins.isString (builtins.split " " "{check["env"]["enter"]}"));
          busybox = builtins.dirOf (builtins.dirOf image.root.busybox);
        }} nix.step;
      in step {{
        name = "try"; tree = builtins.head image.root.parts; python = "/usr/bin/python3.11";
        program = {tmp_path}/program.py; model = {tmp_path}/model; over = [ {tmp_path}/over ]; config = {{ }};
      }}"""
    command = nix_line("nix-build", "--no-out-link", "--expr", expression)
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


PROGRAM = """
import os, sys
app, home = "/app", "/home/nonroot"
assert open(f"{app}/sub/small.py").read() == "SMALL = 1\\n"
assert open(f"{app}/sub/both.py").read() == "OVER = 1\\n"
for path in (f"{app}/sub/big.bin", f"{app}/both.bin", f"{home}/.cache/big.bin"):
    assert os.path.getsize(path) == 3_000_000, path
    assert any(line.split()[4] == path for line in open("/proc/self/mountinfo")), path
    try:
        open(path, "a").close()
        raise SystemExit(f"{path} can be written")
    except OSError:
        pass
open(f"{app}/new", "w").close()
open(sys.argv[2], "w").close()
"""


def forbidding(*command, **options):
    """Run a command where namespaces are forbidden; its exit status and what it said."""
    need("root")
    program = [sys.executable, Path(__file__).with_name("forbidding.py")]
    done = subprocess.run(
        [*program, *command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options
    )
    if done.returncode == 99:
        pytest.skip("no user namespace can be made here, to forbid others in")
    return done.returncode, done.stdout


def test_where_namespaces_are_forbidden_a_build_says_what_to_do(changed):
    folder = changed("# not built yet\n")
    succeed("fetch", folder)
    status, said = forbidding(*TUNGSTEN, "build", str(folder), "--no-load")
    assert status == 1, said
    assert "error: this machine does not allow user namespaces" in said
    assert "hint: `sysctl -w user.max_user_namespaces=100000` as root" in said


def test_where_namespaces_are_forbidden_a_step_says_so_itself(blur, tmp_path):
    """As in a sandbox that was made by another way: no root's program runs, and nothing is made."""
    succeed("build", blur.directory, "--no-load")
    busybox = busybox_of(blur.directory)
    for name in ("tree/app", "tree/home/nonroot", "work"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "program.py").write_text("")
    variables = {
        "PATH": str(busybox.parent),
        "tree": str(tmp_path / "tree"),
        "program": str(tmp_path / "program.py"),
        "configPath": str(tmp_path / "program.py"),
        "out": str(tmp_path / "out"),
    }
    script = f". {ROOT}/nix/tools/step.sh"
    status, said = forbidding(busybox, "sh", "-euc", script, cwd=tmp_path / "work", env=variables)
    assert status == 1, said
    assert "tungsten: this machine does not allow user namespaces" in said
    assert not (tmp_path / "out").exists()


def busybox_of(directory):
    """The program that builds a model, as its export's derivations name it."""
    attribute = "path:.#packages.x86_64-linux.model-image.root.builder"
    command = nix_line("nix", "eval", "--raw", attribute)
    folder = directory / ".tungsten" / "export"
    return Path(subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout)
