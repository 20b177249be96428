import os

import pytest
from tungsten_server.words.logs import Log, LogPipe

from tests.server.conftest import wait_until


@pytest.fixture
def pipe():
    """A pipe whose reader has ended after the test."""
    pipe = LogPipe()
    pipe.start("log")
    yield pipe
    os.close(pipe.write_end)


def test_all_that_was_written_before_the_end_is_in_the_log(pipe):
    for text in (b"first", b"x" * 65536, b"half a line\r"):
        log = Log()
        with pipe.captured(log):
            os.write(pipe.write_end, text)
        assert log.text() == text.decode()


def test_what_is_written_before_or_after_is_not(pipe):
    log = Log()
    os.write(pipe.write_end, b"before")
    with pipe.captured(log):
        os.write(pipe.write_end, b"during")
    os.write(pipe.write_end, b"after")
    with pipe.captured(Log()):
        pass
    assert log.text() == "during"


def test_it_is_there_while_it_is_written_and_on_the_container_s_log(pipe, capfd):
    log = Log()
    with pipe.captured(log):
        os.write(pipe.write_end, b"50 %")
        wait_until(lambda: log.text() == "50 %", "the log")
    assert capfd.readouterr().err == "50 %"


def test_a_writer_is_never_blocked_by_a_log_that_nobody_asked_for(pipe, capfd):
    os.write(pipe.write_end, b"x" * 500_000)
    with pipe.captured(Log()):
        pass
    assert len(capfd.readouterr().err) == 500_000


def test_a_log_keeps_its_end_and_says_that_it_was_cut():
    log = Log(10)
    for text in (b"abc", b"defghijk", b"lm"):
        log.append(text)
        assert len(log) <= 10
    assert log.text().endswith("\ndefghijklm")
    assert "cut" in log.text()


def test_what_is_not_text_is_replaced():
    log = Log()
    log.append(b"a\xff\xc3")
    assert log.text() == "a��"
