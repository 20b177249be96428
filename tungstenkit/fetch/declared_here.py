"""What a model declares in `files` and its folder may have as well: where it is absent, and where it does not ship."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tungstenkit.fetch.big_files import hashes_of
from tungstenkit.sdk.errors import SpecError
from tungstenkit.spec.files import excluding, pattern_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from tungstenkit.fetch.download import Progress
    from tungstenkit.lock.parts import Files
    from tungstenkit.spec.document import DownloadWish, RepositoryWish
    from tungstenkit.spec.files import ModelFile


def find_absent(wishes: Sequence[DownloadWish | RepositoryWish], directory: Path) -> list[str]:
    """What of a model's `files` is not in its folder, where a server without an image looks for it.

    Of what goes into the hub's cache, this machine's own cache is in charge.
    """
    wanted = [wish.to for wish in wishes if wish.to is not None]
    return [to for to in wanted if not (directory / to).exists()]


def find_clashes(places: Iterable[tuple[str, str]]) -> list[str]:
    """What is wrong with files at places, a line each: pairs of a path and the sha256 of what shall be there."""
    by_path: dict[str, str] = {}
    problems = []
    for path, sha256 in sorted(places):
        if by_path.setdefault(path, sha256) != sha256:
            problems.append(f"{path}: two different files")
    for path in by_path:
        parts = path.split("/")
        above = ("/".join(parts[:end]) for end in range(1, len(parts)))
        problems += [f"{path}: {folder} is a file" for folder in above if folder in by_path]
    return problems


def leave_out_declared(
    directory: Path,
    files: Sequence[ModelFile],
    declared: Files,
    progress: Progress,
    exclude: Sequence[str],
) -> list[ModelFile]:
    """A model's files without those that `files` declares, too, as they may lie here for `--local`.

    exclude: the model's `exclude_files`. Raises SpecError where something else lies in such a place.
    """
    places = dict(declared.in_model())
    own = [file for file in files if file.path not in places]
    twice = [file for file in files if file.path in places]
    regular = [file for file in twice if file.kind == "file"]
    hashes = zip(regular, hashes_of([directory / file.path for file in regular], progress), strict=True)
    same = {file for file, sha256 in hashes if sha256 == places[file.path]}
    others = [file.path for file in twice if file not in same]
    problems = [f"{path}: another file than files=[…] says" for path in others]
    problems += find_clashes([*places.items(), *((file.path, "") for file in own)])
    if problems:
        patterns = [pattern_of(path) for path in others]
        kept_out = (
            f", or keep them out by {excluding(exclude, *patterns)} in define_model(…)" if others else ""
        )
        raise SpecError(
            "\n".join(["these files are in the model's folder, and declared as well:", *problems]),
            where=str(directory),
            hint=f"remove them here, or declare another place{kept_out}",
        )
    return own
