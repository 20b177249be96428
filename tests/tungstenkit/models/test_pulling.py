"""Images out of a registry, by skopeo, under the digests that they have there."""

import json
import subprocess
import tarfile

import pytest

from tests.machine import needs
from tests.registry import registry as running
from tests.tungstenkit.nix_build.test_index import images
from tungstenkit import models
from tungstenkit.models import pulling
from tungstenkit.nix_build.image import read_layout
from tungstenkit.nix_build.index import make_index
from tungstenkit.nix_build.push import push_image
from tungstenkit.registry.artifact import Artifact, Layer
from tungstenkit.registry.place import place
from tungstenkit.sdk.errors import TungstenError
from tungstenkit.watch import Unwatched

__all__ = ["images"]

pytestmark = needs("skopeo")
PLAIN = ["--dest-tls-verify=false"]


@pytest.fixture(autouse=True)
def _here(monkeypatch):
    monkeypatch.setattr(pulling, "this_system", lambda: "x86_64-linux")


@pytest.fixture
def pushed(images, tmp_path):
    """A registry with an index, and with one of its images; what was pushed."""
    index = make_index(images, tmp_path / "index")
    with running() as registry:
        push_image(index, f"{registry.host}/team/blur:1", PLAIN)
        push_image(images["aarch64-linux"], f"{registry.host}/team/blur:arm", PLAIN)
        yield registry, index


def test_an_image_of_an_index_is_written_as_a_layout_under_its_digest(pushed, tmp_path):
    registry, index = pushed
    reference = f"{registry.host}/team/blur:1"
    for platform, wanted in ((None, "x86_64-linux"), ("aarch64-linux", "aarch64-linux")):
        folder = tmp_path / wanted
        pulled = models.pull(reference, platform=platform, folder=str(folder))
        assert pulled == models.Pulled(
            reference, index.images[wanted].digest, wanted, index.images[wanted].size, folder
        )
        assert read_layout(folder).digest == index.images[wanted].digest
        assert not any(path.is_symlink() for path in folder.rglob("*"))
        (entry,) = json.loads((folder / "index.json").read_text())["manifests"]
        assert entry["annotations"]["io.containerd.image.name"] == reference
        assert entry["platform"]["architecture"] == {"x86_64-linux": "amd64"}.get(wanted, "arm64")


def test_how_much_there_is_and_has_come_is_told(pushed, tmp_path):
    registry, index = pushed
    image = index.images["x86_64-linux"]
    told, sizes = [], []

    class Bar(Unwatched):
        def start(self, files, size):
            told.append((files, size))

        def advance(self, size):
            sizes.append(size)

        def done(self, name):
            told.append(name)

    models.pull(f"{registry.host}/team/blur:1", folder=tmp_path / "it", watch=Bar())
    (files, size), *names = told
    blobs = {path.name[:12]: path.stat().st_size for path in (tmp_path / "it" / "blobs" / "sha256").iterdir()}
    del blobs[image.digest.removeprefix("sha256:")[:12]]
    assert (files, size) == (len(blobs), sum(blobs.values()))
    assert sorted(names) == sorted(blobs)
    assert sum(sizes) >= size


def test_an_index_of_a_digest_is_that_one(pushed, tmp_path):
    registry, index = pushed
    registry.manifests["team/blur", "1"] = registry.manifests["team/blur", "arm"]
    pulled = models.pull(f"{registry.host}/team/blur:1@{index.digest}", folder=tmp_path / "it")
    assert pulled.digest == index.images["x86_64-linux"].digest


def test_the_only_image_is_taken_and_another_platform_is_refused(pushed, tmp_path):
    registry, index = pushed
    reference = f"{registry.host}/team/blur:arm"
    pulled = models.pull(reference, folder=tmp_path / "it")
    assert (pulled.platform, pulled.digest) == ("aarch64-linux", index.images["aarch64-linux"].digest)
    with pytest.raises(TungstenError, match="the image is for aarch64-linux, and for x86_64-linux"):
        models.pull(reference, platform="x86_64-linux", folder=tmp_path / "other")
    with pytest.raises(TungstenError) as caught:
        models.pull(f"{registry.host}/team/blur:1", platform="riscv64-linux", folder=tmp_path / "other")
    assert (
        caught.value.what == "there is no image for riscv64-linux here, but for aarch64-linux, x86_64-linux"
    )
    assert "--platform aarch64-linux" in caught.value.hint


def test_an_archive_is_for_docker_load_and_podman_load(pushed, tmp_path):
    registry, index = pushed
    reference = f"{registry.host}/team/blur:1"
    models.pull(reference, archive=str(tmp_path / "image.tar"))
    with tarfile.open(tmp_path / "image.tar") as archive:
        (saved,) = json.load(archive.extractfile("manifest.json"))
        assert saved["RepoTags"] == [reference]
        assert {saved["Config"], *saved["Layers"]} <= set(archive.getnames())
    command = ["skopeo", "inspect", "--format={{.Digest}}", f"oci-archive:{tmp_path}/image.tar"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == index.images["x86_64-linux"].digest


def test_the_engine_calls_it_as_the_registry_does(pushed, tmp_path, monkeypatch):
    registry, index = pushed
    loaded = []
    monkeypatch.setattr(pulling, "find_engine", lambda: "podman")
    monkeypatch.setattr(
        pulling, "load_image", lambda image, engine, name: loaded.append((image.digest, name))
    )
    digest, name = index.images["x86_64-linux"].digest, f"{registry.host}/team/blur"
    assert models.pull(f"{name}:1").reference == f"{name}:1"
    # Without a tag its name says which it is.
    assert models.pull(f"{name}@{index.digest}").reference == f"{name}:{index.digest[7:19]}"
    assert loaded == [(digest, f"{name}:1"), (digest, f"{name}:{index.digest[7:19]}")]


def test_names_without_a_registry_are_of_the_hubs():
    assert pulling._name("blur") == ("docker.io/library/blur", "latest")
    assert pulling._name("team/blur:2") == ("docker.io/team/blur", "2")


def test_what_can_not_be_done_is_told_before_anything_is_asked(tmp_path, monkeypatch):
    monkeypatch.setattr(pulling, "find_engine", lambda: None)
    monkeypatch.setattr(pulling.skopeo, "manifest", None)
    (tmp_path / "full" / "x").mkdir(parents=True)
    for options, what in (
        ({}, "there is no podman, nor docker"),
        ({"folder": tmp_path / "full"}, "there is something here already"),
        ({"folder": tmp_path / "no" / "x"}, "no such folder"),
        ({"archive": tmp_path / "full"}, "no file that could be replaced"),
    ):
        with pytest.raises(TungstenError, match=what):
            models.pull("127.0.0.1:1/blur", **options)
    with pytest.raises(TungstenError, match="is no reference"):
        models.pull("--authfile=x", folder=tmp_path / "it")


def test_what_the_registry_has_not_is_told_and_nothing_is_left(pushed, tmp_path):
    registry, _ = pushed
    with pytest.raises(TungstenError, match="the image can't be read"):
        models.pull(f"{registry.host}/team/other", folder=tmp_path / "it")
    registry.damaged.add(json.loads(registry.manifests["team/blur", "arm"][1])["layers"][0]["digest"])
    with pytest.raises(TungstenError, match="the image can't be read"):
        models.pull(f"{registry.host}/team/blur:arm", folder=tmp_path / "it")
    assert not [path for path in tmp_path.iterdir() if "it" in path.name]


@pytest.mark.parametrize(
    ("manifests", "what"),
    [
        (3, "but for no platform"),
        ([3, {}, {"platform": 4}], "but for no platform"),
        ([{"platform": {"architecture": "amd64", "os": "linux"}, "digest": "--x"}], "but for no platform"),
        (
            [{"platform": {"architecture": "`x`", "os": "linux"}, "digest": f"sha256:{'0' * 64}"}] * 2
            + [{"platform": {"architecture": "s390x", "os": "linux"}, "digest": f"sha256:{'1' * 64}"}],
            "but for linux/`x`, linux/s390x",
        ),
    ],
)
def test_an_index_may_say_anything(manifests, what, tmp_path):
    with running() as registry:
        media_type = "application/vnd.oci.image.index.v1+json"
        index = {"schemaVersion": 2, "mediaType": media_type, "manifests": manifests}
        registry.put("blur", json.dumps(index).encode(), "1", media_type)
        with pytest.raises(TungstenError, match=what) as caught:
            models.pull(f"{registry.host}/blur:1", folder=tmp_path / "it")
        assert caught.value.hint is None


def test_what_is_no_image_is_not_pulled(tmp_path):
    with running() as registry:
        where = place(f"{registry.host}/blur:1")
        found = where.attach(Artifact("application/vnd.example", [Layer(b"text")]))
        where.put_manifest(where.manifest(found.digest), tag="1")
        with pytest.raises(TungstenError, match="this is no image"):
            models.pull(f"{registry.host}/blur:1", folder=tmp_path / "it")


def test_a_manifest_of_dockers_is_refused_with_what_takes_it(images, tmp_path):
    with running() as registry:
        push_image(images["x86_64-linux"], f"{registry.host}/blur:1", PLAIN)
        _, content = registry.manifests["blur", "1"]
        docker = "application/vnd.docker.distribution.manifest.v2+json"
        manifest = {**json.loads(content), "mediaType": docker}
        registry.put("blur", json.dumps(manifest).encode(), "2", docker)
        with pytest.raises(TungstenError, match="docker has written this manifest") as caught:
            models.pull(f"{registry.host}/blur:2", folder=tmp_path / "it")
        assert f"`podman pull {registry.host}/blur:2`" in caught.value.hint
