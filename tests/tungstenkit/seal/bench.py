"""A bench on which nothing is run."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class FakeBench:
    """Stands for `SealingBench`; its steps are what `step` says."""

    spec: Any
    directory: Path
    files: Sequence[Any]
    step: Callable[..., Any]
    fake_time: Callable[[Any], Path | None]

    def report(self, text):
        """Nobody is told."""

    def package_of(self, program, target):
        """The archive has a package of each program."""
        return f"{program}-of-{target.release}"
