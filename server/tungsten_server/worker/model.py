"""The user's model: imported, set up, called, and what it returns checked and fixed."""

from __future__ import annotations

import importlib
import json
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
    refuse_numbers,
    with_itself,
)

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence
    from contextlib import AbstractContextManager
    from typing import Callable

    from tungstenkit.sdk.outputs import FixedJson

    _Fix = Callable[..., "bytes | FixedJson"]


class Model:
    """The user's model, set up."""

    def __init__(self, arguments: dict[str, Any]) -> None:
        """Import it, make an instance, call its `setup`. Raises whatever the user's code raises."""
        import PIL.Image

        from tungstenkit.sdk import outputs, pieces
        from tungstenkit.sdk.temporary import keep_files_in, temporary_files

        with suppress(FileNotFoundError):  # no folder for temporary files can be written
            keep_files_in(Path(tempfile.gettempdir(), arguments["scratch"]))
        # Pillow only warns up to twice this number.
        PIL.Image.MAX_IMAGE_PIXELS = -(-arguments["max-pixels"] // 2)
        self.temporary_files = temporary_files
        self._outputs = outputs
        self.max_output: int = arguments["max-output"]
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
        self.end_mark = pieces.END
        if self._definition.stream:
            self.concatenated = frozenset(pieces.concatenated(self._definition.output))
            self._piece_class = pieces.piece_class(self._definition.output)

    def yields(self, *, demo: bool) -> bool:
        """Whether what is called for a batch yields: then `begin` and what follows it count, and not `predict`."""
        return bool(self._definition.stream) and not (demo and self._has_predict_demo)

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

    # Of a `predict` that yields.

    def begin(self, inputs: list[object]) -> Generator[object, object, object]:
        """Call it; none of its code runs yet."""
        generator: Generator[object, object, object] = self._instance.predict(inputs)
        return generator

    def resume(
        self,
        generator: Generator[object, object, object],
        gone: list[bool] | None,
        keys: Sequence[int],
        around: AbstractContextManager[None],
        *,
        demo: bool,
    ) -> tuple[bool, object, int]:
        """Have it run until it yields: whether it has ended instead, what it gave, and when this began, as `_fixed` has
        it. gone: what `yield` returns in it; None to begin with."""
        with self._looking(keys) as since, self._printing(demo=demo), around:
            try:
                return False, generator.send(gone), since
            except StopIteration as end:
                return True, end.value, since

    def end(self, generator: Generator[object, object, object], *, demo: bool) -> None:
        """Have it clean up."""
        with self._printing(demo=demo):
            generator.close()

    def _printing(self, *, demo: bool) -> AbstractContextManager[None]:
        return redirected(self._log_pipe) if demo else _NOT_REDIRECTED

    def fix_pieces(
        self, pieces: Sequence[object], keys: Sequence[int], since: int
    ) -> list[Answer | Unwritten]:
        """Make of pieces, one for each of some inputs, what nothing can change any more. Raises as `predict` does."""
        return self._fixed_by(self._fix_piece, pieces, keys, since)

    def _fix_piece(self, fix: _Fix, piece: object) -> Answer | Unwritten:
        declared = self._definition.output
        try:
            if type(piece) is declared or isinstance(piece, declared):
                known = {**vars(piece), **(piece.__pydantic_extra__ or {})}  # type: ignore[attr-defined]
                given = {name: known[name] for name in piece.__pydantic_fields_set__}  # type: ignore[attr-defined]
                piece = given
            if not isinstance(piece, dict):
                kind = f"{type(piece).__module__}.{type(piece).__qualname__}".removeprefix("builtins.")
                msg = f"predict yielded an object of type {kind}, not {declared.__name__}"
                raise InvalidOutput(msg)
            valid = self._piece_class.model_validate(piece)
            fixed = self._checked(fix(valid, valid.model_fields_set), InvalidOutput)
        except BaseException as error:
            log("piece refused", error)
            return failed(error)
        return Answer(True, fixed) if isinstance(fixed, bytes) else Unwritten(fixed, b"")

    def value_of(self, piece: Answer | Unwritten) -> tuple[dict[str, Any], int]:
        """A piece as values, files as objects, and about how many bytes of JSON it has.

        Raises ValueError where the model's code has set a lower limit to the digits that are read.
        """
        if isinstance(piece, Answer):
            return json.loads(piece.content), len(piece.content)
        fixed: Any = piece.output
        return fixed.value(json.loads), len(fixed.json) + fixed.size

    def too_large(self, value: dict[str, Any]) -> tuple[int, Answer | None]:
        """How many bytes of JSON a value has, files left out, and a failed answer where that is too much."""
        size = len(json.dumps(value, ensure_ascii=False, default=lambda _: ""))
        try:
            self._check_size(size)
        except OutputTooLarge as error:
            log("output refused", error)
            return size, failed(error)
        return size, None

    def whole(self, value: dict[str, Any] | None, *, demo: bool) -> Answer | Unwritten:
        """The output that pieces come to; None where there was none."""
        if value is None and any(one.is_required() for one in self._definition.output.model_fields.values()):
            nothing = InvalidOutput("predict yielded no piece for an input")
            log("output refused", nothing)
            return failed(nothing)
        with self._outputs.Fixing(self.max_output) as fix:
            answer = self._fix(fix, value or {})
        return with_itself(answer) if demo else answer

    # Of both.

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
        if demo_outputs is None:
            return self._fixed_by(self._fix, outputs, keys, since)
        both = list(zip(outputs, demo_outputs))
        return self._fixed_by(lambda fix, pair: self._fix(fix, *pair), both, keys, since)

    def _fixed_by(
        self,
        way: Callable[[_Fix, Any], Answer | Unwritten],
        returned: Sequence[object],
        keys: Sequence[int],
        since: int,
    ) -> list[Answer | Unwritten]:
        """Do so in a way, which takes what was returned for one input."""
        mixed = differ(keys)
        try:
            if mixed:
                self._outputs.check_objects(returned, keys)
            with self._outputs.Fixing(self.max_output) as fix:
                answers = [way(fix, one) for one in returned]
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
            return self._checked(fix(declared.model_validate(output)), error_class)
        except BaseException as error:
            log("output refused", error)
            return failed(error)

    def _checked(self, fixed: bytes | FixedJson, error_class: type[InvalidOutput]) -> bytes | FixedJson:
        """Refuse numbers that readers of JSON do not read, and what is too large."""
        text, files = (fixed, 0) if isinstance(fixed, bytes) else (fixed.json.encode(), fixed.size)
        refuse_numbers(text, error_class)
        self._check_size(len(text) + files)
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
        if size > self.max_output:
            msg = f"an output has {size} bytes of JSON; the limit is {self.max_output}"
            raise OutputTooLarge(msg)


def differ(keys: Sequence[int]) -> bool:
    """Whether there are inputs that differ."""
    return bool(keys) and keys.count(keys[0]) < len(keys)


_NOT_LOOKING = nullcontext(0)
_NOT_REDIRECTED = nullcontext()


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
