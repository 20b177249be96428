"""What was built is listed, shown, named and removed as the real engine and the real store have it; what a kill leaves
is found.
"""

import json
import os
import secrets
import subprocess
import sys

import pytest

from tests.end_to_end.harness import ENGINE, SYSTEM, container_arguments, free_port, succeed, tungsten
from tests.machine import need
from tungstenkit.nix_build import loaded


@pytest.fixture
def named(blur):
    """A name of blur's image that is this test's own."""
    need(*ENGINE)
    name = f"localhost/kept-{secrets.token_hex(4)}:latest"
    assert succeed("tag", blur.directory, name) == f"{name}\n"
    yield name
    subprocess.run(["podman", "rmi", "--force", name], capture_output=True)


def test_an_image_is_listed_and_shown_by_its_folder_and_by_its_name(blur, named):
    listed = json.loads(succeed("models", "--json"))
    (mine,) = (one for one in listed if one["folder"] == str(blur.directory))
    assert (mine["digest"], mine["image-id"], mine["platform"]) == (blur.digest, blur.image_id, SYSTEM)
    assert mine["layout"] == str(blur.layout)
    assert named in mine["names"]
    by_folder, by_name = (
        json.loads(succeed("models", "inspect", what, "--json")) for what in (blur.directory, named)
    )
    (shown,) = by_folder
    assert by_name[0]["digest"] == shown["digest"] == blur.digest
    assert [layer["digest"] for layer in shown["layers"]] == blur.layers
    assert sum(layer["size"] for layer in shown["layers"]) < shown["size"] == mine["size"]
    packages = {one["name"]: one["version"] for layer in shown["layers"] for one in layer["packages"]}
    lock = json.loads((blur.directory / "tungsten.lock").read_text())["platforms"][SYSTEM]
    wanted = [(deb["name"], deb["version"]) for deb in lock["debs"]]
    wanted += [(wheel["project"], wheel["version"]) for wheel in lock["wheels"]]
    assert {name: packages.get(name) for name, _ in wanted} == dict(wanted)
    assert shown["labels"]["device"] == "cpu"
    assert shown["lock-is-the-exported"] is True
    assert blur.digest in succeed("models", "inspect", blur.directory)
    # What the engine alone has is told by the engine.
    image = loaded.image("podman", named)
    assert [sorted(layer.packages) for layer in image.layers()] == [
        [(one["name"], one["version"]) for one in layer["packages"]] for layer in shown["layers"]
    ]


def test_a_name_is_removed_and_the_image_stays_with_its_others(named, blur):
    other = named.replace("kept-", "kept-other-")
    succeed("tag", named, other)
    done = tungsten("models", "remove", other)
    assert done.returncode == 1
    assert "--yes" in done.stderr
    assert "removed" in succeed("models", "remove", other, "--yes")
    names = loaded.image("podman", named).names
    assert other not in names
    assert named in names


# As `serve` starts one, and another process that has a folder; until its input ends.
STARTS = """
import subprocess, sys
from tungstenkit.nix_build.loaded import label
from tungstenkit.started import scratch

with scratch():
    subprocess.run(["podman", "run", "--detach", "--rm", label(), *sys.argv[1:]], check=True)
    sys.stdin.read()
"""


def test_what_a_kill_leaves_is_found_and_removed(named, tmp_path):
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    command = [sys.executable, "-c", STARTS, *container_arguments(), named, "--port", str(free_port())]
    with subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        identity = process.stdout.readline().strip()

        def left():
            return [one for one in loaded.containers("podman") if one.container_id == identity]

        (container,) = left()
        assert container.is_running
        said = succeed("clean", "--containers", "--scratch", "--yes", env=environment)
        assert f"left: {container.name}: whoever has started it is there" in said
        assert len(list(tmp_path.iterdir())) == 1
        process.kill()
        process.wait()
        assert left()
        said = succeed("clean", "--containers", "--scratch", "--yes", env=environment)
        assert f"{container.name}, which still runs" in said
        assert left() == []
    assert list(tmp_path.iterdir()) == []
