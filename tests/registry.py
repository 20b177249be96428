"""A small registry on loopback, with the referrers route, that counts what is sent to it and fails as a test wants.

Distribution specification 1.1, as far as clients here ask for it. Debian's docker-registry, which has no such route, is
in `tests/end_to_end/bases.py`.
"""

import base64
import contextlib
import hashlib
import http.server
import itertools
import json
import re
import threading
import urllib.parse
from dataclasses import dataclass, field

from tests.loopback import serving

INDEX = "application/vnd.oci.image.index.v1+json"


@dataclass
class Registry:
    """What a registry holds, what it was asked, and what is wrong with it."""

    host: str = ""
    blobs: dict = field(default_factory=dict)
    """By repository and digest."""
    manifests: dict = field(default_factory=dict)
    """Media types and contents, by repository and tag or digest."""
    asked: list = field(default_factory=list)
    """Methods, paths and headers."""
    received: int = 0
    """Bytes of blobs and manifests that were sent to it."""
    has_referrers: bool = True
    refuses: dict = field(default_factory=dict)
    """Statuses by a pattern of `METHOD path`: such a request is refused."""
    accepts_artifacts: bool = True
    damaged: set = field(default_factory=set)
    """Digests of which other bytes are given."""
    endless: set = field(default_factory=set)
    """Digests of which more is given than there is."""
    cut: set = field(default_factory=set)
    """Digests of which half is given, once."""
    leads_to: dict = field(default_factory=dict)
    """Where a blob is instead, by digest."""
    user: tuple = None
    """A name and a password, without which it gives no token."""
    refresh: str = None
    """What it gives one for, too."""
    basic: bool = False
    """Whether it wants these themselves."""
    tokens: dict = field(default_factory=dict)
    """What was given, with what for."""
    page: int = 1000
    """Referrers in one answer."""
    uploads_at: str = None
    """Where blobs are to be sent, if not here."""
    next_page: str = None
    """Where a list of referrers goes on, whatever is in it."""
    headers: dict = field(default_factory=dict)
    """What each answer has besides."""
    gate: threading.Event = None
    """Answers wait for this."""

    def repositories(self):
        return {name for name, _ in self.manifests}

    def digests(self, repository):
        return {digest for name, digest in self.blobs if name == repository}

    def put(self, repository, content, tag="latest", media_type="application/vnd.oci.image.manifest.v1+json"):
        """Have it hold a manifest."""
        digest = digest_of(content)
        self.manifests[repository, digest] = self.manifests[repository, tag] = media_type, content
        return digest


def digest_of(content):
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    @property
    def registry(self):
        return self.server.registry

    def do(self):
        registry = self.registry
        path, _, query = self.path.partition("?")
        self.query = urllib.parse.parse_qs(query)
        registry.asked.append((self.command, self.path, dict(self.headers)))
        if registry.gate is not None:
            registry.gate.wait(30)
        body = self.body()
        for pattern, status in registry.refuses.items():
            if re.search(pattern, f"{self.command} {path}"):
                return self.answer(status, b'{"errors":[{"code":"NO","message":"not here"}]}')
        if path == "/token":
            return self.token(urllib.parse.parse_qs(body.decode()))
        if not self.may():
            return None
        if path == "/v2/":
            return self.answer(200)
        found = re.fullmatch(r"/v2/(.+?)/(blobs/uploads|blobs|manifests|referrers)/(.*)", path)
        if found is None:
            return self.answer(404)
        repository, kind, rest = found.groups()
        handle = {
            "blobs/uploads": self.upload,
            "blobs": self.blob,
            "manifests": self.manifest,
            "referrers": self.referrers,
        }[kind]
        return handle(repository, rest, body)

    def do_GET(self):
        self.do()

    def do_HEAD(self):
        self.do()

    def do_POST(self):
        self.do()

    def do_PUT(self):
        self.do()

    def do_PATCH(self):
        self.do()

    def body(self):
        if self.headers.get("Transfer-Encoding") == "chunked":
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        else:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.command in ("PUT", "PATCH"):
            self.registry.received += len(body)
        return body

    def may(self):
        registry = self.registry
        said = self.headers.get("Authorization", "")
        if registry.user is None:
            return True
        if registry.basic and said == f"Basic {base64.b64encode(':'.join(registry.user).encode()).decode()}":
            return True
        if said.removeprefix("Bearer ") in registry.tokens:
            return True
        name = self.path.split("/v2/")[1].split("/blobs")[0].split("/manifests")[0].split("/referrers")[0]
        doing = "pull" if self.command in ("GET", "HEAD") else "pull,push"
        how = f'Bearer realm="http://{registry.host}/token",service="here",scope="repository:{name}:{doing}"'
        self.answer(401, headers={"WWW-Authenticate": 'Basic realm="here"' if registry.basic else how})
        return False

    def token(self, form):
        said = self.headers.get("Authorization", "")
        if self.command == "POST":
            if form["refresh_token"] != [self.registry.refresh] or said:
                return self.answer(401)
            self.registry.tokens["fresh"] = form["scope"]
            return self.answer(200, b'{"access_token": "fresh"}')
        if said != f"Basic {base64.b64encode(':'.join(self.registry.user).encode()).decode()}":
            return self.answer(401)
        token = f"token-{len(self.registry.tokens)}"
        self.registry.tokens[token] = self.query["scope"]
        return self.answer(200, json.dumps({"token": token}).encode())

    def upload(self, repository, rest, body):
        registry = self.registry
        here = f"/v2/{repository}/blobs/uploads/{next(self.server.numbers)}"
        if self.command == "POST":
            mount, origin = (self.query.get(key, [""])[0] for key in ("mount", "from"))
            if (origin, mount) in registry.blobs:
                registry.blobs[repository, mount] = registry.blobs[origin, mount]
                return self.answer(201)
            return self.answer(202, headers={"Location": registry.uploads_at or here})
        self.server.uploads[rest] = self.server.uploads.get(rest, b"") + body
        if self.command == "PATCH":
            return self.answer(202, headers={"Location": self.path})
        content = self.server.uploads.pop(rest)
        (digest,) = self.query["digest"]
        if digest_of(content) != digest:
            return self.answer(400, b'{"errors":[{"code":"DIGEST_INVALID","message":"other bytes"}]}')
        registry.blobs[repository, digest] = content
        return self.answer(201, headers={"Location": f"/v2/{repository}/blobs/{digest}"})

    def blob(self, repository, digest, _body):
        registry = self.registry
        content = registry.blobs.get((repository, digest))
        if content is None:
            return self.answer(404)
        if digest in registry.leads_to:
            return self.answer(307, headers={"Location": registry.leads_to[digest]})
        if digest in registry.damaged:
            content = content[:-1] + bytes([content[-1] ^ 1])
        if digest in registry.endless:
            content += b"x" * 1_000_000
        status, headers = 200, {"Docker-Content-Digest": digest}
        if found := re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", "")):
            status, begin = 206, int(found[1])
            headers["Content-Range"] = f"bytes {begin}-{len(content) - 1}/{len(content)}"
            content = content[begin:]
        if digest in registry.cut:
            registry.cut.discard(digest)
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content[: len(content) // 2])
            self.close_connection = True
            return None
        return self.answer(status, content, headers)

    def manifest(self, repository, reference, body):
        registry = self.registry
        if self.command == "PUT":
            document = json.loads(body)
            if not registry.accepts_artifacts and ("artifactType" in document or "subject" in document):
                return self.answer(400, b'{"errors":[{"code":"MANIFEST_INVALID","message":"no image"}]}')
            for one in [document.get("config"), *document.get("layers", ())]:
                if one and (repository, one["digest"]) not in registry.blobs:
                    return self.answer(400, b'{"errors":[{"code":"MANIFEST_BLOB_UNKNOWN"}]}')
            registry.put(repository, body, reference, self.headers["Content-Type"])
            subject = document.get("subject", {}).get("digest")
            headers = {"OCI-Subject": subject} if subject and registry.has_referrers else {}
            return self.answer(201, headers=headers)
        media_type, content = registry.manifests.get((repository, reference), ("", None))
        if content is None:
            return self.answer(404)
        headers = {"Content-Type": media_type, "Docker-Content-Digest": digest_of(content)}
        return self.answer(200, content, headers)

    def referrers(self, repository, digest, _body):
        registry = self.registry
        if not registry.has_referrers:
            return self.answer(404)
        found = {}
        for (name, _), (media_type, content) in registry.manifests.items():
            document = json.loads(content)
            if name == repository and document.get("subject", {}).get("digest") == digest:
                about = {"mediaType": media_type, "digest": digest_of(content), "size": len(content)}
                found[about["digest"]] = about | {"artifactType": document["artifactType"]}
        begin = int(self.query.get("n", ["0"])[0])
        shown = list(found.values())[begin : begin + registry.page]
        headers = {"Content-Type": INDEX}
        if begin + registry.page < len(found):
            headers["Link"] = f'</v2/{repository}/referrers/{digest}?n={begin + registry.page}>; rel="next"'
        if registry.next_page:
            headers["Link"] = f'<{registry.next_page}>; rel="next"'
        index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": shown}
        return self.answer(200, json.dumps(index).encode(), headers)

    def answer(self, status, body=b"", headers=None):
        self.send_response(status)
        for name, value in {**self.registry.headers, **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            with contextlib.suppress(ConnectionError):  # who has enough goes
                self.wfile.write(body)

    def log_message(self, *args):
        pass


@contextlib.contextmanager
def registry(**options):
    """A registry until the end of the block. options: as `Registry` has them."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.uploads, server.numbers = {}, itertools.count()
    server.registry = Registry(f"127.0.0.1:{server.server_port}", **options)
    with serving(server):
        yield server.registry
