"""How many bytes of requests the server holds at a time: what bounds its memory, whatever the requests' number."""

from __future__ import annotations

import threading


class ByteBudget:
    """Bytes to be taken before a body is read and given back when its request is done. For any thread."""

    def __init__(self, limit: int) -> None:
        """limit: bytes. A single request is let in whatever its size, which is another limit's business."""
        self._limit = limit
        self._taken = 0
        self._lock = threading.Lock()

    @property
    def taken(self) -> int:
        """Bytes taken now."""
        return self._taken

    def take(self, size: int) -> bool:
        """Take `size` bytes; return whether there were that many."""
        with self._lock:
            if self._taken and self._taken + size > self._limit:
                return False
            self._taken += size
            return True

    def give_back(self, size: int) -> None:
        """Give back what was taken."""
        with self._lock:
            self._taken -= size
