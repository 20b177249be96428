"""Why a package is in a lock: the shortest chains from what was asked for to it, from the lock alone.

A lock's entries name who needs them (`needed-by`); this module walks those names backwards until it comes to a
wish: a line of the model's declaration, or what every image holds.
"""

from __future__ import annotations

import re
from collections import deque
from typing import TYPE_CHECKING, Literal

from packaging.utils import canonicalize_name

from tungstenkit.audit.newer import Seen  # noqa: TC001 - pydantic reads it
from tungstenkit.audit.vulnerabilities import Vulnerability  # noqa: TC001 - pydantic reads it
from tungstenkit.document import Document
from tungstenkit.lock.document import EVERY_PLATFORM, Place, declared_by_name, packages
from tungstenkit.lock.packages import WISH
from tungstenkit.lock.parts import OF_VERSIONS, OVERLAP, SOURCE, Choice, LockedDownload
from tungstenkit.lock.unpin import near
from tungstenkit.resolve.pinned import LOCK_FILE
from tungstenkit.resolve.relocked import version_of
from tungstenkit.sdk.errors import LockError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from tungstenkit.audit.newer import Newer
    from tungstenkit.audit.vulnerabilities import Advisories
    from tungstenkit.lock.document import Located, Lock

_OF_THE_USER = ("python_packages", "system_packages", "dockerfile_commands", "python_version", "gpu")
_LIBRARY = re.compile(r"library: \S+ of (?P<package>\S+)")
"""The wish that a package's shared library makes; it is no end of a chain, since the package has one itself."""

_Node = tuple[str, str]
"""Kind (`deb`, `wheel`, `wish`) and name."""


class Reason(Document):
    """A locked package, and why it is there."""

    system: str
    place: Place
    release: str
    kind: Literal["deb", "wheel", "file"]
    name: str
    version: str
    size: int
    """In bytes, of the file."""
    chains: tuple[tuple[str, ...], ...]
    """From each wish that leads here the shortest way, the wish first; what the user wrote comes first."""
    choices: tuple[Choice, ...]
    """The lock's choices that chose it."""
    vulnerabilities: tuple[Vulnerability, ...] | None
    """Those that are known; None where nobody was asked about it."""
    newer: Seen | None = None
    """What was last seen that is newer."""


def why(lock: Lock, name: str, advisories: Advisories, newer: Newer | None = None) -> list[Reason]:
    """Every place of a lock that has `name`, a Debian package or a Python project in any spelling.

    newer: what was seen that is newer than packages.

    Raises LockError for a name that the lock does not have, with names that are like it.
    """
    spellings = {name, canonicalize_name(name)}
    groups: dict[tuple[str, str], dict[_Node, Located]] = {}
    for located in packages(lock):
        groups.setdefault((located.system, located.place), {})[located.kind, located.name] = located
    reasons = {}
    for group in groups.values():
        for node, located in group.items():
            if located.name not in spellings or (located.kind == "deb" and located.name != name):
                continue
            reasons[located.system, located.place, node] = Reason(
                system=located.system,
                place=located.place,
                release=located.release,
                kind=located.kind,
                name=located.name,
                version=located.package.version,
                size=located.package.size,
                chains=tuple(_chains(group, node)),
                vulnerabilities=advisories.of(located.package, located.release),
                choices=tuple(choice for choice in lock.choices if _is_of(choice, located)),
                newer=newer.seen.get(" ".join(version_of(located))) if newer else None,
            )
    if name in (files := declared_by_name(lock)):
        file = files[name]
        wish = file.url if isinstance(file, LockedDownload) else f"{file.repository} at {file.revision}"
        reasons[EVERY_PLATFORM, "image", ("file", name)] = Reason(
            system=EVERY_PLATFORM,
            place="image",
            release="",
            kind="file",
            name=name,
            version=file.version,
            size=file.size,
            chains=((f"files: {wish}", name),),
            choices=(),
            vulnerabilities=None,
        )
    if not reasons:
        known = {located.name for located in packages(lock)} | files.keys()
        left_out = [
            f"{choice.subject}: {choice.reason}"
            for choice in lock.choices
            if choice.kind == "dropped" and name and name in re.split(r"[\s|(),]+", choice.subject)
        ]
        raise LockError(
            f"the lock has no package {name!r}{near(name, known)}",
            hint="\n".join(["it was left out:", *left_out]) if left_out else None,
        )
    return list(reasons.values())


def _is_of(choice: Choice, located: Located) -> bool:
    """Whether a choice chose a package, or its version, or chose between it and others."""
    if choice.kind in (*OF_VERSIONS, LOCK_FILE, SOURCE):
        return located.kind == "wheel" and choice.subject.partition(" ")[0] == located.name
    between = choice.subject.partition(":")[0] if choice.kind == OVERLAP else ""
    return located.name in (*choice.chosen.split(", "), *between.split(", "))


def _chains(group: Mapping[_Node, Located], start: _Node) -> Iterator[tuple[str, ...]]:
    """The shortest chain from each wish, found breadth-first from the package upwards."""
    below: dict[_Node, _Node | None] = {start: None}
    pending = deque([start])
    found = []
    while pending:
        node = pending.popleft()
        if not (above := list(_above(group, node))) and node[0] == "wish":
            found.append(tuple(_path(below, node)))
        for other in above:
            if other not in below:
                below[other] = node
                pending.append(other)
    yield from sorted(found, key=lambda chain: (not chain[0].startswith(_OF_THE_USER), len(chain), chain))


def _above(group: Mapping[_Node, Located], node: _Node) -> Iterator[_Node]:
    """Who needs a package, or whose library a wish is for."""
    kind, name = node
    if kind == "wish":
        if match := _LIBRARY.fullmatch(name):
            of = match["package"]
            yield from (found for found in (("wheel", canonicalize_name(of)), ("deb", of)) if found in group)
        return
    for entry in group[node].package.needed_by:
        if WISH in entry:
            yield "wish", entry
        elif (kind, entry) in group:
            yield kind, entry


def _path(below: Mapping[_Node, _Node | None], node: _Node | None) -> Iterable[str]:
    while node is not None:
        yield node[1]
        node = below[node]
