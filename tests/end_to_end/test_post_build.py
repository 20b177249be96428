"""`post_build` for real: in the image's root, twice, recorded, made again, and refused where it must be."""

import http.server
import json
import os
import re
import shutil
import ssl
import subprocess
import tarfile
import tempfile
from pathlib import Path

import pytest

from tests.end_to_end.harness import ROOT, SYSTEM, build, container, nix, nix_line, post, succeed, tungsten
from tests.loopback import serving
from tests.machine import needs
from tests.server.conftest import wait_until
from tungstenkit import store
from tungstenkit.lock.document import read_lock, write_lock
from tungstenkit.seal.post_build import result_path

MODEL = """
import os, sys, time
from pathlib import Path
from tungstenkit import BaseIO, define_model

class Input(BaseIO):
    name: str

class Output(BaseIO):
    text: str

@define_model(input=Input, output=Output)
class Reader:
    @staticmethod
    def post_build():
{body}

    def predict(self, inputs):
        return [Output(text=Path(one.name).expanduser().read_text()) for one in inputs]
"""


def write(folder, body, settings=""):
    lines = "\n".join(f"        {line}" for line in body.strip().splitlines())
    (folder / "tungsten_model.py").write_text(MODEL.format(body=lines))
    if settings:
        (folder / "pyproject.toml").write_text(f"[tool.tungsten.post-build]\n{settings}\n")
    return folder


@pytest.fixture
def model(tmp_path, lock_of):
    """Makes a model with some post_build; the pins are an example's, so that locking is quick."""

    def make(body, settings="", files=()):
        folder = tmp_path / "model"
        folder.mkdir(exist_ok=True)
        lock = read_lock(lock_of("blur"))
        only = {SYSTEM: lock.platforms[SYSTEM]}
        write_lock(lock.model_copy(update={"platforms": only, "inputs": {}}), folder / "tungsten.lock")
        for name, text in dict(files).items():
            (folder / name).write_text(text)
        return write(folder, body, settings)

    return make


def entry_of(folder):
    return read_lock(folder / "tungsten.lock").platforms[SYSTEM].post_build


def forget(folder):
    """Take the result out of the store, as on a machine that never made it."""
    result = result_path(entry_of(folder))
    shutil.rmtree(folder / ".tungsten")
    nix("nix-store", "--delete", result)
    assert not result.exists()


@pytest.mark.soak
def test_the_example_is_trained_anew_to_the_same_bytes(copy_of):
    """What is in the store already is made once more, and compared."""
    image = build(copy_of("iris"))
    nix("nix-store", "--realise", "--check", derivation_of(image))
    with container(image.image_id) as (url, _name):
        flower = {"sepal_length": 5.1, "sepal_width": 3.5, "petal_length": 1.4, "petal_width": 0.2}
        status, answer = post(f"{url}/predict", [flower])
    assert (status, answer["outputs"][0]["species"]) == (200, "setosa")


def derivation_of(image):
    (derivation,) = (
        path for path in image.requisites if re.search(r"-post-build-[0-9a-f]+\.tar\.drv$", path)
    )
    return derivation


class Files(http.server.BaseHTTPRequestHandler):
    """Serves `server.content`, to who has the token where there is one."""

    def do_GET(self):
        allowed = self.server.token is None or self.headers["Authorization"] == f"Bearer {self.server.token}"
        self.server.asked += 1
        self.send_response(200 if allowed else 401)
        self.end_headers()
        self.wfile.write(self.server.content if allowed else b"")

    def log_message(self, *_arguments):
        pass


@pytest.fixture
def server():
    with serving(http.server.ThreadingHTTPServer(("127.0.0.1", 0), Files)) as server:
        server.content, server.token, server.asked = b"weights", None, 0
        server.url = f"http://127.0.0.1:{server.server_address[1]}/weights"
        yield server


DOWNLOAD = """
from urllib.request import Request, urlopen
request = Request({url!r}, headers={{"Authorization": "Bearer " + os.environ.get("A_TOKEN", "")}})
time.sleep(0.01)  # as a client that tries again
folder = Path.home() / ".cache" / "weights" / "refs"
folder.mkdir(parents=True)
(folder / "main").write_bytes(urlopen(request).read())
print("downloaded with", os.environ.get("A_TOKEN"))
"""


def test_a_download_is_part_of_the_lock(model, server):
    """Built twice from nothing, the same digest; a server that has changed by one byte stops the build."""
    folder = model(DOWNLOAD.format(url=server.url))
    locked = tungsten("lock", folder)
    assert locked.returncode == 0, locked.stderr
    assert server.asked == 2
    assert "downloaded with None" in locked.stderr
    first = build(folder)
    assert server.asked == 2
    with container(first.image_id) as (url, _name):
        path = "~/.cache/weights/refs/main"
        assert post(f"{url}/predict", [{"name": path}])[1]["outputs"] == [{"text": "weights"}]
    forget(folder)
    assert build(folder, "--no-load").digest == first.digest
    assert server.asked == 3

    forget(folder)
    server.content = b"Weights"
    failed = tungsten("build", folder, "--no-load")
    assert failed.returncode == 1
    assert "post_build made something else than when the model was locked" in failed.stderr
    assert "post_build of tungsten_model.Reader" in failed.stderr
    before = entry_of(folder)
    succeed("lock", folder)
    assert entry_of(folder).sha256 != before.sha256
    assert entry_of(folder).sees == before.sees
    # What is in the store stands, until it is asked for anew.
    server.content = b"WEights"
    now = entry_of(folder)
    succeed("lock", folder)
    assert entry_of(folder) == now
    succeed("lock", "-P", "post_build", folder)
    assert entry_of(folder).sha256 != now.sha256


def test_a_token_reaches_the_server_and_nothing_else(model, server, tmp_path):
    server.token = "s3cret-t0ken-of-the-test"
    folder = model(DOWNLOAD.format(url=server.url), 'environment = ["A_TOKEN"]')
    missing = tungsten("lock", folder, env={"A_TOKEN": ""})
    assert (missing.returncode, server.asked) == (1, 0)
    assert "post_build needs A_TOKEN in the environment" in missing.stderr
    locked = tungsten("lock", folder, env={"A_TOKEN": server.token})
    assert locked.returncode == 0, locked.stderr
    assert server.asked == 2
    assert "downloaded with ***" in locked.stderr
    assert server.token not in locked.stderr + locked.stdout + (folder / "tungsten.lock").read_text()
    forget(folder)
    image = build(folder, "--no-load", env={"A_TOKEN": server.token})
    assert server.asked == 3
    assert server.token not in Path(derivation_of(image)).read_text()


@needs("root", "nix-daemon")
def test_a_token_reaches_it_under_a_daemon_with_another_environment(model, server, tmp_path):
    server.token = "s3cret-t0ken-of-the-test"
    folder = model(DOWNLOAD.format(url=server.url), 'environment = ["A_TOKEN"]')
    with tempfile.TemporaryDirectory(prefix="nix") as place:  # a socket's path is short
        path = Path(place) / "socket"
        own = {
            "PATH": os.environ["PATH"],
            "HOME": place,
            "A_TOKEN": "the daemon's",
            "NIX_DAEMON_SOCKET_PATH": str(path),
        }
        daemon = subprocess.Popen(["nix-daemon", *store.options()], env=own)
        try:
            wait_until(path.exists, "listening")
            env = {"NIX_REMOTE": "daemon", "NIX_DAEMON_SOCKET_PATH": str(path), "A_TOKEN": server.token}
            succeed("lock", folder, env=env)
        finally:
            daemon.terminate()
            daemon.wait()
    assert server.asked == 2


def test_plain_nix_passes_the_token_by_the_environment(model, server, tmp_path):
    """Where a user without tungsten builds an export."""
    server.token = "s3cret-t0ken-of-the-test"
    folder = model(DOWNLOAD.format(url=server.url), 'environment = ["A_TOKEN"]')
    succeed("lock", folder, env={"A_TOKEN": server.token})
    succeed("nix-export", folder, "-o", tmp_path / "export")
    forget(folder)
    command = nix_line("nix", "build", "path:.#model-image", "--no-link")
    done = subprocess.run(
        command,
        cwd=tmp_path / "export",
        env={**os.environ, "A_TOKEN": server.token},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert server.asked == 3


@needs("openssl")
def test_certificates_that_this_machine_trusts_are_trusted_and_not_in_the_image(model, server, tmp_path):
    """As behind a proxy that inspects, whose certificate no image has."""
    key, own = tmp_path / "key", tmp_path / "own"
    subject = ["-subj", "/CN=test", "-addext", "subjectAltName=IP:127.0.0.1"]
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30", *subject]
    subprocess.run([*command, "-keyout", key, "-out", own], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(own, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    folder = model(DOWNLOAD.format(url=server.url.replace("http:", "https:")))
    assert "CERTIFICATE_VERIFY_FAILED" in refused(folder)
    succeed("lock", folder, env={"PIP_CERT": str(own)})
    with tarfile.open(result_path(entry_of(folder))) as tar:
        assert [name for name in tar.getnames() if not name.endswith(("refs", "weights", "cache"))] == [
            "home/nonroot/.cache/weights/refs/main"
        ]


def refused(folder):
    before = (folder / "tungsten.lock").read_text()
    done = tungsten("lock", folder)
    assert done.returncode == 1, done.stderr
    assert (folder / "tungsten.lock").read_text() == before
    return done.stderr


def test_a_lock_is_refused_where_two_runs_differ(model):
    """A time, the order of a set, random bytes: each file by name, and how."""
    said = refused(
        model(
            """
Path("time.json").write_text('{"made": "%s"}' % time.ctime())
Path("names.txt").write_text(" ".join({"alpha", "beta", "gamma", "delta", "epsilon"}))
Path("random.bin").write_bytes(os.urandom(8))
Path("same.txt").write_text("same")
Path("cpus.txt").write_text(str(len(os.sched_getaffinity(0))) + os.environ.get("OPENBLAS_CORETYPE", "any"))
"""
        )
    )
    assert "two runs did not make the same" in said
    assert re.search(r"/app/time\.json:\s+-.*\s+\+.*\s+\(looks like a time stamp\)", said)
    assert re.search(r"/app/names\.txt:.*another order: sort", said, re.DOTALL)
    assert "/app/random.bin:" in said
    assert "/app/cpus.txt:" in said
    assert "same.txt" not in said


def test_what_it_must_not_do_is_named(model):
    said = refused(
        model(
            'Path("data.txt").unlink(); Path("pipe").symlink_to("/nowhere"); print("a line of its own")',
            files={"data.txt": ""},
        )
    )
    assert "/app/data.txt: deleted" in said
    assert "/app/pipe: links to /nowhere" in said
    assert "a line of its own" in said


def test_elsewhere_nothing_can_be_written(model):
    said = refused(model('Path("/usr/weights").write_text("x")'))
    assert "Read-only file system: '/usr/weights'" in said
    assert "post_build of tungsten_model.Reader" in said
    assert "below HOME" in said


def test_a_secret_in_a_file_is_refused_by_name(model, monkeypatch):
    monkeypatch.setenv("A_TOKEN", "s3cret-t0ken-of-the-test")
    said = refused(
        model('Path("config.json").write_text(os.environ["A_TOKEN"])', 'environment = ["A_TOKEN"]')
    )
    assert "/app/config.json: holds the value of A_TOKEN" in said
    assert "s3cret" not in said


def test_predict_is_not_there_and_what_only_a_server_needs_makes_nothing_stale(model):
    folder = model('Path("made.txt").write_text("made")', files={"helper.py": "1"})
    succeed("lock", folder)
    entry = entry_of(folder)
    text = (folder / "tungsten_model.py").read_text()
    (folder / "tungsten_model.py").write_text(
        text.replace("return [Output", "print()\n\n        return [Output")
    )
    succeed("lock", "--check", folder)
    locked = tungsten("lock", folder)
    assert "running post_build" not in locked.stderr
    assert entry_of(folder) == entry

    (folder / "helper.py").write_text("2")
    for command in (["lock", "--check"], ["build", "--no-load"]):
        stale = tungsten(*command, folder)
        assert stale.returncode == 1
        assert "post_build sees something else than when it ran: files helper.py" in stale.stderr
    said = refused(write(folder, "from tungsten_model import Reader; Reader().predict([])"))
    assert "RuntimeError: predict is not there while the image is built" in said


def test_an_export_edited_by_hand_is_stale(model, tmp_path):
    """Nix alone builds it, and nothing of ours looks at the lock before."""
    folder = model('Path("made.txt").write_text("made")', files={"helper.py": "1"})
    succeed("lock", folder)
    succeed("nix-export", folder, "-o", tmp_path / "export")
    image = nix("nix", "build", f"path:{tmp_path}/export#model-image-dir", "--no-link", "--json")
    (tmp_path / "export" / "model" / "tungsten_model.py").write_text(
        (folder / "tungsten_model.py").read_text().replace("return [Output", "return 3 and [Output")
    )
    other = nix("nix", "build", f"path:{tmp_path}/export#model-image-dir", "--no-link", "--json")
    assert json.loads(other)[0]["outputs"] != json.loads(image)[0]["outputs"]
    (tmp_path / "export" / "model" / "helper.py").write_text("2")
    command = nix_line("nix", "build", f"path:{tmp_path}/export#model-image-dir", "--no-link", "-L")
    failed = subprocess.run(command, capture_output=True, text=True)
    assert failed.returncode != 0
    assert "the lock is stale: post_build saw other files when it was made: helper.py" in failed.stderr


def test_a_file_of_the_models_may_be_written_anew(model):
    """Small or big: what can be run is copied for it. The big file's name is not ASCII, nor a shell's word."""
    big = "wä 'e\"i $(x) `y` \\ ghts.sh"
    text = "#!/bin/sh\n" + "#" * 9_000_000
    body = f'Path("data.txt").write_text("new"); Path({big!r}).write_text("newer")'
    folder = model(body, files={"data.txt": "old", big: text, f"other {big}": text})
    (folder / big).chmod(0o755)
    succeed("lock", folder)
    assert entry_of(folder).replaces == ("data.txt", big)
    with container(build(folder).image_id) as (url, _name):
        wanted = [{"name": "data.txt"}, {"name": big}]
        assert post(f"{url}/predict", wanted)[1]["outputs"] == [{"text": "new"}, {"text": "newer"}]


def test_a_machine_that_forbids_user_namespaces_is_told_how_to_allow_them(copy_of, tmp_path):
    """Their number is limited to none for one process and its children (user_namespaces(7))."""
    folder = copy_of("blur")
    lock = read_lock(folder / "tungsten.lock")
    busybox = f"{store.tree_path(lock.tools[SYSTEM].busybox.tree_sha256, 'busybox')}/bin/busybox"
    if not Path(busybox).exists():
        succeed("fetch", folder)
    limited = (
        f"echo 0 > /proc/sys/user/max_user_namespaces; exec {busybox} sh -euc '. {ROOT}/nix/tools/step.sh'"
    )
    env = {"PATH": f"{Path(busybox).parent}:{os.environ['PATH']}"}
    command = ["unshare", "--user", "--map-root-user", "sh", "-c", limited]
    done = subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1
    assert "does not allow user namespaces" in done.stderr
    assert "kernel.unprivileged_userns_clone=1" in done.stderr


def test_nothing_of_its_workings_stays(model):
    """No step's folder, no link to what was thrown away, and no process: the step's program adopts them."""
    folder = model(
        """
Path("made.txt").write_text("made")
read, write = os.pipe()
parent = os.fork()
if parent == 0:
    parent = os.getpid()
    if os.fork() == 0:
        while os.getppid() == parent:
            os.sched_yield()
        os.write(write, str(os.getppid()).encode())
    os._exit(0)
os.close(write)
assert int(os.read(read, 20)) == os.getppid()
"""
    )
    succeed("lock", folder)
    names = {path.name for path in (folder / ".tungsten").iterdir()}
    assert names == {".gitignore", "busy", "downloads", "roots"}
