"""A prediction that a program follows: the pieces of its output, and then the output."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from tungstenkit.models.values import Output, output_of
from tungstenkit.run.calls import Call, EndedError
from tungstenkit.sdk.errors import RunError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from types import TracebackType
    from typing import Self

    from tungstenkit.models.serving import Serving

Out = TypeVar("Out")


class Stream(Iterator[Output], Generic[Out]):
    """The pieces of an output, as `Model.stream` gives them; ended by `close`, a `with` block, or with the object.

    A piece has the fields that are new: text and lists go on where the pieces before have ended, all else replaces what
    was. A model that does not yield gives its output as one piece.
    """

    def __init__(self, serving: Serving, body: bytes, whole: Callable[[list[Any]], Out]) -> None:
        """body: a JSON list of the input. whole: makes of the outputs' JSON what `result` gives."""
        self._serving = serving
        self._body = body
        self._whole = whole
        self._call = Call()
        self._pieces = self._read()
        self._results: list[Out] = []

    def __next__(self) -> Output:
        """The next piece. Raises PredictionError where the prediction fails, whatever came before."""
        return next(self._pieces)

    def result(self) -> Out:
        """The output, as `predict` gives it; what is left of the pieces is read, and left out."""
        for _ in self:
            pass
        if not self._results:
            raise EndedError
        return self._results[0]

    def close(self) -> None:
        """Give it up, from any thread: the server does not go on for it."""
        self._call.end()
        with suppress(ValueError):  # another thread waits in it, and ends by itself
            self._pieces.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        self.close()

    def _read(self) -> Generator[Output, None, None]:
        came = False
        try:
            schema = self._serving.metadata()["output_schema"]
            with closing(self._serving.client.events(self._body, self._call)) as events:
                for event in events:
                    if event.name == "piece":
                        came = True
                        yield output_of(event.data["output"], schema)
                    else:
                        outputs = event.data["outputs"]
                        if len(outputs) != 1:
                            raise RunError(f"the server has answered one input with {len(outputs)} outputs")
                        self._results.append(self._whole(outputs))
                        if not came:
                            yield output_of(outputs[0], schema)
        except EndedError:
            raise
        except RunError as problem:
            raise self._serving.explained(problem) from None


class AsyncStream(AsyncIterator[Output], Generic[Out]):
    """The same, while the event loop goes on; a task that is cancelled gives the prediction up."""

    def __init__(self, serving: Serving, begin: Callable[[], Stream[Out]]) -> None:
        """begin: makes the stream, aside."""
        self._serving = serving
        self._begin = begin
        self._stream: Stream[Out] | None = None

    async def __anext__(self) -> Output:
        """The next piece."""
        piece: Output | None = await self._aside(self._next)
        if piece is None:
            raise StopAsyncIteration
        return piece

    async def result(self) -> Out:
        """The output, as `predict` gives it."""
        async for _ in self:
            pass
        found: Out = await self._aside(lambda stream: stream.result())
        return found

    async def aclose(self) -> None:
        """Give it up."""
        if self._stream is not None:
            await asyncio.to_thread(self._stream.close)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exception: object) -> None:
        """Close it."""
        await self.aclose()

    @staticmethod
    def _next(stream: Stream[Out]) -> Output | None:
        return next(stream, None)

    async def _aside(self, function: Callable[[Stream[Out]], Any]) -> Any:  # noqa: ANN401
        def run() -> Any:  # noqa: ANN401
            if self._stream is None:
                self._stream = self._begin()
            return function(self._stream)

        try:
            return await asyncio.get_running_loop().run_in_executor(self._serving.threads, run)
        except asyncio.CancelledError:
            if self._stream is not None:
                self._stream.close()
            raise
