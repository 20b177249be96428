"""How answers are written: the JSON of predictions, of demos and of errors. Pure; any thread may use it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tungsten_server.words.prediction import Output, Prediction


def prediction_body(prediction: Prediction, outputs: Sequence[Output] | None = None) -> bytes:
    """Make a prediction's object; the outputs' JSON goes through as the model process wrote it.

    outputs: to be told in place of the prediction's own, where it has succeeded.
    """
    status = prediction.status
    failure = prediction.failure if status == "failed" else None
    return b'{"outputs":%b,"status":%b,"error_message":%b}' % (
        _list([output.json for output in outputs or prediction.outputs]) if status == "success" else b"null",
        json_body(status),
        json_body(failure.message if failure else None),
    )


def demo_body(prediction: Prediction, outputs: Sequence[Output] | None = None) -> bytes:
    """Make a demo's object. What it has beside a prediction's is null if the prediction is none for a demo."""
    common = prediction_body(prediction, outputs)
    demo_outputs = b"null"
    if prediction.log is not None and prediction.status == "success":
        written = [output.demo_json for output in outputs or prediction.outputs]
        # One that is missing makes all of them null, as clients know it.
        demo_outputs = _list(written) if all(written) else b"null"
    logs = json_body(prediction.log.text() if prediction.log is not None else None)
    return b'%b,"demo_outputs":%b,"logs":%b}' % (common[:-1], demo_outputs, logs)


def _list(items: list[bytes]) -> bytes:
    return b"[" + b",".join(items) + b"]"


def error_body(reason: str | None) -> bytes:
    """Make the body of an error that has no more to say than this."""
    return json_body({"detail": reason})


def json_body(value: object) -> bytes:
    """Write JSON, as short as it can be. Raises ValueError for NaN and infinities, which JSON has not."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.encode(errors="replace")  # half a surrogate pair may be in a client's field name
