"""An image's own root on this machine, without a container engine: what a container would show, for a server to run in.

The root comes as folders of the Nix store that lie over each other (`nix/image/root-parts.nix`). They are not copied
but bound, read-only, in namespaces of the server's own (`nix/tools/run_root.py`); only /app, HOME, /tmp and /etc are
copies, whose big files are bound, too. When the server's first process ends, all of it is gone.

Unlike in a container the server has the machine's network, and no limits.
"""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from tungstenkit import store
from tungstenkit.data import NIX
from tungstenkit.nix_build.log import namespaces_refused
from tungstenkit.run.program import Program

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from tungstenkit.run.address import Address

_COPIED = ("app", "home/nonroot", "etc")
"""What can be written in a container, and what an engine writes to."""
_LARGEST_COPY = 1 << 20
_OWN = ("dev", "proc", "sys", "tmp")
"""What a container's runtime makes."""
_NETWORK = ("hosts", "resolv.conf")

_USER = 65532
"""The image's user."""


def root_program(
    layout: Path,
    parts: Path,
    scratch: Path,
    address: Address,
    flags: Sequence[str],
    settings: Mapping[str, str] = MappingProxyType({}),
) -> Program:
    """The server of an image, in the image's root.

    layout: the image, for its entry point and variables. parts: the root. scratch: a folder for what is not bound.
    flags: the server's. settings: variables beside the image's; nothing else of this machine's is the server's.

    Raises BuildError where this machine allows no user namespaces.
    """
    busybox = str((parts / "busybox").resolve())
    alone = [busybox, "unshare", "-r", "-m", "-p", "-f", busybox]
    tried = subprocess.run([*alone, "true"], capture_output=True, text=True, check=False)
    if tried.returncode != 0:
        raise namespaces_refused(tried.stderr.strip())
    config = _config(layout)
    new = scratch / "root"
    new.mkdir()
    folders = sorted(
        (path for path in parts.iterdir() if path.name.isdigit()), key=lambda path: int(path.name)
    )
    binds = list(_lay([folder.resolve() for folder in folders], new))
    for name in _OWN:
        (new / name).mkdir(exist_ok=True)
    (new / "tmp").chmod(0o1777)
    for name in _NETWORK:
        # As an engine does.
        (new / "etc" / name).unlink(missing_ok=True)
        if (here := Path("/etc", name)).exists():
            shutil.copyfile(here, new / "etc" / name)
    is_root = os.geteuid() == 0 and store.has_other_users()
    if is_root:
        for name in ("tmp", *_COPIED):
            for path in [new / name, *(new / name).rglob("*")]:
                os.chown(path, _USER, _USER, follow_symlinks=False)
    where = ["--host", address.host, "--port", str(address.port)]
    plan = {
        "root": str(new),
        "binds": [(str(source), f"/{target.relative_to(new)}") for source, target in binds],
        "writable": [f"/{name}" for name in ("tmp", "app", "home/nonroot") if (new / name).is_dir()],
        "user": _USER,
        "is-root": is_root,
        "command": [*config["Entrypoint"], *config.get("Cmd", []), *where, *flags],
        "environment": dict(one.split("=", 1) for one in config["Env"])
        # tini is not the first process here (`run_root.py`), and takes processes that are left to it all the same.
        | {"TINI_SUBREAPER": ""}
        | dict(settings),
    }
    file = scratch / "plan.json"
    file.write_text(json.dumps(plan), encoding="utf-8")
    program = [sys.executable, "-I", "-S", "-B", str(NIX / "tools" / "run_root.py"), str(file)]
    return Program(program, address, dict(os.environ))


def _config(layout: Path) -> dict[str, Any]:
    """How an image is run (OCI image specification, "Image Configuration")."""

    def blob(digest: str) -> dict[str, Any]:
        path = layout.joinpath("blobs", *digest.split(":"))
        document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return document

    index = json.loads((layout / "index.json").read_text(encoding="utf-8"))
    config: dict[str, Any] = blob(blob(index["manifests"][0]["digest"])["config"]["digest"])["config"]
    return config


def _lay(parts: list[Path], new: Path, path: str = "") -> Iterator[tuple[Path, Path]]:
    """Make in `new` what can't be bound, and say what must be: the source and the place of each.

    parts: those folders that have the path, the lowest first.
    """
    copied = path.startswith(tuple(f"{one}/" for one in _COPIED)) or path in _COPIED
    for name in sorted({entry.name for part in parts for entry in part.iterdir()}):
        inner = f"{path}/{name}".lstrip("/")
        if inner in _OWN:
            continue
        entries = [part / name for part in parts if (part / name).is_symlink() or (part / name).exists()]
        top, target = entries[-1], new / inner
        if top.is_symlink():
            target.symlink_to(top.readlink())
        elif top.is_dir():
            folders = [entry for entry in entries if entry.is_dir() and not entry.is_symlink()]
            target.mkdir(mode=0o755)
            leads_to_copies = copied or any(f"{one}/".startswith(f"{inner}/") for one in _COPIED)
            if leads_to_copies or len(folders) > 1:
                yield from _lay(folders, new, inner)
            else:
                yield top, target
        elif copied and top.stat().st_size <= _LARGEST_COPY:
            shutil.copyfile(top, target)
            target.chmod(stat.S_IMODE(top.stat().st_mode) | stat.S_IWUSR)
        else:
            target.touch()
            yield top, target
