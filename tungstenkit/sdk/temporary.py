"""Temporary files, which last as long as the process, or a block of it."""

from __future__ import annotations

import atexit
import contextlib
import contextvars
import functools
import os
import shutil
import tempfile
import uuid
from pathlib import Path

_parent: Path | None = None


def keep_files_in(folder: Path) -> None:
    """Have all temporary files of this process in a folder, which is made with the first of them.

    Whoever has started the process can so remove what it leaves behind when it is killed.
    """
    global _parent
    _parent = folder


class _Scratch:
    """A temporary directory that is made when it is first needed."""

    @functools.cached_property
    def directory(self) -> Path:
        if _parent is not None:
            _parent.mkdir(mode=0o700, exist_ok=True)
        return Path(tempfile.mkdtemp(prefix="tungsten-", dir=_parent))

    def remove(self) -> None:
        if "directory" in vars(self):
            shutil.rmtree(self.directory, ignore_errors=True)


_scratch: contextvars.ContextVar[_Scratch | None] = contextvars.ContextVar("scratch", default=None)


@functools.lru_cache(maxsize=1)
def _scratch_of_process(process_id: int) -> _Scratch:
    """Where a process has its files until it ends. A forked child must not remove its parent's."""
    scratch = _Scratch()
    atexit.register(lambda: scratch.remove() if os.getpid() == process_id else None)
    return scratch


class temporary_files(contextlib.AbstractContextManager[None]):  # noqa: N801 (used as a function)
    """Remove, at the end of the block, the files that `File.path` wrote in it.

    A process that serves many requests runs each in such a block, or its temporary directory grows for ever.
    """

    def __enter__(self) -> None:
        self._of_block = _Scratch()
        self._token = _scratch.set(self._of_block)

    def __exit__(self, *_: object) -> None:
        _scratch.reset(self._token)
        self._of_block.remove()


def new_temporary_file(suffix: str = "") -> Path:
    """A path for a file that lasts as long as the process or the surrounding `temporary_files`."""
    scratch = _scratch.get() or _scratch_of_process(os.getpid())
    return scratch.directory / f"{uuid.uuid4().hex}{suffix}"
