"""`tungsten pull`: a model's image out of a registry."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from tungstenkit.cli.arguments import JsonAnswer, PlatformOfIndex, say_if_it_ships

Reference = Annotated[
    str,
    typer.Argument(metavar="REF", help="Of an image or an index, such as `registry.example/team/blur:1`."),
]
Folder = Annotated[
    Path | None,
    typer.Option(
        "-o",
        "--output",
        metavar="DIR",
        help="Write the image to a folder, as an OCI image layout, and load it nowhere.",
    ),
]
Archive = Annotated[
    Path | None,
    typer.Option(
        "--archive",
        metavar="FILE",
        help="Write the image to a file for `podman load` and `docker load`, and load it nowhere.",
    ),
]


def pull_command(
    reference: Reference,
    *,
    folder: Folder = None,
    archive: Archive = None,
    platform: PlatformOfIndex = None,
    as_json: JsonAnswer = False,
) -> None:
    """Bring a model's image out of a registry. Into podman or docker, under its digest, for `serve` and `predict`."""
    from tungstenkit.cli.terminal import TERMINAL
    from tungstenkit.models.pulling import pull

    if folder is not None and archive is not None:
        raise typer.BadParameter("a folder or a file, not both", param_hint="--archive")
    if (place := folder or archive) is not None:
        say_if_it_ships(place)
    pulled = pull(reference, platform=platform, folder=folder, archive=archive, watch=TERMINAL)
    if as_json:
        answer = {
            "reference": pulled.reference,
            "digest": pulled.digest,
            "platform": pulled.platform,
            "size": pulled.size,
            "place": str(pulled.place) if pulled.place is not None else None,
        }
        print(json.dumps(answer, indent=2, sort_keys=True))
        return
    print(f"{pulled.place or pulled.reference} {pulled.digest}")
