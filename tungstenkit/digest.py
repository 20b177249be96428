"""Hashes of files: sha256 in hexadecimal, as locks, indexes and registries state it."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def sha256_of(path: Path) -> str:
    """The sha256 of a file, which is read whole."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def measure(path: Path) -> tuple[int, str]:
    """The size of a file in bytes, and its sha256."""
    return path.stat().st_size, sha256_of(path)
