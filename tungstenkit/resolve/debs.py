"""Debian packages of a solution as a lock has them."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

from tungstenkit.lock.packages import WISH, Deb
from tungstenkit.lock.parts import Choice

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from tungstenkit.debian.solution import DebSolution


def locked_debs(solution: DebSolution, wishes: Mapping[str, str] = MappingProxyType({})) -> tuple[Deb, ...]:
    """Debian packages as a lock has them.

    wishes: for the text of a request how `needed-by` says it, where that is not by its group.
    """
    return tuple(
        Deb(
            name=deb.name,
            version=deb.version,
            architecture=deb.architecture,
            file=deb.file,
            size=deb.size,
            sha256=deb.sha256,
            source=deb.source or None,
            needed_by=tuple(
                sorted(
                    {wishes.get(text, f"{group}: {text}") for group, text in deb.requests} | {*deb.needed_by}
                )
            ),
            group=deb.group,  # type: ignore[arg-type] # one of the groups asked for
            snapshot=deb.snapshot,
        )
        for deb in solution.debs
    )


def locked_choices(solution: DebSolution) -> list[Choice]:
    """What was chosen on the way."""
    return [
        Choice(kind=one.kind, subject=one.subject, chosen=one.chosen, reason=one.reason)
        for one in solution.decisions
    ]


def apart(debs: Iterable[Deb]) -> tuple[Deb, ...]:
    """A part of a solution, whose packages name none of the others as who needs them."""
    part = tuple(debs)
    names = {deb.name for deb in part}
    return tuple(
        deb.model_copy(
            update={"needed_by": tuple(entry for entry in deb.needed_by if WISH in entry or entry in names)}
        )
        for deb in part
    )
