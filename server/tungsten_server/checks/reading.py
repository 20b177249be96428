"""Request bodies made into inputs: small ones here, large ones by processes of their own.

Whoever parses JSON holds the interpreter's lock until it is done, seconds for some megabytes of numbers; meanwhile
nobody else would be answered, not even a probe. So a large body goes to a process that does nothing else: this module,
started as a program with the server's interpreter, which sends back each input as `Input` has it. `BodyReaders` owns
these processes; threads that have a request call it.
"""

from __future__ import annotations

import io
import json
import os
import socket
import subprocess
import sys
import threading
import time
import traceback
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable

from werkzeug.exceptions import HTTPException, UnsupportedMediaType, default_exceptions
from werkzeug.wrappers import Request

from tungsten_server.checks.body import parse_inputs
from tungsten_server.checks.form import LEAST_PARTS, read_form, read_parts
from tungsten_server.checks.inputs import Input, InputSchema
from tungsten_server.words.problems import InputError, Location, Problem, UnavailableError
from tungsten_server.words.spec import read_spec
from tungsten_server.worker import frames

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tungsten_server.checks.urls import Downloads

LARGE_BODY = 1024 * 1024
"""Bytes of a body that is not read here."""

_MANY_VALUES = 50_000
"""So too for a smaller body with about as many values: it is their number that takes time."""

_IDLE_SECONDS = 60.0
"""How long a process is kept for the next large body."""

# Frames, see `frames`. To a process: what Content-Type and Content-Encoding say, the body, and what was fetched.
_READ = 1
# From it: JSON and option key of each input; the problems as JSON; an HTTP status and why; a defect of ours.
_INPUTS = 2
_PROBLEMS = 3
_REFUSED = 4
_DEFECT = 5
_URLS = 6
"""The addresses to be fetched, as JSON; the body is to be sent again with what is behind them."""


def read_values(request: Request, input_schema: dict[str, Any], max_inputs: int) -> list[Any]:
    """Make inputs not yet checked of a request's body. Raises InputError, and what werkzeug raises."""
    encoding = request.headers.get("Content-Encoding", "")
    if encoding.lower() not in ("identity", ""):
        # Some kilobytes could become gigabytes.
        what = f"the body comes with Content-Encoding {encoding[:100]}; send it as it is"
        raise UnsupportedMediaType(what)
    kind = request.mimetype
    if kind == "multipart/form-data":
        stream = io.BytesIO(request.get_data())
        return [
            read_form(
                input_schema, read_parts(stream, request.content_type or "", max(max_inputs, LEAST_PARTS))
            )
        ]
    if kind and kind != "application/json" and not kind.endswith("+json"):
        what = f"Content-Type is {kind}, not application/json or multipart/form-data"
        raise InputError([Problem((), what, "content_type")])
    return parse_inputs(request.get_data(cache=False), max_inputs)


class InputReader:
    """Makes inputs of a request's body, whichever process parses it, and of the files that it names by address.

    schema: checks inputs; input_schema: what it is made of. max_inputs: how many a request may have.
    readers: for large bodies. downloads: None where no file may be given by its address.
    """

    def __init__(
        self,
        schema: InputSchema,
        input_schema: dict[str, Any],
        max_inputs: int,
        readers: BodyReaders,
        downloads: Downloads | None = None,
    ) -> None:
        """Hold all of it."""
        self._schema = schema
        self._input_schema = input_schema
        self._max_inputs = max_inputs
        self._readers = readers
        self._downloads = downloads

    def read(self, request: Request, take: Callable[[int], None]) -> list[Input]:
        """Read a request's inputs.

        take: called with numbers of bytes before files of them are held. Raises what it raises, InputError,
        werkzeug's exceptions and UnavailableError.
        """
        found = self._read(request, None if self._downloads is None else [])
        if isinstance(found, dict):
            assert self._downloads is not None
            found = self._read(request, self._downloads.fetch(found, take))
            assert isinstance(found, list)
        return found

    def _read(self, request: Request, files: list[str] | None) -> list[Input] | dict[Location, str]:
        body = request.get_data()
        if is_large(body, files):
            encoding = request.headers.get("Content-Encoding", "")
            return self._readers.read(request.content_type or "", encoding, body, files)
        return checked(self._schema, read_values(request, self._input_schema, self._max_inputs), files)


def checked(
    schema: InputSchema, values: list[Any], files: Sequence[str] | None
) -> list[Input] | dict[Location, str]:
    """Make inputs of values; the addresses that have to be fetched first, where there are any.

    values: changed. files: data URIs, in the order of the addresses; empty where none was fetched yet, None where
    none may be. Raises InputError, for what is wrong otherwise before anything is fetched.
    """
    places = {} if files is None else schema.urls(values)
    for index, location in enumerate(places):
        *parents, last = location
        part: Any = values
        for key in parents:
            part = part[key]
        part[last] = files[index] if files else "data:,"
    inputs = schema.check(values)
    return places if places and not files else inputs


def is_large(body: bytes, files: Sequence[str] | None = None) -> bool:
    """Whether a body is to be read by a process of its own. files: what was fetched for it."""
    size = len(body) + sum(map(len, files or ()))
    return size > LARGE_BODY or body.count(b",") > _MANY_VALUES


class BodyReaders:
    """Processes that read large bodies, as many at a time as there are processors, at most four.

    spec: the file; the processes read it. max_file, max_inputs: as in the settings. fetching: whether inputs may have
    addresses in place of files.
    """

    def __init__(self, spec: Path, max_file: int, max_inputs: int, *, fetching: bool) -> None:
        """Start nothing."""
        self._arguments = json.dumps(
            {"spec": str(spec), "max-file": max_file, "max-inputs": max_inputs, "fetching": fetching}
        )
        self._free = threading.BoundedSemaphore(min(max(os.cpu_count() or 1, 2), 4))
        self._lock = threading.Lock()
        self._idle: list[tuple[float, _Process]] = []
        """Since when each of those that have nothing to do has been so; the last one is taken first."""

    def read(
        self, content_type: str, content_encoding: str, body: bytes, files: Sequence[str] | None = None
    ) -> list[Input] | dict[Location, str]:
        """Make inputs of a body, or tell what is to be fetched for it, as `checked` does.

        Raises InputError, werkzeug's exceptions, and UnavailableError where no process can do it.
        """
        parts = [content_type.encode(), content_encoding.encode(), body, *map(str.encode, files or ())]
        with self._free:
            with self._lock:
                process = self._idle.pop()[1] if self._idle else None
            if process is not None:
                with suppress(OSError):  # it has died, perhaps long ago
                    return self._ask(process, parts)
            try:
                return self._ask(_Process(self._arguments), parts)
            except OSError as error:
                msg = f"the body could not be read: {error}"
                raise UnavailableError(msg, retry_after=1) from error

    def _ask(self, process: _Process, parts: list[bytes]) -> list[Input] | dict[Location, str]:
        try:
            kind, answer = process.ask(parts)
        except OSError:
            process.close()
            raise
        with self._lock:
            self._idle.append((time.monotonic(), process))
        return _result(kind, answer)

    def tidy(self) -> None:
        """End the processes that have had nothing to do for long. To be called now and then."""
        limit = time.monotonic() - _IDLE_SECONDS
        with self._lock:
            tired = [process for since, process in self._idle if since < limit]
            self._idle = [one for one in self._idle if one[0] >= limit]
        for process in tired:
            process.close()

    def close(self) -> None:
        """End those that have nothing to do; the others end when their sockets are closed with this process."""
        with self._lock:
            idle, self._idle = self._idle, []
        for _, process in idle:
            process.close()


def _result(kind: int, parts: list[bytes]) -> list[Input] | dict[Location, str]:
    if kind == _INPUTS:
        return [Input(data, key.decode()) for data, key in zip(parts[::2], parts[1::2])]
    if kind == _PROBLEMS:
        raise InputError([Problem(tuple(place), *rest) for place, *rest in json.loads(parts[0])])
    if kind == _REFUSED:
        raise default_exceptions[int(parts[0])](parts[1].decode())
    if kind == _URLS:
        return {tuple(place): url for place, url in json.loads(parts[0])}
    raise RuntimeError(parts[0].decode())


class _Process:
    """One of the processes."""

    def __init__(self, arguments: str) -> None:
        self._socket, theirs = socket.socketpair()
        command = [sys.executable, *(["-I"] if sys.flags.isolated else []), "-m", __name__]
        try:
            with theirs:
                self._process = subprocess.Popen(
                    [*command, str(theirs.fileno()), arguments],
                    stdin=subprocess.DEVNULL,
                    pass_fds=[theirs.fileno()],
                    start_new_session=True,  # what a terminal sends is the server's to handle
                )
        except OSError:
            self._socket.close()
            raise

    def ask(self, parts: list[bytes]) -> frames.Frame:
        """Send a question and wait for the answer. Raises OSError."""
        answer = None
        with suppress(ConnectionError):
            _send(self._socket, _READ, parts)
            answer = next(_received(self._socket), None)
        if answer is None:
            msg = "the process that reads it has died"
            raise ConnectionError(msg)
        return answer

    def close(self) -> None:
        """End it."""
        self._socket.close()
        self._process.kill()
        self._process.wait()


def _send(sock: socket.socket, kind: int, parts: list[bytes]) -> None:
    sock.sendall(frames.head(kind, parts))
    for part in parts:  # not joined: copying them would hold the interpreter's lock
        sock.sendall(part)


def _received(sock: socket.socket) -> Iterator[frames.Frame]:
    decoder = frames.Decoder()
    while data := sock.recv(decoder.wanted):
        yield from decoder.feed(data)


def main() -> None:
    """Read bodies until the server closes the socket."""
    fd, text = sys.argv[1:]
    arguments = json.loads(text)
    input_schema = read_spec(Path(arguments["spec"])).input_schema
    schema = InputSchema(input_schema, arguments["max-file"])

    def reply(parts: list[bytes]) -> tuple[int, list[bytes]]:
        content_type, content_encoding, body, *fetched = parts
        files = [file.decode() for file in fetched] if arguments["fetching"] else None
        request = _Request(
            {
                "REQUEST_METHOD": "POST",
                "CONTENT_TYPE": content_type.decode(),
                "HTTP_CONTENT_ENCODING": content_encoding.decode(),
                "CONTENT_LENGTH": str(len(body)),
                "wsgi.input": io.BytesIO(body),
            }
        )
        try:
            values = read_values(request, input_schema, arguments["max-inputs"])
            found = checked(schema, values, files)
            if isinstance(found, dict):
                return _URLS, [json.dumps(list(found.items())).encode()]
            return _INPUTS, [part for one in found for part in (one.json, one.key.encode())]
        except InputError as error:
            problems = [(one.location, one.message, one.kind) for one in error.problems]
            return _PROBLEMS, [json.dumps(problems).encode()]
        except HTTPException as error:
            return _REFUSED, [str(error.code).encode(), (error.description or error.name).encode()]
        except Exception as error:
            traceback.print_exc()
            return _DEFECT, [f"{type(error).__name__} in the process that reads bodies".encode()]

    with socket.socket(fileno=int(fd)) as sock, suppress(OSError):  # the server is gone
        for _, parts in _received(sock):
            _send(sock, *reply(parts))
            del parts  # megabytes, and the next body may be long in coming


class _Request(Request):
    """A request whose body has its limit elsewhere."""

    max_form_memory_size = None


if __name__ == "__main__":
    main()
