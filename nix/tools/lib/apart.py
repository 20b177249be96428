"""Runs code that is not ours apart from the machine and from what others build on.

Two user namespaces lie between such code and whoever runs it. In the outer one we may mount, and make a root of what
the code is to see; the inner one lies below, so that every mount of that root is locked in it (mount_namespaces(7)):
nothing can be made writable again, or be taken away to see what lies below. There the code runs without capabilities
and without a way to any (no_new_privs, an empty bounding set, no further user namespaces), with keys of its own.

In the order of their use: `leave`, `Root`, `as_child`, `confine`. Whatever calls them has one thread.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import resource
import signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import NoReturn

# mount(2), umount(2), unshare(2)
_MS_RDONLY, _MS_NOSUID, _MS_NODEV, _MS_NOEXEC, _MS_REMOUNT = 1, 2, 4, 8, 32
_MS_BIND, _MS_REC, _MS_PRIVATE = 4096, 16384, 1 << 18
_MNT_DETACH = 2
_NEWNS, _NEWIPC, _NEWUSER = 0x00020000, 0x08000000, 0x10000000
_NEWPID, _NEWNET = 0x20000000, 0x40000000

# prctl(2), capabilities(7), keyctl(2)
_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS = 1, 4, 24, 38
_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL = 47, 4
_CAPABILITY_VERSION_3 = 0x20080522
_KEYCTL_JOIN_SESSION_KEYRING = 1
DAC_OVERRIDE = 1
"""The capability to read and write, whatever their modes, the files that one owns."""

# The numbers of calls that the C library has no function for.
_CALLS = {"x86_64": {"pivot_root": 155, "keyctl": 250}, "aarch64": {"pivot_root": 41, "keyctl": 219}}
_OPEN_TREE, _MOVE_MOUNT, _MOUNT_SETATTR = 428, 429, 442
_OPEN_TREE_CLONE, _AT_RECURSIVE, _AT_EMPTY_PATH, _FROM_FILE = 1, 0x8000, 0x1000, 4
_AT_FDCWD, _ATTR_IDMAP = -100, 0x00100000

_KEPT = os.ST_RDONLY | os.ST_NOSUID | os.ST_NODEV | os.ST_NOEXEC | os.ST_NOATIME | os.ST_NODIRATIME
"""What stays of a mount whose flags change; the bits are those of mount(2)."""

_NEW = "/tmp"  # noqa: S108
"""Where a new root is mounted at first: a folder that is everywhere."""
_OLD = "/.machine"
"""Where what was the root is, until the new one is whole."""
_DEVICES = ("full", "null", "random", "urandom", "zero")
_READ_ONLY_OF_PROC = ("bus", "fs", "irq", "sys", "sysrq-trigger")
"""As container runtimes have it."""
_PROCESSES = 4096
"""As many may code that is not ours have at once."""

_libc = ctypes.CDLL(None, use_errno=True)


class RefusedError(Exception):
    """This machine does not allow the namespaces; its text is what the system says."""


class Machine:
    """What `leave` keeps for `confine`: the old /proc, by which a process sets what is its own."""

    def __init__(self) -> None:
        """As long as the old root is there."""
        self._proc = os.open("/proc", os.O_PATH | os.O_CLOEXEC)

    def write(self, name: str, text: str) -> None:
        """Write to a file of /proc."""
        file = os.open(name, os.O_WRONLY | os.O_CLOEXEC, dir_fd=self._proc)
        try:
            os.write(file, text.encode())
        finally:
            os.close(file)

    def new_user(self, uid: int, gid: int) -> None:
        """Go to a user namespace in which we have these ids, and there are no others."""
        was = os.geteuid(), os.getegid()
        _checked(_libc.unshare(_NEWUSER))
        self.write("self/setgroups", "deny")
        self.write("self/uid_map", f"{uid} {was[0]} 1")
        self.write("self/gid_map", f"{gid} {was[1]} 1")

    def close(self) -> None:
        """Let the old /proc go."""
        os.close(self._proc)


def separate(uid: int, gid: int, *, as_root: bool = False, more: int = 0) -> Machine:
    """Go to namespaces of our own for users and mounts.

    uid, gid: what we are called there. as_root: whether we are the machine's root, and stay it until `confine`; that
    takes no user namespace. more: flags of unshare(2). Raises RefusedError.
    """
    machine = Machine()
    try:
        if not as_root:
            machine.new_user(uid, gid)
        _checked(_libc.unshare(_NEWNS | more))
        _mount("none", "/", None, _MS_REC | _MS_PRIVATE)
    except OSError as error:
        raise RefusedError(error.strerror) from None
    return machine


def leave(uid: int, gid: int, *, network: bool = True, as_root: bool = False) -> Machine:
    """The same, and for processes, what these share, and where `network` is False for that, too.

    Returns in the first process there, whose end is that of all others. The process that has called this waits for that
    one, and ends as it does; where it is killed, so is that one.
    """
    machine = separate(uid, gid, as_root=as_root, more=_NEWPID | _NEWIPC | (0 if network else _NEWNET))
    child = os.fork()
    if child:
        _end_as(child)
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    return machine


def as_child() -> None:
    """Go on in a child; this process waits for it, and for whatever is left to it, and ends as the child does.

    The first process of a namespace gets no signal from within, so it is none for code that may want to.
    """
    child = os.fork()
    if child:
        _end_as(child)


def _end_as(child: int) -> NoReturn:
    status = 1
    ended = 0
    while ended != child:
        with contextlib.suppress(InterruptedError):
            ended, status = os.wait()
    # As shells say it.
    os._exit(128 + os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status))


class Root:
    """A root that is being made of what the machine has. What is not said to be writable is read-only."""

    def __init__(self) -> None:
        """Begin with an empty one; what was the root is at `_OLD` meanwhile."""
        _mount("tmpfs", _NEW, "tmpfs", _MS_NOSUID | _MS_NODEV, "mode=0755,size=16m")
        os.mkdir(_NEW + _OLD)
        _pivot(_NEW, _NEW + _OLD)

    def folder(self, path: str) -> None:
        """Make a folder, and those above it."""
        os.makedirs(path, 0o755, exist_ok=True)

    def write(self, path: str, text: str) -> None:
        """Write a file."""
        self.folder(os.path.dirname(path))
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)

    def bind(self, source: str, target: str, *, writable: bool = False, owner: int | None = None) -> None:
        """Show a folder, a file or a link of the machine's.

        owner: who is to own there what its owner has, where the kernel and the file system can show it so; for the
        machine's root alone.
        """
        bind(_OLD + source, target, writable=writable, owner=owner)

    def devices(self) -> None:
        """The machine's /dev."""
        self.folder("/dev")
        bind_devices("/dev", f"{_OLD}/dev")

    def few_devices(self) -> None:
        """Of /dev what every program may want."""
        few_devices("/dev", f"{_OLD}/dev")

    def scratch(self, path: str) -> None:
        """An empty folder that everyone may write, in memory."""
        scratch(path)

    def close(self) -> None:
        """Be left with it alone."""
        _checked(_libc.umount2(os.fsencode(_OLD), _MNT_DETACH), _OLD)
        os.rmdir(_OLD)
        make_read_only("/")


def bind(source: str, target: str, *, writable: bool = False, owner: int | None = None) -> None:
    """As `Root.bind`, of paths as they are."""
    if os.path.islink(source):
        os.symlink(os.readlink(source), target)
        return
    if os.path.isdir(source):
        os.makedirs(target, exist_ok=True)
    elif not os.path.exists(target):
        os.makedirs(os.path.dirname(target), exist_ok=True)
        _touch(target)
    if owner is None or not _bind_as(source, target, owner):
        _mount(source, target, None, _MS_BIND | _MS_REC)
    _restrict(target, 0 if writable else _MS_RDONLY)


def scratch(folder: str) -> None:
    """An empty folder that everyone may write, in memory."""
    os.makedirs(folder, exist_ok=True)
    _mount("tmpfs", folder, "tmpfs", _MS_NOSUID | _MS_NODEV, "mode=1777,size=256m")


def few_devices(folder: str, devices: str = "/dev") -> None:
    """Of the machine's /dev what every program may want."""
    os.makedirs(folder, exist_ok=True)
    for name in _DEVICES:
        if os.path.exists(f"{devices}/{name}"):
            _touch(f"{folder}/{name}")
            bind_device(f"{devices}/{name}", f"{folder}/{name}")
    os.symlink("/proc/self/fd", f"{folder}/fd")
    scratch(f"{folder}/shm")


def make_read_only(folder: str) -> None:
    """Of a mount itself; what is mounted below it stays as it is."""
    _mount("none", folder, None, _MS_REMOUNT | _MS_BIND | _MS_RDONLY | _flags(folder))


def mount_processes(folder: str, *, ours: bool = True) -> None:
    """A /proc in which the machine's settings can't be written; its processes are those of our namespace.

    ours: whether we are the first process of one, or else in that of whoever made the old /proc, which is taken then.
    """
    if ours:
        _mount("proc", folder, "proc", _MS_NOSUID | _MS_NODEV | _MS_NOEXEC)
    else:
        _mount("/proc", folder, None, _MS_BIND | _MS_REC)
    for name in _READ_ONLY_OF_PROC:
        path = f"{folder}/{name}"
        if os.path.exists(path):
            _mount(path, path, None, _MS_BIND | _MS_REC)
            _restrict(path, _MS_RDONLY)


def bind_device(source: str, target: str) -> None:
    """Show one device of the machine's."""
    _mount(source, target, None, _MS_BIND)


def bind_devices(folder: str, devices: str = "/dev") -> None:
    """The machine's /dev; nothing new appears in it."""
    _mount(devices, folder, None, _MS_BIND | _MS_REC)
    _mount("none", folder, None, _MS_REMOUNT | _MS_BIND | _MS_NOSUID | _MS_RDONLY | _flags(folder))


def bind_itself(folder: str) -> None:
    """Make a folder a mount, as the root of `enter` must be."""
    _mount(folder, folder, None, _MS_BIND)
    _mount("none", folder, None, _MS_REMOUNT | _MS_BIND | _MS_NOSUID | _MS_NODEV | _flags(folder))


def enter(folder: str) -> None:
    """Take a folder, which is a mount, for this process's root, in a mount namespace of its own."""
    _checked(_libc.unshare(_NEWNS))
    os.chdir(folder)
    # The old root then lies on the new one (pivot_root(2)).
    _pivot(".", ".")
    _checked(_libc.umount2(b".", _MNT_DETACH))
    os.chdir("/")


def confine(
    machine: Machine, uid: int, gid: int, *, keep: tuple[int, ...] = (), as_root: bool = False
) -> None:
    """Give up what code that is not ours must not have; what runs from now on in this process can't have it again.

    uid, gid: what it is called. keep: capabilities over what it owns that it keeps. as_root: as for `leave`.
    """
    # A session's keys are those of whoever builds, and whoever has them need not be their owner (keyrings(7)).
    if _call("keyctl", _KEYCTL_JOIN_SESSION_KEYRING, None) < 0 and ctypes.get_errno() not in (
        errno.ENOSYS,
        errno.EPERM,
    ):
        _checked(-1)
    if as_root:
        os.setgroups([])
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)
        # What a process has of /proc is root's otherwise, since it was.
        _checked(_libc.prctl(_PR_SET_DUMPABLE, 1, 0, 0, 0))
    try:
        machine.new_user(uid, gid)
    except OSError:
        # Root asks for none before, and where others may have none there is nothing to lock.
        if not as_root:
            raise
    else:
        # By further namespaces it would get capabilities within them, and the kernel's faults with these.
        with contextlib.suppress(FileNotFoundError):
            machine.write("sys/user/max_user_namespaces", "0")
        _checked(_libc.unshare(_NEWNS))
    machine.close()
    for number in range(64):
        if number not in keep and _libc.prctl(_PR_CAPBSET_DROP, number, 0, 0, 0) != 0:
            break  # no such capability, or none are left to drop it
    _libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
    _set_capabilities(sum(1 << number for number in keep))
    _checked(_libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    for limit, most in ((resource.RLIMIT_NPROC, _PROCESSES), (resource.RLIMIT_CORE, 0)):
        hard = resource.getrlimit(limit)[1]
        least = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(limit, (least, least))


def _set_capabilities(mask: int) -> None:
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    low, high = mask & 0xFFFFFFFF, mask >> 32
    _checked(_libc.capset(header, (ctypes.c_uint32 * 6)(low, low, 0, high, high, 0)))


def _bind_as(source: str, target: str, owner: int) -> bool:
    """Show a folder or a file with another owner (mount_setattr(2), "ID-mapped mounts"); False where that can't be."""
    info = os.stat(source)
    tree = _libc.syscall(_OPEN_TREE, -1, os.fsencode(source), _OPEN_TREE_CLONE | _AT_RECURSIVE | os.O_CLOEXEC)
    if tree < 0:
        return False
    try:
        with (
            contextlib.suppress(FileNotFoundError),
            _ids({info.st_uid: owner}, {info.st_gid: owner}) as namespace,
        ):
            attributes = (ctypes.c_uint64 * 4)(_ATTR_IDMAP, 0, 0, namespace)
            how = _AT_EMPTY_PATH | _AT_RECURSIVE
            if _libc.syscall(_MOUNT_SETATTR, tree, b"", how, attributes, ctypes.sizeof(attributes)) == 0:
                target_name = os.fsencode(target)
                moved: int = _libc.syscall(_MOVE_MOUNT, tree, b"", _AT_FDCWD, target_name, _FROM_FILE)
                return moved == 0
        return False
    finally:
        os.close(tree)


@contextlib.contextmanager
def _ids(uids: dict[int, int], gids: dict[int, int]) -> Iterator[int]:
    """A user namespace with these ids, as a file."""
    told, tell = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(told)
        # What it is called where the old /proc was made.
        made = _libc.unshare(_NEWUSER) == 0
        os.write(tell, os.readlink(f"{_OLD}/proc/self").encode() if made else b"none")
        os.close(tell)
        signal.pause()
    os.close(tell)
    try:
        process = f"{_OLD}/proc/{os.read(told, 20).decode()}"
        for name, ids in (("uid_map", uids), ("gid_map", gids)):
            with open(f"{process}/{name}", "wb") as file:
                file.write("".join(f"{inner} {outer} 1\n" for inner, outer in ids.items()).encode())
        namespace = os.open(f"{process}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
        try:
            yield namespace
        finally:
            os.close(namespace)
    finally:
        os.close(told)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def _restrict(target: str, flags: int) -> None:
    """Add flags to a mount and to those below it."""
    table = f"{_OLD}/proc/self/mountinfo"
    with open(table if os.path.exists(table) else "/proc/self/mountinfo", "rb") as file:
        points = [_plain(line.split(b" ")[4]) for line in file]
    top = os.fsencode(target)
    for point in points:
        if point == top or point.startswith(top + b"/"):
            path = os.fsdecode(point)
            more = _MS_REMOUNT | _MS_BIND | _MS_NOSUID | _MS_NODEV
            _mount("none", path, None, more | flags | _flags(path))


def _touch(path: str) -> None:
    os.close(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC))


def _plain(path: bytes) -> bytes:
    """A path as the table of mounts writes it (proc(5))."""
    for written, meant in ((b"\\040", b" "), (b"\\011", b"\t"), (b"\\012", b"\n"), (b"\\134", b"\\")):
        path = path.replace(written, meant)
    return path


def _flags(path: str) -> int:
    """What must stay of a mount whose flags are changed below the namespace that made it."""
    return os.statvfs(path).f_flag & _KEPT


def _pivot(new: str, old: str) -> None:
    _checked(_call("pivot_root", os.fsencode(new), os.fsencode(old)))


def _call(name: str, *arguments: object) -> int:
    number: int = _libc.syscall(_CALLS[os.uname().machine][name], *arguments)
    return number


def _mount(source: str, target: str, kind: str | None, flags: int = 0, data: str | None = None) -> None:
    encoded = [None if one is None else os.fsencode(one) for one in (source, target, kind)]
    options = None if data is None else data.encode()
    _checked(_libc.mount(*encoded, ctypes.c_ulong(flags), options), target)


def _checked(result: int, path: str | None = None) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), path)
