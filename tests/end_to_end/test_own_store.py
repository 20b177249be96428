"""Whole builds by an ordinary user of a machine without `/nix`: the store is the user's, and its paths are real. Where
there is no Nix either, tungsten brings its own.
"""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.end_to_end.harness import succeed, tungsten
from tests.end_to_end.somebody import UID, path_without
from tests.machine import needs
from tungstenkit.fetch.own_nix import RECORD
from tungstenkit.nix_build.engine import load_image
from tungstenkit.nix_build.image import read_layout

pytestmark = needs("root")  # which becomes other users


@pytest.fixture
def model(copy_of, somebody):
    """examples/blur with its lock, theirs."""
    copy = shutil.copytree(copy_of("blur"), somebody.home / "blur")
    somebody.own(somebody.folder)
    return copy


def build(model, somebody, *arguments, **environment):
    return json.loads(
        succeed("build", model, "--json", "--no-load", *arguments, before=somebody.before, env=environment)
    )


def test_a_user_without_a_nix_folder_builds_the_same_image(blur, model, somebody):
    somebody.environment["USER"] = ""  # as in a container: there is no account, and nothing that names them
    answer = build(model, somebody)
    assert answer["digest"] == blur.digest
    store = somebody.home / ".local" / "share" / "tungsten" / "nix" / "store"
    assert Path(answer["layout"]).parent == store
    assert store.stat().st_uid == UID
    # podman calls what it pulls by the path, and no image may be called `.local`.
    name = f"localhost/own-store-{os.getpid()}:latest"
    load_image(read_layout(Path(answer["layout"])), "podman", name)
    listed = subprocess.run(
        ["podman", "images", "--format", "{{.Repository}}"], capture_output=True, text=True
    )
    subprocess.run(["podman", "rmi", name], check=True, capture_output=True)
    assert name.removesuffix(":latest") in listed.stdout.split()
    assert not [one for one in listed.stdout.split() if one.endswith("-blur-layout")]


def test_a_user_without_a_nix_gets_one_and_builds_the_same_image(blur, model, somebody, frozen):
    """From an empty data folder, without root, and without a Nix anywhere: Debian 13's, by its own loader."""
    keys = shutil.copytree(frozen.keys, somebody.folder / "keys")
    environment = {
        "PATH": str(path_without(somebody.folder / "path", "nix")),
        "TUNGSTEN_TESTS_KEYS": str(keys),
        "TUNGSTEN_HOME": str(somebody.home / "tungsten"),
    }
    somebody.own(keys)
    answer = build(model, somebody, **environment)
    assert answer["digest"] == blur.digest
    home = somebody.home / "tungsten" / "nix"
    assert Path(answer["layout"]).parent == home / "store"
    (own,) = (path for path in (home / "own").iterdir() if path.is_dir())
    taken = json.loads((own / RECORD).read_text())
    (nix,) = (deb for deb in taken["debs"] if deb["name"] == "nix-bin")
    version = subprocess.run(
        [own / "bin" / "nix", "--version"], capture_output=True, text=True, check=True
    ).stdout
    assert version.split()[-1] == nix["version"].partition("+")[0]
    # What it printed for a shell works in one that knows nothing of it.
    exported = tungsten(
        "nix-export", model, "-o", somebody.home / "out", before=somebody.before, env=environment
    )
    assert exported.returncode == 0, exported.stderr
    (line,) = (one for one in exported.stderr.splitlines() if one.startswith("cd "))
    subprocess.run(
        [*somebody.before, "sh", "-c", f"{line} --dry-run"], env={"PATH": environment["PATH"]}, check=True
    )
    # The folder goes, and with it what alone has held the image.
    shutil.rmtree(model / ".tungsten")
    said = succeed("clean", "--yes", before=somebody.before, env=environment)
    assert not Path(answer["layout"]).exists()
    assert "removed what no model holds in your own Nix store, " in said
    assert own.exists()
    succeed("clean", "--nix", "--yes", before=somebody.before, env=environment)
    assert not home.exists()
