"""What the wheels of a lock install: what can't be is refused here, before anything is built, and what two of them
bring is told, with the one that wins.

A wheel is read to its end, by the program that reads it for a layer; what was found is kept in the user's cache by the
wheel's sha256.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from tungstenkit import started
from tungstenkit.at_once import at_once
from tungstenkit.cache import cache_folder, keep, kept
from tungstenkit.document import Document
from tungstenkit.fetch.needs import LockedFile, built_file, wheel_file
from tungstenkit.fetch.web import PARALLEL
from tungstenkit.lock.packages import Source
from tungstenkit.lock.parts import OVERLAP, Choice
from tungstenkit.resolve.choices import add_choice
from tungstenkit.sdk.errors import ResolveError
from tungstenkit.tools import run_tool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from tungstenkit.lock.document import Lock
    from tungstenkit.lock.packages import Wheel
    from tungstenkit.lock.parts import Platform

    Package = Wheel | Source

_FORMAT = "1"  # of what is kept: raise it whenever something else would be found
_WHERE = "python_packages"


class Installed(Document):
    """What one wheel installs."""

    problem: str
    """Why it can't be installed; empty where it can."""
    files: dict[str, str]
    """By path the sha256, which is empty where the wheel names another hash; `{site}` stands for the folder of Python
    packages, `{prefix}` for what lies above."""
    notes: tuple[str, ...]
    """What is odd about it, and does no harm."""


def kept_installed(sha256: str, cache: Path) -> Installed | None:
    """What is known of the wheel with this sha256, if it was read before."""
    path = kept(cache / "installed", f"{sha256}.{_FORMAT}.json")
    return Installed.model_validate_json(path.read_bytes()) if path else None


def check_installed(
    lock: Lock, get: Callable[[LockedFile], Path], notice: Callable[[str], None], *, cache: Path | None = None
) -> Lock:
    """The lock, with who wins where two of its packages bring one file.

    get: downloads a file that the lock names, verified; thread-safe. notice: is told what is odd about a wheel.
    cache: a folder (default: the user's cache).

    Raises ResolveError that names every wheel that can't be installed, FetchError where one can't be had.
    """
    found = _read(lock, get, cache or cache_folder())
    problems: dict[str, str] = {}
    notes: dict[str, None] = {}
    for platform in lock.platforms.values():
        for entry in _packages(platform):
            installed = found[_input(entry).sha256]
            if installed.problem:
                problems.setdefault(installed.problem, _remedy(entry))
            notes |= dict.fromkeys(f"{_input(entry).file}: {note}" for note in installed.notes)
    if problems:
        raise ResolveError(
            "\n".join(problems), where=_WHERE, hint="\n".join(dict.fromkeys(problems.values()))
        )
    for note in notes:
        notice(f"{note}; it is taken as it is, by the hash of the whole")
    choices: dict[tuple[str, str], Choice] = {}
    platforms = {}
    for system, platform in lock.platforms.items():
        order = install_order(_packages(platform))
        yields = _yields([(entry.project, found[_input(entry).sha256].files) for entry in order])
        winners = {project: {"yields_to": tuple(sorted(names))} for project, names in yields.items()}
        changed = {
            "wheels": tuple(one.model_copy(update=winners.get(one.project)) for one in platform.wheels),
            "sources": tuple(one.model_copy(update=winners.get(one.project)) for one in platform.sources),
        }
        platforms[system] = platform.model_copy(update=changed)
        for choice in _choices(order, yields):
            add_choice(choices, choice, system)
    return lock.model_copy(update={"platforms": platforms, "choices": (*lock.choices, *choices.values())})


def install_order(packages: Sequence[Package]) -> list[Package]:
    """Packages in the order in which pip installs them: first what needs no other, round by round, and of one round the
    last by name first. The later takes the place of what an earlier has brought.
    """
    left = {package.project: package for package in packages}
    order: list[Package] = []
    while left:
        busy = {who for name in left for who in left[name].needed_by if who in left and who != name}
        # Of a circle, pip too takes one before what it needs.
        ready = sorted(left.keys() - busy, reverse=True) or sorted(left, reverse=True)
        order += [left.pop(name) for name in ready]
    return order


def _read(lock: Lock, get: Callable[[LockedFile], Path], cache: Path) -> dict[str, Installed]:
    """By sha256, what is in each of the images' wheels."""
    entries = {
        entry.sha256: entry
        for platform in lock.platforms.values()
        for entry in map(_input, _packages(platform))
    }
    found = {sha256: known for sha256 in entries if (known := kept_installed(sha256, cache))}
    unread = [entry for sha256, entry in entries.items() if sha256 not in found]
    if not unread:
        return found
    paths = at_once(get, unread, PARALLEL)
    with started.scratch() as folder:
        wheels = [{"path": str(path), "file": entry.file} for path, entry in zip(paths, unread, strict=True)]
        run_tool("wheel_facts.py", {"wheels": wheels}, folder / "facts.json", _WHERE)
        answers = json.loads((folder / "facts.json").read_bytes())
    for entry, answer in zip(unread, answers, strict=True):
        found[entry.sha256] = Installed.model_validate(answer)
        # A problem may be the disk's.
        if not found[entry.sha256].problem:
            _keep(found[entry.sha256], entry.sha256, cache)
    return found


def _keep(installed: Installed, sha256: str, cache: Path) -> None:
    text = installed.model_dump_json(by_alias=True)

    def write(path: Path) -> None:
        path.write_text(text, encoding="utf-8")

    keep(cache / "installed", f"{sha256}.{_FORMAT}.json", write)


def _packages(platform: Platform) -> list[Package]:
    return [*platform.wheels, *platform.sources]


def _input(package: Package) -> LockedFile:
    return built_file(package) if isinstance(package, Source) else wheel_file(package)


def _remedy(package: Package) -> str:
    if isinstance(package, Source) or package.url is not None or package.path is not None:
        return f"{package.project} must be built anew by whoever builds it"
    return f'another version may be whole: add "{package.project}!={package.version}" to python_packages'


def _yields(order: Sequence[tuple[str, Mapping[str, str]]]) -> dict[str, dict[str, list[str]]]:
    """By project, those that come after it and bring other content under a name of its own, with these names.

    order: projects with their files, as they are installed. Raises ResolveError where one brings a file that is a
    folder of another's.
    """
    owners: dict[str, list[tuple[str, str]]] = {}
    for project, files in order:
        for path, sha256 in files.items():
            owners.setdefault(path, []).append((project, sha256))
    _check_folders(owners)
    yields: dict[str, dict[str, list[str]]] = {}
    for path, having in owners.items():
        for number, (loser, content) in enumerate(having):
            for winner, other in having[number + 1 :]:
                if content != other or not content:
                    yields.setdefault(loser, {}).setdefault(winner, []).append(path)
    return yields


def _check_folders(owners: Mapping[str, Sequence[tuple[str, str]]]) -> None:
    problems = {
        f"{path.removeprefix('{site}/')} is a file of {owners[path][0][0]}, and a folder of {owners[below][0][0]}"
        for below in owners
        for path in _above(below)
        if path in owners
    }
    if problems:
        raise ResolveError(
            "\n".join(sorted(problems)), where=_WHERE, hint="the two can't be installed together: ask for one"
        )


def _above(path: str) -> Iterator[str]:
    while path := path.rpartition("/")[0]:
        yield path


def _choices(order: Sequence[Package], yields: Mapping[str, Mapping[str, Sequence[str]]]) -> Iterator[Choice]:
    asked = {package.project: ", ".join(package.needed_by) for package in order}
    for loser, winners in yields.items():
        for winner, paths in winners.items():
            first = min(paths, key=lambda path: (path.count("/"), path))
            name = first.removeprefix("{site}/").replace("{prefix}/", "")
            more = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
            yield Choice(
                kind=OVERLAP,
                subject=f"{loser}, {winner}: both bring {name}{more}",
                chosen=winner,
                reason=f"as pip does, which installs it last; {loser} is there for {asked[loser]}, and {winner} for "
                f"{asked[winner]}",
            )
