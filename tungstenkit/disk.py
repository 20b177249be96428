"""What files and folders take of a disk, and how they go: no link is followed, and nothing is written."""

from __future__ import annotations

import errno
import os
import re
import shutil
import stat
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator


def used(paths: Iterable[Path], *, besides: Collection[int] = ()) -> int:
    """How many bytes a disk has more when all of these are gone.

    A file with several names counts once, and only where none of its names is left elsewhere.
    besides: inodes with one name more, which goes with the others.
    """
    seen: dict[tuple[int, int], int] = {}
    size = 0
    for info in _infos(paths):
        if stat.S_ISDIR(info.st_mode):
            size += info.st_blocks * 512
            continue
        file = info.st_dev, info.st_ino
        seen[file] = seen.get(file, int(info.st_ino in besides)) + 1
        if seen[file] == info.st_nlink:
            size += info.st_blocks * 512
    return size


def _infos(paths: Iterable[Path]) -> Iterator[os.stat_result]:
    """Of all that there is, as `lstat` has it; what can't be read, or goes meanwhile, is left out."""
    waiting = [str(path) for path in paths]
    while waiting:
        path = waiting.pop()
        try:
            info = os.lstat(path)
            if stat.S_ISDIR(info.st_mode):
                waiting += [entry.path for entry in os.scandir(path)]
        except OSError:
            continue
        yield info


def erase(path: Path) -> int:
    """Remove a file or a folder, a link as such; how many bytes a disk has more. Raises OSError.

    Where something is mounted there, nothing goes: what that is, it is elsewhere, too.
    """
    if mounts := _mounts(path):
        raise OSError(errno.EBUSY, "something is mounted there", mounts[0])
    size = used([path])
    if path.is_symlink() or not path.is_dir():
        path.unlink(missing_ok=True)
        return size
    # A store's folders can't be written by their owner.
    for folder, folders, _ in os.walk(path):
        for one in (Path(folder, name) for name in (".", *folders)):
            if not one.is_symlink() and one.stat().st_uid == os.geteuid() and not one.stat().st_mode & 0o200:
                one.chmod(0o700)
    try:
        shutil.rmtree(path)
    except RecursionError:
        raise OSError(
            errno.EMFILE, "folders in it are nested too deeply; `rm -rf` removes it", str(path)
        ) from None
    return size


def _mounts(path: Path) -> list[str]:
    """Where something is mounted, at a path or below it (proc(5), `/proc/pid/mountinfo`)."""
    place = os.fsencode(os.path.realpath(path.parent) + f"/{path.name}")
    try:
        lines = Path("/proc/self/mountinfo").read_bytes().splitlines()
    except OSError:
        return []
    found = [
        re.sub(rb"\\([0-7]{3})", lambda one: bytes([int(one[1], 8)]), line.split(b" ")[4]) for line in lines
    ]
    return [os.fsdecode(one) for one in found if one == place or one.startswith(place + b"/")]
