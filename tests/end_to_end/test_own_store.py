"""A whole build by an ordinary user of a machine without `/nix`: the store is the user's, and its paths are real."""

import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from tests.binaries import unpack
from tests.end_to_end.harness import SYSTEM, succeed
from tests.end_to_end.somebody import UID, Somebody
from tests.frozen.take import Quiet
from tungstenkit.debian.deb import open_files
from tungstenkit.debian.release import RELEASES
from tungstenkit.fetch.download import download
from tungstenkit.fetch.needs import LockedFile
from tungstenkit.fetch.web import Fetcher
from tungstenkit.nix_build.engine import load_image
from tungstenkit.nix_build.image import read_layout
from tungstenkit.platforms import Target
from tungstenkit.resolve.solver import Solver


@pytest.fixture
def somebody():
    """A user of a machine without `/nix`."""
    made = Path(tempfile.mkdtemp(prefix="tungsten-"))
    made.chmod(0o755)
    yield Somebody(made / "user", has_store=False)
    # A store's folders can't be written by their owner.
    subprocess.run(["chmod", "-R", "u+w", made], check=True)
    shutil.rmtree(made)


LOADER = """#!/bin/sh
exec {root}/usr/lib64/ld-linux-x86-64.so.2 --inhibit-cache --argv0 "${{0##*/}}" \\
  --library-path {root}/usr/lib/x86_64-linux-gnu {root}/usr/bin/nix \\
  --option build-hook '' --option sandbox-paths '' "$@"
"""


@pytest.fixture
def newer_nix(upstream, somebody):
    """Debian 13's Nix, which would make a store in `~/.local/share/nix/root`: a folder for PATH with its programs."""
    release, root = "trixie", somebody.folder / "root"
    with tempfile.TemporaryDirectory() as scratch:
        solver = Solver(upstream, Fetcher(), print, print, Path(scratch), Path(scratch))
        solution = solver.debs(
            Target(SYSTEM, release, RELEASES[release].python), {"system": ["nix-bin"]}, "nix", ()
        )
        timestamps = solver.releases[release].timestamps
        for deb in solution.debs:
            entry = LockedFile(deb.file, deb.size, deb.sha256, release=release)
            path = download(entry, upstream.urls(deb.file, timestamps), Path(scratch), Quiet())
            with path.open("rb") as file, open_files(file, deb.name) as tar:
                unpack(tar, root)
    programs = somebody.folder / "bin"
    programs.mkdir()
    (programs / "nix").write_text(LOADER.format(root=root))
    (programs / "nix").chmod(0o755)
    (programs / "nix-store").symlink_to("nix")
    return programs


@pytest.mark.parametrize(
    "nix", [None, pytest.param("newer_nix", marks=[pytest.mark.upstream, pytest.mark.soak])]
)
def test_a_user_without_a_nix_folder_builds_the_same_image(blur, copy_of, somebody, nix, request):
    path = f"{request.getfixturevalue(nix)}:{os.environ['PATH']}" if nix else os.environ["PATH"]
    model = somebody.home / "blur"
    shutil.copytree(copy_of("blur"), model)
    somebody.own(somebody.folder)
    answer = json.loads(
        succeed("build", model, "--json", "--no-load", before=somebody.before, env={"PATH": path})
    )
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
