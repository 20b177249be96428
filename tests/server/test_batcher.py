"""The rules of batching, on random sequences of arrivals, batches and passing time."""

from itertools import groupby

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from tungsten_server.queue.batcher import Batcher

MAX_WAIT = 10


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def filled(batch_size, keys):
    """A batcher with one item for each key; an item is its place in the order of arrival and its key."""
    batcher = Batcher(batch_size, MAX_WAIT, Clock())
    batcher.add((key, (place, key)) for place, key in enumerate(keys))
    return batcher


def drained(batcher):
    """All batches."""
    batches = []
    while batcher:
        batches.append(take(batcher))
    return batches


def take(batcher):
    """The items of the next batch."""
    return [item for _, item in batcher.take()]


arrivals = st.lists(st.sampled_from("abc"), max_size=40)
sizes = st.integers(1, 6)


@given(sizes, arrivals)
def test_each_item_is_in_exactly_one_batch(size, keys):
    items = [item for batch in drained(filled(size, keys)) for item in batch]
    assert sorted(items) == list(enumerate(keys))


@given(sizes, arrivals)
def test_a_batch_is_never_empty_and_never_above_its_size(size, keys):
    assert all(1 <= len(batch) <= size for batch in drained(filled(size, keys)))


@given(sizes, arrivals)
def test_all_options_in_a_batch_are_equal(size, keys):
    assert all(len({key for _, key in batch}) == 1 for batch in drained(filled(size, keys)))


@given(sizes, arrivals)
def test_order_is_kept_in_a_batch_and_among_equal_options(size, keys):
    order = [item for batch in drained(filled(size, keys)) for item in batch]
    by_key = sorted(order, key=lambda item: item[1])
    for _, group in groupby(by_key, key=lambda item: item[1]):
        places = [place for place, _ in group]
        assert places == sorted(places)


@given(sizes, arrivals)
def test_the_item_that_waits_longest_is_always_in_the_next_batch(size, keys):
    batcher, waiting = filled(size, keys), set(enumerate(keys))
    while waiting:
        batch = take(batcher)
        assert min(waiting) == batch[0]
        waiting -= set(batch)


@given(sizes, arrivals)
def test_a_batch_is_filled_with_all_that_may_join_it(size, keys):
    batcher, waiting = filled(size, keys), list(enumerate(keys))
    while waiting:
        batch = take(batcher)
        compatible = [item for item in waiting if item[1] == waiting[0][1]]
        assert batch == compatible[:size]
        waiting = [item for item in waiting if item not in batch]


def test_an_item_that_is_alone_does_not_wait_for_others():
    assert take(filled(16, "a")) == [(0, "a")]


def test_an_empty_queue_gives_an_empty_batch():
    batcher = filled(4, "")
    assert not batcher
    assert batcher.take() == []
    assert batcher.first is None
    assert not batcher.full


class Queue(RuleBasedStateMachine):
    """Any sequence of calls, beside a plain list that obeys the rules in the simplest way."""

    def __init__(self):
        super().__init__()
        self.clock = Clock()
        self.batcher = Batcher(3, MAX_WAIT, self.clock)
        self.model = []
        self.taken = []
        self.count = 0

    @rule(keys=st.lists(st.sampled_from("ab"), max_size=5), owner=st.integers(0, 3))
    def add(self, keys, owner):
        added = []
        for key in keys:
            self.count += 1
            added.append((self.count, key, owner, self.clock.now))
        self.model += added
        self.batcher.add((item[1], item) for item in added)

    @precondition(lambda self: self.model)
    @rule()
    def take(self):
        batch = [item for item in self.model if item[1] == self.model[0][1]][:3]
        assert self.batcher.full == (len(batch) == 3)
        assert self.batcher.first == batch[0]
        self.taken.append(self.batcher.take())
        assert [item for _, item in self.taken[-1]] == batch
        self.model = [item for item in self.model if item not in batch]

    @precondition(lambda self: self.taken)
    @rule(data=st.data())
    def put_back(self, data):
        taken = self.taken.pop(data.draw(st.integers(0, len(self.taken) - 1)))
        self.batcher.put_back(taken)
        self.model = sorted(self.model + [item for _, item in taken])

    @rule(owner=st.integers(0, 3))
    def remove(self, owner):
        self.batcher.remove(lambda item: item[2] == owner)
        self.model = [item for item in self.model if item[2] != owner]

    @rule(seconds=st.floats(0, MAX_WAIT))
    def let_time_pass(self, seconds):
        self.clock.now += seconds

    @rule()
    def expire(self):
        late = [item for item in self.model if item[3] + MAX_WAIT <= self.clock.now]
        assert sorted(self.batcher.expire()) == late
        self.model = [item for item in self.model if item not in late]

    @invariant()
    def counts(self):
        assert len(self.batcher) == len(self.model)
        assert bool(self.batcher) == bool(self.model)


TestQueue = Queue.TestCase


@pytest.mark.parametrize(("waited", "expired"), [(MAX_WAIT - 0.001, []), (MAX_WAIT, ["item"])])
def test_an_item_expires_after_its_time_and_not_before(waited, expired):
    clock = Clock()
    batcher = Batcher(4, MAX_WAIT, clock)
    batcher.add([("key", "item")])
    clock.now = waited
    assert batcher.expire() == expired
    assert len(batcher) == 1 - len(expired)
