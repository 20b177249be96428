#!/usr/bin/env python3
"""Import a model as its server would, and compare it with its spec: `import_check.py CONFIG.json OUT`.

Run by an image's own Python in that image's own root, with the model's files in /app, without a network, a GPU, big
files and downloads. The module is imported by a child with the image's own variables, since it may crash, hang or
exit; the parent says what went wrong, and what is likely to help. OUT gets what should be known but is no failure.
A program by itself: nothing of ours lies beside it in that root.

CONFIG: `spec`, the text of spec.json; `variables`, the child's environment; `names`, import-names.json;
`drivers`, a pattern of the libraries of a GPU's driver.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import re
import select
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

APP = Path("/app")
TIMEOUT = 120.0
"""Seconds that an import may take."""

_LAST_LINES = 15
_MISSING_LIBRARY = re.compile(r"(?:^|\s)([\w.+-]+\.so[\w.+-]*): cannot open shared object file")
# How frameworks say that a GPU's driver isn't there.
_NO_GPU = re.compile(
    r"no nvidia driver|no cuda gpus|no cuda-capable|cuda driver version is insufficient|cudaErrorNoDevice"
    r"|CUDA_ERROR_NO_DEVICE|CUDA is not available|is_available\(\) is False|libcuda\.so|NVML",
    re.IGNORECASE,
)
_NO_NETWORK = re.compile(
    r"name resolution|Name or service not known|Network is unreachable|Max retries exceeded|ConnectionError"
    r"|couldn't connect to|gaierror|URLError"
)
_BY_SHELL = "`apt-file search {}` on a Debian machine says which"

# Keys of the spec that are not the class's word alone: all others must be the same in the image.
_NOT_COMPARED = frozenset(
    {
        "spec-version",
        "name",
        "module",
        "class",
        # Of `pyproject.toml`, and of files beside it.
        "about",
        "build",
        "compression",
        "indexes",
        "libraries",
        "lock-file",
        "nixpkgs",
        # Written out in the spec; the class has what it was written from.
        "commands",
        "python-packages",
        # Their files need not be in the image, nor what is downloaded.
        "examples",
        "files",
    }
)
# What the class has in place of their schemas.
_CLASSES = frozenset({"input", "output", "demo-output"})


class Problem(NamedTuple):
    """What is wrong, where, and what to do: the three parts of every error of ours."""

    what: str
    where: str
    hint: str = ""
    is_note: bool = False
    """Whether it is no failure: a machine with a GPU has what is missing."""
    kind: str = "import"
    """For programs: `missing-library`, `missing-module` and `import-fails` have a `name`."""
    name: str = ""
    """What is missing; of an import that fails, the file that is not there."""

    def told(self) -> str:
        """The line for `tungstenkit/nix_build/log.py`, as `program.tell` writes it."""
        fields = {
            "kind": "note" if self.is_note else self.kind,
            "what": self.what,
            "where": self.where,
            "hint": self.hint,
            "name": self.name,
        }
        return f"@tungsten {json.dumps(fields)}"

    def __str__(self) -> str:
        """The lines that users see."""
        parts = {
            "note: " if self.is_note else "error: ": self.what,
            "  in:   ": self.where,
            "  hint: ": self.hint,
        }
        return "\n".join(
            label + text.replace("\n", "\n" + " " * len(label)) for label, text in parts.items() if text
        )


def check(config_path: Path, out: Path) -> Problem | None:
    """Import the model; None where all is well."""
    config = json.loads(config_path.read_text("utf-8"))
    spec = json.loads(config["spec"])
    result, said = run_child(config_path, config["variables"], TIMEOUT)
    problem = judge(result, said, spec, config)
    if problem is None or problem.is_note:
        out.write_text(f"{problem}\n" if problem else "", "utf-8")
    return problem


def run_child(
    config_path: Path, variables: dict[str, str], timeout: float, folder: Path = APP
) -> tuple[dict[str, Any], str]:
    """What the child found, and what it printed."""
    # Files, since a pipe is full at some size, and has no end as long as anything that the module started holds it.
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as found:
        write = found.fileno()
        process = subprocess.Popen(
            [sys.executable, "-B", "-X", "faulthandler", __file__, "child", str(config_path), str(write)],
            cwd=folder,
            env=variables,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            pass_fds=[write],
            start_new_session=True,
        )
        try:
            _wait(process, timeout)
            result: dict[str, Any] = {"ended": process.returncode}
        except subprocess.TimeoutExpired:
            result = {"seconds": timeout}
        finally:
            # With it goes whatever the module started, but for what has left its session: the sandbox ends that.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        found.seek(0)
        text = found.read()
        output.seek(0)
        said = output.read().decode(errors="replace").strip()
    if text and "seconds" not in result:
        try:
            result = json.loads(text)
        except ValueError:
            result = {"ended": "it wrote to a file that it did not open"}
    return result, said


def _wait(process: subprocess.Popen[bytes], timeout: float) -> None:
    """As `Popen.wait`, which looks every 50 ms; the kernel says it at once where it can (pidfd_open(2))."""
    with contextlib.suppress(AttributeError, OSError):
        end = os.pidfd_open(process.pid)
        try:
            waiting = select.poll()
            waiting.register(end, select.POLLIN)
            if not waiting.poll(1000 * timeout):
                raise subprocess.TimeoutExpired(process.args, timeout)
        finally:
            os.close(end)
    process.wait(timeout)


def judge(result: dict[str, Any], said: str, spec: dict[str, Any], config: dict[str, Any]) -> Problem | None:
    """What a child's result means; None where all is well."""
    module, class_name = spec["module"], spec["class"]
    if "seconds" in result:
        return Problem(
            f"the import takes longer than {result['seconds']:g} s",
            module,
            "what takes long belongs into setup or post_build, not at the top level of a module",
        )
    if "ended" in result:
        status = result["ended"]
        how = f"with exit status {status}"
        if isinstance(status, int) and status < 0:
            how = f"by {signal.Signals(-status).name}"
        last = last_lines(said)
        return Problem(
            f"the import ends Python {how}" + (f"; it said:\n{last}" if last else ""),
            module,
            "a library that crashes often wants another version of something else, or a processor that it was not"
            " built for"
            if isinstance(status, int) and status < 0
            else "",
        )
    if "error" in result:
        return _judge_error(result["error"], spec, config)
    if "definition" not in result:
        names = ", ".join(result["models"]) or "none"
        return Problem(
            f"the spec's model is the class {class_name}, and the module has no such model; its models: {names}",
            f"{module} and spec.json",
            "the spec is older than the code: export again with `tungsten nix-export`",
        )
    declared = {key: value for key, value in spec.items() if key not in _NOT_COMPARED}
    # What a spec leaves out is empty.
    image = {key: value for key, value in result["definition"].items() if value or key in declared}
    differences = list(_differences(declared, image, ""))
    if not differences:
        return None
    more = [f"and {len(differences) - 5} more"] if len(differences) > 5 else []
    return Problem(
        "\n".join(["the class is another one in the image than when it was read:", *differences[:5], *more]),
        f"{module}.{class_name}",
        "what a class declares must not depend on what is installed, on files or on the machine; if it was changed,"
        " export again",
    )


def _differences(spec: Any, image: Any, where: str) -> Iterator[str]:  # noqa: ANN401 (JSON)
    """Lines that name the places where two JSON values differ. where: what stands before their keys."""
    if isinstance(spec, dict) and isinstance(image, dict):
        for key in [*spec, *(key for key in image if key not in spec)]:
            if key not in image or key not in spec:
                first, second = (_shown(one[key]) if key in one else "nothing" for one in (spec, image))
                yield f"{where}{key}: {first} in the spec, {second} in the image"
            else:
                yield from _differences(spec[key], image[key], f"{where}{key}.")
    elif spec != image or isinstance(spec, bool) != isinstance(image, bool):
        yield f"{where.rstrip('.')}: {_shown(spec)} in the spec, {_shown(image)} in the image"


def _shown(value: Any) -> str:  # noqa: ANN401
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 100 else f"{text[:97]}..."


def _judge_error(error: dict[str, Any], spec: dict[str, Any], config: dict[str, Any]) -> Problem:
    module = spec["module"]
    where = error["where"] or module
    text = f"{error['type']}: {error['text']}"
    if error["type"] == "SystemExit":
        return Problem(
            f"the module exits when it is imported, with {error['text'] or None}",
            where,
            "a model is imported by its server: what is for a command line goes below `if __name__ == '__main__':`",
        )
    library = missing_library(error["text"])
    if spec["gpu"] and (re.fullmatch(config["drivers"], library) if library else _NO_GPU.search(text)):
        return Problem(
            f"the import needs a GPU's driver, which no build has, so the rest of it is not checked: {text}",
            where,
            "what is asked of the GPU in `setup` instead can be checked",
            is_note=True,
        )
    if library:
        return Problem(
            f"the shared library {library} is missing",
            _with_importer(where, error),
            library_hint(library, config["drivers"]),
            kind="missing-library",
            name=library,
        )
    missing = error["missing-module"]
    if missing is not None:
        return Problem(
            f"there is no module {missing['name']}",
            _with_importer(where, error),
            module_hint(missing, config["names"]),
            kind="missing-module",
            name=missing["name"],
        )
    return Problem(
        f"the import fails:\n{last_lines(error['traceback'])}",
        where,
        _other_hint(error, text),
        kind="import-fails",
        name=error["file"],
    )


def _with_importer(where: str, error: dict[str, Any]) -> str:
    return f"{where}, by {error['importer']}" if error["importer"] else where


def missing_library(text: str) -> str | None:
    """The shared library that an exception's text says is missing."""
    found = _MISSING_LIBRARY.search(text)
    return found[1] if found else None


def module_hint(missing: dict[str, Any], names: dict[str, Any]) -> str:
    """What to do about a module that is missing. missing: see `_missing`; names: import-names.json.

    A package is named where it is known: what a stranger has put into the index under the name of somebody's own file
    is nothing to install.
    """
    name: str = missing["name"]
    top, _, inner = name.partition(".")
    project = names["projects"].get(name) or project_of(top, names)
    if missing["is-local"]:
        return "the folder or file of the same name in the model's folder has no such module"
    if not missing["distribution"]:
        if name in names["debs"]:
            return f"add {names['debs'][name]!r} to system_packages"
        # Of a name with dots Python misses the first part that is not there: all before it is.
        if not inner or name in names["projects"]:
            add = "to python_packages, and run `tungsten lock`"
            return (
                f"add {project!r} {add}"
                if project
                else f"add the package that has it {add}; or {top}.py is missing beside the model (include_files,"
                " exclude_files)"
            )
        if top in getattr(sys, "stdlib_module_names", ()):
            return f"{top} is Python's own, and has none of that name in this version"
    return (
        f"{missing['distribution'] or project or top} is there without it: it may want another version, or an extra, in"
        " python_packages"
    )


def project_of(module: str, names: dict[str, Any]) -> str | None:
    """The project of the Python index that is known to have a top-level module."""
    usual = module.lower().replace("_", "-")
    known: str | None = names["projects"].get(module) or (usual if usual in names["common"] else None)
    return known


def version_hint(distribution: str) -> str:
    """What to do about a name that a module has not got. distribution: what has the module."""
    return f"{distribution} may be of another version than the code was written for"


def library_hint(library: str, drivers: str) -> str:
    """What to do about a shared library that is missing. drivers: the pattern of those of a GPU's driver."""
    if re.fullmatch(drivers, library):
        return "a GPU's driver brings it: the model needs gpu=True"
    return (
        f"add the Debian package that has it to system_packages, by Debian's rules {usual_package(library)!r}"
        f" ({_BY_SHELL.format(library)}); or `{json.dumps(library)} = PACKAGE` to [tool.tungsten.libraries]"
    )


def usual_package(library: str) -> str:
    """What Debian calls the package of a shared library (Debian policy, 8.1): its name and its version."""
    name, _, version = library.partition(".so")
    separator = "-" if name[-1:].isdigit() and version else ""
    return f"{name}{separator}{version.lstrip('.')}".lower().replace("_", "-")


def _other_hint(error: dict[str, Any], text: str) -> str:
    if error["type"] == "ImportError" and error["distribution"]:
        return version_hint(error["distribution"])
    if _NO_NETWORK.search(text + error["traceback"]):
        return (
            "an import has no network here: what is downloaded once belongs into post_build or a declared file, what"
            " must be fresh into setup"
        )
    if error["type"] == "FileNotFoundError":
        return (
            "declared downloads and big files are not there while the import is checked: open them in setup; other"
            " files must be in include_files"
        )
    if "Read-only file system" in text:
        return "only /app, HOME and /tmp can be written"
    if _NO_GPU.search(text):
        return "no build has a GPU: use it in setup; a model that needs one declares gpu=True"
    return ""


def last_lines(text: str) -> str:
    """As much of a traceback as is shown."""
    lines = text.strip().splitlines()
    return "\n".join(lines if len(lines) <= _LAST_LINES else ["...", *lines[-_LAST_LINES:]])


# The child.


def child(config_path: Path, write: int) -> None:
    """Import the model of the working directory, and write down what was found."""
    folder = Path.cwd()
    os.set_inheritable(write, False)
    spec = json.loads(json.loads(config_path.read_text("utf-8"))["spec"])
    # As in the server's model process.
    sys.path[0] = str(folder)
    sys.argv = [spec["module"]]
    try:
        result = _found(importlib.import_module(spec["module"]), spec["class"])
    except BaseException as error:  # whatever the model's code raises
        result = {"error": _described(error, folder)}
    with os.fdopen(write, "w", encoding="utf-8") as file:
        json.dump(result, file)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):  # what the model's code has put there
            stream.flush()
    # Threads and exit handlers of the model's code must not hold up or change the result.
    os._exit(0)


def _found(module: object, class_name: str) -> dict[str, Any]:
    from tungstenkit.sdk.define import definition_of
    from tungstenkit.sdk.schema import json_schema

    classes = {name: cls for name, cls in vars(module).items() if isinstance(cls, type)}
    definition = definition_of(classes[class_name]) if class_name in classes else None
    if definition is None:
        return {"models": [name for name, cls in classes.items() if definition_of(cls)]}
    values = {name.replace("_", "-"): value for name, value in vars(definition).items()}
    values["input-schema"] = json_schema(definition.input, describe=True)
    values["output-schema"] = json_schema(definition.output, in_pieces=definition.stream)
    values["demo-output-schema"] = definition.demo_output and json_schema(definition.demo_output)
    declared = {key: value for key, value in values.items() if key not in _NOT_COMPARED | _CLASSES}
    # As the spec has them: tuples are lists there.
    return {"definition": json.loads(json.dumps(declared))}


def _described(error: BaseException, folder: Path) -> dict[str, Any]:
    """An exception as data, in the terms of the model's own code."""
    import traceback

    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename not in (__file__, importlib.__file__)
        and not frame.filename.startswith("<frozen importlib")
    ]
    own = [frame for frame in frames if Path(frame.filename).is_relative_to(folder)]
    where = f"{Path(own[-1].filename).relative_to(folder)}, line {own[-1].lineno}" if own else ""
    last = frames[-1] if frames else None
    missing = None
    if isinstance(error, ModuleNotFoundError) and error.name:
        missing = _missing(error.name, folder)
    lines = traceback.format_exception_only(type(error), error)
    if isinstance(error, SyntaxError) and error.filename and Path(error.filename).is_relative_to(folder):
        where = f"{Path(error.filename).relative_to(folder)}, line {error.lineno}"
    if error.__cause__ is not None:
        lines.insert(0, f"(from {type(error.__cause__).__name__}: {error.__cause__})\n")
    return {
        "type": type(error).__name__,
        "text": str(error.code) if isinstance(error, SystemExit) else str(error),
        "where": where,
        # The package at fault, where it is not the model's own line.
        "importer": f"{last.filename}, line {last.lineno}" if last and "-packages/" in last.filename else "",
        "missing-module": missing,
        "file": os.fsdecode(error.filename)
        if isinstance(error, FileNotFoundError) and error.filename
        else "",
        "distribution": _distribution((getattr(error, "name", None) or "").partition(".")[0]),
        "traceback": "".join(
            ["Traceback (most recent call last):\n", *traceback.format_list(frames), *lines]
            if frames
            else lines
        ),
    }


def _missing(name: str, folder: Path) -> dict[str, Any]:
    top = name.partition(".")[0]
    parent = sys.modules.get(name.rpartition(".")[0])
    return {
        "name": name,
        # A namespace has modules of several.
        "distribution": _distribution(top) if getattr(parent, "__file__", None) else "",
        "is-local": (folder / top).is_dir() or (folder / f"{top}.py").is_file(),
    }


def _distribution(module: str) -> str:
    """The installed distribution that has a top-level module, with its version; empty where none has."""
    import importlib.metadata

    for one in importlib.metadata.distributions():
        tops = (one.read_text("top_level.txt") or "").split()
        if module and (module in tops or any(file.parts[0] == module for file in one.files or ())):
            return f"{one.metadata['Name']} {one.version}"
    return ""


def main() -> None:
    """Run as the parent, or as its child."""
    if sys.argv[1] == "child":
        child(Path(sys.argv[2]), int(sys.argv[3]))
    problem = check(Path(sys.argv[1]), Path(sys.argv[2]))
    if problem is not None:
        print(problem, problem.told(), sep="\n", file=sys.stderr)
        sys.exit(0 if problem.is_note else 1)


if __name__ == "__main__":
    main()
