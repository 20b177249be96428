"""An export as the one file by whose digest it is named, which an image made of it says in a label."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

from tungstenkit.data import FACTS, NIX
from tungstenkit.digest import sha256_of
from tungstenkit.sdk.errors import ExportError

if TYPE_CHECKING:
    from pathlib import Path

LABEL: str = FACTS["export-label"]
"""The label of an image, and the annotation of its manifest, that names its export."""


def pack_export(export: Path, out: Path) -> str:
    """Write an export as a tar; its digest, `sha256:…`.

    The same for every export of one model, lock and tungsten: `sources.json` is not in it, nor are files that the lock
    names by their hash, nor what else lies there. Raises ExportError.
    """
    program = [sys.executable, "-I", "-S", "-B", str(NIX / "tools" / "pack_export.py")]
    run = subprocess.run([*program, str(export), str(out)], capture_output=True, text=True, check=False)
    if run.returncode != 0:
        raise ExportError(
            f"the export can't be packed: {run.stderr.strip().removeprefix('error: ')}", where=str(export)
        )
    return f"sha256:{sha256_of(out)}"
