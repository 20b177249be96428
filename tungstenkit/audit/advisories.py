"""Asking for known vulnerabilities: Debian's of the security tracker's data, wheels' of the Python index' JSON API.

Both are asked when they can be reached, and what they say is kept in the user's cache for a day. A source that can't be
asked makes a notice, never an error.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from packaging.version import Version

from tungstenkit.at_once import at_once
from tungstenkit.audit.vulnerabilities import (
    Advisories,
    DebianAnswer,
    ProjectAnswer,
    PythonAnswer,
    Row,
    Vulnerability,
    by_project,
    hashed,
    is_fresh,
    is_of_the_index,
    key_of,
    read_kept,
    write_kept,
)
from tungstenkit.cache import cache_folder
from tungstenkit.debian.release import RELEASES
from tungstenkit.fetch.web import MissingError, get_if_newer
from tungstenkit.lock.packages import Deb
from tungstenkit.sdk.errors import FetchError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from datetime import datetime
    from pathlib import Path

    from tungstenkit.fetch.mirrors import Mirrors
    from tungstenkit.lock.document import Located

    Get = Callable[[str, str | None], tuple[bytes, str | None] | None]
    """As `web.get_if_newer`."""

_PROBES = 3  # projects that are asked for before an index counts as one without the JSON API
_WORKERS = 8


def look_up(
    wanted: Iterable[Located],
    mirrors: Mirrors,
    *,
    cache: Path | None = None,
    get: Get = get_if_newer,
) -> Advisories:
    """Ask both sources about packages; what the cache has of the last day, by `mirrors.found`, is not asked again."""
    folder = (cache or cache_folder()) / "advisories"
    # Those of the model last: of a wheel that both have, its place is the model's.
    wanted = sorted(wanted, key=lambda located: located.place == "image")
    debs = [located.package for located in wanted if isinstance(located.package, Deb)]
    wheels = {
        key_of(located.package): located
        for located in wanted
        if not isinstance(located.package, Deb) and is_of_the_index(located.package)
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
    return Advisories(debian.releases if debian else {}, by_project(python), tuple(notices))


# Debian's security tracker


def _ask_debian(
    url: str | None, folder: Path, now: datetime, get: Get, notices: list[str]
) -> DebianAnswer | None:
    what = "Debian packages were not checked for known vulnerabilities"
    if url is None:
        notices.append(
            f"{what}: set TUNGSTEN_SECURITY_TRACKER to the URL of the security tracker's JSON data"
        )
        return None
    cached = read_kept(folder, DebianAnswer, url)
    if cached and is_fresh(cached.checked, now):
        return cached
    try:
        answer = get(url, cached.etag if cached else None)
        if answer is not None:
            releases = _reduced(json.loads(answer[0]))
            cached = DebianAnswer(source=hashed(url), checked=now, etag=answer[1], releases=releases)
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
        write_kept(folder, cached, notices)
    return cached


def _reduced(data: Any) -> dict[str, dict[str, list[Row]]]:  # noqa: ANN401 - foreign JSON
    """Of the tracker's data what counts here.

    `unimportant` ones are no security problem in what Debian builds, and a fixing version `0` says that the release
    never had it (the tracker's documentation).
    """
    releases: dict[str, dict[str, list[Row]]] = {name: {} for name in RELEASES}
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
    wheels: Mapping[str, Located],
    folder: Path,
    now: datetime,
    get: Get,
    notices: list[str],
) -> dict[str, ProjectAnswer]:
    cached = read_kept(folder, PythonAnswer, index)
    known = {
        key: project
        for key, project in (cached.projects if cached else {}).items()
        if is_fresh(project.checked, now)
    }
    missing = [key for key in wheels if key not in known]

    def ask(key: str) -> ProjectAnswer | FetchError:
        # Beside `/simple`, as on the public index. Local versions (PEP 440) are not known there.
        wheel = wheels[key].package
        assert not isinstance(wheel, Deb)
        url = f"{index.removesuffix('/simple')}/pypi/{wheel.project}/{Version(wheel.version).public}/json"
        try:
            answer = get(url, None)
            found = _of_project(json.loads(answer[0])) if answer else ()
            return ProjectAnswer(checked=now, vulnerabilities=tuple(found))
        except FetchError as problem:
            return problem
        except (AttributeError, KeyError, TypeError, ValueError):
            return MissingError("gives answers that are not what was expected")

    answers: dict[str, ProjectAnswer | FetchError] = {}
    for batch in (missing[:_PROBES], missing[_PROBES:]):
        # An index without this API, or that can't be reached, is not asked for every project.
        if known or not answers or any(isinstance(answer, ProjectAnswer) for answer in answers.values()):
            answers.update(zip(batch, at_once(ask, batch, _WORKERS), strict=True))
    answered = {key: answer for key, answer in answers.items() if isinstance(answer, ProjectAnswer)}
    known |= answered
    if answered:
        write_kept(folder, PythonAnswer(source=hashed(index), checked=now, projects=known), notices)
    if unknown := sum(key not in known for key in wheels):
        problems = [answer for answer in answers.values() if isinstance(answer, FetchError)]
        problem = next((p for p in problems if not isinstance(p, MissingError)), problems[0])
        others = sum(located.place != "image" for located in wheels.values())
        whose = f" ({others} of them the server's)" if others else ""
        notices.append(
            f"{unknown} of {len(wheels)} wheels{whose} were not checked for known vulnerabilities: "
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
