"""What is told on the way is text, whoever has said it."""

import pytest

from tungstenkit.cli import progress
from tungstenkit.cli.terminal import TERMINAL
from tungstenkit.outside import plain

WORDS = "HTTP 500 \x1b]0;mine\x07\x1b[2J\x9b31m [red]\u202etxt\ud800 and\nmore"


@pytest.mark.parametrize("tell", [TERMINAL.warn, TERMINAL.notice])
def test_a_terminal_gets_nothing_that_it_obeys(tell, capsys, monkeypatch):
    monkeypatch.setattr(progress.err, "file", None)
    tell(WORDS)
    said = capsys.readouterr().err
    assert said.removeprefix("warning: ").splitlines() == [
        r"HTTP 500 \x1b]0;mine\x07\x1b[2J\x9b31m [red]\u202etxt\ud800 and",
        "more",
    ]


def test_words_that_are_seen_stay_as_they_are():
    assert plain("a\tb\n\u00e9 \u6f22 \U0001f600") == "a\tb\n\u00e9 \u6f22 \U0001f600"
