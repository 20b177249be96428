"""Programs that some commands start."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from tungstenkit import lacks
from tungstenkit.doctor.finding import fine, lacking

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tungstenkit.doctor.finding import Finding
    from tungstenkit.lacks import Linux


def programs(linux: Linux) -> Iterator[Finding]:
    """Each of `lacks.PROGRAMS`."""
    for name, lack in lacks.PROGRAMS.items():
        if path := shutil.which(name):
            yield fine(lack, path)
        else:
            yield lacking(lack, "it is not on PATH", [lacks.installing(name, linux)])
