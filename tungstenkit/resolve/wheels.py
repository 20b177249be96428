"""Python requirements to exact wheels, by `uv pip compile`.

uv solves for the target's Python and C library, not for this machine's, among what is offered of the indexes. Its
answer (PEP 751) becomes the lock's entries: project, version, file name, size and sha256, and who needs each, as the
packages' metadata say. URLs are dropped: a lock names no host.
"""

from __future__ import annotations

import difflib
import json
import os
import re
import subprocess
import sys
import tomllib
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import unquote, urlsplit
from urllib.request import url2pathname

from packaging.requirements import Requirement
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename
from pydantic import ValidationError
from uv import find_uv_bin

from tungstenkit import started
from tungstenkit.data import NIX
from tungstenkit.digest import measure
from tungstenkit.lock.packages import WISH, Wheel
from tungstenkit.outside import redact
from tungstenkit.resolve.compatible import counts, fitting_tags, glibc, read_requirements
from tungstenkit.resolve.index_server import serve_index
from tungstenkit.sdk.errors import FetchError, NothingFitsError, ResolveError, UnusableError
from tungstenkit.spec.requirements import project_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from packaging.tags import Tag

    from tungstenkit.platforms import Target
    from tungstenkit.resolve.offer import Offer

_UV_GLIBC = (17, 28, *range(31, 41))
"""The minor versions that uv knows; each stands for the ones up to the next."""
_of_python: dict[str, bytes] = {}
"""What uv has found out of this Python, as files of its cache by their paths: to ask costs it more than most solves."""
_SHOWN_VERSIONS = 3
_OWN_DISTRIBUTION = "tungstenkit"


def resolve_wheels(
    requirements: Sequence[str],
    offer: Offer,
    *,
    where: str,
    prefer: Iterable[Wheel] = (),
    constraints: Sequence[str] = (),
) -> tuple[Wheel, ...]:
    """Solve requirements (PEP 508) for the CPython, processor and C library of the target of an offer.

    prefer: pins of an earlier lock; each is kept where it still fits.
    constraints: requirements that count only for what is needed anyway.
    where: whose requirements these are, for messages.

    What stands for a source has the source's sha256. Raises ResolveError with uv's explanation where nothing fits,
    FetchError where an index can't be read.
    """
    if not requirements:
        return ()
    _refuse_known_conflicts(requirements, where)
    with started.scratch() as folder:
        packages = _compile(folder, requirements, constraints, offer, where, prefer)
    # Only these may come from where they say themselves: what another package names was asked for by nobody here.
    direct = {
        project_of(line): url for line in (*requirements, *constraints) if (url := Requirement(line).url)
    }
    if foreign := [
        one["name"]
        for one in packages
        if {"archive", "vcs", "directory"} & one.keys() and project_of(one["name"]) not in direct
    ]:
        raise ResolveError(
            f"another package says where these are to be had, which only the model may: {', '.join(foreign)}",
            where=where,
            hint=f"if you want that, say so in python_packages: '{foreign[0]} @ https://…'",
        )
    tags = fitting_tags(offer.target)
    wheels = [_best_wheel(package, tags, offer, where) for package in packages]
    if any(wheel.project == _OWN_DISTRIBUTION for wheel in wheels):
        raise ResolveError(
            f"a requirement needs the distribution {_OWN_DISTRIBUTION!r} of the Python index, which is another product",
            where=where,
            hint="remove it: the SDK is in every image already",
        )
    needed_by = _needers(wheels, requirements, offer, where)
    return tuple(
        wheel.model_copy(update={"needed_by": needed_by[wheel.project]})
        for wheel in sorted(wheels, key=lambda wheel: wheel.project)
    )


def _refuse_known_conflicts(requirements: Sequence[str], where: str) -> None:
    for text in requirements:
        requirement = Requirement(text)
        name = canonicalize_name(requirement.name)
        if name == "pydantic" and requirement.specifier and not _allows_pydantic_2(requirement):
            raise ResolveError(
                f"{text!r} excludes pydantic 2, which the SDK in the image needs",
                where=where,
                hint="allow pydantic>=2; `pydantic.v1` still offers the old interface",
            )


def _allows_pydantic_2(requirement: Requirement) -> bool:
    # A specifier can't be intersected with a range, so ask it about versions that stand for all of pydantic 2.
    versions = [f"2.{minor}.{micro}" for minor in range(100) for micro in range(20)]
    return any(requirement.specifier.filter(versions))


def _compile(
    folder: Path,
    requirements: Sequence[str],
    constraints: Sequence[str],
    offer: Offer,
    where: str,
    prefer: Iterable[Wheel],
) -> list[dict[str, Any]]:
    target = offer.target
    source = folder / "requirements.in"
    source.write_text("".join(f"{line}\n" for line in requirements), encoding="utf-8")
    limits = folder / "constraints.in"
    limits.write_text("".join(f"{line}\n" for line in constraints), encoding="utf-8")
    output = folder / "pylock.toml"
    # uv reads an existing output as preferences: what it pins is kept where it fits.
    if pins := tuple(prefer):
        output.write_text(_pylock(pins), encoding="utf-8")
    platform = f"{target.architecture.machine}-manylinux_2_{_uv_glibc(target)}"
    cache = folder / "cache"
    command = [
        *(find_uv_bin(), "pip", "compile", str(source), "--constraint", str(limits)),
        *("--format", "pylock.toml", "--output-file", str(output), "--no-header"),
        # Settings of this machine's uv must not reach a lock; what it knows of indexes comes from the offer alone.
        "--no-config",
        *("--only-binary", ":all:", "--no-python-downloads", "--python", sys.executable),
        *("--python-version", target.python, "--python-platform", platform),
        # The offer keeps what is read, and its address is another each time: this has nothing of an index.
        *("--cache-dir", str(cache), "--color", "never", "--quiet"),
    ]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("UV_")}
    offer.failure = None
    with serve_index(offer) as url, _knowing_python(cache):
        # No proxy leads to loopback.
        alone = {"UV_DEFAULT_INDEX": url, "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}
        run = _run(command, kept | alone)
    if offer.failure is not None:
        raise offer.failure
    if "error sending request" in run.stderr or "Failed to fetch" in run.stderr:
        raise FetchError(
            f"uv did not reach the index that tungsten serves to it on 127.0.0.1:\n{_plain(run.stderr)}",
            where=where,
            hint="if this machine's loopback is down, `ip link set lo up`; then lock again",
        )
    if "os error" in run.stderr:
        raise FetchError(
            f"uv could not work:\n{_plain(run.stderr)}",
            where=where,
            hint="make room on the disk, or set TMPDIR to a folder that can be written",
        )
    if run.returncode != 0:
        refused: dict[tuple[str, str], list[str]] = {}
        for (name, version), why in sorted(offer.refused.items()):
            refused.setdefault((name, why), []).append(str(version))
        lines = [f"\n{name} {', '.join(versions)}: {why}" for (name, why), versions in refused.items()]
        explanation = _plain(run.stderr)
        what = "".join([f"no set of Python packages fits:\n{explanation}", *lines])
        hint = _no_such_version(requirements, offer) or _hint(run.stderr)
        raise NothingFitsError(what, explanation=explanation, where=where, hint=hint)
    packages: list[dict[str, Any]] = tomllib.loads(output.read_text(encoding="utf-8")).get("packages", [])
    return packages


@contextmanager
def _knowing_python(cache: Path) -> Iterator[None]:
    """Put into a cache of uv's what it knows of this Python; what it has found out is known from then on."""
    for name, content in tuple(_of_python.items()):
        (cache / name).parent.mkdir(parents=True, exist_ok=True)
        (cache / name).write_bytes(content)
    yield
    if not _of_python:
        found = [path for path in cache.glob("interpreter-*/**/*") if path.is_file()]
        _of_python.update({str(path.relative_to(cache)): path.read_bytes() for path in found})


def _run(command: Sequence[str], environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


# Who needs what


class Need(NamedTuple):
    """A requirement of a package's, as its metadata has it."""

    by: str
    """The project that has it."""
    requirement: Requirement


def _needers(
    wheels: Sequence[Wheel], requirements: Sequence[str], offer: Offer, where: str
) -> dict[str, tuple[str, ...]]:
    """For each project who needs it: names of others, and the lines that ask for it."""
    needed_by: dict[str, set[str]] = {wheel.project: set() for wheel in wheels}
    for text in requirements:
        line = Requirement(text)
        if line.marker is None or line.marker.evaluate(offer.target.markers):
            needed_by.get(canonicalize_name(line.name), set()).add(f"{where}{WISH}{text}")
    for need in needs(wheels, requirements, offer):
        needed_by.get(canonicalize_name(need.requirement.name), set()).add(need.by)
    return {project: tuple(sorted(needers)) for project, needers in needed_by.items()}


def needs(wheels: Sequence[Wheel], requirements: Sequence[str], offer: Offer) -> list[Need]:
    """What the packages of a solution require of others, with the extras that are in use and the target's markers."""
    stated = {wheel.project: stated_requirements(offer, wheel, requirements) for wheel in wheels}
    extras: dict[str, set[str]] = {project: set() for project in stated}
    for line in map(Requirement, requirements):
        if line.marker is None or line.marker.evaluate(offer.target.markers):
            extras.get(canonicalize_name(line.name), set()).update(map(canonicalize_name, line.extras))
    while True:
        found = [
            Need(project, requirement)
            for project, requirements_of in stated.items()
            for requirement in requirements_of
            if counts(requirement, offer.target, extras[project])
        ]
        before = sum(map(len, extras.values()))
        for need in found:
            used = map(canonicalize_name, need.requirement.extras)
            extras.get(canonicalize_name(need.requirement.name), set()).update(used)
        if sum(map(len, extras.values())) == before:
            # A project that names itself only adds to its extras.
            return [need for need in found if canonicalize_name(need.requirement.name) != need.by]


def stated_requirements(offer: Offer, wheel: Wheel, requirements: Sequence[str] = ()) -> list[Requirement]:
    """What a wheel's metadata says that it requires."""
    urls = [
        line.url
        for line in map(Requirement, requirements)
        if line.url and project_of(line.name) == wheel.project
    ]
    text = offer.index.metadata_of_file(urls[0]) if urls else offer.metadata(wheel.project, wheel.file)
    return read_requirements(text or "")


def _pylock(wheels: Iterable[Wheel]) -> str:
    lines = ['lock-version = "1.0"', 'created-by = "tungsten"']
    for wheel in wheels:
        # uv wants a source for each package, but takes only names and versions as preferences.
        lines += [
            "",
            "[[packages]]",
            f'name = "{wheel.project}"',
            f'version = "{wheel.version}"',
            f'wheels = [{{ url = "https://index.invalid/{wheel.file}", hashes = {{ sha256 = "{wheel.sha256}" }} }}]',
        ]
    return "\n".join(lines) + "\n"


def _plain(stderr: str) -> str:
    # Drop uv's box drawing: the text is quoted inside our own shape.
    # And show no password.
    text = redact(stderr)
    for pattern, replacement in _NOT_OURS:
        text = re.sub(pattern, replacement, text)
    lines = [re.sub(r"^[\s×╰─▶│├·]+", "", line) for line in text.strip().splitlines()]
    return "\n".join(line for line in lines if line)


# Advice to use options of uv, which nobody here can give it.
_NOT_OURS = (
    (r"(?m)^.*because building from source is disabled for all packages.*\n?", ""),
    (r" Consider using an? \S+ `--python-version` value\.", ""),
    (r"The `--python-version` value \((.*?)\)", r"Python \1"),
    # A source that is no candidate: who explains that is not uv.
    (r"(?m)^.*Metadata for `[^`]+` .*could not be parsed:\n.*\n?", ""),
    (r"has invalid metadata", "can't be built here"),
    (r"have invalid metadata", "can't be built here"),
)


def _hint(stderr: str) -> str:
    if "no usable wheels" in stderr or "no wheels" in stderr or "invalid metadata" in stderr:
        return "ask for another version, or name another index: neither a wheel nor a source that can be built fits"
    if unknown := re.search(r"(\S+) was not found in the\s+package registry", stderr):
        near = near_project(unknown[1])
        return f"did you mean {near!r}?" if near else "check the spelling of the package's name"
    return "loosen one of the requirements that it names"


def _no_such_version(requirements: Sequence[str], offer: Offer) -> str | None:
    """What helps where a requirement fits no version that there is: the newest of those that could be taken here."""
    found = []
    for requirement in map(Requirement, requirements):
        project = project_of(requirement.name)
        # Of the others uv has told what is wrong without asking for them.
        releases = offer.releases(project) if project in offer.known else {}
        if any(requirement.specifier.filter(releases, prereleases=True)):
            continue
        fit = sorted(
            version
            for version, release in releases.items()
            if offer.is_offered(project, release) and not (version.is_prerelease or release.is_yanked)
        )
        if fit:
            newest = ", ".join(map(str, reversed(fit[-_SHOWN_VERSIONS:])))
            found.append(f"there is no {requirement.name}{requirement.specifier}; the newest are {newest}")
    return "; ".join(found) or None


def near_project(name: str) -> str | None:
    """The project that was meant by a name that no index knows: what has a module of the name, or one that is near."""
    names = json.loads((NIX / "steps" / "import-names.json").read_text("utf-8"))
    by_module: dict[str, str] = names["projects"]
    for module, project in by_module.items():
        if canonicalize_name(module) == canonicalize_name(name):
            return project
    known = {*names["common"], *(project for project in by_module.values() if "<" not in project)}
    return next(
        iter(difflib.get_close_matches(canonicalize_name(name), sorted(known), n=1, cutoff=0.75)), None
    )


def _uv_glibc(target: Target) -> int:
    known: int = max(minor for minor in _UV_GLIBC if minor <= glibc(target)[1])
    return known


def _best_wheel(package: dict[str, Any], tags: Sequence[Tag], offer: Offer, where: str) -> Wheel:
    rank = {tag: number for number, tag in enumerate(tags)}
    candidates = []
    # A requirement that says itself where its wheel is has an `archive` (PEP 751).
    for wheel in [*package.get("wheels", []), *filter(None, [package.get("archive")])]:
        file = unquote(Path(urlsplit(wheel["url"]).path if "url" in wheel else wheel["path"]).name)
        try:
            ranks = [rank[tag] for tag in parse_wheel_filename(file)[3] if tag in rank]
        except InvalidWheelFilename:
            continue
        if ranks:
            candidates.append((min(ranks), file, wheel))
    if not candidates:
        raise ResolveError(
            f"{package['name']} {package.get('version', '')} has no wheel for this Python and platform",
            where=where,
            hint="ask for a version that has one",
        )
    _, file, wheel = min(candidates, key=lambda candidate: candidate[:2])
    project = canonicalize_name(package["name"])
    index = None
    if "archive" in package:
        size, sha256 = measure(Path(wheel.get("path") or url2pathname(urlsplit(wheel["url"]).path)))
    else:
        listed, stand_in = offer.found(project, file)
        size, sha256 = (0, stand_in.sha256) if stand_in else offer.index.measured(listed)
        index = listed.listed_by
    try:
        return Wheel(
            project=project, version=package["version"], file=file, size=size, sha256=sha256, index=index
        )
    except ValidationError as problem:
        said = "; ".join(one["msg"] for one in problem.errors(include_url=False, include_input=False))
        raise UnusableError(
            f"the index lists what no lock can hold: {file[:100]!a}: {said}", where=where
        ) from None
