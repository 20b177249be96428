#!/usr/bin/env python3
"""What wheels install, and what is wrong with them: `wheel_facts.py CONFIG.json OUT.json`.

CONFIG's `wheels` are their paths and file names. Each is read to its end, as a layer is made of it, so what is no
problem here is none when an image is built. Locking asks this; no build does.
"""

from __future__ import annotations

import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent / "lib"))

from contents import WheelMember
from program import Config, ToolError, read_json, run, write_json
from wheelfile import Scheme, Wheel

_PLACES = Scheme("{prefix}", "{site}", "python3")


def wheel_facts(config_path: Path, out: Path) -> None:
    """Write the facts of the wheels that a configuration names, in order."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        write_json(out, list(pool.map(_facts, read_json(config_path)["wheels"])))


def _facts(item: Config) -> dict[str, object]:
    files = {}
    try:
        wheel = Wheel(Path(item["path"]), item["file"])
        for entry in wheel.install(_PLACES):
            content = entry.content
            assert content is not None  # a wheel has files alone
            if isinstance(content, WheelMember) and content.is_deflated:
                for _ in content.deflated():  # the stricter of the two ways to read it
                    pass
            else:
                for _ in content.chunks():
                    pass
            files[entry.path] = entry.sha256
    except ToolError as error:
        return {"problem": str(error), "files": {}, "notes": []}
    return {"problem": "", "files": files, "notes": wheel.notes}


if __name__ == "__main__":
    run(wheel_facts, "CONFIG.json OUT.json")
