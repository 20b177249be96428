"""Folders with images as builds leave them, without a build: a store, its roots, an engine that is none."""

import hashlib
import json
import os
from pathlib import Path

import pytest

from tests.tungstenkit.models.engine import Engine
from tungstenkit import disk, nix_program, roots

SYSTEM = "x86_64-linux"


class Machine:
    """A user's own store, and folders that hold something in it."""

    def __init__(self, folder):
        self.folder = folder
        nix = nix_program.folder_of_nix()
        for path in nix_program.store_variables(nix).values():
            Path(path).mkdir(parents=True, exist_ok=True)
        self.store = next(store for store in roots.stores() if store.is_own)
        self.auto = self.store.state / "gcroots" / "auto"
        self.auto.mkdir(parents=True)

    def root(self, link, target):
        """A link that Nix has registered."""
        link.parent.mkdir(parents=True, exist_ok=True)
        if target is not None:
            link.symlink_to(target)
        name = hashlib.sha1(os.fsencode(link)).hexdigest()[:32]
        (self.auto / name).symlink_to(link)
        return link

    def layout(self, title, layers=("numpy 2.5.5", "the model's files")):
        """An image in the store."""
        blobs = {}

        def blob(value):
            content = json.dumps(value).encode()
            digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
            blobs[digest] = content
            return {"digest": digest, "size": len(content)}

        config = {
            "config": {"Labels": {"org.opencontainers.image.title": title}},
            "history": [{"created_by": made} for made in layers] + [{"empty_layer": True}],
        }
        manifest = {"config": blob(config), "layers": [blob(made) for made in layers]}
        index = {"manifests": [blob(manifest)]}
        # Nix's digits have no `e`.
        name = hashlib.sha256(title.encode()).hexdigest()[:32].replace("e", "z")
        place = self.store.place / f"{name}-layout"
        if not place.exists():
            (place / "blobs" / "sha256").mkdir(parents=True)
            (place / "index.json").write_text(json.dumps(index))
            for digest, content in blobs.items():
                (place / "blobs" / "sha256" / digest.removeprefix("sha256:")).write_bytes(content)
        return place

    def model(self, name, title=None, system=SYSTEM):
        """A folder whose image was built."""
        folder = self.folder / name
        state = folder / ".tungsten"
        self.root(state / f"image-{system}", self.layout(title or name))
        (folder / "tungsten_model.py").write_text("raise SystemExit('nobody reads it')\n")
        (state / "busy").touch()
        (state / "export").mkdir(exist_ok=True)
        (state / "export" / "big").write_bytes(b"x" * 10_000)
        for place in (folder, state / "export"):
            (place / "tungsten.lock").write_text("{}\n")
        return folder


@pytest.fixture
def machine(tmp_path, monkeypatch):
    monkeypatch.setenv("TUNGSTEN_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    yield Machine(tmp_path / "models")
    disk.erase(tmp_path / "home")


@pytest.fixture
def alone(machine, monkeypatch):
    """The same, where no other store is looked at."""
    monkeypatch.setattr(roots, "stores", lambda: [machine.store])
    return machine


@pytest.fixture
def engine(tmp_path, monkeypatch):
    """A podman of a few lines, with images and containers that a test puts there."""
    made = Engine(Path(tmp_path / "engine"))
    monkeypatch.setenv("PATH", str(made.folder), prepend=os.pathsep)
    monkeypatch.setenv("TUNGSTEN_ENGINE", "podman")
    return made
