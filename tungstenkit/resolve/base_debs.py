"""Debian packages that are installed into a base image: whether that can be, and on top of what.

What is installed there is read from the image's os-release and dpkg's status, as data; nothing of the image runs.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tungstenkit.debian.archive import Present
from tungstenkit.debian.control import stanzas
from tungstenkit.debian.packages import installed_package
from tungstenkit.debian.release import RELEASES
from tungstenkit.lock.parts import Choice
from tungstenkit.sdk.errors import ResolveError, UnusableError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from tungstenkit.debian.solution import DebSolution

_KIND = "base-image"
_SETTING = re.compile(r"([A-Z_]+)=(['\"]?)(.*)\2")
_THERE, _ABSENT = "installed", ("not-installed", "config-files")
_OTHER_HINT = (
    "take a base image of Debian, as Python's own are, or one that holds these packages already, "
    "or leave base_image out"
)


@dataclass(frozen=True)
class BaseSystem:
    """The Debian system of a base image, as far as packages can be installed into it."""

    title: str
    """What it calls itself; empty where it says nothing."""
    release: str | None
    """Debian's code name; None where nothing can be installed."""
    problem: str
    """Why not; empty where it can."""
    hint: str
    present: Present


def read_system(os_release: str, status: str, architecture: str, *, has_merged_usr: bool) -> BaseSystem:
    """What a base image's os-release(5) and dpkg's status say. architecture: Debian's name of the image's."""
    matches = (_SETTING.fullmatch(line.strip()) for line in os_release.splitlines())
    said = {match[1]: match[3] for match in matches if match}
    title = _printable(said.get("PRETTY_NAME") or said.get("ID", ""))
    release = said.get("VERSION_CODENAME", "")
    nothing = Present({})

    def refused(problem: str, hint: str = _OTHER_HINT) -> BaseSystem:
        return BaseSystem(title, None, problem, hint, nothing)

    if said.get("ID") != "debian":
        return refused(
            f"it is {title}, and packages are Debian's" if title else "it does not say that it is Debian"
        )
    if release not in RELEASES:
        return refused(
            f"it is {title}, which is none of the releases that are known here",
            f"take a base image of Debian {', '.join(RELEASES)}, or leave base_image out",
        )
    if not status:
        return refused("it has no list of what is installed (/var/lib/dpkg/status)")
    if not has_merged_usr:
        return refused("its /lib is no link to /usr/lib, and packages are laid out for that")
    packages, problems = {}, []
    held = set()
    for fields in stanzas(status):
        name = fields.get("Package", "?")
        want, _, state = [*fields.get("Status", "").split(), "", "", ""][:3]
        if state in _ABSENT:
            continue
        if state != _THERE:
            problems.append(f"{name} is only half installed ({state or 'no status'})")
        elif fields.get("Architecture") not in ("all", architecture):
            problems.append(f"{name} is of the architecture {fields.get('Architecture')}")
        else:
            try:
                packages[name] = installed_package(fields)
            except UnusableError as problem:
                problems.append(f"{name}: {problem.what}")
            held |= {name} if want == "hold" else set()
    if problems:
        return refused(
            _printable("; ".join(problems)),
            "mend the base image, such as by `dpkg --configure -a`, or take another",
        )
    return BaseSystem(title, release, "", "", Present(packages, frozenset(held)))


def _printable(text: str) -> str:
    """A text of the image's as a person may be shown it."""
    return re.sub(r"[^ -~]", "?", text)


def check_installable(system: BaseSystem, reference: str, packages: Sequence[str]) -> str:
    """The release that a base image's packages come from; ResolveError where none can be installed."""
    if system.release is None:
        raise ResolveError(
            f"RUN apt: {', '.join(packages)} can't be installed into {reference}: {system.problem}",
            where="dockerfile_commands",
            hint=system.hint,
        )
    return system.release


def told_of(system: BaseSystem, solution: DebSolution, packages: Sequence[str]) -> Iterator[Choice]:
    """What of the base image takes part in what is installed into it. packages: as they were asked for."""
    there: Mapping[str, str] = {name: one.version for name, one in system.present.packages.items()}
    met = {text for deb in solution.debs for _, text in deb.requests}
    for text in packages:
        name = re.split("[:=]", text, maxsplit=1)[0]
        if text not in met:
            yield Choice(
                kind=_KIND,
                subject=text,
                chosen=there.get(name, "what provides it"),
                reason="the base image has it, and nothing newer is to be had",
            )
    for deb in solution.debs:
        if deb.name in there:
            why = ", ".join(deb.needed_by) or "dockerfile_commands"
            yield Choice(
                kind=_KIND,
                subject=deb.name,
                chosen=deb.version,
                reason=f"it takes the place of {there[deb.name]}, which the base image has, for {why}",
            )
