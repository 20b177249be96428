"""What a model declares in `files`, found out: from wishes to what the lock has of them.

A pin stays as long as what is asked for stays: a branch's commit, the hash of a file that was seen once. What a server
does not state is downloaded here, and waits where `tungsten fetch` looks for it.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from pathspec import GitIgnoreSpec

from tungstenkit import store
from tungstenkit.at_once import at_once
from tungstenkit.fetch.declared_here import find_clashes
from tungstenkit.fetch.download import first_sight, size_of
from tungstenkit.fetch.web import PARALLEL
from tungstenkit.lock.parts import Files, LockedDownload, LockedRepository, RepositoryFile
from tungstenkit.sdk.errors import FetchError, ResolveError
from tungstenkit.spec.document import DownloadWish, RepositoryWish
from tungstenkit.spec.lfs import named, pointers

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from tungstenkit.fetch.download import Progress
    from tungstenkit.fetch.hub import TreeFile


def lock_files(
    wishes: Sequence[DownloadWish | RepositoryWish],
    previous: Files,
    downloads: Path,
    progress: Progress,
    notice: Callable[[str], None],
) -> Files:
    """What a lock has of a model's `files`.

    previous: the pins that are kept where they still fit. downloads: the folder that `tungsten fetch` downloads into.
    notice: is told, a line each, what was taken as it came.

    Raises ResolveError where a repository, a revision or a file is not there, or two files go to one place; FetchError
    where a server gives no answer.
    """
    found = Files(
        downloads=tuple(
            _download(wish, previous, downloads, progress, notice)
            for wish in wishes
            if isinstance(wish, DownloadWish)
        ),
        repositories=tuple(
            _repository(wish, previous, downloads, progress)
            for wish in wishes
            if isinstance(wish, RepositoryWish)
        ),
    )
    if problems := find_clashes(found.in_model()):
        raise ResolveError("\n".join(["these files can't be where they shall be:", *problems]), where="files")
    return found


def _download(
    wish: DownloadWish, previous: Files, downloads: Path, progress: Progress, notice: Callable[[str], None]
) -> LockedDownload:
    def locked(size: int, sha256: str) -> LockedDownload:
        return LockedDownload(url=wish.url, size=size, sha256=sha256, to=wish.to, executable=wish.executable)

    for pin in previous.downloads:
        if pin.url == wish.url and wish.sha256 in (None, pin.sha256):
            return locked(pin.size, pin.sha256)
    size = size_of(wish.url)
    if wish.sha256 is not None and size is not None:
        return locked(size, wish.sha256)
    progress.start(1, size or 0)
    name = store.store_name(wish.to.rpartition("/")[2])
    seen = first_sight(wish.url, name, downloads, progress)
    if wish.sha256 not in (None, seen.sha256):
        raise FetchError(
            f"{wish.to} is another file than files=[Download(…)] says",
            where=wish.url,
            hint=f"its sha256 is {seen.sha256}",
        )
    _check_whole(downloads / seen.sha256 / name, wish.to, wish.url, "name the address of the file itself")
    if wish.sha256 is None:
        notice(f"{wish.to}: seen for the first time, and locked as it came; sha256 {seen.sha256}")
    return locked(seen.size, seen.sha256)


def _repository(
    wish: RepositoryWish, previous: Files, downloads: Path, progress: Progress
) -> LockedRepository:
    from tungstenkit.fetch import hub

    pins = [
        pin
        for pin in previous.repositories
        if (pin.repository, pin.type, pin.revision) == (wish.repository, wish.type, wish.revision)
    ]
    wanted = (tuple(wish.include), tuple(wish.exclude))
    for pin in pins:
        if (pin.include, pin.exclude) == wanted:
            return pin.model_copy(update={"to": wish.to})
    if pins:
        commit, restricted = pins[0].commit, pins[0].restricted
    else:
        snapshot = hub.look_up(wish.type, wish.repository, wish.revision)
        commit, restricted = snapshot.commit, snapshot.restricted
    chosen = _chosen(hub.tree(wish.type, wish.repository, commit), wish, commit)
    known = {(pin.commit, file.path): file for pin in pins for file in pin.files}
    # Of a small file the hub states git's blob ID alone.
    small = [file for file in chosen if file.sha256 is None and (commit, file.path) not in known]
    seen = _hash_small(wish, commit, small, downloads, progress)
    files = []
    for file in chosen:
        sha256 = file.sha256 or seen.get(file.path)
        if sha256 is not None:
            files.append(RepositoryFile(path=file.path, size=file.size, sha256=sha256))
        else:
            files.append(known[commit, file.path])
    return LockedRepository(
        repository=wish.repository,
        type=wish.type,
        revision=wish.revision,
        commit=commit,
        restricted=restricted,
        to=wish.to,
        include=wanted[0],
        exclude=wanted[1],
        files=tuple(files),
    )


def _hash_small(
    wish: RepositoryWish, commit: str, files: Sequence[TreeFile], downloads: Path, progress: Progress
) -> dict[str, str]:
    """The sha256 of files, by path, several at a time."""
    progress.start(len(files), sum(file.size for file in files))
    hashes = at_once(lambda file: _hash_one(wish, commit, file, downloads, progress), files, PARALLEL)
    return {file.path: sha256 for file, sha256 in zip(files, hashes, strict=True)}


def _chosen(files: Sequence[TreeFile], wish: RepositoryWish, commit: str) -> list[TreeFile]:
    """Those of a repository's files that a wish names; ResolveError where it is none."""
    try:
        included, excluded = GitIgnoreSpec.from_lines(wish.include), GitIgnoreSpec.from_lines(wish.exclude)
    except ValueError as problem:
        raise ResolveError(
            f"files: HuggingFace({wish.repository!r}): {problem}", hint="patterns are as in .gitignore"
        ) from None
    chosen = [
        file
        for file in files
        if (not wish.include or included.match_file(file.path)) and not excluded.match_file(file.path)
    ]
    if not chosen:
        raise ResolveError(
            "no file of the repository is left by include and exclude"
            if files
            else "the repository is empty",
            where=f"{wish.repository} at {commit}",
            hint=f"it has {', '.join(file.path for file in files[:8])}" if files else None,
        )
    return chosen


def _hash_one(wish: RepositoryWish, commit: str, file: TreeFile, downloads: Path, progress: Progress) -> str:
    """The sha256 of a file of which the hub states git's blob ID alone."""
    from tungstenkit.fetch import hub

    name = store.store_name(file.path.rpartition("/")[2])
    url = hub.file_url(wish.type, wish.repository, commit, file.path)
    seen = first_sight(url, name, downloads, progress)
    content = (downloads / seen.sha256 / name).read_bytes()
    # As git names a blob (gitformat-loose).
    if hashlib.sha1(b"blob %d\0%b" % (len(content), content), usedforsecurity=False).hexdigest() != file.blob:
        raise FetchError(
            f"{file.path} is not the file that the hub's list names",
            where=f"{wish.repository} at {commit}",
            hint="the hub, or something on the way to it, is wrong: try again, or on another network",
        )
    hint = f"nobody has put the file itself there: ask who did, or leave it out: exclude=[{file.path!r}]"
    _check_whole(downloads / seen.sha256 / name, file.path, f"{wish.repository} at {commit}", hint)
    return seen.sha256


def _check_whole(path: Path, name: str, where: str, hint: str) -> None:
    """FetchError where a downloaded file is a pointer of Git LFS."""
    if pointers(path.parent, [path.name]):
        raise FetchError(named([name]), where=where, hint=hint)
