"""Arguments that several commands have, each with its one description."""

from __future__ import annotations

import re
import shlex
from contextlib import suppress
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
import typer.core

from tungstenkit.sdk.errors import TungstenError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Self

    from tungstenkit.spec.reading import Reader, Reading


def about(context: typer.Context, value: Any) -> Any:  # noqa: ANN401 (a callback for arguments of each type)
    """Of the argument that says which model a command is about: `about_the_same` finds it."""
    context.meta[__name__] = context
    return value


Directory = Annotated[
    Path,
    typer.Argument(
        metavar="DIR",
        exists=True,
        file_okay=False,
        help="The model's folder.",
        show_default=".",
        callback=about,
    ),
]


Module = Annotated[
    str | None,
    typer.Option(
        "-m",
        "--model-module",
        metavar="MODULE",
        help="The module with the model.",
        show_default="tungsten_model",
    ),
]


Class = Annotated[
    str | None,
    typer.Option("-c", "--model-class", metavar="CLASS", help="The model's class, where there are several."),
]


_COMMAND = re.compile(
    # Of its words only options and their values; `--to` and `--from` alone are no command to paste.
    r"`(tungsten (?:build|check|fetch|lock|nix-export|shell)"
    r"(?: --?[a-zA-Z][\w-]*(?: [^\s`-][^\s`]*)?)*)(?<!--to)(?<!--from)`"
)


def about_the_same(problem: TungstenError, context: typer.Context) -> TungstenError:
    """The problem, with the model that a command is about in all commands of its hint: those are to be pasted.

    context: the whole line's.
    """
    command: typer.Context | None = context.meta.get(__name__)
    if command is None or problem.hint is None:
        return problem
    given = command.params
    folder = str(given.get("directory", given.get("target", ".")))
    words = [] if folder == "." or not Path(folder).is_dir() else [folder]
    for option, name in (("-m", "module"), ("-c", "class_name")):
        words += [option, given[name]] if given.get(name) else []
    if not words:
        return problem
    return problem.reworded(
        hint=_COMMAND.sub(lambda found: f"`{found[1]} {shlex.join(words)}`", problem.hint)
    )


Trust = Annotated[
    bool,
    typer.Option(
        "--trust",
        envvar="TUNGSTEN_TRUST",
        help="Import the model's module, to read what it declares, as you and with all that is yours; else it is kept "
        "apart from this machine.",
    ),
]


class AboutModel(typer.core.TyperCommand):
    """A command about a model's folder, whose module is being read while the rest of the line is looked at.

    What looks at it takes as long to import as that takes. The context's `obj` is what waits to read it, or None.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # noqa: ANN401 (click's own)
        """Begin, if the line is one that has the module read."""
        given, rest, _ = self.make_parser(ctx).parse_args(args=list(args))
        values = {param.name: param.consume_value(ctx, given)[0] for param in self.get_params(ctx)}
        is_read = not (rest or values.get("help") or values.get("against"))
        ctx.obj = begun = ctx.with_resource(_Begun(values if is_read else {}, ctx.obj))
        try:
            return super().parse_args(ctx, args)
        except BaseException:
            # A context that was not entered is not left.
            begun.close()
            raise


class _Begun:
    """A reading that was begun for what a line says, before that was looked at."""

    def __init__(self, values: Mapping[str, Any], reader: Reader | None = None) -> None:
        directory, module, trust = (values.get(name) for name in ("directory", "module", "trust"))
        self._asked = (Path(directory or ""), module, trust)
        self._reader = reader
        self.reading: Reading | None = None

    def __enter__(self) -> Self:
        from tungstenkit.spec.reading import Reading

        directory, module, trust = self._asked
        # What is wrong is told in its turn. What runs as whoever calls is not begun for a line that may be wrong, and
        # then ended midway; nor does a variable's text mean anything yet.
        with suppress(TungstenError, OSError, ValueError):
            if trust is False:
                self.reading = Reading(directory, module, trust=trust, reader=self._reader)
        if self.reading is None:
            self.close()
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """End what nobody took."""
        for one in (self.reading, self._reader):
            if one is not None:
                one.close()

    def taken(self, directory: Path, module: str | None, *, trust: bool) -> Reading | None:
        """The reading, if it is of what was asked for."""
        return self.reading if self._asked == (directory, module, trust) else None


def reading_of(context: typer.Context, directory: Path, module: str | None, *, trust: bool) -> Reading:
    """The reading of a model's module that `AboutModel` has begun, or a new one."""
    from tungstenkit.spec.reading import Reading

    begun: _Begun | None = context.obj
    known = begun.taken(directory, module, trust=trust) if begun is not None else None
    return known or Reading(directory, module, trust=trust)


PlatformOfLock = Annotated[
    str | None,
    typer.Option(
        "--platform",
        metavar="SYSTEM",
        help="The platform of the image, as Nix calls it; any of the lock's.",
        show_default="this machine's, or else the lock's only one",
    ),
]
PlatformOfIndex = Annotated[
    str | None,
    typer.Option(
        "--platform",
        metavar="SYSTEM",
        help="The platform of the image, as Nix calls it; any of the index's.",
        show_default="this machine's, or else the index's only one",
    ),
]
JsonAnswer = Annotated[bool, typer.Option("--json", help="Print a JSON object in place of the last line.")]


class PackageSet(StrEnum):
    """What images can be made of."""

    DEBIAN = "debian"
    NIXPKGS = "nixpkgs"


NoGpu = Annotated[bool, typer.Option("--no-gpu", help="Run a model that wants a GPU without one.")]


def _with_the_machines(given: list[str] | None) -> list[str]:
    from tungstenkit.run.container import with_the_machines

    return with_the_machines(given or [])


EngineArgs = Annotated[
    list[str] | None,
    typer.Option(
        "--engine-arg",
        metavar="ARG",
        envvar="TUNGSTEN_ENGINE_ARGS",
        callback=_with_the_machines,
        help="One more argument for `podman run` or `docker run`; may be repeated.",
    ),
]


def say_if_it_ships(folder: Path) -> None:
    """Of a folder that results go to."""
    from rich.markup import escape

    from tungstenkit.cli.progress import err
    from tungstenkit.spec.files import RESULTS, would_ship

    if would_ship(folder):
        err.print(
            f"[yellow]warning:[/] {escape(str(folder))} is in a model's folder, so what is written there will be in "
            f"its image; what is in {RESULTS}/ never is"
        )
