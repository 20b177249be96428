"""Starts everything, and stops it: the order of a server's life.

The model process starts before the HTTP parts are imported, so that both load at the same time; the socket listens
before either is ready. The main thread does this, and is then the event loop.
"""

from __future__ import annotations

import errno
import logging
import os
import signal
import socket
import sys
import time
from collections import deque
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Callable, NoReturn

from tungsten_server.model.process import ModelProcess, Program
from tungsten_server.queue.dispatcher import Dispatcher, Limits
from tungsten_server.queue.driver import Patience
from tungsten_server.words.settings import Settings, SettingsError, read_settings
from tungsten_server.words.spec import Spec, SpecError, read_spec
from tungsten_server.worker import events

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tungsten_server.checks.inputs import InputSchema
    from tungsten_server.checks.reading import BodyReaders
    from tungsten_server.checks.urls import Downloads
    from tungsten_server.http.serving import HttpServer

_SPARE_THREADS = 4
"""For everything but predictions: health and metadata are answered when all predictions have to wait."""

_REASONS = 8
"""Reasons of failed setups that are remembered: most models have one."""

_BACKLOG = 4096
"""Connections that may wait in the kernel's queue: behind a full one, clients try again after a second."""

_LAST_WORDS = 2.0
"""Seconds in which the failures of what a stop could not finish are sent."""

_log = logging.getLogger("tungsten.server")


def main(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """Serve until a signal or a fatal error; return the exit status.

    0: stopped by a signal. 1: the model can't be set up. 2: the settings or the spec can't be used.
    """
    try:
        settings = read_settings(argv, environ)
    except SettingsError as error:
        return _refuse(str(error), "the server's settings", "python -m tungsten_server --help")
    try:
        spec = read_spec(settings.spec)
    except (SpecError, OSError) as error:
        return _refuse(str(error), str(settings.spec), "build the image again")
    try:
        listener = _listen(settings)
    except OSError as error:
        where = (
            f"{settings.host or 'all addresses'} port {settings.port}"
            if settings.listen_fd is None
            else "--listen-fd"
        )
        return _refuse(f"can't listen: {error}", where, "choose with --host and --port")
    _log_to_stderr()
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, _exit)
    batch_size = settings.max_batch_size or spec.batch_size
    host, port = listener.getsockname()[:2]
    _log.info(
        "start model=%s batch_size=%d host=%s port=%d pid=%d", spec.name, batch_size, host, port, os.getpid()
    )
    limits = Limits(batch_size, settings.max_pending, settings.max_result, settings.queue_timeout)
    patience = Patience(settings.setup_timeout, settings.prediction_timeout, settings.max_setups)
    dispatcher = Dispatcher(_process_starter(settings, spec), limits, patience, workers=settings.workers)
    dispatcher.start()
    try:
        return _serve(settings, spec, dispatcher, listener)
    finally:
        dispatcher.stop()
        _log.info("stopped")


def _serve(settings: Settings, spec: Spec, dispatcher: Dispatcher, listener: socket.socket) -> int:
    """Import the HTTP parts and serve until a stop; return the exit status."""
    from tungsten_server.checks.inputs import InputSchema
    from tungsten_server.checks.reading import BodyReaders

    try:
        schema = InputSchema(spec.input_schema, settings.max_file)
    except ValueError as error:
        return _refuse(
            f"input-schema is no JSON Schema: {error}", str(settings.spec), "build the image again"
        )
    readers = BodyReaders(settings.spec, settings.max_file, settings.max_inputs, fetching=settings.allow_urls)
    try:
        server = _http_server(settings, spec, schema, readers, dispatcher, listener)
    except RuntimeError as error:
        return _refuse(
            f"no thread can be started: {error}", "the limits of this process", "raise its `ulimit -u`"
        )
    handover = _take_over(dispatcher, settings.handover_fd)
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, lambda *_: server.stop())
    dispatcher.on_fatal(server.stop)
    server.run()

    server.stop_listening()
    if handover is not None:
        handover.close()
    _drain(server, dispatcher, settings.stop_timeout)
    readers.close()
    if dispatcher.fatal:
        _log.error("[%s] %s", events.GAVE_UP, dispatcher.fatal)
        return 1
    return 0


def _http_server(
    settings: Settings,
    spec: Spec,
    schema: InputSchema,
    readers: BodyReaders,
    dispatcher: Dispatcher,
    listener: socket.socket,
) -> HttpServer:
    """Put the HTTP parts together. Raises RuntimeError where no thread can be started."""
    from tungsten_server.checks.reading import InputReader
    from tungsten_server.http.access import Access, is_loopback
    from tungsten_server.http.app import Api, Records, create_app
    from tungsten_server.http.connections import Errors
    from tungsten_server.http.direct import direct_predict
    from tungsten_server.http.metrics import Metrics
    from tungsten_server.http.results import Results
    from tungsten_server.http.serving import Direct, HttpServer, Room
    from tungsten_server.http.wire import error_body
    from tungsten_server.words.budget import ByteBudget

    results = Results(settings.result_expiration, settings.max_results_bytes, time.monotonic)
    budget = ByteBudget(settings.max_waiting_bytes)
    metrics = Metrics(dispatcher, results, budget, settings.max_batch_size or spec.batch_size)
    downloads = _downloads(settings) if settings.allow_urls else None
    names = settings.allow_host if settings.allow_host or is_loopback(listener.getsockname()[0]) else None
    access = Access(names, settings.allow_origins)
    reader = InputReader(schema, spec.input_schema, settings.max_inputs, readers, downloads)
    api = Api(spec, settings, reader, dispatcher, Records(results, budget, metrics), access)
    predict = direct_predict(schema, dispatcher, budget, metrics, settings.max_inputs)
    threads = settings.max_pending + _SPARE_THREADS + (downloads.at_once if downloads else 0)

    def each_second() -> None:
        dispatcher.expire()
        readers.tidy()

    def refused(status: int, reason: str) -> bytes:
        """Answer for waitress what it refuses by itself."""
        metrics.count(None, "", status, 0.0)
        return error_body(reason)

    return HttpServer(
        create_app(api),
        listener,
        room=Room(threads, settings.max_body, ByteBudget(settings.max_waiting_bytes)),
        direct=Direct(predict, dispatcher.wake, access.is_plain),
        errors=Errors(refused, partial(access.cors, preflight=False)),
        each_second=each_second,
    )


def _drain(server: HttpServer, dispatcher: Dispatcher, seconds: float) -> None:
    """Answer what was accepted, for at most these seconds, and fail the rest."""
    _log.info("stop: no new connections, answering what was accepted")
    began = time.monotonic()
    unanswered = server.drain(seconds)
    if unanswered:
        dispatcher.fail_pending("the server is stopping")
        unanswered = server.drain(_LAST_WORDS)
    _log.info("drained seconds=%.2f unanswered=%d", time.monotonic() - began, unanswered)


def _take_over(dispatcher: Dispatcher, handover_fd: int | None) -> socket.socket | None:
    """Wait until the model is ready, say so to who has started us, and wait until it is our turn.

    Returns the socket that is to be closed when it is no more. Without hope there is nothing to wait for.
    """
    if handover_fd is None:
        return None
    handover = socket.socket(fileno=handover_fd)
    dispatcher.wait_settled()
    if not dispatcher.fatal:
        with suppress(OSError):  # who has started us is gone, and its signal is about to come
            handover.sendall(b"ready\n")
            handover.recv(1)
    return handover


def _downloads(settings: Settings) -> Downloads:
    from tungsten_server.checks.urls import Downloads

    return Downloads(
        max_file=settings.max_file,
        max_files=settings.max_body,
        seconds=settings.url_timeout,
        networks=settings.allow_url_networks,
    )


def _process_starter(settings: Settings, spec: Spec) -> Callable[[int], ModelProcess]:
    program = Program(
        settings.model_python,
        settings.model_dir,
        spec.module,
        spec.class_name,
        max_output=settings.max_result,
        max_pixels=settings.max_pixels,
    )
    told: deque[str] = deque(maxlen=_REASONS)
    return lambda wake_fd: ModelProcess(program, wake_fd, told)


def _listen(settings: Settings) -> socket.socket:
    """Listen at once: clients that come before the HTTP parts are imported wait in the kernel's queue."""
    if settings.listen_fd is not None:
        return socket.socket(fileno=settings.listen_fd)
    host, port = settings.host, settings.port
    if not host and socket.has_dualstack_ipv6():
        try:
            return socket.create_server(
                ("::", port), family=socket.AF_INET6, backlog=_BACKLOG, dualstack_ipv6=True
            )
        except OSError as error:
            # A kernel, or a container, without IPv6.
            if error.errno not in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL):
                raise
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=_BACKLOG)


def _log_to_stderr() -> None:
    """Set up logging: one line an event, in UTC."""
    formatter = logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s", "%Y-%m-%dT%H:%M:%SZ")
    formatter.converter = time.gmtime
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    logging.basicConfig(level=logging.INFO, handlers=[handler])


def _refuse(what: str, where: str, hint: str) -> int:
    what = what.replace("\n", "\n       ")
    print(f"error: {what}\n  in:   {where}\n  hint: {hint}", file=sys.stderr)
    return 2


def _exit(*_: object) -> NoReturn:
    """Leave while nothing is served yet."""
    sys.exit(0)
