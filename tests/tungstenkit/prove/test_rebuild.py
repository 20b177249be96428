"""An export of anybody's reads itself alone, and nothing is fetched for it: whatever it asks for besides is refused."""

import http.server
import os
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.loopback import serving
from tests.machine import needs
from tungstenkit import nix_program, store
from tungstenkit.digest import measure
from tungstenkit.platforms import this_system
from tungstenkit.prove import rebuild as rebuilding
from tungstenkit.prove.rebuild import rebuild
from tungstenkit.sdk.errors import BuildError
from tungstenkit.watch import UNWATCHED

pytestmark = [needs("nix", "namespaces"), pytest.mark.timeless("builds of Nix, which has its own clock")]
SYSTEM = this_system()


@dataclass
class Hostile:
    """An export, as far as a build of it looks at it."""

    folder: Path


@pytest.fixture
def build(tmp_path):
    """Builds an export whose image is an expression."""

    def build(expression, rerun=()):
        folder = tmp_path / "source"
        (folder / "nix").mkdir(parents=True)
        (folder / "secret").symlink_to("/etc/hostname")
        (folder / "nix" / "default.nix").write_text(
            f"""
            {{
              exported = export: {{
                packages.{SYSTEM}.model-image-{SYSTEM}-dir.unchecked = {expression};
              }};
            }}
            """
        )
        return rebuild(Hostile(folder), SYSTEM, tmp_path, UNWATCHED, rerun)

    return build


@pytest.fixture
def web():
    """A server on loopback; its address, and what it was asked for."""
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"answer")

        def log_message(self, *_):
            pass

    with serving(http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)) as server:
        yield f"http://127.0.0.1:{server.server_address[1]}", asked


def step(value, more=""):
    """A derivation with a value in it, that can't be built; such as is not refused before is at that."""
    return f"""derivation {{ name = "image"; system = "{SYSTEM}"; builder = "/nothing"; value = {value}; {more} }}"""


SHA256 = "0" * 64


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        ("toString builtins.currentTime", "currentTime"),
        ("builtins.currentSystem", "currentSystem"),
        ("builtins.readFile /etc/passwd", "/etc/passwd"),
        ("builtins.readFile ../../../../../../../etc/passwd", "forbidden"),
        ('builtins.readFile (export + "/secret")', "forbidden"),
        ('builtins.path { path = /etc; name = "etc"; }', "/etc"),
        ("builtins.readDir (dirOf export)", "forbidden"),
        ("toString <nixpkgs>", "nixpkgs"),
        ('builtins.storePath "/nix/store"', "storePath"),
        ('builtins.exec [ "id" ]', "exec"),
        (
            f'builtins.readFile (derivation {{ name = "x"; system = "{SYSTEM}"; builder = "/x"; }})',
            "import-from",
        ),
        (f'import (derivation {{ name = "x"; system = "{SYSTEM}"; builder = "/x"; }})', "import-from"),
    ],
)
def test_it_reads_nothing_but_itself(build, expression, said):
    with pytest.raises(BuildError, match="the export can't be evaluated") as caught:
        build(step(expression))
    assert said in str(caught.value).replace("allow-import-from-derivation", "import-from")


def test_it_sees_no_variable(build, monkeypatch):
    monkeypatch.setenv("SECRET", "told")
    with pytest.raises(BuildError, match="nothing is told"):
        build(step('if builtins.getEnv "SECRET" == "" then throw "nothing is told" else 1'))


@pytest.mark.parametrize(
    "expression",
    [
        'builtins.fetchurl "{url}/x"',
        'builtins.fetchurl {{ url = "{url}/x"; sha256 = "{sha256}"; }}',
        'builtins.fetchTarball {{ url = "{url}/x"; sha256 = "{sha256}"; }}',
        'builtins.fetchGit {{ url = "{url}/x"; rev = "{revision}"; }}',
        'builtins.fetchTree {{ type = "tarball"; url = "{url}/x"; narHash = "sha256-{narrow}"; }}',
        '(builtins.getFlake "git+{url}/x?rev={revision}").x',
        '(builtins.getFlake "{url}/x.tar.gz?narHash=sha256-{narrow}").x',
        'builtins.fetchClosure {{ fromStore = "{url}"; fromPath = /x; }}',
    ],
)
def test_evaluating_it_asks_nobody(build, web, expression):
    url, asked = web
    narrow = "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="
    text = expression.format(url=url, sha256=SHA256, revision="0" * 40, narrow=narrow)
    with pytest.raises(BuildError, match="the export can't be evaluated"):
        build(step(text))
    assert asked == []


LONG = """
  let many = builtins.genList (n: n) 100000;
  in builtins.foldl' (sum: one: builtins.foldl' builtins.add sum many) 0 many
"""


def test_an_evaluation_that_never_ends_is_ended(build, monkeypatch):
    monkeypatch.setattr(rebuilding, "_PATIENCE", 1)
    with pytest.raises(BuildError, match="not evaluated within 1 seconds"):
        build(step(LONG))


def test_an_evaluation_takes_no_more_memory_than_it_may(build, monkeypatch):
    monkeypatch.setattr(rebuilding, "_ROOM", 1 << 28)
    with pytest.raises(BuildError, match="the export can't be evaluated"):
        build(step("builtins.length (builtins.genList (n: n) 50000000)"))


def test_an_evaluation_that_prints_without_end_is_ended(build, monkeypatch):
    monkeypatch.setattr(rebuilding, "_MOST_SAID", 1 << 16)
    with pytest.raises(BuildError, match="prints without end"):
        build(step("let turn = n: builtins.trace n (turn (n + 1)); in turn 0"))


def fetched(url, sha256=SHA256, name="theirs"):
    return f"""derivation {{
      name = "{name}"; system = "builtin"; builder = "builtin:fetchurl"; url = "{url}/x";
      outputHashMode = "flat"; outputHashAlgo = "sha256"; outputHash = "{sha256}"; executable = false; unpack = false;
    }}"""


def test_a_build_of_it_fetches_nothing(build, web):
    url, asked = web
    with pytest.raises(BuildError, match="would fetch what its lock does not name: theirs\n"):
        build(step(fetched(url)))
    assert asked == []


def test_a_program_that_is_fixed_by_a_hash_would_have_the_network(build):
    fixed = f"""derivation {{
      name = "theirs"; system = "{SYSTEM}"; builder = "/bin/sh";
      outputHashMode = "recursive"; outputHashAlgo = "sha256"; outputHash = "{SHA256}";
    }}"""
    with pytest.raises(BuildError, match="would fetch what its lock does not name: theirs\n"):
        build(step(fixed))


def test_what_is_fetched_without_a_hash_has_no_network(build, web):
    url, asked = web
    plain = f"""derivation {{ name = "image"; system = "builtin"; builder = "builtin:fetchurl"; url = "{url}/x"; }}"""
    with pytest.raises(BuildError):
        build(plain)
    assert asked == []


def test_nothing_leaves_the_sandbox_or_this_machine(build):
    with pytest.raises(BuildError, match="__noChroot"):
        build(step("1", "__noChroot = true;"))


def test_nothing_is_built_on_another_machine(build):
    with pytest.raises(BuildError, match="built on another machine, 'sparc-plan9'"):
        build('derivation { name = "image"; system = "sparc-plan9"; builder = "/x"; }')


def test_a_build_gets_nothing_of_the_machine_s_but_its_processors(build):
    with pytest.raises(BuildError, match="kvm"):
        build(step("1", 'requiredSystemFeatures = [ "kvm" ];'))


def test_a_build_that_has_failed_may_have_changed_the_store_of_its_own_user(
    build, web, tmp_path, monkeypatch
):
    """It was somebody else's code that ran: what it had before it is looked at, though nothing came of it."""
    url, _ = web
    path = tmp_path / "theirs"
    path.write_bytes(os.urandom(100))
    (there,) = store.add_files([path])
    sha256 = measure(path)[1]

    def run(*_):
        Path(there).chmod(0o644)
        Path(there).write_bytes(b"other")
        raise BuildError("it has failed")

    monkeypatch.setattr(rebuilding, "run_build", run)
    monkeypatch.setattr(store, "is_ours", lambda: True)
    try:
        with pytest.raises(BuildError, match="was changed in the Nix store") as caught:
            build(step(fetched(url, sha256)))
        assert there in caught.value.where
    finally:
        nix_program.run(["nix-store", *store.options(), "--delete", there])


def test_what_is_in_the_store_by_its_hash_is_not_asked_for(build, web, tmp_path):
    url, asked = web
    path = tmp_path / "theirs"
    path.write_bytes(b"answer")
    store.add_files([path])
    # What fails is the image itself.
    with pytest.raises(BuildError, match="image"):
        build(step(fetched(url, measure(path)[1])))
    assert asked == []


def test_a_result_is_made_again_where_that_is_asked_for(build, web, tmp_path):
    url, asked = web
    path = tmp_path / "theirs"
    path.write_bytes(b"another answer")
    (there,) = store.add_files([path])
    (Path(tmp_path) / "layout").mkdir()
    result = fetched(url, measure(path)[1])
    # An image is there without a build, which is what it is fixed by.
    with pytest.raises(BuildError, match="hash mismatch"):
        build(result, [there])
    assert asked == ["/x"]
