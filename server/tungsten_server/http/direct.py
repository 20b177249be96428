"""`POST /predict` without Flask and without a thread that waits: most requests of a busy server.

It takes what is valid and can be accepted now, and nothing else: every other request goes to `app`, which says
what is wrong with it. The event loop calls this, and writes the answer when a driver's thread says that it is there.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Callable

from tungsten_server.checks.body import parse_inputs
from tungsten_server.http.connections import DirectAnswer
from tungsten_server.http.wire import prediction_body
from tungsten_server.words.problems import InputError, UnavailableError

if TYPE_CHECKING:
    from tungsten_server.checks.inputs import InputSchema
    from tungsten_server.http.metrics import Metrics
    from tungsten_server.http.serving import Predict
    from tungsten_server.queue.dispatcher import Dispatcher
    from tungsten_server.words.budget import ByteBudget
    from tungsten_server.words.prediction import Prediction


def direct_predict(
    schema: InputSchema, dispatcher: Dispatcher, budget: ByteBudget, metrics: Metrics, max_inputs: int
) -> Predict:
    """Make the function that `HttpServer` calls."""

    def predict(body: bytes, answer: Callable[[DirectAnswer], None]) -> Callable[[], None] | None:
        began = time.monotonic()
        if not budget.take(len(body)):
            return None

        def done(prediction: Prediction) -> None:
            budget.give_back(len(body))
            metrics.count("/predict", "POST", 200, time.monotonic() - began)
            # Not written here, under the dispatcher's lock: it may be large.
            answer(DirectAnswer(prediction.held_bytes, lambda: prediction_body(prediction)))

        try:
            prediction = dispatcher.submit(
                schema.check(parse_inputs(body, max_inputs)), on_done=done, more=True
            )
        except (InputError, UnavailableError):
            budget.give_back(len(body))
            return None
        return lambda: dispatcher.abandon(prediction)

    return predict
