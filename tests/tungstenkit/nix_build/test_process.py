"""Nix as a process: in which sandbox, as whom, with how many steps, and its end."""

import json
import os
import pwd
import signal
import subprocess

import pytest

from tests.tungstenkit.observers import View
from tungstenkit import nix_program, store
from tungstenkit.machine import Room
from tungstenkit.nix_build import process
from tungstenkit.nix_build.log import Log
from tungstenkit.nix_build.process import _pace, check_daemon, run_build
from tungstenkit.sdk.errors import BuildError


def line(text):
    return {"action": "result", "id": 7, "type": 101, "fields": [text]}


@pytest.mark.parametrize(
    ("settings", "promised"),
    [
        ({}, False),
        ({"sandbox-fallback": False}, True),
        ({"sandbox-fallback": False, "sandbox": "relaxed"}, False),
        ({"trusted-users": ["root", "*"]}, True),
        ({"trusted-users": ["root", pwd.getpwuid(0).pw_name]}, True),
    ],
)
def test_a_daemon_must_promise_the_sandbox(monkeypatch, settings, promised):
    """Its own settings count, unless it trusts this user; these are the defaults of Debian's Nix."""
    promise(monkeypatch, settings, promised, uid=0)


def test_a_user_without_an_account_is_trusted_by_no_name(monkeypatch):
    """As in a container that was started with a number."""
    assert not {987654} & {entry.pw_uid for entry in pwd.getpwall()}
    promise(monkeypatch, {"trusted-users": ["root"]}, False, uid=987654)
    promise(monkeypatch, {"trusted-users": ["*"]}, True, uid=987654)


def promise(monkeypatch, settings, promised, uid):
    """See whether what a daemon says of itself is enough for a user."""
    monkeypatch.setattr(os, "geteuid", lambda: uid)
    monkeypatch.setenv("TUNGSTEN_NIX", "machine")
    shown = {"sandbox": True, "sandbox-fallback": True, "trusted-users": ["other"]} | settings
    text = json.dumps({name: {"value": value} for name, value in shown.items()})
    monkeypatch.setenv("NIX_REMOTE", "daemon")
    done = subprocess.CompletedProcess([], 0, text)
    monkeypatch.setattr(nix_program, "run", lambda *_, **__: done)
    if promised:
        check_daemon()
    else:
        with pytest.raises(BuildError, match="does not promise the sandbox"):
            check_daemon()


def test_a_user_without_an_account_is_trusted_by_no_name_but_everybody_s(monkeypatch):
    def nobody(number):
        raise KeyError(number)

    monkeypatch.setattr(process.pwd, "getpwuid", nobody)
    monkeypatch.setattr(process.grp, "getgrgid", nobody)
    assert process._names_of_user() == {"*"}


def test_nix_ends_with_us(monkeypatch, tmp_path):
    """Where a signal is not the terminal's, it does not reach Nix."""
    (tmp_path / "nix").write_text("#!/bin/sh\necho started >&2\nexec sleep 100\n")
    (tmp_path / "nix").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(process, "check_builders", lambda: None)
    monkeypatch.setattr(process, "check_daemon", lambda: None)
    monkeypatch.setattr(store, "options", list)  # which may ask Nix for its version
    started = []

    class Popen(subprocess.Popen):
        def __init__(self, *arguments, **options):
            started.append(self)
            super().__init__(*arguments, **options)

    def interrupted(log, line):
        raise KeyboardInterrupt

    monkeypatch.setattr(subprocess, "Popen", Popen)
    monkeypatch.setattr(Log, "read", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_build([], View(), tmp_path)
    assert [process.wait(9) for process in started] == [-signal.SIGTERM]


def test_root_does_not_build_as_itself(monkeypatch, tmp_path):
    monkeypatch.setattr(store, "builders", lambda: store.Builders.NONE)
    with pytest.raises(BuildError, match="must not be this machine's root") as caught:
        run_build([], View(), tmp_path)
    assert store.BUILD_USERS_COMMAND in (caught.value.hint or "")


GIB = 2**30


@pytest.mark.parametrize(
    ("cores", "free", "said", "expected"),
    [
        (2, 64 * GIB, set(), {"max-jobs": "2", "cores": "2"}),
        (64, 64 * GIB, set(), {"max-jobs": "4", "cores": "64"}),
        (8, 5 * GIB, set(), {"max-jobs": "2", "cores": "8"}),
        (8, GIB, set(), {"max-jobs": "1", "cores": "8"}),
        (8, None, set(), {"max-jobs": "1", "cores": "8"}),
        (2, 64 * GIB, {"max-jobs"}, {"cores": "2"}),
        (2, 64 * GIB, {"build-cores"}, {"max-jobs": "2"}),
        (2, 64 * GIB, {"cores", "build-max-jobs", "sandbox"}, {}),
    ],
)
def test_steps_run_side_by_side_as_the_machine_can_and_nobody_has_said_otherwise(
    monkeypatch, cores, free, said, expected
):
    monkeypatch.setattr(process, "processors", lambda: cores)
    monkeypatch.setattr(process, "memory", lambda: free and Room(64 * GIB, free))
    monkeypatch.setattr(store, "configured", lambda: said)
    options = _pace()
    assert set(options[::3]) <= {"--option"}
    assert dict(zip(options[1::3], options[2::3], strict=True)) == expected
