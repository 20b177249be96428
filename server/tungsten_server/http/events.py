"""A prediction as server-sent events (WHATWG HTML, 9.2): its pieces as they come, and then the whole of it.

    event: piece
    data: {"index":0,"output":{"text":"Once"}}

    event: prediction
    data: {"outputs":[{"text":"Once upon"}],"status":"success","error_message":null}

The loop writes them (`connections`), and no thread waits for them.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Callable

if TYPE_CHECKING:
    from tungsten_server.words.prediction import Prediction
    from tungsten_server.words.stream import Stream

MEDIA_TYPE = "text/event-stream"

HEADERS = {
    "Cache-Control": "no-store",
    # As proxies of nginx's kind are told not to collect an answer before they pass it on.
    "X-Accel-Buffering": "no",
}


def event(name: bytes, data: bytes) -> bytes:
    """Write an event. data: JSON without a line break, as ours has none."""
    return b"event: %b\ndata: %b\n\n" % (name, data)


class PredictionEvents:
    """The events of one prediction for one client.

    stream: of the prediction. piece: makes of a piece what the client gets. whole: makes the last event's data.
    """

    def __init__(
        self, stream: Stream, piece: Callable[[bytes], bytes], whole: Callable[[Prediction], bytes]
    ) -> None:
        """Begin to follow: before the prediction is submitted, where it is new."""
        self._piece = piece
        self._whole = whole
        self._on_news: Callable[[], None] = _nothing
        self._prediction: Prediction | None = None
        self._follower = stream.follow(lambda: self._on_news())
        self._ending = threading.Lock()
        self.on_first: Callable[[], None] = _nothing
        """Called when there is a first piece to send."""
        self.on_end: Callable[[], None] = _nothing
        """Called once, when all is taken or the client has gone."""
        self.on_leave: Callable[[], None] = _nothing
        """Called if the client goes before."""

    def of(self, prediction: Prediction) -> PredictionEvents:
        """Say which prediction it is."""
        self._prediction = prediction
        return self

    def open(self, on_news: Callable[[], None]) -> None:
        """Have something called, by any thread, when there is something to take; perhaps there is already."""
        self._on_news = on_news
        on_news()

    @property
    def size(self) -> int:
        """About how many bytes there are to take."""
        done = self._prediction is not None and self._prediction.done
        return self._follower.size + (self._prediction.held_bytes if done and self._prediction else 0)

    def take(self) -> tuple[bytes, bool]:
        """The events that there are, and whether those are all."""
        pieces, ended = self._follower.take()
        if pieces:
            on_first, self.on_first = self.on_first, _nothing
            on_first()
        made = [
            event(b"piece", b'{"index":%d,"output":%b}' % (place, self._piece(one))) for place, one in pieces
        ]
        if ended and self._prediction is not None:
            made.append(event(b"prediction", self._whole(self._prediction)))
            self._end()
        return b"".join(made), ended

    def leave(self) -> None:
        """Note that the client has gone."""
        on_leave, self.on_leave = self.on_leave, _nothing
        self._end()
        on_leave()

    def _end(self) -> None:
        self._follower.leave()
        with self._ending:
            on_end, self.on_end = self.on_end, _nothing
        on_end()


def _nothing() -> None:
    """In place of what nobody has asked for."""
