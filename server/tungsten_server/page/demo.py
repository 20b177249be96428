"""The demo page: `GET /demo` and the files that it loads, `/static/<name>`.

The files are in the package, the same for every model: the page asks `GET /` what the model takes and gives.
They are read once, when the application is made; after that nothing here changes, so any thread may use it.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from flask import Response, abort, request

_FOLDER = Path(__file__).resolve().parent / "static"

# Named here, not asked of `mimetypes`, which reads the machine's own tables.
_MEDIA_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}

CONTENT_SECURITY_POLICY = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data: blob:",
        "media-src 'self' data: blob:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'self'",
        # No text becomes markup or code, whatever a model answers.
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    ]
)
"""What the page may load: its own files, this server's answers, and media that it holds itself."""


class DemoPage:
    """Answers what a browser asks for: the page, and the files that it loads."""

    def __init__(self) -> None:
        """Read the files. Raises OSError where that can't be done."""
        self._files = {
            path.name: (path.read_bytes(), _MEDIA_TYPES[path.suffix])
            for path in sorted(_FOLDER.iterdir())
            if path.suffix in _MEDIA_TYPES
        }

    def page(self) -> Response:
        """Answer `GET /demo`."""
        data, media_type = self._files["demo.html"]
        if request.path.endswith("/"):  # one level deeper, as browsers see it
            data = data.replace(b'="static/', b'="../static/')
        return _respond(data, media_type)

    def file(self, name: str) -> Response:
        """Answer `GET /static/<name>`."""
        if name not in self._files:
            abort(404, "Not Found")
        return _respond(*self._files[name])


def _respond(data: bytes, media_type: str) -> Response:
    response = Response(data, content_type=media_type)
    response.headers["Content-Security-Policy"] = CONTENT_SECURITY_POLICY
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Referrer-Policy"] = "no-referrer"
    # Asked for anew each time, and answered with 304: another image on the same port never meets an old script.
    response.headers["Cache-Control"] = "no-cache"
    response.set_etag(hashlib.sha256(data).hexdigest()[:32])
    response.make_conditional(request)
    return response
