"""What is said of real images: all that is in them, in the words of both formats, and the same each time."""

import gzip
import json
import secrets
import shutil
import subprocess
import tarfile
from contextlib import contextmanager

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from spdx_tools.spdx.parser.parse_anything import parse_file
from spdx_tools.spdx.validation.document_validator import validate_full_spdx_document

from tests import hub as hubs
from tests.end_to_end import bases
from tests.end_to_end.harness import SYSTEM, build, succeed, tungsten
from tests.hub import Repository, sha256
from tests.machine import need, needs
from tests.registry import registry as stand_in
from tungstenkit.bill.referrers import check_signed
from tungstenkit.bill.signature import PublicKey
from tungstenkit.lock.document import read_lock
from tungstenkit.platforms import ARCHITECTURES
from tungstenkit.registry.place import place

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # the validators' own

COMMIT = "c" * 40
(OTHER,) = {*ARCHITECTURES} - {SYSTEM}
CARD = b"---\nlicense: mit\n---\nA card.\n"
MODEL = """
from pathlib import Path
from tungstenkit import BaseIO, Download, HuggingFace, define_model

class Input(BaseIO):
    number: int

class Output(BaseIO):
    number: int

@define_model(
    input=Input,
    output=Output,
    python_packages=["./pure"],
    dockerfile_commands=["RUN echo one > /opt/one && rm /etc/protocols"],
    files=[
        Download("{url}/files/w.onnx", to="weights/w.onnx"),
        HuggingFace("org/name"),
        HuggingFace("org/name", revision="v1", to="tokenizer", include=["*.json"]),
    ],
)
class Model:
    @staticmethod
    def post_build():
        Path("made.txt").write_text("made")

    def predict(self, inputs):
        return [Output(number=one.number) for one in inputs]
"""
PROJECT = (
    '[build-system]\nrequires = ["setuptools"]\n[project]\nname = "pure"\nversion = "1.0"\nlicense = "ISC"\n'
)


@pytest.fixture(scope="module")
def hub():
    """Stands in for a hub of weights."""
    with hubs.running() as running:
        files = {"config.json": b"{}", "README.md": CARD, "model.safetensors": secrets.token_bytes(5000)}
        running.repositories["org/name"] = Repository({COMMIT: files}, {"main": COMMIT, "v1": COMMIT})
        running.files = {"w.onnx": secrets.token_bytes(1000)}
        yield running


@pytest.fixture(scope="module")
def model(hub, tmp_path_factory):
    """A model with something of every kind, built."""
    folder = tmp_path_factory.mktemp("model") / "all"
    (folder / "pure" / "src" / "pure").mkdir(parents=True)
    (folder / "pure" / "pyproject.toml").write_text(PROJECT)
    (folder / "pure" / "src" / "pure" / "__init__.py").write_text("WORD = 'pure'\n")
    (folder / "tungsten_model.py").write_text(MODEL.replace("{url}", hub.url))
    return build(folder, "--no-load", env={"HF_ENDPOINT": hub.url})


@pytest.fixture(scope="module")
def blur(copy_of):
    return build(copy_of("blur"), "--no-load")


def bills(image, **options):
    """Both documents, as they are printed."""
    return tuple(
        succeed("sbom", image.directory, "--format", form, **options) for form in ("spdx", "cyclonedx")
    )


@pytest.fixture(scope="module")
def said(model, hub):
    """Of the model with everything."""
    return bills(model, env={"HF_ENDPOINT": hub.url})


@pytest.mark.parametrize("which", ["blur", "model"])
def test_the_validators_of_both_formats_accept_it(request, which, hub, tmp_path):
    image = request.getfixturevalue(which)
    spdx, cyclonedx = bills(image)
    (tmp_path / "some.spdx.json").write_text(spdx)
    problems = validate_full_spdx_document(parse_file(str(tmp_path / "some.spdx.json")))
    assert [one.validation_message for one in problems] == []
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(cyclonedx) is None
    about = json.loads(cyclonedx)["metadata"]
    assert (about["component"]["version"], about["timestamp"]) == (image.digest, image.config["created"])


def members(image, digest):
    """How many entries a layer's archive has."""
    with gzip.open(image.blob(digest)) as stream, tarfile.open(fileobj=stream, mode="r|") as layer:
        return sum(1 for _ in layer)


@pytest.mark.parametrize("which", ["blur", "model"])
def test_every_entry_of_every_layer_has_an_owner(request, which):
    """As many as the archives have, each under a component of the document."""
    image = request.getfixturevalue(which)
    document = json.loads(bills(image)[1])
    parts = [one for whole in document["components"] for one in (whole, *whole.get("components", ()))]
    counted = dict.fromkeys(image.layers, 0)
    for part in parts:
        for fact in part.get("properties", ()):
            if fact["name"].startswith("tungsten:entries:"):
                counted[fact["name"].removeprefix("tungsten:entries:")] += int(fact["value"])
    assert counted == {digest: members(image, digest) for digest in image.layers}


def test_it_has_each_package_of_the_lock_with_its_hash(blur):
    lock = read_lock(blur.directory / "tungsten.lock")
    parts = json.loads(bills(blur)[1])["components"]
    found = {
        (one["name"], one.get("version"), one["hashes"][0]["content"]) for one in parts if "hashes" in one
    }
    wheels = [*lock.platforms[SYSTEM].wheels, *lock.server[SYSTEM].wheels]
    wanted = {(one.name, one.version, one.sha256) for one in lock.platforms[SYSTEM].debs}
    wanted |= {(one.project, one.version, one.sha256) for one in wheels}
    assert wanted <= found


def test_weights_of_a_hub_are_there_at_their_revision_and_hash(said, hub):
    parts = {one["bom-ref"]: one for one in json.loads(said[1])["components"]}
    weights = parts[f"model:org/name@{COMMIT}:cache"]
    assert (weights["type"], weights["purl"]) == (
        "machine-learning-model",
        f"pkg:huggingface/org/name@{COMMIT}",
    )
    assert weights["licenses"][0]["expression"] == "MIT"
    files = {one["name"]: one["hashes"][0]["content"] for one in weights["components"]}
    stored = hub.repositories["org/name"].commits[COMMIT]
    assert files == {name: sha256(data) for name, data in stored.items()}
    download = parts["file:app/weights/w.onnx"]
    assert (download["type"], download["hashes"][0]["content"]) == (
        "machine-learning-model",
        sha256(hub.files["w.onnx"]),
    )
    assert [one["name"] for one in parts[f"model:org/name@{COMMIT}:tokenizer"]["components"]] == [
        "config.json"
    ]


def test_what_was_run_and_built_says_of_what(said, model):
    lock = read_lock(model.directory / "tungsten.lock").platforms[SYSTEM]
    document = json.loads(said[1])
    parts = {one["bom-ref"]: one for one in document["components"]}
    assert parts["post-build"]["hashes"][0]["content"] == lock.post_build.sha256
    facts = {one["name"]: one["value"] for one in parts["post-build"]["properties"]}
    assert facts["tungsten:sees"] == lock.post_build.sees
    assert "tungsten:saw:tungsten_model.py" in facts
    assert parts["command:0"]["name"] == "RUN echo one > /opt/one && rm /etc/protocols"
    (formula,) = document["formulation"]
    (source,) = lock.sources
    assert {one["name"] for one in formula["components"]} >= {"pure", "setuptools"}
    assert parts[f"wheel:{source.wheel}"]["hashes"][0]["content"] == source.wheel_sha256
    assert parts[f"wheel:{source.wheel}"]["licenses"][0]["expression"] == "ISC"


def test_two_builds_of_one_lock_say_the_same_bytes(blur, tmp_path):
    """In another folder of the same name, by another user of the cache."""
    other = tmp_path / blur.directory.name
    shutil.copytree(blur.directory, other, ignore=shutil.ignore_patterns(".tungsten"))
    cache = {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    assert bills(build(other, "--no-load"), env=cache) == bills(blur)


def test_a_file_is_written_where_one_is_named(blur, tmp_path):
    assert succeed("sbom", blur.directory, "-o", tmp_path / "bill.json") == ""
    assert (tmp_path / "bill.json").read_text() == bills(blur)[0]


def test_a_bill_is_no_file_of_the_models_whose_image_would_be_another_then(blur):
    done = tungsten("sbom", blur.directory, "-o", blur.directory / "bill.json")
    assert done.returncode == 1
    assert "would be a file of the model's" in done.stderr
    assert not (blur.directory / "bill.json").exists()


def test_syft_finds_in_the_image_what_is_said_of_it(blur, tmp_path):
    """Package by package, by their package URLs; ours are no index's, which it can't know."""
    need("syft")
    (tmp_path / "home").mkdir()
    command = ["syft", "scan", f"oci-dir:{blur.layout}", "--quiet", "--output=json"]
    environment = {
        "HOME": str(tmp_path / "home"),
        "PATH": "/usr/bin:/bin",
        "SYFT_CHECK_FOR_APP_UPDATE": "false",
    }
    command[0] = shutil.which("syft")
    done = subprocess.run(command, capture_output=True, check=True, env=environment)
    found = {one["purl"] for one in json.loads(done.stdout)["artifacts"]}
    parts = [one for one in json.loads(bills(blur)[1])["components"] if one["type"] == "library"]
    ours = {one["purl"] for one in parts}
    assert {one.split("@")[0] for one in found ^ ours} == {
        f"pkg:{kind}/{name}"
        for kind in ("pypi", "generic")
        for name in ("tungstenkit-nix", "tungsten-server")
    }


@contextmanager
def registry_of(kind, folder):
    if kind == "stand-in":
        with stand_in() as there:
            yield there.host
    else:
        folder.mkdir()
        with bases.registry(folder) as host:
            yield host


@needs("skopeo")
@pytest.mark.parametrize("kind", ["stand-in", "docker-registry"])
def test_a_push_keeps_it_beside_the_image_and_signs_it(kind, blur, tmp_path):
    """With the referrers route and without; the digest is the same before and after, and so is what is sent again."""
    need(*([kind] if kind != "stand-in" else []))
    private = ec.generate_private_key(ec.SECP256R1())
    form = serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"secret")
    (tmp_path / "key.pem").write_bytes(private.private_bytes(serialization.Encoding.PEM, *form))
    public = private.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    (tmp_path / "key.pub").write_bytes(public)
    flag = "--skopeo-arg=--dest-tls-verify=false"
    with registry_of(kind, tmp_path / "registry") as host:
        reference = f"{host}/team/blur:1"
        assert succeed("push", reference, blur.directory, flag) == f"{reference}@{blur.digest}\n"
        there = place(reference)
        image = there.resolve()
        assert image.digest == blur.digest
        for media_type, text in zip(
            ("application/spdx+json", "application/vnd.cyclonedx+json"), bills(blur), strict=True
        ):
            (found,) = there.referrers(image.digest, media_type)
            (layer,) = json.loads(there.manifest(found.digest))["layers"]
            assert there.document(layer["digest"], layer["size"]) == text.encode()
        signed = ["push", reference, blur.directory, flag, "--sign", tmp_path / "key.pem"]
        for _ in range(2):
            succeed(*signed, env={"TUNGSTEN_KEY_PASSWORD": "secret"})
        wrong = tungsten(*signed, env={"TUNGSTEN_KEY_PASSWORD": "other"})
        assert "its password is another" in wrong.stderr
        assert there.resolve().digest == blur.digest
        result = check_signed(there, image.digest, PublicKey.read(tmp_path / "key.pub"))
        assert len(result.statements) == 2
        assert {*result.bills} == {"application/spdx+json", "application/vnd.cyclonedx+json"}
        assert "secret" not in str(there.manifest(image.digest))


@needs("skopeo")
def test_a_registry_that_takes_no_artifacts_has_the_image_all_the_same(blur):
    with stand_in(accepts_artifacts=False) as there:
        done = tungsten(
            "push", f"{there.host}/blur:1", blur.directory, "--skopeo-arg=--dest-tls-verify=false"
        )
    assert (done.returncode, done.stdout) == (0, f"{there.host}/blur:1@{blur.digest}\n")
    assert "the image is pushed, but its bill of materials is not" in done.stderr


def write_keys(folder):
    """A key in a folder, `key.pem`, and the path of the public one."""
    private = ec.derive_private_key(1, ec.SECP256R1())
    form = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    (folder / "key.pem").write_bytes(private.private_bytes(serialization.Encoding.PEM, *form))
    public = private.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    (folder / "key.pub").write_bytes(public)
    return folder / "key.pub"


@pytest.fixture
def proved(blur, tmp_path):
    """A layout with an image and all that is kept beside it, signed; and the public key."""
    flag = "--skopeo-arg=--dest-tls-verify=false"
    public = write_keys(tmp_path)
    with stand_in() as there:
        reference = f"{there.host}/blur:1"
        succeed("push", reference, blur.directory, flag, "--with-inputs", "--sign", tmp_path / "key.pem")
        yield there, reference, public


@needs("skopeo")
def test_verify_wants_the_keys_signature_and_what_it_has_signed(proved, blur, tmp_path):
    _, reference, public = proved
    said = tungsten("verify", reference, "--key", public)
    assert (said.returncode, f"{blur.digest} is signed by this key" in said.stdout) == (0, True), said.stderr
    assert (
        "signed by this key: the image, where it is from (SLSA provenance), what is in it (SPDX)"
        in said.stdout
    )
    assert "is proved" in said.stdout
    copy = [
        "skopeo",
        "copy",
        "-q",
        "--src-tls-verify=false",
        f"docker://{reference}",
        f"oci:{tmp_path}/copy:1",
    ]
    subprocess.run(copy, check=True)
    assert tungsten(
        "verify", tmp_path / "copy", "--inputs", reference, "--key", public
    ).stdout == said.stdout.replace(reference.rpartition(":")[0], str(tmp_path / "copy"))
    other = ec.derive_private_key(2, ec.SECP256R1()).public_key()
    (tmp_path / "other.pub").write_bytes(
        other.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    refused = tungsten("verify", reference, "--key", tmp_path / "other.pub")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "this key has signed nothing of this image" in refused.stderr
    assert "building" not in refused.stderr


@needs("skopeo")
@pytest.mark.parametrize("kind", ["application/spdx+json", "application/vnd.dev.sigstore.bundle.v0.3+json"])
def test_verify_refuses_a_flipped_byte_in_what_is_said_of_it(proved, kind):
    """By its digest, whether a key is named or not."""
    there, reference, public = proved
    kept = place(reference)
    found = kept.referrers(kept.resolve().digest, kind)[0]
    (layer,) = json.loads(kept.manifest(found.digest))["layers"]
    there.damaged.add(layer["digest"])
    for options in ((), ("--key", public)):
        refused = tungsten("verify", reference, *options)
        assert refused.returncode == 1
        assert layer["digest"] in refused.stderr


@needs("skopeo")
def test_each_image_of_an_index_has_its_own_and_the_index_is_signed(copy_of, tmp_path):
    folder = copy_of("blur", SYSTEM, OTHER)
    public = write_keys(tmp_path)
    flag = "--skopeo-arg=--dest-tls-verify=false"
    with stand_in() as there:
        reference = f"{there.host}/blur:1"
        succeed("push", reference, folder, flag, "--sign", tmp_path / "key.pem")
        kept = place(reference)
        index = kept.resolve()
        images = {
            one["platform"]["architecture"]: one["digest"]
            for one in json.loads(kept.manifest(index.digest))["manifests"]
        }
        key = PublicKey.read(public)
        (whole,) = check_signed(kept, index.digest, key).statements
        assert whole.digests == {index.digest}
        for architecture, digest in images.items():
            assert len(check_signed(kept, digest, key).statements) == 2
            (found,) = kept.referrers(digest, "application/vnd.cyclonedx+json")
            (layer,) = json.loads(kept.manifest(found.digest))["layers"]
            document = json.loads(kept.document(layer["digest"], layer["size"]))
            assert document["metadata"]["component"]["version"] == digest
            of = {
                one["purl"].partition("arch=")[2].partition("&")[0]
                for one in document["components"]
                if one.get("purl", "").startswith("pkg:deb/")
            }
            assert of == {architecture, "all"}
