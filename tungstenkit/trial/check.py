"""Trying a model before it is shipped: its own examples and made-up inputs are sent to its running server, and what
comes back is judged.

`try_model` owns what is sent and how it is judged; `PeakMemory` watches the processes meanwhile. Starting the server
is the caller's.
"""

from __future__ import annotations

import json
import math
import threading
import time
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import requests

from tungstenkit.machine import GB
from tungstenkit.missing import package_hint
from tungstenkit.run.client import save_files, server_module
from tungstenkit.run.events import ASK_FOR_EVENTS, read_events
from tungstenkit.run.faults import has_raised, has_refused, own_frames
from tungstenkit.sdk.errors import RunError
from tungstenkit.trial.samples import make_samples

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tungstenkit.spec.document import ModelSpec
    from tungstenkit.trial.samples import Sample

_MEMORY_PAUSE = 0.05  # seconds between two looks
_DEMO_PAUSE = 0.05  # seconds between two looks whether a demo is done
_TRACEBACK = 4000  # characters of the model's own that are shown
_BATCH = 8
_NEAR = 1e-4
"""How far apart, relatively, numbers of equal outputs may be: sums in another order differ by less."""


@dataclass(frozen=True)
class Trial:
    """One request and what came of it."""

    kind: str
    """`example`, `valid`, `demo`, `stream`, `invalid`, `broken` or `batch`."""
    what: str
    ok: bool
    seconds: float
    problem: str | None = None
    note: str | None = None
    """What is no failure, and should be known."""
    log: str = ""
    """What the model printed on the way, its traceback above all."""
    inputs: list[Any] = field(default_factory=list)
    output: Any = None


@dataclass(frozen=True)
class Report:
    """What a check found."""

    name: str
    seed: int
    setup_seconds: float
    peak_memory: int | None
    """Of all processes together, in bytes (PSS); None where it could not be read."""
    mem_gb: float
    trials: list[Trial]
    gaps: list[str]
    """Fields that no input could be made for."""

    @property
    def too_much_memory(self) -> bool:
        """Whether more was used than the model declares."""
        return self.peak_memory is not None and self.peak_memory > self.mem_gb * GB

    @property
    def nothing_sent(self) -> bool:
        """Whether no input is known that the model might take, so that nothing is known of its `predict`."""
        return not any(trial.kind in ("example", "valid") for trial in self.trials)

    @property
    def ok(self) -> bool:
        """Whether something was tried, and nothing failed."""
        return not self.too_much_memory and not self.nothing_sent and all(trial.ok for trial in self.trials)

    def to_json(self) -> dict[str, Any]:
        """For programs; without files' contents."""
        trials = [shortened(asdict(trial)) for trial in self.trials]
        return {**asdict(self), "trials": trials, "ok": self.ok, "too_much_memory": self.too_much_memory}


def latencies(trials: list[Trial]) -> tuple[float, float]:
    """The median and the longest, in seconds, of some trials."""
    seconds = [trial.seconds for trial in trials]
    return median(seconds), max(seconds)


def shortened(value: Any) -> Any:  # noqa: ANN401 (JSON)
    """A value as people read it: long texts, such as files, are cut."""
    if isinstance(value, dict):
        return {key: shortened(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [shortened(item) for item in value]
    if isinstance(value, str) and value.startswith("data:") and len(value) > 80:
        return f"{value[:40]}… ({len(value)} characters)"
    return value


def try_model(
    spec: ModelSpec,
    url: str,
    log: Path,
    *,
    seed: int,
    timeout: float,
    said: Callable[[str], None],
) -> tuple[list[Trial], list[str]]:
    """Send everything to a server that is ready; what came of it, and the fields that no input could be made for.

    log: where the server and the model print. timeout: seconds that a prediction may take. said: is told what is sent.

    Raises RunError where the server is gone.
    """
    server = _Server(url, log, timeout)
    trials: list[Trial] = []

    def send(kind: str, what: str, value: Any, judge: Callable[[_Answer], Trial]) -> None:  # noqa: ANN401
        said(f"{kind}: {what}")
        trials.append(judge(server.predict(kind, what, [value])))

    for number, example in enumerate(spec.examples):
        send("example", f"examples[{number}]", example, _must_succeed)
    samples = make_samples(spec.input_schema, seed, _known(spec, seed, server))
    for sample in samples.valid:
        send("valid", sample.what, sample.value, _must_succeed)
    good = next((trial for trial in trials if trial.output is not None), None)
    if spec.has_predict_demo and good is not None:
        send("demo", good.what, good.inputs[0], _must_succeed)
    if spec.stream and good is not None:
        said(f"stream: {good.what}")
        trials.append(server.follow(good.what, good.inputs).judged_as_stream(spec.output_schema))
    for sample in samples.invalid:
        send("invalid", sample.what, sample.value, _must_be_refused)
    for sample in samples.broken:
        send("broken", sample.what, sample.value, _must_not_crash)
    trials += _batches(spec, samples.valid, trials, server, said)
    return trials, samples.gaps


def _known(spec: ModelSpec, seed: int, server: _Server) -> dict[str, Any] | None:
    """An input that the input class's own validators, which no schema shows, let through: the fields of others."""
    if spec.examples:
        return spec.examples[0]
    for sample in make_samples(spec.input_schema, seed).valid:
        if not server.predict("valid", sample.what, [sample.value]).is_refused_by_class:
            return dict(sample.value)
    return None


@dataclass(frozen=True)
class _Answer:
    kind: str
    what: str
    inputs: list[Any]
    seconds: float
    status: int
    body: Any
    log: str
    pieces: list[dict[str, Any]] = field(default_factory=list)
    """What a stream has told before."""

    @property
    def succeeded(self) -> bool:
        return self.status == 200 and self.body.get("status") == "success"

    @property
    def is_refused_by_class(self) -> bool:
        """Whether the model's own validators don't take an input that the schema allows."""
        return has_refused(self.log)

    @property
    def reason(self) -> str:
        if self.status == 200:
            return str(self.body.get("error_message"))
        return f"HTTP {self.status}: {json.dumps(self.body)[:300]}"

    def judged(self, *, ok: bool, problem: str | None = None, note: str | None = None) -> Trial:
        output = self.body["outputs"] if self.succeeded else None
        return Trial(self.kind, self.what, ok, self.seconds, problem, note, self.log, self.inputs, output)

    def judged_as_stream(self, schema: dict[str, Any]) -> Trial:
        """Whether pieces come to the output, as clients put them together."""
        if not self.succeeded:
            return _must_succeed(self)
        folds = server_module("tungsten_server.worker.fold")
        fold = folds.Fold(folds.concatenated(schema))
        for piece in self.pieces:
            fold.add(piece)
        whole = self.body["outputs"][0]
        value = fold.value()
        if not self.pieces:
            return self.judged(ok=True, note="predict yields, and no piece came before the output")
        # What no piece has is a default.
        difference = _difference(value, {name: whole.get(name) for name in value})
        if difference is None:
            return self.judged(ok=True)
        return self.judged(ok=False, problem=f"the pieces do not come to the output: {difference}")


class _Server:
    """Sends inputs, and reads what was printed meanwhile."""

    def __init__(self, url: str, log: Path, timeout: float) -> None:
        self._url = url
        self._log = log
        self._timeout = timeout
        self._session = requests.Session()
        self._session.trust_env = False

    def predict(self, kind: str, what: str, inputs: list[Any]) -> _Answer:
        before = self._log.stat().st_size
        deadline = time.monotonic() + self._timeout
        while True:
            began = time.monotonic()
            try:
                # The server ends what takes too long itself, and says so.
                path = "demo" if kind == "demo" else "predict"
                answer = self._session.post(f"{self._url}/{path}", json=inputs, timeout=self._timeout + 30)
                body = answer.json()
                if kind == "demo" and answer.ok:
                    answer, body = self._demo(body["demo_id"])
            except requests.RequestException as problem:
                raise RunError(
                    f"the server does not answer any more: {type(problem).__name__}; it said:\n"
                    + self._printed(before),
                    where=f"{kind} input, {what}",
                ) from None
            seconds = time.monotonic() - began
            # While a model that has crashed is set up again.
            if answer.status_code != 503 or time.monotonic() > deadline:
                return _Answer(kind, what, inputs, seconds, answer.status_code, body, self._printed(before))
            time.sleep(0.2)

    def follow(self, what: str, inputs: list[Any]) -> _Answer:
        """Predict once more, and follow it."""
        before = self._log.stat().st_size
        began = time.monotonic()
        pieces: list[dict[str, Any]] = []
        body: Any = {}
        asked: dict[str, Any] = {"headers": ASK_FOR_EVENTS, "timeout": self._timeout + 30, "stream": True}
        try:
            with closing(self._session.post(f"{self._url}/predict", json=inputs, **asked)) as answer:
                if not answer.ok:
                    body = answer.json()
                for event in read_events(answer) if answer.ok else ():
                    if event.name == "piece":
                        pieces.append(event.data["output"])
                    else:
                        body = event.data
        except requests.RequestException as problem:
            raise RunError(
                f"the server does not answer any more: {type(problem).__name__}; it said:\n"
                + self._printed(before),
                where=f"stream, {what}",
            ) from None
        seconds = time.monotonic() - began
        return _Answer(
            "stream", what, inputs, seconds, answer.status_code, body, self._printed(before), pieces
        )

    def _demo(self, demo_id: str) -> tuple[requests.Response, Any]:
        while True:
            answer = self._session.get(f"{self._url}/demo/{demo_id}", timeout=self._timeout + 30)
            body = answer.json()
            if not answer.ok or body["status"] in ("success", "failed"):
                return answer, body
            time.sleep(_DEMO_PAUSE)

    def _printed(self, since: int) -> str:
        with self._log.open("rb") as file:
            file.seek(since)
            return own_frames(file.read().decode(errors="replace")).strip()[-_TRACEBACK:]


def _must_succeed(answer: _Answer) -> Trial:
    if answer.succeeded:
        return answer.judged(ok=True)
    if answer.is_refused_by_class and answer.kind == "valid":
        return answer.judged(ok=True, note=f"refused by the input class's own validators: {answer.reason}")
    hint = package_hint(answer.reason)
    return answer.judged(ok=False, problem=f"{answer.reason}; {hint}" if hint else answer.reason)


def _must_be_refused(answer: _Answer) -> Trial:
    if answer.status == 422:
        return answer.judged(ok=True)
    came = "the prediction succeeded" if answer.succeeded else answer.reason
    return answer.judged(ok=False, problem=f"not refused with 422: {came}")


def _must_not_crash(answer: _Answer) -> Trial:
    # A prediction that fails with a reason is what a client can use; the model need not look at its files.
    if answer.status == 422 or answer.succeeded or has_raised(answer.log):
        return answer.judged(ok=True)
    return answer.judged(ok=False, problem=answer.reason)


def _batches(
    spec: ModelSpec,
    valid: list[Sample],
    trials: list[Trial],
    server: _Server,
    said: Callable[[str], None],
) -> list[Trial]:
    """The same inputs again, together: outputs must be as many, and should be equal to what each gave alone."""
    properties = spec.input_schema.get("properties", {})
    options = {name for name, field in properties.items() if field.get("x-option")}
    alone = {t.what: t for t in trials if t.kind == "valid" and t.ok and t.output is not None}
    # Only inputs with the same options share a batch.
    chosen = [s for s in valid if s.what in alone and not set(s.value) & options][
        : min(_BATCH, spec.batch_size)
    ]
    if spec.batch_size < 2 or not chosen:
        return []
    said("batch: once more alone")
    again = server.predict("batch", "the same input again", [chosen[0].value])
    steady = again.succeeded and _difference(alone[chosen[0].what].output, again.body["outputs"]) is None
    inputs = [chosen[n % len(chosen)] for n in range(min(_BATCH, max(2, spec.batch_size)))]
    what = f"{len(inputs)} inputs together"
    said(f"batch: {what}")
    answer = server.predict("batch", what, [sample.value for sample in inputs])
    if not answer.succeeded:
        return [
            answer.judged(ok=False, problem=f"each succeeds alone, and together they fail: {answer.reason}")
        ]
    outputs = answer.body["outputs"]
    if len(outputs) != len(inputs):
        return [answer.judged(ok=False, problem=f"{len(outputs)} outputs for {len(inputs)} inputs")]
    if not steady:
        note = "the same input gives another output each time, so batches can't be compared"
        return [answer.judged(ok=True, note=note)]
    differences = [
        f"the input {sample.what!r}: {difference}"
        for sample, output in zip(inputs, outputs, strict=True)
        if (difference := _difference(alone[sample.what].output[0], output))
    ]
    if not differences:
        return [answer.judged(ok=True)]
    return [answer.judged(ok=True, note=f"an output depends on what else is in its batch: {differences[0]}")]


def _difference(first: Any, second: Any, where: str = "") -> str | None:  # noqa: ANN401 (JSON)
    """Where two outputs differ by more than rounding; None if they don't."""
    numbers = (int, float)
    if isinstance(first, bool) or isinstance(second, bool):
        equal = first is second
    elif isinstance(first, numbers) and isinstance(second, numbers):
        equal = math.isclose(first, second, rel_tol=_NEAR, abs_tol=_NEAR)
    elif isinstance(first, dict) and isinstance(second, dict) and first.keys() == second.keys():
        return next(filter(None, (_difference(first[k], second[k], f"{where}.{k}") for k in first)), None)
    elif isinstance(first, list) and isinstance(second, list) and len(first) == len(second):
        pairs = enumerate(zip(first, second, strict=True))
        return next(filter(None, (_difference(a, b, f"{where}[{n}]") for n, (a, b) in pairs)), None)
    else:
        equal = first == second
    if equal:
        return None
    shown = [json.dumps(shortened(one), ensure_ascii=False)[:60] for one in (first, second)]
    return f"{where.lstrip('.') or 'the output'} is {shown[0]} alone and {shown[1]} together"


def save_trials(trials: list[Trial], spec: ModelSpec, folder: Path) -> None:
    """Write each input and output to a folder of its own, files as files. Raises RunError where one can't be."""
    for number, trial in enumerate(trials):
        name = f"{number:03}-{trial.kind}"
        try:
            (folder / name).mkdir(parents=True, exist_ok=True)
            # What can be sent again as it is.
            (folder / name / "input.json").write_text(json.dumps(trial.inputs) + "\n", encoding="utf-8")
            if trial.output is not None:
                schema = {"type": "array", "items": spec.output_schema}
                output = save_files(trial.output, schema, folder / name, ("output",))
                (folder / name / "output.json").write_text(
                    json.dumps(output, indent=2) + "\n", encoding="utf-8"
                )
            if trial.log:
                (folder / name / "log.txt").write_text(trial.log + "\n", encoding="utf-8")
        except OSError as problem:
            raise RunError(
                f"the results can't be written: {problem.strerror}",
                where=str(folder),
                hint="-o chooses another folder",
            ) from None


class PeakMemory:
    """The most memory that a process and all that it started had at a time.

    Counted as PSS, which divides what processes share among them (proc(5), `smaps_rollup`). Looked at every 50 ms, so
    that what lasts shorter may be missed.
    """

    def __init__(self, pid: int, proc: Path = Path("/proc")) -> None:
        """pid: of the first process."""
        self._pid = pid
        self._proc = proc
        self._stopped = threading.Event()
        self.bytes: int | None = None

    @contextmanager
    def watch(self) -> Iterator[PeakMemory]:
        """Look while the block runs."""
        thread = threading.Thread(target=self._run, name="tungsten-memory", daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._stopped.set()
            thread.join()

    def _run(self) -> None:
        while not self._stopped.wait(_MEMORY_PAUSE):
            self.look()

    def look(self) -> None:
        """Add the sizes of all processes that there are now."""
        sizes = [size for pid in self._tree() if (size := self._size(pid)) is not None]
        if sizes:
            self.bytes = max(self.bytes or 0, sum(sizes))

    def _tree(self) -> list[int]:
        children: dict[int, list[int]] = {}
        for path in self._proc.glob("[0-9]*/stat"):
            try:
                # The program's name, in parentheses, may hold anything (proc(5), `stat`).
                parent = int(path.read_text(errors="replace").rpartition(")")[2].split()[1])
            except (OSError, IndexError):
                continue  # it has ended
            children.setdefault(parent, []).append(int(path.parent.name))
        found, pending = [], [self._pid]
        while pending:
            found.append(pending.pop())
            pending += children.get(found[-1], ())
        return found

    def _size(self, pid: int) -> int | None:
        try:
            lines = (self._proc / str(pid) / "smaps_rollup").read_text().splitlines()
        except OSError:
            return None
        return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:")), None)
