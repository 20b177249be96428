"""A Hugging Face hub on loopback, as much of it as its API documentation promises, and a plain web server beside it."""

import contextlib
import hashlib
import json
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

from tests.loopback import serving

PAGE = 2
TOKEN = "hf_the_right_one"


@dataclass
class Repository:
    """Files by commit, commits by branch."""

    commits: dict
    refs: dict
    large: tuple = (".bin", ".safetensors")
    gated: bool = False
    private: bool = False


@dataclass
class Hub:
    """What a running server serves, and what it was asked for: pairs of a path and the Authorization header."""

    url: str
    repositories: dict = field(default_factory=dict)
    files: dict = field(default_factory=dict)
    asked: list = field(default_factory=list)

    def paths(self):
        return [path for path, _ in self.asked]


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def blob_id(data):
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments):
        pass

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        hub, parts = self.server.hub, urlsplit(self.path)
        hub.asked.append((unquote(parts.path), self.headers.get("Authorization")))
        names = [unquote(part) for part in parts.path.strip("/").split("/")]
        if names[0] == "files":
            data = hub.files.get("/".join(names[1:]))
            return self.error(404) if data is None else self.content(data)
        if names[0] == "cdn":
            every = (d for r in hub.repositories.values() for c in r.commits.values() for d in c.values())
            return self.content(next(data for data in every if sha256(data) == names[1]))
        if names[0] == "api":
            names = names[2:]
        elif names[0] == "datasets":
            names = names[1:]
        repository = hub.repositories.get("/".join(names[:2]))
        allowed = self.headers.get("Authorization") == f"Bearer {TOKEN}"
        if repository is None or (repository.private and not allowed):
            return self.error(401, "RepoNotFound")
        what, revision, path = names[2], names[3], "/".join(names[4:])
        commit = repository.refs.get(revision, revision)
        if commit not in repository.commits:
            return self.error(404, "RevisionNotFound")
        files = repository.commits[commit]
        if what == "revision":
            gated = "auto" if repository.gated else False
            return self.json({"sha": commit, "gated": gated, "private": repository.private})
        if what == "tree":
            return self.page(repository, files, parts)
        if repository.gated and not allowed:
            return self.error(401, "GatedRepo")
        if path.endswith(repository.large):
            # Another host, as far as a client can tell.
            port = self.server.server_address[1]
            return self.answer(302, b"", {"Location": f"http://localhost:{port}/cdn/{sha256(files[path])}"})
        return self.content(files[path])

    def page(self, repository, files, parts):
        start = int(parse_qs(parts.query).get("cursor", ["0"])[0])
        entries = [{"type": "directory", "path": "somewhere", "oid": "0" * 40, "size": 0}]
        for path, data in sorted(files.items()):
            entry = {"type": "file", "path": path, "size": len(data), "oid": blob_id(data)}
            if path.endswith(repository.large):
                entry |= {"lfs": {"oid": sha256(data), "size": len(data), "pointerSize": 130}}
            entries.append(entry)
        more = {}
        if start + PAGE < len(entries):
            url = f"{self.server.hub.url}{parts.path}?recursive=true&cursor={start + PAGE}"
            more["Link"] = f'<{url}>; rel="next"'
        self.json(entries[start : start + PAGE], more)

    def content(self, data):
        begun = 0
        if wanted := self.headers.get("Range"):
            begun = int(wanted.removeprefix("bytes=").rstrip("-"))
        self.answer(206 if begun else 200, data[begun:])

    def json(self, value, headers=None):
        self.answer(200, json.dumps(value).encode(), headers)

    def error(self, status, code=""):
        self.answer(status, b"", {"X-Error-Code": code, "X-Error-Message": code})

    def answer(self, status, data, headers=None):
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)


@contextlib.contextmanager
def running():
    """A hub."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.hub = Hub(f"http://127.0.0.1:{server.server_address[1]}")
    with serving(server):
        yield server.hub
