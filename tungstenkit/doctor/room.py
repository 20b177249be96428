"""Room where builds write, and memory."""

from __future__ import annotations

import os
import shlex
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from tungstenkit import lacks, nix_program, store
from tungstenkit.cache import cache_folder
from tungstenkit.doctor.finding import State, fine, lacking, unsure
from tungstenkit.machine import GB, memory
from tungstenkit.nix_build.process import MEMORY_OF_A_STEP
from tungstenkit.sdk.errors import TungstenError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tungstenkit.doctor.finding import Finding
    from tungstenkit.lacks import Lack, Remedy

# In bytes: as much as building examples/blur from nothing leaves there, and as much again.
_STORE, _TEMPORARY, _CACHE = 1 * GB, GB // 2, GB // 5
_ELSEWHERE = ("/var/tmp", "/tmp")  # noqa: S108


def room() -> Iterator[Finding]:
    """The store, temporary files, the cache; memory."""
    yield _store()
    temporary = Path(os.environ.get("TMPDIR") or "/tmp")  # noqa: S108
    yield place(lacks.TEMPORARY, temporary, _TEMPORARY, lacks.making_room("TMPDIR", folder=_other(temporary)))
    cache = cache_folder()
    away = lacks.making_room("XDG_CACHE_HOME", folder=None)
    if _is_seen(cache):
        away = [lacks.Remedy(f"rm -rf {shlex.quote(str(cache))}", "all of which can be made again"), *away]
    yield place(lacks.CACHE, cache, _CACHE, away)
    if (found := _programs_in(temporary)) is not None:
        yield found
    yield _memory()


def _store() -> Finding:
    try:
        folder = Path(store.place())
    except TungstenError as problem:
        return unsure(lacks.STORE, problem.what)  # what is wrong with Nix is told as Nix's
    is_users = bool(nix_program.current().variables)
    remedies: list[Remedy] = []
    if _is_seen(folder):
        kind = "own-store" if folder == nix_program.folder_of_nix() / "store" else "store"
        # On a disk that is full Nix by itself may not begin.
        remedies = [lacks.Remedy(f"tungsten clean --{kind}", "which frees what no root holds")]
    if is_users:
        remedies += lacks.making_room(nix_program.HOME, folder=None)
    is_ours = is_users or os.access(_there(folder), os.W_OK)
    found = place(lacks.STORE, folder, _STORE, remedies, is_ours=is_ours)
    if found.state is State.OK and is_users and (why := nix_program.unfit(folder)):
        return lacking(lacks.STORE, f"{folder}: {why}", lacks.making_room(nix_program.HOME, folder=None))
    return found


def place(
    lack: Lack, folder: Path, wanted: int, remedies: Sequence[Remedy], *, is_ours: bool = True
) -> Finding:
    """Whether there is room in a folder, or in the one where it will be made, for this user.

    wanted: in bytes. is_ours: whether it is this user who writes there.
    """
    there = _there(folder)
    try:
        status = os.statvfs(there)
        free = status.f_bavail * status.f_frsize
        said = f"{free / GB:.1f} GB free in {folder}"
        if is_ours:
            # Without a name: nobody sees it, and nothing stays.
            with tempfile.TemporaryFile(dir=there) as file:
                file.write(bytes(1 << 16))
    except OSError as problem:
        return lacking(lack, f"{folder} can't be written: {problem.strerror}", remedies)
    return (
        fine(lack, said)
        if free >= wanted
        else lacking(lack, f"{said}: less than {wanted / GB:g} GB", remedies)
    )


def _there(folder: Path) -> Path:
    """The folder, or the one above it that is there already."""
    return next(path for path in (folder, *folder.parents) if _is_seen(path))


def _is_seen(folder: Path) -> bool:
    """Whether a folder is there; not where its own may not be looked into."""
    return os.path.isdir(folder)  # noqa: PTH112 (`Path.is_dir` raises there)


def _other(folder: Path) -> Path | None:
    """A folder for temporary files with room for them."""
    for path in map(Path, _ELSEWHERE):
        try:
            is_other = path.stat().st_dev != _there(folder).stat().st_dev
        except OSError:
            continue
        if is_other and place(lacks.TEMPORARY, path, _TEMPORARY, ()).state is State.OK:
            return path
    return None


def _programs_in(temporary: Path) -> Finding | None:
    try:
        if not os.statvfs(_there(temporary)).f_flag & os.ST_NOEXEC:
            return None
    except OSError:
        return None  # that it can't be written is told
    remedies = lacks.making_room("TMPDIR", folder=_other(temporary))
    return lacking(lacks.RUN_TEMPORARY, f"{temporary} is mounted noexec", remedies)


def _memory() -> Finding:
    found = memory()
    if found is None:
        return unsure(lacks.MEMORY, "/proc/meminfo does not say")
    said = f"{found.free / GB:.1f} of {found.total / GB:.1f} GB free"
    if found.free < MEMORY_OF_A_STEP:
        remedy = lacks.Remedy(says="end what else needs much, or give the machine, or the container, more")
        return lacking(
            lacks.MEMORY, f"{said}; a build step may need {MEMORY_OF_A_STEP / GB:.1f} GB", [remedy]
        )
    return fine(lacks.MEMORY, said)
