"""`tungsten tag`, `login` and `logout`: what images are called, and who may push and read them."""

from __future__ import annotations

from typing import Annotated

import typer

Registry = Annotated[str, typer.Argument(metavar="REGISTRY", help="Such as `registry.example:5000`.")]
SkopeoArgs = Annotated[
    list[str] | None,
    typer.Option("--skopeo-arg", metavar="ARG", help="One more argument for skopeo; may be repeated."),
]


def tag_command(
    source: Annotated[
        str, typer.Argument(metavar="DIR|NAME", help="A model's folder, or an image's name in the engine.")
    ],
    references: Annotated[
        list[str], typer.Argument(metavar="REF…", help="The names that it is to have besides: NAME[:TAG].")
    ],
) -> None:
    """Give an image in podman or docker more names. A folder's is the one that was built last, and is loaded."""
    from tungstenkit.models.built import tag
    from tungstenkit.nix_build.engine import find_engine

    for name in tag(source, references, find_engine()):
        print(name)


def login_command(
    registry: Registry,
    *,
    user: Annotated[
        str | None,
        typer.Option("-u", "--username", "--user", metavar="USER", help="The user; else it is asked for."),
    ] = None,
    password_stdin: Annotated[
        bool,
        typer.Option("--password-stdin", help="Read the password from standard input; else it is asked for."),
    ] = False,
    skopeo_args: SkopeoArgs = None,
) -> None:
    """Have skopeo keep a password for a registry. For every command here that asks it, and for podman."""
    from tungstenkit.nix_build.push import login

    login(registry, user, password_stdin=password_stdin, skopeo_args=skopeo_args or ())


def logout_command(registry: Registry) -> None:
    """Have skopeo forget the password for a registry."""
    from tungstenkit.nix_build.push import logout

    logout(registry)
