"""A model as a program has it, whose `predict` asks its server, which is started where there is none."""

from __future__ import annotations

import asyncio
import json
import os
from collections import deque
from collections.abc import AsyncIterable, Iterable, Mapping, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar, overload

import pydantic

from tungstenkit.models.stream import AsyncStream, Stream
from tungstenkit.models.values import InputSchema, output_of
from tungstenkit.outside import redact
from tungstenkit.run.calls import Call, EndedError
from tungstenkit.run.client import AT_ONCE, save_files
from tungstenkit.sdk.errors import RunError, TungstenError
from tungstenkit.sdk.io import BaseIO

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from concurrent.futures import Future
    from types import TracebackType
    from typing import Self

    from tungstenkit.models.serving import Serving
    from tungstenkit.run.fields import Schema

In = TypeVar("In", bound=BaseIO)
Out = TypeVar("Out")
Item = TypeVar("Item")
Result = TypeVar("Result")
Folder = str | os.PathLike[str]

INPUT = "the input"
"""What errors call it."""

_MOST_INPUTS, _MOST_BYTES = 64, 16 * 1024**2
"""Of a request: a list that is longer or bigger is sent as several. Both are far below what a server takes by default
(`TUNGSTEN_MAX_INPUTS`, `TUNGSTEN_MAX_BODY`), and one request of them fills batches."""


class Demo(NamedTuple, Generic[Out]):
    """What `predict_demo` gives."""

    output: Out
    demo_output: Any
    logs: str
    """What the model has printed."""


class Model(Generic[In, Out]):
    """A model to predict with, as `get` finds it. Any thread, and any event loop, may use it.

    Its server is started when it is first needed, or by `start`, or by a `with` block, and ended by `close`, by the end
    of the block, or with the object or the interpreter.
    """

    def __init__(self, serving: Serving, output_class: type[Any] | None) -> None:
        """serving: who predicts. output_class: what outputs are; None for `Output`."""
        self._serving = serving
        self._output_class = output_class
        self._known: InputSchema | None = None

    # The server

    def start(self) -> None:
        """Start the server, where it isn't, and wait until the model is set up. Raises what is in the way."""
        self._serving.metadata()

    def close(self) -> None:
        """End the server, once it has answered what it has accepted; the model can't be used any more."""
        self._serving.close()

    def __enter__(self) -> Self:
        """Start it."""
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        self._serving.__exit__(kind, error, trace)

    async def __aenter__(self) -> Self:
        """Start it, while the event loop goes on."""
        try:
            await self._aside(lambda _: self.start())
        except asyncio.CancelledError:
            self._serving.give_up()
            raise
        return self

    async def __aexit__(self, *exception: Any) -> None:  # noqa: ANN401
        """Close it."""
        await asyncio.to_thread(self.__exit__, *exception)

    @property
    def url(self) -> str | None:
        """Where the server answers; None while there is none."""
        return self._serving.url

    @property
    def name(self) -> str:
        """The model's name; this and the schemas are the server's to say, which is started for that."""
        return str(self._serving.metadata()["name"])

    @property
    def input_schema(self) -> Schema:
        """What an input is, as JSON Schema."""
        return dict(self._serving.metadata()["input_schema"])

    @property
    def output_schema(self) -> Schema:
        """What an output is."""
        return dict(self._serving.metadata()["output_schema"])

    def __repr__(self) -> str:
        return f"<tungstenkit model {self._serving.what!r}, {redact(self.url or 'not started')}>"

    # Predictions

    @overload
    def predict(
        self,
        inputs: In | Mapping[str, Any],
        output_file_dir: Folder | None = None,
        *,
        options: Mapping[str, Any] | None = None,
    ) -> Out: ...
    @overload
    def predict(
        self,
        inputs: Sequence[In | Mapping[str, Any]],
        output_file_dir: Folder | None = None,
        *,
        options: Mapping[str, Any] | None = None,
    ) -> list[Out]: ...
    def predict(
        self,
        inputs: Any,
        output_file_dir: Folder | None = None,
        *,
        options: Mapping[str, Any] | None = None,
    ) -> Any:
        """Predict an input, or a list of them, and wait; the output, or a list of them.

        inputs: a dict, or an instance of the model's input class. A file is a path, a `data:` or http(s) URI, bytes, an
        open file, a PIL.Image or one of the SDK's. A list is sent as one request, so that one that fails fails all of
        it; a long one as several. options: fields that all inputs have, but those that have their own.
        output_file_dir: where the outputs' files are saved; else they are in memory.

        Raises RunError that names all that is wrong with an input, before anything is sent, and PredictionError for a
        prediction that fails, with the model's own lines where its server is ours.
        """
        asked = _Asked(options, output_file_dir)
        if _is_one(inputs):
            return self._one(asked, Call(), inputs)
        groups = self._groups(asked, Call(), inputs)
        if len(groups) == 1:
            return self._sent(asked, Call(), groups[0])
        return list(chain.from_iterable(self._each(groups, partial(self._sent, asked))))

    @overload
    async def predict_async(
        self,
        inputs: In | Mapping[str, Any],
        output_file_dir: Folder | None = None,
        *,
        options: Mapping[str, Any] | None = None,
    ) -> Out: ...
    @overload
    async def predict_async(
        self,
        inputs: Sequence[In | Mapping[str, Any]],
        output_file_dir: Folder | None = None,
        *,
        options: Mapping[str, Any] | None = None,
    ) -> list[Out]: ...
    async def predict_async(
        self,
        inputs: Any,
        output_file_dir: Folder | None = None,
        *,
        options: Mapping[str, Any] | None = None,
    ) -> Any:
        """Do as `predict`, while the event loop goes on; a task that is cancelled gives its prediction up."""
        asked = _Asked(options, output_file_dir)
        if _is_one(inputs):
            return await self._aside(partial(self._one, asked), inputs)
        groups = await self._aside(partial(self._groups, asked), inputs)
        answers = self._each_async(groups, partial(self._sent, asked))
        return [output async for outputs in answers for output in outputs]

    def predict_many(
        self,
        inputs: Iterable[In | Mapping[str, Any]],
        output_file_dir: Folder | None = None,
        *,
        options: Mapping[str, Any] | None = None,
        return_exceptions: bool = False,
    ) -> Iterator[Out]:
        """Predict inputs, each by a request of its own, many at a time, which the server batches; outputs, in order.

        inputs: taken as they are needed, so that there may be more than memory has room for. return_exceptions: give a
        TungstenError in place of an output that there is none of, and go on; else it is raised.
        The rest is as for `predict`.
        """
        asked = _Asked(options, output_file_dir)
        return self._each(inputs, partial(self._one, asked), return_exceptions=return_exceptions)

    def predict_many_async(
        self,
        inputs: Iterable[In | Mapping[str, Any]] | AsyncIterable[In | Mapping[str, Any]],
        output_file_dir: Folder | None = None,
        *,
        options: Mapping[str, Any] | None = None,
        return_exceptions: bool = False,
    ) -> AsyncIterator[Out]:
        """Do as `predict_many`, while the event loop goes on."""
        asked = _Asked(options, output_file_dir)
        return self._each_async(inputs, partial(self._one, asked), return_exceptions=return_exceptions)

    def predict_demo(
        self,
        inputs: In | Mapping[str, Any],
        output_file_dir: Folder | None = None,
        *,
        options: Mapping[str, Any] | None = None,
    ) -> Demo[Out]:
        """Predict an input as the demo page does: by `predict_demo`, where the model has one."""
        asked = _Asked(options, output_file_dir)
        body = b"[%b]" % self._json(asked, inputs, INPUT)
        metadata = self._serving.metadata()
        try:
            prediction = self._serving.client.demo(body, lambda _: None)
        except RunError as problem:
            raise self._serving.explained(problem) from None
        demo = next(iter(prediction.get("demo_outputs") or ()), None)
        (output,) = self._outputs(asked, prediction["outputs"], metadata["output_schema"])
        schema = metadata.get("demo_output_schema")
        if asked.folder is not None:
            demo = save_files(demo, schema, Path(asked.folder), ("demo",))
        return Demo(output, output_of(demo, schema), str(prediction.get("logs") or ""))

    def stream(
        self,
        inputs: In | Mapping[str, Any],
        output_file_dir: Folder | None = None,
        *,
        options: Mapping[str, Any] | None = None,
    ) -> Stream[Out]:
        """Predict an input, and follow it: `for piece in model.stream({…})`, and then `.result()` is the output.

        It begins with the first piece that is asked for. The rest is as for `predict`.
        """
        asked = _Asked(options, output_file_dir)
        return Stream(
            self._serving,
            b"[%b]" % self._json(asked, inputs, INPUT),
            lambda outputs: self._outputs(asked, outputs, self.output_schema)[0],
        )

    def stream_async(
        self,
        inputs: In | Mapping[str, Any],
        output_file_dir: Folder | None = None,
        *,
        options: Mapping[str, Any] | None = None,
    ) -> AsyncStream[Out]:
        """Do as `stream`, while the event loop goes on: `async for`, and `await ….result()`."""
        return AsyncStream(self._serving, lambda: self.stream(inputs, output_file_dir, options=options))

    @property
    def _shown(self) -> str | None:
        return self.url and redact(self.url)

    def _json(self, asked: _Asked, value: object, where: str) -> bytes:
        if self._known is None:
            schema = self._serving.schema_of_folder()
            self._known = InputSchema(schema or self._serving.metadata()["input_schema"])
        return self._known.json(value, asked.options, where)

    def _one(self, asked: _Asked, call: Call, value: object) -> Any:  # noqa: ANN401
        (output,) = self._sent(asked, call, [self._json(asked, value, INPUT)])
        return output

    def _groups(self, asked: _Asked, _call: Call, values: Iterable[object]) -> list[list[bytes]]:
        """Inputs as JSON, by the requests that they are sent in."""
        groups: list[list[bytes]] = []
        size = 0
        for number, value in enumerate(values):
            one = self._json(asked, value, f"input {number}")
            size += len(one)
            if not groups or len(groups[-1]) == _MOST_INPUTS or size > _MOST_BYTES:
                groups.append([])
                size = len(one)
            groups[-1].append(one)
        return groups

    def _sent(self, asked: _Asked, call: Call, group: list[bytes]) -> list[Any]:
        """Outputs for inputs as JSON, by one request."""
        schema = self._serving.metadata()["output_schema"]
        try:
            outputs = self._serving.client.outputs(b"[%b]" % b",".join(group), call)
            if len(outputs) != len(group):
                raise RunError(
                    f"the server has answered {len(group)} inputs with {len(outputs)} outputs",
                    where=self._shown,
                )
        except EndedError:
            raise
        except RunError as problem:
            raise self._serving.explained(problem) from None
        return self._outputs(asked, outputs, schema)

    def _outputs(self, asked: _Asked, outputs: list[Any], schema: Schema) -> list[Any]:
        kind = self._output_class
        try:
            # First what was answered: in JSON no path is a file, as one that was saved is.
            made = outputs if kind is None else [kind.model_validate_json(json.dumps(one)) for one in outputs]
            if asked.folder is not None:
                outputs = [save_files(one, schema, Path(asked.folder)) for one in outputs]
                made = outputs if kind is None else [kind.model_validate(one) for one in outputs]
            return made if kind is not None else [output_of(one, schema) for one in outputs]
        except RecursionError:
            raise RunError("the output is nested too deeply", where=self._shown) from None
        except pydantic.ValidationError as error:
            lines = [".".join(map(str, one["loc"])) + f": {one['msg']}" for one in error.errors()]
            raise RunError(
                f"the output is no {error.title}:\n" + "\n".join(lines),
                where=self._shown,
                hint="the server has another version of the model than this program",
            ) from None

    # Many at once

    def _each(
        self,
        items: Iterable[Item],
        function: Callable[[Call, Item], Result],
        *,
        return_exceptions: bool = False,
    ) -> Iterator[Result]:
        """What a function makes of items, in order, some ahead of the one that is taken."""
        waiting: deque[tuple[Call, Future[Result]]] = deque()
        function = _returning(function) if return_exceptions else function
        try:
            for item in items:
                call = Call()
                waiting.append((call, self._serving.threads.submit(function, call, item)))
                if len(waiting) == AT_ONCE:
                    yield waiting[0][1].result()
                    waiting.popleft()
            while waiting:
                yield waiting[0][1].result()
                waiting.popleft()
        finally:
            for call, future in waiting:
                future.cancel()
                call.end()

    async def _each_async(
        self,
        items: Iterable[Item] | AsyncIterable[Item],
        function: Callable[[Call, Item], Result],
        *,
        return_exceptions: bool = False,
    ) -> AsyncIterator[Result]:
        """Do likewise, while the event loop goes on."""
        waiting: deque[asyncio.Task[Result]] = deque()
        function = _returning(function) if return_exceptions else function
        try:
            async for item in _iterated(items):
                waiting.append(asyncio.create_task(self._aside(function, item)))
                if len(waiting) == AT_ONCE:
                    yield await waiting[0]
                    waiting.popleft()
            while waiting:
                yield await waiting[0]
                waiting.popleft()
        finally:
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)

    async def _aside(self, function: Callable[..., Result], *arguments: Any) -> Result:  # noqa: ANN401
        """Call a function in a thread; it is ended with this task."""
        call = Call()
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._serving.threads, function, call, *arguments)
        except asyncio.CancelledError:
            call.end()
            raise


class _Asked(NamedTuple):
    """What is wished for besides inputs."""

    options: Mapping[str, Any] | None
    folder: Folder | None


def _is_one(inputs: object) -> bool:
    """Whether it is one input, perhaps a wrong one, and no list of them."""
    return isinstance(inputs, str | bytes) or not isinstance(inputs, Sequence)


def _returning(function: Callable[[Call, Item], Any]) -> Callable[[Call, Item], Any]:
    """The same function, which returns what it would raise of ours."""

    def returning(call: Call, item: Item) -> Any:  # noqa: ANN401
        try:
            return function(call, item)
        except TungstenError as problem:
            return problem

    return returning


async def _iterated(items: Iterable[Item] | AsyncIterable[Item]) -> AsyncIterator[Item]:
    if isinstance(items, AsyncIterable):
        async for item in items:
            yield item
    else:
        for item in items:
            yield item
