"""`tungsten serve`, `demo` and `predict`: a model's server in the foreground, or for one prediction."""

from __future__ import annotations

import json
import re
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer
import typer.core

from tungstenkit.cli.arguments import Class, EngineArgs, Module, NoGpu, Trust, say_if_it_ships
from tungstenkit.cli.model import Model

if TYPE_CHECKING:
    from tungstenkit.run.client import Client, Part
    from tungstenkit.run.program import Program
    from tungstenkit.run.server import Running

Target = Annotated[
    str,
    typer.Argument(
        metavar="NAME|DIR", help="An image, or a model's folder, which is built first.", show_default="."
    ),
]


Local = Annotated[
    bool, typer.Option("--local", help="Run DIR in this Python: no container, no build, no lock.")
]


NoEngine = Annotated[
    bool,
    typer.Option(
        "--no-engine",
        help="Run DIR's image without podman or docker: its root, apart from this machine but for the network. Where "
        "there is neither, that is what is done.",
    ),
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


GpuDevices = Annotated[
    str, typer.Option("--gpu-devices", metavar="LIST", help="GPUs that the model sees: numbers or UUIDs.")
]


Port = Annotated[
    int, typer.Option("-p", "--port", min=0, max=65535, help="Where it listens; 0 takes a free port.")
]


Host = Annotated[str, typer.Option("--host", help="The address; 0.0.0.0 lets other machines reach it.")]


Reload = Annotated[
    bool,
    typer.Option("--reload", help="With --local: serve the new code once a file of the model's changes."),
]


BatchSize = Annotated[
    int | None,
    typer.Option(
        "--batch-size", metavar="N", min=1, help="Most inputs in a batch.", show_default="the model's"
    ),
]


Workers = Annotated[int | None, typer.Option("--workers", metavar="N", min=1, help="Model processes.")]


SetupTimeout = Annotated[
    float | None, typer.Option("--setup-timeout", metavar="SECONDS", help="What `setup` may take.")
]


PredictionTimeout = Annotated[
    float | None,
    typer.Option("--prediction-timeout", metavar="SECONDS", help="What a call of `predict` may take."),
]


def serve_command(
    context: typer.Context,
    target: Target = ".",
    module: Module = None,
    class_name: Class = None,
    *,
    trust: Trust = False,
    port: Port = 3000,
    host: Host = "127.0.0.1",
    local: Local = False,
    no_engine: NoEngine = False,
    model_python: ModelPython = None,
    reload_: Reload = False,
    batch_size: BatchSize = None,
    workers: Workers = None,
    setup_timeout: SetupTimeout = None,
    prediction_timeout: PredictionTimeout = None,
    no_gpu: NoGpu = False,
    gpu_devices: GpuDevices = "all",
    engine_args: EngineArgs = None,
) -> None:
    """Run a server in the foreground; under two names."""
    from tungstenkit.run.address import Address

    given = {
        "--max-batch-size": batch_size,
        "--workers": workers,
        "--setup-timeout": setup_timeout,
        "--prediction-timeout": prediction_timeout,
    }
    flags = [text for flag, value in given.items() if value is not None for text in (flag, str(value))]
    if reload_ and not local:
        raise typer.BadParameter("--reload needs --local: an image does not change")
    if local and no_engine:
        raise typer.BadParameter("--local builds no image: leave --no-engine out")
    gpus = None if no_gpu else gpu_devices
    model = Model(target, module, class_name, local, gpus, engine_args or [], model_python, trust, no_engine)
    address = Address.choose(host, port)
    page = address.url + ("/demo" if context.command.name == "demo" else "")
    with tempfile.TemporaryDirectory(prefix="tungsten-") as scratch:
        if reload_:
            model.serve_reloading(address, flags, Path(scratch), lambda: print(page, flush=True))
            return
        status = _serve(model.program(address, flags, Path(scratch)), page)
    raise typer.Exit(status)


def _serve(program: Program, page: str) -> int:
    """Run a server until it ends, and print the page's address once the model is ready; its exit status."""
    from tungstenkit.cli.progress import err
    from tungstenkit.run.server import running

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
    return status


PredictionTarget = Annotated[
    str,
    typer.Argument(
        metavar="NAME|DIR|URL",
        help="An image, a model's folder, or a server that runs already.",
        show_default=".",
    ),
]


Inputs = Annotated[
    list[str] | None,
    typer.Option(
        "-i",
        "--input",
        metavar="NAME=VALUE",
        help="One field of the input, a file by its path; once for each field.",
    ),
]


OutputDir = Annotated[
    Path | None,
    typer.Option(
        "-o",
        "--output-file-dir",
        metavar="DIR",
        help="Where output files are written; what is in the default never ships.",
        show_default="tungsten-results",
    ),
]


Demo = Annotated[bool, typer.Option("--demo", help="Run `predict_demo`, and show what it prints.")]


def predict_command(
    target: PredictionTarget = ".",
    module: Module = None,
    class_name: Class = None,
    *,
    trust: Trust = False,
    inputs: Inputs = None,
    output_dir: OutputDir = None,
    demo: Demo = False,
    local: Local = False,
    no_engine: NoEngine = False,
    model_python: ModelPython = None,
    no_gpu: NoGpu = False,
    gpu_devices: GpuDevices = "all",
    engine_args: EngineArgs = None,
) -> None:
    """Predict one input, and print the output as JSON, with the paths of its files."""
    from tungstenkit.run.client import save_files
    from tungstenkit.spec.files import RESULTS

    output_dir = output_dir or Path(RESULTS)
    say_if_it_ships(output_dir)
    if local and no_engine:
        raise typer.BadParameter("--local builds no image: leave --no-engine out")
    gpus = None if no_gpu else gpu_devices
    model = Model(target, module, class_name, local, gpus, engine_args or [], model_python, trust, no_engine)
    with ExitStack() as stack:
        asked = _started(model, inputs or [], stack)
        metadata, parts = _ready(asked, inputs or [], stack)
        prediction = _predict(asked, parts, demo=demo)
        if asked.server is not None:
            asked.server.stop()
        answer = save_files(prediction["outputs"][0], metadata["output_schema"], output_dir)
        if demo:
            (shown,) = prediction["demo_outputs"] or [None]
            shown = save_files(shown, metadata["demo_output_schema"], output_dir, ("demo",))
            answer = {"output": answer, "demo_output": shown}
    print(json.dumps(answer, indent=2, ensure_ascii=False))


class _Asked(NamedTuple):
    """Who answers a prediction."""

    client: Client
    server: Running | None
    """The server, where it is ours."""
    parts: list[Part] | None
    """The input, where it could be checked before."""


def _started(model: Model, inputs: list[str], stack: ExitStack) -> _Asked:
    """The server that runs already, or one that is started for the prediction.

    What is wrong with the input is told before anything is built, and before anything is started.
    """
    from tungstenkit.cli.terminal import TERMINAL
    from tungstenkit.project.folder import Project
    from tungstenkit.run.address import Address
    from tungstenkit.run.client import Client, checked_input
    from tungstenkit.run.container import image_input_schema
    from tungstenkit.run.server import running

    if re.match("https?://", model.target):
        return _Asked(Client(model.target), None, None)
    parts = None
    folder = Path(model.target)
    if folder.is_dir():
        spec = Project.read(folder, model.module, model.class_name, TERMINAL, trust=model.trust).spec
        parts = checked_input(inputs, spec.input_schema, stack)
    scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tungsten-")))
    program = model.program(Address.choose("127.0.0.1", 0), [], scratch)
    if parts is None:
        schema = image_input_schema(program.command[0], model.target, model.engine_args)
        parts = None if schema is None else checked_input(inputs, schema, stack)
    server = stack.enter_context(running(program, scratch / "log"))
    return _Asked(server.client, server, parts)


def _ready(asked: _Asked, inputs: list[str], stack: ExitStack) -> tuple[dict[str, Any], list[Part]]:
    """What the server says of its model, once it is ready, and the input."""
    from tungstenkit.cli.progress import working
    from tungstenkit.run.client import parse_input

    client, server, parts = asked
    with working("starting the model" if server is not None else "asking the server"):
        if server is not None:
            server.expect("/healthz")
            if parts is not None:
                # Where setup fails at once, nobody answers any more.
                server.expect("/readyz")
        metadata = client.metadata()
        if parts is None:
            parts = parse_input(inputs, metadata["input_schema"], stack)
        if server is not None:
            server.expect("/readyz")
    return metadata, parts


def _predict(asked: _Asked, parts: list[Part], *, demo: bool) -> dict[str, Any]:
    """The prediction. Raises what has failed, by the model's own lines where its log has them."""
    from tungstenkit.cli.progress import err, working
    from tungstenkit.run.client import PredictionError

    try:
        with working("predicting"):
            return asked.client.predict(
                parts, demo=demo, on_log=lambda text: err.print(text, end="", markup=False)
            )
    except PredictionError as problem:
        if asked.server is None:
            raise
        asked.server.stop()
        raise asked.server.prediction_error(problem) from None
