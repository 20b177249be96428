"""Whose certificates count, in every part that speaks TLS, and what is said where a handshake fails.

The server is this process's, on loopback; openssl makes its certificate, and the authority that has signed it.
"""

import contextlib
import hashlib
import json
import os
import shutil
import ssl
import subprocess
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import requests

from tests.loopback import serving
from tests.machine import need, needs
from tests.tungstenkit.resolve.package_index import view, wheel
from tungstenkit import certificates, configured
from tungstenkit.fetch import download as downloading
from tungstenkit.fetch import hub, mirrors, web
from tungstenkit.fetch.needs import LockedFile
from tungstenkit.fetch.packing import check_out
from tungstenkit.nix_build.image import Image
from tungstenkit.nix_build.push import push_image
from tungstenkit.platforms import Target
from tungstenkit.registry import skopeo
from tungstenkit.resolve.wheels import resolve_wheels
from tungstenkit.run.client import Client
from tungstenkit.sdk.errors import BuildError, TungstenError
from tungstenkit.seal.twice import ExportedStep, make

pytestmark = needs("openssl")

COMMIT = "a" * 40
WHEEL, BYTES, _ = wheel("probe", "1.0")
JSON = "application/json"


def openssl(*arguments):
    subprocess.run(["openssl", *arguments], check=True, capture_output=True)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """An authority, `ca.pem`, and what it has signed: `server.pem` for localhost, `other.pem` for another name."""
    folder = tmp_path_factory.mktemp("tls")
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    openssl(
        "req",
        "-x509",
        *key,
        "-keyout",
        folder / "ca.key",
        "-out",
        folder / "ca.pem",
        "-subj",
        "/CN=own authority",
    )
    for name, host in (("server", "localhost"), ("other", "elsewhere.test")):
        openssl(
            "req", *key, "-keyout", folder / f"{name}.key", "-out", folder / "request", "-subj", f"/CN={host}"
        )
        (folder / "names").write_text(f"subjectAltName=DNS:{host}")
        signed = ["-CA", folder / "ca.pem", "-CAkey", folder / "ca.key", "-CAcreateserial", "-days", "300"]
        openssl(
            "x509",
            "-req",
            "-in",
            folder / "request",
            *signed,
            "-extfile",
            folder / "names",
            "-out",
            folder / f"{name}.pem",
        )
    return folder


def repository(folder):
    """A bare repository that needs no program to be served (git-update-server-info(1)): its files, and its commit."""
    own = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1", "PATH": os.environ["PATH"]}
    who = ["-c", "user.name=x", "-c", "user.email=x@example.org"]
    for command in (
        ["init", "--quiet", "."],
        [*who, "commit", "--quiet", "--allow-empty", "-m", "x"],
        ["update-server-info"],
    ):
        subprocess.run(["git", *command], cwd=folder, env=own, check=True)
    top = folder / ".git"
    files = {
        f"/r.git/{path.relative_to(top)}": ("", path.read_bytes())
        for path in top.rglob("*")
        if path.is_file()
    }
    commit = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=folder, env=own, check=True, capture_output=True, text=True
    )
    return files, commit.stdout.strip()


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """What the server has, by path."""
    files, commit = repository(tmp_path_factory.mktemp("git"))
    manifest = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "layers": []}
    manifest["config"] = {
        "mediaType": "application/vnd.oci.image.config.v1+json",
        "digest": f"sha256:{'0' * 64}",
        "size": 2,
    }
    return {
        **files,
        "commit": commit,
        "/": (JSON, json.dumps({"input_schema": {}, "output_schema": {}}).encode()),
        "/file.bin": ("", b"a file"),
        "/simple/probe/": ("text/html", f'<a href="/{WHEEL}">{WHEEL}</a>'.encode()),
        f"/{WHEEL}": ("", BYTES),
        "/v2/": (JSON, b"{}"),
        "/v2/x/manifests/latest": (manifest["mediaType"], json.dumps(manifest).encode()),
        "/api/models/o/r/revision/main": (JSON, json.dumps({"sha": COMMIT}).encode()),
    }


@pytest.fixture
def serve(made, pages):
    """Starts the server with a certificate of a name; its URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            media_type, body = pages.get(self.path.partition("?")[0], ("", None))
            self.send_response(200 if body is not None else 404)
            self.send_header("Content-Type", media_type)
            self.send_header("Content-Length", str(len(body or b"")))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body or b"")

        def do_HEAD(self):
            self.do_GET()

        def log_message(self, *arguments):
            pass

    class Server(ThreadingHTTPServer):
        def handle_error(self, *arguments):
            pass  # a client that goes

        def finish_request(self, request, address):
            with self.context.wrap_socket(request, server_side=True, do_handshake_on_connect=False) as secure:
                secure.do_handshake()
                super().finish_request(secure, address)

    def serve(name="server"):
        server = Server(("localhost", 0), Handler)
        server.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server.context.load_cert_chain(made / f"{name}.pem", made / f"{name}.key")
        running.enter_context(serving(server))
        return f"https://localhost:{server.server_port}"

    with contextlib.ExitStack() as running:
        yield serve


@pytest.fixture(autouse=True)
def machine(monkeypatch, tmp_path):
    """A machine whose settings name no certificates, and whose system has none of its own; pip's settings are here."""
    for name in (*certificates.VARIABLES, "PIP_CERT", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", str(tmp_path / "pip.conf"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    monkeypatch.setattr(certificates, "SYSTEM", (tmp_path / "system.crt",))
    (tmp_path / "pip.conf").touch()
    return tmp_path


@pytest.fixture
def one(monkeypatch):
    """The machine's pip says nothing more than its variables, and is not started."""
    monkeypatch.setattr(configured, "pip_files", lambda environ: {})


def by_pips_file(ca, machine, monkeypatch):
    (machine / "pip.conf").write_text(f"[global]\ncert = {ca}\n")


def by_the_system(ca, machine, monkeypatch):
    shutil.copyfile(ca, machine / "system.crt")


def by_a_folder(ca, machine, monkeypatch):
    (machine / "folder").mkdir()
    shutil.copyfile(ca, machine / "folder" / "own.crt")
    monkeypatch.setenv("SSL_CERT_DIR", f"{machine / 'folder'}:/nonexistent")


def by_a_variable(name):
    def by(ca, machine, monkeypatch):
        monkeypatch.setenv(name, str(ca))

    by.__name__ = name
    return by


WAYS = [
    by_pips_file,
    by_the_system,
    by_a_folder,
    *map(
        by_a_variable, ("PIP_CERT", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "GIT_SSL_CAINFO")
    ),
]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_any_one_way_is_enough(serve, made, machine, monkeypatch, way):
    url = serve()
    with pytest.raises(TungstenError, match="the TLS handshake failed: "):
        web.get_bytes(f"{url}/file.bin")
    certificates._written.cache_clear()
    configured.pip_files.cache_clear()
    configured._printed.cache_clear()
    way(made / "ca.pem", machine, monkeypatch)
    assert web.get_bytes(f"{url}/file.bin") == b"a file"


class Bar:
    def start(self, files, size):
        pass

    def advance(self, size):
        pass

    def done(self, name):
        pass


SKOPEOS_CLOCK = pytest.mark.timeless(
    "skopeo keeps the system's clock, and the certificate is made by the test's"
)


def save(url, tmp_path, _):
    web.save(f"{url}/file.bin", tmp_path / "saved")
    assert (tmp_path / "saved").read_bytes() == b"a file"


def ask_an_index(url, tmp_path, _):
    found = mirrors.Mirrors((), (), f"{url}/simple", None, datetime.now(UTC)).project_files("probe")
    assert [file.name for file in found] == [WHEEL]


def ask_for_vulnerabilities(url, tmp_path, _):
    assert web.get_if_newer(f"{url}/file.bin", None) == (b"a file", None)


def download(url, tmp_path, _):
    entry = LockedFile("file.bin", 6, hashlib.sha256(b"a file").hexdigest())
    (tmp_path / "down").mkdir(exist_ok=True)
    assert (
        downloading.download(entry, [f"{url}/file.bin"], tmp_path / "down", Bar()).read_bytes() == b"a file"
    )


def download_a_declared_file(url, tmp_path, _):
    (tmp_path / "first").mkdir(exist_ok=True)
    assert downloading.first_sight(f"{url}/file.bin", "file.bin", tmp_path / "first", Bar()).size == len(
        b"a file"
    )
    assert downloading.size_of(f"{url}/file.bin") == len(b"a file")


def solve(url, tmp_path, _):
    offered = view(f"{url}/simple", Target("x86_64-linux", "bookworm", "3.11"))
    (chosen,) = resolve_wheels(["probe"], offered, where="it")
    assert (chosen.file, chosen.size) == (WHEEL, len(BYTES))


def clone(url, tmp_path, pages):
    assert check_out(f"{url}/r.git", pages["commit"], tmp_path / "source.tar") == pages["commit"]


def read_a_base_image(url, tmp_path, _):
    need("skopeo")
    skopeo.manifest(f"{url.removeprefix('https://')}/x:latest")


def ask_the_hub(url, tmp_path, _):
    assert hub.look_up("model", "o/r", "main").commit == COMMIT


def ask_a_model(url, tmp_path, _):
    assert Client(url).metadata() == {"input_schema": {}, "output_schema": {}}


PARTS = [
    save,
    ask_an_index,
    ask_for_vulnerabilities,
    download,
    download_a_declared_file,
    solve,
    clone,
    pytest.param(read_a_base_image, marks=SKOPEOS_CLOCK),
    ask_the_hub,
    ask_a_model,
]


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.__name__)
def test_every_part_trusts_what_pip_does_and_tells_a_failed_handshake(
    serve, made, pages, tmp_path, monkeypatch, one, part
):
    url = serve()
    monkeypatch.setenv("HF_ENDPOINT", url)
    # A registry on loopback may speak plain HTTP, and so is not checked at all.
    monkeypatch.setattr(skopeo, "is_here", lambda reference: False)
    with pytest.raises(TungstenError) as refused:
        part(url, tmp_path, pages)
    told = str(refused.value)
    assert "the TLS handshake failed: " in told
    assert "SSL_CERT_FILE" in (refused.value.hint or "")
    assert "check the network" not in told
    monkeypatch.setenv("PIP_CERT", str(made / "ca.pem"))
    part(url, tmp_path, pages)


def layout(folder):
    """An image of nothing (OCI image layout)."""

    def blob(media_type, value):
        data = json.dumps(value).encode()
        digest = hashlib.sha256(data).hexdigest()
        (folder / "blobs" / "sha256" / digest).write_bytes(data)
        return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(data)}

    (folder / "blobs" / "sha256").mkdir(parents=True)
    kind = "application/vnd.oci.image."
    config = {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": []}}
    manifest = {"schemaVersion": 2, "config": blob(f"{kind}config.v1+json", config), "layers": []}
    index = {"schemaVersion": 2, "manifests": [blob(f"{kind}manifest.v1+json", manifest)]}
    (folder / "index.json").write_text(json.dumps(index))
    (folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    return folder


@SKOPEOS_CLOCK
def test_a_push_tells_a_failed_handshake(serve, tmp_path, monkeypatch, one):
    need("skopeo")
    # A registry on loopback may speak plain HTTP, and so is not checked at all.
    monkeypatch.setattr(skopeo, "is_here", lambda reference: False)
    image = Image(layout(tmp_path / "layout"), "", "", 0)
    with pytest.raises(BuildError, match="the TLS handshake failed: ") as refused:
        push_image(image, f"{serve().removeprefix('https://')}/x:latest", [])
    assert "SSL_CERT_FILE" in refused.value.hint


def test_a_step_of_a_build_gets_all_of_them(made, tmp_path, monkeypatch, one):
    given = []
    monkeypatch.setattr("tungstenkit.seal.twice.run_build", lambda arguments, *_: given.extend(arguments))
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(made / "ca.pem"))
    make(ExportedStep(tmp_path, "x86_64-linux", "post-build", tmp_path, None), "result.tar")
    trusted = Path(given[given.index("certificates") + 1]).read_text()
    assert (made / "ca.pem").read_text().strip() in trusted


def test_git_s_own_setting_counts_too(serve, made, pages, machine, one):
    (machine / ".gitconfig").write_text(f'[http "https://localhost"]\n\tsslCAInfo = {made / "ca.pem"}\n')
    url = serve()
    with pytest.raises(TungstenError, match="the TLS handshake failed"):
        clone(url, machine, pages)
    (machine / ".gitconfig").write_text(f'[http "{url}"]\n\tsslCAInfo = {made / "ca.pem"}\n')
    clone(url, machine, pages)


def test_what_a_setting_names_and_can_t_be_read_spoils_nothing_and_is_told(
    serve, made, tmp_path, monkeypatch, one
):
    url = serve()
    (tmp_path / "bad.pem").write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "bad.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", "/nonexistent")
    with pytest.raises(TungstenError) as refused:
        web.get_bytes(url)
    first, second, last = refused.value.hint.split("\n")
    assert first == "SSL_CERT_FILE names /nonexistent, which has no certificate that can be read"
    assert second.startswith(f"REQUESTS_CA_BUNDLE names {tmp_path / 'bad.pem'}, ")
    assert "`pip config set global.cert FILE`" in last
    monkeypatch.setenv("PIP_CERT", str(made / "ca.pem"))
    assert web.get_bytes(f"{url}/file.bin") == b"a file"


def test_another_fault_of_a_certificate_is_not_told_as_an_unknown_authority(serve, made, monkeypatch, one):
    monkeypatch.setenv("PIP_CERT", str(made / "ca.pem"))
    with pytest.raises(TungstenError, match="localhost") as refused:
        web.get_bytes(serve("other"))
    assert "SSL_CERT_FILE" not in refused.value.hint


def test_a_connection_that_is_cut_is_no_failed_handshake():
    """So that what was half downloaded is gone on with."""
    cut = requests.exceptions.SSLError(ssl.SSLEOFError(8, "EOF occurred in violation of protocol"))
    assert certificates.problem_of(cut) is None


def test_what_speaks_no_tls_is_told(one):
    with (
        serving(ThreadingHTTPServer(("localhost", 0), BaseHTTPRequestHandler)) as server,
        pytest.raises(TungstenError, match="the TLS handshake failed: ") as refused,
    ):
        web.get_bytes(f"https://localhost:{server.server_port}/")
    assert "proxy" in refused.value.hint


@pytest.mark.parametrize("text", ["", "MA==", "MII=", "MIIBCg==", "x", "AAAA", "MIID" + "A" * 40])
def test_what_is_no_certificate_is_left_out(tmp_path, made, text):
    real = (made / "ca.pem").read_text()
    (tmp_path / "it.pem").write_text(
        f"-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\nnotes\n".replace("\n", "\r\n")
        + real
    )
    assert certificates._certificates(str(tmp_path / "it.pem")) == [real.strip()]
    assert certificates._certificates("~nobody-of-this-name/x") == []


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (
            "error: Failed to fetch: `https://h/simple/x/`\n  Caused by: invalid peer certificate: UnknownIssuer\n",
            "invalid peer certificate: UnknownIssuer",
        ),
        (
            "fatal: unable to access 'https://h/': SSL certificate problem: certificate has expired",
            "SSL certificate problem: certificate has expired",
        ),
        (
            "fatal: unable to access 'https://h/': server certificate verification failed. CAfile: none CRLfile: none",
            "server certificate verification failed. CAfile: none CRLfile: none",
        ),
        (
            'time="x" level=fatal msg="pinging: x509: certificate signed by unknown authority"',
            'x509: certificate signed by unknown authority"',
        ),
        ("fatal: could not read from remote repository", None),
        ("error: no version of handshake fits x509 1.0", None),
        ("fatal: unable to access 'https://h/': Could not resolve host: h", None),
    ],
)
def test_how_programs_word_it(said, reason):
    assert certificates.problem_in(said) == (reason and f"the TLS handshake failed: {reason}")
