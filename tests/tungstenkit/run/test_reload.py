"""A new server takes an old one's place once it is ready, and only then; and what counts as a change."""

import os
import socket
import sys
import threading
from contextlib import contextmanager
from queue import SimpleQueue

import pytest

from tests.server.conftest import wait_until
from tungstenkit.run.address import Address
from tungstenkit.run.program import Program
from tungstenkit.run.reload import Event, Reloading, state, watch
from tungstenkit.sdk.errors import SpecError

DEADLINE = 20

SERVER = """
import os, signal, socket, sys
listener, control = (socket.socket(fileno=int(one)) for one in sys.argv[1:3])
kind, name = sys.argv[3:]
if kind == "broken":
    sys.exit(1)
if kind == "slow":
    signal.pause()
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
control.sendall(b"ready\\n")
control.recv(1)
while True:
    client, _ = listener.accept()
    with client:
        client.sendall(name.encode())
"""
"""Answers each client with its name."""


class Servers:
    """Servers by the programs that `todo` lists, on one socket; what is said; and what has happened."""

    def __init__(self, todo, alone):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.todo = iter(todo)
        self.events = SimpleQueue()
        self.said = SimpleQueue()
        self.reloading = Reloading(
            self.start,
            self.listener,
            say=self.said.put,
            on_ready=lambda: self.said.put("ready"),
            alone=alone,
        )

    def start(self, handover):
        kind, name = next(self.todo).split()
        if kind == "wrong":
            raise SpecError(f"{name} is wrong")
        descriptors = [str(one) for one in handover]
        command = [sys.executable, "-I", "-S", "-c", SERVER, *descriptors, kind, name]
        return Program(command, Address("127.0.0.1", 0), dict(os.environ), inherited=handover)

    def expect(self, *texts):
        for text in texts:
            assert self.said.get(timeout=DEADLINE) == text

    def change(self):
        self.events.put(Event("changed"))

    def ask(self):
        with socket.create_connection(self.listener.getsockname(), DEADLINE) as client:
            return client.recv(100).decode()


@contextmanager
def served(*todo, alone=False):
    """The servers, run in a thread until the block ends."""
    servers = Servers(todo, alone)

    class Stop:
        """What Ctrl-C would raise in the main thread."""

        def __getattribute__(self, name):
            raise KeyboardInterrupt

    thread = threading.Thread(target=servers.reloading.run, args=[servers.events])
    thread.start()
    try:
        yield servers
    finally:
        servers.events.put(Stop())
        thread.join(DEADLINE)
        assert not thread.is_alive()
        servers.listener.close()


def test_the_new_code_answers_once_it_is_ready():
    with served("good one", "good two") as servers:
        servers.expect("ready")
        assert servers.ask() == "one"
        servers.change()
        servers.expect("the new code answers")
        assert servers.ask() == "two"


@pytest.mark.parametrize(
    ("todo", "said"),
    [
        ("wrong two", ["error: two is wrong", "the new code can't be read; the code before it goes on"]),
        ("broken two", ["the new code can't be set up; the code before it goes on"]),
    ],
)
def test_the_old_one_goes_on_until_the_new_code_is_right(todo, said):
    with served("good one", todo, "good three") as servers:
        servers.expect("ready")
        servers.change()
        servers.expect(*said)
        assert servers.ask() == "one"
        servers.change()
        servers.expect("the new code answers")


def test_code_that_was_never_right_is_waited_for():
    with served("broken one", "good two") as servers:
        servers.expect("the new code can't be set up; waiting for a change")
        servers.change()
        servers.expect("ready")
        assert servers.ask() == "two"


def test_a_change_while_the_new_code_is_set_up_begins_again():
    with served("good one", "slow two", "good three") as servers:
        servers.expect("ready")
        servers.change()
        servers.change()
        servers.expect("the new code answers")
        assert servers.ask() == "three"


def test_of_models_that_need_a_gpu_the_old_one_ends_first():
    with served("good one", "slow two", "good three", alone=True) as servers:
        servers.expect("ready")
        servers.change()
        # It is the one that is being set up that must be there before the next change.
        wait_until(lambda: servers.reloading._serving is None, "the old one's end")
        with socket.create_connection(servers.listener.getsockname(), DEADLINE) as client:
            servers.change()
            servers.expect("the new code answers")
            assert client.recv(100).decode() == "three"


def test_a_server_that_dies_is_told():
    with served("good one", "good two") as servers:
        servers.expect("ready")
        servers.reloading._serving.running.kill()
        servers.expect("the server has ended; waiting for a change")
        servers.change()
        servers.expect("the new code answers")
        assert servers.ask() == "two"


class TestWatch:
    @pytest.fixture
    def folder(self, tmp_path):
        """A watched folder, and the queue of its events."""
        (tmp_path / "model.py").write_text("1")
        (tmp_path / "data.bin").write_text("1")
        events, stop, looked = SimpleQueue(), threading.Event(), threading.Semaphore(0)

        def look():
            looked.release()
            return state(tmp_path, [path.name for path in tmp_path.glob("*.py")])

        thread = threading.Thread(target=watch, args=(tmp_path, look, events, stop), daemon=True)
        thread.start()
        # The kernel tells from some moment after the first look on, and only changes are told: so change until one is.
        looked.acquire(timeout=DEADLINE)
        for attempt in range(100):
            (tmp_path / "data.bin").write_text(str(attempt))
            if looked.acquire(timeout=0.2):
                break
        yield tmp_path, events, looked
        stop.set()
        thread.join(DEADLINE)

    def test_each_way_to_change_a_file_counts(self, folder):
        path, events, _ = folder
        model = path / "model.py"
        model.write_text("22")
        assert events.get(timeout=DEADLINE).what == "changed"
        # As editors do, with the same size and time.
        status = model.stat()
        (path / "new").write_text("33")
        os.utime(path / "new", ns=(status.st_atime_ns, status.st_mtime_ns))
        (path / "new").rename(model)
        assert events.get(timeout=DEADLINE).what == "changed"
        (path / "more.py").write_text("1")
        assert events.get(timeout=DEADLINE).what == "changed"
        (path / "more.py").unlink()
        assert events.get(timeout=DEADLINE).what == "changed"

    def test_what_does_not_ship_does_not_count(self, folder):
        path, events, looked = folder
        (path / "data.bin").write_text("again")
        assert looked.acquire(timeout=DEADLINE)
        assert events.empty()
