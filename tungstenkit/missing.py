"""What to install where an exception says that a module or a shared library is missing.

The import check of a build says the same, so it is asked: `nix/tools/import_check.py`.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from tungstenkit.data import FACTS, NIX
from tungstenkit.tools import tool_module

if TYPE_CHECKING:
    from pathlib import Path

_NO_MODULE = re.compile(r"ModuleNotFoundError: No module named '([\w.]+)'")


def package_hint(text: str, own: Path | None = None) -> str | None:
    """What helps, by an exception's text; None where nothing is missing.

    own: the model's folder here, where it is known.
    """
    program = tool_module("import_check.py")
    hint: str | None = None
    if library := program.missing_library(text):
        hint = program.library_hint(library, FACTS["driver-libraries"])
    elif module := _NO_MODULE.search(text):
        is_local = own is not None and own.joinpath(module[1].partition(".")[0]).is_dir()
        missing = {"name": module[1], "distribution": "", "is-local": is_local}
        hint = program.module_hint(
            missing, json.loads((NIX / "steps" / "import-names.json").read_text("utf-8"))
        )
    return hint
