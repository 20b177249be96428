"""A stand-in for the server's demo routes, with progress that a test decides: what the page is tested against.

The routes and their answers are the server's. `DemoApi` is one model; it runs on a port of its own in threads of
werkzeug's server, and what happens to a run is the test's choice, never a matter of time.
"""

import threading
import uuid
from contextlib import contextmanager

from flask import Flask, jsonify, request
from tungsten_server.page.demo import DemoPage
from werkzeug.serving import make_server

from tests.loopback import serving


class DemoApi:
    """One model's demo routes. `answer` maps an input to the changes of its run, one list of dicts for each step.

    A run takes a step when it is asked for, and stays at the last one. `refuse`: an answer (body, status) to the
    next POST instead of a run. `broken`: status of every GET of a run, while it is set.
    """

    def __init__(
        self, input_schema, output_schema, answer, demo_output_schema=None, name="test-model", examples=()
    ):
        self.metadata = {
            "name": name,
            "input_schema": input_schema,
            "output_schema": output_schema,
            "demo_output_schema": demo_output_schema or output_schema,
            "examples": list(examples),
        }
        self.answer = answer
        self.inputs = []
        self.canceled = threading.Event()
        self.refuse = None
        self.broken = None
        self._runs = {}
        self._lock = threading.Lock()
        self.app = self._make_app()

    def _make_app(self):
        app = Flask(__name__, static_folder=None)
        app.json.sort_keys = False
        page = DemoPage()
        app.add_url_rule("/demo", view_func=page.page)
        app.add_url_rule("/static/<name>", view_func=page.file)

        @app.get("/")
        def describe():
            return jsonify(self.metadata)

        @app.post("/demo")
        def start():
            if self.refuse:
                (body, status), self.refuse = self.refuse, None
                return jsonify(body), status
            (value,) = request.get_json()
            self.inputs.append(value)
            run = uuid.uuid4().hex
            with self._lock:
                self._runs[run] = list(self.answer(value))
            return jsonify(demo_id=run)

        @app.get("/demo/<run>")
        def progress(run):
            if self.broken:
                return jsonify(detail="broken"), self.broken
            with self._lock:
                if run not in self._runs:
                    return jsonify(detail=run), 404
                steps = self._runs[run]
                step = steps.pop(0) if len(steps) > 1 else steps[0]
            blank = {"outputs": None, "demo_outputs": None, "error_message": None, "logs": None}
            return jsonify({**blank, **step})

        @app.post("/demo/<run>/cancel")
        def cancel(run):
            with self._lock:
                self._runs[run] = [{"status": "failed", "error_message": "Canceled"}]
            self.canceled.set()
            return "", 200

        return app

    @contextmanager
    def serving(self):
        """Serve on a free port; gives the URL."""
        server = make_server("127.0.0.1", 0, self.app, threaded=True)
        with serving(server):
            yield f"http://127.0.0.1:{server.server_port}"


def succeeded(output, logs=None, demo_output=None):
    """The last step of a run that succeeds with one output."""
    return {"status": "success", "outputs": [output], "demo_outputs": [demo_output or output], "logs": logs}
