"""The programs of `nix/tools`, run while locking by the Python that runs tungsten, as builds run them by theirs."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from tungstenkit.data import NIX
from tungstenkit.sdk.errors import FetchError

if TYPE_CHECKING:
    from pathlib import Path


def run_tool(program: str, config: dict[str, Any], out: Path, where: str) -> None:
    """Run a program with a configuration, which is written beside the output; FetchError with what it says."""
    source = out.with_name(f"{out.name}.config")
    source.write_text(json.dumps(config), encoding="utf-8")
    command = [sys.executable, "-I", "-S", "-B", str(NIX / "tools" / program), str(source), str(out)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    if run.returncode != 0:
        raise FetchError(run.stderr.strip().removeprefix("error: "), where=where)
