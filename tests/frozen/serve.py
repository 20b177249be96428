"""Serves an archive's folder on loopback, in a process of its own: `python serve.py FOLDER`.

It prints its port, and ends when its standard input does.
"""

import sys
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class Handler(SimpleHTTPRequestHandler):
    """Files, and the pages of projects by the address that PEP 503 gives them."""

    protocol_version = "HTTP/1.1"

    def translate_path(self, path):
        """A page is the folder's `index.json`."""
        found = super().translate_path(path)
        page = Path(found) / "index.json"
        return str(page) if page.is_file() else found

    def guess_type(self, path):
        """A page's type is PEP 691's."""
        return (
            "application/vnd.pypi.simple.v1+json"
            if path.endswith("index.json")
            else "application/octet-stream"
        )

    def list_directory(self, path):
        """No folder is shown."""
        self.send_error(404)

    def log_message(self, *arguments):
        """Nothing is logged."""


def main():
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=sys.argv[1]))
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(server.server_port, flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
