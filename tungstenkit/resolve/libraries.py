"""Which shared libraries the packages of an image need that none of them has, and what to do about each.

The dynamic loader's search is followed (ld.so(8)) from what can be started or imported: extension modules,
programs, and libraries that a package's own code names. What only a plugin needs is told, not added. What a
package opens by name while it runs can't be read from its files: `opened` knows it of common projects.
Everything here is a function of what was scanned; nothing is downloaded.
"""

from __future__ import annotations

import fnmatch
import posixpath
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tungstenkit.data import FACTS
from tungstenkit.debian.contents import provider
from tungstenkit.lock.parts import LIBRARY, NOTHING, Choice
from tungstenkit.resolve.elf import MACHINES
from tungstenkit.resolve.opened import missing_programs, opened
from tungstenkit.resolve.scan import SITE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from tungstenkit.platforms import Target
    from tungstenkit.resolve.scan import Scan, ScannedFile

_NEEDS = " needs "

_DRIVERS = re.compile(FACTS["driver-libraries"])
"""Libraries of a GPU's driver, which the host puts into a container (NVIDIA Container Toolkit, "libraries")."""
_CUDA_WHEELS = "nvidia-"
_SETTING = "[tool.tungsten.libraries] says so"
_LISTED = 12  # names in a message: more is not read
_LINKS = 16


@dataclass(frozen=True)
class Need:
    """A library that is needed and that nobody in the image has."""

    library: str
    by: str
    """The wheel's project or the Debian package that needs it."""
    reason: str


@dataclass(frozen=True)
class Additions:
    """What to do about the libraries that an image lacks."""

    choices: tuple[Choice, ...]
    """What each lacking library comes from: a Debian package to add, or `nothing`."""
    notices: tuple[str, ...]
    """What the user should know beside, a line each."""


@dataclass(frozen=True)
class _File:
    owner: str
    path: str
    scanned: ScannedFile
    inherited: tuple[str, ...] = ()
    """DT_RPATH folders of those that load it."""

    @property
    def shown(self) -> str:
        """Its path for messages: that of a wheel's file below site-packages."""
        return self.scanned.path.removeprefix(f"{SITE}/")


@dataclass
class Image:
    """The ELF files of an image: what will stand where."""

    target: Target
    wheels: Mapping[str, Scan]
    """By project."""
    debs: Mapping[str, Scan]
    """By package."""
    others: frozenset[str] = frozenset()
    """Libraries that the base image has; what they need is its business."""
    _by_path: dict[str, _File] = field(default_factory=dict)
    _links: dict[str, str] = field(default_factory=dict)
    _by_name: dict[str, dict[str, _File]] = field(default_factory=dict)
    """For each wheel its files by file name and by soname; for `` those of all Debian packages."""

    def __post_init__(self) -> None:
        """Find every file's place."""
        site = f"usr/local/lib/python{self.target.python}/dist-packages"
        machine = MACHINES[self.target.architecture.debian]
        for scans, is_wheel in ((self.wheels, True), (self.debs, False)):
            for owner, scan in scans.items():
                names = self._by_name.setdefault(owner if is_wheel else "", {})
                for scanned in scan.files:
                    # Some wheels carry libraries for several processors.
                    if scanned.elf.machine != machine:
                        continue
                    path = scanned.path.replace(SITE, site).replace("{prefix}", "usr/local")
                    file = _File(owner, path, scanned)
                    self._by_path[path] = file
                    names.setdefault(posixpath.basename(path), file)
                    names.setdefault(scanned.elf.soname, file)
                self._links |= scan.links
        triplet = f"{self.target.architecture.machine}-linux-gnu"
        self._folders = [f"usr/lib/{triplet}", "usr/lib", "usr/lib64"]

    def has(self, library: str) -> bool:
        """Whether the loader finds a library by its name alone."""
        return self._in_folders(library) is not None

    def is_in_a_wheel(self, library: str) -> bool:
        """Whether any wheel has a library, wherever it lies."""
        return any(library in self._by_name[project] for project in self.wheels)

    def missing(self) -> tuple[list[Need], dict[str, dict[str, str]]]:
        """What is needed and not there, by what can be started or imported; and what plugins alone need.

        The second is, for each wheel, the first file that needs it by library.
        """
        needs: dict[tuple[str, str], Need] = {}
        reached: set[str] = set()
        pending = [f for f in self._by_path.values() if f.scanned.is_root or f.scanned.is_loaded]
        while pending:
            file = pending.pop(0)
            if file.path in reached:
                continue
            reached.add(file.path)
            for library, found in self._needed(file):
                if found is None:
                    needs.setdefault(
                        (file.owner, library), Need(library, file.owner, f"{file.shown} is linked against it")
                    )
                else:
                    pending.append(_File(found.owner, found.path, found.scanned, _rpath(file)))
        plugins: dict[str, dict[str, str]] = {}
        for file in self._by_path.values():
            if file.path not in reached and file.owner in self.wheels:
                for library, found in self._needed(file):
                    if found is None:
                        plugins.setdefault(file.owner, {}).setdefault(library, file.shown)
        return list(needs.values()), plugins

    def _needed(self, file: _File) -> Iterator[tuple[str, _File | None]]:
        for library in file.scanned.elf.needed:
            if not _DRIVERS.fullmatch(library) and library not in self.others:
                yield library, self._find(library, file)

    def _find(self, library: str, file: _File) -> _File | None:
        if "/" in library:
            (path,) = _placed([library], file)
            return self._at(posixpath.normpath(path).lstrip("/"))
        for folder in _placed(file.scanned.elf.runpath, file) or _rpath(file):
            if found := self._at(posixpath.normpath(f"{folder}/{library}").lstrip("/")):
                return found
        for owner in self._loaded_before(file.owner):
            if library in self._by_name.get(owner, {}):
                return self._by_name[owner][library]
        # The last: links of update-alternatives, and folders that Debian's own files know.
        return self._in_folders(library) or self._by_name.get("", {}).get(library)

    def _loaded_before(self, owner: str) -> Iterator[str]:
        """The wheels whose libraries a wheel may find loaded: its own, those that it requires, CUDA's."""
        if owner not in self.wheels:
            return
        seen, pending = {owner}, [owner]
        while pending:
            project = pending.pop(0)
            yield project
            found = [p for p in self.wheels[project].requires if p in self.wheels and p not in seen]
            seen.update(found)
            pending += found
        yield from (p for p in self.wheels if p.startswith(_CUDA_WHEELS) and p not in seen)

    def _in_folders(self, library: str) -> _File | None:
        return next(filter(None, (self._at(f"{folder}/{library}") for folder in self._folders)), None)

    def _at(self, path: str) -> _File | None:
        for _ in range(_LINKS):
            if path in self._by_path or path not in self._links:
                break
            path = self._links[path]
        return self._by_path.get(path)


def _rpath(file: _File) -> tuple[str, ...]:
    """The DT_RPATH folders that count for what a file loads; its own stand for its own place."""
    if file.scanned.elf.runpath:
        return ()
    return (*_placed(file.scanned.elf.rpath, file), *file.inherited)


def _placed(folders: Iterable[str], file: _File) -> tuple[str, ...]:
    """Folders with `$ORIGIN` replaced by the one that the file stands in."""
    origin = "/" + posixpath.dirname(file.path)
    return tuple(folder.replace("${ORIGIN}", origin).replace("$ORIGIN", origin) for folder in folders)


def additions(
    image: Image, settings: Mapping[str, str | bool], libraries: Callable[[], Mapping[str, tuple[str, ...]]]
) -> Additions:
    """What an image lacks, and the Debian packages that have it.

    settings: `[tool.tungsten.libraries]`: the package to take for a library, False for none.
    libraries: gives Debian's packages by library; called only if something is missing.
    """
    needs, plugins = image.missing()
    choices: list[Choice] = []
    release = f"Debian {image.target.release}"

    def is_left_to_a_wheel(library: str) -> bool:
        # Torch's companions import it first, and not all say that they require it.
        return image.is_in_a_wheel(library) and provider(library, libraries()) is None

    for need in [*needs, *_opened(image, libraries)]:
        subject = f"{need.by}{_NEEDS}{need.library}"
        setting = settings.get(need.library)
        if setting is None and is_left_to_a_wheel(need.library):
            continue
        if setting is not None:
            choices.append(_choice(subject, setting or NOTHING, _SETTING))
        elif found := provider(need.library, libraries()):
            choices.append(_choice(subject, found, need.reason))
        else:
            choices.append(_choice(subject, NOTHING, f"no package of {release} has it; {need.reason}"))
    added = packages_for(choices)
    for owner, lacking in plugins.items():
        asked = {library: package for library in lacking if (package := settings.get(library))}
        choices += (_choice(f"{owner}{_NEEDS}{name}", package, _SETTING) for name, package in asked.items())
        left = {
            library: path
            for library, path in lacking.items()
            if library not in settings
            and not is_left_to_a_wheel(library)
            and provider(library, libraries()) not in added
        }
        if left:
            choices.append(
                _choice(f"what only plugins of {owner} need", NOTHING, _plugins(left, libraries()))
            )
    choices.sort(key=lambda choice: choice.subject)
    return Additions(tuple(choices), tuple(map(str, missing_programs(image.wheels, image.debs))))


def only_told(found: Additions) -> Additions:
    """The same where nothing can be added, because the system is a base image."""
    return Additions(
        tuple(
            choice
            if choice.chosen == NOTHING
            else _choice(
                choice.subject,
                NOTHING,
                f"the base image lacks it, and nothing is added to that unasked: Debian's {choice.chosen} has it (on a "
                f"base of Debian, RUN apt-get install {choice.chosen}); "
                f"{choice.reason}",
            )
            for choice in found.choices
        ),
        found.notices,
    )


def packages_for(choices: Iterable[Choice]) -> dict[str, str]:
    """The Debian packages that choices of libraries add, sorted, each with the wish that it fulfils (`needed-by`)."""
    wishes: dict[str, str] = {}
    for choice in sorted(choices, key=lambda choice: (choice.chosen, choice.subject)):
        if choice.chosen != NOTHING:
            owner, library = choice.subject.split(_NEEDS)
            wishes.setdefault(choice.chosen, f"library: {library} of {owner}")
    return wishes


def library_of(choice: Choice) -> str | None:
    """The library that a choice was made for; None for another one's."""
    # What a platform alone has chosen ends with its name.
    library = choice.subject.partition(_NEEDS)[2].partition(" ")[0]
    return library if choice.kind == LIBRARY and library else None


def _choice(subject: str, chosen: str | bool, reason: str) -> Choice:
    return Choice(kind=LIBRARY, subject=subject, chosen=str(chosen), reason=reason)


def _plugins(lacking: Mapping[str, str], libraries: Mapping[str, tuple[str, ...]]) -> str:
    # What Debian has comes first: that can be added.
    known = sorted((provider(name, libraries) is None, name) for name in lacking)
    names = [f"{name} ({provider(name, libraries) or 'in no package'})" for _, name in known]
    shown = ", ".join([*names[:_LISTED], *(["…"] if len(names) > _LISTED else [])])
    return (
        f"{shown}; nothing that Python imports or that can be started needs them, only files such as "
        f"{next(iter(lacking.values()))}; [tool.tungsten.libraries] adds what you name there"
    )


def _opened(image: Image, libraries: Callable[[], Mapping[str, tuple[str, ...]]]) -> Iterator[Need]:
    """What wheels open by name, as far as the table knows them; those that bring a library of their own do not."""
    for project, scan in image.wheels.items():
        if scan.files:
            continue
        for pattern in opened(project).get("libraries", ()):
            library = pattern
            if "*" in pattern:
                fitting = fnmatch.filter(libraries(), pattern)
                library = min(fitting, key=lambda name: (len(name), name), default=pattern)
            if not image.has(library):
                yield Need(library, project, "it opens it by name while it runs")
