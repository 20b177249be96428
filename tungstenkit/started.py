"""Who has started something that outlives a kill, and whether they are still there: a text that names a process, and
a folder that is held while it is used.

A number alone names no process: it is given again, and other machines and containers count for themselves.
"""

from __future__ import annotations

import fcntl
import os
import re
import select
import signal
import stat
import tempfile
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from tungstenkit import disk

if TYPE_CHECKING:
    from collections.abc import Iterator

_PREFIX = "tungsten-held-"
_PATIENCE = 10.0
"""In seconds."""


def this_process() -> str:
    """This process, for `lives`: the boot of the machine, the namespace of its numbers, the number, and since when."""
    number = os.getpid()
    return f"{_where()}/{number}/{_start_of(number)}"


def lives(process: str) -> bool | None:
    """Whether a process is still there; None where that can't be told: it is another machine's, or a container's that
    we are not in, or this machine shows no user another's.
    """
    found = re.fullmatch(r"(.+)/([0-9]{1,9})/([0-9]+)", process)
    if found is None or found[1] != _where():
        return None
    number = int(found[2])
    start = _start_of(number)
    return None if not start and _is_hidden(number) else start == found[3]


def _is_hidden(number: int) -> bool:
    """Whether there is a process that `/proc` does not show (proc(5), `hidepid`)."""
    try:
        os.kill(number, 0)
    except PermissionError:
        return not Path(f"/proc/{number}").exists()
    except ProcessLookupError:
        return False
    return False


def _where() -> str:
    boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return f"{boot}/{Path('/proc/self/ns/pid').stat().st_ino}"


def _start_of(number: int) -> str:
    """When a process was started, in ticks since the boot (proc(5), `/proc/pid/stat`); empty where there is none."""
    try:
        status = Path(f"/proc/{number}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    fields = status.rpartition(")")[2].split()
    # One that has ended, and that nobody has waited for, is no more.
    return "" if fields[0] == "Z" else fields[19]


@contextmanager
def scratch() -> Iterator[Path]:
    """A temporary folder, removed at the end; one that a kill has left is known by `abandoned`.

    A process that is forked meanwhile holds it, too, and does not remove it.
    """
    number = os.getpid()
    made = Path(tempfile.mkdtemp(prefix=".tungsten-"))
    # Held before it has the name by which it is looked for.
    with _held(made) as is_held:
        folder = made.with_name(f"{_PREFIX}{made.name.removeprefix('.tungsten-')}") if is_held else made
        made.rename(folder)
        try:
            yield folder
        finally:
            if os.getpid() == number:
                _erase(folder)


def _erase(folder: Path) -> None:
    """Remove a folder, into which a thread that was not waited for may still write."""
    for _ in range(3):
        with suppress(OSError):
            disk.erase(folder)
            return
    disk.erase(folder)


@contextmanager
def _held(folder: Path) -> Iterator[bool]:
    """Hold a folder until the end, or until this process is gone; whether the file system can do so."""
    file = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_SH)
        except OSError:
            yield False
        else:
            yield True
    finally:
        os.close(file)


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Hold a folder that others hold, too, so that `is_held` tells; where that can't be, nobody waits for it."""
    with ExitStack() as stack:
        with suppress(OSError):
            file = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            stack.callback(os.close, file)
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        yield


def is_held(path: Path) -> bool:
    """Whether a process holds a file or a folder by a lock; it is not waited for, whatever it is."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(file)
    return False


def abandoned() -> Iterator[Path]:
    """This user's temporary folders of `scratch` whose process is gone."""
    # What finds the one that is used writes into it, and a disk may be full.
    named = {os.environ.get(name, "") for name in ("TMPDIR", "TEMP", "TMP")} - {""}
    folders = {Path(name).absolute() for name in (*named, "/tmp", "/var/tmp")}  # noqa: S108 (as tempfile has them)
    for path in sorted(path for folder in folders for path in folder.glob(f"{_PREFIX}*")):
        with suppress(OSError):
            info = path.lstat()
            if stat.S_ISDIR(info.st_mode) and info.st_uid == os.geteuid() and not is_held(path):
                yield path


def servers_of(folder: Path) -> list[int]:
    """This user's servers without a container that were started with a file in a folder, and outlive its process."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            words = (entry / "cmdline").read_bytes().split(b"\0")
            of_ours = any(word.endswith(b"/run_root.py") or b"tungsten_server" in word for word in words)
            in_folder = any(word.startswith(os.fsencode(folder) + b"/") for word in words)
            if of_ours and in_folder and entry.stat().st_uid == os.geteuid():
                found.append(int(entry.name))
    return found


def end_servers(folder: Path) -> None:
    """End them: what they have accepted is answered first, for as long as a person waits."""
    for number in servers_of(folder):
        with suppress(ProcessLookupError):
            process = os.pidfd_open(number)
            try:
                # Its number may be another's by now.
                if number in servers_of(folder):
                    signal.pidfd_send_signal(process, signal.SIGTERM)
                    if not select.select([process], [], [], _PATIENCE)[0]:
                        signal.pidfd_send_signal(process, signal.SIGKILL)
                        select.select([process], [], [], _PATIENCE)
            finally:
                os.close(process)
