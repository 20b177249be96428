"""From a spec to a lock for the package set `nixpkgs`: a Python of nixpkgs', wheels, and the revisions of nixpkgs and
poetry2nix that they are built with.

The solve of the wheels is the one of the `debian` set. What is not there is Debian: `system_packages` become packages
of nixpkgs by a table of names, and nothing is run, so the lock is sealed as it is made.
"""

from __future__ import annotations

import json
import sys
from importlib import resources
from typing import TYPE_CHECKING, Any, Literal

from packaging.version import Version

from tungstenkit.data import NIX
from tungstenkit.lock.document import Lock
from tungstenkit.lock.parts import Choice, FlakeInput, Platform
from tungstenkit.lock.stale import input_digest, made_from
from tungstenkit.lock.unpin import near
from tungstenkit.platforms import Target
from tungstenkit.resolve.choices import add_choice, keep_reasons
from tungstenkit.resolve.python_packages import solve_python, whose
from tungstenkit.resolve.shared import resolve_server
from tungstenkit.resolve.targets import chosen_systems
from tungstenkit.sdk.errors import ResolveError
from tungstenkit.settings import to_paste

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tungstenkit.resolve.solver import Solver
    from tungstenkit.spec.document import ModelSpec

_SET: Literal["nixpkgs"] = "nixpkgs"


def refuse_unavailable(spec: ModelSpec) -> None:
    """ResolveError that names every argument which this package set has no answer to."""
    asked = {
        "post_build": spec.has_post_build,
        "dockerfile_commands": bool(spec.dockerfile_commands),
        "base_image": spec.base_image is not None,
        "files": bool(spec.files),
    }
    if refused := [name for name, present in asked.items() if present]:
        raise ResolveError(
            f"{', '.join(refused)}: not available in the package set nixpkgs",
            where=f"{spec.module}.{spec.class_name}",
            hint="leave it out, or lock with `--package-set debian`",
        )


def resolve(
    spec: ModelSpec,
    solver: Solver,
    previous: Lock | None,
    *,
    systems: Iterable[str] = (),
    python: str | None = None,
) -> Lock:
    """A sealed lock.

    previous: an earlier lock of this package set; its pins are kept where they fit.
    systems, python: as for the `debian` set.

    Raises ResolveError where nothing fits or an argument is not available here, FetchError where an index can't be had.
    """
    refuse_unavailable(spec)
    system_packages = _system_packages(spec)
    if spec.libraries:
        solver.notice(
            "[tool.tungsten.libraries] names Debian packages: it counts for nothing in this package set"
        )
    systems = chosen_systems(systems, previous)
    chosen, reason, platforms, choices = _resolve_python(spec, solver, previous, systems, python)
    pin = _pin_of(chosen)
    first = Choice(
        kind="python",
        subject="the Python version, and with it nixpkgs' branch",
        chosen=f"{chosen} of {pin['ref']}",
        reason=reason,
    )
    return Lock(
        package_set=_SET,
        inputs=made_from(spec, _SET),
        input_digest=input_digest(spec, _SET),
        sealed=True,
        choices=(first, *choices, *system_packages),
        releases={},
        platforms=platforms,
        server={system: resolve_server(_target(system, chosen), solver, previous) for system in systems},
        tools={},
        flake_inputs={
            "nixpkgs": FlakeInput(
                owner="NixOS",
                repo="nixpkgs",
                ref=pin["ref"],
                rev=pin["rev"],
                nar_hash=pin["nar-hash"],
                last_modified=pin["last-modified"],
                flake=True,
            ),
            "poetry2nix": FlakeInput(
                owner="nix-community",
                repo="poetry2nix",
                rev=_pins()["poetry2nix"]["rev"],
                nar_hash=_pins()["poetry2nix"]["nar-hash"],
                last_modified=_pins()["poetry2nix"]["last-modified"],
                flake=False,
            ),
        },
    )


def _resolve_python(
    spec: ModelSpec, solver: Solver, previous: Lock | None, systems: Sequence[str], override: str | None
) -> tuple[str, str, dict[str, Platform], tuple[Choice, ...]]:
    """The first Python whose whole solve succeeds, why it was tried, and what was solved."""
    failures: dict[str, ResolveError] = {}
    for python, reason in _candidates(spec, previous, override).items():
        platforms: dict[str, Platform] = {}
        choices: dict[tuple[str, str], Choice] = {}
        notices: list[str] = []
        try:
            for system in systems:
                target = _target(system, python)
                solver.report(f"solving for Python {python} of {target.release}, {system}")
                pinned = previous.platforms.get(system) if previous else None
                packages = solver.packages(target, spec.python_packages, "python_packages", pinned)
                solved = solve_python(spec, packages, spec.cuda_version)
                wheels, _, reasons = packages.split(whose(wheel, packages.written) for wheel in solved.wheels)
                platforms[system] = Platform(
                    release=target.release, python=python, cuda=solved.cuda, wheels=wheels
                )
                for choice in (*solved.choices, *reasons):
                    add_choice(choices, choice, system)
                notices += [notice for notice in solved.notices if notice not in notices]
        except ResolveError as problem:
            failures[python] = problem
            continue
        for notice in notices:
            solver.notice(notice)
        if failures:
            reason += f"; nothing fits on Python {', '.join(failures)}"
        return python, reason, platforms, tuple(keep_reasons(choices.values(), spec, previous, _SET))
    first, *others = failures.values()
    if any(str(other) != str(first) for other in others):
        what = "\n".join(f"with Python {python}: {problem.what}" for python, problem in failures.items())
        raise ResolveError(what, where=first.where, hint=first.hint)
    raise first


def _candidates(spec: ModelSpec, previous: Lock | None, override: str | None) -> dict[str, str]:
    """Python versions to try, in order, each with the reason for its place."""
    newest_first = sorted((python for pin in _pins()["nixpkgs"] for python in pin["pythons"]), key=Version)[
        ::-1
    ]
    asked, where = spec.python_version, "python_version"
    if override is not None:
        asked, where = ".".join(override.split(".")[:2]), "--python"
    fitting = [python for python in newest_first if asked is None or f"{python}.".startswith(f"{asked}.")]
    if not fitting:
        raise ResolveError(
            f"Python {asked} is in none of the pinned revisions of nixpkgs",
            where=where,
            hint=f"there are {', '.join(newest_first)}",
        )
    kept = {}
    if previous is not None and override is None:
        ((python, _),) = {(platform.python, platform.release) for platform in previous.platforms.values()}
        reasons = (choice.reason for choice in previous.choices if choice.kind == "python")
        if python in fitting or previous.input_digest == input_digest(spec, _SET):
            kept[python] = next(reasons, "kept from the lock before")
    here = f"{sys.version_info.major}.{sys.version_info.minor}"
    if asked is None and here in fitting:
        kept.setdefault(here, "the Python that made the lock")
    reason = "the newest that fits" if asked is None else f"{where}={asked!r}"
    return kept | {python: reason for python in fitting if python not in kept}


def _system_packages(spec: ModelSpec) -> list[Choice]:
    """What is taken for each of `system_packages`; ResolveError that names every one which is not known."""
    known = json.loads((NIX / "sets" / "apt-names.json").read_text(encoding="utf-8"))
    problems = [
        f"no package of nixpkgs is known for {name!r}{near(name, {*known, *spec.nixpkgs})}"
        for name in spec.system_packages
        if name not in known and name not in spec.nixpkgs
    ]
    if problems:
        raise ResolveError(
            "\n".join(problems),
            where="system_packages",
            hint="say what each is, as this does of libgl1: "
            + to_paste("nixpkgs", "", '"libgl1" = ["libGL"]'),
        )
    return [
        Choice(
            kind="nixpkgs",
            subject=name,
            chosen=", ".join((known | spec.nixpkgs)[name]) or "nothing",
            reason="[tool.tungsten.nixpkgs]" if name in spec.nixpkgs else "the table of apt's names",
        )
        for name in spec.system_packages
    ]


def _target(system: str, python: str) -> Target:
    return Target(system, _pin_of(python)["ref"], python)


def _pin_of(python: str) -> dict[str, Any]:
    """The revision of nixpkgs that has a Python."""
    pin: dict[str, Any] = next(pin for pin in _pins()["nixpkgs"] if python in pin["pythons"])
    return pin


def _pins() -> dict[str, Any]:
    text = resources.files(__package__).joinpath("nixpkgs_pins.json").read_text(encoding="utf-8")
    pins: dict[str, Any] = json.loads(text)
    return pins
