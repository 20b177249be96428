"""Fetching from a mirror that misbehaves: real HTTP on loopback."""

import contextlib
import dataclasses
import errno
import hashlib
import threading
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.loopback import serving
from tungstenkit import store
from tungstenkit.fetch import bring, web
from tungstenkit.fetch import download as downloading
from tungstenkit.fetch.big_files import BigFile
from tungstenkit.fetch.download import download
from tungstenkit.fetch.locate import locate
from tungstenkit.fetch.needs import LockedFile, needed_files
from tungstenkit.fetch.own_files import check_own_files
from tungstenkit.fetch.packing import pack
from tungstenkit.lock.document import read_lock
from tungstenkit.lock.packages import Source, SourceBuild, Wheel
from tungstenkit.sdk.errors import FetchError, GoneError, LockError

CONTENT = bytes(range(256)) * 4000
EXAMPLE = Path(__file__).resolve().parent.parent.parent.parent / "examples" / "caption"


class Mirror(BaseHTTPRequestHandler):
    """Serves CONTENT with ranges; the path says how it misbehaves."""

    requests: list[tuple[str, str | None]] = []  # noqa: RUF012 - emptied by the fixture

    def do_GET(self):
        span = self.headers.get("Range")
        self.requests.append((self.path, span))
        if "/gone" in self.path:
            self.send_error(404)
            return
        if "/busy" in self.path and len(self.requests) < 3:
            self.send_error(503)
            return
        body = CONTENT
        if "/flipped" in self.path:
            body = body[:1000] + bytes([body[1000] ^ 1]) + body[1001:]
        if "/endless" in self.path:
            body = body * 3
        begin = int(span.removeprefix("bytes=").rstrip("-")) if span and "/no-range" not in self.path else 0
        self.send_response(206 if begin else 200)
        self.send_header("Content-Length", str(len(body) - begin))
        self.end_headers()
        body = body[begin:]
        if "/cut" in self.path and not span:
            body = body[: len(body) // 2]
        with contextlib.suppress(OSError):  # a client that has enough hangs up
            self.wfile.write(body)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def mirror(monkeypatch):
    monkeypatch.setattr(downloading, "_PAUSES", (0,))
    Mirror.requests.clear()
    with serving(ThreadingHTTPServer(("127.0.0.1", 0), Mirror)) as server:
        yield f"http://127.0.0.1:{server.server_port}"


class Count:
    """A progress that adds up."""

    def __init__(self):
        self.size = 0
        self.names = []

    def start(self, files, size):
        pass

    def advance(self, size):
        self.size += size

    def done(self, name):
        self.names.append(name)


ENTRY = LockedFile("mirror://debian/pool/x~1.deb", len(CONTENT), hashlib.sha256(CONTENT).hexdigest())


def test_a_file_comes_under_its_store_name(mirror, tmp_path):
    count = Count()
    path = download(ENTRY, [f"{mirror}/x.deb"], tmp_path, count)
    assert path.name == "x_1.deb"
    assert path.read_bytes() == CONTENT
    assert count.size == len(CONTENT)
    assert count.names == ["x_1.deb"]


def test_a_download_that_was_cut_is_resumed(mirror, tmp_path):
    with pytest.raises(FetchError, match="could not be fetched") as caught:
        download(ENTRY, [f"{mirror}/cut"], tmp_path, Count())
    assert "goes on where it stopped" in caught.value.hint
    count = Count()
    path = download(ENTRY, [f"{mirror}/cut"], tmp_path, count)
    assert path.read_bytes() == CONTENT
    (_, first), (_, second) = Mirror.requests
    assert first is None
    assert 0 < int(second.removeprefix("bytes=").removesuffix("-")) <= len(CONTENT) // 2
    assert count.size == len(CONTENT)


def test_a_mirror_without_ranges_is_read_from_the_start(mirror, tmp_path):
    with pytest.raises(FetchError):
        download(ENTRY, [f"{mirror}/cut"], tmp_path, Count())
    count = Count()
    assert download(ENTRY, [f"{mirror}/no-range"], tmp_path, count).read_bytes() == CONTENT
    assert count.size == len(CONTENT)


@pytest.mark.parametrize("fault", ["flipped", "endless"])
def test_other_bytes_than_the_locked_ones_are_refused_and_removed(mirror, tmp_path, fault):
    with pytest.raises(FetchError, match="is not the locked file") as caught:
        download(ENTRY, [f"{mirror}/{fault}"], tmp_path, Count())
    if fault == "flipped":
        assert ENTRY.sha256 in caught.value.where
        assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_the_next_mirror_is_tried(mirror, tmp_path):
    path = download(ENTRY, [f"{mirror}/gone", f"{mirror}/flipped", f"{mirror}/good"], tmp_path, Count())
    assert path.read_bytes() == CONTENT


def test_a_mirror_that_is_busy_is_asked_again(mirror, tmp_path, monkeypatch):
    monkeypatch.setattr(downloading, "_PAUSES", (0, 0, 0))
    assert download(ENTRY, [f"{mirror}/busy"], tmp_path, Count()).read_bytes() == CONTENT
    assert len(Mirror.requests) == 3


def test_a_clear_answer_is_not_asked_for_again(mirror, tmp_path, monkeypatch):
    monkeypatch.setattr(downloading, "_PAUSES", (0, 0, 0))
    with pytest.raises(GoneError):
        download(ENTRY, [f"{mirror}/gone"], tmp_path, Count())
    assert len(Mirror.requests) == 1


def test_a_size_that_is_not_the_files_is_refused(mirror, tmp_path):
    entry = dataclasses.replace(ENTRY, size=ENTRY.size + 1)
    with pytest.raises(FetchError, match="is not the locked file") as caught:
        download(entry, [f"{mirror}/x"], tmp_path, Count())
    assert f"the lock says {ENTRY.size + 1} bytes" in caught.value.where


def test_a_file_that_left_every_mirror_is_gone(mirror, tmp_path):
    with pytest.raises(GoneError) as caught:
        download(ENTRY, [f"{mirror}/gone"], tmp_path, Count())
    assert "tungsten lock" in caught.value.hint


def test_a_file_that_no_index_has_is_gone(tmp_path):
    with pytest.raises(GoneError):
        download(ENTRY, [], tmp_path, Count())


def test_a_password_in_a_url_is_not_shown(mirror, tmp_path):
    secret = mirror.replace("http://", "http://user:hunter2@")
    with pytest.raises(FetchError) as caught:
        download(ENTRY, [f"{secret}/gone"], tmp_path, Count())
    assert "hunter2" not in str(caught.value)


def test_two_files_of_one_content_come_at_the_same_time(tmp_path, monkeypatch):
    both = threading.Barrier(2)

    def get(_url, part, *_):
        part.write_bytes(CONTENT)
        both.wait(10)

    monkeypatch.setattr(web, "resume", get)
    entries = [ENTRY, dataclasses.replace(ENTRY, file="other")]
    with ThreadPoolExecutor(2) as pool:
        paths = list(pool.map(lambda entry: download(entry, ["http://mirror/x"], tmp_path, Count()), entries))
    assert {path.name: path.read_bytes() for path in paths} == {"x_1.deb": CONTENT, "other": CONTENT}


def test_a_full_disk_is_said_plainly(tmp_path, monkeypatch):
    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device", str(tmp_path / "part"))

    lock = read_lock(EXAMPLE / "tungsten.lock")
    monkeypatch.setattr(bring, "missing_files", lambda lock: needed_files(lock)[:3])
    monkeypatch.setattr(downloading, "download", full)
    urls = {entry.sha256: ["http://mirror.invalid/"] for entry in needed_files(lock)}
    with pytest.raises(FetchError, match="disk is full") as caught:
        bring.bring(lock, urls, bring.Folders(tmp_path, tmp_path / ".tungsten"), Count())
    assert "make room" in caught.value.hint


def test_inputs_are_every_file_of_the_lock_once():
    lock = read_lock(EXAMPLE / "tungsten.lock")
    entries = needed_files(lock)
    assert len({entry.path for entry in entries}) == len(entries)
    (platform,), (tools,) = lock.platforms.values(), lock.tools.values()
    hashes = {entry.sha256 for entry in entries}
    assert {file.sha256 for file in (*platform.debs, *platform.wheels, tools.busybox, tools.bash)} <= hashes


class Listing:
    """Mirrors whose index lacks a file."""

    def urls(self, uri, timestamps):
        return [uri.replace("mirror://", "http://mirror.invalid/"), timestamps["debian"]]

    def wheel_urls(self, project, files, sha256):
        return {} if project == "numpy" else {file: f"http://index.invalid/{file}" for file in files}


def test_locate_asks_the_index_and_uses_each_releases_own_snapshot():
    lock = read_lock(EXAMPLE / "tungsten.lock")
    urls = locate(needed_files(lock), lock, Listing())
    assert set(urls) == {entry.sha256 for entry in needed_files(lock)}
    (platform,) = lock.platforms.values()
    numpy = next(wheel for wheel in platform.wheels if wheel.project == "numpy")
    assert urls[numpy.sha256] == []
    assert urls[platform.debs[0].sha256][1] == lock.releases[platform.release].timestamps["debian"]


def own(folder, path, file):
    """An input as a lock has it of a file or folder of the model's."""
    packed = folder / "packed"
    if (folder / path).is_dir():
        pack(folder / path, packed)
    else:
        packed.write_bytes((folder / path).read_bytes())
    content = packed.read_bytes()
    packed.unlink()
    return LockedFile(file, len(content), hashlib.sha256(content).hexdigest(), project="lib", local=path)


class TestOwnFiles:
    @pytest.fixture
    def model(self, tmp_path):
        (tmp_path / "lib").mkdir()
        (tmp_path / "lib" / "a.py").write_text("1")
        (tmp_path / "lib-1-py3-none-any.whl").write_bytes(b"a wheel")
        (tmp_path / "downloads").mkdir()
        return tmp_path

    @pytest.mark.parametrize(("path", "file"), [("lib", "lib-1.tar"), ("lib-1-py3-none-any.whl",) * 2])
    def test_they_are_made_again_from_what_is_here(self, model, path, file):
        entry = own(model, path, file)
        assert entry.is_own
        made = download(entry, [], model / "downloads", Count(), model)
        assert made.name == entry.name
        assert hashlib.sha256(made.read_bytes()).hexdigest() == entry.sha256

    def test_what_has_changed_is_an_error_and_leaves_nothing(self, model):
        entry = own(model, "lib", "lib-1.tar")
        (model / "lib" / "a.py").write_text("2")
        with pytest.raises(FetchError, match="lib has changed since the lock was made"):
            download(entry, [], model / "downloads", Count(), model)
        assert [file for file in (model / "downloads").rglob("*") if file.is_file()] == []

    def test_what_is_no_longer_there_is_an_error(self, model):
        entry = own(model, "lib", "lib-1.tar")
        (model / "lib").rename(model / "other")
        with pytest.raises(FetchError, match="no such file or folder"):
            download(entry, [], model / "downloads", Count(), model)

    def test_a_url_of_the_models_is_asked_and_no_index(self, model):
        entry = LockedFile("x-1-py3-none-any.whl", 1, "0" * 64, project="x", url="https://host.example/x.whl")
        assert not entry.is_own
        assert locate([entry], None, None) == {entry.sha256: ["https://host.example/x.whl"]}

    def test_the_lock_is_stale_by_the_name_of_each(self, model):
        wheel, folder = (
            own(model, "lib-1-py3-none-any.whl", "lib-1-py3-none-any.whl"),
            own(model, "lib", "lib-1.tar"),
        )
        entry = {"project": "lib", "version": "1"}
        lock = SimpleNamespace(
            platforms={
                "x": SimpleNamespace(
                    wheels=[Wheel(**entry, file=wheel.file, size=1, sha256=wheel.sha256, path=wheel.local)],
                    sources=[SimpleNamespace(path=folder.local, sha256=folder.sha256)],
                )
            }
        )
        check_own_files(lock, model)
        (model / "lib" / "a.py").write_text("2")
        (model / "lib-1-py3-none-any.whl").unlink()
        with pytest.raises(LockError) as caught:
            check_own_files(lock, model)
        assert "lib has changed" in caught.value.what
        assert "lib-1-py3-none-any.whl is no longer there" in caught.value.what


def source_of(lock, **changes):
    """The lock with a source among its packages."""
    (system, platform), *_ = lock.platforms.items()
    deb = platform.debs[0].model_copy(update={"sha256": "1" * 64, "group": "build"})
    backend = platform.wheels[0].model_copy(update={"sha256": "2" * 64})
    fields = {"project": "foo", "version": "1.0", "file": "foo-1.0.tar.gz", "size": 1, "sha256": "3" * 64}
    build = SourceBuild(backend="setuptools.build_meta", wheels=(backend,), debs=(deb,))
    source = Source(**fields | changes, build=build)
    changed = platform.model_copy(update={"sources": (source,)})
    return lock.model_copy(update={"platforms": {**lock.platforms, system: changed}})


def test_what_builds_a_wheel_is_fetched_only_where_the_wheel_is_not(monkeypatch):
    lock = read_lock(EXAMPLE / "tungsten.lock")
    built = {"wheel": "foo-1.0-py3-none-any.whl", "wheel_size": 1, "wheel_sha256": "4" * 64}
    needed = {"1" * 64, "2" * 64, "3" * 64}
    everything = {entry.sha256 for entry in needed_files(source_of(lock, **built))}
    assert needed <= everything
    assert "4" * 64 not in everything
    monkeypatch.setattr(store, "missing", set)
    assert needed <= {entry.sha256 for entry in bring.missing_files(source_of(lock, **built))}
    present = store.file_path("4" * 64, built["wheel"])
    monkeypatch.setattr(store, "missing", lambda paths: set(paths) - {present})
    assert needed.isdisjoint(entry.sha256 for entry in bring.missing_files(source_of(lock, **built)))


def test_what_was_brought_is_there_and_held_by_one_question(monkeypatch, tmp_path):
    """A wheel that is there needs nothing of what builds it; all else counts, and so does what holds it."""
    lock = read_lock(EXAMPLE / "tungsten.lock")
    built = {"wheel": "foo-1.0-py3-none-any.whl", "wheel_size": 1, "wheel_sha256": "4" * 64}
    lock = source_of(lock, **built)
    wheel = store.file_path("4" * 64, built["wheel"])
    builds = {entry.path for entry in needed_files(lock) if entry.sha256 in {"1" * 64, "2" * 64, "3" * 64}}
    big = BigFile("weights.bin", 1, "5" * 64, executable=False)
    every = {*bring.store_paths(lock, [big])}
    asked, held, gone = [], set(), set()
    monkeypatch.setattr(store, "missing", lambda paths: asked.append(paths) or gone & set(paths))
    monkeypatch.setattr(store, "holds", lambda paths, roots: set(paths) == held)
    folders = bring.Folders(tmp_path, tmp_path / ".tungsten")

    def is_brought(*absent, holds=every, more=()):
        gone.clear()
        gone.update(absent)
        held.clear()
        held.update(holds)
        asked.clear()
        answer = bring.is_brought(lock, folders, big=[big], more=more)
        assert len(asked) == 1
        return answer

    assert is_brought()
    assert is_brought(*builds, holds=every - builds)
    assert not is_brought(*builds)
    assert not is_brought(wheel, *builds, holds=every - builds - {wheel})
    for path in every - builds - {wheel}:
        assert not is_brought(path, holds=every - {path}), path
    assert not is_brought(holds=every - {wheel})
    assert is_brought(more=["/nix/store/x-layout"])
    assert not is_brought("/nix/store/x-layout", more=["/nix/store/x-layout"])


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"url": "https://h.example/foo-1.0.zip", "path": "foo"}, "two places"),
        ({"url": "https://me:secret@h.example/foo-1.0.zip"}, "user name or password"),
        ({"path": "/home/me/foo"}, "not relative"),
        ({"wheel": "foo-1.0-py3-none-any.whl"}, "in part only"),
        (
            {"wheel": "bar-1.0-py3-none-any.whl", "wheel_size": 1, "wheel_sha256": "0" * 64},
            "not a wheel of foo",
        ),
    ],
)
def test_a_source_that_contradicts_itself_is_refused(changes, what):
    with pytest.raises(ValueError, match=what):
        source_of(read_lock(EXAMPLE / "tungsten.lock"), **changes)
