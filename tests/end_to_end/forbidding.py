"""Runs a command as root of a user namespace that allows no further ones, as a machine may: `forbidding.py COMMAND …`.

Exit status 99 where there is no user namespace to forbid more in. Nothing outside of the namespace changes.
"""

import ctypes
import os
import sys
from pathlib import Path

CLONE_NEWNS, CLONE_NEWUSER = 0x20000, 0x10000000  # unshare(2)


def main(command):
    made_read, made_write = os.pipe()
    go_read, go_write = os.pipe()
    pid = os.fork()
    if pid == 0:
        if ctypes.CDLL(None).unshare(CLONE_NEWNS | CLONE_NEWUSER) != 0:
            os._exit(99)
        os.write(made_write, b"x")
        os.read(go_read, 1)
        os.setgid(0)
        os.setuid(0)
        Path("/proc/sys/user/max_user_namespaces").write_text("0")
        os.execvp(command[0], command)
    os.close(made_write)
    if os.read(made_read, 1):
        for name in ("uid_map", "gid_map"):
            Path(f"/proc/{pid}/{name}").write_text("0 0 4294967295")
        os.write(go_write, b"x")
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
