"""A release's sdist and wheel: the same bytes wherever and whenever they are made of the same files.

python -m tests.dist [OUT]    `make dist`: makes both of what git has, in two places that differ in all that a machine
                              may differ in, compares them, and writes them to OUT (default: dist)

What a file holds follows from its path in git and from pyproject.toml alone; `tests/test_dist.py` lists it.
"""

import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from dataclasses import dataclass
from datetime import timedelta
from hashlib import sha256
from pathlib import Path

from tests import clocks, generate
from tests.binaries import unpack
from tungstenkit.data import VERSION
from tungstenkit.lock.document import read_lock
from tungstenkit.lock.parts import Tungsten

ROOT = Path(__file__).resolve().parent.parent
BUILD = "import sys; from hatchling import build; getattr(build, sys.argv[1])(sys.argv[2])"


@dataclass(frozen=True)
class Place:
    """What of a machine could show in what is made there."""

    umask: int
    moment: int
    """When its files were written, in seconds since 1970."""
    owner: int
    """Who has written them, where that can be said."""
    variables: dict
    ahead: timedelta = timedelta()
    """How far its clock is moved, where that can be."""


HERE = Place(0o022, 1_600_000_000, 0, {"LC_ALL": "C", "TZ": "UTC", "PYTHONHASHSEED": "1"})
THERE = Place(
    0o077,
    1_700_000_000,
    65534,
    {
        "LC_ALL": "tr_TR.UTF-8",
        "TZ": clocks.EAST,
        "PYTHONHASHSEED": "2",
        "USER": "somebody",
        "HOME": "/nowhere",
    },
    timedelta(days=4000),
)


def tracked(folder=ROOT):
    """The files that git has, by their paths; an empty list where there is no git."""
    listed = subprocess.run(["git", "-C", folder, "ls-files", "-z"], capture_output=True, text=True)
    return [name for name in listed.stdout.split("\0") if name] if listed.returncode == 0 else []


def lay_out(files, folder, place, source=ROOT):
    """Files in a place as somebody may have them there; the order is another, too."""
    files = files if place is HERE else reversed(files)
    for name in files:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / name, path)
        is_program = os.access(source / name, os.X_OK)
        path.chmod((0o777 if is_program else 0o666) & ~place.umask)
        os.utime(path, (place.moment, place.moment))
        if os.geteuid() == 0:
            os.chown(path, place.owner, place.owner)
    return folder


def make(folder, out, place=HERE, kinds=("sdist", "wheel"), library=None):
    """Make of the files in a folder what is asked for; the bytes by file name.

    library: what moves a program's clock, where there is such.
    """
    out.mkdir()
    moved = library is not None and place.ahead
    variables = (
        clocks.environment(library, int(place.ahead.total_seconds()), "") if moved else dict(os.environ)
    )
    # Without it hatchling has a time of its own, the same for who has git and for who has not.
    variables.pop("SOURCE_DATE_EPOCH", None)
    for kind in kinds:
        command = [sys.executable, "-c", BUILD, f"build_{kind}", str(out)]
        subprocess.run(
            command,
            cwd=folder,
            env=variables | place.variables,
            umask=place.umask,
            check=True,
            capture_output=True,
        )
    return {path.name: path.read_bytes() for path in sorted(out.iterdir())}


def from_sdist(made, folder):
    """The wheel of an sdist, made in a folder, by its file name."""
    (name,) = (name for name in made if name.endswith(".tar.gz"))
    folder.mkdir()
    (folder / name).write_bytes(made[name])
    with tarfile.open(folder / name) as archive:
        unpack(archive, folder)
    return make(folder / name.removesuffix(".tar.gz"), folder / "out", THERE, ["wheel"])


def problems():
    """Why what stands here is no release yet."""
    if subprocess.run(["git", "status", "--porcelain"], cwd=ROOT, capture_output=True, check=True).stdout:
        yield "git has not got all that is here: commit it"
    headings = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    if headings[0] != VERSION:
        yield f"CHANGELOG.md begins with {headings[0]}, and this is {VERSION}"
    for path in generate.locks():
        if read_lock(path).tungsten != Tungsten.this():
            yield f"{path.relative_to(ROOT)} is another tungsten's: run `make pins`, and commit"


def main(out="dist"):
    if found := list(problems()):
        sys.exit("\n".join(["no release yet:", *found]))
    with tempfile.TemporaryDirectory() as scratch:
        scratch = Path(scratch)
        library = clocks.libfaketime(scratch)
        if library is None:
            print(f"the clock is not moved: {clocks.WITHOUT}")
        made = {}
        for name, place in (("here", HERE), ("there", THERE)):
            folder = lay_out(tracked(), scratch / name, place)
            made[name] = make(folder, scratch / f"{name}-out", place, library=library)
        again = from_sdist(made["here"], scratch / "sdist")
        if made["here"] != made["there"] or not again.items() <= made["here"].items():
            sys.exit("they differ: look at both with diffoscope, in two checkouts")
    Path(out).mkdir(exist_ok=True)
    for name, data in made["here"].items():
        (Path(out) / name).write_bytes(data)
        print(sha256(data).hexdigest(), Path(out) / name)


if __name__ == "__main__":
    main(*sys.argv[1:])
