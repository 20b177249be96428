"""Lock files of other tools, as pins: the version of each project that they have, and the hashes of its files.

They are uv's, Poetry's, PEP 751's `pylock.toml`, and files of requirements with exact versions. What they hold is no
requirement: it counts for what is needed anyway, and gives way where something else must be. Only the reading is here.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from packaging.markers import InvalidMarker, Marker
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from tungstenkit.sdk.errors import SpecError
from tungstenkit.sdk.wishes import split_option
from tungstenkit.spec.requirement_files import decoded, lines_of
from tungstenkit.spec.requirements import wanted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

_HINT = (
    "there are uv.lock, pylock.toml, poetry.lock and files of requirements with `==`; other tools export such a file: "
    "'-c requirements.txt'"
)


@dataclass(frozen=True)
class Pin:
    """What a lock file has of a project."""

    project: str
    """Normalised (PEP 503)."""
    version: str
    hashes: frozenset[str] = frozenset()
    """The sha256 of its files, in hexadecimal; empty where the file does not tell."""
    markers: tuple[Marker, ...] = ()
    """It counts where one of them holds, or where there is none."""
    line: str | None = None
    """The requirement that takes it from where the file takes it from; None for an index."""


@dataclass(frozen=True)
class LockFile:
    """A lock file of another tool."""

    name: str
    """Its path, relative to the model's folder."""
    pins: tuple[Pin, ...]
    requires_python: SpecifierSet
    """The Pythons that it is for."""

    def pins_where(self, markers: Mapping[str, str]) -> dict[str, Pin]:
        """By project the pins that count in an environment: the newest where several do."""
        found: dict[str, Pin] = {}
        for pin in self.pins:
            if pin.markers and not any(_holds(marker, markers) for marker in pin.markers):
                continue
            known = found.get(pin.project)
            if known is None or Version(known.version) < Version(pin.version):
                found[pin.project] = pin
        return found


def _holds(marker: Marker, markers: Mapping[str, str]) -> bool:
    # Whether a group or an extra is wanted is no question of where it runs.
    return "extra" in str(marker) or "dependency_groups" in str(marker) or marker.evaluate(dict(markers))


def read_lock_file(directory: Path, name: str) -> LockFile:
    """Read a lock file. directory: the model's folder. name: the file's path in it.

    Raises SpecError where it can't be read, is of another tool or pins nothing.
    """
    where = str(directory / name)
    try:
        text = decoded((directory / name).read_bytes())
        if PurePosixPath(name).suffix in (".lock", ".toml"):
            pins, requires_python = _of_tables(tomllib.loads(text))
        else:
            pins, requires_python = tuple(_of_requirements(text)), ""
        found = LockFile(name, pins, SpecifierSet(requires_python))
    except OSError as problem:
        raise SpecError(f"can't be read: {problem.strerror}", where=where) from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as problem:
        # What a foreign file breaks is one of these, and its text says where.
        raise SpecError(f"can't be read as a lock file: {problem}", where=where, hint=_HINT) from None
    if not found.pins:
        raise SpecError("pins nothing", where=where, hint=_HINT)
    return found


def _of_tables(document: dict[str, Any]) -> tuple[tuple[Pin, ...], str]:
    """The pins of a document, and the Pythons that it is for."""
    read: Callable[[dict[str, Any]], Pin | None]
    requires_python = document.get("requires-python", "")
    if "lock-version" in document:
        packages, read = document["packages"], _of_pylock
    elif "package" in document and "version" in document:
        packages, read = document["package"], _of_uv
    elif "package" in document and "metadata" in document:
        packages = document["package"]
        files = document["metadata"].get("files", {})
        # Before Poetry 1.5 they all stood at the end.
        packages, read = [{"files": files.get(one["name"], []), **one} for one in packages], _of_poetry
        requires_python = _python_of_poetry(document["metadata"].get("python-versions", ""))
    else:
        raise ValueError("it has no table that these tools write")
    return tuple(pin for one in packages if (pin := read(one)) is not None), requires_python


def _pin(
    package: Mapping[str, Any], hashes: Iterable[str], markers: Iterable[str], line: str | None
) -> Pin | None:
    """None for what has no version, as the project that the lock file belongs to."""
    if "version" not in package:
        return None
    project = canonicalize_name(package["name"])
    try:
        return Pin(
            project=project,
            version=str(Version(package["version"])),
            hashes=frozenset(match[1] for text in hashes if (match := _SHA256.fullmatch(text))),
            markers=tuple(Marker(text) for text in markers if text),
            line=f"{project} @ {line}" if line else None,
        )
    except (InvalidVersion, InvalidMarker) as problem:
        raise ValueError(f"{project}: {problem}") from None


_SHA256 = re.compile(r"sha256:([0-9a-f]{64})")


def _git(url: str, commit: str, subdirectory: str | None) -> str:
    return f"git+{url}@{commit}" + (f"#subdirectory={subdirectory}" if subdirectory else "")


def _of_uv(package: dict[str, Any]) -> Pin | None:
    source = package.get("source", {})
    if "virtual" in source or source.get("editable") == ".":
        return None  # the project itself
    line = source.get("url")
    if "git" in source:
        parts = urlsplit(source["git"])
        asked = parse_qs(parts.query)
        url = parts._replace(query="", fragment="").geturl()
        line = _git(url, parts.fragment, asked.get("subdirectory", [None])[0])
    for kind in ("path", "directory", "editable"):
        line = f"./{source[kind]}" if kind in source else line
    files = [*package.get("wheels", ()), *filter(None, [package.get("sdist")])]
    hashes = (file.get("hash", "") for file in files)
    return _pin(package, hashes, package.get("resolution-markers", ()), line)


def _of_pylock(package: dict[str, Any]) -> Pin | None:
    """PEP 751."""
    line = None
    if vcs := package.get("vcs"):
        line = _git(vcs.get("url") or vcs["path"], vcs["commit-id"], vcs.get("subdirectory"))
    elif archive := package.get("archive"):
        line = archive.get("url") or f"./{archive['path']}"
    elif directory := package.get("directory"):
        line = f"./{directory['path']}"
    files = [*package.get("wheels", ()), *filter(None, [package.get("sdist"), package.get("archive")])]
    hashes = (f"sha256:{file.get('hashes', {}).get('sha256', '')}" for file in files)
    return _pin(package, hashes, [package.get("marker", "")], line)


def _of_poetry(package: dict[str, Any]) -> Pin | None:
    source = package.get("source", {})
    kind, line = source.get("type"), None
    if kind == "git":
        line = _git(source["url"], source["resolved_reference"], source.get("subdirectory"))
    elif kind == "url":
        line = source["url"]
    elif kind in ("directory", "file"):
        line = f"./{source['url']}"
    markers = package.get("markers", "")
    # Since Poetry 2 there is one for each group where they differ.
    markers = list(markers.values()) if isinstance(markers, dict) else [markers]
    return _pin(package, (file["hash"] for file in package.get("files", ())), markers, line)


def _python_of_poetry(text: str) -> str:
    """Poetry's own way to write a range, `^3.11`, as PEP 440 has it; empty where it is another of its ways."""
    caret = re.fullmatch(r"\^(\d+)(\.\d+)*", text.strip())
    text = f">={text.strip()[1:]},<{int(caret[1]) + 1}" if caret else text
    try:
        return str(SpecifierSet(text))
    except InvalidSpecifier:
        return ""


def _of_requirements(text: str) -> Iterator[Pin]:
    for _, line in lines_of(text):
        try:
            option, value = split_option(line)
            found = wanted(value) if option in (None, "-e") else None
        except ValueError:
            continue  # of no use as a pin, and nobody asks for it
        if found is None or found.name is None or found.is_direct:
            continue
        exact = [one for one in found.specifier if one.operator == "==" and "*" not in one.version]
        if exact:
            markers = (found.marker,) if found.marker else ()
            yield Pin(found.name, str(Version(exact[0].version)), found.hashes, markers)
