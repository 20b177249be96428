"""Which pins a known vulnerability concerns that something newer closes: those that `lock --security` moves.

A fix counts only if it is to be had here: a tracker may know of one that no mirror has yet.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tungstenkit.debian.solution import source_of
from tungstenkit.lock.document import packages
from tungstenkit.lock.packages import Deb
from tungstenkit.platforms import Target

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from tungstenkit.audit.vulnerabilities import Advisories
    from tungstenkit.debian.packages import Package
    from tungstenkit.lock.document import Located, Lock


def fixable(one: Located, advisories: Advisories) -> set[str]:
    """The known vulnerabilities of a package that some version of it has not."""
    return {known.id for known in advisories.of(one.package, one.release) or () if known.fixed}


def concerned(lock: Lock, advisories: Advisories) -> list[Located]:
    """The packages of images and of the server's environment that have such."""
    return [one for one in packages(lock) if one.place in ("image", "server") and fixable(one, advisories)]


def has_fix(
    one: Located, advisories: Advisories, newest_deb: Callable[[Target, str], Package | None]
) -> bool:
    """Whether the newest version has less of it, as far as that is known without a solve: of Debian packages.

    newest_deb: as a `Solver`'s.
    """
    if not isinstance(one.package, Deb):
        return True
    newest = newest_deb(Target(one.system, one.release, ""), one.name)
    if newest is None:
        return False
    moved = one._replace(package=one.package.model_copy(update={"source": source_of(newest)}))
    return bool(fixable(one, advisories) - fixable(moved, advisories))


def in_vain(moving: Iterable[Located], lock: Lock, before: Advisories, after: Advisories) -> list[Located]:
    """Of the packages that were to move those that a new lock has in a version that closes nothing.

    before, after: what is known of the old versions, and of the new ones.
    """
    now = {(one.system, one.place, one.kind, one.name): one for one in packages(lock)}
    return [
        one
        for one in moving
        if (there := now.get((one.system, one.place, one.kind, one.name)))
        and fixable(one, before) <= {known.id for known in after.of(there.package, there.release) or ()}
    ]
