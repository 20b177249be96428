"""One accepted request: its inputs' answers as they come in, and the moment when it is done."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Union


@dataclass(frozen=True)
class Output:
    """The model's output for one input."""

    json: bytes


@dataclass(frozen=True)
class Failure:
    """Why one input has no output."""

    message: str
    """"ExceptionType: message", for the client."""


Answer = Union[Output, Failure]


class Prediction:
    """The answers to one request's inputs, in the order of the inputs.

    It is done when all inputs have an output or one has failed; what comes later is ignored. `answer` is
    called under the dispatcher's lock; `wait`, and the results once it is done, are for any thread.
    """

    def __init__(self, size: int) -> None:
        """Expect `size` answers, at least one."""
        self._outputs: list[bytes] = [b""] * size
        self._missing = size
        self._failure: Failure | None = None
        self._done = threading.Event()

    @property
    def done(self) -> bool:
        """Whether the request can be answered."""
        return self._done.is_set()

    @property
    def failure(self) -> Failure | None:
        """The first failure among the inputs."""
        return self._failure

    @property
    def outputs(self) -> list[bytes]:
        """The outputs as JSON, if there was no failure."""
        return self._outputs

    def answer(self, index: int, answer: Answer) -> None:
        """Record the answer to one input; each input is answered once."""
        if self.done:
            return
        if isinstance(answer, Failure):
            self._failure = answer
            self._done.set()
            return
        self._outputs[index] = answer.json
        self._missing -= 1
        if not self._missing:
            self._done.set()

    def wait(self, timeout: float) -> bool:
        """Wait until it is done, at most `timeout` seconds; return whether it is."""
        return self._done.wait(timeout)
