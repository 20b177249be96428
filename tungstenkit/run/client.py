"""A client of a model's server: an input made of `name=value` texts, a prediction followed to its end, and the files
that come back.

An input travels as a form, so that what a text means is decided in one place, the server, by the model's schema, and
a file need not become base64 here.
"""

from __future__ import annotations

import contextlib
import difflib
import importlib
import itertools
import json
import os
import re
import sys
import threading
import time
import urllib.request
from contextlib import ExitStack
from http import HTTPStatus
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import requests

from tungstenkit import certificates
from tungstenkit.data import SERVER
from tungstenkit.outside import redact
from tungstenkit.run.calls import Call, by_calls
from tungstenkit.run.events import ASK_FOR_EVENTS, EVENTS, Event, read_events
from tungstenkit.run.fields import at, holds_files, member
from tungstenkit.sdk.errors import RunError
from tungstenkit.sdk.suffixes import type_of_name, without_suffix
from tungstenkit.spec.files import RESULTS

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Sequence
    from types import ModuleType

    from tungstenkit.run.fields import Schema

Part = tuple[str, tuple[str | None, str | IO[bytes], str | None]]
"""Name, and file name, content and media type, as requests takes them."""

_URI = re.compile(r"(data|https?):", re.IGNORECASE)
_ANSWER_SECONDS = 60.0
_FIRST_PAUSE, _LONGEST_PAUSE = 0.02, 1.0
"""Seconds between two looks at a prediction: short ones are not kept waiting, long ones cost little."""

AT_ONCE = 64
"""Requests under way at once, and connections: they keep batches of 16 full, and are a quarter of what a server takes
(`TUNGSTEN_MAX_PENDING`), so that others come in between. More callers wait for one another here."""

_BUSY_HERE = 0.25
"""Seconds after which a busy server that is ours is asked again first; then twice as many, up to what it says."""

_NO_LIMIT = (_ANSWER_SECONDS, None)
"""For what is answered when `predict` has returned: how long that may take is the server's setting."""

_JSON = {"Content-Type": "application/json"}


def parse_input(texts: Sequence[str], schema: Schema, stack: ExitStack) -> list[Part]:
    """Make a form of `name=value` texts.

    A value may contain `=`. For a file's field it is a path, with an `@` before it or without, unless it is a `data:`,
    `http:` or `https:` URI; for a list of them, it may be a JSON list of these. `a.b` is field `b` of the object `a`; a
    name given several times makes a list.
    stack: what keeps the files open. Raises RunError naming everything that is wrong.
    """
    parts: list[Part] = []
    problems = []
    for text in texts:
        name, equals, value = text.partition("=")
        field = at(schema, name.split("."))
        if not equals or not name:
            problems.append(f"{text!r} is not of the form NAME=VALUE")
        elif field is None:
            known = schema.get("properties", {})
            problems.append(f"{name}: the model has no such input{did_you_mean(name, known)}")
        elif not holds_files(field):
            parts.append((name, (None, value, None)))
        else:
            try:
                files = _listed(value) if member(field, 0) else None
            except json.JSONDecodeError as problem:
                problems.append(f"{name}: the text is not JSON: {problem}")
                continue
            if files == [] or (value == "null" and {"type": "null"} in field.get("anyOf", ())):
                parts.append((name, (None, value, None)))
                continue
            for one in [value] if files is None else files:
                try:
                    parts.append((name, _file_part(one, stack)))
                except OSError as problem:
                    problems.append(f"{name}: {problem.filename} can't be read: {problem.strerror}")
    if problems:
        raise _refused(problems, schema)
    return parts


def _refused(problems: Sequence[str], schema: Schema) -> RunError:
    names = list(schema.get("properties", ()))
    way = f"; `-i {names[0]}=…` gives one" if names else ""
    hint = f"the model's inputs are: {', '.join(names) or 'none'}{way}"
    return RunError("\n".join(problems), where="-i", hint=hint)


def checked_input(texts: Sequence[str], schema: Schema, stack: ExitStack) -> list[Part]:
    """Do likewise, and raise RunError for what a server would refuse, too: before there is one.

    What a server's settings decide, such as how large files may be and whether it fetches from addresses, it says
    itself.
    """
    parts = parse_input(texts, schema, stack)
    forms, inputs = (server_module(f"tungsten_server.checks.{name}") for name in ("form", "inputs"))
    # Of a file it does not matter here what is in it.
    form = [
        forms.Part(
            name,
            content.encode() if isinstance(content, str) else b"file",
            is_file=file_name is not None,
            media_type=media_type or "",
            file_name=file_name or "",
        )
        for name, (file_name, content, media_type) in parts
    ]
    try:
        inputs.InputSchema(schema, max_file=sys.maxsize).check([forms.read_form(schema, form)])
    except inputs.InputError as error:
        problems = [one for one in error.problems if one.kind != "url_not_enabled"]
        if problems:
            lines = [_problem({"loc": ("body", *one.location), "msg": one.message}) for one in problems]
            raise _refused(lines, schema) from None
    return parts


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The end of a sentence about a name that is not known."""
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {near[0]}?" if near else ""


_IMPORTING = threading.Lock()


def server_module(name: str) -> ModuleType:
    """A module of the server's, by whose own rules inputs are judged here; it lies beside this package."""
    with _IMPORTING:
        place = str(SERVER.parent)
        sys.path.insert(0, place)
        try:
            return importlib.import_module(name)
        finally:
            sys.path.remove(place)


def _listed(value: str) -> list[str] | None:
    """The files of a list that is written as JSON; None for what is one file. Raises JSONDecodeError."""
    try:
        found = json.loads(value)
    except json.JSONDecodeError:
        if value.lstrip().startswith("[") and not os.path.exists(value):  # noqa: PTH110 (nor too long for a path)
            raise
        return None
    is_list = isinstance(found, list) and all(isinstance(item, str) for item in found)
    return found if is_list else None


def _file_part(value: str, stack: ExitStack) -> tuple[str | None, str | IO[bytes], str | None]:
    """A file, by its URI or its path. Raises OSError."""
    if _URI.match(value):
        return None, value, None
    path = Path(value.removeprefix("@")).expanduser()
    try:
        file = stack.enter_context(path.open("rb"))
        file.read(1)  # a folder can be opened, too
    except OSError as problem:
        # With the path, whatever Python knows of it: reading a folder has none.
        raise OSError(problem.errno, problem.strerror, str(path)) from None
    file.seek(0)
    return path.name, file, type_of_name(path.name)


class BusyError(RunError):
    """A server does not take a prediction now, and says when to try again."""

    def __init__(self, what: str, *, where: str | None = None, hint: str | None = None, seconds: int) -> None:
        """State it. what, where, hint: as in `TungstenError`. seconds: until then."""
        super().__init__(what, where=where, hint=hint)
        self.seconds = seconds


class PredictionError(RunError):
    """A prediction has failed; whoever has the server's log knows more."""

    def __init__(
        self, what: str, *, where: str | None = None, hint: str | None = None, reason: str = ""
    ) -> None:
        """State it.

        what, where, hint: as in `TungstenError`. reason: the server's own words, such as `ValueError: too dark`.
        """
        super().__init__(what, where=where, hint=hint)
        self.reason = reason


class Client:
    """Speaks to one server; any thread may use it."""

    def __init__(self, url: str, *, here: bool = False, patience: float = 0.0, inputs: str = "-i") -> None:
        """Make one.

        url: its base. here: it was started by us, so that no proxy stands between. patience: seconds in which a server
        that is busy is asked again. inputs: where errors find what is wrong with an input.
        """
        self._url = url.rstrip("/")
        self._here = here
        self._patience = patience
        self._inputs = inputs
        self._session = by_calls(certificates.session(AT_ONCE))
        self._session.trust_env = not here

    def answers(self, path: str) -> bool:
        """Whether a path is answered, and not with an error."""
        try:
            return self._session.get(self._url + path, timeout=5).ok
        except requests.RequestException:
            return False

    def metadata(self) -> dict[str, Any]:
        """The model's name and schemas. Raises RunError."""
        metadata = self._ask("GET", "/")
        if not isinstance(metadata, dict) or not all(
            isinstance(metadata.get(name), dict) for name in ("input_schema", "output_schema")
        ):
            raise RunError(
                "that is no server of a model: it describes no inputs, or no outputs", where=redact(self._url)
            )
        return metadata

    def outputs(self, body: bytes, call: Call) -> list[Any]:
        """Predict inputs in one request, and wait; their outputs as JSON.

        body: a JSON list of inputs. call: may be ended, and the server then does not go on for it.
        Raises RunError where an input is refused, and PredictionError where the prediction fails.
        """
        with call.under_way():
            prediction = self._begin("/predict", {"data": body, "headers": _JSON, "timeout": _NO_LIMIT}, call)
        outputs: list[Any] = self._succeeded(prediction)["outputs"]
        return outputs

    def events(self, body: bytes | list[Part], call: Call) -> Generator[Event, None, None]:
        """Predict, and follow it: the pieces of the outputs as they come, and then the prediction, successful.

        body: a JSON list of inputs, or one as a form. The rest is as for `outputs`; a server that knows no events gives
        the last one alone. Closed before its end, the prediction is given up.
        """
        if isinstance(body, bytes):
            sent: dict[str, Any] = {"data": body, "headers": {**_JSON, **ASK_FOR_EVENTS}}
        else:
            form: dict[str, Any] = {"files": body} if body else {"json": [{}]}
            sent = {**form, "headers": ASK_FOR_EVENTS}
        with call.under_way():
            answer = self._begin("/predict", {**sent, "timeout": _NO_LIMIT, "stream": True}, call)
        if not isinstance(answer, requests.Response):
            yield Event("prediction", self._succeeded(answer))
            return
        try:
            call.reads(answer.raw.fileno())
            for event in read_events(answer):
                if event.name == "prediction":
                    yield event._replace(data=self._succeeded(event.data))
                    return
                # Whoever answers at a URL may say anything.
                if not isinstance(event.data, dict) or not isinstance(event.data.get("output"), dict):
                    break
                yield event
        except (requests.RequestException, ValueError, RecursionError) as problem:  # a number too long, too
            call.check()
            why = (
                redact(_reason(problem))
                if isinstance(problem, requests.RequestException)
                else "it is no JSON"
            )
            raise RunError(f"the stream can't be read: {why}", where=redact(self._url)) from None
        finally:
            call.took(None)
            call.reads(None)
            answer.close()
        call.check()
        raise self._strange("/predict")

    def predict(
        self, parts: list[Part], *, demo: bool = False, on_log: Callable[[str], None] = lambda _: None
    ) -> dict[str, Any]:
        """Predict one input, and wait; the prediction object, successful.

        on_log: called with what a demo has printed since. Interrupted, the prediction is cancelled.
        Raises RunError where the input is refused, and PredictionError where the prediction fails.
        """
        body: dict[str, Any] = {"files": parts} if parts else {"json": [{}]}
        return self._followed("/demo" if demo else "/predictions", body, on_log)

    def demo(self, body: bytes, on_log: Callable[[str], None]) -> dict[str, Any]:
        """Do likewise for a demo, with a JSON list of one input."""
        return self._followed("/demo", {"data": body, "headers": _JSON}, on_log)

    def _followed(self, route: str, body: dict[str, Any], on_log: Callable[[str], None]) -> dict[str, Any]:
        begun = self._begin(route, body, Call())
        prediction_id = begun.get("prediction_id", begun.get("demo_id")) if isinstance(begun, dict) else None
        if not isinstance(prediction_id, str):
            raise self._strange(route)
        path = f"{route}/{prediction_id}"
        pause, logged = _FIRST_PAUSE, ""
        try:
            while True:
                prediction = self._ask("GET", path)
                if not isinstance(prediction, dict) or "status" not in prediction:
                    raise self._strange(path)
                log = str(prediction.get("logs") or "")
                # The server keeps the end of a long log only.
                on_log(log.removeprefix(logged) if log.startswith(logged) else log)
                logged = log
                if prediction["status"] in ("success", "failed"):
                    break
                time.sleep(pause)
                pause = min(pause * 1.5, _LONGEST_PAUSE)
        except KeyboardInterrupt:
            with contextlib.suppress(requests.RequestException):
                self._session.post(f"{self._url}{path}/cancel", timeout=5)
            raise
        return self._succeeded(prediction)

    def _succeeded(self, prediction: Any) -> dict[str, Any]:  # noqa: ANN401 (JSON)
        """A prediction that is done. Raises PredictionError where it has failed."""
        status = prediction.get("status") if isinstance(prediction, dict) else None
        if status == "failed":
            reason = str(prediction.get("error_message"))
            raise PredictionError(f"the prediction failed: {reason}", reason=reason)
        if status != "success" or not isinstance(prediction.get("outputs"), list):
            raise self._strange("/predict")
        done: dict[str, Any] = prediction
        return done

    def _strange(self, path: str) -> RunError:
        return RunError(
            "the answer is not that of a model's server",
            where=redact(self._url + path),
            hint="is the URL right?",
        )

    def _begin(self, route: str, body: dict[str, Any], call: Call) -> Any:  # noqa: ANN401 (JSON)
        """Have a request for a prediction accepted; the answer. Whoever is told to try again later does, for a while.

        Raises BusyError where the server is still busy then.
        """
        deadline = time.monotonic() + self._patience
        pause = _BUSY_HERE
        while True:
            try:
                answer = self._ask("POST", route, **body)
            except BusyError as busy:
                if time.monotonic() + busy.seconds > deadline:
                    raise
                # What we have started serves us alone, mostly.
                call.pause(min(busy.seconds, pause) if self._here else busy.seconds)
                pause *= 2
            else:
                return answer

    def close(self) -> None:
        """Close its connections."""
        self._session.close()

    def _ask(self, method: str, path: str, **options: Any) -> Any:  # noqa: ANN401 (JSON)
        url = self._url + path
        shown = redact(url)
        try:
            # Only the wait for the next bytes is limited: large files take their time.
            answer = self._session.request(method, url, **{"timeout": _ANSWER_SECONDS, **options})
            if answer.ok and answer.headers.get("Content-Type", "").startswith(EVENTS):
                return answer
            body = answer.content
        except requests.RequestException as problem:
            handshake = certificates.problem_of(problem)
            raise RunError(
                f"the server can't be asked: {handshake or redact(_reason(problem))}",
                where=shown,
                hint=certificates.hint(handshake) if handshake else "is it running, and is the URL right?",
            ) from None
        try:
            document = json.loads(body)
        except (ValueError, RecursionError):  # a number too long, too
            raise RunError("the answer is no JSON, so that is no server of a model", where=shown) from None
        if answer.ok:
            return document
        detail = document.get("detail") if isinstance(document, dict) else document
        if isinstance(detail, list) and all(map(_is_problem, detail)):
            raise RunError("\n".join(map(_problem, detail)), where=self._inputs)
        what = f"the server refuses: {answer.status_code} {answer.reason}: {detail}"
        again = answer.headers.get("Retry-After", "")
        if answer.status_code == HTTPStatus.SERVICE_UNAVAILABLE and re.fullmatch("[0-9]{1,9}", again):
            raise BusyError(what, where=shown, hint=f"try again in {again} s", seconds=int(again))
        raise RunError(what, where=shown)


def _reason(problem: requests.RequestException) -> str:
    """What the system says of a connection, without the libraries' words around it; else all that they say."""
    found: BaseException | None = problem
    while found is not None:
        if isinstance(found, OSError) and found.strerror:
            return found.strerror
        found = found.__context__
    return str(problem)


def _is_problem(one: object) -> bool:
    return isinstance(one, dict) and isinstance(one.get("loc"), list) and "msg" in one


def _problem(problem: dict[str, Any]) -> str:
    """One entry of a 422, without the place of the one input that there is."""
    field = ".".join(map(str, problem["loc"][2:]))
    return f"{field}: {problem['msg']}" if field else str(problem["msg"])


class SavedFile(str):
    """The path of a file that was saved here, which a server's text is not, though it look like one."""

    __slots__ = ()


def save_files(value: Any, schema: Schema | None, folder: Path, place: tuple[str, ...] = ()) -> Any:  # noqa: ANN401
    """An output with the absolute paths of its files, saved to a folder, in place of their `data:` URIs.

    value: JSON. place: where it is in the output; a file is called after that, and none is overwritten.
    Raises RunError where one can't be written.
    """
    if schema is None:
        return value
    if isinstance(value, dict):
        return {
            key: save_files(item, member(schema, key), folder, (*place, key)) for key, item in value.items()
        }
    if isinstance(value, list):
        inner = member(schema, 0)
        return [save_files(item, inner, folder, (*place, str(n))) for n, item in enumerate(value)]
    if isinstance(value, str) and value.startswith("data:") and holds_files(schema):
        return SavedFile(_save(value, folder.resolve(), re.sub(r"[^\w-]", "_", "-".join(place))))
    return value


def _save(uri: str, folder: Path, name: str) -> Path:
    try:
        with urllib.request.urlopen(uri) as answer:  # noqa: S310 (a data: URI)
            content = answer.read()
    except ValueError as problem:
        raise RunError(f"an output's file can't be read: {problem}") from None
    suffix = without_suffix(uri[len("data:") :].partition(",")[0].removesuffix(";base64"))[1] or ".bin"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if folder.name == RESULTS:
            # As a virtual environment does: git need not be told.
            (folder / ".gitignore").write_text("*\n")
        path = _new_file(folder, name, suffix)
        part = path.with_name(f".{path.name}.part")
        try:
            part.write_bytes(content)
            part.rename(path)
        except BaseException:
            path.unlink()
            raise
        finally:
            part.unlink(missing_ok=True)
    except OSError as problem:
        raise RunError(
            f"an output can't be saved: {problem.strerror}",
            where=str(folder),
            hint="-o chooses another folder",
        ) from None
    return path


def _new_file(folder: Path, name: str, suffix: str) -> Path:
    """An empty file that nobody else has, called so or nearly so."""
    for number in itertools.count():
        path = folder / (f"{name}.{number}{suffix}" if number else f"{name}{suffix}")
        with contextlib.suppress(FileExistsError):
            path.touch(exist_ok=False)
            return path
    raise AssertionError
