"""The search for a Python that everything fits on, on every platform.

A Python version stands for a Debian release, so the release is chosen by the first Python whose whole solve succeeds.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from packaging.specifiers import SpecifierSet
from packaging.version import Version

from tungstenkit.data import OWN_WHEELS
from tungstenkit.debian.release import RELEASE_OF, RELEASES
from tungstenkit.lock.parts import Choice, Platform
from tungstenkit.resolve.base import (
    check_sources,
    choices_on,
    pythons_on,
    why_nothing_is_built,
    with_packages,
)
from tungstenkit.resolve.choices import add_choice, keep_reasons
from tungstenkit.resolve.cuda import nearest_working
from tungstenkit.resolve.cuda_table import have_own_builds
from tungstenkit.resolve.image_debs import debs_in, debs_on, resolve_debs
from tungstenkit.resolve.python_packages import solve_python, whose
from tungstenkit.resolve.targets import OFFICIAL, candidates, target_of
from tungstenkit.sdk.errors import CudaError, NothingFitsError, ResolveError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tungstenkit.lock.document import Lock
    from tungstenkit.platforms import Target
    from tungstenkit.resolve.base import Base
    from tungstenkit.resolve.solver import Solver
    from tungstenkit.spec.document import ModelSpec

_SHORT = 200  # letters of an explanation, where it is not the subject


@dataclass(frozen=True)
class Search:
    """A search for the Python that everything fits on."""

    spec: ModelSpec
    solver: Solver
    previous: Lock | None
    systems: Sequence[str]
    bases: Mapping[str, Base]
    """By system the model's base image; empty where it names none."""
    override: str | None
    """A Python version that goes before the one that the spec asks for."""

    def target(self, system: str, python: str) -> Target:
        """What is solved for."""
        return target_of(system, python, self.bases.get(system))

    def candidates(self) -> dict[str, str]:
        """The Pythons to try, in order, each with the reason for its place."""

        def debians() -> dict[str, str]:
            return candidates(self.spec, self.previous, self.override)

        found = pythons_on(self.bases, debians) if self.bases else debians()
        if self.solver.pinned is None:
            return found
        # What it is for comes first, and nothing is left out.
        wanted = self.solver.pinned.file.requires_python
        return dict(sorted(found.items(), key=lambda one: not wanted.contains(f"{one[0]}.99")))


@dataclass(frozen=True)
class Solved:
    """What was chosen for one Python, on all platforms."""

    python: str
    platforms: Mapping[str, Platform]
    choices: Sequence[Choice]
    notices: Sequence[str]


def resolve_python(search: Search) -> Solved:
    """The first candidate whose whole solve succeeds. Raises ResolveError that says of each why it failed."""
    failures: dict[str, ResolveError] = {}
    for python, reason in search.candidates().items():
        found = _attempt(search, python)
        if isinstance(found, Solved):
            return _with_reasons(search, found, reason, failures)
        failures[python] = found
    if search.spec.cuda_version is not None:
        _refuse_cuda(search, failures)
    raise _refusal(search, failures) from None


def _attempt(search: Search, python: str) -> Solved | ResolveError:
    """Solve for a Python on every platform; why nothing fits, where nothing does."""
    platforms: dict[str, Platform] = {}
    choices: dict[tuple[str, str], Choice] = {}
    told: dict[str, list[str]] = {}
    for system in search.systems:
        target = search.target(system, python)
        search.solver.report(f"solving for Python {python} on Debian {target.release}, {system}")
        try:
            platforms[system], made, said = _resolve_platform(
                search.spec, target, search.solver, search.previous, search.bases.get(system)
            )
        except ResolveError as problem:
            return problem.at(system) if len(search.systems) > 1 else problem
        for notice in said:
            told.setdefault(notice, []).append(system)
        for choice in made:
            add_choice(choices, choice, system)
    notices = [
        notice if len(where) == len(search.systems) else f"{', '.join(where)}: {notice}"
        for notice, where in told.items()
    ]
    return Solved(python, platforms, tuple(choices.values()), notices)


def _resolve_platform(
    spec: ModelSpec, target: Target, solver: Solver, previous: Lock | None, base: Base | None
) -> tuple[Platform, list[Choice], list[str]]:
    pinned = previous.platforms.get(target.system) if previous else None
    unbuildable = why_nothing_is_built(base, target)
    packages = solver.packages(target, spec.python_packages, "python_packages", pinned, unbuildable)
    python = solve_python(spec, packages, spec.cuda_version)
    wheels, sources, reasons = packages.split(whose(wheel, packages.written) for wheel in python.wheels)
    old = pinned.debs if pinned and pinned.release == target.release else ()
    image = None
    if base is None:
        debs, choices = resolve_debs(spec, target, solver, old)
    else:
        check_sources(base, target, sources)
        debs = debs_on(base, target, solver, old)
        versions = {wheel.project: wheel.version for wheel in wheels}
        versions |= {source.project: source.version for source in sources}
        # The SDK is in every image; it has no version that a lock knows.
        image = with_packages(base, versions | {OWN_WHEELS["sdk"]["name"]: ""})
        added, made = debs_in(spec, base, target, solver, pinned)
        image = image.model_copy(update={"added": added})
        choices = [*choices_on(base, target, versions), *made]
    platform = Platform(
        release=target.release,
        python=target.python,
        cuda=python.cuda,
        debs=debs,
        wheels=wheels,
        sources=sources,
        base_image=image,
    )
    return platform, [*python.choices, *reasons, *choices], python.notices


def _with_reasons(search: Search, found: Solved, reason: str, failures: Mapping[str, ResolveError]) -> Solved:
    """What was found, with why it is this Python, and what a person should know of its release.

    reason: for its place among the candidates. failures: of those before it.
    """
    python = found.python
    failed = "".join(
        f"; Python {version} failed: {_in_short(problem)}" for version, problem in failures.items()
    )
    choice = Choice(
        kind="python",
        subject="the Python version, and with it the Debian release",
        chosen=f"{python} on {'the base image' if search.bases else RELEASE_OF[python]}",
        reason=reason + failed,
    )
    kept = keep_reasons([choice, *found.choices], search.spec, search.previous)
    release = RELEASES[search.target(search.systems[0], python).release]
    notices = []
    if release.supported_until is None:
        notices.append(
            f"Python {python} is that of Debian {release.codename}, which is not final: its files are superseded "
            "within days, and this lock's are gone from the mirrors then. `tungsten fetch --to FOLDER` keeps all "
            "that a build takes, and `tungsten fetch --from FOLDER` takes it"
        )
    elif search.solver.mirrors.found.date() > release.supported_until:
        notices.append(
            f"Python {python} is that of Debian {release.codename}, which has had no security updates since "
            f"{release.supported_until}"
        )
    return replace(found, choices=tuple(kept), notices=(*notices, *found.notices))


def _refusal(search: Search, failures: Mapping[str, ResolveError]) -> ResolveError:
    """The error for a search that has found nothing: the first's, and what else was said where that is another."""
    first, *others = failures.values()
    if not search.bases and (more := _other_pythons(search, failures)):
        first = first.with_hint(more)
    if any(str(other) != str(first) for other in others):
        what = "\n".join(f"with Python {python}: {problem.what}" for python, problem in failures.items())
        return ResolveError(what, where=first.where, hint=first.hint)
    return first


def _other_pythons(search: Search, failures: Mapping[str, ResolveError]) -> str:
    """What to write for a Python that each failure says would do, and that is not taken unasked; empty for none."""
    if search.spec.python_version is not None or search.override is not None:
        return ""
    for python in sorted({*OFFICIAL} - failures.keys(), key=Version, reverse=True):
        if all(
            isinstance(problem, NothingFitsError) and _would_do(python, failed, problem.explanation)
            for failed, problem in failures.items()
        ):
            if python in RELEASE_OF:
                return f"python_version='{python}' takes Debian {RELEASE_OF[python]}, which is not final"
            return f"base_image='python:{python}-slim' has Python {python}"
    return ""


def _would_do(python: str, failed: str, explanation: str) -> bool:
    """Whether uv says that something is for a Python, and not for the one that failed: by a range, or a wheel's tag."""
    texts = re.findall(r"Python ?((?:[<>]=?\d[\d.]*(?:, *)?)+)", explanation)
    ranges = [SpecifierSet(text.rstrip(", ")) for text in texts]
    tags = {f"{major}.{minor}" for major, minor in re.findall(r"`cp(\d)(\d+)`", explanation)}
    return python in tags or any(
        one.contains(f"{python}.99") and not one.contains(f"{failed}.99") for one in ranges
    )


def _refuse_cuda(search: Search, failures: Mapping[str, ResolveError]) -> None:
    """ResolveError where it is the CUDA version that nothing fits, with the nearest that something does."""
    spec, solver, systems = search.spec, search.solver, search.systems
    for problem in failures.values():
        if isinstance(problem, CudaError):
            raise problem from None

    def works(version: str | None) -> str | None:
        for python in failures:
            try:
                found = [
                    solve_python(
                        spec,
                        solver.packages(
                            target_of(system, python), spec.python_packages, "python_packages", None
                        ),
                        version,
                    ).cuda
                    for system in systems
                ]
            except ResolveError:
                continue
            return next((cuda.version for cuda in found if cuda), None)
        return None

    solver.report(f"nothing fits CUDA {spec.cuda_version}: looking for the nearest version that works")
    working = nearest_working(str(spec.cuda_version), works) or [free for free in [works(None)] if free]
    if not working:
        # It is not CUDA's fault.
        return
    # uv's explanation is of our constraints; what else was said is of use.
    said = [
        f"\n- on Python {python}: {_in_short(problem)}"
        for python, problem in failures.items()
        if not isinstance(problem, NothingFitsError)
    ]
    raise ResolveError(
        f"no releases of python_packages fit CUDA {spec.cuda_version}, on Python {', '.join(failures)}"
        + "".join(said),
        where="cuda_version",
        hint=f"these work: {', '.join(working)}" + _own_builds(spec),
    )


def _own_builds(spec: ModelSpec) -> str:
    names = ", ".join(have_own_builds(spec.python_packages))
    index = f"an index of {names} built for CUDA {spec.cuda_version}"
    return f"; or name {index}, by --extra-index-url in python_packages" if names else ""


def _in_short(problem: ResolveError) -> str:
    """The first sentence of an explanation that may have fifty."""
    text = problem.what
    if isinstance(problem, NothingFitsError):
        # uv's own words: what it did, and the cause that it found.
        text = problem.explanation.partition("cause: ")[2] or text
    first = re.sub(r"\s+", " ", text)
    return first if len(first) <= _SHORT else first[:_SHORT].rpartition(" ")[0] + " …"
