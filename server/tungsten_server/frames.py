"""The frames that the server and a model process exchange over their socketpair.

A frame is a kind, a count and that many byte strings: no pickle, and JSON crosses as the bytes that it
already is.

    kind: 1 byte | count: 4 bytes | count lengths: 8 bytes each | the byte strings, one after the other

All numbers are unsigned and big-endian. Standard library only, and no import of this package: `worker` loads
this file by its path, under the model's interpreter. Each end sends from one thread and reads from one
thread.
"""

from __future__ import annotations

import signal
import struct
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    import socket
    from collections.abc import Sequence

RUN = 1
"""Server to model: run one batch. The first byte string is the batch's number (see NUMBER), each other one a JSON
input."""
RUN_DEMO = 5
"""Server to model: the same for a demo: `predict_demo` where there is one, and what is printed is caught."""
READY = 2
"""Model to server: `setup` has finished. No byte strings."""
SETUP_FAILED = 3
"""Model to server: why the model could not be set up, as "ExceptionType: message" in UTF-8."""
ANSWERS = 4
"""Model to server: answers to the next inputs of the batch, in its order; a batch may be answered by several
frames.

The first byte string holds one of SUCCEEDED and FAILED for each answer. Then come two for each answer: the
output as JSON, or the reason of the failure in UTF-8; and the demo output as JSON, empty where there is none.
"""

SUCCEEDED = ord("+")
FAILED = ord("-")

NUMBER = struct.Struct("!Q")
"""A batch's number, rising from 1. The server writes it into memory that it shares with the model process, and
then sends CANCEL_SIGNAL, to cancel that batch: no other one is hit, however late the signal arrives."""

CANCEL_SIGNAL = signal.SIGUSR1

_HEADER = struct.Struct("!BI")


def send(sock: socket.socket, kind: int, parts: Sequence[bytes] = ()) -> None:
    """Send one frame, whole.

    Raises OSError when the peer is gone, TimeoutError when the socket's timeout has passed.
    """
    lengths = struct.pack(f"!{len(parts)}Q", *map(len, parts))
    sock.sendall(b"".join([_HEADER.pack(kind, len(parts)), lengths, *parts]))


def receive(stream: BinaryIO) -> tuple[int, list[bytes]]:
    """Read one frame from a buffered stream: its kind and its byte strings.

    Raises EOFError when the stream ends, be it between two frames or within one.
    """
    kind, count = _HEADER.unpack(_read(stream, _HEADER.size))
    lengths = struct.unpack(f"!{count}Q", _read(stream, 8 * count))
    return kind, [_read(stream, length) for length in lengths]


def _read(stream: BinaryIO, size: int) -> bytes:
    data = stream.read(size)
    if len(data) < size:
        msg = "the peer has closed the connection"
        raise EOFError(msg)
    return data
