"""An export: a folder that is a complete flake, from which Nix alone builds the image.

It holds a constant `flake.nix`, our `nix/`, the SDK and the server, the spec, the lock, the model's files, and
`sources.json`, which says where bytes come from on this machine; all but this are the same bytes wherever and
whenever the export is made. The model's big files are only named, in `files.json`.
A new export appears whole or not at all; in an older one each part that is not
the same is replaced whole, and what else lies there stays.
"""

from __future__ import annotations

import errno
import hashlib
import io
import json
import shutil
import stat
import subprocess
import tarfile
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

from tungstenkit.data import SEVEN_ZIP, exported_files
from tungstenkit.document import to_json
from tungstenkit.lock.document import LOCK_NAME
from tungstenkit.sdk.errors import ExportError
from tungstenkit.spec.files import is_export

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from tungstenkit.fetch.big_files import BigFile
    from tungstenkit.fetch.mirrors import Mirrors
    from tungstenkit.lock.document import Lock
    from tungstenkit.spec.document import ModelSpec
    from tungstenkit.spec.files import ModelFile


@dataclass(frozen=True)
class Contents:
    """The files of this machine that an export has."""

    directory: Path
    """The model's folder."""
    files: Sequence[ModelFile]
    """What of it ships."""
    big: Sequence[BigFile] = ()
    """Those of `files` that are only named, because the store has them by themselves."""
    own: Iterable[Path] = ()
    """What the lock names and no mirror has, under their store names."""


class _Entry(NamedTuple):
    """A file of an export, or a link. Of a file's mode only the executable bit is kept, as in the Nix store."""

    path: str
    content: bytes = b""
    executable: bool = False
    target: str | None = None
    """What a link leads to."""

    def write(self, folder: Path) -> None:
        """Write it, in a folder that is being made."""
        path = folder / self.path
        path.parent.mkdir(parents=True, exist_ok=True)
        if self.target is not None:
            path.symlink_to(self.target)
            return
        try:
            path.write_bytes(self.content)
        except OSError as problem:
            # Of a full disk Python does not say where.
            raise OSError(problem.errno, problem.strerror, str(path)) from None
        path.chmod(0o755 if self.executable else 0o644)

    def is_at(self, path: Path) -> bool:
        """Whether a path is what would be written there, for a file."""
        mode = path.lstat().st_mode
        is_like = stat.S_ISREG(mode) and stat.S_IMODE(mode) == (0o755 if self.executable else 0o644)
        return is_like and path.read_bytes() == self.content

    def member(self) -> tarfile.TarInfo:
        """As a tar has it."""
        info = tarfile.TarInfo(self.path)
        info.mtime = 1
        if self.target is not None:
            info.type, info.linkname, info.mode = tarfile.SYMTYPE, self.target, 0o777
        else:
            info.size, info.mode = len(self.content), 0o755 if self.executable else 0o644
        return info

    def told(self) -> bytes:
        """All of it, so that no two entries are told alike."""
        facts = [self.path, len(self.content), self.executable, self.target]
        return json.dumps(facts).encode() + b"\n" + self.content


def digest(spec: ModelSpec, lock: Lock, contents: Contents, sources: Mapping[str, Sequence[str]]) -> str:
    """What `export` would say of an export."""
    seen = hashlib.sha256()
    for entry in _entries(spec, lock, contents, sources, _ours()):
        seen.update(entry.told())
    return seen.hexdigest()


def export(
    spec: ModelSpec, lock: Lock, contents: Contents, sources: Mapping[str, Sequence[str]], out: Path
) -> str:
    """Write an export; a digest of all that it is. sources: URLs by sha256, without credentials.

    Raises ExportError where `out` is something else than an export, or can't be written.
    """
    out = out.resolve()
    if out.exists() and not is_export(out) and any(out.iterdir() if out.is_dir() else [out]):
        raise ExportError(
            "there is something here that is not an export, and it is not overwritten",
            where=str(out),
            hint=None if contents.directory.is_relative_to(out) else "remove it",
        )
    seen = hashlib.sha256()
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as folder:
            fresh = Path(folder) / "export"
            # A model's files may change meanwhile: what is written counts.
            ours = _ours()
            there = _there(out, ours)
            for entry in _entries(spec, lock, contents, sources, ours):
                seen.update(entry.told())
                if entry.path not in there:
                    entry.write(fresh)
            for file in contents.own:
                (fresh / "files").mkdir(exist_ok=True)
                shutil.copyfile(file, fresh / "files" / file.name)
                (fresh / "files" / file.name).chmod(0o755 if _is_executable(file) else 0o644)
            if not out.exists():
                fresh.rename(out)
                return seen.hexdigest()
            # An older export: what else lies there, such as `.git` or Nix's `result`, is the user's.
            old = Path(folder) / "old"
            old.mkdir()
            for name in sorted(one.name for one in fresh.iterdir()):
                if (out / name).exists():
                    (out / name).rename(old / name)
                (fresh / name).rename(out / name)
    except OSError as problem:
        is_full = problem.errno in (errno.ENOSPC, errno.EDQUOT)
        raise ExportError(
            f"the export can't be written: {problem.strerror}",
            # Of a copy both are named, and the second is what is written.
            where=str(problem.filename2 or problem.filename or out),
            hint=f"{'make room there; ' if is_full else ''}nothing was left behind",
        ) from None
    return seen.hexdigest()


PARTS = ("tungsten", "lock", "model")
"""Of an export that is kept: what is ours, which changes with tungsten alone, the lock, and what is the model's."""


def pack(spec: ModelSpec, lock: Lock, contents: Contents, folder: Path) -> dict[str, Path]:
    """An export without what depends on this machine, as tars in a folder: the same bytes each time.

    Each of `PARTS` by its name; together they are the export.
    """
    ours = _ours()
    constant = {entry.path for entry in ours} | {"flake.nix"}
    parts: dict[str, list[_Entry]] = {name: [] for name in PARTS}
    for entry in _entries(spec, lock, contents, {}, ours):
        if entry.path == LOCK_NAME:
            parts["lock"].append(entry)
        elif entry.path != "sources.json":
            parts["tungsten" if entry.path in constant else "model"].append(entry)
    paths = {name: folder / f"{name}.tar" for name in PARTS}
    for name, entries in parts.items():
        with paths[name].open("wb") as file:
            with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar:
                for entry in sorted(entries, key=lambda entry: entry.path):
                    tar.addfile(entry.member(), io.BytesIO(entry.content))
            # Python fills up a tape's record.
            file.truncate(tar.offset)
    return paths


def _entries(
    spec: ModelSpec,
    lock: Lock,
    contents: Contents,
    sources: Mapping[str, Sequence[str]],
    ours: Iterable[_Entry],
) -> Iterator[_Entry]:
    """All of an export but `contents.own`. ours: what of it is the same as long as tungsten is (`_ours`)."""
    named = {file.path for file in contents.big}
    for file in contents.files:
        if file.target is not None:
            yield _Entry(f"model/{file.path}", target=file.target)
        elif file.path not in named:
            yield _read(contents.directory / file.path, f"model/{file.path}")
    yield from ours
    if lock.package_set == "nixpkgs":
        from tungstenkit.export import nixpkgs

        yield from (_Entry(name, text.encode()) for name, text in nixpkgs.files(lock).items())
    else:
        yield _Entry("flake.nix", exported_files()["nix/flake/exported-flake.nix"])
    yield _Entry("spec.json", spec.to_json().encode())
    yield _Entry("tungsten.lock", lock.to_json().encode())
    yield _Entry("sources.json", to_json(sources).encode())
    yield _Entry("files.json", to_json([one.to_json() for one in contents.big]).encode())


def _ours() -> list[_Entry]:
    return [_Entry(name, content) for name, content in exported_files().items()]


def _there(out: Path, ours: Sequence[_Entry]) -> set[str]:
    """What need not be written again: of ours, each part of an older export that is the same, and holds nothing else.

    It hardly changes, and is most of an export's files.
    """
    there: set[str] = set()
    for name in dict.fromkeys(entry.path.partition("/")[0] for entry in ours):
        part = {entry.path: entry for entry in ours if entry.path.startswith(f"{name}/")}
        wanted = part.keys() | {str(above) for path in part for above in PurePath(path).parents[:-1]}
        with suppress(OSError):
            found = {name, *(path.relative_to(out).as_posix() for path in (out / name).rglob("*"))}
            is_same = found == wanted and not (out / name).is_symlink()
            if is_same and all(entry.is_at(out / path) for path, entry in part.items()):
                there |= part.keys()
    return there


def _read(source: Path, path: str) -> _Entry:
    return _Entry(path, source.read_bytes(), _is_executable(source))


def _is_executable(file: Path) -> bool:
    return bool(file.stat().st_mode & stat.S_IXUSR)


def bootstrap_urls(mirrors: Mirrors) -> dict[str, list[str]]:
    """Where the bootstrap's 7-Zip is, for a build without `tungsten fetch`; empty where no npm registry is known."""
    if mirrors.npm is None:
        return {}
    return {SEVEN_ZIP["sha256"]: [SEVEN_ZIP["file"].replace("mirror://npm", mirrors.npm)]}


def public(urls: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """The URLs that may be written down: those without a user's name or password, and of no place on this machine.

    A file that is left without any is left out.
    """
    open_urls = {
        sha256: [
            url for url in found if url.startswith(("http:", "https:")) and "@" not in urlsplit(url).netloc
        ]
        for sha256, found in urls.items()
    }
    return {sha256: found for sha256, found in open_urls.items() if found}


def git_notice(out: Path) -> str | None:
    """What a user must know where an export lies in a git work tree: Nix sees only what git knows there."""
    command = ["git", "-C", str(out), "rev-parse", "--show-toplevel"]
    try:
        run = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return None
    if run.returncode != 0:
        return None
    return (
        f"{out} is inside the git work tree {run.stdout.strip()}: Nix sees only the files there that git knows. "
        f"Use `nix build path:{out}#model-image`, or `git add -N {out}` first."
    )
