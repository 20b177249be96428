"""Wheels and sources from where requirements say that they are, and sources of the Python indexes.

A source is read and never run: what it says of itself is its metadata, which stands for it in a solve.
"""

from __future__ import annotations

import re
import shutil
import tempfile
import zipfile
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from packaging.utils import parse_sdist_filename, parse_wheel_filename
from packaging.version import Version

from tungstenkit.digest import measure
from tungstenkit.fetch.archives import Facts, read_facts
from tungstenkit.fetch.packing import check_out, pack
from tungstenkit.lock.packages import GitCommit
from tungstenkit.resolve.build_rules import BuildRule
from tungstenkit.resolve.offer import stand_in_name
from tungstenkit.sdk.errors import ResolveError, UnusableError
from tungstenkit.settings import to_paste

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from tungstenkit.fetch.index_pages import IndexFile
    from tungstenkit.resolve.python_index import PythonIndex
    from tungstenkit.spec.requirements import Wanted


@dataclass(frozen=True)
class Obtained:
    """A wheel or source that a requirement leads to, here on this machine."""

    place: Path
    file: str
    project: str
    version: str
    size: int
    sha256: str
    url: str | None = None
    path: str | None = None
    git: GitCommit | None = None
    subdirectory: str | None = None
    facts: Facts | None = None
    """None for a wheel."""


@dataclass
class Sources:
    """Gets wheels and sources from where requirements say that they are, each once for all platforms."""

    directory: Path
    """The model's folder."""
    folder: Path
    """Where to put them; the caller's to remove."""
    index: PythonIndex
    report: Callable[[str], None]
    rules: Mapping[str, BuildRule] = field(default_factory=dict)
    _known: dict[object, Obtained] = field(default_factory=dict)

    def direct(self, wanted: Wanted) -> Obtained:
        """What a requirement that says itself where it comes from leads to.

        Raises UnusableError where it leads to something else, FetchError where it can't be had.
        """
        key = wanted.url, wanted.path, wanted.git, wanted.subdirectory
        if key not in self._known:
            self._known[key] = self._direct(wanted)
        found = self._known[key]
        if wanted.name is not None and found.project != wanted.name:
            raise UnusableError(
                f"leads to the project {found.project}",
                where=wanted.text,
                hint="write its name before the `@`",
            )
        if wanted.hashes and found.sha256 not in wanted.hashes:
            raise UnusableError(
                f"is another file: its sha256 is {found.sha256}",
                where=wanted.text,
                hint="whoever changed it may have done so on purpose; if you trust the file, write its hash",
            )
        return found

    def check_paths(self, wishes: Iterable[Wanted]) -> None:
        """UnusableError that names every file and folder of the model's that is not there."""
        paths = {one.text: self.directory / one.path for one in wishes if one.path is not None}
        gone = [text for text, path in paths.items() if not (path.is_dir() or path.is_file())]
        if gone:
            raise UnusableError(
                f"there is no such file or folder: {', '.join(gone)}",
                where="python_packages",
                hint=f"paths are relative to {self.directory}",
            )

    def _direct(self, wanted: Wanted) -> Obtained:
        self.report(f"getting {wanted.text}")
        place = self.fresh_folder()
        if wanted.git is not None:
            commit = check_out(wanted.git.url, wanted.git.ref, place / "source.tar")
            git = GitCommit(url=wanted.git.url, commit=commit)
            return self._source(place / "source.tar", None, wanted, git=git)
        if wanted.url is not None:
            # Of the name alone: an escaped slash must not lead out of the folder.
            name = PurePosixPath(unquote(urlsplit(wanted.url).path)).name
            self.index.save(wanted.url, place / name)
            return self._file(place / name, wanted, url=wanted.url)
        assert wanted.path is not None
        local = self.directory / wanted.path
        if local.is_dir():
            pack(local, place / "source.tar")
            return self._source(place / "source.tar", None, wanted, path=wanted.path)
        shutil.copyfile(local, place / local.name)
        return self._file(place / local.name, wanted, path=wanted.path)

    def of_index(self, project: str, listed: IndexFile) -> Obtained:
        """A source archive of the Python index. Thread-safe.

        Raises ResolveError where it is none, FetchError where it can't be had.
        """
        if listed not in self._known:
            self.report(f"reading {listed.name}")
            place = self.fresh_folder() / listed.name
            self.index.save(listed.url, place)
            found = measure(place)
            if listed.sha256 not in (None, found[1]):
                raise UnusableError(
                    f"is not what the index says: its sha256 is {found[1]}", where=listed.name
                )
            facts = read_facts(place, listed.name)
            _, version = parse_sdist_filename(listed.name)
            self._known[listed] = Obtained(
                place, listed.name, project, str(version), *found, facts=replace(facts, version=str(version))
            )
        return self._known[listed]

    def fresh_folder(self) -> Path:
        """An empty folder of its own."""
        return Path(tempfile.mkdtemp(dir=self.folder))

    def _file(self, place: Path, wanted: Wanted, **origin: str) -> Obtained:
        if place.suffix != ".whl":
            return self._source(place, place.name, wanted, **origin)
        project, version, _, _ = parse_wheel_filename(place.name)
        size, sha256 = measure(place)
        return Obtained(place, place.name, project, str(version), size, sha256, **origin)  # type: ignore[arg-type]

    def _source(self, place: Path, name: str | None, wanted: Wanted, **origin: Any) -> Obtained:  # noqa: ANN401
        """name: the archive's own; None for one of ours, which is named after what is in it."""
        try:
            facts = read_facts(place, name or "source.tar", wanted.subdirectory)
        except ResolveError as problem:
            # The archive is ours, or was just downloaded: the user knows it as what is written.
            raise UnusableError(problem.what, where=wanted.text, hint=problem.hint) from None
        project = facts.name or wanted.name
        if project is None:
            raise UnusableError("does not state its name", where=wanted.text, hint=f"write '{wanted.named}'")
        version = self._rule(project).version or facts.version
        if version is None:
            raise UnusableError(
                f"the source of {project} does not state its version, and nothing is run to find out",
                where=wanted.text,
                hint=to_paste("build", project, 'version = "1.0"'),
            )
        return Obtained(
            place,
            name or f"{project}-{version}.tar",
            project,
            str(Version(version)),
            *measure(place),
            subdirectory=wanted.subdirectory,
            facts=replace(facts, version=version),
            **origin,
        )

    def _rule(self, project: str) -> BuildRule:
        return self.rules.get(project, BuildRule())


def metadata(obtained: Obtained, facts: Facts) -> str:
    """A METADATA of what a source says of itself."""
    requires = facts.requires or ()
    extras = sorted(
        {extra for text in requires for extra in re.findall(r"extra == ['\"]([^'\"]+)['\"]", text)}
    )
    lines = ["Metadata-Version: 2.1", f"Name: {obtained.project}", f"Version: {obtained.version}"]
    if facts.requires_python:
        lines.append(f"Requires-Python: {facts.requires_python}")
    lines += [f"Requires-Dist: {text}" for text in requires]
    lines += [f"Provides-Extra: {extra}" for extra in extras]
    return "".join(f"{line}\n" for line in lines)


def write_stub(obtained: Obtained, facts: Facts, folder: Path) -> Path:
    """A wheel that holds a source's metadata alone."""
    stub = folder / stand_in_name(obtained.project, obtained.version)
    info = f"{stub.name.partition('-py3')[0]}.dist-info"
    with zipfile.ZipFile(stub, "w") as archive:
        archive.writestr(f"{info}/METADATA", metadata(obtained, facts))
        archive.writestr(
            f"{info}/WHEEL",
            "Wheel-Version: 1.0\nGenerator: tungsten\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        )
        archive.writestr(f"{info}/RECORD", "")
    return stub
