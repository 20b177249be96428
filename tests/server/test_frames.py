import socket
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tungsten_server.worker import frames

kinds = st.integers(0, 255)
parts = st.lists(st.binary(max_size=300), max_size=20)


@given(st.lists(st.tuples(kinds, parts), max_size=4), st.data())
def test_what_is_sent_is_received_frame_by_frame_in_whatever_portions_it_arrives(messages, data):
    stream = b"".join(frames.encode(*message) for message in messages)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=9)))
    decoder, received = frames.Decoder(), []
    for begin, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        received += decoder.feed(stream[begin:end])
    assert received == messages


@given(kinds, parts, st.data())
def test_a_frame_cut_short_is_no_shorter_frame(kind, content, data):
    whole = frames.encode(kind, content)
    decoder = frames.Decoder()
    assert decoder.feed(whole[: data.draw(st.integers(0, len(whole) - 1))]) == []
    assert decoder.wanted > 0


def test_a_frame_larger_than_any_socket_buffer_arrives_whole():
    big = bytes(range(256)) * 40_000
    frame = frames.encode(frames.RUN, [big, b"", big])
    ours, theirs = socket.socketpair()
    with ours, theirs:
        sender = threading.Thread(target=ours.sendall, args=[frame])
        sender.start()
        decoder, received = frames.Decoder(), []
        while not received:
            received = decoder.feed(theirs.recv(decoder.wanted))
        sender.join()
    assert received == [(frames.RUN, [big, b"", big])]


def test_the_format_is_fixed():
    assert frames.encode(1, [b"ab", b"c"]) == (
        b"\x01\x00\x00\x00\x02\x00\x00\x00\x00\x00\x00\x00\x02\x00\x00\x00\x00\x00\x00\x00\x01abc"
    )


@pytest.mark.parametrize("others", [[], [0], [1, 2**32 - 1]])
def test_numbers_are_read_as_written(others):
    assert frames.read_numbers(frames.numbers(2**40, others)) == (2**40, others)
