"""What differs between two locks, in terms that a reviewer thinks in: versions, sizes, vulnerabilities.

Nothing is solved here: it reads the two locks, and is told what is known of vulnerabilities.
"""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tungstenkit.audit.vulnerabilities import Vulnerability  # noqa: TC001 - pydantic reads it
from tungstenkit.document import Document
from tungstenkit.lock.document import (
    EVERY_PLATFORM,
    LOCK_NAME,
    Place,
    declared_by_name,
    packages,
    parse_lock,
    read_lock,
)
from tungstenkit.lock.stale import changed_inputs
from tungstenkit.resolve.relocked import Relocked, version_of
from tungstenkit.sdk.errors import LockError

if TYPE_CHECKING:
    from collections.abc import Container, Iterator

    from tungstenkit.audit.vulnerabilities import Advisories
    from tungstenkit.lock.document import Located, Lock


MADE_BY = "made by"
"""The subject of the fact which tungsten made a lock."""


class Fact(Document):
    """Something that holds for a whole lock or platform."""

    subject: str
    """Such as `package set`, `x86_64-linux: Python`."""
    before: str | None
    after: str | None


class Change(Document):
    """A package that was added, removed or changed."""

    system: str
    place: Place
    kind: Literal["deb", "wheel", "file"]
    """A `file` is one of the model's declared `files`, or a repository of them."""
    name: str
    before: str | None
    """The version; None where it is added."""
    after: str | None
    """The version; None where it is removed."""
    size_before: int
    """In bytes; 0 where it is added."""
    size_after: int
    """In bytes; 0 where it is removed."""
    closed: tuple[Vulnerability, ...]
    """Known vulnerabilities that the old version has and the new has not."""
    opened: tuple[Vulnerability, ...]
    """The reverse."""
    reason: str | None = None
    """Why a pin could not stay; None where none had to, or nobody wanted it to."""


class Open(Document):
    """A package of a lock's images with known vulnerabilities."""

    system: str
    place: Place
    name: str
    version: str
    vulnerabilities: tuple[Vulnerability, ...]


class Behind(Document):
    """A package of a lock that is older than what there is, since it was locked before."""

    system: str
    place: Place
    kind: Literal["deb", "wheel"]
    name: str
    version: str
    newest: str


class Difference(Document):
    """From one lock to another."""

    inputs: tuple[str, ...]
    """What was asked for otherwise, a line each."""
    facts: tuple[Fact, ...]
    changes: tuple[Change, ...]
    size_before: int | None
    """In bytes, of all files of the images' own packages on all platforms; None for a first lock."""
    size_after: int
    known: tuple[Open, ...]
    """What the new lock's images are known to have."""
    behind: tuple[Behind, ...] = ()
    """The pins that stay, and that something newer could replace."""
    unlisted: tuple[str, ...] = ()
    """The pins that stay though no index lists them any more: they are believed by the old lock's hashes."""
    notices: tuple[str, ...]
    """What could not be said, and why."""


def still_open(lock: Lock, advisories: Advisories) -> list[Open]:
    """The packages in images that have known vulnerabilities."""
    return [
        Open(system=p.system, place=p.place, name=p.name, version=p.package.version, vulnerabilities=found)
        for p in packages(lock)
        if p.place in ("image", "server") and (found := advisories.of(p.package, p.release))
    ]


def old_lock(old: str, path: Path) -> Lock:
    """The lock to compare with: a file, a folder that has one, or what stood at `path` in a revision of git's.

    Raises LockError where it is none of these.
    """
    for file in (Path(old), Path(old) / LOCK_NAME):
        if file.is_file():
            return read_lock(file)
    command = ["git", "-C", str(path.parent), "show", "--end-of-options", f"{old}:./{path.name}"]
    try:
        if old.startswith("-"):
            raise OSError
        shown = subprocess.run(command, capture_output=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        raise LockError(
            f"{old!r} is no lock file, no folder with one, and no git revision that has this lock",
            where=str(path),
            hint="`HEAD` is what was committed last",
        ) from None
    return parse_lock(shown, f"{path.name} of {old}")


def compare(
    before: Lock | None,
    after: Lock,
    advisories: Advisories,
    record: Relocked | None = None,
    unlisted: Container[str] = (),
) -> Difference:
    """What a reader of both would find; without `before`, everything is added.

    record: what became of the pins, where the new lock was just made of the old one. unlisted: by sha256 what no index
    lists any more.
    """
    record = record or Relocked()
    old, new = _by_place(before), _by_place(after)
    changes = []
    for key in sorted(old.keys() | new.keys()):
        was, now = old.get(key), new.get(key)
        if was and now and was.package.sha256 == now.package.sha256:
            continue
        had = advisories.of(was.package, was.release) if was else ()
        has = advisories.of(now.package, now.release) if now else ()
        system, place, kind, name = key
        changes.append(
            Change(
                system=system,
                place=place,  # type: ignore[arg-type] # as `Located` has it
                kind=kind,  # type: ignore[arg-type]
                name=name,
                before=was.package.version if was else None,
                after=now.package.version if now else None,
                size_before=was.package.size if was else 0,
                size_after=now.package.size if now else 0,
                closed=_without(had, has),
                opened=_without(has, had),
                reason=record.moved.get(version_of(was)) if was and now else None,
            )
        )
    changes += _file_changes(before, after)
    return Difference(
        inputs=tuple(changed_inputs(before.inputs, after.inputs)) if before else (),
        facts=tuple(_facts(before, after)),
        changes=tuple(changes),
        size_before=_size(before) if before else None,
        size_after=_size(after),
        known=tuple(still_open(after, advisories)),
        behind=tuple(_behind(after, record)),
        unlisted=tuple(
            sorted(
                {
                    f"{one.name} {one.package.version}"
                    for one in packages(after)
                    if one.package.sha256 in unlisted
                }
            )
        ),
        notices=advisories.notices,
    )


def _behind(lock: Lock, record: Relocked) -> Iterator[Behind]:
    for one in packages(lock):
        if newest := record.newer.get(version_of(one)):
            yield Behind(
                system=one.system,
                place=one.place,
                kind=one.kind,
                name=one.name,
                version=one.package.version,
                newest=newest,
            )


def _without(
    some: tuple[Vulnerability, ...] | None, others: tuple[Vulnerability, ...] | None
) -> tuple[Vulnerability, ...]:
    # Of a version that nobody was asked about, nothing is said.
    if some is None or others is None:
        return ()
    ids = {vulnerability.id for vulnerability in others}
    return tuple(vulnerability for vulnerability in some if vulnerability.id not in ids)


def _by_place(lock: Lock | None) -> dict[tuple[str, str, str, str], Located]:
    return {(p.system, p.place, p.kind, p.name): p for p in packages(lock)} if lock else {}


def _size(lock: Lock) -> int:
    images = [platform.base_image for platform in lock.platforms.values() if platform.base_image]
    layers = sum(layer.size for image in images for layer in image.layers)
    packed = sum(p.package.size for p in packages(lock) if p.place == "image")
    return layers + packed + sum(one.size for one in declared_by_name(lock).values())


def _file_changes(before: Lock | None, after: Lock) -> Iterator[Change]:
    old, new = declared_by_name(before), declared_by_name(after)
    for name in sorted(old.keys() | new.keys()):
        was, now = old.get(name), new.get(name)
        if was and now and was.model_dump(exclude={"to"}) == now.model_dump(exclude={"to"}):
            continue
        yield Change(
            system=EVERY_PLATFORM,
            place="image",
            kind="file",
            name=name,
            before=was.version if was else None,
            after=now.version if now else None,
            size_before=was.size if was else 0,
            size_after=now.size if now else 0,
            closed=(),
            opened=(),
        )


def _facts(before: Lock | None, after: Lock) -> Iterator[Fact]:
    old, new = _stated(before), _stated(after)
    for subject in sorted(old.keys() | new.keys()):
        if old.get(subject) != new.get(subject):
            yield Fact(subject=subject, before=old.get(subject), after=new.get(subject))


def _stated(lock: Lock | None) -> dict[str, str]:
    if lock is None:
        return {}
    stated: dict[str, str] = {"package set": lock.package_set}
    if made := lock.tungsten:
        parts = ", ".join(
            f"{part} {digest[:8]}" for part, digest in made.model_dump(exclude={"version"}).items()
        )
        stated[MADE_BY] = f"tungsten {made.version} ({parts})"
    for system, platform in lock.platforms.items():
        stated[f"{system}: Debian release"] = platform.release
        stated[f"{system}: Python"] = platform.python
        if platform.base_image is not None:
            stated[f"{system}: base image"] = platform.base_image.digest
        if platform.cuda is not None:
            stated[f"{system}: CUDA"] = platform.cuda.version
    return stated
