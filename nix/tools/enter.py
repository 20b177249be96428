#!/usr/bin/env python3
"""Run a program in an image's root, apart from all else: `enter.py TREE WRITABLE BOUND PROGRAM ARGUMENT…`.

TREE: a folder whose folders are those of the root. WRITABLE and BOUND: files of lines, in pairs: what lies where in
that root, too, and what of it can be written. The program is called root there, and can do nothing that root can.
"""

from __future__ import annotations

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))

import apart

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

_NOT_THE_TREES = ("dev", "proc", "sys", "tmp")


def enter(tree: str, writable: str, bound: str, command: list[str]) -> NoReturn:
    """Take this process's place."""
    machine = apart.leave(0, 0)
    ours, theirs = _pairs(writable), _pairs(bound)
    # A whole folder of these is somewhere else.
    taken = {target for _, target in (*ours, *theirs)}
    names = [name for name in os.listdir(tree) if name not in _NOT_THE_TREES and f"/{name}" not in taken]
    root = apart.Root()
    for name in sorted(names):
        root.bind(f"{tree}/{name}", f"/{name}")
    for source, target in ours:
        root.bind(source, target, writable=True)
    for source, target in theirs:
        root.bind(source, target)
    root.devices()
    root.folder("/proc")
    apart.mount_processes("/proc")
    root.close()
    apart.as_child()
    apart.confine(machine, 0, 0)
    os.chdir("/")
    os.execv(command[0], command)  # noqa: S606


def _pairs(path: str) -> list[tuple[str, str]]:
    with open(path, encoding="utf-8", errors="surrogateescape") as file:
        lines = file.read().split("\n")
    return list(zip(lines[::2], lines[1::2]))


if __name__ == "__main__":
    try:
        enter(sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4:])
    except apart.RefusedError as error:
        # As `program.tell` does, without bringing in what writes JSON.
        print('@tungsten {"kind": "namespaces-refused"}', file=sys.stderr)
        sys.exit(f"tungsten: this machine does not allow user namespaces, which build steps need: {error}")
    except OSError as error:
        sys.exit(f"error: {error.strerror}: {error.filename or sys.argv[4]}")
