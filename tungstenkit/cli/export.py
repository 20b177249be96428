"""`tungsten fetch` and `nix-export`: what builds need, brought here or carried to another machine."""

from __future__ import annotations

import shlex
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
import typer.core

from tungstenkit import started
from tungstenkit.cli.arguments import Class, Directory, Module, PackageSet, Trust
from tungstenkit.sdk.errors import ExportError, FetchError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tungstenkit.fetch.big_files import BigFile
    from tungstenkit.lock.document import Lock
    from tungstenkit.project.folder import Project, Shipped
    from tungstenkit.registry.base import Place


Platform = Annotated[str | None, typer.Option("--platform", metavar="SYSTEM", help="One platform's alone.")]


To = Annotated[
    Path | None,
    typer.Option(
        "--to", metavar="FOLDER", file_okay=False, help="Also copy all of it there, for another machine."
    ),
]


From = Annotated[
    str | None,
    typer.Option(
        "--from",
        metavar="FOLDER|REF",
        help="Take it from such a folder, or from where a push has kept it, and from nowhere else.",
    ),
]


def fetch_command(
    directory: Directory = Path(),
    module: Module = None,
    class_name: Class = None,
    *,
    trust: Trust = False,
    platform: Platform = None,
    to: To = None,
    origin: From = None,
) -> None:
    """Download what the lock names into the Nix store. Afterwards builds on this machine need no network."""
    from tungstenkit.cli.terminal import TERMINAL
    from tungstenkit.lock.selection import choose_platform, part_of
    from tungstenkit.platforms import this_system
    from tungstenkit.project.folder import Project, fetch_inputs, provide_result
    from tungstenkit.registry.place import place as place_of

    project = Project.read(directory, module, class_name, TERMINAL, trust=trust)
    lock = project.checked_lock()
    systems = list(lock.platforms) if platform is None else [choose_platform(lock, platform, this_system())]
    shipped = project.select_shipped(lock)
    where = place_of(origin) if origin is not None else None
    if where is not None:
        project.bring_nix(where)
    with project.exclusively():
        part = part_of(lock, systems, this_system())
        if where is not None:
            _copy_from(where, part, shipped.big, project)
        count = fetch_inputs(project, lock, systems, shipped.big)
        for system in systems:
            provide_result(project, lock, system, shipped)
        if to is not None:
            _copy_to(to, part, shipped.big, project)
    print(f"all {count} files for {', '.join(systems)} are in the Nix store")


def _copy_from(where: Place, part: Lock, big: Sequence[BigFile], project: Project) -> None:
    """Take what a part of a lock needs from where it was kept. Raises FetchError where that lacks something."""
    from tungstenkit.fetch import carry
    from tungstenkit.fetch.bring import missing_files, store_files

    with project.watch.fetching(f"copying from {where.name}:") as bar:
        carry.unpack(store_files(part, big), where, project.state / "downloads", bar)
    if lacking := missing_files(part):
        raise FetchError(
            f"{len(lacking)} of the files that the lock names are not there, such as {lacking[0].name}",
            where=where.name,
            hint="make the copy again beside this lock, with `tungsten fetch --to` or `tungsten push --with-inputs`",
        )


def _copy_to(to: Path, part: Lock, big: Sequence[BigFile], project: Project) -> None:
    """Copy what a part of a lock needs to a folder, and say how another machine takes it."""
    from tungstenkit import nix_program, store
    from tungstenkit.cli.progress import err
    from tungstenkit.fetch import carry, own_nix
    from tungstenkit.fetch.bring import programs, store_files, store_paths
    from tungstenkit.fetch.inputs import Contents

    with tempfile.TemporaryDirectory(dir=project.state, prefix=".nix-") as scratch:
        archive = {}
        # Where there is none here, there is likely none there.
        if nix_program.current().is_own:
            try:
                archive = own_nix.collect(own_nix.Origin.of(project.mirrors()), Path(scratch), project.watch)
            except FetchError as problem:
                project.watch.warn(f"Nix itself is not in the copy: {problem.what}")
        gone = store.missing(store_paths(part, big))
        files = [file for file in store_files(part, big) if file.path not in gone]
        carried = [path for path in programs(part) if path not in gone]
        with project.watch.fetching(f"copying to {to}:") as bar:
            carry.pack(Contents(files, carried, archive), to, bar)
    command = ["tungsten", "fetch", "--from", str(to)]
    err.print(
        f"on the other machine: {shlex.join(command)}, with this lock and the model's files", markup=False
    )
    command = ["sh", str(to.resolve() / carry.TAKE), *store.options()]
    err.print(f"without tungsten there: {shlex.join(command)}", markup=False)


Out = Annotated[
    Path, typer.Option("-o", "--output", metavar="OUT", help="The folder to write.", show_default=False)
]


WantedSet = Annotated[
    PackageSet | None,
    typer.Option(
        "--package-set",
        help="What the image is made of, as the lock must have it.",
        show_default="the lock's",
    ),
]


def nix_export_command(
    out: Out,
    directory: Directory = Path(),
    module: Module = None,
    class_name: Class = None,
    *,
    trust: Trust = False,
    package_set: WantedSet = None,
) -> None:
    """Write a self-contained flake, for Nix alone. `nix build .#model-image` there needs nothing of ours."""
    from tungstenkit.cli.progress import err
    from tungstenkit.cli.terminal import TERMINAL
    from tungstenkit.export.flake import git_notice
    from tungstenkit.lock.selection import check_package_set
    from tungstenkit.project.folder import Project

    project = Project.read(directory, module, class_name, TERMINAL, trust=trust)
    lock = project.checked_lock()
    check_package_set(lock, package_set)
    shipped = project.select_shipped(lock, out)
    _write(project, lock, shipped, out)
    if shipped.big:
        _hold_big(project, shipped.big)
    if in_git := git_notice(out):
        err.print(in_git)
    _say_how_to_build(lock, out)
    print(out)


def _write(project: Project, lock: Lock, shipped: Shipped, out: Path) -> None:
    """Write an export, and say which of its files have no public URL."""
    from tungstenkit.cli.progress import err
    from tungstenkit.cli.terminal import FetchBar
    from tungstenkit.data import SEVEN_ZIP
    from tungstenkit.export.flake import Contents, export, public
    from tungstenkit.fetch.download import download
    from tungstenkit.fetch.needs import gated_hashes, needed_files
    from tungstenkit.project.folder import find_sources

    guarded = gated_hashes(lock)
    sources = public({key: urls for key, urls in find_sources(project, lock).items() if key not in guarded})
    local = [entry for entry in needed_files(lock) if entry.is_own]
    with started.scratch() as folder, FetchBar() as bar:
        made = [download(entry, [], folder, bar, project.directory) for entry in local]
        contents = Contents(project.directory, shipped.files, shipped.big, made)
        try:
            export(project.spec, lock, contents, sources, out)
        except ExportError as problem:
            raise problem.with_hint("-o names another folder") from None
    wanted = [entry.sha256 for entry in needed_files(lock) if not entry.is_own]
    wanted += [SEVEN_ZIP["sha256"]] if lock.tools else []
    if unknown := sum(sha256 not in sources for sha256 in wanted):
        files_have = "1 file has" if unknown == 1 else f"{unknown} files have"
        err.print(f"{files_have} no public URL: where it is built, run `tungsten fetch` first")


def _hold_big(project: Project, big: Sequence[BigFile]) -> None:
    """Bring files that an export only names into this machine's store, and keep them there."""
    from tungstenkit import store
    from tungstenkit.cli.progress import err, working
    from tungstenkit.fetch.bring import add_big

    with project.exclusively(), working("copying big files into the Nix store"):
        add_big(big, project.directory, project.state)
        for number, file in enumerate(big):
            store.hold(file.store_path, project.state / "roots" / f"big-{number}")
    size = sum(file.size for file in big) / 1e6
    err.print(
        f"{len(big)} of the model's files ({size:.0f} MB) are only named in it, and are in this machine's Nix "
        "store; `tungsten fetch --to FOLDER` makes a copy to carry to another machine"
    )


def _say_how_to_build(lock: Lock, out: Path) -> None:
    """Of an export, by a command that can be pasted."""
    from tungstenkit import nix_program, store
    from tungstenkit.cli.progress import err
    from tungstenkit.platforms import this_system

    err.print("build it with:")
    # A machine of another kind assembles the same bytes.
    own = this_system() in lock.platforms or this_system() not in lock.tools
    image = "model-image" if own else f"model-image-{next(iter(lock.platforms))}"
    # nixpkgs without its binary cache is a day's work, so that set is built with the settings of who builds.
    flakes = ["--extra-experimental-features", "nix-command flakes"]
    settings = store.options() if lock.package_set == "debian" else flakes
    command = nix_program.for_a_shell("nix", *settings, "build", f"path:.#{image}")
    err.print(f"cd {shlex.quote(str(out))} && {command}", markup=False)
