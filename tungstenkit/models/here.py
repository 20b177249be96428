"""What was built on this machine, for programs: by the folders and by the engine that are here."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from tungstenkit.models import built
from tungstenkit.nix_build.engine import find_engine

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tungstenkit.models.built import Built, Inspected, Removal


def list() -> Sequence[Built]:  # noqa: A001 (as a program reads it: `models.list()`)
    """Every image that was built here, and each of ours that podman or docker has besides. Raises TungstenError."""
    return built.built(find_engine())


def inspect(target: str | Path) -> Sequence[Inspected]:
    """An image by its folder, one for each platform, or by its name. Raises TungstenError."""
    return built.inspect(os.fspath(target), find_engine())


def remove(target: str | Path) -> Removal:
    """Remove a model: of a folder what tungsten has made there and its images, or an image's name.

    It asks nothing, and says what was removed. Raises TungstenError for what is not this user's, and is in use.
    """
    return built.remove(os.fspath(target), find_engine())
