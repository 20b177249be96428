"""A model's module while it is read: `load.py` at work, without the model's dependencies and in a process of its own.

It takes most of the time of a short command. So its process is started before anything else (`Reader`), and told of
the module once that is known; whoever has begun it imports meanwhile what its answer is judged by (`read.py`) and used
for: nothing here does.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import resource
import select
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING

from tungstenkit.sdk.errors import SpecError
from tungstenkit.spec.apart import keep_apart

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

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
LARGEST_ANSWER = 1 << 24  # bytes, far above what a definition comes to with its examples

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

_PR_SET_PDEATHSIG = 1  # prctl(2)
_START = (
    f"import ctypes, os, sys; ctypes.CDLL(None).prctl({_PR_SET_PDEATHSIG}, {signal.SIGKILL:d}, 0, 0, 0); "
    "os.getppid() == int(sys.argv.pop(1)) or os._exit(1); "
    "sys.path.append(sys.argv.pop(1)); from tungstenkit.spec import load; del sys.path[-1]; "
    "load.main(*sys.argv[1:])"
)
"""What runs `load.py`, as a module: the byte-code of a program itself is never kept.

The kernel ends it with whoever reads, whatever ends that one, and though that one may not know of it yet.
"""


class Reader:
    """A process that will read a module: until it is told which, it imports what every one needs."""

    def __init__(self, *, trust: bool = False) -> None:
        """Start it. trust: as for `Reading`."""
        self.trust = trust
        self.places = _places()
        # The answer is small, and must not depend on room on a disk.
        self.result: IO[bytes] = os.fdopen(os.memfd_create("answer"), "w+b")
        self.output: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 (as long as the process)
        read, write = os.pipe()
        self._orders = os.fdopen(write, "wb")
        try:
            self.process = _start(self.places, read, self.result.fileno(), self.output, trust=trust)
        finally:
            os.close(read)

    def tell(self, directory: Path, module: str) -> None:
        """Have it read a module of a folder."""
        apart = None if self.trust else keep_apart(directory, self.places)
        # If it is no more, its answer says so.
        with contextlib.suppress(BrokenPipeError), self._orders:
            self._orders.write(json.dumps([str(directory), module, apart]).encode())

    def close(self) -> None:
        """End it, if it goes on still, and whatever the module has started."""
        if self.process.returncode is None:
            _kill_group(self.process)
        for file in (self._orders, self.result, self.output):
            file.close()


class Reading:
    """A module of a model's folder that is being read."""

    def __init__(
        self,
        directory: Path,
        module: str | None = None,
        *,
        timeout: float = LOAD_TIMEOUT,
        trust: bool = False,
        reader: Reader | None = None,
    ) -> None:
        """Begin to read the definition of the model in a folder.

        module: the Python module, in the folder, that defines it; `tungsten_model` by default.
        timeout: how long the module's import may take, in seconds.
        trust: whether the module may run as whoever calls, with all that is theirs; else apart from the machine.
        reader: what reads it, where one of that trust waits already.

        Raises SpecError where there is no such folder or module, or where it hides what Python or the SDK needs.
        """
        self.directory = directory.resolve()
        self.module = module or DEFAULT_MODULE
        if self.module.endswith(".py"):
            # What a shell completes.
            self.module = self.module.removesuffix(".py").replace("/", ".")
        self.file = _module_file(self.directory, self.module).relative_to(self.directory)
        _refuse_shadowing(self.directory)
        self.is_apart = not trust
        self._timeout = timeout
        self._reader = reader if reader is not None and reader.trust is trust else Reader(trust=trust)
        self._began = time.monotonic()
        try:
            self._reader.tell(self.directory, self.module)
        except BaseException:
            self._reader.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End what goes on still."""
        self._reader.close()

    def answer(self) -> bytes:
        """What `load.py` says, or what the module has written in its place; no more than one byte above the largest.

        Raises SpecError where it says nothing, or takes too long.
        """
        process, result, output = self._reader.process, self._reader.result, self._reader.output
        try:
            _wait(process, max(0.0, self._began + self._timeout - time.monotonic()))
        except subprocess.TimeoutExpired:
            raise SpecError(
                f"the import of {self.module} took longer than {self._timeout:g} s",
                where=str(self.directory),
                hint="what takes long belongs into setup or post_build, not at the top level of a module",
            ) from None
        finally:
            # With it goes whatever the module started.
            _kill_group(process)
        result.seek(0)
        text = result.read(LARGEST_ANSWER + 1)
        if not text:
            output.seek(0)
            said = output.read().decode(errors="replace").strip()[-2000:]
            raise SpecError(
                f"the import of {self.module} ended Python (exit status {process.returncode})"
                + (f"; it said:\n{said}" if said else ""),
                where=str(self.directory),
            )
        return text


def _places() -> dict[str, str]:
    """Where each module is that stays real."""
    places = {}
    for name in _REAL_MODULES:
        found = importlib.util.find_spec(name)
        if found is not None and found.origin is not None:
            origin = Path(found.origin)
            places[name] = str(origin.parent.parent if origin.name == "__init__.py" else origin.parent)
    return places


def _start(
    places: dict[str, str], orders: int, answer: int, output: IO[bytes], *, trust: bool
) -> subprocess.Popen[bytes]:
    """Run `load.py`. orders, answer: the files that it is told by, and answers to. output: where the module's own words
    go.
    """
    # Nothing of the machine's Python set-up may count, and the order of sets must not change from run to run.
    known = os.environ if trust else _ENVIRONMENT | _libraries()
    environment = {key: value for key, value in known.items() if not key.startswith("PYTHON")}
    environment |= {"PYTHONHASHSEED": "0", "PYDANTIC_DISABLE_PLUGINS": "__all__"}
    arguments = [str(os.getpid()), places["tungstenkit"], json.dumps(places), str(orders), str(answer)]
    return subprocess.Popen(
        [sys.executable, "-B", "-P", "-S", "-s", "-X", "utf8", "-c", _START, *arguments],
        cwd="/",
        env=environment,
        preexec_fn=None if trust else _bound_files,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        pass_fds=[orders, answer],
        start_new_session=True,
    )


def _libraries() -> dict[str, str]:
    return {name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if os.environ.get(name)}


def _bound_files() -> None:
    """What the module may write is memory, but for the files that its answer and its words are in."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (_LARGEST_FILE, _LARGEST_FILE))


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


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


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
