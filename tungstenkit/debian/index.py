"""The package indexes of one Debian release: fetched, checked and kept.

A release is three suites: the main one, its updates and its security archive. Each `Packages` file is chained
by hash to an `InRelease` that a pinned key signed (`release`), and is kept, decompressed, under that hash.
So an entry of the cache is never stale, only unused. How bytes are fetched is the caller's business: this module
is given bases of archives and a function. What the files say is `packages`' business.
"""

from __future__ import annotations

import hashlib
import io
import lzma
import zlib
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING

from tungstenkit.cache import cache_folder, keep, kept
from tungstenkit.debian.deb import open_files
from tungstenkit.debian.packages import write_places
from tungstenkit.debian.release import (
    RELEASES,
    ReleaseFile,
    certificates,
    machine_keyrings,
    pinned_fingerprints,
    verify_inrelease,
)
from tungstenkit.sdk.errors import FetchError, ResolveError, UnusableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    import pysequoia

    from tungstenkit.debian.release import Listed

ARCHIVES = ("debian", "debian-security")

_COMPONENT = "main"
_SNAPSHOT_DELAY = timedelta(hours=12)

# The archive's own package of its keys, for machines that are not Debian: trixie's.
_KEYRING_FILE = "pool/main/d/debian-archive-keyring/debian-archive-keyring_2025.1_all.deb"
_KEYRING_SHA256 = "9ea7778e443144ca490668737a8ab22dd3e748bb99e805e22ec055abeb3c7fac"


@dataclass(frozen=True)
class RemoteFile:
    """A compressed file of a suite, and what the suite's signed Release says of it."""

    url: str
    compressed: Listed
    listed: Listed
    """Once it is decompressed."""
    where: str
    """Its path in the archive, for messages."""


@dataclass(frozen=True)
class SuiteIndex:
    """One suite's packages, as they stood on a date."""

    archive: str
    """`debian` or `debian-security`."""
    suite: str
    date: datetime
    packages_sha256: str
    """Of the uncompressed `Packages`."""
    packages: Path
    """That file."""
    places: Path
    """Where in it which names stand."""
    contents: RemoteFile | None = None
    """Which package has which file (`Contents-ARCH`); None where the suite doesn't say."""


@dataclass(frozen=True)
class ReleaseIndex:
    """All packages of a release for one architecture."""

    release: str
    architecture: str
    suites: tuple[SuiteIndex, ...]

    @property
    def timestamps(self) -> dict[str, str]:
        """For each archive a moment, `YYYYMMDDTHHMMSSZ`, whose snapshot holds every file of the index.

        A snapshot is taken some hours after an archive was published: the newest suite's date and a delay.
        """
        newest: dict[str, datetime] = {}
        for suite in self.suites:
            newest[suite.archive] = max(suite.date, newest.get(suite.archive, suite.date))
        return {archive: f"{date + _SNAPSHOT_DELAY:%Y%m%dT%H%M%SZ}" for archive, date in newest.items()}


@dataclass(frozen=True)
class Trust:
    """What an index is believed by."""

    now: datetime
    """The time to judge expiry by."""
    certs: Mapping[str, Sequence[pysequoia.Cert]] | None = None
    """The keys to trust for each archive; None for the pinned ones (`trusted_certificates`)."""
    not_before: Mapping[str, datetime] = field(default_factory=dict)
    """For a suite the date of an index that was seen before: an older one would take back what was mended since, and
    the main archive's own never expires.
    """


def suites(release: str) -> list[tuple[str, str]]:
    """A release's suites, each with its archive. Raises ResolveError for a release that is not known here."""
    if release not in RELEASES:
        raise ResolveError(f"Debian {release!r} is not known here", hint=f"known are {', '.join(RELEASES)}")
    return [("debian", release), ("debian", f"{release}-updates"), ("debian-security", f"{release}-security")]


def fetch_index(
    release: str,
    architecture: str,
    bases: Mapping[str, Sequence[str]],
    get: Callable[[str], bytes],
    trust: Trust,
    *,
    cache: Path | None = None,
) -> ReleaseIndex:
    """Fetch and check the indexes of a release; what the cache holds is not fetched again.

    bases: for each archive, base URLs in order of preference: BASE/dists/… exists.
    get: fetches a URL; raises FetchError.
    cache: a folder (default: the user's cache).

    Raises UnusableError for an index that is unsigned, altered, expired or not what was asked for, FetchError
    where no base has it or the cache can't be written.
    """
    cache = cache or cache_folder()
    bases = {archive: list(those) for archive, those in bases.items()}
    found = []
    for archive, suite in suites(release):
        trusted = trust.certs[archive] if trust.certs else trusted_certificates(release, archive, bases, get)
        base, inrelease = fetch_inrelease(bases.get(archive, ()), suite, trusted, get, now=trust.now)
        _refuse_older(inrelease, trust.not_before.get(suite), f"dists/{suite}/InRelease")
        # One that did not answer is not waited for again.
        bases[archive] = sorted(bases[archive], key=base.__ne__)
        remote = _Remote(f"{base}/dists/{suite}", inrelease)
        packages = remote.file(f"{_COMPONENT}/binary-{architecture}/Packages", ".xz")
        contents = remote.file(f"{_COMPONENT}/Contents-{architecture}", ".gz")
        if packages is None:
            raise ResolveError(
                f"Debian {release} has no packages for {architecture}", where=f"{suite}'s InRelease"
            )
        kept_as = _packages(packages, get, cache)
        found.append(SuiteIndex(archive, suite, inrelease.date, packages.listed.sha256, *kept_as, contents))
    return ReleaseIndex(release, architecture, tuple(found))


def _refuse_older(inrelease: ReleaseFile, seen: datetime | None, where: str) -> None:
    if seen is not None and inrelease.date < seen:
        raise UnusableError(
            f"the index is of {inrelease.date:%Y-%m-%d %H:%M:%S} UTC, and the lock was made of a newer one, of "
            f"{seen:%Y-%m-%d %H:%M:%S} UTC",
            where=where,
            hint="the mirror lags behind, or something answers with an old index: name another mirror with "
            "TUNGSTEN_MIRROR_DEBIAN; `tungsten lock --allow-older-index` takes it all the same",
        )


@dataclass(frozen=True)
class _Remote:
    """A suite on a mirror."""

    url: str
    inrelease: ReleaseFile

    def file(self, name: str, suffix: str) -> RemoteFile | None:
        """One of the suite's files, which is compressed as `suffix` says; None where the suite has none."""
        files = self.inrelease.files
        if name not in files or f"{name}{suffix}" not in files:
            return None
        compressed = files[f"{name}{suffix}"]
        folder = f"{self.url}/{name.rpartition('/')[0]}"
        url = f"{folder}/by-hash/SHA256/{compressed.sha256}" if self.inrelease.by_hash else ""
        where = f"dists/{self.inrelease.codename}/{name}"
        return RemoteFile(url or f"{self.url}/{name}{suffix}", compressed, files[name], where)


def _packages(remote: RemoteFile, get: Callable[[str], bytes], cache: Path) -> tuple[Path, Path]:
    """A suite's packages, decompressed, and where in them which names stand."""
    key = remote.listed.sha256
    packages = kept(cache / "packages", key)
    if packages is None:
        content = fetch_file(remote, get, lzma.decompress)
        packages = keep(cache / "packages", key, lambda path: path.write_bytes(content))
    folder = cache / "package-places"
    return packages, kept(folder, key) or keep(folder, key, partial(write_places, packages))


def fetch_file(file: RemoteFile, get: Callable[[str], bytes], decompress: Callable[[bytes], bytes]) -> bytes:
    """The content of a suite's file, checked against the signed Release.

    Raises UnusableError where it is not what the Release says, FetchError where it can't be had.
    """
    data = _checked(get(file.url), file.compressed, file.where)
    try:
        return _checked(decompress(data), file.listed, file.where)
    except (lzma.LZMAError, zlib.error, EOFError, OSError) as problem:
        raise UnusableError(f"the index can't be decompressed: {problem}", where=file.where) from None


def fetch_inrelease(
    bases: Iterable[str],
    suite: str,
    certs: Iterable[pysequoia.Cert],
    get: Callable[[str], bytes],
    *,
    now: datetime,
) -> tuple[str, ReleaseFile]:
    """The first base that has `suite`, and the suite's verified Release.

    A base that can't be reached is passed over; one that gives a bad index is an error, never replaced.
    Raises FetchError where none can be reached, UnusableError as `verify_inrelease` does.
    """
    last: FetchError | None = None
    for base in bases:
        url = f"{base}/dists/{suite}/InRelease"
        try:
            data = get(url)
        except FetchError as problem:
            last = problem
            continue
        return base, verify_inrelease(data, certs, codename=suite, where=f"dists/{suite}/InRelease", now=now)
    raise last or FetchError(
        f"no Debian mirror is known that has {suite}",
        hint="set TUNGSTEN_MIRROR_DEBIAN to one (a URL below which `dists/` lies)",
    )


def trusted_certificates(
    release: str,
    archive: str,
    bases: Mapping[str, Sequence[str]],
    get: Callable[[str], bytes],
    keyrings: Iterable[bytes] | None = None,
) -> list[pysequoia.Cert]:
    """The pinned keys of an archive, from this machine's keyrings or else from Debian's package of its keys.

    keyrings: in place of this machine's.

    Raises FetchError where that package can't be had.
    """
    pinned = pinned_fingerprints(release, archive)
    if certs := certificates(machine_keyrings() if keyrings is None else keyrings, pinned):
        return certs
    last: FetchError | None = None
    for base in bases.get("debian", ()):
        try:
            deb = get(f"{base}/{_KEYRING_FILE}")
        except FetchError as problem:
            last = problem
            continue
        if hashlib.sha256(deb).hexdigest() == _KEYRING_SHA256:
            return certificates(_keyrings_of(deb), pinned)
        last = FetchError("the package of Debian's keys is not the pinned one", where=_KEYRING_FILE)
    raise FetchError(
        "Debian's archive keys are neither on this machine nor to be had",
        where=last.where if last else None,
        hint="install `debian-archive-keyring`, or set TUNGSTEN_MIRROR_DEBIAN",
    )


def _checked(data: bytes, listed: Listed, where: str) -> bytes:
    if len(data) != listed.size:
        raise UnusableError(
            f"the index has {len(data)} bytes where its signed Release says {listed.size}",
            where=where,
            hint="the download was cut short or the mirror is being updated: try again",
        )
    if hashlib.sha256(data).hexdigest() != listed.sha256:
        raise UnusableError(
            "the index is not the one that its signed Release names",
            where=where,
            hint="it was altered, or the mirror is being updated: try again",
        )
    return data


def _keyrings_of(deb: bytes) -> list[bytes]:
    """The keyring files in a .deb."""
    with open_files(io.BytesIO(deb), _KEYRING_FILE) as tar:
        names = (".gpg", ".pgp")
        return [tar.extractfile(m).read() for m in tar if m.isfile() and m.name.endswith(names)]  # type: ignore[union-attr] # a file has content
