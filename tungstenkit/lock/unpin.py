"""Pins taken out of a lock, so that what they hold may move when it is locked again."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

from packaging.utils import canonicalize_name

from tungstenkit.lock.document import packages
from tungstenkit.lock.parts import Files
from tungstenkit.sdk.errors import LockError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from tungstenkit.lock.document import Located, Lock, Place
    from tungstenkit.lock.parts import BaseImage

BASE_IMAGE = "base_image"
"""Names the base image's digest among the pins; no package is called so."""
POST_BUILD = "post_build"
"""Names its result among the pins; no package is called so."""


def unpinned(lock: Lock, names: Iterable[str]) -> Lock:
    """The lock without the pins of some of an image's packages: relocked, they may move, and what they need.

    names: of Debian packages, or of Python projects in any spelling (PEP 503), both where a name is both; of declared
        repositories, or paths of declared downloads. `POST_BUILD` is the result of that, `BASE_IMAGE` that image.

    Raises LockError for names that the image's pins do not have, all at once.
    """
    declared = lock.files
    chosen = {download.to for download in declared.downloads}
    chosen |= {repository.repository for repository in declared.repositories}
    names = tuple(names)
    moving = {BASE_IMAGE, POST_BUILD, *chosen}.intersection(names)
    spellings = {name: {name, canonicalize_name(name)} for name in names if name not in moving}
    if problems := _problems(lock, moving, spellings, chosen):
        raise LockError("\n".join(problems), hint="`tungsten lock --upgrade` takes the newest of everything")
    dropped = set().union(*spellings.values())
    platforms = {
        system: platform.model_copy(
            update={
                "debs": tuple(deb for deb in platform.debs if deb.name not in dropped),
                "wheels": tuple(wheel for wheel in platform.wheels if wheel.project not in dropped),
                "sources": tuple(source for source in platform.sources if source.project not in dropped),
                "base_image": None if BASE_IMAGE in names else _base_without(platform.base_image, dropped),
                "post_build": None if POST_BUILD in names else platform.post_build,
            }
        )
        for system, platform in lock.platforms.items()
    }
    files = Files(
        downloads=tuple(one for one in declared.downloads if one.to not in moving),
        repositories=tuple(one for one in declared.repositories if one.repository not in moving),
    )
    return lock.model_copy(update={"platforms": platforms, "files": files})


def without(lock: Lock, moving: Iterable[Located]) -> Lock:
    """The lock without the pins of some packages of images and of the server's environment."""
    gone = {(one.system, one.place, one.kind, one.name) for one in moving}
    platforms = {}
    for system, platform in lock.platforms.items():
        debs = {name for of, place, kind, name in gone if (of, place, kind) == (system, "image", "deb")}
        projects = {name for of, place, kind, name in gone if (of, place, kind) == (system, "image", "wheel")}
        platforms[system] = platform.model_copy(
            update={
                "debs": tuple(deb for deb in platform.debs if deb.name not in debs),
                "wheels": tuple(wheel for wheel in platform.wheels if wheel.project not in projects),
                "sources": tuple(source for source in platform.sources if source.project not in projects),
                "base_image": _base_without(platform.base_image, debs),
            }
        )
    server = {
        system: environment.model_copy(
            update={
                "wheels": tuple(
                    wheel
                    for wheel in environment.wheels
                    if (system, "server", "wheel", wheel.project) not in gone
                )
            }
        )
        for system, environment in lock.server.items()
    }
    return lock.model_copy(update={"platforms": platforms, "server": server})


def _base_without(image: BaseImage | None, names: set[str]) -> BaseImage | None:
    if image is None or image.added is None:
        return image
    left = tuple(deb for deb in image.added.debs if deb.name not in names)
    return image.model_copy(update={"added": image.added.model_copy(update={"debs": left})})


def _problems(
    lock: Lock, moving: set[str], spellings: Mapping[str, set[str]], declared: set[str]
) -> list[str]:
    """What is wrong with names that are to be unpinned. moving: those that are no package's."""
    names_of: dict[Place, set[str]] = {}
    for located in packages(lock):
        names_of.setdefault(located.place, set()).add(located.name)
    image = names_of.pop("image", set())
    building = names_of.pop("sources", set())
    others = set().union(*names_of.values())
    problems = []
    if BASE_IMAGE in moving and not any(platform.base_image for platform in lock.platforms.values()):
        problems.append(f"the lock has no {BASE_IMAGE}")
    if POST_BUILD in moving and not any(platform.post_build for platform in lock.platforms.values()):
        problems.append(f"the lock has no result of {POST_BUILD}")
    for name, spelt in spellings.items():
        if spelt & image:
            continue
        if spelt & building:
            problems.append(
                f"{name!r} is what a source is built with: it moves with the project of that source"
            )
        elif spelt & others:
            problems.append(f"{name!r} is the server's or a tool of builds: its pin comes with tungsten")
        else:
            problems.append(f"the lock has no package {name!r}{near(name, image | declared)}")
    return problems


def near(name: str, known: Iterable[str]) -> str:
    """`; near: …` where names are like one that is not known, for the end of a message."""
    names = difflib.get_close_matches(name, sorted(known), n=4, cutoff=0.6)
    return f"; near: {', '.join(names)}" if names else ""
