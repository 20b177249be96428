"""Runs attacks.py as `nix/tools/lib/scriptrun.py` runs a package's script, in a derivation: see attacks.nix."""

import os
import shutil
import sys
from pathlib import Path

sys.path.insert(0, os.environ["tools"])  # noqa: SIM112 - Nix's variables

import scriptrun  # type: ignore[import-not-found]


def main():
    root = Path("root")
    shutil.copytree(os.environ["tree"], root, symlinks=True)  # noqa: SIM112
    for folder in (root, *(path for path in root.rglob("*") if path.is_dir() and not path.is_symlink())):
        folder.chmod(0o755)
    for name in ("dev", "proc", "tmp", scriptrun._OURS):
        (root / name).mkdir(exist_ok=True)
    (root / "dev" / "null").touch()
    shutil.copyfile(os.environ["program"], root / "attacks.py")  # noqa: SIM112
    messages = root / scriptrun._OURS / "messages"
    command = ["/usr/bin/python3.11", "/attacks.py", os.environ["canary"], "run"]  # noqa: SIM112
    status = scriptrun._ended(root.resolve(), command, messages)
    print(messages.read_text(), file=sys.stderr)
    Path(os.environ["out"]).write_text("")  # noqa: SIM112
    return status


if __name__ == "__main__":
    sys.exit(main())
