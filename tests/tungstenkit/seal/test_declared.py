"""What a hub and web servers say becomes pins, which stay until they are asked to move."""

import pytest

from tests import hub as hubs
from tests.hub import Repository, sha256
from tests.tungstenkit.fetch.test_fetch import Count
from tests.tungstenkit.locks import deb, lock
from tungstenkit import store
from tungstenkit.audit.diff import compare
from tungstenkit.audit.vulnerabilities import Advisories
from tungstenkit.audit.why import why
from tungstenkit.fetch.download import download
from tungstenkit.fetch.locate import locate
from tungstenkit.fetch.needs import declared_files, gated_hashes
from tungstenkit.lock.document import Lock
from tungstenkit.lock.parts import Files
from tungstenkit.lock.unpin import unpinned
from tungstenkit.sdk.errors import FetchError, LockError, ResolveError
from tungstenkit.seal.declared import lock_files
from tungstenkit.spec.document import DownloadWish, RepositoryWish

FIRST, SECOND = "1" * 40, "2" * 40
CONTENTS = {
    "README.md": b"read me",
    "config.json": b"{}",
    "empty.txt": b"",
    "onnx/model.bin": b"o" * 3000,
    "model.safetensors": b"w" * 5000,
}


@pytest.fixture
def hub(monkeypatch, tmp_path):
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_TOKEN_PATH", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "no-token-here"))
    monkeypatch.setenv("NETRC", str(tmp_path / "no-netrc"))
    with hubs.running() as running:
        monkeypatch.setenv("HF_ENDPOINT", running.url)
        running.repositories["org/name"] = Repository({FIRST: CONTENTS}, {"main": FIRST})
        yield running


@pytest.fixture
def resolve(tmp_path):
    """Locks wishes; the notices stand in `resolve.notices`."""
    folder = tmp_path / "downloads"
    folder.mkdir()

    def resolve(*wishes, previous=None):
        resolve.notices = []
        return lock_files(wishes, previous or Files(), folder, Count(), resolve.notices.append)

    resolve.folder = folder
    return resolve


def repository(name="org/name", **fields):
    values = {"type": "model", "revision": "main", "to": None, "include": [], "exclude": []}
    return RepositoryWish(repository=name, **{**values, **fields})


def from_url(url, to="w.bin", digest=None, executable=False):
    return DownloadWish(url=url, sha256=digest, to=to, executable=executable)


def pinned(files):
    (one,) = files.repositories
    return {file.path: (file.size, file.sha256) for file in one.files}


def test_a_branch_becomes_a_commit_with_the_hash_of_every_file(hub, resolve):
    """Over several pages; a large file is not downloaded for it."""
    found = resolve(repository())
    assert found.repositories[0].commit == FIRST
    assert pinned(found) == {path: (len(data), sha256(data)) for path, data in CONTENTS.items()}
    assert sum("/tree/" in path for path in hub.paths()) > 1
    fetched = {path.rpartition("/")[2] for path in hub.paths() if "/resolve/" in path}
    assert fetched == {"README.md", "config.json", "empty.txt"}


def test_what_was_downloaded_for_a_lock_is_where_a_fetch_looks(hub, resolve):
    found = lock(deb("python3.13")).model_copy(update={"files": resolve(repository())})
    entries = [entry for entry in declared_files(found) if entry.file == "config.json"]
    hub.asked.clear()
    assert download(entries[0], ["http://127.0.0.1:1/"], resolve.folder, Count()).read_bytes() == b"{}"
    assert hub.asked == []


def test_patterns_choose(hub, resolve):
    found = resolve(repository(include=["*.json", "onnx/"], exclude=["*.md"]))
    assert set(pinned(found)) == {"config.json", "onnx/model.bin"}
    with pytest.raises(ResolveError, match="no file") as caught:
        resolve(repository(include=["*.gguf"]))
    assert "README.md" in caught.value.hint


def test_a_pin_stays_until_it_may_move(hub, resolve):
    first = resolve(repository())
    hub.repositories["org/name"].commits[SECOND] = {**CONTENTS, "config.json": b'{"new": 1}'}
    hub.repositories["org/name"].refs["main"] = SECOND
    hub.asked.clear()
    assert resolve(repository(), previous=first) == first
    assert hub.asked == []
    # Other patterns are another choice from the same commit.
    narrower = resolve(repository(include=["*.json"]), previous=first)
    assert narrower.repositories[0].commit == FIRST
    assert not any("/resolve/" in path for path in hub.paths())
    whole = lock(deb("python3.13")).model_copy(update={"files": first})
    free = unpinned(whole, ["org/name"])
    assert free.platforms == whole.platforms
    moved = resolve(repository(), previous=free.files)
    assert moved.repositories[0].commit == SECOND
    assert pinned(moved)["config.json"][0] == 10


def test_another_place_is_no_other_pin(hub, resolve):
    first = resolve(repository())
    hub.asked.clear()
    assert resolve(repository(to="here"), previous=first).repositories[0].to == "here"
    assert hub.asked == []


def test_a_commit_can_be_asked_for(hub, resolve):
    assert resolve(repository(revision=FIRST)).repositories[0].commit == FIRST


def test_a_dataset_is_asked_for_as_one(hub, resolve):
    found = resolve(repository(type="dataset"))
    assert pinned(found)
    assert any(path.startswith("/api/datasets/") for path in hub.paths())
    assert any(path.startswith("/datasets/org/name/resolve/") for path in hub.paths())


@pytest.mark.parametrize(
    ("wish", "what"),
    [
        (repository("no/such"), "does not show this repository"),
        (repository(revision="nope"), "no such repository or revision"),
    ],
)
def test_what_is_not_there_is_named(hub, resolve, wish, what):
    with pytest.raises(ResolveError, match=what) as caught:
        resolve(wish)
    assert wish.repository in caught.value.where


def test_a_hub_that_is_not_there_is_named(monkeypatch, resolve):
    monkeypatch.setattr("tungstenkit.fetch.web._pause", lambda _: None)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    with pytest.raises(FetchError, match="does not answer") as caught:
        resolve(repository())
    assert "HF_ENDPOINT" in caught.value.hint


def test_a_file_that_is_not_the_listed_one_is_refused(hub, resolve, monkeypatch):
    """The hub lists a small file by git's hash of it."""
    monkeypatch.setattr(hubs, "blob_id", lambda data: "0" * 40)
    with pytest.raises(FetchError, match="not the file that the hub's list names"):
        resolve(repository(include=["config.json"]))


def test_a_gated_repository_needs_a_token_that_goes_nowhere_else(hub, resolve, monkeypatch, tmp_path):
    """Not to the host that the hub sends its clients to for large files, and not into the lock."""
    hub.repositories["org/name"].gated = True
    with pytest.raises(FetchError, match="401") as caught:
        resolve(repository())
    assert "HF_TOKEN" in caught.value.hint
    monkeypatch.setenv("HF_TOKEN", hubs.TOKEN)
    found = resolve(repository())
    assert found.repositories[0].restricted
    whole = lock(deb("python3.13")).model_copy(update={"files": found})
    assert hubs.TOKEN not in whole.to_json()
    assert gated_hashes(whole) == {sha256(data) for data in CONTENTS.values()}
    (large,) = [entry for entry in declared_files(whole) if entry.file == "model.safetensors"]
    urls = locate([large], whole, None)
    hub.asked.clear()
    assert download(large, urls[large.sha256], tmp_path, Count()).stat().st_size == 5000
    assert [(path.split("/")[1], token) for path, token in hub.asked] == [
        ("org", f"Bearer {hubs.TOKEN}"),
        ("cdn", None),
    ]


def test_a_token_that_is_kept_in_a_file_is_found(hub, resolve, monkeypatch, tmp_path):
    hub.repositories["org/name"].private = True
    (tmp_path / "token").write_text(f"{hubs.TOKEN}\n")
    monkeypatch.setenv("HF_TOKEN_PATH", str(tmp_path / "token"))
    assert resolve(repository(include=["*.json"])).repositories[0].restricted


def test_without_a_token_a_fetch_says_how_to_be_let_in(hub, resolve, monkeypatch, tmp_path):
    monkeypatch.setattr("tungstenkit.fetch.download._PAUSES", (0,))
    found = lock(deb("python3.13")).model_copy(update={"files": resolve(repository())})
    hub.repositories["org/name"].gated = True
    (large,) = [entry for entry in declared_files(found) if entry.file == "model.safetensors"]
    with pytest.raises(FetchError, match=r"does not give model.safetensors of org/name to you") as caught:
        download(large, locate([large], found, None)[large.sha256], tmp_path, Count())
    assert "HF_TOKEN" in caught.value.hint


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:%b\nsize 5\n" % (b"0" * 64)


def test_a_pointer_in_the_place_of_a_large_file_is_refused_by_name(hub, resolve):
    """Whoever put it there had no git-lfs; or the address is that of the pointer."""
    hub.repositories["org/name"].commits[FIRST] = {**CONTENTS, "w.txt": POINTER}
    with pytest.raises(FetchError) as caught:
        resolve(repository())
    assert caught.value.what == "w.txt is a Git LFS pointer, and not the file"
    assert "exclude=['w.txt']" in caught.value.hint
    assert pinned(resolve(repository(exclude=["w.txt"]))).keys() == CONTENTS.keys()
    hub.files["w.bin"] = POINTER
    with pytest.raises(FetchError, match=r"weights/w\.bin is a Git LFS pointer"):
        resolve(from_url(f"{hub.url}/files/w.bin", to="weights/w.bin"))


def test_a_stated_hash_is_locked_without_a_download(hub, resolve):
    hub.files["w.bin"] = b"weights"
    (one,) = resolve(from_url(f"{hub.url}/files/w.bin", digest="c" * 64)).downloads
    assert (one.size, one.sha256) == (7, "c" * 64)
    assert not any(resolve.folder.iterdir())


def test_a_file_without_a_hash_is_locked_at_first_sight_and_said_so(hub, resolve):
    hub.files["w.bin"] = b"weights"
    wish = from_url(f"{hub.url}/files/w.bin")
    first = resolve(wish)
    assert first.downloads[0].sha256 == sha256(b"weights")
    assert sha256(b"weights") in resolve.notices[0]
    hub.files["w.bin"] = b"others!"
    assert resolve(wish, previous=first) == first
    assert resolve.notices == []
    whole = lock(deb("python3.13")).model_copy(update={"files": first})
    moved = resolve(wish, previous=unpinned(whole, ["w.bin"]).files)
    assert moved.downloads[0].sha256 == sha256(b"others!")


def test_a_changed_file_is_refused_and_the_hint_is_the_users_own_line(hub, resolve, tmp_path):
    hub.files["w.bin"] = b"weights"
    found = lock(deb("python3.13")).model_copy(update={"files": resolve(from_url(f"{hub.url}/files/w.bin"))})
    hub.files["w.bin"] = b"weightz"
    (entry,) = declared_files(found)
    with pytest.raises(FetchError, match=r"w.bin is not the locked file") as caught:
        download(entry, locate([entry], found, None)[entry.sha256], tmp_path, Count())
    assert "Download" in caught.value.hint
    assert sha256(b"weightz") in caught.value.where


def test_a_file_that_is_not_there_is_named(hub, resolve):
    with pytest.raises(FetchError, match="404"):
        resolve(from_url(f"{hub.url}/files/none"))


def test_a_clash_is_named_when_it_is_locked(hub, resolve):
    hub.files |= {"x": b"x", "y": b"y"}
    with pytest.raises(ResolveError, match=r"w.bin: two different files"):
        resolve(from_url(f"{hub.url}/files/x"), from_url(f"{hub.url}/files/y"))
    twice = resolve(repository(), repository(revision=FIRST, include=["*.json"]))
    assert len(twice.repositories) == 2


def test_a_lock_without_files_has_no_such_key(hub, resolve):
    plain = lock(deb("python3.13"))
    assert '"files"' not in plain.to_json()
    full = plain.model_copy(update={"files": resolve(repository())})
    assert Lock.parse(full.to_json(), where="", error=LockError, hint="") == full


def test_what_moved_and_why_it_is_there_can_be_asked(hub, resolve):
    plain = lock(deb("python3.13"))
    full = plain.model_copy(update={"files": resolve(repository())})
    (change,) = compare(plain, full, Advisories()).changes
    assert (change.kind, change.name, change.before, change.after) == ("file", "org/name", None, FIRST[:12])
    assert change.size_after == sum(map(len, CONTENTS.values()))
    assert compare(full, full, Advisories()).changes == ()
    (reason,) = why(full, "org/name", Advisories())
    assert reason.chains == (("files: org/name at main", "org/name"),)
    with pytest.raises(LockError, match="near: org/name"):
        why(full, "org/nam", Advisories())


def test_a_file_is_called_in_the_store_as_nix_calls_it(hub, resolve):
    found = lock(deb("python3.13")).model_copy(update={"files": resolve(repository())})
    names = {entry.name for entry in declared_files(found)}
    assert names == {store.store_name(path.rpartition("/")[2]) for path in CONTENTS}


@pytest.mark.parametrize(
    ("key", "value"), [("url", "file:///etc/passwd"), ("to", "/etc/passwd"), ("sha256", "abc")]
)
def test_a_lock_that_was_tampered_with_is_refused(hub, resolve, key, value):
    hub.files["w.bin"] = b"weights"
    files = resolve(from_url(f"{hub.url}/files/w.bin"))
    document = lock(deb("python3.13")).model_copy(update={"files": files}).to_json()
    (one,) = files.downloads
    with pytest.raises(LockError, match=f"files.downloads.0.{key}"):
        Lock.parse(
            document.replace(f'"{getattr(one, key)}"', f'"{value}"'), where="", error=LockError, hint=""
        )
