"""Files and folders of the model's own, and commits, that a lock names: made again, and looked at for changes."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from tungstenkit import started
from tungstenkit.digest import measure, sha256_of
from tungstenkit.lock.document import LOCK_NAME
from tungstenkit.outside import redact
from tungstenkit.sdk.errors import FetchError, LockError

if TYPE_CHECKING:
    from pathlib import Path

    from tungstenkit.fetch.needs import LockedFile
    from tungstenkit.lock.document import Lock


def make(file: LockedFile, local: Path | None, part: Path) -> None:
    """Copy a file that is here already, or make the archive of a folder or a commit.

    local: the file or folder, if it is one. part: where it goes. Raises FetchError where it is not what the lock says.
    """
    from tungstenkit.fetch.packing import check_out, pack

    if local is None:
        assert file.git is not None
        check_out(file.git.url, file.git.commit, part)
        where, what = file.git.url, "git gives another archive of this commit now"
    else:
        where = str(local)
        if not local.exists():
            raise FetchError("there is no such file or folder", where=str(local), hint="run `tungsten lock`")
        if local.is_dir():
            pack(local, part)
        else:
            shutil.copyfile(local, part)
        what = f"{local.name} has changed since the lock was made"
    if measure(part) != (file.size, file.sha256):
        part.unlink()
        raise FetchError(what, where=redact(where), hint="run `tungsten lock`")


def check_own_files(lock: Lock, directory: Path) -> None:
    """LockError that names each file and folder of the user's that is not what it was when the lock was made."""
    platforms = lock.platforms.values()
    known = [(wheel.path, wheel.sha256) for platform in platforms for wheel in platform.wheels]
    known += [(source.path, source.sha256) for platform in platforms for source in platform.sources]
    if not any(path for path, _ in known):
        return
    from tungstenkit.fetch.packing import pack

    changed = []
    with started.scratch() as folder:
        for path, sha256 in dict.fromkeys(known):
            if path is None:
                continue
            local = directory / path
            if local.is_dir():
                pack(local, folder / "source.tar")
            if not local.exists():
                changed.append(f"{path} is no longer there")
            elif sha256_of(folder / "source.tar" if local.is_dir() else local) != sha256:
                changed.append(f"{path} has changed since it was made")
    if changed:
        raise LockError(
            "\n".join(["the lock is stale:", *changed]),
            where=str(directory / LOCK_NAME),
            hint="run `tungsten lock`; pins that still fit are kept",
        )
