"""A hostile lock, index or repository has nothing run and nothing removed, whoever calls: root, or a user whose Nix
store is their own. On the real programs.
"""

import hashlib
import json
import shutil
import urllib.error
import urllib.request
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urljoin

import pytest

from tests.end_to_end.harness import tungsten
from tests.end_to_end.somebody import Somebody
from tests.loopback import serving
from tests.machine import needs
from tests.tungstenkit import locks
from tungstenkit.lock.document import LOCK_NAME

SYSTEM = "x86_64-linux"
PROJECT = "pillow"
NEW = hashlib.sha256(b"of no file that there is").hexdigest()
"""What is not in any store must be fetched."""

pytestmark = needs("root")  # which becomes other users


class Caller:
    """Who calls, in a folder of their own."""

    def __init__(self, folder, keys):
        folder.mkdir(mode=0o755)
        self.folder, self.before, self.environment = folder, (), {}
        self.keys = keys

    def __call__(self, *arguments, **environment):
        return tungsten(*arguments, before=self.before, env={**self.environment, **environment})

    def own(self, path):
        """Make a folder theirs."""


class User(Caller):
    def __init__(self, folder, keys):
        super().__init__(folder, keys)
        somebody = Somebody(folder / "somebody")
        shutil.copytree(keys, folder / "keys")
        self.own = somebody.own
        self.before = somebody.before
        self.environment = {"TUNGSTEN_TESTS_KEYS": str(folder / "keys")}


@pytest.fixture(scope="module", params=[Caller, User], ids=["root", "user"])
def caller(request, folder, frozen):
    return request.param(folder / request.param.__name__, frozen.keys)


@pytest.fixture
def model(caller, copy_of, request):
    """A model of theirs."""
    folder = caller.folder / f"model-{abs(hash(request.node.nodeid))}"
    shutil.copytree(copy_of("blur"), folder)
    folder.chmod(0o755)
    caller.own(folder)
    return folder


@pytest.fixture
def mark(caller, request):
    """A file that whatever is run by a word makes."""
    folder = caller.folder / f"marks-{abs(hash(request.node.nodeid))}"
    folder.mkdir()
    caller.own(folder)
    return folder / "it-was-run"


def edited(model, caller, change):
    """Change a model's lock."""
    lock = json.loads((model / LOCK_NAME).read_text())
    change(lock)
    (model / LOCK_NAME).write_text(json.dumps(lock))
    caller.own(model)


def in_a_wheel(model, caller, mark):
    def change(lock):
        wheel = lock["platforms"][SYSTEM]["wheels"][0]
        wheel.update(url=f"git+--upload-pack=touch {mark} ://@.", sha256=NEW)

    edited(model, caller, change)


def in_a_source(model, caller, mark):
    git = {"url": f"--upload-pack=touch {mark}; true ://", "commit": "0" * 40}

    def change(lock):
        built = {"wheel": "evil-1-py3-none-any.whl", "wheel_size": 1, "wheel_sha256": NEW}
        source = locks.source("evil", sha256=NEW, **built).model_dump(mode="json", by_alias=True)
        lock["platforms"][SYSTEM].setdefault("sources", []).append({**source, "git": git})

    edited(model, caller, change)


WORDS = {
    "a wheel's URL": (in_a_wheel, r"platforms.x86_64-linux.wheels.0: "),
    "a source's repository": (in_a_source, r"platforms.x86_64-linux.sources.0.git.url: "),
}
COMMANDS = [["fetch"], ["build", "--no-load"], ["lock"]]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
@pytest.mark.parametrize("way", WORDS)
def test_a_locks_words_run_nothing(caller, model, mark, way, command):
    change, said = WORDS[way]
    change(model, caller, mark)
    done = caller(*command, model)
    assert not mark.exists()
    assert (done.returncode, f"error: {said}" in done.stderr) == (1, True), done.stderr


@contextmanager
def index(honest, url):
    """A Python index that tells uv the truth, and anybody else that a project's files are at a URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            try:
                with urllib.request.urlopen(honest + self.path) as answer:
                    page = json.load(answer)
            except urllib.error.HTTPError as problem:
                with problem:
                    self.send_error(problem.code)
                return
            lies = self.path == f"/{PROJECT}/" and not self.headers["User-Agent"].startswith("uv/")
            for file in page["files"]:
                file["url"] = url if lies else urljoin(honest + self.path, file["url"])
                if self.path == f"/{PROJECT}/":
                    file["hashes"] = {"sha256": NEW}
            body = json.dumps(page).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/vnd.pypi.simple.v1+json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments):
            pass

    with serving(ThreadingHTTPServer(("127.0.0.1", 0), Handler)) as server:
        yield f"http://127.0.0.1:{server.server_port}"


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_what_an_index_lists_runs_nothing(caller, model, mark, frozen, command):
    def change(lock):
        wheels = lock["platforms"][SYSTEM]["wheels"]
        next(one for one in wheels if one["project"] == PROJECT)["sha256"] = NEW

    if command == ["lock"]:
        (model / LOCK_NAME).unlink()
    else:
        edited(model, caller, change)
    url = f"git+file:///nonexistent@--upload-pack=touch {mark};true"
    with index(frozen.environment["TUNGSTEN_MIRROR_PYPI"], url) as place:
        done = caller(*command, model, TUNGSTEN_MIRROR_PYPI=place)
    assert not mark.exists()
    assert (done.returncode, "lists a file whose URL" in done.stderr) == (1, True), done.stderr


def tree(folder):
    return {path.relative_to(folder): path.is_file() and path.read_bytes() for path in folder.rglob("*")}


@pytest.mark.parametrize(
    ("place", "command"),
    [("", ["fetch"]), ("roots", ["fetch"]), ("roots", ["build", "--no-load"]), ("downloads", ["fetch"])],
)
def test_a_repositorys_links_lead_to_nothing_that_is_removed(caller, model, place, command):
    """What is there is the caller's own, of names that we remove in a folder of ours."""
    precious = caller.folder / model.name.replace("model", "precious")
    wheels = json.loads((model / LOCK_NAME).read_text())["platforms"][SYSTEM]["wheels"]
    for folder in ("", "roots", "downloads", wheels[0]["sha256"], f"downloads/{wheels[0]['sha256']}"):
        (precious / folder).mkdir(parents=True, exist_ok=True)
        (precious / folder / "file").write_text("kept")
    before = tree(precious)
    link = model / ".tungsten" / place
    link.parent.mkdir(exist_ok=True)
    link.symlink_to(precious, target_is_directory=True)
    caller.own(precious)
    caller.own(model)
    done = caller(*command, model)
    assert tree(precious) == before
    assert f"{link} is a link to" in done.stderr
    assert f"rm -r {model / '.tungsten'}" in done.stderr
    assert done.returncode == 1
    assert link.is_symlink()


def test_an_older_index_is_told_once_and_no_other_python_is_tried(caller, model):
    """As where a mirror goes back to what had not been mended."""

    def change(lock):
        for release in lock["releases"].values():
            for suite in release["suites"]:
                suite["date"] = "2999-01-01T00:00:00Z"

    edited(model, caller, change)
    done = caller("lock", "--upgrade", model)
    assert done.returncode == 1
    assert done.stderr.count("the lock was made of a newer one") == 1
    assert "with Python" not in done.stderr


def test_what_is_not_hostile_is_fetched(caller, model):
    """By the same caller, so that what is refused above is for what was put in."""
    done = caller("fetch", model)
    assert done.returncode == 0, done.stderr
    assert (model / ".tungsten" / "roots").is_dir()
