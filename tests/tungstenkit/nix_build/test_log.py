"""Nix's log into a view and one error."""

import base64
import json

import pytest

from tests.tungstenkit.observers import View
from tungstenkit.data import NIX
from tungstenkit.nix_build.log import Log, UnsaidError, _without_colours, namespaces_refused


def log_of(*events):
    view = View()
    log = Log(view)
    for event in events:
        log.read(event if isinstance(event, str) else f"@nix {json.dumps(event)}\n")
    return log, view


DRV = "/nix/store/0123456789abcdfghijklmnpqrsvwxyz-layer-wheels.drv"
START = {"action": "start", "id": 7, "type": 105, "fields": [DRV, "", 1, 1], "level": 3, "text": "building"}
FAILED = {
    "action": "msg",
    "level": 0,
    "msg": f"\x1b[31;1merror:\x1b[0m builder for '{DRV}' failed with exit code 1",
}


def line(text):
    return {"action": "result", "id": 7, "type": 101, "fields": [text]}


def test_builds_are_told_to_the_view():
    _, view = log_of(
        START, {"action": "start", "id": 8, "type": 101, "fields": []}, {"action": "stop", "id": 7}
    )
    assert view.seen == ["+layer-wheels", "-layer-wheels"]


FAILED_LATER = {
    "action": "msg",
    "level": 0,
    "msg": "error: Cannot build '/nix/store/00000000000000000000000000000000-image.drv'.\n"
    "       Reason: \x1b[31;1m1 dependency failed\x1b[0m.\n"
    f"error: Cannot build '\x1b[35;1m{DRV}\x1b[0m'.\n"
    "       Reason: \x1b[31;1mbuilder failed with exit code 1\x1b[0m.",
}


ELSEWHERE = {**FAILED, "msg": FAILED["msg"].replace("/nix/store", "/home/a b/.local/share/store")}


@pytest.mark.parametrize("failed", [FAILED, FAILED_LATER, ELSEWHERE])
def test_a_failed_step_is_named_with_the_end_of_its_log(failed):
    log, _ = log_of(
        START, *(line(f"line {number}") for number in range(100)), line("error: x.whl: bad"), failed
    )
    error = log.error(1)
    assert error.where == "the build step layer-wheels"
    assert error.what.endswith("\nx.whl: bad")
    assert "line 10\n" not in error.what


@pytest.mark.parametrize(
    ("events", "word"),
    [
        ([START, line("write error: No space left on device"), FAILED], "disk is full"),
        (
            [{"action": "msg", "level": 0, "msg": "unable to download 'run-tungsten-fetch://…'"}],
            "tungsten fetch",
        ),
        (
            [
                f"error: a 'aarch64-linux' with features {{}} is required to build '{DRV}', but I am a 'x86_64-linux'"
            ],
            "runs programs for aarch64-linux, which this machine can't",
        ),
        (
            [f"error: Cannot build '{DRV}'.\nRequired system: 'aarch64-linux' with features {{}}"],
            "build the image on aarch64-linux",
        ),
        (["error: cannot connect to socket at '/nix/var'"], "cannot connect to socket"),
    ],
)
def test_what_a_user_can_mend_has_its_hint(events, word):
    log, _ = log_of(*events)
    assert word in str(log.error(1))


def test_a_build_that_says_nothing_gives_its_status():
    log, _ = log_of()
    assert "status 137" in str(log.error(137))


def test_an_error_of_no_words_is_none():
    """As Nix 2.8 prints that of a goal that it has given up."""
    log, _ = log_of({"action": "msg", "level": 0, "msg": "\x1b[31;1merror:\x1b[0m \x1b[35;1m\x1b[0m"})
    assert isinstance(log.error(1), UnsaidError)


def told(**fields):
    return line(f"@tungsten {json.dumps(fields)}")


SAID = {"what": "it fails:\nKeyError: 1", "where": "model.py, line 3", "hint": "do not"}


def test_what_a_step_says_itself_is_the_error():
    lines = [line(f"line {number}") for number in range(100)]
    log, view = log_of(START, *lines, told(kind="import", name="x", **SAID), line("error: words"), FAILED)
    error = log.error(1)
    assert (error.what, error.where, error.hint) == tuple(SAID.values())
    assert (error.step, error.told["kind"], error.told["name"]) == ("layer-wheels", "import", "x")
    assert error.told["log"].split("\n")[-1] == "line 99"
    assert not any("@tungsten" in seen for seen in view.seen)


def test_what_a_step_tells_programs_alone_is_known_beside_its_log():
    log, _ = log_of(START, told(kind="undeclared", requirements=["a>1"]), line("error: words"), FAILED)
    error = log.error(1)
    assert (error.what, error.where) == ("words", "the build step layer-wheels")
    assert error.told["requirements"] == ["a>1"]


@pytest.mark.parametrize(
    "text", ["@tungsten", "@tungsten {", "@tungsten []", '@tungsten {"kind": 1}', '@tungsten {"what": "x"}']
)
def test_what_is_no_such_line_is_a_line_of_the_log(text):
    log, view = log_of(START, line(text), FAILED)
    assert log.error(1).what == text
    assert f"layer-wheels: {text}" in view.seen


def test_what_a_step_says_of_itself_does_not_reach_the_terminal_as_more_than_text():
    log, _ = log_of(START, told(kind="x", what="a\x1b[2Jb", where="c", hint=7), FAILED)
    error = log.error(1)
    assert (error.what, error.where, error.hint) == ("ab", "c", None)


def test_a_file_of_another_hash_is_told_with_it():
    made = "ab" * 32
    got = base64.b64encode(bytes.fromhex(made)).decode()
    text = f"hash mismatch in fixed-output derivation '{DRV}':\n  specified: sha256-AA=\n     got:    sha256-{got}"
    log, _ = log_of(START, {"action": "msg", "level": 0, "msg": f"error: {text}"})
    error = log.error(1)
    assert (error.what, error.file, error.sha256) == (text, "layer-wheels", made)


def test_a_steps_notes_are_told_though_it_succeeds():
    _, view = log_of(
        START, told(kind="note", what="no GPU", where="m.py", hint="try"), {"action": "stop", "id": 7}
    )
    assert "note: no GPU\n  in:   m.py\n  hint: try" in view.seen


@pytest.mark.parametrize(
    "events",
    [
        [
            START,
            line('@tungsten {"kind": "namespaces-refused"}'),
            line("tungsten: whatever it says"),
            FAILED,
        ],
        [{"action": "msg", "level": 0, "msg": "error: cloning builder process: Operation not permitted"}],
        [{"action": "msg", "level": 0, "msg": "error: cloning builder process: No space left on device"}],
        [{"action": "msg", "level": 0, "msg": "error: mounting /proc: Operation not permitted"}],
        [
            {
                "action": "msg",
                "level": 0,
                "msg": "error: this system does not support the kernel namespaces that are required for sandboxing",
            }
        ],
        [
            "error: cannot perform a sandboxed build because user namespaces are not enabled; check /proc/sys/…"
        ],
    ],
)
def test_forbidden_namespaces_are_told_with_the_remedy(events):
    log, _ = log_of(*events)
    error = log.error(1)
    assert "does not allow user namespaces" in error.what
    assert "sysctl" in error.hint


@pytest.mark.parametrize(
    ("values", "hint"),
    [
        ({"kernel/unprivileged_userns_clone": "0"}, "`sysctl -w kernel.unprivileged_userns_clone=1` as root"),
        (
            {"kernel/apparmor_restrict_unprivileged_userns": "1", "user/max_user_namespaces": "10"},
            "`sysctl -w kernel.apparmor_restrict_unprivileged_userns=0` as root",
        ),
        ({"user/max_user_namespaces": "0"}, "`sysctl -w user.max_user_namespaces=100000` as root"),
    ],
)
def test_the_remedy_is_the_one_for_this_machine(tmp_path, values, hint):
    for name, value in values.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(f"{value}\n")
    assert namespaces_refused("said", tmp_path).hint == hint


def test_where_no_setting_forbids_it_a_container_may(tmp_path):
    hint = namespaces_refused("said", tmp_path).hint
    assert "--security-opt seccomp=unconfined --security-opt unmask=ALL, " in hint
    assert "--cap-add SYS_ADMIN" in hint


@pytest.mark.parametrize("program", ["enter.py", "run_commands.py", "step.sh"])
def test_what_a_step_says_of_forbidden_namespaces_is_known(program):
    assert "namespaces-refused" in (NIX / "tools" / program).read_text()
    log, _ = log_of(START, told(kind="namespaces-refused"), line("whatever it says"), FAILED)
    assert "sysctl" in log.error(1).hint


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("\x1b[1;31mred\x1b[0m", "red"),
        ("\x1b[2J\x1b[Hcleared", "cleared"),
        ("\x1b]0;a title\x07done", "done"),
        ("\x1b]52;c;cm0gLXJmIC8=\x1b\\done", "done"),
        ("\x1bP+q544e\x1b\\done", "done"),
        ("\x9b2Jdone\x08\x00", "2Jdone"),
        ("\x1b]8;;never ended", ""),
        ("10%\r20%\tdone\n", "10%\r20%\tdone\n"),
        ("größer", "größer"),
    ],
)
def test_what_a_step_says_is_text_alone(said, shown):
    """A step is somebody else's code, and the terminal is the user's."""
    assert _without_colours(said) == shown
