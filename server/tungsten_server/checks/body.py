"""A JSON body made into inputs not yet checked, within limits on its depth and on their number.

Of an object's equal names the last one counts, as with every common parser; an input is written anew from what
was read and checked, so no part of the server and no model can see another one.
"""

from __future__ import annotations

import json
from typing import Any

from tungsten_server.words.problems import InputError, Problem

MAX_DEPTH = 100
"""Levels of lists and objects: far more than schemas have, half of what the model's own JSON parser takes."""


def parse_inputs(data: bytes, max_inputs: int) -> list[Any]:
    """Parse a body that is a JSON list of inputs.

    max_inputs: how many there may be. Raises InputError.
    """
    values = parse_json(data)
    if not isinstance(values, list):
        raise _error("the body is not a list of inputs", "list_type")
    if not values:
        raise _error("the list of inputs is empty", "too_short")
    if len(values) > max_inputs:
        raise _error(f"{len(values)} inputs in one request; the limit is {max_inputs}", "too_long")
    return values


def parse_json(data: bytes, what: str = "the body") -> Any:  # noqa: ANN401 (whatever JSON has)
    """Parse JSON, which is called `what` in messages. Raises InputError, without a location."""
    try:
        value = json.loads(data)
    except RecursionError as error:
        raise _too_deep(what) from error
    except ValueError as error:  # also a wrong encoding, and a number of 5,000 digits
        raise _error(f"{what} is not JSON: {error}", "json_invalid") from error
    # Few brackets can't nest deeply; counting them costs next to nothing, however large the files in it are.
    if data.count(b"[") + data.count(b"{") > MAX_DEPTH and _depth_exceeds(value, MAX_DEPTH):
        raise _too_deep(what)
    return value


def _depth_exceeds(value: object, limit: int) -> bool:
    level = [value]
    for _ in range(limit):
        level = [item for container in level for item in _items(container) if isinstance(item, (list, dict))]
        if not level:
            return False
    return True


def _items(container: object) -> Any:  # noqa: ANN401
    return container.values() if isinstance(container, dict) else container


def _too_deep(what: str) -> InputError:
    return _error(f"{what} is not JSON that can be read: nested too deeply", "json_invalid")


def _error(message: str, kind: str) -> InputError:
    return InputError([Problem((), message, kind)])
