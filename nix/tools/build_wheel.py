#!/usr/bin/env python3
"""Build a wheel from a source archive (PEP 517): `build_wheel.py FOLDER`, inside the root that is made for it.

FOLDER has `archive` and `config.json`; the wheel goes to its `out`. It runs under the Python that the wheel is
for, in a root with the build requirements and nothing else. What could differ from one build to the next (times,
the order of files, paths, random seeds) is fixed, and the wheel is written anew in one order.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import importlib
import importlib.metadata
import io
import json
import os
import re
import shutil
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Any

_FIRST_DAY = (1980, 1, 1, 0, 0, 0)  # that a zip archive knows
_LEVEL = 6


# What an archive may unpack to: so much in any case, and so many times its own size.
_ALWAYS_FINE, _MOST_INFLATED = 1 << 30, 200


class BuildError(Exception):
    """Why there is no wheel, in words for the user."""


class UndeclaredError(BuildError):
    """A source's build needs what the source does not declare."""

    def __init__(self, requirements: list[str]) -> None:
        """State which."""
        super().__init__(f"the build also needs {', '.join(requirements)}, which its source does not declare")
        self.requirements = requirements


def build(work: Path) -> Path:
    """Unpack, build, and write the wheel anew; its path."""
    config = json.loads((work / "config.json").read_text("utf-8"))
    source = _unpack(work, config["file"])
    project = source / config["subdirectory"]
    made = work / "made"
    made.mkdir()
    _fix_environment(work, source, config["version"], config["environment"])
    os.chdir(project)
    backend = _backend(project, config)
    _check_requirements(backend)
    name: str = backend.build_wheel(str(made))
    out = work / "out" / name
    rewrite(made / name, out)
    return out


def _unpack(work: Path, name: str) -> Path:
    """The archive's one top folder, or all of it, at a place that does not depend on its name."""
    unpacked = work / "unpacked"
    left = max(_ALWAYS_FINE, _MOST_INFLATED * (work / "archive").stat().st_size)
    if name.endswith(".zip"):
        with zipfile.ZipFile(work / "archive") as archive:
            for info in archive.infolist():
                left = _less(left, info.file_size, name)
                path = Path(archive.extract(info, unpacked))
                if info.external_attr >> 16 & 0o100:
                    path.chmod(0o755)
    else:
        with tarfile.open(work / "archive") as tar:
            # Members may go where they like: this root is thrown away. Owners can't be kept with one user.
            tar.extraction_filter = lambda member, _folder: member
            for member in tar:
                left = _less(left, member.size, name)
                member.uid = member.gid = 0
                member.uname = member.gname = ""
                tar.extract(member, unpacked)
    entries = list(unpacked.iterdir())
    top = entries[0] if len(entries) == 1 and entries[0].is_dir() else unpacked
    return Path(shutil.move(str(top), str(work / "source")))


def _less(left: int, size: int, name: str) -> int:
    if size > left:
        raise BuildError(f"{name} unpacks to more than any source does")
    return left - size


def _fix_environment(work: Path, source: Path, version: str, given: dict[str, str]) -> None:
    """given: variables of the user's; flags of compilers stand behind ours, and all else of ours counts."""
    # The folder of this program is no place to import from.
    sys.path.pop(0)
    home = work / "home"
    home.mkdir()
    flags = f"-ffile-prefix-map={source}=. -frandom-seed=tungsten"
    os.environ.update(given)
    os.environ.update(
        {name: f"{flags} {given.get(name, '')}".rstrip() for name in ("CFLAGS", "CXXFLAGS", "FFLAGS")},
        HOME=str(home),
        PATH="/usr/local/bin:/usr/bin:/bin",
        LC_ALL="C.UTF-8",
        TZ="UTC",
        SOURCE_DATE_EPOCH="315532800",
        PYTHONDONTWRITEBYTECODE="1",
        # The version is locked; there is no repository here to ask.
        SETUPTOOLS_SCM_PRETEND_VERSION=version,
        PBR_VERSION=version,
    )
    os.umask(0o022)


def _backend(project: Path, config: dict[str, Any]) -> Any:  # noqa: ANN401 - whatever PEP 517's hooks hang on
    sys.path[:0] = [str(project / folder) for folder in config["backend-path"]]
    module, _, attribute = config["backend"].partition(":")
    try:
        found: Any = importlib.import_module(module)
    except ImportError as error:
        raise BuildError(f"the build backend {config['backend']} can't be imported: {error}") from None
    for name in filter(None, attribute.split(".")):
        found = getattr(found, name)
    return found


def _check_requirements(backend: Any) -> None:  # noqa: ANN401
    """What the source wants for its build beside what it has declared (PEP 517) can't be had here any more."""
    hook = getattr(backend, "get_requires_for_build_wheel", None)
    missing = []
    for requirement in hook() if hook else ():
        match = re.match(r"[A-Za-z0-9._-]+", requirement)
        try:
            importlib.metadata.distribution(match.group() if match else requirement)
        except importlib.metadata.PackageNotFoundError:
            missing.append(requirement)
    if missing:
        raise UndeclaredError(missing)


def rewrite(wheel: Path, out: Path) -> None:
    """Write a wheel anew: sorted, with one date, two modes, a sorted RECORD, and no byte-code."""
    with zipfile.ZipFile(wheel) as archive:
        members = {
            info.filename: (archive.read(info), bool(info.external_attr >> 16 & 0o111))
            for info in archive.infolist()
            if not info.is_dir() and not info.filename.endswith((".pyc", ".pyo"))
        }
    record = next(name for name in members if re.fullmatch(r"[^/]+\.dist-info/RECORD", name))
    info = record.rpartition("/")[0]
    del members[record]
    rows = io.StringIO()
    writer = csv.writer(rows, lineterminator="\n")
    for name, (data, _) in sorted(members.items()):
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
        writer.writerow((name, f"sha256={digest}", len(data)))
    writer.writerow((record, "", ""))
    with zipfile.ZipFile(out, "x", zipfile.ZIP_DEFLATED, compresslevel=_LEVEL) as archive:
        # The metadata comes last, as PEP 427 recommends, and RECORD at the very end.
        for name, (data, executable) in sorted(
            members.items(), key=lambda member: (member[0].startswith(f"{info}/"), member[0])
        ):
            archive.writestr(_member(name, executable), data, compresslevel=_LEVEL)
        archive.writestr(_member(record, False), rows.getvalue(), compresslevel=_LEVEL)


def _member(name: str, executable: bool) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name, _FIRST_DAY)
    info.create_system = 3  # Unix, so that the mode counts
    info.external_attr = (0o100755 if executable else 0o100644) << 16
    info.compress_type = zipfile.ZIP_DEFLATED
    return info


if __name__ == "__main__":
    try:
        build(Path(sys.argv[1]))
    except BuildError as error:
        if isinstance(error, UndeclaredError):
            # As `program.tell` does, which is not here.
            told = json.dumps({"kind": "undeclared", "requirements": error.requirements})
            print(f"@tungsten {told}", file=sys.stderr)
        sys.exit(f"error: {error}")
