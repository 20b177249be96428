"""What this machine's mirrors answer, whose certificates count, proxies, and what others say of the time.

Each server is asked once, and for little.
"""

from __future__ import annotations

import os
import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, timedelta
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from urllib.request import getproxies_environment

from tungstenkit import certificates, lacks
from tungstenkit.debian.index import ARCHIVES, suites
from tungstenkit.debian.release import RELEASES
from tungstenkit.doctor.finding import Finding, State, fine, lacking, lacking_by, unsure
from tungstenkit.fetch import machine_mirrors, web
from tungstenkit.outside import redact
from tungstenkit.sdk.errors import FetchError, TungstenError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    import requests

    from tungstenkit.fetch.mirrors import Mirrors
    from tungstenkit.lacks import Lack, Linux

_TIMEOUT = (4, 8)
"""Seconds to connect, and between two pieces of an answer."""
_PROJECT = "iniconfig"
"""One of the Python index's that is small; an index that has it not, has answered."""
_RIGHT = timedelta(minutes=5)
"""How far a clock may be from others'."""
_NAMING = {
    lacks.DEBIAN: lacks.naming_mirrors("TUNGSTEN_MIRROR_DEBIAN", "a mirror, which has `dists/` below it,"),
    lacks.PYTHON_INDEX: lacks.naming_mirrors("TUNGSTEN_MIRROR_PYPI", "an index's simple API"),
    lacks.NPM: lacks.naming_mirrors("TUNGSTEN_MIRROR_NPM", "a registry"),
}
_SEE_CERTIFICATES = lacks.Remedy(says=f"see {lacks.CERTIFICATES.name}")
_DAMAGED = "which has no certificate that can be read"


@dataclass
class Asked:
    """What was asked, and what came of it."""

    problems: dict[str, FetchError] = field(default_factory=dict)
    """By URL."""
    answered: list[str] = field(default_factory=list)
    """URLs."""
    dates: list[datetime] = field(default_factory=list)
    """What servers say of the time."""

    def get(self, url: str) -> bytes:
        """The bytes behind a URL. Raises FetchError."""
        try:
            answer = web.get(url, attempts=1, timeout=_TIMEOUT)
        except web.WebError as problem:
            self._note_date(problem.answer)
            self.problems[url] = problem
            raise
        except FetchError as problem:
            self.problems[url] = problem
            raise
        self._note_date(answer)
        self.answered.append(url)
        return answer.content

    def problem(self, base: str, url: str) -> FetchError | None:
        """Why a mirror does not answer; None where it does, or did. base: all of its URLs begin so."""
        if any(one.startswith(f"{base}/") for one in self.answered):
            return None
        try:
            self.get(url)
        except FetchError as problem:
            return problem
        return None

    def _note_date(self, answer: requests.Response | None) -> None:
        """RFC 9110, 6.6.1; what a cache answers is as old as it says (RFC 9111, 5.1)."""
        if answer is None:
            return
        with suppress(ValueError, TypeError):
            date = parsedate_to_datetime(answer.headers.get("Date", ""))
            age = answer.headers.get("Age", "0")
            date += timedelta(seconds=int(age) if age.isdecimal() else 0)
            self.dates.append(date if date.tzinfo else date.replace(tzinfo=UTC))


def network(linux: Linux) -> Iterator[Finding]:
    """Mirrors, certificates, proxies, the clock."""
    asked = Asked()
    yield from _proxies()
    try:
        mirrors = machine_mirrors.find_mirrors(get=asked.get)
    except TungstenError as problem:
        yield lacking_by(lacks.PYTHON_INDEX, problem)
        mirrors = None
    found = list(_mirrors(mirrors, asked)) if mirrors is not None else []
    time = clock(mirrors.found if mirrors is not None else None, asked, linux)
    if time.state is State.LACKING:
        # By a wrong clock indexes have expired, or are of the future.
        see = (lacks.Remedy(says=f"see {lacks.CLOCK.name}"),)
        by_time = (lacks.DEBIAN, lacks.DEBIAN_MIRROR)
        found = [replace(one, remedies=see) if one.remedies and one.lack in by_time else one for one in found]
    yield from found
    yield _certificates(asked, linux)
    yield time


def _mirrors(mirrors: Mirrors, asked: Asked) -> Iterator[Finding]:
    yield from _debian(mirrors, asked)
    wanted = [
        (lacks.PYTHON_INDEX, url, f"{url}/{_PROJECT}/") for url in (mirrors.pypi, *mirrors.extra_indexes)
    ]
    wanted += [(lacks.NPM, url, f"{url}/-/ping") for url in filter(None, [mirrors.npm])]
    with ThreadPoolExecutor() as pool:
        yield from pool.map(lambda one: _answer(one[0], one[1], one[2], asked), wanted)


def _debian(mirrors: Mirrors, asked: Asked) -> Iterator[Finding]:
    """Its two archives': who answers; where no mirror does, why, and whether the last resort does."""
    known = {ARCHIVES[0]: mirrors.debian, ARCHIVES[1]: mirrors.debian_security}
    release = next(iter(RELEASES))
    answered: list[str] = []
    for archive, bases in mirrors.debian_bases.items():
        suite = next(suite for name, suite in suites(release) if name == archive)
        said = {base: asked.problem(base, f"{base}/dists/{suite}/InRelease") for base in bases}
        good = [redact(base) for base, problem in said.items() if problem is None]
        failed = [
            f"{redact(base)}: {_reason(problem)}" for base, problem in said.items() if problem is not None
        ]
        if good and known[archive]:
            answered += good
            continue
        why = "; ".join(failed) if known[archive] else _why_no_mirror(archive, asked)
        if good:
            yield lacking(lacks.DEBIAN_MIRROR, why, [_NAMING[lacks.DEBIAN]])
            return
        if not known[archive]:
            why += f"; nor does the snapshot service answer: {', '.join(_reason(one) for one in said.values() if one)}"
        see = [_SEE_CERTIFICATES] if any(map(_is_untrusted, asked.problems.values())) else []
        yield lacking(lacks.DEBIAN, why, [*see, _NAMING[lacks.DEBIAN]])
        return
    yield fine(lacks.DEBIAN, " ".join(answered))


def _why_no_mirror(archive: str, asked: Asked) -> str:
    """Why none of apt's sources, or of those beside a mirror that is named, is one of an archive."""
    tried = os.environ.get("TUNGSTEN_MIRROR_DEBIAN", "").split() or [*machine_mirrors.apt_bases()]
    if not tried:
        return "none is known: apt has no source here, and TUNGSTEN_MIRROR_DEBIAN names none"
    failed = [
        f"{redact(base)}: {_reason(problem)}"
        for base in tried
        for url, problem in asked.problems.items()
        if url.startswith(base) and not isinstance(problem, web.MissingError)
    ]
    if failed:
        return "; ".join(dict.fromkeys(failed))
    return f"none that this machine knows has {archive}, signed and of today: {' '.join(map(redact, tried))}"


def _answer(lack: Lack, url: str, wanted: str, asked: Asked) -> Finding:
    """Whether a server answers."""
    try:
        asked.get(wanted)
    except web.MissingError:
        pass  # it has answered
    except web.UntrustedError as problem:
        return lacking(lack, f"{redact(url)}: {problem.reason}", [_SEE_CERTIFICATES])
    except web.WebError as problem:
        # These have a hint of their own; the others lead here.
        said = [lacks.Remedy(says=problem.hint)] if problem.hint and problem.status in (401, 403) else []
        remedies = [*said, _NAMING[lack]]
        return lacking(lack, f"{redact(url)}: {problem.reason}", remedies)
    except FetchError as problem:
        return unsure(lack, f"{redact(url)} can't be asked: {problem.what}")
    return fine(lack, redact(url))


def _is_untrusted(problem: FetchError) -> bool:
    return isinstance(problem, web.UntrustedError)


def _reason(problem: FetchError) -> str:
    return problem.reason if isinstance(problem, web.WebError) else problem.what


def _certificates(asked: Asked, linux: Linux) -> Finding:
    """Who is not believed, and which places for certificates have none."""
    lost = [
        f"{who} names {path}, {_DAMAGED}"
        for who, path in certificates.named(os.environ)
        if not certificates.has_some(path)
    ]
    refused = {
        urlsplit(url).netloc.rpartition("@")[2]: _reason(problem)
        for url, problem in asked.problems.items()
        if _is_untrusted(problem)
    }
    if refused:
        said = [f"{server}: {reason}" for server, reason in refused.items()]
        unknown = any(certificates.is_of_unknown_issuer(reason) for reason in refused.values())
        hints = dict.fromkeys(certificates.hint(reason) for reason in refused.values())
        remedies = lacks.trusting(linux) if unknown else [lacks.Remedy(says=hint) for hint in hints]
        return lacking(lacks.CERTIFICATES, "; ".join([*said, *lost]), remedies)
    if lost:
        # The others are enough for those who have answered.
        return unsure(lacks.CERTIFICATES, "; ".join(lost))
    places: dict[str, list[str]] = {}
    for who, path in certificates.named(os.environ):
        places.setdefault(path, []).append(who)
    for path in [str(path) for path in certificates.SYSTEM if path.is_file()][:1]:
        places.setdefault(path, []).append("the system's")
    said = [f"{path} ({', '.join(names)})" for path, names in places.items()]
    return fine(lacks.CERTIFICATES, ", ".join(said) or "those that come with `requests`")


def clock(now: datetime | None, asked: Asked, linux: Linux) -> Finding:
    """Whether this machine's clock is as others'. now: what it says."""
    expired = [
        problem
        for problem in asked.problems.values()
        if _is_untrusted(problem) and certificates.is_of_time(_reason(problem))
    ]
    if now is None or not (asked.dates or expired):
        return unsure(lacks.CLOCK, "no server has said what time it is")
    said = f"{now:%Y-%m-%d %H:%M} UTC"
    if asked.dates:
        # Of several the middle one: one server's may be wrong.
        there = sorted(asked.dates)[len(asked.dates) // 2]
        if abs(there - now) > _RIGHT:
            return lacking(
                lacks.CLOCK,
                f"{said} here, and {there:%Y-%m-%d %H:%M} by what servers say",
                [lacks.setting_clock(linux)],
            )
        return fine(lacks.CLOCK, said)
    return lacking(lacks.CLOCK, f"{said} here, when certificates are not valid", [lacks.setting_clock(linux)])


def _proxies() -> Iterator[Finding]:
    """Those of the environment; whether one answers at its port."""
    named = {
        url: scheme for scheme, url in getproxies_environment().items() if scheme in ("http", "https", "all")
    }
    for url, scheme in named.items():
        parts = urlsplit(url if "//" in url else f"//{url}")
        try:
            place = (parts.hostname or "", parts.port or {"https": 443}.get(parts.scheme, 80))
            with socket.create_connection(place, timeout=_TIMEOUT[0]):
                yield fine(lacks.PROXY, f"{redact(url)} ({scheme})")
        except (OSError, ValueError) as problem:
            why = getattr(problem, "strerror", None) or problem
            remedy = lacks.Remedy(
                f"unset {scheme}_proxy {scheme.upper()}_PROXY", "or name the right one there"
            )
            yield lacking(lacks.PROXY, f"{redact(url)} ({scheme}_proxy) can't be reached: {why}", [remedy])
