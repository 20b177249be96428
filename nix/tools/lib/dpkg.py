"""Packages installed into a base image that has dpkg: its records after them, and which of its files they replace.

Nothing is run: what dpkg(1) and update-alternatives(1) would leave in their folder is written from what the image and
the packages say.
"""

from __future__ import annotations

import hashlib
import posixpath
from dataclasses import dataclass
from typing import TYPE_CHECKING

from contents import Text, read_all
from debversion import Package
from facts import WHITEOUT
from program import ToolError
from rootfs import Entry, canonical

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from base_root import BaseRoot
    from debfile import Deb
    from maintscripts import Alternative, Diversion
    from rootfs import Table

_ADMIN = "var/lib/dpkg"
_INFO = f"{_ADMIN}/info"
_BUNDLE = "etc/ssl/certs/ca-certificates.crt"
_LOCAL_AUTHORITIES = "usr/local/share/ca-certificates"
_PACKAGE = "dpkg"
_SCRIPTS = ("preinst", "postinst", "prerm", "postrm", "config")


@dataclass
class Unpacked:
    """A package whose files are in a layer, and the paths that it brings, folders too."""

    deb: Deb
    paths: list[str]

    @property
    def name(self) -> str:
        """The package's."""
        return self.deb.package.name

    @property
    def stem(self) -> str:
        """What its files in dpkg's folder are called by."""
        is_same = any(line.lower() == b"multi-arch: same" for line in self.deb.control.splitlines())
        return f"{self.name}:{self.deb.package.architecture}" if is_same else self.name

    @property
    def configuration(self) -> list[str]:
        """The paths of its conffiles."""
        lines = self.deb.members.get("conffiles", b"").decode("utf-8", "surrogateescape").splitlines()
        return [canonical(line) for line in lines if line.startswith("/")]


class Installation:
    """What packages that a layer holds mean for a base image."""

    def __init__(self, base: BaseRoot, unpacked: Sequence[Unpacked], table: Table) -> None:
        """Take the layer's table, which is completed."""
        self._base = base
        self._unpacked = {one.name: one for one in unpacked}
        self._table = table
        self._stanzas = {_field(text, "Package"): text for text in _stanzas(base.text(f"{_ADMIN}/status"))}
        self._lists: dict[str, set[str]] = {}
        for name in base.root.names(_INFO):
            if name.endswith(".list"):
                lines = base.text(f"{_INFO}/{name}").splitlines()
                self._lists[_package_of(name)] = {canonical(line) for line in lines if line.strip("/.")}

    def install(self, alternatives: Iterable[Alternative], diversions: Sequence[Diversion]) -> None:
        """Complete the table; `ToolError` where dpkg would refuse a package."""
        self._check_diversions(diversions)
        self._check_files()
        self._remove_what_is_gone()
        sums = self._settle_configuration()
        self._write_information()
        self._write_status(sums)
        if diversions:
            lines = [f"/{one.path}\n/{one.to}\n{one.package}\n" for one in diversions]
            self._write(f"{_ADMIN}/diversions", self._base.text(f"{_ADMIN}/diversions") + "".join(lines))
        self._write_alternatives(alternatives)
        if self._base.root.names(_LOCAL_AUTHORITIES):
            self._table.entries.pop(_BUNDLE, None)  # whose bundle holds them, too

    def _check_diversions(self, diversions: Sequence[Diversion]) -> None:
        for one in diversions:
            if self._base.root.kind(one.path) in ("file", "link") and one.path not in self._old(one.package):
                raise ToolError(
                    f"/{one.path}: package {one.package} diverts that of the base image, which is not supported"
                )
        lines = self._base.text(f"{_ADMIN}/diversions").splitlines()
        for path, _, package in zip(lines[::3], lines[1::3], lines[2::3]):
            entry = self._table.entries.get(canonical(path))
            if entry is not None and entry.kind != "dir" and entry.package != package:
                raise ToolError(f"{path}: the base image diverts that of package {entry.package}")

    def _check_files(self) -> None:
        owners: dict[str, list[str]] = {}
        for name, paths in self._lists.items():
            for path in paths if name not in self._unpacked else ():
                owners.setdefault(path, []).append(name)
        for entry in self._table.sorted():
            if entry.kind == "dir" or entry.package not in self._unpacked:
                continue
            if self._base.root.kind(self._base.place(entry)) == "dir":
                if entry.kind == "file":
                    raise ToolError(
                        f"/{entry.path}: a file of {entry.package}, but a folder of the base image"
                    )
                del self._table.entries[entry.path]  # as dpkg leaves a folder where a package has a link
                continue
            new = self._unpacked[entry.package].deb.package
            for owner in owners.get(entry.path, ()):
                if not new.replaces(self._known(owner)):
                    raise ToolError(f"/{entry.path}: in both {owner} of the base image and {entry.package}")

    def _known(self, name: str) -> Package:
        """A package of the base image's."""
        stanza = self._stanzas.get(name, "")
        return Package(name, _field(stanza, "Version"), _field(stanza, "Architecture"), "")

    def _old(self, name: str) -> set[str]:
        """The paths that a package of the layer had in the base image."""
        return self._lists.get(name, set())

    def _remove_what_is_gone(self) -> None:
        kept = {path for name, paths in self._lists.items() if name not in self._unpacked for path in paths}
        kept |= {path for one in self._unpacked.values() for path in one.paths}
        for name in self._unpacked:
            kept |= {canonical(path) for path, _ in _conffiles(self._stanzas.get(name, ""))}
            for path in sorted(self._old(name) - kept):
                self._take_away(path)

    def _take_away(self, path: str) -> None:
        if path not in self._table.entries and self._base.root.kind(path) in ("file", "link"):
            folder, name = posixpath.split(path)
            self._table.entries[f"{folder}/{WHITEOUT}{name}"] = Entry(
                f"{folder}/{WHITEOUT}{name}", "whiteout", 0o644
            )

    def _settle_configuration(self) -> dict[str, list[tuple[str, str]]]:
        """Leave what somebody has changed or removed, as dpkg does unasked; each package's conffiles, with sums."""
        sums: dict[str, list[tuple[str, str]]] = {}
        for name, one in self._unpacked.items():
            recorded = {canonical(path): md5 for path, md5 in _conffiles(self._stanzas.get(name, ""))}
            for path in one.configuration:
                entry = self._table.entries.get(path)
                if entry is None or entry.content is None:
                    continue
                shipped = hashlib.md5(read_all(entry.content), usedforsecurity=False).hexdigest()
                sums.setdefault(name, []).append((path, shipped))
                there = self._base.root.resolve(path)
                found = self._base.found.get(there or "", {}).get("md5")
                is_removed = there is None and path in recorded
                is_changed = there is not None and (
                    found is None or found not in (recorded.get(path), shipped)
                )
                if is_removed or is_changed:
                    del self._table.entries[path]
        return sums

    def _write_information(self) -> None:
        for one in self._unpacked.values():
            paths = "".join(f"/{path}\n" for path in one.paths)
            self._write(f"{_INFO}/{one.stem}.list", f"/.\n{paths}")
            for name, data in sorted(one.deb.members.items()):
                if name != "control":
                    path = f"{_INFO}/{one.stem}.{name}"
                    mode = 0o755 if name in _SCRIPTS else 0o644
                    self._table.add(Entry(path, "file", mode, package=_PACKAGE, content=Text(data)))
        for name in self._base.root.names(_INFO):
            if _package_of(name) in self._unpacked:
                self._take_away(f"{_INFO}/{name}")

    def _write_status(self, sums: dict[str, list[tuple[str, str]]]) -> None:
        stanzas = dict(self._stanzas)
        for name, one in sorted(self._unpacked.items()):
            control = one.deb.control.decode("utf-8", "surrogateescape").rstrip("\n")
            lines = [line for line in control.split("\n") if line.strip()]
            place = next(i for i, line in enumerate(lines) if line.lower().startswith("package:")) + 1
            lines.insert(place, "Status: install ok installed")
            if name in sums:
                lines += ["Conffiles:", *(f" /{path} {md5}" for path, md5 in sums[name])]
            stanzas[name] = "\n".join(lines)
        self._write(f"{_ADMIN}/status", "\n\n".join(stanzas.values()) + "\n")

    def _write_alternatives(self, alternatives: Iterable[Alternative]) -> None:
        groups: dict[str, _Group] = {}
        for alternative in alternatives:
            master = alternative.master
            if not self._is_there(master.path):
                continue
            if master.name not in groups:
                text = self._base.text(f"{_ADMIN}/alternatives/{master.name}")
                groups[master.name] = _read_group(text) if text else _Group("auto", f"/{master.link}", {}, {})
            groups[master.name].add(alternative)
        for name, group in sorted(groups.items()):
            self._write(f"{_ADMIN}/alternatives/{name}", group.text())
            if group.status == "auto":
                for link, private, path in group.links(name):
                    self._link(canonical(link), private, path)

    def _link(self, link: str, private: str, path: str) -> None:
        own = posixpath.join("etc/alternatives", private)
        known = self._table.entries.get(link)
        if (known is not None and known.kind != "link") or self._base.root.kind(link) not in ("", "link"):
            return
        if not path or not self._is_there(canonical(path)):
            self._take_away(link)
            self._take_away(own)
            return
        for place, target in ((link, f"/{own}"), (own, path)):
            self._table.add(Entry(place, "link", 0o777, target=target, package=_PACKAGE, override=True))

    def _is_there(self, path: str) -> bool:
        return path in self._table.entries or self._base.root.resolve(path) is not None

    def _write(self, path: str, text: str) -> None:
        content = Text(text.encode("utf-8", "surrogateescape"))
        self._table.add(Entry(path, "file", 0o644, package=_PACKAGE, override=True, content=content))


@dataclass
class _Group:
    """An alternative with all its choices, as update-alternatives(1) keeps it in a file."""

    status: str
    link: str
    slaves: dict[str, str]
    """Links by name."""
    choices: dict[str, tuple[int, dict[str, str]]]
    """By path the priority, and the slaves' paths by name."""

    def add(self, alternative: Alternative) -> None:
        path = f"/{alternative.master.path}"
        # The base may know it by the name that it had before /usr was merged.
        for known in [known for known in self.choices if canonical(known) == alternative.master.path]:
            del self.choices[known]
        self.slaves |= {slave.name: f"/{slave.link}" for slave in alternative.slaves}
        self.choices[path] = alternative.priority, {one.name: f"/{one.path}" for one in alternative.slaves}

    def links(self, name: str) -> Iterator[tuple[str, str, str]]:
        """Each link with its name and where it leads in automatic mode, which may be nowhere."""
        path = min(self.choices, key=lambda path: (-self.choices[path][0], path))
        yield self.link, name, path
        for slave, link in sorted(self.slaves.items()):
            yield link, slave, self.choices[path][1].get(slave, "")

    def text(self) -> str:
        """The file."""
        slaves = sorted(self.slaves)
        lines = [self.status, self.link]
        for slave in slaves:
            lines += [slave, self.slaves[slave]]
        lines.append("")
        for path, (priority, paths) in sorted(self.choices.items()):
            lines += [path, str(priority), *(paths.get(slave, "") for slave in slaves)]
        return "\n".join([*lines, "", ""])


def _read_group(text: str) -> _Group:
    lines = iter(text.split("\n"))
    group = _Group(next(lines), next(lines), {}, {})
    while name := next(lines, ""):
        group.slaves[name] = next(lines, "")
    while path := next(lines, ""):
        priority = int(next(lines, "0"))
        group.choices[path] = priority, {name: found for name in group.slaves if (found := next(lines, ""))}
    return group


def _stanzas(text: str) -> list[str]:
    return [part.strip("\n") for part in text.split("\n\n") if part.strip()]


def _field(stanza: str, name: str) -> str:
    """A field of one line."""
    for line in stanza.split("\n"):
        if line.lower().startswith(f"{name.lower()}:"):
            return line.partition(":")[2].strip()
    return ""


def _conffiles(stanza: str) -> list[tuple[str, str]]:
    """The conffiles that dpkg knows of a package, each with the sum that it had."""
    lines = iter(stanza.split("\n"))
    for line in lines:
        if line.lower().startswith("conffiles:"):
            break
    found = []
    for line in lines:
        if not line.startswith(" "):
            break
        words = line.split()
        if len(words) >= 2:
            found.append((words[0], words[1]))
    return found


def _package_of(name: str) -> str:
    """Whose a file of dpkg's folder is: `libc6:amd64.list`, `dash.postinst`."""
    return name.partition(":")[0] if ":" in name else name.rpartition(".")[0]
