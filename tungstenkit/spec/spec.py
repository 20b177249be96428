"""`spec.json`: what a model asks for, and how it is read from the model's code.

`ModelSpec` owns the document's shape. `read_spec` makes one from a folder: `load.py` reads the model's
module, without its dependencies and in a process of its own, and what only a parser of requirements can check
is checked here.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import json
import os
import re
import resource
import signal
import stat
import subprocess
import sys
import sysconfig
import tempfile
import unicodedata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
)

from tungstenkit import store
from tungstenkit.data import NIX
from tungstenkit.document import Document, check_version
from tungstenkit.sdk.downloads import Download, HuggingFace
from tungstenkit.sdk.errors import DefinitionError, SpecError
from tungstenkit.sdk.wishes import requirement_problem, value_problems, without_password
from tungstenkit.settings import (
    build_settings,
    check_names,
    index_settings,
    library_settings,
    lock_file_setting,
    nixpkgs_settings,
)
from tungstenkit.spec import dockerfile, requirements
from tungstenkit.spec.dockerfile import Commands  # noqa: TC001 - pydantic reads it

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["ModelSpec", "read_spec"]

DEFAULT_MODULE = "tungsten_model"
LOAD_TIMEOUT = 120.0  # seconds
_REMEDY = "use the version of tungsten that wrote it, or write it again with `tungsten nix-export`"

_ENVIRONMENT = {
    "HOME": "/home/nonroot",
    "LANG": "C.UTF-8",
    "LOGNAME": "nonroot",
    "PATH": "/usr/local/bin:/usr/bin:/bin",
    "USER": "nonroot",
}
"""The variables of a module that is read: some of the image's, and no others."""
_LARGEST_FILE = 1 << 28  # bytes
_LARGEST_ANSWER = 1 << 24  # bytes, far above what a definition comes to with its examples
_SYSTEM = ("/usr", "/lib", "/lib32", "/lib64", "/bin", "/sbin")
_SYSTEM_FILES = ("/etc/ld.so.cache", "/etc/localtime")
_STORES = ("/nix/store", "/gnu/store")
"""What of the machine a module sees beside its folder: what every program needs, and anyone may read; where our own
Python is there, a store of such things.
"""

# Real while a definition is read: the SDK, what it needs, and what those need.
_REAL_MODULES = (
    "PIL",
    "annotated_types",
    "pydantic",
    "pydantic_core",
    "tungstenkit",
    "typing_extensions",
    "typing_inspection",
)


class _Error(BaseModel):
    what: str = ""
    problems: list[str] = Field(default_factory=list)
    where: str
    hint: str | None = None


class _Answer(BaseModel):
    """What `load.py` says, or what the module has written in its place."""

    refused: str | None = None
    error: _Error | None = None
    models: list[dict[str, Any]] = Field(default_factory=list)


class DownloadWish(Document):
    """A `Download`."""

    url: str
    sha256: str | None
    to: str
    """Relative to the model's folder."""
    executable: bool

    def as_declared(self) -> Download:
        """As the model's module has it."""
        return Download(self.url, self.sha256, self.to, self.executable)


class RepositoryWish(Document):
    """A `HuggingFace`."""

    repository: str
    type: Literal["model", "dataset"]
    revision: str
    to: str | None
    """A folder, relative to the model's; null is the hub's cache."""
    include: list[str]
    exclude: list[str]

    def as_declared(self) -> HuggingFace:
        """As the model's module has it."""
        return HuggingFace(self.repository, self.revision, self.to, self.include, self.exclude, self.type)


class LockFileWish(Document):
    """A lock file of another tool, whose versions are kept."""

    file: str
    """Relative to the model's folder."""
    sha256: str


class ModelSpec(Document):
    """What `spec.json` holds; ARCHITECTURE.md says what each key means."""

    model_config = ConfigDict(
        alias_generator=lambda name: name.removesuffix("_name").replace("_", "-"), strict=True
    )

    spec_version: Literal[1] = 1
    name: str
    module: str
    class_name: str
    batch_size: int = Field(ge=1)
    gpu: bool
    gpu_mem_gb: int | float
    mem_gb: int | float
    cuda_version: str | None
    python_version: str | None
    python_packages: list[str]
    system_packages: list[str]
    libraries: dict[str, str | Literal[False]] = Field(default_factory=dict)
    """`[tool.tungsten.libraries]`."""
    build: dict[str, dict[str, str | list[str]]] = Field(default_factory=dict)
    """`[tool.tungsten.build]`; absent where it is empty."""
    indexes: dict[str, dict[str, str | int | list[str]]] = Field(default_factory=dict)
    """`[tool.tungsten.indexes]`; absent where it is empty."""
    nixpkgs: dict[str, list[str]] = Field(default_factory=dict)
    """`[tool.tungsten.nixpkgs]`."""
    lock_file: LockFileWish | None = None
    """`-c uv.lock` in `python_packages`, or `[tool.tungsten] lock`; absent where there is none."""
    dockerfile_commands: list[str]
    base_image: str | None
    include_files: list[str]
    exclude_files: list[str]
    has_setup: bool
    has_post_build: bool
    has_predict_demo: bool
    input_schema: dict[str, Any]
    output_schema: dict[str, Any]
    demo_output_schema: dict[str, Any] | None
    examples: list[dict[str, Any]] = Field(default_factory=list)
    commands: Commands | None = None
    """What `dockerfile_commands` come to; absent where there are none."""
    files: list[DownloadWish | RepositoryWish] = Field(default_factory=list)
    """`files`; absent where it is empty."""

    @model_serializer(mode="wrap")
    def _without_empty(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        written: dict[str, Any] = write(self)
        optional = ("build", "commands", "files", "indexes", "lock-file", "nixpkgs")
        return {key: value for key, value in written.items() if value or key not in optional}

    @classmethod
    def from_json(cls, text: str, *, where: str = "spec.json") -> ModelSpec:
        """Read the document; `where` is the file's name. Raises SpecError that names every wrong key."""
        check_version(text, "spec-version", 1, where=where, error=SpecError, hint=_REMEDY)
        return cls.parse(text, where=where, error=SpecError, hint=_REMEDY)


def read_spec(
    directory: Path,
    module: str | None = None,
    class_name: str | None = None,
    *,
    timeout: float = LOAD_TIMEOUT,
    trust: bool = False,
) -> ModelSpec:
    """Read the definition of the model in a folder.

    module: the Python module, in the folder, that defines it; `tungsten_model` by default.
    class_name: the class, where there are several.
    timeout: how long the module's import may take, in seconds.
    trust: whether the module may run as whoever calls, with all that is theirs; else it runs apart from the machine.

    Raises SpecError where there is no such folder, module or class, where there are several classes, or where
    the module can't be imported; DefinitionError where the definition is wrong.
    """
    directory = directory.resolve()
    module = module or DEFAULT_MODULE
    if module.endswith(".py"):
        # What a shell completes.
        module = module.removesuffix(".py").replace("/", ".")
    file = _module_file(directory, module)
    _refuse_shadowing(directory)
    check_names(directory)
    models = _load(directory, module, timeout, trust=trust)
    model = _chosen(models, class_name, where=str(file.relative_to(directory)), module=module)
    # Not of the folder's name: an image must not depend on where it is built.
    name = repository_name(re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", model["class_name"]))
    try:
        spec = ModelSpec.model_validate({**model, **_settings(directory), "name": name, "module": module})
    except ValidationError:
        raise _spoilt(module, directory) from None
    if not spec.class_name.isidentifier():
        raise _spoilt(module, directory)
    packages, problems = _written_out(spec.python_packages, directory)
    lock_file, packages = _lock_file(packages, directory, problems)
    problems += value_problems({**vars(spec), "files": [wish.as_declared() for wish in spec.files]})
    commands = dockerfile.parse(spec.dockerfile_commands)
    problems += commands.problems
    spec = spec.model_copy(
        update={
            "python_packages": packages,
            "lock_file": lock_file,
            "commands": commands.commands if spec.dockerfile_commands else None,
        }
    )
    try:
        spec.to_json().encode()
    except UnicodeEncodeError as error:
        problems.append(f"a text in it is not Unicode: {error.object[error.start : error.end]!a}")
    if problems:
        raise DefinitionError(problems, where=f"{file.relative_to(directory)} (class {spec.class_name})")
    return spec


def _settings(directory: Path) -> dict[str, Any]:
    """What the `pyproject.toml` beside a model says, by the spec's fields."""
    return {
        "indexes": index_settings(directory),
        "libraries": library_settings(directory),
        "build": build_settings(directory),
        "nixpkgs": nixpkgs_settings(directory),
    }


def repository_name(name: str) -> str:
    """`name` as the OCI distribution specification wants a repository's: lower case, single separators."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    return re.sub(r"([._-])[._-]+", r"\1", re.sub(r"[^a-z0-9._-]+", "-", plain)).strip("._-") or "model"


def _module_file(directory: Path, module: str) -> Path:
    if not directory.is_dir():
        raise SpecError("no such folder", where=str(directory))
    if not all(part.isidentifier() for part in module.split(".")):
        raise SpecError(
            f"{module!r} is not the name of a Python module", hint="write it as in an import statement"
        )
    try:
        str(directory).encode()
    except UnicodeEncodeError:
        # Nor do Nix and what it prints get past it.
        raise SpecError("the folder's path is not UTF-8", where=str(directory), hint="rename it") from None
    stem = directory.joinpath(*module.split("."))
    for file in (stem / "__init__.py", stem.with_suffix(".py")):
        if file.is_file():
            return file
    raise SpecError(
        f"there is no module {module}",
        where=str(directory),
        hint=f"a model is a class with @define_model in {module.replace('.', '/')}.py; or name it with -m",
    )


def _refuse_shadowing(directory: Path) -> None:
    """The folder comes first on the model's `sys.path`: its modules hide those that every image needs."""
    # Nothing imports Python's own tests, and many folders have some of theirs.
    taken = (sys.stdlib_module_names | set(_REAL_MODULES)) - {"test"}
    entries = sorted(directory.iterdir())
    modules = (e for e in entries if e.suffix == ".py" or (e / "__init__.py").is_file())
    hidden = [entry.name for entry in modules if entry.stem in taken]
    if hidden:
        raise SpecError(
            f"hides a module that Python or the SDK needs: {', '.join(hidden)}",
            where=str(directory),
            hint="give it another name",
        )


def _load(directory: Path, module: str, timeout: float, *, trust: bool) -> list[dict[str, Any]]:
    """Run `load.py`."""
    places = {}
    for name in _REAL_MODULES:
        found = importlib.util.find_spec(name)
        if found is not None and found.origin is not None:
            origin = Path(found.origin)
            places[name] = str(origin.parent.parent if origin.name == "__init__.py" else origin.parent)
    # Nothing of the machine's Python set-up may count, and the order of sets must not change from run to run.
    known = os.environ if trust else _ENVIRONMENT | _libraries()
    environment = {key: value for key, value in known.items() if not key.startswith("PYTHON")}
    environment |= {"PYTHONHASHSEED": "0", "PYDANTIC_DISABLE_PLUGINS": "__all__"}
    program = Path(__file__).with_name("load.py")
    # The answer is small, and must not depend on room on a disk.
    with os.fdopen(os.memfd_create("answer"), "w+b") as result, tempfile.TemporaryFile() as output:
        apart = None if trust else _apart(directory, places)
        arguments = [str(program), str(directory), module, json.dumps(places), json.dumps(apart)]
        arguments.append(str(result.fileno()))
        process = subprocess.Popen(
            [sys.executable, "-B", "-P", "-S", "-s", "-X", "utf8", *arguments],
            cwd=directory,
            env=environment,
            preexec_fn=None if trust else _bound_files,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            pass_fds=[result.fileno()],
            start_new_session=True,
        )
        try:
            process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise SpecError(
                f"the import of {module} took longer than {timeout:g} s",
                where=str(directory),
                hint="what takes long belongs into setup or post_build, not at the top level of a module",
            ) from None
        finally:
            # With it goes whatever the module started.
            _kill_group(process)
        result.seek(0)
        text = result.read(_LARGEST_ANSWER + 1)
        if not text:
            output.seek(0)
            said = output.read().decode(errors="replace").strip()[-2000:]
            raise SpecError(
                f"the import of {module} ended Python (exit status {process.returncode})"
                + (f"; it said:\n{said}" if said else ""),
                where=str(directory),
            )
    return _models(text, module, directory)


def _models(text: bytes, module: str, directory: Path) -> list[dict[str, Any]]:
    """The models of an answer of `load.py`. Raises what it says is wrong."""
    try:
        answer = _Answer.model_validate(json.loads(text))
    except (ValueError, RecursionError):
        raise _spoilt(module, directory) from None
    if answer.refused is not None:
        raise SpecError(
            f"this machine does not let the model's module run apart: {answer.refused}",
            where=str(directory),
            hint="--trust (or TUNGSTEN_TRUST=1) runs it as you, with your files and your network, if it is yours; in a"
            " container, --privileged lets it run apart; elsewhere `sysctl -w user.max_user_namespaces=100000` may",
        )
    if answer.error is not None:
        error = answer.error
        if error.problems:
            raise DefinitionError(error.problems, where=error.where, hint=error.hint)
        raise SpecError(error.what, where=error.where, hint=error.hint)
    if not all(isinstance(model.get("class_name"), str) for model in answer.models):
        raise _spoilt(module, directory)
    return answer.models


def _spoilt(module: str, directory: Path) -> SpecError:
    return SpecError(
        f"{module} writes to files that it did not open, and spoilt the answer", where=str(directory)
    )


def _apart(directory: Path, places: dict[str, str]) -> dict[str, Any]:
    """How a module is kept apart (`load._go_apart`): it sees its folder, the system's libraries, and our Python."""
    paths = sysconfig.get_paths()
    owned = [
        sys.base_prefix,
        sys.base_exec_prefix,
        paths["stdlib"],
        paths["platstdlib"],
        str(NIX / "tools" / "lib"),
    ]
    owned += os.environ.get("LD_LIBRARY_PATH", "").split(":")
    for name, place in places.items():
        # What lies beside a package that is installed belongs to packages; beside our own sources may lie all.
        is_installed = Path(place).name in ("site-packages", "dist-packages")
        owned.append(place if is_installed else f"{place}/{name}")
    stores = {path for path in _STORES if any(os.path.realpath(one).startswith(f"{path}/") for one in owned)}
    system = [path for path in (*_SYSTEM, *stores, *_SYSTEM_FILES) if os.path.lexists(path)]
    known = tuple(_below(system))
    outside: list[str] = []
    for path in [*sorted(set(owned)), str(directory)]:
        # What is shown with another is shown; the model's folder may have to be shown as another's.
        is_shown = f"{path}/".startswith((*known, *_below(outside))) and path != str(directory)
        if len(path) > 1 and Path(path).is_absolute() and Path(path).exists() and not is_shown:
            outside.append(path)
    shown = {path: path for path in system} | {path: os.path.realpath(path) for path in outside}
    # A path that leads there by links must be there itself, too.
    shown |= {
        source: source for source in shown.values() if not source.startswith(known) and source not in shown
    }
    return {
        "tools": str(NIX / "tools" / "lib"),
        "shown": shown,
        "owned": [path for path in outside if path == str(directory) or not _is_for_all(path)],
        "is-root": os.geteuid() == 0 and store.has_other_users(),
    }


def _below(paths: Sequence[str]) -> list[str]:
    return [f"{path.rstrip('/')}/" for path in paths]


def _is_for_all(path: str) -> bool:
    """Whether anyone may look into a folder, or read a file."""
    mode = Path(path).stat().st_mode
    return bool(mode & stat.S_IROTH and (mode & stat.S_IXOTH or not stat.S_ISDIR(mode)))


def _libraries() -> dict[str, str]:
    return {name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if os.environ.get(name)}


def _bound_files() -> None:
    """What the module may write is memory, but for the files that its answer and its words are in."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (_LARGEST_FILE, _LARGEST_FILE))


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _chosen(
    models: list[dict[str, Any]], class_name: str | None, *, where: str, module: str
) -> dict[str, Any]:
    names = [model["class_name"] for model in models]
    hint = f"the models of {module} are {', '.join(names)}; choose one with -c"
    if not models:
        raise SpecError(
            f"no class in {module} is decorated with @define_model",
            where=where,
            hint="-m names another module",
        )
    if class_name is not None:
        if class_name not in names:
            raise SpecError(f"no model is called {class_name}", where=where, hint=hint)
        return models[names.index(class_name)]
    if len(models) > 1:
        raise SpecError(f"there are {len(models)} models", where=where, hint=hint)
    return models[0]


def _written_out(entries: list[str], directory: Path) -> tuple[list[str], list[str]]:
    """`python_packages` with the files that it names, and what a parser says against each entry."""
    problems: list[str] = []
    packages: list[str] = []
    try:
        for where, entry in requirements.written_out(entries, directory):
            is_lock_file = requirements.lock_file_of(entry) is not None
            if not is_lock_file and (what := requirement_problem(entry) or requirements.problem(entry)):
                problems.append(f"{where}: {without_password(entry)!r} {what}")
            packages.append(entry)
        if not problems:
            requirements.parse([entry for entry in packages if not requirements.lock_file_of(entry)])
    except ValueError as error:
        problems.append(str(error))
    return packages, problems


def _lock_file(
    packages: list[str], directory: Path, problems: list[str]
) -> tuple[LockFileWish | None, list[str]]:
    """The lock file of another tool that a model names, and `python_packages` without it; adds what is wrong."""
    setting = lock_file_setting(directory)
    named = dict.fromkeys(filter(None, [setting, *map(requirements.lock_file_of, packages)]))
    rest = [entry for entry in packages if requirements.lock_file_of(entry) is None]
    if not named:
        return None, rest
    if len(named) > 1:
        problems.append(
            f"there may be one lock file whose versions are kept, and these are named: {', '.join(named)}"
        )
    (name, *_) = named
    try:
        digest = hashlib.sha256((directory / name).read_bytes()).hexdigest()
    except OSError as error:
        problems.append(f"the lock file {name} can't be read: {error.strerror}")
        return None, rest
    return LockFileWish(file=name, sha256=digest), rest
