"""What is said of real images: all that is in them, in the words of both formats, and the same each time."""

import gzip
import json
import re
import shutil
import subprocess
import sysconfig
import tarfile
from contextlib import contextmanager

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from spdx_tools.spdx.parser.parse_anything import parse_file
from spdx_tools.spdx.validation.document_validator import validate_full_spdx_document

from tests.end_to_end import bases
from tests.end_to_end.everything import COMMIT
from tests.end_to_end.harness import SYSTEM, build, succeed, tungsten
from tests.hub import sha256
from tests.machine import need, needs
from tests.registry import registry as stand_in
from tungstenkit.bill.referrers import check_signed
from tungstenkit.bill.signature import PublicKey
from tungstenkit.debian.release import RELEASES
from tungstenkit.lock.document import read_lock
from tungstenkit.platforms import ARCHITECTURES
from tungstenkit.registry.place import place

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # the validators' own

(OTHER,) = {*ARCHITECTURES} - {SYSTEM}


@pytest.fixture(scope="module")
def model(everything):
    """A model with something of every kind, built."""
    return everything.image


@pytest.fixture(scope="module")
def blur(copy_of):
    return build(copy_of("blur"), "--no-load")


def bills(image, **options):
    """Both documents, as they are printed."""
    return tuple(
        succeed("sbom", image.directory, "--format", form, **options) for form in ("spdx", "cyclonedx")
    )


@pytest.fixture(scope="module")
def said(model):
    """Of the model with everything."""
    return bills(model)


def problems(text, folder):
    """What the validators say of a document of either format."""
    if '"spdxVersion"' not in text:
        return JsonStrictValidator(SchemaVersion.V1_6).validate_str(text)
    (folder / "some.spdx.json").write_text(text)
    found = validate_full_spdx_document(parse_file(str(folder / "some.spdx.json")))
    return [one.validation_message for one in found] or None


@pytest.mark.parametrize("which", ["blur", "model"])
def test_the_validators_of_both_formats_accept_it(request, which, tmp_path):
    image = request.getfixturevalue(which)
    spdx, cyclonedx = bills(image)
    assert (problems(spdx, tmp_path), problems(cyclonedx, tmp_path)) == (None, None)
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
    parts = {
        one["bom-ref"] for whole in document["components"] for one in (whole, *whole.get("components", ()))
    }
    counted = {}
    for layer in document["metadata"]["component"]["components"]:
        facts = {
            fact["name"]: int(fact["value"]) for fact in layer["properties"] if "entries:" in fact["name"]
        }
        assert {name.removeprefix("tungsten:entries:") for name in facts} <= parts
        counted[f"sha256:{layer['hashes'][0]['content']}"] = sum(facts.values())
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


def test_torch_is_there_with_its_package_url_and_weights_of_a_hub_at_their_revision_and_hash(
    said, everything
):
    hub = everything.hub
    parts = {one["bom-ref"]: one for one in json.loads(said[1])["components"]}
    lock = read_lock(everything.image.directory / "tungsten.lock")
    (torch,) = (wheel for wheel in lock.platforms[SYSTEM].wheels if wheel.project == "torch")
    wheel = parts[f"wheel:{torch.file}"]
    assert (wheel["name"], wheel["version"], wheel["purl"]) == ("torch", "2.0", "pkg:pypi/torch@2.0")
    assert wheel["hashes"] == [{"alg": "SHA-256", "content": torch.sha256}]
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
    assert [parts[f"command:{number}"]["name"].split()[0] for number in range(2)] == ["RUN", "RUN"]
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


@pytest.fixture
def syft(tmp_path):
    """Runs it; what it says."""
    need("syft")
    (tmp_path / "home").mkdir()
    environment = {
        "HOME": str(tmp_path / "home"),
        "PATH": "/usr/bin:/bin",
        "SYFT_CHECK_FOR_APP_UPDATE": "false",
    }
    program = shutil.which("syft", path=sysconfig.get_path("scripts"))

    def run(*arguments):
        command = [program, *arguments, "--quiet", "--output=json"]
        return json.loads(subprocess.run(command, capture_output=True, check=True, env=environment).stdout)

    return run


def test_syft_finds_in_the_image_what_is_said_of_it(blur, syft):
    """Package by package, by their package URLs; ours are no index's, which it can't know."""
    found = {one["purl"] for one in syft("scan", f"oci-dir:{blur.layout}")["artifacts"]}
    parts = [one for one in json.loads(bills(blur)[1])["components"] if one["type"] == "library"]
    ours = {one["purl"] for one in parts}
    assert {one.split("@")[0] for one in found ^ ours} == {
        f"pkg:{kind}/{name}"
        for kind in ("pypi", "generic")
        for name in ("tungstenkit-nix", "tungsten-server")
    }


def attached(there, digest, media_type):
    """The documents of a bill of materials that is kept beside an image."""
    (found,) = there.referrers(digest, media_type)
    layers = json.loads(there.manifest(found.digest))["layers"]
    return [there.document(layer["digest"], layer["size"]).decode() for layer in layers]


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
        kinds = ("application/spdx+json", "application/vnd.cyclonedx+json")
        for media_type, whole in zip(kinds, bills(blur), strict=True):
            both = attached(there, image.digest, media_type)
            assert [problems(text, tmp_path) for text in both] == [None, None]
            first, second = (set(re.findall(r"pkg:[^\"]+", text)) for text in both)
            assert first | second == set(re.findall(r"pkg:[^\"]+", whole))
            # The first has whatever vulnerabilities are looked up by.
            assert {url for url in second if not url.startswith(("pkg:oci/", "pkg:generic/"))} == set()
            assert blur.digest.removeprefix("sha256:") in both[1]
            assert blur.digest.removeprefix("sha256:") not in both[0]
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
@pytest.mark.parametrize("kind", ["application/spdx+json", "application/vnd.cyclonedx+json"])
def test_who_reads_the_first_document_alone_knows_each_package(proved, blur, syft, kind, tmp_path):
    """As syft, by which vulnerabilities are looked up, with the distribution that they are of."""
    there = place(proved[1])
    (tmp_path / "packages.json").write_text(attached(there, blur.digest, kind)[0])
    read = syft("convert", tmp_path / "packages.json")
    lock = read_lock(blur.directory / "tungsten.lock")
    wheels = [*lock.platforms[SYSTEM].wheels, *lock.server[SYSTEM].wheels]
    debs = lock.platforms[SYSTEM].debs
    assert {(one["name"], one["version"]) for one in read["artifacts"] if one["type"] == "deb"} == {
        (one.name, one.version) for one in debs
    }
    assert {(one["name"], one["version"]) for one in read["artifacts"] if one["type"] == "python"} == {
        (one.project, one.version) for one in wheels
    }
    release = RELEASES[lock.platforms[SYSTEM].release]
    assert (read["distro"]["id"], read["distro"]["versionID"]) == ("debian", release.version_id)


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
    for layer in json.loads(kept.manifest(found.digest))["layers"]:
        there.damaged = {layer["digest"]}
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
            packages, own = map(json.loads, attached(kept, digest, "application/vnd.cyclonedx+json"))
            assert own["metadata"]["component"]["version"] == digest
            of = {
                one["purl"].partition("arch=")[2].partition("&")[0]
                for one in packages["components"]
                if one.get("purl", "").startswith("pkg:deb/")
            }
            assert of == {architecture, "all"}
