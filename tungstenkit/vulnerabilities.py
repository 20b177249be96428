"""Known vulnerabilities of a lock's packages: Debian's from the security tracker's data, wheels' from the Python
index' JSON API.

Both are asked when they can be reached, and kept in the user's cache for a day. Nothing depends on the answers: a
source that can't be asked makes a notice, never an error, and nothing of this stands in a lock.
"""

from __future__ import annotations

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

from packaging.version import Version
from pydantic import AfterValidator, AwareDatetime

from tungstenkit.cache import cache_folder
from tungstenkit.document import Document, write_atomically
from tungstenkit.errors import FetchError
from tungstenkit.lock import Deb, Source
from tungstenkit.mirrors import MissingError, get_if_newer
from tungstenkit.outside import text_problem
from tungstenkit.resolve.debian_release import RELEASES
from tungstenkit.resolve.debian_version import order

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from tungstenkit.lock import Located, Wheel
    from tungstenkit.mirrors import Mirrors

    Get = Callable[[str, str | None], tuple[bytes, str | None] | None]
    """As `mirrors.get_if_newer`."""

_KEPT = timedelta(hours=24)
_PROBES = 3  # projects that are asked for before an index counts as one without the JSON API
_WORKERS = 8


def _showable(text: str) -> str:
    if problem := text_problem(text):
        raise ValueError(problem)
    return text


_Text = Annotated[str, AfterValidator(_showable)]
"""What somebody else says, and a terminal shows."""


class Vulnerability(Document):
    """A known vulnerability of one package."""

    id: _Text
    """Its CVE, or what the source calls it where there is none."""
    urgency: _Text | None
    """As Debian's security team judges it for Debian; None for wheels."""
    fixed: tuple[_Text, ...]
    """Versions without it: of the Debian source package, or of the project; empty where there is none yet."""


_Row = tuple[_Text, _Text | None, _Text | None]
"""Of the tracker's data on one problem: id, the version that fixes it if there is one, urgency."""


class _Cached(Document):
    """What was asked of a source."""

    version: Literal[1] = 1
    source: str
    """Which one: a hash of its URL, which may hold a password."""
    checked: AwareDatetime


_C = TypeVar("_C", bound=_Cached)


class _Debian(_Cached):
    etag: str | None = None
    releases: dict[str, dict[str, list[_Row]]]
    """By release and source package: what is open there, or fixed by a version."""


class _Project(Document):
    checked: AwareDatetime
    vulnerabilities: tuple[Vulnerability, ...]


class _Python(_Cached):
    projects: dict[str, _Project]
    """By `project==version`."""


@dataclass(frozen=True)
class Advisories:
    """What is known, and what could not be asked."""

    debian: Mapping[str, Mapping[str, Sequence[_Row]]] = field(default_factory=dict)
    python: Mapping[str, tuple[Vulnerability, ...]] = field(default_factory=dict)
    notices: tuple[str, ...] = ()

    def of(self, package: Deb | Wheel | Source, release: str) -> tuple[Vulnerability, ...] | None:
        """What a locked package is known to have, by id; None where nobody was asked about it.

        release: Debian's, by code name.
        """
        if not isinstance(package, Deb):
            return self.python.get(_key(package)) if _is_of_the_index(package) else None
        if package.source is None or release not in self.debian:
            return None
        source, version = package.source.rstrip(")").split(" (")
        return tuple(
            Vulnerability(id=identifier, urgency=urgency, fixed=(fixed,) if fixed else ())
            for identifier, fixed, urgency in sorted(self.debian[release].get(source, ()))
            if fixed is None or _is_older(version, fixed)
        )


def look_up(
    wanted: Iterable[Located],
    mirrors: Mirrors,
    *,
    cache: Path | None = None,
    get: Get = get_if_newer,
) -> Advisories:
    """Ask both sources about packages; what the cache has of the last day, by `mirrors.found`, is not asked again."""
    folder = (cache or cache_folder()) / "advisories"
    packages = [located.package for located in wanted]
    debs = [package for package in packages if isinstance(package, Deb)]
    wheels = {
        _key(package): package
        for package in packages
        if not isinstance(package, Deb) and _is_of_the_index(package)
    }
    notices: list[str] = []
    if wheels and mirrors.extra_indexes:
        notices.append(
            "wheels were not checked for known vulnerabilities: further indexes may hold private names"
        )
        wheels = {}
    debian = _ask_debian(mirrors.security_tracker, folder, mirrors.found, get, notices) if debs else None
    python = _ask_python(mirrors.pypi, wheels, folder, mirrors.found, get, notices) if wheels else {}
    if debian and (unknown := sum(deb.source is None for deb in debs)):
        notices.append(
            f"{unknown} Debian packages of an older lock name no source, so were not checked for vulnerabilities"
        )
    return Advisories(debian.releases if debian else {}, _told(python), tuple(notices))


def known_here(*, cache: Path | None = None) -> Advisories:
    """What the cache has, however old: for commands that use no network."""
    folder = (cache or cache_folder()) / "advisories"
    debian, python = _read(folder, _Debian), _read(folder, _Python)
    notices = [
        f"vulnerabilities of {what} are as known on {cached.checked:%Y-%m-%d}"
        if cached
        else f"vulnerabilities of {what} are not known here: no `tungsten lock` has been told them yet"
        for what, cached in (("Debian packages", debian), ("wheels", python))
    ]
    return Advisories(
        debian.releases if debian else {}, _told(python.projects if python else {}), tuple(notices)
    )


# Debian's security tracker


def _ask_debian(url: str | None, folder: Path, now: datetime, get: Get, notices: list[str]) -> _Debian | None:
    what = "Debian packages were not checked for known vulnerabilities"
    if url is None:
        notices.append(
            f"{what}: set TUNGSTEN_SECURITY_TRACKER to the URL of the security tracker's JSON data"
        )
        return None
    cached = _read(folder, _Debian, url)
    if cached and _is_fresh(cached.checked, now):
        return cached
    try:
        answer = get(url, cached.etag if cached else None)
        if answer is not None:
            releases = _reduced(json.loads(answer[0]))
            cached = _Debian(source=_hashed(url), checked=now, etag=answer[1], releases=releases)
        elif cached:
            cached = cached.model_copy(update={"checked": now})
    except FetchError as problem:
        if cached:
            notices.append(
                f"vulnerabilities of Debian packages are as known on {cached.checked:%Y-%m-%d}: {problem.what}"
            )
        else:
            notices.append(f"{what}: the security tracker {problem.what}")
        return cached
    except (AttributeError, KeyError, TypeError, ValueError):
        notices.append(f"{what}: the security tracker's data are not what was expected")
        return None
    if cached:
        _write(folder, cached, notices)
    return cached


def _is_older(version: str, fixed: str) -> bool:
    try:
        return order(version) < order(fixed)
    except ValueError:
        return True  # the tracker's version is none: what can't be judged is shown


def _reduced(data: Any) -> dict[str, dict[str, list[_Row]]]:  # noqa: ANN401 - foreign JSON
    """Of the tracker's data what counts here.

    `unimportant` ones are no security problem in what Debian builds, and a fixing version `0` says that the release
    never had it (the tracker's documentation).
    """
    releases: dict[str, dict[str, list[_Row]]] = {name: {} for name in RELEASES}
    for source, problems in data.items():
        for identifier, problem in problems.items():
            for release, state in problem["releases"].items():
                if release not in releases or state.get("urgency") == "unimportant":
                    continue
                fixed = state.get("fixed_version")
                is_open = state["status"] == "open"
                if is_open or (state["status"] == "resolved" and fixed not in (None, "0")):
                    row = (identifier, None if is_open else fixed, state.get("urgency"))
                    releases[release].setdefault(source, []).append(row)
    return releases


# The Python index


def _ask_python(
    index: str,
    wheels: Mapping[str, Wheel | Source],
    folder: Path,
    now: datetime,
    get: Get,
    notices: list[str],
) -> dict[str, _Project]:
    cached = _read(folder, _Python, index)
    known = {
        key: project
        for key, project in (cached.projects if cached else {}).items()
        if _is_fresh(project.checked, now)
    }
    missing = [key for key in wheels if key not in known]

    def ask(key: str) -> _Project | FetchError:
        # Beside `/simple`, as on the public index. Local versions (PEP 440) are not known there.
        version = Version(wheels[key].version).public
        url = f"{index.removesuffix('/simple')}/pypi/{wheels[key].project}/{version}/json"
        try:
            answer = get(url, None)
            found = _of_project(json.loads(answer[0])) if answer else ()
            return _Project(checked=now, vulnerabilities=tuple(found))
        except FetchError as problem:
            return problem
        except (AttributeError, KeyError, TypeError, ValueError):
            return MissingError("gives answers that are not what was expected")

    answers: dict[str, _Project | FetchError] = {}
    with ThreadPoolExecutor(_WORKERS) as pool:
        for batch in (missing[:_PROBES], missing[_PROBES:]):
            # An index without this API, or that can't be reached, is not asked for every project.
            if known or not answers or any(isinstance(answer, _Project) for answer in answers.values()):
                answers.update(zip(batch, pool.map(ask, batch), strict=True))
    answered = {key: answer for key, answer in answers.items() if isinstance(answer, _Project)}
    known |= answered
    if answered:
        _write(folder, _Python(source=_hashed(index), checked=now, projects=known), notices)
    if unknown := sum(key not in known for key in wheels):
        problems = [answer for answer in answers.values() if isinstance(answer, FetchError)]
        problem = next((p for p in problems if not isinstance(p, MissingError)), problems[0])
        notices.append(
            f"{unknown} of {len(wheels)} wheels were not checked for known vulnerabilities: "
            f"the Python index's JSON API {problem.what}"
        )
    return known


def _of_project(data: Any) -> Iterator[Vulnerability]:  # noqa: ANN401 - foreign JSON
    """The vulnerabilities in an answer of the JSON API that were not withdrawn, each once."""
    # Two databases may tell of one: the last one's word counts.
    fixed = {
        next((alias for alias in one["aliases"] if alias.startswith("CVE-")), one["id"]): one["fixed_in"]
        for one in data["vulnerabilities"]
        if not one.get("withdrawn")
    }
    for identifier, versions in sorted(fixed.items()):
        yield Vulnerability(id=identifier, urgency=None, fixed=tuple(versions))


def _told(projects: Mapping[str, _Project]) -> dict[str, tuple[Vulnerability, ...]]:
    return {key: project.vulnerabilities for key, project in projects.items()}


def _is_of_the_index(wheel: Wheel | Source) -> bool:
    """Whether the Python index has it; what else the model brings may be private, and only have a name there."""
    origins = (wheel.url, wheel.path, wheel.git if isinstance(wheel, Source) else None)
    return not any(origins)


def _key(wheel: Wheel | Source) -> str:
    return f"{wheel.project}=={wheel.version}"


# The cache


def _is_fresh(checked: datetime, now: datetime) -> bool:
    return timedelta(0) <= now - checked < _KEPT


def _read(folder: Path, kind: type[_C], url: str | None = None) -> _C | None:
    """What is kept; None where there is nothing, it is damaged, or it is of another source than `url`."""
    try:
        cached = kind.model_validate_json((folder / _FILES[kind]).read_bytes())
    except (OSError, ValueError):
        return None
    return cached if url is None or cached.source == _hashed(url) else None


def _write(folder: Path, cached: _Cached, notices: list[str]) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / _FILES[type(cached)], cached.model_dump_json(by_alias=True))
    except OSError as problem:
        notices.append(f"what is known of vulnerabilities can't be kept in {folder}: {problem.strerror}")


_FILES: Mapping[type[_Cached], str] = MappingProxyType({_Debian: "debian.json", _Python: "python.json"})


def _hashed(url: str) -> str:
    return hashlib.sha256(url.encode()).hexdigest()
