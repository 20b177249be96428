"""What a base image means for a solve: which Python, which C library, which Debian packages beside it.

Everything here is a function of what is known of the image; `base_image` reads it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tungstenkit.debian.release import FINAL_OF, RELEASE_OF, RELEASES
from tungstenkit.lock.parts import Choice
from tungstenkit.resolve.compatible import GLIBC
from tungstenkit.sdk.errors import ResolveError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from tungstenkit.lock.packages import Source
    from tungstenkit.lock.parts import BaseImage
    from tungstenkit.platforms import Target
    from tungstenkit.resolve.base_debs import BaseSystem

KIND = "base-image"
"""Of the choices that are made here."""
_WHERE = "base_image"
_NAMES_PROGRAMS = (2, 33)
"""The first C library whose loader can tell a program its name (`ld.so --argv0`)."""


@dataclass(frozen=True)
class Base:
    """A base image for one platform, as a solve and a scan need it."""

    image: BaseImage
    version: str | None
    """Of its Python, `3.11`; None where it gets ours."""
    reason: str
    """Why that is so."""
    distributions: Mapping[str, str]
    """The versions of the packages that its Python has, by project."""
    libraries: frozenset[str]
    """The names of the shared libraries that its loader finds."""
    left: tuple[str, ...]
    """What its configuration says and a model's image does not take over."""
    system: BaseSystem
    """Whether Debian packages can be installed into it, and on top of what."""


def libc_version(text: str) -> tuple[int, int]:
    """`2.36` as numbers."""
    major, _, minor = text.partition(".")
    return int(major), int(minor)


def pythons_on(bases: Mapping[str, Base], candidates: Callable[[], Mapping[str, str]]) -> dict[str, str]:
    """The Python versions to try on base images, in order, each with the reason for its place.

    bases: by system. candidates: gives the versions to try where they have none, with their reasons.

    Raises ResolveError where there is none.
    """
    found = {system: base.version for system, base in bases.items()}
    first = next(iter(bases.values()))
    if len(set(found.values())) > 1:
        each = ", ".join(f"{version or 'none'} on {system}" for system, version in found.items())
        raise ResolveError(
            f"the base image has not the same Python on each platform: {each}",
            where=_WHERE,
            hint="name a python_version that all have, or lock one platform",
        )
    if first.version is not None:
        return {first.version: first.reason}
    # Its libraries, such as CUDA's, are loaded into our Python, whose loader must know what they ask for.
    needed = max(_NAMES_PROGRAMS, *(libc_version(base.image.libc or "2.0") for base in bases.values()))
    tried = candidates()
    fitting = {
        python: f"{reason}; {first.reason}"
        for python, reason in tried.items()
        if GLIBC[RELEASE_OF[python]] >= needed
    }
    if not fitting:
        have = ", ".join(f"{'.'.join(map(str, GLIBC[RELEASE_OF[one]]))} for Python {one}" for one in tried)
        raise ResolveError(
            f"{first.reason}, and beside it a C library of {'.'.join(map(str, needed))} or newer is needed: "
            f"Debian's is {have}",
            where=_WHERE,
            hint="take a base image with a Python of its own, or an older one, or ask for another python_version",
        )
    return fitting


def groups_on(base: Base, target: Target) -> dict[str, list[str]]:
    """The Debian packages that stand beside a base image: `base`, of which a few files are taken, and `python`."""
    alone = ["tini"]
    if base.image.certificates is None:
        alone.append("ca-certificates")
    if base.image.python is not None:
        return {"base": alone}
    # What starts our Python needs a shell, and a base may have none. Wheels may take the libraries from the system.
    return {
        "base": [*alone, "busybox-static"],
        "python": [f"python{target.python}", "libgomp1", "libstdc++6", "zlib1g"],
    }


def with_packages(base: Base, versions: Mapping[str, str]) -> BaseImage:
    """The base image under a model's own packages. versions: theirs, by project."""
    python = base.image.python
    if python is None:
        return base.image
    replaces = tuple(sorted(base.distributions.keys() & versions.keys()))
    return base.image.model_copy(update={"python": python.model_copy(update={"replaces": replaces})})


def choices_on(base: Base, target: Target, versions: Mapping[str, str]) -> list[Choice]:
    """What to tell of a base image, beside the choice of Python. versions: of the model's packages, by project."""
    choices = [
        Choice(
            kind=KIND,
            subject=base.image.reference,
            chosen=base.image.digest,
            reason="what it named when it was locked; `tungsten lock -P base_image` asks again",
        )
    ]
    choices += [
        Choice(
            kind=KIND,
            subject=project,
            chosen=versions[project],
            reason=f"it takes the place of {version}, which the base image has",
        )
        for project, version in sorted(base.distributions.items())
        if versions.get(project, version) != version
    ]
    if base.image.python is not None and target.python not in FINAL_OF:
        choices.append(
            Choice(
                kind=KIND,
                subject="byte-code",
                chosen="none",
                reason=f"no Debian release has Python {target.python}: Python compiles packages as it starts",
            )
        )
    return choices


def loadable_on(image: BaseImage | None, target: Target) -> Target | None:
    """The target with the newest Debian release whose libraries every program of an image can load.

    image: None without a base image. None where no release's can.
    """
    if image is None or image.libc is None:
        return target
    newest = min(libc_version(image.libc), GLIBC[target.release])
    fitting = [name for name, release in RELEASES.items() if release.is_final and GLIBC[name] <= newest]
    return replace(target, release=max(fitting, key=GLIBC.__getitem__)) if fitting else None


def why_nothing_is_built(base: Base | None, target: Target) -> str | None:
    """Why what is built from source would not run on a base image; None where it would."""
    if base is None or base.image.python is None:
        return None
    if target.python not in FINAL_OF:
        return f"no Debian release has Python {target.python} to build with"
    if GLIBC[target.release] > libc_version(base.image.libc or "2.0"):
        newer = ".".join(map(str, GLIBC[target.release]))
        return f"a build would be for the C library {newer}, and the base image has {base.image.libc}"
    return None


def check_sources(base: Base, target: Target, sources: Sequence[Source]) -> None:
    """ResolveError where something must be built from source, and the result would not run on the base image."""
    problem = why_nothing_is_built(base, target)
    if not sources or problem is None:
        return
    names = ", ".join(source.project for source in sources)
    raise ResolveError(
        f"{names}: there are no wheels, and {problem}",
        where="python_packages",
        hint="ask for versions that have wheels, or take another base image",
    )
