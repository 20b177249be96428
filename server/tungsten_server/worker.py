"""The model process: imports the model's module, sets the model up, and runs the batches that the server
sends.

Run by path, under the model's interpreter, which sees the model's packages and not the server's: standard
library only, and `frames` beside it. Importing this file does nothing, because `multiprocessing` imports it
again in each process that the user's code spawns.

One thread does all of it. What the user's code prints goes to the container's log, and to the server's log pipe
while a demo's batch runs; tracebacks go to the container's log alone, and the server gets "ExceptionType: message".
The end of the socket is the order to leave.

    worker.py ARGUMENTS    a JSON object; `model_process` says what is in it
"""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
import json
import mmap
import os
import signal
import socket
import sys
import time
import traceback
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import ModuleType

_PR_SET_PDEATHSIG = 1  # prctl(2)

_MAX_MESSAGE = 2000
"""Characters of an exception's message that a client gets; one that quotes its input could be megabytes."""


class InvalidOutput(Exception):  # noqa: N818 (a name that clients know)
    """What `predict` returned is not what the model declares."""


class InvalidDemoOutput(InvalidOutput):
    """What `predict_demo` returned as demo outputs is not what the model declares."""


class OutputTooLarge(Exception):  # noqa: N818
    """One output is more than the server is told to take."""


class Canceled(BaseException):
    """Raised in the user's code when its batch is cancelled; no `Exception`, which that code may catch."""


class _Answer(NamedTuple):
    succeeded: bool
    content: bytes
    """The output as JSON, or the reason of the failure."""
    demo: bytes = b""
    """The demo output as JSON; empty if there is none."""


def main() -> None:
    """Serve until the server closes the socket. Exit status 0 then, 1 if the model can't be set up."""
    program, text = sys.argv
    arguments = json.loads(text)
    # In place of this file's folder, which PYTHONSAFEPATH leaves out: a user's module may be called `batcher`.
    if os.path.realpath(sys.path[0]) == os.path.realpath(Path(__file__).parent):
        del sys.path[0]
    sys.path.insert(0, arguments["folder"])
    sys.argv = [program]
    _die_with(arguments["server"])
    frames = _load_frames()
    for fd in (arguments["log"], arguments["canceled"]):
        os.set_inheritable(fd, False)
    with socket.socket(fileno=arguments["socket"]) as sock:
        sock.set_inheritable(False)
        try:
            cancellation = _Cancellation(arguments["canceled"], frames)
            model = _Model(arguments, cancellation)
        except BaseException as error:  # sys.exit and KeyboardInterrupt too
            _log("setup failed", error)
            frames.send(sock, frames.SETUP_FAILED, [_failed(error).content])
            sys.exit(1)
        frames.send(sock, frames.READY)
        with sock.makefile("rb") as requests:
            while True:
                try:
                    kind, (number, *inputs) = frames.receive(requests)
                except EOFError:
                    return
                cancellation.number = number
                batches = model.run_demo(inputs) if kind == frames.RUN_DEMO else model.run(inputs)
                for answers in batches:
                    parts = [
                        bytes(frames.SUCCEEDED if answer.succeeded else frames.FAILED for answer in answers)
                    ]
                    for answer in answers:
                        parts += answer.content, answer.demo
                    frames.send(sock, frames.ANSWERS, parts)


class _Cancellation:
    """Ends the user's code early when the server cancels the batch that runs.

    The server writes the batch's number into shared memory and sends a signal. So a signal that comes late, or
    twice, does nothing, and one that comes before the user's code has begun is not lost.
    """

    def __init__(self, fd: int, frames: ModuleType) -> None:
        """Install the signal's handler. fd: the memory's; closed."""
        self._canceled = mmap.mmap(fd, frames.NUMBER.size)
        os.close(fd)
        self.number = b""
        """The number of the batch that runs, as the server sent it."""
        self._armed = False
        signal.signal(frames.CANCEL_SIGNAL, lambda *_: self._raise_once())

    @contextmanager
    def possible(self) -> Iterator[None]:
        """Raise Canceled within this block, at most once, when the batch is cancelled; at once if it is already."""
        try:
            self._armed = True
            self._raise_once()
            yield
        finally:
            self._armed = False

    def _raise_once(self) -> None:
        if self._armed and self._canceled[:] == self.number:
            self._armed = False
            raise Canceled


class _Model:
    """The user's model, set up."""

    def __init__(self, arguments: dict[str, Any], cancellation: _Cancellation) -> None:
        """Import it, make an instance, call its `setup`. Raises whatever the user's code raises."""
        import PIL.Image

        from tungstenkit.media import temporary_files

        # Pillow only warns up to twice this number.
        PIL.Image.MAX_IMAGE_PIXELS = -(-arguments["max-pixels"] // 2)
        self._temporary_files = temporary_files
        self._max_output: int = arguments["max-output"]
        self._log_pipe: int = arguments["log"]
        self._cancellation = cancellation
        model_class = getattr(importlib.import_module(arguments["module"]), arguments["class"])
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
                answers = self._answer(inputs, demo=False)
        except Canceled as error:
            answers = [_failed(error)] * len(inputs)
        except BaseException as error:  # sys.exit too: it fails an input, not the process
            _log(f"batch failed inputs={len(inputs)}", error)
            if len(inputs) > 1:
                for one in inputs:
                    yield from self.run([one])
                return
            answers = [_failed(error)]
        yield answers

    def run_demo(self, inputs: Sequence[bytes]) -> Iterator[list[_Answer]]:
        """Answer the inputs of one demo, and send what is printed meanwhile to the log pipe.

        They are of one request, which fails as a whole: there is nobody to run them one by one for.
        """
        try:
            with self._temporary_files():
                answers = self._answer(inputs, demo=True)
        except BaseException as error:
            if not isinstance(error, Canceled):
                _log(f"demo failed inputs={len(inputs)}", error)
            answers = [_failed(error)] * len(inputs)
        yield answers

    def _answer(self, inputs: Sequence[bytes], *, demo: bool) -> list[_Answer]:
        """Parse, predict, dump. Raises what `predict` raises, and InvalidOutput."""
        parsed = [self._parse(one) for one in inputs]
        valid = [one for one in parsed if not isinstance(one, _Answer)]
        outputs: list[_Answer] = []
        if valid:
            outputs = self._predict_demo(valid) if demo else self._predict(valid)
        answers = iter(outputs)
        return [one if isinstance(one, _Answer) else next(answers) for one in parsed]

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
        with self._cancellation.possible():
            outputs = self._instance.predict(inputs)
        return [self._dump(output) for output in _checked(outputs, count, "predict", "outputs")]

    def _predict_demo(self, inputs: list[object]) -> list[_Answer]:
        """Call `predict_demo` or, without one, `predict`, whose outputs are then the demo outputs, too."""
        count = len(inputs)
        own = hasattr(self._instance, "predict_demo")
        predict = self._instance.predict_demo if own else self._instance.predict
        with _redirected(self._log_pipe), self._cancellation.possible():
            returned = predict(inputs)
        if not own:
            answers = [self._dump(one) for one in _checked(returned, count, "predict", "outputs")]
            return [answer._replace(demo=answer.content) for answer in answers]
        first, second = _pair(returned)
        outputs = _checked(first, count, "predict_demo", "outputs")
        demo_outputs = _checked(second, count, "predict_demo", "demo outputs")
        return [self._dump_both(output, demo) for output, demo in zip(outputs, demo_outputs)]

    def _dump_both(self, output: object, demo_output: object) -> _Answer:
        answer = self._dump(output)
        if not answer.succeeded or demo_output is None:
            return answer
        demo = self._dump(demo_output, demo=True)
        return answer._replace(demo=demo.content) if demo.succeeded else demo

    def _dump(self, output: object, *, demo: bool = False) -> _Answer:
        """Check one output and make JSON of it; a failed answer if it is not what the model declares."""
        declared = (demo and self._definition.demo_output) or self._definition.output
        error_class = InvalidDemoOutput if demo else InvalidOutput
        what = "predict_demo returned a demo output" if demo else "predict returned an object"
        try:
            if isinstance(output, declared):
                # Validated again: it may have been changed since. Not by `dict`, which would call a field `keys`.
                output = dict(vars(output))
            if not isinstance(output, dict):
                msg = f"{what} of type {type(output).__name__}, not {declared.__name__}"
                raise error_class(msg)
            content = declared.model_validate(output).model_dump_json().encode()
            if len(content) > self._max_output:
                msg = f"an output has {len(content)} bytes of JSON; the limit is {self._max_output}"
                raise OutputTooLarge(msg)
            return _Answer(True, content)
        except BaseException as error:
            _log("output refused", error)
            return _failed(error)


def _pair(returned: object) -> tuple[object, object]:
    """The outputs and the demo outputs that `predict_demo` returned."""
    wanted = "not a pair (outputs, demo_outputs)"
    if not isinstance(returned, (list, tuple)):
        msg = f"predict_demo returned an object of type {type(returned).__name__}, {wanted}"
        raise InvalidOutput(msg)
    if len(returned) < 2:
        elements = "no element" if not returned else "only 1 element"
        msg = f"predict_demo returned a {type(returned).__name__} with {elements}, {wanted}"
        raise InvalidOutput(msg)
    return returned[0], returned[1]


def _checked(outputs: object, count: int, method: str, noun: str) -> Sequence[object]:
    """Refuse what is not a list of `count` elements."""
    error_class = InvalidOutput if noun == "outputs" else InvalidDemoOutput
    if not isinstance(outputs, (list, tuple)):
        msg = f"{method} returned {noun} of type {type(outputs).__name__}, not a list"
        raise error_class(msg)
    if len(outputs) != count:
        msg = f"{method} returned {len(outputs)} {noun} for {count} inputs"
        raise error_class(msg)
    return outputs


@contextmanager
def _redirected(log_pipe: int) -> Iterator[None]:
    """Send the process' standard output and error to the pipe: Python's, C libraries', child processes'."""
    saved = [os.dup(fd) for fd in (1, 2)]
    try:
        _flush()
        for fd in (1, 2):
            os.dup2(log_pipe, fd)
        yield
    finally:
        _flush()
        for fd, original in zip((1, 2), saved):
            os.dup2(original, fd)
            os.close(original)


def _flush() -> None:
    """Write out what is buffered: by streams of the user's in the place of ours, and by C's."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except Exception:  # noqa: PERF203, S112 (closed, or anything that the user's code put there)
            continue
    ctypes.CDLL(None).fflush(None)


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
