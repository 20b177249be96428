"""Pins that no index lists any more: an index says what is new, and a pin needs only its file.

What a solve must know of such a package is read from the file itself, wherever that can be had, and counts only if the
file's hash is the pin's. Where its index still lists a pin, nothing is read here.
"""

from __future__ import annotations

import json
import threading
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from tungstenkit.cache import cache_folder, keep, kept
from tungstenkit.debian.archive import Pin
from tungstenkit.debian.deb import read_control
from tungstenkit.debian.packages import FileOf, unlisted_package
from tungstenkit.fetch.download import OtherFileError
from tungstenkit.fetch.index_pages import IndexFile
from tungstenkit.fetch.needs import LockedFile, deb_file
from tungstenkit.sdk.errors import FetchError, GoneError, UnusableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from tungstenkit.debian.packages import Package
    from tungstenkit.lock.packages import Deb, Source, Wheel
    from tungstenkit.lock.parts import LockedRelease

_NOWHERE = "no index lists it any more, and its file is nowhere to be had"
_ANOTHER = "no index lists it any more, and what has its file's name is another file"


def _nowhere(entry: LockedFile) -> Path:
    raise GoneError("is looked for nowhere", where=entry.file)


@dataclass
class Unlisted:
    """Reads pins that no index lists any more, from any thread; of those that can't be had it knows why."""

    bring: Callable[[LockedFile], Path] = _nowhere
    """Where a file is, verified. Raises GoneError where nobody has it any more, FetchError where it can't be had."""
    releases: Mapping[str, LockedRelease] = field(default_factory=dict)
    """The Debian releases of the lock that has the pins."""
    why: dict[str, str] = field(default_factory=dict)
    """By sha256, of those that can't stay."""
    given: set[str] = field(default_factory=set)
    """The sha256 of those that may stay on their lock's word alone."""
    _found: dict[str, Path | None] = field(default_factory=dict)
    _locks: dict[str, threading.Lock] = field(default_factory=dict)

    def pins(self, debs: Iterable[Deb], release: str) -> dict[str, Pin]:
        """Debian packages as pins of a solve."""

        def reader(deb: Deb) -> Callable[[], Package | None]:
            return lambda: self.package(deb, release)

        return {deb.name: Pin(deb.version, deb.needed_by, reader(deb)) for deb in debs}

    def package(self, pin: Deb, release: str) -> Package | None:
        """What a Debian package's own control file says of it; None where that can't be had."""
        archive, _, path = pin.file.removeprefix("mirror://").partition("/")
        known = self.releases.get(release)
        snapshot = pin.snapshot or (known.timestamps.get(archive) if known else None)
        control = self._control(replace(deb_file(pin, release), snapshot=snapshot))
        if control is None:
            return None
        said = [control.get(name) for name in ("Package", "Version", "Architecture")]
        if said != [pin.name, pin.version, pin.architecture]:
            self.why[pin.sha256] = f"its file says that it is {' '.join(map(str, said))[:100]!a}"
            return None
        try:
            package = unlisted_package(control, FileOf(archive, path, pin.size, pin.sha256, snapshot))
        except UnusableError as problem:
            self.why[pin.sha256] = problem.what
            return None
        self.given.add(pin.sha256)
        return package

    def file(self, pin: Wheel | Source, main_label: str) -> IndexFile | None:
        """A file of the Python indexes as if one listed it; None where it can't be had."""
        path = self._file(LockedFile(pin.file, pin.size, pin.sha256, project=pin.project))
        if path is None:
            return None
        self.given.add(pin.sha256)
        place = None if pin.index == main_label else pin.index
        return IndexFile(pin.file, path.as_uri(), pin.sha256, size=pin.size, listed_by=place)

    def _control(self, entry: LockedFile) -> dict[str, str] | None:
        folder = cache_folder() / "control"
        # What is kept was read of a file with this hash; whether that is there still is another question.
        if (text := kept(folder, entry.sha256)) and _is_in_store(entry):
            return dict(json.loads(text.read_bytes()))
        path = self._file(entry)
        if path is None:
            return None
        try:
            with path.open("rb") as file:
                control = read_control(file, entry.name)
        except FetchError as problem:
            self.why[entry.sha256] = problem.what
            return None
        keep(folder, entry.sha256, lambda place: place.write_text(json.dumps(control), encoding="utf-8"))
        return control

    def _file(self, entry: LockedFile) -> Path | None:
        # Several solves may ask for one at the same time.
        with self._locks.setdefault(entry.sha256, threading.Lock()):
            if entry.sha256 not in self._found:
                self._found[entry.sha256] = None
                try:
                    self._found[entry.sha256] = self.bring(entry)
                except GoneError:
                    self.why[entry.sha256] = _NOWHERE
                except OtherFileError:
                    self.why[entry.sha256] = _ANOTHER
                except FetchError:
                    del self._found[entry.sha256]
                    raise
            return self._found[entry.sha256]


def _is_in_store(entry: LockedFile) -> bool:
    with suppress(OSError):
        return Path(entry.path).stat().st_size == entry.size
    return False


def is_file_of(pin: Wheel | Source, file: IndexFile) -> bool:
    """Whether what an index lists is a pin's own file, as far as it says."""
    return file.name == pin.file and file.sha256 in (None, pin.sha256)


class PinnedFiles:
    """The files of a lock's Python packages, in what the indexes list: there, and not withdrawn."""

    def __init__(
        self, entries: Iterable[Wheel | Source] = (), unlisted: Unlisted | None = None, main_label: str = ""
    ) -> None:
        """entries: of the indexes. main_label: how the lock names the one without a name of its own."""
        self._entries = {entry.project: entry for entry in entries}
        self._unlisted = unlisted or Unlisted()
        self._main_label = main_label

    def of(self, project: str) -> Wheel | Source | None:
        """What is pinned of a project."""
        return self._entries.get(project)

    def why_gone(self, project: str) -> str | None:
        """Why a project's pin can't be had; None where it can, or was not looked for."""
        return self._unlisted.why.get(self._entries[project].sha256)

    def among(self, project: str, listed: list[IndexFile]) -> list[IndexFile]:
        """What the indexes list of a project, with its pin: from its file, where they don't list that.

        Its author may have withdrawn it (PEP 592), which is for who chooses anew. What they list by its name and with
        another hash is another file, as they have it.
        """
        pin = self._entries.get(project)
        if pin is None:
            return listed
        if any(file.name == pin.file for file in listed):
            return [file._replace(yanked=False) if is_file_of(pin, file) else file for file in listed]
        found = self._unlisted.file(pin, self._main_label)
        return listed if found is None else [*listed, found]


NO_PINS = PinnedFiles()
