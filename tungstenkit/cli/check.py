"""`tungsten check`: a model tried with its own examples and made-up inputs."""

from __future__ import annotations

import json
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
import typer.core

from tungstenkit import started
from tungstenkit.cli.arguments import Class, Directory, EngineArgs, Module, NoGpu, Trust, say_if_it_ships

if TYPE_CHECKING:
    from tungstenkit.models.target import Target
    from tungstenkit.project.folder import Project
    from tungstenkit.run.program import Program
    from tungstenkit.spec.document import ModelSpec
    from tungstenkit.trial.check import Report


Seed = Annotated[int, typer.Option("--seed", help="Of the inputs that are made up.")]


Timeout = Annotated[
    float, typer.Option("--timeout", metavar="SECONDS", min=1, help="What one prediction may take.")
]


OutputDir = Annotated[
    Path | None,
    typer.Option("-o", "--output-dir", metavar="DIR", help="Keep each input, its output and its log there."),
]


AsJson = Annotated[bool, typer.Option("--json", help="Print a JSON object.")]


def check_command(
    directory: Directory = Path(),
    module: Module = None,
    class_name: Class = None,
    *,
    trust: Trust = False,
    seed: Seed = 0,
    timeout: Timeout = 300.0,
    output_dir: OutputDir = None,
    no_gpu: NoGpu = False,
    engine_args: EngineArgs = None,
    as_json: AsJson = False,
) -> None:
    """Try a model with its own examples and made-up inputs.

    Builds it, sends it inputs that are valid and some that are not, and reports what fails.
    """
    from tungstenkit.cli import tables
    from tungstenkit.cli.progress import out
    from tungstenkit.cli.terminal import TERMINAL
    from tungstenkit.models.target import Target
    from tungstenkit.project.folder import Project
    from tungstenkit.trial.check import save_trials

    if output_dir is not None:
        say_if_it_ships(output_dir)
    project = Project.read(directory, module, class_name, TERMINAL, trust=trust)
    gpus = "all" if project.spec.gpu and not no_gpu else None
    model = Target(
        str(project.directory),
        module,
        class_name,
        gpus=gpus,
        engine_args=engine_args or [],
        trust=trust,
        watch=TERMINAL,
    )
    with started.scratch() as scratch:
        program = _program(project, model, scratch, timeout)
        result = _tried(project.spec, program, scratch / "log", seed=seed, timeout=timeout)
        if output_dir is not None:
            save_trials(result.trials, project.spec, output_dir.resolve())
    if as_json:
        print(json.dumps(result.to_json(), indent=2, sort_keys=True, ensure_ascii=False))
    else:
        for part in tables.check_lines(result):
            out.print(part)
    if not result.ok:
        raise typer.Exit(1)


def _program(project: Project, model: Target, scratch: Path, timeout: float) -> Program:
    """The server to try: on a GPU in a container, else in the image's root. Ends with status 4 for want of a GPU."""
    from tungstenkit import machine
    from tungstenkit.cli.progress import err
    from tungstenkit.platforms import this_system
    from tungstenkit.project.making import make_image, make_root
    from tungstenkit.run.address import Address
    from tungstenkit.run.image_root import root_program

    flags = ["--prediction-timeout", str(timeout), "--max-setups", "1"]
    address = Address.choose("127.0.0.1", 0)
    if model.gpus is None:
        layout, parts = make_root(project)
        return root_program(layout, parts, scratch, address, flags)
    if machine.gpu_memory("all") is None:
        make_image(project, None, "", this_system())
        err.print(
            "[yellow]NOT TRIED:[/] the image is built and its import is checked. The model needs a GPU, which "
            "this machine has not; --no-gpu tries it without"
        )
        raise typer.Exit(4)
    # The machine's driver is put into a container by the engine.
    return model.program(address, flags, scratch)


def _tried(spec: ModelSpec, program: Program, log: Path, *, seed: int, timeout: float) -> Report:
    """Start a server, try its model, and end it."""
    from tungstenkit.cli.progress import working
    from tungstenkit.run.server import running
    from tungstenkit.trial.check import PeakMemory, Report, try_model

    with ExitStack() as stack:
        with working("starting the model") as report:
            began = time.monotonic()
            server = stack.enter_context(running(program, log))
            memory = PeakMemory(server.pid)
            if program.kill is None:
                stack.enter_context(memory.watch())
            server.expect("/healthz")
            server.expect("/readyz")
            ready = time.monotonic() - began
            trials, gaps = try_model(spec, server.url, log, seed=seed, timeout=timeout, said=report)
        return Report(spec.name, seed, ready, memory.bytes, spec.mem_gb, trials, gaps)
