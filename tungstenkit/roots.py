"""The Nix stores of this machine that are read without starting a Nix, what their roots hold, and what nothing holds.

A model's folder has links into the store, and Nix has registered each as a root: so Nix itself says which folders
there are. There may be two stores, the machine's and the one in the user's data folder.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tungstenkit import disk, nix_program
from tungstenkit.nix_program import Nix, folder_of_nix, store_variables
from tungstenkit.sdk.errors import FetchError
from tungstenkit.settings import OWN
from tungstenkit.started import is_held
from tungstenkit.store import options

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

_MACHINES = ("/nix/store", "/nix/var/nix")
_NAMES = (*store_variables(Path()), "NIX_REMOTE")
"""The variables by which a Nix is told which store is its own."""
_ENOUGH = 32 << 20
"""In bytes: with so much room on its disk a Nix can begin."""


@dataclass(frozen=True)
class Store:
    """A Nix store."""

    place: Path
    state: Path
    """Where Nix keeps what it knows of it."""
    nix: Nix | None
    """What is started for it; None where there is no Nix."""

    @property
    def is_own(self) -> bool:
        """Whether it is in this user's data folder, so that nothing is in it but tungsten's."""
        return self.place == folder_of_nix() / "store"

    @property
    def is_writable(self) -> bool:
        """Whether this user may let go of roots there by themselves."""
        return os.access(self._auto, os.W_OK)

    @property
    def _auto(self) -> Path:
        return self.state / "gcroots" / "auto"

    def roots(self) -> Iterator[Root]:
        """The links of this machine's folders that Nix takes for roots, those that are gone, too."""
        with suppress(OSError):  # nothing was registered yet
            for entry in sorted(self._auto.iterdir()):
                with suppress(OSError):
                    yield Root(self, entry, Path(os.readlink(entry)))  # noqa: PTH115 (as written)

    def dead(self) -> list[str]:
        """The paths that no root holds. Raises FetchError."""
        said = self._nix_store("--gc", "--print-dead", *self._let_go_of_reserve()).splitlines()
        return [line for line in said if line.startswith(f"{self.place}/")]

    def collect(self) -> None:
        """Remove what no root holds. Raises FetchError."""
        self._nix_store("--gc", *self._let_go_of_reserve())

    def _let_go_of_reserve(self) -> list[str]:
        """Options for Nix on a disk that is full: it has a file in reserve for that, but opens its database before it
        lets go of it, which needs room already.
        """
        room = os.statvfs(self.state)
        if room.f_bavail * room.f_frsize > _ENOUGH or not os.access(self.state / "db", os.W_OK):
            return []
        with suppress(OSError):
            (self.state / "db" / "reserved").unlink()
        return ["--option", "gc-reserved-space", "0"]

    def held(self, paths: Sequence[str]) -> set[str]:
        """What paths hold, themselves among it. Raises FetchError."""
        return set(self._nix_store("--query", "--requisites", *paths).split()) if paths else set()

    def every_root(self) -> list[tuple[str, str]]:
        """Each root, with the path that it holds: links, and what processes have open. Raises FetchError."""
        said = self._nix_store("--gc", "--print-roots").splitlines()
        parts = (line.rpartition(" -> ") for line in said)
        return [(root, path) for root, _, path in parts if root and path.startswith(f"{self.place}/")]

    def size(self, paths: Iterable[str]) -> int:
        """What the disk has more when paths are collected."""
        # Nix gives files that are alike one more name there, which goes with the last of the others.
        links: set[int] = set()
        with suppress(OSError), os.scandir(self.place / ".links") as entries:
            links = {entry.inode() for entry in entries}
        return disk.used(map(Path, paths), besides=links)

    @property
    def is_in_use(self) -> bool:
        """Whether a Nix is at work on it: each holds a file there as long as it runs."""
        return any(map(is_held, (self.state / "temproots").glob("*")))

    def _nix_store(self, *arguments: str) -> str:
        nix = self.nix
        if nix is None:
            raise FetchError("there is no Nix to ask of this store", where=str(self.place))
        command = ["nix-store", *options(), *arguments]
        environment = dict(os.environ)
        if nix is not nix_program.current():
            environment = {name: value for name, value in environment.items() if name not in _NAMES}
        run = nix_program.run(command, nix=nix, env={**environment, **nix.variables})
        if run.returncode != 0:
            raise FetchError(
                f"Nix refused: {run.stderr.strip()}", where=nix.for_a_shell(["nix-store", *arguments[:2]])
            )
        return run.stdout


@dataclass(frozen=True)
class Root:
    """A link of a folder's that Nix takes for a root."""

    store: Store
    entry: Path
    """Nix's own link to it."""
    link: Path
    """It itself, or where it was."""

    @property
    def target(self) -> str | None:
        """The path of the store that it holds; None for one that leads nowhere, or elsewhere."""
        try:
            target = os.readlink(self.link)  # noqa: PTH115 (as written)
        except OSError:
            return None
        place = re.escape(str(self.store.place))
        return (
            target if re.fullmatch(rf"{place}/[0-9a-df-np-sv-z]{{32}}-[\w.+?=-]+", target, re.ASCII) else None
        )

    def forget(self) -> None:
        """Have Nix forget one that leads nowhere; where that is another's to do, it does so by itself in time."""
        if not os.path.lexists(self.link):
            with suppress(OSError):
                self.entry.unlink()


def stores() -> list[Store]:
    """The Nix stores that are here: the one that is used, the user's own, the machine's."""
    nix = nix_program.current()
    own = store_variables(folder_of_nix())
    known = [
        (
            nix_program.variable("NIX_STORE_DIR", _MACHINES[0]),
            nix_program.variable("NIX_STATE_DIR", _MACHINES[1]),
            nix,
        ),
        (own["NIX_STORE_DIR"], own["NIX_STATE_DIR"], _nix_of_own(own)),
        (*_MACHINES, Nix()),
    ]
    found: dict[str, Store] = {}
    for place, state, one in known:
        if Path(place).is_dir():
            found.setdefault(place, Store(Path(place), Path(state), one if one.is_there else None))
    return list(found.values())


def _nix_of_own(own: Mapping[str, str]) -> Nix:
    """What is started for the user's own store where that is not the one that is used."""
    environ = {name: value for name, value in os.environ.items() if name not in _NAMES}
    nix = nix_program.choose(OWN, environ)
    return nix if nix.is_there else Nix(None, {**own, "NIX_REMOTE": "local"})
