"""The Python index as uv sees it: uv asks us on loopback, and we ask what this machine knows as indexes.

So one rule says which place answers for a project; uv meets no host and no password; and what the packages need is
known here once it has asked.
"""

from __future__ import annotations

import json
import secrets
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING
from urllib.parse import unquote

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tungstenkit.resolve.offer import Offer


@contextmanager
def serve_index(offer: Offer) -> Iterator[str]:
    """The URL of a simple API on loopback, of what is offered, for as long as the block lasts.

    No other user of this machine can guess it.
    """
    token = secrets.token_urlsafe(16)
    with _Server(("127.0.0.1", 0), _Handler) as server:
        server.offer, server.token = offer, token
        server.base = f"http://127.0.0.1:{server.server_port}/{token}"
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield f"{server.base}/simple"
        finally:
            server.shutdown()
            thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def handle_error(self, request: object, client_address: object) -> None:
        """Who hangs up before it has its answer has stopped asking."""

    offer: Offer
    token: str
    base: str


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def do_GET(self) -> None:
        offer = self.server.offer
        token, _, rest = self.path.lstrip("/").partition("/")
        parts = [unquote(part) for part in rest.strip("/").split("/")]
        status, kind, body = 404, "text/plain", b""
        try:
            if not secrets.compare_digest(token, self.server.token):
                status = 403
            elif parts[0] == "simple" and len(parts) == 2:
                if listed := offer.page(parts[1], self.server.base):
                    page = {"meta": {"api-version": "1.1"}, "name": parts[1], "files": listed}
                    status, kind = 200, "application/vnd.pypi.simple.v1+json"
                    body = json.dumps(page).encode()
            elif parts[0] == "files" and len(parts) == 3 and parts[2].endswith(".metadata"):
                # uv passes a version over whose metadata is none.
                body = (offer.metadata(parts[1], parts[2].removesuffix(".metadata")) or "").encode()
                status = 200
        except LookupError:
            status = 404
        except Exception as problem:
            # Whatever it is, who asked for the solve is told it. uv is told no more than that it is over: 4xx is not
            # tried again.
            status, offer.failure = 400, offer.failure or problem
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 (the base class's name)
        pass
