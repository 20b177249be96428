"""Downloading the files that a lock names: in parallel, resumed where they were cut, right or not at all.

What asking a URL came to is an `Attempt`; a file's attempts together say what to tell the user.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlsplit

from tungstenkit.digest import measure, sha256_of
from tungstenkit.fetch import hub, web
from tungstenkit.fetch.needs import LockedFile
from tungstenkit.fetch.own_files import make
from tungstenkit.outside import WEB, redact, url_problem
from tungstenkit.registry.skopeo import pull
from tungstenkit.sdk.errors import FetchError, GoneError

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

_PAUSES = (1, 3, 0)
"""Seconds to wait after each round of asking all mirrors."""


class Progress(Protocol):
    """The observer of a fetch."""

    def start(self, files: int, size: int) -> None:
        """So many files and bytes are to be had."""

    def advance(self, size: int) -> None:
        """So many bytes more have come."""

    def done(self, name: str) -> None:
        """A file is complete and verified."""


class OtherFileError(FetchError):
    """What has a file's name is another file."""


class Outcome(Enum):
    """What became of asking one URL."""

    ARRIVED = auto()
    DIFFERENT = auto()
    """Other bytes than the lock says."""
    GONE = auto()
    REFUSED = auto()
    """The server wants to know who asks, or knows and says no."""
    UNTRUSTED = auto()
    """TLS does not let us speak to the server."""
    BUSY = auto()
    """There was no answer, or none of use yet: another may come in a moment."""
    FAILED = auto()


@dataclass(frozen=True)
class Attempt:
    """What asking one URL came to."""

    url: str
    outcome: Outcome
    problem: str = ""
    hint: str | None = None


@dataclass(frozen=True)
class _Arrival:
    """Where a file arrives."""

    file: LockedFile
    folder: Path
    progress: Progress

    @property
    def complete(self) -> Path:
        """Its path, by its store name, once it is whole."""
        return self.folder / self.file.sha256 / self.file.name

    @property
    def part(self) -> Path:
        """What has come of it."""
        # By its own name, which no store name is: two files of one content may come at the same time.
        return self.folder / self.file.sha256 / f"{self.file.name}~"

    def finish(self) -> Path:
        """Give the whole file its name."""
        self.part.rename(self.complete)
        self.progress.done(self.file.name)
        return self.complete


def download(
    file: LockedFile, urls: Sequence[str], folder: Path, progress: Progress, directory: Path = Path()
) -> Path:
    """Download one file, or make it, and verify it; its path, named by its store name.

    urls: http and https, or the `file:` URL of an index in a folder. directory: the model's folder.

    Raises GoneError where no mirror has it any more, FetchError where it can't be had or is not what the lock says.
    """
    arrival = _Arrival(file, folder, progress)
    if arrival.complete.exists() and measure(arrival.complete) == (file.size, file.sha256):
        progress.advance(file.size)
        progress.done(file.name)
        return arrival.complete
    if not urls and not file.is_own:
        raise GoneError("the index no longer has this file", where=file.file, hint="run `tungsten lock`")
    for url in urls:
        if problem := url_problem(url, (*WEB, "file")):
            raise FetchError(f"this URL {problem}", where=redact(url), hint="run `tungsten lock`")
    arrival.part.parent.mkdir(exist_ok=True)
    local = directory / file.local if file.local is not None else None
    if not file.is_own and urlsplit(urls[0]).scheme == "file":
        local = Path(web.file_of(urls[0]))
    if file.is_own or local is not None:
        make(file, local, arrival.part)
        progress.advance(file.size)
        return arrival.finish()
    attempts = _ask(arrival, urls)
    if any(attempt.outcome is Outcome.ARRIVED for attempt in attempts):
        return arrival.finish()
    raise _failure(file, attempts)


def _ask(arrival: _Arrival, urls: Sequence[str]) -> Collection[Attempt]:
    """The last attempt of each URL that was asked, until the file has come or no answer may change any more."""
    attempts: dict[str, Attempt] = {}
    for pause in _PAUSES:
        # What broke off or is overloaded may work a moment later; a clear answer stands.
        for url in urls:
            if url in attempts and attempts[url].outcome is not Outcome.BUSY:
                continue
            attempts[url] = _attempt(arrival, url)
            if attempts[url].outcome is Outcome.ARRIVED:
                return attempts.values()
        if all(attempt.outcome is not Outcome.BUSY for attempt in attempts.values()):
            break
        time.sleep(pause)
    return attempts.values()


def _attempt(arrival: _Arrival, url: str) -> Attempt:
    """Ask one URL for a file, once, and look at what has come."""
    file, part, progress = arrival.file, arrival.part, arrival.progress
    try:
        web.resume(url, part, file.size, progress.advance, hub.auth_for(url))
    except web.WebError as problem:
        return Attempt(url, _outcome(problem), problem.reason, problem.hint)
    size, found = measure(part)
    if (size, found) == (file.size, file.sha256):
        return Attempt(url, Outcome.ARRIVED)
    progress.advance(-size)
    part.unlink()
    said = f"the lock says {file.size} bytes with sha256 {file.sha256}, these are {size} with {found}"
    return Attempt(url, Outcome.DIFFERENT, said)


def _outcome(problem: web.WebError) -> Outcome:
    if isinstance(problem, web.MissingError):
        return Outcome.GONE
    if isinstance(problem, web.UntrustedError):
        return Outcome.UNTRUSTED
    if problem.status in (401, 403):
        return Outcome.REFUSED
    return Outcome.BUSY if problem.may_pass else Outcome.FAILED


def _failure(file: LockedFile, attempts: Collection[Attempt]) -> FetchError:
    """What to say of a file that no URL has brought."""
    outcomes = {attempt.outcome for attempt in attempts}
    where = "\n".join(f"{redact(attempt.url)}: {attempt.problem}" for attempt in attempts)
    if file.place is not None and Outcome.REFUSED in outcomes:
        what = f"the hub does not give {file.file} of {file.place[1]} to you"
        return FetchError(what, where=where, hint=hub.HOW_TO_BE_LET_IN)
    if Outcome.DIFFERENT in outcomes:
        hint = (
            "what is there has changed; if you trust it, state its sha256 in files=[Download(…)]"
            if file.url is not None and file.project is None
            else "the mirror or the lock is wrong: try another mirror, or restore the lock from version control"
        )
        return OtherFileError(f"{file.name} is not the locked file", where=where, hint=hint)
    # The snapshot service is the last resort: where it can't be reached, the ordinary mirrors' answer counts.
    if Outcome.GONE in outcomes:
        what = f"{file.name} has left every mirror that answers"
        return GoneError(what, where=where, hint="run `tungsten lock`")
    untrusted = [attempt.hint for attempt in attempts if attempt.outcome is Outcome.UNTRUSTED]
    network = "check the network, then run `tungsten fetch` again: it goes on where it stopped"
    return FetchError(f"{file.name} could not be fetched", where=where, hint=(*untrusted, network)[0])


def first_sight(url: str, name: str, folder: Path, progress: Progress) -> LockedFile:
    """Download a file of which neither size nor hash is known; it waits where `download` looks for it.

    name: its store name. Raises FetchError.
    """
    with tempfile.TemporaryDirectory(dir=folder, prefix=".new-") as temporary:
        part = Path(temporary) / name
        for pause in _PAUSES:
            try:
                web.resume(url, part, None, progress.advance, hub.auth_for(url))
                break
            except web.WebError as problem:
                if pause and problem.may_pass:
                    time.sleep(pause)
                    continue
                raise _unseen(problem, url, name) from None
        file = LockedFile(name, *measure(part))
        (folder / file.sha256).mkdir(exist_ok=True)
        part.replace(folder / file.sha256 / name)
    progress.done(name)
    return file


def _unseen(problem: web.WebError, url: str, name: str) -> FetchError:
    hint: str | None = hub.HOW_TO_BE_LET_IN if hub.auth_for(url) else "see the URL in files=[Download(…)]"
    if isinstance(problem, web.UntrustedError):
        hint = problem.hint
    return FetchError(f"{name} could not be fetched: {problem.reason}", where=redact(url), hint=hint)


def size_of(url: str) -> int | None:
    """How large a server says that a file is, in bytes; None where it does not say."""
    return web.size_of(url, hub.auth_for(url))


def pull_layers(files: Sequence[LockedFile], folder: Path, progress: Progress) -> list[Path]:
    """Download layers of one base image, and verify them; their paths, named by their store names.

    Raises FetchError where one can't be had.
    """
    paths = {file.sha256: folder / file.sha256 / file.name for file in files}
    # What lies there was renamed when it was whole, but somebody else may have put it there.
    missing = {
        sha256: path for sha256, path in paths.items() if not path.exists() or sha256_of(path) != sha256
    }
    progress.advance(sum(file.size for file in files if file.sha256 not in missing))
    if missing:
        reference = next(file.image for file in files)
        assert reference is not None
        pull(reference, missing, folder, progress.advance)
    for file in files:
        progress.done(file.name)
    return list(paths.values())
