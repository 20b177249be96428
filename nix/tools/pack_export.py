#!/usr/bin/env python3
"""Put an export into the one tar by whose digest it is named: `pack_export.py EXPORT OUT.tar`."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent / "lib"))

from exported import parts_of, tar
from program import run


def pack_export(export: Path, out: Path) -> None:
    """Write the tar of an export's folder."""
    with out.open("xb") as file:
        file.writelines(tar(parts_of(export)))


if __name__ == "__main__":
    run(pack_export, "EXPORT OUT.tar")
