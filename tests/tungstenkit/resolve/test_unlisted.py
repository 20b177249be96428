"""An archive and an index that have moved on: pins stay as long as their files can be had, wherever that is.

Both are served on loopback, and are made of files that are read as Debian's and the Python index's are.
"""

import shutil
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.binaries import deb, wheel
from tests.frozen.archive import Archive, Deb, new_key
from tests.frozen.served import serve
from tests.tungstenkit.locks import deb as locked_deb
from tests.tungstenkit.locks import wheel as locked_wheel
from tungstenkit.debian import release as debian_release
from tungstenkit.digest import measure
from tungstenkit.fetch.mirrors import Mirrors
from tungstenkit.fetch.web import get_bytes
from tungstenkit.lock.parts import LockedRelease
from tungstenkit.platforms import Target
from tungstenkit.resolve.debs import locked_debs
from tungstenkit.resolve.solver import Solver
from tungstenkit.resolve.unlisted import Unlisted
from tungstenkit.sdk.errors import FetchError, GoneError
from tungstenkit.seal.workshop import Workshop
from tungstenkit.watch import UNWATCHED

TARGET = Target("x86_64-linux", "bookworm", "3.11")
MOMENT = "20260101T000000Z"


@dataclass
class Day:
    """What one day's mirrors have, and a store that keeps what was in it."""

    folder: Path
    key: object
    debs: list = field(default_factory=list)
    wheels: list = field(default_factory=list)

    def deb(self, name, version="1", **control):
        path = deb(self.folder / "made" / f"{name}_{version}_amd64.deb", control=control)
        self.debs.append(Deb.read(path))
        return path

    def wheel(self, name, version="1", requires=()):
        path = wheel(
            self.folder / "made" / f"{name}-{version}-py3-none-any.whl", {f"{name}.py": ""}, requires
        )
        self.wheels.append(path)
        return path

    def serve(self):
        archive = Archive(self.folder / "archive", self.key)
        for one in self.debs:
            archive.add_deb(one, "bookworm")
        for path in self.wheels:
            archive.add_wheel(path)
        archive.publish(datetime(2026, 3, 1, tzinfo=UTC))
        return serve(archive)


@pytest.fixture
def day(tmp_path, monkeypatch):
    """Makes days of one archive."""
    key, count = new_key(), iter(range(9))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return lambda: Day(tmp_path / str(next(count)), key)


@dataclass
class Here:
    """A solver on this machine, whose store is a folder."""

    solver: Solver
    asked: list


@pytest.fixture
def here(tmp_path, monkeypatch):
    def make(served, store=(), *, bring=None):
        monkeypatch.setattr(debian_release, "PINNED", served.keys / "archive_keys.json")
        monkeypatch.setattr(debian_release, "KEYRING_FOLDERS", (served.keys,))
        mirrors = Mirrors(
            (f"{served.url}/debian",),
            (f"{served.url}/debian-security",),
            f"{served.url}/pypi/simple",
            None,
            datetime(2026, 3, 2, tzinfo=UTC),
        )
        files = {measure(path)[1]: path for path in store}
        asked = []

        def from_store_or_mirror(entry):
            asked.append(entry)
            if entry.sha256 in files:
                return files[entry.sha256]
            (tmp_path / "downloads").mkdir(exist_ok=True)
            return Workshop(None, tmp_path, None, None, {}, solver, UNWATCHED, UNWATCHED).get(entry)

        releases = {"bookworm": LockedRelease(suites=(), timestamps={"debian": MOMENT})}
        solver = Solver(
            mirrors,
            get_bytes,
            lambda _text: None,
            lambda _text: None,
            tmp_path,
            tmp_path,
            unlisted=Unlisted(bring or from_store_or_mirror, releases),
        )
        return Here(solver, asked)

    # No snapshot service is asked by a test, and none is waited for.
    monkeypatch.setattr("tungstenkit.fetch.mirrors.SNAPSHOT", "http://127.0.0.1:9/archive")
    monkeypatch.setattr("tungstenkit.fetch.download._PAUSES", (0,))
    return make


def pin_of(path, **fields):
    """A .deb as a lock has it."""
    name, version, architecture = path.stem.split("_")
    size, sha256 = measure(path)
    values = {
        "file": f"mirror://debian/pool/main/{name[0]}/{path.name}",
        "architecture": architecture,
        "size": size,
        "sha256": sha256,
    }
    return locked_deb(name, version, **{**values, **fields})


def wheel_pin_of(path, **fields):
    project, version, *_ = path.name.split("-")
    size, sha256 = measure(path)
    return locked_wheel(project, version, file=path.name, size=size, sha256=sha256, **fields)


def solved(here, names, pins):
    return locked_debs(here.solver.debs(TARGET, {"system": names}, "system_packages", pins))


def taken(debs):
    return {deb.name: deb.version for deb in debs}


class TestDebs:
    @pytest.fixture
    def days(self, day):
        """A package with what it needs; and a later day, on which all is newer and one more is there."""
        first, later = day(), day()
        old = [first.deb("tool", "1", Depends="lib (>= 1)"), first.deb("lib", "1")]
        later.deb("tool", "2", Depends="lib (>= 2)")
        later.deb("lib", "2")
        later.deb("more", "2", Depends="lib (>= 1), more-data")
        later.deb("more-data", "2")
        return old, later

    def test_what_is_in_the_store_stays_and_one_package_more_adds_its_closure_alone(self, days, here):
        old, later = days
        pins = [pin_of(path) for path in old]
        with later.serve() as served:
            machine = here(served, old)
            debs = solved(machine, ["tool", "more"], pins)
        assert taken(debs) == {"lib": "1", "tool": "1", "more": "2", "more-data": "2"}
        assert {deb.name: deb.snapshot for deb in debs if deb.snapshot} == {"lib": MOMENT, "tool": MOMENT}
        stay = [deb.model_copy(update={"snapshot": None, "needed_by": ()}) for deb in debs[:1]]
        assert stay == [pin.model_copy(update={"source": "lib (1)"}) for pin in pins if pin.name == "lib"]
        assert machine.solver.record.moved == {}
        found = {one.name: newest for one, newest in machine.solver.record.newer.items()}
        assert found == {"lib": "2", "tool": "2"}

    def test_what_is_in_the_pool_alone_is_downloaded_and_its_control_data_are_kept(self, days, here):
        old, later = days
        with later.serve() as served:
            for path in old:
                place = served.archive.folder / "debian" / "pool" / "main" / path.name[0] / path.name
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, place)
            machine = here(served)
            assert taken(solved(machine, ["tool"], [pin_of(path) for path in old])) == {
                "lib": "1",
                "tool": "1",
            }
            # What is kept does not say that the file is still to be had.
            for path in old:
                (served.archive.folder / "debian" / "pool" / "main" / path.name[0] / path.name).unlink()
            again = here(served, bring=gone)
            assert taken(solved(again, ["tool"], [pin_of(path) for path in old])) == {"lib": "2", "tool": "2"}

    def test_what_is_nowhere_moves_and_says_so(self, days, here):
        (tool, lib), later = days
        with later.serve() as served:
            machine = here(served, [tool])
            assert taken(solved(machine, ["tool"], [pin_of(tool), pin_of(lib)])) == {"lib": "2", "tool": "1"}
        assert [(one, why) for one, why in machine.solver.record.moved.items()] == [
            (
                ("x86_64-linux", "deb", "lib", "1"),
                "no index lists it any more, and its file is nowhere to be had",
            )
        ]

    def test_what_the_index_lists_is_not_looked_for(self, day, here):
        first = day()
        path = first.deb("tool", "1")
        first.deb("tool", "2")
        with first.serve() as served:
            machine = here(served)
            (found,) = solved(machine, ["tool"], [pin_of(path)])
        assert (found.version, found.snapshot, machine.asked) == ("1", None, [])

    def test_a_network_that_fails_moves_nothing(self, days, here):
        old, later = days

        def cut(entry):
            raise FetchError("no connection", where=entry.file)

        with later.serve() as served, pytest.raises(FetchError, match="no connection"):
            solved(here(served, bring=cut), ["tool"], [pin_of(path) for path in old])

    def test_a_file_counts_by_its_hash_alone(self, days, here):
        """Whoever has the mirror puts another package at a pin's place."""
        (tool, lib), later = days
        with later.serve() as served:
            place = served.archive.folder / "debian" / "pool" / "main" / "l" / lib.name
            place.write_bytes(deb(later.folder / "evil" / lib.name, {"usr/bin/evil": b""}).read_bytes())
            machine = here(served, [tool])
            assert taken(solved(machine, ["tool"], [pin_of(tool), pin_of(lib)])) == {"lib": "2", "tool": "1"}
        (why,) = machine.solver.record.moved.values()
        assert why.endswith("what has its file's name is another file")

    @pytest.mark.parametrize(
        ("name", "control", "why"),
        [
            ("other", {}, "its file says that it is 'other 1 amd64'"),
            ("lib", {"Depends": "no relation!"}, "a package can't be read"),
        ],
    )
    def test_a_file_that_is_not_what_its_lock_says_is_none(self, days, here, tmp_path, name, control, why):
        (tool, _), later = days
        other = deb(tmp_path / "other" / f"{name}_1_amd64.deb", control=control)
        pin = pin_of(other).model_copy(
            update={"name": "lib", "file": "mirror://debian/pool/main/l/lib_1_amd64.deb"}
        )
        with later.serve() as served:
            machine = here(served, [tool, other])
            assert taken(solved(machine, ["tool"], [pin_of(tool), pin])) == {"lib": "2", "tool": "1"}
        (said,) = machine.solver.record.moved.values()
        assert why in said

    def test_another_file_of_the_same_version_is_the_indexs_to_say(self, day, here):
        first = day()
        path = first.deb("tool", "1")
        with first.serve() as served:
            machine = here(served)
            (found,) = solved(machine, ["tool"], [pin_of(path).model_copy(update={"sha256": "1" * 64})])
        assert found.sha256 == measure(path)[1]
        assert list(machine.solver.record.moved.values()) == ["the index has another file of this version"]

    def test_its_snapshot_is_that_of_the_lock_that_found_it_last(self, days, here):
        old, later = days
        pins = [pin_of(path, snapshot="20250101T000000Z") for path in old]
        with later.serve() as served:
            machine = here(served, old)
            debs = solved(machine, ["tool"], pins)
        assert {deb.snapshot for deb in debs} == {"20250101T000000Z"}
        assert {entry.snapshot for entry in machine.asked} == {"20250101T000000Z"}


def gone(entry):
    raise GoneError("is nowhere", where=entry.file)


class TestWheels:
    @pytest.fixture
    def days(self, day):
        first, later = day(), day()
        old = [first.wheel("tool", "1.0", ["lib"]), first.wheel("lib", "1.0")]
        later.wheel("tool", "2.0", ["lib>=2"])
        later.wheel("lib", "2.0")
        later.wheel("more", "2.0", ["lib>=1", "extra"])
        later.wheel("extra", "2.0")
        return old, later

    def solved(self, machine, requirements, pins):
        wheels = machine.solver.wheels(TARGET, requirements, "python_packages", pins)
        return {one.project: one.version for one in wheels}

    def test_what_was_deleted_stays_and_one_package_more_adds_its_closure_alone(self, days, here):
        old, later = days
        pins = [wheel_pin_of(path) for path in old]
        with later.serve() as served:
            machine = here(served, old)
            wheels = machine.solver.wheels(TARGET, ["tool", "more"], "python_packages", pins)
        assert {one.project: one.version for one in wheels} == {
            "extra": "2.0",
            "lib": "1.0",
            "more": "2.0",
            "tool": "1.0",
        }
        known = {pin.project: pin for pin in pins}
        for one in wheels:
            if one.project in known:
                assert one.model_copy(update={"needed_by": ()}) == known[one.project]
        assert machine.solver.record.moved == {}
        assert {one.name: newest for one, newest in machine.solver.record.newer.items()} == {
            "lib": "2.0",
            "tool": "2.0",
        }

    def test_a_project_that_was_deleted_altogether_stays(self, day, here):
        path = day().wheel("tool", "1.0")
        later = day()
        later.wheel("other", "1.0")
        with later.serve() as served:
            assert self.solved(here(served, [path]), ["tool", "other"], [wheel_pin_of(path)]) == {
                "other": "1.0",
                "tool": "1.0",
            }

    def test_what_was_yanked_stays_for_who_has_it_and_is_not_read(self, day, here):
        later = day()
        path = later.wheel("tool", "1.0")
        later.wheel("tool", "0.9")
        with later.serve() as served:
            page = served.archive.folder / "pypi" / "simple" / "tool" / "index.json"
            page.write_text(
                page.read_text().replace(
                    '"url": "../../files/tool-1.0', '"yanked": "broken", "url": "../../files/tool-1.0'
                )
            )
            machine = here(served)
            assert self.solved(machine, ["tool"], [wheel_pin_of(path)]) == {"tool": "1.0"}
            assert machine.asked == []
            assert self.solved(here(served), ["tool"], []) == {"tool": "0.9"}

    def test_what_is_nowhere_moves_and_says_so(self, days, here):
        (tool, lib), later = days
        with later.serve() as served:
            machine = here(served, [tool])
            assert self.solved(machine, ["tool"], [wheel_pin_of(tool), wheel_pin_of(lib)]) == {
                "lib": "2.0",
                "tool": "1.0",
            }
        assert list(machine.solver.record.moved.items()) == [
            (
                ("x86_64-linux", "wheel", "lib", "1.0"),
                "no index lists it any more, and its file is nowhere to be had",
            )
        ]

    @pytest.mark.parametrize(
        ("asked", "why"),
        [
            (["tool", "lib>=2"], {"lib": "lib>=2 is asked for"}),
            (["tool==2.0"], {"lib": "tool 2.0 needs lib>=2", "tool": "tool==2.0 is asked for"}),
        ],
    )
    def test_a_new_requirement_moves_what_it_forbids_and_says_so(self, days, here, asked, why):
        old, later = days
        with later.serve() as served:
            machine = here(served, old)
            self.solved(machine, asked, [wheel_pin_of(path) for path in old])
        assert {one.name: said for one, said in machine.solver.record.moved.items()} == why

    def test_the_file_that_is_locked_is_taken_whatever_else_its_version_has_by_now(self, day, here):
        later = day()
        path = later.wheel("tool", "1.0")
        later.wheels.append(wheel(later.folder / "made" / "tool-1.0-cp311-none-any.whl", {"tool.py": ""}))
        with later.serve() as served:
            machine = here(served)
            (one,) = machine.solver.wheels(TARGET, ["tool"], "python_packages", [wheel_pin_of(path)])
            assert one.file == path.name
            (one,) = machine.solver.wheels(TARGET, ["tool"], "python_packages", [])
            assert one.file == "tool-1.0-cp311-none-any.whl"

    def test_a_file_of_its_name_and_another_hash_is_the_indexs_to_say(self, day, here):
        later = day()
        path = later.wheel("tool", "1.0")
        with later.serve() as served:
            machine = here(served)
            pin = wheel_pin_of(path).model_copy(update={"sha256": "1" * 64})
            (one,) = machine.solver.wheels(TARGET, ["tool"], "python_packages", [pin])
        assert one.sha256 == measure(path)[1]
        assert list(machine.solver.record.moved.values()) == ["the index has another file of this version"]
