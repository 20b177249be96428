"""The wire format: status codes and the shape of every answer. Nothing else knows about HTTP bodies.

`routes` has the table of routes; `Api` has a method for each, and `create_app` makes a WSGI application of the two.

A request that is accepted is answered with 200 and a prediction object, also when the prediction fails. 4xx
and 5xx are for requests that were never accepted. waitress' threads run this; `Records` is what it remembers from
request to request.
"""

from __future__ import annotations

import logging
import time
from functools import partial
from typing import TYPE_CHECKING, Any, Callable, NamedTuple

from flask import Flask, Response, g, request
from werkzeug.exceptions import HTTPException, NotFound

from tungsten_server.http.connections import WHEN_GONE, WITH_EVENTS
from tungsten_server.http.events import HEADERS as HEADERS_OF_EVENTS
from tungsten_server.http.events import MEDIA_TYPE, PredictionEvents
from tungsten_server.http.links import HEADERS, OutputLinks
from tungsten_server.http.openapi import openapi_document
from tungsten_server.http.routes import ROUTES
from tungsten_server.http.wire import demo_body, error_body, json_body, prediction_body
from tungsten_server.page.demo import DemoPage
from tungsten_server.page.docs import docs_page
from tungsten_server.words.problems import InputError, Problem, UnavailableError
from tungsten_server.words.stream import Stream
from tungsten_server.worker.fold import concatenated

if TYPE_CHECKING:
    from tungsten_server.checks.reading import InputReader
    from tungsten_server.http.access import Access
    from tungsten_server.http.metrics import Metrics
    from tungsten_server.http.results import Results
    from tungsten_server.queue.dispatcher import Dispatcher
    from tungsten_server.words.budget import ByteBudget
    from tungsten_server.words.prediction import Prediction
    from tungsten_server.words.settings import Settings
    from tungsten_server.words.spec import Spec

_log = logging.getLogger("tungsten.http")

_METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
"""The text format that every Prometheus reads."""

_DOCS_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'self'"
)

_OF_PAGES = {"X-Frame-Options": "SAMEORIGIN", "X-Content-Type-Options": "nosniff"}
"""No page of others' shows ours as a part of itself, to have its visitors press what they do not see."""


class Records(NamedTuple):
    """The memory of the application from request to request; each part guards itself."""

    results: Results
    budget: ByteBudget
    """For the bodies that are accepted and not answered."""
    metrics: Metrics


class Api:
    """The answers to requests: a method for each route, and what all requests have in common.

    reader: makes inputs of a request. dispatcher: runs them. access: which requests are meant.
    """

    def __init__(
        self,
        spec: Spec,
        settings: Settings,
        reader: InputReader,
        dispatcher: Dispatcher,
        records: Records,
        access: Access,
    ) -> None:
        """Make what is the same for every request. Raises OSError where the demo page's files can't be read."""
        self._reader = reader
        self._dispatcher = dispatcher
        self._results, self._budget, self._metrics = records
        self._access = access
        self._max_age = settings.result_expiration
        self._metadata = json_body(
            {
                "name": spec.name,
                "input_schema": spec.input_schema,
                "output_schema": spec.output_schema,
                "demo_output_schema": spec.demo_output_schema,
                "examples": spec.examples,
                **({"stream": True} if spec.stream else {}),
            }
        )
        self._openapi = openapi_document(spec, settings)
        self._concatenated = frozenset(concatenated(spec.output_schema))
        self._links = OutputLinks(spec.output_schema, spec.demo_output_schema)
        self._page = DemoPage()

    # The routes, in the order of their table.

    def describe(self) -> Response:
        """Answer `GET /`."""
        return _respond(200, self._metadata)

    def predict(self) -> Response:
        """Answer `POST /predict`, once the prediction is done."""
        as_links = _wants_links()
        if _wants_events():
            stream = Stream(self._concatenated, keep=False)
            events = self._events(stream, prediction_body, as_links=as_links)
            prediction = self._accept(keep=as_links, stream=stream)
            events.on_leave = lambda: self._dispatcher.abandon(prediction)
            return _begin(events.of(prediction))
        prediction = self._accept(keep=as_links)
        if WHEN_GONE in request.environ:
            request.environ[WHEN_GONE](lambda: self._dispatcher.abandon(prediction))
        self._dispatcher.wait(prediction)
        return self._progress(prediction, prediction_body, as_links=as_links)

    def create_prediction(self) -> Response:
        """Answer `POST /predictions`."""
        stream = Stream(self._concatenated, keep=True)
        return _respond(200, {"prediction_id": self._accept(stream=stream).id})

    def get_prediction(self, prediction_id: str) -> Response:
        """Answer `GET /predictions/<prediction_id>`."""
        return self._progress(self._find(prediction_id), prediction_body, as_links=_wants_links())

    def cancel_prediction(self, prediction_id: str) -> Response:
        """Answer `POST /predictions/<prediction_id>/cancel`."""
        self._dispatcher.cancel(self._find(prediction_id))
        return Response(status=200)

    def demo_page(self) -> Response:
        """Answer `GET /demo`."""
        return self._page.page()

    def create_demo(self) -> Response:
        """Answer `POST /demo`."""
        stream = Stream(self._concatenated, keep=True)
        return _respond(200, {"demo_id": self._accept(demo=True, stream=stream).id})

    def get_demo(self, prediction_id: str) -> Response:
        """Answer `GET /demo/<prediction_id>`."""
        return self._progress(self._find(prediction_id), demo_body, as_links=_wants_links())

    def cancel_demo(self, prediction_id: str) -> Response:
        """Answer `POST /demo/<prediction_id>/cancel`."""
        return self.cancel_prediction(prediction_id)

    def get_file(self, files_id: str, index: int, number: int) -> Response:
        """Answer `GET /files/<files_id>/<index>/<number>`."""
        prediction = self._results.of_files(files_id)
        file = self._links.file(prediction.outputs, index, number) if prediction else None
        if file is None:
            raise NotFound(files_id)
        response = Response(file.content, content_type=file.media_type, headers=HEADERS)
        response.headers["Content-Disposition"] = file.disposition
        response.headers["Cache-Control"] = f"private, max-age={self._max_age:.0f}"
        response.set_etag(f"{files_id}-{index}-{number}")
        response.accept_ranges = "bytes"
        # A unit that is not known must be ignored, and several ranges may be (RFC 9110, 14.2).
        asked = request.range
        is_one = asked is not None and asked.units == "bytes" and len(asked.ranges) == 1
        response.make_conditional(request, accept_ranges=is_one, complete_length=len(file.content))
        return response

    def health(self) -> Response:
        """Answer `GET /healthz`."""
        return _respond(200, {"status": "ok"})

    def readiness(self) -> Response:
        """Answer `GET /readyz`."""
        reason = self._dispatcher.unready
        if reason is None:
            return _respond(200, {"status": "ready"})
        return _respond(503, {"status": "not ready", "reason": reason})

    def metrics(self) -> Response:
        """Answer `GET /metrics`."""
        return Response(self._metrics.text(), content_type=_METRICS_TYPE)

    def openapi(self) -> Response:
        """Answer `GET /openapi.json`."""
        return _respond(200, self._openapi)

    def docs(self) -> Response:
        """Answer `GET /docs`."""
        base = "../" if request.path.endswith("/") else ""
        page = docs_page(self._openapi, base, request.host_url.rstrip("/"))
        return Response(page, headers={"Content-Security-Policy": _DOCS_POLICY})

    def page_file(self, name: str) -> Response:
        """Answer `GET /static/<name>`, which the demo page alone asks for."""
        return self._page.file(name)

    # What all requests have in common.

    def begin(self) -> Response | None:
        """Refuse a request that a browser sends and nobody means."""
        g.began = time.monotonic()
        headers = request.headers
        host, origin, site = (headers.get(name) for name in ("Host", "Origin", "Sec-Fetch-Site"))
        refusal = self._access.refusal(request.method, host, origin, site)
        return _respond(403, error_body(refusal)) if refusal else None

    def finish(self, response: Response) -> Response:
        """Count a response, and say who may read it."""
        route = request.url_rule.rule if request.url_rule else None
        method, began = request.method, g.began
        count = partial(self._metrics.count, route, method, response.status_code)
        events: PredictionEvents | None = g.get("events")
        if events is None:
            count(time.monotonic() - began)
        else:
            events.on_first = lambda: self._metrics.count_first_piece(route, time.monotonic() - began)
            events.on_end = lambda: count(time.monotonic() - began)
        preflight = request.method == "OPTIONS"
        wanted = self._access.cors(request.headers.get("Origin"), preflight=preflight)
        if response.mimetype == "text/html":
            wanted.update(_OF_PAGES)
        for name, value in wanted.items():
            response.headers.setdefault(name, value)
        return response

    def _accept(self, *, demo: bool = False, keep: bool = True, stream: Stream | None = None) -> Prediction:
        """Read a request's inputs and submit them. keep: so that it can be asked for by its id."""
        size = 0

        def take(number: int) -> None:
            nonlocal size
            if not self._budget.take(number):
                msg = "too many bytes are waiting"
                raise UnavailableError(msg, retry_after=1)
            size += number

        def done(prediction: Prediction) -> None:
            self._budget.give_back(size)
            self._results.finished(prediction)

        take(request.content_length or 0)
        try:
            inputs = self._reader.read(request, take)
            prediction = self._dispatcher.submit(inputs, demo=demo, stream=stream, on_done=done)
        except BaseException:
            self._budget.give_back(size)
            raise
        if keep:
            self._results.add(prediction)
        return prediction

    def _find(self, prediction_id: str) -> Prediction:
        self._dispatcher.expire()
        prediction = self._results.get(prediction_id)
        if prediction is None:
            raise NotFound(prediction_id)
        return prediction

    def _progress(self, prediction: Prediction, write: Callable[..., bytes], *, as_links: bool) -> Response:
        """Tell how far a prediction is, with its outputs where it has succeeded; or follow it."""
        if _wants_events() and prediction.stream is not None:
            return _begin(self._events(prediction.stream, write, as_links=as_links).of(prediction))
        return _respond(200, self._body(prediction, write, as_links=as_links))

    def _body(self, prediction: Prediction, write: Callable[..., bytes], *, as_links: bool) -> bytes:
        succeeded = prediction.status == "success"
        files_id = self._results.files_id(prediction) if as_links and succeeded else None
        if files_id is None:
            return write(prediction)
        return write(prediction, self._links.linked(prediction.outputs, f"/files/{files_id}"))

    def _events(self, stream: Stream, write: Callable[..., bytes], *, as_links: bool) -> PredictionEvents:
        """What follows a prediction, for a client. write: as for its whole."""
        piece = self._links.without_files if as_links else bytes
        return PredictionEvents(stream, piece, lambda one: self._body(one, write, as_links=as_links))


def create_app(api: Api) -> Flask:
    """Make the WSGI application: the table's routes, and what becomes of errors."""
    app = _App(__name__, static_folder=None)
    app.url_map.merge_slashes = False  # or `//` were redirected, to the host that the client names
    app.url_map.strict_slashes = False  # a path with a slash at its end means the same as without
    for route in ROUTES:
        app.add_url_rule(route.rule, route.name, getattr(api, route.name), methods=[route.method])
    app.add_url_rule("/static/<name>", "page_file", api.page_file, methods=["GET"])
    app.before_request(api.begin)
    app.after_request(api.finish)
    app.register_error_handler(InputError, _invalid)
    app.register_error_handler(_QueryError, _invalid_query)
    app.register_error_handler(UnavailableError, _unavailable)
    app.register_error_handler(NotFound, _not_found)
    app.register_error_handler(HTTPException, _http_error)
    app.register_error_handler(Exception, _defect)
    return app


def _invalid(error: InputError) -> Response:
    return _respond(422, {"detail": [_detail(problem) for problem in error.problems]})


def _invalid_query(error: _QueryError) -> Response:
    return _respond(422, {"detail": [{"loc": ["query", error.name], "msg": str(error), "type": "enum"}]})


def _unavailable(error: UnavailableError) -> Response:
    return _respond(503, {"detail": str(error)}, {"Retry-After": str(error.retry_after)})


def _not_found(error: NotFound) -> Response:
    # For a prediction, its id; else no route matched.
    return _respond(404, error_body(error.description if request.url_rule else error.name))


def _http_error(error: HTTPException) -> Response:
    # Keeps what werkzeug adds: Allow with 405, Location with 308.
    headers = {k: v for k, v in error.get_headers() if k != "Content-Type"}
    if error.code == 415:
        headers["Accept-Encoding"] = "identity"
    # What of a body is refused is said in our words.
    what = error.description if error.code in (413, 415) else error.name
    return _respond(error.code or 500, error_body(what), headers)


def _defect(_: Exception) -> Response:
    _log.exception("defect method=%s path=%s", request.method, request.path)
    return _respond(500, error_body("Internal Server Error"))


class _App(Flask):
    """Answers OPTIONS without a body, and so without Flask's HTML type."""

    def make_default_options_response(self) -> Response:
        response = super().make_default_options_response()
        response.status_code = 204
        del response.headers["Content-Type"]
        return response


class _QueryError(Exception):
    """A part of the query that is not valid."""

    def __init__(self, name: str, message: str) -> None:
        super().__init__(message)
        self.name = name


def _wants_links() -> bool:
    """Whether the client asks for output files as addresses. Raises _QueryError."""
    how = request.args.get("files", "data")
    if how not in ("data", "links"):
        raise _QueryError("files", "it is neither data nor links")
    return how == "links"


def _wants_events() -> bool:
    """Whether the client asks for events: by their type, and not by `*/*`; a head alone has none."""
    if request.method == "HEAD":
        return False
    return request.accept_mimetypes.best_match(["application/json", MEDIA_TYPE]) == MEDIA_TYPE


def _begin(events: PredictionEvents) -> Response:
    """Answer with events, which the loop writes."""
    g.events = events
    request.environ[WITH_EVENTS](events)
    return Response(iter(()), content_type=MEDIA_TYPE, headers=HEADERS_OF_EVENTS)


def _detail(problem: Problem) -> dict[str, Any]:
    return {"loc": ["body", *problem.location], "msg": problem.message, "type": problem.kind}


def _respond(status: int, body: bytes | dict[str, Any], headers: dict[str, str] | None = None) -> Response:
    data = body if isinstance(body, bytes) else json_body(body)
    return Response(data, status, headers, mimetype="application/json")
