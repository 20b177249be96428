"""What a hostile step tries, by the standard library alone; each that succeeds is named, with how.

    attacks.py CANARY [OUT|run]

CANARY: JSON, or its file, of what the test has put outside: `port` and `abstract`, where it listens, `key`, a key of
its session. OUT is made. run: all of the root is the step's own. The last line printed is `REACHED` and a JSON object.
"""

import contextlib
import ctypes
import json
import os
import resource
import signal
import socket
import stat
import sys
import time
from pathlib import Path

LIBC = ctypes.CDLL(None, use_errno=True)
MS_RDONLY, MS_REMOUNT, MS_BIND, MS_REC = 1, 32, 4096, 16384
NEW = {"user": 0x10000000, "mount": 0x20000, "net": 0x40000000, "pid": 0x20000000, "ipc": 0x8000000}
X86 = os.uname().machine == "x86_64"
KEYCTL, ADD_KEY = (250, 248) if X86 else (219, 217)
OWN = ("/app", "/home/nonroot", "/tmp", "/dev/shm", "/dev/pts", "/project", "/usr/local")
"""What a step may write, or is made for it alone."""

reached = {}


def tried(name, what, how="it did"):
    """Note an attempt that succeeds; errors of the system are refusals."""
    try:
        found = what()
    except (OSError, ValueError, EOFError):
        return
    if found:
        reached[name] = str(found if found is not True else how)[:200]


def call(result):
    if result < 0:
        raise OSError(ctypes.get_errno(), "refused")
    return True


def written_again(path):
    """With what it holds, so that an attack that succeeds does no harm."""
    was = Path(path).read_bytes()
    Path(path).write_bytes(was)
    return path


def opens(path, flags=os.O_RDWR):
    os.close(os.open(path, flags))
    return path


def any_of(what, things):
    """Those things of which an attempt succeeds."""
    done = []
    for thing in things:
        with contextlib.suppress(OSError, ValueError):
            if what(thing):
                done.append(thing)
    return done


def mounts():
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return [(line.split()[4].replace("\\040", " "), line.split()[5].split(",")) for line in lines]


def remounted(point):
    return call(LIBC.mount(b"none", point.encode(), None, ctypes.c_ulong(MS_REMOUNT | MS_BIND), None))


def unmounted(point):
    return call(LIBC.umount2(point.encode(), 2))


def bound(_):
    return call(LIBC.mount(b"/", b"/tmp", None, ctypes.c_ulong(MS_BIND | MS_REC), None))


def attribute_cleared(point):
    attributes = (ctypes.c_uint64 * 4)(0, MS_RDONLY, 0, 0)
    return call(LIBC.syscall(442, -100, point.encode(), 0x8000, attributes, ctypes.sizeof(attributes)))


def in_a_child(what):
    """Whether what may change the process itself succeeds."""
    pid = os.fork()
    if pid == 0:
        try:
            os._exit(0 if what() else 1)
        except BaseException:
            os._exit(1)
    return os.waitpid(pid, 0)[1] == 0


def new_namespaces():
    return [name for name, flag in NEW.items() if in_a_child(lambda flag=flag: call(LIBC.unshare(flag)))]


def joined():
    done = []
    for kind in ("user", "mnt", "net", "pid", "ipc"):
        for pid in (1, os.getppid()):

            def join(kind=kind, pid=pid):
                file = os.open(f"/proc/{pid}/ns/{kind}", os.O_RDONLY)
                return call(LIBC.setns(file, 0))

            if in_a_child(join):
                done.append(f"{kind} of {pid}")
    return done


def traced():
    return in_a_child(lambda: call(LIBC.ptrace(0x4206, 1, None, None)))  # PTRACE_SEIZE


def old_root():
    """By folders that are open, and by the first process."""
    return [path for path in ("/proc/1/root/", "/proc/1/cwd/") if any_of(os.listdir, [path])]


def capabilities():
    lines = Path("/proc/self/status").read_text().splitlines()
    held = {line.split(":")[0]: int(line.split()[1], 16) for line in lines if line.startswith("Cap")}
    return {name: hex(value) for name, value in held.items() if value & ~(1 << 1)}  # but for DAC_OVERRIDE


def new_privileges():
    return "NoNewPrivs:\t1" not in Path("/proc/self/status").read_text()


def other_processes():
    """Of whoever builds; in ours there are this one, who started it, and its parents."""
    pids = {int(name) for name in os.listdir("/proc") if name.isdigit()}
    ours, pid = set(), os.getpid()
    while pid:
        ours.add(pid)
        pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return sorted(pids - ours)


def environment_of_others():
    return any_of(lambda pid: Path(f"/proc/{pid}/environ").read_bytes(), [1])


def raw_sockets():
    kinds = {
        "inet": (socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP),
        "packet": (socket.AF_PACKET, socket.SOCK_RAW, 0),
    }
    return any_of(lambda kind: socket.socket(*kinds[kind]).close() or True, kinds)


def connected(family, address):
    with socket.socket(family) as sock:
        sock.settimeout(5)
        sock.connect(address)
        return True


def keys(wanted):
    """The session's key, or any of the names of keys in it."""
    for ring in (-3, -4, -5):  # session, user, user session
        found = LIBC.syscall(KEYCTL, 10, ring, b"user", wanted.encode(), 0)  # KEYCTL_SEARCH
        if found >= 0:
            text = ctypes.create_string_buffer(100)
            size = LIBC.syscall(KEYCTL, 11, found, text, 100)  # KEYCTL_READ
            return f"found in {ring}, read {text.raw[: max(size, 0)]}"
    return None


def set_user_id(mode):
    path = "/tmp/setuid"
    Path(path).write_text("#!/bin/sh\n")
    os.chmod(path, 0o755 | mode)
    return os.stat(path).st_mode & (stat.S_ISUID | stat.S_ISGID) and path


def set_user_id_counts():
    """A set-uid file may be there; the mount must not let it count."""
    return not os.statvfs("/tmp").f_flag & os.ST_NOSUID


def nodes():
    def node(kind):
        os.mknod(f"/tmp/node-{kind}", 0o666 | kind, os.makedev(1, 3))
        return True

    return any_of(node, [stat.S_IFCHR, stat.S_IFBLK])


def another_user():
    return [uid for uid in (1, 1000, 65534) if in_a_child(lambda uid=uid: os.setuid(uid) or True)]


def clock():
    now = time.time()
    return time.clock_settime(time.CLOCK_REALTIME, now) is None


def written():
    """Places outside of what a step may write, its own files' modes changed first: in a user's store they are his."""
    found = []
    for folder, folders, files in os.walk("/"):
        if folder.startswith((*OWN, "/proc", "/sys", "/dev")):
            folders[:] = []
            continue
        folders[:] = folders[:40]
        for path in [folder, *(os.path.join(folder, name) for name in files[:3])]:
            if os.path.islink(path):
                continue
            with contextlib.suppress(OSError):
                os.chmod(path, stat.S_IMODE(os.stat(path).st_mode))
                found.append(path)
            with contextlib.suppress(OSError):
                if os.path.isdir(path):
                    os.close(os.open(f"{path}/attacked", os.O_CREAT | os.O_WRONLY))
                    os.unlink(f"{path}/attacked")
                else:
                    os.close(os.open(path, os.O_WRONLY | os.O_APPEND))
                found.append(path)
    return found


def more_processes():
    most = resource.getrlimit(resource.RLIMIT_NPROC)[1]
    if not 0 < most <= 4096:
        return f"{most} are allowed"
    return in_a_child(lambda: resource.setrlimit(resource.RLIMIT_NPROC, (most + 1, most + 1)) is None)


def main(canary, *, whole_root):
    tried("settings", lambda: any_of(written_again, [
        "/proc/sys/kernel/core_pattern", "/proc/sys/kernel/hostname", "/proc/sys/vm/drop_caches",
        "/proc/sys/user/max_user_namespaces", "/proc/sys/net/ipv4/ip_forward",
        "/proc/irq/default_smp_affinity","/sys/kernel/uevent_helper", "/sys/power/state",
        "/sys/fs/cgroup/cgroup.procs", "/sys/module/kernel/parameters/panic",
    ]))  # fmt: skip
    tried("devices", lambda: any_of(opens, [
        "/dev/kmsg", "/dev/mem", "/dev/kvm", "/dev/fuse", "/dev/net/tun", "/dev/vda", "/dev/sda", "/dev/loop-control",
        "/proc/kcore", "/proc/kmsg",
                "/proc/sysrq-trigger",
    ]))  # fmt: skip
    locked = [point for point, flags in mounts() if "ro" in flags]
    tried("remount", lambda: any_of(remounted, locked))
    tried("mount attributes", lambda: any_of(attribute_cleared, locked))
    tried("unmount", lambda: any_of(unmounted, [point for point, _ in mounts() if point != "/"]))
    tried("mount", lambda: bound(None))
    tried("namespaces", new_namespaces)
    tried("setns", joined)
    tried("ptrace", traced)
    tried("memory", lambda: any_of(opens, ["/proc/1/mem"]))
    tried("the old root", old_root)
    tried("environment of the first process", environment_of_others)
    tried("capabilities", capabilities)
    tried("new privileges", new_privileges)
    tried("other processes", other_processes)
    tried("raw sockets", raw_sockets)
    tried("loopback", lambda: connected(socket.AF_INET, ("127.0.0.1", canary["port"])))
    tried("abstract", lambda: connected(socket.AF_UNIX, "\0" + canary["abstract"]))
    tried("keys", lambda: keys(canary["key"]))
    tried("set-uid", lambda: [hex(mode) for mode in (stat.S_ISUID, stat.S_ISGID) if set_user_id(mode)]
          and set_user_id_counts())  # fmt: skip
    tried("device nodes", nodes)
    tried("another user", another_user)
    tried("clock", clock)
    tried("host name", lambda: socket.sethostname("attacked") is None)
    tried("processes", more_processes)
    if not whole_root:
        tried("written", written)
    # What stays must not: it is in a session of its own, and would hold nothing of ours.
    if os.fork() == 0:
        os.setsid()
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        for file in range(3):
            os.close(file)
        os.execv("/bin/sh", ["sh", "-c", f"sleep 300; : {canary['key']}"])
    print("REACHED " + json.dumps(reached), flush=True)
    return reached


if __name__ == "__main__":
    given, *more = sys.argv[1:]
    main(json.loads(Path(given).read_text() if given.startswith("/") else given), whole_root="run" in more)
    if more and more[0] != "run":
        Path(more[0]).write_text("")
