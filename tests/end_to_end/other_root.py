"""Runs a command in the root of another system: `other_root.py ROOT UID SHOWN COMMAND…`.

It has mounts, processes and a name of its own; kernel, network and environment are this machine's, and the folders in
SHOWN, with colons between them, which are there under their own paths, to be read. It takes root to call, and nothing
of the other system but the command. By pivot_root(2), for who is in a chroot gets no namespaces of users.
"""

import ctypes
import os
import sys
from pathlib import Path

NEW = 0x20000 | 0x4000000 | 0x8000000 | 0x20000000  # mount, uts, ipc, pid: unshare(2)
PRIVATE, BIND, RECURSIVE, DETACH = 1 << 18, 1 << 12, 1 << 14, 2  # mount(2), umount2(2)
READ_ONLY = 1 | 1 << 5  # MS_RDONLY, MS_REMOUNT
PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}[os.uname().machine]
LIBC = ctypes.CDLL(None, use_errno=True)


def call(function, *arguments):
    """Call a function of the C library's; raises OSError."""
    given = [os.fsencode(one) if isinstance(one, str | Path) else one for one in arguments]
    if getattr(LIBC, function)(*given) != 0:
        raise OSError(ctypes.get_errno(), f"{function}: {os.strerror(ctypes.get_errno())}")


def enter(root, shown):
    """Make a folder this process's root."""
    call("mount", "none", "/", None, PRIVATE | RECURSIVE, None)
    call("mount", root, root, None, BIND | RECURSIVE, None)
    for path in ("/dev", "/sys", *shown):
        place = root / path.lstrip("/")
        place.mkdir(parents=True, exist_ok=True)
        call("mount", path, place, None, BIND | RECURSIVE, None)
    for path in shown:
        call("mount", "none", root / path.lstrip("/"), None, BIND | READ_ONLY, None)
    for name in ("proc", "tmp"):
        (root / name).mkdir(exist_ok=True)
    call("mount", "proc", root / "proc", "proc", 0, None)
    (root / "tmp").chmod(0o1777)
    os.chdir(root)
    call("syscall", PIVOT_ROOT, ".", ".")
    call("umount2", ".", DETACH)
    os.chdir("/")


def main(root, uid, shown, *command):
    """Run it; its exit status."""
    call("unshare", NEW)
    pid = os.fork()
    if pid == 0:
        enter(Path(root), shown.split(":"))
        os.setgroups([])
        os.setgid(int(uid))
        os.setuid(int(uid))
        os.execvp(command[0], command)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
