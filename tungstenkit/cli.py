"""`tungsten`, the command line: reads arguments, calls the pipeline's steps in order, and prints. Nothing else
prints.

What a command makes goes to standard output; notices, progress and errors go to standard error. Exit status: 0
done, 1 an error, 2 wrong usage, 3 a file that the lock names is on no mirror any more, 130 interrupted.
"""

from __future__ import annotations

import fcntl
import json
import shlex
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from tungstenkit import build as builder
from tungstenkit import store
from tungstenkit.data import OWN_WHEELS, SEVEN_ZIP
from tungstenkit.errors import FetchError, GoneError, TungstenError
from tungstenkit.export import bootstrap_urls, export, git_notice, public
from tungstenkit.fetch import Input, absent, disk_error, download, fetch, inputs, locate, stored
from tungstenkit.files import likely_secrets, select_files
from tungstenkit.libraries import add_libraries
from tungstenkit.lock import LOCK_NAME, Lock, check_lock, choose_platform, part_of, read_lock, write_lock
from tungstenkit.mirrors import Fetcher, find_mirrors
from tungstenkit.platforms import runs_here, this_system
from tungstenkit.progress import FetchBar, build_view, err, working
from tungstenkit.resolve.libraries import KIND as LIBRARY
from tungstenkit.resolve.libraries import NOTHING
from tungstenkit.resolve.model import Solver, resolve
from tungstenkit.seal import refuse_build_steps, seal
from tungstenkit.spec import ModelSpec, read_spec, repository_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tungstenkit.files import ModelFile

STATE = ".tungsten"
"""The folder beside the model where we keep what can be made again."""

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Directory = Annotated[
    Path,
    typer.Argument(
        metavar="[DIR]", exists=True, file_okay=False, help="The model's folder.", show_default="."
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


@dataclass(frozen=True)
class Project:
    """A model's folder and what it declares."""

    directory: Path
    spec: ModelSpec

    @classmethod
    def read(cls, directory: Path, module: str | None, class_name: str | None) -> Project:
        """Read the declaration; the module is imported in a process of its own."""
        directory = directory.resolve()
        return cls(directory, read_spec(directory, module, class_name))

    @property
    def lock_path(self) -> Path:
        """Where the lock lies."""
        return self.directory / LOCK_NAME

    @property
    def state(self) -> Path:
        """Where what can be made again lies."""
        return self.directory / STATE

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Wait until no other tungsten fetches or builds this model, and keep others waiting."""
        try:
            self.state.mkdir(exist_ok=True)
            # As a virtual environment does: git need not be told.
            (self.state / ".gitignore").write_text("*\n")
            file = (self.state / "busy").open("w")
        except OSError as problem:
            raise FetchError(
                f"the model's folder can't be written: {problem.strerror}",
                where=str(self.state),
                hint="downloads and builds keep their state there; copy the model to a folder of yours",
            ) from None
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                err.print("another tungsten is at work on this model: waiting for it")
                fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def lock(self) -> Lock:
        """The lock, present, fresh and sealed."""
        lock = read_lock(self.lock_path)
        check_lock(lock, self.spec, self.lock_path)
        return lock

    def files(self, out: Path | None = None) -> list[ModelFile]:
        """The files that ship; secrets among them are named on standard error."""
        files = select_files(
            self.directory,
            self.spec.include_files,
            self.spec.exclude_files,
            self.spec.module,
            ignore=() if out is None else (out,),
        )
        for warning in likely_secrets(self.directory, files):
            err.print(
                f"[yellow]warning:[/] will be in the image: {escape(warning)}; keep it out by exclude_files"
            )
        return files


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"tungsten {OWN_WHEELS['sdk']['version']}")
        raise typer.Exit


@app.callback()
def options(
    *,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Ship an ML model: from a decorated Python class to a reproducible container image."""


@app.command("lock")
def lock_command(
    directory: Directory = Path(),
    module: Module = None,
    class_name: Class = None,
    *,
    upgrade: Annotated[
        bool, typer.Option("--upgrade", help="Take the newest of everything, whatever is locked.")
    ] = False,
    resolve_only: Annotated[
        bool,
        typer.Option("--resolve-only", help="Read indexes only, run nothing; the lock can't be built yet."),
    ] = False,
    package_set: Annotated[
        str, typer.Option("--package-set", help="What images are made of; `debian` for now.")
    ] = "debian",
    platforms: Annotated[
        list[str] | None,
        typer.Option(
            "--platform",
            metavar="SYSTEM",
            help="A platform to lock, as Nix calls it; may be given again.",
            show_default="those of the lock, or else this machine's",
        ),
    ] = None,
    python: Annotated[
        str | None, typer.Option("--python", metavar="X.Y", help="The Python, whatever the model asks for.")
    ] = None,
) -> None:
    """Choose exact versions of everything, and write tungsten.lock."""
    project = Project.read(directory, module, class_name)
    make_lock(
        project,
        upgrade=upgrade,
        resolve_only=resolve_only,
        package_set=package_set,
        systems=platforms or (),
        python=python,
    )
    print(project.lock_path)


@app.command("fetch")
def fetch_command(
    directory: Directory = Path(),
    module: Module = None,
    class_name: Class = None,
    *,
    platform: Annotated[
        str | None, typer.Option("--platform", metavar="SYSTEM", help="One platform's alone.")
    ] = None,
) -> None:
    """Download what the lock names into the Nix store; afterwards builds on this machine need no network."""
    project = Project.read(directory, module, class_name)
    lock = project.lock()
    systems = list(lock.platforms) if platform is None else [choose_platform(lock, platform, this_system())]
    with project.alone():
        count = fetch_inputs(project, lock, systems)
    print(f"all {count} files for {', '.join(systems)} are in the Nix store")


@app.command("nix-export")
def nix_export_command(
    out: Annotated[
        Path, typer.Option("-o", "--output", metavar="OUT", help="The folder to write.", show_default=False)
    ],
    directory: Directory = Path(),
    module: Module = None,
    class_name: Class = None,
) -> None:
    """Write a self-contained flake: `nix build .#model-image` there needs nothing of ours."""
    project = Project.read(directory, module, class_name)
    lock = project.lock()
    files = project.files(out)
    sources = public(find_sources(project, lock))
    export(project.spec, lock, project.directory, files, sources, out)
    wanted = [entry.sha256 for entry in inputs(lock)] + [SEVEN_ZIP["sha256"]]
    if unknown := sum(sha256 not in sources for sha256 in wanted):
        err.print(f"{unknown} files have no public URL: where it is built, run `tungsten fetch` first")
    if in_git := git_notice(out):
        err.print(in_git)
    err.print("build it with:")
    # A machine of another kind assembles the same bytes.
    own = this_system() in lock.platforms or this_system() not in lock.tools
    image = "model-image" if own else f"model-image-{next(iter(lock.platforms))}"
    command = shlex.join(["nix", *store.options(), "build", f"path:.#{image}"])
    err.print(f"cd {shlex.quote(str(out))} && {command}", markup=False)
    print(out)


@app.command("build")
def build_command(
    directory: Directory = Path(),
    module: Module = None,
    class_name: Class = None,
    *,
    name: Annotated[
        str | None,
        typer.Option("-n", "--name", help="The image's name in the engine.", show_default="the folder's"),
    ] = None,
    tag: Annotated[str, typer.Option("--tag", help="The image's tag in the engine.")] = "latest",
    out_link: Annotated[
        Path | None,
        typer.Option("--out-link", metavar="PATH", help="Also make one file for `podman load`, linked here."),
    ] = None,
    platform: Annotated[
        str | None,
        typer.Option(
            "--platform",
            metavar="SYSTEM",
            help="The platform of the image, as Nix calls it; any of the lock's.",
            show_default="this machine's, or else the lock's only one",
        ),
    ] = None,
    load: Annotated[
        bool, typer.Option(help="Load the image into podman or docker, where there is one.")
    ] = True,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print a JSON object in place of the last line.")
    ] = False,
) -> None:
    """Build the model's image: lock where there is no lock, fetch, export, nix build, load."""
    project = Project.read(directory, module, class_name)
    engine = builder.find_engine() if load else None
    reference = builder.reference(
        repository_name(project.directory.name) if name is None else name, tag, engine
    )
    wanted = () if platform is None else (platform,)
    lock = project.lock() if project.lock_path.exists() else make_lock(project, systems=wanted)
    system = choose_platform(lock, platform, this_system())
    files = project.files()
    with project.alone():
        fetch_inputs(project, lock, [system])
        flake = project.state / "export"
        # Every input is in the store by now, so this export needs no URLs, and no network to find them.
        export(project.spec, lock, project.directory, files, {}, flake)
        with build_view() as view:
            image = builder.build(flake, system, project.state / f"image-{system}", view)
            if out_link is not None:
                builder.build_archive(flake, system, out_link, view)
    if engine is not None:
        with working(f"loading into {engine}"):
            builder.load(image, engine, reference)
        if not runs_here(system):
            err.print(
                f"this machine can't run {system} programs, so a container of the image ends with an "
                "`exec format error`: on Debian, qemu-user-static and binfmt-support emulate it"
            )
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
    if load and engine is None:
        err.print("no podman or docker here: the image stays in the Nix store")
    print(f"layout {image.layout}")
    print(f"{reference} {image.digest}")


def make_lock(
    project: Project,
    *,
    upgrade: bool = False,
    resolve_only: bool = False,
    package_set: str = "debian",
    systems: Sequence[str] = (),
    python: str | None = None,
) -> Lock:
    """Resolve and seal, and write the lock."""
    if not resolve_only:
        refuse_build_steps(project.spec)
    previous = read_lock(project.lock_path) if project.lock_path.exists() and not upgrade else None
    with working("looking for mirrors") as report:
        get = Fetcher()
        mirrors = find_mirrors(project.directory, get=get)
        for notice in mirrors.notices:
            err.print(notice)
        solver = Solver(mirrors, get, report, lambda text: err.print(text, markup=False))
        lock = resolve(project.spec, solver, previous, package_set, systems=systems, python=python)
    if not resolve_only:
        lock = _seal(project, lock, previous, solver)
    write_lock(lock, project.lock_path)
    for choice in lock.choices:
        if choice.kind in (LIBRARY, "renamed") and (previous is None or choice not in previous.choices):
            reason = f", {choice.reason}" if choice.chosen == NOTHING else ""
            err.print(f"{choice.subject}: {choice.chosen}{reason}", markup=False)
    for system, platform in lock.platforms.items():
        cuda = f", CUDA {platform.cuda.version}" if platform.cuda else ""
        err.print(
            f"locked {system}: Python {platform.python} on Debian {platform.release}, "
            f"{len(platform.debs)} Debian packages, {len(platform.wheels)} wheels{cuda}"
        )
    return lock


def _seal(project: Project, lock: Lock, previous: Lock | None, solver: Solver) -> Lock:
    """The sealed lock. What is downloaded for it is where `tungsten fetch` looks for it."""
    downloads = project.state / "downloads"
    with project.alone(), FetchBar() as bar:

        def get(entry: Input) -> Path:
            if path := stored(entry):
                return path
            return download(entry, locate([entry], lock, solver.mirrors)[entry.sha256], downloads, bar)

        def libraries(lock: Lock) -> Lock:
            return add_libraries(lock, project.spec, solver, previous, get, bar)

        try:
            downloads.mkdir(exist_ok=True)
            return seal(lock, project.spec, get, libraries)
        except OSError as problem:
            raise disk_error(problem, project.state) from None


def find_sources(project: Project, lock: Lock) -> dict[str, list[str]]:
    """Where the lock's files are on this machine; without a network an export is complete but for that."""
    with working("asking the mirrors where each file is"):
        try:
            mirrors = find_mirrors(project.directory)
            found = locate(inputs(lock), lock, mirrors) | bootstrap_urls(mirrors)
        except FetchError as problem:
            err.print(
                f"[yellow]warning:[/] no mirror could be asked, so the export names none ({escape(problem.what)})"
            )
            return {}
    for notice in mirrors.notices:
        err.print(notice)
    return found


def fetch_inputs(project: Project, lock: Lock, systems: Sequence[str]) -> int:
    """Bring into the store what images for some platforms need and it has not got; of how many files in all."""
    part = part_of(lock, systems, this_system())
    wanted = absent(part)
    urls = {}
    if wanted:
        with working("asking the mirrors where each file is"):
            urls = locate(wanted, lock, find_mirrors(project.directory))
    with FetchBar() as bar:
        fetch(part, urls, project.state, bar, whole=lock)
    return len(inputs(part))


def main() -> None:
    """Run a command; every error that the user can mend has the one shape."""
    try:
        app()
    except GoneError as problem:
        print(problem, file=sys.stderr)
        sys.exit(3)
    except TungstenError as problem:
        print(problem, file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("interrupted; nothing is half-written", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
