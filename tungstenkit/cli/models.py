"""`tungsten models`: what was built on this machine, what each image is, and its removal."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tungstenkit.sdk.errors import RunError, TungstenError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.table import Table

    from tungstenkit.models.built import Built, Inspected, Removal

Json = Annotated[bool, typer.Option("--json", help="Print JSON in place of a table.")]
Yes = Annotated[bool, typer.Option("-y", "--yes", help="Ask nothing.")]

models = typer.Typer(
    help="List the images that were built on this machine. `inspect` shows one, `remove` removes some.",
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@models.callback(invoke_without_command=True)
def list_command(context: typer.Context, *, as_json: Json = False) -> None:
    """List the images that were built on this machine. `inspect` shows one, `remove` removes some."""
    if context.invoked_subcommand is not None:
        return
    from tungstenkit.models.built import built

    try:
        found = built(_engine())
    except TungstenError as problem:
        # What folders have is told all the same.
        print(problem, file=sys.stderr)
        found = built()
    if as_json:
        _print_json([_told(one) for one in found])
        return
    from tungstenkit.cli.progress import out

    if found:
        out.print(_table(found))
    else:
        print("no image was built here; `tungsten build DIR` builds one")


@models.command("inspect")
def inspect_command(
    target: Annotated[
        str,
        typer.Argument(
            metavar="DIR|NAME",
            help="A model's folder, or an image's name in the engine.",
            show_default="this folder",
        ),
    ] = ".",
    *,
    as_json: Json = False,
) -> None:
    """Show an image by its layers, digest, labels and lock. That of a folder is shown for each platform."""
    from tungstenkit.models.built import inspect

    found = inspect(target, _engine())
    if as_json:
        _print_json([_all_of(one) for one in found])
        return
    from tungstenkit.cli.progress import out

    for one in found:
        for line in _lines(one):
            out.print(line)


@models.command("remove")
def remove_command(
    targets: Annotated[
        list[str],
        typer.Argument(metavar="DIR|NAME…", help="Models' folders, there or gone, or images' names."),
    ],
    *,
    yes: Yes = False,
) -> None:
    """Remove what was built.

    Of a folder that is what tungsten has made there, and its images; else it is an image's name. The model itself and
    its lock stay. What the Nix store has of it goes by `tungsten clean`.
    """
    from rich.filesize import decimal

    from tungstenkit.cli.progress import out
    from tungstenkit.models.built import removal, remove

    engine = _engine()
    # All are looked at before anything goes.
    every = [removal(target, engine) for target in dict.fromkeys(targets)]
    for one in every:
        for line in _removal_lines(one):
            out.print(line)
    if not confirmed("remove this?", yes=yes):
        raise typer.Exit(1)
    for one in every:
        remove(one, engine)
        out.print(f"removed {plain(one.target)}, {decimal(one.size)}")


def confirmed(question: str, *, yes: bool) -> bool:
    """Whether a person says yes, or has said so. Raises RunError where nobody can be asked."""
    if yes:
        return True
    if not sys.stdin.isatty():
        raise RunError(
            "nothing was removed: there is no terminal to ask at", hint="--yes removes without asking"
        )
    return typer.confirm(question, err=True)


def _engine() -> str | None:
    from tungstenkit.nix_build.engine import find_engine

    return find_engine()


def _print_json(value: object) -> None:
    print(json.dumps(value, indent=2, sort_keys=True, ensure_ascii=True))


def plain(text: object) -> str:
    """What may be anybody's words, for rich to print: no markup, nothing that a terminal obeys."""
    from rich.markup import escape

    from tungstenkit import outside

    return escape(outside.plain(str(text)).replace("\n", "\\n"))


def _state(one: Built) -> str:
    if one.folder is None:
        return "engine only"
    if one.is_gone:
        return "folder is gone"
    return "" if one.layout is not None else "image is gone"


def _table(found: list[Built]) -> Table:
    from rich.filesize import decimal
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("model", "platform", "digest", "size", "built (UTC)", "in the engine as", "folder"):
        table.add_column(heading, overflow="fold", justify="right" if heading == "size" else "left")
    for one in found:
        state = _state(one)
        table.add_row(
            plain(one.name),
            plain(one.platform),
            plain((one.digest or one.image_id or "").removeprefix("sha256:")[:12]),
            "" if one.size is None else decimal(one.size),
            "" if one.built is None else f"{one.built:%Y-%m-%d %H:%M}",
            plain(" ".join(one.names)),
            plain(one.folder or "") + (f" ({state})" if state and one.folder else ""),
        )
    return table


def _told(one: Built) -> dict[str, Any]:
    return {
        "name": one.name,
        "platform": one.platform,
        "folder": None if one.folder is None else str(one.folder),
        "folder-is-gone": one.is_gone,
        "store": None if one.store is None else str(one.store),
        "layout": None if one.layout is None else str(one.layout),
        "digest": one.digest,
        "image-id": one.image_id,
        "size": one.size,
        "built": None if one.built is None else one.built.isoformat(timespec="seconds"),
        "names": list(one.names),
        "lock-sha256": one.lock,
    }


def _all_of(one: Inspected) -> dict[str, Any]:
    return _told(one.built) | {
        "labels": one.labels,
        "lock-is-the-exported": one.is_locks,
        "layers": [
            {
                "digest": layer.digest,
                "size": layer.size,
                "made-of": layer.made_of,
                "packages": [{"name": name, "version": version} for name, version in sorted(layer.packages)],
            }
            for layer in one.layers
        ],
    }


def _lines(one: Inspected) -> Iterator[str | Table]:
    from rich.filesize import decimal
    from rich.table import Table

    known = one.built
    yield f"[bold]{plain(known.name)}[/] for {plain(known.platform)}"
    facts = {
        "folder": known.folder and f"{known.folder} {f'({_state(known)})' if _state(known) else ''}".rstrip(),
        "digest": known.digest,
        "image id": known.image_id,
        "size": known.size is not None and decimal(known.size),
        "built": known.built and f"{known.built:%Y-%m-%d %H:%M} UTC",
        "engine": ", ".join(known.names),
        "layout": known.layout,
        "lock": known.lock and f"sha256:{known.lock}{_OF_LOCK[one.is_locks]}",
        "labels": ", ".join(f"{name}={value}" for name, value in sorted(one.labels.items())),
    }
    for name, value in facts.items():
        if value:
            yield f"  {name:<9} {plain(value)}"
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("size", justify="right")
    table.add_column("layer")
    table.add_column("made of", overflow="fold")
    for layer in one.layers:
        table.add_row(
            decimal(layer.size), plain(layer.digest.removeprefix("sha256:")[:12]), plain(layer.made_of)
        )
    if one.layers:
        yield table


_OF_LOCK = {None: "", True: "", False: ", which has changed since the model was exported"}


def _removal_lines(one: Removal) -> Iterator[str]:
    from rich.filesize import decimal

    from tungstenkit.project.folder import STATE

    if one.folder is not None:
        yield f"{plain(one.folder / STATE)}, and what Nix has noted of it"
    for name in one.names:
        yield f"{plain(name)} in {plain(one.images[0].engine)}"
    yield f"  {decimal(one.size)}"
    if one.in_store:
        yield f"  the Nix store holds {decimal(one.in_store)} for it alone, which `tungsten clean` then finds"
    for reason in one.left:
        yield f"  left: {plain(reason)}"
