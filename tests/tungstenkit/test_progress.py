"""What takes long says so, and what doesn't is silent."""

import threading

import pytest
from rich.console import Console

from tungstenkit import progress


class Written:
    """A file that says when something was written to it."""

    def __init__(self):
        self.text = ""
        self.something = threading.Event()

    def write(self, text):
        self.text += text
        self.something.set()

    def flush(self):
        pass


@pytest.fixture(params=[False, True], ids=["log", "terminal"])
def written(monkeypatch, request):
    written = Written()
    console = Console(file=written, force_terminal=request.param, force_interactive=request.param)
    monkeypatch.setattr(progress, "err", console)
    return written


def test_what_takes_longer_is_said_while_it_goes_on(written):
    with progress.slow("reading", seconds=0):
        assert written.something.wait(timeout=60)
    assert "reading" in written.text


def test_what_does_not_is_silent_and_waits_for_nothing(written):
    with progress.slow("reading", seconds=3600):
        pass
    assert "reading" not in written.text


def test_an_error_comes_through(written):
    with pytest.raises(ValueError, match="on purpose"), progress.slow("reading", seconds=3600):
        raise ValueError("on purpose")
