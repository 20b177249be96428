"""One call of a `predict` that yields: its pieces are fixed, told and folded, and each input ends by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, cast

from . import frames
from .exceptions import log
from .fold import Fold
from .outputs import CANCELED, Answer, Canceled, InvalidOutput, PerhapsMixed, checked, failed

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Sequence
    from contextlib import AbstractContextManager
    from typing import Callable

    from .model import Model
    from .outputs import Unwritten


class Inputs(Protocol):
    """A batch, as far as it counts here."""

    owners: Sequence[int]
    inputs: list[object]
    keys: list[int]
    demo: bool
    unwanted: set[int]


class Told(NamedTuple):
    """What the server is told while the call goes on, or at its end."""

    place: int
    content: Answer | Unwritten
    """A piece of the output; or all of it, or why there is none."""
    ends: bool
    """Whether it is the answer, and not a piece."""


class Call:
    """One call, for some inputs of a batch.

    run: how the user's code is called, with a function and its arguments. around: a block that each step is within.
    tell: takes what there is to tell, in order; with `True` where it is the last of this call.
    """

    def __init__(
        self,
        model: Model,
        batch: Inputs,
        places: Sequence[int],
        run: Callable[..., Any],
        around: AbstractContextManager[None],
        tell: Callable[[list[Told], bool], None],
    ) -> None:
        self._model = model
        self._batch = batch
        self._places = places
        self._run = run
        self._around = around
        self._tell = tell
        self._open: dict[int, _Output] = {}
        """The inputs that are not done, in order."""
        self._since = 0
        """When the call began, as files have it, where inputs differ."""
        self._untold: list[Told] = []
        """What there is to tell, until it is."""
        self._called = 0
        """How many inputs the model has been given."""
        self._complete: set[int] = set()
        """Inputs that the model has ended."""
        self._told_of_late = False

    def finish(self) -> list[list[int]]:
        """Make the call, and answer all inputs but those that are to be run again; those, in groups.

        Where `predict` fails, inputs of which nothing was told yet are run again, each request's apart.
        """
        answers = [Told(place, one, ends=True) for place, one in self._answered_already()]
        known = {one.place for one in answers}
        places = [place for place in self._places if place not in known]
        self._open = {place: _Output(self._model) for place in places}
        self._called = len(places)
        again: list[list[int]] = []
        if places:
            try:
                self._step_through(places)
                answers += self._ended(self._open)
            except Canceled:
                answers += [Told(place, CANCELED, ends=True) for place in self._open]
            except BaseException as error:  # sys.exit too: it fails a request, not the process
                again = self._to_run_again(error)
                others = {place for group in again for place in group}
                if isinstance(error, PerhapsMixed):
                    log(f"inputs={len(others)} are run one by one", error)
                    error = InvalidOutput(str(error))
                else:
                    log(f"{'demo' if self._batch.demo else 'stream'} failed inputs={len(self._open)}", error)
                answers += [
                    Told(place, failed(error), ends=True) for place in self._open if place not in others
                ]
        self._tell([*self._untold, *answers], True)
        return again

    def _answered_already(self) -> list[tuple[int, Answer]]:
        """Inputs that the model need not see."""
        found: list[tuple[int, Answer]] = []
        for place in self._places:
            one = self._batch.inputs[place]
            # Not isinstance, which may run the user's code: an object may lie about its class.
            if type(one) is Answer:
                found.append((place, one))
            elif place in self._batch.unwanted:
                found.append((place, CANCELED))
        return found

    def _step_through(self, places: list[int]) -> None:
        """Run the generator, until it ends or nobody waits for anything more."""
        inputs = [self._batch.inputs[place] for place in places]
        keys = self._keys(places)
        generator: Generator[object, object, object] = self._run(self._model.begin, inputs)
        gone: list[bool] | None = None
        ended = False
        try:
            while True:
                step = self._model.resume
                ended, yielded, since = self._run(
                    step, generator, gone, keys, self._around, demo=self._batch.demo
                )
                self._since = self._since or since
                if ended:
                    if yielded is not None:
                        msg = "predict yields, and has returned something; yield it"
                        raise InvalidOutput(msg)
                    return
                self._take(places, checked(yielded, len(places), "predict", "pieces"))
                gone = [place in self._batch.unwanted or place in self._complete for place in places]
                if all(gone):
                    return
        finally:
            if not ended:
                self._close(generator)

    def _close(self, generator: Generator[object, object, object]) -> None:
        """Let the generator clean up; it has ended already where it has raised."""
        try:
            self._run(self._model.end, generator, demo=self._batch.demo)
        except BaseException as error:  # such as RuntimeError, of one that yields on
            log("the generator of predict has failed when it was closed", error)

    def _keys(self, places: Iterable[int]) -> list[int]:
        return [self._batch.keys[place] for place in places]

    def _take(self, places: Sequence[int], yielded: Sequence[object]) -> None:
        """Fix what was yielded, tell it, and fold it."""
        pieces: dict[int, object] = {}
        told = self._untold
        for place, piece in zip(places, yielded):
            if piece is None or place not in self._open:
                # What nobody waits for the model may go on with.
                self._note_late(place, piece)
            elif piece is self._model.end_mark:
                self._complete.add(place)
            elif issubclass(type(piece), BaseException):
                error = cast("BaseException", piece)
                log("input failed", error)
                told.append(self._settled(place, failed(error)))
            elif place not in self._batch.unwanted:
                pieces[place] = piece
        fixed = self._model.fix_pieces(list(pieces.values()), self._keys(pieces), self._since)
        for place, one in zip(pieces, fixed):
            output = self._open[place]
            problem = one if type(one) is Answer and not one.succeeded else output.add(one)
            if problem is not None:
                told.append(self._settled(place, problem))
            elif self._batch.owners[place] & frames.PIECES and output.has_news(one):
                output.told = True
                told.append(Told(place, one, ends=False))
        # The last ones are answered when the generator is closed.
        if not self._complete.issuperset(self._open):
            told += self._ended([place for place in self._open if place in self._complete])
        if told:
            self._tell(told, False)
            self._untold = []

    def _note_late(self, place: int, piece: object) -> None:
        is_late = place in self._complete and piece is not None and piece is not self._model.end_mark
        if not is_late or self._told_of_late:
            return
        self._told_of_late = True
        late = InvalidOutput("predict has yielded a piece for an input after its END")
        log("what comes after END is left out", late)

    def _settled(self, place: int, answer: Answer | Unwritten) -> Told:
        del self._open[place]
        self._batch.unwanted.add(place)
        return Told(place, answer, ends=True)

    def _ended(self, places: Iterable[int]) -> list[Told]:
        """The answers to inputs that have all their pieces."""
        found = []
        for place in list(places):
            canceled = place in self._batch.unwanted
            answer = CANCELED if canceled else self._open[place].whole(demo=self._batch.demo)
            found.append(self._settled(place, answer))
        return found

    def _to_run_again(self, error: BaseException) -> list[list[int]]:
        """The inputs that a call of their own may help, by their requests, or one by one."""
        untold = [place for place, output in self._open.items() if not output.told]
        groups: dict[int, list[int]] = {}
        for place in untold:
            one_by_one = isinstance(error, PerhapsMixed)
            groups.setdefault(place if one_by_one else self._batch.owners[place], []).append(place)
        if len(groups) == 1 and len(untold) == self._called:
            return []  # it would be the same call
        return list(groups.values())


class _Output:
    """What has come for one input."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._fold = Fold(model.concatenated)
        self._bytes = 0
        """Of JSON, at most, that the fold has."""
        self._is_empty = True
        self.told = False
        """Whether the server knows any of it."""

    def add(self, piece: Any) -> Answer | None:  # noqa: ANN401 (fixed)
        """Put a piece behind those before; a failed answer where that is too much, or can't be read."""
        try:
            value, size = self._model.value_of(piece)
        except Exception as error:  # it fails this input, and no other
            log("piece refused", error)
            return failed(error)
        self._fold.add(value)
        self._is_empty = False
        self._bytes += size
        if self._bytes <= self._model.max_output:
            return None
        # What was replaced is not in it any more.
        self._bytes, problem = self._model.too_large(self._fold.value())
        return problem

    def has_news(self, piece: Any) -> bool:  # noqa: ANN401 (fixed)
        """Whether a piece has any field."""
        return type(piece) is not Answer or piece.content != b"{}"

    def whole(self, *, demo: bool) -> Answer | Unwritten:
        """The output, as if `predict` had returned it."""
        return self._model.whole(None if self._is_empty else self._fold.value(), demo=demo)
