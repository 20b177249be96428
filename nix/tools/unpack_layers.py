#!/usr/bin/env python3
"""Unpack layers into one folder: `unpack_layers.py CONFIG.json OUT`.

CONFIG's `layers` are the folders that `layer.py` makes, the lowest first.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent / "lib"))

from program import read_json, run
from unpacking import unpack


def unpack_layers(config_path: Path, out: Path) -> None:
    """Unpack the layers that a configuration names."""
    layers = [Path(path) for path in read_json(config_path)["layers"]]
    out.mkdir()
    unpack(layers, out)


if __name__ == "__main__":
    run(unpack_layers, "CONFIG.json OUT")
