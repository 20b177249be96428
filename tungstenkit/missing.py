"""What to install where an exception says that a module, a shared library or a program is missing.

The import check of a build says the same, so it is asked: `nix/tools/import_check.py`.
"""

from __future__ import annotations

import json
import re
import sys
from typing import TYPE_CHECKING

from tungstenkit.data import FACTS, NIX
from tungstenkit.tools import tool_module

if TYPE_CHECKING:
    from pathlib import Path

_NO_MODULE = re.compile(r"ModuleNotFoundError: No module named '([\w.]+)'")
_NO_NAME = re.compile(r"ImportError: cannot import name '[^']*' from '([\w.]+)'")


def package_hint(text: str, own: Path | None = None) -> str | None:
    """What helps, by an exception's text; None where nothing is missing.

    own: the model's folder here, where it is known.
    """
    program = tool_module("import_check.py")
    if library := program.missing_library(text):
        hint: str = program.library_hint(library, FACTS["driver-libraries"])
        return hint
    found = _NO_MODULE.search(text) or _NO_NAME.search(text)
    if found is None:
        return None
    top = found[1].partition(".")[0]
    is_local = own is not None and (own.joinpath(top).is_dir() or own.joinpath(f"{top}.py").is_file())
    names = json.loads((NIX / "steps" / "import-names.json").read_text("utf-8"))
    if found.re is _NO_NAME:
        if is_local or top in sys.stdlib_module_names:
            return None
        hint = program.version_hint(program.project_of(top, names) or top)
    else:
        hint = program.module_hint({"name": found[1], "distribution": "", "is-local": is_local}, names)
    return hint


def program_hint(name: str, package: str | None = None) -> str:
    """What helps where a program is missing. package: Debian's that has it, where that is known."""
    if package is not None:
        return f"add {package!r} to system_packages: it has {name}"
    return f"add the Debian package that has it to system_packages: `apt-file search bin/{name}` says which"
