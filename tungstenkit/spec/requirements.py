"""What people write in `python_packages`, parsed: requirements, where they point, and pip's options.

This module owns the forms and says what is wrong with each. Nothing is downloaded or solved here, and no path is
opened: `requirement_files` writes out the files that `-r` and `-c` name.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, unquote, urlsplit

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import (
    InvalidSdistFilename,
    InvalidWheelFilename,
    canonicalize_name,
    parse_sdist_filename,
    parse_wheel_filename,
)

from tungstenkit.outside import GIT, WEB, git_name_problem, url_problem
from tungstenkit.sdk.wishes import IGNORED, OWN_NAME, OWN_NAMES, split_option

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from packaging.markers import Marker

ARCHIVES = (".tar.gz", ".zip", ".tar.bz2", ".tar.xz", ".tgz", ".tar")
"""How the names of source archives end."""

# Where conda has built what `pip freeze` tells of: folders of its builders, and no place that anybody else has.
_CONDA = re.compile(
    r"^file:/+(?:home/conda|opt/concourse|tmp/build/\w+)/|/(?:feedstock_root|conda-bld|croots?|bld|abs_\w+)/|_\d{9,}/work(?:/|$)"
)


@dataclass(frozen=True)
class Git:
    """A git repository and what of it is meant."""

    url: str
    """Without pip's `git+`, without credentials."""
    ref: str | None
    """A branch, tag or commit; None is the repository's own choice."""


@dataclass(frozen=True)
class Wanted:
    """One requirement (PEP 508, or a path alone)."""

    text: str
    """As it was written."""
    name: str | None
    """Normalised (PEP 503); None where only what a path leads to can tell."""
    extras: tuple[str, ...] = ()
    specifier: SpecifierSet = field(default_factory=SpecifierSet)
    marker: Marker | None = None
    hashes: frozenset[str] = frozenset()
    """The sha256 that its file may have, in hexadecimal; empty where any will do."""
    url: str | None = None
    """A wheel or source archive, http or https, without a fragment."""
    path: str | None = None
    """A wheel, source archive or folder, relative to the model's folder."""
    git: Git | None = None
    subdirectory: str | None = None
    """Where the project lies in an archive, folder or repository."""
    is_built_by_conda: bool = False
    """Whether it names a folder of conda's builders, and so is the index's here."""

    @property
    def named(self) -> str:
        """The same with a name before it, which is guessed where it is not known."""
        place = self.path and f"./{self.path}"
        name = self.name or _guessed(self.text)
        return f"{name} @ {place or self.text}"

    @property
    def is_direct(self) -> bool:
        """Whether it says itself where it comes from."""
        return not (self.url is None and self.path is None and self.git is None)


@dataclass(frozen=True)
class Wishes:
    """All that `python_packages` says."""

    requirements: tuple[Wanted, ...]
    constraints: tuple[Wanted, ...] = ()
    index_url: str | None = None
    extra_index_urls: tuple[str, ...] = ()
    find_links: tuple[str, ...] = ()
    from_source: frozenset[str] = frozenset()
    """Projects that are built from source though there is a wheel (`--no-binary`)."""
    wheels_only: frozenset[str] = frozenset()
    """Projects whose sources don't count (`--only-binary`); `:all:` for every one."""
    notices: tuple[str, ...] = ()
    """What of it counts otherwise than for pip, a line each."""

    @property
    def places(self) -> dict[str, str]:
        """For each index, page and folder that is named how it is said."""
        return {
            **{url: f"--index-url {url}" for url in filter(None, [self.index_url])},
            **{url: f"--extra-index-url {url}" for url in self.extra_index_urls},
            **{place: f"--find-links {place}" for place in self.find_links},
        }


def parse(entries: Sequence[str]) -> Wishes:
    """The parts of written-out entries; ValueError with what is wrong with the first bad one."""
    requirements: list[Wanted] = []
    constraints: list[Wanted] = []
    options: dict[str, list[str]] = {}
    notices: list[str] = []
    for entry in entries:
        option, value = split_option(entry)
        if option in IGNORED:
            notices.append(f"{entry.strip()} changes nothing: {IGNORED[option]}")
        elif option in (None, "-e"):
            requirements.append(found := wanted(value))
            if found.name in OWN_NAMES:
                raise ValueError(OWN_NAME)
            if option == "-e":
                notices.append(f"{entry.strip()}: it is in the image as it is now, and not editable there")
        elif option == "-c":
            constraints.append(_constraint(value))
        elif option == "-r":
            raise ValueError("names a file that was not written out")
        else:
            options.setdefault(str(option), []).append(_option_value(str(option), value))
    indexes = list(dict.fromkeys(options.get("--index-url", ())))
    if len(indexes) > 1:
        raise ValueError("is a second --index-url; name further indexes by --extra-index-url")
    return Wishes(
        requirements=tuple(requirements),
        constraints=tuple(constraints),
        index_url=indexes[0] if indexes else None,
        extra_index_urls=tuple(dict.fromkeys(options.get("--extra-index-url", ()))),
        find_links=tuple(dict.fromkeys(options.get("--find-links", ()))),
        from_source=_projects(options.get("--no-binary", ())),
        wheels_only=_projects(options.get("--only-binary", ())),
        notices=tuple(dict.fromkeys([*notices, *_of_conda(requirements)])),
    )


def _projects(values: Sequence[str]) -> frozenset[str]:
    return frozenset(
        name if name == ":all:" else canonicalize_name(name) for value in values for name in value.split(",")
    )


def problem(entry: str) -> str | None:
    """What is wrong with a written-out entry."""
    try:
        parse([entry])
    except ValueError as error:
        return str(error)
    return None


def _of_conda(requirements: Sequence[Wanted]) -> Iterator[str]:
    """What is done with what conda has built, where a line told a version and where none did."""
    built = [one for one in requirements if one.is_built_by_conda]
    if exact := [f"{one.name}{one.specifier}" for one in built if one.specifier]:
        yield f"{', '.join(exact)}: taken from the index, for conda built it in a folder that is nowhere else"
    if free := [str(one.name) for one in built if not one.specifier]:
        yield (
            f"{', '.join(free)}: the newest that fits is taken from the index, for what is named is a folder in which "
            "conda built it, without a version; `pip list --format=freeze` tells the versions that you have"
        )


def _option_value(option: str, value: str) -> str:
    if option in ("--no-binary", "--only-binary"):
        if option == "--only-binary" and value == ":all:":
            return value
        if not re.fullmatch(r"[\w.-]+(,[\w.-]+)*", value):
            raise ValueError(f"does not name projects, as in '{option} lxml'")
        return value
    if option == "--find-links" and "://" not in value:
        return _relative(value)
    if not re.match(r"https?://", value):
        raise ValueError("is no http or https URL")
    _check_url(value)
    return value.rstrip("/") if option != "--find-links" else value


def _constraint(text: str) -> Wanted:
    found = wanted(text)
    if found.is_direct or found.extras or found.name is None:
        raise ValueError(f"constrains by {text!r}, which is more than a name, versions and a marker")
    return found


def wanted(entry: str) -> Wanted:
    """Parse a requirement; ValueError with what is wrong with it."""
    text, hashes = _split_hashes(entry)
    if _is_place(text):
        return _at_place(entry, text, hashes)
    try:
        parsed = Requirement(text)
    except InvalidRequirement as error:
        raise ValueError(f"is not a requirement: {str(error).splitlines()[0]}") from None
    found = Wanted(
        text=entry,
        name=canonicalize_name(parsed.name),
        extras=tuple(sorted(parsed.extras)),
        specifier=parsed.specifier,
        marker=parsed.marker,
        hashes=hashes,
    )
    return found if parsed.url is None else _at(found, parsed.url)


def _split_hashes(entry: str) -> tuple[str, frozenset[str]]:
    """A requirement without pip's `--hash`, and the sha256 that it allows."""
    text, *options = re.split(r"\s+(?=--)", entry)
    hashes = set()
    for option in options:
        match = re.fullmatch(r"--hash[=\s]\s*(\w+):([0-9a-fA-F]+)\s*", option)
        if not match:
            raise ValueError(f"has the option {option!r}, which does not count here")
        if match[1] == "sha256":
            hashes.add(_sha256(match[2]))
    if options and not hashes:
        raise ValueError("has no sha256 among its hashes, and a lock holds nothing else")
    return text, frozenset(hashes)


def _sha256(value: str) -> str:
    if not re.fullmatch(r"[0-9a-f]{64}", value.lower()):
        raise ValueError("has a sha256 that is not 64 hexadecimal digits")
    return value.lower()


def _is_place(text: str) -> bool:
    """Whether a requirement is a path, URL or repository alone."""
    return (
        text.startswith((".", "/", "~", "file:"))
        or re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", text) is not None
        or ("@" not in text and text.endswith((".whl", *ARCHIVES)) and "/" in text)
    )


def _at_place(entry: str, text: str, hashes: frozenset[str]) -> Wanted:
    """A place alone: its fragment or its file's name says whose it is, or what it leads to must be asked."""
    place, semicolon, condition = (part.strip() for part in re.split(r"(\s;|$)", text, maxsplit=1))
    extras: tuple[str, ...] = ()
    if place.startswith((".", "/", "~", "file:")) and (inner := re.fullmatch(r"(.*)\[([\w.,\s-]+)\]", place)):
        place, extras = inner[1], tuple(sorted(part.strip() for part in inner[2].split(",")))
    name, more = _egg(place)
    found = _at(Wanted(text=entry, name=name, extras=extras or more, hashes=hashes), place)
    if found.name is None and found.git is None and not found.is_built_by_conda:
        address = found.url or found.path
        assert address is not None
        found = replace(found, name=name_of_file(PurePosixPath(unquote(urlsplit(address).path)).name))
    if found.is_built_by_conda and found.name is None:
        raise ValueError(
            "is where conda has built something; write its name, as `pip list --format=freeze` does"
        )
    if not semicolon:
        return found
    if found.name is None:
        line = replace(found, text=place).named
        raise ValueError(f"has a marker, so it needs a name; write {f'{line} ; {condition}'!r}")
    try:
        return replace(found, marker=Requirement(f"{found.name} ; {condition}").marker)
    except InvalidRequirement as error:
        raise ValueError(f"is not a requirement: {str(error).splitlines()[0]}") from None


def _egg(place: str) -> tuple[str | None, tuple[str, ...]]:
    """The project, and its extras, that pip's `#egg=` names."""
    egg = parse_qs(place.partition("#")[2]).get("egg", [""])[-1]
    match = re.fullmatch(r"([A-Za-z0-9](?:[\w.-]*[A-Za-z0-9])?)(?:\[([\w.,\s-]*)\])?", egg)
    if egg and not match:
        raise ValueError("names by '#egg=' what is no project; write '<name>' there, and '[extra]' after it")
    if not match:
        return None, ()
    return canonicalize_name(match[1]), tuple(sorted(filter(None, re.split(r"[,\s]+", match[2] or ""))))


def _guessed(place: str) -> str:
    """What a project may be called that lies somewhere: as the last part of the path is."""
    path = unquote(urlsplit(place.partition("#")[0].partition(" ")[0]).path).rstrip("/")
    last = PurePosixPath(path.rpartition("@")[0] or path).name
    for suffix in (".git", *ARCHIVES):
        last = last.removesuffix(suffix)
    return re.sub(r"[^\w.-]+", "-", last).strip("-._") or "<name>"


def name_of_file(name: str) -> str | None:
    """The project that the name of a wheel or source archive tells, normalised; None where it tells none.

    Raises ValueError for a wheel whose name breaks PEP 427.
    """
    if name.endswith(".whl"):
        try:
            return parse_wheel_filename(name)[0]
        except InvalidWheelFilename as error:
            raise ValueError(f"is not named as a wheel (PEP 427): {error}") from None
    try:
        return parse_sdist_filename(name)[0]
    except InvalidSdistFilename:
        return None


def _at(found: Wanted, url: str) -> Wanted:
    """With the place that a direct reference gives."""
    address, _, fragment = url.partition("#")
    if _CONDA.search(address) and address.startswith("file:"):
        return _from_conda(found, address)
    values = {key: value[-1] for key, value in parse_qs(fragment).items()}
    hashes = found.hashes
    if "sha256" in values:
        hashes |= {_sha256(values["sha256"])}
    subdirectory = values.get("subdirectory")
    if subdirectory is not None and (subdirectory.startswith("/") or ".." in subdirectory.split("/")):
        raise ValueError("has a subdirectory that is not below it")
    parts = {**vars(found), "hashes": hashes, "subdirectory": subdirectory}
    if address.startswith("git+"):
        return Wanted(**{**parts, "git": _git(address.removeprefix("git+"))})
    if re.match(r"(hg|svn|bzr)\+", address):
        raise ValueError(
            "names a repository that is not git's; write a git URL, or a folder beside the model"
        )
    if re.match(r"https?://", address):
        _check_url(address)
        name = unquote(PurePosixPath(urlsplit(address).path).name)
        if not name.endswith((".whl", *ARCHIVES)):
            # As a browser shows a branch.
            branch = re.fullmatch(r"(https?://[^/]+/[^/]+/[^/]+)/tree/(\S+?)/?", address)
            line = f"git+{branch[1]}@{branch[2]}" if branch else f"git+{address}"
            line = f"{found.name} @ {line}" if found.name else line
            raise ValueError(f"leads to no wheel or source archive; for a repository write '{line}'")
        if name.endswith(".whl") and found.name not in (None, name_of_file(name)):
            raise ValueError(f"leads to a wheel of {name_of_file(name)}")
        return Wanted(**{**parts, "url": address})
    if "://" in address and not address.startswith("file:"):
        raise ValueError("is no http, https or git URL, and no path")
    path = _relative(address, found.name)
    if path.endswith(".whl") and found.name not in (None, name_of_file(PurePosixPath(path).name)):
        raise ValueError(f"leads to a wheel of {name_of_file(PurePosixPath(path).name)}")
    return Wanted(**{**parts, "path": path})


def _from_conda(found: Wanted, address: str) -> Wanted:
    """What conda has built, as the index has it: of that version, where a file's name tells it."""
    file = PurePosixPath(unquote(address)).name
    named = {**vars(found), "is_built_by_conda": True, "hashes": frozenset()}
    if file.endswith(".whl"):
        try:
            name, version, _, _ = parse_wheel_filename(file)
        except InvalidWheelFilename as error:
            raise ValueError(f"is not named as a wheel (PEP 427): {error}") from None
        named |= {"name": name, "specifier": SpecifierSet(f"=={version}")}
    return Wanted(**named)


def _git(address: str) -> Git:
    if scp := re.fullmatch(r"(?:ssh://)?([\w.-]+@[\w.-]+):(?!\d+/)([^\s:]+)", address):
        raise ValueError(f"is no git URL; write 'git+ssh://{scp[1]}/{scp[2]}'")
    if not re.match(r"(https?|ssh|git|file)://", address):
        raise ValueError("is no git URL; write 'git+https://…' or 'git+ssh://…'")
    _check_url(address, GIT)
    # A user name before the host has an `@` too; a ref is in the path.
    scheme, _, rest = address.partition("://")
    host, slash, path = rest.partition("/")
    path, at, ref = path.rpartition("@") if "@" in path else (path, "", "")
    if at and git_name_problem(ref):
        raise ValueError("names no branch, tag or commit after its '@'")
    return Git(f"{scheme}://{host}{slash}{path}", ref or None)


def _check_url(url: str, schemes: tuple[str, ...] = WEB) -> None:
    if re.search(r"\$\{?\w", url):
        raise ValueError("holds a variable, which is not replaced; passwords come from ~/.netrc")
    parts = urlsplit(url)
    if "@" in parts.netloc and (parts.scheme in ("http", "https") or parts.password is not None):
        raise ValueError("holds a user name or password, which would be written down; put it into ~/.netrc")
    if problem := url_problem(url, schemes):
        raise ValueError(problem)


def _relative(place: str, name: str | None = None) -> str:
    path = unquote(place.removeprefix("file:")) if place.startswith("file:") else place
    if path.startswith("//"):
        path = path.removeprefix("//")
    if path.startswith(("/", "~")):
        copied = f"./{PurePosixPath(path).name or '<folder>'}"
        line = f"{name} @ {copied}" if name and not path.endswith(".whl") else copied
        raise ValueError(f"is an absolute path; put a copy into the model's folder, and write '{line}'")
    if not path:
        raise ValueError("names no path")
    if PurePosixPath(path).as_posix() == ".":
        raise ValueError(
            "is the model's own folder, which is in the image and importable as it is; leave it out, and write what it "
            "needs"
        )
    return PurePosixPath(path).as_posix()


def project_of(requirement: str) -> str:
    """The project that a requirement (PEP 508) names, normalised; empty where it names none."""
    match = re.match(r"\s*([A-Za-z0-9][A-Za-z0-9._-]*)", requirement)
    return canonicalize_name(match[1]) if match else ""
