"""Arguments that several commands have, each with its one description."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
import typer.core

Directory = Annotated[
    Path,
    typer.Argument(metavar="DIR", exists=True, file_okay=False, help="The model's folder.", show_default="."),
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


Trust = Annotated[
    bool,
    typer.Option(
        "--trust",
        envvar="TUNGSTEN_TRUST",
        help="Import the model's module, to read what it declares, as you and with all that is yours; else it is kept "
        "apart from this machine.",
    ),
]


class PackageSet(StrEnum):
    """What images can be made of."""

    DEBIAN = "debian"
    NIXPKGS = "nixpkgs"


NoGpu = Annotated[bool, typer.Option("--no-gpu", help="Run a model that wants a GPU without one.")]


EngineArgs = Annotated[
    list[str] | None,
    typer.Option(
        "--engine-arg",
        metavar="ARG",
        envvar="TUNGSTEN_ENGINE_ARGS",
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
