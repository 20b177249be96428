"""Which CUDA an image carries: asked of a solve, or read off its result.

CUDA comes as wheels that frameworks depend on, so a version of it is one more constraint of the same solve: no table
says which framework's release goes with which CUDA. What must be known of frameworks by name, such as the extra
that brings their CUDA wheels, and of NVIDIA's drivers, is data, in `cuda.json`. How a solve is done is the caller's
business.
"""

from __future__ import annotations

import json
import re
from collections import Counter, deque
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any, Protocol

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from tungstenkit.lock.packages import WISH
from tungstenkit.lock.parts import Choice, Cuda
from tungstenkit.sdk.errors import CudaError, NothingFitsError, ResolveError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from tungstenkit.lock.packages import Wheel

# Of a framework's rounds: which version is chosen may change with what it needs beside.
_ROUNDS = 4
_PROBES = 3

_LIBRARY = re.compile(r"nvidia-(?P<name>.+?)(?P<suffix>-cu\d+)?")
_OF_MAJOR = re.compile(r"-cu(?:da)?(1\d)\d?x?(?=-|$)")
# A publisher's own build: torch 2.0.1+cu118.
_LOCAL = re.compile(r"cu(1\d)(\d)")
_NVIDIA = re.compile(r"nvidia-(?!ml-py$).+|cuda-(?:bindings|pathfinder|toolkit)|triton")


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
    if _is_mixed(chosen.wheels):
        family = [f"{w.project} {w.version}" for w in chosen.wheels if w.project in _data()["local-build"]]
        chosen.notices.append(f"{', '.join(family)}: these are different builds, which may not load together")
    return chosen


def _for_gpu(
    solve: Solve, requirements: Sequence[str], others: Sequence[str], cuda_version: str | None
) -> Solution:
    asked = None if cuda_version is None else Asked(cuda_version)
    wheels, reason, notices = _with_cuda(_past_cpu_builds(solve, asked), requirements, others, asked)
    solution = Solution(wheels, describe(wheels), notices=notices)
    known = _data()
    for name in _names(requirements):
        if name in known["cpu-only"]:
            solution.notices.append(f"gpu=True, but {name} has no CUDA: {known['cpu-only'][name]} does")
    if solution.cuda is None:
        plain = "".join(f"; {w.project} {w.version} is a build for the CPU" for w in wheels if _is_for_cpu(w))
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
            found = [f"{wheel.project}!={wheel.version}" for wheel in wheels if _is_for_cpu(wheel)]
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


def describe(wheels: Iterable[Wheel]) -> Cuda | None:
    """What of CUDA is among the wheels; None where there is nothing."""
    wheels = tuple(wheels)
    ours = [wheel for wheel in wheels if _is_cuda(wheel)]
    runtimes = [Version(w.version) for w in ours if w.project.startswith(_data()["runtime"])]
    versions = [f"{v.major}.{v.minor}" for v in runtimes]
    versions += [f"{match[1]}.{match[2]}" for wheel in wheels if (match := _local(wheel))]
    versions += map(str, sorted(_majors(wheels), reverse=True))
    # What loads no library of CUDA's that comes as a wheel says by its name what it is for.
    versions += sorted((match[1] for w in wheels if (match := _OF_MAJOR.search(w.project))), reverse=True)
    if not versions:
        return None
    version = versions[0]
    drivers = _data()["driver"]
    return Cuda(
        version=version,
        minimum_driver=drivers["minimum"].get(version.partition(".")[0]),
        native_driver=drivers["native"].get(version),
        wheels=tuple(sorted(wheel.project for wheel in ours)),
        libraries=tuple(sorted({folder for wheel in ours if (folder := _library_folder(wheel, version))})),
    )


def _library_folder(wheel: Wheel, version: str) -> str | None:
    """Where NVIDIA's wheels have their libraries; from CUDA 13 on most share a folder."""
    match = _LIBRARY.fullmatch(wheel.project)
    if match is None or match["name"] not in _data()["library"]:
        return None
    if match["suffix"]:
        return f"nvidia/{match['name'].replace('-', '_')}/lib"
    return f"nvidia/cu{version.partition('.')[0]}/lib"


def nearest_working(asked: str, works: Callable[[str], str | None]) -> list[str]:
    """The versions next to the one asked for, an older and a newer, that a solve succeeds with.

    works: solves for a version, and says which came out; None where nothing fits. A few are tried in each direction,
        no more.
    """
    here = Version(asked)
    known = sorted(map(Version, _data()["driver"]["native"]))
    directions = (
        [v for v in reversed(known) if v < here and v.release != here.release],
        [v for v in known if v > here and not _is_part(v, here)],
    )
    found = (next(filter(None, map(works, map(str, versions[:_PROBES]))), None) for versions in directions)
    return [version for version in found if version is not None]


def have_own_builds(requirements: Iterable[str]) -> list[str]:
    """Those of the requirements' projects whose publisher has indexes of builds for single versions of CUDA."""
    return [name for name in _names(requirements) if name in _data()["local-build"]]


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
        if len(_majors(wheels)) > 1:
            raise _two_versions(wheels, requirements)
        if any(a != b for a, b in zip(asked.parts[:2], Version(cuda.version).release, strict=False)):
            # A publisher's own build may hold its CUDA in itself, where no constraint reaches it.
            raise ResolveError(f"python_packages bring CUDA {cuda.version}", where="python_packages")
        return wheels, f"cuda_version={asked.text!r}", []
    wheels = _for_major(solve, requirements, others, None, ())
    if len(_majors(wheels)) < 2:
        brought = [f"{w.project} {w.version}" for w in wheels if w.project in _data()["framework"]]
        return wheels, f"what {' and '.join(brought) or 'the packages'} can work with", []
    for major in sorted(_majors(wheels), reverse=True):
        try:
            agreed = _of_one_major(solve, requirements, others, Asked(str(major)))
        except ResolveError:
            continue
        if len(_majors(agreed)) == 1:
            newest = {wheel.project: wheel.version for wheel in wheels}
            moved = [
                f"{w.project} {w.version}, not {newest[w.project]}"
                for w in agreed
                if w.project in _names(requirements) and newest.get(w.project, w.version) != w.version
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
        for major, carriers in _carriers(wheels).items()
        for wheel in carriers
        if major != asked.major and _is_cuda(wheel)
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
    named = [_renamed(text, _aliases(major)) for text in requirements]
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
        if re.search(rf"(?<![\w.-]){re.escape(_names([rule])[0])}(?![\w.-])", explanation)
    )


def _needs(
    wheel: Wheel, major: int | None, wheels: Sequence[Wheel], requirements: Sequence[str]
) -> Iterable[str]:
    """What a framework needs beside to have its CUDA, among the others of a solution."""
    rows = [row for row in _rows(wheel.project) if row.fits(Version(wheel.version))]
    if not rows:
        return ()
    present = _majors(wheels)
    if major is None and len(present) == 1:
        # What is there anyway counts first.
        rows.sort(key=lambda row: bool(row.majors) and not present & set(row.majors))
    if major is not None:
        rows = [row for row in rows if not row.majors or major in row.majors]
        if not rows:
            raise ResolveError(
                f"{wheel.project} {wheel.version} has no build for CUDA {major} "
                f"({_brought_by(wheel, wheels, requirements)})",
                where="python_packages",
            )
    return rows[0].requires


def _constraints(solve: Solve, asked: Asked) -> list[str]:
    """What holds a solve to a CUDA version."""
    known = _data()
    runtime = known["runtime"]
    suffixes = {major: f"-cu{major}" for major in known["suffixed-majors"]}
    suffix = suffixes.get(asked.major, "")
    lines = [f"{runtime}{other}<0" for other in ("", *suffixes.values()) if other != suffix]
    if len(asked.parts) > 2:
        lines.append(f"{runtime}{suffix}=={_runtime_version(solve, asked, runtime + suffix)}")
    else:
        lines.append(f"{runtime}{suffix}=={asked.minor}")
    if len(asked.parts) > 1:
        # What is compiled at run time must suit the driver that the version was chosen for.
        lines += [f"{name}{suffix}=={asked.minor}" for name in known["toolkit-versioned"]]
    for project in known["framework"]:
        rows = [row for row in _rows(project) if not row.majors or asked.major in row.majors]
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
    carriers = sorted(_carriers(wheels).items())
    lines = [
        f"\n- CUDA {major}: {wheel.project} {wheel.version} ({_brought_by(wheel, wheels, requirements)})"
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
    builds = {name: build for name, build in _data()["cpu-build"].items() if name in _names(requirements)}
    burden = [wheel for wheel in plain if _is_cuda(wheel)]
    light = plain
    if burden or builds:
        light = (
            _cpu_builds(solve, requirements, others, plain, builds)
            or (_cpu_builds(solve, requirements, others, plain, {}) if burden else None)
            or plain
        )
    if light is not plain or not burden:
        taken = [w for w in light if w.project in builds.values() or _is_special(w)]
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
    constraints = [f"{wheel.project}<0" for wheel in plain if _is_cuda(wheel)]
    # Without this, a release from before something needed torch would do, too.
    constraints += [
        f"{builds.get(wheel.project, wheel.project)}=={wheel.version}"
        for wheel in plain
        if not _is_cuda(wheel) and wheel.project not in _data()["local-build"]
    ]
    # Older releases hold CUDA in themselves.
    constraints += [
        f"{project}>={row.since}"
        for project in _data()["local-build"]
        for row in _rows(project)
        if row.since is not None
    ]
    try:
        wheels = solve([*(_renamed(text, builds) for text in requirements), *others], constraints)
    except ResolveError:
        return None
    projects = {wheel.project for wheel in wheels}
    expected = {builds.get(wheel.project, wheel.project) for wheel in plain if not _is_cuda(wheel)}
    both = any(name in projects for name in builds)
    if not expected <= projects or both or _is_mixed(wheels):
        return None
    return wheels


def _is_mixed(wheels: Iterable[Wheel]) -> bool:
    """Whether some of a family are a publisher's special builds (a local version, PEP 440), and others not."""
    family = [wheel for wheel in wheels if wheel.project in _data()["local-build"]]
    return len({Version(wheel.version).local for wheel in family}) > 1


def _is_for_cpu(wheel: Wheel) -> bool:
    return wheel.project in _data()["local-build"] and Version(wheel.version).local == "cpu"


def _is_special(wheel: Wheel) -> bool:
    return wheel.project in _data()["local-build"] and Version(wheel.version).local is not None


# What is known


@dataclass(frozen=True, slots=True)
class _Row:
    """What a range of a framework's releases needs beside to have its CUDA."""

    since: str | None
    before: str | None
    majors: tuple[int, ...]
    """Of CUDA; empty where the requirements say it."""
    requires: tuple[str, ...]

    def fits(self, version: Version) -> bool:
        """Whether a release is in the range."""
        return (self.since is None or version >= Version(self.since)) and (
            self.before is None or version < Version(self.before)
        )


def _rows(project: str) -> list[_Row]:
    """The newest releases first."""
    return [
        _Row(
            row.get("since"), row.get("before"), tuple(row.get("majors", ())), tuple(row.get("requires", ()))
        )
        for row in _data()["framework"].get(project, ())
    ]


@cache
def _data() -> dict[str, Any]:
    text = resources.files(__package__).joinpath("cuda.json").read_text(encoding="utf-8")
    data: dict[str, Any] = json.loads(text)
    return data


def _aliases(major: int | None) -> dict[str, str]:
    """Names without builds to those of their builds."""
    return {
        name: builds[str(major)] if major is not None and str(major) in builds else builds[max(builds)]
        for name, builds in _data()["alias"].items()
    }


def adds(name: str, project: str) -> bool:
    """Whether a choice of CUDA may put a project into a solve, in the place of a requirement's or beside it.

    name: the requirement's project; empty for beside.
    """
    known = _data()
    if name and project in known["alias"].get(name, {}).values():
        return True
    texts = (text for rows in known["framework"].values() for row in rows for text in row.get("requires", ()))
    builds = {build for builds in known["alias"].values() for build in builds.values()}
    return not name and (project in builds or project in {Requirement(text).name for text in texts})


def _is_cuda(wheel: Wheel) -> bool:
    return bool(_NVIDIA.fullmatch(wheel.project))


def _majors(wheels: Iterable[Wheel]) -> set[int]:
    """The major versions of CUDA whose libraries are loaded."""
    return set(_carriers(wheels))


def _carriers(wheels: Iterable[Wheel]) -> dict[int, list[Wheel]]:
    """By the major version of CUDA the wheels that load its libraries, or are such: of the toolkit, and of frameworks.

    What is only named after one counts for nothing: it brings no runtime, or asks for one that is here as a wheel.
    """
    wheels = tuple(wheels)
    known = _data()
    libraries = {wheel.project: match for wheel in wheels if (match := _LIBRARY.fullmatch(wheel.project))}
    # Of the others one build alone can be loaded: those of two majors are the same files.
    builds = Counter(match["name"] for match in libraries.values() if match["suffix"])
    carriers: dict[int, list[Wheel]] = {}
    for wheel in wheels:
        library = libraries.get(wheel.project)
        named = _OF_MAJOR.search(wheel.project)
        local = _local(wheel)
        is_loaded = wheel.project in known["framework"] or (
            library is not None
            and (
                library["name"] in known["toolkit"]
                or (library["name"] in known["library"] and builds[library["name"]] > 1)
            )
        )
        if named and is_loaded:
            carriers.setdefault(int(named[1]), []).append(wheel)
        elif wheel.project == known["runtime"]:
            carriers.setdefault(Version(wheel.version).major, []).append(wheel)
        elif local:
            carriers.setdefault(int(local[1]), []).append(wheel)
    return carriers


def _brought_by(wheel: Wheel, wheels: Iterable[Wheel], requirements: Sequence[str]) -> str:
    """Who brings a wheel: the shortest way to it from what was asked for. requirements: the model's."""
    by_name = {one.project: one for one in wheels}
    paths: deque[tuple[str, ...]] = deque([(wheel.project,)])
    seen = {wheel.project}
    while paths:
        path = paths.popleft()
        for entry in by_name[path[0]].needed_by if path[0] in by_name else ():
            _, is_wish, text = entry.partition(WISH)
            if is_wish:
                asked = _names([text])[0]
                is_ours = not any(name == asked or adds(name, asked) for name in _names(requirements))
                wish = f"a rule of tungsten's own: {text}" if is_ours else entry
                return " -> ".join([wish, *(f"{name} {by_name[name].version}" for name in path[:-1])])
            if entry not in seen:
                seen.add(entry)
                paths.append((entry, *path))
    return "nobody says why"


def _local(wheel: Wheel) -> re.Match[str] | None:
    return _LOCAL.fullmatch(Version(wheel.version).local or "")


def _names(requirements: Iterable[str]) -> list[str]:
    return [canonicalize_name(r.name) for r in _parsed(requirements)]


def _parsed(requirements: Iterable[str]) -> Iterator[Requirement]:
    for text in requirements:
        try:
            yield Requirement(text)
        except InvalidRequirement:
            # Of another form, such as a path: nothing that is known here by name.
            continue


def _renamed(text: str, names: Mapping[str, str]) -> str:
    for requirement in _parsed([text]):
        if (name := names.get(canonicalize_name(requirement.name))) and requirement.url is None:
            requirement.name = name
            return str(requirement)
    return text
