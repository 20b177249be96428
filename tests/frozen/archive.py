"""Writes an archive as a plain web server can serve it: Debian's suites and pool, a Python index, npm's packages.

    debian/, debian-security/   dists/SUITE/InRelease and pool/ (Debian's repository format)
    pypi/simple/, pypi/files/   a project's page (PEP 691), with each wheel's metadata beside it (PEP 658)
    npm/                        tarballs, by their path in a registry

`Archive` collects what shall be in it; nothing can be asked for before `publish`. Files are hard links to where they
came from.
"""

import gzip
import hashlib
import io
import json
import lzma
import os
import re
import shutil
import tarfile
import zipfile
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from email.utils import format_datetime
from pathlib import Path

import pysequoia
from packaging.utils import canonicalize_name

from tungstenkit.debian.control import stanzas
from tungstenkit.debian.index import suites

ARCHITECTURES = ("amd64", "arm64")
LABELS = {"debian": "Debian", "debian-security": "Debian-Security"}


@dataclass(frozen=True)
class Deb:
    """A Debian package, and what an index says of it."""

    path: Path
    pool: str
    """Where it lies in the archive, `pool/…`."""
    control: str
    """Its control file."""
    files: tuple[str, ...]
    """The paths that it brings."""
    sha256: str
    size: int

    @classmethod
    def read(cls, path, pool=""):
        """Open a package. pool: where it lies (default: by its file's name)."""
        members = dict(ar_members(path.read_bytes()))
        with _tar(members, "data.tar") as archive:
            files = tuple(member.name.removeprefix("./") for member in archive if not member.isdir())
        return replace(cls.read_control(path, pool), files=files)

    @classmethod
    def read_control(cls, path, pool=""):
        """The same, but for its files."""
        data = path.read_bytes()
        with _tar(dict(ar_members(data)), "control.tar") as archive:
            names = {Path(name).name: name for name in archive.getnames()}
            control = archive.extractfile(names["control"]).read().decode()
        return cls(
            path=path,
            pool=pool or f"pool/main/{path.name[0]}/{path.name}",
            control=control.strip() + "\n",
            files=(),
            sha256=hashlib.sha256(data).hexdigest(),
            size=len(data),
        )

    @property
    def fields(self):
        """Its control fields, by name."""
        return next(stanzas(self.control))

    @property
    def stanza(self):
        """As a `Packages` file has it."""
        return f"{self.control}Filename: {self.pool}\nSize: {self.size}\nSHA256: {self.sha256}\n"


def ar_members(data):
    """The members of a .deb, by name (deb(5))."""
    place = 8
    while place < len(data):
        size = int(data[place + 48 : place + 58])
        yield data[place : place + 16].decode().strip(), data[place + 60 : place + 60 + size]
        place += 60 + size + size % 2


def _tar(members, kind):
    (data,) = (content for name, content in members.items() if name.startswith(kind))
    return tarfile.open(fileobj=io.BytesIO(data))


@dataclass
class Archive:
    """What shall be served, and from where."""

    folder: Path
    key: pysequoia.Tsk
    debs: dict = field(default_factory=dict)
    """By release and archive."""
    files: dict = field(default_factory=dict)
    """Wheels and sources by project, by file name."""

    def add_deb(self, deb, release, archive="debian"):
        """A package of a release; its file is in the pool from now on."""
        self.debs.setdefault((release, archive), []).append(deb)
        link(deb.path, self.folder / archive / deb.pool)

    def add_wheel(self, path):
        """A wheel, or a source archive, of its project."""
        project = canonicalize_name(path.name.split("-")[0])
        link(path, self.folder / "pypi" / "files" / path.name)
        self.files.setdefault(project, {})[path.name] = path

    def add_npm(self, path, place):
        """A file of npm's registry. place: its path there."""
        link(path, self.folder / "npm" / place)

    def publish(self, moment=None):
        """Write and sign the indexes of what is there now."""
        moment = moment or datetime.now(UTC)
        for release in {release for release, _ in self.debs}:
            for archive, suite in suites(release):
                # All of an archive is in its first suite.
                first = suite in (release, f"{release}-security")
                self._publish_suite(
                    archive, suite, self.debs.get((release, archive), []) if first else [], moment
                )
        simple = self.folder / "pypi" / "simple"
        if simple.exists():
            shutil.rmtree(simple)
        for project, files in self.files.items():
            page = {"meta": {"api-version": "1.1"}, "name": project, "files": []}
            page["files"] = [self._listed(name, path) for name, path in sorted(files.items())]
            (simple / project).mkdir(parents=True)
            (simple / project / "index.json").write_text(json.dumps(page))

    def _publish_suite(self, archive, suite, debs, moment):
        folder = self.folder / archive / "dists" / suite
        listed = []

        def add(name, data):
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
            by_hash = path.parent / "by-hash" / "SHA256" / hashlib.sha256(data).hexdigest()
            link(path, by_hash)
            listed.append(f" {by_hash.name} {len(data)} {name}")

        for architecture in ARCHITECTURES:
            own = [deb for deb in debs if deb.fields["Architecture"] in ("all", architecture)]
            packages = "\n".join(deb.stanza for deb in own).encode()
            add(f"main/binary-{architecture}/Packages", packages)
            add(f"main/binary-{architecture}/Packages.xz", lzma.compress(packages, preset=0))
            lines = {
                f"{path} {deb.fields.get('Section', 'misc')}/{deb.fields['Package']}\n"
                for deb in own
                for path in deb.files
            }
            contents = "".join(sorted(lines)).encode()
            add(f"main/Contents-{architecture}", contents)
            add(f"main/Contents-{architecture}.gz", gzip.compress(contents, 1, mtime=0))
        release = (
            f"Origin: Debian\nLabel: {LABELS[archive]}\nSuite: stable\nCodename: {suite}\n"
            f"Date: {format_datetime(moment)}\nAcquire-By-Hash: yes\nArchitectures: {' '.join(ARCHITECTURES)}\n"
            "Components: main\nSHA256:\n" + "\n".join(listed) + "\n"
        )
        signed = pysequoia.sign(self.key.signer(), release.encode(), mode=pysequoia.SignatureMode.CLEAR)
        (folder / "InRelease").write_bytes(signed)

    def _listed(self, name, path):
        """A file of a project's page."""
        data = path.read_bytes()
        entry = {
            "filename": name,
            "url": f"../../files/{name}",
            "size": len(data),
            "hashes": {"sha256": hashlib.sha256(data).hexdigest()},
        }
        if name.endswith(".whl"):
            metadata = _metadata(path)
            (self.folder / "pypi" / "files" / f"{name}.metadata").write_bytes(metadata)
            entry["core-metadata"] = {"sha256": hashlib.sha256(metadata).hexdigest()}
            if match := re.search(rb"^Requires-Python: *(\S.*)$", metadata, re.MULTILINE):
                entry["requires-python"] = match[1].decode().strip()
        return entry


def _metadata(wheel):
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (n for n in archive.namelist() if re.fullmatch(r"[^/]+\.dist-info/METADATA", n))
        return archive.read(name)


def link(source, target):
    """Another name for a file; a copy where that is on another disk."""
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def new_key():
    """A key to sign with."""
    return pysequoia.Tsk.generate("the tests' archive <archive@example.org>")
