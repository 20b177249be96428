"""What a reference names, and when a registry is asked at all."""

import gzip
import hashlib
import io
import subprocess
import tarfile

import pytest

from tests.machine import need
from tungstenkit.resolve import base_image
from tungstenkit.resolve.base_image import BaseWish, read_base
from tungstenkit.resolve.rules import tool_programs
from tungstenkit.sdk.errors import FetchError, ResolveError

SYSTEM = "x86_64-linux"


def layer(path):
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        archive.addfile(tarfile.TarInfo(path))
    return data.getvalue()


def digest(data):
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


class Registry:
    """Answers as `registry` does, and counts what it is asked."""

    def __init__(self, folder):
        self.folder = folder
        self.manifests = {}
        self.configurations = {}
        self.asked = []

    def put(
        self,
        reference,
        path="etc/edition",
        media_type="application/vnd.oci.image.layer.v1.tar+gzip",
        count=1,
        pack=lambda data: gzip.compress(data, mtime=0),
        **config,
    ):
        data = layer(path)
        blob = pack(data)
        name = digest(reference.encode())
        (self.folder / f"layer-{digest(blob).removeprefix('sha256:')}").write_bytes(blob)
        content = {"layers": [{"mediaType": media_type, "digest": digest(blob), "size": len(blob)}] * count}
        bare = f"{reference.partition(':')[0]}@{name}"
        self.manifests[reference] = self.manifests[bare] = (name, content)
        self.configurations[bare] = {
            "architecture": "amd64",
            "os": "linux",
            "config": config,
            "rootfs": {"diff_ids": [digest(data)] * count},
        }
        return name

    def index(self, reference, **platforms):
        name = digest(f"index of {reference}".encode())
        entries = [
            {"digest": one, "platform": {"os": "linux", "architecture": architecture}}
            for architecture, one in platforms.items()
        ]
        bare = f"{reference.partition(':')[0]}@{name}"
        self.manifests[reference] = self.manifests[bare] = (name, {"manifests": entries})
        return name

    def manifest(self, reference):
        self.asked.append(reference)
        return self.manifests[reference]

    def configuration(self, reference):
        self.asked.append(reference)
        return self.configurations[reference]

    def get(self, entries):
        self.asked += [entry.name for entry in entries]
        return [self.folder / entry.name for entry in entries]


@pytest.fixture
def registry(monkeypatch, tmp_path):
    made = Registry(tmp_path)
    monkeypatch.setattr(base_image, "manifest", made.manifest)
    monkeypatch.setattr(base_image, "configuration", made.configuration)
    return made


@pytest.fixture
def read(registry, tmp_path):
    def run(reference, system=SYSTEM, python=None, previous=None, ours=0):
        wish = BaseWish(reference, python, previous or {}, ours)
        return read_base(wish, system, registry.get, cache=tmp_path / "cache")

    return run


def test_what_counts_of_its_configuration_is_locked_and_the_rest_is_named(registry, read):
    config = {
        "Env": ["PATH=/a", "A=b=c"],
        "Labels": {"l": "m"},
        "ExposedPorts": {"80/tcp": {}},
        "Cmd": ["/bin/sh"],
        "User": "",
    }
    name = registry.put("b:1", **config)
    base = read("b:1")
    assert (base.image.named, base.image.digest) == (name, name)
    assert base.image.environment == {"PATH": "/a", "A": "b=c"}
    assert base.image.labels == {"l": "m"}
    assert base.image.exposed_ports == ("80/tcp",)
    assert base.left == ("Cmd",)


def test_while_the_reference_is_the_same_nobody_is_asked_again(registry, read):
    registry.put("b:1")
    first = read("b:1").image
    registry.put("b:1", path="etc/other")
    registry.asked.clear()
    assert read("b:1", previous={SYSTEM: first}).image == first
    assert registry.asked == []


def test_another_reference_is_another_image(registry, read):
    first = registry.put("b:1")
    registry.put("b:2")
    assert read("b:2", previous={SYSTEM: read("b:1").image}).image.digest != first


def test_a_platform_that_is_added_is_of_the_same_index(registry, read):
    amd64, arm64 = registry.put("b:amd"), registry.put("b:arm")
    registry.configurations[f"b@{arm64}"]["architecture"] = "arm64"
    registry.index("b:1", amd64=amd64, arm64=arm64)
    first = read("b:1").image
    registry.manifests["b:1"] = ("moved", {"manifests": []})
    assert read("b:1", "aarch64-linux", previous={SYSTEM: first}).image.digest == arm64


def test_an_index_without_the_platform_says_which_it_has(registry, read):
    registry.index("b:1", s390x=digest(b""))
    with pytest.raises(ResolveError, match="linux/s390x"):
        read("b:1")


@pytest.mark.parametrize("wrong", ["sha256:../../x", "sha256:", "sha512:" + "0" * 128])
def test_a_digest_of_another_form_is_refused(registry, read, wrong):
    registry.index("b:1", amd64=wrong)
    with pytest.raises(ResolveError, match="only sha256"):
        read("b:1")


@pytest.mark.parametrize(
    ("media_type", "remedy"),
    [
        ("application/vnd.oci.image.layer.v1.tar+gzip+encrypted", "--decryption-key"),
        ("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", "another base image"),
    ],
)
def test_a_layer_that_must_be_changed_is_refused_before_it_is_downloaded(registry, read, media_type, remedy):
    registry.put("b:1", media_type=media_type)
    with pytest.raises(ResolveError, match=remedy):
        read("b:1")
    assert not any(name.startswith("layer-") for name in registry.asked)


def test_layers_that_do_not_leave_enough_for_ours_are_counted_before_they_are_downloaded(registry, read):
    registry.put("b:1", count=123)
    with pytest.raises(
        ResolveError, match="has 123 layers: an image has 125 at most, and this model needs 3"
    ) as told:
        read("b:1", ours=3)
    assert f"echo FROM b@{registry.manifests['b:1'][0]} | podman build --squash-all" in told.value.hint
    assert not any(name.startswith("layer-") for name in registry.asked)


def test_the_count_is_of_all_and_of_what_is_known_of_an_image_too(registry, read, monkeypatch):
    monkeypatch.setattr(base_image, "_MOST_LAYERS", 5)
    registry.put("b:1", count=2)
    assert len(read("b:1", ours=3).image.layers) == 2
    with pytest.raises(ResolveError, match="b:1 has 2 layers"):
        read("b:1", ours=4)


def test_zstd_layers_are_read_by_the_program_or_the_error_names_it(registry, read, monkeypatch):
    need("zstd")

    def pack(data):
        return subprocess.run(["zstd", "-c"], input=data, capture_output=True, check=True).stdout

    for number in (1, 2):
        registry.put(f"b:{number}", media_type="application/vnd.oci.image.layer.v1.tar+zstd", pack=pack)
    image = read("b:1").image
    assert image.layers[0].is_zstd
    assert tool_programs([None, image]) == ["zstd"]
    registry.asked.clear()
    monkeypatch.setattr(base_image.shutil, "which", lambda _name: None)
    with pytest.raises(ResolveError, match="no `zstd` on PATH") as caught:
        read("b:2")
    assert "install zstd" in caught.value.hint
    assert not any(name.startswith("layer-") for name in registry.asked)


def test_no_program_is_needed_for_other_layers(registry, read):
    registry.put("b:1")
    assert tool_programs([read("b:1").image]) == []


def test_a_manifest_of_another_platform_is_refused(registry, read):
    registry.put("b:1")
    with pytest.raises(ResolveError, match="linux/amd64"):
        read("b:1", "aarch64-linux")


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("lib/ld-musl-x86_64.so.1", "C library musl"),
        ("opt/tungsten/spec.json", "is the image of a model already"),
    ],
)
def test_what_no_model_can_go_on_is_refused_by_name(registry, read, path, message):
    registry.put("b:1", path=path)
    with pytest.raises(ResolveError, match=message):
        read("b:1")


def test_that_there_is_no_python_is_the_reason_for_ours(registry, read):
    registry.put("b:1", path="usr/bin/python3.8")
    base = read("b:1")
    assert (base.version, base.image.python) == (None, None)
    assert "/usr/bin/python3.8: Python 3.8 is not one of" in base.reason


def test_where_a_python_looks_for_modules_is_not_for_another_one(registry, read):
    registry.put("b:1", Env=["PYTHONHOME=/opt/theirs", "PYTHONPATH=/opt/more", "A=b"])
    base = read("b:1")
    assert base.image.environment == {"A": "b"}
    assert base.left == ("PYTHONHOME", "PYTHONPATH")


@pytest.mark.parametrize(
    "content",
    [
        {"manifests": 5},
        {"manifests": [5]},
        {"manifests": [{"platform": None}]},
        {"layers": [{}]},
        {"layers": [{"mediaType": base_image._TAR[0], "digest": digest(b""), "size": "big"}]},
    ],
)
def test_what_is_of_no_form_is_told_with_the_reference(registry, read, content):
    name = registry.put("b:1")
    registry.manifests["b:1"] = registry.manifests[f"b@{name}"] = (name, content)
    with pytest.raises(FetchError, match="not of the form") as caught:
        read("b:1")
    assert str(caught.value.where).startswith("b")
