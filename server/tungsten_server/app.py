"""The wire format: routes, status codes and the shape of every answer. Nothing else knows about HTTP bodies.

A request that is accepted is answered with 200 and a prediction object, also when the prediction fails. 4xx
and 5xx are for requests that were never accepted. waitress' threads run this; what it remembers from request to
request is in `results`, `budget` and `metrics`, which guard themselves.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any, Callable

from flask import Flask, Response, g, request
from werkzeug.exceptions import HTTPException, NotFound

from tungsten_server.connections import WHEN_GONE
from tungsten_server.demo_page import demo_page
from tungsten_server.dispatcher import Dispatcher, UnavailableError
from tungsten_server.docs_page import docs_page
from tungsten_server.links import HEADERS, OutputLinks
from tungsten_server.openapi import openapi_document
from tungsten_server.problems import InputError, Problem
from tungsten_server.reading import checked, is_large, read_values
from tungsten_server.wire import demo_body, error_body, json_body, prediction_body

if TYPE_CHECKING:
    from tungsten_server.access import Access
    from tungsten_server.budget import ByteBudget
    from tungsten_server.inputs import Input, InputSchema
    from tungsten_server.metrics import Metrics
    from tungsten_server.prediction import Prediction
    from tungsten_server.problems import Location
    from tungsten_server.reading import BodyReaders
    from tungsten_server.results import Results
    from tungsten_server.settings import Settings
    from tungsten_server.spec import Spec
    from tungsten_server.urls import Downloads

_log = logging.getLogger("tungsten.http")

_METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
"""The text format that every Prometheus reads."""

_DOCS_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'self'"
)

_OF_PAGES = {"X-Frame-Options": "SAMEORIGIN", "X-Content-Type-Options": "nosniff"}
"""No page of others' shows ours as a part of itself, to have its visitors press what they do not see."""


def create_app(
    spec: Spec,
    settings: Settings,
    schema: InputSchema,
    dispatcher: Dispatcher,
    results: Results,
    budget: ByteBudget,
    metrics: Metrics,
    access: Access,
    readers: BodyReaders,
    downloads: Downloads | None = None,
) -> Flask:
    """Make the WSGI application that serves one model. downloads: where files may be given by their address."""
    app = _App(__name__, static_folder=None)
    app.url_map.merge_slashes = False  # or `//` were redirected, to the host that the client names
    app.url_map.strict_slashes = False  # a path with a slash at its end means the same as without
    app.register_blueprint(demo_page())
    metadata = json_body(
        {
            "name": spec.name,
            "input_schema": spec.input_schema,
            "output_schema": spec.output_schema,
            "demo_output_schema": spec.demo_output_schema,
            "examples": spec.examples,
        }
    )
    openapi = openapi_document(spec, settings)
    links = OutputLinks(spec.output_schema, spec.demo_output_schema)

    def read_inputs(take: Callable[[int], None]) -> list[Input]:
        body = request.get_data()

        def read(files: list[str] | None) -> list[Input] | dict[Location, str]:
            if is_large(body, files):
                encoding = request.headers.get("Content-Encoding", "")
                return readers.read(request.content_type or "", encoding, body, files)
            return checked(schema, read_values(request, spec.input_schema, settings.max_inputs), files)

        found = read(None if downloads is None else [])
        if isinstance(found, dict):
            assert downloads is not None
            found = read(downloads.fetch(found, take))
            assert isinstance(found, list)
        return found

    def accept(*, demo: bool = False, keep: bool = True) -> Prediction:
        """Read a request's inputs and submit them. keep: so that it can be asked for by its id."""
        size = 0

        def take(number: int) -> None:
            nonlocal size
            if not budget.take(number):
                msg = "too many bytes are waiting"
                raise UnavailableError(msg, retry_after=1)
            size += number

        take(request.content_length or 0)

        def done(prediction: Prediction) -> None:
            budget.give_back(size)
            results.finished(prediction)

        try:
            prediction = dispatcher.submit(read_inputs(take), demo=demo, on_done=done)
        except BaseException:
            budget.give_back(size)
            raise
        if keep:
            results.add(prediction)
        return prediction

    def find(prediction_id: str) -> Prediction:
        dispatcher.expire()
        prediction = results.get(prediction_id)
        if prediction is None:
            raise NotFound(prediction_id)
        return prediction

    def answer(prediction: Prediction, write: Callable[..., bytes], *, as_links: bool) -> Response:
        files_id = results.files_id(prediction) if as_links and prediction.status == "success" else None
        if files_id is None:
            return _answer(200, write(prediction))
        return _answer(200, write(prediction, links.linked(prediction.outputs, f"/files/{files_id}")))

    @app.get("/")
    def describe() -> Response:
        return _answer(200, metadata)

    @app.get("/healthz")
    def health() -> Response:
        return _answer(200, {"status": "ok"})

    @app.get("/readyz")
    def readiness() -> Response:
        reason = dispatcher.unready
        if reason is None:
            return _answer(200, {"status": "ready"})
        return _answer(503, {"status": "not ready", "reason": reason})

    @app.post("/predict")
    def predict() -> Response:
        as_links = _wants_links()
        prediction = accept(keep=as_links)
        if WHEN_GONE in request.environ:
            request.environ[WHEN_GONE](lambda: dispatcher.abandon(prediction))
        dispatcher.wait(prediction)
        return answer(prediction, prediction_body, as_links=as_links)

    @app.post("/predictions")
    def create_prediction() -> Response:
        return _answer(200, {"prediction_id": accept().id})

    @app.get("/predictions/<prediction_id>")
    def get_prediction(prediction_id: str) -> Response:
        return answer(find(prediction_id), prediction_body, as_links=_wants_links())

    @app.post("/demo")
    def create_demo() -> Response:
        return _answer(200, {"demo_id": accept(demo=True).id})

    @app.get("/demo/<prediction_id>")
    def get_demo(prediction_id: str) -> Response:
        return answer(find(prediction_id), demo_body, as_links=_wants_links())

    @app.post("/predictions/<prediction_id>/cancel")
    @app.post("/demo/<prediction_id>/cancel")
    def cancel(prediction_id: str) -> Response:
        dispatcher.cancel(find(prediction_id))
        return Response(status=200)

    @app.get("/files/<files_id>/<int:index>/<int:number>")
    def get_file(files_id: str, index: int, number: int) -> Response:
        prediction = results.of_files(files_id)
        file = links.file(prediction.outputs, index, number) if prediction else None
        if file is None:
            raise NotFound(files_id)
        response = Response(file.content, content_type=file.media_type, headers=HEADERS)
        response.headers["Content-Disposition"] = file.disposition
        response.headers["Cache-Control"] = f"private, max-age={settings.result_expiration:.0f}"
        response.set_etag(f"{files_id}-{index}-{number}")
        response.accept_ranges = "bytes"
        # A unit that is not known must be ignored, and several ranges may be (RFC 9110, 14.2).
        asked = request.range
        is_one = asked is not None and asked.units == "bytes" and len(asked.ranges) == 1
        response.make_conditional(request, accept_ranges=is_one, complete_length=len(file.content))
        return response

    @app.get("/metrics")
    def get_metrics() -> Response:
        return Response(metrics.text(), content_type=_METRICS_TYPE)

    @app.get("/openapi.json")
    def get_openapi() -> Response:
        return _answer(200, openapi)

    @app.get("/docs")
    def get_docs() -> Response:
        base = "../" if request.path.endswith("/") else ""
        page = docs_page(openapi, base, request.host_url.rstrip("/"))
        return Response(page, headers={"Content-Security-Policy": _DOCS_POLICY})

    @app.before_request
    def begin() -> Response | None:
        g.began = time.monotonic()
        headers = request.headers
        host, origin, site = (headers.get(name) for name in ("Host", "Origin", "Sec-Fetch-Site"))
        refusal = access.refusal(request.method, host, origin, site)
        return _answer(403, error_body(refusal)) if refusal else None

    @app.after_request
    def count(response: Response) -> Response:
        route = request.url_rule.rule if request.url_rule else None
        metrics.count(route, request.method, response.status_code, time.monotonic() - g.began)
        preflight = request.method == "OPTIONS"
        wanted = access.cors(request.headers.get("Origin"), preflight=preflight)
        if response.mimetype == "text/html":
            wanted.update(_OF_PAGES)
        for name, value in wanted.items():
            response.headers.setdefault(name, value)
        return response

    @app.errorhandler(InputError)
    def invalid(error: InputError) -> Response:
        return _answer(422, {"detail": [_detail(problem) for problem in error.problems]})

    @app.errorhandler(_QueryError)
    def invalid_query(error: _QueryError) -> Response:
        return _answer(422, {"detail": [{"loc": ["query", error.name], "msg": str(error), "type": "enum"}]})

    @app.errorhandler(UnavailableError)
    def unavailable(error: UnavailableError) -> Response:
        return _answer(503, {"detail": str(error)}, {"Retry-After": str(error.retry_after)})

    @app.errorhandler(NotFound)
    def not_found(error: NotFound) -> Response:
        # For a prediction, its id; else no route matched.
        return _answer(404, error_body(error.description if request.url_rule else error.name))

    @app.errorhandler(HTTPException)
    def http_error(error: HTTPException) -> Response:
        # Keeps what werkzeug adds: Allow with 405, Location with 308.
        headers = {k: v for k, v in error.get_headers() if k != "Content-Type"}
        if error.code == 415:
            headers["Accept-Encoding"] = "identity"
        # What of a body is refused is said in our words.
        what = error.description if error.code in (413, 415) else error.name
        return _answer(error.code or 500, error_body(what), headers)

    @app.errorhandler(Exception)
    def defect(_: Exception) -> Response:
        _log.exception("defect method=%s path=%s", request.method, request.path)
        return _answer(500, error_body("Internal Server Error"))

    return app


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


def _detail(problem: Problem) -> dict[str, Any]:
    return {"loc": ["body", *problem.location], "msg": problem.message, "type": problem.kind}


def _answer(status: int, body: bytes | dict[str, Any], headers: dict[str, str] | None = None) -> Response:
    data = body if isinstance(body, bytes) else json_body(body)
    return Response(data, status, headers, mimetype="application/json")
