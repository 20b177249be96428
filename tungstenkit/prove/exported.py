"""An export that was kept, laid out in a folder of ours: somebody else's, so each name and size is judged."""

from __future__ import annotations

import json
import tarfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from tungstenkit.data import FACTS
from tungstenkit.document import to_json
from tungstenkit.fetch.big_files import BigFile
from tungstenkit.fetch.kept import lay_out, unpack_export
from tungstenkit.lock.document import LOCK_NAME, parse_lock
from tungstenkit.outside import LARGEST_FILE, contents, path_problem
from tungstenkit.sdk.errors import FetchError

if TYPE_CHECKING:
    from tungstenkit.fetch.kept import Kept
    from tungstenkit.lock.document import Lock

_LARGEST_DOCUMENT = 64 << 20
_DIGITS = frozenset("0123456789abcdef")
_PARTS = ("files", *FACTS["exported"])
"""What of an export's folder is the export; what else lies there, such as `.git` or Nix's `result`, is the user's."""


@dataclass(frozen=True)
class Export:
    """What an image says that it was built of."""

    folder: Path
    """Whose name is what Nix is told that it is called."""
    lock: Lock
    big: tuple[BigFile, ...]
    """The model's big files, which are not in it."""


def unpack(kept: Kept, scratch: Path) -> Export:
    """Lay out an export that was kept. Raises FetchError for one that holds what no export does."""
    folder = scratch / "source"
    folder.mkdir()
    unpack_export(kept, folder)
    return _read(folder, f"{kept.place.name}@{kept.manifest.digest}")


def copy(source: Path, scratch: Path) -> Export:
    """The same of an export's folder: as a tar, so that its names and links are judged as one's that was kept."""
    tar = scratch / "export.tar"
    with tarfile.open(tar, "w", format=tarfile.PAX_FORMAT) as archive:
        for part in _PARTS:
            for path in sorted([source / part, *(source / part).rglob("*")]):
                if path.is_symlink() or path.is_file():
                    archive.add(path, path.relative_to(source).as_posix(), recursive=False)
    folder = scratch / "source"
    folder.mkdir()
    lay_out(tar, folder, set(), str(source))
    tar.unlink()
    return _read(folder, str(source))


def _read(folder: Path, where: str) -> Export:
    # Where bytes come from is no part of it, and nothing is fetched here.
    (folder / "sources.json").unlink(missing_ok=True)
    try:
        lock = parse_lock(contents(folder / LOCK_NAME, _LARGEST_DOCUMENT), f"{where}, {LOCK_NAME}")
        listed = json.loads(contents(folder / "files.json", _LARGEST_DOCUMENT))
        big = tuple(_big_file(one) for one in listed)
    except FileNotFoundError as problem:
        raise FetchError(
            f"this is no export: it has no {Path(str(problem.filename)).name}", where=where
        ) from None
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as problem:
        raise FetchError(f"this is no export: files.json: {problem}", where=where) from None
    if lock.package_set != "debian" or (folder / "flake.lock").exists():
        raise FetchError(
            "this export is a flake with inputs of its own, as for the package set nixpkgs; only one of Debian's "
            "packages can be proved",
            where=where,
            hint="`nix build` in the export builds it, with nixpkgs of the network",
        )
    (folder / "sources.json").write_text(to_json({}), encoding="utf-8")
    return Export(folder, lock, big)


def _big_file(value: Any) -> BigFile:  # noqa: ANN401 (somebody's JSON)
    path, size, sha256, executable = (value[name] for name in ("path", "size", "sha256", "executable"))
    if (
        not isinstance(path, str)
        or path_problem(path)
        or ".." in PurePosixPath(path).parts
        or not isinstance(size, int)
        or not 0 <= size <= LARGEST_FILE
        or not isinstance(sha256, str)
        or len(sha256) != 64
        or not _DIGITS.issuperset(sha256)
        or not isinstance(executable, bool)
    ):
        raise ValueError("it names what is no file")
    return BigFile(path, size, sha256, executable)
