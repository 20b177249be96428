"""What a lock is sealed with, in one object that each part of sealing takes; and where the model's steps are run."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from tungstenkit.debian.contents import fetch_paths
from tungstenkit.fetch import inputs
from tungstenkit.fetch.bring import Folders, bring_inputs, find_in_store
from tungstenkit.fetch.download import download
from tungstenkit.fetch.locate import locate
from tungstenkit.fetch.machine_mirrors import oci_mirrors
from tungstenkit.nix_build.hints import package_of_program
from tungstenkit.registry.base import DamagedError
from tungstenkit.registry.place import place
from tungstenkit.resolve.base import loadable_on
from tungstenkit.sdk.errors import FetchError, GoneError, TungstenError
from tungstenkit.seal.bench import Bench
from tungstenkit.seal.fake_time import fake_time

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tungstenkit.fetch.download import Progress
    from tungstenkit.fetch.needs import LockedFile
    from tungstenkit.lock.document import Lock
    from tungstenkit.platforms import Target
    from tungstenkit.registry.base import Place
    from tungstenkit.resolve.solver import Solver
    from tungstenkit.seal.twice import ExportedStep
    from tungstenkit.spec.document import ModelSpec
    from tungstenkit.watch import Watch


@dataclass(frozen=True)
class Workshop:
    """The model, its lock up to now, what solves for it, and where files come from and go to."""

    spec: ModelSpec
    state: Path
    """The model's `.tungsten` folder: what is built is held there."""
    resolved: Lock | None
    """The lock that is sealed, as it was resolved; before that the one that there was, if any."""
    previous: Lock | None
    """The lock before, whose versions and results are kept where they fit."""
    base_libraries: Mapping[str, frozenset[str]]
    """The libraries that the base image has, by system."""
    solver: Solver
    watch: Watch
    progress: Progress
    """The observer of all that is downloaded."""
    _silent: dict[str, str] = field(default_factory=dict, init=False, repr=False)
    """Registries that could not be asked, and why."""

    @property
    def downloads(self) -> Path:
        """The folder where what is downloaded waits for `tungsten fetch`."""
        return self.state / "downloads"

    def get(self, entry: LockedFile) -> Path:
        """Download a file that the lock names, verified, under its store name; from several threads at a time.

        Raises GoneError where nobody has it any more, FetchError where it can't be had.
        """
        if path := find_in_store(entry) or self._by_hash(entry):
            return path
        urls = locate([entry], self.resolved, self.solver.mirrors)[entry.sha256]
        try:
            return download(entry, urls, self.downloads, self.progress, self.solver.directory)
        except GoneError as problem:
            # Else whoever cuts a registry off would choose versions.
            if not self._silent:
                raise
            told = "\n".join(f"{name}: {why}" for name, why in self._silent.items())
            raise FetchError(
                f"no mirror has {entry.name} any more, and a registry that may have it can't be asked",
                where="\n".join(filter(None, [problem.where, told])),
                hint="try again once it answers, or leave it out of this machine's mirrors",
            ) from None

    @cached_property
    def _registries(self) -> dict[str, Place]:
        """The machine's own, by name, as long as they answer."""
        places = map(place, oci_mirrors(self.solver.directory))
        return {one.name: one for one in places}

    def _by_hash(self, entry: LockedFile) -> Path | None:
        """The same of this machine's own registries, which are asked first; one that fails is told, and left out."""
        for name, where in [*self._registries.items()] if entry.local is None else ():
            try:
                if path := inputs.get(entry, where, self.downloads, self.progress):
                    return path
            except DamagedError as problem:
                self.watch.warn(f"{name}: {problem.what}")  # of its other files that says nothing
            except FetchError as problem:
                self._silent[name] = problem.what
                if self._registries.pop(name, None):
                    self.watch.warn(f"{name} can't be used as a mirror: {problem.what}")
        return None


@dataclass(frozen=True)
class SealingBench(Bench):
    """A bench for steps whose results nobody knows yet."""

    workshop: Workshop
    _clocks: dict[Target, Path | None] = field(default_factory=dict, init=False)

    def step(self, lock: Lock, system: str, name: str = "post-build") -> ExportedStep:
        """A platform's step, with all that it needs brought into the store."""
        folders = Folders(self.directory, self.state)
        workshop = self.workshop
        bring_inputs(
            lock, [system], folders, self.contents.big, lambda: workshop.solver.mirrors, workshop.watch
        )
        return super().step(lock, system, name)

    def report(self, text: str) -> None:
        """Tell what is being done."""
        self.workshop.solver.report(text)

    def package_of(self, program: str, target: Target) -> str | None:
        """The Debian package that has a program; None where none has it, or where that can't be looked up."""
        solver = self.workshop.solver
        with suppress(TungstenError):
            return package_of_program(
                program, lambda path: fetch_paths(solver.index(target), solver.get, path)
            )
        return None

    def fake_time(self, target: Target) -> Path | None:
        """libfaketime's library for a root; None where it can't be had, which is told."""
        if target not in self._clocks:
            self._clocks[target] = self._find_fake_time(target)
        return self._clocks[target]

    def _find_fake_time(self, target: Target) -> Path | None:
        workshop = self.workshop
        assert workshop.resolved is not None  # it is being sealed
        fitting = loadable_on(workshop.resolved.platforms[target.system].base_image, target)
        if fitting is not None:
            return fake_time(fitting, workshop.solver, workshop.get, workshop.downloads)
        workshop.solver.notice(
            "the second run has the same clock as the first: the base image is too old for it"
        )
        return None
