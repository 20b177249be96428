"""A definition is read without its dependencies, and its document is exact."""

import ast
import hashlib
import json
import os
import textwrap
from pathlib import Path

import pytest

from tungstenkit.lock.stale import input_digest
from tungstenkit.sdk.errors import DefinitionError, SpecError
from tungstenkit.spec import apart
from tungstenkit.spec.document import ModelSpec
from tungstenkit.spec.load import Finder
from tungstenkit.spec.read import read_spec, repository_name

pytestmark = pytest.mark.timeless(
    "what a module declares has no date, and each is read by a process of its own"
)

EXAMPLES = Path(__file__).parents[3] / "examples"

IO = """
from tungstenkit import BaseIO, Field, Image, Option, define_model
class Input(BaseIO):
    x: int
class Output(BaseIO):
    y: int
"""

MODEL = """
@define_model(input=Input, output=Output)
class Model:
    def predict(self, inputs):
        return inputs
"""


def write(directory, text, name="tungsten_model.py"):
    path = directory / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(textwrap.dedent(text))


def read(directory, text, **arguments):
    write(directory, text)
    return read_spec(directory, **arguments)


def error(directory, text, kind=SpecError, **arguments):
    with pytest.raises(kind) as caught:
        read(directory, text, **arguments)
    return caught.value


def test_the_document(tmp_path):
    spec = read(
        tmp_path / "My Model",
        IO
        + """
@define_model(input=Input, output=Output, batch_size=2, gpu=True, gpu_mem_gb=0.5, python_packages=["torch"])
class Model:
    def setup(self): pass
    def predict(self, inputs): return inputs
""",
    )
    expected = {
        "spec-version": 1,
        "name": "model",
        "module": "tungsten_model",
        "class": "Model",
        "batch-size": 2,
        "gpu": True,
        "gpu-mem-gb": 0.5,
        "mem-gb": 8,
        "cuda-version": None,
        "python-version": None,
        "python-packages": ["torch"],
        "system-packages": [],
        "libraries": {},
        "dockerfile-commands": [],
        "base-image": None,
        "include-files": ["*"],
        "exclude-files": [".*/", "__pycache__/", "*.pyc", "*.pyo", "*.pyd", ".*"],
        "has-setup": True,
        "has-post-build": False,
        "has-predict-demo": False,
        "input-schema": {
            "type": "object",
            "properties": {"x": {"type": "integer", "description": "X"}},
            "required": ["x"],
            "x-order": ["x"],
        },
        "output-schema": {
            "type": "object",
            "properties": {"y": {"type": "integer"}},
            "required": ["y"],
            "x-order": ["y"],
        },
        "demo-output-schema": None,
        "examples": [],
    }
    text = json.dumps(expected, indent=2, sort_keys=True) + "\n"
    assert spec.to_json() == text
    assert ModelSpec.from_json(text) == spec


@pytest.mark.parametrize(
    ("example", "name"), [("blur", "blur"), ("caption", "caption"), ("detection", "detector")]
)
def test_the_examples_are_read(example, name):
    spec = read_spec(EXAMPLES / example)
    assert spec.name == name
    assert ModelSpec.from_json(spec.to_json()) == spec


EXAMPLE = """
from tungstenkit import BaseIO, Field, Image, MaskedImage, Option, define_model
class Input(BaseIO):
    photo: Image
    more: list[Image] = Option([])
    radius: float = Option(2.0, ge=0)
class Output(BaseIO):
    y: int
@define_model(input=Input, output=Output, examples=EXAMPLES)
class Model:
    def predict(self, inputs):
        return inputs
"""


def with_examples(*examples):
    return EXAMPLE.replace("EXAMPLES", repr(list(examples)))


def test_examples_carry_their_files_and_nothing_that_was_not_given(tmp_path):
    write(tmp_path, "one", "images/a.png")
    write(tmp_path, "two", "b.jpg")
    text = with_examples({"photo": "images/a.png", "radius": 3}, {"photo": "data:,x", "more": ["b.jpg"]})
    assert read(tmp_path, text).examples == [
        {"photo": "data:image/png;base64,b25l", "radius": 3.0},
        {"photo": "data:text/plain;charset=US-ASCII;base64,eA==", "more": ["data:image/jpeg;base64,dHdv"]},
    ]


@pytest.mark.parametrize(
    ("example", "said"),
    [
        ({}, "examples[0].photo: Field required"),
        (
            {"photo": "data:,x", "radius": -1},
            "examples[0].radius: Input should be greater than or equal to 0",
        ),
        ({"photo": "data:,x", "raduis": 1}, "examples[0]: the input has no field 'raduis'"),
        ({"photo": "missing.png"}, "No such file or directory"),
        ({"photo": "data:,x", "more": ["https://host/a.png"]}, "is on the web"),
        ({"photo": "data:,x", "radius": float("inf")}, "examples[0]: Out of range float values"),
        (5, "examples[0]: 5 is not a dict"),
        ({"photo": "data:," + 3_000_000 * "x"}, "the limit is 2097152"),
    ],
)
def test_a_wrong_example_is_an_error_that_says_where(tmp_path, example, said):
    text = (
        with_examples(example).replace("inf", "float('inf')")
        if said.endswith("values")
        else with_examples(example)
    )
    (problem,) = error(tmp_path, text, DefinitionError).problems
    assert said in problem


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"spec-version": 2}, "spec-version 2 is of a newer tungsten"),
        ({"spec-version": None}, "spec-version None is not known"),
        ({"batch-size": "2"}, "batch-size: "),
        ({"batch-size": 0}, "batch-size: "),
        ({"colour": "red"}, "colour: "),
        ({"gpu": None}, "gpu: "),
    ],
)
def test_a_wrong_document_is_an_error_that_names_the_key(change, said):
    document = json.loads(read_spec(EXAMPLES / "blur").to_json())
    with pytest.raises(SpecError) as caught:
        ModelSpec.from_json(json.dumps({**document, **change}), where="a/spec.json")
    assert said in caught.value.what
    assert caught.value.where == "a/spec.json"


@pytest.mark.parametrize("text", ["", "{", "[]", "3"])
def test_what_is_no_spec(text):
    with pytest.raises(SpecError):
        ModelSpec.from_json(text)


def test_a_missing_key_is_named():
    document = json.loads(read_spec(EXAMPLES / "blur").to_json())
    del document["module"], document["gpu"]
    with pytest.raises(SpecError, match=r"(?s)module: .*gpu: "):
        ModelSpec.from_json(json.dumps(document))


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("blur", "blur"),
        ("My Model", "my-model"),
        ("a__b..c--d", "a_b.c-d"),
        ("-Ünï_", "uni"),
        ("模型", "model"),
        ("x.", "x"),
    ],
)
def test_names_are_repository_names(folder, name):
    assert repository_name(folder) == name


def test_dependencies_are_not_imported(tmp_path):
    """What module level code does with dependencies is done with stubs, installed (numpy) or not."""
    write(tmp_path, "import foo\nTHING = foo.bar\ndef helper(): return 1", "models/unet.py")
    write(tmp_path, "", "datasets/cats/a.txt")
    write(tmp_path, "VALUE = 3", "yaml.py")
    spec = read(
        tmp_path,
        """
        import abc, dataclasses, enum, importlib.metadata, importlib.util
        from typing import Any, Dict, List, Optional, TypeVar, Union
        print("noise on stdout")
        import numpy as np
        import torch, torch.nn as nn
        import torch.nn.functional as F
        from torch.utils.data import Dataset, DataLoader
        from transformers import *
        from datasets import load_dataset
        from models import unet
        from models.unet import THING, helper
        import yaml
        import PIL.Image
        from tungstenkit import BaseIO, Image, Option, define_model

        assert yaml.VALUE == 3 and helper() == 1 and "stub" in repr(np.zeros(3)) and "stub" in repr(THING)
        assert PIL.Image.new("L", (1, 1)).size == (1, 1)
        if torch.__version__ < "1.8" or not torch.__version__ >= "2":
            raise RuntimeError("too old")
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        torch.backends.cudnn.benchmark = True
        torch.set_grad_enabled(False)
        scale = -(np.pi * 2 + 1) / 3 ** np.e
        first = np.array([1])[0]
        assert not isinstance(3, torch.Tensor)
        assert torch.float16 is torch.float16 and torch.float16 != torch.float32
        assert {torch.float16: 1}[torch.float16] == 1
        version = importlib.metadata.version("torch")
        assert importlib.util.find_spec("xformers") is not None
        logging_line = f"device: {device}, {scale:.2f}"
        T = TypeVar("T", bound=torch.Tensor)

        class Net(nn.Module):
            def __init__(self, width=np.float32(1)):
                super().__init__()
                self.layer = nn.Linear(1, 2)
            def forward(self, x: torch.Tensor, y: Optional[torch.Tensor] = None) -> "torch.Tensor | None":
                return x
        class Abstract(nn.Module, abc.ABC): pass
        class Data(Dataset[int], Abstract): pass
        class Tagged(PreTrainedModel, tag="x"): pass
        class Precision(enum.Enum):
            HALF = torch.float16
            FULL = torch.float32
        assert len(Precision) == 2
        @dataclasses.dataclass
        class Config:
            dtype: Any = torch.float16
            names: Dict[str, torch.Tensor] = dataclasses.field(default_factory=dict)
        @torch.jit.script
        def f(x: Union[torch.Tensor, str]) -> List[torch.Tensor]: return x
        assert f(3) == 3
        net = Net().to(device).eval()
        pipe = AutoModel.from_pretrained("x")
        with torch.no_grad(), torch.autocast("cuda") as a:
            net(first)
        try:
            import xformers
        except ImportError:
            raise
        for item in DataLoader([1]): item.to(device)

        class Input(BaseIO):
            image: Image
        class Output(BaseIO):
            image: Image
        @define_model(input=Input, output=Output)
        class Model(Net):
            @torch.no_grad()
            def setup(self): pass
            @torch.no_grad()
            @torch.autocast("cuda")
            def predict(self, inputs: List[Input]) -> List[Output]:
                return inputs
        """,
    )
    assert spec.class_name == "Model"
    assert spec.has_setup
    assert list(spec.input_schema["properties"]) == ["image"]


def test_future_annotations(tmp_path):
    read(tmp_path, "from __future__ import annotations\nimport torch\n" + IO + MODEL)


def test_real_code_sees_no_stubs(tmp_path):
    """The standard library looks for optional modules; a stub in their place would break it."""
    read(tmp_path, IO + "import pickle\nassert getattr(pickle, 'PyStringMap', None) is None" + MODEL)


def test_a_folder_whose_name_begins_like_a_package_s_is_model_code():
    code = Finder({"tungstenkit": "/place"}).real_code
    assert "/place/tungstenkit/sdk/io.py".startswith(code)
    assert not "/place/tungstenkit-models/blur/tungsten_model.py".startswith(code)


@pytest.mark.parametrize(
    ("lines", "named"),
    [
        ("class I(BaseIO):\n    x: torch.Tensor", ["I.x", "torch.Tensor"]),
        ("class I(BaseIO):\n    x: 'torch.Tensor'", ["I.x", "torch.Tensor"]),
        ("class I(BaseIO):\n    x: list[torch.Tensor]", ["I.x", "torch.Tensor"]),
        ("class T(torch.Tensor): pass\nclass I(BaseIO):\n    x: T", ["I.x", "T"]),
        ("class I(BaseIO):\n    x: float = torch.pi", ["I.x", "torch.pi"]),
        ("class I(BaseIO):\n    x: float = Option(torch.pi)", ["I.x", "torch.pi"]),
        ("class I(BaseIO):\n    x: str = Option(str(torch.name))", ["x.default", "torch.name"]),
        ("class I(BaseIO):\n    x: str = Field(choices=torch.names)", ["I.x", "torch.names"]),
        ("class I(BaseIO):\n    x: str = Field(choices=[torch.name])", ["I.x", "torch.name"]),
        ("class I(BaseIO):\n    x: float = Field(ge=torch.low)", ["I.x", "torch.low"]),
        ("class I(BaseIO):\n    x: float = Field(description=f'{torch.what}')", ["x.description", "torch.what"]),
        ("I = torch.Input", ["input", "torch.Input"]),
        ("class I(torch.Input): pass", ["input", "I"]),
    ],
)  # fmt: skip
def test_a_stub_in_a_schema_is_named(tmp_path, lines, named):
    problem = str(
        error(tmp_path, f"import torch\n{IO}\n{lines}\n" + MODEL.replace("=Input", "=I"), DefinitionError)
    )
    assert all(name in problem for name in named), problem


@pytest.mark.parametrize(
    ("argument", "named"),
    [
        ("batch_size=torch.cuda.device_count()", ["batch_size", "torch.cuda.device_count()"]),
        ("gpu=torch.cuda.is_available()", ["gpu", "torch.cuda.is_available()"]),
        ("cuda_version=torch.version.cuda, gpu=True", ["cuda_version", "torch.version.cuda"]),
        ("python_packages=torch.packages", ["python_packages", "torch.packages"]),
        ("python_packages=[f'torch=={torch.__version__}']", ["python_packages[0]", "torch.__version__"]),
        ("include_files=[str(torch.__file__)]", ["include_files[0]", "torch.__file__"]),
        ("mem_gb=torch.size * 2", ["mem_gb", "torch.size"]),
    ],
)
def test_a_stub_in_an_argument_is_named(tmp_path, argument, named):
    text = "import torch\n" + IO + MODEL.replace("output=Output", f"output=Output, {argument}")
    problem = error(tmp_path, text, DefinitionError)
    assert all(name in problem.what for name in named), problem
    assert "not imported" in problem.hint


def test_a_stub_never_becomes_a_number(tmp_path):
    assert "line 3" in error(tmp_path, "import torch\n\nint(torch.__version__)").where


def test_problems_of_a_definition_come_with_their_place(tmp_path):
    text = IO + MODEL.replace("output=Output", "output=Output, batch_size=0, mem_gb=0")
    problem = error(tmp_path, text, DefinitionError)
    assert len(problem.problems) == 2
    assert problem.where == "tungsten_model.py, line 8 (tungsten_model.Model)"


def test_requirements_are_parsed_in_full(tmp_path):
    """`define_model` has no parser of markers and versions."""
    packages = "['numpy', 'torch==2.1..0', 'tomli; python_version << 3']"
    text = IO + MODEL.replace("output=Output", f"output=Output, python_packages={packages}")
    problems = error(tmp_path, text, DefinitionError).problems
    assert [p.partition(" is not a requirement: ")[0] for p in problems] == [
        "python_packages[1]: 'torch==2.1..0'",
        "python_packages[2]: 'tomli; python_version << 3'",
    ]


def test_a_path_that_is_not_utf_8_is_refused(tmp_path):
    folder = Path(os.fsdecode(os.fsencode(tmp_path / "b") + b"\xff"))
    folder.mkdir()
    with pytest.raises(SpecError, match="not UTF-8"):
        read_spec(folder)


def test_no_folder_and_no_module(tmp_path):
    with pytest.raises(SpecError, match="no such folder"):
        read_spec(tmp_path / "nowhere")
    with pytest.raises(SpecError, match="there is no module tungsten_model"):
        read_spec(tmp_path)
    with pytest.raises(SpecError, match="not the name of a Python module"):
        read_spec(tmp_path, "../model")


def test_a_module_without_models(tmp_path):
    assert "no class in tungsten_model is decorated" in error(tmp_path, IO).what


def test_several_models_are_listed_and_chosen_from(tmp_path):
    text = IO + MODEL + MODEL.replace("Model:", "Other:")
    problem = error(tmp_path, text)
    assert "Model, Other" in problem.hint
    assert "-c" in problem.hint
    assert read_spec(tmp_path, class_name="Other").class_name == "Other"
    with pytest.raises(SpecError, match="no model is called Third"):
        read_spec(tmp_path, class_name="Third")


def test_another_module(tmp_path):
    write(tmp_path, IO + MODEL, "pkg/my_model.py")
    write(tmp_path, "from .my_model import Model", "pkg/__init__.py")
    assert read_spec(tmp_path, "pkg.my_model").module == "pkg.my_model"
    assert read_spec(tmp_path, "pkg").class_name == "Model"


def test_an_imported_model_counts_only_without_ones_own(tmp_path):
    write(tmp_path, IO + MODEL, "base.py")
    assert read(tmp_path, "from base import Model\nfrom base import Model as Again").class_name == "Model"
    text = "from base import *\n@define_model(input=Input, output=Output)\nclass Mine(Model): pass"
    assert read(tmp_path, text).class_name == "Mine"
    assert "no class" in error(tmp_path, "import base\nclass Mine(base.Model): pass").what


def test_errors_of_the_model_s_code_come_with_their_place(tmp_path):
    write(tmp_path, "x = 1\nraise ValueError('of this\\nkind')", "helper.py")
    problem = error(tmp_path, "import torch\nimport helper")
    assert problem.what == "ValueError: of this kind"
    assert problem.where == "helper.py, line 2"
    assert error(tmp_path, "x = 1\nif x\n").where == "tungsten_model.py, line 2"


@pytest.mark.parametrize(
    "line",
    [
        "open('/somewhere/body.json')",
        "import pathlib; (pathlib.Path.home() / '.netrc').read_text()",
        "open('out.txt', 'w')",
        "import os; os.environ['NO_SUCH_TOKEN']",
        "from urllib.request import urlopen; urlopen('http://192.0.2.1/x')",
    ],
)
def test_what_is_kept_from_a_module_is_said_where_it_misses_it(tmp_path, line):
    hint = error(tmp_path, line).hint
    assert "read apart from this machine" in hint
    assert "--trust" in hint


@pytest.mark.parametrize(
    "line", ["open('body.json')", "{}['a']", "import os; os.environ[1]", "raise OSError('x')"]
)
def test_what_is_wrong_for_everybody_has_no_such_hint(tmp_path, line):
    assert error(tmp_path, line).hint is None


def test_who_trusts_a_module_has_kept_nothing_from_it(tmp_path):
    assert error(tmp_path, "open('/no/such/file')", trust=True).hint is None


def test_a_missing_name_of_the_standard_library_is_an_error(tmp_path):
    assert "ImportError" in error(tmp_path, "from math import no_such_name").what


def test_a_module_that_exits(tmp_path):
    assert "exits when it is imported" in error(tmp_path, "import sys\nsys.exit(3)").what
    problem = error(tmp_path, "import os\nprint('last words', flush=True)\nos._exit(7)")
    assert "exit status 7" in problem.what
    assert "last words" in problem.what
    assert problem.hint is None


def test_a_module_that_does_not_end(tmp_path):
    assert "longer than 1 s" in error(tmp_path, "while True: pass", timeout=1).what


def test_what_the_module_starts_does_not_matter(tmp_path):
    threads = "import threading\nthreading.Thread(target=threading.Event().wait).start()\n"
    read(tmp_path, threads + "import atexit\natexit.register(print, 'x')\n" + IO + MODEL)


@pytest.mark.parametrize("name", ["json.py", "pydantic.py", "PIL/__init__.py", "tungstenkit/__init__.py"])
def test_modules_that_hide_others_are_reported(tmp_path, name):
    write(tmp_path, "", name)
    assert name.split("/")[0] in error(tmp_path, IO + MODEL).what


def test_folders_and_tests_hide_nothing(tmp_path):
    for name in ("test.py", "json/data.json", "tests/__init__.py"):
        write(tmp_path, "", name)
    read(tmp_path, IO + MODEL)


def test_reading_leaves_nothing_in_the_folder(tmp_path):
    write(tmp_path, "x = 1", "helper.py")
    read(tmp_path, "import helper\n" + IO + MODEL)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["helper.py", "tungsten_model.py"]


def test_the_working_directory_is_the_model_s(tmp_path):
    write(tmp_path, "one\ntwo", "names.txt")
    text = IO.replace("x: int", "x: str = Option('one', choices=open('names.txt').read().split())") + MODEL
    assert read(tmp_path, text).input_schema["properties"]["x"]["choices"] == ["one", "two"]


def test_the_result_is_the_same_every_time(tmp_path, monkeypatch):
    packages = "[x for x in {'torch', 'numpy', 'scipy', 'pandas', 'jax'}]"
    text = IO + MODEL.replace("output=Output", f"output=Output, python_packages={packages}")
    results = set()
    for seed in ("1", "2", "3"):
        monkeypatch.setenv("PYTHONHASHSEED", seed)
        results.add(read(tmp_path, text).to_json())
    assert len(results) == 1


def test_a_definition_does_not_depend_on_the_folders_name(tmp_path):
    """An image must not: a checkout under another name would have another digest."""
    texts = {read(tmp_path / name, IO + MODEL).to_json() for name in ("one", "Another Name")}
    assert len(texts) == 1


@pytest.mark.parametrize(
    "arguments",
    ["system_packages=[*zoo.names]", 'include_files=["*.py", *zoo.names]', "batch_size=len(zoo.names)"],
)
def test_a_list_or_length_of_a_stub_does_not_pass_for_a_value(tmp_path, arguments):
    text = "import zoo\n" + (IO + MODEL).replace("output=Output", f"output=Output, {arguments}")
    with pytest.raises((SpecError, DefinitionError), match="zoo"):
        read(tmp_path, text)


def test_the_models_code_does_not_see_our_arguments(tmp_path):
    text = "import sys\nARGUMENTS = list(sys.argv)\n" + (IO + MODEL).replace(
        "output=Output", 'output=Output, include_files=ARGUMENTS or ["*"]'
    )
    assert read(tmp_path, text).include_files == ["tungsten_model"]


def test_files_of_requirements_are_written_out(tmp_path):
    """So that the spec holds all that was asked for, and a change of a file makes the lock stale."""
    text = IO + MODEL.replace(
        "output=Output", "output=Output, python_packages=['six', '-r requirements.txt']"
    )
    (tmp_path / "tungsten_model.py").write_text(text)
    (tmp_path / "requirements.txt").write_text("torch>=2  # why\n-c limits.txt\n")
    (tmp_path / "limits.txt").write_text("numpy<2\n")
    assert read_spec(tmp_path).python_packages == ["six", "torch>=2", "-c numpy<2"]


def test_what_counts_otherwise_than_it_looks_is_known_once_it_is_read(tmp_path):
    """With the spec, and not in it: who reads the document has read no declaration."""
    said = "dockerfile_commands=['ARG A', 'RUN x'], python_packages=['-r requirements.txt']"
    (tmp_path / "tungsten_model.py").write_text(IO + MODEL.replace("output=Output", f"output=Output, {said}"))
    (tmp_path / "requirements.txt").write_text("six\n--prefer-binary\n")
    spec = read_spec(tmp_path)
    argument, option = spec.notices
    assert "ARG A has no default" in argument
    assert option.startswith("--prefer-binary changes nothing")
    assert ModelSpec.from_json(spec.to_json()).notices == ()


@pytest.mark.parametrize("way", ["-c uv.lock", "-c ./uv.lock", "-r more.txt", "[tool.tungsten]"])
def test_a_lock_file_of_another_tool_is_part_of_the_spec_by_its_digest(tmp_path, way):
    packages = ["six"] if way.startswith("[") else ["six", way]
    text = IO + MODEL.replace("output=Output", f"output=Output, python_packages={packages}")
    (tmp_path / "tungsten_model.py").write_text(text)
    (tmp_path / "more.txt").write_text("-c uv.lock\n")
    (tmp_path / "uv.lock").write_text("version = 1\n")
    if way.startswith("["):
        (tmp_path / "pyproject.toml").write_text(f'{way}\nlock = "uv.lock"\n')
    spec = read_spec(tmp_path)
    assert spec.python_packages == ["six"]
    assert spec.lock_file.file == "uv.lock"
    assert spec.lock_file.sha256 == hashlib.sha256(b"version = 1\n").hexdigest()
    assert ModelSpec.from_json(spec.to_json()) == spec
    before = input_digest(spec, "debian")
    (tmp_path / "uv.lock").write_text("version = 2\n")
    assert input_digest(read_spec(tmp_path), "debian") != before


@pytest.mark.parametrize(
    ("packages", "what"),
    [
        (["-c uv.lock"], "uv.lock can't be read: No such file"),
        (["-r other.lock"], "write '-c other.lock'"),
        (["-r pylock.toml"], "write '-c pylock.toml'"),
        (["-r pyproject.toml"], "write what it lists as dependencies"),
        (["-c other.lock", "-c pylock.toml"], "there may be one lock file"),
        (["-c ../other.lock"], "is not in the model's folder"),
    ],
)
def test_a_lock_file_that_can_not_be_one_is_refused(tmp_path, packages, what):
    text = IO + MODEL.replace("output=Output", f"output=Output, python_packages={packages}")
    (tmp_path / "tungsten_model.py").write_text(text)
    (tmp_path / "other.lock").write_text("")
    (tmp_path / "pylock.toml").write_text("")
    with pytest.raises(DefinitionError) as caught:
        read_spec(tmp_path)
    assert what in str(caught.value)


def test_all_that_is_wrong_in_files_of_requirements_is_said_with_its_place(tmp_path):
    text = IO + MODEL.replace(
        "output=Output", "output=Output, python_packages=['foo @ /x', '-r requirements.txt']"
    )
    (tmp_path / "tungsten_model.py").write_text(text)
    (tmp_path / "requirements.txt").write_text(
        "six\n--no-deps\ntungstenkit\n-i https://me:secret@host.example\n"
    )
    with pytest.raises(DefinitionError) as caught:
        read_spec(tmp_path)
    places = [problem.partition(": ")[0] for problem in caught.value.problems]
    assert "secret" not in str(caught.value)
    assert places == ["python_packages[0]", *(f"requirements.txt:{line}" for line in (2, 3, 4))]
    (tmp_path / "requirements.txt").unlink()
    with pytest.raises(DefinitionError, match=r"requirements\.txt can't be read"):
        read_spec(tmp_path)


def test_a_misspelt_argument_is_told_with_those_that_there_are(tmp_path):
    with pytest.raises(SpecError) as caught:
        read(
            tmp_path, "from tungstenkit import define_model\n\n@define_model(batchsize=4)\nclass Model: ...\n"
        )
    assert "'batchsize'" in caught.value.what
    assert caught.value.hint.startswith(
        "did you mean batch_size? its arguments are input, output, demo_output, batch_size, "
    )
    assert caught.value.where == "tungsten_model.py, line 3"


def test_a_misspelt_name_of_ours_is_told_with_the_one_that_is_near(tmp_path):
    with pytest.raises(SpecError) as caught:
        read(tmp_path, "from tungstenkit import BaseIo\n")
    assert caught.value.hint.startswith("did you mean BaseIO? it has END, Audio, BaseIO, ")
    assert caught.value.where == "tungsten_model.py, line 1"


def test_a_wrong_type_is_told_at_its_field_s_line(tmp_path):
    text = """
from tungstenkit import BaseIO, define_model
import numpy as np
class Input(BaseIO):
    x: int
    array: np.ndarray
""" + MODEL.replace("=Output", "=Input")
    only = error(tmp_path, text, DefinitionError)
    assert only.where == "tungsten_model.py, line 6"
    assert only.what.startswith("Input.array: the type numpy.ndarray is not supported; write list[float]")
    assert only.hint is None


def test_of_several_wrong_fields_each_has_its_line(tmp_path):
    write(
        tmp_path,
        "from tungstenkit import BaseIO\nfrom PIL import Image\nclass Base(BaseIO):\n    p: Image\n",
        "parts.py",
    )
    text = (
        """
import torch
from tungstenkit import BaseIO, define_model
import parts
class Input(parts.Base):
    n: int = 'x'
    later: 'list[torch.Tensor]'
class Output(BaseIO):
    y: Missing
""".replace("Missing", "'Missing'")
        + MODEL
    )
    several = error(tmp_path, text, DefinitionError)
    places = [problem.split(": ")[:2] for problem in several.problems]
    assert places == [
        ["parts.py, line 4", "Input.p"],
        ["tungsten_model.py, line 6", "Input.n"],
        ["tungsten_model.py, line 7", "Input.later"],
        ["tungsten_model.py, line 8", "Output"],
    ]
    assert several.where.startswith("tungsten_model.py, line 11")


def test_a_type_of_an_unknown_package_is_told_with_the_reason(tmp_path):
    text = IO.replace("y: int", "y: score.Score") + MODEL
    assert "write what it stands for, as its package is not imported" in str(
        error(tmp_path, f"import score\n{text}", DefinitionError)
    )


def test_a_limit_that_fields_do_not_know_is_told_with_another_way(tmp_path):
    with pytest.raises(SpecError) as caught:
        read(tmp_path, "from tungstenkit import Field\n\nx = Field(pattern='a+')\n")
    assert caught.value.hint == (
        "its arguments are description, choices, ge, le, min_length, max_length, fold; "
        "for others, the type may be `Annotated[…, pydantic.Field(…)]`"
    )


def test_the_place_of_a_syntax_error_is_told_once(tmp_path):
    with pytest.raises(SpecError) as caught:
        read(tmp_path, "\nclass Model(:\n")
    assert "line" not in caught.value.what
    assert caught.value.where == "tungsten_model.py, line 2"


SPY = """
import os, pathlib, socket
from tungstenkit import BaseIO, define_model
from neighbour import NAME
here = pathlib.Path(__file__).parent
seen = {"name": NAME, "data": (here / "data.txt").read_text(), "token": "A_TOKEN" in os.environ, "uid": os.getuid()}
seen["home"] = len(os.listdir(os.path.expanduser("~")))
seen["networks"] = [name for _, name in socket.if_nameindex()]
try:
    (here / "data.txt").write_text("changed")
except OSError as problem:
    seen["written"] = type(problem).__name__
raise RuntimeError(repr(seen))
"""


@pytest.fixture
def spied(tmp_path):
    """What a module sees that looks at the machine. The table of mounts has a way of its own with such names."""
    folder = tmp_path / "a \\040 n\tä\nme"
    write(folder, "NAME = 'neighbour'", "neighbour.py")
    write(folder, "data", "data.txt")
    write(folder, SPY)

    def spy(**options):
        with pytest.raises(SpecError, match="RuntimeError") as caught:
            read_spec(folder, **options)
        return ast.literal_eval(caught.value.what.partition("RuntimeError: ")[2])

    return spy


def test_a_module_sees_its_folder_and_nothing_of_whoever_reads_it(spied, monkeypatch):
    monkeypatch.setenv("A_TOKEN", "secret")
    seen = spied()
    assert (seen["name"], seen["data"], seen["written"]) == ("neighbour", "data", "OSError")
    assert (seen["token"], seen["home"], seen["uid"], seen["networks"]) == (False, 0, 65532, ["lo"])


def test_a_module_that_is_trusted_sees_what_we_see(spied, monkeypatch):
    monkeypatch.setenv("A_TOKEN", "secret")
    seen = spied(trust=True)
    assert (seen["token"], seen["uid"], "written" in seen) == (True, os.getuid(), False)


REFUSES = """
class RefusedError(Exception): pass
class Root: __getattr__ = lambda *_: lambda *_, **__: None
leave = mount_processes = as_child = lambda *_, **__: None
def {name}(*_, **__): raise {error}
"""


@pytest.mark.parametrize(
    ("name", "error", "said"),
    [
        ("leave", "RefusedError('Operation not permitted')", "Operation not permitted"),
        # Of a container whose engine hides parts of /proc.
        ("confine", "OSError(30, 'Read-only file system', 'sys/user')", "Read-only file system: 'sys/user'"),
    ],
)
def test_a_module_that_can_not_be_kept_apart_is_not_read(tmp_path, monkeypatch, name, error, said):
    """The machine's answer is that of one that allows no namespaces."""
    (tmp_path / "tungsten_model.py").write_text("raise RuntimeError('it was read')")
    (tmp_path / "tools" / "lib").mkdir(parents=True)
    (tmp_path / "tools" / "lib" / "apart.py").write_text(REFUSES.format(name=name, error=error))
    monkeypatch.setattr(apart, "NIX", tmp_path)
    with pytest.raises(SpecError, match="does not let the model's module run apart") as caught:
        read_spec(tmp_path)
    assert caught.value.what.endswith(said)
    assert "--trust" in (caught.value.hint or "")
    assert "--security-opt unmask=ALL" in (caught.value.hint or "")


def test_where_python_is_does_not_show_what_lies_beside_it(tmp_path, monkeypatch):
    """Sources lie in a folder with all else, such as a home; packages that are installed lie among their like."""
    places = {"tungstenkit": str(tmp_path), "PIL": str(tmp_path / "site-packages")}
    for name in ("tungstenkit", "site-packages", "model"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("LD_LIBRARY_PATH", f"/:{tmp_path}/no/such:relative")
    shown = set(apart.keep_apart(tmp_path / "model", places)["shown"])
    assert {str(tmp_path / name) for name in ("tungstenkit", "site-packages", "model")} <= shown
    assert shown.isdisjoint({"/", "/etc", "/home", "/root", "/var", str(tmp_path), str(Path.home())})


class TestForgedAnswers:
    """The module runs where its definition is written down, and so may write another one."""

    @pytest.fixture
    def forged(self, tmp_path):
        """Reads a model that answers with a text of its own."""

        def read(answer):
            text = answer if isinstance(answer, str) else json.dumps(answer)
            (tmp_path / "answer").write_text(text)
            (tmp_path / "tungsten_model.py").write_text(
                "import os\n"
                "text = open('answer', 'rb').read()\n"
                "for file in range(3, 4096):\n"
                "    try:\n"
                "        os.pwrite(file, text, 0)\n"
                "    except OSError:\n"
                "        pass\n"
                "os._exit(0)\n"
            )
            return read_spec(tmp_path)

        return read

    @pytest.fixture
    def answer(self):
        """An honest one, with changes."""
        spec = ModelSpec.from_json((EXAMPLES / "blur" / "spec.json").read_text())
        ours = {"spec_version", "name", "module", "libraries", "build", "indexes", "nixpkgs", "commands"}
        names = [name for name in vars(spec) if name not in ours]
        honest = {name: getattr(spec, name) for name in names}
        return lambda **changes: {"models": [{**honest, **changes}]}

    def test_an_honest_one_is_read(self, forged, answer):
        assert forged(answer()).class_name == "Blur"

    @pytest.mark.parametrize(
        "text",
        [
            *([], 5, {"error": {"what": "x"}}, {"error": 1}, {"models": "x"}, {"models": [{}]}),
            *({"models": [{"class_name": 5}]}, {"refused": 1}),
            "[" * 100_000 + "]" * 100_000,
        ],
        ids=lambda text: str(text)[:20],
    )
    def test_one_that_is_none_is_spoilt(self, forged, text):
        with pytest.raises(SpecError, match="spoilt the answer"):
            forged(text)

    @pytest.mark.parametrize(
        ("text", "unread"),
        [
            ('{"models": [' + "[]," * 6_000_000 + "[]]}", "json.loads"),
            ('{"models": [[]]}', "_Answer.model_validate"),
        ],
        ids=["more than any", "no models"],
    )
    def test_what_is_wrong_by_the_million_is_not_looked_at_one_by_one(
        self, forged, monkeypatch, text, unread
    ):
        """It took gigabytes."""

        def read_after_all(*_):
            raise AssertionError(unread)

        monkeypatch.setattr(f"tungstenkit.spec.read.{unread}", read_after_all)
        with pytest.raises(SpecError, match="spoilt the answer"):
            forged(text)

    @pytest.mark.parametrize(
        "changes",
        [
            *({"class_name": "../../x"}, {"class": "../x"}, {"batch_size": "x"}, {"input_schema": []}),
            *({"dockerfile_commands": [5]}, {"unknown": 1}, {"files": [{"url": "https://h.example/x"}]}),
        ],
        ids=str,
    )
    def test_a_definition_of_another_shape_is_spoilt(self, forged, answer, changes):
        with pytest.raises(SpecError, match="spoilt the answer"):
            forged(answer(**changes))

    @pytest.mark.parametrize(
        ("changes", "named"),
        [
            (
                {"files": [{"url": "file:///etc/shadow", "sha256": None, "to": "x", "executable": True}]},
                r"files\[0\]\.url",
            ),
            (
                {"files": [{"url": "https://h.example/x", "sha256": None, "to": "../x", "executable": True}]},
                r"files\[0\]\.to.*leads out",
            ),
            (
                {
                    "files": [
                        {
                            "repository": "../../x",
                            "type": "model",
                            "revision": "../..",
                            "to": None,
                            "include": [],
                            "exclude": [],
                        }
                    ]
                },
                r"files\[0\]\.repo",
            ),
            ({"mem_gb": float("nan")}, "mem_gb"),
            ({"gpu": True, "cuda_version": "x; y"}, "cuda_version"),
            ({"python_version": "../../x"}, "python_version"),
            ({"base_image": "--help"}, "base_image"),
            ({"system_packages": ["-x"]}, "system_packages"),
            ({"python_packages": ["--evil"]}, "python_packages"),
            ({"include_files": [""]}, "include_files"),
        ],
        ids=str,
    )
    def test_what_define_model_refuses_is_refused(self, forged, answer, changes, named):
        with pytest.raises(DefinitionError, match=named):
            forged(answer(**changes))


@pytest.mark.parametrize(
    "text",
    [
        "raise RuntimeError('\\x1b]0;owned\\x07\\x1b[2J\\u202e')",
        "import os; print('\\x1b[2J\\u202e', flush=True); os._exit(1)",
    ],
)
def test_what_a_module_says_is_text(tmp_path, text):
    (tmp_path / "tungsten_model.py").write_text(text)
    with pytest.raises(SpecError) as caught:
        read_spec(tmp_path)
    said = str(caught.value)
    assert not any(letter in said for letter in "\x1b\x07\u202e")
    assert r"\x1b" in said
