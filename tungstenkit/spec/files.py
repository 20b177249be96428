"""Which files of a model's folder belong to the model, and which of them are hardly meant to.

Patterns mean what they mean in `.gitignore`. What tungsten itself keeps in the folder never ships, whatever
the patterns say. Nor does anything whose meaning would change on the way: a link out of the folder, a socket.
`excluding` is how every hint says what to write.
"""

from __future__ import annotations

import json
import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Literal, NamedTuple

from pathspec import GitIgnoreSpec

from tungstenkit.data import FACTS
from tungstenkit.outside import contents
from tungstenkit.sdk.errors import SpecError
from tungstenkit.sdk.wishes import DEFAULT_EXCLUDE_FILES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

__all__ = [
    "RESULTS",
    "Leftover",
    "ModelFile",
    "empty_folders",
    "excluding",
    "including",
    "leftovers",
    "named_by",
    "pattern_of",
    "select_files",
    "would_ship",
]

RESULTS = "tungsten-results"
"""The folder where commands put what a model has answered, unless they are told another."""


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


class Leftover(NamedTuple):
    """Files that a tool has left in a model's folder, and that are hardly a part of the model."""

    path: str
    """Relative to the folder; ends with `/` where it is a folder."""
    what: str
    pattern: str
    """What matches it, as in `.gitignore`."""


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

    `.git`, `.tungsten`, `tungsten-results`, `tungsten.lock`, Nix's `result` links, exports, images and what
    `tungsten fetch --to` has written never ship. An absolute link into the folder becomes relative. A link out of it
    would mean another file on every machine, and is refused.

    Raises SpecError for wrong patterns, for a module that is excluded and, all at once, for files that
    can't ship: links out of the folder or to what does not ship, and what is neither a file nor a link.
    """
    directory = directory.resolve()
    included, excluded = _patterns("include_files", include), _patterns("exclude_files", exclude)
    # As `_walk` names them: the folder's own path resolved, and a link not followed.
    ignored = {Path(path).parent.resolve() / Path(path).name for path in ignore}
    modules = _module_paths(directory, module)
    files: dict[str, ModelFile] = {}
    problems: dict[str, str] = {}
    for path in _walk(directory, ignored):
        name = path.relative_to(directory).as_posix()
        if excluded.match_file(name) or not (name in modules or included.match_file(name)):
            continue
        try:
            files[name] = _model_file(path, name, directory)
        except ValueError as error:
            problems[name] = str(error)
    if not modules & files.keys():
        raise SpecError(
            f"exclude_files leaves out the model's own module, {module}",
            where=str(directory),
            hint=f"bring it back: exclude_files={_listed([*_with_defaults(exclude), f'!{min(modules)}'])}",
        )
    problems |= {
        name: f"links to {file.target}, which does not ship"
        for name, file in files.items()
        if file.kind == "link" and not _ships(directory, file, files)
    }
    if problems:
        raise _cant_ship(directory, problems, exclude)
    return sorted(files.values())


def _cant_ship(directory: Path, problems: dict[str, str], exclude: Sequence[str]) -> SpecError:
    """The error for files that can't ship; those of a whole folder that is hardly meant to are one line."""
    lines: dict[str, None] = {}
    patterns: dict[str, None] = {}
    known: dict[str, str | None] = {}
    for name, problem in sorted(problems.items()):
        leftover = _leftover(directory, name, known)
        lines[f"{leftover.path}: {leftover.what}" if leftover else f"{name}: {problem}"] = None
        patterns[leftover.pattern if leftover else pattern_of(name)] = None
    return SpecError(
        "\n".join(["these files can't ship:", *lines]),
        where=str(directory),
        hint=f"leave them out of the image by {excluding(exclude, *patterns)} in define_model(…), or put a copy of "
        "the file there",
    )


def leftovers(directory: Path, files: Iterable[ModelFile], include: Sequence[str]) -> list[Leftover]:
    """What tools have left among the files that ship, and that `include_files` does not name; the outermost alone."""
    named = named_by(include)
    known: dict[str, str | None] = {}
    found = {leftover for file in files if (leftover := _leftover(directory, file.path, known))}
    return sorted(one for one in found if not named.match_file(one.path))


def excluding(exclude: Sequence[str], *patterns: str) -> str:
    """How `exclude_files` keeps something out, as it can be pasted into `define_model(…)`.

    exclude: the list as it is. A list of one's own replaces the default, so what is to be written has that, too.
    """
    return f"exclude_files={_listed(_with(_with_defaults(exclude), patterns))}"


def including(include: Sequence[str], *patterns: str) -> str:
    """How `include_files` names something, likewise."""
    return f"include_files={_listed([*include, *patterns])}"


def pattern_of(path: str) -> str:
    """What matches a file of the folder, or a folder that ends with `/`, as in `.gitignore`."""
    escaped = re.sub(r"([\\*?\[]|^[!#]| $)", r"\\\1", path)
    return escaped if "/" in path.rstrip("/") else f"/{escaped}"


def would_ship(folder: Path) -> bool:
    """Whether what is put into a folder may be a part of a model: it is in a model's folder, and not hidden there."""
    path = folder.resolve()
    while path != path.parent:
        if path.name.startswith(".") or path.name == RESULTS:
            return False
        if any((path / name).is_file() for name in ("tungsten.lock", "tungsten_model.py")):
            return True
        path = path.parent
    return False


def _listed(patterns: Iterable[str]) -> str:
    return f"[{', '.join(json.dumps(pattern, ensure_ascii=False) for pattern in patterns)}]"


_DEFAULTS = (".*", "__pycache__/", "*.py[cod]")
"""`DEFAULT_EXCLUDE_FILES` in fewer words."""


def _with_defaults(exclude: Sequence[str]) -> tuple[str, ...]:
    """A list that leaves out what the default does, unless it was written with that in view."""
    if tuple(exclude) == DEFAULT_EXCLUDE_FILES:
        return _DEFAULTS
    knows = {".*", *DEFAULT_EXCLUDE_FILES}.intersection(exclude)
    return tuple(exclude) if knows else (*_DEFAULTS, *exclude)


def _with(exclude: tuple[str, ...], patterns: Iterable[str]) -> list[str]:
    """A list with those patterns whose files it does not match yet."""
    known = GitIgnoreSpec.from_lines(exclude)
    # A pattern, but for how it is anchored, is a path that it matches.
    return [*exclude, *(one for one in patterns if not known.match_file(one.lstrip("/")))]


def named_by(include: Sequence[str]) -> GitIgnoreSpec:
    """What `include_files` names: all that it matches but by a pattern that says "all"."""
    return GitIgnoreSpec.from_lines(line for line in include if not re.fullmatch(r"[*/]+", line))


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


def empty_folders(directory: Path, include: Sequence[str], exclude: Sequence[str]) -> list[str]:
    """The folders that would ship if some file were below them, sorted; of such in such the outermost."""
    included, excluded = _patterns("include_files", include), _patterns("exclude_files", exclude)
    found: list[str] = []

    def is_empty(folder: Path) -> bool:
        empty = []
        for entry in os.scandir(folder):
            path = Path(entry.path)
            name = f"{path.relative_to(directory).as_posix()}/"
            if entry.is_dir(follow_symlinks=False) and not (_is_tungstens(path) or excluded.match_file(name)):
                empty.append(name if is_empty(path) else "")
            else:
                empty.append("")
        if folder != directory and all(empty):
            return True
        found.extend(filter(None, empty))
        return False

    is_empty(directory)
    return sorted(name for name in found if included.match_file(f"{name}x"))


def _walk(directory: Path, ignored: set[Path]) -> Iterator[Path]:
    """Every file and link below a folder, but for what never ships."""
    for entry in os.scandir(directory):
        path = Path(entry.path)
        if path in ignored or _is_tungstens(path):
            continue
        if entry.is_dir(follow_symlinks=False):
            if not (is_export(path) or _is_carried(path)):
                yield from _walk(path, ignored)
        else:
            yield path


def _is_tungstens(path: Path) -> bool:
    """Whether git, tungsten or Nix made it, for themselves."""
    if path.is_symlink() and (
        # Nix's own, and what `tungsten build --out-link` has made.
        re.fullmatch(r"result(-.*)?", path.name) or _IMAGE.fullmatch(str(path.readlink()))
    ):
        return True
    return path.name in (".git", ".tungsten", "tungsten.lock", RESULTS)


_IMAGE = re.compile(r".*/store/[0-9a-z]{32}-[^/]+\.tar")


def _is_carried(folder: Path) -> bool:
    """Whether `tungsten fetch --to` has written it, this one's or an earlier one's."""
    return (folder / "nix-cache-info").is_file() or all((folder / name).is_file() for name in CARRIED)


_LARGEST_SPEC = 1 << 26
"""In bytes."""
CARRIED = ("oci-layout", "take.sh")
"""What a folder of `fetch --to` is known by."""


def is_export(directory: Path) -> bool:
    """Whether `tungsten nix-export` wrote it: a flake with a spec of ours beside it."""
    if not (directory / "flake.nix").is_file():
        return False
    try:
        spec = json.loads(contents(directory / "spec.json", _LARGEST_SPEC))
    except (OSError, ValueError, RecursionError):
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
    if any(part.startswith(FACTS["whiteout"]) for part in name.split("/")):
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


# Folders by their names, where these are a tool's alone.
_TOOLS_FOLDERS = {
    "wandb": "runs of Weights & Biases",
    "mlruns": "runs of MLflow",
    "mlartifacts": "runs of MLflow",
    "lightning_logs": "runs of Lightning",
    ".ipynb_checkpoints": "what Jupyter has saved",
    "__pycache__": "byte-code",
    "node_modules": "packages of Node.js",
}

# Folders by what is in them.
_TOOLS_FILES = {
    "pyvenv.cfg": "a virtual environment",
    "conda-meta": "an environment of conda",
    "CACHEDIR.TAG": "a cache",
}

_HUB = re.compile(r"(models|datasets|spaces)--.+")
"""What the Hugging Face hub's library calls its folders."""
_DATASET = re.compile(r"(?P<cache>.*?[^/]+)/[^/]+/\d+\.\d+\.\d+/[0-9a-f]{16,}(/.*)?/[^/]+\.arrow")
"""Where `datasets` puts what it has prepared: name, configuration, version and a hash."""
_PREPARED = re.compile(r"(.*/)?cache-[0-9a-f]{16}(_\d+_of_\d+)?\.arrow")
"""What `datasets` calls the results of its own `map` and `filter`."""


def _leftover(directory: Path, name: str, known: dict[str, str | None]) -> Leftover | None:
    """What a file belongs to that a tool has left: the outermost folder of that kind, or the file.

    known: what has been found of folders before.
    """
    *parents, _ = name.split("/")
    path = ""
    for parent in parents:
        path += f"{parent}/"
        if path not in known:
            known[path] = _tools(directory / path)
        if what := known[path]:
            pattern = f"{parent}/" if parent in _TOOLS_FOLDERS else pattern_of(path).lstrip("/")
            return Leftover(path, what, pattern)
    if not name.endswith(".arrow"):
        return None
    if cache := _DATASET.fullmatch(name):
        path = f"{cache['cache']}/"
        return Leftover(path, "a cache of datasets", pattern_of(path).lstrip("/"))
    if _PREPARED.fullmatch(name):
        return Leftover(name, "a cache of datasets", "cache-*.arrow")
    return None


def _tools(folder: Path) -> str | None:
    """Which tool a folder is of, by its name or what it holds."""
    # A package of the model's own may be called so.
    if folder.name in _TOOLS_FOLDERS and not (folder / "__init__.py").exists():
        return _TOOLS_FOLDERS[folder.name]
    if _HUB.fullmatch(folder.name) and (folder / "snapshots").is_dir():
        return "a cache of the Hugging Face hub"
    return next((what for name, what in _TOOLS_FILES.items() if (folder / name).exists()), None)
