"""Source archives that are made here, of folders and of git commits: the same bytes wherever they are made."""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
import tarfile
from pathlib import Path
from typing import IO, TYPE_CHECKING
from urllib.parse import urlsplit

from tungstenkit import certificates, started
from tungstenkit.digest import measure
from tungstenkit.lacks import installing
from tungstenkit.outside import GIT, git_name_problem, redact, url_problem
from tungstenkit.sdk.errors import FetchError
from tungstenkit.spec.lfs import named, pointers

if TYPE_CHECKING:
    from collections.abc import Iterator

EPOCH = 315532800
"""1 January 1980, in seconds: the first day that a zip archive knows, and so a wheel."""

# What tools leave in a folder, and what is no part of a project.
_LEFT_OUT = frozenset(
    {
        *(
            ".git",
            ".hg",
            ".svn",
            ".tungsten",
            "tungsten.lock",
            "__pycache__",
            ".venv",
            "venv",
            ".tox",
            ".nox",
        ),
        *(".eggs", ".mypy_cache", ".pytest_cache", ".ruff_cache", ".hypothesis"),
    }
)


def pack(folder: Path, out: Path) -> None:
    """Make the archive of a folder: sorted, without owners and times, each file executable or not.

    Raises FetchError for what would mean something else elsewhere: a link out of the folder, a socket.
    """
    with tarfile.open(out, "w", format=tarfile.GNU_FORMAT) as archive:
        for path in _walk(folder, folder):
            info = tarfile.TarInfo(f"source/{path.relative_to(folder).as_posix()}")
            info.mtime = EPOCH
            mode = path.lstat().st_mode
            if stat.S_ISLNK(mode):
                info.type, info.linkname = tarfile.SYMTYPE, _target(path, folder)
                archive.addfile(info)
            elif stat.S_ISREG(mode):
                info.mode = 0o755 if mode & stat.S_IXUSR else 0o644
                info.size = path.stat().st_size
                with path.open("rb") as file:
                    archive.addfile(info, file)
            else:
                raise FetchError("neither a file nor a link, so it can't be in a source", where=str(path))


def _walk(folder: Path, top: Path) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        if path.name in _LEFT_OUT or path.suffix in (".pyc", ".pyo", ".egg-info"):
            continue
        # What `setup.py` leaves at the top would end up in the wheel, whatever it was made from.
        if folder == top and path.name in ("build", "dist") and not (path / "__init__.py").exists():
            continue
        if path.is_dir() and not path.is_symlink():
            yield from _walk(path, top)
        else:
            yield path


def _target(link: Path, top: Path) -> str:
    target = os.readlink(link)  # noqa: PTH115 (as it is written)
    if not Path(os.path.realpath(link)).is_relative_to(top.resolve()) or target.startswith("/"):
        raise FetchError(
            f"links out of the source, to {target}", where=str(link), hint="put a copy of the file there"
        )
    return target


def check_out(url: str, ref: str | None, out: Path) -> str:
    """Make the archive of a commit of a git repository, with its submodules and large files (LFS); the commit's name.

    ref: a branch, tag or commit; None is what the repository itself shows.

    Raises FetchError where there is no git, no such repository, commit or large file, and for words that are none.
    """
    for what, problem in ((url, url_problem(url, GIT)), (ref, ref and git_name_problem(ref))):
        if problem:
            raise FetchError(f"{what!a} {problem}", where="a git repository", hint="see python_packages")
    with started.scratch() as name:
        folder = name / "source"
        folder.mkdir()
        _git(folder, "init", "--quiet")
        fetch = ("fetch", "--quiet", "--no-tags")
        try:
            _git(folder, *fetch, "--depth=1", END, url, ref or "HEAD", place=url)
            commit = _commit(folder, "FETCH_HEAD")
        except FetchError:
            # A server may refuse a commit by its name where no branch ends there.
            if ref is None or not re.fullmatch(r"[0-9a-f]{7,64}", ref):
                raise
            _git(folder, *fetch, END, url, "+refs/*:refs/tungsten/*", place=url)
            commit = _commit(folder, ref)
        _git(folder, "checkout", "--quiet", "--detach", commit)
        if (folder / ".gitmodules").exists():
            _git(folder, "submodule", "--quiet", "update", "--init", "--recursive", place=url)
        _fetch_large(folder, url)
        pack(folder, out)
    return commit


def _fetch_large(folder: Path, url: str) -> None:
    """Put the large files of a checkout, and of its submodules, into the place of their pointers."""
    paths = {path.relative_to(folder).as_posix(): path for path in _walk(folder, folder)}
    found = pointers(folder, paths)
    if not found:
        return
    if shutil.which("git-lfs") is None:
        raise FetchError(named(found), where=redact(url), hint=str(installing("git-lfs")))
    # An empty repository: what the checkout says of where its large files are is not for it to say.
    asking = Path(f"{folder}-large")
    asking.mkdir()
    _git(asking, "init", "--quiet")
    whole = asking / "large"
    for name, pointer in found.items():
        path = paths[name]
        # A submodule is a repository of its own, with a place of its own.
        owner = next(above for above in path.parents if (above / ".git").exists())
        place = url if owner == folder else _git(owner, "config", "remote.origin.url").strip()
        if problem := url_problem(place, GIT):
            raise FetchError(f"{place!a} {problem}", where=name)
        command = ("-c", f"remote.origin.url={place}", "lfs", "smudge", "--", path.name)
        with path.open("rb") as text, whole.open("wb") as content:
            _git(asking, *command, place=place, large=(text, content))
        if measure(whole) != (pointer.size, pointer.sha256):
            raise FetchError(
                f"git-lfs does not give {name}, whose sha256 is {pointer.sha256}",
                where=redact(place),
                hint="check the access to it: `git lfs fetch` in a clone of the repository",
            )
        whole.chmod(path.stat().st_mode)
        whole.replace(path)


END = "--end-of-options"
"""What follows it is none of git's options (gitcli(7)), whoever wrote it."""


def _commit(folder: Path, name: str) -> str:
    found = _git(folder, "rev-parse", "--verify", "--quiet", END, f"{name}^{{commit}}").split()
    # Before 2.43 it says again where its options end.
    return found[-1]


def _git(
    folder: Path,
    *arguments: str,
    place: str | None = None,
    large: tuple[IO[bytes], IO[bytes]] | None = None,
) -> str:
    """Run git. place: the repository's URL, where one is asked. large: a pointer and the file to write, for git-lfs."""
    # What a checkout holds must not follow from this machine's settings; its credential helpers do count.
    settings = {
        "core.autocrlf": "false",
        "core.eol": "lf",
        "core.symlinks": "true",
        "core.hooksPath": os.devnull,
        "filter.lfs.smudge": "cat",
        "filter.lfs.process": "",
        "filter.lfs.required": "false",
        "init.defaultBranch": "main",
    }
    options = [part for key, value in settings.items() for part in ("-c", f"{key}={value}")]
    known = os.environ if place is None else certificates.environment(*_own_certificates(place))
    environment = {key: value for key, value in known.items() if not key.startswith("GIT_DIR")}
    environment |= {"GIT_TERMINAL_PROMPT": "0", "GIT_LFS_SKIP_SMUDGE": "0" if large else "1", "LC_ALL": "C"}
    # Nor may a repository's submodules run a program (`ext::`), or read this machine where it is another's (git(1)).
    asks_itself = arguments[0] == "fetch" or large is not None
    is_local = place is not None and asks_itself and urlsplit(place).scheme == "file"
    environment["GIT_ALLOW_PROTOCOL"] = ":".join(way for way in GIT if way != "file" or is_local)
    command = ["git", *options, *arguments]
    try:
        run = subprocess.run(
            command,
            cwd=folder,
            env=environment,
            stdin=large[0] if large else subprocess.DEVNULL,
            stdout=large[1] if large else subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    except FileNotFoundError:
        raise FetchError(
            "git is not installed, and a requirement names a git repository",
            hint=str(installing("git")),
        ) from None
    if run.returncode != 0:
        said = redact(run.stderr.strip())
        handshake = certificates.problem_in(said) if place is not None else None
        raise FetchError(
            f"git can't get it: {handshake or said}",
            where=place and redact(place),
            hint=certificates.hint(handshake)
            if handshake
            else "check the URL, the name after `@`, and the access to it",
        )
    return run.stdout or ""


def _own_certificates(url: str) -> list[str]:
    """The files that git's own settings name for a URL; what its variable names counts in their place."""
    command = ["git", "config", "--type=path", "--get-urlmatch", "http.sslCAInfo", url]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.split("\n")[:1]
    except FileNotFoundError:
        return []
