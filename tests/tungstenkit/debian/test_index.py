"""From a mirror to a parsed index: every byte is chained to a signature, and the cache never lies."""

import hashlib
import lzma
import resource
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from pysequoia import SignatureMode, Tsk, sign

from tests.binaries import deb
from tests.tungstenkit import locks
from tests.tungstenkit.resolve.solving import resolve
from tungstenkit.debian import index as debian_index
from tungstenkit.debian.index import Trust, fetch_index, suites, trusted_certificates
from tungstenkit.debian.release import RELEASES, certificates, pinned_fingerprints
from tungstenkit.fetch.web import MissingError, get_bytes
from tungstenkit.resolve.solver import dates_of
from tungstenkit.sdk.errors import FetchError, ResolveError, UnusableError

NOW = datetime(2026, 3, 1, tzinfo=UTC)
DATE = datetime(2026, 2, 28, 10, tzinfo=UTC)
BASES = {"debian": ["http://one/debian", "http://two/debian"], "debian-security": ["http://one/security"]}


def packages(*names, version="1"):
    return "".join(
        f"Package: {name}\nVersion: {version}\nArchitecture: amd64\nFilename: pool/{name}.deb\nSize: 1\nSHA256: 00\n\n"
        for name in names
    )


class Mirror:
    """Signed suites in memory, and the requests that were made."""

    def __init__(self):
        self.key = Tsk.generate("an archive <archive@example.org>")
        self.files = {}
        self.requests = []
        for archive, suite in suites("bookworm"):
            self.publish(BASES[archive][0], suite, packages(suite))

    def publish(self, base, suite, text, date=DATE):
        plain, compressed = text.encode(), lzma.compress(text.encode())
        folder = f"{base}/dists/{suite}"
        listed = "".join(
            f" {hashlib.sha256(data).hexdigest()} {len(data)} main/binary-amd64/{name}\n"
            for name, data in (("Packages", plain), ("Packages.xz", compressed))
        )
        release = (
            f"Origin: Debian\nLabel: Debian\nCodename: {suite}\nDate: {format_datetime(date)}\n"
            f"Acquire-By-Hash: yes\nSHA256:\n{listed}"
        )
        self.files[f"{folder}/InRelease"] = sign(
            self.key.signer(), release.encode(), mode=SignatureMode.CLEAR
        )
        self.packages_url = (
            f"{folder}/main/binary-amd64/by-hash/SHA256/{hashlib.sha256(compressed).hexdigest()}"
        )
        self.files[self.packages_url] = compressed
        return self.packages_url

    def get(self, url):
        self.requests.append(url)
        if url not in self.files:
            raise FetchError("no such file", where=url)
        return self.files[url]

    def index(self, cache, release="bookworm", architecture="amd64"):
        certs = {archive: [self.key.extract_certificate()] for archive in BASES}
        return fetch_index(release, architecture, BASES, self.get, Trust(NOW, certs), cache=cache)


@pytest.fixture
def mirror():
    return Mirror()


def test_the_suites_of_a_release_are_merged(mirror, tmp_path):
    index = mirror.index(tmp_path)
    assert [(s.archive, s.suite, s.date) for s in index.suites] == [
        ("debian", "bookworm", DATE),
        ("debian", "bookworm-updates", DATE),
        ("debian-security", "bookworm-security", DATE),
    ]
    assert index.suites[0].packages_sha256 == hashlib.sha256(packages("bookworm").encode()).hexdigest()
    solution = resolve(index, {"system": ["bookworm", "bookworm-security"]})
    assert [deb.file for deb in solution.debs] == [
        "mirror://debian/pool/bookworm.deb",
        "mirror://debian-security/pool/bookworm-security.deb",
    ]


def test_an_archives_snapshot_is_later_than_its_newest_suite(mirror, tmp_path):
    mirror.publish(
        BASES["debian"][0], "bookworm-updates", packages("x"), datetime(2026, 2, 28, 20, tzinfo=UTC)
    )
    assert mirror.index(tmp_path).timestamps == {
        "debian": "20260301T080000Z",
        "debian-security": "20260228T220000Z",
    }


def test_a_kept_index_is_not_fetched_again(mirror, tmp_path):
    first = mirror.index(tmp_path)
    mirror.requests.clear()
    assert mirror.index(tmp_path) == first
    assert [url.rpartition("/")[2] for url in mirror.requests] == ["InRelease"] * 3


@pytest.mark.parametrize("damage", [b"", b"Package: damaged"])
def test_a_damaged_cache_heals(mirror, tmp_path, damage):
    first = mirror.index(tmp_path)
    first.suites[0].packages.write_bytes(damage)
    assert mirror.index(tmp_path) == first
    assert resolve(first, {"system": ["bookworm"]}).debs


def test_a_mirror_that_failed_once_is_asked_last(mirror, tmp_path):
    for url in [url for url in mirror.files if url.startswith("http://one/debian/")]:
        mirror.files[url.replace("//one/", "//two/")] = mirror.files.pop(url)
    mirror.index(tmp_path)
    assert sum(url.startswith("http://one/debian/") for url in mirror.requests) == 1


def test_a_new_index_is_fetched(mirror, tmp_path):
    mirror.index(tmp_path)
    mirror.publish(BASES["debian"][0], "bookworm", packages("bookworm", version="2"))
    (deb,) = resolve(mirror.index(tmp_path), {"system": ["bookworm"]}).debs
    assert deb.version == "2"


def test_a_mirror_that_does_not_answer_is_passed_over(mirror, tmp_path):
    for url in [url for url in mirror.files if url.startswith("http://one/debian/")]:
        mirror.files[url.replace("//one/", "//two/")] = mirror.files.pop(url)
    assert mirror.index(tmp_path).suites[0].suite == "bookworm"


def test_a_bad_index_is_not_passed_over(mirror, tmp_path):
    url = "http://one/debian/dists/bookworm/InRelease"
    mirror.files[url.replace("one", "two")] = mirror.files[url]
    mirror.files[url] = b"Origin: Debian\n"
    with pytest.raises(UnusableError, match="not signed"):
        mirror.index(tmp_path)


def test_no_mirror_at_all_is_an_error_with_a_hint(tmp_path):
    with pytest.raises(FetchError) as caught:
        fetch_index(
            "bookworm",
            "amd64",
            {},
            get_bytes,
            Trust(NOW, {archive: [] for archive in BASES}),
            cache=tmp_path,
        )
    assert "TUNGSTEN_MIRROR_DEBIAN" in caught.value.hint


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda data: data[:-1], r"bytes where its signed Release says"),
        (lambda data: data[:-1] + b"?", r"not the one that its signed Release names"),
    ],
)
def test_damaged_packages_are_refused_and_leave_nothing(mirror, tmp_path, damage, message):
    url = mirror.publish(BASES["debian"][0], "bookworm", packages("bookworm"))
    mirror.files[url] = damage(mirror.files[url])
    with pytest.raises(UnusableError, match=message) as caught:
        mirror.index(tmp_path)
    assert caught.value.where == "dists/bookworm/main/binary-amd64/Packages"
    kept = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(kept) < len(suites("bookworm"))
    assert all(b"bookworm.deb" not in path.read_bytes() for path in kept)


def test_an_unknown_architecture_or_release_is_refused(mirror, tmp_path):
    with pytest.raises(ResolveError, match="no packages for sparc"):
        mirror.index(tmp_path, architecture="sparc")
    with pytest.raises(ResolveError, match="'sarge' is not known here"):
        mirror.index(tmp_path, release="sarge")


def test_a_full_disk_is_a_clear_error_and_leaves_nothing(mirror, tmp_path):
    mirror.publish(BASES["debian"][0], "bookworm", packages(*(f"package{i}" for i in range(2000))))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(FetchError) as caught:
            mirror.index(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "can't be kept" in caught.value.what
    assert caught.value.where == str(tmp_path / "packages")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


class TestKeyPackage:
    """Where a machine has no Debian keys, they come from the archive's own package, by its hash."""

    @pytest.fixture
    def package(self, key, tmp_path):
        keyring = {"usr/share/keyrings/archive.gpg": bytes(key.extract_certificate())}
        return deb(tmp_path / "keys.deb", keyring).read_bytes()

    @pytest.fixture
    def key(self, monkeypatch):
        key = Tsk.generate("an archive <archive@example.org>")
        fingerprint = key.extract_certificate().fingerprint
        monkeypatch.setattr(debian_index, "machine_keyrings", list)
        monkeypatch.setattr(debian_index, "pinned_fingerprints", lambda *_: frozenset({fingerprint}))
        return key

    def test_its_keys_are_used(self, key, package, monkeypatch):
        monkeypatch.setattr(debian_index, "_KEYRING_SHA256", hashlib.sha256(package).hexdigest())
        (certificate,) = trusted_certificates("bookworm", "debian", BASES, lambda _url: package)
        assert certificate.fingerprint == key.extract_certificate().fingerprint

    def test_another_package_in_its_place_is_refused(self, package):
        with pytest.raises(FetchError, match="neither on this machine nor to be had"):
            trusted_certificates("bookworm", "debian", BASES, lambda _url: package)


@pytest.mark.upstream
@pytest.mark.parametrize("release", RELEASES)
def test_debians_own_package_of_keys_holds_keys_that_signed_the_release(upstream, release):
    bases = upstream.debian_bases
    try:
        deb = get_bytes(f"{bases['debian'][0]}/{debian_index._KEYRING_FILE}")
    except MissingError:
        pytest.skip("it has left the mirror")
    assert hashlib.sha256(deb).hexdigest() == debian_index._KEYRING_SHA256
    for archive in bases:
        pinned = pinned_fingerprints(release, archive)
        assert {c.fingerprint for c in certificates(debian_index._keyrings_of(deb), pinned)} == pinned


class TestOlderIndexes:
    """The main archive's indexes never expire: who answers with an old one takes back what was mended since."""

    def index(self, mirror, cache, seen):
        certs = {archive: [mirror.key.extract_certificate()] for archive in BASES}
        return fetch_index("bookworm", "amd64", BASES, mirror.get, Trust(NOW, certs, seen), cache=cache)

    @pytest.mark.parametrize(("archive", "suite"), suites("bookworm"))
    def test_one_that_is_older_than_the_locks_is_refused(self, mirror, tmp_path, archive, suite):
        with pytest.raises(
            UnusableError, match=r"2026-02-28 10:00:00 UTC, and the lock.*2026-02-28 11:00:00"
        ) as caught:
            self.index(mirror, tmp_path, {suite: DATE + timedelta(hours=1)})
        assert caught.value.where == f"dists/{suite}/InRelease"
        assert "--allow-older-index" in caught.value.hint

    def test_the_same_one_as_of_a_snapshot_is_none(self, mirror, tmp_path):
        seen = {suite: DATE for _, suite in suites("bookworm")}
        assert {one.date for one in self.index(mirror, tmp_path, seen).suites} == {DATE}
        assert self.index(mirror, tmp_path, {"trixie": NOW}).suites

    def test_a_locks_moment_is_the_newest_of_its_platforms(self):
        lock = locks.lock()
        dates = dates_of(lock)
        assert set(dates) == {suite.suite for one in lock.releases.values() for suite in one.suites}
        assert all(
            dates[suite.suite] >= datetime.fromisoformat(suite.date)
            for one in lock.releases.values()
            for suite in one.suites
        )
        assert dates_of(None) == {}
