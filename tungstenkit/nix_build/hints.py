"""What the log of a failed build from source calls for: a line for `pyproject.toml` that can be pasted.

What is missing is looked up: a header, a library or a program in the files of Debian's packages, a module's project in
the Python index. A hint that nobody has looked up would fail in its turn.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, NamedTuple

from tungstenkit.resolve.build_rules import project_of_module
from tungstenkit.settings import to_paste

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_NAME = r"([\w.+-]+)"


class _Missing(NamedTuple):
    """A kind of file that a build may miss."""

    log: re.Pattern[str]
    """How compilers, linkers and shells say it; its group is the name."""
    places: str
    """Where Debian's packages have it: the pattern of a path, with `%s` for the name."""
    is_certain: bool = True
    """Whether nothing else would be said so."""


_PROGRAM = r"(?:usr/)?s?bin/%s"
"""Packages of Debian 12 may have their programs in /bin still."""
_MISSING = (
    _Missing(
        re.compile(r"fatal error: ([\w./+-]+): No such file or directory"), r"usr/include/(?:[^\s]+/)?%s"
    ),
    _Missing(
        re.compile(rf"cannot find -l{_NAME}"),
        r"(?:usr/)?lib/(?:[a-z0-9_]+-linux-gnu[a-z0-9]*/)?lib%s\.(?:so|a)",
    ),
    _Missing(
        re.compile(rf"Package '?{_NAME}'?(?: was not found in the pkg-config|, required by .*, not found)"),
        r"usr/(?:share|lib)/(?:[a-z0-9_]+-linux-gnu/)?pkgconfig/%s\.pc",
    ),
    _Missing(
        re.compile(
            rf"(?:^|[\s:'/])'?{_NAME}'?: (?:command )?not found\b"
            rf"|No such file or directory: '{_NAME}'\s*$"
            rf"|command '{_NAME}' failed: No such file",
            re.MULTILINE,
        ),
        _PROGRAM,
        is_certain=False,
    ),
)
_MODULE = re.compile(r"No module named '?([\w.]+)")


def hint(
    log: str,
    project: str,
    files: Callable[[str], Mapping[str, str]],
    is_known: Callable[[str], bool],
    undeclared: Sequence[str] = (),
) -> str | None:
    """What the end of a failed build's log calls for; None where it calls for nothing that is known here.

    files: finds Debian's packages by the pattern of a path: by path the package that has it. is_known: whether the
    Python index has a project. undeclared: requirements that the build has, and its source does not declare.
    """
    if undeclared:
        return _says(project, "requires", *(requirement.strip() for requirement in undeclared))
    for kind in _MISSING:
        if match := kind.log.search(log):
            name = next(filter(None, match.groups()))
            if package := _best(files(kind.places % re.escape(name))):
                return _says(project, "debs", package)
            if kind.is_certain:
                return f"no Debian package has {name}: ask for a version of {project} that has a wheel, or needs it not"
    if match := _MODULE.search(log):
        module = match[1].partition(".")[0]
        requirement = project_of_module(module)
        if is_known(re.split("[<>=!~]", requirement)[0]):
            return _says(project, "requires", requirement)
        return (
            f"no project of the Python index is called {module}; with the one that has it in the place of PROJECT, "
            + _says(project, "requires", "PROJECT")
        )
    return None


def package_of_program(name: str, files: Callable[[str], Mapping[str, str]]) -> str | None:
    """The Debian package that has a program; None where none has. files: as for `hint`."""
    return _best(files(_PROGRAM % re.escape(name)))


def _says(project: str, key: str, *entries: str) -> str:
    return to_paste("build", project, f"{key} = {json.dumps(entries, ensure_ascii=False)}")


def _best(found: Mapping[str, str]) -> str | None:
    """Of the packages that have a file: one for development first, the shortest path, then the shortest name."""
    return min(
        found.items(),
        key=lambda one: (not one[1].endswith("-dev"), one[0].count("/"), len(one[1]), one),
        default=("", None),
    )[1]
