"""A model's folder becomes its spec.

`load.py` reads the model's module, without its dependencies and in a process of its own, and what only a parser of
requirements can check is checked here.
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
import subprocess
import sys
import tempfile
import unicodedata
from pathlib import Path
from typing import Any

from pydantic import (
    BaseModel,
    Field,
    ValidationError,
)

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
from tungstenkit.spec import dockerfile
from tungstenkit.spec.apart import keep_apart
from tungstenkit.spec.document import LockFileWish, ModelSpec
from tungstenkit.spec.requirement_files import lock_file_of, written_out
from tungstenkit.spec.requirements import parse, problem

__all__ = ["read_spec"]

DEFAULT_MODULE = "tungsten_model"
LOAD_TIMEOUT = 120.0  # seconds

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
    packages, notices, problems = _written_out(spec.python_packages, directory)
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
    ).with_notices([*commands.notices, *notices])
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
        apart = None if trust else keep_apart(directory, places)
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


def _written_out(entries: list[str], directory: Path) -> tuple[list[str], tuple[str, ...], list[str]]:
    """`python_packages` with the files that it names, what counts otherwise there, and what is wrong with entries."""
    problems: list[str] = []
    notices: tuple[str, ...] = ()
    packages: list[str] = []
    try:
        for where, entry in written_out(entries, directory):
            is_lock_file = lock_file_of(entry) is not None
            if not is_lock_file and (what := requirement_problem(entry) or problem(entry)):
                problems.append(f"{where}: {without_password(entry)!r} {what}")
            packages.append(entry)
        if not problems:
            notices = parse([entry for entry in packages if not lock_file_of(entry)]).notices
    except ValueError as error:
        problems.append(str(error))
    return packages, notices, problems


def _lock_file(
    packages: list[str], directory: Path, problems: list[str]
) -> tuple[LockFileWish | None, list[str]]:
    """The lock file of another tool that a model names, and `python_packages` without it; adds what is wrong."""
    setting = lock_file_setting(directory)
    named = dict.fromkeys(filter(None, [setting, *map(lock_file_of, packages)]))
    rest = [entry for entry in packages if lock_file_of(entry) is None]
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
