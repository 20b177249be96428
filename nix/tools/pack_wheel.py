#!/usr/bin/env python3
"""Make a wheel (PEP 427) of Python packages: `pack_wheel.py CONFIG.json OUT.whl`.

Every file of a package goes in, its data too, but for byte-code. The same sources give the same bytes:
members are stored, sorted, and dated 1 January 1980, the first day a zip archive knows.
"""

from __future__ import annotations

import base64
import hashlib
import re
import sys
import zipfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent / "lib"))

from contents import walk
from program import Config, ToolError, read_json, run


def pack_wheel(config_path: Path, out: Path) -> None:
    """Make the wheel that a configuration describes."""
    config = read_json(config_path)
    distribution = re.sub(r"[-_.]+", "_", config["name"]).lower()
    info = f"{distribution}-{config['version']}.dist-info"
    members: dict[str, bytes] = {}
    for package, name in config["packages"].items():
        folder = Path(name).resolve()
        for path in _sources(folder):
            members[f"{package}/{path.relative_to(folder).as_posix()}"] = path.read_bytes()
    members[f"{info}/METADATA"] = _metadata(config).encode()
    members[f"{info}/WHEEL"] = (
        b"Wheel-Version: 1.0\nGenerator: tungsten\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    )
    members[f"{info}/top_level.txt"] = "".join(
        f"{package}\n" for package in sorted({place.partition("/")[0] for place in config["packages"]})
    ).encode()
    if config["scripts"]:
        scripts = "".join(f"{name} = {target}\n" for name, target in sorted(config["scripts"].items()))
        members[f"{info}/entry_points.txt"] = f"[console_scripts]\n{scripts}".encode()
    record = f"{info}/RECORD"
    rows = [f"{name},sha256={_base64(data)},{len(data)}\n" for name, data in sorted(members.items())]
    with zipfile.ZipFile(out, "x", zipfile.ZIP_STORED) as archive:
        # The metadata comes last, as PEP 427 recommends, and RECORD at the very end.
        for name, data in sorted(members.items(), key=lambda member: (member[0].startswith(info), member[0])):
            archive.writestr(_member(name), data)
        archive.writestr(_member(record), "".join(rows) + f"{record},,\n")


def _sources(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise ToolError(f"{folder}: not a folder of Python sources")
    found = [
        path
        for path in walk(folder)
        if path.is_file() and path.suffix != ".pyc" and "__pycache__" not in path.relative_to(folder).parts
    ]
    for path in found:
        if re.search(r'[,"\s]', path.relative_to(folder).as_posix()):
            raise ToolError(f"{path}: no file of a package may have such a name")
    return found


def _metadata(config: Config) -> str:
    lines = ["Metadata-Version: 2.1", f"Name: {config['name']}", f"Version: {config['version']}"]
    lines += [f"Requires-Python: {config['requires-python']}"]
    lines += [f"Requires-Dist: {requirement}" for requirement in config["requires"]]
    return "".join(f"{line}\n" for line in lines)


def _member(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
    info.create_system = 3  # Unix, so that the mode counts
    info.external_attr = 0o100644 << 16
    return info


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()


if __name__ == "__main__":
    run(pack_wheel, "CONFIG.json OUT.whl")
