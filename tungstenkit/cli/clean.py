"""`tungsten clean`: what nothing needs any more on this machine, and what can be made again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from tungstenkit.sdk.errors import TungstenError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.table import Table

    from tungstenkit.models.garbage import Found

_WORDS = {
    "scratch": "temporary folders of commands that were killed",
    "folders": "what is left of models that are gone",
    "containers": "containers whose command was killed",
    "images": "images that have lost their name to newer ones",
    "own-store": "what no model holds in your own Nix store",
    "store": "what no root holds in the machine's Nix store",
    "cache": "what was read of indexes and packages",
    "nix": "tungsten's own Nix, and your own Nix store",
}


def clean_command(
    *,
    scratch: Annotated[bool, typer.Option("--scratch", help=f"{_WORDS['scratch'].capitalize()}.")] = False,
    folders: Annotated[
        bool,
        typer.Option(
            "--folders", help="`.tungsten` where nothing else is left, and roots of folders that are gone."
        ),
    ] = False,
    containers: Annotated[
        bool, typer.Option("--containers", help="Containers whose command was killed.")
    ] = False,
    images: Annotated[
        bool, typer.Option("--images", help="Images of ours in podman or docker that have no name any more.")
    ] = False,
    own_store: Annotated[
        bool, typer.Option("--own-store", help="What no model holds in your own Nix store.")
    ] = False,
    store: Annotated[
        bool,
        typer.Option(
            "--store",
            help="What no root holds in the machine's Nix store: other programs' and users' paths, too; "
            "only where it is asked for.",
        ),
    ] = False,
    cache: Annotated[
        bool,
        typer.Option("--cache", help="What was read of indexes and packages; only where it is asked for."),
    ] = False,
    nix: Annotated[
        bool,
        typer.Option(
            "--nix",
            help="tungsten's own Nix, and the store of a user who has none in /nix; only where it is asked for.",
        ),
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    yes: Annotated[bool, typer.Option("-y", "--yes", help="Ask nothing.")] = False,
) -> None:
    """Remove what nothing needs any more.

    With options, these kinds alone. It asks before, and says how much it is. What is in use is left, and said. Without
    options the last three kinds are only told.
    """
    from tungstenkit.cli.models import confirmed
    from tungstenkit.cli.progress import out, working
    from tungstenkit.models.garbage import KINDS, UNASKED, find
    from tungstenkit.nix_build.engine import find_engine

    given = (scratch, folders, containers, images, own_store, store, cache, nix)
    asked = [kind for kind, is_given in zip(KINDS, given, strict=True) if is_given]
    problems: list[TungstenError] = []
    try:
        engine = find_engine()
    except TungstenError as problem:
        engine = None
        problems.append(problem)
    with working("looking for what may go"):
        found = find(asked or KINDS, engine)
    going = [one for one in found if one.things and one.kind in (asked or UNASKED)]
    out.print(_table(found, asked or UNASKED))
    # What is only told need not be known: its row says why it is not.
    problems += [one.problem for one in found if one.problem is not None and one.kind in (asked or UNASKED)]
    if dry_run:
        pass
    elif not going:
        print("nothing is to be removed")
    elif confirmed(f"remove {_sum(going)}?", yes=yes):
        problems += _remove(going)
    else:
        raise typer.Exit(1)
    _tell(problems)


def _remove(going: Sequence[Found]) -> list[TungstenError]:
    """Remove one kind after the other; what could not be removed."""
    from rich.filesize import decimal

    from tungstenkit.cli.progress import working
    from tungstenkit.sdk.errors import RunError

    problems: list[TungstenError] = []
    for one in going:
        try:
            with working(f"removing {_WORDS[one.kind]}"):
                size = one.remove()
        except TungstenError as problem:
            problems.append(problem)
        except OSError as problem:
            problems.append(RunError(f"it can't be removed: {problem.strerror}", where=str(problem.filename)))
        else:
            print(f"removed {_WORDS[one.kind]}, {decimal(size)}")
    return problems


def _tell(problems: Sequence[TungstenError]) -> None:
    """What went wrong, all of it; the last ends the command."""
    from tungstenkit.cli.progress import err

    for problem in problems[:-1]:
        err.print(str(problem), markup=False)
    if problems:
        raise problems[-1]


def _sum(going: Sequence[Found]) -> str:
    from rich.filesize import decimal

    return f"{', '.join(one.kind for one in going)}: {decimal(sum(one.size for one in going))}"


def _table(found: Sequence[Found], chosen: Sequence[str]) -> Table:
    from rich.filesize import decimal
    from rich.table import Table

    from tungstenkit.cli.models import plain

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("size", justify="right")
    table.add_column("what", overflow="fold")
    table.add_column("option")
    for one in found:
        size = "?" if one.problem is not None else decimal(one.size)
        only = "" if one.kind in chosen or not one.things else ", which is not given"
        none = "" if one.things or one.problem is not None else ": none"
        table.add_row(size, f"{_WORDS[one.kind]}{none}", f"--{one.kind}{only}")
        for thing in one.things[:_SHOWN]:
            table.add_row("", f"  {plain(thing)}", "")
        if len(one.things) > _SHOWN:
            table.add_row("", f"  … and {len(one.things) - _SHOWN} more", "")
        for reason in one.left:
            table.add_row("", f"  left: {plain(reason)}", "")
        if one.problem is not None and one.kind not in chosen:
            place = f"{one.problem.where}: " if one.problem.where else ""
            table.add_row("", f"  not known: {plain(place + one.problem.what)}", "")
    return table


_SHOWN = 8
