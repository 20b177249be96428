"""`tungsten lock` and `why`: writing a lock, comparing two, and what one says of a package."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
import typer.core

from tungstenkit.cli.arguments import Class, Directory, Module, PackageSet, Trust

if TYPE_CHECKING:
    from tungstenkit.audit.diff import Difference
    from tungstenkit.lock.document import Lock


def lock_command(
    directory: Directory = Path(),
    module: Module = None,
    class_name: Class = None,
    *,
    trust: Trust = False,
    upgrade: Annotated[
        bool, typer.Option("--upgrade", help="Take the newest of everything, whatever is locked.")
    ] = False,
    upgrade_packages: Annotated[
        list[str] | None,
        typer.Option(
            "-P",
            "--upgrade-package",
            metavar="NAME",
            help="Take the newest of one package, and move only what must move with it; may be given again.",
            show_default=False,
        ),
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Only say whether the lock fits the model; exit status 1 if not.")
    ] = False,
    diff: Annotated[
        bool, typer.Option("--diff", help="Only show what locking would change, and write nothing.")
    ] = False,
    against: Annotated[
        str | None,
        typer.Option(
            "--against",
            metavar="OLD",
            help="Only show what changed since OLD, a lock file or a git revision.",
            show_default=False,
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print what changes as a JSON object.")] = False,
    resolve_only: Annotated[
        bool,
        typer.Option(
            "--resolve-only",
            help="Read indexes only, run nothing; `build` refuses that lock until `lock` has sealed it.",
        ),
    ] = False,
    package_set: Annotated[
        PackageSet | None,
        typer.Option(
            "--package-set",
            help="What images are made of.",
            show_default="the lock's, or else debian",
        ),
    ] = None,
    platforms: Annotated[
        list[str] | None,
        typer.Option(
            "--platform",
            metavar="SYSTEM",
            help="A platform to lock, as Nix calls it; may be given again.",
            show_default="those of the lock, or else this machine's",
        ),
    ] = None,
    python: Annotated[
        str | None, typer.Option("--python", metavar="X.Y", help="The Python, whatever the model asks for.")
    ] = None,
    allow_older_index: Annotated[
        bool,
        typer.Option(
            "--allow-older-index",
            help="Take a mirror's index that is older than the one the lock was made of.",
        ),
    ] = False,
) -> None:
    """Choose exact versions of everything, and write tungsten.lock."""
    from tungstenkit.cli.progress import TERMINAL, err
    from tungstenkit.project.folder import Project

    solving = diff or upgrade or resolve_only or allow_older_index
    solving = solving or bool(upgrade_packages or platforms or python or package_set)
    if sum((check, against is not None, solving)) > 1 or (check and as_json):
        raise typer.BadParameter("--check and --against only read locks: leave the other options out")
    if upgrade and upgrade_packages:
        raise typer.BadParameter("--upgrade takes the newest of everything: leave --upgrade-package out")
    if against is not None:
        from tungstenkit.project.locking import compare_locks

        show_comparison(compare_locks(directory.resolve(), against, TERMINAL), as_json=as_json)
        return
    project = Project.read(directory, module, class_name, TERMINAL, trust=trust)
    if check:
        project.checked_lock()
        print(f"{project.lock_path} fits the model")
        return
    from packaging.utils import canonicalize_name

    from tungstenkit.lock.unpin import POST_BUILD
    from tungstenkit.project.locking import Relock, make_lock

    wish = Relock(
        upgrade=upgrade,
        upgrade_packages=upgrade_packages or (),
        write=not diff,
        resolve_only=resolve_only,
        package_set=package_set.value if package_set else "",
        systems=platforms or (),
        python=python,
        allow_older_index=allow_older_index,
    )
    made = make_lock(project, wish)
    TERMINAL.locked(made)
    lock, difference = made.lock, made.difference
    moved = {canonicalize_name(change.name) for change in difference.changes}
    # A base image is a fact of a platform: `x86_64-linux: base image`.
    moved |= {
        canonicalize_name(fact.subject.rpartition(": ")[2].replace(" ", "-")) for fact in difference.facts
    }
    for name in upgrade_packages or ():
        if name == POST_BUILD:
            if diff or resolve_only:
                err.print(f"{name} was not run: only a lock that is written and sealed has its result")
        elif canonicalize_name(name) not in moved:
            err.print(_stays(name, lock), markup=False)
    if diff or as_json:
        show_comparison(difference, as_json=as_json)
    else:
        print(project.lock_path)


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
    from tungstenkit.audit.vulnerabilities import known_here
    from tungstenkit.audit.why import why
    from tungstenkit.cli import tables
    from tungstenkit.cli.progress import err, out
    from tungstenkit.document import to_json
    from tungstenkit.lock.document import LOCK_NAME, read_lock

    path = directory.resolve() / LOCK_NAME
    lock = read_lock(path)
    advisories = known_here()
    reasons = why(lock, name, advisories)
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
