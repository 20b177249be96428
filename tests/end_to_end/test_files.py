"""Declared downloads and big files in real images: where they are, whose they are, and what happens when they are not
there or are others."""

import gzip
import json
import os
import re
import secrets
import shlex
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

from tests import hub as hubs
from tests.end_to_end.harness import (
    ENGINE,
    SYSTEM,
    build,
    container_arguments,
    nix,
    nix_line,
    remove_images,
    succeed,
    tungsten,
)
from tests.end_to_end.test_reproducible import remade
from tests.hub import Repository, sha256
from tests.machine import needs
from tungstenkit import store

MODEL = """
from tungstenkit import BaseIO, Download, HuggingFace, define_model

class Input(BaseIO):
    number: int

class Output(BaseIO):
    number: int

@define_model(
    input=Input,
    output=Output,
    python_packages=["huggingface_hub"],
    files=[
        Download("{url}/files/run.sh", to="bin/", executable=True),
        Download("{url}/files/w.bin", "{sha256}", to="weights/w.bin"),
        HuggingFace("org/name"),
        HuggingFace("org/name", revision="v1", to="tokenizer", include=["*.json"]),
        HuggingFace("org/gated", to="gated"),
    ],
)
class Model:
    def predict(self, inputs):
        return [Output(number=one.number) for one in inputs]
"""
# Not offline by a setting, but because there is no network: what is asked of the image is the layout.
READ = """
import os
os.environ.pop("HF_HUB_OFFLINE")
from huggingface_hub import hf_hub_download, snapshot_download
folder = snapshot_download("org/name", local_files_only=True)
print(sorted(os.listdir(folder)))
print(open(hf_hub_download("org/name", "onnx/model.bin"), "rb").read(3))
print(open(hf_hub_download("org/name", "config.json", revision="main")).read())
"""
COMMIT = "c" * 40
BIG = 9_000_000


@pytest.fixture(scope="module")
def hub():
    with hubs.running() as running:
        files = {"config.json": b"{}", "README.md": b"read me", "onnx/model.bin": secrets.token_bytes(5000)}
        running.repositories["org/name"] = Repository({COMMIT: files}, {"main": COMMIT, "v1": COMMIT})
        secret = {"model.bin": secrets.token_bytes(100), "config.json": secrets.token_bytes(10)}
        running.repositories["org/gated"] = Repository({COMMIT: secret}, {"main": COMMIT}, gated=True)
        running.files = {"run.sh": b"#!/bin/sh\\n", "w.bin": secrets.token_bytes(1000)}
        yield running


@pytest.fixture(scope="module")
def model(hub, tmp_path_factory):
    """Locked."""
    folder = tmp_path_factory.mktemp("model") / "files"
    folder.mkdir()
    text = MODEL.replace("{url}", hub.url).replace("{sha256}", sha256(hub.files["w.bin"]))
    (folder / "tungsten_model.py").write_text(text)
    succeed("lock", folder, env=with_token(hub))
    return folder


def with_token(hub):
    return {"HF_ENDPOINT": hub.url, "HF_TOKEN": hubs.TOKEN}


@pytest.fixture(scope="module")
def image(hub, model):
    image = build(model, "--name", f"files-{secrets.token_hex(4)}", env=with_token(hub))
    yield image
    remove_images(image.reference)


def members(image):
    """What a container shows, by path."""
    found = {}
    for digest in image.layers:
        with gzip.open(image.blob(digest)) as stream, tarfile.open(fileobj=stream, mode="r|") as layer:
            found |= {member.name: member for member in layer}
    return found


def test_files_are_where_they_shall_be_and_are_the_users(hub, image):
    found = members(image)
    cache = "home/nonroot/.cache/huggingface/hub/models--org--name"
    expected = {
        "app/bin/run.sh": 0o775,
        "app/weights/w.bin": 0o664,
        "app/tokenizer/config.json": 0o664,
        "app/gated/model.bin": 0o664,
        f"{cache}/snapshots/{COMMIT}/onnx/model.bin": 0o664,
        f"{cache}/refs/main": 0o664,
        "app/weights": 0o775,
        f"{cache}/refs": 0o775,
        "home/nonroot/.cache": 0o775,
    }
    assert {path: found[path].mode for path in expected} == expected
    assert {(found[path].uid, found[path].gid) for path in expected} == {(65532, 0)}
    assert "app/tokenizer/README.md" not in found
    assert found["app/weights/w.bin"].size == 1000


def test_nothing_that_was_downloaded_lies_about(model, image):
    """What locking had to read is in the store, as what the fetch brought is."""
    assert list((model / ".tungsten" / "downloads").iterdir()) == []


@needs(*ENGINE)
def test_the_hubs_own_library_finds_them_without_a_network(image):
    arguments = [argument for argument in container_arguments() if "network" not in argument]
    command = ["podman", "run", "--rm", *arguments, "--network=none", "--entrypoint=python3"]
    done = subprocess.run([*command, image.image_id, "-c", READ], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    listing, _, config = done.stdout.splitlines()
    assert listing == "['README.md', 'config.json', 'onnx']"
    assert config == "{}"
    assert "HF_HUB_OFFLINE=1" in image.config["config"]["Env"]


def test_no_token_and_no_use_of_one_is_written_down(hub, model, image, tmp_path):
    """What only a token opens gets no URL in an export; what is open does."""
    succeed("nix-export", model, "-o", tmp_path / "out", env=with_token(hub))
    sources = json.loads((tmp_path / "out" / "sources.json").read_text())
    secret = hub.repositories["org/gated"].commits[COMMIT]
    assert not {sha256(data) for data in secret.values()} & sources.keys()
    assert sha256(hub.files["w.bin"]) in sources
    for folder in (model, tmp_path / "out"):
        for path in folder.rglob("*"):
            assert not path.is_file() or hubs.TOKEN.encode() not in path.read_bytes()


def test_a_branch_stays_where_it_was_until_it_may_move(hub, model, tmp_path):
    """Over a lock that is not sealed, too."""
    moving = tmp_path / "moving"
    shutil.copytree(model, moving, ignore=shutil.ignore_patterns(".tungsten"))
    repository = hub.repositories["org/name"]
    repository.commits["d" * 40] = {**repository.commits[COMMIT], "new.json": b"[]"}
    repository.refs["main"] = "d" * 40

    def commits():
        files = json.loads((moving / "tungsten.lock").read_text())["files"]
        return {
            one["revision"]: one["commit"] for one in files["repositories"] if "name" in one["repository"]
        }

    succeed("lock", moving, "--resolve-only", env=with_token(hub))
    succeed("lock", moving, env=with_token(hub))
    assert commits() == {"main": COMMIT, "v1": COMMIT}
    shown = json.loads(succeed("lock", moving, "--diff", "--json", "-P", "org/name", env=with_token(hub)))
    (change,) = shown["changes"]
    assert (change["name"], change["before"], change["after"]) == ("org/name", COMMIT[:12], "d" * 12)
    assert commits() == {"main": COMMIT, "v1": COMMIT}
    repository.refs["main"] = COMMIT


def test_a_changed_byte_on_the_server_is_told(hub, model, tmp_path):
    """And the place in the model where the user says otherwise."""
    changed = tmp_path / "changed"
    shutil.copytree(model, changed, ignore=shutil.ignore_patterns(".tungsten"))
    expected = secrets.token_bytes(1000)
    hub.files["w.bin"], old = bytes([expected[0] ^ 1]) + expected[1:], hub.files["w.bin"]
    source = changed / "tungsten_model.py"
    source.write_text(source.read_text().replace(sha256(old), sha256(expected)))
    succeed("lock", changed, env=with_token(hub))
    done = tungsten("build", changed, "--no-load", env=with_token(hub))
    assert done.returncode == 1
    assert "error: w.bin is not the locked file" in done.stderr
    assert sha256(expected) in done.stderr
    assert "files=[Download(" in done.stderr


@pytest.fixture(scope="module")
def heavy(tmp_path_factory, copy_of):
    """examples/blur with a big file, and a link to it."""
    folder = copy_of("blur")
    (folder / "weights").mkdir()
    (folder / "weights" / "big ~1.bin").write_bytes(os.urandom(BIG))
    (folder / "latest.bin").symlink_to("weights/big ~1.bin")
    return folder


@pytest.fixture(scope="module")
def heavy_image(heavy):
    return build(heavy, "--no-load")


def test_a_big_file_is_in_the_image_and_not_in_the_export(heavy, heavy_image):
    found = members(heavy_image)
    big = found["app/weights/big ~1.bin"]
    assert (big.size, big.mode, big.uid, big.gid) == (BIG, 0o664, 65532, 0)
    assert found["app/latest.bin"].linkname == "weights/big ~1.bin"
    export = heavy / ".tungsten" / "export"
    assert not (export / "model" / "weights").exists()
    assert (export / "model" / "latest.bin").is_symlink()
    (named,) = json.loads((export / "files.json").read_text())
    assert (named["path"], named["size"]) == ("weights/big ~1.bin", BIG)


def test_an_edit_beside_a_big_file_remakes_the_codes_layer_alone(heavy, heavy_image):
    source = heavy / "tungsten_model.py"
    source.write_text(source.read_text() + "# an edit\n")
    edited = build(heavy, "--no-load")
    assert remade(heavy_image, edited) == {"layer-model", "import-check", "blur-layout"}


def test_a_big_file_is_held_while_it_is_the_models(heavy, heavy_image):
    """And let go afterwards."""
    big = heavy / "weights" / "big ~1.bin"
    path = store.file_path(sha256(big.read_bytes()), "big__1.bin")
    held = {link.resolve().as_posix() for link in (heavy / ".tungsten" / "roots").iterdir()}
    assert path in held
    content = big.read_bytes()
    big.write_bytes(content[:-1])
    succeed("fetch", heavy)
    held = {link.resolve().as_posix() for link in (heavy / ".tungsten" / "roots").iterdir()}
    assert path not in held
    big.write_bytes(content)


def test_without_the_big_file_nix_alone_says_what_to_do(heavy, heavy_image, empty_store, tmp_path):
    out = tmp_path / "out"
    notice = tungsten("nix-export", heavy, "-o", out).stderr
    assert "tungsten fetch --to FOLDER" in notice
    sources = out / "sources.json"
    sources.write_text("{}")
    command = nix_line("nix", "build", "path:.#model-image", "--no-link", "--keep-going")
    done = subprocess.run([*empty_store, *command], cwd=out, capture_output=True, text=True)
    assert done.returncode != 0
    assert "a-big-file-of-the-model-is-not-in-the-nix-store/big__1.bin" in done.stderr


def test_what_is_carried_builds_the_same_elsewhere_from_nothing(heavy, heavy_image, empty_store, tmp_path):
    """Without a network, in an empty store, at a path with letters that URLs and shells treat in their own ways."""
    carried = tmp_path / "carried"
    succeed("fetch", heavy, "--platform", SYSTEM, "--to", carried)
    here = build(heavy, "--no-load")
    there = tmp_path / "My Modèle #1 100%" / "blur"
    shutil.copytree(heavy, there, symlinks=True, ignore=shutil.ignore_patterns(".tungsten"))
    alone = ["unshare", "--net", *empty_store]
    succeed("fetch", there, "--platform", SYSTEM, "--from", carried, before=alone)
    assert build(there, "--no-load", before=alone).digest == here.digest


def test_what_is_carried_is_all_that_nix_alone_needs(heavy, empty_store, tmp_path):
    """By the command that `tungsten fetch --to` prints, and an export that knows no URL: nothing that is to be built
    there is a file that its hash names, and the steps are those of the build here.
    """
    carried, out = tmp_path / "carried", tmp_path / "out"
    printed = tungsten("fetch", heavy, "--platform", SYSTEM, "--to", carried).stderr
    take = printed.splitlines()[-1].partition(": ")[2]
    succeed("nix-export", heavy, "-o", out)
    (out / "sources.json").write_text("{}")
    image = f"path:{out}#model-image-dir"
    steps = json.loads(nix("nix", "show-derivation", "--recursive", image))
    make = shlex.join(nix_line("nix", "build", image, "--dry-run"))
    done = subprocess.run(
        ["unshare", "--net", *empty_store, "sh", "-euc", f"{take} && {make}"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    made = {path: steps[path]["outputs"]["out"] for path in re.findall(r"/nix/store/\S+\.drv", done.stderr)}
    assert [path for path, output in made.items() if "hash" in output] == []
    # What holds the image here is a layout of its own, of the same layers.
    assert len([path for path in made if path.endswith("-blur-layout.drv")]) == 1
    layout = str(build(heavy, "--no-load").layout)
    layers = {*nix("nix-store", "--query", "--references", layout).split()} - {layout}
    assert layers
    assert layers <= {output["path"] for output in made.values()}


TREE = """
{ folder }:
let
  nix = import (folder + "/nix");
  lock = nix.documents.lock (folder + "/tungsten.lock");
  fetch = nix.scope.bind { sources = { }; } nix.fetch;
  system = "SYSTEM";
in
(nix.scope.bind { inherit fetch; } nix.files).tree {
  inherit system;
  busybox = nix.scope.bind { inherit fetch system; tools = lock.tools.${system}; } nix.bootstrap;
  model = builtins.path { name = "model"; path = folder + "/model"; };
  files = nix.documents.files (folder + "/files.json");
}
"""


def test_build_steps_can_have_the_model_with_its_big_files(heavy, heavy_image, tmp_path):
    expression = tmp_path / "tree.nix"
    expression.write_text(TREE.replace("SYSTEM", SYSTEM))
    (heavy / "weights" / "run it's").write_bytes(b"#!/bin/sh\n" + bytes(BIG))
    (heavy / "weights" / "run it's").chmod(0o755)
    succeed("nix-export", heavy, "-o", tmp_path / "out")
    folder = nix("nix-build", expression, "--arg", "folder", tmp_path / "out", "--no-out-link").strip()
    names = {"weights/big ~1.bin", "latest.bin", "weights/run it's", "tungsten_model.py"}
    for name in names:
        assert (Path(folder) / name).read_bytes() == (heavy / name).read_bytes()
    assert (Path(folder) / "latest.bin").is_symlink()
    assert (Path(folder) / "weights" / "run it's").stat().st_mode & 0o111
    assert not (Path(folder) / "weights" / "big ~1.bin").stat().st_mode & 0o111
    (heavy / "weights" / "run it's").unlink()


def test_a_folder_that_lacks_something_says_so(heavy, heavy_image, empty_store, tmp_path):
    carried = tmp_path / "carried"
    succeed("fetch", heavy, "--to", carried)
    blobs = sorted((carried / "blobs" / "sha256").iterdir(), key=lambda blob: blob.stat().st_size)
    for blob in blobs[-3:]:
        blob.unlink()
    done = tungsten("fetch", heavy, "--from", carried, before=empty_store)
    assert done.returncode == 1
    assert "of the files that the lock names are not there" in done.stderr
