"""What stands between a server and the process that wants it."""

import json
import os
import signal
import subprocess
import sys
from contextlib import contextmanager

import pytest

from tungstenkit.run import keeper

# The least time is waited for a server that does not end.
KEEPER = "import runpy, sys; names = runpy.run_path(sys.argv.pop(1)); main = names['main'];"
GRACE = "main.__globals__['GRACE_MS'] = 1;"
CALL = "import json; main(int(sys.argv[1]), json.loads(sys.argv[2]), sys.argv[3:])"


@contextmanager
def kept(script, scratch, *, kill=None, grace=""):
    """A server that runs a script, with its keeper; the process, and the pipe's end that is ours."""
    theirs, ours = os.pipe()
    plan = json.dumps({"kill": kill, "scratch": str(scratch)})
    command = [sys.executable, "-c", KEEPER + grace + CALL, keeper.__file__, str(theirs), plan]
    with subprocess.Popen(
        [*command, sys.executable, "-c", script],
        pass_fds=[theirs],
        stdout=subprocess.PIPE,
        start_new_session=True,
        text=True,
    ) as process:
        os.close(theirs)
        yield process, ours


@pytest.fixture
def deep(tmp_path):
    """A folder that `shutil.rmtree` does not remove."""
    folder = tmp_path / "deep"
    folder.mkdir()
    file = os.open(folder, os.O_RDONLY)
    for _ in range(sys.getrecursionlimit() + 100):
        os.mkdir("x", dir_fd=file)
        inner = os.open("x", os.O_RDONLY, dir_fd=file)
        os.close(file)
        file = inner
    os.close(file)
    yield folder
    subprocess.run(["rm", "-rf", str(folder)], check=True)


def test_a_servers_own_end_is_passed_on(tmp_path):
    for script, status in (("raise SystemExit(5)", 5), ("import os; os.kill(os.getpid(), 9)", -9)):
        with kept(script, tmp_path) as (process, ours):
            assert process.wait() == status
        os.close(ours)
    assert tmp_path.exists(), "whoever has started it removes it"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signals_are_passed_on(tmp_path, number):
    script = (
        "import signal, sys; signal.signal(NUMBER, lambda *_: sys.exit(3));"
        "print('ready', flush=True); signal.pause()"
    ).replace("NUMBER", str(int(number)))
    with kept(script, tmp_path) as (process, ours):
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        assert process.wait() == 3
    os.close(ours)


@pytest.mark.parametrize("obeys", [True, False])
def test_with_who_wants_it_the_server_ends_and_all_that_is_its(tmp_path, obeys):
    scratch, marker = tmp_path / "scratch", tmp_path / "removed"
    scratch.mkdir()
    (scratch / "spec.json").touch()
    kill = [sys.executable, "-c", f"open({str(marker)!r}, 'w')"]
    ignore = "" if obeys else "signal.signal(15, signal.SIG_IGN);"
    # A child in its session, such as a model process, holds the pipe for as long as it lives.
    script = f"import os, signal; {ignore} os.fork() or signal.pause(); print(os.getpid(), flush=True); signal.pause()"
    with kept(script, scratch, kill=kill, grace=GRACE) as (process, ours):
        process.stdout.readline()
        os.close(ours)
        assert process.stdout.read() == ""
        assert process.wait() == -signal.SIGKILL
    assert marker.exists()
    assert not scratch.exists()


@pytest.mark.parametrize("what", ["an engine that is gone", "folders too deep to be removed"])
def test_nothing_that_fails_then_leaves_a_process(tmp_path, deep, what):
    kill = [str(tmp_path / "none")] if "engine" in what else None
    scratch = tmp_path if "engine" in what else deep
    script = "import os, signal; os.fork() or signal.pause(); print(os.getpid(), flush=True); signal.pause()"
    with kept(script, scratch, kill=kill, grace=GRACE) as (process, ours):
        process.stdout.readline()
        os.close(ours)
        assert process.wait() == -signal.SIGKILL
        assert process.stdout.read() == ""
