"""The Nix store: the names and paths of fixed files in it, adding to it, and how we run Nix.

The rule for names is also in `nix/inputs/store-name.nix`; the rule for paths is Nix's own (Nix manual, "Store path
specification"). Both are computed here so that a lock's hundred files cost no hundred processes.
"""

from __future__ import annotations

import base64
import errno
import grp
import hashlib
import json
import os
import re
import stat
import subprocess
from enum import Enum
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from tungstenkit import nix_program
from tungstenkit.sdk.errors import FetchError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

_LONGEST_NAME = 160
_NIX_BASE32 = "0123456789abcdfghijklmnpqrsvwxyz"


def store_name(file: str) -> str:
    """The store name of a downloaded file; the same rule as `nix/inputs/store-name.nix`."""
    # Nix's strings are bytes: a letter of two bytes becomes two underscores there.
    name = re.sub(rb"[^A-Za-z0-9+._-]", b"_", os.fsencode(file)).decode()[-_LONGEST_NAME:]
    return f"_{name}" if name.startswith(".") else name


def file_path(sha256: str, name: str) -> str:
    """The store path of a flat file, from its sha256 in hexadecimal and its store name."""
    inner = hashlib.sha256(f"fixed:out:sha256:{sha256}:".encode()).hexdigest()
    return _path("output:out", inner, name)


def tree_path(sri: str, name: str) -> str:
    """The store path of a tree, from the sha256 of its Nix archive (SRI) and its store name."""
    return _path("source", base64.b64decode(sri.removeprefix("sha256-")).hex(), name)


def place() -> str:
    """The store's folder."""
    return nix_program.variable("NIX_STORE_DIR", "/nix/store")


def _path(kind: str, digest: str, name: str) -> str:
    store = place()
    full = hashlib.sha256(f"{kind}:sha256:{digest}:{store}:{name}".encode()).digest()
    folded = bytearray(20)
    for position, byte in enumerate(full):
        folded[position % 20] ^= byte
    return f"{store}/{_base32(folded)}-{name}"


def _base32(digest: bytes | bytearray) -> str:
    """Nix's spelling of 20 bytes."""
    number = int.from_bytes(digest, "little")
    return "".join(_NIX_BASE32[number >> 5 * place & 31] for place in reversed(range(32)))


BUILD_USERS_COMMAND = (
    "groupadd --system --force nixbld && for n in 1 2 3 4 5 6 7 8 9 10; do id -u nixbld$n >/dev/null 2>&1 ||"
    " useradd --system --no-create-home --home-dir /var/empty --shell /usr/sbin/nologin --no-user-group --gid nixbld"
    " --groups nixbld nixbld$n; done"
)
"""Makes the users that Nix builds as where root builds, as Debian's package nix-setup-systemd does; for a shell."""

_AUTO_ALLOCATE = (2, 12)
"""The Nix that learnt to build as users that nobody has made (its release notes)."""
_FIRST_ALLOCATED = 872415232
"""The first of them, by its id (Nix manual, `start-id`)."""


class Builders(Enum):
    """Whose processes builds are."""

    OWN = "whoever Nix's daemon or this user's own Nix builds as"
    USERS = "the machine's build users"
    ALLOCATED = "users that Nix takes for the time of a build"
    NONE = "root: there are no others"


def builders() -> Builders:
    """Whose processes the builds that we start would be."""
    if os.geteuid() != 0 or has_daemon() or not has_other_users():
        return Builders.OWN
    if _has_build_users():
        return Builders.USERS
    can_allocate = _nix_version() >= _AUTO_ALLOCATE and has_user(_FIRST_ALLOCATED)
    return Builders.ALLOCATED if can_allocate else Builders.NONE


def has_daemon() -> bool:
    """Whether the user says that a daemon has the store."""
    return nix_program.variable("NIX_REMOTE") == "daemon"


def options() -> list[str]:
    """The options that every command of Nix gets from us.

    A build that isn't sandboxed could see this machine, and Debian's Nix would fall back to that without a word. Root
    without build users is refused by Nix unless told; nothing is built so (`build.run_build`). Nothing of ours is in a
    public binary cache, and asking one that can't be reached costs seconds each time.
    """
    settings = {"sandbox": "true", "sandbox-fallback": "false", "substituters": ""}
    features = "nix-command flakes"
    ours = builders()
    if ours is Builders.ALLOCATED:
        settings["auto-allocate-uids"] = "true"
        features += " auto-allocate-uids"
    elif os.geteuid() == 0 and not has_daemon() and ours is not Builders.USERS:
        settings["build-users-group"] = ""
    named = (part for name, value in settings.items() for part in ("--option", name, value))
    return ["--extra-experimental-features", features, *named]


def configured() -> set[str]:
    """The settings that this machine's and this user's configuration of Nix name (nix.conf(5)); not their values."""
    home = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    folders = [home, *map(Path, os.environ.get("XDG_CONFIG_DIRS", "/etc/xdg").split(":"))]
    users = [folder / "nix" / "nix.conf" for folder in folders]
    if named := os.environ.get("NIX_USER_CONF_FILES"):
        users = [Path(path) for path in named.split(":")]
    system = Path(nix_program.variable("NIX_CONF_DIR", "/etc/nix"))
    found = _settings(os.environ.get("NIX_CONFIG", ""), system, set())
    for path in (system / "nix.conf", *users):
        found |= _settings(f"!include {path}", system, set())
    return found


def _settings(text: str, folder: Path, seen: set[Path]) -> set[str]:
    """The settings that a configuration names. folder: of its file. seen: files that are read already."""
    found = set()
    for line in text.splitlines():
        words = line.partition("#")[0].split()
        if words[1:2] == ["="]:
            found.add(words[0])
        elif (
            len(words) == 2
            and words[0] in ("include", "!include")
            and (path := folder / words[1]) not in seen
        ):
            seen.add(path)
            try:
                text = path.read_text(encoding="utf-8", errors="replace")
            except OSError:
                continue  # Nix will say so where it may not be left out
            found |= _settings(text, path.parent, seen)
    return found


def _has_build_users() -> bool:
    try:
        return bool(grp.getgrnam("nixbld").gr_mem)
    except KeyError:
        return False


def has_other_users() -> bool:
    """Whether this user namespace has more ids than ours: without, root is no more than whoever made it."""
    return sum(count for _, count in _user_ids()) > 1


def has_user(number: int) -> bool:
    """Whether this user namespace has an id; that of an engine that is an ordinary user's has not many."""
    return any(first <= number < first + count for first, count in _user_ids())


def _user_ids() -> list[tuple[int, int]]:
    """The ids of this user namespace: the first of each range, and how many they are (user_namespaces(7))."""
    lines = Path("/proc/self/uid_map").read_text(encoding="ascii").splitlines()
    return [(int(first), int(count)) for first, _outside, count in map(str.split, lines)]


def _nix_version() -> tuple[int, ...]:
    try:
        return _version_of(nix_program.current().line(["nix"])[0])
    except FileNotFoundError:
        return (0,)  # what starts it for more says so


@cache
def _version_of(program: str) -> tuple[int, ...]:
    run = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
    found = re.search(r"(\d+)\.(\d+)", run.stdout)
    return (int(found[1]), int(found[2])) if found else (0,)


def missing(paths: Sequence[str]) -> set[str]:
    """Those of the paths that are not in the store."""
    if not paths:
        return set()
    return set(_nix_store(["--check-validity", "--print-invalid", *paths]).split())


def is_ours() -> bool:
    """Whether what we build as could write the store, if it came to it: one user has both."""
    return builders() is Builders.OWN and not has_daemon() and os.access(place(), os.W_OK)


def built_from(path: str) -> list[str]:
    """All of the store that a path was built of, and what was built on the way."""
    (deriver,) = _nix_store(["--query", "--deriver", path]).split()
    return taken_by(deriver)


def taken_by(derivation: str) -> list[str]:
    """All of the store that a build of a derivation takes and makes, as far as it is there."""
    found = _nix_store(["--query", "--requisites", "--include-outputs", derivation]).split()
    return [one for one in found if not one.endswith(".drv") and os.path.lexists(one)]


def changed(paths: Sequence[str], since: Mapping[str, float] | None = None) -> list[str]:
    """Those of the paths whose content is not what it was when Nix took them in.

    What a change leaves, whoever may set the other times, is the time of the inode's own (stat(2), ctime). So only what
    was touched later is read, and compared with its hash: Nix touches files, too, where it links them into a sandbox.

    since: when paths were looked at before.
    """
    if not paths:
        return []
    command = ["nix", *options(), "path-info", "--json", *paths]
    run = nix_program.run(command)
    run.check_returncode()
    told = json.loads(run.stdout)
    # A list before Nix 2.19, an object by path since.
    entries = {one["path"]: one for one in told} if isinstance(told, list) else told
    # That time is in whole seconds.
    looked = since or {}
    touched = [
        path
        for path in paths
        if _touched(Path(path)) > max(entries[path]["registrationTime"] + 1, looked.get(path, 0))
    ]
    return modified(touched)


def modified(paths: Sequence[str]) -> list[str]:
    """Those of the paths whose content has not the hash that Nix knows; each is read."""
    if not paths:
        return []
    run = nix_program.run(["nix-store", *options(), "--verify-path", *paths])
    return [path for path in paths if f"path '{path}' was modified" in run.stderr]


def _touched(path: Path) -> float:
    """When anything of a tree was changed last."""
    latest = path.lstat().st_ctime
    for folder, folders, files in os.walk(path):
        latest = max(latest, *(os.lstat(f"{folder}/{name}").st_ctime for name in (*folders, *files)), 0)
    return latest


def add_files(files: Sequence[Path]) -> list[str]:
    """Add files under their own names; the store paths, in order."""
    return _here(_nix_store(["--add-fixed", "sha256", *map(str, files)]).split()) if files else []


def add_tree(folder: Path) -> str:
    """Add a folder under its own name; its store path."""
    return _here([_nix_store(["--add-fixed", "--recursive", "sha256", str(folder)]).strip()])[0]


def _here(added: list[str]) -> list[str]:
    """The paths, if they are where they say. Raises FetchError: by its configuration, a store may be elsewhere."""
    if added and not os.path.lexists(added[0]):
        raise FetchError(
            "Nix's store is elsewhere than its paths say, and images are made of what is at these paths",
            where=added[0],
            hint="leave `store` out of nix.conf, and NIX_REMOTE out of the environment; NIX_STORE_DIR and NIX_STATE_DIR"
            " name a store by its real place",
        )
    return added


def keep(paths: Iterable[str], roots: Path) -> None:
    """Hold paths against garbage collection, by links in a folder of the model's; what it held before is let go."""
    roots.mkdir(parents=True, exist_ok=True)
    # What holds nothing in the store is not ours to remove.
    before = {link for link in roots.iterdir() if leads_here(link)}
    made = _nix_store(["--realise", *sorted(set(paths)), "--add-root", str(roots / "input"), "--indirect"])
    # Only now: what both hold is held all the time.
    for old in before - {Path(link) for link in made.split("\n")}:
        old.unlink()


def holds(paths: Iterable[str], roots: Path) -> bool:
    """Whether the links of a folder hold these paths and no others, as `keep` leaves them."""
    try:
        links = {link: os.readlink(link) for link in roots.iterdir() if leads_here(link)}  # noqa: PTH115 (as written)
    except OSError:
        return False  # nothing is there, or no folder that can be read: `keep` says so
    return set(links.values()) == set(paths) and all(map(_is_root, links))


def is_held(path: str, link: Path) -> bool:
    """Whether a link holds a path against garbage collection."""
    return leads_here(link) and os.readlink(link) == path and _is_root(link)  # noqa: PTH115 (as written)


def _is_root(link: Path) -> bool:
    """Whether Nix knows a link of ours as a root: of a folder that was moved or copied, it does not.

    Its own link to it is called by the hash of where ours is (Nix, `LocalFSStore::addIndirectRoot`).
    """
    where = os.fsencode(link.absolute())
    name = _base32(hashlib.sha1(where, usedforsecurity=False).digest())
    state = nix_program.variable("NIX_STATE_DIR", "/nix/var/nix")
    try:
        return os.readlink(f"{state}/gcroots/auto/{name}") == os.fsdecode(where)  # noqa: PTH115 (as written)
    except OSError:
        return False


def leads_here(link: Path) -> bool:
    """Whether a path is a link into the store."""
    if not link.is_symlink():
        return False
    target = os.readlink(link)  # noqa: PTH115 (as it is written)
    return target.startswith(f"{place()}/") and ".." not in target.split("/")


def foreign(folder: Path, skip: Sequence[str] = ()) -> str | None:
    """What in a folder of our state is not of our making: a link that leads out of the store, or another user's file.

    skip: folders at its top that are looked at from outside alone. None where all is ours, or nothing is there.
    """
    waiting = [folder]
    while waiting:
        path = waiting.pop()
        try:
            info = path.lstat()
        except FileNotFoundError:
            continue
        if stat.S_ISLNK(info.st_mode):
            if path == folder or not leads_here(path):
                return f"{path} is a link to {os.readlink(path)!a}"  # noqa: PTH115
        elif info.st_uid != os.geteuid():
            return f"{path} is the user {info.st_uid}'s"
        elif stat.S_ISDIR(info.st_mode):
            if path.parent != folder or path.name not in skip:
                waiting += path.iterdir()
        elif not stat.S_ISREG(info.st_mode):
            return f"{path} is neither a file nor a folder"
    return None


def hold(path: str, link: Path) -> None:
    """Hold one path more against garbage collection, by a link."""
    link.parent.mkdir(parents=True, exist_ok=True)
    _nix_store(["--realise", path, "--add-root", str(link), "--indirect"])


def _nix_store(arguments: Sequence[str]) -> str:
    run = nix_program.run(["nix-store", *options(), *arguments])
    if run.returncode != 0:
        raise FetchError(
            f"Nix refused: {run.stderr.strip()}",
            where=f"nix-store {arguments[0]}",
            hint="make room"
            if os.strerror(errno.ENOSPC) in run.stderr
            else f"`{nix_program.for_a_shell('nix', 'doctor')}` may tell more",
        )
    return run.stdout
