"""Several things at a time, in threads; until one fails, or a person has enough."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_Thing = TypeVar("_Thing")
_Result = TypeVar("_Result")
_left: set[threading.Thread] = set()


def at_once(
    do: Callable[[_Thing], _Result], things: Iterable[_Thing], most: int, *, ends: bool = False
) -> list[_Result]:
    """What doing something with each thing gives, in the things' order; `most` at a time.

    After an error nothing more is begun, and what has begun is waited for. Where somebody interrupts it is not, but
    where it `ends` by itself: a server that does not answer would have them wait for all of its chances.
    """
    threads: set[threading.Thread] = set()

    def one(thing: _Thing) -> _Result:
        threads.add(threading.current_thread())
        return do(thing)

    pool = ThreadPoolExecutor(most)
    try:
        jobs = [pool.submit(one, thing) for thing in things]
        found = [job.result() for job in jobs]
    except BaseException as problem:
        is_waited_for = ends or isinstance(problem, Exception)
        if not is_waited_for:
            _left.update(threads)
        pool.shutdown(wait=is_waited_for, cancel_futures=True)
        raise
    pool.shutdown()
    return found


def left() -> list[threading.Thread]:
    """The threads that were not waited for, and have not ended: Python waits for them before it ends."""
    return [one for one in _left if one.is_alive()]
