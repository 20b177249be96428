#!/usr/bin/env python3
"""Run a program in an image's root, laid out on this machine, apart but for the network: `run_root.py PLAN.json`.

PLAN: `root`, a folder with a place for all that is mounted in it; `binds`, what is mounted read-only, in order, as
pairs of a path and its place; `writable`, places that can be written; `user`, who the program is; `is-root`, whether
we are the machine's root; `command` and `environment`.
"""

from __future__ import annotations

import json
import os
import signal
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))

import apart

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn


def run_root(plan: dict[str, Any]) -> NoReturn:
    """Take this process's place. SIGTERM is passed on to the program, as a container's runtime does."""
    signal.signal(signal.SIGTERM, _pass_on)
    user: int = plan["user"]
    is_root: bool = plan["is-root"]
    machine = apart.leave(user, user, as_root=is_root)
    root: str = plan["root"]
    apart.bind_itself(root)
    # Before what is bound below them, which would be hidden.
    for place in plan["writable"]:
        apart.bind_itself(root + place)
    for source, place in plan["binds"]:
        apart.bind(source, root + place)
    apart.few_devices(f"{root}/dev")
    apart.bind("/sys", f"{root}/sys")
    try:
        apart.mount_processes(f"{root}/proc")
    except PermissionError:
        # Where a container hides parts of its own (mount_namespaces(7)).
        apart.mount_processes(f"{root}/proc", ours=False)
    apart.make_read_only(root)
    apart.enter(root)
    apart.as_child()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    apart.confine(machine, user, user, as_root=is_root)
    command: list[str] = plan["command"]
    os.execve(command[0], command, plan["environment"])  # noqa: S606


def _pass_on(number: int, _frame: object) -> None:
    """Send a signal on to who is waited for: the namespace's first process, and from there the program."""
    # In bytes: in the image's root Python can import nothing of its own any more.
    file = os.open(f"/proc/self/task/{os.getpid()}/children", os.O_RDONLY)
    children = os.read(file, 4096).split()
    os.close(file)
    if not children:
        os._exit(128 + number)
    for child in children:
        os.kill(int(child), number)


if __name__ == "__main__":
    with open(sys.argv[1], encoding="utf-8") as file:
        given = json.load(file)
    try:
        run_root(given)
    except apart.RefusedError as error:
        sys.exit(f"error: this machine does not allow user namespaces: {error}")
