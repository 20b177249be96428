"""`tungsten`, the command line: reads arguments, calls the pipeline's steps in order, and prints what they made.

What a command makes goes to standard output; notices, progress and errors go to standard error. Exit status: 0
done, 1 an error, 2 wrong usage, 3 a file that the lock names is on no mirror any more, 4 a model that `check` could
not try for want of a GPU, 130 interrupted; `serve` and `demo` pass on the server's own.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shlex
import signal
import sys
import tempfile
import threading
import time
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
import typer.core

from tungstenkit.data import OWN_WHEELS
from tungstenkit.sdk.errors import FetchError, GoneError, RunError, TungstenError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tungstenkit.audit.diff import Difference
    from tungstenkit.lock.document import Lock
    from tungstenkit.machine import Needs
    from tungstenkit.project.project import Project
    from tungstenkit.run.run import Address, Handover, Program


class _BeforeAnother(typer.core.TyperCommand):
    """A command whose line may end with `--` and another program's line, which is then the context's `obj`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # noqa: ANN401 (click's own)
        end = args.index("--") if "--" in args else len(args)
        ctx.obj = args[end + 1 :]
        return super().parse_args(ctx, args[:end])


@contextmanager
def _interruption_told() -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        print(_INTERRUPTED, file=sys.stderr)
        raise


class _Commands(typer.core.TyperGroup):
    """The commands; typer ends one that is interrupted with 130, and would say nothing."""

    def make_context(self, *arguments: Any, **others: Any) -> Any:  # noqa: ANN401 (click's own)
        with _interruption_told():
            return super().make_context(*arguments, **others)

    def invoke(self, ctx: Any) -> Any:  # noqa: ANN401
        with _interruption_told():
            return super().invoke(ctx)


app = typer.Typer(
    cls=_Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

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
    trust: Trust = False,
    upgrade: Annotated[
        bool, typer.Option("--upgrade", help="Take the newest of everything, whatever is locked.")
    ] = False,
    upgrade_packages: Annotated[
        list[str] | None,
        typer.Option(
            "-P",
            "--upgrade-package",
            metavar="NAME",
            help="Take the newest of one package, and move only what must move with it; may be given again.",
            show_default=False,
        ),
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Only say whether the lock fits the model; exit status 1 if not.")
    ] = False,
    diff: Annotated[
        bool, typer.Option("--diff", help="Only show what locking would change, and write nothing.")
    ] = False,
    against: Annotated[
        str | None,
        typer.Option(
            "--against",
            metavar="OLD",
            help="Only show what changed since OLD, a lock file or a git revision.",
            show_default=False,
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print what changes as a JSON object.")] = False,
    resolve_only: Annotated[
        bool,
        typer.Option(
            "--resolve-only",
            help="Read indexes only, run nothing; `build` refuses that lock until `lock` has sealed it.",
        ),
    ] = False,
    package_set: Annotated[
        PackageSet | None,
        typer.Option(
            "--package-set",
            help="What images are made of.",
            show_default="the lock's, or else debian",
        ),
    ] = None,
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
    allow_older_index: Annotated[
        bool,
        typer.Option(
            "--allow-older-index",
            help="Take a mirror's index that is older than the one the lock was made of.",
        ),
    ] = False,
) -> None:
    """Choose exact versions of everything, and write tungsten.lock."""
    from tungstenkit.cli.progress import TERMINAL, err
    from tungstenkit.project.project import Project

    solving = diff or upgrade or resolve_only or allow_older_index
    solving = solving or bool(upgrade_packages or platforms or python or package_set)
    if sum((check, against is not None, solving)) > 1 or (check and as_json):
        raise typer.BadParameter("--check and --against only read locks: leave the other options out")
    if upgrade and upgrade_packages:
        raise typer.BadParameter("--upgrade takes the newest of everything: leave --upgrade-package out")
    if against is not None:
        from tungstenkit.project.locking import compare_locks

        show_comparison(compare_locks(directory.resolve(), against, TERMINAL), as_json=as_json)
        return
    project = Project.read(directory, module, class_name, TERMINAL, trust=trust)
    if check:
        project.checked_lock()
        print(f"{project.lock_path} fits the model")
        return
    from packaging.utils import canonicalize_name

    from tungstenkit.project.locking import Relock, make_lock
    from tungstenkit.lock.unpin import POST_BUILD

    wish = Relock(
        upgrade=upgrade,
        upgrade_packages=upgrade_packages or (),
        write=not diff,
        resolve_only=resolve_only,
        package_set=package_set.value if package_set else "",
        systems=platforms or (),
        python=python,
        allow_older_index=allow_older_index,
    )
    made = make_lock(project, wish)
    TERMINAL.locked(made)
    lock, difference = made.lock, made.difference
    moved = {canonicalize_name(change.name) for change in difference.changes}
    # A base image is a fact of a platform: `x86_64-linux: base image`.
    moved |= {
        canonicalize_name(fact.subject.rpartition(": ")[2].replace(" ", "-")) for fact in difference.facts
    }
    for name in upgrade_packages or ():
        if name == POST_BUILD:
            if diff or resolve_only:
                err.print(f"{name} was not run: only a lock that is written and sealed has its result")
        elif canonicalize_name(name) not in moved:
            err.print(_stays(name, lock), markup=False)
    if diff or as_json:
        show_comparison(difference, as_json=as_json)
    else:
        print(project.lock_path)


def _stays(name: str, lock: Lock) -> str:
    from packaging.utils import canonicalize_name

    from tungstenkit.lock.document import declared_by_name, packages
    from tungstenkit.lock.unpin import BASE_IMAGE

    if name == BASE_IMAGE:
        return f"{name} stays: its name still means the same image"
    if name in declared_by_name(lock):
        return f"{name} stays: there is nothing newer where the model says it is"
    versions = {
        one.package.version
        for one in packages(lock)
        if one.place == "image" and one.name in (name, canonicalize_name(name))
    }
    # A lock file of another tool goes before what is newer.
    file = lock.inputs.get("lock-file", {}).get("file")
    held = f", or {file} has this one" if file else ""
    return f"{name} stays at {', '.join(sorted(versions))}: no newer one fits the model and what else is locked{held}"


@app.command("why")
def why_command(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A Debian package or a Python project.")],
    directory: Directory = Path(),
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON list.")] = False,
) -> None:
    """Say who asked for a package, from the lock alone."""
    from tungstenkit.cli import tables
    from tungstenkit.document import to_json
    from tungstenkit.lock.document import LOCK_NAME, read_lock
    from tungstenkit.cli.progress import err, out
    from tungstenkit.audit.vulnerabilities import known_here
    from tungstenkit.audit.why import why

    path = directory.resolve() / LOCK_NAME
    lock = read_lock(path)
    advisories = known_here()
    reasons = why(lock, name, advisories)
    if as_json:
        print(to_json([reason.model_dump(mode="json", by_alias=True) for reason in reasons]), end="")
        return
    for reason in reasons:
        for line in tables.reason_lines(reason):
            out.print(line)
    for notice in advisories.notices:
        err.print(notice, markup=False)


@app.command("fetch")
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
    from tungstenkit.fetch import carry
    from tungstenkit.fetch.bring import missing_files, store_paths
    from tungstenkit.lock.selection import choose_platform, part_of
    from tungstenkit.platforms import this_system
    from tungstenkit.cli.progress import TERMINAL, err, working
    from tungstenkit.project.project import Project, fetch_inputs, provide_result

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


@app.command("nix-export")
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
    from tungstenkit.fetch.bring import add_big
    from tungstenkit.data import SEVEN_ZIP
    from tungstenkit.fetch.download import download
    from tungstenkit.export.export import export, git_notice, public
    from tungstenkit.lock.selection import check_package_set
    from tungstenkit.fetch.needs import gated_hashes, needed_files
    from tungstenkit.platforms import this_system
    from tungstenkit.cli.progress import TERMINAL, FetchBar, err, working
    from tungstenkit.project.project import Project, find_sources

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
        export(project.spec, lock, project.directory, shipped.files, sources, out, made, big)
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


@app.command("build")
def build_command(
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
    from tungstenkit.nix_build import build as builder
    from tungstenkit.project.making import make_image
    from tungstenkit.cli.progress import TERMINAL, err
    from tungstenkit.project.project import Project
    from tungstenkit.spec.spec import repository_name

    project = Project.read(directory, module, class_name, TERMINAL, trust=trust)
    engine = builder.find_engine() if load else None
    reference = builder.reference(
        repository_name(project.directory.name) if name is None else name, tag, engine
    )
    system, image = make_image(project, engine, reference, platform, out_link)
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


@app.command("shell", cls=_BeforeAnother, epilog="After `--`, a command to run in place of your shell.")
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
    """Start your shell with the image's own Python and programs first on PATH."""
    from tungstenkit.run import shell
    from tungstenkit.project.making import make_shell
    from tungstenkit.cli.progress import TERMINAL
    from tungstenkit.project.project import Project

    shell.check_machine()
    folder = make_shell(Project.read(directory, module, class_name, TERMINAL, trust=trust))
    if print_env:
        print((folder / "env").read_text(encoding="utf-8"), end="")
        return
    start = str(folder / "start")
    os.execv(start, [start, *context.obj])  # noqa: S606


@app.command("push")
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
        str | None, typer.Option("--platform", metavar="SYSTEM", help="The platform of the image.")
    ] = None,
    skopeo_args: Annotated[
        list[str] | None,
        typer.Option(
            "--skopeo-arg", metavar="ARG", help="One more argument for `skopeo copy`; may be repeated."
        ),
    ] = None,
) -> None:
    """Build the model's image and push it to a registry, by skopeo, under the digest that it has here."""
    from tungstenkit.nix_build import build as builder
    from tungstenkit.project.making import make_image
    from tungstenkit.cli.progress import TERMINAL, working
    from tungstenkit.project.project import Project

    builder.check_target(reference)
    builder.check_skopeo()
    _, image = make_image(
        Project.read(directory, module, class_name, TERMINAL, trust=trust), None, reference, platform
    )
    with working(f"pushing to {reference}"):
        builder.push(image, reference, skopeo_args or ())
    print(f"{reference}@{image.digest}")


Target = Annotated[
    str,
    typer.Argument(
        metavar="NAME|DIR", help="An image, or a model's folder, which is built first.", show_default="."
    ),
]
Local = Annotated[
    bool, typer.Option("--local", help="Run DIR in this Python: no container, no build, no lock.")
]
ModelPython = Annotated[
    str | None,
    typer.Option(
        "--model-python",
        metavar="PYTHON",
        envvar="TUNGSTEN_MODEL_PYTHON",
        help="With --local: the Python that runs the model; `tungsten shell` sets it.",
        show_default="this one",
    ),
]
NoGpu = Annotated[bool, typer.Option("--no-gpu", help="Run a model that wants a GPU without one.")]
GpuDevices = Annotated[
    str, typer.Option("--gpu-devices", metavar="LIST", help="GPUs that the model sees: numbers or UUIDs.")
]
EngineArgs = Annotated[
    list[str] | None,
    typer.Option(
        "--engine-arg",
        metavar="ARG",
        envvar="TUNGSTEN_ENGINE_ARGS",
        help="One more argument for `podman run` or `docker run`; may be repeated.",
    ),
]


@app.command(
    "serve", help="Run a model's server until Ctrl-C, and print its address once the model is ready."
)
@app.command("demo", help="Do what `serve` does, and print the address of the demo page.")
def serve_command(
    context: typer.Context,
    target: Target = ".",
    module: Module = None,
    class_name: Class = None,
    *,
    trust: Trust = False,
    port: Annotated[
        int, typer.Option("-p", "--port", min=0, max=65535, help="Where it listens; 0 takes a free port.")
    ] = 3000,
    host: Annotated[
        str, typer.Option("--host", help="The address; 0.0.0.0 lets other machines reach it.")
    ] = "127.0.0.1",
    local: Local = False,
    model_python: ModelPython = None,
    reload_: Annotated[
        bool,
        typer.Option("--reload", help="With --local: serve the new code once a file of the model's changes."),
    ] = False,
    batch_size: Annotated[
        int | None,
        typer.Option(
            "--batch-size", metavar="N", min=1, help="Most inputs in a batch.", show_default="the model's"
        ),
    ] = None,
    workers: Annotated[
        int | None, typer.Option("--workers", metavar="N", min=1, help="Model processes.")
    ] = None,
    setup_timeout: Annotated[
        float | None, typer.Option("--setup-timeout", metavar="SECONDS", help="What `setup` may take.")
    ] = None,
    prediction_timeout: Annotated[
        float | None,
        typer.Option("--prediction-timeout", metavar="SECONDS", help="What a call of `predict` may take."),
    ] = None,
    no_gpu: NoGpu = False,
    gpu_devices: GpuDevices = "all",
    engine_args: EngineArgs = None,
) -> None:
    """Run a server in the foreground; under two names."""
    from tungstenkit.cli.progress import err
    from tungstenkit.run.run import Address, running

    given = {
        "--max-batch-size": batch_size,
        "--workers": workers,
        "--setup-timeout": setup_timeout,
        "--prediction-timeout": prediction_timeout,
    }
    flags = [text for flag, value in given.items() if value is not None for text in (flag, str(value))]
    if reload_ and not local:
        raise typer.BadParameter("--reload needs --local: an image does not change")
    model = Model(
        target,
        module,
        class_name,
        local,
        None if no_gpu else gpu_devices,
        engine_args or [],
        model_python,
        trust,
    )
    address = Address.choose(host, port)
    page = address.url + ("/demo" if context.command.name == "demo" else "")
    with tempfile.TemporaryDirectory(prefix="tungsten-") as scratch:
        if reload_:
            model.serve_reloading(address, flags, Path(scratch), lambda: print(page, flush=True))
            return
        program = model.program(address, flags, Path(scratch))
        with running(program, echo=True) as server:
            try:
                is_ready = server.wait_until("/healthz") and server.wait_until("/readyz")
                if is_ready:
                    print(page, flush=True)
                status = server.wait()
                if not is_ready and (error := server.setup_error()):
                    print(error, file=sys.stderr)
            except KeyboardInterrupt:
                err.print("stopping: what was accepted is answered first; Ctrl-C again ends it now")
                status = server.stop()
    raise typer.Exit(status)


@app.command("predict")
def predict_command(
    target: Annotated[
        str,
        typer.Argument(
            metavar="NAME|DIR|URL",
            help="An image, a model's folder, or a server that runs already.",
            show_default=".",
        ),
    ] = ".",
    module: Module = None,
    class_name: Class = None,
    *,
    trust: Trust = False,
    inputs: Annotated[
        list[str] | None,
        typer.Option(
            "-i",
            "--input",
            metavar="NAME=VALUE",
            help="One field of the input, a file by its path; once for each field.",
        ),
    ] = None,
    output_dir: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output-file-dir",
            metavar="DIR",
            help="Where output files are written; what is in the default never ships.",
            show_default="tungsten-results",
        ),
    ] = None,
    demo: Annotated[
        bool, typer.Option("--demo", help="Run `predict_demo`, and show what it prints.")
    ] = False,
    local: Local = False,
    model_python: ModelPython = None,
    no_gpu: NoGpu = False,
    gpu_devices: GpuDevices = "all",
    engine_args: EngineArgs = None,
) -> None:
    """Predict one input, and print the output as JSON, with the paths of its files."""
    from tungstenkit.run.client import Client, PredictionError, checked_input, parse_input, save_files
    from tungstenkit.spec.files import RESULTS
    from tungstenkit.cli.progress import TERMINAL, err, working
    from tungstenkit.project.project import Project
    from tungstenkit.run.run import Address, image_input_schema, running

    output_dir = output_dir or Path(RESULTS)
    _say_if_it_ships(output_dir)
    model = Model(
        target,
        module,
        class_name,
        local,
        None if no_gpu else gpu_devices,
        engine_args or [],
        model_python,
        trust,
    )
    with ExitStack() as stack:
        server = None
        is_folder = Path(target).is_dir()
        parts = None
        if re.match("https?://", target):
            client = Client(target)
        else:
            # What is wrong with the input is told before anything is built, and before anything is started.
            if is_folder:
                spec = Project.read(Path(target), module, class_name, TERMINAL, trust=trust).spec
                parts = checked_input(inputs or [], spec.input_schema, stack)
            scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tungsten-")))
            program = model.program(Address.choose("127.0.0.1", 0), [], scratch)
            if parts is None:
                schema = image_input_schema(program.command[0], target, model.engine_args)
                parts = None if schema is None else checked_input(inputs or [], schema, stack)
            server = stack.enter_context(running(program, scratch / "log"))
            client = server.client
        with working("starting the model" if server is not None else "asking the server"):
            if server is not None:
                server.expect("/healthz")
                if parts is not None:
                    # Where setup fails at once, nobody answers any more.
                    server.expect("/readyz")
            metadata = client.metadata()
            if parts is None:
                parts = parse_input(inputs or [], metadata["input_schema"], stack)
            if server is not None:
                server.expect("/readyz")
        try:
            with working("predicting"):
                prediction = client.predict(
                    parts, demo=demo, on_log=lambda text: err.print(text, end="", markup=False)
                )
        except PredictionError as problem:
            if server is None:
                raise
            server.stop()
            raise server.prediction_error(problem) from None
        if server is not None:
            server.stop()
        answer = save_files(prediction["outputs"][0], metadata["output_schema"], output_dir)
        if demo:
            (shown,) = prediction["demo_outputs"] or [None]
            shown = save_files(shown, metadata["demo_output_schema"], output_dir, ("demo",))
            answer = {"output": answer, "demo_output": shown}
    print(json.dumps(answer, indent=2, ensure_ascii=False))


@app.command("check")
def check_command(
    directory: Directory = Path(),
    module: Module = None,
    class_name: Class = None,
    *,
    trust: Trust = False,
    seed: Annotated[int, typer.Option("--seed", help="Of the inputs that are made up.")] = 0,
    timeout: Annotated[
        float, typer.Option("--timeout", metavar="SECONDS", min=1, help="What one prediction may take.")
    ] = 300.0,
    output_dir: Annotated[
        Path | None,
        typer.Option(
            "-o", "--output-dir", metavar="DIR", help="Keep each input, its output and its log there."
        ),
    ] = None,
    no_gpu: NoGpu = False,
    engine_args: EngineArgs = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON object.")] = False,
) -> None:
    """Build a model, send it its own examples and made-up inputs, valid and not, and report what fails."""
    from tungstenkit import machine
    from tungstenkit.cli import tables
    from tungstenkit.trial.check import PeakMemory, Report, save_trials, try_model
    from tungstenkit.run.image_root import root_program
    from tungstenkit.project.making import make_image, make_root
    from tungstenkit.platforms import this_system
    from tungstenkit.cli.progress import TERMINAL, err, out, working
    from tungstenkit.project.project import Project
    from tungstenkit.run.run import Address, running

    if output_dir is not None:
        _say_if_it_ships(output_dir)
    project = Project.read(directory, module, class_name, TERMINAL, trust=trust)
    spec = project.spec
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tungsten-")))
        flags = ["--prediction-timeout", str(timeout), "--max-setups", "1"]
        address = Address.choose("127.0.0.1", 0)
        if spec.gpu and not no_gpu:
            if machine.gpu_memory("all") is None:
                make_image(project, None, "", this_system())
                err.print(
                    "[yellow]NOT TRIED:[/] the image is built and its import is checked. The model needs a GPU, which "
                    "this machine has not; --no-gpu tries it without"
                )
                raise typer.Exit(4)
            # The machine's driver is put into a container by the engine.
            model = Model(
                str(project.directory), module, class_name, False, "all", engine_args or [], None, trust
            )
            program = model.program(address, flags, scratch)
        else:
            layout, parts = make_root(project)
            program = root_program(layout, parts, scratch, address, flags)
        with working("starting the model") as report:
            began = time.monotonic()
            server = stack.enter_context(running(program, scratch / "log"))
            memory = PeakMemory(server.pid)
            if program.kill is None:
                stack.enter_context(memory.watch())
            server.expect("/healthz")
            server.expect("/readyz")
            ready = time.monotonic() - began
            trials, gaps = try_model(
                spec, server.url, scratch / "log", seed=seed, timeout=timeout, said=report
            )
        result = Report(spec.name, seed, ready, memory.bytes, spec.mem_gb, trials, gaps)
        if output_dir is not None:
            save_trials(trials, spec, output_dir.resolve())
    if as_json:
        print(json.dumps(result.to_json(), indent=2, sort_keys=True, ensure_ascii=False))
    else:
        for part in tables.check_lines(result):
            out.print(part)
    if not result.ok:
        raise typer.Exit(1)


@dataclass(frozen=True)
class Model:
    """What `serve`, `demo` and `predict` run, and how."""

    target: str
    module: str | None
    class_name: str | None
    local: bool
    gpus: str | None
    engine_args: list[str]
    model_python: str | None
    trust: bool

    def program(self, address: Address, flags: list[str], scratch: Path) -> Program:
        """Build the image if need be, and warn where the machine lacks what the model needs."""
        from tungstenkit.nix_build import build as builder
        from tungstenkit.project.making import make_image
        from tungstenkit.cli.progress import TERMINAL
        from tungstenkit.project.project import Project
        from tungstenkit.run.run import container, image_needs
        from tungstenkit.spec.spec import repository_name

        directory = Path(self.target)
        if self.local:
            project = Project.read(directory, self.module, self.class_name, TERMINAL, trust=self.trust)
            _say_what_local_leaves_out(project)
            return self._local(project, address, flags, scratch / "spec.json")
        engine = builder.find_engine()
        if engine is None:
            raise RunError(
                "there is no podman, and no docker with a daemon, to run the image",
                hint="install podman, or run the model's folder in this Python with --local",
            )
        image = self.target
        if directory.is_dir():
            project = Project.read(directory, self.module, self.class_name, TERMINAL, trust=self.trust)
            image = builder.reference(repository_name(project.directory.name), "latest", engine)
            make_image(project, engine, image)
        needs = image_needs(engine, image)
        self._check(needs)
        gpus = self.gpus if needs.gpu else None
        return container(engine, image, address, flags, gpus=gpus, engine_args=self.engine_args)

    def serve_reloading(
        self, address: Address, flags: list[str], scratch: Path, on_ready: Callable[[], None]
    ) -> None:
        """Serve a folder here until KeyboardInterrupt, its new code whenever it changes."""
        from tungstenkit.run import reload
        from tungstenkit.spec.files import select_files
        from tungstenkit.cli.progress import TERMINAL, err
        from tungstenkit.project.project import Project

        projects = [Project.read(Path(self.target), self.module, self.class_name, TERMINAL, trust=self.trust)]
        directory, gpu = projects[0].directory, projects[0].spec.gpu
        _say_what_local_leaves_out(projects[0])
        programs = 0

        def start(handover: Handover) -> Program:
            nonlocal programs
            programs += 1
            if programs > 1:
                projects.append(
                    Project.read(directory, self.module, self.class_name, TERMINAL, trust=self.trust)
                )
            return self._local(projects[-1], address, flags, scratch / f"spec-{programs}.json", handover)

        def look() -> reload.State:
            spec = projects[-1].spec
            try:
                files = select_files(directory, spec.include_files, spec.exclude_files, spec.module)
            except TungstenError:
                return {}  # half of a change; the other half is about to come
            return reload.state(directory, (file.path for file in files))

        events: SimpleQueue[reload.Event] = SimpleQueue()
        stop = threading.Event()
        watcher = threading.Thread(target=reload.watch, args=(directory, look, events, stop), daemon=True)
        with address.listen() as listener:
            watcher.start()
            reload.Reloading(
                start,
                listener,
                say=partial(err.print, markup=False),
                on_ready=on_ready,
                alone=gpu and self.gpus is not None,
            ).run(events)
        stop.set()

    def _local(
        self,
        project: Project,
        address: Address,
        flags: list[str],
        spec_file: Path,
        handover: Handover | None = None,
    ) -> Program:
        from tungstenkit.machine import Needs
        from tungstenkit.run.run import local as run_local

        spec = project.spec
        self._check(Needs(spec.mem_gb, spec.gpu, spec.gpu_mem_gb))
        return run_local(
            spec,
            spec_file,
            project.directory,
            address,
            flags,
            gpus=self.gpus,
            python=self.model_python,
            handover=handover,
        )

    def _check(self, needs: Needs) -> None:
        from rich.markup import escape

        from tungstenkit import machine
        from tungstenkit.cli.progress import err

        gpu_room = machine.gpu_memory(self.gpus) if needs.gpu and self.gpus is not None else None
        for notice in machine.shortages(needs, machine.memory(), gpu_room):
            err.print(f"[yellow]warning:[/] {escape(notice)}")


def _say_what_local_leaves_out(project: Project) -> None:
    from rich.markup import escape

    from tungstenkit.seal.declared import find_absent
    from tungstenkit.spec.files import excluding
    from tungstenkit.cli.progress import err

    for name in find_absent(project.spec.files, project.directory):
        err.print(f"[yellow]warning:[/] --local downloads nothing: {escape(name)} is not here")
    if project.spec.has_post_build:
        call = f"from {project.spec.module} import {project.spec.class_name} as M; M.post_build()"
        kept_out = excluding(project.spec.exclude_files, "WHAT_IT_MAKES")
        err.print(
            "[yellow]warning:[/] --local does not run post_build: what it makes must be in the folder. "
            + escape(
                f"`python -c '{call}'` makes it there; {kept_out} in define_model(…) keeps it out of the image"
            )
        )


def _say_if_it_ships(folder: Path) -> None:
    """Of a folder that results go to."""
    from rich.markup import escape

    from tungstenkit.spec.files import RESULTS, would_ship
    from tungstenkit.cli.progress import err

    if would_ship(folder):
        err.print(
            f"[yellow]warning:[/] {escape(str(folder))} is in a model's folder, so what is written there will be in "
            f"its image; what is in {RESULTS}/ never is"
        )


def _signals_interrupt() -> None:
    """A SIGTERM, and the end of the terminal, do what Ctrl-C does: nothing of ours is left behind."""
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # What is ignored already, as by `nohup`, stays so.
        if signal.getsignal(signum) is not signal.SIG_IGN:
            signal.signal(signum, signal.default_int_handler)


def show_comparison(difference: Difference, *, as_json: bool) -> None:
    """Print how two locks differ."""
    from tungstenkit.cli import tables
    from tungstenkit.cli.progress import out

    if as_json:
        print(difference.to_json(), end="")
        return
    for part in tables.comparison(difference):
        out.print(part)


_INTERRUPTED = "interrupted; nothing is half-written"


def main() -> None:
    """Run a command; every error that the user can mend has the one shape."""
    _signals_interrupt()
    try:
        try:
            app()
        finally:
            # What can't be written when Python ends can't be told any more.
            sys.stdout.flush()
    except KeyboardInterrupt:
        _fail(_INTERRUPTED, 130)
    except GoneError as problem:
        _fail(problem, 3)
    except TungstenError as problem:
        _fail(problem, 1)
    except BrokenPipeError:
        # Whoever reads what we print has enough, as `head` has.
        _fail(None, 1)
    except OSError as problem:
        error = _machines_error(problem)
        if error is None:
            raise
        _fail(error, 1)


def _fail(what: object, status: int) -> NoReturn:
    if what is not None:
        print(what, file=sys.stderr)
    # What could not be written would be tried again.
    with suppress(OSError):
        sys.stdout.flush()
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    sys.exit(status)


_MACHINES = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk is full: there is a quota",
    errno.EROFS: "a file can't be written: its file system is read-only",
    errno.EIO: "a disk fails",
    errno.ENOMEM: "there is no memory left",
    errno.EMFILE: "too many files are open",
    errno.ENFILE: "too many files are open",
}


def _machines_error(problem: OSError) -> RunError | None:
    """What is wrong with the machine, wherever it has come up; None for what may be a defect of ours."""
    where = str(problem.filename) if problem.filename is not None else None
    if what := _MACHINES.get(problem.errno or 0):
        hint = {
            errno.EMFILE: "allow more: `ulimit -n 4096`",
            errno.ENOSPC: "make room (`nix-collect-garbage` frees what no root holds), or set TMPDIR to a folder on "
            "another disk",
        }.get(problem.errno or 0)
        return RunError(what, where=where, hint=hint)
    if isinstance(problem, FileNotFoundError) and "No usable temporary directory" in str(problem):
        return RunError(
            "temporary files can't be written anywhere",
            where=str(problem).rpartition("found in ")[2].strip("[]").replace("'", ""),
            hint="make room in one of these folders, or set TMPDIR to another",
        )
    return None


if __name__ == "__main__":
    main()
