"""The table of the server's routes: `app` answers them, `openapi` describes them, README.md tells of them.

A route that is added here needs a method of its name in `app.Api` and an operation of its name in `openapi`; tests
hold all of them against one another. Only the demo page's own files, `/static/<name>`, are described nowhere. Pure.
"""

from __future__ import annotations

import re
from typing import NamedTuple


class Route(NamedTuple):
    """One method of one path."""

    method: str
    rule: str
    """As werkzeug matches it, and as the label of metrics has it."""
    name: str
    """That of the method of `Api` that answers it."""
    summary: str
    """A line for its heading, in OpenAPI's description and on the page that is made of it."""

    @property
    def path(self) -> str:
        """Its path as OpenAPI writes it: `/predictions/{id}`."""
        return re.sub(r"<(?:\w+:)?(?:\w+_)?(\w+)>", r"{\1}", self.rule)

    @property
    def operation_id(self) -> str:
        """Its name as OpenAPI has it: `createPrediction`."""
        first, *others = self.name.split("_")
        return first + "".join(map(str.title, others))


ROUTES = [
    Route("GET", "/", "describe", "The model's name and schemas"),
    Route("POST", "/predict", "predict", "Predict, and wait for the outputs"),
    Route("POST", "/predictions", "create_prediction", "Start a prediction"),
    Route("GET", "/predictions/<prediction_id>", "get_prediction", "How far a prediction is"),
    Route(
        "POST",
        "/predictions/<prediction_id>/cancel",
        "cancel_prediction",
        "Cancel it: it fails with the message `Canceled`, unless it is done",
    ),
    Route("GET", "/demo", "demo_page", "A page to try the model, for people"),
    Route("POST", "/demo", "create_demo", "Start a prediction for a demo page"),
    Route(
        "GET",
        "/demo/<prediction_id>",
        "get_demo",
        "How far it is, what it printed, and its demo outputs",
    ),
    Route(
        "POST",
        "/demo/<prediction_id>/cancel",
        "cancel_demo",
        "Cancel it: it fails with the message `Canceled`, unless it is done",
    ),
    Route("GET", "/files/<files_id>/<int:index>/<int:number>", "get_file", "A file of an output"),
    Route("GET", "/healthz", "health", "200 while the server lives"),
    Route("GET", "/readyz", "readiness", "Whether the model is set up"),
    Route("GET", "/metrics", "metrics", "Counts, for Prometheus"),
    Route("GET", "/openapi.json", "openapi", "This description"),
    Route("GET", "/docs", "docs", "This description as a page"),
]
"""In the order in which they are described."""
