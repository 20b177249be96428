"""`tungsten check`: a model tried with its own examples and made-up inputs."""

from __future__ import annotations

import json
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer
import typer.core

from tungstenkit.cli.arguments import Class, Directory, EngineArgs, Module, NoGpu, Trust, say_if_it_ships
from tungstenkit.cli.model import Model


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
    from tungstenkit.cli.progress import TERMINAL, err, out, working
    from tungstenkit.platforms import this_system
    from tungstenkit.project.folder import Project
    from tungstenkit.project.making import make_image, make_root
    from tungstenkit.run.address import Address
    from tungstenkit.run.image_root import root_program
    from tungstenkit.run.server import running
    from tungstenkit.trial.check import PeakMemory, Report, save_trials, try_model

    if output_dir is not None:
        say_if_it_ships(output_dir)
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
