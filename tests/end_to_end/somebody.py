"""An ordinary user for the tests: of nobody's account, with a HOME and a Nix store of their own, wherever Python and
the checkout lie.
"""

import os
import shlex
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tests.end_to_end.harness import ROOT
from tests.machine import need

UID = 54321


class Somebody:
    """A user who has a folder."""

    def __init__(self, folder, *, has_store=True, sees_roots=False):
        """Make what is theirs. folder: theirs, in one that all may enter. has_store: or there is no `/nix`, and they
        may make none. sees_roots: or there is root's.
        """
        need("root")
        if (nix := shutil.which("nix-store")) and Path(nix).resolve().is_relative_to("/nix"):
            pytest.skip("Nix itself lies in /nix, where a user's own store is to be")
        self.folder = folder
        self._nix = (
            ["--bind", str(folder / "nix")] if has_store else ["-t", "tmpfs", "-o", "mode=755", "tmpfs"]
        )
        if sees_roots:
            self._nix = ["--bind", "/nix"]
        self.home = folder / "home"
        self.shown = folder / "shown"
        for made in (folder / "nix" / "store", folder / "nix" / "var" / "nix", self.home, self.shown):
            made.mkdir(parents=True)
        self.own(folder)
        self.environment = {
            "USER": "somebody",
            "HOME": str(self.home),
            "TMPDIR": str(self.home),
            "XDG_CACHE_HOME": str(self.home / ".cache"),
        }

    def own(self, path):
        """Make a folder theirs, and all that is in it."""
        subprocess.run(["chown", "-R", f"{UID}:{UID}", path], check=True)

    @property
    def before(self):
        """What runs a command as them, with our environment but for what is theirs. Mounts are the command's alone."""
        lines = [*_way_to([ROOT, Path(sys.prefix), Path(sys.base_prefix)], self.shown)]
        lines += [
            shlex.join(["mount", *self._nix, "/nix"]),
            f'exec setpriv --reuid {UID} --regid {UID} --clear-groups "$@"',
        ]
        given = [f"{name}={value}" for name, value in self.environment.items()]
        unshare = ["unshare", "--mount", "--propagation=private", "sh", "-ec", "\n".join(lines), "sh"]
        return [*unshare, "env", "-C", "/", *given]


def path_without(folder, *beginnings):
    """A folder for PATH, made with all that is on ours but for programs whose names begin so."""
    folder.mkdir()
    for place in map(Path, os.environ["PATH"].split(":")):
        for program in place.iterdir() if place.is_dir() else ():
            if not program.name.startswith(beginnings) and not (folder / program.name).is_symlink():
                (folder / program.name).symlink_to(program)
    return folder


def _way_to(wanted, place):
    """Lines that show folders where they are to users who may not enter one above them, as where root's own Python is.

    place: an empty folder.
    """
    closed = {path: folder for path in wanted if (folder := _closed(path)) is not None}
    if not closed:
        return
    yield shlex.join(["mount", "-t", "tmpfs", "tmpfs", str(place)])
    for number, path in enumerate(closed):
        yield shlex.join(["mkdir", f"{place}/{number}"])
        yield shlex.join(["mount", "--rbind", str(path), f"{place}/{number}"])
    for folder in sorted(set(closed.values())):
        yield shlex.join(["mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", str(folder)])
    for number, path in enumerate(closed):
        yield shlex.join(["mkdir", "-p", str(path)])
        yield shlex.join(["mount", "--move", f"{place}/{number}", str(path)])


def _closed(path):
    """The topmost folder on the way to a path that others may not enter."""
    ways = (*reversed(path.resolve().parents), path.resolve())
    return next((folder for folder in ways[:-1] if not folder.stat().st_mode & stat.S_IXOTH), None)
