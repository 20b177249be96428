"""A program that makes the namespaces which builds need, one after the other, and says in JSON at which it failed.

They are Nix's for its sandbox, and below it those that steps are kept apart in (`nix/tools/lib/apart.py`); for root
also mounts of its own without another user, in which a model's module is read. Nothing outside of them changes, and
they end with it. It is run by itself, by an interpreter with one thread.
"""

import ctypes
import json
import os
import signal
from pathlib import Path

# unshare(2), mount(2), prctl(2)
_NEWNS, _NEWUTS, _NEWIPC = 0x00020000, 0x04000000, 0x08000000
_NEWUSER, _NEWPID, _NEWNET = 0x10000000, 0x20000000, 0x40000000
_MS_REC, _MS_PRIVATE = 0x4000, 1 << 18
_MNT_DETACH = 2
_PR_SET_PDEATHSIG = 1
_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}

_NEW = "/tmp"  # noqa: S108
"""Where a new root is mounted: a folder that is everywhere."""
_DEPTH = 3
"""So many user namespaces lie in the first one, in a build: busybox's, and the two of `apart`."""


def main() -> None:
    """Try them in order."""
    libc = ctypes.CDLL(None, use_errno=True)
    step = "user"
    try:
        uid, gid = os.geteuid(), os.getegid()
        refused = _roots(libc) if uid == 0 and _has_other_ids() else 0
        _checked(libc.unshare(_NEWUSER))
        step = "ids"
        _map(uid, gid)
        step = "mounts"
        _checked(libc.unshare(_NEWNS | _NEWUTS | _NEWIPC | _NEWPID | _NEWNET))
        _mount(libc, b"none", b"/", None, _MS_REC | _MS_PRIVATE)
        child = os.fork()
        if child:
            os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) & 0xFF)
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        step = "root"
        _mount(libc, b"tmpfs", _NEW.encode(), b"tmpfs", 0)
        Path(_NEW, "proc").mkdir()
        Path(_NEW, "old").mkdir()
        step = "proc"
        _mount(libc, b"proc", f"{_NEW}/proc".encode(), b"proc", 0)
        step = "name"
        _checked(libc.sethostname(b"localhost", len(b"localhost")))
        step = "root"
        # Where there is no such call known, it is not tried.
        if number := _PIVOT_ROOT.get(os.uname().machine):
            _checked(libc.syscall(number, _NEW.encode(), f"{_NEW}/old".encode()))
            os.chdir("/")
            _checked(libc.umount2(b"/old", _MNT_DETACH))
        step = "nested"
        for _ in range(_DEPTH):
            _checked(libc.unshare(_NEWUSER | _NEWNS))
            _map(uid, gid)
        # Where a container grants less than all, that is told first: it is granted together.
        step = "root's"
        if refused:
            raise OSError(refused, os.strerror(refused))
        step = ""
    except OSError as problem:
        _tell({"failed": step, "errno": problem.errno, "said": problem.strerror})
        os._exit(1)
    _tell({"failed": step})
    os._exit(0)


def _roots(libc: ctypes.CDLL) -> int:
    """Why root may have no mounts of its own (errno(3)); 0 where it may."""
    child = os.fork()
    if child == 0:
        os._exit(ctypes.get_errno() if libc.unshare(_NEWNS) < 0 else 0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _has_other_ids() -> bool:
    """Whether root is more than whoever has made this user namespace."""
    lines = Path("/proc/self/uid_map").read_text(encoding="ascii").splitlines()
    return sum(int(line.split()[2]) for line in lines) > 1


def _tell(what: object) -> None:
    os.write(1, json.dumps(what).encode())


def _map(uid: int, gid: int) -> None:
    for name, text in (("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1")):
        Path("/proc/self", name).write_text(text, encoding="ascii")


def _mount(libc: ctypes.CDLL, source: bytes, target: bytes, kind: bytes | None, flags: int) -> None:
    _checked(libc.mount(source, target, kind, flags, None))


def _checked(result: int) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


if __name__ == "__main__":
    main()
