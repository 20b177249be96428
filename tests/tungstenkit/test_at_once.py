"""Several things at a time end together, and none is waited for by a person who has had enough."""

import os
import signal
import subprocess
import sys
import threading

import pytest

from tests.registry import registry
from tungstenkit.at_once import at_once, left

CODE = """
import hashlib, sys
from tungstenkit import started, store
from tungstenkit.cli import main
from tungstenkit.fetch import inputs
from tungstenkit.fetch.needs import LockedFile
from tungstenkit.registry.place import place
from tungstenkit.watch import UNWATCHED

def command_line(*_):
    def run(obj):
        with started.scratch() as folder:
            inputs.take(files, place(sys.argv[1]), folder, UNWATCHED)
    return run

store.missing = set
main.command_line = command_line
files = [LockedFile(f"f{n}", 1, hashlib.sha256(b"%d" % n).hexdigest()) for n in range(20)]
main.main()
"""


def test_results_come_in_order():
    assert at_once(lambda one: one * 2, range(100), 8) == list(range(0, 200, 2))
    assert at_once(str, [], 8) == []


def test_after_an_error_nothing_is_begun_and_what_runs_is_waited_for():
    begun, ended, both = [], [], threading.Barrier(2)

    def do(one):
        begun.append(one)
        both.wait(30)
        if one == 0:
            raise ValueError("no")
        ended.append(one)

    with pytest.raises(ValueError, match="no"):
        at_once(do, range(2), 2)
    assert (sorted(begun), ended) == ([0, 1], [1])

    def fail(one):
        begun.append(one)
        if one == 0:
            raise ValueError("no")
        threading.Event().wait(0.1)  # a thousand of these would take longer than to hear of the error

    begun.clear()
    with pytest.raises(ValueError, match="no"):
        at_once(fail, range(1000), 1)
    assert len(begun) < 1000


def test_who_interrupts_waits_for_nothing():
    gate, is_there = threading.Event(), threading.Event()

    def do(one):
        if one == 0:
            is_there.set()
            gate.wait(30)
        else:
            is_there.wait(30)
            raise KeyboardInterrupt

    try:
        with pytest.raises(KeyboardInterrupt):
            # The first is waited for first.
            at_once(lambda one: do(1 - one), range(2), 2)
        assert not gate.is_set()
        threads = left()
        assert threads
    finally:
        gate.set()
    for thread in threads:
        thread.join(30)
    assert left() == []


def test_what_ends_by_itself_is_waited_for_by_who_interrupts():
    is_there, interrupted, ended = threading.Event(), threading.Event(), []

    def do(one):
        if one == 0:
            is_there.set()
            interrupted.wait(30)
            threading.Event().wait(0.2)  # it takes longer than who interrupts
            ended.append(one)
        else:
            is_there.wait(30)
            interrupted.set()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        at_once(lambda one: do(1 - one), range(2), 2, ends=True)
    assert ended == [0]


class Hung:
    """A registry's gate that lets the question pass whether it is one, and nothing else."""

    def __init__(self, there):
        self.there, self.arrived, self.opened = there, threading.Semaphore(0), threading.Event()

    def wait(self, seconds):
        if any("blobs" in path for _, path, _ in self.there.asked):
            self.arrived.release()
            self.opened.wait(seconds)


@pytest.mark.timeless("a process is ended by its user")
def test_a_registry_that_does_not_answer_keeps_nobody(tmp_path):
    with registry() as there:
        there.gate = Hung(there)
        command = [sys.executable, "-c", CODE, f"{there.host}/a"]
        environment = {**os.environ, "TMPDIR": str(tmp_path)}
        with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
            assert all(there.gate.arrived.acquire(timeout=30) for _ in range(8))  # all that it asks at a time
            process.send_signal(signal.SIGINT)
            _, said = process.communicate(timeout=25)
        there.gate.opened.set()
    assert (process.returncode, said) == (130, "interrupted; nothing is half-written\n")
    assert list(tmp_path.iterdir()) == []
