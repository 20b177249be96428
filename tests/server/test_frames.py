import io
import socket
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tungsten_server import frames

kinds = st.integers(0, 255)
parts = st.lists(st.binary(max_size=300), max_size=20)


def sent(*arguments):
    """The bytes of one frame."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        frames.send(ours, *arguments)
        ours.shutdown(socket.SHUT_WR)
        with theirs.makefile("rb") as stream:
            return stream.read()


@given(st.lists(st.tuples(kinds, parts), max_size=4))
def test_what_is_sent_is_received_frame_by_frame(messages):
    stream = io.BytesIO(b"".join(sent(*message) for message in messages))
    assert [frames.receive(stream) for _ in messages] == messages
    with pytest.raises(EOFError):
        frames.receive(stream)


@given(kinds, parts, st.data())
def test_a_frame_cut_short_is_an_end_and_not_a_shorter_frame(kind, content, data):
    whole = sent(kind, content)
    cut = data.draw(st.integers(0, len(whole) - 1))
    with pytest.raises(EOFError):
        frames.receive(io.BytesIO(whole[:cut]))


def test_a_frame_larger_than_any_socket_buffer_arrives_whole():
    big = bytes(range(256)) * 40_000
    ours, theirs = socket.socketpair()
    with ours, theirs, theirs.makefile("rb") as stream:
        sender = threading.Thread(target=frames.send, args=(ours, frames.RUN, [big, b"", big]))
        sender.start()
        assert frames.receive(stream) == (frames.RUN, [big, b"", big])
        sender.join()


def test_the_format_is_fixed():
    assert sent(1, [b"ab", b"c"]) == (
        b"\x01\x00\x00\x00\x02\x00\x00\x00\x00\x00\x00\x00\x02\x00\x00\x00\x00\x00\x00\x00\x01abc"
    )
