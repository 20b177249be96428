"""Which files of a model's folder belong to the model.

Patterns mean what they mean in `.gitignore`. What tungsten itself keeps in the folder never ships, whatever
the patterns say. Nor does anything whose meaning would change on the way: a link out of the folder, a socket.
"""

from __future__ import annotations

import json
import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Literal

from pathspec import GitIgnoreSpec

from tungstenkit.errors import SpecError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

__all__ = ["ModelFile", "likely_secrets", "select_files"]


@dataclass(frozen=True, order=True)
class ModelFile:
    """A file that ships.

    path: where, relative to the folder, with `/` between names.
    kind: a regular file, or a symbolic link.
    executable: whether a regular file's owner may run it; the rest of a mode does not ship.
    target: what a link points to, relative to the folder that the link is in.
    """

    path: str
    kind: Literal["file", "link"]
    executable: bool = False
    target: str | None = None


def select_files(
    directory: Path,
    include: Sequence[str],
    exclude: Sequence[str],
    module: str,
    ignore: Iterable[Path] = (),
) -> list[ModelFile]:
    """The files of a model's folder that ship, sorted by path. Empty folders do not.

    include, exclude: patterns as in `.gitignore`; a file ships if the first match it and the second do not.
    module: the Python module of the model, which is always included.
    ignore: files and folders that never ship, such as where an export goes.

    `.git`, `.tungsten`, `tungsten.lock`, Nix's `result` links and exports never ship. An absolute link into the
    folder becomes relative. A link out of it would mean another file on every machine, and is refused.

    Raises SpecError for wrong patterns, for a module that is excluded and, all at once, for files that
    can't ship: links out of the folder or to what does not ship, and what is neither a file nor a link.
    """
    directory = directory.resolve()
    included, excluded = _patterns("include_files", include), _patterns("exclude_files", exclude)
    # As `_walk` names them: the folder's own path resolved, and a link not followed.
    ignored = {Path(path).parent.resolve() / Path(path).name for path in ignore}
    modules = _module_paths(directory, module)
    files: dict[str, ModelFile] = {}
    problems: list[str] = []
    for path in _walk(directory, ignored):
        name = path.relative_to(directory).as_posix()
        if excluded.match_file(name) or not (name in modules or included.match_file(name)):
            continue
        try:
            files[name] = _model_file(path, name, directory)
        except ValueError as error:
            problems.append(f"{name}: {error}")
    if not modules & files.keys():
        raise SpecError(
            f"exclude_files leaves out the model's own module, {module}",
            where=str(directory),
            hint=f"add the pattern '!{min(modules)}' at the end of exclude_files",
        )
    problems.extend(
        f"{file.path}: links to {file.target}, which does not ship"
        for file in files.values()
        if file.kind == "link" and not _ships(directory, file, files)
    )
    if problems:
        raise SpecError(
            "\n".join(["these files can't ship:", *sorted(problems)]),
            where=str(directory),
            hint="put a copy of the file there, or add the path to exclude_files",
        )
    return sorted(files.values())


def likely_secrets(directory: Path, files: Iterable[ModelFile]) -> list[str]:
    """A line for each file that looks like a password, token or private key: `<path>: <what>`."""
    regular = (file.path for file in files if file.kind == "file")
    return [f"{path}: {what}" for path in regular if (what := _secret(directory / path))]


def _patterns(argument: str, lines: Sequence[str]) -> GitIgnoreSpec:
    try:
        return GitIgnoreSpec.from_lines(lines)
    except ValueError as error:
        raise SpecError(f"{argument}: {error}", hint="patterns are as in .gitignore") from error


def _module_paths(directory: Path, module: str) -> set[str]:
    """The files that a module may be in, of those that there are."""
    stem = PurePosixPath(*module.split("."))
    names = {str(stem.with_suffix(".py")), str(stem / "__init__.py")}
    found = {name for name in names if (directory / name).is_file()}
    if not found:
        raise SpecError(f"there is no module {module}", where=str(directory))
    return found


def _walk(directory: Path, ignored: set[Path]) -> Iterator[Path]:
    """Every file and link below a folder, but for what never ships."""
    for entry in os.scandir(directory):
        path = Path(entry.path)
        if path in ignored or _is_tungstens(path):
            continue
        if entry.is_dir(follow_symlinks=False):
            if not is_export(path):
                yield from _walk(path, ignored)
        else:
            yield path


def _is_tungstens(path: Path) -> bool:
    """Whether git, tungsten or Nix made it, for themselves."""
    if path.is_symlink() and re.fullmatch(r"result(-.*)?", path.name):
        return True
    return path.name in (".git", ".tungsten", "tungsten.lock")


def is_export(directory: Path) -> bool:
    """Whether `tungsten nix-export` wrote it: a flake with a spec of ours beside it."""
    if not (directory / "flake.nix").is_file():
        return False
    try:
        spec = json.loads((directory / "spec.json").read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(spec, dict) and "spec-version" in spec


def _model_file(path: Path, name: str, directory: Path) -> ModelFile:
    """Describe a file. Raises ValueError that says why it can't ship."""
    try:
        name.encode()
    except UnicodeEncodeError:
        raise ValueError("the name is not UTF-8") from None
    if "\n" in name:
        # Build steps read names line by line.
        raise ValueError("the name has a line break")
    if any(part.startswith(".wh.") for part in name.split("/")):
        # OCI image specification, "Layer Filesystem Changeset".
        raise ValueError("in an image, a name that begins with .wh. takes another file away")
    mode = path.lstat().st_mode
    if stat.S_ISREG(mode):
        return ModelFile(name, "file", executable=bool(mode & stat.S_IXUSR))
    if not stat.S_ISLNK(mode):
        raise ValueError("neither a file nor a link")
    target = os.readlink(path)  # noqa: PTH115 (Path would drop a leading "./")
    real = Path(os.path.realpath(path))  # A loop is no error to it, and leads nowhere.
    if not real.is_relative_to(directory):
        raise ValueError(f"links out of the folder, to {target}")
    if not real.exists():
        raise ValueError(f"links to {target}, which does not exist")
    if os.path.isabs(target):  # noqa: PTH117 (text, not a path of ours)
        target = os.path.relpath(real, path.parent)
    return ModelFile(name, "link", target=PurePosixPath(target).as_posix())


def _ships(directory: Path, link: ModelFile, files: dict[str, ModelFile]) -> bool:
    """Whether what a link leads to is there without what does not ship."""
    real = Path(os.path.realpath(directory / link.path)).relative_to(directory).as_posix()
    return real == "." or real in files or any(name.startswith(f"{real}/") for name in files)


_SECRET_NAMES = {
    ".env": "environment variables",
    ".envrc": "environment variables",
    ".netrc": "passwords of hosts",
    "_netrc": "passwords of hosts",
    ".pypirc": "passwords of package indexes",
    ".git-credentials": "passwords of git hosts",
    ".dockercfg": "passwords of registries",
    ".pgpass": "passwords of databases",
    "id_rsa": "a private key",
    "id_dsa": "a private key",
    "id_ecdsa": "a private key",
    "id_ed25519": "a private key",
    "credentials": "credentials",
    "credentials.json": "credentials",
    "kubeconfig": "credentials of a cluster",
}

# What gives away a file whose name says little: a pattern of names, and one of contents.
_SECRET_CONTENTS = (
    (re.compile(r".*\.(pem|key|ppk|txt|asc|p8)"), re.compile(rb"PRIVATE KEY"), "a private key"),
    (re.compile(r".*\.json"), re.compile(rb'"private_key"\s*:'), "a service account's private key"),
    (re.compile(r"\.?(npmrc|yarnrc.*)"), re.compile(rb"_auth|_password", re.IGNORECASE), "a token"),
    (re.compile(r"pip\.(conf|ini)"), re.compile(rb"://[^/\s]*@"), "a password of a package index"),
    (re.compile(r"config\.json"), re.compile(rb'"auths"\s*:'), "passwords of registries"),
    (re.compile(r"\.?(token|.*[-_.]token)(\.txt)?"), re.compile(rb"\S{16}"), "a token"),
)

# Keys and tokens are short, and stand at the beginning.
_SECRET_SEARCHED = 64 * 1024  # bytes


def _secret(path: Path) -> str | None:
    """What secret a file seems to hold."""
    name = path.name.lower()
    if name in _SECRET_NAMES:
        return _SECRET_NAMES[name]
    if name.startswith(".env.") and not name.endswith((".example", ".sample", ".template")):
        return _SECRET_NAMES[".env"]
    for names, contents, what in _SECRET_CONTENTS:
        if names.fullmatch(name):
            with path.open("rb") as file:
                if contents.search(file.read(_SECRET_SEARCHED)):
                    return what
    return None
