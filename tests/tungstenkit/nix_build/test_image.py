"""An image's layout into a description, and what may not have happened to it."""

import json

import pytest

from tests.tungstenkit.observers import View
from tungstenkit import store
from tungstenkit.nix_build import image
from tungstenkit.nix_build.image import build_image, read_layout
from tungstenkit.sdk.errors import BuildError


def test_a_layout_is_described_from_its_own_documents(tmp_path):
    blobs = tmp_path / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    manifest = {"config": {"digest": "sha256:cc", "size": 10}, "layers": [{"size": 100}, {"size": 1000}]}
    (blobs / "aa").write_text(json.dumps(manifest))
    (tmp_path / "index.json").write_text(json.dumps({"manifests": [{"digest": "sha256:aa", "size": 1}]}))
    image = read_layout(tmp_path)
    assert (image.digest, image.image_id, image.size) == ("sha256:aa", "sha256:cc", 1111)


def test_an_image_of_a_store_that_was_changed_is_refused(monkeypatch, tmp_path):
    monkeypatch.setattr(image, "_nix_build", lambda *arguments: None)
    monkeypatch.setattr(store, "is_ours", lambda: True)
    monkeypatch.setattr(store, "built_from", lambda path: [path, "/nix/store/x-root"])
    monkeypatch.setattr(store, "changed", lambda paths, _since: paths[1:])
    with pytest.raises(BuildError, match="was changed in the Nix store") as caught:
        build_image(tmp_path, "x86_64-linux", tmp_path / "link", View())
    assert caught.value.where == "/nix/store/x-root"
