"""Several things at a time, in threads; until one fails, or a person has enough."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_Thing = TypeVar("_Thing")
_Result = TypeVar("_Result")


def at_once(
    do: Callable[[_Thing], _Result], things: Iterable[_Thing], most: int, *, ends: bool = False
) -> list[_Result]:
    """What doing something with each thing gives, in the things' order; `most` at a time.

    After an error nothing more is begun, and what has begun is waited for. Where somebody interrupts it is not, but
    where it `ends` by itself: a server that does not answer would have them wait for all of its chances.
    """
    pool = ThreadPoolExecutor(most)
    try:
        jobs = [pool.submit(do, one) for one in things]
        found = [job.result() for job in jobs]
    except BaseException as problem:
        pool.shutdown(wait=ends or isinstance(problem, Exception), cancel_futures=True)
        raise
    pool.shutdown()
    return found
