"""Which repositories of a registry have what this user has sent there, so that it need not be sent to another again.

Only a registry knows what it has. This is a guess, kept in the user's cache, and a wrong one costs nothing.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

from tungstenkit.cache import cache_folder, replacing
from tungstenkit.outside import LARGEST_SETTINGS, contents
from tungstenkit.registry.remote import RegistryPlace

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from tungstenkit.registry.base import Place
    from tungstenkit.registry.client import Name

_MOST = 50_000
"""Digests of one registry; the oldest are forgotten."""


def repositories(place: Place) -> dict[str, tuple[str, ...]]:
    """By digest another repository of the same registry that may have a blob; nothing for a folder."""
    if not isinstance(place, RegistryPlace):
        return {}
    name = place.repository
    return {digest: (one,) for digest, one in _read(_path(name)).items() if one != name.repository}


def note(place: Place, digests: Iterable[str]) -> None:
    """Take note of what a repository has. Raises FetchError where the cache can't be written."""
    if not isinstance(place, RegistryPlace):
        return
    name = place.repository
    path = _path(name)
    known = _read(path)
    for digest in digests:
        known.pop(digest, None)
        known[digest] = name.repository
    with replacing(path) as new:
        new.write_text(json.dumps(dict(list(known.items())[-_MOST:])), encoding="utf-8")


def _path(name: Name) -> Path:
    return cache_folder() / "registries" / f"{hashlib.sha256(name.registry.encode()).hexdigest()[:32]}.json"


def _read(path: Path) -> dict[str, str]:
    try:
        known = json.loads(contents(path, LARGEST_SETTINGS))
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(known, dict) or not all(isinstance(one, str) for one in known.values()):
        return {}
    return known
