"""What goes wrong says what, where and what to do; it exits with a status, and leaves nothing half-written."""

import http.server
import json
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.emulation import SYSTEM as ARM64
from tests.end_to_end.harness import SYSTEM, tungsten
from tests.loopback import serving
from tests.machine import needs

LOCK = "tungsten.lock"


def fails(*arguments, status=1, **options):
    done = tungsten(*arguments, **options)
    assert done.returncode == status, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert "\nerror: " in f"\n{done.stderr}"
    return done.stderr


@pytest.fixture
def model(copy_of):
    return copy_of("blur")


def declare(model, text):
    source = model / "tungsten_model.py"
    source.write_text(source.read_text().replace("batch_size=4", f"batch_size=4, {text}"))


def untouched(model, change):
    """Runs a failing command; the folder is as it was, but for what can be made again."""
    before = {path.name: path.read_bytes() for path in model.iterdir() if path.is_file()}
    message = change()
    assert {path.name: path.read_bytes() for path in model.iterdir() if path.is_file()} == before
    return message


def test_an_unknown_system_package(model):
    declare(model, 'system_packages=["probe-dat", "no-such-package"]')
    message = untouched(model, lambda: fails("lock", model))
    assert "probe-data" in message
    assert "no-such-package" in message
    assert "in:   system_packages" in message


def test_conflicting_requirements(model):
    declare(model, 'python_packages=["probe==1.0", "probe==2.0"]')
    message = untouched(model, lambda: fails("lock", model))
    assert "probe==1.0 and probe==2.0" in message
    assert "hint:" in message


def test_a_declaration_newer_than_its_lock(model):
    declare(model, 'python_packages=["probe"]')
    message = untouched(model, lambda: fails("build", model))
    assert "stale" in message
    assert "tungsten lock" in message


def test_a_platform_that_the_lock_has_not(copy_of):
    """Before anything is fetched or built."""
    message = fails("build", copy_of("caption"), "--platform", "aarch64-linux")
    assert "the lock has no platform aarch64-linux; it has x86_64-linux" in message
    assert "tungsten lock --platform aarch64-linux --platform x86_64-linux" in message


def test_a_lock_without_tools_for_this_machine(copy_of):
    model = copy_of("blur", SYSTEM, ARM64)
    document = json.loads((model / LOCK).read_text())
    for part in ("platforms", "server", "tools"):
        del document[part][SYSTEM]
    (model / LOCK).write_text(json.dumps(document))
    for command in ("fetch", "build"):
        message = untouched(model, lambda command=command: fails(command, model))
        assert f"none for this machine ({SYSTEM})" in message
        assert f"run `tungsten lock {model}` on this machine" in message


def test_a_lock_that_is_not_sealed(model):
    assert tungsten("lock", model, "--resolve-only").returncode == 0
    assert "not sealed" in fails("build", model)


@pytest.fixture
def unsigned_mirror(tmp_path):
    """A mirror of Debian whose indexes nobody signed."""
    for suite in ("bullseye", "bookworm", "trixie"):
        release = tmp_path / "mirror" / "dists" / suite / "InRelease"
        release.parent.mkdir(parents=True)
        release.write_text(f"Origin: Debian\nLabel: Debian\nCodename: {suite}\n")

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments):
            super().__init__(*arguments, directory=str(tmp_path / "mirror"))

        def log_message(self, *arguments):
            pass

    with serving(http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet)) as server:
        yield f"http://127.0.0.1:{server.server_port}"


def test_an_unsigned_index(model, unsigned_mirror):
    (model / LOCK).unlink()
    environment = {
        "TUNGSTEN_MIRROR_DEBIAN": unsigned_mirror,
        "TUNGSTEN_MIRROR_DEBIAN_SECURITY": unsigned_mirror,
    }
    message = fails("lock", model, env=environment)
    assert "InRelease" in message
    assert "sign" in message
    assert not (model / LOCK).exists()


def flipped(model, kind):
    """The lock with one digit of a hash changed, so that the mirror's true file is the wrong one."""
    document = json.loads((model / LOCK).read_text())
    entry = document["platforms"]["x86_64-linux"][kind][0]
    entry["sha256"] = format(int(entry["sha256"], 16) ^ 1, "064x")
    (model / LOCK).write_text(json.dumps(document))
    return entry


@pytest.mark.parametrize("kind", ["debs", "wheels"])
def test_a_file_that_is_not_the_locked_one(model, kind):
    """A byte flipped in the file and one flipped in the lock are the same to us: nothing enters the store."""
    entry = flipped(model, kind)
    message = untouched(model, lambda: fails("fetch", model))
    assert "is not the locked file" in message
    assert entry["sha256"] in message
    assert not list((model / ".tungsten" / "downloads").rglob("*.deb"))
    assert "is not the locked file" in fails("build", model)


@needs("root", "/nix")
def test_a_full_disk_while_fetching(model):
    """In a mount namespace where the folder for downloads holds 2 MiB and the store is empty."""
    folder = model / ".tungsten"
    folder.mkdir()
    empty = model.parent / "nix"
    empty.mkdir()
    script = f'mount --bind {empty} /nix && mount -t tmpfs -o size=2m none {folder} && exec "$@"'
    message = fails("fetch", model, before=["unshare", "--mount", "sh", "-c", script, "sh"])
    subprocess.run(["chmod", "-R", "u+w", empty], check=True)
    assert "disk is full" in message
    assert "make room" in message
    assert not list(Path(empty).glob("store/*.deb")), "a file entered the store"


def test_a_file_that_left_every_mirror_has_its_own_status(model):
    """So that `make image` can lock again: exit status 3."""
    document = json.loads((model / LOCK).read_text())
    wheel = document["platforms"]["x86_64-linux"]["wheels"][0]
    # A build number (PEP 427) that no index has.
    wheel["file"] = wheel["file"].replace("-py3-", "-999gone-py3-")
    (model / LOCK).write_text(json.dumps(document))
    assert "tungsten lock" in fails("fetch", model, status=3)


def test_a_name_that_no_engine_takes(model):
    """Before anything is locked, fetched or built."""
    (model / LOCK).unlink()
    assert "-n" in fails("build", model, "-n", "MyBadName")
    assert not (model / LOCK).exists()


@needs("root")
def test_without_a_network_the_index_is_named_not_the_model(model):
    (model / LOCK).unlink()
    loopback = ["unshare", "--net", "sh", "-ec", 'ip link set lo up; exec "$@"', "sh"]
    message = fails("lock", model, before=loopback)
    assert "can't be read" in message or "no connection" in message
    assert "check the network" in message


@needs("root")
def test_without_loopback_what_is_missing_is_named(model):
    (model / LOCK).unlink()
    assert "ip link set lo up" in fails("lock", model, before=["unshare", "--net"])


def test_without_nix_the_way_to_it_is_named(model, tmp_path):
    tools = tmp_path / "bin"
    tools.mkdir()
    for tool in ("git", "npm", "sh"):
        if found := shutil.which(tool):
            (tools / tool).symlink_to(found)
    message = fails("build", model, env={"PATH": str(tools), "TUNGSTEN_NIX": "machine"})
    assert "Nix is not installed" in message
    assert "TUNGSTEN_NIX=own" in message
    assert "nix-bin" in message


def test_a_broken_model_file(model):
    (model / "tungsten_model.py").write_text("from tungstenkit import define_model\nx = 1 / 0\n")
    message = fails("build", model)
    assert "ZeroDivisionError" in message
    assert "tungsten_model.py" in message
