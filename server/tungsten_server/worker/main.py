"""The model process' start: imports the model's module, sets the model up, and runs the batches that the server sends.

Run by path, under the model's interpreter, which sees the model's packages and not the server's: standard
library only, and what is beside this file. Importing this file does nothing, because `multiprocessing` imports it
again in each process that the user's code spawns.

What the user's code prints goes to the container's log, and to the server's log pipe while a demo's batch runs;
tracebacks go to the container's log alone, and the server gets "ExceptionType: message".
The end of the socket is the order to leave.

    main.py ARGUMENTS    a JSON object; `model.process` says what is in it
"""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
import json
import os
import signal
import sys
from pathlib import Path

_PR_SET_PDEATHSIG = 1  # prctl(2)

_PACKAGE = "_tungsten_worker"
"""What the folder of this file is imported as: a name that no module of the user's has."""


def main() -> None:
    """Serve until the server closes the socket. Exit status 0 then, 1 if the model can't be set up."""
    program, text = sys.argv
    arguments = json.loads(text)
    folder = Path(__file__).parent
    # In place of this file's folder, which PYTHONSAFEPATH leaves out: a user's module may be called `frames`.
    if os.path.realpath(sys.path[0]) == os.path.realpath(folder):
        del sys.path[0]
    _die_with(arguments["server"])
    _load_package(folder)
    pipeline = importlib.import_module(f"{_PACKAGE}.pipeline")
    # Not before: what ours import of the standard library is not to be the user's.
    sys.path.insert(0, arguments["folder"])
    sys.argv = [program]
    pipeline.serve(arguments)


def _die_with(server: int) -> None:
    """Have the kernel kill this process when the server, or its thread that started it, is gone."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != server:  # it went before the line above
        sys.exit(1)


def _load_package(folder: Path) -> None:
    """Make the folder importable as a package under its private name."""
    spec = importlib.util.spec_from_file_location(
        _PACKAGE, folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    if spec is None or spec.loader is None:
        raise ImportError(_PACKAGE)
    package = importlib.util.module_from_spec(spec)
    sys.modules[_PACKAGE] = package
    spec.loader.exec_module(package)


if __name__ == "__main__":
    main()
