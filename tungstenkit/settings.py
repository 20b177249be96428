"""`[tool.tungsten.…]` of the `pyproject.toml` beside a model: what a user says about locking that is no argument of
`define_model`.

Only the reading is here, and the tables' forms; what a setting does is the business of who asks for it.
"""

from __future__ import annotations

import difflib
import math
import re
import tomllib
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from tungstenkit.outside import LARGEST_SETTINGS, contents, url_problem
from tungstenkit.sdk.errors import TungstenError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_SHARED_OBJECT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*\.so(\.[A-Za-z0-9_.+-]+)?")
_ATTRIBUTE = re.compile(r"[A-Za-z_][A-Za-z0-9_'-]*(\.[A-Za-z_][A-Za-z0-9_'-]*)*")


MACHINE = "machine"
"""Names the index that this machine's own client uses; in a lock, whatever its configuration names."""
OWN = "own"
"""Names tungsten's own Nix; `machine` is the one that is on PATH."""
_INDEX_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_PROJECTS = re.compile(r"[A-Za-z0-9*][A-Za-z0-9._*-]*")

_NAMES = frozenset(
    {"big-file-mb", "build", "indexes", "libraries", "lock", "mirrors", "nix", "nixpkgs", "post-build"}
)
"""What `[tool.tungsten]` has."""

_BIG_FILE_MB = 8
"""A file above this is in the Nix store once, and not in each export. Below it, a copy costs less than a second."""


def read_table(directory: Path, *names: str, hint: str) -> dict[str, Any]:
    """The table `[tool.tungsten.NAME]`, or `[tool.tungsten]` itself without a name; empty where there is none.

    directory: the model's folder. hint: what the table holds, for messages.

    Raises TungstenError where the file can't be read or is not of that form.
    """
    path = directory / "pyproject.toml"
    try:
        table: Any = tomllib.loads(contents(path, LARGEST_SETTINGS).decode("utf-8-sig"))
        for key in ("tool", "tungsten", *names):
            table = table.get(key, {})
        return dict(table)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, AttributeError, TypeError, RecursionError) as problem:
        raise TungstenError(
            f"[{'.'.join(('tool', 'tungsten', *names))}] can't be read: {problem}", where=str(path), hint=hint
        ) from None


def check_names(directory: Path) -> None:
    """Raises TungstenError for what is called as no setting is: it would go unnoticed."""
    hint = f"it has {', '.join(sorted(_NAMES))}"
    problems = []
    for name in read_table(directory, hint=hint).keys() - _NAMES:
        near = difflib.get_close_matches(name, sorted(_NAMES), n=1)
        problems.append(f"{name!r} is no setting" + (f"; did you mean {near[0]!r}?" if near else ""))
    if problems:
        where = f"[tool.tungsten] in {directory / 'pyproject.toml'}"
        raise TungstenError("\n".join(sorted(problems)), where=where, hint=hint)


def library_settings(directory: Path) -> dict[str, str | Literal[False]]:
    """`[tool.tungsten.libraries]`: by a shared library's name the Debian package to take for it, or False for none.

    Raises TungstenError for what is of another form, all at once.
    """
    hint = 'a line of it is `"libGL.so.1" = "libgl1"`, or `= false` to leave a library out'
    table = read_table(directory, "libraries", hint=hint)
    problems = [
        f"{name!r} is not the name of a shared library, such as libGL.so.1"
        for name in table
        if not _SHARED_OBJECT.fullmatch(name)
    ]
    problems += [
        f"{name}: {value!r} is neither a Debian package nor false"
        for name, value in table.items()
        if value is not False and not (isinstance(value, str) and value)
    ]
    if problems:
        where = f"[tool.tungsten.libraries] in {directory / 'pyproject.toml'}"
        raise TungstenError("\n".join(problems), where=where, hint=hint)
    return table


def build_settings(directory: Path) -> dict[str, dict[str, str | list[str]]]:
    """`[tool.tungsten.build]`: by a project what is said of its build; what that may be is the business of who builds.

    Raises TungstenError for what is of another form, all at once.
    """
    hint = (
        "[tool.tungsten.build.<project>] has `debs` and `requires`, lists of strings, and `version`, a string"
    )
    table = read_table(directory, "build", hint=hint)
    problems = [f"{project}: is no table" for project, said in table.items() if not isinstance(said, dict)]
    problems += [
        f"{project}.{key}: is neither a string nor a list of strings"
        for project, said in table.items()
        if isinstance(said, dict)
        for key, value in said.items()
        if not all(isinstance(one, str) for one in (value if isinstance(value, list) else [value]))
    ]
    if problems:
        where = f"[tool.tungsten.build] in {directory / 'pyproject.toml'}"
        raise TungstenError("\n".join(problems), where=where, hint=hint)
    return table


def index_settings(directory: Path) -> dict[str, dict[str, str | int | list[str]]]:
    """`[tool.tungsten.indexes]`: by a name of the model's own choice what is said of a Python index.

    `url`: its simple API; not for `machine`. `projects`: what comes from it alone, `*` for any letters; of another
    index than `machine`, nothing else does. `missing`: the status by which it says that it has no such project.

    Raises TungstenError for what is of another form, all at once.
    """
    hint = (
        f"[tool.tungsten.indexes.<name>] has `url`, and may have `projects`, a list of names, and `missing = 403`; "
        f"the one of the machine's own client is called {MACHINE}, and has no `url`"
    )
    table = read_table(directory, "indexes", hint=hint)
    problems = []
    for name, said in table.items():
        if not _INDEX_NAME.fullmatch(name):
            problems.append(f"{name!r} is no name of letters, digits, `.`, `_` and `-`")
        elif not isinstance(said, dict):
            problems.append(f"{name}: is no table")
        else:
            problems += [f"{name}.{problem}" for problem in _index_problems(name, said)]
    if problems:
        where = f"[tool.tungsten.indexes] in {directory / 'pyproject.toml'}"
        raise TungstenError("\n".join(problems), where=where, hint=hint)
    for said in table.values():
        if "url" in said:
            said["url"] = said["url"].rstrip("/")
    return table


def _index_problems(name: str, said: dict[str, Any]) -> Iterator[str]:
    yield from (f"{key}: no such key" for key in said if key not in ("url", "projects", "missing"))
    url, projects, missing = said.get("url"), said.get("projects", []), said.get("missing", 404)
    if name == MACHINE and url is not None:
        yield "url: that index is the one which this machine's client uses"
    elif name != MACHINE and not isinstance(url, str):
        yield "url: is missing, or no string"
    elif url is not None and (
        problem := url_problem(url) or ("@" in urlsplit(url).netloc and "holds a user name")
    ):
        yield f"url: {problem}"
    if not isinstance(projects, list) or not all(
        isinstance(one, str) and _PROJECTS.fullmatch(one) for one in projects
    ):
        yield "projects: is no list of names"
    if isinstance(missing, bool) or not isinstance(missing, int) or not 400 <= missing < 500:
        yield "missing: is no status from 400 to 499"


def big_file_size(directory: Path) -> int:
    """`[tool.tungsten] big-file-mb`: the most bytes that a file of the model may have to be copied with its code.

    Raises TungstenError for what is no number above 0.
    """
    hint = f"`big-file-mb = {_BIG_FILE_MB}` is the default"
    table = read_table(directory, hint=hint)
    value = table.get("big-file-mb", _BIG_FILE_MB)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < math.inf:
        where = f"[tool.tungsten] in {directory / 'pyproject.toml'}"
        raise TungstenError(f"big-file-mb: {value!r} is not a number above 0", where=where, hint=hint)
    return int(value * 1_000_000)


def lock_file_setting(directory: Path) -> str | None:
    """`[tool.tungsten] lock`: the lock file of another tool whose versions are kept, relative to the model's folder.

    Raises TungstenError for what is no path in it.
    """
    hint = '`lock = "uv.lock"` keeps the versions of the file beside the model'
    value = read_table(directory, hint=hint).get("lock")
    if value is None:
        return None
    where = f"[tool.tungsten] in {directory / 'pyproject.toml'}"
    if not isinstance(value, str) or not value:
        raise TungstenError(f"lock: {value!r} is not the path of a file", where=where, hint=hint)
    if not (directory / value).resolve().is_relative_to(directory.resolve()):
        raise TungstenError(
            f"lock: {value} is not in the model's folder", where=where, hint="put a copy there"
        )
    return (directory / value).resolve().relative_to(directory.resolve()).as_posix()


def nix_setting(directory: Path) -> str:
    """`[tool.tungsten.nix] use`: which Nix builds the model, `own`, `machine`, or empty where it says nothing.

    A path is no such setting: whoever writes a repository would name a program of this machine.

    Raises TungstenError for what is neither.
    """
    hint = f'`use = "{OWN}"` is tungsten\'s own Nix, `use = "{MACHINE}"` the one on PATH'
    table = read_table(directory, "nix", hint=hint)
    problems = [f"{name}: no such key" for name in table if name != "use"]
    value = table.get("use", "")
    if value not in ("", OWN, MACHINE):
        problems.append(f"use: {value!r} is neither {OWN} nor {MACHINE}")
    if problems:
        where = f"[tool.tungsten.nix] in {directory / 'pyproject.toml'}"
        raise TungstenError("\n".join(problems), where=where, hint=hint)
    return str(value)


def nixpkgs_settings(directory: Path) -> dict[str, list[str]]:
    """`[tool.tungsten.nixpkgs]`: by a name of apt's the attributes of nixpkgs that are taken for it.

    Raises TungstenError for what is of another form, all at once.
    """
    hint = 'a line of it is `"libgl1" = ["libGL"]`'
    table = read_table(directory, "nixpkgs", hint=hint)
    problems = [
        f"{name}: {value!r} is not a list of attributes of nixpkgs, such as libGL or xorg.libX11"
        for name, value in table.items()
        if not (
            isinstance(value, list)
            and all(isinstance(one, str) and _ATTRIBUTE.fullmatch(one) for one in value)
        )
    ]
    if problems:
        where = f"[tool.tungsten.nixpkgs] in {directory / 'pyproject.toml'}"
        raise TungstenError("\n".join(problems), where=where, hint=hint)
    return table
