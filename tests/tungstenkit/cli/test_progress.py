"""What takes long says so, and what doesn't is silent."""

import threading

import pytest
from rich.console import Console

from tungstenkit.cli import progress
from tungstenkit.cli.terminal import TERMINAL, slow


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


@pytest.fixture
def shown(monkeypatch):
    """What stands on a terminal, or in a log."""

    def shown(terminal):
        written = Written()
        console = Console(file=written, force_terminal=terminal, force_interactive=terminal)
        monkeypatch.setattr(progress, "err", console)
        return written

    return shown


def test_what_takes_longer_is_said_while_it_goes_on(shown):
    terminal = shown(terminal=True)
    with slow("reading", seconds=0):
        assert terminal.something.wait(timeout=60)
    assert "reading" in terminal.text


def test_what_does_not_is_silent_and_waits_for_nothing(shown):
    terminal = shown(terminal=True)
    with slow("reading", seconds=3600):
        pass
    assert "reading" not in terminal.text


def test_a_log_is_the_same_on_a_slow_machine(shown):
    log = shown(terminal=False)
    with slow("reading", seconds=0):
        pass
    assert log.text == ""


@pytest.mark.parametrize("terminal", [True, False])
def test_an_error_comes_through(shown, terminal):
    shown(terminal)
    with pytest.raises(ValueError, match="on purpose"), slow("reading", seconds=3600):
        raise ValueError("on purpose")


def test_what_is_told_is_shown_as_it_is(shown):
    """No text from outside is taken for rich's markup."""
    log = shown(terminal=False)
    TERMINAL.notice("numpy [bold]1[/]")
    TERMINAL.warn("[red]odd[/]")
    with TERMINAL.working("solving") as report:
        report("sealing")
    with TERMINAL.fetching("reading") as bar:
        bar.start(2, 3_000_000)
        bar.start(1, 8_100)
    with TERMINAL.building() as view:
        view.begin("layer-wheels")
        view.note("a [note]")
    assert log.text.splitlines() == [
        "numpy [bold]1[/]",
        "warning: [red]odd[/]",
        "solving",
        "sealing",
        "reading 2 files, 3.0 MB",
        "reading 1 file, 8.1 kB",
        "building layer-wheels",
        "a [note]",
    ]


def test_what_was_locked_is_shown_by_its_lines(shown, monkeypatch):
    log = shown(terminal=False)
    monkeypatch.setattr("tungstenkit.cli.words.locked_lines", lambda made: [f"[bold]{made}[/]", "second"])
    TERMINAL.locked("first")
    assert log.text.splitlines() == ["first", "second"]


def test_the_steps_of_a_build_are_drawn_on_a_terminal_and_are_lines_in_a_log(shown):
    terminal = shown(terminal=True)
    with TERMINAL.building() as view:
        view.begin("layer-wheels")
        view.begin("layer-model")
        view.end("layer-wheels")
        view.note("a note")
    assert "building (1 done): layer-model" in terminal.text
    assert "a note" in terminal.text
    log = shown(terminal=False)
    with TERMINAL.building() as view:
        view.begin("layer-wheels")
        view.say("layer-wheels", "not the user's own")
        view.say("command-0", "the user's own")
        view.end("layer-wheels")
    assert log.text.splitlines() == ["building layer-wheels", "  the user's own"]
