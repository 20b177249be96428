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
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from packaging.version import Version

from tungstenkit.document import Document, to_json, write_atomically
from tungstenkit.errors import FetchError
from tungstenkit.lock import Deb
from tungstenkit.mirrors import MissingError, get_if_newer
from tungstenkit.resolve.debian_index import cache_folder
from tungstenkit.resolve.debian_release import RELEASES
from tungstenkit.resolve.debian_version import order

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from tungstenkit.lock import Located, Wheel
    from tungstenkit.mirrors import Mirrors

    Get = Callable[[str, str | None], tuple[bytes, str | None] | None]
    """As `mirrors.get_if_newer`."""

_KEPT = timedelta(hours=24)
_PROBES = 3  # projects that are asked for before an index counts as one without the JSON API
_WORKERS = 8
_FORMAT = 1  # of the cached files


class Vulnerability(Document):
    """A known vulnerability of one package."""

    id: str
    """Its CVE, or what the source calls it where there is none."""
    urgency: str | None
    """As Debian's security team judges it for Debian; None for wheels."""
    fixed: tuple[str, ...]
    """Versions without it: of the Debian source package, or of the project; empty where there is none yet."""


@dataclass(frozen=True)
class Advisories:
    """What is known, and what could not be asked."""

    debian: dict[str, dict[str, list[Vulnerability]]] = field(default_factory=dict)
    """By release and source package: those that are open there, or fixed by a version."""
    python: dict[str, tuple[Vulnerability, ...]] = field(default_factory=dict)
    """By `project==version`."""
    notices: tuple[str, ...] = ()

    def of(self, package: Deb | Wheel, release: str) -> tuple[Vulnerability, ...] | None:
        """What a locked package is known to have, by id; None where nobody was asked about it.

        release: Debian's, by code name.
        """
        if not isinstance(package, Deb):
            return self.python.get(_key(package))
        if package.source is None or release not in self.debian:
            return None
        source, version = package.source.rstrip(")").split(" (")
        known = self.debian[release].get(source, [])
        return tuple(v for v in known if not any(order(version) >= order(fixed) for fixed in v.fixed))


def look_up(
    wanted: Iterable[Located],
    mirrors: Mirrors,
    *,
    cache: Path | None = None,
    now: datetime | None = None,
    get: Get = get_if_newer,
) -> Advisories:
    """Ask both sources about packages; what is younger than a day in the cache is not asked for again."""
    folder = (cache or cache_folder()) / "advisories"
    now = now or datetime.now(UTC)
    packages = [located.package for located in wanted]
    debs = [package for package in packages if isinstance(package, Deb)]
    wheels = {_key(package): package for package in packages if not isinstance(package, Deb)}
    notices: list[str] = []
    debian = _debian(mirrors.security_tracker, folder / "debian.json", now, get, notices) if debs else {}
    python = _python(mirrors.pypi, wheels, folder / "python.json", now, get, notices) if wheels else {}
    if debian and (unknown := sum(deb.source is None for deb in debs)):
        notices.append(
            f"{unknown} Debian packages of an older lock name no source, so were not checked for vulnerabilities"
        )
    return Advisories(debian, python, tuple(notices))


def known_here(*, cache: Path | None = None) -> Advisories:
    """What the cache has, however old: for commands that use no network."""
    folder = (cache or cache_folder()) / "advisories"
    debian, python = _read(folder / "debian.json"), _read(folder / "python.json")
    notices = [
        f"vulnerabilities of {what} are as known on {document['checked'][:10]}"
        if document
        else f"vulnerabilities of {what} are not known here: `tungsten lock` asks for them"
        for what, document in (("Debian packages", debian), ("wheels", python))
    ]
    try:
        return Advisories(
            _debian_entries(debian["releases"]) if debian else {},
            _python_entries(python["projects"]) if python else {},
            tuple(notices),
        )
    except (KeyError, TypeError, ValueError):
        return Advisories(
            notices=("the cache of vulnerabilities is damaged: `tungsten lock` makes it again",)
        )


# Debian's security tracker


def _debian(
    url: str | None,
    path: Path,
    now: datetime,
    get: Get,
    notices: list[str],
) -> dict[str, dict[str, list[Vulnerability]]]:
    what = "Debian packages were not checked for known vulnerabilities"
    if url is None:
        notices.append(
            f"{what}: set TUNGSTEN_SECURITY_TRACKER to the URL of the security tracker's JSON data"
        )
        return {}
    cached = _read(path, url)
    try:
        if not cached or not _is_fresh(cached["checked"], now):
            answer = get(url, cached.get("etag"))
            if answer is not None:
                data, etag = answer
                cached = {"etag": etag, "releases": _reduced(json.loads(data))}
            _write(path, {**cached, "checked": now.isoformat()}, url, notices)
        return _debian_entries(cached["releases"])
    except FetchError as problem:
        if cached:
            notices.append(
                f"vulnerabilities of Debian packages are as known on {cached['checked'][:10]}: {problem.what}"
            )
            return _debian_entries(cached["releases"])
        notices.append(f"{what}: the security tracker {problem.what}")
    except (AttributeError, KeyError, TypeError, ValueError):
        notices.append(f"{what}: the security tracker's data are not what was expected")
    return {}


def _reduced(data: Any) -> dict[str, dict[str, list[list[str | None]]]]:  # noqa: ANN401 - foreign JSON
    """Of the tracker's data what counts here, a tenth: id, fixing version and urgency, by release and source.

    `unimportant` ones are no security problem in what Debian builds, and a fixing version `0` says that the release
    never had it (the tracker's documentation).
    """
    releases: dict[str, dict[str, list[list[str | None]]]] = {name: {} for name in RELEASES}
    for source, problems in data.items():
        for identifier, problem in problems.items():
            for release, state in problem["releases"].items():
                fixed = state.get("fixed_version")
                is_open = state["status"] == "open"
                if release not in releases or state.get("urgency") == "unimportant":
                    continue
                if is_open or (state["status"] == "resolved" and fixed not in (None, "0")):
                    entry = [identifier, None if is_open else fixed, state.get("urgency")]
                    releases[release].setdefault(source, []).append(entry)
    return releases


def _debian_entries(releases: dict[str, Any]) -> dict[str, dict[str, list[Vulnerability]]]:
    return {
        release: {
            source: [
                Vulnerability(id=identifier, urgency=urgency, fixed=(fixed,) if fixed else ())
                for identifier, fixed, urgency in sorted(entries)
            ]
            for source, entries in sources.items()
        }
        for release, sources in releases.items()
    }


# The Python index


def _python(
    index: str, wheels: dict[str, Wheel], path: Path, now: datetime, get: Get, notices: list[str]
) -> dict[str, tuple[Vulnerability, ...]]:
    known = {
        key: entry
        for key, entry in _read(path, index).get("projects", {}).items()
        if _is_fresh(entry["checked"], now)
    }
    missing = [key for key in wheels if key not in known]

    def ask(key: str) -> list[Any] | FetchError:
        # Beside `/simple`, as on the public index. Local versions (PEP 440) are not known there.
        version = Version(wheels[key].version).public
        url = f"{index.removesuffix('/simple')}/pypi/{wheels[key].project}/{version}/json"
        try:
            answer = get(url, None)
            return _of_project(json.loads(answer[0])) if answer else []
        except FetchError as problem:
            return problem
        except (AttributeError, KeyError, TypeError, ValueError):
            return MissingError("gives answers that are not what was expected")

    answers: dict[str, list[Any] | FetchError] = {}
    with ThreadPoolExecutor(_WORKERS) as pool:
        for batch in (missing[:_PROBES], missing[_PROBES:]):
            # An index without this API, or that can't be reached, is not asked for every project.
            if known or not answers or any(isinstance(answer, list) for answer in answers.values()):
                answers.update(zip(batch, pool.map(ask, batch), strict=True))
    answered = {
        key: {"checked": now.isoformat(), "vulnerabilities": answer}
        for key, answer in answers.items()
        if isinstance(answer, list)
    }
    known |= answered
    if answered:
        _write(path, {"projects": known, "checked": now.isoformat()}, index, notices)
    if unknown := sum(key not in known for key in wheels):
        problems = [a for a in answers.values() if isinstance(a, FetchError)]
        problem = next((p for p in problems if not isinstance(p, MissingError)), problems[0])
        notices.append(
            f"{unknown} of {len(wheels)} wheels were not checked for known vulnerabilities: "
            f"the Python index' JSON API {problem.what}"
        )
    return _python_entries(known)


def _of_project(data: Any) -> list[list[Any]]:  # noqa: ANN401 - foreign JSON
    """Id and fixing versions of each vulnerability in an answer of the JSON API that was not withdrawn."""
    return [
        [next((a for a in one["aliases"] if a.startswith("CVE-")), one["id"]), one["fixed_in"]]
        for one in data["vulnerabilities"]
        if not one.get("withdrawn")
    ]


def _python_entries(projects: dict[str, Any]) -> dict[str, tuple[Vulnerability, ...]]:
    # Two databases may tell of one vulnerability: the last one's word counts.
    return {
        key: tuple(
            Vulnerability(id=identifier, urgency=None, fixed=tuple(fixed))
            for identifier, fixed in sorted(dict(entry["vulnerabilities"]).items())
        )
        for key, entry in projects.items()
    }


def _key(wheel: Wheel) -> str:
    return f"{wheel.project}=={wheel.version}"


# The cache


def _is_fresh(checked: str, now: datetime) -> bool:
    return timedelta(0) <= now - datetime.fromisoformat(checked) < _KEPT


def _read(path: Path, url: str | None = None) -> dict[str, Any]:
    """A cached document; empty where there is none, it is damaged, or it is of another source than `url`."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        datetime.fromisoformat(document["checked"])
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    if document.get("format") != _FORMAT or (url is not None and document["source"] != _hashed(url)):
        return {}
    return dict(document)


def _write(path: Path, document: dict[str, Any], url: str, notices: list[str]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, to_json({**document, "format": _FORMAT, "source": _hashed(url)}))
    except OSError as problem:
        notices.append(f"what is known of vulnerabilities can't be kept in {path.parent}: {problem.strerror}")


def _hashed(url: str) -> str:
    # It may hold a password.
    return hashlib.sha256(url.encode()).hexdigest()
