"""`make image` on mirrors that have moved on since the example was locked, and on today's."""

import os
import secrets
import subprocess
import sys
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.conftest import MACHINES_OWN
from tests.end_to_end.conftest import copy_example
from tests.end_to_end.harness import ROOT, remove_images, succeed, tungsten
from tests.frozen import moved, served, take
from tests.frozen.archive import link
from tungstenkit.fetch.needs import needed_files
from tungstenkit.lock.document import LOCK_NAME, packages, read_lock

PROGRAM = ROOT / "examples" / "try_image.py"
BEGUN = datetime.now(UTC)
GONE = "A file that the lock names has left every mirror: locking again. The digest will differ."


@pytest.fixture
def example(tmp_path):
    """Copies an example under a name of its own; its image is removed in the end."""
    made = []

    def copy(name):
        made.append(f"{name}-{secrets.token_hex(4)}")
        return copy_example(name, tmp_path / made[-1])

    yield copy
    remove_images(*(f"localhost/{name}:latest" for name in made))


@pytest.fixture(scope="module")
def days(frozen, lock_of):
    """The frozen archive on three days, each with newer versions of all than the one before."""
    lock = read_lock(lock_of("blur"))
    needed = {one.name for one in packages(lock)}
    with tempfile.TemporaryDirectory(dir=take.TAKEN, prefix="days-") as folder:
        archives = []
        for number, day in enumerate(("day1", "day2", "day3")):
            archives.append(moved.later(frozen.archive, Path(folder) / day, day, needed))
            archives[-1].publish(BEGUN + timedelta(seconds=number))
        yield archives


WITH_OUR_KEY = f"""
import importlib.util, pathlib, sys
spec = importlib.util.spec_from_file_location("try_image", sys.argv.pop(1))
program = importlib.util.module_from_spec(spec)
spec.loader.exec_module(program)
program.TUNGSTEN = {served.TUNGSTEN!r}
program.ROOT = pathlib.Path(sys.argv[1])
program.main()
"""


def names(folder):
    return {entry.file for entry in needed_files(read_lock(folder / LOCK_NAME))}


def lock_on(day, folder):
    with served.serve(day) as mirror:
        succeed("lock", folder, "--python", take.PYTHON, env=clean(mirror))


def clean(mirror):
    return {name: value for name, value in mirror.environment.items() if value is not None}


def test_what_has_left_the_index_alone_is_still_fetched(days, example):
    """Debian's pool keeps a file for a while, and an index of Python packages for ever."""
    folder = example("blur")
    lock_on(days[0], folder)
    before = (folder / LOCK_NAME).read_bytes()
    for found in days[0].debs.values():
        for deb in found:
            kind = "debian-security" if "pool/updates" in deb.pool else "debian"
            link(deb.path, days[1].folder / kind / deb.pool)
    for files in days[0].files.values():
        for path in files.values():
            days[1].add_wheel(path)
    days[1].publish(BEGUN + timedelta(seconds=1))
    with served.serve(days[1]) as mirror:
        done = tungsten("fetch", folder, env=clean(mirror))
    assert done.returncode == 0, done.stderr
    assert (folder / LOCK_NAME).read_bytes() == before


def test_what_has_left_the_pool_is_locked_again_and_works(days, example, tmp_path):
    folder = example("blur")
    lock_on(days[1], folder)
    before = names(folder)
    with served.serve(days[2]) as mirror:
        command = [sys.executable, "-c", WITH_OUR_KEY, str(PROGRAM), str(folder)]
        done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **clean(mirror)})
    assert done.returncode == 0, done.stdout + done.stderr
    said = done.stdout.splitlines()
    assert said[0] == GONE
    assert [line.split()[0] for line in said if line != GONE] == ["prediction", "image", "digest", "image"]
    after = names(folder)
    assert len(after) == len(before)
    assert {name.replace("day2", "day3") for name in before} == after

    # The same where there is no engine: its root answers.
    programs = without_engines(tmp_path / "bin")
    alone = subprocess.run(
        [*command[:-1], str(folder)],
        capture_output=True,
        text=True,
        env={**os.environ, "PATH": str(programs)},
    )
    assert alone.returncode == 0, alone.stdout + alone.stderr
    assert "there is no podman, and no docker with a daemon" in " ".join(alone.stderr.split())
    digests = [
        [line for line in text.splitlines() if line.startswith("digest")]
        for text in (done.stdout, alone.stdout)
    ]
    assert digests[0] == digests[1]


def without_engines(folder):
    """A folder with the programs that are on PATH, but for what runs containers."""
    folder.mkdir()
    for place in os.environ["PATH"].split(os.pathsep):
        for program in Path(place).glob("*"):
            if program.name not in ("podman", "docker") and not os.path.lexists(folder / program.name):
                (folder / program.name).symlink_to(program)
    return folder


@pytest.mark.upstream
@pytest.mark.parametrize(
    "name", ["blur", *(pytest.param(name, marks=pytest.mark.soak) for name in ("caption", "detection"))]
)
def test_on_todays_mirrors(name, example, upstream):
    """From the committed lock where its files can be had, else from a new one."""
    folder = example(name)
    (folder / LOCK_NAME).write_bytes((ROOT / "examples" / name / LOCK_NAME).read_bytes())
    done = subprocess.run([sys.executable, PROGRAM, folder], capture_output=True, text=True, env=MACHINES_OWN)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "prediction" in done.stdout
