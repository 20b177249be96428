"""An export that was kept, laid out in a folder of ours: somebody else's, so each name and size is judged."""

from __future__ import annotations

import json
import os
import posixpath
import shutil
import tarfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from tungstenkit.document import to_json
from tungstenkit.fetch.big_files import BigFile
from tungstenkit.lock.document import LOCK_NAME, parse_lock
from tungstenkit.outside import LARGEST_FILE, LONGEST_NAME, LONGEST_PATH, contents
from tungstenkit.sdk.errors import FetchError

if TYPE_CHECKING:
    from tungstenkit.lock.document import Lock

_MOST = 1 << 30
"""In bytes, of an export: the model's big files are not in it."""
_MOST_FILES = 100_000
_LARGEST_DOCUMENT = 64 << 20
_DIGITS = frozenset("0123456789abcdef")
_PARTS = (
    *(
        "files",
        "files.json",
        "flake.lock",
        "flake.nix",
        "model",
        "nix",
        "server",
        "spec.json",
        "tungsten.lock",
    ),
    "tungstenkit",
)
"""What of an export's folder is the export; what else lies there, such as `.git` or Nix's `result`, is the user's."""


@dataclass(frozen=True)
class Export:
    """What an image says that it was built of."""

    folder: Path
    """Whose name is what Nix is told that it is called."""
    lock: Lock
    big: tuple[BigFile, ...]
    """The model's big files, which are not in it."""


def unpack(tar: Path, scratch: Path, where: str) -> Export:
    """Lay out an export's tar. Raises FetchError for one that holds what no export does."""
    folder = scratch / "source"
    writer = _Writer(folder, where)
    try:
        with tarfile.open(tar, "r:") as archive:
            for member in archive:
                if member.isdir():
                    writer.folder(member.name)
                elif member.issym():
                    writer.link(member.name, member.linkname)
                elif member.isreg() and not member.issparse():
                    content = archive.extractfile(member)
                    assert content is not None  # it is a file
                    path = writer.file(member.name, member.size)
                    with path.open("xb") as file:
                        while piece := content.read(1 << 20):
                            file.write(piece)
                    path.chmod(0o755 if member.mode & 0o100 else 0o644)
                else:
                    raise writer.refused(member.name, "is neither a file, a folder nor a link")
    except (tarfile.TarError, EOFError, ValueError) as problem:
        raise FetchError(
            f"the export can't be read: {problem}", where=where, hint="it is damaged: push it again"
        ) from None
    return _read(folder, where)


def copy(source: Path, scratch: Path) -> Export:
    """The same of an export's folder."""
    folder = scratch / "source"
    writer = _Writer(folder, str(source))
    for parent, folders, files in os.walk(source):
        if Path(parent) == source:
            folders[:] = [name for name in folders if name in _PARTS]
            files = [name for name in files if name in _PARTS]
        for name in sorted([*folders, *files]):
            path = Path(parent, name)
            inside = path.relative_to(source).as_posix()
            if path.is_symlink():
                writer.link(inside, os.readlink(path))  # noqa: PTH115 (as it is written)
            elif path.is_dir():
                writer.folder(inside)
            elif path.is_file():
                size = path.stat().st_size
                target = writer.file(inside, size)
                shutil.copyfile(path, target)
                target.chmod(0o755 if os.access(path, os.X_OK) else 0o644)
            else:
                raise writer.refused(inside, "is neither a file, a folder nor a link")
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
        or not path
        or not isinstance(size, int)
        or not 0 <= size <= LARGEST_FILE
        or not isinstance(sha256, str)
        or len(sha256) != 64
        or not _DIGITS.issuperset(sha256)
        or not isinstance(executable, bool)
    ):
        raise ValueError("it names what is no file")
    return BigFile(path, size, sha256, executable)


class _Writer:
    """Makes files in a folder, and refuses each that would be elsewhere, or of more than an export has."""

    def __init__(self, folder: Path, where: str) -> None:
        folder.mkdir()
        self._folder = folder
        self._where = where
        self._files: set[str] = set()
        """What is no folder."""
        self._folders = {""}
        self._left = _MOST

    def folder(self, name: str) -> None:
        """Make a folder."""
        inside = self._inside(name)
        if inside not in self._folders:
            self._above(name, inside)
            self._make(name, inside)

    def file(self, name: str, size: int) -> Path:
        """The path of a new file."""
        inside = self._inside(name)
        self._left -= size
        if self._left < 0:
            raise self.refused(name, f"is too much: an export has {_MOST >> 30} GiB at most")
        self._new(name, inside)
        return self._folder / inside

    def link(self, name: str, target: str) -> None:
        """Make a link, of the model's to the model's."""
        inside = self._inside(name)
        leads = posixpath.normpath(posixpath.join(posixpath.dirname(inside), target))
        if not inside.startswith("model/") or target.startswith("/") or not leads.startswith("model/"):
            raise self.refused(name, f"leads out of the model's files, to {target!a}")
        self._new(name, inside)
        (self._folder / inside).symlink_to(target)

    def refused(self, name: str, why: str) -> FetchError:
        """The error for what no export has."""
        return FetchError(
            f"{name[:200]!a} {why}",
            where=self._where,
            hint="no tungsten writes such an export: nothing of it was built",
        )

    def _inside(self, name: str) -> str:
        parts = [part for part in name.rstrip("/").split("/") if part != "."]
        wrong = [part for part in parts if part in ("", "..") or len(os.fsencode(part)) > LONGEST_NAME]
        if (
            wrong
            or name.startswith("/")
            or len(os.fsencode(name)) > LONGEST_PATH
            or any(ord(letter) < 32 for letter in name)
        ):
            raise self.refused(name, "is no path in an export")
        return "/".join(parts)

    def _new(self, name: str, inside: str) -> None:
        if inside in self._files or inside in self._folders:
            raise self.refused(name, "stands there twice")
        self._above(name, inside)
        self._files.add(inside)
        if len(self._files) > _MOST_FILES:
            raise self.refused(name, f"is too much: an export has {_MOST_FILES} files at most")

    def _above(self, name: str, inside: str) -> None:
        for above in [str(one) for one in PurePosixPath(inside).parents][-2::-1]:
            if above not in self._folders:
                self._make(name, above)

    def _make(self, name: str, inside: str) -> None:
        if inside in self._files:
            raise self.refused(name, "goes through what is no folder")
        if len(self._folders) > _MOST_FILES:
            raise self.refused(name, f"is too much: an export has {_MOST_FILES} folders at most")
        (self._folder / inside).mkdir()
        self._folders.add(inside)
