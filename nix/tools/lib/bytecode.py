"""Byte-code of Python sources: each .pyc a function of the Python build, its source and its path alone.

What else was imported or compiled before in the same process shows in a .pyc (interned objects are marked by
their reference counts), and so does the hash seed in some versions. So one process, which imports nothing but
py_compile, forks for every file: each is compiled from the same state. The .pyc files are of the
unchecked-hash kind (PEP 552), so no time stamp is in them, and name the path that the source will have in the
image.
"""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

from contents import Content, DiskFile
from program import ToolError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

# -s -S: no site-packages. -I and -E would ignore PYTHONHASHSEED.
_OPTIONS = ("-s", "-S", "-B", "-c")
_NOT_PYTHON = 3
_CHILD = f"""\
import sys, py_compile
os = py_compile.os
fields = sys.stdin.buffer.read().decode("utf-8", "surrogateescape").split("\\0")
kind = py_compile.PycInvalidationMode.UNCHECKED_HASH
free = int(sys.argv[1])
def compile(place):
    try:
        py_compile.compile(*fields[place : place + 3], doraise=True, optimize=0, invalidation_mode=kind)
    except py_compile.PyCompileError:
        os._exit({_NOT_PYTHON})
    os._exit(0)
def wait():
    status = os.wait()[1]
    if status not in (0, {_NOT_PYTHON} << 8):
        sys.exit(f"a process ended with status {{status}}")
for place in range(0, len(fields) - 1, 3):
    if free:
        free -= 1
    else:
        wait()
    if os.fork() == 0:
        compile(place)
try:
    while True:
        wait()
except ChildProcessError:
    pass
"""


def compile_sources(
    command: list[str], version: str, sources: Mapping[str, Content], work: Path
) -> tuple[dict[str, tuple[str, DiskFile]], list[str]]:
    """Compile sources, given by their path in the image, with the Python that `command` starts.

    `version` is `X.Y`; `work` is an empty folder that must live as long as the results. Returns source path
    -> (path of its .pyc in the image, the .pyc), and the paths of the sources that do not compile: installers
    leave such files as they are.
    """
    request = bytearray()
    compiled: dict[str, tuple[str, DiskFile]] = {}
    results = {}
    for number, path in enumerate(sorted(sources)):
        source, result = work / f"{number}.py", work / f"{number}.pyc"
        with source.open("wb") as file:
            file.writelines(sources[path].chunks())
        for field in (str(source), str(result), "/" + path):
            request += field.encode("utf-8", "surrogateescape") + b"\0"
        results[path] = result
    if results:
        _run([*command, *_OPTIONS, _CHILD, str(_processors())], bytes(request))
    for path, result in results.items():
        if result.exists():
            compiled[path] = (_cache_path(path, version), DiskFile(result))
    return compiled, [path for path in results if path not in compiled]


def _processors() -> int:
    # What Nix says that a step may use (Nix manual, `cores`); other steps may run at the same time.
    return int(os.environ.get("NIX_BUILD_CORES") or 0) or os.cpu_count() or 1


def _run(command: list[str], request: bytes) -> None:
    child = subprocess.run(
        command, input=request, env={"PYTHONHASHSEED": "0"}, capture_output=True, check=False
    )
    if child.returncode != 0:
        lines = child.stderr.decode("utf-8", "replace").strip().splitlines() or [
            f"exit status {child.returncode}"
        ]
        raise ToolError(f"{command[-len(_OPTIONS) - 3]}: cannot compile Python sources: {lines[-1]}")


def _cache_path(source: str, version: str) -> str:
    folder, _, name = source.rpartition("/")
    return f"{folder}/__pycache__/{name[: -len('.py')]}.cpython-{version.replace('.', '')}.pyc"
