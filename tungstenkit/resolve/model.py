"""From a spec to a resolved lock: Python, Debian packages and wheels chosen together, each choice with its
reason.

A Python version stands for a Debian release, so the release is chosen by the first Python whose whole solve
succeeds. Only indexes and metadata are read here. Pins of the previous lock are kept where they still fit; for
what all models share (the tools, the server) the pins that came with tungsten come first, so that models share
those layers.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field
from importlib import resources
from typing import TYPE_CHECKING

from tungstenkit.data import OWN_WHEELS
from tungstenkit.document import Document
from tungstenkit.errors import ResolveError
from tungstenkit.lock import (
    Busybox,
    Choice,
    Deb,
    Lock,
    Platform,
    PythonRoot,
    Release,
    ServerEnvironment,
    Suite,
    Tools,
    Wheel,
    input_digest,
)
from tungstenkit.resolve.debian_index import ReleaseIndex, fetch_index
from tungstenkit.resolve.debian_release import RELEASES
from tungstenkit.resolve.debs import resolve as resolve_debs
from tungstenkit.resolve.wheels import resolve_wheels

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from tungstenkit.mirrors import Mirrors
    from tungstenkit.resolve.debs import DebSolution
    from tungstenkit.spec import ModelSpec

SYSTEM = "x86_64-linux"
_ARCHITECTURE = "amd64"

_TOOLS = "the tools that builds run"
_TOOLS_RELEASE = "trixie"
_NEWEST_FIRST = ("3.13", "3.11")

BASE = (
    "base-files",
    "ca-certificates",
    # `os.system` and `subprocess.run(…, shell=True)` in a model need `/bin/sh`.
    "dash",
    "libc-bin",
    "libc6",
    # Wheels may take these from the system (PEP 600, and what manylinux images hold).
    "libgomp1",
    "libstdc++6",
    "media-types",
    "netbase",
    "tini",
    "tzdata",
    "zlib1g",
)
"""What every image's root holds, beside Python."""

ESSENTIAL = (
    "bash",
    "coreutils",
    "debianutils",
    "diffutils",
    "findutils",
    "grep",
    "gzip",
    "hostname",
    "sed",
    "tar",
)
"""What Debian's packages use without naming it (Debian policy, 3.8), but for what only installs packages."""


@dataclass
class Solver:
    """What a solve reads: mirrors, indexes (each loaded once), and the pins to keep."""

    mirrors: Mirrors
    get: Callable[[str], bytes]
    report: Callable[[str], None]
    """Is told what is being done; a short line."""
    _indexes: dict[str, ReleaseIndex] = field(default_factory=dict)

    def index(self, release: str) -> ReleaseIndex:
        """The package index of a Debian release."""
        if release not in self._indexes:
            self.report(f"reading Debian {release}'s indexes")
            self._indexes[release] = fetch_index(release, _ARCHITECTURE, self.mirrors.debian_bases, self.get)
        return self._indexes[release]

    def debs(
        self, release: str, groups: Mapping[str, Sequence[str]], where: str, prefer: Iterable[Deb]
    ) -> DebSolution:
        """Debian packages of a release."""
        versions = {deb.name: deb.version for deb in prefer}
        return resolve_debs(self.index(release), groups, versions, where=where)

    def wheels(
        self, requirements: Sequence[str], python: str, release: str, where: str, prefer: Iterable[Wheel]
    ) -> tuple[Wheel, ...]:
        """Wheels for a release's Python."""
        return resolve_wheels(
            requirements,
            python=python,
            release=release,
            index_url=self.mirrors.pypi,
            where=where,
            prefer=prefer,
        )

    @property
    def releases(self) -> dict[str, Release]:
        """What was read, for the lock."""
        return {
            name: Release(
                suites=tuple(
                    Suite(
                        archive=suite.archive,  # type: ignore[arg-type] # one of ARCHIVES
                        suite=suite.suite,
                        date=f"{suite.date:%Y-%m-%dT%H:%M:%SZ}",
                        packages_sha256=suite.packages_sha256,
                    )
                    for suite in index.suites
                ),
                timestamps=index.timestamps,
            )
            for name, index in self._indexes.items()
        }


def resolve(spec: ModelSpec, solver: Solver, previous: Lock | None, package_set: str = "debian") -> Lock:
    """A resolved lock, not sealed yet.

    Raises ResolveError where nothing fits, FetchError where an index can't be had.
    """
    if package_set != "debian":
        raise ResolveError(f"the package set {package_set!r} can't be locked yet", hint="use `debian`")
    if spec.gpu:
        solver.report("gpu=True: CUDA comes with the wheels that python_packages names")
    if spec.cuda_version is not None:
        raise ResolveError(
            "a CUDA version can't be chosen yet",
            where="cuda_version",
            hint="leave it out, and pin the package that brings CUDA in python_packages",
        )
    python, platform, choices = _resolve_python(spec, solver, previous)
    environment = _resolve_server(python, platform.release, solver, previous)
    tools = _resolve_tools(python, platform.release, solver, previous)
    return Lock(
        package_set="debian",
        input_digest=input_digest(spec, package_set),
        sealed=False,
        choices=choices,
        releases=solver.releases,
        platforms={SYSTEM: platform},
        server={SYSTEM: environment},
        tools={SYSTEM: tools},
    )


def _resolve_python(
    spec: ModelSpec, solver: Solver, previous: Lock | None
) -> tuple[str, Platform, tuple[Choice, ...]]:
    """Try the candidates in order; the first whose whole solve succeeds is taken."""
    releases = {release.python: name for name, release in RELEASES.items()}
    candidates = _candidates(spec.python_version, previous, releases)
    failures: dict[str, ResolveError] = {}
    for python, reason in candidates.items():
        solver.report(f"solving for Python {python} on Debian {releases[python]}")
        try:
            platform, choices = _resolve_platform(spec, python, releases[python], solver, previous)
        except ResolveError as problem:
            failures[python] = problem
            continue
        failed = "".join(
            f"; Python {version} failed: {problem.what}" for version, problem in failures.items()
        )
        choice = Choice(
            kind="python",
            subject="the Python version, and with it the Debian release",
            chosen=f"{python} on {releases[python]}",
            reason=reason + failed,
        )
        return python, platform, (choice, *choices)
    first, *others = failures.values()
    if others and any(str(other) != str(first) for other in others):
        what = "\n".join(f"with Python {python}: {problem.what}" for python, problem in failures.items())
        raise ResolveError(what, where=first.where, hint=first.hint)
    raise first


def _candidates(asked: str | None, previous: Lock | None, releases: Mapping[str, str]) -> dict[str, str]:
    """Python versions to try, in order, each with the reason for its place."""
    if asked is not None:
        fitting = [python for python in _NEWEST_FIRST if python == asked or python.startswith(f"{asked}.")]
        if not fitting:
            raise ResolveError(
                f"Python {asked} is in no Debian release that images are made of",
                where="python_version",
                hint="there are "
                + ", ".join(f"{python} ({releases[python]})" for python in sorted(releases)),
            )
        return dict.fromkeys(fitting, f"python_version={asked!r}")
    candidates = {}
    if previous is not None and SYSTEM in previous.platforms:
        # With the reason that it was chosen for: relocking alone changes nothing.
        reasons = (choice.reason for choice in previous.choices if choice.kind == "python")
        candidates[previous.platforms[SYSTEM].python] = next(reasons, "kept from the lock before")
    here = f"{sys.version_info.major}.{sys.version_info.minor}"
    if here in releases:
        candidates.setdefault(here, "the Python that made the lock")
    for python in _NEWEST_FIRST:
        candidates.setdefault(python, "the newest that fits")
    return candidates


def _resolve_platform(
    spec: ModelSpec, python: str, release: str, solver: Solver, previous: Lock | None
) -> tuple[Platform, list[Choice]]:
    pinned = previous.platforms.get(SYSTEM) if previous else None
    own = OWN_WHEELS["sdk"]["requires"]
    wheels = solver.wheels(
        [*spec.python_packages, *own], python, release, "python_packages", pinned.wheels if pinned else ()
    )
    essential = ESSENTIAL if spec.system_packages else ()
    groups = {"base": BASE, "python": [f"python{python}"], "system": [*spec.system_packages, *essential]}
    old = pinned.debs if pinned and pinned.release == release else ()
    solution = solver.debs(release, groups, "system_packages", old)
    platform = Platform(release=release, python=python, debs=_debs(solution), wheels=wheels)
    choices = [
        Choice(kind=choice.kind, subject=choice.subject, chosen=choice.chosen, reason=choice.reason)
        for choice in solution.choices
    ]
    if essential:
        choices.append(
            Choice(
                kind="essential",
                subject="system_packages",
                chosen=", ".join(essential),
                reason="packages use essential ones without naming them (Debian policy, 3.8)",
            )
        )
    return platform, choices


def _debs(solution: DebSolution) -> tuple[Deb, ...]:
    return tuple(
        Deb(
            name=deb.name,
            version=deb.version,
            architecture=deb.architecture,
            file=deb.file,
            size=deb.size,
            sha256=deb.sha256,
            group=deb.group,  # type: ignore[arg-type] # one of the groups asked for
        )
        for deb in solution.debs
    )


def _resolve_server(python: str, release: str, solver: Solver, previous: Lock | None) -> ServerEnvironment:
    solver.report("solving the server's environment")
    pinned = previous.server.get(SYSTEM) if previous else None
    if pinned is None or pinned.python != python:
        pinned = shared_pins(python).server
    wheels = solver.wheels(
        OWN_WHEELS["server"]["requires"],
        python,
        release,
        "the server's environment",
        pinned.wheels if pinned else (),
    )
    return ServerEnvironment(python=python, wheels=wheels)


def _resolve_tools(python: str, release: str, solver: Solver, previous: Lock | None) -> Tools:
    solver.report(f"solving {_TOOLS}")
    pinned = previous.tools.get(SYSTEM) if previous else None
    if pinned is None or pinned.byte_code.python != python:
        pinned = shared_pins(python).tools
    layers = _python_root(
        RELEASES[_TOOLS_RELEASE].python, _TOOLS_RELEASE, solver, pinned.layers.debs if pinned else ()
    )
    byte_code = _python_root(python, release, solver, pinned.byte_code.debs if pinned else ())
    bash = _static_program("bash-static", solver, [pinned.bash] if pinned else ())
    busybox = _static_program("busybox-static", solver, [pinned.busybox] if pinned else ())
    known = {pinned.busybox.sha256: pinned.busybox.tree_sha256} if pinned else {}
    return Tools(
        busybox=Busybox(**dict(busybox), tree_sha256=known.get(busybox.sha256)),
        bash=bash,
        layers=layers,
        byte_code=byte_code,
    )


def _python_root(python: str, release: str, solver: Solver, pinned: Iterable[Deb]) -> PythonRoot:
    # Enough to run a program of the standard library's; nothing of the base system.
    groups = {"python": [f"python{python}-minimal", f"libpython{python}-stdlib"]}
    return PythonRoot(
        release=release, python=python, debs=_debs(solver.debs(release, groups, _TOOLS, pinned))
    )


def _static_program(name: str, solver: Solver, pinned: Iterable[Deb]) -> Deb:
    solution = solver.debs(_TOOLS_RELEASE, {"base": [name]}, _TOOLS, pinned)
    return next(deb for deb in _debs(solution) if deb.name == name)


class SharedPins(Document):
    """Pins that came with tungsten for what all models of one Python version share."""

    server: ServerEnvironment | None = None
    tools: Tools | None = None


def shared_pins(python: str) -> SharedPins:
    """The pins in `shared_pins.json`; empty for a version that it does not hold."""
    text = resources.files(__package__).joinpath("shared_pins.json").read_text(encoding="utf-8")
    return SharedPins.model_validate_json(json.dumps(json.loads(text).get(python, {})))
