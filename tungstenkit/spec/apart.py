"""What of this machine a module sees that is read: its folder, the system's libraries, and our Python."""

from __future__ import annotations

import os
import stat
import sys
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tungstenkit import store
from tungstenkit.data import NIX

if TYPE_CHECKING:
    from collections.abc import Sequence

_SYSTEM = ("/usr", "/lib", "/lib32", "/lib64", "/bin", "/sbin")
_SYSTEM_FILES = ("/etc/ld.so.cache", "/etc/localtime")
_STORES = ("/nix/store", "/gnu/store")
"""What of the machine a module sees beside its folder: what every program needs, and anyone may read; where our own
Python is there, a store of such things.
"""


def keep_apart(directory: Path, places: dict[str, str]) -> dict[str, Any]:
    """How a module is kept apart (`load._go_apart`): it sees its folder, the system's libraries, and our Python."""
    paths = sysconfig.get_paths()
    owned = [
        sys.base_prefix,
        sys.base_exec_prefix,
        paths["stdlib"],
        paths["platstdlib"],
        str(NIX / "tools" / "lib"),
    ]
    owned += os.environ.get("LD_LIBRARY_PATH", "").split(":")
    for name, place in places.items():
        # What lies beside a package that is installed belongs to packages; beside our own sources may lie all.
        is_installed = Path(place).name in ("site-packages", "dist-packages")
        owned.append(place if is_installed else f"{place}/{name}")
    stores = {path for path in _STORES if any(os.path.realpath(one).startswith(f"{path}/") for one in owned)}
    system = [path for path in (*_SYSTEM, *stores, *_SYSTEM_FILES) if os.path.lexists(path)]
    known = tuple(_below(system))
    outside: list[str] = []
    for path in [*sorted(set(owned)), str(directory)]:
        # What is shown with another is shown; the model's folder may have to be shown as another's.
        is_shown = f"{path}/".startswith((*known, *_below(outside))) and path != str(directory)
        if len(path) > 1 and Path(path).is_absolute() and Path(path).exists() and not is_shown:
            outside.append(path)
    shown = {path: path for path in system} | {path: os.path.realpath(path) for path in outside}
    # A path that leads there by links must be there itself, too.
    shown |= {
        source: source for source in shown.values() if not source.startswith(known) and source not in shown
    }
    return {
        "tools": str(NIX / "tools" / "lib"),
        "shown": shown,
        "owned": [path for path in outside if path == str(directory) or not _is_for_all(path)],
        "is-root": os.geteuid() == 0 and store.has_other_users(),
    }


def _below(paths: Sequence[str]) -> list[str]:
    return [f"{path.rstrip('/')}/" for path in paths]


def _is_for_all(path: str) -> bool:
    """Whether anyone may look into a folder, or read a file."""
    mode = Path(path).stat().st_mode
    return bool(mode & stat.S_IROTH and (mode & stat.S_IXOTH or not stat.S_ISDIR(mode)))
