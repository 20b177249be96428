"""Choices of a lock: told once for all platforms, and with the reason that they were first made for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tungstenkit.lock.parts import OF_VERSIONS, Choice
from tungstenkit.lock.stale import input_digest
from tungstenkit.spec.requirements import project_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from tungstenkit.lock.document import Lock
    from tungstenkit.spec.document import ModelSpec


def add_choice(choices: dict[tuple[str, str], Choice], choice: Choice, system: str) -> None:
    """Add a choice that a platform made: one line where it is every platform's."""
    known = choices.setdefault((choice.kind, choice.subject), choice)
    if known != choice:
        subject = f"{choice.subject} on {system}"
        choices[choice.kind, subject] = choice.model_copy(update={"subject": subject})


def keep_reasons(
    choices: Iterable[Choice], spec: ModelSpec, previous: Lock | None, package_set: str = "debian"
) -> Iterator[Choice]:
    """What was chosen before and is chosen again keeps its reason: that there was a pin is none."""
    before = {(c.kind, c.subject, c.chosen): c for c in previous.choices} if previous else {}
    is_same = previous is not None and previous.input_digest == input_digest(spec, package_set)
    pins: set[tuple[str, str]] = set()
    for platform in previous.platforms.values() if previous else ():
        pins |= {(wheel.project, wheel.version) for wheel in platform.wheels}
        pins |= {(source.project, source.version) for source in platform.sources}
    for choice in choices:
        known = before.get((choice.kind, choice.subject, choice.chosen))
        # A pin is not told of for what has come out since.
        if (
            known is None
            and choice.kind in OF_VERSIONS
            and (project_of(choice.subject), choice.chosen) in pins
        ):
            continue
        yield known if known is not None and is_same else choice
