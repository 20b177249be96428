"""A lock's files are read, what they lack is added, and what was read once is not downloaded again."""

import hashlib
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.binaries import AARCH64, deb, elf, wheel
from tungstenkit.debian import solution
from tungstenkit.debian.solution import DebSolution
from tungstenkit.lock.document import read_lock
from tungstenkit.lock.packages import Deb, Wheel
from tungstenkit.lock.parts import Choice
from tungstenkit.resolve.image_debs import add_debs
from tungstenkit.sdk.errors import FetchError
from tungstenkit.seal import libraries
from tungstenkit.seal.libraries import add_libraries

EXAMPLE = Path(__file__).resolve().parent.parent.parent.parent / "examples" / "blur" / "tungsten.lock"
SYSTEM = "x86_64-linux"
LIB = "usr/lib/x86_64-linux-gnu"
MODULE = "m.cpython-311-x86_64-linux-gnu.so"


class Progress:
    def __init__(self):
        self.started = []

    def start(self, files, size):
        self.started.append(files)


class World:
    """Files that can be downloaded, Debian packages that can be added, and what was asked for."""

    def __init__(self, tmp_path, monkeypatch):
        self.monkeypatch = monkeypatch
        self.folder = tmp_path / "files"
        self.cache = tmp_path / "cache"
        self.paths = {}
        self.downloaded = []
        self.archive = {}
        self.notices = []
        self.reports = []
        self.contents = {
            "libGL.so.1": ("libgl1",),
            "libX11.so.6": ("libx11-6",),
            "libzbar.so.0": ("libzbar0",),
        }
        monkeypatch.setattr(libraries, "add_debs", self.add_debs)
        monkeypatch.setattr(libraries, "fetch_libraries", lambda *_arguments, **_options: self.contents)

    def _file(self, path):
        content = path.read_bytes()
        sha256 = hashlib.sha256(content).hexdigest()
        self.paths[sha256] = path
        return {"size": len(content), "sha256": sha256}

    def wheel(self, project, files, requires=()):
        path = wheel(self.folder / str(len(self.paths)) / f"{project}-1-py3-none-any.whl", files, requires)
        return Wheel(project=project, version="1", file=path.name, **self._file(path))

    def deb(self, name, files):
        path = deb(self.folder / f"{name}_1_amd64.deb", files)
        file = f"mirror://debian/pool/{path.name}"
        return Deb(
            name=name, version="1", architecture="amd64", file=file, group="system", **self._file(path)
        )

    def lock(self, *wheels):
        lock = read_lock(EXAMPLE)
        platform = lock.platforms[SYSTEM].model_copy(update={"wheels": wheels, "debs": ()})
        choices = (Choice(kind="python", subject="s", chosen="c", reason="r"),)
        return lock.model_copy(update={"platforms": {SYSTEM: platform}, "choices": choices})

    def get(self, entry):
        self.downloaded.append(entry.file.rpartition("/")[2])
        return self.paths[entry.sha256]

    def add_debs(self, lock, spec, solver, previous, made):
        (choices,) = made.values()
        names = sorted({c.chosen for c in choices} - {"nothing"})
        platform = lock.platforms[SYSTEM]
        platform = platform.model_copy(update={"debs": tuple(self.archive[name] for name in names)})
        return lock.model_copy(update={"platforms": {SYSTEM: platform}, "choices": (*lock.choices, *choices)})

    def add(self, lock, previous=None, gone=()):
        """gone: the packages whose files are nowhere to be had."""
        spec = SimpleNamespace(libraries={})
        solver = SimpleNamespace(
            index=lambda _target: None,
            get=None,
            notice=self.notices.append,
            report=self.reports.append,
            unlisted=SimpleNamespace(package=lambda deb, _release: None if deb.name in gone else deb),
        )
        workshop = SimpleNamespace(
            spec=spec, solver=solver, previous=previous, base_libraries={}, get=self.get, progress=Progress()
        )
        return add_libraries(lock, workshop, cache=self.cache)


@pytest.fixture
def world(tmp_path, monkeypatch):
    return World(tmp_path, monkeypatch)


def names(lock):
    return [deb.name for deb in lock.platforms[SYSTEM].debs]


def test_a_lock_that_lacks_nothing_stays_as_it_is(world):
    lock = world.lock(world.wheel("a", {MODULE: elf(module="m")}))
    assert world.add(lock) == lock
    assert world.notices == []
    assert world.reports == ["looking for the shared libraries that packages have and need"]
    assert world.add(lock) == lock
    assert len(world.reports) == 1


def test_what_an_added_package_lacks_is_added_too(world):
    world.archive = {
        "libgl1": world.deb("libgl1", {f"{LIB}/libGL.so.1": elf("libX11.so.6")}),
        "libx11-6": world.deb("libx11-6", {f"{LIB}/libX11.so.6": elf()}),
    }
    lock = world.add(world.lock(world.wheel("cv", {MODULE: elf("libGL.so.1", module="m")})))
    assert names(lock) == ["libgl1", "libx11-6"]
    assert [(c.kind, c.subject, c.chosen) for c in lock.choices] == [
        ("python", "s", "c"),
        ("library", "cv needs libGL.so.1", "libgl1"),
        ("library", "libgl1 needs libX11.so.6", "libx11-6"),
    ]
    assert world.notices == []
    # A hundred megabytes of text.
    assert "reading which libraries Debian bookworm's packages have" in world.reports


@pytest.mark.parametrize(
    ("contents", "gone", "taken"),
    [
        # Another one has it, too, by a name that would come first.
        ({"libGL.so.1": ("libgl1",), "x": ("libgl-old",)}, (), "libgl-old"),
        # It has left the archive altogether, and its file is there.
        ({"libGL.so.1": ("libgl1",)}, (), "libgl-old"),
        ({}, (), "libgl-old"),
        ({"libGL.so.1": ("libgl1",)}, ("libgl-old",), "libgl1"),
    ],
)
def test_what_was_locked_for_a_library_is_asked_for_again(world, contents, gone, taken):
    files = {f"{LIB}/libGL.so.1": elf()}
    world.archive = {name: world.deb(name, files) for name in ("libgl1", "libgl-old")}
    lock = world.lock(world.wheel("cv", {MODULE: elf("libGL.so.1", module="m")}))
    world.contents = {"libGL.so.1": ("libgl-old",)}
    before = world.add(lock)
    assert names(before) == ["libgl-old"]
    world.contents = contents
    assert names(world.add(lock, before, gone)) == [taken]


def test_what_is_only_told_is_recorded_and_ends(world):
    lock = world.add(world.lock(world.wheel("a", {MODULE: elf("libodd.so.1", module="m")})))
    assert names(lock) == []
    assert [c.subject for c in lock.choices][1:] == ["a needs libodd.so.1"]


def test_a_package_that_does_not_help_is_not_asked_for_for_ever(world):
    world.archive = {"libgl1": world.deb("libgl1", {"usr/share/doc": b""})}
    lock = world.add(world.lock(world.wheel("cv", {MODULE: elf("libGL.so.1", module="m")})))
    assert names(lock) == ["libgl1"]


def test_a_relock_downloads_only_what_it_has_not_seen(world):
    world.archive = {"libzbar0": world.deb("libzbar0", {f"{LIB}/libzbar.so.0": elf()})}
    first = world.add(world.lock(world.wheel("pyzbar", {"pyzbar.py": ""})))
    assert sorted(world.downloaded) == ["libzbar0_1_amd64.deb", "pyzbar-1-py3-none-any.whl"]
    world.downloaded.clear()
    again = world.lock(world.wheel("pyzbar", {"pyzbar.py": ""}), world.wheel("b", {}))
    assert names(world.add(again)) == names(first)
    assert world.downloaded == ["b-1-py3-none-any.whl"]


def test_what_cant_be_had_is_an_error_and_nothing_is_kept_of_it(world):
    def get(entry):
        raise FetchError("no connection", where=entry.file)

    world.get = get
    with pytest.raises(FetchError, match="no connection"):
        world.add(world.lock(world.wheel("a", {})))
    assert not list(world.cache.rglob("*.json*"))


def test_platforms_that_need_the_same_say_it_once(world):
    other = "aarch64-linux"
    lock = world.lock(world.wheel("cv", {MODULE: elf("libodd.so.1", module="m")}))
    files = {"m.cpython-311-aarch64-linux-gnu.so": elf("libodd.so.1", module="m", machine=AARCH64)}
    arm = lock.platforms[SYSTEM].model_copy(update={"wheels": (world.wheel("cv", files),)})
    found = {}

    def add_debs(lock, spec, solver, previous, made):
        found.update(made)
        return lock

    world.monkeypatch.setattr(libraries, "add_debs", add_debs)
    world.add(lock.model_copy(update={"platforms": {**lock.platforms, other: arm}}))
    assert found[SYSTEM] == found[other]


def test_the_image_is_solved_again_with_what_was_chosen():
    asked = []

    def debs(target, groups, where, prefer):
        asked.append((groups, where, [deb.version for deb in prefer if deb.name == "libc6"]))
        return DebSolution([], [solution.Decision("virtual", "a depends on b", "c", "r")])

    lock = read_lock(EXAMPLE)
    libc = next(deb for deb in lock.platforms[SYSTEM].debs if deb.name == "libc6")
    made = Choice(kind="library", subject="cv needs libGL.so.1", chosen="libgl1", reason="r")
    told = Choice(kind="library", subject="b", chosen="nothing", reason="r")
    spec = SimpleNamespace(system_packages=[], commands=None)
    grown = add_debs(lock, spec, SimpleNamespace(debs=debs), None, {SYSTEM: [made, told]})
    ((groups, where, versions),) = asked
    assert "[tool.tungsten.libraries]" in where
    assert (groups["system"], versions) == (["libgl1"], [libc.version])
    assert [choice.kind for choice in grown.choices] == ["python", "virtual", "library", "library"]
    assert grown.platforms[SYSTEM].wheels == lock.platforms[SYSTEM].wheels
