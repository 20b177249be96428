"""`get`: from what a program names to a model to predict with."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypedDict, TypeVar, overload

from tungstenkit.models.model import INPUT, Folder, In, Model, Out
from tungstenkit.models.observer import Logged, log_lines
from tungstenkit.models.serving import BUSY_SECONDS, Serving
from tungstenkit.models.target import Target, server_flags
from tungstenkit.run.client import did_you_mean
from tungstenkit.run.container import with_the_machines
from tungstenkit.sdk.define import definition_of
from tungstenkit.sdk.errors import RunError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Unpack

    from tungstenkit.models.values import Output
    from tungstenkit.sdk.io import BaseIO
    from tungstenkit.sdk.pieces import End

Out_co = TypeVar("Out_co", covariant=True)


class Predicts(Protocol[In, Out_co]):
    """What is known of a decorated class: what it predicts from what."""

    def predict(self, inputs: list[In], /) -> Sequence[Out_co] | Iterator[Sequence[Out_co | End | None]]:
        """As model code has it: it returns outputs, or yields pieces of them."""


class Options(TypedDict, total=False):
    """What `tungsten serve` takes, too."""

    module: str
    """The module with the model, for a folder; `tungsten_model`."""
    class_name: str
    """The model's class, where there are several."""
    local: bool
    """Run a folder as it is, in this Python: no container, no build, no lock."""
    engine: bool
    """False: run a folder's image without podman or docker."""
    gpus: str | None
    """GPUs that the model sees: `all`, or numbers or UUIDs with commas between; None for none."""
    batch_size: int
    """The most inputs in a batch; the model's own."""
    workers: int
    """Model processes; 1."""
    engine_args: Sequence[str]
    """More for `podman run` or `docker run`."""
    setup_timeout: float
    """Seconds that `setup` may take."""
    prediction_timeout: float
    """Seconds that a call of `predict` may take."""
    trust: bool
    """Read a folder's declaration by importing its module as you, with all that is yours."""


@overload
def get(target: type[Predicts[In, Out]], /, **options: Unpack[Options]) -> Model[In, Out]: ...
@overload
def get(
    target: Folder = ".", /, *, model_class: type[Predicts[In, Out]], **options: Unpack[Options]
) -> Model[In, Out]: ...
@overload
def get(target: Folder = ".", /, **options: Unpack[Options]) -> Model[BaseIO, Output]: ...
def get(
    target: Folder | type = ".", /, *, model_class: type | None = None, **options: Unpack[Options]
) -> Model[Any, Any]:
    """A model to predict with. Nothing is started or built before it is needed.

    target: an image's name, a model's folder, the URL of a server that runs already, or a decorated class, for its
    folder. model_class: a decorated class that you have imported: outputs are instances of its output class then.
    options: see `Options`; what is built and started is told to `logging`, as "tungstenkit".

    Raises RunError for what can't go together.
    """
    unknown = sorted(options.keys() - Options.__annotations__.keys())
    if unknown:
        near = did_you_mean(unknown[0], Options.__annotations__)
        raise TypeError(f"get() got an unexpected keyword argument {unknown[0]!r}{near}")
    if isinstance(target, type):
        model_class = target
        target, module = _source_of(target)
        options = {"module": module, "class_name": model_class.__name__, **options}
    output_class = None
    if model_class is not None:
        definition = definition_of(model_class)
        if definition is None:
            raise RunError(f"{model_class.__name__} is no model: it is not decorated with define_model")
        output_class = definition.output
    return Model(_serving(os.fspath(target), options), output_class)


def _serving(name: str, options: Options) -> Serving:
    local, engine = options.get("local", False), options.get("engine", True)
    if local and "engine" in options:
        raise RunError("local=True builds no image: leave engine out")
    target = Target(
        name,
        options.get("module"),
        options.get("class_name"),
        local,
        options.get("gpus", "all"),
        with_the_machines(list(options.get("engine_args", ()))),
        trust=options.get("trust", os.environ.get("TUNGSTEN_TRUST", "").lower() in _YES),
        no_engine=not engine,
        watch=Logged(),
    )
    if target.is_url and options:
        raise RunError(
            f"a server that runs already is asked as it is: leave {', '.join(options)} out", where=name
        )
    known = ("batch_size", "workers", "setup_timeout", "prediction_timeout")
    flags = server_flags(**{name: options[name] for name in known if name in options})  # type: ignore[literal-required]
    return Serving(target, flags, log_lines(), patience=BUSY_SECONDS, inputs=INPUT)


_YES = ("1", "true", "t", "on", "yes", "y")
"""As the command line reads the variable."""


def _source_of(model_class: type) -> tuple[Path, str]:
    """The folder of a decorated class, and its module there. Raises RunError where there is none."""
    name = model_class.__module__
    file = getattr(sys.modules.get(name), "__file__", None)
    if file is None or name == "__main__":
        raise RunError(
            f"the folder of {model_class.__name__} is not known: it is not of a module that was imported",
            hint="models.get(FOLDER, model_class=…)",
        )
    path = Path(file).resolve()
    depth = name.count(".") + (path.name == "__init__.py")
    return path.parents[depth], name
