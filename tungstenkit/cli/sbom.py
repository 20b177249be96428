"""`tungsten sbom`: what is in an image, for those who ask for a bill of materials; and the key that signs one."""

from __future__ import annotations

import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tungstenkit.cli.arguments import Class, Directory, Module, PlatformOfLock, Trust, reading_of
from tungstenkit.sdk.errors import BuildError, TungstenError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tungstenkit.bill.signature import PrivateKey
    from tungstenkit.nix_build.image import Image
    from tungstenkit.project.folder import Project


class Format(StrEnum):
    """Those that a bill of materials is written in."""

    SPDX = "spdx"
    CYCLONEDX = "cyclonedx"


def sbom_command(
    context: typer.Context,
    directory: Directory = Path(),
    module: Module = None,
    class_name: Class = None,
    *,
    trust: Trust = False,
    platform: PlatformOfLock = None,
    form: Annotated[
        Format, typer.Option("--format", help="SPDX 2.3 or CycloneDX 1.6, both JSON.")
    ] = Format.SPDX,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o", "--output", metavar="FILE", help="Write it to a file.", show_default="standard output"
        ),
    ] = None,
) -> None:
    """Write the image's bill of materials.

    Each package, file and weight in it, from its lock; builds the image if need be.
    """
    with reading_of(context, directory, module, trust=trust) as reading:
        from tungstenkit.bill.contents import bill_of
        from tungstenkit.bill.referrers import FORMATS
        from tungstenkit.cli.terminal import TERMINAL
        from tungstenkit.document import to_json, write_atomically
        from tungstenkit.project.described import make_described
        from tungstenkit.project.folder import Project
        from tungstenkit.project.making import check_written

        project = Project.of(reading, class_name, TERMINAL)
    if output is not None:
        check_written(project, output, "a bill of materials", "without -o it")
    text = to_json(FORMATS[form].document(bill_of(make_described(project, platform))))
    if output is None:
        sys.stdout.write(text)
    else:
        try:
            # A link stays one: what it leads to is written.
            write_atomically(output.resolve(), text)
        except OSError as problem:
            raise BuildError(f"it can't be written: {problem.strerror}", where=str(output)) from None


def signing_key(path: Path) -> PrivateKey:
    """A private key for `push --sign`; its password is a variable's, or asked for. Raises SignatureError."""
    from tungstenkit.bill.signature import PASSWORD, PrivateKey

    def password() -> str:
        known = os.environ.get(PASSWORD)
        return (
            known if known is not None else typer.prompt(f"the password of {path}", hide_input=True, err=True)
        )

    return PrivateKey.read(path, password)


def keep_said(
    project: Project,
    images: Mapping[str, Image],
    whole: str,
    reference: str,
    skopeo_args: Sequence[str] = (),
    key: PrivateKey | None = None,
) -> None:
    """Keep beside images that were pushed what is said of them; as `keep_described`.

    Where that can't be, it is told, and no more: only who has asked for a signature must have it, and gets the error.
    """
    from tungstenkit.project.described import keep_described
    from tungstenkit.registry.client import Access

    try:
        keep_described(project, images, whole, reference, Access.of_skopeo(tuple(skopeo_args)), key)
    except TungstenError as problem:
        what = f"the image is pushed, but {'not signed' if key else 'its bill of materials is not'}: {problem.what}"
        if key is not None:
            raise problem.reworded(what) from None
        project.watch.warn(what)
