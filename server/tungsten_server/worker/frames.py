"""The frames that the server and a model process exchange over their socketpair.

A frame is a kind, a count and that many byte strings: no pickle, and JSON crosses as the bytes that it
already is.

    kind: 1 byte | count: 4 bytes | count lengths: 8 bytes each | the byte strings, one after the other

All numbers are unsigned and big-endian. Standard library only, and no import of this package: the model process
loads this file by its path, under its own interpreter. Each end sends from one thread and reads from one
thread.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

RUN = 1
"""Server to model: run one batch, after those that were sent before. The first byte string is made by `numbers`: the
batch's number, rising from 1, and for each input the number of its request, so that the model knows whose inputs
fail together, with the bit PIECES where pieces of its output are to be told. Each other byte string is a JSON input;
those of one request stand together."""
RUN_DEMO = 5
"""Server to model: the same for a demo: `predict_demo` where there is one, and what is printed is caught. It has the
model process for itself: nothing is sent before it is answered, and it is not sent before all else is."""
CANCEL = 6
"""Server to model: some inputs of a batch need no answer any more. One byte string, made by `numbers`: the batch's
number and the inputs' places in it. They are answered all the same, with anything."""
READY = 2
"""Model to server: `setup` has finished. No byte strings."""
SETUP_FAILED = 3
"""Model to server: why the model could not be set up, as "ExceptionType: message" in UTF-8."""
ANSWERS = 4
"""Model to server: answers to some inputs of a batch that stand together; a batch may be answered by several frames,
and before one that was sent earlier.

The first byte string is made by `numbers`: the batch's number, the place of the first input in it, and one of SUCCEEDED
and FAILED for each answer. Then come two for each answer: the output as JSON, or the reason of the failure in UTF-8;
and the demo output as JSON, empty where there is none.
"""
EARLY_ANSWERS = 7
"""Model to server: the same, and the call of `predict` that they are of goes on for other inputs."""
TELL_PIECES = 8
"""Model to server: pieces of the outputs for some inputs, which are put behind those before (`fold`). The first byte
string is made by `numbers`: the batch's number and the inputs' places in it; then comes one for each, as JSON."""

PIECES = 1 << 31

SUCCEEDED = ord("+")
FAILED = ord("-")

DOING = struct.Struct("!QQQ")
"""What is in memory that both sides share: the numbers of the batches that are being read, that are inside `predict`,
and that are being written; 0 where none is."""

_HEADER = struct.Struct("!BI")

_READ_BYTES = 65536
"""Read at once, while it is not known that more is coming."""

_LARGEST_READ = 1024 * 1024

Frame = tuple[int, list[bytes]]


def encode(kind: int, parts: Sequence[bytes] = ()) -> bytes:
    """Make one frame."""
    return b"".join([head(kind, parts), *parts])


def head(kind: int, parts: Sequence[bytes]) -> bytes:
    """Make what stands before the byte strings of a frame."""
    return _HEADER.pack(kind, len(parts)) + struct.pack(f"!{len(parts)}Q", *map(len, parts))


class Decoder:
    """Makes frames of bytes that arrive in any portions."""

    def __init__(self) -> None:
        """Start between two frames."""
        self._data = bytearray()
        self.wanted = _READ_BYTES
        """How many bytes to read next."""

    def feed(self, data: bytes) -> list[Frame]:
        """Take the next bytes; return the frames that they complete."""
        self._data += data
        frames: list[Frame] = []
        begin = 0
        while (frame := self._frame_at(begin)) is not None:
            begin, complete = frame
            frames.append(complete)
        del self._data[:begin]
        return frames

    def _frame_at(self, begin: int) -> tuple[int, Frame] | None:
        """Return the end of the frame that begins there, and the frame; None if it is not whole."""
        self.wanted = _READ_BYTES
        data = self._data
        if len(data) < begin + _HEADER.size:
            return None
        kind, count = _HEADER.unpack_from(data, begin)
        at = begin + _HEADER.size + 8 * count
        if len(data) < at:
            return None
        lengths = struct.unpack_from(f"!{count}Q", data, begin + _HEADER.size)
        missing = at + sum(lengths) - len(data)
        if missing > 0:
            self.wanted = min(max(missing, _READ_BYTES), _LARGEST_READ)
            return None
        parts = []
        with memoryview(data) as view:
            for length in lengths:
                parts.append(bytes(view[at : at + length]))
                at += length
        return at, (kind, parts)


def numbers(first: int, others: Sequence[int]) -> bytes:
    """Write a number and a list of smaller ones."""
    return struct.pack(f"!Q{len(others)}I", first, *others)


def read_numbers(data: bytes) -> tuple[int, list[int]]:
    """Read what `numbers` wrote."""
    first, *others = struct.unpack(f"!Q{(len(data) - 8) // 4}I", data)
    return first, others
