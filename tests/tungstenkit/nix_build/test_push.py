"""Where images are pushed to, and what is said where that fails."""

import base64
import http.server
import json
import os
import re
import subprocess
import sys
from types import SimpleNamespace

import pytest

from tests.loopback import serving
from tests.machine import needs
from tungstenkit.nix_build.push import check_target, login, logout, push_image
from tungstenkit.sdk.errors import BuildError


@pytest.mark.parametrize(
    "name",
    [
        "blur",
        "blur:1",
        "a.b/c-d/e__f:V_1.x",
        "localhost:5000/blur:1",
        "registry:5000/blur",
        "[::1]:5000/blur:1",
    ],
)
def test_where_an_image_is_pushed_to_is_a_name_and_a_tag(name):
    check_target(name)


@pytest.mark.parametrize(
    "name",
    [
        *(
            "",
            "BAD//REF",
            "a b",
            "Blur:1",
            "blur:",
            ":1",
            "blur:.x",
            "blur/",
            "host/a:1/b",
            "docker://a.b/c:1",
        ),
        *(f"blur@sha256:{'0' * 64}", f"blur:{'x' * 129}", "x" * 256, "blur:é", "blur\n"),
    ],
)
def test_what_no_registry_takes_is_refused(name):
    with pytest.raises(BuildError, match="is no reference"):
        check_target(name)


def test_the_form_of_skopeo_s_log_is_not_shown(skopeo_says, tmp_path):
    said = 'Get \\"https://host/v2/\\": \\\\ \\x1b no\\n\\t* and more'
    skopeo_says(f'time="2026-12-01T03:18:54Z" level=warning msg=short\ntime="x" level=fatal msg="{said}"\n')
    with pytest.raises(BuildError) as caught:
        push_image(SimpleNamespace(layout=tmp_path), "host:5000/a:1", [])
    assert caught.value.what.startswith("the image could not be pushed: short\nGet ")
    assert "level=" not in caught.value.what
    assert 'time="' not in caught.value.what
    plain = 'level=fatal msg="Get \\"https://host/v2/\\": no\\n\\t* and more"'
    skopeo_says(f'time="2026-12-01T03:18:54Z" {plain}\n')
    with pytest.raises(BuildError) as caught:
        push_image(SimpleNamespace(layout=tmp_path), "host:5000/a:1", [])
    assert caught.value.what == 'the image could not be pushed: Get "https://host/v2/": no\n\t* and more'


def test_a_failed_push_does_not_show_what_skopeo_was_told(monkeypatch, tmp_path):
    (tmp_path / "skopeo").write_text("#!/bin/sh\necho denied >&2\nexit 1\n")
    (tmp_path / "skopeo").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(BuildError, match="denied") as caught:
        push_image(SimpleNamespace(layout=tmp_path), "host/a:1", ["--dest-creds=user:hunter2"])
    assert "hunter2" not in str(caught.value)
    assert "host/a:1" in str(caught.value)


@pytest.fixture
def skopeo_says(monkeypatch, tmp_path):
    """A program in skopeo's place, which fails."""

    def put(said):
        (tmp_path / "said").write_text(said)
        (tmp_path / "skopeo").write_text(f"#!/bin/sh\ncat {tmp_path}/said >&2\nexit 1\n")
        (tmp_path / "skopeo").chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")

    return put


@pytest.mark.parametrize(
    ("said", "hint"),
    [
        (
            'Get "https://localhost:5000/v2/": dial tcp 127.0.0.1:5000: connect: connection refused',
            "nothing answers at localhost:5000: ",
        ),
        (
            'level=fatal msg="Get \\"https://no.invalid/v2/\\": dial tcp: lookup no.invalid: no such host"',
            "nothing answers at no.invalid: ",
        ),
        ("dial tcp 192.0.2.1:443: i/o timeout", "nothing answers at host:5000: "),
        ("unauthorized: authentication required", "`tungsten login host:5000` gives it"),
        ("http: server gave HTTP response to HTTPS client", "--skopeo-arg=--dest-tls-verify=false is for"),
        (
            'reading JSON file "/run/containers/7/auth.json": open x: permission denied',
            "name a file of this user's",
        ),
    ],
)
def test_what_helps_follows_from_what_skopeo_says(skopeo_says, tmp_path, said, hint):
    skopeo_says(said)
    with pytest.raises(BuildError) as caught:
        push_image(SimpleNamespace(layout=tmp_path), "host:5000/a:1", [])
    assert caught.value.hint.startswith(hint)


@pytest.mark.parametrize(
    ("reference", "arguments", "words"),
    [
        (
            "host:5000/a:1",
            ["--dest-tls-verify=false"],
            "`tungsten login host:5000 --skopeo-arg=--tls-verify=false`",
        ),
        ("host.example/a:1", [], "`tungsten login host.example`"),
        ("localhost/a", [], "`tungsten login localhost`"),
        ("team/a:1", [], "`tungsten login REGISTRY`"),
        ("a:1", [], "`tungsten login REGISTRY`"),
    ],
)
def test_the_login_that_a_push_lacks_can_be_pasted(skopeo_says, reference, arguments, words):
    skopeo_says("unauthorized: authentication required")
    with pytest.raises(BuildError) as caught:
        push_image(SimpleNamespace(layout="x"), reference, arguments)
    assert words in caught.value.hint


@pytest.mark.parametrize("ask", [lambda: login("host:5000", "me"), lambda: logout("host:5000")])
@pytest.mark.parametrize(
    ("said", "hint"),
    [
        ("http: server gave HTTP response to HTTPS client", "--skopeo-arg=--tls-verify=false is for"),
        ("dial tcp 127.0.0.1:5000: connect: connection refused", "nothing answers at host:5000: "),
        ("mkdir /run/containers/7: permission denied", "name a file of this user's"),
        (
            'reading JSON file "/run/containers/7/auth.json": open x: permission denied',
            "name a file of this",
        ),
        (
            "invalid username/password",
            "the registry has no such user, or another password: `tungsten login host",
        ),
        ("reading username: EOF", "there is no terminal to ask at: `tungsten login host:5000 -u USER --pass"),
        (
            "getting username and password: reading password: inappropriate ioctl for device",
            "there is no term",
        ),
        ("not logged into host:5000", None),
    ],
)
def test_who_may_not_log_in_is_told_why(skopeo_says, ask, said, hint):
    skopeo_says(said)
    with pytest.raises(BuildError, match=re.escape(f"host:5000: {said}")) as caught:
        ask()
    assert (caught.value.hint or "").startswith(hint or "")
    assert (caught.value.hint is None) is (hint is None)


class Registry(http.server.BaseHTTPRequestHandler):
    """One that knows `me`, whose password is `hunter2`."""

    def do_GET(self):
        known = base64.b64encode(b"me:hunter2").decode()
        self.send_response(200 if self.headers["Authorization"] == f"Basic {known}" else 401)
        self.send_header("WWW-Authenticate", 'Basic realm="here"')
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


@needs("skopeo")
def test_a_real_skopeo_keeps_and_forgets_a_password(tmp_path):
    environment = {**os.environ, "REGISTRY_AUTH_FILE": str(tmp_path / "auth.json")}
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Registry)
    place = f"127.0.0.1:{server.server_port}"

    def tungsten(*words, said=None):
        command = [sys.executable, "-m", "tungstenkit", *words]
        return subprocess.run(
            command, input=said, env=environment, capture_output=True, text=True, check=False
        )

    given = ["login", place, "-u", "me", "--password-stdin", "--skopeo-arg=--tls-verify=false"]
    with serving(server):
        wrong = tungsten(*given, said="hunter3")
        assert wrong.returncode == 1
        assert f"did not log in to {place}" in wrong.stderr
        right = tungsten(*given, said="hunter2\n")
        assert right.returncode == 0, right.stderr
    assert "hunter2" not in right.stdout + right.stderr
    kept = json.loads((tmp_path / "auth.json").read_text())["auths"]
    assert base64.b64decode(kept[place]["auth"]) == b"me:hunter2"
    assert tungsten("logout", place).returncode == 0
    assert json.loads((tmp_path / "auth.json").read_text()).get("auths", {}) == {}
