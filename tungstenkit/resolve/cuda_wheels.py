"""What of CUDA is among wheels: read off their names and versions."""

from __future__ import annotations

import re
from collections import Counter, deque
from typing import TYPE_CHECKING

from packaging.version import Version

from tungstenkit.lock.packages import WISH
from tungstenkit.lock.parts import Cuda
from tungstenkit.resolve.cuda_table import known, names, stands_for

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tungstenkit.lock.packages import Wheel

_LIBRARY = re.compile(r"nvidia-(?P<name>.+?)(?P<suffix>-cu\d+)?")
_OF_MAJOR = re.compile(r"-cu(?:da)?(1\d)\d?x?(?=-|$)")
# A publisher's own build: torch 2.0.1+cu118.
_LOCAL = re.compile(r"cu(1\d)(\d)")
_NVIDIA = re.compile(r"nvidia-(?!ml-py$).+|cuda-(?:bindings|pathfinder|toolkit)|triton")


def describe(wheels: Iterable[Wheel]) -> Cuda | None:
    """What of CUDA is among the wheels; None where there is nothing."""
    wheels = tuple(wheels)
    ours = [wheel for wheel in wheels if is_cuda(wheel)]
    runtimes = [Version(w.version) for w in ours if w.project.startswith(known()["runtime"])]
    versions = [f"{v.major}.{v.minor}" for v in runtimes]
    versions += [f"{match[1]}.{match[2]}" for wheel in wheels if (match := _local(wheel))]
    versions += map(str, sorted(majors_of(wheels), reverse=True))
    # What loads no library of CUDA's that comes as a wheel says by its name what it is for.
    versions += sorted((match[1] for w in wheels if (match := _OF_MAJOR.search(w.project))), reverse=True)
    if not versions:
        return None
    version = versions[0]
    drivers = known()["driver"]
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
    if match is None or match["name"] not in known()["library"]:
        return None
    if match["suffix"]:
        return f"nvidia/{match['name'].replace('-', '_')}/lib"
    return f"nvidia/cu{version.partition('.')[0]}/lib"


def is_cuda(wheel: Wheel) -> bool:
    """Whether a wheel is NVIDIA's, or comes with such alone."""
    return is_nvidias(wheel.project)


def is_nvidias(project: str) -> bool:
    """The same of a project."""
    return bool(_NVIDIA.fullmatch(project))


def is_mixed(wheels: Iterable[Wheel]) -> bool:
    """Whether some of a family are a publisher's special builds (a local version, PEP 440), and others not."""
    family = [wheel for wheel in wheels if wheel.project in known()["local-build"]]
    return len({Version(wheel.version).local for wheel in family}) > 1


def is_for_cpu(wheel: Wheel) -> bool:
    """Whether it is a publisher's own build for the CPU."""
    return wheel.project in known()["local-build"] and Version(wheel.version).local == "cpu"


def is_special(wheel: Wheel) -> bool:
    """Whether it is a publisher's own build at all."""
    return wheel.project in known()["local-build"] and Version(wheel.version).local is not None


def majors_of(wheels: Iterable[Wheel]) -> set[int]:
    """The major versions of CUDA whose libraries are loaded."""
    return set(carriers_of(wheels))


def carriers_of(wheels: Iterable[Wheel]) -> dict[int, list[Wheel]]:
    """By the major version of CUDA the wheels that load its libraries, or are such: of the toolkit, and of frameworks.

    What is only named after one counts for nothing: it brings no runtime, or asks for one that is here as a wheel.
    """
    wheels = tuple(wheels)
    table = known()
    libraries = {wheel.project: match for wheel in wheels if (match := _LIBRARY.fullmatch(wheel.project))}
    # Of the others one build alone can be loaded: those of two majors are the same files.
    builds = Counter(match["name"] for match in libraries.values() if match["suffix"])
    carriers: dict[int, list[Wheel]] = {}
    for wheel in wheels:
        library = libraries.get(wheel.project)
        named = _OF_MAJOR.search(wheel.project)
        local = _local(wheel)
        is_loaded = wheel.project in table["framework"] or (
            library is not None
            and (
                library["name"] in table["toolkit"]
                or (library["name"] in table["library"] and builds[library["name"]] > 1)
            )
        )
        if named and is_loaded:
            carriers.setdefault(int(named[1]), []).append(wheel)
        elif wheel.project == table["runtime"]:
            carriers.setdefault(Version(wheel.version).major, []).append(wheel)
        elif local:
            carriers.setdefault(int(local[1]), []).append(wheel)
    return carriers


def brought_by(wheel: Wheel, wheels: Iterable[Wheel], requirements: Sequence[str]) -> str:
    """Who brings a wheel: the shortest way to it from what was asked for. requirements: the model's."""
    by_name = {one.project: one for one in wheels}
    paths: deque[tuple[str, ...]] = deque([(wheel.project,)])
    seen = {wheel.project}
    while paths:
        path = paths.popleft()
        for entry in by_name[path[0]].needed_by if path[0] in by_name else ():
            _, is_wish, text = entry.partition(WISH)
            if is_wish:
                asked = names([text])[0]
                is_ours = not any(
                    name == asked or stands_for(asked, name, gpu=True) for name in names(requirements)
                )
                wish = f"a rule of tungsten's own: {text}" if is_ours else entry
                return " -> ".join([wish, *(f"{name} {by_name[name].version}" for name in path[:-1])])
            if entry not in seen:
                seen.add(entry)
                paths.append((entry, *path))
    return "nobody says why"


def _local(wheel: Wheel) -> re.Match[str] | None:
    return _LOCAL.fullmatch(Version(wheel.version).local or "")
