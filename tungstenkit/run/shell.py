"""The development shell: whether this machine can run it, and whether the one that there is still fits.

What it is, `nix/flake/shell.nix` says. Its folder is held by a link in the model's own state, which an editor may name
as its interpreter: `.tungsten/shell/bin/python`.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from typing import TYPE_CHECKING

from tungstenkit.data import NIX, SDK, sdk_files
from tungstenkit.sdk.errors import RunError

if TYPE_CHECKING:
    from pathlib import Path

    from tungstenkit.lock.document import Lock
    from tungstenkit.spec.document import ModelSpec

_CHECK = "import sys; sys.path.insert(0, sys.argv[1]); from enter_shell import main; main(['--check'])"


def check_machine() -> None:
    """Raises RunError, with the remedy, where user namespaces are not allowed to us."""
    command = [sys.executable, "-I", "-B", "-c", _CHECK, str(NIX / "tools")]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    if run.returncode != 0:
        try:
            told = json.loads(run.stdout)
        except ValueError:
            raise RunError(f"the shell can't be entered; it said:\n{run.stderr.strip()}") from None
        raise RunError(told["what"], hint=told["hint"])


def stamp(spec: ModelSpec, lock: Lock) -> str | None:
    """What a shell was built of, in hexadecimal; None where that is not known without building it."""
    if spec.dockerfile_commands:
        return None  # they may copy any file of the model's
    digest = hashlib.sha256()
    nix = sorted(path for path in NIX.rglob("*") if path.suffix in {".nix", ".py", ".sh", ".json"})
    sdk = [SDK / name for name in sdk_files()]
    for content in (
        spec.to_json().encode(),
        lock.to_json().encode(),
        *(path.read_bytes() for path in [*nix, *sdk]),
    ):
        digest.update(hashlib.sha256(content).digest())
    return digest.hexdigest()


def is_current(link: Path, stamp: str | None) -> bool:
    """Whether the shell that a link leads to is there, and is of this stamp."""
    note = _note(link)
    return stamp is not None and link.exists() and note.exists() and note.read_text(encoding="ascii") == stamp


def note_stamp(link: Path, stamp: str | None) -> None:
    """Write down what the shell that a link leads to was built of."""
    _note(link).write_text(stamp or "", encoding="ascii")


def _note(link: Path) -> Path:
    return link.with_name(f"{link.name}.stamp")
