"""Which of a build's inputs came to this machine by somebody's credentials, as far as its settings tell.

It is said of a place as a whole: of an index with a password each file may be one that others are not given.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from tungstenkit.fetch.needs import built_files, gated_hashes, needed_files
from tungstenkit.outside import redact
from tungstenkit.registry.client import Name
from tungstenkit.registry.passwords import password_for
from tungstenkit.settings import MACHINE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tungstenkit.fetch.mirrors import Mirrors
    from tungstenkit.fetch.needs import LockedFile
    from tungstenkit.lock.document import Lock
    from tungstenkit.lock.packages import Source, Wheel


def private_hashes(lock: Lock, mirrors: Mirrors) -> set[str]:
    """The sha256 of files that came with credentials: what a lock names, and the wheels that are built of such.

    mirrors: this machine's. Raises FetchError where the passwords for registries can't be read.
    """
    packages: list[Wheel | Source] = []
    for platform in lock.platforms.values():
        packages += [*platform.wheels, *platform.sources]
        packages += [wheel for source in platform.sources for wheel in source.build.wheels]
    labels = {one.sha256: one.index for one in packages}
    gated = gated_hashes(lock)
    found = {
        file.sha256
        for file in needed_files(lock)
        if file.sha256 in gated or _is_private(file, labels.get(file.sha256), mirrors)
    }
    return found | {file.sha256 for source, file in built_files(lock) if source.sha256 in found}


def _is_private(file: LockedFile, label: str | None, mirrors: Mirrors) -> bool:
    """label: of the index, as a lock has it."""
    if file.image is not None:
        name = Name.of(file.image)
        return password_for(name.registry, name.repository) is not None
    if file.git is not None:
        parts = urlsplit(file.git.url)
        return parts.scheme in ("ssh", "git") or _has_password(file.git.url)
    if file.local is not None:
        return False  # it is the model's own
    if file.url is not None:
        return _has_password(file.url)
    if file.project is not None:
        return any(map(_has_password, _indexes(label, mirrors)))
    if file.release is not None:
        bases = mirrors.debian_security if "debian-security" in file.file else mirrors.debian
        return any(map(_has_password, bases))
    return False


def _indexes(label: str | None, mirrors: Mirrors) -> Iterator[str]:
    """The indexes and pages that one of a lock's names may mean; it names none where there is one alone."""
    if label is None:
        yield mirrors.pypi
        return
    for url in (*mirrors.find_links, *mirrors.extra_indexes, mirrors.pypi):
        plain = redact(url)
        named = {name for name, said in mirrors.indexes.items() if said.get("url") == plain}
        named |= {mirrors.declared[one] for one in (url, plain) if one in mirrors.declared}
        if label in (named or {MACHINE}):
            yield url


def _has_password(url: str) -> bool:
    """Whether who asks for a URL says who that is: by the URL, or by netrc."""
    if urlsplit(url).scheme not in ("http", "https"):
        return False
    from requests.utils import get_netrc_auth

    return "@" in urlsplit(url).netloc or get_netrc_auth(url) is not None
