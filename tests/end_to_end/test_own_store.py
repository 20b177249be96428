"""A whole build by an ordinary user of a machine without `/nix`: the store is the user's, and its paths are real."""

import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from tests.end_to_end.harness import succeed
from tests.end_to_end.test_sandbox import USER, as_user  # noqa: F401 (a fixture)
from tungstenkit import build as building


@pytest.fixture
def home():
    """A user's home, which others may enter."""
    made = Path(tempfile.mkdtemp(prefix="tungsten-"))
    made.chmod(0o755)
    yield made
    # A store's folders can't be written by their owner.
    subprocess.run(["chmod", "-R", "u+w", made], check=True)
    shutil.rmtree(made)


def test_a_user_without_a_nix_folder_builds_the_same_image(blur, copy_of, home, as_user):  # noqa: F811
    shutil.copytree(copy_of("blur"), home / "blur")
    subprocess.run(["chown", "-R", f"{USER}:{USER}", home], check=True)
    without = [
        "unshare",
        "--mount",
        "--propagation=private",
        "sh",
        "-ec",
        'mount -t tmpfs -o mode=755 tmpfs /nix; exec "$@"',
        "sh",
    ]
    env = {"HOME": str(home), "XDG_CACHE_HOME": str(home / "cache"), "USER": "somebody", "NIX_REMOTE": ""}
    answer = json.loads(
        succeed("build", home / "blur", "--json", "--no-load", before=[*without, *as_user], env=env)
    )
    assert answer["digest"] == blur.digest
    store = home / ".local" / "share" / "tungsten" / "nix" / "store"
    assert Path(answer["layout"]).parent == store
    assert store.stat().st_uid == USER
    # podman calls what it pulls by the path, and no image may be called `.local`.
    name = f"localhost/own-store-{os.getpid()}:latest"
    building.load(building.read_layout(Path(answer["layout"])), "podman", name)
    listed = subprocess.run(
        ["podman", "images", "--format", "{{.Repository}}"], capture_output=True, text=True
    )
    subprocess.run(["podman", "rmi", name], check=True, capture_output=True)
    assert name.removesuffix(":latest") in listed.stdout.split()
    assert not [one for one in listed.stdout.split() if one.endswith("-blur-layout")]
