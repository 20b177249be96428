"""Which Debian packages have a shared library where the dynamic loader looks.

Debian says it in `Contents-ARCH`, 150 MB of text that stands in the signed Release. The few lines about shared
libraries are kept in the user's cache under the hash of what they were taken from.
"""

from __future__ import annotations

import gzip
import json
import re
from typing import TYPE_CHECKING

from tungstenkit.cache import cache_folder, keep, kept
from tungstenkit.debian.index import fetch_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from tungstenkit.debian.index import ReleaseIndex, RemoteFile

_FORMAT = "1"  # of the cached files: raise it whenever what is taken from a Contents file changes

# Where glibc looks without being told (ld.so(8)), and Debian's multiarch folder (Debian policy 9.1.1). That each begins
# with a fixed letter is what makes the search fast: `^` would try each of 170 million.
_LIBRARY = re.compile(
    rb"\n(?:usr/)?lib(?:64)?/(?:[a-z0-9_]+-linux-gnu/)?([^/\s]+\.so(?:\.[^/\s]+)?)[ \t]+(\S+)(?=\n|\Z)"
)
# For making programs and for finding their faults.
_DEVELOPMENT = re.compile(r".*-(dev|dbg|dbgsym|udeb|dev-bin)")


def fetch_libraries(
    index: ReleaseIndex, get: Callable[[str], bytes], *, cache: Path | None = None
) -> dict[str, tuple[str, ...]]:
    """The packages of a release by the file names of the shared libraries that they bring, sorted.

    get: fetches a URL; raises FetchError. cache: a folder (default: the user's cache).

    Raises UnusableError where a file is not what the signed Release says, FetchError where it can't be had.
    """
    merged: dict[str, set[str]] = {}
    for suite in index.suites:
        # An empty suite's file is listed, and no mirror has it.
        if suite.contents is not None and suite.contents.listed.size:
            for name, packages in _libraries(suite.contents, get, cache or cache_folder()).items():
                merged.setdefault(name, set()).update(packages)
    return {name: tuple(sorted(packages)) for name, packages in merged.items()}


def fetch_paths(index: ReleaseIndex, get: Callable[[str], bytes], pattern: str) -> dict[str, str]:
    """The packages of a release by the paths of theirs that a pattern fits whole; nothing is kept.

    get: fetches a URL; raises FetchError. Raises UnusableError as `fetch_libraries`.
    """
    line = re.compile(rb"^(%s)\s+(\S+)$" % pattern.encode(), re.MULTILINE)
    found: dict[str, str] = {}
    for suite in index.suites:
        if suite.contents is not None and suite.contents.listed.size:
            for path, packages in line.findall(fetch_file(suite.contents, get, gzip.decompress)):
                names = (package.rpartition("/")[2] for package in packages.decode().split(","))
                found[path.decode("utf-8", "replace")] = min(names, key=lambda name: (len(name), name))
    return found


def _libraries(contents: RemoteFile, get: Callable[[str], bytes], cache: Path) -> dict[str, list[str]]:
    folder, key = cache / "contents", f"{contents.listed.sha256}.{_FORMAT}.json"
    path = kept(folder, key)
    if path is None:
        found: dict[str, set[str]] = {}
        for name, packages in _LIBRARY.findall(b"\n" + fetch_file(contents, get, gzip.decompress)):
            # `SECTION/PACKAGE,SECTION/PACKAGE` (Debian's repository format, "Contents indices").
            names = {package.rpartition("/")[2] for package in packages.decode().split(",")}
            found.setdefault(name.decode("utf-8", "replace"), set()).update(names)
        text = json.dumps({name: sorted(packages) for name, packages in found.items()})
        path = keep(folder, key, lambda temporary: _write(temporary, text))
    return dict(json.loads(path.read_bytes()))


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


def provider(library: str, libraries: Mapping[str, Iterable[str]]) -> str | None:
    """The package to take for a shared library; None where none has it.

    Of several the one counts whose name follows from the library's, as Debian wants it (Debian policy 8.1, with
    trixie's `t64` at its end), then the shortest name, then the first. Packages for development never count.
    """
    packages = [package for package in libraries.get(library, ()) if not _DEVELOPMENT.fullmatch(package)]
    usual = _usual_package(library)
    return min(packages, key=lambda p: (p.removesuffix("t64") != usual, len(p), p), default=None)


def _usual_package(library: str) -> str:
    """`libfoo.so.2` is in libfoo2, `libfoo2.so.3` in libfoo2-3, `libfoo-1.2.so` in libfoo-1.2."""
    name = re.sub(r"([0-9])\.so\.", r"\1-", library)
    return re.sub(r"\.so(\.|$)", "", name).replace("_", "-").lower()
