"""The files of ours that an export is made of: `nix/` and the server's package.

They stand beside `tungstenkit/` in a checkout and below `tungstenkit/_data/` in an installed tungsten.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

_PACKAGE = Path(__file__).resolve().parent
_INSTALLED = _PACKAGE / "_data"
_ROOT = _INSTALLED if _INSTALLED.is_dir() else _PACKAGE.parent

SDK = _PACKAGE
"""The folder of the package that model code imports; `sdk_files` are what of it is in an image."""
NIX = _ROOT / "nix"
SERVER = _ROOT / "server" / "tungsten_server"

FACTS: dict[str, Any] = json.loads((NIX / "tools" / "lib" / "facts.json").read_text(encoding="utf-8"))
"""What Nix and its programs know, too; `nix/tools/lib/facts.py` says what each is."""

SEVEN_ZIP: dict[str, Any] = json.loads((NIX / "steps" / "bootstrap.json").read_text(encoding="utf-8"))[
    "seven-zip"
]
"""The npm package whose program opens the first .deb, where `tungsten fetch` has not put busybox into the store."""

OWN_WHEELS: dict[str, dict[str, Any]] = json.loads(
    (NIX / "inputs" / "wheels.json").read_text(encoding="utf-8")
)
"""Name, version and requirements of the two wheels that images get from us: `sdk` and `server`."""


def sdk_files() -> list[str]:
    """Files of the package that are in an image, from its folder on: what wheels.json names, and what that holds."""
    named = [SDK / name for name in OWN_WHEELS["sdk"]["modules"]]
    files = [*(one for one in named if one.is_file()), *(file for one in named for file in one.rglob("*.py"))]
    return sorted(file.relative_to(SDK).as_posix() for file in files)
