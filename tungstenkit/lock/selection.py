"""The part of a lock that a command is about: its package set, a platform, what one machine builds with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tungstenkit.lock.document import LOCK_NAME
from tungstenkit.platforms import ARCHITECTURES
from tungstenkit.sdk.errors import LockError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tungstenkit.lock.document import Lock


def check_package_set(lock: Lock, asked: str | None, hint: str = "") -> None:
    """LockError where another package set is asked for than the lock's; hint: what to do instead of locking again."""
    if asked not in (None, lock.package_set):
        raise LockError(
            f"the lock is for the package set {lock.package_set}, not {asked}",
            where=LOCK_NAME,
            hint=hint or f"run `tungsten lock --package-set {asked}`",
        )


def choose_platform(lock: Lock, asked: str | None, here: str) -> str:
    """The platform whose image is meant: the one asked for, else that of this machine, else the only one.

    here: this machine's Nix system. Raises LockError where the lock has not got it, or has several others.
    """
    have = ", ".join(lock.platforms)
    if asked is not None and asked not in lock.platforms:
        more = " ".join(f"--platform {system}" for system in sorted({*lock.platforms, asked}))
        raise LockError(
            f"the lock has no platform {asked}; it has {have}",
            where="--platform",
            hint=f"run `tungsten lock {more}`"
            if asked in ARCHITECTURES
            else f"images can be made for {', '.join(ARCHITECTURES)}",
        )
    if asked is None and here not in lock.platforms and len(lock.platforms) > 1:
        raise LockError(
            f"the lock has several platforms, and none is this machine's ({here})",
            where="--platform",
            hint=f"choose one: {have}",
        )
    return asked or (here if here in lock.platforms else next(iter(lock.platforms)))


def part_of(lock: Lock, platforms: Iterable[str], builder: str) -> Lock:
    """What of a lock counts where the images of some platforms are built on one machine.

    builder: the machine's Nix system. Raises LockError where the lock has no tools for it.
    """
    if lock.tools and builder not in lock.tools:
        can = ", ".join(lock.tools)
        raise LockError(
            f"the lock has tools to build on {can}, and none for this machine ({builder})",
            where=LOCK_NAME,
            hint="run `tungsten lock` on this machine: pins are kept, and tools are added"
            if builder in ARCHITECTURES
            else f"build on one of these: {', '.join(ARCHITECTURES)}",
        )
    systems = set(platforms)
    # As `nix/scope.nix`: a wheel that is for all platforms is built on the one that builds.
    here = lock.platforms.get(builder)
    own = {source.wheel_sha256: source for source in here.sources} if here else {}
    return lock.model_copy(
        update={
            "platforms": {
                name: found.model_copy(
                    update={"sources": tuple(own.get(s.wheel_sha256, s) for s in found.sources)}
                )
                for name, found in lock.platforms.items()
                if name in systems
            },
            "server": {name: found for name, found in lock.server.items() if name in systems},
            "tools": {name: found for name, found in lock.tools.items() if name == builder},
        }
    )
