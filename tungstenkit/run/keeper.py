"""Run by path, stands between a server and the process that wants it, and ends the server with that process.

`keeper.py FD PLAN COMMAND…`. FD: the end of a pipe that nobody writes to, and whose other end that process alone has:
it is closed when it ends, in whatever way. PLAN: JSON; `kill`, a command that ends what killing the server leaves, or
null; `scratch`, a folder that is removed with it.

Signals are passed on, and so is the way in which the server has ended.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import sys

GRACE_MS = 5000
"""In which a server may end that nobody waits for any more."""

_PASSED_ON = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def main(end: int, plan: dict[str, object], command: list[str]) -> None:
    """See the module."""
    os.set_inheritable(end, False)
    # None is lost between the server's start and our knowing it.
    signal.pthread_sigmask(signal.SIG_BLOCK, _PASSED_ON)
    child = os.posix_spawnp(command[0], command, os.environ, setsigmask=())
    ended = os.pidfd_open(child)
    for number in _PASSED_ON:
        signal.signal(number, lambda number, _: _send(ended, number))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _PASSED_ON)

    waiting = select.poll()
    waiting.register(ended, select.POLLIN)
    waiting.register(end, select.POLLIN)
    if ended not in dict(waiting.poll()):
        _end_alone(ended, plan)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    if code >= 0:
        sys.exit(code)
    with contextlib.suppress(OSError):  # SIGKILL's can't be set, and need not
        signal.signal(-code, signal.SIG_DFL)
    os.kill(os.getpid(), -code)


def _send(ended: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(ended, number)


def _end_alone(ended: int, plan: dict[str, object]) -> None:
    """End the server, and with it all that is left, ourselves included."""
    # Rarely needed, and each start would wait for it.
    import shutil
    import subprocess

    for number in _PASSED_ON:
        signal.signal(number, signal.SIG_IGN)
    waiting = select.poll()
    waiting.register(ended, select.POLLIN)
    _send(ended, signal.SIGTERM)
    if not waiting.poll(GRACE_MS):
        _send(ended, signal.SIGKILL)
    try:
        if plan["kill"]:
            # Of the container that was killed is only the engine's client.
            subprocess.run(plan["kill"], capture_output=True, check=False)  # type: ignore[call-overload]
        shutil.rmtree(str(plan["scratch"]), ignore_errors=True)
    finally:
        # What a server has started and lost is in its session, and goes though an engine is gone by now, or a model has
        # left folders too deep to be removed.
        os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    main(int(sys.argv[1]), json.loads(sys.argv[2]), sys.argv[3:])
