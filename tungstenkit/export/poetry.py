"""A lock's wheels as a Poetry project, `pyproject.toml` and `poetry.lock`: the form in which poetry2nix takes them.

The project is flat: every package is a direct dependency at its exact version, with one wheel and that wheel's hash,
so nothing is left to be solved. Where bytes come from is not in it; a build takes each file by its hash.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import tomli_w

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tungstenkit.lock.packages import Wheel

_LOCK_VERSION = "2.1"
"""Poetry's since 2.0; what it added to 2.0 is read by Poetry alone."""


def project(name: str, python: str, wheels: Iterable[Wheel]) -> dict[str, str]:
    """The two files' texts, by name.

    name: the project's; it may be no package's. python: CPython's version, such as `3.11`. wheels: one of each project.
    """
    wheels = sorted(wheels, key=lambda wheel: wheel.project)
    dependencies = {"python": f"~{python}"} | {wheel.project: _version(wheel) for wheel in wheels}
    pyproject = {
        "tool": {
            "poetry": {
                "name": name,
                # It is a list of packages, and none itself.
                "package-mode": False,
                "dependencies": dependencies,
            }
        }
    }
    lock = {
        "package": [
            {
                "name": wheel.project,
                "version": _version(wheel),
                # Poetry wants one.
                "description": "",
                "optional": False,
                # That the wheel fits this Python is what locking has found out.
                "python-versions": "*",
                "groups": ["main"],
                "files": [{"file": wheel.file, "hash": f"sha256:{wheel.sha256}"}],
            }
            for wheel in wheels
        ],
        "metadata": {
            "lock-version": _LOCK_VERSION,
            "python-versions": dependencies["python"],
            "content-hash": _content_hash(dependencies),
        },
    }
    return {
        "pyproject.toml": _written(pyproject),
        "poetry.lock": _written(lock),
    }


def _written(document: dict[str, Any]) -> str:
    return f"# Written by tungsten from tungsten.lock.\n{tomli_w.dumps(document)}"


def _version(wheel: Wheel) -> str:
    """The version as the file's name spells it (PEP 427): poetry2nix looks for it there."""
    return wheel.file.split("-")[1]


def _content_hash(dependencies: dict[str, str]) -> str:
    """What `poetry check --lock` compares: of those parts of `[tool.poetry]` that decide what is locked."""
    relevant = {"dependencies": dependencies, "dev-dependencies": None, "extras": None, "source": None}
    return hashlib.sha256(json.dumps(relevant, sort_keys=True).encode()).hexdigest()
