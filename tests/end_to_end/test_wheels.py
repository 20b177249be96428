"""Wheels that pip takes are taken, odd ones too, and an image has of them what pip would install."""

import zipfile

import pytest

from tests.binaries import wheel
from tests.end_to_end.harness import build, run_in, succeed, tungsten

MODEL = """\
from tungstenkit import BaseIO, define_model


class Input(BaseIO):
    text: str


class Output(BaseIO):
    text: str


@define_model(
    input=Input,
    output=Output,
    batch_size=1,
    python_version="3.11",
    python_packages={packages},
)
class Wheels:
    def predict(self, inputs):
        return [Output(text=one.text) for one in inputs]
"""


USE_DATA = """
import pathlib, sys

def read():
    return (pathlib.Path(sys.prefix) / "share" / "data-files" / "x.txt").read_text()
"""


def absolute_record(path):
    """As in selenium 4.1.0: every name begins with a slash, and one file is not named at all."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    record = next(name for name in members if name.endswith("RECORD"))
    lines = members[record].decode().splitlines(keepends=True)
    members[record] = "".join(f"/{line}" for line in lines[1:]).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A model whose packages lie beside it: two that bring one module, and one with an odd RECORD."""
    folder = tmp_path_factory.mktemp("wheels") / "wheels"
    data = {"data_files.py": USE_DATA, "data_files-1.0.data/data/share/data-files/x.txt": "found"}
    wheel(folder / "data_files-1.0-py3-none-any.whl", data)
    for name in ("twin", "twin_gpu"):
        wheel(
            folder / f"{name}-1.0-py3-none-any.whl",
            {"twin/__init__.py": f"WHO = {name!r}\n", f"{name}_own.py": ""},
        )
    odd = {"odd/__init__.py": "", "odd/data.txt": "x"}
    absolute_record(wheel(folder / "odd-1.0-py3-none-any.whl", odd))
    names = [f"./{path.name}" for path in sorted(folder.glob("*.whl"))]
    (folder / "tungsten_model.py").write_text(MODEL.format(packages=names))
    return folder


def test_lock_tells_of_them_and_the_image_has_what_pip_would_install(model):
    told = tungsten("lock", model)
    assert told.returncode == 0, told.stderr
    assert "twin-gpu, twin: both bring twin/__init__.py: that of twin is taken, as pip does" in told.stderr
    assert "odd-1.0-py3-none-any.whl: its RECORD does not say what 1 of its 5 files are" in told.stderr
    why = succeed("why", "twin-gpu", model)
    assert "both bring twin/__init__.py" in why
    use = "import data_files, odd, twin, twin_own, twin_gpu_own; print(twin.WHO, data_files.read())"
    assert run_in(build(model).image_id, "/usr/bin/python3", "-c", use) == "twin found\n"
    before = (model / "tungsten.lock").read_bytes()
    succeed("lock", model)
    assert (model / "tungsten.lock").read_bytes() == before


def test_what_can_not_be_built_is_refused_by_lock(tmp_path):
    path = wheel(tmp_path / "bad-1.0-py3-none-any.whl", {"bad.py": "1"})
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("bad/.wh.x", "")
    (tmp_path / "tungsten_model.py").write_text(MODEL.format(packages=[f"./{path.name}"]))
    told = tungsten("lock", tmp_path)
    assert told.returncode == 1
    assert "bad/.wh.x: in an image, a name that begins with .wh. takes another file away" in told.stderr
    assert not (tmp_path / "tungsten.lock").exists()
