"""Which CUDA an image carries: asked of a solve, or read off its result.

CUDA comes as wheels that frameworks depend on, so a version of it is one more constraint of the same solve: no table
says which framework's release goes with which CUDA. What must be known of frameworks by name, such as the extra
that brings their CUDA wheels, is in `cuda_table`; what of CUDA is among wheels, `cuda_wheels` reads. How a solve is
done is the caller's business.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from packaging.version import Version

from tungstenkit.lock.parts import Choice, Cuda
from tungstenkit.resolve.cuda_table import aliases, known, names, renamed, rows_of
from tungstenkit.resolve.cuda_wheels import (
    brought_by,
    carriers_of,
    describe,
    is_cuda,
    is_for_cpu,
    is_mixed,
    is_special,
    majors_of,
)
from tungstenkit.sdk.errors import CudaError, NothingFitsError, ResolveError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from tungstenkit.lock.packages import Wheel

# Of a framework's rounds: which version is chosen may change with what it needs beside.
_ROUNDS = 4
_PROBES = 3


class Solve(Protocol):
    """Requirements and constraints (PEP 508) to wheels."""

    def __call__(self, requirements: Sequence[str], constraints: Sequence[str]) -> tuple[Wheel, ...]:
        """Raise ResolveError where nothing fits."""


@dataclass
class Solution:
    """The wheels, what of CUDA is among them, and what a person should know."""

    wheels: tuple[Wheel, ...]
    cuda: Cuda | None = None
    choices: list[Choice] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Asked:
    """A CUDA version as a model asks for it."""

    text: str

    @property
    def parts(self) -> tuple[int, ...]:
        """Major, minor, patch; as many as were given."""
        return tuple(int(part) for part in self.text.split("."))

    @property
    def major(self) -> int:
        """The major version."""
        return self.parts[0]

    @property
    def minor(self) -> str:
        """As a version specifier has it: `12.4.*`, or `12.*` where every minor version will do."""
        return ".".join(map(str, self.parts[:2])) + ".*"


def solve_wheels(
    solve: Solve, requirements: Sequence[str], others: Sequence[str], *, gpu: bool, cuda_version: str | None
) -> Solution:
    """Solve a model's requirements, with CUDA or without.

    others: requirements that are not the model's.
    cuda_version: `MAJOR[.MINOR[.PATCH]]`; None leaves it to what fits.

    Raises ResolveError where nothing fits.
    """
    chosen = (
        _for_gpu(solve, requirements, others, cuda_version)
        if gpu
        else _without_cuda(solve, requirements, others)
    )
    if is_mixed(chosen.wheels):
        family = [f"{w.project} {w.version}" for w in chosen.wheels if w.project in known()["local-build"]]
        chosen.notices.append(f"{', '.join(family)}: these are different builds, which may not load together")
    return chosen


def _for_gpu(
    solve: Solve, requirements: Sequence[str], others: Sequence[str], cuda_version: str | None
) -> Solution:
    asked = None if cuda_version is None else Asked(cuda_version)
    wheels, reason, notices = _with_cuda(_past_cpu_builds(solve, asked), requirements, others, asked)
    solution = Solution(wheels, describe(wheels), notices=notices)
    table = known()
    for name in names(requirements):
        if name in table["cpu-only"]:
            solution.notices.append(f"gpu=True, but {name} has no CUDA: {table['cpu-only'][name]} does")
    if solution.cuda is None:
        plain = "".join(f"; {w.project} {w.version} is a build for the CPU" for w in wheels if is_for_cpu(w))
        solution.notices.append(f"gpu=True, but no package of python_packages brings CUDA{plain}")
    else:
        solution.choices.append(
            Choice(kind="cuda", subject="the CUDA version", chosen=solution.cuda.version, reason=reason)
        )
    return solution


def _past_cpu_builds(solve: Solve, asked: Asked | None) -> Solve:
    """The same solve without publishers' builds for the CPU, which no constraint on CUDA's wheels reaches.

    Where nothing else fits they are taken, unless a version of CUDA is asked for.
    """

    def past(requirements: Sequence[str], constraints: Sequence[str]) -> tuple[Wheel, ...]:
        wheels = solve(requirements, constraints)
        barred: list[str] = []
        for _ in range(_ROUNDS):
            found = [f"{wheel.project}!={wheel.version}" for wheel in wheels if is_for_cpu(wheel)]
            if not found:
                break
            barred += found
            try:
                wheels = solve(requirements, [*constraints, *barred])
            except ResolveError:
                if asked is not None:
                    raise
                break
        return wheels

    return past


def nearest_working(asked: str, works: Callable[[str], str | None]) -> list[str]:
    """The versions next to the one asked for, an older and a newer, that a solve succeeds with.

    works: solves for a version, and says which came out; None where nothing fits. A few are tried in each direction,
        no more.
    """
    here = Version(asked)
    versions = sorted(map(Version, known()["driver"]["native"]))
    directions = (
        [v for v in reversed(versions) if v < here and v.release != here.release],
        [v for v in versions if v > here and not _is_part(v, here)],
    )
    found = (next(filter(None, map(works, map(str, nearest[:_PROBES]))), None) for nearest in directions)
    return [version for version in found if version is not None]


def _is_part(version: Version, of: Version) -> bool:
    return version.release[: len(of.release)] == of.release


# With CUDA


def _with_cuda(
    solve: Solve, requirements: Sequence[str], others: Sequence[str], asked: Asked | None
) -> tuple[tuple[Wheel, ...], str, list[str]]:
    """The wheels, why it is this CUDA, and what a person should know."""
    if asked is not None:
        wheels = _of_one_major(solve, requirements, others, asked)
        cuda = describe(wheels)
        if cuda is None:
            raise CudaError(
                f"cuda_version is {asked.text!r}, but no package of python_packages brings CUDA",
                where="cuda_version",
                hint="leave it out, or name the package's build for CUDA",
            )
        if len(majors_of(wheels)) > 1:
            raise _two_versions(wheels, requirements)
        if any(a != b for a, b in zip(asked.parts[:2], Version(cuda.version).release, strict=False)):
            # A publisher's own build may hold its CUDA in itself, where no constraint reaches it.
            raise ResolveError(f"python_packages bring CUDA {cuda.version}", where="python_packages")
        return wheels, f"cuda_version={asked.text!r}", []
    wheels = _for_major(solve, requirements, others, None, ())
    if len(majors_of(wheels)) < 2:
        brought = [f"{w.project} {w.version}" for w in wheels if w.project in known()["framework"]]
        return wheels, f"what {' and '.join(brought) or 'the packages'} can work with", []
    for major in sorted(majors_of(wheels), reverse=True):
        try:
            agreed = _of_one_major(solve, requirements, others, Asked(str(major)))
        except ResolveError:
            continue
        if len(majors_of(agreed)) == 1:
            newest = {wheel.project: wheel.version for wheel in wheels}
            moved = [
                f"{w.project} {w.version}, not {newest[w.project]}"
                for w in agreed
                if w.project in names(requirements) and newest.get(w.project, w.version) != w.version
            ]
            notice = f"the newest releases bring different versions of CUDA; for {major}: {'; '.join(moved)}"
            reason = f"the newest major version that all packages can work with ({'; '.join(moved)})"
            return agreed, reason if moved else reason.partition(" (")[0], [notice] if moved else []
    raise _two_versions(wheels, requirements)


def _of_one_major(
    solve: Solve, requirements: Sequence[str], others: Sequence[str], asked: Asked
) -> tuple[Wheel, ...]:
    """Solve for a version, with older releases of what brings another major version beside it."""
    constraints = _constraints(solve, asked)
    wheels = _for_major(solve, requirements, others, asked.major, constraints)
    barred = [
        f"{wheel.project}<0"
        for major, carriers in carriers_of(wheels).items()
        for wheel in carriers
        if major != asked.major and is_cuda(wheel)
    ]
    if not barred:
        return wheels
    try:
        return _for_major(solve, requirements, others, asked.major, [*constraints, *barred])
    except ResolveError:
        return wheels


def _for_major(
    solve: Solve,
    requirements: Sequence[str],
    others: Sequence[str],
    major: int | None,
    constraints: Sequence[str],
) -> tuple[Wheel, ...]:
    """Solve, and solve again with what frameworks need beside, until that changes nothing."""
    named = [renamed(text, aliases(major)) for text in requirements]
    needs: dict[str, str] = {}
    for _ in range(_ROUNDS):
        try:
            wheels = solve([*named, *others, *sorted(needs)], constraints)
        except NothingFitsError as problem:
            limits = dict.fromkeys(constraints, f"holds the solve to CUDA {major}")
            raise problem.reworded(problem.what + _called_ours(problem.explanation, limits | needs)) from None
        found = {
            text: f"is what {wheel.project} {wheel.version} needs for CUDA, and does not declare"
            for wheel in wheels
            for text in _needs(wheel, major, wheels, requirements)
        }
        if found.keys() == needs.keys():
            return wheels
        needs = found
    raise ResolveError(
        "the packages that bring CUDA don't settle on versions",
        where="python_packages",
        hint=f"pin one of them: {', '.join(sorted(needs))}",
    )


def _called_ours(explanation: str, rules: Mapping[str, str]) -> str:
    """Of what an explanation names as required a line for each rule that nobody wrote but tungsten: what it is for."""
    return "".join(
        f"\n{rule} is a rule of tungsten's own: it {why}"
        for rule, why in rules.items()
        if re.search(rf"(?<![\w.-]){re.escape(names([rule])[0])}(?![\w.-])", explanation)
    )


def _needs(
    wheel: Wheel, major: int | None, wheels: Sequence[Wheel], requirements: Sequence[str]
) -> Iterable[str]:
    """What a framework needs beside to have its CUDA, among the others of a solution."""
    rows = [row for row in rows_of(wheel.project) if row.fits(Version(wheel.version))]
    if not rows:
        return ()
    present = majors_of(wheels)
    if major is None and len(present) == 1:
        # What is there anyway counts first.
        rows.sort(key=lambda row: bool(row.majors) and not present & set(row.majors))
    if major is not None:
        rows = [row for row in rows if not row.majors or major in row.majors]
        if not rows:
            raise ResolveError(
                f"{wheel.project} {wheel.version} has no build for CUDA {major} "
                f"({brought_by(wheel, wheels, requirements)})",
                where="python_packages",
            )
    return rows[0].requires


def _constraints(solve: Solve, asked: Asked) -> list[str]:
    """What holds a solve to a CUDA version."""
    table = known()
    runtime = table["runtime"]
    suffixes = {major: f"-cu{major}" for major in table["suffixed-majors"]}
    suffix = suffixes.get(asked.major, "")
    lines = [f"{runtime}{other}<0" for other in ("", *suffixes.values()) if other != suffix]
    if len(asked.parts) > 2:
        lines.append(f"{runtime}{suffix}=={_runtime_version(solve, asked, runtime + suffix)}")
    else:
        lines.append(f"{runtime}{suffix}=={asked.minor}")
    if len(asked.parts) > 1:
        # What is compiled at run time must suit the driver that the version was chosen for.
        lines += [f"{name}{suffix}=={asked.minor}" for name in table["toolkit-versioned"]]
    for project in table["framework"]:
        rows = [row for row in rows_of(project) if not row.majors or asked.major in row.majors]
        # Releases that declare no CUDA wheels would satisfy every constraint on them.
        if rows and rows[-1].since:
            lines.append(f"{project}>={rows[-1].since}")
        if rows and rows[0].before:
            lines.append(f"{project}<{rows[0].before}")
    return lines


def _runtime_version(solve: Solve, asked: Asked, runtime: str) -> str:
    """The runtime's own version in a release of the toolkit, as NVIDIA's package of the toolkit declares it."""
    try:
        wheels = solve([f"cuda-toolkit[cudart]=={asked.text}"], ())
    except ResolveError as problem:
        raise CudaError(
            f"there is no CUDA {asked.text}: {problem.what}",
            where="cuda_version",
            hint=f"leave the last part out: {asked.minor.removesuffix('.*')}",
        ) from None
    return next(wheel.version for wheel in wheels if wheel.project == runtime)


def _two_versions(wheels: Sequence[Wheel], requirements: Sequence[str]) -> ResolveError:
    """What is wrong with two major versions of CUDA: which wheels are of which, and who brings them."""
    carriers = sorted(carriers_of(wheels).items())
    lines = [
        f"\n- CUDA {major}: {wheel.project} {wheel.version} ({brought_by(wheel, wheels, requirements)})"
        for major, carrying in carriers
        for wheel in carrying
    ]
    return ResolveError(
        f"two versions of CUDA in one image: {' and '.join(str(major) for major, _ in carriers)}"
        + "".join(lines),
        where="python_packages",
        hint="choose releases that are built for the same major version of CUDA",
    )


# Without


def _without_cuda(solve: Solve, requirements: Sequence[str], others: Sequence[str]) -> Solution:
    """Solve with builds for the CPU where there are any."""
    plain = solve([*requirements, *others], ())
    builds = {name: build for name, build in known()["cpu-build"].items() if name in names(requirements)}
    burden = [wheel for wheel in plain if is_cuda(wheel)]
    light = plain
    if burden or builds:
        light = (
            _cpu_builds(solve, requirements, others, plain, builds)
            or (_cpu_builds(solve, requirements, others, plain, {}) if burden else None)
            or plain
        )
    if light is not plain or not burden:
        taken = [w for w in light if w.project in builds.values() or is_special(w)]
        if not taken:
            return Solution(light)
        chosen = ", ".join(f"{wheel.project} {wheel.version}" for wheel in taken)
        return Solution(
            light,
            choices=[Choice(kind="cuda", subject="gpu=False", chosen=chosen, reason="builds for the CPU")],
        )
    size = sum(wheel.size for wheel in burden) / 1e9
    price = f"{size:.1f} GB of CUDA, in {len(burden)} wheel{'s' if len(burden) > 1 else ''}"
    choice = Choice(
        kind="cuda",
        subject="gpu=False",
        chosen=price,
        reason="the package indexes that this machine knows have no builds for the CPU",
    )
    notice = (
        f"gpu=False, but the only builds to be had bring {price}; for torch, name its publisher's index of builds "
        "for the CPU as `extra-index-url` in pip's configuration"
    )
    return Solution(plain, describe(plain), [choice], [notice])


def _cpu_builds(
    solve: Solve,
    requirements: Sequence[str],
    others: Sequence[str],
    plain: tuple[Wheel, ...],
    builds: Mapping[str, str],
) -> tuple[Wheel, ...] | None:
    """A solution without CUDA that has all else of the plain one; None where there is none."""
    constraints = [f"{wheel.project}<0" for wheel in plain if is_cuda(wheel)]
    # Without this, a release from before something needed torch would do, too.
    constraints += [
        f"{builds.get(wheel.project, wheel.project)}=={wheel.version}"
        for wheel in plain
        if not is_cuda(wheel) and wheel.project not in known()["local-build"]
    ]
    # Older releases hold CUDA in themselves.
    constraints += [
        f"{project}>={row.since}"
        for project in known()["local-build"]
        for row in rows_of(project)
        if row.since is not None
    ]
    try:
        wheels = solve([*(renamed(text, builds) for text in requirements), *others], constraints)
    except ResolveError:
        return None
    projects = {wheel.project for wheel in wheels}
    expected = {builds.get(wheel.project, wheel.project) for wheel in plain if not is_cuda(wheel)}
    both = any(name in projects for name in builds)
    if not expected <= projects or both or is_mixed(wheels):
        return None
    return wheels
