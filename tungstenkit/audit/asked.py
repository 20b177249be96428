"""What of a lock nobody has asked for: a lock may hold only what its declaration comes to.

A lock's digest of its inputs says that it was made for this declaration, and not that nothing was put into it since.
So each place in it (URL, path, repository, base image, download) must be the declaration's own, and each package must
have a chain of `needed-by` that ends in a wish of the declaration, or in a rule that is known here by name. Whether one
package really needs another is the lock's word: a reviewer's business, or `tungsten lock --diff`'s, which solves anew.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from typing import TYPE_CHECKING

from packaging.utils import canonicalize_name

from tungstenkit.data import OWN_WHEELS
from tungstenkit.lock import stale
from tungstenkit.lock.document import FLAKE_INPUTS
from tungstenkit.lock.packages import WISH, Deb, Source, Wheel
from tungstenkit.lock.parts import LIBRARY
from tungstenkit.platforms import Target
from tungstenkit.resolve.cuda_table import adds, stands_for
from tungstenkit.resolve.rules import BASE, ESSENTIAL, OLD_ZONES, tool_programs
from tungstenkit.sdk.errors import LockError
from tungstenkit.settings import MACHINE
from tungstenkit.spec.document import DownloadWish, RepositoryWish
from tungstenkit.spec.requirements import parse, project_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
    from pathlib import Path

    from tungstenkit.lock.document import Lock
    from tungstenkit.lock.parts import Choice, Platform
    from tungstenkit.spec.document import ModelSpec
    from tungstenkit.spec.requirements import Wanted

    Rule = Callable[[str, "Package"], bool]
    """Whether a wish's text asks for a package."""

Package = Deb | Wheel | Source

_SHOWN = 20
_FLAKES = {"nixpkgs": ("NixOS", "nixpkgs"), "poetry2nix": ("nix-community", "poetry2nix")}
# What stands beside a base image, or runs builds (`resolve.base.groups_on`, `resolve.shared`).
_BESIDE = ("busybox-static", "bash-static")
_OF_PYTHON = ("libgomp1", "libstdc++6", "zlib1g")


def check_lock(lock: Lock, spec: ModelSpec, path: Path) -> None:
    """LockError where a lock was made from other arguments, is not sealed, or has what the model does not ask for.

    path: the lock's. Nothing that the lock names is opened for this.
    """
    stale.check_lock(lock, spec, path)
    if differing := list(unasked(lock, spec)):
        more = [f"and {len(differing) - _SHOWN} more"] if len(differing) > _SHOWN else []
        raise LockError(
            "\n".join(
                ["the lock holds what the model does not ask for, or lacks it:", *differing[:_SHOWN], *more]
            ),
            where=str(path),
            hint="somebody has edited it, or an older tungsten wrote it: restore it from version control, or delete it "
            "and run `tungsten lock`",
        )


def unasked(lock: Lock, spec: ModelSpec) -> Iterator[str]:
    """What of a lock is not the declaration's, and what of that it lacks, a line each."""
    yield from _files(lock, spec)
    wishes = parse(spec.python_packages)
    for system, platform in lock.platforms.items():
        for problem in (
            *_base(platform, spec),
            *_results(platform, spec),
            *_builds(platform, spec),
            *_requirements(platform, system, wishes.requirements, wishes.constraints, gpu=spec.gpu),
            *_places(platform, wishes.requirements),
            *_indexes(platform, {MACHINE, *spec.indexes, *wishes.places.values()}),
            *_packages(platform, spec, wishes.requirements, lock.choices),
        ):
            yield f"platforms.{system}: {problem}"
    for system, environment in lock.server.items():
        known = {"the server's environment": _of(OWN_WHEELS["server"]["requires"])}
        for problem in (*_by_url(environment.wheels), *_unreached(environment.wheels, known)):
            yield f"server.{system}: {problem}"
    for system, tools in lock.tools.items():
        for root in (tools.layers, tools.byte_code):
            wanted = [f"python{root.python}-minimal", f"libpython{root.python}-stdlib"]
            wanted += tool_programs(platform.base_image for platform in lock.platforms.values())
            for problem in _unreached(root.debs, {"python": _exactly(wanted)}):
                yield f"tools.{system}: {problem}"
        for deb, name in ((tools.busybox, "busybox-static"), (tools.bash, "bash-static")):
            if deb.name != name:
                yield f"tools.{system}: {deb.name}, where {name} belongs"
    for name, flake in lock.flake_inputs.items():
        if name not in FLAKE_INPUTS or (flake.owner, flake.repo) != _FLAKES[name]:
            yield f"flake-inputs.{name}: {flake.owner}/{flake.repo}"


# What `files` declares


def _files(lock: Lock, spec: ModelSpec) -> Iterator[str]:
    downloads = [wish for wish in spec.files if isinstance(wish, DownloadWish)]
    for one in lock.files.downloads:
        fitting = [
            wish
            for wish in downloads
            if (wish.url, wish.to, wish.executable) == (one.url, one.to, one.executable)
            and wish.sha256 in (None, one.sha256)
        ]
        if not fitting:
            yield f"files: {one.url} to {one.to}"
        else:
            downloads.remove(fitting[0])
    yield from (f"files: lacks {wish.url} to {wish.to}" for wish in downloads if _has_files(lock))
    repositories = [wish for wish in spec.files if isinstance(wish, RepositoryWish)]
    for repository in lock.files.repositories:
        key = (repository.repository, repository.type, repository.revision, repository.to)
        wanted = (list(repository.include), list(repository.exclude))
        found = [
            wish
            for wish in repositories
            if (wish.repository, wish.type, wish.revision, wish.to) == key
            and (wish.include, wish.exclude) == wanted
            and (not re.fullmatch("[0-9a-f]{40}", wish.revision) or wish.revision == repository.commit)
        ]
        if not found:
            yield f"files: the repository {repository.repository} at {repository.revision}"
            continue
        repositories.remove(found[0])
        from pathspec import GitIgnoreSpec

        included, excluded = (GitIgnoreSpec.from_lines(patterns) for patterns in wanted)
        for file in repository.files:
            if (repository.include and not included.match_file(file.path)) or excluded.match_file(file.path):
                yield f"files: {file.path} of {repository.repository}"
    yield from (f"files: lacks {wish.repository}" for wish in repositories if _has_files(lock))


def _has_files(lock: Lock) -> bool:
    # A lock for nixpkgs is sealed when it is solved, and has none of them.
    return lock.package_set == "debian"


def _base(platform: Platform, spec: ModelSpec) -> Iterator[str]:
    locked = platform.base_image.reference if platform.base_image else None
    if locked != spec.base_image:
        yield f"base-image: {locked or 'none'}, and the model names {spec.base_image or 'none'}"
    elif platform.base_image and spec.base_image:
        digest = spec.base_image.partition("@")[2]
        if digest not in ("", platform.base_image.named):
            yield f"base-image: {platform.base_image.named}, and the model names {digest}"


def _results(platform: Platform, spec: ModelSpec) -> Iterator[str]:
    """Results of steps that the model has not got."""
    if platform.post_build is not None and not spec.has_post_build:
        yield "post-build: the model has none"
    steps = len(spec.commands.networks) if spec.commands else 0
    if len(platform.commands) > steps:
        yield f"commands: {len(platform.commands)} results, and the model has {steps} such steps"


def _builds(platform: Platform, spec: ModelSpec) -> Iterator[str]:
    """Variables of builds from source that are not the model's."""
    said: dict[str, object] = {
        canonicalize_name(project): rule.get("environment", {}) for project, rule in spec.build.items()
    }
    for source in platform.sources:
        locked, asked = source.build.environment, said.get(source.project, {})
        if locked != asked:
            yield (
                f"the build of {source.project}: environment {_variables(locked)}, and the model says "
                f"{_variables(asked)}"
            )


def _variables(environment: object) -> str:
    return json.dumps(environment, sort_keys=True) if environment else "nothing"


# Python packages


def _requirements(
    platform: Platform,
    system: str,
    requirements: Sequence[Wanted],
    constraints: Sequence[Wanted],
    *,
    gpu: bool,
) -> Iterator[str]:
    """Requirements that the lock's packages do not fulfil."""
    markers = Target(system, platform.release, platform.python).markers
    entries: tuple[Wheel | Source, ...] = (*platform.wheels, *platform.sources)
    locked = {one.project: one for one in entries}
    for wanted in requirements:
        if wanted.marker is not None and not wanted.marker.evaluate(markers):
            continue
        entry = locked.get(wanted.name) if wanted.name else None
        if wanted.is_direct:
            fitting = [one for one in locked.values() if _is_of(one, wanted)]
            if not fitting or (entry and entry not in fitting):
                yield f"python_packages: {wanted.text} is not what is locked"
            continue
        if entry is None:
            # The name may be that of builds for another kind of machine.
            if not any(stands_for(one, wanted.name or "", gpu=gpu) for one in locked):
                yield f"python_packages: {wanted.text} is not there"
        elif not wanted.specifier.contains(entry.version, prereleases=True):
            yield f"python_packages: {wanted.text}, and locked is {entry.version}"
        elif wanted.hashes and entry.sha256 not in wanted.hashes:
            yield f"python_packages: {wanted.text}, and locked is sha256 {entry.sha256}"
    for wanted in constraints:
        entry = locked.get(wanted.name or "")
        counts = wanted.marker is None or wanted.marker.evaluate(markers)
        if counts and entry and not wanted.specifier.contains(entry.version, prereleases=True):
            yield f"python_packages: -c {wanted.text}, and locked is {entry.version}"
        elif counts and entry and wanted.hashes and entry.sha256 not in wanted.hashes:
            yield f"python_packages: -c {wanted.text}, and locked is sha256 {entry.sha256}"


def _is_of(entry: Wheel | Source, wanted: Wanted) -> bool:
    """Whether an entry comes from where a requirement says."""
    if wanted.hashes and entry.sha256 not in wanted.hashes:
        return False
    git = entry.git if isinstance(entry, Source) else None
    subdirectory = entry.subdirectory if isinstance(entry, Source) else wanted.subdirectory
    if (entry.url, entry.path, subdirectory) != (wanted.url, wanted.path, wanted.subdirectory):
        return False
    if git is None or wanted.git is None:
        return git is None and wanted.git is None
    is_commit = wanted.git.ref is not None and re.fullmatch("[0-9a-f]{40,64}", wanted.git.ref)
    return git.url == wanted.git.url and (not is_commit or git.commit == wanted.git.ref)


def _places(platform: Platform, requirements: Sequence[Wanted]) -> Iterator[str]:
    """Entries that come from where no requirement says."""
    entries: tuple[Wheel | Source, ...] = (*platform.wheels, *platform.sources)
    for entry in entries:
        place = (
            entry.url or entry.path or (entry.git.url if isinstance(entry, Source) and entry.git else None)
        )
        named = [wanted for wanted in requirements if wanted.name in (None, entry.project)]
        if place is not None and not any(_is_of(entry, wanted) for wanted in named):
            yield f"{entry.project} from {place}"
    for source in platform.sources:
        yield from (f"the build of {source.project}: {what}" for what in _by_url(source.build.wheels))


def _indexes(platform: Platform, known: Collection[str]) -> Iterator[str]:
    """Entries that come from an index which nobody names."""
    entries: list[Wheel | Source] = [*platform.wheels, *platform.sources]
    entries += [wheel for source in platform.sources for wheel in source.build.wheels]
    for entry in entries:
        if entry.index is not None and entry.index not in known:
            yield f"{entry.project} from {entry.index}"


def _by_url(wheels: Iterable[Wheel]) -> Iterator[str]:
    """What only the model's own requirements may be."""
    yield from (
        f"{wheel.project} from {wheel.url or wheel.path}" for wheel in wheels if wheel.url or wheel.path
    )


# Chains


def _of(lines: Iterable[str]) -> Rule:
    """A wish for one of some projects; another tungsten may have asked for other versions of it."""
    projects = {project_of(line) for line in lines}
    return lambda text, package: project_of(text) == _name(package) and _name(package) in projects


def _exactly(names: Collection[str]) -> Rule:
    return lambda text, package: text in names and text == _name(package)


def _packages(
    platform: Platform, spec: ModelSpec, requirements: Sequence[Wanted], choices: Sequence[Choice]
) -> Iterator[str]:
    """Packages that nothing of the declaration leads to."""
    names = {wanted.text: wanted.name for wanted in requirements}
    debs = _rules_of_debs(platform, spec, choices)
    wheels: dict[str, Rule] = {
        "python_packages": lambda text, package: (
            text in names
            and (
                names[text] in (None, _name(package))
                or stands_for(_name(package), names[text] or "", gpu=spec.gpu)
            )
        ),
        "sdk": _of(OWN_WHEELS["sdk"]["requires"]),
        "gpu": lambda text, package: spec.gpu and project_of(text) == _name(package) and adds(_name(package)),
    }
    yield from _unreached(platform.debs, debs)
    if platform.added:
        yield from _unreached(platform.added.debs, {"dockerfile_commands": debs["dockerfile_commands"]})
    yield from _unreached((*platform.wheels, *platform.sources), wheels)
    for source in platform.sources:
        whose = f"the build of {source.project} {source.version}"
        build: dict[str, Rule] = {
            whose: lambda text, package: project_of(text) == _name(package),
            "build": lambda text, package: re.split(r"[:=\s]", text)[0] == _name(package),
        }
        for what in (*_unreached(source.build.wheels, build), *_unreached(source.build.debs, build)):
            yield f"{whose}: {what}"


def _rules_of_debs(platform: Platform, spec: ModelSpec, choices: Sequence[Choice]) -> dict[str, Rule]:
    """Which Debian packages may be there, by whose wish it is."""
    every = [deb for _, deb in platform.every_deb]
    debs_there = {deb.name for deb in every}
    holders = Counter(entry for deb in every for entry in deb.needed_by)

    def apt(whose: str, texts: Collection[str]) -> Rule:
        """A wish for what apt knows by a name: its own, or one of a virtual package or of a former one."""

        def asks(text: str, package: Package) -> bool:
            name = re.split(r"[:=\s]", text)[0]
            is_chosen = any(_name(package) in re.split(r"[\s,|()]+", one.chosen) for one in choices)
            # One that alone provides a name is no choice.
            is_alone = name not in debs_there and holders[f"{whose}{WISH}{text}"] == 1
            return text in texts and (name == _name(package) or is_chosen or is_alone)

        return asks

    def library(text: str, package: Package) -> bool:
        name, _, owner = text.partition(" of ")
        return any(
            one.kind == LIBRARY
            and one.chosen == _name(package)
            and one.subject.startswith(f"{owner} needs {name}")
            for one in choices
        )

    packages = spec.commands.packages if spec.commands else ()
    return {
        "base": _exactly((*BASE, OLD_ZONES, *_BESIDE)),
        "python": _exactly((f"python{platform.python}", *_OF_PYTHON)),
        "essential": _exactly(ESSENTIAL),
        "system_packages": apt("system_packages", spec.system_packages),
        "dockerfile_commands": apt("dockerfile_commands", packages),
        "library": library,
    }


def _name(package: Package) -> str:
    return package.name if isinstance(package, Deb) else canonicalize_name(package.project)


def _unreached(packages: Iterable[Package], rules: dict[str, Rule]) -> Iterator[str]:
    """The packages that no chain leads to from a wish that a rule knows. rules: by whose wish it is."""
    waiting = {_name(package): package for package in packages}
    reached: set[str] = set()
    for name, package in waiting.items():
        for entry in package.needed_by:
            whose, is_wish, text = entry.partition(WISH)
            if is_wish and whose in rules and rules[whose](text, package):
                reached.add(name)
    while True:
        more = {
            name
            for name, package in waiting.items()
            if name not in reached and not reached.isdisjoint(package.needed_by)
        }
        if not more:
            break
        reached |= more
    yield from (f"{name}, which nobody asked for" for name in waiting if name not in reached)
