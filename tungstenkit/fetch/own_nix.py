"""tungsten's own Nix: Debian's, taken by the signed index of its newest release, for a machine that has none.

It is what `nix_program` starts. Only what runs is kept: the program, and the libraries that it loads, flat in one
folder, with the loader that they came with. Nothing of it is pinned here: an index is believed by its signature, and
what was taken is written down beside it, by hash.
"""

from __future__ import annotations

import fcntl
import hashlib
import re
import shlex
import shutil
import subprocess
import tempfile
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from tungstenkit import disk, nix_program
from tungstenkit.at_once import at_once
from tungstenkit.debian.deb import open_files
from tungstenkit.debian.index import ARCHIVES, Trust, fetch_index, trusted_certificates
from tungstenkit.debian.solve import DebSolver
from tungstenkit.document import to_json
from tungstenkit.fetch.download import download
from tungstenkit.fetch.needs import LockedFile
from tungstenkit.fetch.web import PARALLEL, Fetcher
from tungstenkit.platforms import ARCHITECTURES, this_system
from tungstenkit.sdk.errors import BuildError, FetchError, GoneError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from tarfile import TarFile

    from tungstenkit.debian.index import ReleaseIndex
    from tungstenkit.debian.solution import ResolvedDeb
    from tungstenkit.fetch.mirrors import Mirrors
    from tungstenkit.platforms import Architecture
    from tungstenkit.watch import Watch

_REQUEST = "nix-bin"
_NOT_OURS = "no command of Nix's that we start runs it"
_NOT_FOLLOWED = {
    "libreadline8t64": {"readline-common": "its settings are for who types"},
    "libsasl2-2": {"libsasl2-modules-db": "nobody signs in by LDAP"},
    "libssl3t64": {"openssl-provider-legacy": "nothing is encrypted by ciphers of old"},
    "nix-bin": {
        "bash-static": "the sandbox has no shell: builds bring their own",
        **dict.fromkeys(
            ("bzip2", "curl", "libdbd-sqlite3-perl", "libwww-curl-perl", "perl", "xz-utils"), _NOT_OURS
        ),
    },
}
"""Dependencies that Nix itself does not load, by package and by the dependency's first name, with the reasons."""

_LIBRARY = re.compile(r"[\w.+-]+\.so(\.[\w.+-]+)*")
_LOADER = "ld-linux*.so.*"
_COMMANDS = ("nix-build", "nix-collect-garbage", "nix-env", "nix-instantiate", "nix-store")
"""Other names of the one program."""
RECORD = "taken.json"
"""Says what was taken, and of which indexes; beside what it is about."""


@dataclass(frozen=True)
class Origin:
    """Where Debian's packages come from."""

    bases: Mapping[str, Sequence[str]]
    """As `fetch_index` has them."""
    get: Callable[[str], bytes]
    urls: Callable[[str, Mapping[str, str]], Sequence[str]]
    """As `Mirrors.urls`."""
    now: datetime
    """The moment by which its indexes are judged."""

    @classmethod
    def of(cls, mirrors: Mirrors) -> Origin:
        """That of a machine's mirrors."""
        return cls(mirrors.debian_bases, Fetcher(), mirrors.urls, mirrors.found)

    @classmethod
    def carried(cls, files: Mapping[str, Path]) -> Origin:
        """One whose files were carried here, by their places; it is judged by the moment that it was carried away."""

        def get(url: str) -> bytes:
            if url not in files:
                hint = "make the copy on a machine of this kind, or install Nix: see its manual"
                raise FetchError("this was not carried here", where=url, hint=hint)
            return files[url].read_bytes()

        def urls(file: str, _timestamps: Mapping[str, str]) -> list[str]:
            path = files.get(file.removeprefix("mirror://"))
            return [path.resolve().as_uri()] if path else []

        bases = {name: (name,) for name in ARCHIVES}
        return cls(bases, get, urls, max(_stated_dates(files), default=datetime.fromtimestamp(0, UTC)))


def _stated_dates(files: Mapping[str, Path]) -> Iterator[datetime]:
    """What indexes say of their dates; nobody has looked at their signatures yet."""
    for place, path in files.items():
        if place.endswith("/InRelease"):
            found = re.search(r"(?m)^Date: *(.+)$", path.read_text(encoding="utf-8", errors="replace"))
            with suppress(ValueError):
                date = parsedate_to_datetime(found[1] if found else "")
                yield date.replace(tzinfo=date.tzinfo or UTC)


def bring(origin: Callable[[], Origin], watch: Watch) -> None:
    """Bring our own Nix, where it is the one that is started and is not there yet.

    origin: finds where it is taken from. Raises FetchError where it can't be had, BuildError where it can't be run
    here.
    """
    if not nix_program.current().is_absent:
        return
    if this_system() not in ARCHITECTURES:
        raise BuildError(
            f"tungsten has no Nix of its own for {this_system()}",
            hint="install Nix: see its manual",
        )
    folder = nix_program.own_folder()
    with _alone(folder.parent, watch):
        # Another process may have brought it meanwhile.
        if nix_program.current().is_absent:
            why = "" if shutil.which("nix-store") else "there is no Nix on PATH: "
            watch.notice(f"{why}taking Debian {nix_program.OWN_RELEASE}'s, into {folder.parent}")
            _take(folder, origin(), watch)


@contextmanager
def _alone(folder: Path, watch: Watch) -> Iterator[None]:
    """Wait until no other process brings a Nix into a folder, and keep others waiting; what one has left is removed."""
    nix_program.make_store(*nix_program.store_variables(nix_program.folder_of_nix()).values(), is_own=True)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "busy").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                watch.notice("another tungsten is bringing Nix: waiting for it")
                fcntl.flock(file, fcntl.LOCK_EX)
            for left in folder.glob(".new-*"):
                shutil.rmtree(left)
            yield
    except OSError as problem:
        raise FetchError(
            f"Nix can't be brought there: {problem.strerror or problem}",
            where=str(problem.filename or folder),
            hint=f"make room, or set {nix_program.HOME} to another folder",
        ) from None


def _take(folder: Path, origin: Origin, watch: Watch) -> None:
    """Download, unpack and try Nix; it is in a folder whole, or not at all."""
    architecture = ARCHITECTURES[this_system()]
    with watch.working(f"reading Debian {nix_program.OWN_RELEASE}'s indexes for Nix"):
        index, debs = solve(architecture, origin)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".new-") as scratch:
        new = Path(scratch) / "nix"
        unpack(_download(index, debs, origin, Path(scratch), watch), architecture, new)
        _try(new)
        _write_programs(new, folder)
        (new / RECORD).write_text(to_json(_record(index, debs)), encoding="utf-8")
        # One whose folder has moved since.
        shutil.rmtree(folder, ignore_errors=True)
        new.rename(folder)


def collect(origin: Origin, folder: Path, watch: Watch) -> dict[str, Path]:
    """What a machine without a network takes Nix from: of Debian's archive the files that `bring` would ask for, by
    their places there.

    folder: for what is downloaded. Raises FetchError.
    """
    found: dict[str, Path] = {}
    (folder / "index").mkdir()

    def get(url: str) -> bytes:
        content = origin.get(url)
        name, base = next(
            (name, base)
            for name, bases in origin.bases.items()
            for base in bases
            if url.startswith(f"{base}/")
        )
        path = folder / "index" / hashlib.sha256(content).hexdigest()
        path.write_bytes(content)
        found[f"{name}{url.removeprefix(base)}"] = path
        return content

    with watch.working(f"reading Debian {nix_program.OWN_RELEASE}'s indexes for Nix"):
        index, debs = solve(ARCHITECTURES[this_system()], replace(origin, get=get), folder / "cache")
        # For a machine that has not Debian's keys; a mirror may have a newer package of them alone.
        with suppress(FetchError):
            trusted_certificates(index.release, ARCHIVES[0], origin.bases, get, keyrings=())
    paths = _download(index, debs, origin, folder, watch)
    return found | {deb.file.removeprefix("mirror://"): path for deb, path in zip(debs, paths, strict=True)}


def _download(
    index: ReleaseIndex, debs: Sequence[ResolvedDeb], origin: Origin, folder: Path, watch: Watch
) -> list[Path]:
    (downloads := folder / "downloads").mkdir()
    files = [LockedFile(deb.file, deb.size, deb.sha256, release=index.release) for deb in debs]
    with watch.fetching("fetching Nix") as bar:
        bar.start(len(files), sum(file.size for file in files))
        urls = [origin.urls(file.file, index.timestamps) for file in files]
        try:
            return at_once(
                lambda one: download(*one, downloads, bar), zip(files, urls, strict=True), PARALLEL
            )
        except GoneError as problem:
            # It is no file of a lock's.
            hint = "the index has changed meanwhile: try again; or install Nix: see its manual"
            raise FetchError(problem.what, where=problem.where, hint=hint) from None


def solve(
    architecture: Architecture, origin: Origin, cache: Path | None = None
) -> tuple[ReleaseIndex, Sequence[ResolvedDeb]]:
    """The packages that Nix is made of, by the index of today. cache: of indexes (default: the user's)."""
    trust = Trust(origin.now)
    index = fetch_index(
        nix_program.OWN_RELEASE, architecture.debian, origin.bases, origin.get, trust, cache=cache
    )
    return index, DebSolver(index, _NOT_FOLLOWED).solve({"nix": [_REQUEST]}, where="tungsten's own Nix").debs


def unpack(debs: Sequence[Path], architecture: Architecture, folder: Path) -> None:
    """Unpack what runs, of packages: `lib/nix`, and all libraries beside it."""
    (folder / "lib").mkdir(parents=True)
    for path in debs:
        with path.open("rb") as deb, open_files(deb, path.name) as tar:
            _unpack_one(tar, f"{architecture.machine}-linux-gnu", folder / "lib")
    for name in ("nix", _LOADER):
        if len(found := list((folder / "lib").glob(name))) != 1:
            raise FetchError(
                f"Debian's packages of Nix have {len(found)} files that are called {name}",
                hint="update tungsten, or install Nix: see its manual",
            )
        found[0].chmod(0o755)


def _unpack_one(tar: TarFile, triplet: str, folder: Path) -> None:
    places = ("usr", "lib", triplet), ("lib", triplet)
    for member in tar:
        *place, name = PurePosixPath(member.name).parts or [""]
        is_program = (*place, name) == ("usr", "bin", "nix")
        if not is_program and not (tuple(place) in places and _LIBRARY.fullmatch(name)):
            continue
        if member.isfile():
            content = tar.extractfile(member)
            assert content is not None  # it is a file
            with (folder / name).open("wb") as file:
                shutil.copyfileobj(content, file)
        elif member.issym() and _LIBRARY.fullmatch(PurePosixPath(member.linkname).name):
            (folder / name).symlink_to(PurePosixPath(member.linkname).name)


def _start_of(lib: Path, loader: str) -> list[str]:
    """How the program in a folder is started: by the loader that is there, with what is there.

    Neither the machine's libraries nor its index of them have a part in it.
    """
    return [str(lib / loader), "--inhibit-cache", "--library-path", str(lib)]


def _try(folder: Path) -> None:
    """Raise BuildError where what was unpacked can't be run."""
    lib = folder / "lib"
    command = [*_start_of(lib, _loader_in(lib)), str(lib / "nix"), "--version"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        said = (
            "" if done.returncode == 0 else done.stderr.strip() or f"it ended with status {done.returncode}"
        )
    except OSError as problem:
        said = problem.strerror or str(problem)
    if said:
        raise BuildError(
            f"Debian {nix_program.OWN_RELEASE}'s Nix can't be run here: {said}",
            where=str(nix_program.own_folder()),
            hint=f"install Nix: see its manual; or name one with {nix_program.VARIABLE}=/path/of/nix",
        )


def _loader_in(lib: Path) -> str:
    (loader,) = lib.glob(_LOADER)
    return loader.name


def _write_programs(new: Path, folder: Path) -> None:
    """Write the script that starts Nix, by its names, for its own store. folder: where `new` will be."""
    lib = folder / "lib"
    where = nix_program.folder_of_nix()
    start = shlex.join(_start_of(lib, _loader_in(new / "lib")))
    lines = [
        "#!/bin/sh",
        "# tungsten's own Nix, by its own loader and for its own store.",
        *(f'export {name}="{value}"' for name, value in nix_program.own_settings(where).items()),
        *(
            f'export {name}="${{{name}-{value}}}"'
            for name, value in nix_program.store_variables(where).items()
        ),
        "# Its build hook would be started by /proc/self/exe, which is the loader here; no build of ours needs one,",
        "# nor a shell of this machine in the sandbox.",
        f"exec {start} --argv0 \"${{0##*/}}\" {lib / 'nix'} --option build-hook '' --option sandbox-paths '' \"$@\"",
    ]
    (new / "bin").mkdir()
    script = new / "bin" / "nix"
    script.write_text("\n".join(lines) + "\n", encoding="utf-8")
    script.chmod(0o755)
    for name in _COMMANDS:
        (new / "bin" / name).symlink_to("nix")


def _record(index: ReleaseIndex, debs: Sequence[ResolvedDeb]) -> dict[str, Any]:
    return {
        "release": index.release,
        "architecture": index.architecture,
        "indexes": [
            {
                "suite": one.suite,
                "date": f"{one.date:%Y-%m-%dT%H:%M:%SZ}",
                "packages-sha256": one.packages_sha256,
            }
            for one in index.suites
        ],
        "debs": [
            {
                "name": deb.name,
                "version": deb.version,
                "file": deb.file,
                "size": deb.size,
                "sha256": deb.sha256,
            }
            for deb in debs
        ],
    }


def parts() -> list[Path]:
    """Where our own Nix, all of them, and this user's store are; what else is in that folder is not ours."""
    return [nix_program.folder_of_nix() / name for name in ("own", "store", "var")]


def remove() -> int:
    """Remove our own Nix, and this user's store; how many bytes that were.

    Raises FetchError where something can't be removed.
    """
    folder = nix_program.folder_of_nix()
    try:
        size = sum(disk.erase(part) for part in parts() if part.exists())
        with suppress(OSError):
            folder.rmdir()
    except OSError as problem:
        raise FetchError(
            f"it can't be removed: {problem.strerror}", where=str(problem.filename or folder)
        ) from None
    return size
