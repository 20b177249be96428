"""Source archives, read for what they say of themselves.

Nothing of a source is run here: its name, version and requirements come from PKG-INFO, `pyproject.toml` or
`setup.cfg`, as far as those state them.
"""

from __future__ import annotations

import configparser
import lzma
import re
import struct
import tarfile
import tomllib
import zipfile
import zlib
from contextlib import contextmanager
from dataclasses import dataclass
from email.parser import HeaderParser
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING, Any

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version
from pydantic import BaseModel, Field, ValidationError

from tungstenkit import tars
from tungstenkit.sdk.errors import ResolveError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from email.message import Message

_DEFAULT_BACKEND = "setuptools.build_meta:__legacy__"
_DEFAULT_REQUIRES = ("setuptools>=40.8.0",)  # as PEP 518 and pip have it
DAMAGED = (
    *(tarfile.TarError, zipfile.BadZipFile, zipfile.LargeZipFile, lzma.LZMAError, zlib.error, struct.error),
    *(EOFError, LookupError, OSError, RuntimeError, ValueError),
)
"""What a damaged archive leads to in Python's readers: not all of them look at what they read."""
_MOST_TEXT = 8 << 20  # of a file that is read whole
# What an archive may unpack to, as in `nix/tools/build_wheel.py`: so much in any case, and so many times its own size.
_ALWAYS_FINE, _MOST_INFLATED = 1 << 30, 200
_PKG_RESOURCES = re.compile(r"^[ \t]*(?:import|from)[ \t]+pkg_resources\b", re.MULTILINE)
_COMPILED = {".c", ".cc", ".cpp", ".cxx", ".pyx", ".f", ".f90", ".f95", ".s"}


@dataclass(frozen=True)
class Facts:
    """What a source says of itself; None where it does not say."""

    name: str | None
    """Normalised (PEP 503)."""
    version: str | None
    requires: tuple[str, ...] | None
    """Requirements at run time (PEP 508)."""
    requires_python: str | None
    backend: str
    """PEP 517's `module:object`."""
    backend_path: tuple[str, ...]
    build_requires: tuple[str, ...]
    """PEP 518's."""
    compiles: frozenset[str]
    """Suffixes of the files that a compiler must turn into something, such as `.c`."""
    needs_cargo: bool
    imports_pkg_resources: bool = False
    """Whether `setup.py` does, which PEP 518's requirements seldom say: a part of setuptools, until it left it."""


class _Members:
    """The files of an archive below its one top folder and `subdirectory`, by their relative names."""

    def __init__(self, path: Path, name: str, subdirectory: str | None) -> None:
        self._path, self._name = path, name
        self._zip = name.endswith(".zip")
        try:
            if self._zip:
                with zipfile.ZipFile(path) as archive:
                    found = [(one.filename, one.file_size) for one in archive.infolist() if not one.is_dir()]
            else:
                with tars.opened(path, "r:*") as tar:
                    found = [(member.name, member.size) for member in tar if not member.isdir()]
        except DAMAGED as problem:
            raise ResolveError(f"is no archive that can be read: {problem}", where=name) from None
        names, whole, size = [one for one, _ in found], sum(count for _, count in found), path.stat().st_size
        if whole > max(_ALWAYS_FINE, _MOST_INFLATED * size):
            raise ResolveError(f"unpacks to {whole} bytes from {size}, which no source does", where=name)
        tops = {PurePosixPath(member).parts[0] for member in names if PurePosixPath(member).parts}
        prefix = f"{tops.pop()}/" if len(tops) == 1 else ""
        prefix += f"{subdirectory.rstrip('/')}/" if subdirectory else ""
        self.names = {
            PurePosixPath(member).as_posix().removeprefix(prefix): member
            for member in names
            if PurePosixPath(member).as_posix().startswith(prefix)
        }
        if subdirectory and not self.names:
            raise ResolveError(f"has no folder {subdirectory}", where=name)

    def text(self, name: str) -> str | None:
        """A small file; None where there is none."""
        member = self.names.get(name)
        if member is None:
            return None
        try:
            with self._open(member) as file:
                content = file.read(_MOST_TEXT + 1) if file else b""
        # A link that leads nowhere or in a circle is one of these, too.
        except DAMAGED as problem:
            raise ResolveError(f"its {name} can't be read: {problem}", where=self._name) from None
        if len(content) > _MOST_TEXT:
            raise ResolveError(f"its {name} is larger than any real one", where=self._name)
        return content.decode("utf-8", errors="replace")

    @contextmanager
    def _open(self, member: str) -> Iterator[IO[bytes] | None]:
        if self._zip:
            with zipfile.ZipFile(self._path) as archive, archive.open(member) as file:
                yield file
        else:
            with tars.opened(self._path, "r:*") as tar:
                yield tar.extractfile(member)


def read_facts(path: Path, name: str, subdirectory: str | None = None) -> Facts:
    """What a source archive says of itself.

    path: the archive. name: its file name, whose suffix says what it is. subdirectory: where in it the project lies.

    Raises ResolveError where it is no archive, or no Python project.
    """
    members = _Members(path, name, subdirectory)
    pyproject = _pyproject(members, name)
    if not {"pyproject.toml", "setup.py", "setup.cfg"} & members.names.keys():
        raise ResolveError(
            "is no Python project: it has neither pyproject.toml nor setup.py",
            where=name,
            hint="'#subdirectory=…' after the URL says where in it the project lies",
        )
    system = pyproject.get("build-system", {})
    info = HeaderParser().parsestr(members.text("PKG-INFO") or "")
    project = _project_table(pyproject.get("project", {}))
    setup = _setup_cfg(members.text("setup.cfg") or "")
    found = {key: project.get(key) or info.get(key) or setup.get(key) for key in ("Name", "Version")}
    try:
        version = str(Version(found["Version"])) if found["Version"] else None
    except InvalidVersion:
        version = None
    suffixes = {PurePosixPath(member).suffix.lower() for member in members.names}
    requires = tuple(str(requirement) for requirement in system.get("requires", _DEFAULT_REQUIRES))
    return Facts(
        name=canonicalize_name(found["Name"]) if found["Name"] else None,
        version=version,
        requires=_requires(project, info, setup, members, name),
        requires_python=project.get("Requires-Python")
        or info.get("Requires-Python")
        or setup.get("Requires-Python"),
        backend=system.get("build-backend", _DEFAULT_BACKEND),
        backend_path=tuple(system.get("backend-path", ())),
        build_requires=requires,
        compiles=frozenset(suffixes & _COMPILED),
        needs_cargo="Cargo.toml" in members.names
        or any(re.match(r"(maturin|setuptools[-_.]rust)\b", requirement) for requirement in requires),
        imports_pkg_resources=_PKG_RESOURCES.search(members.text("setup.py") or "") is not None,
    )


class _BuildSystem(BaseModel):
    """`[build-system]` (PEP 518)."""

    requires: list[str] = []
    build_backend: str = Field("", alias="build-backend")
    backend_path: list[str] = Field([], alias="backend-path")


class _Project(BaseModel):
    """What is read of `[project]` (PEP 621)."""

    name: str = ""
    version: str = ""
    requires_python: str = Field("", alias="requires-python")
    dependencies: list[str] = []
    optional_dependencies: dict[str, list[str]] = Field({}, alias="optional-dependencies")
    dynamic: list[str] = []


class _PyProject(BaseModel):
    build_system: _BuildSystem | None = Field(None, alias="build-system")
    project: _Project | None = None


def _pyproject(members: _Members, name: str) -> dict[str, Any]:
    """The tables of a source's `pyproject.toml` that are read here; each value is what it must be."""
    try:
        table = tomllib.loads((members.text("pyproject.toml") or "").removeprefix("\ufeff"))
        return _PyProject.model_validate(table).model_dump(by_alias=True, exclude_unset=True)
    except ValidationError as problem:
        said = "; ".join(
            f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in problem.errors(include_url=False)
        )
    except (tomllib.TOMLDecodeError, RecursionError) as problem:
        said = str(problem)
    raise ResolveError(f"its pyproject.toml can't be read: {said}", where=name)


def _project_table(table: dict[str, Any]) -> dict[str, Any]:
    """What `[project]` states itself (PEP 621), by the names of the core metadata."""
    if not table:
        return {}
    dynamic = table.get("dynamic", [])
    stated: dict[str, Any] = {"Name": table.get("name"), "Version": table.get("version")}
    stated["Requires-Python"] = table.get("requires-python")
    if "dependencies" not in dynamic and "optional-dependencies" not in dynamic:
        stated["Requires-Dist"] = [
            *table.get("dependencies", ()),
            *(
                _with_extra(requirement, extra)
                for extra, requirements in table.get("optional-dependencies", {}).items()
                for requirement in requirements
            ),
        ]
    return stated


def _requires(
    project: dict[str, Any],
    info: Message,
    setup: dict[str, Any],
    members: _Members,
    where: str,
) -> tuple[str, ...] | None:
    """Requirements at run time, as far as they are stated; whether that is true shows when it is built."""
    candidates: list[list[str] | None] = [project.get("Requires-Dist")]
    is_static = _version_of(info) >= (2, 2) and not any(
        field.lower() == "requires-dist" for field in info.get_all("Dynamic", [])
    )
    claimed = info.get_all("Requires-Dist")
    candidates.append(claimed or ([] if is_static else None))
    notes = next((name for name in sorted(members.names) if name.endswith(".egg-info/requires.txt")), None)
    if notes is not None:
        candidates.append(_from_notes(members.text(notes) or ""))
    elif any(name.endswith(".egg-info/PKG-INFO") for name in members.names):
        # setuptools leaves its notes out where there is nothing to note.
        candidates.append([])
    candidates.append(setup.get("Requires-Dist"))
    found = next((candidate for candidate in candidates if candidate is not None), None)
    if found is None:
        return None
    try:
        needed = [Requirement(text) for text in found]
    except InvalidRequirement as problem:
        raise ResolveError(f"it needs what is no requirement: {problem}", where=where) from None
    if direct := [str(one) for one in needed if one.url]:
        raise ResolveError(
            f"it says itself where others are to be had, which only the model may: {', '.join(direct)}",
            where=where,
            hint="write them into python_packages, if you want that",
        )
    return tuple(map(str, needed))


def _version_of(info: Message) -> tuple[int, ...]:
    """The version of the core metadata; (0,) where it is not stated or no version."""
    match = re.fullmatch(r"(\d+)\.(\d+)", info.get("Metadata-Version", "").strip())
    return (int(match[1]), int(match[2])) if match else (0,)


def _with_extra(requirement: str, extra: str, marker: str = "") -> str:
    text, _, own = requirement.partition(";")
    conditions = [f"({condition.strip()})" for condition in (own, marker) if condition.strip()]
    if extra:
        conditions.append(f"extra == '{extra}'")
    # A URL reaches up to a blank.
    return f"{text.strip()} ; {' and '.join(conditions)}" if conditions else text.strip()


def _from_notes(text: str) -> list[str]:
    """setuptools' `requires.txt`: sections `[extra]`, `[:marker]` and `[extra:marker]`."""
    found, extra, marker = [], "", ""
    for line in filter(None, (line.strip() for line in text.splitlines())):
        if line.startswith("["):
            extra, _, marker = line.strip("[]").partition(":")
        else:
            found.append(_with_extra(line, extra, marker))
    return found


def _setup_cfg(text: str) -> dict[str, Any]:
    """What `setup.cfg` states itself; what it has from a file or an attribute is left out."""
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read_string(text)
    except configparser.Error:
        return {}

    def stated(section: str, key: str) -> str | None:
        value = parser.get(section, key, fallback=None)
        return None if value is None or re.match(r"\s*(attr|file):", value) else value

    found: dict[str, Any] = {
        "Name": stated("metadata", "name"),
        "Version": stated("metadata", "version"),
        "Requires-Python": stated("options", "python_requires"),
    }
    if (needs := stated("options", "install_requires")) is not None:
        found["Requires-Dist"] = [line.strip() for line in needs.splitlines() if line.strip()]
        if parser.has_section("options.extras_require"):
            for extra, lines in parser.items("options.extras_require"):
                found["Requires-Dist"] += [
                    _with_extra(line.strip(), extra) for line in lines.splitlines() if line.strip()
                ]
    return found
