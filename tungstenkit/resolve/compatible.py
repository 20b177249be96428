"""What of Python packages a target can use: its C library, wheels by their tags (PEP 425), and the requirements of a
METADATA that count for it (PEP 508).
"""

from __future__ import annotations

import re
from email.parser import HeaderParser
from typing import TYPE_CHECKING

from packaging.markers import UndefinedComparison
from packaging.requirements import InvalidRequirement, Requirement
from packaging.tags import Tag, compatible_tags, cpython_tags

from tungstenkit.debian.release import RELEASES
from tungstenkit.spec.requirements import project_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tungstenkit.platforms import Target

_NIXPKGS_GLIBC = {
    # At least; an older one than the true one only leaves wheels out.
    "nixos-24.11": (2, 39),
    "nixos-25.05": (2, 39),
    "nixos-25.11": (2, 39),
}
GLIBC = {name: release.glibc for name, release in RELEASES.items()} | _NIXPKGS_GLIBC
"""The C library of each Debian release and nixpkgs branch; a wheel's manylinux tag (PEP 600) may ask for this one or an
older."""

OLDEST_GLIBC = (2, 17)
"""Nearly no wheel is for an older one."""


def glibc(target: Target) -> tuple[int, int]:
    """The C library that a target's wheels run with."""
    return target.glibc or GLIBC[target.release]


def fitting_tags(target: Target) -> list[Tag]:
    """The tags of the wheels that a target can use, the most special first (PEP 425)."""
    major, minor = (int(part) for part in target.python.split("."))
    machine = target.architecture.machine
    platforms = [f"manylinux_2_{number}" for number in range(glibc(target)[1], 4, -1)]
    # The older spellings of manylinux_2_17, _2_12 and _2_5 (PEP 600).
    for tag, legacy in (("2_17", "manylinux2014"), ("2_12", "manylinux2010"), ("2_5", "manylinux1")):
        platforms.insert(platforms.index(f"manylinux_{tag}") + 1, legacy)
    platforms = [f"{platform}_{machine}" for platform in (*platforms, "linux")]
    return [
        *cpython_tags((major, minor), platforms=platforms),
        *compatible_tags((major, minor), interpreter=f"cp{major}{minor}", platforms=platforms),
    ]


def counts(requirement: Requirement, target: Target, extras: Iterable[str]) -> bool:
    """Whether a requirement of a package's is one on a target, with some of its extras."""
    marker = requirement.marker
    try:
        return marker is None or any(
            marker.evaluate(target.markers | {"extra": extra}) for extra in ("", *extras)
        )
    except UndefinedComparison:
        return False


def read_requirements(metadata: str) -> list[Requirement]:
    """What a METADATA says is required. Of a line that is no requirement, as `PyYAML (>=5.1.*)`, at least the name."""
    found = []
    # What follows the first empty line is the project's description, which may be a book.
    head = re.split(r"\r?\n\r?\n", metadata, maxsplit=1)[0]
    for text in HeaderParser().parsestr(head).get_all("Requires-Dist", []):
        specified, _, marker = text.partition(";")
        for reading in (
            text,
            re.sub(r"\.\*", "", text),
            f"{project_of(specified)} ; {marker}",
            project_of(specified),
        ):
            try:
                found.append(Requirement(reading.strip(" ;")))
                break
            except InvalidRequirement:
                continue
    return found
