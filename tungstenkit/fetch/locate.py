"""Where each file that a lock names is: the URLs to try, on this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tungstenkit.at_once import at_once
from tungstenkit.debian.index import ARCHIVES
from tungstenkit.fetch import hub
from tungstenkit.fetch.web import PARALLEL, MissingError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tungstenkit.fetch.mirrors import Mirrors
    from tungstenkit.fetch.needs import LockedFile
    from tungstenkit.lock.document import Lock


def _moments(entry: LockedFile, lock: Lock | None) -> dict[str, str]:
    """By archive the moment whose snapshot has a file of Debian's."""
    if entry.snapshot is not None:
        return dict.fromkeys(ARCHIVES, entry.snapshot)
    return lock.releases[entry.release].timestamps if lock and entry.release in lock.releases else {}


def locate(wanted: Iterable[LockedFile], lock: Lock | None, mirrors: Mirrors) -> dict[str, list[str]]:
    """For each file's sha256 the URLs to try, in order; empty where no mirror has it.

    Debian's files stand where the lock says, below a mirror; a wheel's place is asked of the index, project by project.
    What is the model's own, or a registry's, has none. lock: whose releases say which snapshot has what.
    """
    urls: dict[str, list[str]] = {}
    projects: dict[str, list[LockedFile]] = {}
    for entry in wanted:
        if entry.is_own or entry.image is not None:
            urls[entry.sha256] = []
        elif entry.url is not None:
            urls[entry.sha256] = [entry.url]
        elif entry.place is not None:
            urls[entry.sha256] = [hub.file_url(*entry.place)]
        elif entry.project is None:
            urls[entry.sha256] = mirrors.urls(entry.file, _moments(entry, lock))
        else:
            projects.setdefault(entry.project, []).append(entry)

    def listing_of(project: str) -> dict[str, str]:
        try:
            hashes = {entry.file: entry.sha256 for entry in projects[project]}
            return mirrors.wheel_urls(project, hashes, hashes)
        except MissingError:
            return {}

    listings = at_once(listing_of, projects, PARALLEL)
    for entries, listing in zip(projects.values(), listings, strict=True):
        for entry in entries:
            urls[entry.sha256] = [listing[entry.file]] if entry.file in listing else []
    return urls
