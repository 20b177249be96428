"""What must be known of CUDA's packages by name, and of NVIDIA's drivers: the data in `cuda.json`.

It is asked by projects' names, which requirements have in many spellings.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping


@cache
def known() -> dict[str, Any]:
    """All of it, by subject."""
    text = resources.files(__package__).joinpath("cuda.json").read_text(encoding="utf-8")
    data: dict[str, Any] = json.loads(text)
    return data


@dataclass(frozen=True, slots=True)
class Row:
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


def rows_of(project: str) -> list[Row]:
    """The newest releases first."""
    return [
        Row(row.get("since"), row.get("before"), tuple(row.get("majors", ())), tuple(row.get("requires", ())))
        for row in known()["framework"].get(project, ())
    ]


def aliases(major: int | None) -> dict[str, str]:
    """Names without builds to those of their builds."""
    return {
        name: builds[str(major)] if major is not None and str(major) in builds else builds[max(builds)]
        for name, builds in known()["alias"].items()
    }


def stands_for(project: str, name: str, *, gpu: bool) -> bool:
    """Whether a project's builds may take a requirement's place: for CUDA where there is a GPU, else for the CPU.

    name: the requirement's project.
    """
    if gpu:
        return project in known()["alias"].get(name, {}).values()
    build: str | None = known()["cpu-build"].get(name)
    return project == build


def adds(project: str) -> bool:
    """Whether a choice of CUDA may put a project into a solve, beside what is required."""
    table = known()
    texts = (text for rows in table["framework"].values() for row in rows for text in row.get("requires", ()))
    builds = {build for builds in table["alias"].values() for build in builds.values()}
    return project in builds or project in {Requirement(text).name for text in texts}


def have_own_builds(requirements: Iterable[str]) -> list[str]:
    """Those of the requirements' projects whose publisher has indexes of builds for single versions of CUDA."""
    return [name for name in names(requirements) if name in known()["local-build"]]


def names(requirements: Iterable[str]) -> list[str]:
    """The projects of requirements that name one."""
    return [canonicalize_name(r.name) for r in _parsed(requirements)]


def _parsed(requirements: Iterable[str]) -> Iterator[Requirement]:
    for text in requirements:
        try:
            yield Requirement(text)
        except InvalidRequirement:
            # Of another form, such as a path: nothing that is known here by name.
            continue


def renamed(text: str, builds: Mapping[str, str]) -> str:
    """A requirement with the name of a build in the place of its own. builds: by project."""
    for requirement in _parsed([text]):
        if (name := builds.get(canonicalize_name(requirement.name))) and requirement.url is None:
            requirement.name = name
            return str(requirement)
    return text
