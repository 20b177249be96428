"""What is solved for: which platforms, which Pythons in which order, and of which Debian release each of those is."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from packaging.version import Version

from tungstenkit.debian.release import FINAL_OF, RELEASE_OF, TOOLS_RELEASE
from tungstenkit.lock.stale import input_digest
from tungstenkit.platforms import ARCHITECTURES, Target, this_system
from tungstenkit.resolve.base import libc_version
from tungstenkit.sdk.errors import ResolveError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tungstenkit.lock.document import Lock
    from tungstenkit.resolve.base import Base
    from tungstenkit.spec.document import ModelSpec

NEWEST_FIRST = sorted(FINAL_OF, key=Version, reverse=True)
OFFICIAL = [f"3.{minor}" for minor in range(9, 15)]
"""The Pythons whose own images, `python:3.12-slim`, a model can stand on."""


def chosen_systems(asked: Iterable[str], previous: Lock | None) -> list[str]:
    """The platforms to lock: those asked for, else the lock's, else this machine's; ResolveError as `resolve`."""
    systems = sorted({*asked} or (previous.platforms if previous else {this_system()}))
    if unknown := [system for system in systems if system not in ARCHITECTURES]:
        raise ResolveError(
            f"no image can be made for {', '.join(unknown)}",
            where="--platform",
            hint=f"there are {', '.join(ARCHITECTURES)}",
        )
    return systems


def target_of(system: str, python: str, base: Base | None = None) -> Target:
    """A platform and a Python as solves know them. base: the base image on that platform."""
    libc = base.image.libc if base and base.image.python else None
    # A base image may have a Python that no final release has; builds run the tools then, and nothing else of Debian.
    known = FINAL_OF if base and base.image.python else RELEASE_OF
    return Target(system, known.get(python, TOOLS_RELEASE), python, libc_version(libc) if libc else None)


def candidates(spec: ModelSpec, previous: Lock | None, override: str | None) -> dict[str, str]:
    """Python versions to try, in order, each with the reason for its place."""
    if override is not None:
        # As the spec has it: the patch version is Debian's.
        return _fitting(".".join(override.split(".")[:2]), "--python")
    kept = {}
    if previous is not None:
        # With the reason that it was chosen for: relocking alone changes nothing.
        reasons = (choice.reason for choice in previous.choices if choice.kind == "python")
        # One Python for all platforms.
        (python,) = {platform.python for platform in previous.platforms.values()}
        kept[python] = next(reasons, "kept from the lock before")
    if spec.python_version is not None:
        fitting = _fitting(spec.python_version, "python_version")
        # What `--python` chose stands until the model asks for something else.
        asks_the_same = previous is not None and previous.input_digest == input_digest(spec, "debian")
        kept = {python: why for python, why in kept.items() if python in fitting or asks_the_same}
        return kept | {python: why for python, why in fitting.items() if python not in kept}
    here = f"{sys.version_info.major}.{sys.version_info.minor}"
    if here in FINAL_OF:
        kept.setdefault(here, "the Python that made the lock")
    for python in NEWEST_FIRST:
        kept.setdefault(python, "the newest that fits")
    return kept


def _fitting(asked: str, where: str) -> dict[str, str]:
    """The Pythons that a version, `3` or `3.11`, allows."""
    fitting = [python for python in NEWEST_FIRST if f"{python}.".startswith(f"{asked}.")]
    if asked in RELEASE_OF:
        fitting = [asked]
    if not fitting:
        available = ", ".join(f"{python} ({name})" for python, name in RELEASE_OF.items())
        other = f"a base_image may have another, and so has `--package-set nixpkgs`; Debian has {available}"
        if asked in OFFICIAL:
            other = (
                f"Python's own image has it: write base_image='python:{asked}-slim' in define_model. Debian has "
                f"{available}; `--package-set nixpkgs` has others, too"
            )
        raise ResolveError(
            f"Python {asked} is in no Debian release that images are made of", where=where, hint=other
        )
    return dict.fromkeys(fitting, f"{where}={asked!r}")
