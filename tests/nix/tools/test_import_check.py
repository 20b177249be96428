"""What goes wrong when a model is imported, told by its name, its place and what helps."""

import functools
import importlib.util
import json
import os
import signal
import sys
import types
from pathlib import Path

import pytest

from tests.nix.conftest import TOOLS
from tungstenkit.data import FACTS
from tungstenkit.spec.document import ModelSpec
from tungstenkit.spec.read import read_spec

pytestmark = pytest.mark.timeless("imports modules, and writes nothing that has a date")

MODEL = """
from tungstenkit import BaseIO, Option, define_model

class Input(BaseIO):
    number: int = Option(1, ge=0)

class Output(BaseIO):
    number: float

@define_model(input=Input, output=Output)
class Adder:
    def predict(self, inputs):
        return []
"""
NAMES = json.loads((TOOLS.parent / "steps" / "import-names.json").read_text())


@pytest.fixture(scope="module")
def program():
    spec = importlib.util.spec_from_file_location("import_check", TOOLS / "import_check.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def spec_of(tmp_path_factory):
    """The spec, in JSON, of a module: read once, by a process of its own, for all tests that declare the same."""

    @functools.cache
    def spec(declared):
        folder = tmp_path_factory.mktemp("declared")
        (folder / "tungsten_model.py").write_text(declared)
        return read_spec(folder).to_json()

    return spec


@pytest.fixture
def check(program, spec_of, tmp_path):
    """Imports a model whose code is `text` in the image; its spec is that of `declared`."""

    def check(text, declared=MODEL, *, timeout=60, files=None, **changes):
        (tmp_path / "app").mkdir(exist_ok=True)
        (tmp_path / "app" / "tungsten_model.py").write_text(text)
        for name, content in (files or {}).items():
            (tmp_path / "app" / name).parent.mkdir(exist_ok=True, parents=True)
            (tmp_path / "app" / name).write_text(content)
        spec = json.loads(spec_of(declared)) | changes
        config = {
            "spec": json.dumps(spec),
            "names": NAMES,
            "drivers": FACTS["driver-libraries"],
            "variables": {},
        }
        (tmp_path / "config.json").write_text(json.dumps(config))
        variables = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "PATH": os.environ["PATH"]}
        result, said = program.run_child(tmp_path / "config.json", variables, timeout, tmp_path / "app")
        return program.judge(result, said, spec, config)

    return check


def test_a_model_that_is_what_it_says_passes(check):
    assert check(MODEL) is None


@pytest.mark.parametrize(
    ("line", "name", "hint"),
    [
        (
            "import cv2_not_there as cv2",
            "cv2_not_there",
            "or cv2_not_there.py is missing beside the model (include_files",
        ),
        ("import faster_whisper", "faster_whisper", "add 'faster-whisper' to python_packages"),
        ("import open_clip", "open_clip", "add 'open-clip-torch' to python_packages"),
        ("import skimage.filters", "skimage", "add 'scikit-image' to python_packages"),
        ("import helpers.no_such", "helpers.no_such", "has no such module"),
        ("import helper.no_such", "helper.no_such", "has no such module"),
        ("import pydantic.no_such", "pydantic.no_such", "pydantic 2"),
    ],
)
def test_a_missing_module_is_named_with_the_package_to_add(check, line, name, hint):
    problem = check(line + "\n" + MODEL, files={"helpers/__init__.py": "", "helper.py": ""})
    assert problem.what == f"there is no module {name}"
    assert problem.where == "tungsten_model.py, line 1"
    assert hint in problem.hint


def test_whoever_has_a_part_of_a_namespace_has_not_all_of_it(program, tmp_path, monkeypatch):
    assert program._missing("pydantic.x", tmp_path)["distribution"].startswith("pydantic 2")
    monkeypatch.setitem(sys.modules, "pydantic", types.ModuleType("pydantic"))
    assert program._missing("pydantic.x", tmp_path)["distribution"] == ""


def test_a_missing_library_is_named_with_debians_package(check):
    problem = check("import ctypes\nctypes.CDLL('libzz9.so.3')\n" + MODEL)
    assert problem.what == "the shared library libzz9.so.3 is missing"
    assert "'libzz9-3'" in problem.hint
    assert "[tool.tungsten.libraries]" in problem.hint


def test_what_a_module_leaves_running_does_not_hold_up_the_check(check, tmp_path):
    text = """
import os, pathlib, time
if os.fork() == 0:
    os.setsid()
    pathlib.Path("new").write_text(str(os.getpid()))
    os.rename("new", "pid")
    time.sleep(20)
    pathlib.Path("late").touch()
    os._exit(0)
while not os.path.exists("pid"):
    time.sleep(0.01)
"""
    try:
        assert check(text + MODEL) is None
        assert not (tmp_path / "app/late").exists()
    finally:
        os.kill(int((tmp_path / "app/pid").read_text()), signal.SIGKILL)


def test_what_is_found_may_be_long(check):
    model = MODEL.replace("ge=0", f"ge=0, description={'x' * 200_000!r}")
    assert check(model, model) is None


@pytest.mark.parametrize("library", ["libcuda.so.1", "libnvidia-ml.so.1", "libGLESv2_nvidia.so.2"])
def test_a_gpus_driver_may_be_missing_where_there_will_be_one(check, library):
    text = (
        f"raise ImportError('{library}: cannot open shared object file: No such file or directory')\n" + MODEL
    )
    on_gpu = check(text, gpu=True)
    assert on_gpu.is_note
    assert str(on_gpu).startswith("note: ")
    without = check(text)
    assert not without.is_note
    assert "gpu=True" in without.hint


def test_a_gpu_may_be_missing_where_there_will_be_one(check):
    text = "raise RuntimeError('Found no NVIDIA driver on your system.')\n" + MODEL
    assert check(text, gpu=True).is_note
    assert not check(text).is_note


def test_a_renamed_class_is_a_spec_that_is_older_than_the_code(check):
    problem = check(MODEL.replace("class Adder", "class Addder"))
    assert "the class Adder" in problem.what
    assert "its models: Addder" in problem.what
    assert "export again" in problem.hint


def test_a_class_that_depends_on_what_is_installed_is_shown_where_it_differs(check):
    problem = check(MODEL.replace("number: float", "number: int"), batch_size=1)
    assert (
        'output-schema.properties.number.type: "number" in the spec, "integer" in the image' in problem.what
    )


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ("output=Output)", "output=Output, batch_size=4)", "batch-size: 1 in the spec, 4 in the image"),
        ("ge=0", "ge=1", "input-schema.properties.number.minimum: 0 in the spec, 1 in the image"),
        (
            "Option(1, ge=0)",
            "Option(1)",
            "input-schema.properties.number.minimum: 0 in the spec, nothing in the image",
        ),
    ],
)
def test_every_part_of_a_declaration_counts(check, old, new, line):
    assert line in check(MODEL.replace(old, new)).what


def test_an_exception_is_shown_with_the_models_own_frames_alone(check, program):
    problem = check("def load():\n    return {}['weights']\nload()\n" + MODEL)
    assert "KeyError: 'weights'" in problem.what
    assert 'tungsten_model.py", line 2, in load' in problem.what
    assert problem.where == "tungsten_model.py, line 2"
    assert program.__file__ not in problem.what
    assert "importlib" not in problem.what


@pytest.mark.parametrize(
    ("line", "hint"),
    [
        ("import urllib.request; urllib.request.urlopen('http://no-such-host.invalid/')", "no network here"),
        ("open('weights.bin')", "open them in setup"),
    ],
)
def test_what_an_import_can_not_have_here_is_told(check, line, hint):
    assert hint in check(line + "\n" + MODEL).hint


def test_an_import_that_exits_is_told(check):
    problem = check("import sys\nsys.exit(3)\n" + MODEL)
    assert problem.what == "the module exits when it is imported, with 3"


def test_an_import_that_ends_python_is_told_with_what_it_said(check):
    problem = check("import os\nprint('last words', flush=True)\nos._exit(5)\n" + MODEL)
    assert "exit status 5" in problem.what
    assert "last words" in problem.what


def test_a_crash_is_told_by_its_signal(check):
    problem = check("import ctypes\nctypes.string_at(0)\n" + MODEL)
    assert "SIGSEGV" in problem.what
    assert "tungsten_model.py" in problem.what  # what faulthandler says


def test_an_import_that_does_not_end_is_ended(check):
    problem = check("import threading\nthreading.Event().wait()\n" + MODEL, timeout=1)
    assert problem.what == "the import takes longer than 1 s"


def test_threads_and_children_of_the_import_do_not_keep_it(check):
    text = "import subprocess, threading\nthreading.Thread(target=threading.Event().wait).start()\n"
    assert check(text + "subprocess.Popen(['sleep', '1000'])\n" + MODEL, timeout=30) is None


def test_debians_rule_for_the_names_of_libraries(program):
    assert program.usual_package("libGL.so.1") == "libgl1"
    assert program.usual_package("libsndfile.so.1") == "libsndfile1"
    assert program.usual_package("libusb-1.0.so.0") == "libusb-1.0-0"


def test_names_that_need_no_table_are_not_in_it():
    """A table that only repeats a rule is a table that nobody checks."""
    assert [m for m, project in NAMES["projects"].items() if m.lower().replace("_", "-") == project] == []
    assert (
        Path(TOOLS.parent / "steps" / "import-names.json").read_text()
        == json.dumps(NAMES, indent=2, sort_keys=True) + "\n"
    )


def test_a_key_of_the_spec_that_nobody_has_called_incomparable_is_compared(check):
    problem = check(MODEL, timezone="UTC")
    assert 'timezone: "UTC" in the spec, nothing in the image' in problem.what


def test_an_argument_that_only_the_images_class_has_is_told(check):
    vars_too = MODEL + "\nobject.__setattr__(Adder.__tungsten_model__, 'timezone', 'UTC')\n"
    assert 'timezone: nothing in the spec, "UTC" in the image' in check(vars_too).what


def test_what_is_not_compared_are_keys_of_the_spec(program):
    keys = {field.alias or name for name, field in ModelSpec.model_fields.items()}
    assert keys > program._NOT_COMPARED


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("import no_such_thing", ("missing-module", "no_such_thing")),
        ("import ctypes\nctypes.CDLL('libzz9.so.3')", ("missing-library", "libzz9.so.3")),
        ("open('/app/weights.bin')", ("import-fails", "/app/weights.bin")),
        ("1 / 0", ("import-fails", "")),
    ],
)
def test_what_is_wrong_is_told_as_data_too(check, line, told):
    problem = check(line + "\n" + MODEL)
    mark, _, data = problem.told().partition(" ")
    assert mark == "@tungsten"
    fields = json.loads(data)
    assert (fields["kind"], fields["name"]) == told
    assert (fields["what"], fields["where"]) == (problem.what, problem.where)


@pytest.mark.parametrize("empty", ["None", "()", "{}", "''"])
def test_what_a_spec_leaves_out_is_empty_in_the_image(check, empty):
    """As of an argument that most models do not use: their specs are those of before there was one."""
    assert check(MODEL + f"\nobject.__setattr__(Adder.__tungsten_model__, 'timezone', {empty})\n") is None
