"""The user's model: imported, set up, called, and what it returns checked and fixed."""

from __future__ import annotations

import importlib
import os
import tempfile
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import events
from .exceptions import flush, log
from .outputs import (
    Answer,
    InvalidDemoOutput,
    InvalidOutput,
    OutputTooLarge,
    PerhapsMixed,
    Unwritten,
    checked,
    failed,
    files_read,
    pair,
    refuse_non_finite,
    with_itself,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from contextlib import AbstractContextManager
    from typing import Callable

    from tungstenkit.sdk.outputs import FixedJson

    _Fix = Callable[[Any], "bytes | FixedJson"]


class Model:
    """The user's model, set up."""

    def __init__(self, arguments: dict[str, Any]) -> None:
        """Import it, make an instance, call its `setup`. Raises whatever the user's code raises."""
        import PIL.Image

        from tungstenkit.sdk import outputs
        from tungstenkit.sdk.temporary import keep_files_in, temporary_files

        with suppress(FileNotFoundError):  # no folder for temporary files can be written
            keep_files_in(Path(tempfile.gettempdir(), arguments["scratch"]))
        # Pillow only warns up to twice this number.
        PIL.Image.MAX_IMAGE_PIXELS = -(-arguments["max-pixels"] // 2)
        self.temporary_files = temporary_files
        self._outputs = outputs
        self._max_output: int = arguments["max-output"]
        self._log_pipe: int = arguments["log"]
        model_class = getattr(importlib.import_module(arguments["module"]), arguments["class"])
        self._definition = model_class.__tungsten_model__
        self._instance = model_class()
        declared = filter(None, (self._definition.output, self._definition.demo_output))
        self.computes = any(self._outputs.computes(one) for one in declared)
        """Whether what is written of an output may be what the model's code has kept of a later one."""
        if hasattr(self._instance, "setup"):
            self._instance.setup()
        # Without one, the outputs are the demo outputs, too.
        self._has_predict_demo = hasattr(self._instance, "predict_demo")

    def parse(self, data: bytes) -> object:
        """Make the model's input object of JSON; a failed answer if its own validators reject it."""
        try:
            return self._definition.input.model_validate_json(data)
        except BaseException as error:
            log("input refused", error, events.INPUT_REFUSED)
            return failed(error)

    def predict(
        self, inputs: list[object], keys: Sequence[int], around: AbstractContextManager[None]
    ) -> list[Answer | Unwritten]:
        """Call `predict`, within `around`, and fix what it returns: one answer for each input.

        keys: equal where inputs are. Raises what it raises, InvalidOutput and PerhapsMixed.
        """
        with self._looking(keys) as since, around:
            returned = self._instance.predict(inputs)
        return self._fixed(checked(returned, len(keys), "predict", "outputs"), None, keys, since)

    def predict_demo(
        self, inputs: list[object], keys: Sequence[int], around: AbstractContextManager[None]
    ) -> list[Answer | Unwritten]:
        """Call `predict_demo`, where there is one; what it prints goes to the log pipe. The rest is as in `predict`."""
        if not self._has_predict_demo:
            with redirected(self._log_pipe):
                answers = self.predict(inputs, keys, around)
            return [with_itself(one) for one in answers]
        with self._looking(keys) as since, redirected(self._log_pipe), around:
            returned = self._instance.predict_demo(inputs)
        first, second = pair(returned)
        outputs = checked(first, len(keys), "predict_demo", "outputs")
        demo_outputs = checked(second, len(keys), "predict_demo", "demo outputs")
        return self._fixed(outputs, demo_outputs, keys, since)

    def _looking(self, keys: Sequence[int]) -> AbstractContextManager[int]:
        return self._outputs.looking_at_files() if differ(keys) else _NOT_LOOKING

    def _fixed(
        self,
        outputs: Sequence[object],
        demo_outputs: Sequence[object] | None,
        keys: Sequence[int],
        since: int,
    ) -> list[Answer | Unwritten]:
        """Make of what was returned for each input what nothing can change any more.

        since: when the call began, as files have it, where inputs differ.
        """
        mixed = differ(keys)
        try:
            if mixed:
                self._outputs.check_objects(
                    outputs if demo_outputs is None else list(zip(outputs, demo_outputs)), keys
                )
            with self._outputs.Fixing(self._max_output) as fix:
                if demo_outputs is None:
                    answers = [self._fix(fix, one) for one in outputs]
                else:
                    answers = [self._fix(fix, *both) for both in zip(outputs, demo_outputs)]
            if mixed:
                self._outputs.check_files(list(map(files_read, answers)), keys, since)
        except self._outputs.SharedError as error:
            raise InvalidOutput(str(error)) from None
        except self._outputs.PerhapsSharedError as error:
            raise PerhapsMixed(str(error)) from None
        return answers

    def _fix(self, fix: _Fix, output: object, demo_output: object = None) -> Answer | Unwritten:
        """Check what there is for one input, and fix it; a failed answer if it is not what the model declares."""
        fixed = self._json(fix, output, self._definition.output, InvalidOutput)
        if demo_output is None and type(fixed) is bytes:
            return Answer(True, fixed)
        demo: bytes | FixedJson | Answer = b""
        if demo_output is not None and not isinstance(fixed, Answer):
            declared = self._definition.demo_output or self._definition.output
            demo = self._json(fix, demo_output, declared, InvalidDemoOutput)
        if isinstance(fixed, Answer):
            return fixed
        if isinstance(demo, Answer):
            return demo
        if isinstance(fixed, bytes) and isinstance(demo, bytes):
            return Answer(True, fixed, demo)
        return Unwritten(fixed, demo)

    def _json(
        self,
        fix: _Fix,
        output: object,
        declared: Any,  # noqa: ANN401 (a class of pydantic's)
        error_class: type[InvalidOutput],
    ) -> bytes | FixedJson | Answer:
        try:
            if type(output) is declared or isinstance(output, declared):
                # Validated again: it may have been changed since. Not by `dict`, which would call a field `keys`.
                output = dict(vars(output))
            if not isinstance(output, dict):
                demo = error_class is InvalidDemoOutput
                what = "predict_demo returned a demo output" if demo else "predict returned an object"
                kind = f"{type(output).__module__}.{type(output).__qualname__}"
                msg = f"{what} of type {kind.removeprefix('builtins.')}, not {declared.__name__}"
                raise error_class(msg)
            fixed = fix(declared.model_validate(output))
            text, files = (fixed, 0) if isinstance(fixed, bytes) else (fixed.json.encode(), fixed.size)
            # Asked of every output, and nearly none has the letters.
            if b"NaN" in text or b"Infinity" in text:
                refuse_non_finite(text, error_class)
            self._check_size(len(text) + files)
        except BaseException as error:
            log("output refused", error)
            return failed(error)
        return fixed

    def write(self, answer: Answer | Unwritten) -> Answer:
        """Do what is left to do for an answer. For any thread."""
        if isinstance(answer, Answer):
            return answer
        try:
            output, demo = answer
            text = output if isinstance(output, bytes) else output.text()
            demo_text = text if demo is output else demo if isinstance(demo, bytes) else demo.text()
            self._check_size(max(len(text), len(demo_text)))
        except BaseException as error:
            log("output refused", error)
            return failed(error)
        return Answer(True, text, demo_text)

    def _check_size(self, size: int) -> None:
        if size > self._max_output:
            msg = f"an output has {size} bytes of JSON; the limit is {self._max_output}"
            raise OutputTooLarge(msg)


def differ(keys: Sequence[int]) -> bool:
    """Whether there are inputs that differ."""
    return keys.count(keys[0]) < len(keys)


_NOT_LOOKING = nullcontext(0)


@contextmanager
def redirected(log_pipe: int) -> Iterator[None]:
    """Send the process' standard output and error to the pipe: Python's, C libraries', child processes'."""
    saved = [os.dup(fd) for fd in (1, 2)]
    try:
        flush()
        for fd in (1, 2):
            os.dup2(log_pipe, fd)
        yield
    finally:
        flush()
        for fd, original in zip((1, 2), saved):
            os.dup2(original, fd)
            os.close(original)
