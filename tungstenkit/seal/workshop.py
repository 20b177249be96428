"""What a lock is sealed with, in one object that every step of sealing takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tungstenkit.fetch.bring import find_in_store
from tungstenkit.fetch.download import download
from tungstenkit.fetch.locate import locate

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tungstenkit.fetch.download import Progress
    from tungstenkit.fetch.needs import LockedFile
    from tungstenkit.lock.document import Lock
    from tungstenkit.resolve.solver import Solver
    from tungstenkit.spec.document import ModelSpec
    from tungstenkit.watch import Watch


@dataclass(frozen=True)
class Workshop:
    """The model, its lock up to now, what solves for it, and where files come from and go to."""

    spec: ModelSpec
    state: Path
    """The model's `.tungsten` folder: what is built is held there."""
    resolved: Lock
    """The lock that is sealed, as it was resolved."""
    previous: Lock | None
    """The lock before, whose versions and results are kept where they fit."""
    base_libraries: Mapping[str, frozenset[str]]
    """The libraries that the base image has, by system."""
    solver: Solver
    watch: Watch
    progress: Progress
    """The observer of all that is downloaded."""

    @property
    def downloads(self) -> Path:
        """The folder where what is downloaded waits for `tungsten fetch`."""
        return self.state / "downloads"

    def get(self, entry: LockedFile) -> Path:
        """Download a file that the lock names, verified, under its store name; from several threads at a time."""
        if path := find_in_store(entry):
            return path
        urls = locate([entry], self.resolved, self.solver.mirrors)[entry.sha256]
        return download(entry, urls, self.downloads, self.progress, self.solver.directory)
