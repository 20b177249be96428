"""What a server's log says of the model's faults."""

import pytest
from tungsten_server.worker import events, exceptions

from tungstenkit.data import SDK, SERVER
from tungstenkit.run import faults
from tungstenkit.run.faults import (
    fault_of,
    has_raised,
    has_refused,
    last_attempt,
    last_fault,
    own_frames,
    why_it_gave_up,
)


def log(*lines, event="[raised] setup failed: E: x"):
    head = "2026-01-01T00:00:00Z INFO tungsten.server: start"
    begin = f"2026-01-01T00:00:01Z ERROR tungsten.worker: {event}"
    return "\n".join([head, begin, *lines, "2026-01-01T00:00:02Z INFO tungsten.server: stopped", ""])


TRACEBACK = "Traceback (most recent call last):"
IN_SERVER = '  File "/opt/tungsten/server/lib/python3.11/site-packages/tungsten_server/worker/main.py", line 1, in main'
IN_MODEL = '  File "/app/tungsten_model.py", line 12, in predict'
IN_LIBRARY = '  File "/usr/local/lib/python3.11/dist-packages/lib/io.py", line 99, in read'


def test_the_place_is_the_innermost_frame_of_the_models():
    fault = last_fault(
        log(
            TRACEBACK,
            IN_SERVER,
            "    run()",
            "    ^^^",
            IN_MODEL,
            "    read()",
            IN_LIBRARY,
            "    x",
            "ValueError: bad",
        )
    )
    assert fault.where == "tungsten_model.py, line 12"
    assert fault.reason == "ValueError: bad"
    assert fault.frames.splitlines() == [TRACEBACK, IN_MODEL, "    read()", IN_LIBRARY, "    x"]
    assert fault.hint is None


def test_of_several_it_is_the_one_with_the_clients_reason():
    first = log(TRACEBACK, IN_MODEL, "    x", "E: a", event="[raised] predict failed: E: a")
    two_lines = log(
        TRACEBACK,
        IN_MODEL.replace("12", "3"),
        "    y",
        "E: b",
        "more",
        event="[raised] predict failed: E: b\nmore",
    )
    again = log(
        TRACEBACK, IN_MODEL.replace("12", "5"), "    x", "E: a", event="[raised] predict failed: E: a"
    )
    assert fault_of("E: a", first + two_lines).where == "tungsten_model.py, line 12"
    assert fault_of("E: b\nmore", first + two_lines + again).where == "tungsten_model.py, line 3"
    assert fault_of("E: a", first + two_lines + again).where == "tungsten_model.py, line 5"
    assert fault_of("E: c", first + two_lines) is None


def test_of_a_chain_the_last_exception_counts():
    other = IN_MODEL.replace("12", "3")
    chained = "During handling of the above exception, another exception occurred:"
    fault = last_fault(
        log(TRACEBACK, IN_MODEL, "    x", "A: a", "", chained, "", TRACEBACK, other, "    y", "B: b")
    )
    assert (fault.where, fault.reason) == ("tungsten_model.py, line 3", "B: b")
    only = last_fault(
        log(TRACEBACK, IN_MODEL, "    x", "A: a", "", chained, "", TRACEBACK, IN_LIBRARY, "    y", "B: b")
    )
    assert (only.where, only.reason) == ("tungsten_model.py, line 12", "B: b")


def test_a_message_may_have_several_lines():
    message = [
        "pydantic_core.ValidationError: 1 validation error for Output",
        "image",
        "  a file, not a PIL picture",
    ]
    fault = last_fault(
        log(TRACEBACK, IN_MODEL, "    x", "    ^", "  [Previous line repeated 9 more times]", *message)
    )
    assert fault.reason.splitlines() == message
    assert fault.frames.endswith("9 more times]")


def test_a_syntax_error_has_its_own_line():
    fault = last_fault(
        log(TRACEBACK, IN_SERVER, '  File "/app/net.py", line 3', "    def (", "SyntaxError: invalid")
    )
    assert fault.where == "net.py, line 3"


def test_the_last_fault_of_several_counts():
    text = log(TRACEBACK, IN_MODEL, "A: a") + log(
        TRACEBACK, IN_MODEL.replace("12", "5"), "B: b", event="[raised] batch failed"
    )
    assert last_fault(text).where == "tungsten_model.py, line 5"


@pytest.mark.parametrize("text", ["", "T INFO tungsten.server: start\n", log()])
def test_without_a_traceback_the_code_is_not_at_fault(text):
    assert last_fault(text) is None


def test_a_folder_of_another_place(tmp_path):
    (tmp_path / "git").mkdir()
    lines = (
        TRACEBACK,
        f'  File "{tmp_path}/a/b.py", line 2, in f',
        "    import git.x",
        "ModuleNotFoundError: No module named 'git.x'",
    )
    assert last_fault(log(*lines)).where is None
    fault = last_fault(log(*lines), str(tmp_path), tmp_path)
    assert fault.where == "a/b.py, line 2"


def test_a_program_that_is_missing_is_told_so():
    child = '  File "/usr/lib/python3.11/subprocess.py", line 1955, in _execute_child'
    reason = "FileNotFoundError: [Errno 2] No such file or directory: 'ffmpeg'"
    assert (
        "`apt-file search bin/ffmpeg`"
        in last_fault(log(TRACEBACK, IN_MODEL, "    x", child, "    y", reason)).hint
    )
    assert last_fault(log(TRACEBACK, IN_MODEL, "    x", reason)).hint is None


def test_only_the_servers_frames_are_left_out():
    text = "\n".join(["printed", TRACEBACK, IN_SERVER, "    run()", IN_MODEL, "    x", "E: e"])
    assert own_frames(text).splitlines() == ["printed", TRACEBACK, IN_MODEL, "    x", "E: e"]


def test_what_is_read_is_what_the_server_writes():
    written = {value for name, value in vars(events).items() if name.isupper()}
    assert written == {faults.RAISED, faults.INPUT_REFUSED, faults.SETUP_FAILED, faults.GAVE_UP}
    files = [file for folder in (SDK, SERVER) for file in folder.rglob("*.py")]
    quoted = {mark for word in written for mark in (f'"{word}"', f"[{word}]")}
    knowing = {file.name for file in files if any(mark in file.read_text() for mark in quoted)}
    assert knowing == {"events.py", "faults.py"}


def test_what_a_model_process_writes_is_understood_however_it_is_worded(capfd):
    def said(word):
        try:
            raise ValueError("bad")
        except ValueError as error:
            print("half a line", end=" ", flush=True)
            exceptions.log("whatever", error, word)
        return "".join(capfd.readouterr())

    raised, refused = said(events.RAISED), said(events.INPUT_REFUSED)
    assert [has_raised(text) for text in ("", raised, refused)] == [False, True, True]
    assert [has_refused(text) for text in ("", raised, refused)] == [False, False, True]
    assert last_fault(raised).reason == last_fault(refused).reason == "ValueError: bad"


def test_a_line_may_begin_behind_what_the_model_has_printed():
    text = log(TRACEBACK, IN_MODEL, "    x", "ValueError: bad").replace("2026-01-01T00:00:01Z", " 50% 12 s")
    assert last_fault(text).where == "tungsten_model.py, line 12"


def test_a_line_without_a_word_says_nothing_to_programs():
    text = "T ERROR tungsten.worker: raised\nT ERROR tungsten.server: gave-up: no weights\n"
    assert not has_raised(text)
    assert why_it_gave_up(text) is None
    assert why_it_gave_up(text + "T ERROR tungsten.server: [gave-up] a\n") == "a"


def test_of_several_setups_the_last_is_shown():
    one = "printed {0}\nT ERROR tungsten.model: [setup-failed] ({0} of 3): E"
    assert last_attempt(one.format(1)) == one.format(1)
    assert last_attempt("\n".join(one.format(number) for number in (1, 2, 3))) == one.format(3)
