"""`[tool.tungsten.…]` of the `pyproject.toml` beside a model: what a user says about locking that is no argument of
`define_model`.

Only the reading is here, and the tables' forms; what a setting does is the business of who asks for it.
"""

from __future__ import annotations

import difflib
import json
import math
import re
import tomllib
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from tungstenkit.outside import LARGEST_SETTINGS, contents, text_problem, url_problem
from tungstenkit.sdk.errors import TungstenError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

_SHARED_OBJECT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*\.so(\.[A-Za-z0-9_.+-]+)?")
_ATTRIBUTE = re.compile(r"[A-Za-z_][A-Za-z0-9_'-]*(\.[A-Za-z_][A-Za-z0-9_'-]*)*")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_THIS_MACHINES = re.compile(r"-m(arch|cpu|tune)=native\b")

_BUILD_KEYS = ("debs", "requires", "version", "environment")
_INDEX_KEYS = ("url", "projects", "missing")
_BUILD_FORM = (
    "[tool.tungsten.build.<project>] has `debs` and `requires`, lists of strings, `version`, a string, and "
    '`environment`, a table of strings such as { CMAKE_ARGS = "-DGGML_AVX2=ON" }'
)

OF_EVERY_BUILD = frozenset(
    {
        "HOME",
        "LC_ALL",
        "PATH",
        "PBR_VERSION",
        "PYTHONDONTWRITEBYTECODE",
        "PYTHONHASHSEED",
        "SETUPTOOLS_SCM_PRETEND_VERSION",
        "SOURCE_DATE_EPOCH",
        "TZ",
    }
)
"""Variables that `nix/tools/build_wheel.py` sets itself, so that a wheel comes out the same wherever it is built."""


MACHINE = "machine"
"""Names the index that this machine's own client uses; in a lock, whatever its configuration names."""
OWN = "own"
"""Names tungsten's own Nix; `machine` is the one that is on PATH."""
_INDEX_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_PROJECTS = re.compile(r"[A-Za-z0-9*][A-Za-z0-9._*-]*")

_NAMES = frozenset(
    {
        "big-file-mb",
        "build",
        "compression",
        "indexes",
        "keep-inputs",
        "libraries",
        "lock",
        "mirrors",
        "nix",
        "nixpkgs",
        "post-build",
    }
)
"""What `[tool.tungsten]` has."""

_BIG_FILE_MB = 8
"""A file above this is in the Nix store once, and not in each export. Below it, a copy costs less than a second."""


def read_table(directory: Path, *names: str, hint: str) -> dict[str, Any]:
    """The table `[tool.tungsten.NAME]`, or `[tool.tungsten]` itself without a name; empty where there is none.

    directory: the model's folder. hint: what the table holds, for messages.

    Raises TungstenError where the file can't be read or is not of that form.
    """
    return _read(directory, "tool", "tungsten", *names, hint=hint)


def _read(directory: Path, *keys: str, hint: str) -> dict[str, Any]:
    path = directory / "pyproject.toml"
    try:
        table: Any = tomllib.loads(contents(path, LARGEST_SETTINGS).decode("utf-8-sig"))
        for key in keys:
            table = table.get(key, {})
        return dict(table)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, AttributeError, TypeError, RecursionError) as problem:
        if "twice" in str(problem):
            hint = "a table stands there once: put the lines of the second one below the first"
        raise TungstenError(
            f"[{'.'.join(keys)}] can't be read: {problem}", where=str(path), hint=hint
        ) from None


def to_paste(table: str, name: str, line: str) -> str:
    """How a hint says a setting, so that what follows its first line can be pasted.

    table, name: `[tool.tungsten.TABLE.NAME]`, or `[tool.tungsten.TABLE]` without a name. line: what stands in it.
    """
    key = name if re.fullmatch(r"[A-Za-z0-9_-]*", name) else json.dumps(name)
    return (
        f"write into the model's pyproject.toml:\n[tool.tungsten.{table}{f'.{key}' if key else ''}]\n{line}"
    )


def check_names(directory: Path) -> None:
    """Raises TungstenError for what is called as no setting is, or stands in no table: it would go unnoticed."""
    hint = f"it has {', '.join(sorted(_NAMES))}"
    problems = []
    for name in read_table(directory, hint=hint).keys() - _NAMES:
        near = difflib.get_close_matches(name, sorted(_NAMES), n=1)
        more = f"; did you mean {near[0]!r}?" if near else ""
        problems.append(f"{name!r} is no setting{_elsewhere(name) or more}")
    where = f"[tool.tungsten] in {directory / 'pyproject.toml'}"
    if not problems:
        # What is pasted without the line above it. A pyproject.toml has nothing but tables there.
        problems = [
            f"{name!r} stands in no table{more}"
            for name, value in _read(directory, hint=hint).items()
            if not isinstance(value, dict) and (more := _elsewhere(name))
        ]
        where = str(directory / "pyproject.toml")
    if problems:
        raise TungstenError("\n".join(sorted(problems)), where=where, hint=hint)


def _elsewhere(name: str) -> str:
    """In which table a key belongs, where it is one of a table with names of the user's; else nothing."""
    tables = {"build": _BUILD_KEYS, "indexes": _INDEX_KEYS}
    whose = {"build": "the project that is built", "indexes": "an index"}
    for table, keys in tables.items():
        if name in keys:
            return f"; it belongs below [tool.tungsten.{table}.NAME], with the name of {whose[table]}"
    return ""


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


def build_settings(directory: Path) -> dict[str, dict[str, str | list[str] | dict[str, str]]]:
    """`[tool.tungsten.build]`: by a project what is said of its build from source.

    `debs`: Debian packages beside the compiler. `requires`: build requirements that the source does not name.
    `version`: for a source that does not state its own. `environment`: variables of its build, by name.

    Raises TungstenError for what is of another form, all at once.
    """
    table = read_table(directory, "build", hint=_BUILD_FORM)
    problems = []
    for project, said in table.items():
        if isinstance(said, dict):
            problems += [f"{project}.{problem}" for problem in _build_problems(said)]
        else:
            problems.append(f"{project}: is no table{_elsewhere(project)}")
    if problems:
        where = f"[tool.tungsten.build] in {directory / 'pyproject.toml'}"
        raise TungstenError("\n".join(problems), where=where, hint=_BUILD_FORM)
    return table


def _build_problems(said: dict[str, Any]) -> Iterator[str]:
    for key, value in said.items():
        if key not in _BUILD_KEYS:
            # What people call it elsewhere is often the beginning of the word.
            begun = [known for known in _BUILD_KEYS if known.startswith(key)]
            near = difflib.get_close_matches(key, _BUILD_KEYS, n=1) or begun
            yield f"{key}: no such key" + (f"; did you mean {near[0]!r}?" if near else "")
        elif key == "environment":
            yield from _environment_problems(value)
        elif key == "version":
            if not isinstance(value, str):
                yield "version: is not a string"
            elif not _is_version(value):
                yield f"version: {value!r} is not a version (PEP 440)"
        elif not isinstance(value, list) or not all(isinstance(one, str) for one in value):
            yield f"{key}: is not a list of strings"
        elif key == "requires":
            yield from (f"requires: {bad}" for bad in bad_requirements(value))


def _environment_problems(said: object) -> Iterator[str]:
    if not isinstance(said, dict):
        yield "environment: is not a table of strings"
        return
    for name, value in said.items():
        if not _VARIABLE.fullmatch(name):
            yield f"environment: {name!r} is not the name of a variable"
        elif name in OF_EVERY_BUILD:
            yield f"environment.{name}: every build sets it itself, so that its wheel is the same everywhere"
        elif not isinstance(value, str):
            yield f"environment.{name}: is not a string"
        elif problem := text_problem(value):
            yield f"environment.{name}: {problem}"
        elif match := _THIS_MACHINES.search(value):
            yield f"environment.{name}: {match[0]} would differ by who builds; name a processor, as in x86-64-v3"


def _is_version(text: str) -> bool:
    from packaging.version import InvalidVersion, Version

    try:
        Version(text)
    except InvalidVersion:
        return False
    return True


def bad_requirements(texts: Iterable[object]) -> list[str]:
    """A line for each text that is no requirement (PEP 508), or says itself where its file is."""
    from packaging.requirements import InvalidRequirement, Requirement

    bad = []
    for text in texts:
        try:
            if Requirement(str(text)).url:
                bad.append(f"{text!r}: what a build needs comes from the index, not by URL")
        except InvalidRequirement as problem:
            bad.append(f"{text!r}: {str(problem).splitlines()[0]}")
    return bad


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
            problems.append(f"{name}: is no table{_elsewhere(name)}")
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
    yield from (f"{key}: no such key" for key in said if key not in _INDEX_KEYS)
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


GZIP, ZSTD = "gzip", "zstd"


def compression_setting(directory: Path) -> str:
    """`[tool.tungsten] compression`: how an image's layers are compressed, `gzip` or `zstd`.

    Raises TungstenError for what is neither.
    """
    hint = f'`compression = "{GZIP}"` is the default, "{ZSTD}" is smaller and newer'
    value = read_table(directory, hint=hint).get("compression", GZIP)
    if value not in (GZIP, ZSTD):
        where = f"[tool.tungsten] in {directory / 'pyproject.toml'}"
        raise TungstenError(f"compression: {value!r} is neither {GZIP} nor {ZSTD}", where=where, hint=hint)
    return str(value)


_KINDS_OF_URL = {
    "documentation": "documentation",
    "docs": "documentation",
    "homepage": "url",
    "github": "source",
    "repository": "source",
    "source": "source",
    "sourcecode": "source",
}
"""By the labels that are known of URLs (well-known project URLs of the Python packaging guide), what an image has."""


def about_settings(directory: Path) -> dict[str, str]:
    """What `[project]` of the same file says of the model, by the names that images have for it (OCI image
    specification, "Annotations"): `version`, `description`, `licenses`, `authors`, `url`, `source`, `documentation`.

    Raises TungstenError for what is of another form, all at once.
    """
    hint = 'such as `version = "1.2"`, `description = "…"`, `license = "MIT"` (PEP 621, PEP 639)'
    table = _read(directory, "project", hint=hint)
    found: dict[str, Any] = {name: table[name] for name in ("version", "description") if name in table}
    licence, authors, urls = table.get("license"), table.get("authors", []), table.get("urls", {})
    # Of a table it is the licence's whole text, or a file with it.
    if "license" in table and not isinstance(licence, dict):
        found["licenses"] = licence
    for label, url in urls.items() if isinstance(urls, dict) else [("", urls)]:
        if kind := _KINDS_OF_URL.get(re.sub(r"[^a-z]", "", str(label).lower())):
            found.setdefault(kind, url)
    if authors:
        people = authors if isinstance(authors, list) else [authors]
        names = [one.get("name", one.get("email")) if isinstance(one, dict) else one for one in people]
        known = [name for name in names if isinstance(name, str)]
        found["authors"] = ", ".join(known) if known == names else names
    problems = [
        f"{name}: {problem}"
        for name, value in found.items()
        if (problem := text_problem(value) if isinstance(value, str) else "is no text")
    ]
    if problems:
        raise TungstenError(
            "\n".join(problems), where=f"[project] in {directory / 'pyproject.toml'}", hint=hint
        )
    return {name: value for name, value in found.items() if value}


def keep_inputs_setting(directory: Path) -> bool:
    """`[tool.tungsten] keep-inputs`: whether a push keeps what builds the image beside it.

    Raises TungstenError for what is neither true nor false.
    """
    hint = "`keep-inputs = true` has each push keep what builds the image"
    value = read_table(directory, hint=hint).get("keep-inputs", False)
    if not isinstance(value, bool):
        where = f"[tool.tungsten] in {directory / 'pyproject.toml'}"
        raise TungstenError(f"keep-inputs: {value!r} is neither true nor false", where=where, hint=hint)
    return value


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
