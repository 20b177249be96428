"""The model process: imports the model's module, sets the model up, and runs the batches that the server
sends.

Run by path, under the model's interpreter, which sees the model's packages and not the server's: standard
library only, and `frames` beside it. Importing this file does nothing, because `multiprocessing` imports it
again in each process that the user's code spawns.

One thread does all of it. What the user's code prints goes to the container's log; so do tracebacks, while
the server gets "ExceptionType: message". The end of the socket is the order to leave.

    worker.py SOCKET-FD SERVER-PID MODEL-FOLDER MODULE CLASS
"""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
import io
import os
import signal
import socket
import sys
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import ModuleType

_PR_SET_PDEATHSIG = 1  # prctl(2)

_MAX_MESSAGE = 2000
"""Characters of an exception's message that a client gets; one that quotes its input could be megabytes."""


class InvalidOutput(Exception):  # noqa: N818 (a name that clients know)
    """What `predict` returned is not what the model declares."""


class _Answer(NamedTuple):
    succeeded: bool
    content: bytes
    """The output as JSON, or the reason of the failure."""


def main() -> None:
    """Serve until the server closes the socket. Exit status 0 then, 1 if the model can't be set up."""
    program, fd, server, folder, module, class_name = sys.argv
    # In place of this file's folder, which PYTHONSAFEPATH leaves out: a user's module may be called `batcher`.
    if os.path.realpath(sys.path[0]) == os.path.realpath(Path(__file__).parent):
        del sys.path[0]
    sys.path.insert(0, folder)
    sys.argv = [program]
    _die_with(int(server))
    # A pipe would be block-buffered: what was printed last would be lost with the process.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(line_buffering=True)
    frames = _load_frames()
    with socket.socket(fileno=int(fd)) as sock:
        sock.set_inheritable(False)
        try:
            model = _Model(module, class_name)
        except BaseException as error:  # sys.exit and KeyboardInterrupt too
            _log("setup failed", error)
            frames.send(sock, frames.SETUP_FAILED, [_failed(error).content])
            sys.exit(1)
        frames.send(sock, frames.READY)
        with sock.makefile("rb") as requests:
            while True:
                try:
                    _, inputs = frames.receive(requests)
                except EOFError:
                    return
                for answers in model.run(inputs):
                    statuses = bytes(
                        frames.SUCCEEDED if answer.succeeded else frames.FAILED for answer in answers
                    )
                    frames.send(sock, frames.ANSWERS, [statuses, *(answer.content for answer in answers)])


class _Model:
    """The user's model, set up."""

    def __init__(self, module: str, class_name: str) -> None:
        """Import it, make an instance, call its `setup`. Raises whatever the user's code raises."""
        from tungstenkit.media import temporary_files

        self._temporary_files = temporary_files
        model_class = getattr(importlib.import_module(module), class_name)
        self._definition = model_class.__tungsten_model__
        self._instance = model_class()
        if hasattr(self._instance, "setup"):
            self._instance.setup()

    def run(self, inputs: Sequence[bytes]) -> Iterator[list[_Answer]]:
        """Answer JSON inputs in order: in one list or, where `predict` failed on several, in one for each.

        Run one by one, only the input at fault fails, and not those that happened to be in its batch.
        """
        try:
            with self._temporary_files():
                answers = self._answer(inputs)
        except BaseException as error:  # sys.exit too: it fails an input, not the process
            _log(f"batch failed inputs={len(inputs)}", error)
            if len(inputs) > 1:
                for one in inputs:
                    yield from self.run([one])
                return
            answers = [_failed(error)]
        yield answers

    def _answer(self, inputs: Sequence[bytes]) -> list[_Answer]:
        """Parse, predict, dump. Raises what `predict` raises, and InvalidOutput."""
        parsed = [self._parse(one) for one in inputs]
        valid = [one for one in parsed if not isinstance(one, _Answer)]
        outputs = iter(self._predict(valid) if valid else [])
        return [one if isinstance(one, _Answer) else next(outputs) for one in parsed]

    def _parse(self, data: bytes) -> object:
        """Make the model's input object of JSON; a failed answer if its own validators reject it."""
        try:
            return self._definition.input.model_validate_json(data)
        except BaseException as error:
            _log("input refused", error)
            return _failed(error)

    def _predict(self, inputs: list[object]) -> list[_Answer]:
        """Call `predict`; one answer for each input."""
        count = len(inputs)
        outputs = self._instance.predict(inputs)
        if not isinstance(outputs, (list, tuple)):
            msg = f"predict returned an object of type {type(outputs).__name__}, not a list"
            raise InvalidOutput(msg)
        if len(outputs) != count:
            msg = f"predict returned {len(outputs)} outputs for {count} inputs"
            raise InvalidOutput(msg)
        return [self._dump(output) for output in outputs]

    def _dump(self, output: object) -> _Answer:
        """Check one output and make JSON of it; a failed answer if it is not what the model declares."""
        declared = self._definition.output
        try:
            if isinstance(output, declared):
                output = dict(output)  # an object may have been changed since it was validated
            if not isinstance(output, dict):
                msg = f"predict returned an object of type {type(output).__name__}, not {declared.__name__}"
                raise InvalidOutput(msg)
            return _Answer(True, declared.model_validate(output).model_dump_json().encode())
        except BaseException as error:
            _log("output refused", error)
            return _failed(error)


def _failed(error: BaseException) -> _Answer:
    return _Answer(False, _reason(error).encode(errors="replace"))


def _reason(error: BaseException) -> str:
    """Say "ExceptionType: message", short and without a traceback."""
    # Whichever pydantic the model has brought along; none if it failed before that.
    validation_error = getattr(sys.modules.get("pydantic"), "ValidationError", ())
    try:
        if isinstance(error, validation_error):
            details = error.errors(include_url=False, include_context=False, include_input=False)
            message = "; ".join(": ".join([*filter(None, [_dotted(d["loc"])]), d["msg"]]) for d in details)
        else:
            message = str(error)
    except Exception:  # a __str__ of the user's
        message = ""
    if len(message) > _MAX_MESSAGE:
        message = message[:_MAX_MESSAGE] + "…"
    return f"{type(error).__name__}: {message}" if message else type(error).__name__


def _dotted(location: Sequence[object]) -> str:
    return ".".join(map(str, location))


def _log(event: str, error: BaseException) -> None:
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    text = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    print(f"{now} ERROR tungsten.worker: {event}: {_reason(error)}\n{text}", end="", file=sys.stderr)


def _die_with(server: int) -> None:
    """Have the kernel kill this process when the server, or its thread that started it, is gone."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != server:  # it went before the line above
        sys.exit(1)


def _load_frames() -> ModuleType:
    """Import `frames.py` from this file's folder under a name that no module of the user's has."""
    spec = importlib.util.spec_from_file_location(
        "tungsten_server.frames", Path(__file__).with_name("frames.py")
    )
    if spec is None or spec.loader is None:
        raise ImportError("frames")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    main()
