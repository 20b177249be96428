"""The model process: imports the model's module, sets the model up, and runs the batches that the server
sends.

Run by path, under the model's interpreter, which sees the model's packages and not the server's: standard
library only, and `frames` beside it. Importing this file does nothing, because `multiprocessing` imports it
again in each process that the user's code spawns.

The main thread runs the user's `setup` and `predict`; `_Pipeline` says what else there is. What the user's code
prints goes to the container's log, and to the server's log pipe while a demo's batch runs; tracebacks go to the
container's log alone, and the server gets "ExceptionType: message".
The end of the socket is the order to leave.

    worker.py ARGUMENTS    a JSON object; `model_process` says what is in it
"""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
import json
import math
import mmap
import os
import signal
import socket
import struct
import sys
import tempfile
import threading
import time
import traceback
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from contextvars import copy_context
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator, Sequence
    from contextlib import AbstractContextManager
    from contextvars import Context
    from types import ModuleType
    from typing import Callable

    from tungstenkit.outputs import FileRead, FixedJson

_PR_SET_PDEATHSIG = 1  # prctl(2)

_CANCEL_SIGNAL = signal.SIGUSR1

_NUMBER = struct.Struct("!Q")
_MOST_PLACES = 20
"""Places told of one output: the first ones say what is wrong."""

_MAX_MESSAGE = 2000
"""Characters of an exception's message that a client gets; one that quotes its input could be megabytes."""


class InvalidOutput(Exception):  # noqa: N818 (a name that clients know)
    """What `predict` returned is not what the model declares."""


class InvalidDemoOutput(InvalidOutput):
    """What `predict_demo` returned as demo outputs is not what the model declares."""


class OutputTooLarge(Exception):  # noqa: N818
    """One output is more than the server is told to take."""


class _PerhapsMixed(Exception):  # noqa: N818
    """A part of what was returned for one input may be another's: only calls for each alone can tell."""


class Canceled(BaseException):
    """Raised in the user's code when its batch is cancelled; no `Exception`, which that code may catch."""


class _Answer(NamedTuple):
    succeeded: bool
    content: bytes
    """The output as JSON, or the reason of the failure."""
    demo: bytes = b""
    """The demo output as JSON; empty if there is none."""


if TYPE_CHECKING:
    _Fix = Callable[[Any], "bytes | FixedJson"]


class _Unwritten(NamedTuple):
    """An answer that nothing can change any more, and whose files are still to be written as JSON."""

    output: bytes | FixedJson
    demo: bytes | FixedJson
    """As in _Answer."""


_CANCELED = _Answer(False, Canceled.__name__.encode())


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
    for fd in (arguments["log"], arguments["doing"]):
        os.set_inheritable(fd, False)
    with socket.socket(fileno=arguments["socket"]) as sock:
        sock.set_inheritable(False)
        pid = os.getpid()
        try:
            model = _Model(arguments)
            _end_fork(pid)
        except BaseException as error:  # sys.exit and KeyboardInterrupt too
            _end_fork(pid, error)
            reason = _failed(error).content
            if reason.decode() not in arguments["told"]:
                _log("setup failed", error)
            sock.sendall(frames.encode(frames.SETUP_FAILED, [reason]))
            sys.exit(1)
        sock.sendall(frames.encode(frames.READY))
        _Pipeline(sock, frames, model, arguments["doing"]).run()


class _Batch:
    """Inputs to run together, on their way through the threads: one has it at a time, but for what is said below."""

    def __init__(self, number: int, owners: Sequence[int], context: Context, *, demo: bool) -> None:
        """owners: for each input the number of its request. context: to run everything in that has to do with it."""
        self.number = number
        self.owners = owners
        self.context = context
        self.demo = demo
        self.files = ExitStack()
        """Closed when the batch is answered: what its files need."""
        self.inputs: list[object] = []
        """What the JSON says, as the model's input objects; an _Answer where that has failed already."""
        self.keys: list[int] = []
        """For each input a number that no input which differs from it has."""
        self.unwanted: set[int] = set()
        """Places of inputs that need no answer any more. The reader adds to it at any time."""
        self.unanswered = len(owners)

    @property
    def canceled(self) -> bool:
        """Whether nobody wants any of its answers. For any thread."""
        return len(self.unwanted) == len(self.owners)


class _Pipeline:
    """Three threads, so that the model waits for nobody who reads JSON or encodes files.

    The reader makes input objects of the next batch's JSON while the main thread is inside `predict` with this
    one. When `predict` has returned, the main thread makes of the outputs what nothing can change any more, and sends
    it before it calls `predict` again, so that no death takes it away. What has files the writer encodes first, and
    sends then. The server limits how many batches are on the way.
    """

    def __init__(self, sock: socket.socket, frames: ModuleType, model: _Model, doing: int) -> None:
        """doing: the file that is the memory that the server sees, as `frames` has it; closed."""
        self._socket = sock
        self._frames = frames
        self._model = model
        self._pid = os.getpid()
        memory = mmap.mmap(doing, frames.DOING.size)
        os.close(doing)
        # Its numbers are the reader's, the main thread's and the writer's.
        self._reading, self._predicting, self._writing = (_Number(memory, place) for place in range(3))
        self._context = copy_context()  # with what `setup` has set, such as decimal's precision
        self._todo: SimpleQueue[_Batch | None] = SimpleQueue()
        self._unwritten: SimpleQueue[tuple[_Batch, int, Sequence[_Answer | _Unwritten]] | None] = (
            SimpleQueue()
        )
        self._batches: dict[int, _Batch] = {}
        """Those that are not answered yet. Only single operations on it: each is one step for all threads."""
        self._sending = threading.Lock()
        """Held to send answers, and to note that they are made."""
        self._interruptible = _Interruptible()
        signal.signal(_CANCEL_SIGNAL, lambda *_: self._interruptible.interrupt())

    def run(self) -> None:
        """Run batches until the server closes the socket."""
        threading.Thread(target=self._guarded, args=[self._read], name="tungsten-reader", daemon=True).start()
        writer = threading.Thread(
            target=self._guarded, args=[self._write], name="tungsten-writer", daemon=True
        )
        writer.start()
        while (batch := self._todo.get()) is not None:
            parts = [(0, len(batch.owners))]
            if self._model.computes and _mixed(batch.keys):
                parts = [(place, place + 1) for place in range(len(batch.owners))]
            self._run(batch, parts)
        self._unwritten.put(None)
        writer.join()

    def _guarded(self, loop: Callable[[], None]) -> None:
        try:
            loop()
        except BaseException as error:  # a defect: without this thread the process would hang
            _log("defect in the model process", error)
            os._exit(1)

    # The reader.

    def _read(self) -> None:
        frames = self._frames
        decoder = frames.Decoder()
        while data := self._received(decoder.wanted):
            for kind, (head, *inputs) in decoder.feed(data):
                number, others = frames.read_numbers(head)
                if kind == frames.CANCEL:
                    self._cancel(number, others)
                    continue
                batch = _Batch(number, others, self._context.copy(), demo=kind == frames.RUN_DEMO)
                self._batches[number] = batch
                self._reading.set(number)
                batch.context.run(self._parse, batch, inputs)
                self._reading.set(0)
                del inputs  # perhaps megabytes, and the next frame may be long in coming
                self._todo.put(batch)
        self._todo.put(None)

    def _received(self, size: int) -> bytes:
        try:
            return self._socket.recv(size)
        except OSError:  # the server is gone
            return b""

    def _cancel(self, number: int, places: list[int]) -> None:
        batch = self._batches.get(number)
        if batch is None:
            return
        batch.unwanted.update(places)
        if batch.canceled:
            # That is noticed in the main thread only, and only there can it end the user's code.
            signal.pthread_kill(threading.main_thread().ident or 0, _CANCEL_SIGNAL)

    def _parse(self, batch: _Batch, inputs: list[bytes]) -> None:
        batch.files.enter_context(self._model.temporary_files())
        batch.inputs = [self._model.parse(data) for data in inputs]
        batch.keys = [hash(data) for data in inputs]

    # The main thread.

    def _run(self, batch: _Batch, parts: Sequence[tuple[int, int]]) -> None:
        """Run parts of a batch, each whole and, where `predict` fails, each request's inputs apart.

        So only the request at fault fails, and not those that happened to be in its batch.
        """
        for begin, end in parts:
            smaller: list[tuple[int, int]] = []
            # Until it is passed on: what kills the process before that must not be run again and again.
            self._predicting.set(batch.number)
            try:
                try:
                    answers = self._answers(batch, begin, end)
                except Canceled:
                    answers = [_CANCELED] * (end - begin)
                except _PerhapsMixed as error:
                    _log(f"inputs={end - begin} are run one by one", error)
                    answers, smaller = [], [(place, place + 1) for place in range(begin, end)]
                except BaseException as error:  # sys.exit too: it fails a request, not the process
                    kind = (
                        "demo" if batch.demo else "batch" if end - begin == len(batch.owners) else "request"
                    )
                    _log(f"{kind} failed inputs={end - begin}", error)
                    answers, smaller = [_failed(error)] * (end - begin), _runs(batch.owners, begin, end)
                if len(smaller) < 2:
                    self._pass_on(batch, begin, answers)
            finally:
                self._predicting.set(0)
            # Not inside the `except`, which would chain this exception to those of the parts.
            if len(smaller) > 1:
                self._run(batch, smaller)

    def _pass_on(self, batch: _Batch, begin: int, answers: list[_Answer | _Unwritten]) -> None:
        """Send answers, or have the writer do it once it has written their files."""
        written = [answer for answer in answers if type(answer) is _Answer]
        if len(written) == len(answers):
            self._send(batch, begin, written)
        else:
            self._unwritten.put((batch, begin, answers))

    def _answers(self, batch: _Batch, begin: int, end: int) -> list[_Answer | _Unwritten]:
        """Call `predict` on a part of a batch, and fix what it returns: one answer for each input."""
        inputs = batch.inputs[begin:end]
        for place in batch.unwanted.copy():
            if begin <= place < end:
                inputs[place - begin] = _CANCELED
        # Not isinstance, which may run the user's code: an object may lie about its class.
        valid = [place for place, one in enumerate(inputs) if type(one) is not _Answer]
        if not valid:
            return inputs  # type: ignore[return-value]
        keys = [batch.keys[begin + place] for place in valid]
        call = self._model.predict_demo if batch.demo else self._model.predict
        try:
            fixed = batch.context.run(
                call, [inputs[place] for place in valid], keys, self._interruptible.of(batch)
            )
            _end_fork(self._pid)
        except BaseException as error:
            _end_fork(self._pid, error)
            raise
        answers = iter(fixed)
        return [one if type(one) is _Answer else next(answers) for one in inputs]

    # The writer.

    def _write(self) -> None:
        while (todo := self._unwritten.get()) is not None:
            batch, begin, answers = todo
            self._writing.set(batch.number)
            # A copy, since the main thread may be inside with the batch's other requests.
            written = batch.context.copy().run(list, map(self._model.write, answers))
            self._send(batch, begin, written)
            self._writing.set(0)
            del todo, answers, written  # perhaps megabytes, and the next may be long in coming

    # The main thread and the writer.

    def _send(self, batch: _Batch, begin: int, answers: Sequence[_Answer]) -> None:
        frames = self._frames
        statuses = [frames.SUCCEEDED if one.succeeded else frames.FAILED for one in answers]
        parts = [frames.numbers(batch.number, [begin, *statuses])]
        for answer in answers:
            parts += answer.content, answer.demo
        frame = frames.encode(frames.ANSWERS, parts)
        with self._sending:
            batch.unanswered -= len(answers)
            if not batch.unanswered:
                del self._batches[batch.number]
                batch.context.run(batch.files.close)
            try:
                self._socket.sendall(frame)
            except OSError:  # the server is gone, or the user's code has closed what was not its own
                os._exit(1)


class _Interruptible:
    """A block that ends with Canceled when its batch is cancelled, at once if it is already, and at most once."""

    # No generator: what stands between two calls of `predict` is the model's time.

    def __init__(self) -> None:
        self._batch: _Batch | None = None
        self._is_open = False

    def of(self, batch: _Batch) -> _Interruptible:
        self._batch = batch
        return self

    def __enter__(self) -> None:
        self._is_open = True
        try:
            self.interrupt()
        except Canceled:
            self._is_open = False
            raise

    def __exit__(self, *_: object) -> None:
        self._is_open = False

    def interrupt(self) -> None:
        """Raise Canceled inside of the block if its batch is cancelled. For the main thread."""
        if self._is_open and self._batch and self._batch.canceled:
            self._is_open = False
            raise Canceled


class _Number:
    """A number in memory that the server sees: that of the batch that something is being done with."""

    def __init__(self, memory: mmap.mmap, place: int) -> None:
        self._memory = memory
        self._offset = place * _NUMBER.size

    def set(self, number: int) -> None:
        _NUMBER.pack_into(self._memory, self._offset, number)


def _runs(values: Sequence[int], begin: int, end: int) -> list[tuple[int, int]]:
    """Begin and end of each run of equal values."""
    places = [place for place in range(begin, end) if place == begin or values[place] != values[place - 1]]
    return list(zip(places, [*places[1:], end]))


class _Model:
    """The user's model, set up."""

    def __init__(self, arguments: dict[str, Any]) -> None:
        """Import it, make an instance, call its `setup`. Raises whatever the user's code raises."""
        import PIL.Image

        from tungstenkit import outputs
        from tungstenkit.media import keep_files_in, temporary_files

        with suppress(FileNotFoundError):  # no folder for temporary files can be written
            keep_files_in(Path(tempfile.gettempdir(), arguments["scratch"]))
        # Pillow only warns up to twice this number.
        PIL.Image.MAX_IMAGE_PIXELS = -(-arguments["max-pixels"] // 2)
        self.temporary_files = temporary_files
        self._outputs = outputs
        self._max_output: int = arguments["max-output"]
        self._log_pipe: int = arguments["log"]
        model_class = getattr(importlib.import_module(arguments["module"]), arguments["class"])
        self._definition = model_class.__tungsten_model__
        self._instance = model_class()
        declared = filter(None, (self._definition.output, self._definition.demo_output))
        self.computes = any(self._outputs.computes(one) for one in declared)
        """Whether what is written of an output may be what the model's code has kept of a later one."""
        if hasattr(self._instance, "setup"):
            self._instance.setup()
        # Without one, the outputs are the demo outputs, too.
        self._has_predict_demo = hasattr(self._instance, "predict_demo")

    def parse(self, data: bytes) -> object:
        """Make the model's input object of JSON; a failed answer if its own validators reject it."""
        try:
            return self._definition.input.model_validate_json(data)
        except BaseException as error:
            _log("input refused", error)
            return _failed(error)

    def predict(
        self, inputs: list[object], keys: Sequence[int], around: AbstractContextManager[None]
    ) -> list[_Answer | _Unwritten]:
        """Call `predict`, within `around`, and fix what it returns: one answer for each input.

        keys: equal where inputs are. Raises what it raises, InvalidOutput and _PerhapsMixed.
        """
        with self._looking(keys) as since, around:
            returned = self._instance.predict(inputs)
        return self._fixed(_checked(returned, len(keys), "predict", "outputs"), None, keys, since)

    def predict_demo(
        self, inputs: list[object], keys: Sequence[int], around: AbstractContextManager[None]
    ) -> list[_Answer | _Unwritten]:
        """Call `predict_demo`, where there is one; what it prints goes to the log pipe. The rest is as in `predict`."""
        if not self._has_predict_demo:
            with _redirected(self._log_pipe):
                answers = self.predict(inputs, keys, around)
            return [_with_itself(one) for one in answers]
        with self._looking(keys) as since, _redirected(self._log_pipe), around:
            returned = self._instance.predict_demo(inputs)
        first, second = _pair(returned)
        outputs = _checked(first, len(keys), "predict_demo", "outputs")
        demo_outputs = _checked(second, len(keys), "predict_demo", "demo outputs")
        return self._fixed(outputs, demo_outputs, keys, since)

    def _looking(self, keys: Sequence[int]) -> AbstractContextManager[int]:
        return self._outputs.looking_at_files() if _mixed(keys) else _NOT_LOOKING

    def _fixed(
        self,
        outputs: Sequence[object],
        demo_outputs: Sequence[object] | None,
        keys: Sequence[int],
        since: int,
    ) -> list[_Answer | _Unwritten]:
        """Make of what was returned for each input what nothing can change any more.

        since: when the call began, as files have it, where inputs differ.
        """
        mixed = _mixed(keys)
        try:
            if mixed:
                self._outputs.check_objects(
                    outputs if demo_outputs is None else list(zip(outputs, demo_outputs)), keys
                )
            with self._outputs.Fixing(self._max_output) as fix:
                if demo_outputs is None:
                    answers = [self._fix(fix, one) for one in outputs]
                else:
                    answers = [self._fix(fix, *both) for both in zip(outputs, demo_outputs)]
            if mixed:
                self._outputs.check_files(list(map(_files_read, answers)), keys, since)
        except self._outputs.SharedError as error:
            raise InvalidOutput(str(error)) from None
        except self._outputs.PerhapsSharedError as error:
            raise _PerhapsMixed(str(error)) from None
        return answers

    def _fix(self, fix: _Fix, output: object, demo_output: object = None) -> _Answer | _Unwritten:
        """Check what there is for one input, and fix it; a failed answer if it is not what the model declares."""
        fixed = self._json(fix, output, self._definition.output, InvalidOutput)
        if demo_output is None and type(fixed) is bytes:
            return _Answer(True, fixed)
        demo: bytes | FixedJson | _Answer = b""
        if demo_output is not None and not isinstance(fixed, _Answer):
            declared = self._definition.demo_output or self._definition.output
            demo = self._json(fix, demo_output, declared, InvalidDemoOutput)
        if isinstance(fixed, _Answer):
            return fixed
        if isinstance(demo, _Answer):
            return demo
        if isinstance(fixed, bytes) and isinstance(demo, bytes):
            return _Answer(True, fixed, demo)
        return _Unwritten(fixed, demo)

    def _json(
        self,
        fix: _Fix,
        output: object,
        declared: Any,  # noqa: ANN401 (a class of pydantic's)
        error_class: type[InvalidOutput],
    ) -> bytes | FixedJson | _Answer:
        try:
            if type(output) is declared or isinstance(output, declared):
                # Validated again: it may have been changed since. Not by `dict`, which would call a field `keys`.
                output = dict(vars(output))
            if not isinstance(output, dict):
                demo = error_class is InvalidDemoOutput
                what = "predict_demo returned a demo output" if demo else "predict returned an object"
                kind = f"{type(output).__module__}.{type(output).__qualname__}"
                msg = f"{what} of type {kind.removeprefix('builtins.')}, not {declared.__name__}"
                raise error_class(msg)
            fixed = fix(declared.model_validate(output))
            text, files = (fixed, 0) if isinstance(fixed, bytes) else (fixed.json.encode(), fixed.size)
            # Asked of every output, and nearly none has the letters.
            if b"NaN" in text or b"Infinity" in text:
                _refuse_non_finite(text, error_class)
            self._check_size(len(text) + files)
        except BaseException as error:
            _log("output refused", error)
            return _failed(error)
        return fixed

    def write(self, answer: _Answer | _Unwritten) -> _Answer:
        """Do what is left to do for an answer. For any thread."""
        if isinstance(answer, _Answer):
            return answer
        try:
            output, demo = answer
            text = output if isinstance(output, bytes) else output.text()
            demo_text = text if demo is output else demo if isinstance(demo, bytes) else demo.text()
            self._check_size(max(len(text), len(demo_text)))
        except BaseException as error:
            _log("output refused", error)
            return _failed(error)
        return _Answer(True, text, demo_text)

    def _check_size(self, size: int) -> None:
        if size > self._max_output:
            msg = f"an output has {size} bytes of JSON; the limit is {self._max_output}"
            raise OutputTooLarge(msg)


def _mixed(keys: Sequence[int]) -> bool:
    """Whether there are inputs that differ."""
    return keys.count(keys[0]) < len(keys)


_NOT_LOOKING = nullcontext(0)


def _with_itself(answer: _Answer | _Unwritten) -> _Answer | _Unwritten:
    """Make the output the demo output, too."""
    if isinstance(answer, _Answer):
        return answer._replace(demo=answer.content)
    return answer._replace(demo=answer.output)


def _files_read(answer: _Answer | _Unwritten) -> dict[Hashable, FileRead]:
    return {
        identity: found
        for part in answer
        if not isinstance(part, (bool, bytes))
        for identity, found in part.read.items()
    }


def _refuse_non_finite(content: bytes, error_class: type[InvalidOutput]) -> None:
    """Refuse JSON with what JSON has not, naming each place. Raises error_class."""
    if not any(_holds_value(content, word) for word in (b"NaN", b"Infinity")):
        return
    found: list[str] = []

    def walk(value: object, place: tuple[object, ...]) -> None:
        if isinstance(value, float) and not math.isfinite(value):
            found.append(f"{_dotted(place)}: {value} is not a finite number")
        elif isinstance(value, (list, dict)):
            for key, item in value.items() if isinstance(value, dict) else enumerate(value):
                walk(item, (*place, key))

    walk(json.loads(content), ())
    if found:
        raise error_class("; ".join(found[:_MOST_PLACES]))


def _holds_value(content: bytes, word: bytes) -> bool:
    """Whether a word may stand in JSON as a value: not inside a file's base64, where its letters come by chance."""
    at = content.find(word)
    while at > 0 and content[at - 1] not in b":,[-":
        at = content.find(word, at + 1)
    return at > 0


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
    except BaseException:  # a __str__ of the user's
        message = ""
    if len(message) > _MAX_MESSAGE:
        message = message[:_MAX_MESSAGE] + "…"
    return f"{type(error).__name__}: {message}" if message else type(error).__name__


def _dotted(location: Sequence[object]) -> str:
    return ".".join(map(str, location))


def _log(event: str, error: BaseException) -> None:
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    text = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    line = f"{now} ERROR tungsten.worker: {event}: {_reason(error)}\n{text}"
    with suppress(OSError):  # not by sys.stderr, which the user's code may have closed or replaced
        os.write(2, line.encode(errors="backslashreplace"))


def _end_fork(pid: int, error: BaseException | None = None) -> None:
    """End this process if it is a child that the user's code has forked: it has no threads, and must not answer."""
    if os.getpid() == pid:
        return
    status = error.code if isinstance(error, SystemExit) else error and 1
    if error is not None and not isinstance(error, SystemExit):
        _log("a forked process failed", error)
    _flush()
    os._exit(status if isinstance(status, int) else int(status is not None))


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
