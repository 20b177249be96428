"""Python requirements to exact wheels, by `uv pip compile`.

uv solves for the target's Python and C library, not for this machine's. Its answer (PEP 751) becomes the lock's
entries: project, version, file name, size and sha256. URLs are dropped: a lock names no host.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from packaging.requirements import Requirement
from packaging.tags import Tag, compatible_tags, cpython_tags
from packaging.utils import canonicalize_name, parse_wheel_filename

from tungstenkit.errors import FetchError, ResolveError
from tungstenkit.lock import Wheel

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tungstenkit.platforms import Target

GLIBC = {"bullseye": (2, 31), "bookworm": (2, 36), "trixie": (2, 41)}
"""The C library of each Debian release; a wheel's manylinux tag (PEP 600) may ask for this one or an older."""

NOTHING_FITS = "no set of Python packages fits"
"""How an error begins whose text is uv's explanation."""

_UV_NEWEST_GLIBC = (2, 40)
_OWN_DISTRIBUTION = "tungstenkit"


def resolve_wheels(
    requirements: Sequence[str],
    target: Target,
    *,
    index_url: str,
    where: str,
    prefer: Iterable[Wheel] = (),
    constraints: Sequence[str] = (),
) -> tuple[Wheel, ...]:
    """Solve requirements (PEP 508) for a target's CPython, processor and C library.

    prefer: pins of an earlier lock; each is kept where it still fits.
    constraints: requirements that count only for what is needed anyway.
    where: whose requirements these are, for messages.

    Raises ResolveError with uv's explanation where nothing fits, FetchError where the index can't be read.
    """
    if not requirements:
        return ()
    _refuse_known_conflicts(requirements, where)
    with tempfile.TemporaryDirectory(prefix="tungsten-") as folder:
        answer = _compile(Path(folder), requirements, target, index_url, where, prefer, constraints)
    tags = _tags(target)
    wheels = [_best_wheel(package, tags, where) for package in answer.get("packages", [])]
    if any(wheel.project == _OWN_DISTRIBUTION for wheel in wheels):
        raise ResolveError(
            f"a requirement needs the distribution {_OWN_DISTRIBUTION!r} of the Python index, which is another product",
            where=where,
            hint="remove it: the SDK is in every image already",
        )
    return tuple(sorted(wheels, key=lambda wheel: wheel.project))


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
    target: Target,
    index_url: str,
    where: str,
    prefer: Iterable[Wheel],
    constraints: Sequence[str],
) -> dict[str, Any]:
    source = folder / "requirements.in"
    source.write_text("".join(f"{line}\n" for line in requirements), encoding="utf-8")
    limits = folder / "constraints.txt"
    limits.write_text("".join(f"{line}\n" for line in constraints), encoding="utf-8")
    output = folder / "pylock.toml"
    # uv reads an existing output as preferences: what it pins is kept where it fits.
    if pins := tuple(prefer):
        output.write_text(_pylock(pins), encoding="utf-8")
    glibc = min(GLIBC[target.release], _UV_NEWEST_GLIBC)
    platform = f"{target.architecture.machine}-manylinux_{glibc[0]}_{glibc[1]}"
    command = [
        *(sys.executable, "-m", "uv", "pip", "compile", str(source), "--constraint", str(limits)),
        *("--format", "pylock.toml", "--output-file", str(output), "--no-header"),
        # Settings of this machine's uv must not reach a lock; the index comes from our one rule about mirrors.
        "--no-config",
        *("--only-binary", ":all:", "--no-python-downloads", "--python", sys.executable),
        *("--python-version", target.python, "--python-platform", platform),
        *("--color", "never", "--quiet"),
    ]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("UV_")}
    # Not on the command line, which every user of the machine can read: it may hold a password.
    environment["UV_DEFAULT_INDEX"] = index_url
    if "UV_CACHE_DIR" in os.environ:
        environment["UV_CACHE_DIR"] = os.environ["UV_CACHE_DIR"]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if "error sending request" in run.stderr or "Failed to fetch" in run.stderr:
        raise FetchError(
            "the Python index can't be read",
            where=where,
            hint="check the network and pip's configuration; TUNGSTEN_MIRROR_PYPI names another index",
        )
    if run.returncode != 0:
        raise ResolveError(_explanation(run.stderr), where=where, hint=_hint(run.stderr))
    return tomllib.loads(output.read_text(encoding="utf-8"))


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


def _explanation(stderr: str) -> str:
    # Drop uv's box drawing: the text is quoted inside our own shape.
    # And show no password.
    text = re.sub(r"(?<=//)[^\s@]*@", "", stderr)
    lines = [re.sub(r"^[\s×╰─▶│├·]+", "", line) for line in text.strip().splitlines()]
    return f"{NOTHING_FITS}:\n" + "\n".join(line for line in lines if line)


def _hint(stderr: str) -> str:
    if "no usable wheels" in stderr or "no wheels" in stderr or "building is disabled" in stderr.lower():
        return "only wheels are taken: a package without one for this Python and platform can't be used yet"
    if "not found in the package registry" in stderr:
        return "check the spelling of the package's name"
    return "loosen one of the requirements that it names"


def _tags(target: Target) -> list[Tag]:
    major, minor = (int(part) for part in target.python.split("."))
    machine = target.architecture.machine
    platforms = [f"manylinux_2_{number}" for number in range(GLIBC[target.release][1], 4, -1)]
    # The older spellings of manylinux_2_17, _2_12 and _2_5 (PEP 600).
    for tag, legacy in (("2_17", "manylinux2014"), ("2_12", "manylinux2010"), ("2_5", "manylinux1")):
        platforms.insert(platforms.index(f"manylinux_{tag}") + 1, legacy)
    platforms = [f"{platform}_{machine}" for platform in (*platforms, "linux")]
    return [
        *cpython_tags((major, minor), platforms=platforms),
        *compatible_tags((major, minor), interpreter=f"cp{major}{minor}", platforms=platforms),
    ]


def _best_wheel(package: dict[str, Any], tags: Sequence[Tag], where: str) -> Wheel:
    rank = {tag: number for number, tag in enumerate(tags)}
    candidates = []
    for wheel in package.get("wheels", []):
        file = unquote(Path(urlsplit(wheel["url"]).path).name)
        ranks = [rank[tag] for tag in parse_wheel_filename(file)[3] if tag in rank]
        if ranks:
            candidates.append((min(ranks), file, wheel))
    if not candidates:
        raise ResolveError(
            f"{package['name']} {package.get('version', '')} has no wheel for this Python and platform",
            where=where,
            hint="ask for a version that has one",
        )
    _, file, wheel = min(candidates, key=lambda candidate: candidate[:2])
    return Wheel(
        project=canonicalize_name(package["name"]),
        version=package["version"],
        file=file,
        size=wheel["size"],
        sha256=wheel["hashes"]["sha256"],
    )
