"""Which inputs run together: a queue of single inputs that is cut into batches.

The input that has waited longest decides the next batch; later inputs with the same option key join it, in
order, up to the batch size. So an idle model starts with what there is, batches form while it is busy, inputs
with different options never meet, and no input waits for ever.

Pure: no HTTP, no model, no thread, no lock; the clock is an argument. Its owner, `Dispatcher`, calls it under
its own lock.
"""

from __future__ import annotations

import heapq
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Callable, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable

T = TypeVar("T")


@dataclass(frozen=True)
class _Queued(Generic[T]):
    number: int
    """Arrival order over all keys."""
    deadline: float
    item: T


class Batcher(Generic[T]):
    """A queue of items of type T, each with an option key, taken in batches of equal keys.

    batch_size: most items in a batch, at least 1.
    max_wait: seconds after which a queued item expires.
    clock: seconds, never going back.
    """

    def __init__(self, batch_size: int, max_wait: float, clock: Callable[[], float]) -> None:
        """Create an empty queue."""
        self._batch_size = batch_size
        self._max_wait = max_wait
        self._clock = clock
        self._arrivals = 0
        self._groups: dict[str, deque[_Queued[T]]] = {}
        # One entry for each group: its first item's number, and its key. The smallest is the queue's head.
        self._heads: list[tuple[int, str]] = []

    def __len__(self) -> int:
        """How many items are queued."""
        return sum(map(len, self._groups.values()))

    def __bool__(self) -> bool:
        """Whether anything is queued."""
        return bool(self._heads)

    def add(self, items: Iterable[tuple[str, T]]) -> None:
        """Queue items, each with its option key, in the order given."""
        deadline = self._clock() + self._max_wait
        for key, item in items:
            queued = _Queued(self._arrivals, deadline, item)
            self._arrivals += 1
            group = self._groups.get(key)
            if group is None:
                self._groups[key] = deque([queued])
                heapq.heappush(self._heads, (queued.number, key))
            else:
                group.append(queued)

    def take(self) -> list[T]:
        """Remove and return the next batch, in order of arrival; empty if nothing is queued."""
        if not self._heads:
            return []
        _, key = heapq.heappop(self._heads)
        group = self._groups[key]
        batch = [group.popleft().item for _ in range(min(self._batch_size, len(group)))]
        if group:
            heapq.heappush(self._heads, (group[0].number, key))
        else:
            del self._groups[key]
        return batch

    def remove(self, unwanted: Callable[[T], bool]) -> None:
        """Remove the items that are unwanted. Looks at every queued item."""
        self._keep(lambda queued: not unwanted(queued.item))

    def expire(self) -> list[T]:
        """Remove and return the items that have waited `max_wait` seconds or longer, in any order."""
        now = self._clock()
        # Items arrive with rising deadlines, so a group's first item is its oldest.
        if all(group[0].deadline > now for group in self._groups.values()):
            return []
        expired = [q.item for group in self._groups.values() for q in group if q.deadline <= now]
        self._keep(lambda queued: queued.deadline > now)
        return expired

    def _keep(self, wanted: Callable[[_Queued[T]], bool]) -> None:
        groups = {key: deque(filter(wanted, group)) for key, group in self._groups.items()}
        self._groups = {key: group for key, group in groups.items() if group}
        self._heads = [(group[0].number, key) for key, group in self._groups.items()]
        heapq.heapify(self._heads)
