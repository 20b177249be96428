"""What a server tells of a prediction that is followed, as server-sent events (WHATWG HTML, 9.2)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

    import requests

EVENTS = "text/event-stream"
ASK_FOR_EVENTS = {"Accept": EVENTS}


class Event(NamedTuple):
    """One of them."""

    name: str
    """`piece` or `prediction`."""
    data: Any


def read_events(answer: requests.Response) -> Iterator[Event]:
    """The events of an answer, each as soon as it is whole. Raises what reading raises, and JSONDecodeError."""
    name, data = "", []
    for line in _lines(answer):
        field, _, value = line.partition(":")
        if field == "event":
            name = value.removeprefix(" ")
        elif field == "data":
            data.append(value.removeprefix(" "))
        elif not line and data:
            yield Event(name, json.loads("\n".join(data)))
            name, data = "", []


def _lines(answer: requests.Response) -> Iterator[str]:
    begun: list[bytes] = []
    for data in answer.iter_content(chunk_size=None):
        first, *others = data.split(b"\n")
        begun.append(first)
        for following in others:
            yield b"".join(begun).decode(errors="replace").removesuffix("\r")
            begun = [following]
