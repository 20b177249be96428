"""`define_model` takes the contract's arguments, and refuses at once everything that can't work."""

import dataclasses
import inspect
import re
import subprocess
import sys
from typing import NewType

import pydantic
import pytest

from tungstenkit import BaseIO, Binary, Field, HuggingFace, define_model
from tungstenkit.sdk.define import CHECKS, ModelDefinition, definition_of
from tungstenkit.sdk.errors import DefinitionError
from tungstenkit.sdk.schema import json_schema
from tungstenkit.spec.document import ModelSpec


class Input(BaseIO):
    x: int = 0


class Output(BaseIO):
    y: int


def define(cls=None, **arguments):
    if cls is None:

        class cls:  # noqa: N801
            def predict(self, inputs):
                return inputs

    return define_model(**{"input": Input, "output": Output, **arguments})(cls)


def problems(cls=None, **arguments):
    with pytest.raises(DefinitionError) as caught:
        define(cls, **arguments)
    return list(caught.value.problems)


def problem(cls=None, **arguments):
    (one,) = problems(cls, **arguments)
    return one


def test_the_arguments_are_the_contract_s():
    parameters = list(inspect.signature(define_model).parameters.values())[1:]
    assert all(p.kind is p.KEYWORD_ONLY for p in parameters)
    empty = inspect.Parameter.empty
    assert {p.name: p.default for p in parameters} == {
        "input": empty,
        "output": empty,
        "demo_output": None,
        "batch_size": 1,
        "gpu": False,
        "cuda_version": None,
        "gpu_mem_gb": 16,
        "python_packages": None,
        "python_version": None,
        "system_packages": None,
        "mem_gb": 8,
        "include_files": None,
        "exclude_files": None,
        "dockerfile_commands": None,
        "base_image": None,
        "examples": None,
        "files": None,
    }


def test_everything_that_is_given_is_kept():
    class Model:
        def setup(self):
            pass

        def predict(self, inputs):
            return inputs

        def predict_demo(self, inputs):
            return inputs, inputs

        @staticmethod
        def post_build():
            pass

    arguments = {
        "input": Input,
        "output": Output,
        "demo_output": Output,
        "batch_size": 4,
        "gpu": True,
        "cuda_version": "12.4.1",
        "gpu_mem_gb": 0.5,
        "python_packages": ("torch",),
        "python_version": "3.11",
        "system_packages": ("git",),
        "mem_gb": 2,
        "include_files": ("a",),
        "exclude_files": (),
        "dockerfile_commands": ("RUN true",),
        "base_image": "debian:12",
        "examples": ({"x": 1},),
        "files": (HuggingFace("owner/name"),),
    }
    definition = definition_of(define(Model, **arguments))
    methods = {"has_setup": True, "has_post_build": True, "has_predict_demo": True}
    assert vars(definition) == {**arguments, **methods, "stream": False}


def test_defaults():
    definition = definition_of(define())
    assert definition.include_files == ("*",)
    assert definition.exclude_files == (".*/", "__pycache__/", "*.pyc", "*.pyo", "*.pyd", ".*")
    assert definition.python_packages == definition.system_packages == definition.dockerfile_commands == ()
    assert definition.examples == ()
    assert definition.files == ()
    assert not any((definition.has_setup, definition.has_post_build, definition.has_predict_demo))


def test_the_class_itself_comes_back_either_way():
    class Model:
        def predict(self, inputs):
            return inputs

    assert define_model(input=Input, output=Output)(Model) is Model
    assert define_model(Model, input=Input, output=Output) is Model
    assert definition_of(Model).input is Input


def test_misuse_is_a_type_error():
    class Model:
        def predict(self, inputs):
            return inputs

    for misuse in (
        lambda: define_model(Model),
        lambda: define_model(Model, Input, Output),
        lambda: define_model(input=Input, output=Output, batchsize=2),
        lambda: define_model(input=Input, output=Output)(lambda: 0),
    ):
        with pytest.raises(TypeError):
            misuse()


def test_a_subclass_is_a_model_only_when_it_is_decorated():
    model = define()
    subclass = type("Sub", (model,), {})
    assert definition_of(subclass) is None
    assert definition_of(define(subclass, batch_size=2)).batch_size == 2
    assert definition_of(model).batch_size == 1


def test_all_problems_at_once():
    class Model:
        def predict(self):
            pass

    class Wrong(BaseIO):
        a: set

    with pytest.raises(DefinitionError) as caught:
        define(Model, input=int, output=Wrong, batch_size=0, mem_gb="8", python_packages="torch")
    assert [p.split(":")[0] for p in caught.value.problems] == [
        "input",
        "Wrong.a",
        "batch_size",
        "python_packages",
        "mem_gb",
        "predict(self) must be predict(self, inputs)",
    ]
    assert caught.value.where.endswith("Model")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("input", None),
        ("output", Output(y=1)),
        ("demo_output", dict),
        ("batch_size", 0),
        ("batch_size", True),
        ("batch_size", 1.0),
        ("gpu", 1),
        ("gpu", None),
        ("gpu_mem_gb", 0),
        ("gpu_mem_gb", float("nan")),
        ("gpu_mem_gb", float("inf")),
        ("mem_gb", -1),
        ("mem_gb", True),
        ("mem_gb", None),
        ("python_packages", "torch"),
        ("python_packages", {"torch"}),
        ("python_packages", [3]),
        ("python_packages", [""]),
        ("system_packages", "git"),
        ("include_files", "*"),
        ("exclude_files", "*"),
        ("dockerfile_commands", "RUN true"),
        ("python_version", 3.11),
        ("python_version", "3.x"),
        ("python_version", "2.7"),
        ("python_version", "3.8"),
        ("python_version", "3.11.1.1"),
        ("base_image", "Debian 12"),
        ("base_image", "debian:"),
        ("base_image", 5),
    ],
)
def test_a_wrong_value_is_named(name, value):
    found = problems(**{name: value})
    assert found[0].startswith((f"{name}:", f"{name}[0]:"))


@pytest.mark.parametrize(
    ("name", "value", "kept"),
    [
        ("python_version", "3", "3"),
        ("python_version", "3.11.4", "3.11"),
        ("gpu_mem_gb", 0.5, 0.5),
        (
            "base_image",
            "registry.example:5000/team/image_1.x:tag",
            "registry.example:5000/team/image_1.x:tag",
        ),
        ("base_image", "debian@sha256:" + "0" * 64, "debian@sha256:" + "0" * 64),
        ("include_files", [], ()),
    ],
)
def test_a_right_value_is_kept(name, value, kept):
    assert getattr(definition_of(define(**{name: value})), name) == kept


def test_cuda_version_needs_gpu():
    assert problem(cuda_version="12.4") == "cuda_version: '12.4' has no effect without gpu=True"
    for version in ("12", "12.4", "12.4.1"):
        assert definition_of(define(gpu=True, cuda_version=version)).cuda_version == version
    assert "write it in quotes: '12.4'" in problem(gpu=True, cuda_version=12.4)
    assert problem(gpu=True, cuda_version="latest").startswith("cuda_version:")


@pytest.mark.parametrize(
    "requirement",
    [
        "torch",
        "torch==2.1.0",
        "torch == 2.1.*",
        "torch>=2,<3",
        "torch (>=2)",
        "uvicorn[standard,x]~=0.30",
        "a.b-c_d!=1.0+cu118",
        "tomli; python_version < '3.11'",
        "foo===weird",
        "foo @ https://host.example/foo-1.0-py3-none-any.whl",
        "foo[bar] @ git+https://host.example/foo@main ; sys_platform == 'linux'",
        "foo @ git+ssh://git@host.example/foo.git",
        "foo @ ./lib",
        "./dist/foo-1.0-py3-none-any.whl",
        "../lib",
        "file:lib",
        "-r requirements.txt",
        "--extra-index-url https://host.example/simple",
        "--no-binary lxml",
        "git+https://host.example/me/foo.git@v1#egg=foo",
        "-e git+ssh://git@host.example/me/foo.git#egg=foo",
        "https://host.example/foo-1.0-py3-none-any.whl",
        "-e ./lib",
        "./lib[extra]",
        "numpy @ file:///home/conda/feedstock_root/build_artifacts/numpy_1687808301083/work",
        "--prefer-binary",
        "--only-binary :all:",
        "--trusted-host=host.example",
        f"foo==1.0 --hash=sha256:{'0' * 64}",
    ],
)
def test_python_requirements(requirement):
    assert definition_of(define(python_packages=[requirement])).python_packages == (requirement,)


@pytest.mark.parametrize(
    "requirement",
    [
        "--extra-index-url https://me:secret@host.example",
        "foo @ https://secret@host.example/foo-1.0.tar.gz",
        "foo @ git+ssh://me:secret@host.example/foo",
        "git+https://secret@host.example/foo",
        "-e git+https://secret@host.example/foo",
        "torch --extra-index-url https://me:secret@host.example",
    ],
)
def test_a_password_is_refused_and_not_shown(requirement):
    found = problem(python_packages=[requirement])
    assert "a user name or password" in found
    assert "secret" not in found


@pytest.mark.parametrize(
    ("requirement", "hint"),
    [
        ("torch=2.1", "did you mean 'torch==2.1'?"),
        ("torch[cuda] = 2.1", "did you mean 'torch[cuda]==2.1'?"),
        ("torch 2.1", "did you mean 'torch==2.1'?"),
        ("torch-", "not a requirement"),
        ("--no-such-option", "an option of pip that does not count"),
        ("--pre", "'torch>=2.9.0rc1'"),
        ("--no-cache-dir torch", "write '--no-cache-dir', 'torch'"),
        ("torch torchvision", "write 'torch', 'torchvision'"),
        ("numpy=1.26.4=py311h64a7726_0", "did you mean 'numpy==1.26.4'?"),
        ("git@host.example:me/foo.git", "write 'git+ssh://git@host.example/me/foo.git'"),
        (
            "!pip3 install -q torch torchvision --index-url https://host.example/whl/cu121",
            "write '-q', 'torch', 'torchvision', '--index-url https://host.example/whl/cu121'",
        ),
        ("foo >= 1 --no-deps", "has '--no-deps', which would change what packages need"),
        ("torch>=", "not a requirement"),
    ],
)
def test_wrong_python_requirements(requirement, hint):
    found = problem(python_packages=["numpy", requirement])
    assert found.startswith(f"python_packages[1]: {requirement!r}")
    assert hint in found


@pytest.mark.parametrize(
    "name", ["tungstenkit", "TungstenKit==0.2.20", "tungstenkit_nix", "tungsten.server[x]"]
)
def test_our_own_names_are_never_asked_for(name):
    assert "must not be asked for" in problem(python_packages=[name])


def test_names_like_ours_are_others():
    define(python_packages=["tungstenkit-plugin"])


@pytest.mark.parametrize(
    "package", ["git", "libstdc++6", "g++", "libgl1:amd64", "git=1:2.39.5-0+deb12u2", "7zip"]
)
def test_system_packages(package):
    define(system_packages=[package])


@pytest.mark.parametrize(
    ("package", "hint"),
    [
        ("Git", "did you mean 'git'?"),
        ("git curl", "an entry of its own"),
        ("git==2.39", "a version follows one '='"),
        ("git>=2", "a version follows one '='"),
        ("x", "not the name"),
        ("libfoo_bar", "not the name"),
        ("git=", "not the name"),
        ("-y", "not the name"),
    ],
)
def test_wrong_system_packages(package, hint):
    found = problem(system_packages=[package])
    assert found.startswith(f"system_packages[0]: {package!r}")
    assert hint in found


def model_with(**methods):
    return type("Model", (), {"predict": lambda self, inputs: inputs, **methods})


def test_predict_is_needed():
    assert problem(type("Model", (), {})) == "the method predict(self, inputs) is missing"


async def coroutine(self, inputs):
    return inputs


@pytest.mark.parametrize(
    "predict",
    [
        lambda self: 0,
        lambda self, inputs, more: 0,
        lambda self, *, inputs: 0,
        coroutine,
        3,
        staticmethod(lambda: 0),
    ],
)
def test_predict_takes_inputs(predict):
    assert problem(model_with(predict=predict)).startswith("predict")


@pytest.mark.parametrize(
    "predict",
    [
        lambda self, inputs: 0,
        lambda self, batch, verbose=False: 0,
        lambda *args, **kwargs: 0,
        staticmethod(lambda inputs: 0),
        classmethod(lambda cls, inputs: 0),
    ],
)
def test_ways_to_write_predict(predict):
    define(model_with(predict=predict))


def test_setup_takes_nothing():
    define(model_with(setup=lambda self: 0))
    assert problem(model_with(setup=lambda self, path: 0)).startswith("setup(self, path) must be setup(self)")


def test_inherited_methods_count():
    base = model_with(setup=lambda self: 0)
    assert definition_of(define(type("Model", (base,), {}))).has_setup


def test_post_build_has_no_instance():
    for method in (lambda: 0, staticmethod(lambda: 0), classmethod(lambda cls: 0)):
        assert definition_of(define(model_with(post_build=method))).has_post_build
    for method in (lambda self: 0, staticmethod(lambda x: 0), classmethod(lambda cls, x: 0)):
        assert "@staticmethod" in problem(model_with(post_build=method))


def test_predict_demo_and_demo_output_go_together():
    demo = model_with(predict_demo=lambda self, inputs: 0)
    assert problem(demo) == "there is a method predict_demo, but no demo_output"
    assert problem(demo_output=Output) == "there is a demo_output, but no method predict_demo(self, inputs)"
    assert definition_of(define(demo, demo_output=Output)).demo_output is Output


def test_the_class_is_made_without_arguments():
    define(model_with(__init__=lambda self, size=3: None))
    assert problem(model_with(__init__=lambda self, size: None)).startswith("__init__(self, size)")


def test_the_example_of_the_documentation():
    class BoundingBox(BaseIO):
        xmin: int
        xmax: int

    class Detection(BaseIO):
        label: str
        bbox: BoundingBox

    class Detections(BaseIO):
        detections: list[Detection]

    define(output=Detections)


class Told(BaseIO):
    text: str
    names: list[str]
    mood: str = Field(choices=["good", "bad"])
    word: str = Field(fold="last")
    reason: str | None
    more: str | None = Field(fold="concatenate")
    kind: NewType("Kind", str)
    number: float
    file: Binary


def yields(self, inputs):
    yield inputs


def test_a_predict_that_yields_makes_a_stream():
    definition = definition_of(define(model_with(predict=yields), output=Told))
    assert definition.stream
    properties = json_schema(Told, in_pieces=True)["properties"]
    folded = [name for name, field in properties.items() if "x-fold" in field]
    assert folded == ["text", "names", "more", "kind"]
    assert "x-fold" not in str(json_schema(Told))


@pytest.mark.parametrize("kind", ["setup", "predict_demo", "post_build"])
def test_nothing_else_yields(kind):
    told = problems(model_with(predict=yields, **{kind: yields}))
    assert [one for one in told if one.startswith(f"{kind} is a generator")]


def test_what_says_that_a_list_is_returned_is_told():
    def predict(self, inputs) -> list[Told]:
        yield inputs

    told = problem(model_with(predict=predict))
    assert told.startswith("predict yields, and is annotated with ")
    assert "write Iterator[list[Output | None]], or Generator[" in told
    predict.__annotations__["return"] = "Iterator[list[Told]]"
    assert definition_of(define(model_with(predict=predict))).stream


def test_what_can_not_be_folded_is_told_all_at_once():
    class Computed(BaseIO):
        number: int = Field(fold="concatenate")
        text: str = Field(fold="sum")

        @pydantic.computed_field
        def double(self) -> int:
            return 2 * self.number

    told = "\n".join(problems(model_with(predict=yields), output=Computed))
    assert "Computed.number: only strings and lists can be concatenated" in told
    assert "output: Computed has a serializer or a computed field, and predict yields" in told
    assert 'Computed.text: fold \'sum\' is neither "concatenate" nor "last"' in told


def test_the_sdk_imports_nothing_of_the_compiler():
    program = "import sys; from tungstenkit import *; print(*(m for m in sys.modules if m.startswith('tungstenkit.')))"
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    names = (
        *(
            "addresses",
            "define",
            "downloads",
            "errors",
            "io",
            "look",
            "media",
            "pictures",
            "pieces",
            "schema",
        ),
        *("suffixes", "temporary", "wishes"),
    )
    assert set(said.split()) == {"tungstenkit.sdk", *(f"tungstenkit.sdk.{name}" for name in names)}


def test_every_place_has_every_argument():
    """A new argument is a parameter with its line of the docstring, a check, and what is kept of it, twice."""
    parameters = inspect.signature(define_model).parameters.values()
    arguments = [one.name for one in parameters if one.kind is inspect.Parameter.KEYWORD_ONLY]
    assert list(CHECKS) == arguments
    kept = [one.name for one in dataclasses.fields(ModelDefinition) if not one.name.startswith("has_")]
    assert kept == [*arguments, "stream"]
    assert re.findall(r"^    ([a-z_]+): ", define_model.__doc__, re.MULTILINE) == arguments
    # The spec has the classes' schemas, and all else by the same names.
    fields = {name.removesuffix("_schema") for name in ModelSpec.model_fields}
    assert fields >= set(arguments)
