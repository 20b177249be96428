"""Wheels built from source in the sandbox: that they work, that they come out the same, and what failures say."""

import gzip
import io
import json
import re
import shutil
import subprocess
import tarfile

import pytest

from tests.end_to_end.harness import ROOT, SYSTEM, build, nix, nix_line, succeed, tungsten
from tungstenkit import store

MODEL = """
from tungstenkit import BaseIO, define_model

class Input(BaseIO):
    number: int

class Output(BaseIO):
    number: int

@define_model(input=Input, output=Output, python_packages=["native @ ./native", "./pure"])
class Adder:
    def predict(self, inputs):
        return [Output(number=one.number) for one in inputs]
"""
# Its strings would tell of another build: the path, the time, and what a random seed names.
EXTENSION = """
#include <Python.h>
#ifndef GIVEN
#define GIVEN "nothing"
#endif
static PyObject *answer(PyObject *self, PyObject *none) {
    return Py_BuildValue("isss", 42, GIVEN, __FILE__, __DATE__ " " __TIME__);
}
static PyMethodDef methods[] = {{"answer", answer, METH_NOARGS, ""}, {0}};
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "native", "", -1, methods};
PyMODINIT_FUNC PyInit_native(void) { return PyModule_Create(&module); }
"""
# The order of a set of strings follows the seed of hashes.
SETUP = """
from pathlib import Path
from setuptools import Extension, setup
Path("order.py").write_text(f"ORDER = {list({str(number) for number in range(50)})!r}\\n")
setup(py_modules=["order"], ext_modules=[Extension("native", ["src/native.c"])])
"""
SETTINGS = """
[tool.tungsten.build.native]
environment = { CFLAGS = '-DGIVEN=\\"of-the-table\\"' }
"""
HELPER = "import pkg_resources\nodd = pkg_resources.parse_version('1')\n"
PROJECT = '[build-system]\nrequires = ["setuptools>=70"]\n[project]\nname = "{}"\nversion = "1.0"\n'


def write(folder, files):
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A model with a C extension and a pure package, locked: both are built now."""
    folder = tmp_path_factory.mktemp("model") / "adder"
    write(
        folder,
        {
            "tungsten_model.py": MODEL,
            "native/pyproject.toml": PROJECT.format("native"),
            "native/setup.py": SETUP,
            "native/src/native.c": EXTENSION,
            "pyproject.toml": SETTINGS,
            "pure/pyproject.toml": PROJECT.format("pure"),
            "pure/src/pure/__init__.py": "WORD = 'pure'\n",
        },
    )
    succeed("lock", folder)
    return folder


def sources(folder):
    platform = json.loads((folder / "tungsten.lock").read_text())["platforms"][SYSTEM]
    return {source["project"]: source for source in platform["sources"]}


def wheel_path(source):
    return store.file_path(source["wheel-sha256"], store.store_name(source["wheel"]))


def test_what_was_built_is_in_the_lock_and_in_the_store(model):
    locked = sources(model)
    assert locked["pure"]["wheel"] == "pure-1.0-py3-none-any.whl"
    assert locked["native"]["wheel"].endswith("-linux_x86_64.whl")
    assert "gcc" in {deb["name"] for deb in locked["native"]["build"]["debs"]}
    assert "gcc" not in {deb["name"] for deb in locked["pure"]["build"]["debs"]}
    assert store.missing([wheel_path(source) for source in locked.values()]) == set()


def test_it_works_in_an_image_and_only_it_is_in_there(model):
    """And the extension knows neither where nor when it was built."""
    image = build(model, "--no-load")
    names, content = {}, b""
    for digest in image.layers:
        with tarfile.open(fileobj=io.BytesIO(gzip.decompress(image.blob(digest).read_bytes()))) as layer:
            for member in layer:
                names[member.name] = member
                if member.name.endswith("dist-packages/native.cpython-311-x86_64-linux-gnu.so"):
                    content = layer.extractfile(member).read()
    assert b"src/native.c" in content
    assert b"of-the-table" in content
    assert b"/project/source" not in content
    assert b"Jan  1 1980 00:00:00" in content
    assert not any(name.startswith("usr/bin/") and "gcc" in name for name in names)
    assert any(name.endswith("dist-packages/pure/__init__.py") for name in names)


def test_a_second_build_gives_the_same_bytes(model):
    for project in sources(model):
        arguments = {"lock": model / "tungsten.lock", "system": SYSTEM, "project": project}
        options = [part for name, value in arguments.items() for part in ("--argstr", name, value)]
        nix("nix-build", ROOT / "nix" / "flake" / "seal.nix", *options, "--no-out-link", "--check")


OTHER = {"x86_64-linux": "aarch64-linux", "aarch64-linux": "x86_64-linux"}[SYSTEM]


def two_platforms(folder, model, package):
    """The same model for two platforms, with one of its sources alone; not locked yet."""
    shutil.copytree(model, folder, ignore=shutil.ignore_patterns("tungsten.lock", ".tungsten"))
    definition = folder / "tungsten_model.py"
    definition.write_text(MODEL.replace('"native @ ./native", "./pure"', f'"./{package}"'))
    return [folder, "--platform", SYSTEM, "--platform", OTHER]


def test_what_is_for_every_platform_is_built_once(model, tmp_path):
    arguments = two_platforms(tmp_path / "adder", model, "pure")
    succeed("lock", *arguments)
    platforms = json.loads((tmp_path / "adder" / "tungsten.lock").read_text())["platforms"]
    mine, others = (platforms[system]["sources"][0] for system in (SYSTEM, OTHER))
    assert mine["wheel-sha256"] == others["wheel-sha256"]
    # Nothing of another platform is run for the image.
    succeed("build", tmp_path / "adder", "--platform", OTHER, "--no-load")


def test_what_is_for_one_platform_is_not_built_on_another(model, tmp_path):
    done = tungsten("lock", *two_platforms(tmp_path / "adder", model, "native"))
    assert done.returncode == 1
    assert f"native is built from source, which {OTHER} must do itself" in done.stderr


def test_relocking_builds_nothing_again(model):
    before = (model / "tungsten.lock").read_bytes()
    done = tungsten("lock", model)
    assert done.returncode == 0, done.stderr
    assert "building" not in done.stderr
    assert (model / "tungsten.lock").read_bytes() == before


def test_a_changed_folder_makes_the_lock_stale_by_name(model):
    file = model / "pure" / "src" / "pure" / "__init__.py"
    text = file.read_text()
    file.write_text("WORD = 'changed'\n")
    done = tungsten("build", model, "--no-load")
    file.write_text(text)
    assert done.returncode == 1
    assert "pure has changed" in done.stderr
    assert "tungsten lock" in done.stderr


def test_an_export_carries_the_models_own_sources(model, tmp_path):
    succeed("nix-export", model, "-o", tmp_path / "out")
    assert {file.name for file in (tmp_path / "out" / "files").iterdir()} == {
        "native-1.0.tar",
        "pure-1.0.tar",
    }
    text = (tmp_path / "out" / "sources.json").read_text()
    assert str(model) not in text
    drv = subprocess.run(
        nix_line("nix", "path-info", "--derivation", "path:.#model-image"),
        cwd=tmp_path / "out",
        capture_output=True,
        text=True,
    )
    assert drv.returncode == 0, drv.stderr


@pytest.mark.parametrize(
    ("change", "what", "hint"),
    [
        (
            {"native/src/native.c": "#include <probe.h>\n" + EXTENSION},
            "probe.h: No such file",
            'debs = ["libprobe-dev"]',
        ),
        (
            {"native/setup.py": "import subprocess\nsubprocess.run(['probe-tool'])\n" + SETUP},
            "No such file or directory: 'probe-tool'",
            'debs = ["libprobe-dev"]',
        ),
        (
            {"native/setup.py": "from order_of import odd\n" + SETUP, "native/order_of.py": HELPER},
            "No module named 'pkg_resources'",
            'requires = ["setuptools<81"]',
        ),
        (
            {
                "native/setup.py": SETUP.replace("setup(", "setup(setup_requires=['probe>1'], "),
            },
            "the build also needs probe>1",
            'requires = ["probe>1"]',
        ),
        (
            {
                "native/pyproject.toml": '[build-system]\nrequires = ["setuptools>=70"]\n',
                "native/setup.cfg": "[metadata]\nname = native\nversion = 1.0\n",
                "native/setup.py": SETUP.replace("setup(", "setup(install_requires=['probe>1'], "),
            },
            "it needs probe>1, which its source did not say",
            "add to python_packages: 'probe>1'",
        ),
        (
            {
                "native/pyproject.toml": '[build-system]\nrequires = ["setuptools>=70"]\n',
                "native/setup.cfg": "[metadata]\nname = native\nversion = 1.0\n",
                "native/setup.py": SETUP.replace("setup(", "setup(version='2.0', "),
            },
            "the source became native 2.0",
            'version = "2.0"',
        ),
        (
            {"native/setup.py": "import urllib.request\nurllib.request.urlopen('http://192.0.2.1/')\n"},
            "unreachable",
            "",
        ),
    ],
    ids=["header", "program", "module", "undeclared", "requirement", "version", "network"],
)
def test_a_failure_says_what_to_do(model, tmp_path, change, what, hint):
    folder = tmp_path / "adder"
    write(folder, {name: (model / name).read_text() for name in ("tungsten_model.py", "tungsten.lock")})
    for name in ("native", "pure"):
        for file in (model / name).rglob("*"):
            if file.is_file():
                write(folder, {str(file.relative_to(model)): file.read_text()})
    write(folder, change)
    before = (folder / "tungsten.lock").read_bytes()
    done = tungsten("lock", folder)
    assert done.returncode == 1
    assert what in done.stderr
    assert hint in done.stderr
    assert (folder / "tungsten.lock").read_bytes() == before
    paste(folder, done.stderr)
    if hint:
        succeed("lock", folder)


def paste(folder, told):
    """Write what a hint says where it says."""
    if match := re.search(r"pyproject\.toml:\n( *\[tool\.tungsten\.build\.\S+\]\n.+)", told):
        write(folder, {"pyproject.toml": f"{match[1]}\n"})
    if match := re.search(r"hint: add to python_packages: (.+)", told):
        definition = folder / "tungsten_model.py"
        definition.write_text(
            definition.read_text().replace("python_packages=[", f"python_packages=[{match[1]}, ")
        )


def test_a_setup_that_imports_pkg_resources_is_built(model, tmp_path):
    """It is a part of setuptools up to 80; what asks for no version gets one that has it."""
    write(
        tmp_path,
        {
            "tungsten_model.py": MODEL.replace('"native @ ./native", "./pure"', '"./old"'),
            "old/setup.py": "import pkg_resources\nfrom setuptools import setup\nsetup()\n",
            "old/setup.cfg": "[metadata]\nname = old\nversion = 1.0\n[options]\ninstall_requires =\n",
        },
    )
    succeed("lock", tmp_path)
    (built,) = sources(tmp_path).values()
    assert {wheel["version"] for wheel in built["build"]["wheels"] if wheel["project"] == "setuptools"} == {
        "80.0"
    }
