"""What was found of one thing that a machine may lack."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from tungstenkit.lacks import Remedy

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tungstenkit.lacks import Lack
    from tungstenkit.sdk.errors import TungstenError


class State(Enum):
    """How it is."""

    OK = "ok"
    LACKING = "lacking"
    UNSURE = "unsure"
    """It can't be told."""


@dataclass(frozen=True)
class Finding:
    """One thing."""

    lack: Lack
    """What it is, and what does not work without it."""
    state: State
    found: str
    """What was found, for people."""
    remedies: tuple[Remedy, ...] = ()
    """What mends it, in order, where it is lacking."""

    @property
    def forbids_building(self) -> bool:
        """Whether nothing can be built for want of it."""
        return self.lack.is_needed and self.state is State.LACKING


def fine(lack: Lack, found: str) -> Finding:
    """It is there."""
    return Finding(lack, State.OK, found)


def lacking(lack: Lack, found: str, remedies: Iterable[Remedy] = ()) -> Finding:
    """It is not."""
    return Finding(lack, State.LACKING, found, tuple(remedies))


def unsure(lack: Lack, why: str) -> Finding:
    """It can't be told."""
    return Finding(lack, State.UNSURE, why)


def lacking_by(lack: Lack, problem: TungstenError) -> Finding:
    """It is not, as an error says that a command would end with."""
    remedies = (Remedy(says=problem.hint),) if problem.hint else ()
    # What it is about may be a program's words, of which the last say most.
    where = f" ({problem.where.splitlines()[-1]})" if problem.where else ""
    return Finding(lack, State.LACKING, f"{problem.what}{where}", remedies)
