"""An image's Debian packages: those of a whole system, those beside a base image, and those installed into one."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from tungstenkit.debian.release import RELEASES
from tungstenkit.lock.parts import AddedDebs, Choice, Platform
from tungstenkit.resolve.base import groups_on
from tungstenkit.resolve.base_debs import check_installable, told_of
from tungstenkit.resolve.choices import add_choice
from tungstenkit.resolve.debs import apart, locked_choices, locked_debs
from tungstenkit.resolve.libraries import packages_for
from tungstenkit.resolve.rules import ESSENTIAL, base_packages
from tungstenkit.resolve.targets import target_of
from tungstenkit.spec.commands import Commands

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from tungstenkit.lock.document import Lock
    from tungstenkit.lock.packages import Deb
    from tungstenkit.platforms import Target
    from tungstenkit.resolve.base import Base
    from tungstenkit.resolve.solver import Solver
    from tungstenkit.spec.document import ModelSpec

_UNMADE = {
    "libgvc6": (
        "the list of graphviz's plugins, without which dot writes no format",
        "libgvc6-config-update -c",
    ),
    "locales": ("locales other than C.UTF-8", "localedef -i en_US -f UTF-8 en_US.UTF-8"),
    "r-base-core": ("R's Renviron", "cp /usr/lib/R/etc/Renviron.ucf /etc/R/Renviron"),
}
"""What packages' scripts would make and nothing here does, and the command that does: of packages that are of little
use without."""

_DEB_CHOICES = ("alternative", "virtual", "dropped", "renamed", "essential")
"""The kinds of choices that a solve of Debian packages makes."""


def resolve_debs(
    spec: ModelSpec, target: Target, solver: Solver, pinned: Iterable[Deb], libraries: Sequence[Choice] = ()
) -> tuple[tuple[Deb, ...], list[Choice]]:
    """An image's Debian packages.

    libraries: choices of packages that nobody asked for by name, but for what is in them.
    """
    commands = spec.commands or Commands()
    # A RUN, too, uses what every Debian has.
    essential = ESSENTIAL if spec.system_packages or commands.packages or commands.runs_programs else ()
    groups = {
        "base": base_packages(has_old_zones_apart=RELEASES[target.release].has_old_zones_apart),
        "python": [f"python{target.python}"],
        "system": [*spec.system_packages, *commands.packages, *essential, *packages_for(libraries)],
    }
    asked = ["system_packages", *(["dockerfile_commands"] if commands.packages else [])]
    where = " and ".join([*asked, *(["[tool.tungsten.libraries]"] if libraries else [])])
    solution = solver.debs(target, groups, where, pinned)
    wishes = packages_for(libraries)
    wishes |= {name: f"essential: {name}" for name in essential}
    wishes |= {text: f"dockerfile_commands: {text}" for text in commands.packages}
    wishes |= {text: f"system_packages: {text}" for text in spec.system_packages}
    choices = locked_choices(solution)
    if essential:
        choices.append(
            Choice(
                kind="essential",
                subject="system_packages" if spec.system_packages else "dockerfile_commands",
                chosen=", ".join(essential),
                reason="packages use essential ones without naming them (Debian policy, 3.8)",
            )
        )
    debs = locked_debs(solution, wishes)
    _tell_unmade(debs, spec, solver)
    return debs, choices


def _tell_unmade(debs: Iterable[Deb], spec: ModelSpec, solver: Solver) -> None:
    for deb in debs:
        what, command = _UNMADE.get(deb.name, ("", ""))
        if command and not any(command.split()[0] in line for line in spec.dockerfile_commands):
            solver.notice(f"{deb.name}: {what} is made by no script here; to have it: RUN {command}")


def debs_in(
    spec: ModelSpec, base: Base, target: Target, solver: Solver, previous: Platform | None
) -> tuple[AddedDebs | None, list[Choice]]:
    """What a RUN of apt installs into a base image, from the archive of its own release."""
    packages = spec.commands.packages if spec.commands else ()
    if not packages:
        return None, []
    release = check_installable(base.system, base.image.reference, packages)
    old = previous.added if previous else None
    solution = solver.debs(
        replace(target, release=release),
        {"system": packages},
        "dockerfile_commands",
        old.debs if old and old.release == release else (),
        base.system.present,
    )
    debs = locked_debs(solution, {text: f"dockerfile_commands: {text}" for text in packages})
    _tell_unmade(debs, spec, solver)
    told = list(told_of(base.system, solution, packages))
    for choice in told:
        solver.notice(f"{choice.subject} {choice.chosen}: {choice.reason}")
    return AddedDebs(release=release, debs=debs), [*locked_choices(solution), *told]


def debs_on(base: Base, target: Target, solver: Solver, pinned: Iterable[Deb]) -> tuple[Deb, ...]:
    """The Debian packages beside a base image: a few programs alone, and a whole Python where it has none."""
    pinned = tuple(pinned)
    groups = groups_on(base, target)
    debs = locked_debs(solver.debs(target, {"base": groups["base"]}, "what a base image lacks", pinned))
    alone = apart(deb for deb in debs if deb.name in groups["base"])
    if "python" not in groups:
        return alone
    python = locked_debs(
        solver.debs(target, {"python": groups["python"]}, "Python beside a base image", pinned)
    )
    return tuple(sorted((*alone, *python), key=lambda deb: deb.name))


def add_debs(
    lock: Lock,
    spec: ModelSpec,
    solver: Solver,
    previous: Lock | None,
    libraries: Mapping[str, Sequence[Choice]],
) -> Lock:
    """The lock with more Debian packages; its pins are kept where they fit.

    libraries: for each platform what `resolve.libraries` chose.

    Raises ResolveError where they don't fit the rest.
    """
    platforms = dict(lock.platforms)
    choices: dict[tuple[str, str], Choice] = {}
    for system, made in libraries.items():
        platform = lock.platforms[system]
        if platform.base_image is not None:
            # Nothing is added to a base image; what it lacks is told.
            for choice in made:
                add_choice(choices, choice, system)
            continue
        old = previous.platforms.get(system) if previous else None
        pinned = (*(old.debs if old and old.release == platform.release else ()), *platform.debs)
        debs, found = resolve_debs(spec, target_of(system, platform.python), solver, pinned, made)
        platforms[system] = platform.model_copy(update={"debs": debs})
        for choice in (*found, *made):
            add_choice(choices, choice, system)
    others = [choice for choice in lock.choices if choice.kind not in _DEB_CHOICES]
    return lock.model_copy(update={"platforms": platforms, "choices": (*others, *choices.values())})
