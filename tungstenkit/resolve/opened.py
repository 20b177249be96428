"""What packages open and start by name, which can't be read from their files: a table of common projects."""

from __future__ import annotations

import json
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator


class Start(NamedTuple):
    """A project that starts a program which an image has not."""

    project: str
    package: str
    """Debian's, that has the program."""
    why: str

    def __str__(self) -> str:
        """What a user is told."""
        return (
            f"{self.project} starts {self.package} {self.why}: where you use that, add it to system_packages"
        )


def missing_programs(projects: Iterable[str], debs: Container[str]) -> Iterator[Start]:
    """The programs that projects start, as far as the table knows them, and that none of the packages has."""
    for project in projects:
        for package, why in opened(project).get("programs", {}).items():
            if package not in debs:
                yield Start(project, package, why)


def opened(project: str) -> dict[str, Any]:
    """What is known of a project: `libraries`, patterns, and `programs`, by Debian's package why it is started."""
    return dict(_table().get(project, {}))


@cache
def _table() -> dict[str, Any]:
    text = resources.files(__package__).joinpath("opened_libraries.json").read_text(encoding="utf-8")
    return dict(json.loads(text)["projects"])
