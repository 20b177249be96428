"""Python requirements to exact wheels, by `uv pip compile`.

uv solves for the target's Python and C library, not for this machine's. Its answer (PEP 751) becomes the lock's
entries: project, version, file name, size and sha256. URLs are dropped: a lock names no host.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit
from urllib.request import url2pathname

import requests
from packaging.requirements import Requirement
from packaging.tags import Tag, compatible_tags, cpython_tags
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename
from pydantic import ValidationError

from tungstenkit import certificates
from tungstenkit.data import NIX
from tungstenkit.errors import FetchError, ResolveError
from tungstenkit.lock import Wheel
from tungstenkit.outside import url_problem
from tungstenkit.requirements import project_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from tungstenkit.platforms import Target

GLIBC = {
    "bullseye": (2, 31),
    "bookworm": (2, 36),
    "trixie": (2, 41),
    # At least; an older one than the true one only leaves wheels out.
    "nixos-24.11": (2, 39),
    "nixos-25.05": (2, 39),
    "nixos-25.11": (2, 39),
}
"""The C library of each Debian release and nixpkgs branch; a wheel's manylinux tag (PEP 600) may ask for this one or an
older."""

OLDEST_GLIBC = (2, 17)
"""Nearly no wheel is for an older one."""

NOTHING_FITS = "no set of Python packages fits"
"""How an error begins whose text is uv's explanation."""

_UV_GLIBC = (17, 28, *range(31, 41))
"""The minor versions that uv knows; each stands for the ones up to the next."""
_OWN_DISTRIBUTION = "tungstenkit"


class NoWheelError(ResolveError):
    """Nothing fits, and there might be something if these projects were built from source."""

    def __init__(self, problem: ResolveError, projects: Iterable[str]) -> None:
        """State the problem as it stands without them."""
        super().__init__(problem.what, where=problem.where, hint=problem.hint)
        self.projects = tuple(projects)


@dataclass(frozen=True)
class Places:
    """Where wheels come from. URLs may hold credentials, so they are in no repr."""

    index_url: str = field(repr=False)
    extra_index_urls: Sequence[str] = field(default=(), repr=False)
    """They come first, and a project is taken from the first index alone that knows it."""
    find_links: Sequence[str] = field(default=(), repr=False)
    """URLs of pages, and paths of folders."""


def glibc(target: Target) -> tuple[int, int]:
    """The C library that a target's wheels run with."""
    return target.glibc or GLIBC[target.release]


def resolve_wheels(
    requirements: Sequence[str],
    target: Target,
    *,
    places: Places,
    where: str,
    prefer: Iterable[Wheel] = (),
    constraints: Sequence[str] = (),
) -> tuple[Wheel, ...]:
    """Solve requirements (PEP 508) for a target's CPython, processor and C library.

    prefer: pins of an earlier lock; each is kept where it still fits.
    constraints: requirements that count only for what is needed anyway.
    where: whose requirements these are, for messages.

    Raises ResolveError with uv's explanation where nothing fits, NoWheelError where a build from source could help,
    FetchError where an index can't be read.
    """
    if not requirements:
        return ()
    _refuse_known_conflicts(requirements, where)
    with tempfile.TemporaryDirectory(prefix="tungsten-") as folder:
        answer = _compile(Path(folder), requirements, constraints, target, places, where, prefer)
    tags = _tags(target)
    # Only these may come from where they say themselves: what another package names was asked for by nobody here.
    direct = {
        project_of(line): url for line in (*requirements, *constraints) if (url := Requirement(line).url)
    }
    packages = answer.get("packages", [])
    if foreign := [
        one["name"] for one in packages if "archive" in one and project_of(one["name"]) not in direct
    ]:
        raise ResolveError(
            f"another package says where these are to be had, which only the model may: {', '.join(foreign)}",
            where=where,
            hint=f"if you want that, say so in python_packages: '{foreign[0]} @ https://…'",
        )
    here = _local_files(direct.values(), places)
    wheels = [_best_wheel(package, tags, places, where, here) for package in packages]
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
    constraints: Sequence[str],
    target: Target,
    places: Places,
    where: str,
    prefer: Iterable[Wheel],
) -> dict[str, Any]:
    source = folder / "requirements.in"
    source.write_text("".join(f"{line}\n" for line in requirements), encoding="utf-8")
    limits = folder / "constraints.in"
    limits.write_text("".join(f"{line}\n" for line in constraints), encoding="utf-8")
    output = folder / "pylock.toml"
    # uv reads an existing output as preferences: what it pins is kept where it fits.
    if pins := tuple(prefer):
        output.write_text(_pylock(pins), encoding="utf-8")
    known = max(minor for minor in _UV_GLIBC if minor <= glibc(target)[1])
    platform = f"{target.architecture.machine}-manylinux_2_{known}"
    command = [
        *(sys.executable, "-m", "uv", "pip", "compile", str(source), "--constraint", str(limits)),
        *("--format", "pylock.toml", "--output-file", str(output), "--no-header"),
        # Settings of this machine's uv must not reach a lock; the index comes from our one rule about mirrors.
        "--no-config",
        *("--only-binary", ":all:", "--no-python-downloads", "--python", sys.executable),
        *("--python-version", target.python, "--python-platform", platform),
        *("--index-strategy", "first-index", "--color", "never", "--quiet"),
    ]
    for place in places.find_links:
        if "://" not in place:
            command += [f"--find-links={place}"]
    environment = {
        name: value for name, value in certificates.environment().items() if not name.startswith("UV_")
    }
    # Not on the command line, which every user of the machine can read: it may hold a password.
    environment["UV_DEFAULT_INDEX"] = places.index_url
    environment["UV_INDEX"] = " ".join(places.extra_index_urls)
    environment["UV_FIND_LINKS"] = ",".join(place for place in places.find_links if "://" in place)
    if "UV_CACHE_DIR" in os.environ:
        environment["UV_CACHE_DIR"] = os.environ["UV_CACHE_DIR"]
    run = _run(command, environment)
    if "error sending request" in run.stderr or "Failed to fetch" in run.stderr:
        handshake = certificates.problem_in(run.stderr)
        raise FetchError(
            f"the Python index can't be read: {handshake}" if handshake else "the Python index can't be read",
            where=where,
            hint=certificates.hint(handshake)
            if handshake
            else "check the network and pip's configuration; TUNGSTEN_MIRROR_PYPI names another index",
        )
    if "os error" in run.stderr:
        raise FetchError(
            f"uv could not work:\n{_plain(run.stderr)}",
            where=where,
            hint="make room on the disk, or set UV_CACHE_DIR or XDG_CACHE_HOME to a folder that can be written",
        )
    if run.returncode != 0:
        problem = ResolveError(_explanation(run.stderr), where=where, hint=_hint(run.stderr))
        without = re.findall(r"Wheels are required for `([^`]+)`", run.stderr)
        raise NoWheelError(problem, without) if without else problem
    answer = tomllib.loads(output.read_text(encoding="utf-8"))
    for package in answer.get("packages", []):
        package["needed-by"] = []
    _explain(answer, folder, command, environment, requirements, where)
    return answer


def _run(command: Sequence[str], environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def _explain(
    answer: dict[str, Any],
    folder: Path,
    command: Sequence[str],
    environment: Mapping[str, str],
    requirements: Sequence[str],
    where: str,
) -> None:
    """Write into each package of uv's answer who needs it: uv tells in its other format only.

    The second solve may choose nothing but what the first chose, so it has the same packages; and as uv itself says
    who needs what, extras and markers are what they were in the solve.
    """
    packages: dict[str, Any] = {
        canonicalize_name(package["name"]): package for package in answer.get("packages", [])
    }
    pins = folder / "pins.txt"
    pins.write_text(
        "".join(
            f"{name}=={package['version']}\n" for name, package in packages.items() if "version" in package
        ),
        encoding="utf-8",
    )
    again = [*command, "--constraint", str(pins), "--annotation-style", "split"]
    again[again.index("pylock.toml")] = "requirements.txt"
    explained = folder / "explained.txt"
    again[again.index(str(folder / "pylock.toml"))] = str(explained)
    # All of it is in uv's cache by now, unless the index forbids that.
    run = _run([*again, "--offline"], environment)
    if run.returncode != 0:
        run = _run(again, environment)
    if run.returncode != 0:
        raise ResolveError(_explanation(run.stderr), where=where, hint=_hint(run.stderr))
    written: dict[str, list[str]] = {}
    for text in requirements:
        written.setdefault(project_of(text), []).append(f"{where}: {text}")
    for name, sources in _annotations(explained.read_text(encoding="utf-8")):
        needed_by = set()
        for source in sources:
            if source.startswith("-r "):
                needed_by |= set(written.get(name, [f"{where}: {name}"]))
            elif not source.startswith("-c "):
                needed_by.add(canonicalize_name(source))
        packages[name]["needed-by"] = sorted(needed_by)


def _annotations(text: str) -> Iterator[tuple[str, list[str]]]:
    """Each package of a requirements file and the sources that uv states below it."""
    name, sources = "", list[str]()
    for line in text.splitlines():
        if match := re.match(r"[A-Za-z0-9][A-Za-z0-9._-]*", line):
            if name:
                yield name, sources
            name, sources = canonicalize_name(match[0]), []
        elif line.strip() == "# via":
            continue  # the sources follow, a line each
        elif source := re.match(r"\s+#(?:\s+via)?\s+(\S.*)", line):
            sources.append(source[1])
    if name:
        yield name, sources


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
    return f"{NOTHING_FITS}:\n{_plain(stderr)}"


def _plain(stderr: str) -> str:
    # Drop uv's box drawing: the text is quoted inside our own shape.
    # And show no password.
    text = re.sub(r"(?<=//)[^\s@]*@", "", stderr)
    for pattern, replacement in _NOT_OURS:
        text = re.sub(pattern, replacement, text)
    lines = [re.sub(r"^[\s×╰─▶│├·]+", "", line) for line in text.strip().splitlines()]
    return "\n".join(line for line in lines if line)


# Advice to use options of uv, which nobody here can give it.
_NOT_OURS = (
    (r"(?m)^.*because building from source is disabled for all packages.*\n?", ""),
    (r" Consider using an? \S+ `--python-version` value\.", ""),
    (r"The `--python-version` value \((.*?)\)", r"Python \1"),
    (
        r" A compatible version may be available on a subsequent index.*",
        " A project is taken from the first index alone that knows it.",
    ),
)


def _hint(stderr: str) -> str:
    if "401 Unauthorized" in stderr or "403 Forbidden" in stderr:
        return "give the user name and password of that index in ~/.netrc, or check the spelling of the package's name"
    if "no usable wheels" in stderr or "no wheels" in stderr or "building is disabled" in stderr.lower():
        return "ask for another version, or name another index: neither a wheel nor a source that can be built fits"
    if unknown := re.search(r"(\S+) was not found in the\s+package registry", stderr):
        near = near_project(unknown[1])
        return f"did you mean {near!r}?" if near else "check the spelling of the package's name"
    return "loosen one of the requirements that it names"


_COMMON = frozenset(
    """
    accelerate albumentations bitsandbytes catboost datasets diffusers einops fastapi faster-whisper flask gradio
    huggingface-hub imageio imageio-ffmpeg insightface jax jaxlib joblib keras langchain librosa lightgbm lightning
    matplotlib mediapipe nltk numba numpy omegaconf onnx onnxruntime onnxruntime-gpu openai opencv-python pandas peft
    plotly polars protobuf pyarrow pydantic pytorch-lightning requests safetensors scipy seaborn sentence-transformers
    sentencepiece soundfile spacy statsmodels sympy tensorflow tiktoken timm tokenizers torch torchaudio torchvision
    tqdm transformers triton trl ultralytics xformers xgboost
    """.split()  # noqa: SIM905 (or it would be a line for each)
)
"""What models ask for most, to tell a name that is near."""


def near_project(name: str) -> str | None:
    """The project that was meant by a name that no index knows: what has a module of the name, or one that is near."""
    by_module: dict[str, str] = json.loads((NIX / "import-names.json").read_text("utf-8"))["projects"]
    for module, project in by_module.items():
        if canonicalize_name(module) == canonicalize_name(name):
            return project
    known = {*_COMMON, *(project for project in by_module.values() if "<" not in project)}
    return next(
        iter(difflib.get_close_matches(canonicalize_name(name), sorted(known), n=1, cutoff=0.75)), None
    )


def _tags(target: Target) -> list[Tag]:
    major, minor = (int(part) for part in target.python.split("."))
    machine = target.architecture.machine
    platforms = [f"manylinux_2_{number}" for number in range(glibc(target)[1], 4, -1)]
    # The older spellings of manylinux_2_17, _2_12 and _2_5 (PEP 600).
    for tag, legacy in (("2_17", "manylinux2014"), ("2_12", "manylinux2010"), ("2_5", "manylinux1")):
        platforms.insert(platforms.index(f"manylinux_{tag}") + 1, legacy)
    platforms = [f"{platform}_{machine}" for platform in (*platforms, "linux")]
    return [
        *cpython_tags((major, minor), platforms=platforms),
        *compatible_tags((major, minor), interpreter=f"cp{major}{minor}", platforms=platforms),
    ]


def _local_files(urls: Iterable[str], places: Places) -> list[Path]:
    """The files of this machine, or the folders of them, that an answer may name: an index on the web has none."""
    files = [url2pathname(urlsplit(url).path) for url in urls if urlsplit(url).scheme == "file"]
    folders = [place.removeprefix("file://") for place in places.find_links if not place.startswith("http")]
    return [Path(path).resolve() for path in (*files, *folders)]


def _best_wheel(
    package: dict[str, Any], tags: Sequence[Tag], places: Places, where: str, here: Sequence[Path]
) -> Wheel:
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
    size, sha256 = wheel.get("size"), wheel.get("hashes", {}).get("sha256")
    if size is None or sha256 is None:
        size, sha256 = _measured(wheel, sha256, places, where, here)
    try:
        return Wheel(
            project=canonicalize_name(package["name"]),
            version=package["version"],
            file=file,
            size=size,
            sha256=sha256,
            needed_by=package.get("needed-by", ()),
        )
    except ValidationError as problem:
        said = "; ".join(one["msg"] for one in problem.errors(include_url=False, include_input=False))
        raise ResolveError(
            f"the index lists what no lock can hold: {file[:100]!a}: {said}", where=where
        ) from None


def _measured(
    wheel: dict[str, Any], sha256: str | None, places: Places, where: str, here: Sequence[Path]
) -> tuple[int, str]:
    """Size and sha256 of a wheel whose index does not tell both (PEP 503 has no sizes)."""
    url = wheel.get("url", "")
    path = wheel.get("path") or (url2pathname(urlsplit(url).path) if urlsplit(url).scheme == "file" else None)
    if path is not None:
        if not any(Path(path).resolve().is_relative_to(one) for one in here):
            raise FetchError("the index lists a file of this machine", where=f"{where}: {path}")
        content = Path(path).read_bytes()
        return len(content), hashlib.sha256(content).hexdigest()
    if problem := url_problem(url):
        raise FetchError(f"the index lists a file whose URL {problem}", where=f"{where}: {url[:200]!a}")
    url = _with_credentials(url, places)
    try:
        if sha256 is not None:
            answer = certificates.request(
                "HEAD", url, headers={"Accept-Encoding": "identity"}, allow_redirects=True, timeout=60
            )
            if answer.ok and "Content-Length" in answer.headers:
                return int(answer.headers["Content-Length"]), sha256
        digest, size = hashlib.sha256(), 0
        with certificates.request("GET", url, stream=True, timeout=60) as answer:
            answer.raise_for_status()
            for piece in answer.iter_content(1 << 18):
                digest.update(piece)
                size += len(piece)
    except requests.RequestException as failure:
        # Its text may hold the URL, and with it a password.
        handshake = certificates.problem_of(failure)
        raise FetchError(
            f"a wheel can't be read: {handshake or type(failure).__name__}",
            where=f"{where}: {wheel['url']}",
            hint=handshake and certificates.hint(handshake),
        ) from None
    return size, sha256 or digest.hexdigest()


def _with_credentials(url: str, places: Places) -> str:
    """A URL of uv's answer with the user and password of the index on the same host."""
    parts = urlsplit(url)
    for index in (*places.extra_index_urls, places.index_url, *places.find_links):
        user, at, host = urlsplit(index).netloc.rpartition("@")
        if at and host == parts.netloc:
            return parts._replace(netloc=f"{user}@{host}").geturl()
    return url
