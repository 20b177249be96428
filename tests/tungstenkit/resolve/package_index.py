"""A Python index of tiny wheels on loopback, for tests that let uv solve.

A wheel here is its metadata and nothing else; pages are those of PEP 691, metadata is served beside the wheels as
PEP 658 says.
"""

import hashlib
import io
import json
import zipfile
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.loopback import serving
from tungstenkit.fetch import web
from tungstenkit.fetch.mirrors import Mirrors
from tungstenkit.resolve.offer import Offer
from tungstenkit.resolve.python_index import PythonIndex


def wheel(name, version, *requires, tag="py3-none-any", extras=None):
    """A wheel's file name, bytes and metadata; `extras` has the requirements of each extra."""
    extras = extras or {}
    lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
    lines += [f"Provides-Extra: {extra}" for extra in extras]
    lines += [f"Requires-Dist: {requirement}" for requirement in requires]
    lines += [
        f"Requires-Dist: {requirement} ; extra == '{extra}'"
        for extra in extras
        for requirement in extras[extra]
    ]
    metadata = ("\n".join(lines) + "\n").encode()
    stem = f"{name.replace('-', '_')}-{version}"
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        archive.writestr(f"{stem}.dist-info/METADATA", metadata)
        archive.writestr(
            f"{stem}.dist-info/WHEEL", f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tag}\n"
        )
        archive.writestr(f"{stem}.dist-info/RECORD", "")
    return f"{stem}-{tag}.whl", data.getvalue(), metadata


def view(url, target, **options):
    """What a solve is offered of an index."""
    mirrors = Mirrors((), (), url, None, datetime(2026, 3, 1, tzinfo=UTC))
    return Offer(PythonIndex(mirrors.project_files, web.part, web.save), target, **options)


@contextmanager
def serve(wheels, cache_control="max-age=600"):
    """The URL of an index that has the wheels; cache_control: what it says about keeping its answers (RFC 9111)."""
    projects = {}
    files = {}
    for file, data, metadata in wheels:
        project = file.split("-")[0].replace("_", "-")
        sha256 = hashlib.sha256(data).hexdigest()
        projects.setdefault(project, []).append(
            {
                "filename": file,
                "url": f"/files/{file}",
                "size": len(data),
                "hashes": {"sha256": sha256},
                "core-metadata": {"sha256": hashlib.sha256(metadata).hexdigest()},
            }
        )
        files[f"/files/{file}"] = data
        files[f"/files/{file}.metadata"] = metadata

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            kind = "application/octet-stream"
            body = files.get(self.path.replace("%2B", "+"))
            project = self.path.strip("/").removeprefix("simple/")
            if project in projects:
                kind = "application/vnd.pypi.simple.v1+json"
                page = {"meta": {"api-version": "1.1"}, "name": project, "files": projects[project]}
                body = json.dumps(page).encode()
            self.send_response(404 if body is None else 200)
            self.send_header("Content-Type", kind)
            self.send_header("Cache-Control", cache_control)
            self.send_header("Content-Length", str(len(body or b"")))
            self.end_headers()
            self.wfile.write(body or b"")

        def log_message(self, *arguments):
            pass

    with serving(ThreadingHTTPServer(("127.0.0.1", 0), Handler)) as server:
        yield f"http://127.0.0.1:{server.server_port}/simple"


@contextmanager
def pages(answers):
    """The URL of a server that has some pages: by path their type and their bytes."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            kind, body = answers.get(self.path, ("text/plain", None))
            self.send_response(404 if body is None else 200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body or b"")))
            self.end_headers()
            self.wfile.write(body or b"")

        def log_message(self, *arguments):
            pass

    with serving(ThreadingHTTPServer(("127.0.0.1", 0), Handler)) as server:
        yield f"http://127.0.0.1:{server.server_port}"
