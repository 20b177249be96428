"""How a person reads what a command has made: lines for `tungsten` to print.

Texts from outside stand in them escaped, as in `tables`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.filesize import decimal
from rich.markup import escape

from tungstenkit.cli import tables
from tungstenkit.lock.document import declared_by_name
from tungstenkit.lock.parts import LIBRARY, NOTHING, OVERLAP, SOURCE
from tungstenkit.lock.unpin import POST_BUILD
from tungstenkit.resolve.newest import told
from tungstenkit.resolve.pinned import LOCK_FILE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from tungstenkit.lock.parts import Choice, Tungsten
    from tungstenkit.project.locking import Locked

_TOLD = (LIBRARY, LOCK_FILE, OVERLAP, SOURCE, "renamed")
"""The kinds of choices that are told when they are new."""


def locked_lines(made: Locked) -> Iterator[str]:
    """What was chosen for a new lock, what it holds, and what has changed."""
    yield from map(escape, _choices(made.new_choices))
    yield from map(escape, told(made.new_choices))
    done = "locked" if made.is_written else "would lock"
    for system in made.lock.platforms:
        yield escape(f"{done} {_platform(made, system)}")
    for name, file in declared_by_name(made.lock).items():
        yield escape(f"{done} {name}: {file.version}, {decimal(file.size)}")
    if made.is_written:
        yield from tables.summary(made.difference)


_PARTS = {"sdk": "the SDK", "server": "the server", "nix": "nix/"}


def of_another(maker: Tungsten | None, this: Tungsten) -> str:
    """Of a lock that another tungsten has made, what differs, and what to do; plain text."""
    if maker is None:
        made = f"a tungsten before 0.2.0 has made the lock, and this is {this.version}"
    elif maker.version != this.version:
        made = f"tungsten {maker.version} has made the lock, and this is {this.version}"
    else:
        made = f"another state of tungsten {this.version} has made the lock"
    known = [name for part, name in _PARTS.items() if maker and getattr(maker, part) != getattr(this, part)]
    what = f"{', '.join(known)} differ{'s' if len(known) == 1 else ''}, so " if known else ""
    return (
        f"{made}: {what}the image's digest may be another than it was by that; `tungsten lock` keeps the pins "
        "and notes this one"
    )


def _choices(choices: Iterable[Choice]) -> Iterator[str]:
    for choice in choices:
        if choice.kind not in _TOLD:
            continue
        chosen = f"not added: {choice.reason}" if choice.chosen == NOTHING else choice.chosen
        if choice.kind == OVERLAP:
            chosen = f"that of {choice.chosen} is taken, {choice.reason}"
        if choice.kind in (LOCK_FILE, SOURCE):
            chosen = f"{choice.chosen}, {choice.reason}"
        yield f"{choice.subject}: {chosen}"


def _platform(made: Locked, system: str) -> str:
    platform = made.lock.platforms[system]
    cuda = f", CUDA {platform.cuda.version}" if platform.cuda else ""
    built = f", {len(platform.sources)} built from source" if platform.sources else ""
    base = platform.base_image.reference if platform.base_image else f"Debian {platform.release}"
    root = f"on {base}, {len(platform.every_deb)} Debian packages"
    if made.lock.package_set == "nixpkgs":
        root = f"of {platform.release}"
    return (
        f"{system}: Python {platform.python} {root}, {len(platform.wheels)} wheels{built}{cuda}"
        f"{_post_build(made, system)}"
    )


def _post_build(made: Locked, system: str) -> str:
    result = made.lock.platforms[system].post_build
    if result is None:
        return ""
    size = f", {decimal(result.size)} by post_build"
    old = made.before.platforms.get(system) if made.before is not None else None
    if old is None or old.post_build is None:
        return size
    if old.post_build.sha256 != result.sha256:
        return f"{size}, which has changed"
    return f"{size}, the same as before" if POST_BUILD in made.wish.upgrade_packages else size
