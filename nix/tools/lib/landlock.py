"""What shares the machine's network is kept from its abstract sockets, by Landlock (landlock(7)).

Abstract sockets (unix(7)) belong to a network namespace and to no folder, so neither modes nor a root of its own keep a
step from them: desktops, D-Bus and container engines listen on some.
"""

from __future__ import annotations

_CREATE_RULESET, _RESTRICT_SELF = 444, 446  # the same on every architecture (<asm-generic/unistd.h>)
_VERSION = 1  # LANDLOCK_CREATE_RULESET_VERSION
_SCOPES_SINCE = 6  # Linux 6.12
_ABSTRACT_UNIX_SOCKET = 1
_NO_NEW_PRIVILEGES = 38  # <linux/prctl.h>


def forbid_abstract_sockets() -> bool:
    """Keep this process, and what it starts from now on, from others' sockets; False where that can't be."""
    try:
        import ctypes
    except ImportError:  # A base image's Python may lack it.
        return False

    class Ruleset(ctypes.Structure):
        _fields_ = (("files", ctypes.c_uint64), ("network", ctypes.c_uint64), ("scoped", ctypes.c_uint64))

    system = ctypes.CDLL(None, use_errno=True)
    if system.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), _VERSION) < _SCOPES_SINCE:
        return False
    rules = Ruleset(0, 0, _ABSTRACT_UNIX_SOCKET)
    descriptor = system.syscall(
        _CREATE_RULESET, ctypes.byref(rules), ctypes.c_size_t(ctypes.sizeof(rules)), 0
    )
    if descriptor < 0 or system.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0) != 0:
        return False
    try:
        return bool(system.syscall(_RESTRICT_SELF, descriptor, 0) == 0)
    finally:
        system.close(descriptor)
