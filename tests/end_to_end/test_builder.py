"""tungsten's own image: what is built in a container of it is what is built here."""

import contextlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import time

import pytest

from tests.conftest import MACHINES_OWN
from tests.end_to_end.harness import ENGINE, ROOT, checkout
from tests.end_to_end.somebody import UID
from tests.machine import need
from tungstenkit.nix_build.image import read_layout

LOADED = "localhost/tungsten:latest"
GRANTED = ["--security-opt", "seccomp=unconfined", "--security-opt", "systempaths=unconfined"]
"""What docs/guide.md says that an engine must grant."""


@pytest.fixture
def program():
    """`builder/build.py`, not run."""
    spec = importlib.util.spec_from_file_location("build", ROOT / "builder" / "build.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("statuses", "commands", "ends"),
    [
        ([0], ["fetch"], 0),
        ([1], ["fetch"], 1),
        ([3, 0, 0], ["fetch", "lock", "fetch"], 0),
        ([3, 2], ["fetch", "lock"], 2),
        ([3, 0, 3], ["fetch", "lock", "fetch"], 3),
    ],
)
def test_what_has_left_every_mirror_is_locked_again_once(program, monkeypatch, statuses, commands, ends):
    asked, left = [], list(statuses)
    monkeypatch.setattr(program, "tungsten", lambda *words: asked.append(words) or left.pop(0))
    status = 0
    try:
        program.fetch("aarch64-linux")
    except SystemExit as end:
        status = end.code
    assert status == ends
    assert [words[0] for words in asked] == commands
    assert {words[1:] for words in asked if words[0] == "fetch"} == {("--platform", "aarch64-linux")}


@pytest.fixture(scope="module")
def image(upstream, tmp_path_factory):
    """Our own image, of the committed lock where its files can be had, else of a new one; its name in podman."""
    need("root", *ENGINE)
    folder = checkout(tmp_path_factory.mktemp("builder"))
    command = [sys.executable, folder / "builder" / "build.py"]
    environment = {**MACHINES_OWN, "PYTHONPATH": str(folder), "TUNGSTEN_ENGINE": "podman"}
    had = subprocess.run(["podman", "image", "exists", LOADED]).returncode == 0
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    layout = read_layout((folder / "result-builder-1").resolve())
    assert layout.digest in done.stdout
    # Others of this machine may build one meanwhile, and its name is what was built last.
    name = f"localhost/tungsten-{os.getpid()}:latest"
    subprocess.run(["podman", "tag", layout.image_id.removeprefix("sha256:"), name], check=True)
    yield name
    subprocess.run(
        ["podman", "rmi", "--force", name, *([] if had else [LOADED])], capture_output=True, check=True
    )


def run(image, frozen, model, *arguments, granted=GRANTED, text=True):
    """tungsten in a container, as a user of nobody's account, with a volume of the model's own."""
    names = [name for name, value in frozen.environment.items() if name.startswith("TUNGSTEN_MIRROR")]
    command = [
        *("podman", "run", "--rm", "--runtime=runc", "--network=host"),
        *("--ulimit=nofile=1024:1024", "--ulimit=nproc=1000:1000"),
        *(f"--env={name}={frozen.environment[name]}" for name in names),
        *(f"--user={UID}:{UID}", f"--volume={model}:/model", f"--volume={model.parent}/tungsten:/tungsten"),
        *granted,
    ]
    return subprocess.run([*command, image, *arguments], capture_output=True, text=text)


@contextlib.contextmanager
def podmans_socket(path):
    """podman at a socket, as docker's daemon is; where it is, for who is in root's group."""
    with subprocess.Popen(["podman", "system", "service", "--time=0", f"unix://{path}"]) as service:
        try:
            deadline = time.monotonic() + 60
            while not path.exists():
                assert time.monotonic() < deadline
                time.sleep(0.1)
            path.chmod(0o660)
            yield path
        finally:
            service.terminate()


@pytest.mark.soak
@pytest.mark.upstream
def test_a_container_of_our_own_image_builds_the_same_image(image, frozen, blur, copy_of, folder):
    model = shutil.copytree(copy_of("blur"), folder / "model")
    (folder / "tungsten").mkdir()
    subprocess.run(["chown", "-R", f"{UID}:{UID}", model, folder / "tungsten"], check=True)

    # What an engine grants by itself is not enough, and what is missing is told.
    for few in ([], GRANTED[:2], GRANTED[2:]):
        refused = run(image, frozen, model, "build", granted=few)
        assert refused.returncode == 1
        assert "--security-opt seccomp=unconfined" in " ".join(refused.stderr.split())

    done = run(image, frozen, model, "build", "--json", "--archive", ".tungsten/blur.tar")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["digest"] == blur.digest
    assert answer["layout"].startswith("/tungsten/nix/store/")
    assert {path.stat(follow_symlinks=False).st_uid for path in (model, *model.rglob("*"))} == {UID}

    # A second one finds all of it, and its output may be the image alone.
    again = run(image, frozen, model, "build", "--archive", "-", text=False)
    assert again.returncode == 0, again.stderr
    assert again.stdout == (model / ".tungsten" / "blur.tar").read_bytes()
    assert blur.digest in again.stderr.decode()
    assert b"building" not in again.stderr
    listed = subprocess.run(
        ["skopeo", "inspect", "--raw", f"oci-archive:{model}/.tungsten/blur.tar"],
        capture_output=True,
        check=True,
    )
    assert json.loads(listed.stdout) == blur.manifest

    # Where the engine's socket is there, the image is loaded. podman's stands in for docker's.
    name = f"by-socket-{os.getpid()}"
    with podmans_socket(folder / "docker.sock") as socket:
        granted = [*GRANTED, f"--volume={socket}:/var/run/docker.sock", "--group-add=0"]
        loaded = run(image, frozen, model, "build", "--json", "--name", name, granted=granted)
    assert loaded.returncode == 0, loaded.stderr
    assert json.loads(loaded.stdout)["engine"] == "docker"
    inspect = ["podman", "image", "inspect", "--format", "{{.Id}}", name]
    found = subprocess.run(inspect, capture_output=True, text=True, check=True).stdout.strip()
    subprocess.run(["podman", "rmi", name], capture_output=True, check=True)
    assert f"sha256:{found}" == blur.image_id
