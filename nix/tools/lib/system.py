"""What only the whole root can say: which alternative wins, the loader's cache, and the true modes of
folders.

Everything is computed from the files.json of the layers below; no package is read again and nothing of the
root is run.
"""

from __future__ import annotations

import posixpath
import tarfile
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from contents import DiskFile, Region, Text, read_all
from debversion import Package
from elf import SharedObject, shared_object
from keystore import keystore
from ldcache import Root, is_configuration, ld_so_cache
from maintscripts import Alternative, Diversion, Link
from program import ToolError, read_json
from rootfs import ALIASES, DEFAULT_DIRECTORY, Entry, Table, implied_directory

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from contents import Content

PACKAGE = "system"
_CERTIFICATES = "etc/ssl/certs/ca-certificates.crt"


@dataclass
class Libraries:
    """What the loader's cache is made of, among some entries."""

    objects: dict[str, SharedObject]
    configuration: dict[str, str]
    release: str
    """What the C library says of itself; empty where it is not among them."""


def libraries(entries: Iterable[Entry]) -> Libraries:
    """Read the shared objects and the loader's configuration among entries that have contents."""
    found = Libraries({}, {}, "")
    for entry in entries:
        if isinstance(entry.content, (Region, DiskFile)):
            known = shared_object(entry.path, entry.content.read_at)
            if known is not None:
                found.objects[known.path] = known
                if known.soname == "libc.so.6":
                    found.release = _libc_release(entry.content)
        if entry.content is not None and is_configuration(entry):
            found.configuration[entry.path] = read_all(entry.content).decode("utf-8", "surrogateescape")
    return found


def _libc_release(content: Content) -> str:
    """What a GNU C library says of itself, from its banner: `(Debian GLIBC 2.36-9) stable release version 2.36`."""
    text = read_all(content).partition(b"GNU C Library ")[2].partition(b".\n")[0]
    return text.decode("ascii", "replace")


class Lower:
    """All layers below, as one root."""

    def __init__(self, layers: list[Path]) -> None:
        """Read the files.json of layers, the lowest first."""
        self.table = Table()
        self.alternatives: list[Alternative] = []
        self.diversions: list[Diversion] = []
        self.objects: dict[str, SharedObject] = {}
        self.configuration: dict[str, str] = {}
        self.release = ""  # what the C library says of itself
        self._certificates: list[Path] = []  # the layers that have them
        for layer in layers:
            files = read_json(layer / "files.json")
            for value in files["packages"]:
                package = Package.from_json(value)
                self.table.packages[package.name] = package
            self.add(map(Entry.from_json, files["entries"]), changes=files.get("changes", False))
            if any(value["path"] == _CERTIFICATES for value in files["entries"]):
                self._certificates.append(layer)
            self.alternatives += map(Alternative.from_json, files["alternatives"])
            self.diversions += map(Diversion.from_json, files.get("diversions", ()))
            self.objects.update(
                (value["path"], SharedObject.from_json(value)) for value in files["shared-objects"]
            )
            self.configuration.update(files["ld-so-conf"])
            self.release = files["libc-release"] or self.release

    def add(self, entries: Iterable[Entry], *, changes: bool) -> None:
        """Put one more layer on top; a changeset counts as it is, whatever is below it."""
        if not changes:
            for entry in entries:
                self.table.add(entry)
            return
        stated = list(entries)
        self.table.change(stated)
        for entry in stated:
            self.objects.pop(entry.path, None)
            self.configuration.pop(entry.path, None)

    def check_diversions(self) -> None:
        """`ToolError` where a package's file should have moved, and is in another layer than what moves it."""
        for diversion in self.diversions:
            entry = self.table.entries.get(diversion.path)
            if entry is not None and entry.kind != "dir" and entry.package != diversion.package:
                raise ToolError(
                    f"/{diversion.path}: package {diversion.package} diverts that of {entry.package},"
                    " which is not supported across layers"
                )

    def alias_links(self) -> list[Entry]:
        """Make the links of the merged /usr, and of /var to /run, unless a layer has them."""
        return self._added(self._missing_aliases())

    def _missing_aliases(self) -> Iterator[Entry]:
        for alias, real in ALIASES.items():
            below_var = alias.startswith("var/")
            if alias not in self.table.entries and (below_var or real in self.table.entries):
                target = f"/{real}" if below_var else real  # as Debian's usrmerge and base-files make them
                yield Entry(alias, "link", 0o777, target=target, package=PACKAGE)
        yield implied_directory("run/lock", PACKAGE)

    def alternative_links(self) -> list[Entry]:
        """Make the links that update-alternatives makes in automatic mode: LINK -> /etc/alternatives/NAME -> PATH.

        The highest priority wins, and of equal ones the first path in order of the alphabet. A choice or
        slave whose file is not there is skipped, and a link is not made where there is a file or folder, as
        update-alternatives does.
        """
        return self._added(self._chosen_links())

    def _chosen_links(self) -> Iterator[Entry]:
        root = Root(self.table)
        choices: dict[str, list[Alternative]] = {}
        for alternative in self.alternatives:
            if root.resolve(alternative.master.path) is not None:
                choices.setdefault(alternative.master.name, []).append(alternative)
        for _, found in sorted(choices.items()):
            best = min(found, key=lambda choice: (-choice.priority, choice.master.path))
            slaves = [slave for slave in best.slaves if root.resolve(slave.path) is not None]
            for link in [best.master, *slaves]:
                if root.kind(link.link) in ("", "link"):
                    yield from _links(link)

    def cache(self, architecture: str) -> Entry:
        """/etc/ld.so.cache, with the links made so far."""
        if not self.release:
            raise ToolError(
                "no layer below has a C library (libc.so.6), so there is nothing to make ld.so.cache for"
            )
        data = ld_so_cache(Root(self.table), architecture, self.objects, self.configuration, self.release)
        return Entry("etc/ld.so.cache", "file", 0o644, package=PACKAGE, override=True, content=Text(data))

    def java_certificates(self) -> Iterator[Entry]:
        """What Java checks servers by, which the scripts of ca-certificates-java would have made."""
        if "ca-certificates-java" in self.table.packages and self._certificates:
            with tarfile.open(self._certificates[-1] / "blob", "r|gz") as layer:
                member = next(member for member in layer if member.name == _CERTIFICATES)
                file = layer.extractfile(member)
                assert file is not None
                content = Text(keystore(file.read()))
            yield Entry("etc/ssl/certs/java/cacerts", "file", 0o644, package=PACKAGE, content=content)

    def true_directories(self) -> Iterator[Entry]:
        """Every folder that is not what a layer would take it for, stated once more so that the truth comes last."""
        for entry in self.table.sorted():
            expected = implied_directory(entry.path).statement
            if (
                entry.kind == "dir"
                and not entry.implied
                and {entry.statement, expected} != {DEFAULT_DIRECTORY}
            ):
                yield replace(entry, implied=True)

    def _added(self, entries: Iterable[Entry]) -> list[Entry]:
        """Put made entries into the table, with their folders, so that what comes next sees them."""
        made = list(entries)
        for entry in made:
            self.table.add(entry)
        self.table.add_parents()
        return made


def _links(link: Link) -> Iterator[Entry]:
    private = posixpath.join("etc/alternatives", link.name)
    for path, target in ((link.link, private), (private, link.path)):
        yield Entry(path, "link", 0o777, target="/" + target, package=PACKAGE, override=True)
