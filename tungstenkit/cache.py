"""The user's cache: what can be made again from bytes that are named by their hash.

A kept file lies in a folder called after what it was made from, under the sha256 of its own content. So an entry
is never stale; a damaged one is known, dropped and made again; and two processes that make the same one can't
disturb each other.
"""

from __future__ import annotations

import os
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tungstenkit.digest import sha256_of
from tungstenkit.sdk.errors import FetchError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def cache_folder() -> Path:
    """Where this user's caches lie (XDG Base Directory specification)."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    # The specification says that a relative path is to be ignored.
    return (Path(base) if Path(base).is_absolute() else Path.home() / ".cache") / "tungsten"


def kept(folder: Path, key: str) -> Path | None:
    """The file that was kept under a key, if it is whole; a damaged one is removed."""
    try:
        paths = sorted((folder / key).iterdir())
    except OSError:
        return None
    for path in paths:
        try:
            if sha256_of(path) == path.name:
                return path
            path.unlink()
        except OSError:
            continue  # it can't be read, or another process has just removed it: then it is made again
    return None


def keep(folder: Path, key: str, write: Callable[[Path], object]) -> Path:
    """Keep the file that `write` makes under a key, for `kept` to find; where it lies.

    Raises FetchError where it can't be written.
    """
    with _clear_errors(folder):
        (folder / key).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".new-") as temporary:
            path = Path(temporary) / key
            write(path)
            return path.replace(folder / key / sha256_of(path))


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary file that takes `path`'s place when the block ends well. Raises FetchError as `keep` does."""
    with _clear_errors(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".new-") as temporary:
            yield Path(temporary) / path.name
            (Path(temporary) / path.name).replace(path)


@contextmanager
def _clear_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as problem:
        raise FetchError(
            f"what was read can't be kept: {problem.strerror or problem}",
            where=str(folder),
            hint="make room there, or set XDG_CACHE_HOME to a folder on another disk",
        ) from None
