"""Takes from today's mirrors what must really run in the tests, once, and keeps it: `python -m tests.frozen.take`.

What is taken are closures, solved as a user's models are: the examples, for every platform that a test builds for, the
tools and libraries that tests' own models use, tungsten's own Nix, and npm's 7-Zip; and what `pip install .` installs,
in the versions of requirements.lock. It lies below `.venv/`, so `make clean` lets go of it; until then every run stands
on the same files, and none asks a mirror again.
"""

import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
from collections import ChainMap
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from pysequoia import Tsk

from tests.frozen.archive import Archive, Deb, new_key
from tungstenkit.data import SEVEN_ZIP
from tungstenkit.debian.release import RELEASES
from tungstenkit.export.flake import bootstrap_urls
from tungstenkit.fetch import own_nix
from tungstenkit.fetch.download import download
from tungstenkit.fetch.locate import locate
from tungstenkit.fetch.machine_mirrors import find_mirrors
from tungstenkit.fetch.needs import LockedFile, needed_files
from tungstenkit.fetch.web import PARALLEL, Fetcher, get_bytes
from tungstenkit.platforms import ARCHITECTURES, Target
from tungstenkit.resolve.model import resolve
from tungstenkit.resolve.solver import Solver
from tungstenkit.sdk.errors import FetchError, GoneError, TungstenError
from tungstenkit.spec.read import read_spec

ROOT = Path(__file__).resolve().parent.parent.parent
TAKEN = ROOT / ".venv" / "frozen"
SOURCE = Path(__file__)
REQUIREMENTS = ROOT / "requirements.lock"
INSTALLED = "installed"
"""The folder in `TAKEN` of what installs tungsten itself."""
BOTH = tuple(ARCHITECTURES)
HERE = ("x86_64-linux",)

PYTHON = "3.11"
"""Of the tests' models that ask for none."""


@dataclass(frozen=True)
class Model:
    """A declaration whose closure is taken."""

    folder: Path
    systems: tuple[str, ...] = HERE
    python: str = ""
    debs: tuple[str, ...] = ()
    """More `system_packages`."""
    packages: tuple[str, ...] = ()
    """More `python_packages`."""


EXAMPLES = ROOT / "examples"
NATIVE = Path(__file__).with_name("native")
MODELS = (
    Model(EXAMPLES / "blur", BOTH, PYTHON),
    Model(EXAMPLES / "detection", python=PYTHON),
    Model(EXAMPLES / "caption", BOTH, debs=("libfaketime",)),
    Model(EXAMPLES / "iris"),
    Model(NATIVE, BOTH, PYTHON),
    # Compilers: a small one for RUN lines, and that of sources; the clock of second runs; the hub's own library.
    Model(
        NATIVE,
        python=PYTHON,
        debs=("gcc", "libc6-dev", "libfaketime", "tcc"),
        packages=("six", "huggingface_hub"),
    ),
)
DEBS = ("base-files", "libc-bin", "ca-certificates", "libgomp1", "mawk", "tini", "bash")
ALTERNATIVES = ("libopenblas0-pthread", "liblapack3", "xz-utils", "less")
"""What `tests/nix/tools/test_real_packages.py` makes roots of, beside each release's Python."""
PROGRAMS = ("bash-static", "busybox-static")
"""What is taken out of its package alone; a solve asks for all that the package needs, all the same."""


def roots():
    """For each release the packages of its roots: those that every root has, and those with alternatives."""
    final = {name: one for name, one in RELEASES.items() if one.is_final}
    return {name: ([f"python{one.python}-minimal", *DEBS], ALTERNATIVES) for name, one in final.items()}


class Quiet:
    """Who is told of bytes, and says nothing."""

    def start(self, files, size):
        """Nothing."""

    def advance(self, size):
        """Nothing."""

    def done(self, name):
        """Nothing."""


def of_models(solver):
    """The files of the models' closures, each with the places to get it from, by sha256."""
    found = {}
    for model in MODELS:
        spec = read_spec(model.folder)
        spec = spec.model_copy(
            update={
                "system_packages": (*spec.system_packages, *model.debs),
                "python_packages": (*spec.python_packages, *model.packages),
            }
        )
        own = replace(solver, directory=model.folder)
        lock = resolve(spec, own, None, systems=model.systems, python=model.python or None)
        files = [entry for entry in needed_files(lock) if not entry.is_own]
        urls = locate(files, lock, solver.mirrors)
        found |= {entry.sha256: (entry, urls[entry.sha256]) for entry in files}
    return found


def of_roots(solver):
    """The same of the roots, by release and system."""
    found = {}
    for name, (plain, alternatives) in roots().items():
        # Debian's other architectures are the first to go, once a release's support has ended.
        ended = RELEASES[name].supported_until < solver.mirrors.found.date()
        for system in HERE if ended else BOTH:
            target = Target(system, name, RELEASES[name].python)
            solution = solver.debs(target, {"system": [*plain, *alternatives, *PROGRAMS]}, "roots", ())
            timestamps = solver.releases[name].timestamps
            files = [LockedFile(deb.file, deb.size, deb.sha256, release=name) for deb in solution.debs]
            urls = {entry.sha256: solver.mirrors.urls(entry.file, timestamps) for entry in files}
            found[name, system] = {entry.sha256: (entry, urls[entry.sha256]) for entry in files}
    return found


def of_nix(solver):
    """The same of tungsten's own Nix, for this kind of machine."""
    (system,) = HERE
    index, debs = own_nix.solve(ARCHITECTURES[system], own_nix.Origin.of(solver.mirrors))
    files = [LockedFile(deb.file, deb.size, deb.sha256, release=index.release) for deb in debs]
    return {entry.sha256: (entry, solver.mirrors.urls(entry.file, index.timestamps)) for entry in files}


def take(target):
    """Bring everything into a folder, whole or not at all."""
    get = Fetcher()
    part = target.with_name(f"{target.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    (part / "files").mkdir(parents=True)
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes"]
    pip += ["--dest", part / INSTALLED, "--requirement", REQUIREMENTS]
    with tempfile.TemporaryDirectory() as scratch, subprocess.Popen(pip) as installed:
        mirrors = find_mirrors(get=get)
        for notice in mirrors.notices:
            print(notice)
        solver = Solver(mirrors, get, print, print, Path(scratch), Path(scratch))
        needed, nix, more = of_models(solver), of_nix(solver), of_roots(solver)
    if installed.returncode != 0:
        raise FetchError("pip can't download what requirements.lock names; it says why above")
    files = dict(ChainMap(needed, nix, *more.values()))
    size = sum(entry.size for entry, _ in files.values())
    print(f"taking {len(files)} files, {size / 1e6:.0f} MB", flush=True)

    def bring(entry, urls):
        try:
            return download(entry, urls, part / "files", Quiet())
        except GoneError:
            # A release whose support has ended leaves the mirrors piece by piece.
            if entry.sha256 in needed or entry.sha256 in nix:
                raise
            return None

    with ThreadPoolExecutor(PARALLEL) as pool:
        paths = dict(zip(files, pool.map(lambda one: bring(*one), files.values()), strict=True))
    here = [(entry, paths[sha256]) for sha256, (entry, _) in files.items() if paths[sha256]]
    ((place, (url,)),) = ((SEVEN_ZIP["file"], urls) for urls in bootstrap_urls(mirrors).values())
    (part / "seven-zip").write_bytes(get_bytes(url))
    (part / "key.pgp").write_bytes(bytes(new_key()))
    taken = {
        "debs": [
            _listed(entry, path, part, entry.sha256 in needed)
            for entry, path in here
            if entry.project is None
        ],
        "wheels": [str(path.relative_to(part)) for entry, path in here if entry.project is not None],
        "seven-zip": place,
        "roots": [" ".join(key) for key, closure in more.items() if all(map(paths.get, closure))],
    }
    (part / "taken.json").write_text(json.dumps(taken))
    shutil.rmtree(target, ignore_errors=True)
    part.rename(target)


def _listed(entry, path, part, may_be_locked):
    archive, _, pool_path = entry.file.removeprefix("mirror://").partition("/")
    deb = Deb.read_control(path, pool_path)
    # A lock looks for shared libraries alone in what an index says of files. To list them is to unpack them.
    if may_be_locked and deb.fields.get("Section") == "libs":
        deb = Deb.read(path, pool_path)
    return {
        "release": entry.release,
        "archive": archive,
        "deb": asdict(deb) | {"path": str(path.relative_to(part))},
    }


def archive_of(taken, folder):
    """An archive in a folder, of all that was taken; not published yet."""
    known = json.loads((taken / "taken.json").read_text())
    archive = Archive(folder, Tsk.from_bytes((taken / "key.pgp").read_bytes()))
    for one in known["debs"]:
        deb = Deb(**one["deb"] | {"path": taken / one["deb"]["path"], "files": tuple(one["deb"]["files"])})
        archive.add_deb(deb, one["release"], one["archive"])
    for place in known["wheels"]:
        archive.add_wheel(taken / place)
    archive.add_npm(taken / "seven-zip", known["seven-zip"].removeprefix("mirror://npm/"))
    return archive


def main():
    """Take, unless that was done since these lines were written."""
    stamp = hashlib.sha256(SOURCE.read_bytes() + REQUIREMENTS.read_bytes()).hexdigest()
    if (TAKEN / stamp).exists():
        return
    try:
        take(TAKEN)
    except TungstenError as problem:
        sys.exit(f"{problem}\n  (the tests that need real packages can't run without them)")
    (TAKEN / stamp).touch()


if __name__ == "__main__":
    main()
