"""The program that reads a model's definition; a `Reading` runs its `main` in a process of its own.

It imports the model's module with every module stubbed that is not the standard library's, pydantic's,
Pillow's, the SDK's or the model folder's own, whether it is installed or not. So the result does not depend
on the machine, and nothing has to be installed.

    main PLACES ORDERS_FD RESULT_FD

PLACES is JSON: the name of each module that stays real, and the folder that it is in. What comes by the file descriptor
ORDERS_FD once it is known is JSON, too: the model's folder, the module, and null, or how it is kept apart from the
machine (`_go_apart`). The result goes to RESULT_FD, because the model's code may print. It is JSON: `{"models": […]}`,
`{"error": {…}}` or `{"refused": "what the system says"}`.
"""

from __future__ import annotations

import abc
import contextlib
import importlib
import importlib.abc
import importlib.metadata
import json
import os
import sys
import sysconfig
import types
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

# How a stub shows itself: a text with this in it came from a stub.
MARK = "<stub of "

HINT = (
    "modules that are not in the model's folder are not imported while its definition is read: "
    "write the value itself"
)


_USER, _HOME = 65532, "/home/nonroot"
"""As in the image."""
_UNREADABLE = "it can't be read but by root, and the module is not run as root"
_MAKE_READABLE = "`chmod -R go+rX` lets all read it; --trust runs the module as you, with all that is yours"


def _is_special(name: str) -> bool:
    """Whether Python itself may look for the attribute, and must not find a stub. Versions are for people."""
    return name.startswith("__") and name.endswith("__") and name not in ("__version__", "__file__")


class Stub:
    """Stands for whatever a stubbed module would have had under a name.

    It takes part in whatever module level code does with such things, but never becomes a number: what is not
    known can't end up in a definition unnoticed.
    """

    def __init__(self, name: str) -> None:
        """`name` is the expression that it stands for."""
        self.__dict__["__stub_name__"] = name

    def __repr__(self) -> str:
        return f"{MARK}{self.__dict__['__stub_name__']}>"

    def __getattr__(self, name: str) -> Stub:
        if _is_special(name):
            raise AttributeError(name)
        # Kept, so that `torch.float16 is torch.float16`.
        self.__dict__[name] = stub = self._derived(f".{name}")
        return stub

    def _derived(self, suffix: str) -> Stub:
        return Stub(self.__dict__["__stub_name__"] + suffix)

    def __call__(self, *arguments: object, **keywords: object) -> object:
        """A decorator leaves what it decorates as it is; any other call gives a stub."""
        decorated = (types.FunctionType, type, staticmethod, classmethod, property)
        if len(arguments) == 1 and not keywords and isinstance(arguments[0], decorated):
            return arguments[0]
        return self._derived("()")

    def __mro_entries__(self, _bases: tuple[object, ...]) -> tuple[type, ...]:
        """A class of its own for each use: no order of bases is wrong then."""
        name = self.__dict__["__stub_name__"].rpartition(".")[2]
        return (StubType(name, (StubBase,), {}),)

    def __get_pydantic_core_schema__(self, _source: object, _handler: object) -> dict[str, str]:
        """Accept anything: the schema's writer names the field whose type is a stub."""
        return {"type": "any"}

    def __enter__(self) -> Stub:
        return self._derived(".__enter__()")

    def __exit__(self, *_: object) -> None:
        """Let exceptions pass."""

    def __getitem__(self, _key: object) -> Stub:
        return self._derived("[...]")

    def __setitem__(self, _key: object, _value: object) -> None:
        """Forget."""

    def __delitem__(self, _key: object) -> None:
        """Forget."""

    def __iter__(self) -> Iterator[Stub]:
        # Not empty: an empty list of packages would go unnoticed into a definition, a stub in it does not.
        yield self._derived("[...]")

    def __contains__(self, _item: object) -> bool:
        return False

    def __len__(self) -> int:
        raise TypeError(f"{self!r} has no length: it is not imported")

    def __bool__(self) -> bool:
        return True

    def __hash__(self) -> int:
        return hash(repr(self))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Stub) and repr(other) == repr(self)

    # Newer than any version that it is compared with.
    def __gt__(self, _other: object) -> bool:
        return True

    def __ge__(self, _other: object) -> bool:
        return True

    def __lt__(self, _other: object) -> bool:
        return False

    def __le__(self, _other: object) -> bool:
        return False

    def __instancecheck__(self, _instance: object) -> bool:
        return False

    def __subclasscheck__(self, _subclass: object) -> bool:
        return False

    def __fspath__(self) -> str:
        return repr(self)

    def __format__(self, _spec: str) -> str:
        return repr(self)

    def _calculated(self, *_others: object) -> Stub:
        return self

    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __matmul__ = __rmatmul__ = _calculated
    __truediv__ = __rtruediv__ = __floordiv__ = __rfloordiv__ = __mod__ = __rmod__ = _calculated
    __pow__ = __rpow__ = __lshift__ = __rshift__ = __and__ = __rand__ = __or__ = __ror__ = _calculated
    __xor__ = __rxor__ = __neg__ = __pos__ = __invert__ = __abs__ = _calculated


class StubType(abc.ABCMeta):
    """The type of classes with a stubbed base; an abstract base class may be among the others."""

    def __new__(cls, name: str, bases: tuple[type, ...], namespace: dict[str, Any], **_: object) -> StubType:
        """Take any keyword that the real base may take."""
        return super().__new__(cls, name, bases, namespace)

    def __init__(cls, name: str, bases: tuple[type, ...], namespace: dict[str, Any], **_: object) -> None:
        """As above."""
        super().__init__(name, bases, namespace)

    def __getattr__(cls, name: str) -> Stub:
        """What the real base may have."""
        if _is_special(name):
            raise AttributeError(name)
        return Stub(f"{cls.__name__}.{name}")


class StubBase(metaclass=StubType):
    """What a class inherits from in place of a stub."""

    def __new__(cls, *_arguments: object, **_keywords: object) -> StubBase:
        """Take any arguments."""
        return super().__new__(cls)

    def __init__(self, *_arguments: object, **_keywords: object) -> None:
        """Take any arguments."""

    def __getattr__(self, name: str) -> Stub:
        """What the real base may have."""
        if _is_special(name):
            raise AttributeError(name)
        return Stub(f"{type(self).__name__}().{name}")

    def __call__(self, *_arguments: object, **_keywords: object) -> Stub:
        """Models are called."""
        return Stub(f"{type(self).__name__}()()")


class StubModule(types.ModuleType):
    """A module that is not imported; with a `__path__`, a folder of modules without an `__init__.py`."""

    def __getattr__(self, name: str) -> object:
        """A local module where there is one, or else a stub."""
        if name == "__all__":
            return _names_used_by(_importing_frame())
        if _is_special(name):
            raise AttributeError(name)
        full_name = f"{self.__name__}.{name}"
        if self.__path__ and PathFinder.find_spec(full_name, self.__path__):
            return importlib.import_module(full_name)
        stub = Stub(full_name)
        setattr(self, name, stub)
        return stub


class StubLoader(importlib.abc.Loader):
    """Makes stub modules."""

    def create_module(self, spec: ModuleSpec) -> types.ModuleType:
        """See `importlib.abc.Loader`."""
        return StubModule(spec.name)

    def exec_module(self, module: types.ModuleType) -> None:
        """Nothing is run."""


class Finder(importlib.abc.MetaPathFinder):
    """Decides which modules are real. It is asked before any other."""

    folder: Path | None = None
    """The model's, once it is known."""

    def __init__(self, places: dict[str, str]) -> None:
        """`places` are those of the modules that stay real."""
        self.places = places
        standard = [Path(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib")]
        real = [Path(place, name) for name, place in places.items()]
        starts = [f"{path}{end}" for path in [*standard, *real] for end in (os.sep, ".py")]
        self.real_code = ("<frozen ", *starts)

    def find_spec(
        self, name: str, _path: Sequence[str] | None, _target: types.ModuleType | None = None
    ) -> ModuleSpec | None:
        """See `importlib.abc.MetaPathFinder`."""
        parent = name.rpartition(".")[0]
        if parent:
            package = sys.modules.get(parent)
            if not isinstance(package, StubModule):
                return None
            local = PathFinder.find_spec(name, package.__path__)
            return local if local is not None and local.loader is not None else _stub_spec(name, local)
        local = PathFinder.find_spec(name, [str(self.folder)]) if self.folder is not None else None
        if local is not None and local.loader is not None:
            return local
        if name in sys.stdlib_module_names:
            return None
        if name in self.places:
            return PathFinder.find_spec(name, [self.places[name]])
        if local is None and _importing_frame().f_code.co_filename.startswith(self.real_code):
            return None  # Real code asks for an optional module; it must see that there is none.
        return _stub_spec(name, local)


def _stub_spec(name: str, folder: ModuleSpec | None) -> ModuleSpec:
    """Of a stub; `folder` is the spec of the local folder of that name, if there is one."""
    spec = ModuleSpec(name, StubLoader(), is_package=True)
    spec.submodule_search_locations = list((folder and folder.submodule_search_locations) or ())
    return spec


def _importing_frame() -> types.FrameType:
    """The code that an import statement stands in."""
    frame: types.FrameType | None = sys._getframe(1)
    machinery = ("<frozen importlib", __file__, str(importlib.__file__))
    while frame is not None and frame.f_back is not None and frame.f_code.co_filename.startswith(machinery):
        frame = frame.f_back
    assert frame is not None
    return frame


def _names_used_by(frame: types.FrameType) -> list[str]:
    """What `from stub import *` must define: every name that the importing module uses and has not got."""
    names: set[str] = set()
    todo = [frame.f_code]
    while todo:
        code = todo.pop()
        names.update(code.co_names)
        todo.extend(constant for constant in code.co_consts if isinstance(constant, types.CodeType))
    known = {*frame.f_globals, *vars(sys.modules["builtins"])}
    return sorted(name for name in names - known if not name.startswith("_"))


def _models(module: types.ModuleType) -> list[dict[str, Any]]:
    """The decorated classes of a module; those that it imports count only where it defines none."""
    from tungstenkit.sdk.define import definition_of

    classes = {
        value: None for value in vars(module).values() if isinstance(value, type) and definition_of(value)
    }
    own = [cls for cls in classes if cls.__module__ == module.__name__]
    return [_model(cls) for cls in own or classes]


def _model(cls: type) -> dict[str, Any]:
    from tungstenkit.sdk.define import definition_of, examples_as_json
    from tungstenkit.sdk.schema import json_schema

    definition = definition_of(cls)
    assert definition is not None
    model = {
        **vars(definition),
        "class_name": cls.__name__,
        "input_schema": json_schema(definition.input, describe=True),
        "output_schema": json_schema(definition.output, in_pieces=definition.stream),
        "demo_output_schema": definition.demo_output and json_schema(definition.demo_output),
        "examples": examples_as_json(definition),
        "files": [file.as_json() for file in definition.files],
    }
    for name in ("input", "output", "demo_output"):
        del model[name]
    return model


def _stubs_in(value: object, where: str) -> Iterator[str]:
    """The places in a JSON value that hold text from a stub."""
    if isinstance(value, str) and MARK in value:
        yield f"{where}: {value!r} is not known while the definition is read"
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _stubs_in(item, f"{where}.{key}")
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield from _stubs_in(item, f"{where}[{index}]")


def _result(folder: Path, module: str) -> dict[str, Any]:
    try:
        models = _models(importlib.import_module(module))
    except BaseException as error:  # whatever the model's code raises
        from tungstenkit.spec.load_error import described

        told = described(error, folder, module)
        return {"error": {**told, "hint": HINT} if MARK in json.dumps(told) else told}
    problems = [problem for model in models for problem in _stubs_in(model, model["class_name"])]
    if problems:
        return {"error": {"problems": problems, "where": module, "hint": HINT}}
    return {"models": models}


def _go_apart(folder: str, how: dict[str, Any]) -> dict[str, Any] | None:
    """Go on without the machine: as the image's user, without a network, in a root of a few folders that can't be
    written. What keeps us from it; None where nothing does.

    how: `tools`, the folder of `apart.py`; `shown`, by their place the folders that are there; `owned`, those of them
    that may be their owner's alone; `is-root`, whether we are the machine's root.
    """
    sys.path.insert(0, how["tools"])
    import apart

    sys.path.pop(0)
    is_root: bool = how["is-root"]
    try:
        machine = apart.leave(_USER, _USER, network=False, as_root=is_root)
    except apart.RefusedError as error:
        return {"refused": str(error)}
    root = apart.Root()
    for scratch in ("/tmp", _HOME):  # noqa: S108
        root.scratch(scratch)
    root.few_devices()
    root.write("/etc/passwd", f"nonroot:x:{_USER}:{_USER}::{_HOME}:/bin/sh\n")
    root.write("/etc/group", f"nonroot:x:{_USER}:\n")
    for place, source in how["shown"].items():
        root.bind(source, place, owner=_USER if is_root and place in how["owned"] else None)
    root.folder("/proc")
    # Where a container hides parts of its own (mount_namespaces(7)), there is none.
    with contextlib.suppress(PermissionError):
        apart.mount_processes("/proc")
    root.close()
    apart.as_child()
    try:
        apart.confine(machine, _USER, _USER, as_root=is_root)
    except OSError as problem:
        return {"refused": str(problem)}
    os.chdir("/")
    hidden = [place for place in how["owned"] if not os.access(place, os.R_OK)]
    if hidden:
        return {"error": {"what": _UNREADABLE, "where": ", ".join(hidden), "hint": _MAKE_READABLE}}
    os.chdir(folder)
    return None


def main(places: str, orders_fd: str, result_fd: str) -> NoReturn:
    """See the module's docstring."""
    # What is installed here says nothing about the image.
    versions = Stub("importlib.metadata")
    for name in ("distribution", "metadata", "requires", "version"):
        setattr(importlib.metadata, name, getattr(versions, name))
    importlib.metadata.distributions = lambda **_: ()
    finder = Finder(json.loads(places))
    _import_what_all_need(finder)
    with os.fdopen(int(orders_fd), encoding="utf-8") as file:
        orders = file.read()
    if not orders:
        os._exit(1)  # there is nothing to read any more
    folder, module, how = json.loads(orders)
    os.chdir(folder)
    result = how and _go_apart(folder, how)
    # Our own arguments are paths of this machine; a model that looks must not find them.
    sys.argv = [module]
    sys.path.insert(0, folder)
    finder.folder = Path(folder)
    sys.meta_path.insert(0, finder)
    with os.fdopen(int(result_fd), "w", encoding="utf-8") as file:
        json.dump(result or _result(Path(folder), module), file)
    # Threads and exit handlers of the model's code must not hold up or change the result.
    os._exit(0)


def _import_what_all_need(finder: Finder) -> None:
    """Import what comes in with every model, while it is not known yet which it is."""
    sys.meta_path.insert(0, finder)
    # What is wrong with it is told in its turn.
    with contextlib.suppress(Exception):
        importlib.import_module("tungstenkit.sdk.define")
        importlib.import_module("tungstenkit.sdk.schema")
    # What keeps a module apart is not for it to decide.
    sys.meta_path.remove(finder)
