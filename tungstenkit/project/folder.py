"""A model's folder: what it declares, its lock, the files that ship, and what is brought into the Nix store for it.

The commands' steps stand on this: `locking` makes the lock, `making` the image and what else is built. What takes long
is told to the project's observer (`watch`).
"""

from __future__ import annotations

import fcntl
import shlex
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from tungstenkit import nix_program, started, store
from tungstenkit.audit.asked import check_lock
from tungstenkit.fetch.big_files import big_files
from tungstenkit.fetch.bring import Folders, bring_inputs, is_brought
from tungstenkit.fetch.needs import needed_files
from tungstenkit.fetch.own_files import check_own_files
from tungstenkit.lock.document import LOCK_NAME, Lock, read_lock
from tungstenkit.lock.parts import Tungsten
from tungstenkit.lock.selection import part_of
from tungstenkit.platforms import this_system
from tungstenkit.sdk.errors import FetchError, LockError, SpecError
from tungstenkit.settings import big_file_size, nix_setting
from tungstenkit.spec.read import spec_of
from tungstenkit.spec.reading import Reading
from tungstenkit.spec.requirements import parse
from tungstenkit.watch import UNWATCHED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tungstenkit.export.flake import Contents
    from tungstenkit.fetch.big_files import BigFile
    from tungstenkit.fetch.mirrors import Mirrors
    from tungstenkit.registry.base import Place
    from tungstenkit.spec.document import ModelSpec
    from tungstenkit.spec.files import ModelFile
    from tungstenkit.watch import Watch

STATE = ".tungsten"
"""The folder beside the model where we keep what can be made again."""
_EXPORTS = ("export", "step")
"""Folders there that hold the model's files, links among them, and are written anew."""


@dataclass(frozen=True)
class Shipped:
    """The files of a model's folder that are in its image."""

    files: Sequence[ModelFile]
    big: Sequence[BigFile]
    """Those of them that are in the Nix store by themselves."""

    def contents(self, project: Project) -> Contents:
        """As an export has them."""
        from tungstenkit.export.flake import Contents

        return Contents(project.directory, self.files, self.big)


@dataclass(frozen=True)
class Project:
    """A model's folder, what it declares, and who watches the work on it."""

    directory: Path
    spec: ModelSpec
    watch: Watch = field(default=UNWATCHED, repr=False, compare=False)
    _told: set[tuple[object, ...]] = field(default_factory=set, init=False, repr=False, compare=False)
    """Of the folder and of mirrors, what the observer has been told: several steps of a command look at them."""
    _found: list[Mirrors] = field(default_factory=list, init=False, repr=False, compare=False)
    """This machine's mirrors, once a step has looked for them."""

    @classmethod
    def read(
        cls,
        directory: Path,
        module: str | None,
        class_name: str | None,
        watch: Watch,
        *,
        trust: bool = False,
    ) -> Project:
        """Read the declaration; the module is imported apart from this machine, or where `trust` is True as us."""
        with Reading(directory, module, trust=trust) as reading:
            return cls.of(reading, class_name, watch)

    @classmethod
    def of(cls, reading: Reading, class_name: str | None, watch: Watch) -> Project:
        """The same, of a module that is being read."""
        nix_program.set_wish(nix_setting(reading.directory))
        with watch.reading("reading the model"):
            # What most commands need next; what is wrong with it is told then.
            with suppress(LockError):
                read_lock(reading.directory / LOCK_NAME)
            return cls(reading.directory, spec_of(reading, class_name), watch)

    @property
    def lock_path(self) -> Path:
        """Where the lock lies."""
        return self.directory / LOCK_NAME

    @property
    def state(self) -> Path:
        """Where what can be made again lies.

        Raises FetchError for one that we have not made: what a repository brings there must lead nowhere.
        """
        path = self.directory / STATE
        if foreign := store.foreign(path, skip=_EXPORTS):
            raise FetchError(
                f"this is not of our making, or of another Nix store than {store.place()}: {foreign}",
                where=str(path),
                hint=f"nothing is kept there that can't be made again: rm -r {shlex.quote(str(path))}",
            )
        return path

    @contextmanager
    def exclusively(self) -> Iterator[None]:
        """Wait until no other tungsten fetches or builds this model, and keep others waiting; there is a Nix then."""
        self.bring_nix()
        with started.held(Path(store.place())), self._open_busy() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self.watch.notice("another tungsten is at work on this model: waiting for it")
                fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def bring_nix(self, carried: Place | None = None) -> None:
        """Have a Nix to start: bring tungsten's own, where it is the one to be used, and is not there yet.

        carried: a folder of `fetch --to`, which may have it; a registry has not.
        """
        if nix_program.current().is_absent:
            from tungstenkit.fetch.carry import archive_in
            from tungstenkit.fetch.own_nix import Origin, bring

            files = archive_in(carried) if carried is not None else {}
            bring(lambda: Origin.carried(files) if files else Origin.of(self.mirrors()), self.watch)

    def check_writable(self) -> None:
        """FetchError where what can be made again can't be kept in the model's folder."""
        self._open_busy().close()

    def _open_busy(self) -> TextIO:
        """The file by which those who work on a model wait for one another."""
        try:
            self.state.mkdir(exist_ok=True)
            # As a virtual environment does: git need not be told.
            (self.state / ".gitignore").write_text("*\n")
            return (self.state / "busy").open("w")
        except OSError as problem:
            raise FetchError(
                f"the model's folder can't be written: {problem.strerror}",
                where=str(self.state),
                hint="downloads and builds keep their state there; copy the model to a folder of yours",
            ) from None

    def mirrors(self, get: Callable[[str], bytes] | None = None) -> Mirrors:
        """Where bytes come from on this machine, by what the model says of indexes, too; its clients are asked once.

        get: as `find_mirrors` has it.
        """
        from tungstenkit.fetch.machine_mirrors import find_mirrors

        if not self._found:
            self._found.append(find_mirrors(self.directory, wishes=parse(self.spec.python_packages), get=get))
            for notice in self._found[0].notices:
                self._tell_once(self.watch.notice, notice)
        return self._found[0]

    def _tell_once(self, tell: Callable[..., None], *what: object) -> None:
        if what not in self._told:
            self._told.add(what)
            tell(*what)

    def checked_lock(self, *, with_result: bool = True) -> Lock:
        """The lock, present, fresh and sealed. That another tungsten has made it is told, once: it fits all the same.

        with_result: whether an image is meant: what post_build has made must be of what it would see now.
        """
        lock = read_lock(self.lock_path)
        check_lock(lock, self.spec, self.lock_path)
        check_own_files(lock, self.directory)
        this = Tungsten.this()
        if with_result and lock.tungsten != this:
            self._tell_once(self.watch.made_by_another, lock.tungsten, this)
        has_result = with_result and self.spec.has_post_build
        if self.spec.commands or has_result:
            from tungstenkit.audit import commands_seen, post_build_seen

            files = self._leave_out_declared(lock, self._select())
            if self.spec.commands:
                commands_seen.check(lock, self.spec, self.directory, files, str(self.lock_path))
            if has_result:
                post_build_seen.check(lock, self.spec, self.directory, files, str(self.lock_path))
        return lock

    def _leave_out_declared(self, lock: Lock, files: Sequence[ModelFile]) -> list[ModelFile]:
        """Those of the files that the lock does not bring."""
        if not list(lock.files.in_model()):
            return list(files)
        from tungstenkit.fetch.declared_here import leave_out_declared

        with self.watch.fetching("reading") as bar:
            return leave_out_declared(self.directory, files, lock.files, bar, self.spec.exclude_files)

    def _select(self, ignore: Sequence[Path] = ()) -> list[ModelFile]:
        from tungstenkit.spec.files import select_files

        patterns = self.spec.include_files, self.spec.exclude_files
        return select_files(self.directory, *patterns, self.spec.module, ignore)

    def files(self, out: Path | None = None) -> list[ModelFile]:
        """The files that ship; what is hardly meant to is told, once.

        Raises SpecError for what looks like a secret.
        """
        from tungstenkit.spec.files import (
            empty_folders,
            excluding,
            including,
            leftovers,
            pattern_of,
        )
        from tungstenkit.spec.secrets import secrets

        files = self._select(() if out is None else (out,))
        include, exclude = self.spec.include_files, self.spec.exclude_files
        found = leftovers(self.directory, files, include)
        if kept := secrets(self.directory, files, include):
            folders = {one.path: one.pattern for one in found}
            outer = [next((name for name in folders if path.startswith(name)), path) for path in kept]
            kept_out = excluding(
                exclude, *(folders.get(path) or pattern_of(path) for path in dict.fromkeys(outer))
            )
            raise SpecError(
                "\n".join(["what looks like a secret would be in the image:", *map(": ".join, kept.items())]),
                where=str(self.directory),
                hint=f"keep it out by {kept_out} in define_model(…); or, if it is meant to be there, name it: "
                f"{including(include, *map(pattern_of, kept))}",
            )
        if found:
            lines = [f"{one.path}: {one.what}" for one in found]
            kept_out = excluding(exclude, *(one.pattern for one in found))
            self._tell_once(
                self.watch.warn,
                "\n".join(
                    [
                        "tools have left these in the model's folder, and they will be in the image:",
                        *lines,
                        f"  hint: keep it out by {kept_out} in define_model(…)",
                    ]
                ),
            )
        if empty := empty_folders(self.directory, include, exclude):
            self._tell_once(
                self.watch.notice,
                f"not in the image, since nothing is in it: {', '.join(empty)}; what needs such a folder makes "
                "it, or finds a file there, such as keep.txt",
            )
        return files

    def select_shipped(self, lock: Lock, out: Path | None = None) -> Shipped:
        """The files that ship and that the lock does not bring, and which of them are big.

        out: a folder that is written, and ships nowhere.
        """
        files = self._leave_out_declared(lock, self.files(out))
        with self.watch.fetching("reading") as bar:
            return Shipped(files, big_files(self.directory, files, big_file_size(self.directory), bar))


def provide_result(project: Project, lock: Lock, system: str, shipped: Shipped) -> None:
    """Run what has the network where its recorded result is not in the store; all other inputs are."""
    platform = lock.platforms[system]
    if not platform.commands and platform.post_build is None:
        return
    # Few models have any, and it is much to import.
    from tungstenkit.seal import commands, post_build
    from tungstenkit.seal.bench import Bench

    contents = shipped.contents(project)
    for number in commands.missing(project.spec, platform) if system == this_system() else ():
        project.watch.notice("running a RUN --network=default: its result is not in the Nix store")
        with project.watch.building() as view:
            step = Bench(project.spec, contents, project.state, view).step(lock, system, f"command-{number}")
            commands.provide(number, platform, step, project.spec)
    entry = lock.platforms[system].post_build
    if entry is None or not post_build.is_missing(entry):
        return
    if system != this_system():
        project.watch.notice(
            f"what post_build makes for {system} is not in the Nix store, and can't be made on this machine"
        )
        return
    project.watch.notice("running post_build: its result is not in the Nix store")
    with project.watch.building() as view:
        step = Bench(project.spec, contents, project.state, view).step(lock, system)
        post_build.provide(entry, step, project.spec)


def find_sources(project: Project, lock: Lock) -> dict[str, list[str]]:
    """Where the lock's files are on this machine; without a network an export is complete but for that."""
    with project.watch.working("asking the mirrors where each file is"):
        try:
            mirrors = project.mirrors()
            from tungstenkit.fetch.locate import locate

            found = locate(needed_files(lock), lock, mirrors)
        except FetchError as problem:
            project.watch.warn(f"no mirror could be asked, so the export names none ({problem.what})")
            return {}
    from tungstenkit.export.flake import bootstrap_urls

    # With nixpkgs nothing is bootstrapped.
    return found | bootstrap_urls(mirrors) if lock.package_set == "debian" else found


def fetch_inputs(project: Project, lock: Lock, systems: Sequence[str], big: Sequence[BigFile]) -> int:
    """Bring into the store what images for some platforms need and it has not got; of how many files in all."""
    if have_inputs(project, lock, systems, big):
        return len(needed_files(part_of(lock, systems, this_system()))) + len(big)
    folders = Folders(project.directory, project.state)
    return bring_inputs(lock, systems, folders, big, project.mirrors, project.watch)


def have_inputs(
    project: Project, lock: Lock, systems: Sequence[str], big: Sequence[BigFile], more: Sequence[str] = ()
) -> bool:
    """Whether the store has and holds all that images for some platforms need, and has more paths."""
    part = part_of(lock, systems, this_system())
    return is_brought(part, Folders(project.directory, project.state), whole=lock, big=big, more=more)
