"""A web server of answers that a test puts there; and that no test brings a Nix by the way."""

import http.server
import os

import pytest

from tests.loopback import serving
from tungstenkit import configured, nix_program


@pytest.fixture(autouse=True)
def _no_nix_is_brought(monkeypatch):
    """Where a test finds none, it is told so: nothing is downloaded for what is no test of that."""
    chosen = nix_program.current()
    monkeypatch.setenv("TUNGSTEN_NIX", "machine")
    if chosen.is_own and not chosen.is_absent:
        # Which was brought for the tests: as if this machine had it, after what a test puts first on PATH.
        for name, value in {**chosen.variables, "PATH": f"{os.environ['PATH']}:{chosen.folder}"}.items():
            monkeypatch.setenv(name, value)
    monkeypatch.setattr(nix_program._Process, "wish", None)


@pytest.fixture(autouse=True)
def _no_client_is_asked_ahead(monkeypatch):
    """To start pip and npm costs more than most tests; whoever needs what they say asks them itself."""
    monkeypatch.setattr(configured, "ask_ahead", lambda _: None)


@pytest.fixture
def server():
    """A web server whose answers are put here: path -> list of (status, content type, body), the last repeated.

    more: headers of each answer.
    """

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            server.seen.append((self.path, dict(self.headers)))
            answers = server.answers.get(self.path, [(404, "text/plain", b"")])
            status, kind, body = answers.pop(0) if len(answers) > 1 else answers[0]
            self.send_response(status)
            self.send_header("Content-Type", kind)
            for name, value in server.more.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body) + (kind == "cut")))
            if kind == "gzip":
                self.send_header("Content-Encoding", kind)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.answers, server.seen, server.more = {}, [], {}
    server.url = f"http://127.0.0.1:{server.server_port}"
    with serving(server):
        yield server
