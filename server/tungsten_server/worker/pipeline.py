"""The batches' way through the model process: read, given to the model, written, and answered.

The main thread runs the user's `setup` and `predict`; `Pipeline` says what else there is.
"""

from __future__ import annotations

import mmap
import os
import signal
import socket
import struct
import sys
import threading
from contextlib import ExitStack
from contextvars import copy_context
from functools import partial
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from . import frames
from .exceptions import end_fork, log
from .model import Model, differ
from .outputs import CANCELED, Answer, Canceled, PerhapsMixed, failed
from .stream import Call

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextvars import Context
    from typing import Callable

    from .outputs import Unwritten
    from .stream import Told

_CANCEL_SIGNAL = signal.SIGUSR1

_T = TypeVar("_T")

_NUMBER = struct.Struct("!Q")


def serve(arguments: dict[str, Any]) -> None:
    """Set the model up, and run batches until the server closes the socket.

    Leaves with exit status 1 if the model can't be set up.
    """
    for fd in (arguments["log"], arguments["doing"]):
        os.set_inheritable(fd, False)
    with socket.socket(fileno=arguments["socket"]) as sock:
        sock.set_inheritable(False)
        pid = os.getpid()
        try:
            model = Model(arguments)
            end_fork(pid)
        except BaseException as error:  # sys.exit and KeyboardInterrupt too
            end_fork(pid, error)
            reason = failed(error).content
            if reason.decode() not in arguments["told"]:
                log("setup failed", error)
            sock.sendall(frames.encode(frames.SETUP_FAILED, [reason]))
            sys.exit(1)
        sock.sendall(frames.encode(frames.READY))
        Pipeline(sock, model, arguments["doing"]).run()


class Batch:
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
        """What the JSON says, as the model's input objects; an Answer where that has failed already."""
        self.keys: list[int] = []
        """For each input a number that no input which differs from it has."""
        self.unwanted: set[int] = set()
        """Places of inputs that need no answer any more. The reader adds to it at any time."""
        self.unanswered = len(owners)
        self.by_writer = False
        """Whether what is told of a stream has to go the writer's way: after something that did."""
        self.lost: dict[int, Answer] = {}
        """Places of inputs of which a piece could not be written, with why. The writer's."""

    @property
    def canceled(self) -> bool:
        """Whether nobody wants any of its answers. For any thread."""
        return len(self.unwanted) == len(self.owners)


class Pipeline:
    """Three threads, so that the model waits for nobody who reads JSON or encodes files.

    The reader makes input objects of the next batch's JSON while the main thread is inside `predict` with this
    one. When `predict` has returned, the main thread makes of the outputs what nothing can change any more, and sends
    it before it calls `predict` again, so that no death takes it away. What has files the writer encodes first, and
    sends then. The server limits how many batches are on the way.
    """

    def __init__(self, sock: socket.socket, model: Model, doing: int) -> None:
        """doing: the file that is the memory that the server sees, as `frames` has it; closed."""
        self._socket = sock
        self._model = model
        self._pid = os.getpid()
        memory = mmap.mmap(doing, frames.DOING.size)
        os.close(doing)
        # Its numbers are the reader's, the main thread's and the writer's.
        self._reading, self._predicting, self._writing = (Number(memory, place) for place in range(3))
        self._context = copy_context()  # with what `setup` has set, such as decimal's precision
        self._todo: SimpleQueue[Batch | None] = SimpleQueue()
        self._unwritten: SimpleQueue[_Unwritten | None] = SimpleQueue()
        self._batches: dict[int, Batch] = {}
        """Those that are not answered yet. Only single operations on it: each is one step for all threads."""
        self._sending = threading.Lock()
        """Held to send answers, and to note that they are made."""
        self._interruptible = Interruptible()
        signal.signal(_CANCEL_SIGNAL, lambda *_: self._interruptible.interrupt())

    def run(self) -> None:
        """Run batches until the server closes the socket."""
        threading.Thread(target=self._guarded, args=[self._read], name="tungsten-reader", daemon=True).start()
        writer = threading.Thread(
            target=self._guarded, args=[self._write], name="tungsten-writer", daemon=True
        )
        writer.start()
        while (batch := self._todo.get()) is not None:
            if self._model.yields(demo=batch.demo):
                self._run_streams(batch, range(len(batch.owners)))
                continue
            parts = [(0, len(batch.owners))]
            if self._model.computes and differ(batch.keys):
                parts = [(place, place + 1) for place in range(len(batch.owners))]
            self._run(batch, parts)
        self._unwritten.put(None)
        writer.join()

    def _guarded(self, loop: Callable[[], None]) -> None:
        try:
            loop()
        except BaseException as error:  # a defect: without this thread the process would hang
            log("defect in the model process", error)
            os._exit(1)

    # The reader.

    def _read(self) -> None:
        decoder = frames.Decoder()
        while data := self._received(decoder.wanted):
            for kind, (head, *inputs) in decoder.feed(data):
                number, others = frames.read_numbers(head)
                if kind == frames.CANCEL:
                    self._cancel(number, others)
                    continue
                batch = Batch(number, others, self._context.copy(), demo=kind == frames.RUN_DEMO)
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

    def _parse(self, batch: Batch, inputs: list[bytes]) -> None:
        batch.files.enter_context(self._model.temporary_files())
        batch.inputs = [self._model.parse(data) for data in inputs]
        batch.keys = [hash(data) for data in inputs]

    # The main thread.

    def _run(self, batch: Batch, parts: Sequence[tuple[int, int]]) -> None:
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
                    answers = [CANCELED] * (end - begin)
                except PerhapsMixed as error:
                    log(f"inputs={end - begin} are run one by one", error)
                    answers, smaller = [], [(place, place + 1) for place in range(begin, end)]
                except BaseException as error:  # sys.exit too: it fails a request, not the process
                    kind = (
                        "demo" if batch.demo else "batch" if end - begin == len(batch.owners) else "request"
                    )
                    log(f"{kind} failed inputs={end - begin}", error)
                    answers, smaller = [failed(error)] * (end - begin), _runs(batch.owners, begin, end)
                if len(smaller) < 2:
                    self._pass_on(batch, begin, answers)
            finally:
                self._predicting.set(0)
            # Not inside the `except`, which would chain this exception to those of the parts.
            if len(smaller) > 1:
                self._run(batch, smaller)

    def _pass_on(self, batch: Batch, begin: int, answers: list[Answer | Unwritten]) -> None:
        """Send answers, or have the writer do it once it has written their files."""
        written = [answer for answer in answers if type(answer) is Answer]
        if len(written) == len(answers):
            self._send(batch, begin, written)
        else:
            self._unwritten.put(_Unwritten(batch, answers, partial(self._send, batch, begin)))

    def _answers(self, batch: Batch, begin: int, end: int) -> list[Answer | Unwritten]:
        """Call `predict` on a part of a batch, and fix what it returns: one answer for each input."""
        inputs = batch.inputs[begin:end]
        for place in batch.unwanted.copy():
            if begin <= place < end:
                inputs[place - begin] = CANCELED
        # Not isinstance, which may run the user's code: an object may lie about its class.
        valid = [place for place, one in enumerate(inputs) if type(one) is not Answer]
        if not valid:
            return inputs  # type: ignore[return-value]
        keys = [batch.keys[begin + place] for place in valid]
        call = self._model.predict_demo if batch.demo else self._model.predict
        given = [inputs[place] for place in valid]
        answers = iter(self._call(batch, call, given, keys, self._interruptible.of(batch)))
        return [one if type(one) is Answer else next(answers) for one in inputs]

    def _call(self, batch: Batch, function: Callable[..., _T], *arguments: Any, **named: Any) -> _T:  # noqa: ANN401
        """Call what calls the user's code."""
        try:
            returned = batch.context.run(function, *arguments, **named)
            end_fork(self._pid)
        except BaseException as error:
            end_fork(self._pid, error)
            raise
        return returned

    def _run_streams(self, batch: Batch, places: Sequence[int]) -> None:
        """Run inputs of a batch for which `predict` yields, and then those apart that have to be run again."""
        self._predicting.set(batch.number)
        call = partial(self._call, batch)
        tell = partial(self._tell, batch)
        try:
            again = Call(self._model, batch, places, call, self._interruptible.of(batch), tell).finish()
        finally:
            self._predicting.set(0)
        for group in again:
            self._run_streams(batch, group)

    def _tell(self, batch: Batch, told: list[Told], is_end: bool) -> None:
        """Send pieces and answers, or have the writer do it once it has written the files: in order."""
        contents = [one.content for one in told]
        send = partial(self._send_told, batch, told, is_end=is_end)
        batch.by_writer = batch.by_writer or any(type(one) is not Answer for one in contents)
        if batch.by_writer:
            self._unwritten.put(_Unwritten(batch, contents, send))
        else:
            send([one for one in contents if type(one) is Answer])

    # The writer.

    def _write(self) -> None:
        while (todo := self._unwritten.get()) is not None:
            batch, answers, send = todo
            self._writing.set(batch.number)
            # A copy, since the main thread may be inside with the batch's other requests.
            written = batch.context.copy().run(list, map(self._model.write, answers))
            send(written)
            self._writing.set(0)
            del todo, answers, send, written  # perhaps megabytes, and the next may be long in coming

    # The main thread and the writer.

    def _send(self, batch: Batch, begin: int, answers: Sequence[Answer], kind: int = frames.ANSWERS) -> None:
        statuses = [frames.SUCCEEDED if one.succeeded else frames.FAILED for one in answers]
        parts = [frames.numbers(batch.number, [begin, *statuses])]
        for answer in answers:
            parts += answer.content, answer.demo
        frame = frames.encode(kind, parts)
        with self._sending:
            batch.unanswered -= len(answers)
            if not batch.unanswered:
                self._batches.pop(batch.number, None)
                batch.context.run(batch.files.close)
            self._send_frame(frame)

    def _send_told(
        self, batch: Batch, told: Sequence[Told], contents: Sequence[Answer], *, is_end: bool
    ) -> None:
        """Send pieces, and then answers; those at the end of the call in as few frames as there are gaps between."""
        pieces: dict[int, bytes] = {}
        answers: list[tuple[int, Answer]] = []
        for one, content in zip(told, contents):
            if one.ends:
                answers.append((one.place, batch.lost.get(one.place, content)))
            elif content.succeeded:
                pieces[one.place] = content.content
            else:  # a picture that can't be encoded
                batch.lost[one.place] = content
                batch.unwanted.add(one.place)
        if pieces := {place: piece for place, piece in pieces.items() if place not in batch.lost}:
            head = frames.numbers(batch.number, list(pieces))
            with self._sending:
                self._send_frame(frames.encode(frames.TELL_PIECES, [head, *pieces.values()]))
        answers.sort(key=lambda one: one[0])
        runs = _neighbours([place for place, _ in answers]) or [(0, 0)] * is_end
        for begin, end in runs:
            kind = frames.ANSWERS if is_end else frames.EARLY_ANSWERS
            place = answers[begin][0] if answers else 0
            self._send(batch, place, [one for _, one in answers[begin:end]], kind)

    def _send_frame(self, frame: bytes) -> None:
        try:
            self._socket.sendall(frame)
        except OSError:  # the server is gone, or the user's code has closed what was not its own
            os._exit(1)


class Interruptible:
    """A block that ends with Canceled when its batch is cancelled, at once if it is already, and at most once."""

    # No generator: what stands between two calls of `predict` is the model's time.

    def __init__(self) -> None:
        self._batch: Batch | None = None
        self._is_open = False

    def of(self, batch: Batch) -> Interruptible:
        """Make it the block of a batch."""
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


class Number:
    """A number in memory that the server sees: that of the batch that something is being done with."""

    def __init__(self, memory: mmap.mmap, place: int) -> None:
        self._memory = memory
        self._offset = place * _NUMBER.size

    def set(self, number: int) -> None:
        """Write it."""
        _NUMBER.pack_into(self._memory, self._offset, number)


class _Unwritten(NamedTuple):
    """What the writer has to do."""

    batch: Batch
    answers: Sequence[Answer | Unwritten]
    send: Callable[[list[Answer]], None]
    """Takes the answers when they are written."""


def _neighbours(places: Sequence[int]) -> list[tuple[int, int]]:
    """Begin and end of each run of places that stand together; they rise."""
    return _runs([place - index for index, place in enumerate(places)], 0, len(places))


def _runs(values: Sequence[int], begin: int, end: int) -> list[tuple[int, int]]:
    """Begin and end of each run of equal values."""
    places = [place for place in range(begin, end) if place == begin or values[place] != values[place - 1]]
    return list(zip(places, [*places[1:], end]))
