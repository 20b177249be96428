"""What a file of this machine was like, to tell later whether it was written since."""

from __future__ import annotations

import functools
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar


def file_clock() -> int:
    """Now, in nanoseconds, as file systems of this machine note it: never later than what is written from now on."""
    probe = _probe()
    os.utime(probe)
    return os.fstat(probe).st_ctime_ns


@functools.cache
def _probe() -> int:
    """A file of nobody else's. What a file's time is compared with must come from the clock that file systems have."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("clock")
    return os.dup(tempfile.TemporaryFile().fileno())


@dataclass(frozen=True)
class Look:
    """What a file of this machine was like, to tell later whether it was written since."""

    status: tuple[int, ...]
    content: int | None
    """A hash, where the file's times can't tell: it was written so shortly before that they may stay the same."""

    wanted: ClassVar[bool] = False
    """Whether files are looked at when a `File` is made of them; `outputs` asks for it."""

    @classmethod
    def at(cls, source: object) -> Look | None:
        """Look at a file; None where nobody wants it, or there is none."""
        if not cls.wanted or not isinstance(source, Path):
            return None
        try:
            status = source.stat()
            recent = file_clock() - status.st_ctime_ns < _TICK and status.st_size <= _QUICKLY_READ
            return cls(_identity(status), hash(source.read_bytes()) if recent else None)
        except OSError:
            return None

    def is_same(self, status: os.stat_result, content: bytes | Path) -> bool:
        """Whether it is as it was. content: its bytes, or a copy of it."""
        if self.status != _identity(status) or self.content is None:
            return self.status == _identity(status)
        return self.content == hash(content if isinstance(content, bytes) else content.read_bytes())


def _identity(status: os.stat_result) -> tuple[int, ...]:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


_TICK = 20_000_000  # nanoseconds: two of the slowest clocks' ticks
_QUICKLY_READ = 1 << 20  # bytes; what is bigger is not written twice within a tick
