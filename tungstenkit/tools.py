"""The programs of `nix/tools` while locking and running: run by the Python that runs tungsten, as builds run them by
theirs, or read as modules where both must decide alike.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from functools import cache
from typing import TYPE_CHECKING, Any

from tungstenkit.data import NIX
from tungstenkit.sdk.errors import FetchError

if TYPE_CHECKING:
    from pathlib import Path
    from types import ModuleType


def run_tool(program: str, config: dict[str, Any], out: Path, where: str) -> None:
    """Run a program with a configuration, which is written beside the output; FetchError with what it says."""
    source = out.with_name(f"{out.name}.config")
    source.write_text(json.dumps(config), encoding="utf-8")
    command = [sys.executable, "-I", "-S", "-B", str(NIX / "tools" / program), str(source), str(out)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    if run.returncode != 0:
        raise FetchError(run.stderr.strip().removeprefix("error: "), where=where)


@cache
def tool_module(name: str) -> ModuleType:
    """A program as a module, by its path below `nix/tools`; it must be one that imports nothing of ours."""
    path = NIX / "tools" / name
    found = importlib.util.spec_from_file_location(f"tungstenkit_{path.stem}", path)
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module
