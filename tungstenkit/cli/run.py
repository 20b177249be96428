"""`tungsten serve`, `demo` and `predict`: a model's server in the foreground, or for one prediction."""

from __future__ import annotations

import json
import re
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
import typer.core

from tungstenkit import started
from tungstenkit.cli.arguments import Class, EngineArgs, Module, NoGpu, Trust, about, say_if_it_ships

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tungstenkit.models.serving import Serving
    from tungstenkit.models.target import Target
    from tungstenkit.run.client import Part
    from tungstenkit.run.events import Event
    from tungstenkit.run.program import Program

ServedTarget = Annotated[
    str,
    typer.Argument(
        metavar="NAME|DIR",
        help="An image, or a model's folder, which is built first.",
        show_default=".",
        callback=about,
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
    target: ServedTarget = ".",
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
    from tungstenkit.models.target import server_flags
    from tungstenkit.run.address import Address

    flags = server_flags(
        batch_size=batch_size,
        workers=workers,
        setup_timeout=setup_timeout,
        prediction_timeout=prediction_timeout,
    )
    if reload_ and not local:
        raise typer.BadParameter("--reload needs --local: an image does not change")
    model = _target(context)
    address = Address.choose(host, port)
    page = address.url + ("/demo" if context.command.name == "demo" else "")
    with started.scratch() as scratch:
        if reload_:
            model.serve_reloading(address, flags, scratch, lambda: print(page, flush=True))
            return
        status = _serve(model.program(address, flags, scratch), page, scratch)
    raise typer.Exit(status)


def _target(context: typer.Context) -> Target:
    """What a line asks to be run, by the options that `serve`, `demo` and `predict` share."""
    from tungstenkit.cli.terminal import TERMINAL
    from tungstenkit.models.target import Target

    given = context.params
    if given["local"] and given["no_engine"]:
        raise typer.BadParameter("--local builds no image: leave --no-engine out")
    return Target(
        given["target"],
        given["module"],
        given["class_name"],
        given["local"],
        None if given["no_gpu"] else given["gpu_devices"],
        given["engine_args"] or [],
        given["model_python"],
        given["trust"],
        given["no_engine"],
        TERMINAL,
    )


def _serve(program: Program, page: str, scratch: Path) -> int:
    """Run a server until it ends, and print the page's address once the model is ready; its exit status."""
    from tungstenkit.cli.progress import err
    from tungstenkit.run.server import running, to_stderr

    with running(program, echo=to_stderr, kept=scratch) as server:
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
        callback=about,
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


Stream = Annotated[
    bool | None,
    typer.Option(
        "--stream/--no-stream",
        help="Print the output's text as it comes, and then the rest of the output, where the model yields.",
        show_default="on a terminal",
    ),
]


def predict_command(
    context: typer.Context,
    target: PredictionTarget = ".",
    module: Module = None,
    class_name: Class = None,
    *,
    trust: Trust = False,
    inputs: Inputs = None,
    output_dir: OutputDir = None,
    demo: Demo = False,
    stream: Stream = None,
    local: Local = False,
    no_engine: NoEngine = False,
    model_python: ModelPython = None,
    no_gpu: NoGpu = False,
    gpu_devices: GpuDevices = "all",
    engine_args: EngineArgs = None,
) -> None:
    """Predict one input, and print the output as JSON. Files are written, and named by their paths."""
    from tungstenkit.models.serving import Serving
    from tungstenkit.run.calls import Call
    from tungstenkit.run.client import parse_input, save_files
    from tungstenkit.sdk.errors import RunError
    from tungstenkit.spec.files import RESULTS

    output_dir = output_dir or Path(RESULTS)
    say_if_it_ships(output_dir)
    model = _target(context)
    with ExitStack() as stack, Serving(model) as serving:
        parts = _checked(serving, inputs or [], stack)
        metadata = serving.metadata()
        if parts is None:
            parts = parse_input(inputs or [], metadata["input_schema"], stack)
        shown_text = None if demo else text_of_stream(metadata, asked=stream)
        try:
            if shown_text is None:
                prediction = _predict(serving, parts, demo=demo)
            else:
                prediction = show_text(serving.client.events(parts, Call()), shown_text)
        except RunError as problem:
            raise serving.explained(problem) from None
    answer = save_files(prediction["outputs"][0], metadata["output_schema"], output_dir)
    if shown_text is not None and isinstance(answer, dict):
        answer.pop(shown_text, None)
        if not answer:
            return
    if demo:
        (shown,) = prediction["demo_outputs"] or [None]
        shown = save_files(shown, metadata["demo_output_schema"], output_dir, ("demo",))
        answer = {"output": answer, "demo_output": shown}
    print(json.dumps(answer, indent=2, ensure_ascii=False))


def _checked(serving: Serving, inputs: list[str], stack: ExitStack) -> list[Part] | None:
    """The input; None where what it should be is not known without the server.

    What is wrong with it is told before anything is built, and before anything is started.
    """
    from tungstenkit.run.client import checked_input

    schema = serving.schema_of_folder() or serving.schema_of_image()
    return None if schema is None else checked_input(inputs, schema, stack)


def _predict(serving: Serving, parts: list[Part], *, demo: bool) -> dict[str, Any]:
    """The prediction, once it is done. Raises RunError."""
    from tungstenkit.cli.progress import err, working

    with working("predicting"):
        return serving.client.predict(
            parts, demo=demo, on_log=lambda text: err.print(text, end="", markup=False)
        )


def text_of_stream(metadata: dict[str, Any], *, asked: bool | None) -> str | None:
    """The field of the output that is printed as it comes; None where none is.

    asked: None where the terminal decides.
    """
    from tungstenkit.run.client import server_module

    if not metadata.get("stream") or not (sys.stdout.isatty() if asked is None else asked):
        return None
    schema = metadata["output_schema"]
    names: list[str] = server_module("tungsten_server.worker.fold").concatenated(schema)
    return next((name for name in names if schema["properties"][name].get("type") == "string"), None)


def show_text(events: Iterable[Event], name: str) -> dict[str, Any]:
    """Print the text of pieces as they come; the prediction, done."""
    prediction: dict[str, Any] = {}
    begun = False
    try:
        for event in events:
            if event.name == "prediction":
                prediction = event.data
            elif isinstance(text := event.data["output"].get(name), str) and text:
                begun = True
                # To a terminal no model says more than text.
                print(re.sub(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", " ", text), end="", flush=True)
    finally:
        if begun:
            print(flush=True)
    return prediction
