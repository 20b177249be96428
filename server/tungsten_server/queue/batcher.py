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
from typing import TYPE_CHECKING, Callable, Generic, NamedTuple, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable

T = TypeVar("T")


class Ticket(NamedTuple):
    """Where an item stands in the queue."""

    number: int
    """Arrival order over all keys."""
    deadline: float
    key: str


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
        self._groups: dict[str, deque[tuple[Ticket, T]]] = {}
        # One entry for each group: its first item's number, and its key. The smallest is the queue's head.
        self._heads: list[tuple[int, str]] = []

    def __len__(self) -> int:
        """How many items are queued."""
        return sum(map(len, self._groups.values()))

    def __bool__(self) -> bool:
        """Whether anything is queued."""
        return bool(self._heads)

    @property
    def full(self) -> bool:
        """Whether the next batch has as many items as a batch may have."""
        return bool(self._heads) and len(self._groups[self._heads[0][1]]) >= self._batch_size

    @property
    def first(self) -> T | None:
        """The item that has waited longest."""
        return self._groups[self._heads[0][1]][0][1] if self._heads else None

    def add(self, items: Iterable[tuple[str, T]]) -> None:
        """Queue items, each with its option key, in the order given."""
        deadline = self._clock() + self._max_wait
        for key, item in items:
            number = self._arrivals
            self._arrivals += 1
            group = self._groups.get(key)
            if group is None:
                group = self._groups[key] = deque()
                heapq.heappush(self._heads, (number, key))
            group.append((Ticket(number, deadline, key), item))

    def take(self) -> list[tuple[Ticket, T]]:
        """Remove and return the next batch, in order of arrival; empty if nothing is queued."""
        if not self._heads:
            return []
        _, key = heapq.heappop(self._heads)
        group = self._groups[key]
        batch = [group.popleft() for _ in range(min(self._batch_size, len(group)))]
        if group:
            heapq.heappush(self._heads, (group[0][0].number, key))
        else:
            del self._groups[key]
        return batch

    def put_back(self, taken: Iterable[tuple[Ticket, T]]) -> None:
        """Queue items again that `take` gave, where they stood before."""
        for ticket, item in taken:
            self._groups.setdefault(ticket.key, deque()).append((ticket, item))
        # Numbers differ, so items are never compared.
        self._set_groups({key: deque(sorted(group)) for key, group in self._groups.items()})

    def remove(self, unwanted: Callable[[T], bool]) -> None:
        """Remove the items that are unwanted. Looks at every queued item."""
        self._keep(lambda queued: not unwanted(queued[1]))

    def expire(self) -> list[T]:
        """Remove and return the items that have waited `max_wait` seconds or longer, in any order."""
        now = self._clock()
        # Items arrive with rising deadlines, so a group's first item is its oldest.
        if all(group[0][0].deadline > now for group in self._groups.values()):
            return []
        expired = [
            item for group in self._groups.values() for ticket, item in group if ticket.deadline <= now
        ]
        self._keep(lambda queued: queued[0].deadline > now)
        return expired

    def _keep(self, wanted: Callable[[tuple[Ticket, T]], bool]) -> None:
        groups = {key: deque(filter(wanted, group)) for key, group in self._groups.items()}
        self._set_groups({key: group for key, group in groups.items() if group})

    def _set_groups(self, groups: dict[str, deque[tuple[Ticket, T]]]) -> None:
        self._groups = groups
        self._heads = [(group[0][0].number, key) for key, group in groups.items()]
        heapq.heapify(self._heads)
