"""The pieces of one prediction's outputs, on their way from the model to those who follow it.

The model waits for no client: pieces that nobody has taken yet are put together, as their fold says it, so that who
reads slowly gets fewer and larger ones, and they take no more memory than the output.
"""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING, Callable

from tungsten_server.worker.fold import Fold

if TYPE_CHECKING:
    from collections.abc import Collection

_LOOSE_BYTES = 65536
"""Of pieces that are not put together yet: what is small costs less as it is."""

_OVERHEAD = 100
"""Bytes that a piece takes beside what is in it."""

Pieces = list[tuple[int, bytes]]
"""Inputs' places in the request, each with a piece as JSON, in the order in which they came."""


class _Waiting:
    """Pieces that somebody has not taken yet. Its owner guards it."""

    def __init__(self, concatenated: Collection[str]) -> None:
        self._concatenated = concatenated
        self.pieces: Pieces = []
        self.bytes = 0
        self._limit = _LOOSE_BYTES

    def add(self, place: int, piece: bytes) -> None:
        self.pieces.append((place, piece))
        self.bytes += len(piece) + _OVERHEAD
        if self.bytes > self._limit:
            self.fold()
            # As much again, so that each byte is put together a few times at most.
            self._limit = max(_LOOSE_BYTES, 2 * self.bytes)

    def fold(self) -> None:
        """Put together the pieces of each input."""
        folds: dict[int, Fold] = {}
        for place, piece in self.pieces:
            folds.setdefault(place, Fold(self._concatenated)).add(json.loads(piece))
        self.pieces = [(place, _written(fold)) for place, fold in folds.items()]
        self.bytes = sum(len(piece) + _OVERHEAD for _, piece in self.pieces)

    def take(self) -> Pieces:
        taken, self.pieces, self.bytes, self._limit = self.pieces, [], 0, _LOOSE_BYTES
        return taken


def _written(fold: Fold) -> bytes:
    return json.dumps(fold.value(), ensure_ascii=False, separators=(",", ":")).encode(errors="replace")


class Follower:
    """One who follows a stream; `Stream.follow` makes it."""

    def __init__(self, stream: Stream, waiting: _Waiting, on_news: Callable[[], None]) -> None:
        self._stream = stream
        self._waiting = waiting
        self.on_news = on_news

    @property
    def size(self) -> int:
        """Bytes of the pieces that wait, about."""
        return self._waiting.bytes

    def take(self) -> tuple[Pieces, bool]:
        """The pieces that have come since, and whether those are all."""
        with self._stream.lock:
            return self._waiting.take(), self._stream.ended

    def leave(self) -> None:
        """Follow no more."""
        with self._stream.lock:
            self._stream.followers.pop(self, None)


class Stream:
    """The pieces of one prediction. Any thread; nothing here waits for anything but for pieces being put together."""

    def __init__(self, concatenated: Collection[str], *, keep: bool) -> None:
        """concatenated: see `Fold`. keep: for those who begin to follow it later."""
        self._concatenated = concatenated
        self.lock = threading.Lock()
        self.followers: dict[Follower, _Waiting] = {}
        self._kept = _Waiting(concatenated) if keep else None
        self._begun: set[int] = set()
        self.ended = False

    def has_begun(self, place: int) -> bool:
        """Whether a piece has come for an input."""
        return place in self._begun

    def follow(self, on_news: Callable[[], None]) -> Follower:
        """Follow it. on_news: called, by any thread, whenever there is something to take.

        Whoever begins late is given the pieces before as one for each input, where they are kept.
        """
        with self.lock:
            waiting = _Waiting(self._concatenated)
            if self._kept is not None:
                self._kept.fold()
                for place, piece in self._kept.pieces:
                    waiting.add(place, piece)
            follower = Follower(self, waiting, on_news)
            self.followers[follower] = waiting
        return follower

    def add(self, place: int, piece: bytes) -> int:
        """Take a piece; about how many bytes wait, for whom there are most."""
        with self.lock:
            if self.ended:
                return 0
            self._begun.add(place)
            every = [*self.followers.values(), *filter(None, [self._kept])]
            for waiting in every:
                waiting.add(place, piece)
            followers = list(self.followers)
            most = max((waiting.bytes for waiting in every), default=0)
        for follower in followers:
            follower.on_news()
        return most

    def end(self) -> None:
        """Note that no more comes."""
        with self.lock:
            self.ended, self._kept = True, None
            followers = list(self.followers)
        for follower in followers:
            follower.on_news()
