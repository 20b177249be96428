"""What this machine's own clients are set to: pip, and what others print.

Starting them takes long, so each is asked once for an environment, whoever asks and from whichever thread; who knows
that it will be needed may begin early.
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import threading
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_PIPS = ([sys.executable, "-m", "pip"], ["pip"])
"""The commands that may be pip, in the order to try them."""

NPM = ["npm", "config", "get", "registry"]
"""What prints the registry that npm uses here."""
NPM_MIRROR = "TUNGSTEN_MIRROR_NPM"
"""Names another, and then npm need not be asked."""

_asking: dict[object, threading.Lock] = {}


def ask_ahead(environ: Mapping[str, str]) -> None:
    """Begin to ask pip and npm what a lock needs of them; nobody waits for it but who asks the same."""
    threading.Thread(target=pip_files, args=(tuple(sorted(environ.items())),), daemon=True).start()
    if not environ.get(NPM_MIRROR):
        threading.Thread(target=output, args=(NPM, environ), daemon=True).start()


def pip_setting(name: str, environ: Mapping[str, str]) -> str:
    """One of pip's settings: its variable, or what pip's configuration files say; empty where neither does."""
    if value := environ.get(f"PIP_{name.upper().replace('-', '_')}"):
        return value
    files = pip_files(tuple(sorted(environ.items())))
    # The more special wins.
    sections = (f"{section}.{name}" for section in ("download", "install", "global"))
    return next((str(ast.literal_eval(files[key])) for key in sections if key in files), "")


@lru_cache(maxsize=8)
def pip_files(environ: tuple[tuple[str, str], ...]) -> dict[str, str]:
    """What pip's configuration files say, as Python writes it, by `section.name`."""
    # pip's documentation: it then reads none.
    if dict(environ).get("PIP_CONFIG_FILE") == os.devnull:
        return {}
    # `pip config list` prints NAME='VALUE'.
    listed = (output([*pip, "config", "list"], dict(environ)) for pip in _PIPS)
    text = next((one for one in listed if one is not None), "")
    return dict(re.findall(r"(?m)^(\S+?)=(.*)$", text))


def output(command: list[str], environ: Mapping[str, str]) -> str | None:
    """What a client prints; None where it is not there or fails. In one process each is asked once."""
    asked = tuple(command), tuple(sorted(environ.items()))
    with _asking.setdefault(asked, threading.Lock()):
        return _printed(*asked)


@lru_cache(maxsize=32)
def _printed(command: tuple[str, ...], environ: tuple[tuple[str, str], ...]) -> str | None:
    # Its own advice on newer versions would cost a request.
    environment = {
        **dict(environ),
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "NO_UPDATE_NOTIFIER": "1",
        "COLUMNS": "200",
    }
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=60, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None
