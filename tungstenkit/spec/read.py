"""A model's folder becomes its spec.

A `Reading` has the model's module read, and what it answers is judged here: by its form, and by what only a parser of
requirements can check.
"""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from typing import TYPE_CHECKING, Any

from pydantic import (
    BaseModel,
    Field,
    ValidationError,
)

from tungstenkit.lacks import namespaces_hint
from tungstenkit.sdk.errors import DefinitionError, SpecError
from tungstenkit.sdk.wishes import requirement_problem, value_problems, without_password
from tungstenkit.settings import (
    about_settings,
    build_settings,
    check_names,
    compression_setting,
    index_settings,
    library_settings,
    lock_file_setting,
    nixpkgs_settings,
)
from tungstenkit.spec import dockerfile
from tungstenkit.spec.document import LockFileWish, ModelSpec
from tungstenkit.spec.reading import LARGEST_ANSWER, LOAD_TIMEOUT, Reading
from tungstenkit.spec.requirement_files import lock_file_of, written_out
from tungstenkit.spec.requirements import parse, problem

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["read_spec", "spec_of"]

_NO_NETWORK = re.compile(
    r"(?:URLError|gaierror|ConnectionRefusedError|TimeoutError): |OSError: \[Errno 101\]"  # network is unreachable
)
_NO_FILE = re.compile(r"(?:FileNotFound|Permission|NotADirectory|OS)Error: \[Errno \d+\] [^:']+: '([^']+)'")


class _Error(BaseModel, defer_build=True):
    what: str = ""
    problems: list[str] = Field(default_factory=list)
    where: str
    hint: str | None = None
    origin: str = ""
    """The file that an exception comes from, the model's or another."""


class _Answer(BaseModel, defer_build=True):
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

    class_name: the class, where there are several. The others are those of `Reading`.

    Raises SpecError as that does, and as `spec_of`.
    """
    with Reading(directory, module, timeout=timeout, trust=trust) as reading:
        return spec_of(reading, class_name)


def spec_of(reading: Reading, class_name: str | None) -> ModelSpec:
    """What the module that is being read declares.

    class_name: the class, where there are several.

    Raises SpecError where there is no such class, where there are several, or where the module can't be imported;
    DefinitionError where the definition is wrong.
    """
    directory, module, file = reading.directory, reading.module, reading.file
    check_names(directory)
    models = _models(reading)
    model = _chosen(models, class_name, where=str(file), module=module)
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
        raise DefinitionError(problems, where=f"{file} (class {spec.class_name})")
    return spec


def _settings(directory: Path) -> dict[str, Any]:
    """What the `pyproject.toml` beside a model says, by the spec's fields."""
    return {
        "indexes": index_settings(directory),
        "libraries": library_settings(directory),
        "build": build_settings(directory),
        "nixpkgs": nixpkgs_settings(directory),
        "about": about_settings(directory),
        "compression": compression_setting(directory),
    }


def repository_name(name: str) -> str:
    """`name` as the OCI distribution specification wants a repository's: lower case, single separators."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    return re.sub(r"([._-])[._-]+", r"\1", re.sub(r"[^a-z0-9._-]+", "-", plain)).strip("._-") or "model"


def _models(reading: Reading) -> list[dict[str, Any]]:
    """The models of an answer of `load.py`. Raises what it says is wrong."""
    text, module, directory = reading.answer(), reading.module, reading.directory
    if len(text) > LARGEST_ANSWER:
        raise _spoilt(module, directory)
    try:
        said = json.loads(text)
        # pydantic would describe each of millions that is none.
        if not all(isinstance(one, dict) for one in said.get("models", ())):
            raise _spoilt(module, directory)
        answer = _Answer.model_validate(said)
    except (ValueError, TypeError, AttributeError, RecursionError):
        raise _spoilt(module, directory) from None
    if answer.refused is not None:
        raise SpecError(
            f"this machine does not let the model's module run apart: {answer.refused}",
            where=str(directory),
            hint="--trust (or TUNGSTEN_TRUST=1) runs it as you, with your files and your network, if it is yours; to"
            f" let it run apart: {namespaces_hint()}",
        )
    if answer.error is not None:
        error = answer.error
        if error.problems:
            raise DefinitionError(error.problems, where=error.where, hint=error.hint)
        hint = error.hint or (_APART if reading.is_apart and _misses_the_machine(error, directory) else None)
        raise SpecError(error.what, where=error.where, hint=hint)
    if not all(isinstance(model.get("class_name"), str) for model in answer.models):
        raise _spoilt(module, directory)
    return answer.models


_APART = (
    "the module is read apart from this machine: there are no network, none of your variables, and none of your files"
    " but the model's folder, which can't be written; what needs them belongs into `setup`, or --trust reads the module"
    " as you"
)


def _misses_the_machine(error: _Error, directory: Path) -> bool:
    """Whether a module has failed for want of what it is kept apart from."""
    if file := _NO_FILE.match(error.what):
        is_own = (directory / file[1]).is_relative_to(directory)
        return not is_own or "[Errno 30]" in error.what  # a file system that is read-only
    is_variable = error.what.startswith("KeyError: ") and error.origin.endswith(("<frozen os>", "/os.py"))
    return is_variable or _NO_NETWORK.match(error.what) is not None


def _spoilt(module: str, directory: Path) -> SpecError:
    return SpecError(
        f"{module} writes to files that it did not open, and spoilt the answer", where=str(directory)
    )


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
