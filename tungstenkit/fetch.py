"""Everything that a lock names, brought into the Nix store as the paths that the build asks for.

Downloads run in parallel, resume where they were cut, and count only when size and sha256 are right. A file
lands in the store whole or not at all; after a fetch, a build needs no network. `Progress` is told of every
byte, and prints nothing here.
"""

from __future__ import annotations

import errno
import hashlib
import shutil
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlsplit

from tungstenkit import certificates, store
from tungstenkit.errors import FetchError, GoneError, LockError
from tungstenkit.lock import LOCK_NAME
from tungstenkit.outside import WEB, url_problem

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import requests

    from tungstenkit.big_files import BigFile
    from tungstenkit.lock import (
        BaseLayer,
        Busybox,
        CommandResult,
        Deb,
        GitCommit,
        Lock,
        PostBuild,
        Source,
        Tools,
        Wheel,
    )
    from tungstenkit.mirrors import Mirrors

PARALLEL = 8
"""Downloads at a time: enough to hide latency, few enough to be a polite guest of a mirror."""
_TIMEOUT = (10, 60)
"""Seconds to connect, and between two pieces of an answer."""
_PIECE = 1 << 18
_UNTRUSTED = 0
"""In place of a status, of a server that TLS does not let us speak to: asking again changes nothing."""
_PAUSES = (1, 3, 0)
"""Seconds to wait after each round of asking all mirrors."""


@dataclass(frozen=True)
class Input:
    """One file that a lock names."""

    file: str
    """A `mirror://` name, or a wheel's file name."""
    size: int
    """In bytes."""
    sha256: str
    project: str | None = None
    """The wheel's project; None for anything else."""
    release: str | None = None
    """The Debian release that a package is from; None for anything else."""
    url: str | None = None
    """Where the model itself says that it is, http or https."""
    local: str | None = None
    """The same: a file or folder, relative to the model's folder."""
    git: GitCommit | None = None
    """The same: what it is made of."""
    image: str | None = None
    """`NAME@DIGEST`: an image that has it as a blob."""
    place: tuple[str, str, str, str] | None = None
    """Of a file on the Hugging Face hub: `model` or `dataset`, the repository, the commit, the path in it."""

    @property
    def name(self) -> str:
        """Its store name."""
        return store.store_name(self.file.rpartition("/")[2])

    @property
    def is_own(self) -> bool:
        """Whether it is made of a file, a folder or a git repository that the model names, so that no mirror has it."""
        return self.local is not None or self.git is not None

    @property
    def path(self) -> str:
        """Its store path."""
        return store.file_path(self.sha256, self.name)


class Progress(Protocol):
    """Who wants to know how far a fetch is."""

    def start(self, files: int, size: int) -> None:
        """So many files and bytes are to be had."""

    def advance(self, size: int) -> None:
        """So many bytes more have come."""

    def done(self, name: str) -> None:
        """A file is complete and verified."""


def inputs(lock: Lock) -> tuple[Input, ...]:
    """Every file that a build of the lock needs, each once, sorted by store name."""
    from tungstenkit.registry import with_digest

    debs: list[tuple[str, Deb]] = []
    wheels: list[Wheel] = []
    archives: list[Input] = []
    for platform in lock.platforms.values():
        debs += [(platform.release, deb) for deb in platform.debs]
        wheels += platform.wheels
        for source in platform.sources:
            archives += source_inputs(source, platform.release)
        if platform.base_image is not None:
            base = platform.base_image
            archives += base_inputs(with_digest(base.reference, base.digest), base.layers)
    for environment in lock.server.values():
        wheels += environment.wheels
    for tools in lock.tools.values():
        for root in (tools.layers, tools.byte_code):
            debs += [(root.release, deb) for deb in root.debs]
        debs += [(tools.layers.release, deb) for deb in (tools.busybox, tools.bash)]
    files = [Input(deb.file, deb.size, deb.sha256, release=release) for release, deb in debs]
    files += [wheel_input(wheel) for wheel in wheels]
    files += archives
    files += declared_inputs(lock)
    return tuple(
        {(file.name, file.sha256): file for file in sorted(files, key=lambda file: file.name)}.values()
    )


def declared_inputs(lock: Lock) -> list[Input]:
    """What the model declares in `files`."""
    found = [Input(one.to, one.size, one.sha256, url=one.url) for one in lock.files.downloads]
    for repository in lock.files.repositories:
        for file in repository.files:
            place = (repository.type, repository.repository, repository.commit, file.path)
            found.append(Input(file.path, file.size, file.sha256, place=place))
    return found


def restricted(lock: Lock) -> set[str]:
    """The sha256 of the files that the hub gives only to some: no URL of theirs is of use to Nix."""
    return {
        file.sha256
        for repository in lock.files.repositories
        if repository.restricted
        for file in repository.files
    }


def wheel_input(wheel: Wheel) -> Input:
    """A wheel's file."""
    return Input(wheel.file, wheel.size, wheel.sha256, project=wheel.project, url=wheel.url, local=wheel.path)


def source_inputs(source: Source, release: str) -> list[Input]:
    """What the build of a source needs beside the tools: its archive, its build requirements, its root."""
    archive = Input(source.file, source.size, source.sha256, project=source.project)
    return [
        replace(archive, url=source.url, local=source.path, git=source.git),
        *(wheel_input(wheel) for wheel in source.build.wheels),
        *(Input(deb.file, deb.size, deb.sha256, release=release) for deb in source.build.debs),
    ]


def base_inputs(reference: str, layers: Iterable[BaseLayer]) -> list[Input]:
    """The layers of a base image. reference: its name and digest."""
    files = [(layer.digest.removeprefix("sha256:"), layer.size) for layer in layers]
    return [Input(f"layer-{sha256}", size, sha256, image=reference) for sha256, size in files]


def built_input(source: Source) -> Input:
    """The wheel that a sealed lock's source became; it is in the store, and nowhere else."""
    assert source.wheel is not None
    assert source.wheel_size is not None
    assert source.wheel_sha256 is not None
    return Input(source.wheel, source.wheel_size, source.wheel_sha256, project=source.project)


def tool_inputs(tools: Tools) -> list[Input]:
    """The programs that every build runs, but for those that compile byte-code."""
    debs = [*tools.layers.debs, tools.busybox]
    return [Input(deb.file, deb.size, deb.sha256, release=tools.layers.release) for deb in debs]


def locate(wanted: Iterable[Input], lock: Lock, mirrors: Mirrors) -> dict[str, list[str]]:
    """For each file's sha256 the URLs to try, in order; empty where no mirror has it.

    Debian's files stand where the lock says, below a mirror; a wheel's place is asked of the index, project by project.
    What is the model's own, or a registry's, has none.
    """

    from tungstenkit.mirrors import MissingError
    from tungstenkit.resolve import hub

    urls: dict[str, list[str]] = {}
    projects: dict[str, list[Input]] = {}
    for entry in wanted:
        if entry.is_own or entry.image is not None:
            urls[entry.sha256] = []
        elif entry.url is not None:
            urls[entry.sha256] = [entry.url]
        elif entry.place is not None:
            urls[entry.sha256] = [hub.file_url(*entry.place)]
        elif entry.project is None:
            timestamps = lock.releases[entry.release].timestamps if entry.release in lock.releases else {}
            urls[entry.sha256] = mirrors.urls(entry.file, timestamps)
        else:
            projects.setdefault(entry.project, []).append(entry)

    def listing_of(project: str) -> dict[str, str]:
        try:
            hashes = {entry.file: entry.sha256 for entry in projects[project]}
            return mirrors.wheel_urls(project, hashes, hashes)
        except MissingError:
            return {}

    with ThreadPoolExecutor(PARALLEL) as pool:
        listings = pool.map(listing_of, projects)
    for entries, listing in zip(projects.values(), listings, strict=True):
        for entry in entries:
            urls[entry.sha256] = [listing[entry.file]] if entry.file in listing else []
    return urls


def _needed(lock: Lock) -> tuple[Input, ...]:
    """The lock's files without those that only build wheels which the store has already."""
    built = {entry.path: source for source, entry in _built(lock)}
    gone = store.missing(list(built))
    finished = {id(source) for path, source in built.items() if path not in gone}
    platforms = {
        system: platform.model_copy(
            update={"sources": tuple(source for source in platform.sources if id(source) not in finished)}
        )
        for system, platform in lock.platforms.items()
    }
    return inputs(lock.model_copy(update={"platforms": platforms}))


def _built(lock: Lock) -> list[tuple[Source, Input]]:
    """The wheels that are built of the lock's sources."""
    return [
        (source, built_input(source))
        for platform in lock.platforms.values()
        for source in platform.sources
        if source.wheel is not None
    ]


def _results(lock: Lock) -> list[Input]:
    """What the lock's build steps have made."""
    made: list[PostBuild | CommandResult | None] = []
    for platform in lock.platforms.values():
        made += [platform.post_build, *platform.commands]
    return [Input(entry.file, entry.size, entry.sha256) for entry in made if entry is not None]


def absent(lock: Lock) -> tuple[Input, ...]:
    """Those of the lock's files that are not in the store yet; what builds a wheel that is there is not needed."""
    wanted = _needed(lock)
    gone = store.missing([entry.path for entry in wanted])
    return tuple(entry for entry in wanted if entry.path in gone)


def takes(lock: Lock, big: Sequence[BigFile] = ()) -> list[str]:
    """The store paths that a build of the lock takes, if they are there: downloads, what sealing built or made, the
    model's big files.
    """
    paths = [entry.path for entry in inputs(lock)]
    paths += [entry.path for _, entry in _built(lock)]
    paths += [entry.path for entry in _results(lock)]
    paths += [_busybox_path(tools.busybox) for tools in lock.tools.values()]
    return paths + [file.store_path for file in big]


def stored(entry: Input) -> Path | None:
    """Where a file lies in the Nix store; None where it is not there, whole. Nix itself need not be there."""
    path = Path(entry.path)
    try:
        return path if (path.stat().st_size, _sha256(path)) == (entry.size, entry.sha256) else None
    except OSError:
        return None


def fetch(
    lock: Lock,
    urls: Mapping[str, Sequence[str]],
    state: Path,
    progress: Progress,
    *,
    whole: Lock | None = None,
    big: Sequence[BigFile] = (),
    directory: Path = Path(),
) -> None:
    """Bring what is absent into the store and hold all of the lock's files there.

    whole: the lock that `lock` is a part of; what the store has of its other files is held as before.
    urls: for each sha256 the places to try, in order.
    state: the model's `.tungsten` folder; parts of downloads wait there.
    big: files of the model, whose folder is `directory`, that the build takes from the store, too.

    Raises FetchError for the first file that can't be had; those that arrived before it stay, and a part of a file
    waits to be resumed.
    """

    wanted = absent(lock)
    progress.start(len(wanted), sum(entry.size for entry in wanted))
    downloads = state / "downloads"
    try:
        downloads.mkdir(parents=True, exist_ok=True)
        images: dict[str, list[Input]] = {}
        for entry in wanted:
            if entry.image is not None:
                images.setdefault(entry.image, []).append(entry)
        with ThreadPoolExecutor(PARALLEL) as pool:
            # An image's blobs come together, and before what waits for a thread.
            layers = [pool.submit(pull_layers, found, downloads, progress) for found in images.values()]
            jobs = [
                pool.submit(download, entry, urls[entry.sha256], downloads, progress, directory)
                for entry in wanted
                if entry.image is None
            ]
            try:
                arrived = [path for pulled in layers for path in pulled.result()]
                arrived += [job.result() for job in jobs]
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
        # One process adds them all; a name is a store name only in a folder of its own.
        store.add_files(arrived)
        # Sealing may have left what the store had already.
        for entry in inputs(lock):
            shutil.rmtree(downloads / entry.sha256, ignore_errors=True)
        for tools in lock.tools.values():
            _add_busybox(tools.busybox, state)
        add_big(big, directory, state)
        held = takes(whole or lock, big)
        gone = store.missing(held)
        store.keep([path for path in held if path not in gone], state / "roots")
    except OSError as problem:
        raise disk_error(problem, state) from None


def download(
    entry: Input, urls: Sequence[str], folder: Path, progress: Progress, directory: Path = Path()
) -> Path:
    """Download one file, or make it, and verify it; its path, named by its store name.

    urls: http and https, or the `file:` URL of an index in a folder. directory: the model's folder.

    Raises GoneError where no mirror has it any more, FetchError where it can't be had or is not what the lock says.
    """
    import requests

    from tungstenkit.mirrors import file_of, redact
    from tungstenkit.resolve import hub

    place = folder / entry.sha256
    complete = place / entry.name
    if complete.exists() and (complete.stat().st_size, _sha256(complete)) == (entry.size, entry.sha256):
        progress.advance(entry.size)
        progress.done(entry.name)
        return complete
    if not urls and not entry.is_own:
        raise GoneError("the index no longer has this file", where=entry.file, hint="run `tungsten lock`")
    place.mkdir(exist_ok=True)
    # By its own name, which no store name is: two files of one content may come at the same time.
    part = place / f"{entry.name}~"
    for url in urls:
        if problem := url_problem(url, (*WEB, "file")):
            raise FetchError(f"this URL {problem}", where=redact(url), hint="run `tungsten lock`")
    here = directory / entry.local if entry.local is not None else None
    if not entry.is_own and urlsplit(urls[0]).scheme == "file":
        here = Path(file_of(urls[0]))
    if entry.is_own or here is not None:
        return _make(entry, here, part, complete, progress)
    problems: dict[str, str] = {}
    answers: dict[str, int | None] = {}
    refused = {requests.codes.unauthorized, requests.codes.forbidden}
    for pause in _PAUSES:
        # What broke off or is overloaded may work a moment later; a clear answer stands.
        for url in [url for url in urls if _may_change(answers.get(url))]:
            try:
                _get(url, part, entry.size, progress)
            except requests.RequestException as problem:
                problems[url] = _reason(problem)
                answers[url] = _status(problem)
                continue
            answers[url] = requests.codes.ok
            size, found = part.stat().st_size, _sha256(part)
            if (size, found) == (entry.size, entry.sha256):
                part.rename(complete)
                progress.done(entry.name)
                return complete
            progress.advance(-size)
            part.unlink()
            problems[url] = (
                f"the lock says {entry.size} bytes with sha256 {entry.sha256}, these are {size} with {found}"
            )
        if not any(_may_change(answers[url]) for url in urls):
            break
        time.sleep(pause)
    where = "\n".join(f"{redact(url)}: {problem}" for url, problem in problems.items())
    if entry.place is not None and refused.intersection(answers.values()):
        raise FetchError(
            f"the hub does not give {entry.file} of {entry.place[1]} to you",
            where=where,
            hint=hub.HOW_TO_BE_LET_IN,
        )
    if requests.codes.ok in answers.values():
        hint = (
            "what is there has changed; if you trust it, state its sha256 in files=[Download(…)]"
            if entry.url is not None and entry.project is None
            else "the mirror or the lock is wrong: try another mirror, or restore the lock from version control"
        )
        raise FetchError(f"{entry.name} is not the locked file", where=where, hint=hint)
    # The snapshot service is the last resort: where it can't be reached, the ordinary mirrors' answer counts.
    if requests.codes.not_found in answers.values():
        raise GoneError(
            f"{entry.name} has left every mirror that answers", where=where, hint="run `tungsten lock`"
        )
    untrusted = next((problems[url] for url, answer in answers.items() if answer == _UNTRUSTED), None)
    hint = (
        certificates.hint(untrusted)
        if untrusted
        else "check the network, then run `tungsten fetch` again: it goes on where it stopped"
    )
    raise FetchError(f"{entry.name} could not be fetched", where=where, hint=hint)


def pull_layers(entries: Sequence[Input], folder: Path, progress: Progress) -> list[Path]:
    """Download layers of one base image, and verify them; their paths, named by their store names.

    Raises FetchError where one can't be had.
    """
    from tungstenkit.registry import pull

    paths = {entry.sha256: folder / entry.sha256 / entry.name for entry in entries}
    # What lies there was renamed when it was whole, but somebody else may have put it there.
    absent = {sha256: path for sha256, path in paths.items() if not path.exists() or _sha256(path) != sha256}
    progress.advance(sum(entry.size for entry in entries if entry.sha256 not in absent))
    if absent:
        reference = next(entry.image for entry in entries)
        assert reference is not None
        pull(reference, absent, folder, progress.advance)
    for entry in entries:
        progress.done(entry.name)
    return list(paths.values())


def _make(entry: Input, local: Path | None, part: Path, complete: Path, progress: Progress) -> Path:
    """A file that is here already, or is made of a folder or a commit here. local: the file or folder, if it is one."""
    from tungstenkit.mirrors import redact
    from tungstenkit.resolve.archives import check_out, pack

    if local is None:
        assert entry.git is not None
        check_out(entry.git.url, entry.git.commit, part)
        where, what = entry.git.url, "git gives another archive of this commit now"
    else:
        where = str(local)
        if not local.exists():
            raise FetchError("there is no such file or folder", where=str(local), hint="run `tungsten lock`")
        if local.is_dir():
            pack(local, part)
        else:
            shutil.copyfile(local, part)
        what = f"{local.name} has changed since the lock was made"
    if (part.stat().st_size, _sha256(part)) != (entry.size, entry.sha256):
        part.unlink()
        raise FetchError(what, where=redact(where), hint="run `tungsten lock`")
    part.rename(complete)
    progress.advance(entry.size)
    progress.done(entry.name)
    return complete


def check_local(lock: Lock, directory: Path) -> None:
    """LockError that names each file and folder of the user's that is not what it was when the lock was made."""
    from tungstenkit.resolve.archives import pack

    platforms = lock.platforms.values()
    known = [(wheel.path, wheel.sha256) for platform in platforms for wheel in platform.wheels]
    known += [(source.path, source.sha256) for platform in platforms for source in platform.sources]
    changed = []
    with tempfile.TemporaryDirectory(prefix="tungsten-") as folder:
        for path, sha256 in dict.fromkeys(known):
            if path is None:
                continue
            local = directory / path
            if local.is_dir():
                pack(local, Path(folder) / "source.tar")
            if not local.exists():
                changed.append(f"{path} is no longer there")
            elif _sha256(Path(folder) / "source.tar" if local.is_dir() else local) != sha256:
                changed.append(f"{path} has changed since it was made")
    if changed:
        raise LockError(
            "\n".join(["the lock is stale:", *changed]),
            where=str(directory / LOCK_NAME),
            hint="run `tungsten lock`; pins that still fit are kept",
        )


def _status(problem: requests.RequestException) -> int | None:
    """The status of an answer; None of none, as `_may_change` takes it."""
    if problem.response is not None:
        return problem.response.status_code
    return _UNTRUSTED if certificates.problem_of(problem) else None


def _may_change(answer: int | None) -> bool:
    """Whether asking again makes sense after this status; None is no answer, or none yet."""
    import requests

    return (
        answer is None or answer == requests.codes.too_many_requests or answer >= requests.codes.server_error
    )


def first_sight(url: str, name: str, folder: Path, progress: Progress) -> Input:
    """Download a file of which neither size nor hash is known; it waits where `download` looks for it.

    name: its store name. Raises FetchError.
    """
    import requests

    from tungstenkit.mirrors import redact
    from tungstenkit.resolve import hub

    with tempfile.TemporaryDirectory(dir=folder, prefix=".new-") as temporary:
        part = Path(temporary) / name
        for pause in _PAUSES:
            try:
                _get(url, part, None, progress)
                break
            except requests.RequestException as problem:
                status = _status(problem)
                if pause and _may_change(status):
                    time.sleep(pause)
                    continue
                hint = hub.HOW_TO_BE_LET_IN if hub.auth_for(url) else "see the URL in files=[Download(…)]"
                if status == _UNTRUSTED:
                    hint = certificates.hint(_reason(problem))
                raise FetchError(
                    f"{name} could not be fetched: {_reason(problem)}", where=redact(url), hint=hint
                ) from None
        entry = Input(name, part.stat().st_size, _sha256(part))
        (folder / entry.sha256).mkdir(exist_ok=True)
        part.replace(folder / entry.sha256 / name)
    progress.done(name)
    return entry


def size_of(url: str) -> int | None:
    """How large a server says that a file is, in bytes; None where it does not say."""
    import requests

    from tungstenkit.resolve import hub

    try:
        answer = certificates.request(
            "HEAD",
            url,
            headers={"Accept-Encoding": "identity"},
            auth=hub.auth_for(url),
            timeout=_TIMEOUT,
            allow_redirects=True,
        )
        answer.raise_for_status()
        return int(answer.headers["Content-Length"])
    except (requests.RequestException, KeyError, ValueError):
        return None


def _get(url: str, part: Path, size: int | None, progress: Progress) -> None:
    """Download into `part`, from where it ends. size: what the whole must be; None is not known, and not resumed."""
    import requests

    from tungstenkit.resolve import hub

    if size is None:
        part.unlink(missing_ok=True)
        size = sys.maxsize
    begun = part.stat().st_size if part.exists() else 0
    if begun > size:
        part.unlink()
        begun = 0
    headers = {"Accept-Encoding": "identity"}
    if begun:
        headers["Range"] = f"bytes={begun}-"
    if part.exists() and begun == size:
        progress.advance(begun)
        return
    auth = hub.auth_for(url)
    with certificates.request(
        "GET", url, headers=headers, auth=auth, stream=True, timeout=_TIMEOUT
    ) as answer:
        answer.raise_for_status()
        if begun and answer.status_code != requests.codes.partial_content:
            begun = 0
        progress.advance(begun)
        with part.open("ab" if begun else "wb") as file:
            for piece in answer.iter_content(_PIECE):
                begun += len(piece)
                # A server that never ends must not fill the disk.
                if begun > size:
                    break
                file.write(piece)
                progress.advance(len(piece))


def _reason(problem: requests.RequestException) -> str:
    if problem.response is not None:
        return f"HTTP {problem.response.status_code} {problem.response.reason}"
    return certificates.problem_of(problem) or type(problem).__name__


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def add_big(big: Sequence[BigFile], directory: Path, state: Path) -> None:
    """Put the model's big files into the store; one copy each, and none where they are there already.

    directory: the model's folder. state: its `.tungsten`. Raises FetchError for one that has changed meanwhile.
    """
    gone = store.missing([file.store_path for file in big])
    for file in big:
        if file.store_path not in gone:
            continue
        source = directory / file.path
        with tempfile.TemporaryDirectory(dir=state, prefix=".big-") as folder:
            if source.name != file.store_name:
                # A file is added under its own name.
                link = Path(folder) / file.store_name
                try:
                    link.hardlink_to(source)
                except OSError:
                    shutil.copyfile(source, link)
                source = link
            (added,) = store.add_files([source])
        if added != file.store_path:
            raise FetchError(
                f"{file.path} changed while it was read",
                where=str(directory),
                hint="wait until it is written",
            )


def _busybox_path(busybox: Busybox) -> str:
    assert busybox.tree_sha256 is not None  # the lock is sealed
    return store.tree_path(busybox.tree_sha256, "busybox")


def _add_busybox(busybox: Busybox, state: Path) -> None:
    """Put `bin/busybox` where the bootstrap would have put it, so that its 7-Zip and npm are not needed."""
    path = _busybox_path(busybox)
    if store.missing([path]):
        deb = store.file_path(busybox.sha256, store.store_name(busybox.file.rpartition("/")[2]))
        folder = state / "downloads" / "busybox"
        unpack_busybox(Path(deb), folder)
        added = store.add_tree(folder)
        shutil.rmtree(folder)
        if added != path:
            raise FetchError(
                "busybox does not unpack to what the lock says",
                where=busybox.file,
                hint="the lock is damaged: restore it, or run `tungsten lock`",
            )


def unpack_busybox(deb: Path, folder: Path) -> None:
    """Unpack a busybox-static .deb's `bin/busybox`, and nothing else, into `folder`."""
    from tungstenkit.deb import open_files

    with deb.open("rb") as file, open_files(file, deb.name) as tar:
        content = next(tar.extractfile(member) for member in tar if member.name == "./usr/bin/busybox")
        assert content is not None  # it is a file
        program = content.read()
    if folder.exists():
        shutil.rmtree(folder)
    target = folder / "bin" / "busybox"
    target.parent.mkdir(parents=True)
    target.write_bytes(program)
    target.chmod(0o755)


def disk_error(problem: OSError, state: Path) -> FetchError:
    """What to tell a user about a file below `state` that can't be written."""
    if problem.errno in (errno.ENOSPC, errno.EDQUOT):
        free = shutil.disk_usage(state if state.exists() else state.parent).free
        return FetchError(
            f"the disk is full ({free >> 20} MiB free)",
            where=str(problem.filename or state),
            hint="make room (`nix-collect-garbage` frees what no root holds), then run `tungsten fetch` again: "
            "it goes on where it stopped",
        )
    return FetchError(
        f"a file can't be written: {problem.strerror}",
        where=str(problem.filename or state),
        hint="downloads wait below the model's folder: make it writable, or copy the model",
    )
