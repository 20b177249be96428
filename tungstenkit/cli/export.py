"""`tungsten fetch` and `nix-export`: what builds need, brought here or carried to another machine."""

from __future__ import annotations

import shlex
import tempfile
from pathlib import Path
from typing import Annotated

import typer
import typer.core

from tungstenkit.cli.arguments import Class, Directory, Module, PackageSet, Trust
from tungstenkit.sdk.errors import FetchError


def fetch_command(
    directory: Directory = Path(),
    module: Module = None,
    class_name: Class = None,
    *,
    trust: Trust = False,
    platform: Annotated[
        str | None, typer.Option("--platform", metavar="SYSTEM", help="One platform's alone.")
    ] = None,
    to: Annotated[
        Path | None,
        typer.Option(
            "--to", metavar="FOLDER", file_okay=False, help="Also copy all of it there, for another machine."
        ),
    ] = None,
    origin: Annotated[
        Path | None,
        typer.Option(
            "--from",
            metavar="FOLDER",
            exists=True,
            file_okay=False,
            help="Take it from there, not from a network.",
        ),
    ] = None,
) -> None:
    """Download what the lock names into the Nix store; afterwards builds on this machine need no network."""
    from tungstenkit import store
    from tungstenkit.cli.progress import TERMINAL, err, working
    from tungstenkit.fetch import carry
    from tungstenkit.fetch.bring import missing_files, store_paths
    from tungstenkit.lock.selection import choose_platform, part_of
    from tungstenkit.platforms import this_system
    from tungstenkit.project.folder import Project, fetch_inputs, provide_result

    project = Project.read(directory, module, class_name, TERMINAL, trust=trust)
    lock = project.checked_lock()
    systems = list(lock.platforms) if platform is None else [choose_platform(lock, platform, this_system())]
    shipped = project.select_shipped(lock)
    with project.exclusively():
        part = part_of(lock, systems, this_system())
        if origin is not None:
            with working(f"copying from {origin}"):
                carry.unpack(store_paths(part, shipped.big), origin)
            if lacking := missing_files(part):
                raise FetchError(
                    f"{len(lacking)} of the files that the lock names are not there, such as {lacking[0].name}",
                    where=str(origin),
                    hint="make the copy again, with `tungsten fetch --to` beside this lock",
                )
        count = fetch_inputs(project, lock, systems, shipped.big)
        for system in systems:
            provide_result(project, lock, system, shipped)
        if to is not None:
            with working(f"copying to {to}"):
                paths = store_paths(part, shipped.big)
                gone = store.missing(paths)
                carry.pack([path for path in paths if path not in gone], to)
            err.print(
                f"on the other machine: tungsten fetch --from {to}, with this lock and the model's files"
            )
            command = ["nix", *store.options(), "copy", "--all", "--from", f"file://{to.resolve()}"]
            err.print(f"without tungsten there: {shlex.join(command)}", markup=False)
    print(f"all {count} files for {', '.join(systems)} are in the Nix store")


def nix_export_command(
    out: Annotated[
        Path, typer.Option("-o", "--output", metavar="OUT", help="The folder to write.", show_default=False)
    ],
    directory: Directory = Path(),
    module: Module = None,
    class_name: Class = None,
    *,
    trust: Trust = False,
    package_set: Annotated[
        PackageSet | None,
        typer.Option(
            "--package-set",
            help="What the image is made of, as the lock must have it.",
            show_default="the lock's",
        ),
    ] = None,
) -> None:
    """Write a self-contained flake: `nix build .#model-image` there needs nothing of ours."""
    from tungstenkit import store
    from tungstenkit.cli.progress import TERMINAL, FetchBar, err, working
    from tungstenkit.data import SEVEN_ZIP
    from tungstenkit.export.flake import Contents, export, git_notice, public
    from tungstenkit.fetch.bring import add_big
    from tungstenkit.fetch.download import download
    from tungstenkit.fetch.needs import gated_hashes, needed_files
    from tungstenkit.lock.selection import check_package_set
    from tungstenkit.platforms import this_system
    from tungstenkit.project.folder import Project, find_sources

    project = Project.read(directory, module, class_name, TERMINAL, trust=trust)
    lock = project.checked_lock()
    check_package_set(lock, package_set)
    shipped = project.select_shipped(lock, out)
    big = shipped.big
    guarded = gated_hashes(lock)
    sources = public({key: urls for key, urls in find_sources(project, lock).items() if key not in guarded})
    local = [entry for entry in needed_files(lock) if entry.is_own]
    with tempfile.TemporaryDirectory(prefix="tungsten-") as folder, FetchBar() as bar:
        made = [download(entry, [], Path(folder), bar, project.directory) for entry in local]
        contents = Contents(project.directory, shipped.files, big, made)
        export(project.spec, lock, contents, sources, out)
    wanted = [entry.sha256 for entry in needed_files(lock) if not entry.is_own]
    wanted += [SEVEN_ZIP["sha256"]] if lock.tools else []
    if unknown := sum(sha256 not in sources for sha256 in wanted):
        files_have = "1 file has" if unknown == 1 else f"{unknown} files have"
        err.print(f"{files_have} no public URL: where it is built, run `tungsten fetch` first")
    if big:
        with project.exclusively(), working("copying big files into the Nix store"):
            add_big(big, project.directory, project.state)
            for number, file in enumerate(big):
                store.hold(file.store_path, project.state / "roots" / f"big-{number}")
        size = sum(file.size for file in big) / 1e6
        err.print(
            f"{len(big)} of the model's files ({size:.0f} MB) are only named in it, and are in this machine's Nix "
            "store; `tungsten fetch --to FOLDER` makes a copy to carry to another machine"
        )
    if in_git := git_notice(out):
        err.print(in_git)
    err.print("build it with:")
    # A machine of another kind assembles the same bytes.
    own = this_system() in lock.platforms or this_system() not in lock.tools
    image = "model-image" if own else f"model-image-{next(iter(lock.platforms))}"
    # nixpkgs without its binary cache is a day's work, so that set is built with the settings of who builds.
    flakes = ["--extra-experimental-features", "nix-command flakes"]
    settings = store.options() if lock.package_set == "debian" else flakes
    command = store.for_a_shell(["nix", *settings, "build", f"path:.#{image}"])
    err.print(f"cd {shlex.quote(str(out))} && {command}", markup=False)
    print(out)
