"""One accepted request: its inputs' answers as they come in, and the moment when it is done."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Callable, Literal, Union

if TYPE_CHECKING:
    from tungsten_server.words.logs import Log
    from tungsten_server.words.stream import Stream

Status = Literal["pending", "running", "success", "failed"]
"""The words that clients know. What was cancelled or took too long has failed."""

Outcome = Literal["success", "failed", "canceled", "timeout", "disconnected"]
"""How a prediction ended, for metrics."""


@dataclass(frozen=True)
class Output:
    """The model's output for one input."""

    json: bytes
    demo_json: bytes = b""
    """The demo output; empty where there is none."""


@dataclass(frozen=True)
class Failure:
    """Why one input has no output."""

    message: str
    """"ExceptionType: message", for the client."""
    outcome: Outcome = "failed"


Answer = Union[Output, Failure]

CANCELED = Failure("Canceled", "canceled")
GONE = Failure("The connection was closed before there was an answer", "disconnected")


def too_large(limit: int) -> Failure:
    """Why there are no outputs where they have more than so many bytes."""
    return Failure(f"OutputTooLarge: the outputs have more than {limit} bytes of JSON")


class Prediction:
    """The answers to one request's inputs, in the order of the inputs.

    It is done when all inputs have an output or one has failed; what comes later is ignored. `start` and `record`
    are called under the dispatcher's lock; everything else is for any thread.
    """

    def __init__(
        self,
        size: int,
        *,
        max_bytes: int,
        log: Log | None = None,
        stream: Stream | None = None,
        on_done: Callable[[Prediction], None] | None = None,
    ) -> None:
        """Expect answers.

        size: how many, at least one.
        max_bytes: most bytes of JSON that all outputs together may have; more is a failure.
        log: makes it a demo, and gets what the model prints.
        stream: gets the pieces of its outputs; None where nobody asks for them.
        on_done: called once, when it is done, under the dispatcher's lock.
        """
        self.id = os.urandom(16).hex()
        self.log = log
        self.stream = stream
        self._outputs: list[Output | None] = [None] * size
        self._missing = size
        self._bytes = 0
        self._max_bytes = max_bytes
        self._started = False
        self._failure: Failure | None = None
        self._on_done = on_done
        self.done = False
        """Whether the request can be answered."""
        # Held until then: all that is needed to wait for one moment, and cheap, since most have nobody who waits.
        self._until_done = threading.Lock()
        self._until_done.acquire()

    @property
    def status(self) -> Status:
        """How far it is."""
        if not self.done:
            return "running" if self._started else "pending"
        return "failed" if self._failure else "success"

    @property
    def outcome(self) -> Outcome:
        """How it ended, once it is done."""
        return self._failure.outcome if self._failure else "success"

    @property
    def failure(self) -> Failure | None:
        """The first failure among the inputs."""
        return self._failure

    @property
    def outputs(self) -> list[Output]:
        """The outputs, if it is done without a failure."""
        return [output for output in self._outputs if output]

    @property
    def held_bytes(self) -> int:
        """Bytes that its results take: outputs, failure and log."""
        failure = len(self._failure.message) if self._failure else 0
        return self._bytes + failure + (len(self.log) if self.log else 0)

    def start(self) -> None:
        """Note that an input of it is on the model."""
        self._started = True

    def record(self, index: int, answer: Answer) -> None:
        """Record the answer to one input; each input is answered once."""
        if self.done:
            return
        if isinstance(answer, Output):
            self._outputs[index] = answer
            self._missing -= 1
            self._bytes += len(answer.json) + len(answer.demo_json)
            if self._bytes > self._max_bytes:
                answer = too_large(self._max_bytes)
        if isinstance(answer, Failure):
            self._failure = answer
            self._outputs, self._bytes = [], 0
        elif self._missing:
            return
        self.done = True
        self._until_done.release()
        if self.stream:
            self.stream.end()
        if self._on_done:
            self._on_done(self)

    def wait(self, timeout: float) -> bool:
        """Wait until it is done, at most `timeout` seconds; return whether it is."""
        if self._until_done.acquire(timeout=timeout):
            self._until_done.release()
        return self.done
