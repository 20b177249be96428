"""Whom to believe about a Debian archive: pinned signing keys, and the signed `InRelease` of a suite.

The root of trust is `archive_keys.json`, which holds fingerprints. The keys themselves may come from
anywhere, as a key is used only if its primary fingerprint is pinned for the release and archive in question.
Nothing of an `InRelease` is used but the text that the signature covers (RFC 9580, 7).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

import pysequoia

from tungstenkit.debian.control import stanzas
from tungstenkit.sdk.errors import UnusableError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

KEYRING_FOLDERS = (Path("/usr/share/keyrings"), Path("/etc/apt/trusted.gpg.d"))
"""Where Debian's tools keep OpenPGP certificates (apt-key(8), sources.list(5))."""

PINNED = resources.files(__package__).joinpath("archive_keys.json")
"""The fingerprints that came with this tungsten."""

_CLEARTEXT_HEADER = b"-----BEGIN PGP SIGNED MESSAGE-----"
_CLOCK_TOLERANCE = timedelta(minutes=10)


@dataclass(frozen=True)
class Release:
    """A Debian release that images can be made of."""

    codename: str
    version_id: str
    """As in os-release(5)."""
    python: str
    """The one CPython that Debian has in it."""
    glibc: tuple[int, int]
    """Its C library."""
    supported_until: date | None
    """The end of Debian's long-term support: after it nobody mends what is found. None for a release that is to come,
    whose files are superseded every day."""
    makes_layers: bool = False
    """Whether the tools that builds run are this one's: of exactly one."""
    has_old_zones_apart: bool = True
    """Whether zones by their names of old, US/Pacific, are a package of their own."""

    @property
    def is_final(self) -> bool:
        """Whether Debian has released it; one that is to come is taken where it is asked for, and never else."""
        return self.supported_until is not None


RELEASES = {
    r.codename: r
    for r in (
        Release("bookworm", "12", "3.11", (2, 36), date(2028, 6, 30), has_old_zones_apart=False),
        Release("trixie", "13", "3.13", (2, 41), date(2030, 6, 30), makes_layers=True),
        Release("bullseye", "11", "3.9", (2, 31), date(2026, 8, 31), has_old_zones_apart=False),
        Release("forky", "14", "3.14", (2, 43), None),
    )
}
"""All that is said of a release anywhere. A new one is an entry here, and its keys in `archive_keys.json`."""
RELEASE_OF = {release.python: name for name, release in RELEASES.items()}
"""By Python the release that has it."""
FINAL_OF = {release.python: name for name, release in RELEASES.items() if release.is_final}
"""The same of those that are final."""
(TOOLS_RELEASE,) = (name for name, release in RELEASES.items() if release.makes_layers)
"""The release whose Python makes layers."""


@dataclass(frozen=True)
class Listed:
    """A file that a signed Release lists."""

    sha256: str
    size: int


@dataclass(frozen=True)
class ReleaseFile:
    """The verified content of an `InRelease`."""

    origin: str
    label: str
    codename: str
    date: datetime
    by_hash: bool
    files: Mapping[str, Listed]
    """By path below the suite's directory."""


def pinned_fingerprints(release: str, archive: str) -> frozenset[str]:
    """The lower-case fingerprints of the primary keys that may sign `archive`'s suites of `release`."""
    return frozenset(
        key["fingerprint"]
        for key in json.loads(PINNED.read_text(encoding="utf-8"))["keys"]
        if key["archive"] == archive and release in key["releases"]
    )


def certificates(files: Iterable[bytes], pinned: frozenset[str]) -> list[pysequoia.Cert]:
    """The pinned certificates among those in keyring files; what can't be read is no certificate of ours."""
    found: dict[str, pysequoia.Cert] = {}
    for data in files:
        for cert in _certificates(data):
            # A stale keyring beside a fresh one may lack a renewed key: both are the same key, so both count.
            if cert.fingerprint in pinned:
                known = found.get(cert.fingerprint)
                found[cert.fingerprint] = known.merge(cert) if known else cert
    return list(found.values())


@lru_cache(maxsize=64)
def _certificates(data: bytes) -> tuple[pysequoia.Cert, ...]:
    """Those of a keyring file, which every suite's check asks for."""
    try:
        return tuple(pysequoia.Cert.split_bytes(data))
    except Exception:  # pysequoia has no type for it; a keyring may be in GnuPG's own format
        return ()


def machine_keyrings(folders: Iterable[Path] | None = None) -> list[bytes]:
    """The content of every keyring file of this machine that can be read. folders: in place of `KEYRING_FOLDERS`."""
    contents = []
    for folder in KEYRING_FOLDERS if folders is None else folders:
        for path in sorted(folder.glob("*")):
            if path.suffix in (".gpg", ".pgp", ".asc"):
                try:
                    contents.append(path.read_bytes())
                except OSError:
                    continue
    return contents


def verify_inrelease(
    data: bytes, certs: Iterable[pysequoia.Cert], *, codename: str, where: str, now: datetime
) -> ReleaseFile:
    """Check an `InRelease` and read it.

    codename: the suite that was asked for, such as `bookworm-security`.
    where: its URL, for messages.

    Raises UnusableError where no pinned key made a good signature, or where it is for another suite, expired,
    from the future, or unreadable.
    """
    text = _signed_text(data, list(certs), where)
    fields = next(stanzas(text), {})
    if fields.get("Codename") != codename:
        raise UnusableError(
            f"the mirror gave the index of {fields.get('Codename', 'nothing')!r} for {codename!r}",
            where=where,
            hint="the mirror is misconfigured; name another with TUNGSTEN_MIRROR_DEBIAN",
        )
    try:
        date = _date(fields["Date"])
        expires = _date(fields["Valid-Until"]) if "Valid-Until" in fields else None
        files = dict(_listed(fields["SHA256"]))
    except (KeyError, ValueError) as problem:
        raise UnusableError(f"the signed index can't be read: {problem}", where=where) from None
    if date > now + _CLOCK_TOLERANCE:
        raise UnusableError(
            f"the index is from the future: {date:%Y-%m-%d %H:%M} UTC",
            where=where,
            hint="check this machine's clock",
        )
    if expires and expires < now:
        raise UnusableError(
            f"the index expired on {expires:%Y-%m-%d %H:%M} UTC",
            where=where,
            hint="the mirror has stopped following Debian (name another with TUNGSTEN_MIRROR_DEBIAN), "
            "or this machine's clock is wrong",
        )
    return ReleaseFile(
        origin=fields.get("Origin", ""),
        label=fields.get("Label", ""),
        codename=codename,
        date=date,
        by_hash=fields.get("Acquire-By-Hash") == "yes",
        files=files,
    )


def _signed_text(data: bytes, certs: list[pysequoia.Cert], where: str) -> str:
    if not data.startswith(_CLEARTEXT_HEADER):
        raise UnusableError(
            "the index is not signed",
            where=where,
            hint="the mirror is not Debian's archive, or something on the way answered in its place",
        )
    try:
        verified = pysequoia.verify(data, store=lambda _key_ids: certs)
    except Exception:  # pysequoia has no type for it, and its text is a stack trace
        raise UnusableError(
            "no pinned Debian key made a good signature on the index",
            where=where,
            hint="it was altered, or its keys are newer than this tungsten: try again, then update tungsten",
        ) from None
    return (verified.bytes or b"").decode("utf-8", "replace").replace("\r\n", "\n")


def _date(text: str) -> datetime:
    date = parsedate_to_datetime(text)
    return date.replace(tzinfo=date.tzinfo or UTC).astimezone(UTC)


def _listed(field: str) -> Iterable[tuple[str, Listed]]:
    for line in field.split("\n"):
        if line.strip():
            sha256, size, path = line.split()
            yield path, Listed(sha256, int(size))
