"""Which Nix we start, and how: this machine's, or tungsten's own where there is none; and the store that it has.

Our own Nix is Debian's, unpacked below `home()` (`fetch/own_nix.py` brings it), and an ordinary program: a script
starts it by the loader that came with it, with its store in the same folder. So it needs neither root nor `/nix`, and
nothing of this machine's distribution. What a Nix must know of that stands in its own environment, and in no other's.
"""

from __future__ import annotations

import os
import pwd
import re
import shlex
import shutil
import subprocess
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tungstenkit.platforms import this_system
from tungstenkit.sdk.errors import BuildError, TungstenError
from tungstenkit.settings import MACHINE, OWN

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

VARIABLE = "TUNGSTEN_NIX"
"""Chooses the Nix: `own`, `machine`, or the path of one."""
HOME = "TUNGSTEN_HOME"
"""Names the folder of what is kept for all models."""
OWN_RELEASE, _OWN_NUMBER = "trixie", 1
"""The Debian release that our own Nix is from, and the number of what we take of it: a tungsten that wants something
else takes that beside what there is.
"""

MAKE_ROOM = "make room (`tungsten clean` says what may go, and removes it)"
"""What a full disk calls for, in the words of a hint."""
_STATE = Path("/nix/var/nix")
_PLAIN_PATH = re.compile(r"[A-Za-z0-9._+/-]+")
"""What every program that a build runs takes for a path, in a URL and in a shell, too."""


def home(environ: Mapping[str, str] = os.environ) -> Path:
    """Where this user keeps what is the same for all models: our own Nix, and a store (XDG Base Directory
    specification).

    Raises TungstenError for one that is named by a relative path, and for `/`: `/nix` is another's.
    """
    if named := environ.get(HOME, ""):
        if not Path(named).is_absolute() or Path(named).resolve() == Path("/"):
            raise TungstenError(
                f"{named!r} is no folder for tungsten",
                where=HOME,
                hint="name one of its own, by all of its path",
            )
        return Path(named).resolve()
    data = environ.get("XDG_DATA_HOME", "")
    # The specification says that a relative path is to be ignored. Nix takes no store behind a link.
    folder = Path(data) if Path(data).is_absolute() else Path.home() / ".local" / "share"
    return folder.resolve() / "tungsten"


def folder_of_nix(environ: Mapping[str, str] = os.environ) -> Path:
    """Where our own Nix is, and a user's store where there is no `/nix`."""
    return home(environ) / "nix"


def own_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """Where our own Nix of this tungsten is, or will be, whole."""
    return folder_of_nix(environ) / "own" / f"{OWN_RELEASE}-{_OWN_NUMBER}-{this_system()}"


_PLACES = {
    "NIX_STORE_DIR": "store",
    "NIX_STATE_DIR": "var/nix",
    "NIX_LOG_DIR": "var/log/nix",
    "NIX_LOCALSTATE_DIR": "var",
}


def store_variables(folder: Path) -> dict[str, str]:
    """What tells a Nix that its store is in a folder, and its paths where they say; the store's own comes first."""
    return {name: str(folder / place) for name, place in _PLACES.items()}


def own_settings(folder: Path) -> dict[str, str]:
    """What keeps our own Nix from what is set for a Nix of this machine, but for the store that somebody has named."""
    return {"NIX_CONF_DIR": str(folder / "etc"), "NIX_REMOTE": "local"}


@dataclass(frozen=True)
class Nix:
    """A Nix, as it is started."""

    folder: Path | None = None
    """Where its programs are; None where PATH finds them."""
    variables: Mapping[str, str] = field(default_factory=dict)
    """What its environment has beside ours."""
    is_own: bool = False

    @property
    def is_absent(self) -> bool:
        """Whether it is ours, and must be brought first; as where the folder has moved, which its script names."""
        if not self.is_own or self.folder is None:
            return False
        try:
            return str(self.folder.parent) not in (self.folder / "nix").read_text(encoding="utf-8")
        except OSError:
            return True

    @property
    def is_there(self) -> bool:
        """Whether it can be started."""
        return not self.is_absent and shutil.which(self.line(["nix-store"])[0]) is not None

    def line(self, command: Sequence[str]) -> list[str]:
        """A command of Nix's as it is started."""
        name, *arguments = command
        return [str(self.folder / name) if self.folder else name, *arguments]

    def for_a_shell(self, command: Sequence[str]) -> str:
        """The same as a user types it, for the store that we use."""
        if self.is_absent:
            return shlex.join(command)  # there is none here: it is for another machine
        given = [] if self.is_own else [f"{name}={value}" for name, value in self.variables.items()]
        return shlex.join([*(["env", *given] if given else []), *self.line(command)])


def choose(wish: str, environ: Mapping[str, str], state: Path = _STATE) -> Nix:
    """The Nix that a wish comes to, in an environment. wish: empty, `own`, `machine`, or the path of a `nix`."""
    is_machines = shutil.which("nix-store", path=environ.get("PATH", os.defpath)) is not None
    if wish == OWN or (not wish and not is_machines):
        folder = folder_of_nix(environ)
        stores = {name: environ.get(name) or value for name, value in store_variables(folder).items()}
        return Nix(own_folder(environ) / "bin", own_settings(folder) | stores, is_own=True)
    variables = store_variables(folder_of_nix(environ)) if _has_no_store(environ, state) else {}
    if wish in ("", MACHINE):
        return Nix(None, variables)
    path = Path(wish)
    programs = [path, path.with_name("nix-store")] if path.name == "nix" else []
    if not path.is_absolute() or not programs or not all(os.access(one, os.X_OK) for one in programs):
        raise TungstenError(
            f"{wish!r} is not the path of a `nix` that has its `nix-store` beside it",
            where=VARIABLE,
            hint=f"{VARIABLE}={OWN} brings Debian's; {VARIABLE}={MACHINE}, or nothing, takes the one on PATH",
        )
    return Nix(path.parent, variables)


def _has_no_store(environ: Mapping[str, str], state: Path) -> bool:
    """Whether a Nix would have no store by itself, or one whose paths are no paths of this machine.

    For a user without `/nix` Nix (2.10 and later) makes one below `~/.local/share/nix/root`, in which `/nix/store/x` is
    elsewhere.
    """
    chosen = {"NIX_STORE_DIR", "NIX_STATE_DIR"} & environ.keys()
    is_auto = environ.get("NIX_REMOTE", "") in ("", "auto")
    # As Nix chooses its store (Nix manual, `store` setting, "auto"); root makes `/nix`.
    return not chosen and is_auto and os.geteuid() != 0 and not state.exists()


class _Process:
    """The models that this process is about."""

    wish: str | None = None
    """Which Nix their `pyproject.toml` ask for; None before the first."""


def set_wish(wish: str) -> None:
    """Note which Nix a model asks for, `own`, `machine` or empty; the user's own variable comes before it.

    Raises TungstenError where another model of this process has another Nix by that: paths are of one store.
    """
    before = _Process.wish
    if before is not None and _chosen(before, _environ()) != _chosen(wish, _environ()):
        raise TungstenError(
            "a process has one Nix for all of its models, and this model asks for another than the one before",
            where="[tool.tungsten.nix] use",
            hint=f"{VARIABLE}={OWN} or {VARIABLE}={MACHINE}, in the environment, decides for all",
        )
    _Process.wish = wish


_READ = (VARIABLE, HOME, "XDG_DATA_HOME", "HOME", "PATH", "NIX_REMOTE", *_PLACES)


def current() -> Nix:
    """The Nix that we start. Raises TungstenError where a variable names one that is none."""
    return _chosen(_Process.wish or "", _environ())


def _environ() -> tuple[tuple[str, str], ...]:
    return tuple((name, os.environ[name]) for name in _READ if name in os.environ)


@cache
def _chosen(wish: str, environ: tuple[tuple[str, str], ...]) -> Nix:
    variables = dict(environ)
    return choose(variables.get(VARIABLE) or wish, variables)


def variable(name: str, default: str = "") -> str:
    """One of Nix's own variables, as the Nix that we start has it."""
    return current().variables.get(name) or os.environ.get(name, default)


def environment(*without: str) -> dict[str, str]:
    """That of the Nix that we start; `without` some variables."""
    kept = {name: value for name, value in os.environ.items() if name not in without}
    return {**kept, **_name_of_user(), **current().variables}


def _name_of_user() -> dict[str, str]:
    """A name for a user without an account, as a container's may be: Nix does not start without one."""
    if os.environ.get("USER"):
        return {}
    try:
        pwd.getpwuid(os.geteuid())
    except KeyError:
        return {"USER": str(os.geteuid())}
    return {}


def for_a_shell(*command: str) -> str:
    """A command of Nix's as a user types it, for the store that we use."""
    return current().for_a_shell(command)


def run(command: Sequence[str], **options: Any) -> subprocess.CompletedProcess[str]:  # noqa: ANN401 (subprocess's)
    """Run a command of Nix's to its end; what it prints is kept as text. Raises BuildError where there is no Nix."""
    with start(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options) as process:
        out, err = process.communicate()
    return subprocess.CompletedProcess(command, process.returncode, out, err)


def start(command: Sequence[str], nix: Nix | None = None, **options: Any) -> subprocess.Popen[str]:  # noqa: ANN401
    """Start a command of Nix's. Raises BuildError where there is no Nix, or no place for its store.

    nix: which, where it is another than `current`; options: subprocess's.
    """
    nix = nix or current()
    if nix.variables:
        make_store(*(nix.variables[name] for name in _PLACES), is_own=nix.is_own)
    program, *arguments = nix.line(command)
    try:
        # What it names, as other users' roots, may be of any bytes.
        return subprocess.Popen(
            [program, *arguments],
            text=True,
            errors="surrogateescape",
            **{"env": environment(), **options},
        )
    except FileNotFoundError:
        if shutil.which(program):
            raise  # the folder is missing that it was to be started in
        raise BuildError(
            f"Nix is not installed: there is no `{program}`" + ("" if nix.folder else " on PATH"),
            hint=f"{VARIABLE}={OWN} brings Debian's, and needs no root for it; or on Debian: apt-get install nix-bin; "
            "elsewhere see the Nix manual",
        ) from None


def unfit(place: Path) -> str | None:
    """Why no store can be in a folder, which need not be there yet. Raises OSError where it can't be looked at."""
    if not _PLAIN_PATH.fullmatch(str(place)):
        return "no store can be below a name with such letters"
    there = next(path for path in (place, *place.parents) if path.exists())
    if os.statvfs(there).f_flag & os.ST_NOEXEC:
        return "no program can be run there: the file system is mounted noexec"
    return None


@cache
def make_store(*folders: str, is_own: bool) -> None:
    """Make a user's store. Raises BuildError where none can be.

    folders: all that must be there, the store's own first.
    """
    place = Path(folders[0])
    try:
        problem = unfit(place)
        for path in folders if problem is None else ():
            Path(path).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        problem = error.strerror
    if problem is not None:
        of_roots = f"; or as root make /nix, and have it be this user's: `install -d -o {os.geteuid()} /nix`"
        raise BuildError(
            f"this user's own Nix store can't be made: {problem}",
            where=str(place.parent),
            hint=f"set {HOME} to another folder{'' if is_own else of_roots}",
        )
