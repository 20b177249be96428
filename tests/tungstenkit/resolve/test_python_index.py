"""What uv is offered, and how little is fetched for it; uv itself is in `test_sources`."""

import hashlib
import io
import threading
import urllib.error
import urllib.request
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.loopback import serving
from tests.tungstenkit.resolve.package_index import view, wheel
from tungstenkit.fetch import web
from tungstenkit.fetch.index_pages import IndexFile
from tungstenkit.fetch.web import Part
from tungstenkit.platforms import Target
from tungstenkit.resolve.index_server import serve_index
from tungstenkit.resolve.offer import Offer
from tungstenkit.resolve.python_index import PythonIndex
from tungstenkit.sdk.errors import FetchError, ResolveError

TARGET = Target("x86_64-linux", "bookworm", "3.11")
HASH = "0" * 64


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


class Files:
    """An index whose files are bytes here; what was asked of it."""

    def __init__(self, content, ranges=True, **listed):
        self.content = content
        self.ranges = ranges
        self.listed = listed
        self.asked = []

    def files_of(self, project):
        self.asked.append(project)
        return [IndexFile(name, f"https://h.example/{name}", **self.listed) for name in self.content]

    def part(self, url, start, size):
        self.asked.append((start, size))
        name = url.rpartition("/")[2]
        if name not in self.content:
            raise FetchError("can't be fetched", where=url)
        data = self.content[name]
        if not self.ranges:
            return Part(None, 0, None)
        begin = max(0, len(data) - size) if start is None else start
        return Part(data[begin : begin + size], begin, len(data))

    def save(self, url, path):
        self.asked.append("whole")
        name = url.rpartition("/")[2]
        if name not in self.content:
            raise FetchError("can't be fetched", where=url)
        path.write_bytes(self.content[name])

    def offer(self, **options):
        return Offer(PythonIndex(self.files_of, self.part, self.save), TARGET, **options)


def large():
    """A wheel whose metadata lie before what is large."""
    name, data, metadata = wheel("x", "1.0", "y>=2")
    return name, b"\0" * (1 << 20) + data, metadata.decode()


@pytest.mark.parametrize("ranges", [True, False])
def test_metadata_are_read_from_the_end_of_a_wheel(ranges):
    name, data, metadata = large()
    index = Files({name: data}, ranges)
    offered = index.offer()
    assert offered.metadata("x", name) == metadata
    asked = ["x", (None, 1 << 16), *([] if ranges else ["whole"])]
    assert index.asked == asked
    assert offered.metadata("x", name) == metadata
    assert index.asked == asked


def test_metadata_that_lie_elsewhere_are_fetched_alone():
    name, data, metadata = wheel("x", "1.0")
    # A zip archive may have anything before its entries, and the last ones here are large.
    padded = io.BytesIO(data)
    with zipfile.ZipFile(padded, "a") as archive:
        archive.writestr("x/large", b"\0" * (1 << 20))
    index = Files({name: padded.getvalue()})
    assert index.offer().metadata("x", name) == metadata.decode()
    assert sum(size for _, size in index.asked[1:]) < 1 << 18


def test_metadata_beside_a_wheel_come_first_and_their_lack_is_no_harm():
    name, data, metadata = wheel("x", "1.0")
    index = Files({name: data, f"{name}.metadata": metadata}, has_metadata=True)
    assert index.offer().metadata("x", name) == metadata.decode()
    assert index.asked == ["x", "whole"]
    index = Files({name: data}, has_metadata=True)
    assert index.offer().metadata("x", name) == metadata.decode()


def test_metadata_of_a_known_hash_are_kept_for_the_place_that_has_it():
    name, data, metadata = wheel("x", "1.0")
    assert Files({name: data}, sha256=HASH).offer().metadata("x", name) == metadata.decode()
    again = Files({name: b""}, sha256=HASH)
    assert again.offer().metadata("x", name) == metadata.decode()
    assert again.asked == ["x"]
    elsewhere = PythonIndex(
        lambda _: [IndexFile(name, "https://other.example/x", HASH)], again.part, again.save
    )
    with pytest.raises(FetchError):
        Offer(elsewhere, TARGET).metadata("x", name)


def bomb():
    """An archive whose METADATA unpack to a thousand times its size."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x-1.0.dist-info/METADATA", bytes(9 << 20))
    return packed.getvalue()


@pytest.mark.parametrize(
    ("content", "why"),
    [(b"no archive", "is no wheel that can be read"), (bomb(), "larger than any real one")],
)
def test_what_is_no_wheel_is_no_candidate(content, why):
    name, _, _ = wheel("x", "1.0")
    offered = Files({name: content}).offer()
    assert offered.metadata("x", name) is None
    assert why in next(iter(offered.refused.values()))


def test_a_version_has_the_wheels_that_fit_or_its_source():
    names = [
        "x-1.0-py3-none-any.whl",
        "x-1.0-cp311-cp311-win_amd64.whl",
        "x-1.0.tar.gz",
        "x-2.0-cp311-cp311-win_amd64.whl",
        "x-2.0.tar.gz",
        "x-3.0-cp311-cp311-manylinux_2_39_x86_64.whl",
        "x-bad.tar.gz",
        "other-4.0.tar.gz",
        "other-4.0-py3-none-any.whl",
    ]
    index = Files(dict.fromkeys(names, b""))

    def page(**options):
        return [entry["filename"] for entry in index.offer(**options).page("x", "")]

    def stand_in(project, file):
        raise ResolveError("is not read for a page")

    assert page() == [names[0], names[3], names[5]]
    assert page(stand_in=stand_in) == [names[0], "x-2.0-py3-none-any.whl", names[5]]
    assert page(stand_in=stand_in, wheels_only=["x"]) == page()
    assert page(stand_in=stand_in, from_source=["x"]) == ["x-1.0-py3-none-any.whl", "x-2.0-py3-none-any.whl"]


def test_each_page_is_asked_for_once_whoever_needs_it():
    index = Files({"x-1.0-py3-none-any.whl": b""})
    shared = PythonIndex(index.files_of, index.part, None)
    threads = [threading.Thread(target=shared.files, args=("x",)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert index.asked == ["x"]


def test_only_who_was_told_the_address_is_answered():
    offered = Files({"x-1.0-py3-none-any.whl": b""}).offer()
    with serve_index(offered) as url:
        with urllib.request.urlopen(f"{url}/x/") as answer:
            assert b"x-1.0-py3-none-any.whl" in answer.read()
        host, token = url.removeprefix("http://").split("/")[:2]
        for path in ("simple/x/", f"{'a' * len(token)}/simple/x/", f"{token}/files/x/y.metadata"):
            with pytest.raises(urllib.error.HTTPError):
                urllib.request.urlopen(f"http://{host}/{path}")


def test_what_is_listed_without_size_and_hash_is_measured():
    name, data, _ = wheel("x", "1.0")
    true = hashlib.sha256(data).hexdigest()
    for index, sha256 in (
        (Files({name: data}, sha256=HASH), HASH),
        (Files({name: data}), true),
        (Files({name: data}, ranges=False, sha256=true), true),
    ):
        offered = index.offer()
        assert offered.index.measured(offered.found("x", name)[0]) == (len(data), sha256)


def test_an_index_that_answers_wrongly_is_told(tmp_path):
    with pytest.raises(FetchError, match="no connection"):
        view("http://127.0.0.1:9/simple", TARGET).releases("x")


class Ranges(BaseHTTPRequestHandler):
    """Answers with parts of a hundred bytes, or with all of them where it may not."""

    ranges = True

    def do_GET(self):
        data = bytes(range(100))
        wish = self.headers.get("Range", "").removeprefix("bytes=")
        first, _, last = wish.partition("-")
        start, end = (int(first), int(last) + 1) if first else (100 - int(last or 100), 100)
        self.send_response(206 if self.ranges else 200)
        if self.ranges:
            data = data[start:end]
            self.send_header("Content-Range", f"bytes {start}-{start + len(data) - 1}/100")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *arguments):
        pass


@pytest.mark.parametrize("ranges", [True, False])
def test_a_server_gives_parts_or_says_how_many_bytes_there_are(monkeypatch, ranges):
    monkeypatch.setattr(Ranges, "ranges", ranges)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with serving(ThreadingHTTPServer(("127.0.0.1", 0), Ranges)) as server:
        parts = [web.part(f"http://127.0.0.1:{server.server_port}/", *part) for part in ((None, 3), (5, 2))]
    if ranges:
        assert parts == [Part(b"abc", 97, 100), Part(b"\5\6", 5, 100)]
    else:
        assert parts == [Part(None, 0, 100)] * 2
