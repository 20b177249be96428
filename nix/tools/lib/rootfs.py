"""What is at each path of a root, who put it there, and who wins when two inputs name one path.

One table serves a layer (entries with contents) and an image (entries read back from the layers' files.json).
Paths have no leading slash and never go through one of merged-/usr's aliases.
"""

from __future__ import annotations

import posixpath
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from facts import WHITEOUT
from program import ToolError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from contents import Content
    from debversion import Package

# Debian's merged /usr (usrmerge; Debian policy 10.1, DEP-17) and the two links that base-files' postinst
# makes. A package's own entry for such a name, folder or link, is dropped; the system layer makes the links.
ALIASES = {
    "bin": "usr/bin",
    "sbin": "usr/sbin",
    "lib": "usr/lib",
    "lib32": "usr/lib32",
    "lib64": "usr/lib64",
    "libx32": "usr/libx32",
    "var/run": "run",
    "var/lock": "run/lock",
}

OPAQUE = f"{WHITEOUT}{WHITEOUT}.opq"
"""The whiteout that takes away all that its folder had."""

# A folder that a layer needs but that none of its inputs states. The values are those of Debian's base-files
# and our run-time contract; whatever is not here is 0755 root:root.
DIRECTORIES = {
    "app": (0o775, 65532, 0),
    "home/nonroot": (0o775, 65532, 0),
    "root": (0o700, 0, 0),
    "run/lock": (0o1777, 0, 0),
    "tmp": (0o1777, 0, 0),
    "var/cache/ldconfig": (0o700, 0, 0),
    "var/mail": (0o2775, 0, 8),
    "var/tmp": (0o1777, 0, 0),
}
DEFAULT_DIRECTORY = (0o755, 0, 0)


@dataclass
class Entry:
    """One path of a layer. `mode` has the permission bits only; `uid` and `gid` are numbers, as in the
    archive it comes from.

    `package` names the input: a Debian package, a wheel's file name, or a word. `implied`: a parent folder
    that no input states. `override`: may replace what another input put there. `yields`: whatever comes later
    may replace it.
    """

    path: str
    kind: str  # "file", "dir", "link", or "whiteout", whose path is its name in the archive
    mode: int
    uid: int = 0
    gid: int = 0
    target: str = ""
    package: str = ""
    implied: bool = False
    override: bool = False
    yields: bool = False
    sha256: str = ""
    content: Content | None = None

    @property
    def statement(self) -> tuple[int, int, int]:
        """Mode, owner and group."""
        return self.mode, self.uid, self.gid

    def describe(self) -> str:
        """The statement and who makes it, for messages."""
        return f"{self.mode:04o} {self.uid}:{self.gid} by {self.package}"

    def is_same(self, other: Entry) -> bool:
        """Whether the two are known to be links to one target, or files of one content."""
        if self.kind != other.kind:
            return False
        return self.target == other.target if self.kind == "link" else self.sha256 == other.sha256 != ""

    def to_json(self) -> dict[str, object]:
        """The entry as files.json has it: what is empty or false is left out, and the bytes are."""
        found: dict[str, object] = {
            "path": self.path,
            "type": self.kind,
            "mode": f"{self.mode:04o}",
            "uid": self.uid,
            "gid": self.gid,
        }
        optional = {
            "target": self.target,
            "package": self.package,
            "implied": self.implied,
            "override": self.override,
            "sha256": self.sha256,
        }
        return found | {key: value for key, value in optional.items() if value}

    @staticmethod
    def from_json(value: dict[str, Any]) -> Entry:
        """The inverse of `to_json`."""
        return Entry(
            path=value["path"],
            kind=value["type"],
            mode=int(value["mode"], 8),
            uid=value["uid"],
            gid=value["gid"],
            target=value.get("target", ""),
            package=value.get("package", ""),
            implied=value.get("implied", False),
            override=value.get("override", False),
            sha256=value.get("sha256", ""),
        )


def canonical(name: str) -> str:
    """A member's name as a path of the root: no leading `./` or `/`, no alias in it. "" is the root itself.

    A name that is an alias is left as it is. `ToolError` for a name that would leave the root.
    """
    path = posixpath.normpath("/" + name).lstrip("/")
    if ".." in name.split("/"):
        raise ToolError(f"{name}: the path has a '..' in it")
    for alias, real in ALIASES.items():
        if path.startswith(alias + "/"):
            return real + path[len(alias) :]
    return path


def parents(path: str) -> Iterator[str]:
    """The folders above a path, nearest first, without the root."""
    while path := posixpath.dirname(path):
        yield path


class Table:
    """Entries by path, and the packages that they belong to."""

    def __init__(self) -> None:
        """Start empty."""
        self.entries: dict[str, Entry] = {}
        self.packages: dict[str, Package] = {}

    def add(self, new: Entry) -> None:
        """Put an entry into the table, or settle which of two stays; `ToolError` if neither may.

        Folders: a statement beats an implied one; of two, the one that is not 0755 root:root. Anything else:
        two that are known to be equal are one, `override` wins, then the package that Replaces the other
        (Debian policy 7.6.1).
        """
        old = self.entries.get(new.path)
        self.entries[new.path] = new if old is None else self._settle(old, new)

    def change(self, entries: Iterable[Entry]) -> None:
        """Put a changeset over what is there, as a container shows it: nothing is settled, the later one counts.

        Its whiteouts speak of what is below it alone, wherever they stand (OCI image specification, "Layer
        Filesystem Changeset").
        """
        changes = list(entries)
        for entry in changes:
            folder, name = posixpath.split(entry.path)
            if entry.kind == "whiteout" and name == OPAQUE:
                self._remove_below(folder)
            elif entry.kind == "whiteout":
                self._remove(posixpath.join(folder, name[len(WHITEOUT) :]))
        for entry in changes:
            if entry.kind == "whiteout":
                continue
            old = self.entries.get(entry.path)
            if old is not None and (old.kind == "dir") != (entry.kind == "dir"):
                self._remove(entry.path)
            self.entries[entry.path] = replace(entry, yields=True)

    def add_parents(self) -> None:
        """State every folder above every entry that nobody stated."""
        for path in list(self.entries):
            for parent in parents(path):
                known = self.entries.get(parent)
                if known is not None and known.kind == "dir":
                    break  # its own parents are handled when the loop is at it
                self.add(implied_directory(parent, self.entries[path].package))

    def sorted(self) -> list[Entry]:
        """All entries in the order of a layer: by path, so parents come first."""
        return [self.entries[path] for path in sorted(self.entries)]

    def _remove(self, path: str) -> None:
        self.entries.pop(path, None)
        self._remove_below(path)

    def _remove_below(self, folder: str) -> None:
        for path in [path for path in self.entries if path.startswith(f"{folder}/" if folder else "")]:
            del self.entries[path]

    def _settle(self, old: Entry, new: Entry) -> Entry:
        if (old.kind == "dir") != (new.kind == "dir"):
            folder, other = (old, new) if old.kind == "dir" else (new, old)
            raise ToolError(
                f"/{new.path}: a {other.kind} of {other.package}, but a folder of {folder.package}"
            )
        if old.yields:
            return old if new.implied or old.is_same(new) else new
        if old.kind == "dir":
            return _settle_directories(old, new)
        if old.is_same(new):
            return old
        if new.override:
            return new
        if old.override:
            return old
        if new.package != old.package:
            new_wins = self._replaces(new.package, old.package)
            old_wins = self._replaces(old.package, new.package)
            if new_wins != old_wins:
                return new if new_wins else old
        raise ToolError(
            f"/{new.path}: in both {old.package} and {new.package}", kind="in-both", path=f"/{new.path}"
        )

    def _replaces(self, winner: str, loser: str) -> bool:
        return (
            winner in self.packages
            and loser in self.packages
            and self.packages[winner].replaces(self.packages[loser])
        )


def implied_directory(path: str, package: str = "") -> Entry:
    """A folder that a layer needs because of what lies below it."""
    mode, uid, gid = DIRECTORIES.get(path, DEFAULT_DIRECTORY)
    return Entry(path, "dir", mode, uid, gid, package=package, implied=True)


def _settle_directories(old: Entry, new: Entry) -> Entry:
    if new.implied or (old.statement == new.statement and not old.implied):
        return old
    if old.implied or new.override or old.statement == DEFAULT_DIRECTORY:
        return new
    if old.override or new.statement == DEFAULT_DIRECTORY:
        return old
    raise ToolError(f"/{new.path}: {old.describe()}, but {new.describe()}")
