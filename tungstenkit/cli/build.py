"""`tungsten build`, `shell` and `push`: an image, its programs in a shell, and its way to a registry."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
import typer.core

from tungstenkit.cli.arguments import Class, Directory, JsonAnswer, Module, PlatformOfLock, Trust, reading_of
from tungstenkit.sdk.errors import TungstenError


class BeforeAnother(typer.core.TyperCommand):
    """A command whose line may end with `--` and another program's line, which is then the context's `obj`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # noqa: ANN401 (click's own)
        """Keep what follows `--` for the command."""
        end = args.index("--") if "--" in args else len(args)
        ctx.obj = args[end + 1 :]
        return super().parse_args(ctx, args[:end])


OutLink = Annotated[
    Path | None,
    typer.Option("--out-link", metavar="PATH", help="Also make one file for `podman load`, linked here."),
]


Archive = Annotated[
    Path | None,
    typer.Option(
        "--archive",
        metavar="FILE",
        help="Also write the image to a file for `podman load` and `docker load`; `-` is standard output.",
    ),
]


def build_command(
    context: typer.Context,
    directory: Directory = Path(),
    module: Module = None,
    class_name: Class = None,
    *,
    trust: Trust = False,
    name: Annotated[
        str | None,
        typer.Option("-n", "--name", help="The image's name in the engine.", show_default="the folder's"),
    ] = None,
    tag: Annotated[str, typer.Option("--tag", help="The image's tag in the engine.")] = "latest",
    out_link: OutLink = None,
    archive: Archive = None,
    platform: PlatformOfLock = None,
    load: Annotated[
        bool, typer.Option(help="Load the image into podman or docker, where there is one.")
    ] = True,
    as_json: JsonAnswer = False,
) -> None:
    """Build the model's image.

    Locks it where there is no lock, fetches, exports, has Nix build, and loads the image into podman or docker.
    """
    with reading_of(context, directory, module, trust=trust) as reading:
        from tungstenkit.cli.terminal import TERMINAL
        from tungstenkit.nix_build.engine import find_engine, image_reference
        from tungstenkit.nix_build.image import write_archive
        from tungstenkit.project.folder import Project
        from tungstenkit.project.making import check_written, make_image
        from tungstenkit.spec.read import repository_name

        project = Project.of(reading, class_name, TERMINAL)
    is_streamed = archive == Path("-")
    if is_streamed and (as_json or sys.stdout.isatty()):
        raise typer.BadParameter("an image's bytes are for a file or a program", param_hint="--archive")
    if archive is not None and not is_streamed:
        check_written(project, archive, "an archive", "--archive=-")
    engine = find_engine() if load else None
    reference = image_reference(
        repository_name(project.directory.name) if name is None else name, tag, engine
    )
    system, image = make_image(project, engine, reference, platform, out_link)
    if archive is not None:
        write_archive(image, None if is_streamed else archive)
    if as_json:
        answer = {
            "platform": system,
            "reference": reference,
            "digest": image.digest,
            "image-id": image.image_id,
            "size": image.size,
            "layout": str(image.layout),
            "engine": engine,
        }
        print(json.dumps(answer, indent=2, sort_keys=True))
        return
    if load and engine is None and archive is None:
        from tungstenkit.cli.progress import err
        from tungstenkit.project.template import quoted

        place = "" if directory == Path() else f" {quoted(directory)}"
        err.print(
            f"no podman or docker here: the image stays in the Nix store; `tungsten demo{place}` runs it from there, "
            "and --archive FILE writes it to a file",
            markup=False,
        )
    told = sys.stderr if is_streamed else sys.stdout
    print(f"layout {image.layout}", file=told)
    print(f"{reference} {image.digest}", file=told)


def shell_command(
    context: typer.Context,
    directory: Directory = Path(),
    module: Module = None,
    class_name: Class = None,
    *,
    trust: Trust = False,
    print_env: Annotated[
        bool, typer.Option("--print-env", help="Print what a shell must read to be one, as for direnv.")
    ] = False,
) -> None:
    """Start your shell with the image's own Python and programs. They are first on its PATH."""
    from tungstenkit.run import shell
    from tungstenkit.spec.reading import Reading

    shell.check_machine()
    with Reading(directory, module, trust=trust) as reading:
        from tungstenkit.cli.terminal import TERMINAL
        from tungstenkit.project.folder import Project
        from tungstenkit.project.making import make_shell

        project = Project.of(reading, class_name, TERMINAL)
    folder = make_shell(project)
    if print_env:
        print((folder / "env").read_text(encoding="utf-8"), end="")
        return
    start = str(folder / "start")
    os.execv(start, [start, *context.obj])  # noqa: S606


def push_command(
    reference: Annotated[
        str, typer.Argument(metavar="REF", help="Where to, such as `registry.example/team/blur:1`.")
    ],
    directory: Directory = Path(),
    module: Module = None,
    class_name: Class = None,
    *,
    trust: Trust = False,
    platform: Annotated[
        str | None,
        typer.Option(
            "--platform",
            metavar="SYSTEM",
            help="The platform of the image, which is pushed alone.",
            show_default="all of the lock's, as one index",
        ),
    ] = None,
    skopeo_args: Annotated[
        list[str] | None,
        typer.Option(
            "--skopeo-arg", metavar="ARG", help="One more argument for `skopeo copy`; may be repeated."
        ),
    ] = None,
    with_inputs: Annotated[
        bool,
        typer.Option(
            "--with-inputs", help="Keep what builds the image beside it: all inputs, and its export."
        ),
    ] = False,
    inputs_to: Annotated[
        str | None,
        typer.Option("--inputs-to", metavar="REF", help="The same, in another repository, or a folder."),
    ] = None,
    with_private_inputs: Annotated[
        bool,
        typer.Option("--with-private-inputs", help="The same, of what came with a password, too."),
    ] = False,
    sign: Annotated[
        Path | None,
        typer.Option(
            "--sign",
            metavar="KEY",
            exists=True,
            dir_okay=False,
            help="Sign the image, and where it is from, by a private key (PEM, ECDSA on P-256). Of one that is "
            "encrypted the password is TUNGSTEN_KEY_PASSWORD's, or is asked for.",
        ),
    ] = None,
) -> None:
    """Build the model's image and push it to a registry.

    By skopeo, under the digest that it has here. Its bill of materials and where it is from are kept beside it.
    """
    from tungstenkit import started
    from tungstenkit.nix_build.push import check_skopeo, check_target, push_image
    from tungstenkit.spec.reading import Reading

    check_target(reference)
    check_skopeo()
    with Reading(directory, module, trust=trust) as reading:
        from rich.filesize import decimal

        from tungstenkit.cli.progress import working
        from tungstenkit.cli.terminal import TERMINAL
        from tungstenkit.nix_build.index import as_one
        from tungstenkit.project.folder import Project
        from tungstenkit.project.making import make_images
        from tungstenkit.settings import keep_inputs_setting

        project = Project.of(reading, class_name, TERMINAL)
    from tungstenkit.cli.sbom import keep_said, signing_key

    # What is wrong with any of it is told before anything is built.
    key = signing_key(sign) if sign is not None else None
    keeping = None
    if with_inputs or inputs_to is not None or with_private_inputs or keep_inputs_setting(project.directory):
        from tungstenkit.project.keeping import Keeping
        from tungstenkit.registry.client import Access
        from tungstenkit.registry.place import place

        keeping = Keeping(inputs_to, with_private_inputs, Access.of_skopeo(skopeo_args or ()))
        place(inputs_to or reference, may_be_new=True)
    images = make_images(project, reference, platform)
    size = decimal(sum(image.size for image in images.values()))
    with started.scratch() as scratch, working(f"pushing to {reference}: {size}, less what it has"):
        pushed = as_one(images, scratch / "index")
        push_image(pushed, reference, skopeo_args or ())
    print(f"{reference}@{pushed.digest}")
    keep_said(project, images, pushed.digest, reference, skopeo_args or (), key)
    if keeping is not None:
        from tungstenkit.project.keeping import keep

        try:
            digests = {system: image.digest for system, image in images.items()}
            keep(project, digests, reference, keeping)
        except TungstenError as problem:
            what = f"the image is pushed, but what builds it is not kept: {problem.what}"
            raise problem.reworded(what) from None
