"""All that is looked at, at the same time, and within some seconds."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from tungstenkit import lacks
from tungstenkit.doctor.engines import engines
from tungstenkit.doctor.finding import unsure
from tungstenkit.doctor.kernel import kernel
from tungstenkit.doctor.network import network
from tungstenkit.doctor.nix import nix
from tungstenkit.doctor.programs import programs
from tungstenkit.doctor.room import room

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from tungstenkit.doctor.finding import Finding
    from tungstenkit.lacks import Lack, Linux

_SECONDS = 60.0
"""After which what has not answered, as a folder of a server that is gone, is told as such."""

_LAST_SECONDS = 3.0


@dataclass(frozen=True)
class Examination:
    """What was found."""

    linux: Linux
    findings: tuple[Finding, ...]

    @property
    def can_build(self) -> bool:
        """Whether all is there that a build needs, as far as it can be told."""
        return not any(found.forbids_building for found in self.findings)


def examine(*, offline: bool = False) -> Examination:
    """Look at this machine. offline: or at it alone, and ask no server."""
    linux = lacks.this_linux()
    parts: list[tuple[Lack, Callable[[], Iterable[Finding]]]] = [
        (lacks.NAMESPACES, partial(kernel, linux)),
        (lacks.NIX, nix),
        (lacks.STORE, room),
        (lacks.ENGINE, partial(engines, linux)),
        (lacks.PROGRAMS["git"], partial(programs, linux)),
    ]
    if not offline:
        parts.append((lacks.PYTHON_INDEX, partial(network, linux)))
    return Examination(linux, tuple(_together(parts, _SECONDS)))


def _together(
    parts: Sequence[tuple[Lack, Callable[[], Iterable[Finding]]]], seconds: float
) -> Iterable[Finding]:
    """The findings of parts, in their order. Of one that does not end what it has found until then, and that.

    A part's lack stands for it then.
    """
    found: list[list[Finding]] = [[] for _ in parts]
    problems: list[BaseException | None] = [None for _ in parts]

    def look(number: int) -> None:
        try:
            for one in parts[number][1]():
                found[number].append(one)
        except Exception as problem:
            problems[number] = problem

    # What hangs in the kernel must keep nobody from the end of the process.
    threads = [threading.Thread(target=look, args=(number,), daemon=True) for number in range(len(parts))]
    for thread in threads:
        thread.start()
    until = time.monotonic() + seconds
    try:
        for thread in threads:
            thread.join(max(0.0, until - time.monotonic()))
    except KeyboardInterrupt:
        # It has ended the programs, too, so that what they were tried with is removed soon.
        for thread in threads:
            thread.join(_LAST_SECONDS)
        raise
    for number, thread in enumerate(threads):
        if problem := problems[number]:
            raise problem
        yield from found[number]
        if thread.is_alive():
            yield unsure(parts[number][0], f"it has not answered in {seconds:g} s")
