"""A registry that means harm, or is broken: it gets no password for others, and nobody waits for it or is flooded."""

import gzip
import json
import re
import threading

import pytest

from tests.registry import digest_of, registry
from tungstenkit.registry import client, remote
from tungstenkit.registry.artifact import INDEX, MANIFEST, Artifact, Layer
from tungstenkit.registry.client import RegistryError
from tungstenkit.registry.place import place
from tungstenkit.sdk.errors import FetchError

pytestmark = pytest.mark.timeless("what is kept has no date")
CONTENT = b"content"
DIGEST = digest_of(CONTENT)


@pytest.fixture(autouse=True)
def _nobody_waits(monkeypatch):
    monkeypatch.setattr(client, "_pause", lambda _: None)


@pytest.fixture
def there(monkeypatch, tmp_path):
    """A registry whose password this machine has: user:hunter2."""
    with registry(user=("user", "hunter2")) as found:
        path = tmp_path / "auth.json"
        path.write_text(json.dumps({"auths": {found.host: {"auth": "dXNlcjpodW50ZXIy"}}}))
        monkeypatch.setenv("REGISTRY_AUTH_FILE", str(path))
        yield found


@pytest.fixture
def elsewhere():
    """Another one, which would like to know that, too."""
    with registry(user=("somebody", "else")) as found:
        yield found


def told(server):
    return {said.get("Authorization") for *_, said in server.asked}


def test_who_is_led_to_another_host_to_write_tells_it_no_password(there, elsewhere):
    """It asks who that is, and says itself where that is to be said."""
    there.uploads_at = f"http://{elsewhere.host}/v2/theirs/blobs/uploads/1"
    with pytest.raises(RegistryError, match="HTTP 401"):
        place(f"{there.host}/a").put_blob(Layer(CONTENT))
    assert [path.partition("?")[0] for _, path, _ in elsewhere.asked] == ["/v2/theirs/blobs/uploads/1"]
    assert told(elsewhere) == {None}


@pytest.mark.parametrize("address", ["//[", "file:///etc/passwd", "http://h:x/"])
def test_nothing_is_sent_to_what_is_no_address(there, address):
    there.uploads_at = address
    with pytest.raises(RegistryError, match="leads to no address"):
        place(f"{there.host}/a").put_blob(Layer(CONTENT))


def test_a_list_does_not_go_on_elsewhere(there, elsewhere):
    there.next_page = f"http://{elsewhere.host}/v2/theirs/referrers/{DIGEST}"
    for address in (there.next_page, "file:///etc/passwd", "//[", "http://user:word@127.0.0.1/"):
        there.next_page = address
        with pytest.raises(RegistryError, match="has its list go on elsewhere"):
            place(f"{there.host}/a").referrers(DIGEST)
    assert elsewhere.asked == []


def test_a_list_without_end_is_refused(there, monkeypatch):
    monkeypatch.setattr(remote, "_MOST_PAGES", 20)
    there.next_page = f"/v2/a/referrers/{DIGEST}"
    with pytest.raises(RegistryError, match="does not end"):
        place(f"{there.host}/a").referrers(DIGEST)
    assert len([path for _, path, _ in there.asked if "referrers" in path]) < 25
    monkeypatch.setattr(remote, "_LARGEST_LIST", 500)
    there.asked.clear()
    with pytest.raises(RegistryError, match="does not end"):
        place(f"{there.host}/a").referrers(DIGEST)
    assert len([path for _, path, _ in there.asked if "referrers" in path]) < 10
    monkeypatch.setattr(remote, "_LARGEST_LIST", 1 << 20)
    there.next_page = None
    monkeypatch.setattr(remote, "_MOST_REFERRERS", 5)
    there.page = 2
    subject = {"mediaType": MANIFEST, "digest": DIGEST, "size": 7}
    for number in range(10):
        about = {"subject": subject, "artifactType": "application/x", "annotations": {"n": str(number)}}
        there.put("a", json.dumps(about).encode(), str(number))
    with pytest.raises(RegistryError, match="does not end"):
        place(f"{there.host}/a").referrers(DIGEST)


def test_what_is_packed_on_the_way_is_not_unpacked(there, tmp_path):
    """A few bytes would become as many as a registry likes, before anybody has counted them."""
    where = place(f"{there.host}/a")
    flood = gzip.compress(bytes(1 << 24))
    there.headers = {"Content-Encoding": "gzip"}
    there.blobs["a", DIGEST] = flood
    with pytest.raises(FetchError, match="not what its digest says"):
        where.blob(DIGEST, 1 << 24, tmp_path / "blob")
    there.put("a", flood)
    with pytest.raises(FetchError, match="no manifest"):
        where.resolve()


def test_a_blob_that_drips_is_not_waited_for(there):
    there.blobs["a", DIGEST] = CONTENT
    where = place(f"{there.host}/a")
    answer = where._client.ask("GET", where._client.url(f"blobs/{DIGEST}"))
    ticks = iter(range(0, 10_000, 1000))
    with pytest.raises(RegistryError, match="no answer in time") as caught:
        list(client.pieces(answer, lambda: next(ticks)))
    assert caught.value.may_pass


def test_a_blob_that_stops_after_a_good_beginning_is_not_waited_for(there):
    """What came before a pause is no reason to wait for what comes after it."""
    content = bytes(1 << 22)
    there.blobs["a", DIGEST] = content
    where = place(f"{there.host}/a")
    answer = where._client.ask("GET", where._client.url(f"blobs/{DIGEST}"))
    seen, pauses = [], iter([40, 300, 300])

    def clock():
        if sum(seen) > len(content) // 2:
            clock.now += next(pauses)
        return clock.now

    clock.now = 0
    with pytest.raises(RegistryError, match="no answer in time"):
        seen.extend(map(len, client.pieces(answer, clock)))
    assert len(content) // 2 < sum(seen) < len(content)


@pytest.mark.parametrize(
    "reference", ["a:1@{digest}", "a@{digest}", "a:latest", "a/b-c/d__e:V1.x_-", "x" * 200 + "/a"]
)
def test_a_reference_with_a_port_a_tag_and_a_digest_is_asked_for_as_it_is(there, reference):
    wanted = reference.format(digest=DIGEST)
    with pytest.raises(FetchError, match="does not have this"):
        place(f"{there.host}/{wanted}").resolve()
    name = re.split(r"[:@]", wanted)[0]
    last = DIGEST if "@" in wanted else (wanted.partition(":")[2] or "latest")
    assert there.asked[-1][1] == f"/v2/{name}/manifests/{last}"


@pytest.mark.parametrize(
    "reference",
    [
        *("A/b", "a/B", "a//b", "a/../b", "a/b:", "a/b@", "a/b@sha512:00", "a/b@sha256:AB", "a/b:x:y"),
        *(
            "a/b\n",
            "a/b\x1b[31m",
            "a/b?x=y",
            "a/b#x",
            "a/b c",
            "user:word@host.example/a",
            "[::1/a",
            "a/%2e%2e",
        ),
        *("http://host.example/a", "a/\u0430", "-a/b", "a/" + "b" * 300),
    ],
)
def test_what_is_no_reference_asks_nobody(reference):
    with pytest.raises(FetchError, match=r"no reference|no folder"):
        place(reference)


def test_an_answer_that_is_a_page_is_no_manifest_and_no_token(there):
    there.put("a", b"<!DOCTYPE html><html>please sign in</html>", media_type="text/html")
    with pytest.raises(FetchError, match="no manifest"):
        place(f"{there.host}/a").resolve()
    there.refuses["token"] = 200
    there.tokens.clear()
    with pytest.raises(RegistryError, match="gives no token"):
        place(f"{there.host}/a").resolve()


@pytest.mark.parametrize(
    "found",
    [
        b'{"manifests": [{"mediaType": "x", "digest": "sha256:%s", "size": -1}]}' % (b"0" * 64),
        b'{"manifests": [{"mediaType": "x", "digest": "sha256:%s", "size": 1e400}]}' % (b"0" * 64),
        b'{"manifests": [{"mediaType": "x", "digest": "sha256:%s", "size": true}]}' % (b"0" * 64),
        b'{"manifests": [{"mediaType": "x", "digest": "sha512:%s", "size": 1}]}' % (b"0" * 128),
        b'{"manifests": [{"mediaType": "x", "digest": "sha256:../../../etc/passwd", "size": 1}]}',
        b'{"manifests": [], "manifests": []}',
        b'{"manifests": {"0": 1}}',
        b'{"manifests": %s}' % (b"[" * 100_000),
        b"\xff\xfe",
        b"9" * 5000,
    ],
)
def test_a_list_of_odd_things_is_none(there, found):
    there.put("a", found, DIGEST.replace(":", "-"), INDEX)
    there.has_referrers = False
    with pytest.raises(FetchError, match="no manifest"):
        place(f"{there.host}/a").referrers(DIGEST)


def test_another_s_tag_is_no_more_than_its_word(there):
    """The tag of an image's referrers may list what is about another image, or is not there."""
    there.has_referrers = False
    entries = [{"mediaType": MANIFEST, "digest": digest_of(b"gone"), "size": 4, "artifactType": "x"}]
    index = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}).encode()
    there.put("a", index, DIGEST.replace(":", "-"), INDEX)
    where = place(f"{there.host}/a")
    (one,) = where.referrers(DIGEST, "x")
    with pytest.raises(FetchError, match="does not have this"):
        where.manifest(one.digest)


def test_of_two_that_list_by_one_tag_at_once_both_are_listed(there, monkeypatch):
    """Where a registry has no list of its own, each writes all that it has seen."""
    there.has_referrers = False
    where = place(f"{there.host}/a")
    subject = where.put_manifest(b'{"schemaVersion": 2}')
    other = {"mediaType": MANIFEST, "digest": digest_of(b"other"), "size": 5}
    put, tag = where._put, subject.digest.replace(":", "-")
    late = [json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": [other]}).encode()]

    def overtaken(content, media_type, name):
        put(content, media_type, name)
        if name == tag and late:
            there.put("a", late.pop(), tag, INDEX)

    monkeypatch.setattr(where, "_put", overtaken)
    found = where.attach(Artifact("application/x", [Layer(b"one")], subject))
    assert {one.digest for one in where.referrers(subject.digest)} == {found.digest, other["digest"]}


def test_a_registry_s_pause_is_not_kept(there, monkeypatch):
    """Whatever it asks for: an hour, or yesterday."""
    paused = []
    monkeypatch.setattr(client, "_pause", paused.append)
    for wish in ("86400", "-1", "Thu, 01 Jan 1970 00:00:00 GMT", "9" * 5000):
        there.headers, there.refuses["HEAD"] = {"Retry-After": wish}, 429
        with pytest.raises(RegistryError, match="HTTP 429"):
            place(f"{there.host}/a").has_blob(DIGEST)
    assert max(paused) <= 2


def test_two_that_take_one_blob_into_one_place_get_it(there, tmp_path):
    content = bytes(range(256)) * 10_000
    there.blobs["a", digest_of(content)] = content
    where = place(f"{there.host}/a")
    folders = [tmp_path / str(number) for number in range(4)]
    threads = []
    for folder in folders:
        folder.mkdir()
        job = (digest_of(content), len(content), folder / "blob")
        threads.append(threading.Thread(target=where.blob, args=job))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all((folder / "blob").read_bytes() == content for folder in folders)
