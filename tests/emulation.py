"""Runs a command where aarch64 programs start: `python emulation.py COMMAND…`.

The command gets namespaces of its own for users and mounts, and in them a binfmt_misc (Linux 6.7 and later) that
knows qemu; the machine's own stays as it is. Ids are the same inside as outside.
"""

import ctypes
import os
import shutil
import subprocess
import sys
from pathlib import Path

SYSTEM = "aarch64-linux"
PREFIX = [sys.executable, __file__]
_QEMU = "qemu-aarch64-static"
_BINFMT = "/proc/sys/fs/binfmt_misc"
_CLONE_NEWNS, _CLONE_NEWUSER = 0x00020000, 0x10000000
# The first 20 bytes of an ELF file: 64 bits, little-endian, an executable or a shared object, for aarch64.
_MAGIC = r"\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00"
_MASK = r"\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff"
# Written from outside, since only that keeps setgroups, which Nix calls.
_MAP = (
    "read go; for map in uid_map gid_map; do"
    ' while read inside outside count; do echo "$inside $inside $count"; done </proc/self/$map >/proc/$0/$map;'
    " done"
)


def missing():
    """Why nothing can be emulated here; None if it can."""
    if os.uname().machine != "x86_64":
        return "emulation is tested on x86-64"
    if os.geteuid() != 0:
        return "needs root"  # for a namespace of all users
    if shutil.which(_QEMU) is None:
        return f"needs {_QEMU}"
    tried = subprocess.run([*PREFIX, "true"], capture_output=True, text=True)
    return tried.stderr.strip().rpartition("\n")[2] if tried.returncode else None


def main():
    mapper = subprocess.Popen(["sh", "-euc", _MAP, str(os.getpid())], stdin=subprocess.PIPE)
    if ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWUSER | _CLONE_NEWNS) != 0:
        sys.exit(f"no namespaces: {os.strerror(ctypes.get_errno())}")
    mapper.communicate(b"go\n")
    if mapper.returncode != 0:
        sys.exit("the namespace of users can't be set up")
    subprocess.run(["mount", "-t", "binfmt_misc", "none", _BINFMT], check=True)
    # F: the interpreter is opened now, so that it works in any root.
    Path(_BINFMT, "register").write_text(f":{_QEMU}:M::{_MAGIC}:{_MASK}:{shutil.which(_QEMU)}:F")
    os.execvp(sys.argv[1], sys.argv[1:])


if __name__ == "__main__":
    main()
