"""`tungsten clean`: what is kept on this machine for all models, and can be made again."""

from __future__ import annotations

from typing import Annotated

import typer
import typer.core


def clean_command(
    *,
    nix: Annotated[
        bool,
        typer.Option("--nix", help="tungsten's own Nix, and the store of a user who has none in /nix."),
    ] = False,
) -> None:
    """Remove what is kept on this machine for all models; the next command that needs it makes it again."""
    if not nix:
        raise typer.BadParameter("say what is to be removed: --nix")
    from tungstenkit.cli.progress import working
    from tungstenkit.fetch.own_nix import remove
    from tungstenkit.nix_program import folder_of_nix

    folder = folder_of_nix()
    with working(f"removing {folder}"):
        size = remove()
    print(f"removed {folder}, {size / 1e6:.0f} MB" if size else f"nothing is in {folder}")
