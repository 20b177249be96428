"""Which package has a library: from Debian's Contents files, checked, read once; and which of several is taken."""

import gzip
import hashlib
from datetime import UTC, datetime

import pytest

from tungstenkit.debian.contents import fetch_libraries, fetch_paths, provider
from tungstenkit.debian.index import ReleaseIndex, RemoteFile, SuiteIndex
from tungstenkit.debian.release import Listed
from tungstenkit.sdk.errors import FetchError, UnusableError

CONTENTS = """\
bin/true                                                admin/coreutils
lib/x86_64-linux-gnu/libz.so.1                          libs/zlib1g
usr/lib/x86_64-linux-gnu/libGL.so.1                     libs/libgl1
usr/lib/x86_64-linux-gnu/libGL.so                       libdevel/libgl-dev
usr/lib/libodd.so.2                                     non-free/libs/libodd2,libs/libodd2-other
usr/lib/x86_64-linux-gnu/dri/libdeep.so.1               libs/deep
usr/lib/x86_64-linux-gnu/libGL.so.1/a file              doc/odd
usr/share/doc/libdoc.so.1                               doc/doc
"""


class Mirror:
    def __init__(self):
        self.requests = []
        self.files = {}

    def publish(self, text):
        plain, compressed = text.encode(), gzip.compress(text.encode())
        listed = [Listed(hashlib.sha256(data).hexdigest(), len(data)) for data in (compressed, plain)]
        url = f"http://mirror/{listed[0].sha256}"
        self.files[url] = compressed
        return RemoteFile(url, *listed, "dists/x/main/Contents-amd64")

    def index(self, tmp_path, *contents):
        now = datetime(2026, 1, 2, tzinfo=UTC)
        suites = [SuiteIndex("debian", "x", now, "0" * 64, tmp_path, tmp_path, one) for one in contents]
        return ReleaseIndex("x", "amd64", tuple(suites))

    def get(self, url):
        self.requests.append(url)
        return self.files[url]


def test_the_libraries_where_the_loader_looks_are_found(tmp_path):
    mirror = Mirror()
    index = mirror.index(tmp_path, mirror.publish(CONTENTS))
    assert fetch_libraries(index, mirror.get, cache=tmp_path) == {
        "libz.so.1": ("zlib1g",),
        "libGL.so.1": ("libgl1",),
        "libGL.so": ("libgl-dev",),
        "libodd.so.2": ("libodd2", "libodd2-other"),
    }


def test_who_has_a_file_is_found_by_its_path(tmp_path):
    mirror = Mirror()
    index = mirror.index(tmp_path, mirror.publish(CONTENTS), None)
    assert fetch_paths(index, mirror.get, r"(?:usr/)?bin/true") == {"bin/true": "coreutils"}
    assert fetch_paths(index, mirror.get, r"usr/lib/\S*libodd\.so\S*") == {"usr/lib/libodd.so.2": "libodd2"}
    assert fetch_paths(index, mirror.get, r"rue") == {}


def test_suites_are_merged_and_one_that_says_nothing_is_passed_over(tmp_path):
    mirror = Mirror()
    more = mirror.publish("usr/lib/libz.so.1 libs/zlib1g-new\nusr/lib/liba.so.1 libs/liba1\n")
    index = mirror.index(tmp_path, mirror.publish(CONTENTS), None, more, mirror.publish(""))
    found = fetch_libraries(index, mirror.get, cache=tmp_path)
    assert (found["libz.so.1"], found["liba.so.1"]) == (("zlib1g", "zlib1g-new"), ("liba1",))
    assert len(mirror.requests) == 2


def test_a_contents_file_is_read_once(tmp_path):
    mirror = Mirror()
    index = mirror.index(tmp_path, mirror.publish(CONTENTS))
    first = fetch_libraries(index, mirror.get, cache=tmp_path)
    assert fetch_libraries(index, mirror.get, cache=tmp_path) == first
    assert len(mirror.requests) == 1


def test_an_altered_file_is_refused_and_not_kept(tmp_path):
    mirror = Mirror()
    contents = mirror.publish(CONTENTS)
    mirror.files[contents.url] = gzip.compress(b"other")
    with pytest.raises(UnusableError, match="signed Release says"):
        fetch_libraries(mirror.index(tmp_path, contents), mirror.get, cache=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_cant_be_had_is_an_error(tmp_path):
    mirror = Mirror()

    def get(url):
        raise FetchError("no connection", where=url)

    with pytest.raises(FetchError, match="no connection"):
        fetch_libraries(mirror.index(tmp_path, mirror.publish(CONTENTS)), get, cache=tmp_path)


@pytest.mark.parametrize(
    ("library", "packages", "chosen"),
    [
        ("libGL.so.1", ["libgl1"], "libgl1"),
        ("libavcodec.so.59", ["libavcodec-extra59", "libavcodec59"], "libavcodec59"),
        ("libfoo2.so.3", ["another", "libfoo2-3"], "libfoo2-3"),
        ("libfoo-1.2.so.0", ["liba", "libfoo-1.2-0"], "libfoo-1.2-0"),
        ("libglib-2.0.so.0", ["fake", "libglib2.0-0t64"], "fake"),
        ("libzbar.so.0", ["libzbar0", "libzbar0t64", "zbar"], "libzbar0"),
        ("libmagic.so.1", ["aaa", "libmagic1t64"], "libmagic1t64"),
        ("libfoo_bar.so.1", ["aaa", "libfoo-bar1"], "libfoo-bar1"),
        ("libx.so.1", ["libx-dev", "libx-dbg", "libx1-udeb"], None),
        ("libx.so.1", ["libxyz", "libabc"], "libabc"),
        ("libx.so.1", [], None),
    ],
)
def test_the_package_that_debian_would_name_so_is_taken(library, packages, chosen):
    assert provider(library, {library: packages}) == chosen
    assert provider(library, {library: packages[::-1]}) == chosen
