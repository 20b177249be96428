"""Batches of inputs, as the dispatcher hands them to drivers."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from tungsten_server.worker import frames

if TYPE_CHECKING:
    from tungsten_server.queue.batcher import Ticket
    from tungsten_server.words.logs import Log
    from tungsten_server.words.prediction import Prediction


class Item(NamedTuple):
    """One input of a prediction, to be run."""

    prediction: Prediction
    place: int
    """Among the prediction's inputs."""
    json: bytes
    suspect: bool = False
    """Whether a process has died while it was doing something with this, and did not run it: it has the next process
    for itself, so that its own fault costs nobody else anything."""

    @property
    def alone(self) -> bool:
        """Whether it must not be with a process beside others."""
        return self.suspect or self.prediction.log is not None


class Batch:
    """Items to run together. Those of a demo are all of one prediction."""

    def __init__(self, number: int, taken: list[tuple[Ticket, Item]]) -> None:
        """number: rises from 1 for each driver. taken: what the batcher gave."""
        self.number = number
        self.taken = taken
        self.items = [item for _, item in taken]
        self.open = set(range(len(taken)))
        """Places of the items that are not answered."""

    @property
    def owners(self) -> list[int]:
        """For each item the number of its prediction, counted within the batch, as `frames` has it.

        Those of one stand together.
        """
        numbers: dict[Prediction, int] = {}
        for item in self.items:
            wants = frames.PIECES if item.prediction.stream else 0
            numbers.setdefault(item.prediction, len(numbers) | wants)
        return [numbers[item.prediction] for item in self.items]

    @property
    def log(self) -> Log | None:
        """Where to put what is printed, if this is a demo's batch."""
        return self.items[0].prediction.log


class Orders(NamedTuple):
    """What a driver is to do next."""

    batches: list[Batch]
    """To begin."""
    unwanted: list[tuple[int, list[int]]]
    """Numbers of batches, and places of inputs in them that need no answer any more."""
    was_idle: bool
    """Whether there was nothing to run before these."""
    busy: bool
    """Whether there is something to run now."""
