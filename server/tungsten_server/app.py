"""The wire format: routes, status codes and the shape of every answer. Nothing else knows about HTTP bodies.

A request that is accepted is answered with 200 and a prediction object, also when the prediction fails. 4xx
and 5xx are for requests that were never accepted. Flask's threads run this; it holds no state.
"""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any

from flask import Flask, Response, request
from werkzeug.exceptions import HTTPException

from tungsten_server.demo_page import demo_page
from tungsten_server.dispatcher import Dispatcher, UnavailableError
from tungsten_server.inputs import Input, InputError, InputSchema, Location

if TYPE_CHECKING:
    from tungsten_server.prediction import Prediction
    from tungsten_server.spec import Spec

_log = logging.getLogger("tungsten.http")


def create_app(spec: Spec, schema: InputSchema, dispatcher: Dispatcher) -> Flask:
    """Make the WSGI application that serves one model."""
    app = Flask(__name__, static_folder=None)
    app.register_blueprint(demo_page())
    metadata = _json_bytes(
        {
            "name": spec.name,
            "input_schema": spec.input_schema,
            "output_schema": spec.output_schema,
            "demo_output_schema": spec.demo_output_schema,
        }
    )

    @app.get("/")
    def describe() -> Response:
        return _answer(200, metadata)

    @app.get("/healthz")
    def health() -> Response:
        return _answer(200, {"status": "ok"})

    @app.get("/readyz")
    def readiness() -> Response:
        if dispatcher.unready is None:
            return _answer(200, {"status": "ready"})
        return _answer(503, {"status": "not ready", "reason": dispatcher.unready})

    @app.post("/predict")
    def predict() -> Response:
        prediction = dispatcher.submit(_read_inputs(schema))
        dispatcher.wait(prediction)
        return _answer(200, _prediction(prediction))

    @app.errorhandler(_InvalidBodyError)
    def invalid(error: _InvalidBodyError) -> Response:
        return _answer(422, {"detail": error.detail})

    @app.errorhandler(UnavailableError)
    def unavailable(error: UnavailableError) -> Response:
        return _answer(503, {"detail": str(error)}, {"Retry-After": str(error.retry_after)})

    @app.errorhandler(HTTPException)
    def http_error(error: HTTPException) -> Response:
        # Keeps what werkzeug adds: Allow with 405, Location with 308.
        headers = {k: v for k, v in error.get_headers() if k != "Content-Type"}
        return _answer(error.code or 500, error_body(error.name), headers)

    @app.errorhandler(Exception)
    def defect(_: Exception) -> Response:
        _log.exception("defect method=%s path=%s", request.method, request.path)
        return _answer(500, error_body("Internal Server Error"))

    return app


def error_body(reason: str) -> bytes:
    """Make the body of an error that has no more to say than its status' name."""
    return _json_bytes({"detail": reason})


class _InvalidBodyError(Exception):
    """A body that is not a list of valid inputs."""

    def __init__(self, detail: list[dict[str, Any]]) -> None:
        super().__init__()
        self.detail = detail


def _read_inputs(schema: InputSchema) -> list[Input]:
    kind = request.mimetype
    if kind and kind != "application/json" and not kind.endswith("+json"):
        raise _InvalidBodyError(
            [_detail((), f"Content-Type is {kind}, not application/json", "content_type")]
        )
    try:
        values = json.loads(request.get_data(cache=False))
    except (
        ValueError,
        RecursionError,
    ) as error:  # ValueError: also a wrong encoding, and a number of 5,000 digits
        what = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise _InvalidBodyError([_detail((), f"the body is not JSON: {what}", "json_invalid")]) from error
    if not isinstance(values, list):
        raise _InvalidBodyError([_detail((), "the body is not a list of inputs", "list_type")])
    if not values:
        raise _InvalidBodyError([_detail((), "the list of inputs is empty", "too_short")])
    try:
        return schema.check(values)
    except InputError as error:
        details = [_detail(problem.location, problem.message, problem.kind) for problem in error.problems]
        raise _InvalidBodyError(details) from error


def _detail(location: Location, message: str, kind: str) -> dict[str, Any]:
    return {"loc": ["body", *location], "msg": message, "type": kind}


def _prediction(prediction: Prediction) -> bytes:
    """Make a finished prediction's object; the outputs' JSON goes through as the model process wrote it."""
    if prediction.failure:
        return _json_bytes({"outputs": None, "status": "failed", "error_message": prediction.failure.message})
    outputs = b",".join(prediction.outputs)
    return b'{"outputs":[' + outputs + b'],"status":"success","error_message":null}'


def _answer(status: int, body: bytes | dict[str, Any], headers: dict[str, str] | None = None) -> Response:
    data = body if isinstance(body, bytes) else _json_bytes(body)
    return Response(data, status, headers, mimetype="application/json")


def _json_bytes(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
