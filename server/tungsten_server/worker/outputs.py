"""Answers to inputs, as the server gets them, and the exceptions that refuse what `predict` returned."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, NamedTuple

from .exceptions import dotted, reason

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from tungstenkit.sdk.outputs import FileRead, FixedJson

_MOST_PLACES = 20
"""Places told of one output: the first ones say what is wrong."""

_MOST_DIGITS = 4300
"""Of an integer that Python reads, where nothing else is set (`sys.int_info.default_max_str_digits`)."""

_OWN = "__main__"
"""What the exceptions below say of their module, so that tracebacks call them by the names that clients know."""


class InvalidOutput(Exception):  # noqa: N818 (a name that clients know)
    """What `predict` returned is not what the model declares."""

    __module__ = _OWN


class InvalidDemoOutput(InvalidOutput):
    """What `predict_demo` returned as demo outputs is not what the model declares."""

    __module__ = _OWN


class OutputTooLarge(Exception):  # noqa: N818
    """One output is more than the server is told to take."""

    __module__ = _OWN


class PerhapsMixed(Exception):  # noqa: N818
    """A part of what was returned for one input may be another's: only calls for each alone can tell."""

    __module__ = _OWN


class Canceled(BaseException):
    """Raised in the user's code when its batch is cancelled; no `Exception`, which that code may catch."""

    __module__ = _OWN


class Answer(NamedTuple):
    """What the server gets for one input."""

    succeeded: bool
    content: bytes
    """The output as JSON, or the reason of the failure."""
    demo: bytes = b""
    """The demo output as JSON; empty if there is none."""


class Unwritten(NamedTuple):
    """An answer that nothing can change any more, and whose files are still to be written as JSON."""

    output: bytes | FixedJson
    demo: bytes | FixedJson
    """As in Answer."""


CANCELED = Answer(False, Canceled.__name__.encode())


def failed(error: BaseException) -> Answer:
    """Make the answer to an input for which an exception was raised."""
    return Answer(False, reason(error).encode(errors="replace"))


def with_itself(answer: Answer | Unwritten) -> Answer | Unwritten:
    """Make the output the demo output, too."""
    if isinstance(answer, Answer):
        return answer._replace(demo=answer.content)
    return answer._replace(demo=answer.output)


def files_read(answer: Answer | Unwritten) -> dict[Hashable, FileRead]:
    """Find the files that an answer is made of."""
    return {
        identity: found
        for part in answer
        if not isinstance(part, (bool, bytes))
        for identity, found in part.read.items()
    }


def refuse_numbers(content: bytes, error_class: type[InvalidOutput]) -> None:
    """Refuse JSON with numbers that readers of JSON do not read, naming each place. Raises error_class.

    They are the ones that JSON has not, and integers of more digits than Python reads: clients, and the server itself.
    """
    # Asked of every output, and nearly none has such letters, or so many digits.
    if not (any(_holds_value(content, word) for word in (b"NaN", b"Infinity")) or _holds_digits(content)):
        return
    found: list[str] = []

    def walk(value: object, place: tuple[object, ...]) -> None:
        if isinstance(value, _Digits) and value.number > _MOST_DIGITS:
            found.append(f"{dotted(place)}: an integer of {value.number} digits; {_MOST_DIGITS} is the limit")
        elif isinstance(value, float) and not math.isfinite(value):
            found.append(f"{dotted(place)}: {value} is not a finite number")
        elif isinstance(value, (list, dict)):
            for key, item in value.items() if isinstance(value, dict) else enumerate(value):
                walk(item, (*place, key))

    walk(json.loads(content, parse_int=lambda text: _Digits(len(text.lstrip("-")))), ())
    if found:
        raise error_class("; ".join(found[:_MOST_PLACES]))


def _holds_value(content: bytes, word: bytes) -> bool:
    """Whether a word may stand in JSON as a value: not inside a file's base64, where its letters come by chance."""
    at = content.find(word)
    while at > 0 and content[at - 1] not in b":,[-":
        at = content.find(word, at + 1)
    return at > 0


def _holds_digits(content: bytes) -> bool:
    """Whether there may be an integer of too many digits: it has a whole half of them, counted from the beginning."""
    half = _MOST_DIGITS // 2
    return any(content[at : at + half].isdigit() for at in range(0, len(content) - half + 1, half))


class _Digits(NamedTuple):
    """An integer that may be too long to be read."""

    number: int


def pair(returned: object) -> tuple[object, object]:
    """Take apart the outputs and the demo outputs that `predict_demo` returned."""
    wanted = "not a pair (outputs, demo_outputs)"
    if not isinstance(returned, (list, tuple)):
        msg = f"predict_demo returned an object of type {type(returned).__name__}, {wanted}"
        raise InvalidOutput(msg)
    if len(returned) < 2:
        elements = "no element" if not returned else "only 1 element"
        msg = f"predict_demo returned a {type(returned).__name__} with {elements}, {wanted}"
        raise InvalidOutput(msg)
    return returned[0], returned[1]


def checked(outputs: object, count: int, method: str, noun: str) -> Sequence[object]:
    """Refuse what is not a list of `count` elements."""
    error_class = InvalidDemoOutput if noun == "demo outputs" else InvalidOutput
    gave = "yielded" if noun == "pieces" else "returned"
    if not isinstance(outputs, (list, tuple)):
        msg = f"{method} {gave} {noun} of type {type(outputs).__name__}, not a list"
        raise error_class(msg)
    if len(outputs) != count:
        msg = f"{method} {gave} {len(outputs)} {noun} for {count} inputs"
        raise error_class(msg)
    return outputs
