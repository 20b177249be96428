"""The threads that run the application: how many there are."""

import threading

import pytest
from tungsten_server.http.threads import TaskThreads

from tests.server.conftest import DEADLINE, wait_until


class Blocked:
    """A task that ends when the test says so."""

    def __init__(self):
        self.begun, self.end, self.done = threading.Event(), threading.Event(), threading.Event()

    def service(self):
        self.begun.set()
        self.end.wait(DEADLINE)
        self.done.set()


@pytest.fixture
def blocked():
    tasks = [Blocked() for _ in range(5)]
    yield tasks
    for task in tasks:
        task.end.set()


def test_each_task_has_a_thread_until_there_are_too_many(blocked):
    threads = TaskThreads(3)
    assert threads.count == 1
    for task in blocked:
        threads.add_task(task)
    for task in blocked[:3]:
        assert task.begun.wait(DEADLINE)
    assert threads.count == 3
    assert not blocked[3].begun.is_set()
    blocked[1].end.set()
    assert blocked[3].begun.wait(DEADLINE)


def test_an_idle_thread_takes_the_next_task(blocked):
    threads = TaskThreads(3)
    for task in blocked:
        task.end.set()
        threads.add_task(task)
        assert task.done.wait(DEADLINE)
        wait_until(lambda: threads._idle == threads.count, "an idle thread")
    assert threads.count == 1


def test_idle_threads_end_but_for_one(blocked):
    threads = TaskThreads(5, idle_seconds=0.01)
    for task in blocked:
        threads.add_task(task)
    for task in blocked:
        assert task.begun.wait(DEADLINE)
    assert threads.count == 5
    for task in blocked:
        task.end.set()
    wait_until(lambda: threads.count == 1, "the end of the others")
    last = Blocked()
    last.end.set()
    threads.add_task(last)
    assert last.done.wait(DEADLINE)


def test_a_task_that_fails_costs_no_thread(blocked):
    class Failing:
        def service(self):
            raise SystemExit

    threads = TaskThreads(1)
    threads.add_task(Failing())
    threads.add_task(blocked[0])
    assert blocked[0].begun.wait(DEADLINE)


def test_where_no_more_threads_can_be_had_tasks_wait_for_those_there_are(blocked, monkeypatch):
    threads = TaskThreads(5)

    def fail(_):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", fail)
        for task in blocked[:3]:
            threads.add_task(task)
        assert blocked[0].begun.wait(DEADLINE)
        blocked[0].end.set()
        assert blocked[1].begun.wait(DEADLINE)
        assert threads.count == 1
    threads.grow()
    assert blocked[2].begun.wait(DEADLINE)
