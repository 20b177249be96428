"""Where a model's own steps are run: each in an export of its own. `workshop` has the one for sealing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tungstenkit.export.flake import Contents, export
from tungstenkit.lock.selection import part_of
from tungstenkit.platforms import this_system
from tungstenkit.seal.twice import ExportedStep

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tungstenkit.lock.document import Lock
    from tungstenkit.nix_build.log import View
    from tungstenkit.spec.document import ModelSpec
    from tungstenkit.spec.files import ModelFile


@dataclass(frozen=True)
class Bench:
    """What an export of a step is made of, and who watches the step."""

    spec: ModelSpec
    contents: Contents
    """The model's files that ship."""
    state: Path
    """The model's `.tungsten` folder."""
    view: View

    @property
    def directory(self) -> Path:
        """The model's folder."""
        return self.contents.directory

    @property
    def files(self) -> Sequence[ModelFile]:
        """What of the model's folder ships."""
        return self.contents.files

    def step(self, lock: Lock, system: str, name: str = "post-build") -> ExportedStep:
        """A platform's step, whose inputs are in the store."""
        folder = self.state / "step"
        export(self.spec, part_of(lock, [system], this_system()), self.contents, {}, folder)
        return ExportedStep(folder, system, name, self.state, self.view)
