"""This machine's mirrors, from the configuration of its own clients: apt, pip, npm, and the system itself.

For each kind of mirror the first of these that says something counts: an environment variable,
`[tool.tungsten.mirrors]` in the `pyproject.toml` beside the model, the configuration of the client.
"""

from __future__ import annotations

import os
import re
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote, urlsplit

from tungstenkit import configured
from tungstenkit.at_once import at_once
from tungstenkit.debian.control import stanzas
from tungstenkit.debian.index import ARCHIVES, fetch_inrelease, suites, trusted_certificates
from tungstenkit.debian.release import RELEASES
from tungstenkit.fetch.mirrors import Mirrors
from tungstenkit.fetch.web import MissingError, get_bytes
from tungstenkit.outside import WEB, redact, url_problem
from tungstenkit.registry.place import place
from tungstenkit.sdk.errors import FetchError, TungstenError
from tungstenkit.settings import index_settings, read_table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from tungstenkit.spec.requirements import Wishes

APT = Path("/etc/apt")
OS_RELEASE = Path("/etc/os-release")

_VARIABLES = {
    "debian": "TUNGSTEN_MIRROR_DEBIAN",
    "debian-security": "TUNGSTEN_MIRROR_DEBIAN_SECURITY",
    "pypi": "TUNGSTEN_MIRROR_PYPI",
    "npm": configured.NPM_MIRROR,
    "security-tracker": "TUNGSTEN_SECURITY_TRACKER",
}
OCI_MIRROR = "TUNGSTEN_MIRROR_OCI"
_OCI = "oci"
"""What is no URL: a registry's reference."""


@dataclass(frozen=True)
class Machine:
    """What is read of a machine to know its mirrors."""

    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)
    apt: Path = APT
    """apt's configuration."""
    os_release: Path = OS_RELEASE
    """What the system says of itself (os-release(5))."""


def find_mirrors(
    project: Path | None = None,
    machine: Machine | None = None,
    *,
    now: datetime | None = None,
    get: Callable[[str], bytes] | None = None,
    wishes: Wishes | None = None,
) -> Mirrors:
    """Find a machine's mirrors, by default those of this one.

    project: the model's folder, whose `pyproject.toml` may name mirrors.
    wishes: what the model's own `python_packages` say of indexes; they come before pip's configuration.
    get: fetches a URL to see whether Debian's archive is there; raises FetchError.

    A source of apt's counts only if a pinned key signed its Release and that says `Origin: Debian`.

    Raises TungstenError for a bad `[tool.tungsten.mirrors]`, and where no Python index is known.
    """
    machine = machine or Machine()
    environ = machine.environ
    now = now or datetime.now(UTC)
    get = get or (lambda url: get_bytes(url, attempts=2))
    named = {**_from_project(project), **_from_environment(environ)}
    indexes: dict[str, dict[str, Any]] = {**index_settings(project)} if project is not None else {}
    # Each takes about a second to start; together they take no longer than the slowest.
    with ThreadPoolExecutor() as pool:
        asked_pip = pool.submit(
            lambda: (named.get("pypi") or (_own_index(wishes) or _python_index(environ),))[0]
        )
        asked_npm = pool.submit(lambda: (named.get("npm") or (_npm_registry(environ),))[0])
        archives = _debian_archives(named, machine.apt, get, now)
    pypi = asked_pip.result()
    return Mirrors(
        debian=archives["debian"],
        debian_security=archives["debian-security"],
        pypi=_with_password(pypi, environ),
        npm=asked_npm.result(),
        security_tracker=(named.get("security-tracker") or (_security_tracker(machine.os_release),))[0],
        found=now,
        notices=tuple(_notices(archives)),
        extra_indexes=_further_indexes(pypi, indexes, wishes, environ),
        find_links=_unique(
            *(_place(link, project) for link in (wishes.find_links if wishes else ())),
            *configured.pip_setting("find-links", environ).split(),
        ),
        declared={
            _unique(_place(place, project))[0]: text
            for place, text in (wishes.places if wishes else {}).items()
        },
        indexes=indexes,
    )


def _notices(archives: Mapping[str, tuple[str, ...]]) -> Iterator[str]:
    if missing := [archive for archive, bases in archives.items() if not bases]:
        yield (
            f"no mirror of {' and '.join(missing)} that this machine knows answers: files come from Debian's "
            "snapshot service, which is slow; set TUNGSTEN_MIRROR_DEBIAN to one (a URL below which `dists/` lies)"
        )


def _further_indexes(
    pypi: str, indexes: Mapping[str, Mapping[str, Any]], wishes: Wishes | None, environ: Mapping[str, str]
) -> tuple[str, ...]:
    """The indexes beside `pypi`: the model's own, those of its settings, and pip's."""
    further = configured.pip_setting("extra-index-url", environ).split()
    # Those of the machine keep its users' names.
    plain = [redact(url.rstrip("/")) for url in (pypi, *further)]
    return tuple(
        _with_password(url, environ)
        for url in _unique(
            *(wishes.extra_index_urls if wishes else ()),
            *(said["url"] for said in indexes.values() if said.get("url", plain[0]) not in plain),
            # An index in a folder of this machine has what nobody else's lock could have found.
            *filter(_is_url, further),
        )
    )


def _own_index(wishes: Wishes | None) -> str | None:
    return wishes.index_url.rstrip("/") if wishes and wishes.index_url else None


def _place(link: str, project: Path | None) -> str:
    """A page or folder that a model names, relative to its folder."""
    return link if _is_url(link) else str((project or Path()) / link)


def _unique(*urls: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(url.rstrip("/") if _is_url(url) else url for url in urls))


# Named mirrors


def _from_environment(environ: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    named: dict[str, list[Any]] = {}
    for key, variable in _VARIABLES.items():
        if urls := environ.get(variable, "").split():
            if not all(map(_is_url, urls)):
                raise TungstenError("this is no http or https URL", where=variable)
            named[key] = urls
    return {key: _bases(urls) for key, urls in named.items()}


def _from_project(project: Path | None) -> dict[str, tuple[str, ...]]:
    if project is None:
        return {}
    where = str(project / "pyproject.toml")
    hint = (
        "[tool.tungsten.mirrors] has `debian`, `debian-security`, `pypi`, `npm`, `security-tracker`: each a URL "
        "or a list of them; and `oci`: a registry's reference, or the folder of an image layout, or a list of them"
    )
    table = read_table(project, "mirrors", hint=hint)
    try:
        named = {key: [value] if isinstance(value, str) else list(value) for key, value in table.items()}
    except TypeError as problem:
        raise TungstenError(f"the mirrors can't be read: {problem}", where=where, hint=hint) from None
    problems = [f"no such mirror: {key}" for key in named if key not in (*_VARIABLES, _OCI)]
    problems += [
        f"{key} holds what is no {'text' if key == _OCI else 'http or https URL'}"
        for key, urls in named.items()
        if not urls
        or not all((isinstance(url, str) and url) if key == _OCI else _is_url(url) for url in urls)
    ]
    if problems:
        raise TungstenError("\n".join(problems), where=where, hint=hint)
    return {key: tuple(urls) if key == _OCI else _bases(urls) for key, urls in named.items()}


def oci_mirrors(project: Path | None, environ: Mapping[str, str] = os.environ) -> tuple[str, ...]:
    """The registries and layouts that are asked for files by their hashes; they are found without asking anybody.

    A folder that the model names is relative to its own. Raises TungstenError for a bad `[tool.tungsten.mirrors]`, and
    for what is no reference.
    """
    where = OCI_MIRROR
    found = tuple(environ.get(OCI_MIRROR, "").split())
    if not found and project is not None:
        where = f"[tool.tungsten.mirrors] in {project / 'pyproject.toml'}"
        named = _from_project(project).get(_OCI, ())
        found = tuple(str(project / one) if (project / one).is_dir() else one for one in named)
    for one in found:
        try:
            place(one)
        except FetchError as problem:
            raise problem.reworded(where=where) from None
    return found


def _is_url(value: object) -> bool:
    return isinstance(value, str) and url_problem(value, WEB) is None


def _bases(urls: Iterable[str]) -> tuple[str, ...]:
    return tuple(url.rstrip("/") for url in urls)


# apt


def _debian_archives(
    named: Mapping[str, tuple[str, ...]], apt: Path, get: Callable[[str], bytes], now: datetime
) -> dict[str, tuple[str, ...]]:
    """The bases of each archive: those that were named, else those of apt's sources that are Debian's."""
    archives = {archive: named.get(archive, ()) for archive in ARCHIVES}
    _add_siblings(archives, get, now)
    if not all(archives.values()):
        bases = list(apt_bases(apt))
        found = _of_kind(bases, get, now, bases)
        archives = {archive: bases or found[archive] for archive, bases in archives.items()}
        _add_siblings(archives, get, now)
    return archives


def _of_kind(
    bases: Sequence[str], get: Callable[[str], bytes], now: datetime, key_bases: Sequence[str]
) -> dict[str, tuple[str, ...]]:
    """Those of the bases that are Debian's archives, by archive."""
    kinds = at_once(lambda base: _archive(base, get, now, key_bases), bases, 8)
    return {
        archive: tuple(base for base, kind in zip(bases, kinds, strict=True) if kind == archive)
        for archive in ARCHIVES
    }


def _add_siblings(archives: dict[str, tuple[str, ...]], get: Callable[[str], bytes], now: datetime) -> None:
    """Where only the main archive is known, see whether its mirrors have the other one beside it, as most do."""
    if archives["debian"] and not archives["debian-security"]:
        siblings = [f"{base}-security" for base in archives["debian"]]
        archives["debian-security"] = _of_kind(siblings, get, now, archives["debian"])["debian-security"]


def _archive(base: str, get: Callable[[str], bytes], now: datetime, key_bases: Sequence[str]) -> str | None:
    """Which of Debian's archives lies at a base, by its signed Release; None for anything else.

    key_bases: where Debian's keys may come from, on a machine that has none.
    """
    labels = {"Debian": "debian", "Debian-Security": "debian-security"}
    for release in RELEASES:
        for archive, suite in suites(release):
            if suite.endswith("-updates"):
                continue
            try:
                certs = trusted_certificates(release, archive, {"debian": key_bases}, get)
                _, inrelease = fetch_inrelease((base,), suite, certs, get, now=now)
            except MissingError:
                continue
            except TungstenError:
                return None
            return labels.get(inrelease.label) if inrelease.origin == "Debian" else None
    return None


def apt_bases(apt: Path = APT) -> dict[str, None]:
    """The http and https bases of apt's sources of binary packages, in order, each once (sources.list(5))."""
    bases: dict[str, None] = {}
    for path in [apt / "sources.list", *sorted((apt / "sources.list.d").glob("*"))]:
        try:
            text = path.read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue
        if path.suffix == ".list":
            uris = _one_line_sources(text)
        elif path.suffix == ".sources":
            uris = _deb822_sources(text)
        else:
            continue
        bases.update(dict.fromkeys(_bases(uri for uri in uris if _is_url(uri))))
    return bases


def _one_line_sources(text: str) -> Iterator[str]:
    for line in text.splitlines():
        if match := re.match(r"\s*deb\s+(?:\[[^\]]*\]\s*)?(\S+)", line):
            yield match[1]


def _deb822_sources(text: str) -> Iterator[str]:
    for stanza in stanzas(text):
        fields = {name.lower(): value for name, value in stanza.items()}
        enabled = fields.get("enabled", "yes").lower() not in (
            "no",
            "false",
            "without",
            "off",
            "disable",
            "0",
        )
        if enabled and "deb" in fields.get("types", "").split():
            yield from fields.get("uris", "").split()


# pip and npm


def _python_index(environ: Mapping[str, str]) -> str:
    """The index that pip uses here; its default is uv's, too, which is quicker to tell it."""
    if named := configured.pip_setting("index-url", environ):
        return named.rstrip("/")
    printed = configured.output([sys.executable, "-m", "uv", "pip", "compile", "--help"], environ)
    helped = " ".join((printed or "").split())
    if match := re.search(r"--default-index .*?default:? <?(https?://[^\s)>]+)", helped):
        return match[1].rstrip("/")
    raise TungstenError(
        "no Python index is known", hint="set TUNGSTEN_MIRROR_PYPI to the URL of one's simple API"
    )


def _security_tracker(os_release: Path) -> str | None:
    """The tracker's data, on a Debian machine: it is a service of the project whose home the system names."""
    try:
        fields = dict(re.findall(r"(?m)^([A-Z_]+)=\"?([^\"\n]*)", os_release.read_text(encoding="utf-8")))
    except OSError:
        return None
    home = urlsplit(fields.get("HOME_URL", "")).hostname
    if fields.get("ID") != "debian" or not home:
        return None
    return f"https://security-tracker.{home.removeprefix('www.')}/tracker/data/json"


def _with_password(url: str, environ: Mapping[str, str]) -> str:
    """An index's URL with the password that the machine's keyring has for its user; as it is without a user.

    netrc needs no such help: every client of ours reads it itself.
    """
    parts = urlsplit(url)
    if not parts.username or parts.password is not None:
        return url
    host = parts.netloc.rpartition("@")[2]
    user = unquote(parts.username)
    for service in (f"{parts.scheme}://{host}{parts.path}", f"{parts.scheme}://{host}", host):
        if password := (configured.output(["keyring", "get", service, user], environ) or "").strip("\r\n"):
            return parts._replace(netloc=f"{parts.username}:{quote(password, safe='')}@{host}").geturl()
    return url


def _npm_registry(environ: Mapping[str, str]) -> str | None:
    registry = (configured.output(configured.NPM, environ) or "").strip()
    return registry.rstrip("/") if _is_url(registry) else None
