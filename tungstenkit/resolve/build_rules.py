"""How sources are built: what is known of projects by name, and what a model's own table says.

Knowledge is data, in `build.json`: the Debian packages of every build root, the compilers, the libraries whose headers
well-known projects need, and the projects whose modules have other names.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from fnmatch import fnmatch
from importlib import resources
from typing import TYPE_CHECKING, Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tungstenkit.settings import build_settings

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tungstenkit.fetch.archives import Facts
    from tungstenkit.platforms import Target


_LAST_WITH_PKG_RESOURCES = "80.10.2"
"""Of setuptools, before the releases that only warn of its end."""


@dataclass(frozen=True)
class BuildRule:
    """What `[tool.tungsten.build.<project>]` says of a project's build."""

    debs: tuple[str, ...] = ()
    """Debian packages that it needs beside the compiler."""
    requires: tuple[str, ...] = ()
    """Build requirements that the source does not name."""
    version: str | None = None
    """For a source that does not state its version."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Variables that its build gets."""


def read_build_rules(directory: Path) -> dict[str, BuildRule]:
    """The rules in the `pyproject.toml` beside a model, by project."""
    entries: dict[str, dict[str, Any]] = {
        canonicalize_name(project): values for project, values in build_settings(directory).items()
    }
    return {
        project: BuildRule(
            debs=tuple(values.get("debs", ())),
            requires=tuple(values.get("requires", ())),
            version=values.get("version"),
            environment=values.get("environment", {}),
        )
        for project, values in entries.items()
    }


def is_never_built(project: str) -> bool:
    """Whether what the Python index has of a project's source is a stub that only fails."""
    return any(fnmatch(project, pattern) for pattern in _data()["never"])


def build_debs(project: str, facts: Facts, rule: BuildRule, target: Target) -> list[str]:
    """Names of the Debian packages that a project is built with."""
    data = _data()
    names = [*data["root"], f"python{target.python}"]
    known = [*data["projects"].get(project, ()), *rule.debs]
    if facts.compiles or known:
        names += [*data["compiler"], f"python{target.python}-dev"]
        names += [deb for deb, suffixes in data["suffixes"].items() if facts.compiles & set(suffixes)]
    return list(dict.fromkeys([*names, *known]))


def build_requires(facts: Facts, rule: BuildRule) -> list[str]:
    """What a project's build requires of the Python index."""
    stated = [*facts.build_requires, *rule.requires]
    if facts.imports_pkg_resources:
        older = Requirement(project_of_module("pkg_resources"))
        # Who asks for one release, or for one that has it no more, is believed.
        asked = [
            one.specifier for one in map(Requirement, stated) if canonicalize_name(one.name) == older.name
        ]
        if all(one.contains(_LAST_WITH_PKG_RESOURCES) for one in asked):
            stated.append(str(older))
    return stated


def project_of_module(module: str) -> str:
    """The requirement that brings a module to a build; without better knowledge, the project of its name."""
    requirement: str = _data()["modules"].get(module) or canonicalize_name(module)
    return requirement


def _data() -> dict[str, Any]:
    """What must be known of sources by name: `build.json`."""
    text = resources.files(__package__).joinpath("build.json").read_text(encoding="utf-8")
    data: dict[str, Any] = json.loads(text)
    return data
