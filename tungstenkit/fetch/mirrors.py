"""Where bytes come from on this machine: mirrors of Debian's archive, the Python index, npm's registry.

A lock names files; this module turns the names into URLs, which belong to a machine and never to a lock
(`machine_mirrors` finds them). No host is named here but that of Debian's snapshot service, the last resort:
superseded files leave the ordinary mirrors.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field, replace
from fnmatch import fnmatch
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tungstenkit.debian.index import ARCHIVES
from tungstenkit.fetch import index_pages, web
from tungstenkit.fetch.index_pages import is_of, normalised
from tungstenkit.fetch.web import MissingError, WebError
from tungstenkit.outside import WEB, redact, url_problem
from tungstenkit.sdk.errors import FetchError
from tungstenkit.settings import MACHINE, to_paste

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from tungstenkit.fetch.index_pages import IndexFile

SNAPSHOT = "https://snapshot.debian.org/archive"


@dataclass(frozen=True)
class Mirrors:
    """The mirrors of one machine. URLs end without a slash, may hold credentials and so are in no repr."""

    debian: tuple[str, ...] = field(repr=False)
    """Bases below which `dists/` and `pool/` lie, in order of preference; may be empty."""
    debian_security: tuple[str, ...] = field(repr=False)
    pypi: str = field(repr=False)
    """The Python index's simple API (PEP 503)."""
    npm: str | None = field(repr=False)
    """npm's registry; None where it is not known."""
    found: datetime
    """When: the moment by which all is judged that passes, indexes, a release's support, what is known of
    vulnerabilities; and what the snapshot service is asked for where there is no other mirror."""
    notices: tuple[str, ...] = ()
    """What the user should know, a line each."""
    security_tracker: str | None = field(default=None, repr=False)
    """The URL of the JSON data of Debian's security tracker; None where it is not known."""
    extra_indexes: tuple[str, ...] = field(default=(), repr=False)
    """Further Python indexes. They come before `pypi`: what the first that knows a project has of it counts alone,
    so that nobody who puts a project of the same name into a public index is ever listened to."""
    find_links: tuple[str, ...] = field(default=(), repr=False)
    """Pages (URLs) and folders (paths) that list files. They come before the indexes by the same rule; but where all
    that they have of a project are local versions (PEP 440), these are builds of an index's, and stand beside those."""
    declared: Mapping[str, str] = field(default_factory=dict, repr=False, hash=False)
    """For each of these places that the model itself names how it does."""
    indexes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict, repr=False, hash=False)
    """What the model says of indexes, by the names that it gives them."""
    _pages: dict[str, list[IndexFile]] = field(default_factory=dict, repr=False, compare=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    @property
    def main_index(self) -> Mirrors:
        """The same, with the Python index alone: for what is tungsten's own."""
        return replace(self, extra_indexes=(), find_links=())

    @property
    def debian_bases(self) -> dict[str, tuple[str, ...]]:
        """For each archive where its index of today is read."""
        return {
            archive: bases or (_snapshot(archive, f"{self.found:%Y%m%dT%H%M%SZ}"),)
            for archive, bases in zip(ARCHIVES, (self.debian, self.debian_security), strict=True)
        }

    def urls(self, uri: str, timestamps: Mapping[str, str]) -> list[str]:
        """URLs of `mirror://debian/pool/…` and `mirror://debian-security/pool/…`, in the order to try them.

        timestamps: the lock's, `YYYYMMDDTHHMMSSZ` by archive; an archive without one has no last resort.

        Raises ValueError for another URI.
        """
        archive, _, path = uri.removeprefix("mirror://").partition("/")
        if not uri.startswith("mirror://") or archive not in ARCHIVES or not path:
            raise ValueError(f"not a file of a mirror: {uri!r}")
        bases = list(self.debian if archive == "debian" else self.debian_security)
        if archive in timestamps:
            bases.append(_snapshot(archive, timestamps[archive]))
        return [f"{base}/{path}" for base in bases]

    def wheel_urls(
        self, project: str, files: Iterable[str], sha256: Mapping[str, str] | None = None
    ) -> dict[str, str]:
        """The URL of each of a project's files; what no index has any more is left out.

        project: in any spelling. sha256: of the files, by name, where it is known: an index's file of the same name
        and another hash is another file, and is named only where no index has the right one. Thread-safe.

        An index is asked only for what those before it lack.

        Raises FetchError where no index has such a project or one can't be read.
        """
        wanted = set(files)
        hashes = sha256 or {}
        found: dict[str, str] = {}
        others: dict[str, str] = {}
        known = False
        for place in self._places_for(project):
            listed = self._listed(place, project)
            known = known or listed is not None
            for file in listed or ():
                if file.name not in wanted:
                    continue
                stated = file.sha256 or hashes.get(file.name)
                right = stated == hashes.get(file.name, stated)
                (found if right else others).setdefault(file.name, file.url)
            if found.keys() == wanted:
                return found
        if not known:
            raise MissingError("no index has such a project", where=project, hint="name another mirror")
        return others | found

    def project_files(self, project: str) -> list[IndexFile]:
        """All files of a project: those of the first place that knows it; maybe none. Raises FetchError."""
        linked: list[IndexFile] = []
        for place in self._places_for(project):
            if not place.is_index:
                linked += self._listed(place, project) or ()
            elif linked and not all("+" in file.name for file in linked):
                break
            elif (listed := self._listed(place, project)) is not None:
                return [*linked, *listed]
        return linked

    @property
    def main_label(self) -> str:
        """How a lock names `pypi`, where there are others."""
        return self._places[-1].label

    @cached_property
    def _places(self) -> list[_Place]:
        """The links and indexes, in order."""
        urls = {said["url"]: name for name, said in self.indexes.items() if "url" in said}
        places = []
        for number, url in enumerate((*self.find_links, *self.extra_indexes, self.pypi)):
            plain = redact(url)
            is_main = number == len(self.find_links) + len(self.extra_indexes)
            name = urls.get(plain) or (MACHINE if is_main else None)
            said = self.indexes.get(name, {}) if name else {}
            places.append(
                _Place(
                    url,
                    urls.get(plain) or self.declared.get(url) or self.declared.get(plain) or MACHINE,
                    tuple(map(normalised, said.get("projects", ()))),
                    said.get("missing"),
                    is_index=number >= len(self.find_links),
                    is_main=is_main,
                )
            )
        return places

    def _places_for(self, project: str) -> list[_Place]:
        """The places that may have a project, in order: those that it is to come from alone, else the common ones."""
        bound = [place for place in self._places if place.has_alone(normalised(project))]
        return bound or [place for place in self._places if place.is_main or not place.projects]

    def _page(self, url: str, label: str | None) -> list[IndexFile]:
        """The files that a page links to, of all projects; it is read once."""
        with self._lock:
            if url not in self._pages:
                answer = web.get(url)
                linked = index_pages.linked_files(index_pages.read_html(answer.text, label))
                self._pages[url] = [index_pages.absolute(file, answer.url) for file in linked]
            return self._pages[url]

    def _listed(self, place: _Place, project: str) -> list[IndexFile] | None:
        """What a place has of a project; None where it does not know it. Raises FetchError."""
        label = None if place.is_main else place.label
        normal = normalised(project)
        if not place.is_index:
            return self._linked(place.url, normal, label) or None
        url = f"{place.url}/{normal}/"
        try:
            answer = web.get(url, {"Accept": index_pages.FORMATS}, missing=place.missing)
        except MissingError:
            return None
        except WebError as problem:
            if problem.status != 403:
                raise
            hint = f"{problem.hint}; {_how_to_say_missing(place)}"
            raise FetchError(problem.what, where=problem.where, hint=hint) from None
        if answer.headers.get("Content-Type", "").startswith(index_pages.JSON_FORMAT):
            listed = index_pages.read_json(answer.content, url, label)
        else:
            listed = index_pages.read_html(answer.text, label)
        # The final URL: an index may be redirected, and its links may be relative.
        return [index_pages.absolute(file, answer.url if answer.history else url) for file in listed]

    def _linked(self, place: str, project: str, label: str | None) -> list[IndexFile]:
        """The files of a project on a page, or in a folder, that pip's `find-links` names."""
        if url_problem(place, WEB) is None:
            return [file for file in self._page(place, label) if is_of(file.name, project)]
        folder = Path(place.removeprefix("file://")).resolve()
        if not folder.is_dir():
            raise FetchError("there is no such folder", where=place, hint="pip's `find-links` names it")
        return index_pages.files_in(folder, project, label)


@dataclass(frozen=True)
class _Place:
    """A page or folder of links, or an index."""

    url: str = field(repr=False)
    label: str
    """As a lock names it."""
    projects: tuple[str, ...]
    """What comes from it alone."""
    missing: int | None
    is_index: bool
    is_main: bool

    def has_alone(self, project: str) -> bool:
        """Whether a project, normalised, is to come from nowhere else."""
        return any(fnmatch(project, pattern) for pattern in self.projects)


def _how_to_say_missing(place: _Place) -> str:
    """What to write where an index answers so for whatever it has not."""
    name, url = (MACHINE, "") if place.is_main else ("other", f'url = "{redact(place.url)}"\n')
    if place.label != MACHINE and " " not in place.label:
        name = place.label
    setting = to_paste("indexes", name, f"{url}missing = 403")
    return f"if it answers so for each project that it has not, {setting}"


def _snapshot(archive: str, timestamp: str) -> str:
    return f"{SNAPSHOT}/{archive}/{timestamp}"
