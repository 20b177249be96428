"""What a server's log says of the model's faults."""

import pytest

from tungstenkit.nix_build.faults import last_fault, own_frames, package_hint


def log(*lines, event="setup failed: E: x"):
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
        TRACEBACK, IN_MODEL.replace("12", "5"), "B: b", event="batch failed"
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


def test_what_is_missing_is_told_as_the_import_check_of_a_build_tells_it(tmp_path):
    assert package_hint("ModuleNotFoundError: No module named 'cv2'").startswith(
        "add 'opencv-python-headless' to python"
    )
    assert (
        package_hint("ModuleNotFoundError: No module named 'tkinter'")
        == "add 'python3-tk' to system_packages"
    )
    assert "libGL.so.1" in package_hint(
        "ImportError: libGL.so.1: cannot open shared object file: No such file"
    )
    (tmp_path / "own").mkdir()
    assert package_hint("ModuleNotFoundError: No module named 'own.x'", tmp_path).startswith(
        "the folder of the same name"
    )
    assert package_hint("ValueError: x") is None


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
