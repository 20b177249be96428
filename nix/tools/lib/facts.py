"""What Nix, programs and tungsten must know alike is in `facts.json`, which each of them reads; here for programs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

_FACTS: dict[str, Any] = json.loads(Path(__file__).with_suffix(".json").read_text("utf-8"))

CERTIFICATES: list[str] = _FACTS["certificate-variables"]
"""The variables by which programs are told whom to trust: each names a file of certificates (PEM)."""

EXPORT_LABEL: str = _FACTS["export-label"]
"""The label and annotation by which an image names the export that it is made of."""

EXPORTED: list[str] = _FACTS["exported"]
"""What of an export's folder names it (`exported.py`)."""

PLATFORMS: dict[str, dict[str, Any]] = _FACTS["platforms"]
"""By Nix system: `debian` and `oci`, their names of the architecture; `machine`, as `uname -m` and a wheel's platform
tag have it; `elf`, as `e_machine` of an ELF file (System V ABI); `multiarch`, its triplet (Debian policy 11.3); and
`loader`, which stands in the folder of that.
"""

PROXIES: list[str] = _FACTS["proxy-variables"]
"""The variables of whoever builds that a step with the network gets, as curl reads them."""

WHITEOUT: str = _FACTS["whiteout"]
"""A whiteout's name is this and the name of what is gone (OCI image specification, "Layer Filesystem Changeset")."""
