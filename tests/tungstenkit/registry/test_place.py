"""Places give back what was put there, and nothing else, whatever a registry is like; both kinds alike."""

import hashlib
import json
import os
import subprocess
import threading

import pytest

from tests.end_to_end import bases
from tests.machine import need, needs
from tests.registry import digest_of, registry
from tungstenkit.registry import client
from tungstenkit.registry.artifact import EMPTY, INPUTS, MANIFEST, Artifact, Descriptor, Layer, manifest
from tungstenkit.registry.base import LARGEST_MANIFEST, MissingError
from tungstenkit.registry.client import Access, RegistryError
from tungstenkit.registry.layout import LayoutPlace
from tungstenkit.registry.passwords import Password
from tungstenkit.registry.place import place
from tungstenkit.sdk.errors import FetchError

pytestmark = pytest.mark.timeless("what is kept has no date")


@pytest.fixture(autouse=True)
def _nobody_waits(monkeypatch):
    monkeypatch.setattr(client, "_pause", lambda _: None)


@pytest.fixture(autouse=True)
def _no_passwords(monkeypatch, tmp_path):
    monkeypatch.delenv("REGISTRY_AUTH_FILE", raising=False)
    for name in ("XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "DOCKER_CONFIG"):
        monkeypatch.setenv(name, str(tmp_path / "nobody"))


@pytest.fixture
def there():
    """A registry of the tests' own."""
    with registry() as found:
        yield found


@pytest.fixture(params=["referrers", "no referrers", "docker-registry", "layout"])
def kept(request, tmp_path):
    """A place of each kind."""
    if request.param == "layout":
        (tmp_path / "layout").mkdir()
        yield place(str(tmp_path / "layout"))
    elif request.param == "docker-registry":
        need("docker-registry")
        (tmp_path / "registry").mkdir()
        with bases.registry(tmp_path / "registry") as host:
            yield place(f"{host}/team/blur:1")
    else:
        with registry(has_referrers=request.param == "referrers") as found:
            yield place(f"{found.host}/team/blur:1")


def image(where, tag="1", content=b"an image"):
    """An image that a place has; its descriptor."""
    layers = [Layer(content, "application/vnd.oci.image.layer.v1.tar")]
    config = Layer(b'{"os": "linux"}', "application/vnd.oci.image.config.v1+json")
    where.put_blobs([*layers, config])
    document = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": config.descriptor.to_json(),
        "layers": [one.descriptor.to_json() for one in layers],
    }
    return where.put_manifest(json.dumps(document).encode(), tag=tag)


def inputs(subject, *contents):
    return Artifact(INPUTS, [Layer(one) for one in contents], subject)


def test_what_was_put_is_found_by_its_tag_and_its_digest(kept):
    put = image(kept)
    assert kept.resolve("1").digest == kept.resolve(put.digest).digest == put.digest
    assert digest_of(kept.manifest(put.digest)) == put.digest
    assert kept.has_manifest(put.digest)
    with pytest.raises(MissingError):
        kept.resolve("2")
    assert not kept.has_manifest(digest_of(b""))


def test_a_blob_comes_back_as_it_was(kept, tmp_path):
    content = os.urandom(1_000_000)
    (tmp_path / "file").write_bytes(content)
    layer = Layer(tmp_path / "file")
    sent, arrived = [], []
    assert kept.lacking([layer, layer]) == [layer]
    kept.put_blob(layer, sent.append)
    assert kept.lacking([layer]) == []
    kept.blob(layer.descriptor.digest, len(content), tmp_path / "back", arrived.append)
    assert (tmp_path / "back").read_bytes() == content
    assert sum(sent) == sum(arrived) == len(content)
    with pytest.raises(MissingError):
        kept.blob(digest_of(b"other"), 5, tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_of_a_blob_of_another_size_nothing_is_left(kept, tmp_path):
    layer = Layer(b"content")
    kept.put_blob(layer)
    with pytest.raises(FetchError, match="not what its digest says"):
        kept.blob(layer.descriptor.digest, 3, tmp_path / "back")
    assert list(tmp_path.glob("back*")) == []


def test_what_is_attached_refers_to_its_subject_which_stays_as_it_is(kept):
    subject = image(kept)
    artifact = inputs(subject, b"one", b"two")
    attached = kept.attach(artifact)
    assert kept.attach(artifact) == attached
    other = kept.attach(Artifact("application/x-other", [Layer(b"three")], subject))
    assert [one.digest for one in kept.referrers(subject.digest, INPUTS)] == [attached.digest]
    assert {one.digest for one in kept.referrers(subject.digest)} == {attached.digest, other.digest}
    assert kept.referrers(other.digest) == []
    assert kept.manifest(attached.digest) == manifest(artifact)
    assert kept.resolve("1").digest == subject.digest


def test_a_second_image_sends_what_is_its_own_alone(there):
    where = place(f"{there.host}/a")
    where.attach(inputs(image(where, "1"), b"x" * 100_000, b"one"))
    before = there.received
    where.attach(inputs(image(where, "2"), b"x" * 100_000, b"two"))
    assert there.received - before < 3000


def test_the_same_artifact_is_not_sent_again(there):
    where = place(f"{there.host}/a")
    artifact = inputs(image(where), b"one")
    where.attach(artifact)
    before = there.received
    where.attach(artifact)
    assert there.received == before


def test_what_others_have_too_has_a_manifest_that_names_none(kept):
    """An index of it names each."""
    one, two = image(kept, "1"), image(kept, "2", b"another")
    shared = inputs(None, b"one", b"two")
    kept.put_blobs([*shared.layers, EMPTY])
    attached = [kept.attach_shared(shared, subject) for subject in (one, two)]
    assert kept.attach_shared(shared, one) == attached[0]
    for subject, found in zip((one, two), attached, strict=True):
        assert [listed.digest for listed in kept.referrers(subject.digest, INPUTS)] == [found.digest]
        document = json.loads(kept.manifest(found.digest))
        assert (document["artifactType"], document["subject"]["digest"]) == (INPUTS, subject.digest)
        (inner,) = document["manifests"]
        assert kept.manifest(inner["digest"]) == manifest(shared)


def test_what_others_have_too_is_not_sent_for_the_next_image(there):
    where = place(f"{there.host}/a")
    shared = inputs(None, *(bytes([number]) for number in range(100)))
    where.put_blobs([*shared.layers, EMPTY])
    where.attach_shared(shared, image(where, "1"))
    subject = image(where, "2", b"another")
    before = there.received
    where.attach_shared(shared, subject)
    assert there.received - before < 700
    where.attach_shared(shared, subject)
    assert there.received - before < 700


def test_a_manifest_is_the_same_bytes_each_time_and_says_what_it_is():
    artifact = inputs(Descriptor(MANIFEST, digest_of(b""), 0, {"a": "b"}), b"one")
    content = manifest(artifact)
    assert content == manifest(artifact)
    assert json.loads(content) == {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "artifactType": INPUTS,
        "config": EMPTY.descriptor.to_json(),
        "layers": [
            {"mediaType": "application/octet-stream", "digest": digest_of(b"one"), "size": 3},
        ],
        "subject": {"mediaType": MANIFEST, "digest": digest_of(b""), "size": 0},
    }
    assert b" " not in content


def test_a_blob_of_another_repository_is_mounted(there):
    place(f"{there.host}/a").put_blob(Layer(b"x" * 1000))
    before = there.received
    place(f"{there.host}/b").put_blob(Layer(b"x" * 1000), mount=["a"])
    assert there.received == before
    assert place(f"{there.host}/b").has_blob(digest_of(b"x" * 1000))
    # Where it has it not, it is sent.
    place(f"{there.host}/c").put_blob(Layer(b"y" * 1000), mount=["a"])
    assert there.received == before + 1000


def test_referrers_come_page_by_page(there):
    there.page = 1
    where = place(f"{there.host}/a")
    subject = image(where)
    digests = {where.attach(inputs(subject, content)).digest for content in (b"1", b"2", b"3")}
    assert {one.digest for one in where.referrers(subject.digest)} == digests


def test_a_registry_that_refuses_artifacts_says_so(there):
    there.accepts_artifacts = False
    where = place(f"{there.host}/a")
    subject = image(where)
    with pytest.raises(RegistryError, match=r"HTTP 400.*MANIFEST_INVALID: no image") as caught:
        where.attach(inputs(subject, b"one"))
    assert caught.value.status == 400
    assert where.resolve("1").digest == subject.digest


@pytest.mark.parametrize("fault", ["damaged", "endless"])
def test_other_bytes_are_refused_and_leave_nothing(there, tmp_path, fault):
    layer = Layer(os.urandom(1000))
    where = place(f"{there.host}/a")
    where.put_blob(layer)
    getattr(there, fault).add(layer.descriptor.digest)
    with pytest.raises(FetchError, match="not what its digest says"):
        where.blob(layer.descriptor.digest, 1000, tmp_path / "blob")
    assert list(tmp_path.glob("blob*")) == []


def test_what_broke_off_goes_on_where_it_was(there, tmp_path):
    content = os.urandom(1_000_000)
    layer = Layer(content)
    where = place(f"{there.host}/a")
    where.put_blob(layer)
    there.cut.add(layer.descriptor.digest)
    arrived = []
    where.blob(layer.descriptor.digest, len(content), tmp_path / "blob", arrived.append)
    assert (tmp_path / "blob").read_bytes() == content
    assert sum(arrived) == len(content)
    begun = int(there.asked[-1][2]["Range"].removeprefix("bytes=").rstrip("-"))
    assert 0 < begun < len(content)


def test_what_broke_off_for_good_waits(there, tmp_path):
    content = os.urandom(1_000_000)
    layer = Layer(content)
    where = place(f"{there.host}/a")
    where.put_blob(layer)
    (tmp_path / "blob~").write_bytes(content[:1000])
    there.refuses["GET .*blobs"] = 503
    with pytest.raises(RegistryError, match="HTTP 503"):
        where.blob(layer.descriptor.digest, len(content), tmp_path / "blob")
    there.refuses.clear()
    where.blob(layer.descriptor.digest, len(content), tmp_path / "blob")
    assert there.asked[-1][2]["Range"] == "bytes=1000-"


def test_another_manifest_than_was_asked_for_is_refused(there):
    where = place(f"{there.host}/a")
    put = image(where)
    there.manifests["a", put.digest] = MANIFEST, b"{}"
    with pytest.raises(FetchError, match="another manifest"):
        where.manifest(put.digest)


def test_a_document_has_an_end(there):
    there.put("a", b" " * (LARGEST_MANIFEST + 1))
    with pytest.raises(RegistryError, match="larger than 4 MiB"):
        place(f"{there.host}/a").resolve()


def test_a_document_that_drips_is_not_waited_for(there):
    there.put("a", b"{}")
    where = place(f"{there.host}/a")
    answer = where._client.ask("GET", where._client.url("manifests/latest"))
    ticks = iter(range(0, 10_000, 1000))
    with pytest.raises(RegistryError, match="no answer in time"):
        where._client.read(answer, 1000, clock=lambda: next(ticks))


def test_a_registry_that_does_not_answer_is_not_waited_for(there, monkeypatch):
    monkeypatch.setattr(client, "_TIMEOUT", (0.2, 0.2))
    where = place(f"{there.host}/a")
    assert not where.has_blob(digest_of(b""))
    there.gate = threading.Event()
    with pytest.raises(RegistryError, match="no answer in time"):
        where.has_blob(digest_of(b""))
    there.gate.set()


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"<html>", b'{"mediaType": 1, "manifests": 1}', b"[" * 100_000]
)
def test_what_is_no_manifest_is_told(there, content):
    there.has_referrers = False
    there.put("a", content)
    there.put("a", content, f"sha256-{'0' * 64}")
    where = place(f"{there.host}/a")
    if not content.startswith(b"{"):
        with pytest.raises(FetchError, match="no manifest"):
            where.resolve()
    with pytest.raises(FetchError, match="no manifest"):
        where.referrers(f"sha256:{'0' * 64}")


def test_a_registry_that_is_overloaded_is_asked_again(there):
    where = place(f"{there.host}/a")
    there.refuses["HEAD"] = 503
    with pytest.raises(RegistryError, match="HTTP 503"):
        where.has_blob(digest_of(b""))
    assert [method for method, *_ in there.asked].count("HEAD") == 4


@pytest.fixture
def login(monkeypatch, tmp_path):
    """Has this machine know a password."""

    def put(there, document=None):
        path = tmp_path / "auth.json"
        packed = "dXNlcjpodW50ZXIy"  # user:hunter2
        path.write_text(json.dumps(document or {"auths": {there.host: {"auth": packed}}}))
        monkeypatch.setenv("REGISTRY_AUTH_FILE", str(path))

    return put


@pytest.mark.parametrize("basic", [True, False])
def test_a_registry_with_a_password_gives_to_who_has_it(there, login, basic):
    there.user, there.basic = ("user", "hunter2"), basic
    with pytest.raises(RegistryError, match="HTTP 401") as caught:
        place(f"{there.host}/a").resolve()
    assert f"`tungsten login {there.host}`" in caught.value.hint
    login(there)
    where = place(f"{there.host}/a")
    subject = image(where)
    where.attach(inputs(subject, b"one"))
    assert len(where.referrers(subject.digest)) == 1
    if not basic:
        # One to look, and one to write, which is for looking, too.
        assert list(there.tokens.values())[-1][-1] == "repository:a:pull,push"
        assert len(there.tokens) <= 3
    given = place(f"{there.host}/a", Access(password=Password("user", "hunter2")))
    assert given.resolve("1").digest == subject.digest


def test_a_password_goes_nowhere_else(there, login, monkeypatch, tmp_path):
    """Not to where a blob is instead, which `localhost` stands for; and not what netrc has."""
    there.user, there.basic = ("user", "hunter2"), True
    login(there)
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login somebody password else\n")
    (tmp_path / "netrc").chmod(0o600)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    where = place(f"{there.host}/a")
    layer = Layer(b"content")
    where.put_blob(layer)
    assert {said.get("Authorization") for *_, said in there.asked} == {None, "Basic dXNlcjpodW50ZXIy"}
    (tmp_path / "netrc").write_text("default login somebody password else\n")
    with registry() as elsewhere:
        elsewhere.blobs["x", layer.descriptor.digest] = b"content"
        address = f"http://localhost:{elsewhere.host.partition(':')[2]}/v2/x/blobs/{layer.descriptor.digest}"
        there.leads_to[layer.descriptor.digest] = address
        assert where.document(layer.descriptor.digest, 7) == b"content"
        assert [method for method, *_ in elsewhere.asked] == ["GET"]
        assert "Authorization" not in elsewhere.asked[0][2]


def test_what_is_sent_is_not_led_elsewhere(there):
    with registry() as elsewhere:
        for status in (301, 307):
            there.refuses = {"PUT": status}
            with pytest.raises(RegistryError, match=f"HTTP {status}") as caught:
                place(f"{there.host}/a").put_blob(Layer(b"content"))
            assert "name the registry itself" in caught.value.hint
        assert elsewhere.asked == []


def test_a_blob_that_is_led_on_and_on_is_not_followed_for_ever(there):
    where = place(f"{there.host}/a")
    layer = Layer(b"content")
    where.put_blob(layer)
    there.leads_to[layer.descriptor.digest] = f"/v2/a/blobs/{layer.descriptor.digest}"
    before = len(there.asked)
    with pytest.raises(RegistryError, match="HTTP 307"):
        where.document(layer.descriptor.digest, 7)
    assert len(there.asked) - before < 10


@pytest.mark.parametrize("address", ["file:///etc/passwd", "ftp://h/x", "http://h:99999/"])
def test_a_blob_that_is_led_to_no_web_is_not_followed(there, address):
    where = place(f"{there.host}/a")
    layer = Layer(b"content")
    where.put_blob(layer)
    there.leads_to[layer.descriptor.digest] = address
    with pytest.raises(RegistryError, match="leads to no address"):
        where.document(layer.descriptor.digest, 7)


def test_a_token_may_stand_for_a_password(there, login):
    there.user, there.refresh = ("user", "hunter2"), "long-lived"
    login(there, {"auths": {there.host: {"auth": "", "identitytoken": "long-lived"}}})
    where = place(f"{there.host}/a")
    assert where.resolve(image(where).digest).media_type == MANIFEST


def test_a_password_is_not_told_by_an_error(there, login):
    there.user = ("user", "other")
    login(there)
    with pytest.raises(RegistryError) as caught:
        place(f"{there.host}/a").resolve()
    assert "hunter2" not in f"{caught.value}{caught.value!r}{place(f'{there.host}/a')._client!r}"


def test_no_proxy_is_asked_for_what_is_on_this_machine(there, monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    assert not place(f"{there.host}/a").has_blob(digest_of(b""))


@pytest.mark.parametrize("text", ["carried", "/no/such/folder", "./carried", "https://h.example/a"])
def test_what_is_no_folder_and_no_reference_is_told(text):
    with pytest.raises(FetchError, match=r"no folder is called|is no reference"):
        place(text)


def test_a_folder_may_be_new_where_it_is_written(tmp_path, monkeypatch):
    (tmp_path / "in").mkdir()
    monkeypatch.chdir(tmp_path / "in")
    for text in (str(tmp_path / "absolute"), "./relative", "../here"):
        where = place(text, may_be_new=True)
        image(where)
        assert place(text).resolve("1").media_type == MANIFEST
    with pytest.raises(FetchError, match="no folder is called"):
        place("new", may_be_new=True)


def test_without_a_registry_the_error_names_it(tmp_path):
    with pytest.raises(RegistryError, match="the connection was cut, or there is none") as caught:
        place("127.0.0.1:9/a").resolve()
    assert "127.0.0.1:9" in caught.value.where


def test_a_link_in_a_layout_is_no_blob(tmp_path):
    (tmp_path / "layout").mkdir()
    where = LayoutPlace(tmp_path / "layout")
    (tmp_path / "secret").write_bytes(b"secret")
    blob = where.path(digest_of(b"secret"))
    blob.parent.mkdir(parents=True)
    blob.symlink_to(tmp_path / "secret")
    assert not where.has_blob(digest_of(b"secret"))
    with pytest.raises(MissingError):
        where.blob(digest_of(b"secret"), 6, tmp_path / "back")


@pytest.mark.parametrize(("mode", "is_shared"), [(0o644, True), (0o664, False), (0o646, False)])
def test_what_somebody_else_may_write_is_copied_before_it_is_verified(tmp_path, mode, is_shared):
    """Else it could be another thing by the time that it is read."""
    where = LayoutPlace(tmp_path / "layout")
    layer = Layer(b"x")
    where.put_blob(layer)
    there = where.path(layer.descriptor.digest)
    there.chmod(mode)
    where.blob(layer.descriptor.digest, 1, tmp_path / "blob")
    assert (tmp_path / "blob").read_bytes() == b"x"
    assert (tmp_path / "blob").samefile(there) == is_shared


def test_a_layouts_tag_moves_and_what_has_none_keeps_it(tmp_path):
    (tmp_path / "layout").mkdir()
    where = LayoutPlace(tmp_path / "layout")
    one, two = image(where, "1", b"one"), image(where, "1", b"two")
    assert where.resolve("1").digest == two.digest != one.digest
    where.put_manifest(where.manifest(two.digest))
    assert where.resolve("1").digest == two.digest


@needs("skopeo")
def test_skopeo_reads_and_writes_the_same(kept, tmp_path):
    """What is put here, skopeo takes; what it puts, is found here."""
    if isinstance(kept, LayoutPlace):
        pytest.skip("as test_carry does")
    (tmp_path / "there").mkdir()
    layout = LayoutPlace(tmp_path / "there")
    found = image(layout, "1", os.urandom(1000))
    command = ["skopeo", "copy", "--quiet", "--preserve-digests"]
    target = f"docker://{kept.repository}:1"
    subprocess.run(
        [*command, "--dest-tls-verify=false", f"oci:{layout.folder}:1", target],
        check=True,
        capture_output=True,
    )
    assert kept.resolve().digest == found.digest
    kept.attach(inputs(found, b"one"))
    subprocess.run(
        [*command, "--src-tls-verify=false", target, f"oci:{tmp_path / 'back'}:1"],
        check=True,
        capture_output=True,
    )
    assert LayoutPlace(tmp_path / "back").resolve("1").digest == found.digest


def test_hashes_are_those_of_the_bytes():
    assert Layer(b"x").descriptor.sha256 == hashlib.sha256(b"x").hexdigest()
