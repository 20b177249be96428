"""`tungsten lock` and `why`: writing a lock, comparing two, and what one says of a package."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
import typer.core

from tungstenkit.cli.arguments import Class, Directory, Module, PackageSet, Trust, reading_of

if TYPE_CHECKING:
    from tungstenkit.audit.diff import Difference
    from tungstenkit.lock.document import Lock
    from tungstenkit.project.folder import Project
    from tungstenkit.project.locking import Locked, Relock


Upgrade = Annotated[
    bool, typer.Option("--upgrade", help="Take the newest of everything, whatever is locked.")
]


UpgradePackages = Annotated[
    list[str] | None,
    typer.Option(
        "-P",
        "--upgrade-package",
        metavar="NAME",
        help="Take the newest of one package, and move only what must move with it; may be given again.",
        show_default=False,
    ),
]


Security = Annotated[
    bool,
    typer.Option(
        "--security",
        help="Move only what a known vulnerability concerns that something newer closes, and what must move with it.",
    ),
]


Check = Annotated[
    bool, typer.Option("--check", help="Only say whether the lock fits the model; exit status 1 if not.")
]


Diff = Annotated[bool, typer.Option("--diff", help="Only show what locking would change, and write nothing.")]


Against = Annotated[
    str | None,
    typer.Option(
        "--against",
        metavar="OLD",
        help="Only show what changed since OLD, a lock file or a git revision.",
        show_default=False,
    ),
]


AsJson = Annotated[bool, typer.Option("--json", help="Print what changes as a JSON object.")]


ResolveOnly = Annotated[
    bool,
    typer.Option(
        "--resolve-only",
        help="Read indexes only, run nothing; `build` refuses that lock until `lock` has sealed it.",
    ),
]


WantedSet = Annotated[
    PackageSet | None,
    typer.Option(
        "--package-set",
        help="What images are made of.",
        show_default="the lock's, or else debian",
    ),
]


Platforms = Annotated[
    list[str] | None,
    typer.Option(
        "--platform",
        metavar="SYSTEM",
        help="A platform to lock, as Nix calls it; may be given again.",
        show_default="those of the lock, or else this machine's",
    ),
]


Python = Annotated[
    str | None, typer.Option("--python", metavar="X.Y", help="The Python, whatever the model asks for.")
]


AllowOlderIndex = Annotated[
    bool,
    typer.Option(
        "--allow-older-index",
        help="Take a mirror's index that is older than the one the lock was made of.",
    ),
]


def lock_command(
    context: typer.Context,
    directory: Directory = Path(),
    module: Module = None,
    class_name: Class = None,
    *,
    trust: Trust = False,
    upgrade: Upgrade = False,
    upgrade_packages: UpgradePackages = None,
    security: Security = False,
    check: Check = False,
    diff: Diff = False,
    against: Against = None,
    as_json: AsJson = False,
    resolve_only: ResolveOnly = False,
    package_set: WantedSet = None,
    platforms: Platforms = None,
    python: Python = None,
    allow_older_index: AllowOlderIndex = False,
) -> None:
    """Choose exact versions of everything, and write tungsten.lock.

    What is locked stays as long as its file can be had and it fits, whatever the indexes list by now.
    """
    solving = diff or upgrade or security or resolve_only or allow_older_index
    solving = solving or bool(upgrade_packages or platforms or python or package_set)
    if sum((check, against is not None, solving)) > 1 or (check and as_json):
        raise typer.BadParameter("--check and --against only read locks: leave the other options out")
    if upgrade and (upgrade_packages or security):
        raise typer.BadParameter("--upgrade takes the newest of everything: leave the other options out")
    if against is not None:
        from tungstenkit.cli.terminal import TERMINAL
        from tungstenkit.project.locking import compare_locks

        show_comparison(compare_locks(directory.resolve(), against, TERMINAL), as_json=as_json)
        return
    with reading_of(context, directory, module, trust=trust) as reading:
        from tungstenkit.cli.terminal import TERMINAL
        from tungstenkit.project.folder import Project

        if not check:
            # Meanwhile.
            from tungstenkit import configured

            configured.ask_ahead(os.environ)
            from tungstenkit.project import locking  # noqa: F401
        project = Project.of(reading, class_name, TERMINAL)
    if check:
        project.checked_lock()
        print(f"{project.lock_path} fits the model")
        return
    from tungstenkit.project.locking import Relock

    wish = Relock(
        upgrade=upgrade,
        upgrade_packages=upgrade_packages or (),
        security=security,
        write=not diff,
        resolve_only=resolve_only,
        package_set=package_set.value if package_set else "",
        systems=platforms or (),
        python=python,
        allow_older_index=allow_older_index,
    )
    _lock(project, wish, as_json=as_json)


def _lock(project: Project, wish: Relock, *, as_json: bool) -> None:
    """Lock a model, and show what that has changed, or where the lock is."""
    from tungstenkit.cli.terminal import TERMINAL
    from tungstenkit.project.locking import make_lock

    made = make_lock(project, wish)
    TERMINAL.locked(made)
    _say_what_stays(made)
    if as_json or not wish.write:
        show_comparison(made.difference, as_json=as_json)
    else:
        print(project.lock_path)


def _say_what_stays(made: Locked) -> None:
    """Of the packages whose newest was asked for, those that have not moved."""
    from packaging.utils import canonicalize_name

    from tungstenkit.cli.progress import err
    from tungstenkit.lock.unpin import POST_BUILD

    moved = {canonicalize_name(change.name) for change in made.difference.changes}
    # A base image is a fact of a platform: `x86_64-linux: base image`.
    moved |= {
        canonicalize_name(fact.subject.rpartition(": ")[2].replace(" ", "-"))
        for fact in made.difference.facts
    }
    for name in made.wish.upgrade_packages:
        if name == POST_BUILD:
            if made.wish.resolve_only or not made.wish.write:
                err.print(f"{name} was not run: only a lock that is written and sealed has its result")
        elif canonicalize_name(name) not in moved:
            err.print(_stays(name, made.lock), markup=False)


def _stays(name: str, lock: Lock) -> str:
    from packaging.utils import canonicalize_name

    from tungstenkit.lock.document import declared_by_name, packages
    from tungstenkit.lock.unpin import BASE_IMAGE

    if name == BASE_IMAGE:
        return f"{name} stays: its name still means the same image"
    if name in declared_by_name(lock):
        return f"{name} stays: there is nothing newer where the model says it is"
    versions = {
        one.package.version
        for one in packages(lock)
        if one.place == "image" and one.name in (name, canonicalize_name(name))
    }
    # A lock file of another tool goes before what is newer.
    file = lock.inputs.get("lock-file", {}).get("file")
    held = f", or {file} has this one" if file else ""
    return f"{name} stays at {', '.join(sorted(versions))}: no newer one fits the model and what else is locked{held}"


def why_command(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A Debian package or a Python project.")],
    directory: Directory = Path(),
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON list.")] = False,
) -> None:
    """Say who asked for a package, from the lock alone."""
    from tungstenkit.audit.newer import known_newer
    from tungstenkit.audit.vulnerabilities import known_here
    from tungstenkit.audit.why import why
    from tungstenkit.cli import tables
    from tungstenkit.cli.progress import err, out
    from tungstenkit.document import to_json
    from tungstenkit.lock.document import LOCK_NAME, read_lock

    path = directory.resolve() / LOCK_NAME
    lock = read_lock(path)
    advisories = known_here()
    reasons = why(lock, name, advisories, known_newer())
    if as_json:
        print(to_json([reason.model_dump(mode="json", by_alias=True) for reason in reasons]), end="")
        return
    for reason in reasons:
        for line in tables.reason_lines(reason):
            out.print(line)
    for notice in advisories.notices:
        err.print(notice, markup=False)


def show_comparison(difference: Difference, *, as_json: bool) -> None:
    """Print how two locks differ."""
    from tungstenkit.cli import tables
    from tungstenkit.cli.progress import out

    if as_json:
        print(difference.to_json(), end="")
        return
    for part in tables.comparison(difference):
        out.print(part)
