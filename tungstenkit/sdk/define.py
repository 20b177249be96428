"""`define_model`: what a model is, what it needs, and every check that its class alone allows.

The decorator leaves one `ModelDefinition` on the class, and nothing anywhere else. Checks that need a
parser of Python requirements are `spec`'s, because an image has none.
"""

from __future__ import annotations

import functools
import inspect
import json
import re
import typing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Callable, TypeVar, overload

import pydantic

from tungstenkit.sdk import wishes
from tungstenkit.sdk.errors import DefinitionError
from tungstenkit.sdk.io import BaseIO
from tungstenkit.sdk.media import File
from tungstenkit.sdk.pieces import problems_of
from tungstenkit.sdk.schema import json_schema
from tungstenkit.sdk.wishes import Checks, shown

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from typing_extensions import Concatenate, ParamSpec, Protocol, TypeGuard

    from tungstenkit.sdk.downloads import Download, HuggingFace
    from tungstenkit.sdk.wishes import Check

    _ModelClass = TypeVar("_ModelClass", bound=type)
    _Arguments = ParamSpec("_Arguments")

    class _Decorator(Protocol[_Arguments]):
        """A function of a class and arguments, which is a decorator where it gets no class."""

        __name__: str

        @overload
        def __call__(
            self, cls: _ModelClass, /, *_: _Arguments.args, **arguments: _Arguments.kwargs
        ) -> _ModelClass: ...
        @overload
        def __call__(
            self, /, *_: _Arguments.args, **arguments: _Arguments.kwargs
        ) -> Callable[[_ModelClass], _ModelClass]: ...


__all__ = [
    "ModelDefinition",
    "define_model",
    "definition_of",
    "examples_as_json",
]

MAX_EXAMPLES = 2 * 1024**2  # bytes of JSON: every demo page loads them


@dataclass(frozen=True)
class ModelDefinition:
    """A model as its class declares it: the checked arguments of `define_model`, and which methods there are."""

    input: type[BaseIO]
    output: type[BaseIO]
    demo_output: type[BaseIO] | None
    batch_size: int
    gpu: bool
    cuda_version: str | None
    gpu_mem_gb: float
    python_packages: tuple[str, ...]
    python_version: str | None
    system_packages: tuple[str, ...]
    mem_gb: float
    include_files: tuple[str, ...]
    exclude_files: tuple[str, ...]
    dockerfile_commands: tuple[str, ...]
    base_image: str | None
    examples: tuple[dict[str, Any], ...]
    files: tuple[Download | HuggingFace, ...]
    has_setup: bool
    has_post_build: bool
    has_predict_demo: bool
    stream: bool
    """Whether `predict` is a generator, which yields outputs piece by piece."""


def _decorator(function: Callable[Concatenate[type | None, _Arguments], Any]) -> _Decorator[_Arguments]:
    """The function itself, as type checkers should see it."""
    return function  # type: ignore[return-value]


@_decorator
def define_model(
    cls: type | None = None,
    /,
    *,
    input: type[BaseIO],  # noqa: A002 (the contract's name)
    output: type[BaseIO],
    demo_output: type[BaseIO] | None = None,
    batch_size: int = 1,
    gpu: bool = False,
    cuda_version: str | None = None,
    gpu_mem_gb: float = 16,
    python_packages: Sequence[str] | None = None,
    python_version: str | None = None,
    system_packages: Sequence[str] | None = None,
    mem_gb: float = 8,
    include_files: Sequence[str] | None = None,
    exclude_files: Sequence[str] | None = None,
    dockerfile_commands: Sequence[str] | None = None,
    base_image: str | None = None,
    examples: Sequence[dict[str, Any]] | None = None,
    files: Sequence[Download | HuggingFace] | None = None,
) -> Any:  # noqa: ANN401 (`_Decorator` says what)
    """Declare that a class is a model. A class decorator; `define_model(cls, …)` does the same.

    input: the input class.
    output: the output class.
    demo_output: the demo output class; there must be one exactly where there is a method `predict_demo`.
    batch_size: the most inputs that one call of `predict` gets.
    gpu: whether the model needs a GPU.
    cuda_version: `<major>[.<minor>[.<patch>]]`; by default the newest that `python_packages` can work with.
    gpu_mem_gb: the least GPU memory that the model needs, in GB; of no effect without `gpu`.
    python_packages: requirements (PEP 508), such as `torch`, `numpy==2.1.0` or `uvicorn[standard]>=0.30`.
    python_version: `<major>[.<minor>]`; a third number is dropped, because a system has one of each minor version.
        By default one that `python_packages` can work with.
    system_packages: Debian packages, as apt names them; of no effect with `base_image`.
    mem_gb: the least memory that the model needs, in GB.
    include_files: patterns, as in `.gitignore`, of the files that belong to the model; by default all.
    exclude_files: patterns of those that do not, whatever `include_files` says. By default all hidden files and
        byte-code; a list of one's own replaces the default.
    dockerfile_commands: commands to run before the Python packages are set up.
    base_image: the image to build on, `<repository>[:<tag>]`.
    examples: inputs to try the model with, as dicts; the demo page offers them. A file is a path, relative to the
        model's folder; it becomes a part of the image's description, and together they may have 2 MiB.
    files: what the model needs and its folder does not have, each a `Download` or a `HuggingFace`. `tungsten lock` pins
        it by hash. It is in the image when the model runs, and not while the image is built.

    The class has a method `predict(self, inputs)` that takes a list of inputs and returns a list of as many
    outputs; or it is a generator that yields, each time, a list with a piece of each output, or None. It may have
    `setup(self)`; `predict_demo(self, inputs)`, which returns outputs and demo
    outputs; and a static method `post_build()`, which runs while the image is built. It is made without
    arguments.

    Returns the class itself. Raises DefinitionError with everything that is wrong.
    """
    given = {name: value for name, value in locals().items() if name != "cls"}
    if cls is None:
        return functools.partial(define_model, **given)
    if not isinstance(cls, type):
        raise TypeError(f"define_model decorates a class, not {type(cls).__name__}")
    cls.__tungsten_model__ = _definition(cls, given)  # type: ignore[attr-defined]
    return cls


def _definition(cls: type, given: Mapping[str, Any]) -> ModelDefinition:
    """What a class declares. given: the arguments. Raises DefinitionError with everything that is wrong."""
    checked = _Checks(given)
    methods: dict[str, Any] = {
        f"has_{name}": _has(cls, name) for name in ("setup", "post_build", "predict_demo")
    }
    definition = ModelDefinition(**checked.kept(CHECKS), **methods, stream=_is_generator(cls, "predict"))
    checked.problems.extend(_method_problems(cls, definition))
    if checked.problems:
        raise DefinitionError(dict.fromkeys(checked.problems), where=f"{cls.__module__}.{cls.__qualname__}")
    return definition


def definition_of(cls: type) -> ModelDefinition | None:
    """What `define_model` left on this very class: a subclass is a model only when it is decorated itself."""
    definition = vars(cls).get("__tungsten_model__")
    return definition if isinstance(definition, ModelDefinition) else None


def examples_as_json(definition: ModelDefinition) -> list[dict[str, Any]]:
    """The model's examples as a client sends them, with their files in them.

    Not when the class is defined: in an image the files need not be there. Paths are relative to the working
    directory. Raises DefinitionError that names every field at fault.
    """
    problems: list[str] = []
    written = []
    for index, example in enumerate(definition.examples):
        where = f"examples[{index}]"
        unknown = [name for name in example if name not in definition.input.model_fields]
        problems.extend(f"{where}: the input has no field {name!r}" for name in unknown)
        try:
            value = definition.input.model_validate(example)
            # A page that is shown without a network must show its examples.
            problems.extend(
                f"{where}: {file!r} is on the web; put it into the model's folder"
                for file in _files_in(value)
                if not file.uri.startswith("data:")
            )
            written.append(
                json.loads(json.dumps(value.model_dump(mode="json", exclude_unset=True), allow_nan=False))
            )
        except pydantic.ValidationError as error:
            for detail in error.errors(include_url=False):
                place = ".".join(map(str, [where, *detail["loc"]]))
                problems.append(f"{place}: {detail['msg']}")
        except Exception as error:  # a file that can't be read, NaN, a user's own serialiser
            problems.append(f"{where}: {error}")
    size = len(json.dumps(written))
    if size > MAX_EXAMPLES:
        problems.append(f"examples: {size} bytes as JSON, files included; the limit is {MAX_EXAMPLES}")
    if problems:
        raise DefinitionError(dict.fromkeys(problems), where="the examples")
    return written


def _files_in(value: object) -> Iterator[File]:
    if isinstance(value, File):
        yield value
    elif isinstance(value, BaseIO):
        yield from _files_in(list(vars(value).values()))
    elif isinstance(value, (list, tuple, dict)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _files_in(item)


class _Checks(Checks):
    """Those of whole declarations."""

    def io_class(self, name: str, value: object, *, describe: bool = False) -> type[BaseIO]:
        """An input or output class. describe: as for `json_schema`."""
        if not isinstance(value, type) or not issubclass(value, BaseIO):
            hint = f"; write `class {value.__name__}(BaseIO):`" if _is_own(value) else ""
            self.problems.append(f"{name}: {shown(value)} is not a subclass of BaseIO{hint}")
            return BaseIO
        try:
            json_schema(value, describe=describe)
        except DefinitionError as error:
            self.problems.extend(error.problems)
        return value

    def optional_io_class(self, name: str, value: object) -> type[BaseIO] | None:
        """The same, or None."""
        return None if value is None else self.io_class(name, value)


CHECKS: Mapping[str, Check[_Checks]] = {
    "input": functools.partial(_Checks.io_class, describe=True),
    "output": _Checks.io_class,
    "demo_output": _Checks.optional_io_class,
    **wishes.CHECKS,
}
"""Every argument of `define_model`, with what checks it. A new one is an entry there, a parameter, and a field of what
is kept of it: here, and in the spec."""


def _has(cls: type, name: str) -> bool:
    return inspect.getattr_static(cls, name, None) is not None


def _method_problems(cls: type, definition: ModelDefinition) -> Iterator[str]:
    yield from _signature_problems(cls, "__init__", "self")
    if not _has(cls, "predict"):
        yield "the method predict(self, inputs) is missing"
    for name, parameters in (
        ("predict", "self, inputs"),
        ("predict_demo", "self, inputs"),
        ("setup", "self"),
        ("post_build", ""),
    ):
        if _has(cls, name):
            yield from _signature_problems(cls, name, parameters)
    if definition.has_predict_demo and definition.demo_output is None:
        yield "there is a method predict_demo, but no demo_output"
    if definition.demo_output is not None and not definition.has_predict_demo:
        yield "there is a demo_output, but no method predict_demo(self, inputs)"
    if definition.stream:
        yield from problems_of(definition.output)
        yield from _yield_problems(cls)


def _function(cls: type, name: str) -> Any:  # noqa: ANN401 (whatever stands there)
    method = inspect.getattr_static(cls, name, None)
    return method.__func__ if isinstance(method, (classmethod, staticmethod)) else method


def _is_generator(cls: type, name: str) -> bool:
    return inspect.isgeneratorfunction(_function(cls, name))


def _yield_problems(cls: type) -> Iterator[str]:
    """What the annotation of a `predict` that yields says otherwise: a list is what each `yield` gives."""
    returned = getattr(_function(cls, "predict"), "__annotations__", {}).get("return", "Any")
    plain = isinstance(returned, type) and not typing.get_args(returned)
    text = returned.__name__ if plain else str(returned)
    if not re.search(r"\b(Any|Iterator|Iterable|Generator)\b", text):
        yield (
            f"predict yields, and is annotated with {text}; write Iterator[list[Output | None]], or "
            "Generator[list[Output | None], list[bool], None] where it reads what `yield` returns"
        )


def _signature_problems(cls: type, name: str, parameters: str) -> Iterator[str]:
    """Whether a method can be called with `parameters`, which are written as a declaration writes them."""
    method = inspect.getattr_static(cls, name)
    given = [part for part in parameters.split(", ") if part]
    if isinstance(method, classmethod):
        # It gets the class whether or not it is called on an instance.
        given = ["cls", *(part for part in given if part != "self")]
    elif isinstance(method, staticmethod):
        given = [part for part in given if part != "self"]
    function: Any = method.__func__ if isinstance(method, (classmethod, staticmethod)) else method
    if not callable(function):
        yield f"{name} is not a method"
        return
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        yield f"{name} is a coroutine; write a plain method"
    elif inspect.isgeneratorfunction(function) and name != "predict":
        instead = "; return a list of outputs instead, and yield in predict" if name == "predict_demo" else ""
        yield f"{name} is a generator{instead}"
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return  # Written in C: there is nothing to look at.
    try:
        signature.bind(*given)
    except TypeError:
        hint = ""
        if name == "post_build":
            hint = "; it is called without an instance, so make it a @staticmethod without parameters"
        yield f"{name}{signature} must be {name}({parameters}){hint}"


def _is_own(value: object) -> TypeGuard[type]:
    return isinstance(value, type) and value.__module__ != "builtins"
