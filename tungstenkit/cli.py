"""`tungsten`, the command line: reads arguments, calls the pipeline's steps in order, and prints. Nothing else
prints.

What a command makes goes to standard output; notices, progress and errors go to standard error. Exit status: 0
done, 1 an error, 2 wrong usage, 3 a file that the lock names is on no mirror any more, 130 interrupted; `serve` and
`demo` pass on the server's own.
"""

from __future__ import annotations

import fcntl
import json
import re
import shlex
import signal
import sys
import tempfile
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
import typer.core
from packaging.utils import canonicalize_name
from rich.markup import escape

from tungstenkit import build as builder
from tungstenkit import commands, dockerfile, machine, post_build, store, tables
from tungstenkit.base_image import read_base
from tungstenkit.client import Client, parse_input, save_files
from tungstenkit.data import OWN_WHEELS, SEVEN_ZIP
from tungstenkit.diff import compare, old_lock
from tungstenkit.document import to_json
from tungstenkit.errors import FetchError, GoneError, LockError, RunError, TungstenError
from tungstenkit.export import bootstrap_urls, export, git_notice, public
from tungstenkit.fake_time import fake_time
from tungstenkit.fetch import (
    Input,
    absent,
    check_local,
    disk_error,
    download,
    fetch,
    inputs,
    locate,
    locate_own,
    pull_layers,
    stored,
)
from tungstenkit.files import likely_secrets, select_files
from tungstenkit.libraries import add_libraries
from tungstenkit.lock import (
    LOCK_NAME,
    POST_BUILD,
    Lock,
    check_lock,
    choose_platform,
    packages,
    part_of,
    read_lock,
    unpinned,
    write_lock,
)
from tungstenkit.machine import Needs
from tungstenkit.mirrors import Fetcher, find_mirrors
from tungstenkit.platforms import runs_here, this_system
from tungstenkit.post_build import Runner, add_post_build
from tungstenkit.progress import FetchBar, build_view, err, out, working
from tungstenkit.requirements import parse
from tungstenkit.resolve.base import loadable_on
from tungstenkit.resolve.libraries import KIND as LIBRARY
from tungstenkit.resolve.libraries import NOTHING
from tungstenkit.resolve.model import Solver, resolve
from tungstenkit.run import Address, Program, container, image_needs, running
from tungstenkit.run import local as run_local
from tungstenkit.seal import seal
from tungstenkit.source_wheels import build_wheels, unbuilt
from tungstenkit.spec import ModelSpec, read_spec, repository_name
from tungstenkit.twice import Step
from tungstenkit.vulnerabilities import known_here, look_up
from tungstenkit.why import why

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from tungstenkit.diff import Difference
    from tungstenkit.files import ModelFile
    from tungstenkit.mirrors import Mirrors
    from tungstenkit.platforms import Target as Platform
    from tungstenkit.resolve.base import Base
    from tungstenkit.vulnerabilities import Advisories

STATE = ".tungsten"
"""The folder beside the model where we keep what can be made again."""


class _Commands(typer.core.TyperGroup):
    """The commands; typer ends one that is interrupted with 130, and would say nothing."""

    def invoke(self, ctx: Any) -> Any:  # noqa: ANN401 (click's own)
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            print("interrupted; nothing is half-written", file=sys.stderr)
            raise


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

    def mirrors(self, get: Callable[[str], bytes] | None = None) -> Mirrors:
        """Where bytes come from on this machine, by what the model says of indexes, too."""
        return find_mirrors(self.directory, wishes=parse(self.spec.python_packages), get=get)

    def lock(self) -> Lock:
        """The lock, present, fresh and sealed."""
        lock = read_lock(self.lock_path)
        check_lock(lock, self.spec, self.lock_path)
        check_local(lock, self.directory)
        if self.spec.commands:
            commands.check(lock, self.spec, self.directory, self._selected(), str(self.lock_path))
        if self.spec.has_post_build:
            post_build.check(lock, self.spec, self.directory, self._selected(), str(self.lock_path))
        return lock

    def _selected(self, ignore: Sequence[Path] = ()) -> list[ModelFile]:
        patterns = self.spec.include_files, self.spec.exclude_files
        return select_files(self.directory, *patterns, self.spec.module, ignore)

    def files(self, out: Path | None = None) -> list[ModelFile]:
        """The files that ship; secrets among them are named on standard error."""
        files = self._selected(() if out is None else (out,))
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
    solving = diff or upgrade or resolve_only or bool(upgrade_packages or platforms or python)
    if sum((check, against is not None, solving)) > 1 or (check and as_json):
        raise typer.BadParameter("--check and --against only read locks: leave the other options out")
    if upgrade and upgrade_packages:
        raise typer.BadParameter("--upgrade takes the newest of everything: leave --upgrade-package out")
    if against is not None:
        show_comparison(compare_locks(directory.resolve(), against), as_json=as_json)
        return
    project = Project.read(directory, module, class_name)
    if check:
        project.lock()
        print(f"{project.lock_path} fits the model")
        return
    _, difference = make_lock(
        project,
        upgrade=upgrade,
        upgrade_packages=upgrade_packages or (),
        write=not diff,
        resolve_only=resolve_only,
        package_set=package_set,
        systems=platforms or (),
        python=python,
    )
    moved = {canonicalize_name(change.name) for change in difference.changes}
    # A base image is a fact of a platform: `x86_64-linux: base image`.
    moved |= {
        canonicalize_name(fact.subject.rpartition(": ")[2].replace(" ", "-")) for fact in difference.facts
    }
    for name in upgrade_packages or ():
        if name != POST_BUILD and canonicalize_name(name) not in moved:
            err.print(f"{name} stays: there is no newer one that fits what else is locked", markup=False)
    if diff or as_json:
        show_comparison(difference, as_json=as_json)
    else:
        print(project.lock_path)


@app.command("why")
def why_command(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A Debian package or a Python project.")],
    directory: Directory = Path(),
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON list.")] = False,
) -> None:
    """Say who asked for a package, from the lock alone."""
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
        for system in systems:
            provide_result(project, lock, system, project.files())
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
    local = [entry for entry in inputs(lock) if entry.is_own]
    with tempfile.TemporaryDirectory(prefix="tungsten-") as folder, FetchBar() as bar:
        urls = locate_own(local, project.directory)
        made = [download(entry, urls[entry.sha256], Path(folder), bar) for entry in local]
        export(project.spec, lock, project.directory, files, sources, out, made)
    wanted = [entry.sha256 for entry in inputs(lock) if not entry.is_own] + [SEVEN_ZIP["sha256"]]
    if unknown := sum(sha256 not in sources for sha256 in wanted):
        files_have = "1 file has" if unknown == 1 else f"{unknown} files have"
        err.print(f"{files_have} no public URL: where it is built, run `tungsten fetch` first")
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


Target = Annotated[
    str,
    typer.Argument(
        metavar="NAME|DIR", help="An image, or a model's folder, which is built first.", show_default="."
    ),
]
Local = Annotated[
    bool, typer.Option("--local", help="Run DIR in this Python: no container, no build, no lock.")
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
    port: Annotated[
        int, typer.Option("-p", "--port", min=0, max=65535, help="Where it listens; 0 takes a free port.")
    ] = 3000,
    host: Annotated[
        str, typer.Option("--host", help="The address; 0.0.0.0 lets other machines reach it.")
    ] = "127.0.0.1",
    local: Local = False,
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
    given = {
        "--max-batch-size": batch_size,
        "--workers": workers,
        "--setup-timeout": setup_timeout,
        "--prediction-timeout": prediction_timeout,
    }
    flags = [text for flag, value in given.items() if value is not None for text in (flag, str(value))]
    model = Model(target, module, class_name, local, None if no_gpu else gpu_devices, engine_args or [])
    _signals_interrupt()
    with tempfile.TemporaryDirectory(prefix="tungsten-") as scratch:
        program = model.program(Address.choose(host, port), flags, Path(scratch))
        with running(program) as server:
            try:
                if server.wait_until("/healthz") and server.wait_until("/readyz"):
                    print(server.url + ("/demo" if context.command.name == "demo" else ""), flush=True)
                status = server.wait()
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
        Path, typer.Option("-o", "--output-file-dir", metavar="DIR", help="Where output files are written.")
    ] = Path(),
    demo: Annotated[
        bool, typer.Option("--demo", help="Run `predict_demo`, and show what it prints.")
    ] = False,
    local: Local = False,
    no_gpu: NoGpu = False,
    gpu_devices: GpuDevices = "all",
    engine_args: EngineArgs = None,
) -> None:
    """Predict one input, and print the output as JSON, with the paths of its files."""
    model = Model(target, module, class_name, local, None if no_gpu else gpu_devices, engine_args or [])
    _signals_interrupt()
    with ExitStack() as stack:
        server = None
        if re.match("https?://", target):
            client = Client(target)
        else:
            if Path(target).is_dir():
                # What is wrong with the input is told before anything is built.
                spec = Project.read(Path(target), module, class_name).spec
                parse_input(inputs or [], spec.input_schema, stack)
            scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tungsten-")))
            program = model.program(Address.choose("127.0.0.1", 0), [], scratch)
            server = stack.enter_context(running(program, scratch / "log"))
            client = server.client
        with working("starting the model" if server is not None else "asking the server"):
            if server is not None:
                server.expect("/healthz")
            metadata = client.metadata()
            parts = parse_input(inputs or [], metadata["input_schema"], stack)
            if server is not None:
                server.expect("/readyz")
        with working("predicting"):
            prediction = client.predict(
                parts, demo=demo, on_log=lambda text: err.print(text, end="", markup=False)
            )
        if server is not None:
            server.stop()
        answer = save_files(prediction["outputs"][0], metadata["output_schema"], output_dir)
        if demo:
            (shown,) = prediction["demo_outputs"] or [None]
            shown = save_files(shown, metadata["demo_output_schema"], output_dir, ("demo",))
            answer = {"output": answer, "demo_output": shown}
    print(json.dumps(answer, indent=2, ensure_ascii=False))


@dataclass(frozen=True)
class Model:
    """What `serve`, `demo` and `predict` run, and how."""

    target: str
    module: str | None
    class_name: str | None
    local: bool
    gpus: str | None
    engine_args: list[str]

    def program(self, address: Address, flags: list[str], scratch: Path) -> Program:
        """Build the image if need be, and warn where the machine lacks what the model needs."""
        directory = Path(self.target)
        if self.local:
            project = Project.read(directory, self.module, self.class_name)
            spec = project.spec
            self._check(Needs(spec.mem_gb, spec.gpu, spec.gpu_mem_gb))
            return run_local(spec, scratch / "spec.json", project.directory, address, flags, gpus=self.gpus)
        engine = builder.find_engine()
        if engine is None:
            raise RunError(
                "there is no podman, and no docker with a daemon, to run the image",
                hint="install podman, or run the model's folder in this Python with --local",
            )
        image = self.target
        if directory.is_dir():
            project = Project.read(directory, self.module, self.class_name)
            image = builder.reference(repository_name(project.directory.name), "latest", engine)
            make_image(project, engine, image)
        needs = image_needs(engine, image)
        self._check(needs)
        gpus = self.gpus if needs.gpu else None
        return container(engine, image, address, flags, gpus=gpus, engine_args=self.engine_args)

    def _check(self, needs: Needs) -> None:
        gpu_room = machine.gpu_memory(self.gpus) if needs.gpu and self.gpus is not None else None
        for notice in machine.shortages(needs, machine.memory(), gpu_room):
            err.print(f"[yellow]warning:[/] {escape(notice)}")


def _signals_interrupt() -> None:
    """A SIGTERM, and the end of the terminal, do what Ctrl-C does: a server of ours ends with us."""
    for signum in (signal.SIGTERM, signal.SIGHUP):
        # What is ignored already, as by `nohup`, stays so.
        if signal.getsignal(signum) is signal.SIG_DFL:
            signal.signal(signum, signal.default_int_handler)


def make_image(
    project: Project,
    engine: str | None,
    reference: str,
    platform: str | None = None,
    out_link: Path | None = None,
) -> tuple[str, builder.Image]:
    """Lock where there is no lock, fetch, export, build, and load into the engine; the image and its platform."""
    wanted = () if platform is None else (platform,)
    lock = project.lock() if project.lock_path.exists() else make_lock(project, systems=wanted)[0]
    system = choose_platform(lock, platform, this_system())
    files = project.files()
    with project.alone():
        fetch_inputs(project, lock, [system])
        flake = project.state / "export"
        # Every input is in the store by now, so this export needs no URLs, and no network to find them.
        export(project.spec, lock, project.directory, files, {}, flake)
        provide_result(project, lock, system, files)
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
    return system, image


def make_lock(
    project: Project,
    *,
    upgrade: bool = False,
    upgrade_packages: Sequence[str] = (),
    write: bool = True,
    resolve_only: bool = False,
    package_set: str = "debian",
    systems: Sequence[str] = (),
    python: str | None = None,
) -> tuple[Lock, Difference]:
    """Resolve and seal, and write the lock; the result says also how it differs from the one before."""
    for notice in dockerfile.parse(project.spec.dockerfile_commands).notices:
        err.print(notice, markup=False)
    before, pins = _pins(project.lock_path, upgrade=upgrade, upgrade_packages=upgrade_packages)
    # What is upgraded is versions: the platforms are those of the lock all the same.
    systems = systems or (tuple(before.platforms) if before is not None else ())
    with working("looking for mirrors") as report, tempfile.TemporaryDirectory(prefix="tungsten-") as scratch:
        get = Fetcher()
        mirrors = project.mirrors(get)
        for notice in mirrors.notices:
            err.print(notice)
        solver = Solver(
            mirrors, get, report, partial(err.print, markup=False), project.directory, Path(scratch)
        )
        bases = Bases(project, pins, python, report) if project.spec.base_image is not None else None
        lock = resolve(project.spec, solver, pins, package_set, systems=systems, python=python, base_of=bases)
        if not resolve_only:
            report("sealing")
            lock = _seal(project, lock, pins, solver, bases.libraries if bases else {}, run=write)
        if write:
            write_lock(lock, project.lock_path)
        report("asking for known vulnerabilities")
        difference = compare(before, lock, advisories_for(mirrors, before, lock))
    for choice in lock.choices:
        if choice.kind in (LIBRARY, "renamed") and (before is None or choice not in before.choices):
            chosen = f"not added: {choice.reason}" if choice.chosen == NOTHING else choice.chosen
            err.print(f"{choice.subject}: {chosen}", markup=False)
    for system, platform in lock.platforms.items():
        cuda = f", CUDA {platform.cuda.version}" if platform.cuda else ""
        built = f", {len(platform.sources)} built from source" if platform.sources else ""
        base = platform.base_image.reference if platform.base_image else f"Debian {platform.release}"
        made = ", and what post_build made" if platform.post_build else ""
        old = before.platforms.get(system) if before is not None else None
        if (
            old
            and old.post_build
            and platform.post_build
            and old.post_build.sha256 != platform.post_build.sha256
        ):
            made += ", which has changed"
        err.print(
            f"{'locked' if write else 'would lock'} {system}: Python {platform.python} on {base}, "
            f"{len(platform.debs)} Debian packages, {len(platform.wheels)} wheels{built}{cuda}{made}"
        )
    if write:
        for line in tables.summary(difference):
            err.print(line)
    return lock, difference


def _pins(path: Path, *, upgrade: bool, upgrade_packages: Sequence[str]) -> tuple[Lock | None, Lock | None]:
    """The lock that there is, and as much of it as shall be kept."""
    if upgrade:
        try:
            return (read_lock(path) if path.exists() else None), None
        except LockError:
            return None, None  # it is not needed, and is about to be replaced
    if not path.exists() and not upgrade_packages:
        return None, None
    lock = read_lock(path)
    return lock, unpinned(lock, upgrade_packages)


def advisories_for(mirrors: Mirrors, *locks: Lock | None) -> Advisories:
    """What is known of the packages in some locks' images."""
    wanted = [p for lock in locks if lock for p in packages(lock) if p.place in ("image", "server")]
    return look_up(wanted, mirrors)


def compare_locks(directory: Path, old: str) -> Difference:
    """What changed from an old lock to the one in a folder."""
    path = directory / LOCK_NAME
    lock, before = read_lock(path), old_lock(old, path)
    with working("asking for known vulnerabilities"):
        mirrors = find_mirrors(directory, wishes=parse(lock.inputs.get("python-packages", ())))
        return compare(before, lock, advisories_for(mirrors, before, lock))


def show_comparison(difference: Difference, *, as_json: bool) -> None:
    """Print how two locks differ."""
    if as_json:
        print(difference.to_json(), end="")
        return
    for part in tables.comparison(difference):
        out.print(part)


class Bases:
    """Reads a model's base image, for each platform once."""

    def __init__(
        self, project: Project, previous: Lock | None, python: str | None, report: Callable[[str], None]
    ) -> None:
        self._project = project
        platforms = previous.platforms if previous else {}
        self._previous = {name: one.base_image for name, one in platforms.items() if one.base_image}
        self._python = ".".join(python.split(".")[:2]) if python else project.spec.python_version
        self._report = report
        self.libraries: dict[str, frozenset[str]] = {}

    def __call__(self, system: str) -> Base:
        """The base image for a platform; what of the declaration it makes void is said."""
        spec = self._project.spec
        assert spec.base_image is not None
        self._report(f"reading the base image {spec.base_image} for {system}")
        base = read_base(spec.base_image, system, self._python, self._previous, self._get)
        if not self.libraries:
            if spec.system_packages:
                err.print("system_packages is ignored: the system is that of base_image")
            if base.left:
                err.print(f"not taken over from {spec.base_image}: {', '.join(base.left)}", markup=False)
        self.libraries[system] = base.libraries
        return base

    def _get(self, entries: Sequence[Input]) -> list[Path]:
        state = self._project.state
        with self._project.alone(), FetchBar() as bar:
            found = {entry: stored(entry) for entry in entries}
            absent = list(dict.fromkeys(entry for entry, path in found.items() if path is None))
            bar.start(len(absent), sum(entry.size for entry in absent))
            try:
                (state / "downloads").mkdir(exist_ok=True)
                pulled = dict(zip(absent, pull_layers(absent, state / "downloads", bar), strict=True))
            except OSError as problem:
                raise disk_error(problem, state) from None
        return [found[entry] or pulled[entry] for entry in entries]


def _seal(
    project: Project,
    lock: Lock,
    previous: Lock | None,
    solver: Solver,
    base_libraries: Mapping[str, frozenset[str]],
    *,
    run: bool,
) -> Lock:
    """The sealed lock. What is downloaded for it is where `tungsten fetch` looks for it.

    run: whether the user's own code runs; without its results the lock is good for a look alone.
    """
    downloads = project.state / "downloads"
    with project.alone(), FetchBar() as bar:

        def get(entry: Input) -> Path:
            if path := stored(entry):
                return path
            urls = locate([entry], lock, solver.mirrors, project.directory)[entry.sha256]
            return download(entry, urls, downloads, bar)

        def build(lock: Lock) -> Lock:
            if not unbuilt(lock):
                return lock
            with build_view() as view:
                return build_wheels(lock, get, view, project.state)

        def libraries(lock: Lock) -> Lock:
            return add_libraries(
                lock, project.spec, solver, previous, get, bar, base_libraries=base_libraries
            )

        def made(lock: Lock) -> Lock:
            if not run or not (project.spec.has_post_build or project.spec.commands):
                return lock
            files = project.files()
            with build_view() as view:

                def step(lock: Lock, system: str, name: str = "post-build") -> Step:
                    fetch_inputs(project, lock, [system])
                    return export_step(project, lock, system, files, view, name)

                @cache
                def library(target: Platform) -> Path | None:
                    fitting = loadable_on(lock.platforms[target.system].base_image, target)
                    if fitting is not None:
                        return fake_time(fitting, solver, get, downloads)
                    solver.notice(
                        "the second run has the same clock as the first: the base image is too old for it"
                    )
                    return None

                how = (project.spec, project.directory, files, step, library, solver.report)
                lock = commands.add_commands(lock, previous, commands.Runner(*how))
                return add_post_build(lock, previous, Runner(*how))

        try:
            downloads.mkdir(exist_ok=True)
            return seal(lock, get, build, libraries, made)
        except OSError as problem:
            raise disk_error(problem, project.state) from None


def export_step(
    project: Project,
    lock: Lock,
    system: str,
    files: Sequence[ModelFile],
    view: builder.View,
    name: str = "post-build",
) -> Step:
    """A platform's step, in an export of its own; all inputs are in the store."""
    folder = project.state / "step"
    export(project.spec, part_of(lock, [system], this_system()), project.directory, files, {}, folder)
    return Step(folder, system, name, project.state, view)


def provide_result(project: Project, lock: Lock, system: str, files: Sequence[ModelFile]) -> None:
    """Run what has the network where its recorded result is not in the store; all other inputs are."""
    platform = lock.platforms[system]
    for number in commands.missing(project.spec, platform) if system == this_system() else ():
        err.print("running a RUN --network=default: its result is not in the Nix store")
        with build_view() as view:
            step = export_step(project, lock, system, files, view, f"command-{number}")
            commands.provide(number, platform, step, project.spec)
    entry = lock.platforms[system].post_build
    if entry is None or not post_build.is_missing(entry):
        return
    if system != this_system():
        err.print(
            f"what post_build makes for {system} is not in the Nix store, and can't be made on this machine"
        )
        return
    err.print("running post_build: its result is not in the Nix store")
    with build_view() as view:
        post_build.provide(entry, export_step(project, lock, system, files, view), project.spec)


def find_sources(project: Project, lock: Lock) -> dict[str, list[str]]:
    """Where the lock's files are on this machine; without a network an export is complete but for that."""
    with working("asking the mirrors where each file is"):
        try:
            mirrors = project.mirrors()
            found = locate(inputs(lock), lock, mirrors, project.directory) | bootstrap_urls(mirrors)
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
            urls = locate(wanted, lock, project.mirrors(), project.directory)
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


if __name__ == "__main__":
    main()
