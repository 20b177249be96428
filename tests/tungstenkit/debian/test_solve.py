"""What is chosen, and why; what is refused, and how it is said. The archives are a few lines of text each."""

from dataclasses import dataclass
from datetime import UTC, datetime

import pytest

from tests.apt import Apt, compare, draw
from tests.machine import need
from tests.tungstenkit.resolve.solving import resolve
from tungstenkit.debian.archive import Pin, Present
from tungstenkit.debian.control import stanzas
from tungstenkit.debian.index import ARCHIVES, ReleaseIndex, SuiteIndex, Trust, fetch_index
from tungstenkit.debian.packages import FileOf, installed_package, unlisted_package, write_places
from tungstenkit.debian.release import RELEASES
from tungstenkit.debian.solve import NOT_FOLLOWED, DebSolver
from tungstenkit.fetch.web import get_bytes
from tungstenkit.sdk.errors import ResolveError, UnusableError


def stanza(name, version="1", architecture="amd64", **fields):
    listed = {
        "Package": name,
        "Version": version,
        "Architecture": architecture,
        "Filename": f"pool/main/{name[0]}/{name}_{version}.deb",
        "Size": "10",
        "SHA256": "ab" * 32,
        **{key.replace("_", "-"): value for key, value in fields.items()},
    }
    return "\n".join(f"{key}: {value}" for key, value in listed.items())


@pytest.fixture
def archive(tmp_path):
    def make(*stanzas, updates=(), security=()):
        suites = []
        for name, suite, contents in (
            ("debian", "bookworm", stanzas),
            ("debian", "bookworm-updates", updates),
            ("debian-security", "bookworm-security", security),
        ):
            path = tmp_path / f"{suite}.packages"
            path.write_text("\n\n".join(contents) + "\n")
            write_places(path, places := tmp_path / f"{suite}.places")
            suites.append(SuiteIndex(name, suite, datetime(2026, 1, 2, tzinfo=UTC), "0" * 64, path, places))
        return ReleaseIndex("bookworm", "amd64", tuple(suites))

    return make


def names(index, *requests, **options):
    return [deb.name for deb in resolve(index, {"system": requests}, **options).debs]


def versions(index, *requests, **options):
    return {deb.name: deb.version for deb in resolve(index, {"system": requests}, **options).debs}


def refusal(index, *requests, **options):
    with pytest.raises(ResolveError) as caught:
        resolve(index, {"system": requests}, **options)
    return caught.value


def there(*texts, held=()):
    """Packages that are installed already, as dpkg's status has them."""
    packages = [installed_package(next(stanzas(text))) for text in texts]
    return Present({package.name: package for package in packages}, frozenset(held))


class TestOnTopOfWhatIsThere:
    def test_what_is_there_meets_dependencies_and_is_not_in_the_solution(self, archive):
        index = archive(stanza("a", Depends="b, c"), stanza("b", "2"), stanza("c"))
        assert versions(index, "a", present=there(stanza("b", "1"))) == {"a": "1", "c": "1"}

    def test_what_is_asked_for_by_name_comes_in_its_newest_version(self, archive):
        index = archive(stanza("a", "2"), stanza("b", "1"), stanza("c", "1"))
        present = there(stanza("a", "1"), stanza("b", "1"), stanza("c", "2"))
        assert versions(index, "a", "b", "c", present=present) == {"a": "2"}

    def test_an_earlier_locks_version_stays_where_it_is_newer_than_what_is_there(self, archive):
        index = archive(stanza("a", "2"), security=[stanza("a", "3")])
        assert versions(index, "a", prefer={"a": "2"}, present=there(stanza("a", "1"))) == {"a": "2"}
        assert versions(index, "a", prefer={"a": "2"}, present=there(stanza("a", "2.5"))) == {"a": "3"}

    def test_a_package_is_replaced_where_a_dependency_needs_a_newer_one(self, archive):
        index = archive(
            stanza("a", Depends="lib (>= 2)"), stanza("lib", "2"), stanza("lib-bin", "2", Depends="lib (= 2)")
        )
        present = there(stanza("lib", "1"), stanza("lib-bin", "1", Depends="lib (= 1)"))
        solution = resolve(index, {"system": ["a"]}, present=present)
        assert [(deb.name, deb.needed_by) for deb in solution.debs] == [
            ("a", ()),
            ("lib", ("a", "lib-bin")),
            ("lib-bin", ("lib",)),
        ]

    def test_what_a_newer_one_needs_besides_is_there_too(self, archive):
        index = archive(stanza("a", Breaks="b (<< 2)"), stanza("b", "2", Depends="c"), stanza("c"))
        solution = resolve(index, {"system": ["a"]}, present=there(stanza("b", "1")))
        assert [(deb.name, deb.needed_by) for deb in solution.debs] == [
            ("a", ()),
            ("b", ("a",)),
            ("c", ("b",)),
        ]

    def test_nothing_is_taken_away(self, archive):
        index = archive(stanza("a", Conflicts="b"), stanza("b"))
        error = refusal(index, "a", present=there(stanza("b")))
        assert "a 1 can't be beside b 1 of the base image (it conflicts with b)" in error.what
        assert "replaced by newer ones alone" in error.hint

    def test_what_is_held_is_not_replaced(self, archive):
        index = archive(stanza("a", Depends="b (>= 2)"), stanza("b", "2"))
        error = refusal(index, "a", present=there(stanza("b", "1"), held=["b"]))
        assert "a 1 depends on b (>= 2), which is not to be had" in error.what

    def test_nothing_older_takes_the_place_of_what_is_there(self, archive):
        index = archive(stanza("a", "1"))
        assert "the base image has version 2" in refusal(index, "a=1", present=there(stanza("a", "2"))).what

    def test_what_no_archive_has_and_what_is_broken_already_are_no_hindrance(self, archive):
        index = archive(stanza("a", Depends="own"))
        present = there(stanza("own", "9"), stanza("broken", Depends="gone"))
        assert versions(index, "a", present=present) == {"a": "1"}

    def test_dependencies_of_scripts_alone_are_followed(self, archive):
        """dpkg will look at them."""
        index = archive(stanza("tzdata", Depends="debconf"), stanza("debconf"))
        assert names(index, "tzdata") == ["tzdata"]
        assert names(index, "tzdata", present=there(stanza("x"))) == ["debconf", "tzdata"]


def test_the_closure_follows_depends_and_pre_depends_and_nothing_else(archive):
    index = archive(
        stanza("a", Depends="b", Pre_Depends="c", Recommends="d", Suggests="d"),
        *(stanza(name) for name in "bcd"),
        stanza("essential", Essential="yes"),
    )
    assert names(index, "a") == ["a", "b", "c"]


def test_a_deb_is_described_as_the_archive_describes_it(archive):
    index = archive(
        security=[stanza("a", "1:2-3", "all", Filename="pool/updates/a.deb", Size="7", SHA256="cd" * 32)]
    )
    (deb,) = resolve(index, {"system": ["a"]}).debs
    assert (deb.name, deb.version, deb.architecture, deb.size, deb.sha256, deb.group, deb.file) == (
        *("a", "1:2-3", "all", 7, "cd" * 32, "system"),
        "mirror://debian-security/pool/updates/a.deb",
    )


@pytest.mark.parametrize(
    ("version", "field", "source"),
    [
        ("1:2-3", {}, "a (1:2-3)"),
        ("1:2-3+b2", {}, "a (1:2-3)"),
        ("2-3+deb12u1", {"Source": "src"}, "src (2-3+deb12u1)"),
        ("4:12-3", {"Source": "src (1.203)"}, "src (1.203)"),
    ],
)
def test_a_deb_names_its_source(archive, version, field, source):
    """Debian policy 5.6.1; a binary rebuild is of the source without `+bN`."""
    (deb,) = resolve(archive(stanza("a", version, **field)), {"system": ["a"]}).debs
    assert deb.source == source


def test_a_deb_knows_who_needs_it_and_whose_wish_it_is(archive):
    index = archive(
        *(stanza("a", Depends="b, virtual"), stanza("b", Depends="c"), stanza("c", Depends="b")),
        stanza("d", Provides="virtual", Depends="c | x"),
        stanza("x"),
    )
    debs = resolve(index, {"base": ["c"], "system": ["a", "virtual"]}).debs
    assert {deb.name: (deb.needed_by, deb.requests) for deb in debs} == {
        "a": ((), (("system", "a"),)),
        "b": (("a", "c"), ()),
        "c": (("b", "d"), (("base", "c"),)),
        "d": (("a",), (("system", "virtual"),)),
    }


def test_an_index_that_is_gone_is_named(archive):
    index = archive(stanza("a"))
    index.suites[0].packages.unlink()
    with pytest.raises(UnusableError, match="can't be read") as caught:
        resolve(index, {"system": ["a"]})
    assert caught.value.where == str(index.suites[0].packages)


class TestVersions:
    def test_the_highest_of_all_suites_wins(self, archive):
        index = archive(
            *(stanza("a", "1.0-1+deb12u9"), stanza("b", "1"), stanza("c", "2")),
            updates=[stanza("b", "1.1"), stanza("c", "2~rc1")],
            security=[stanza("a", "1.0-1+deb12u10")],
        )
        assert versions(index, "a", "b", "c") == {"a": "1.0-1+deb12u10", "b": "1.1", "c": "2"}

    @pytest.mark.parametrize(
        ("version", "constraint", "fits"),
        [
            ("1.0-1", ">= 1.0", True),
            ("1.0-1", "= 1.0", False),
            ("1.0-1", "= 0:1.0-1", True),
            ("1.0~rc1", ">= 1.0", False),
            ("1.0+b1", "<= 1.0", False),
            ("1:0.1", ">> 9", True),
            ("2", "<< 2", False),
            ("2", "<= 2", True),
        ],
    )
    def test_a_constraint_is_judged_by_debians_order(self, archive, version, constraint, fits):
        index = archive(stanza("a", Depends=f"b ({constraint})"), stanza("b", version))
        if fits:
            assert names(index, "a") == ["a", "b"]
        else:
            assert f"a 1 depends on b ({constraint}), which is not to be had" in refusal(index, "a").what

    def test_a_request_may_name_a_lower_version(self, archive):
        index = archive(stanza("a", "1"), security=[stanza("a", "2")])
        assert versions(index, "a=1") == {"a": "1"}

    def test_a_version_that_is_not_there_is_refused_with_those_that_are(self, archive):
        index = archive(stanza("a", "1"), security=[stanza("a", "2")])
        assert refusal(index, "a=3").what == "'a=3': Debian bookworm has version 2, 1"

    def test_two_requests_for_different_versions_are_refused(self, archive):
        index = archive(stanza("a", "1"), security=[stanza("a", "2")])
        assert refusal(index, "a=1", "a=2").what == "'a=1': another request names version 2"

    def test_a_locked_version_is_kept_while_it_fits(self, archive):
        main = (stanza("a", "1", Depends="b (= 1)"), stanza("b", "1"), stanza("c", Depends="b (>= 2)"))
        index = archive(*main, security=[stanza("a", "2", Depends="b (= 2)"), stanza("b", "2")])
        locked = {"a": "1", "b": "1"}
        assert versions(index, "a", prefer=locked) == {"a": "1", "b": "1"}
        assert versions(index, "a", "c", prefer=locked) == {"a": "2", "b": "2", "c": "1"}
        assert versions(index, "a", prefer={"a": "0.9"}) == {"a": "2", "b": "2"}

    def test_what_loses_its_pin_takes_along_what_must_move_with_it_and_nothing_else(self, archive):
        main = (stanza("a", "1", Depends="b (= 1), c"), stanza("b", "1"), stanza("c", "1"))
        newer = [stanza("a", "2", Depends="b (= 2), c"), stanza("b", "2"), stanza("c", "2")]
        index = archive(*main, security=newer)
        assert versions(index, "a", prefer={"b": "1", "c": "1"}) == {"a": "2", "b": "2", "c": "1"}
        # Packages of one source often need each other's very version: a fix in one must come all the same.
        assert versions(index, "a", prefer={"a": "1", "c": "1"}) == {"a": "2", "b": "2", "c": "1"}


class TestPinsThatNoIndexLists:
    """Of a file that can be had, its own control data say what it needs."""

    @pytest.fixture
    def pins(self):
        """Pins by name, of stanzas; which of them were read is in `pins.read`."""

        def make(*stanzas_of, needed_by=(), gone=()):
            def pin(text):
                fields = next(stanzas(text))

                def read():
                    make.read.append(fields["Package"])
                    file = FileOf("debian", fields["Filename"], 10, fields["Package"], "20260101T000000Z")
                    return None if fields["Package"] in gone else unlisted_package(fields, file)

                return fields["Package"], Pin(fields["Version"], tuple(needed_by), read)

            return dict(map(pin, stanzas_of))

        make.read = []
        return make

    def test_it_stays_with_its_own_needs_and_its_own_file(self, archive, pins):
        index = archive(stanza("a", "2", Depends="b (= 2), d"), stanza("b", "2"), stanza("d", "2"))
        old = pins(stanza("a", "1", Depends="b (= 1), c"), stanza("b", "1"), stanza("c", "1"))
        debs = resolve(index, {"system": ["a"]}, old).debs
        assert [(deb.name, deb.version, deb.newer, deb.sha256, deb.snapshot) for deb in debs] == [
            ("a", "1", "2", "a", "20260101T000000Z"),
            ("b", "1", "2", "b", "20260101T000000Z"),
            # It has left the archive altogether.
            ("c", "1", None, "c", "20260101T000000Z"),
        ]
        assert debs[0].file == "mirror://debian/pool/main/a/a_1.deb"

    def test_what_is_listed_is_not_read_and_has_no_snapshot_of_its_own(self, archive, pins):
        index = archive(stanza("a", "1", Depends="b"), stanza("b", "2"), security=[stanza("a", "2")])
        old = pins(stanza("a", "1", Depends="b"), stanza("b", "1"), stanza("unneeded", "1"))
        debs = resolve(index, {"system": ["a"]}, old).debs
        assert [(deb.name, deb.version, deb.snapshot) for deb in debs] == [
            ("a", "1", None),
            ("b", "1", "20260101T000000Z"),
        ]
        assert pins.read == ["b"]

    def test_one_package_more_is_added_with_what_it_needs_and_nothing_moves(self, archive, pins):
        index = archive(
            *(stanza("a", "2", Depends="lib (>= 2)"), stanza("lib", "2")),
            *(stanza("new", "2", Depends="new-data (= 2), lib (>= 1)"), stanza("new-data", "2")),
        )
        old = pins(stanza("a", "1", Depends="lib (>= 1)"), stanza("lib", "1"))
        solution = resolve(index, {"system": ["a", "new"]}, old)
        assert {deb.name: deb.version for deb in solution.debs} == {
            "a": "1",
            "lib": "1",
            "new": "2",
            "new-data": "2",
        }
        assert solution.moved == {}

    def test_a_new_requirement_moves_what_it_forbids_and_says_so(self, archive, pins):
        index = archive(
            *(stanza("a", "2", Depends="lib (= 2)"), stanza("lib", "2"), stanza("b", "2")),
            stanza("new", "2", Depends="lib (>= 2)"),
        )
        old = pins(stanza("a", "1", Depends="lib (= 1)"), stanza("lib", "1"), stanza("b", "1"))
        solution = resolve(index, {"system": ["a", "b", "new"]}, old)
        assert {deb.name: deb.version for deb in solution.debs} == {
            "a": "2",
            "b": "1",
            "lib": "2",
            "new": "2",
        }
        assert solution.moved == {
            "a": "1 depends on lib (= 1), which is not as it was",
            "lib": "new 2 depends on lib (>= 2)",
        }

    def test_a_conflict_is_a_reason_too(self, archive, pins):
        index = archive(stanza("a", "2"), stanza("new", "2", Breaks="a (<< 2)"))
        solution = resolve(index, {"system": ["a", "new"]}, pins(stanza("a", "1")))
        assert solution.moved == {"a": "new 2 conflicts with a (<< 2)"}

    def test_one_whose_file_is_nowhere_moves_and_takes_nothing_else_along(self, archive, pins):
        index = archive(stanza("a", "2", Depends="b"), stanza("b", "2"))
        old = pins(stanza("a", "1", Depends="b"), stanza("b", "1"), gone=["a"])
        solution = resolve(index, {"system": ["a"]}, old)
        assert {deb.name: deb.version for deb in solution.debs} == {"a": "2", "b": "1"}
        assert solution.moved == {"a": None}

    def test_a_request_for_a_version_goes_before_a_pin_which_is_not_read(self, archive, pins):
        solution = resolve(archive(stanza("a", "2")), {"system": ["a=2"]}, pins(stanza("a", "1")))
        assert solution.moved == {"a": "a=2 is asked for"}
        assert solution.debs[0].newer is None
        assert pins.read == []
        assert versions(archive(stanza("a", "2")), "a=1", prefer=pins(stanza("a", "1"))) == {"a": "1"}

    def test_what_it_provides_counts_though_what_is_listed_provides_it_no_more(self, archive, pins):
        index = archive(
            stanza("a", "1", Depends="virtual"), stanza("b", "2"), stanza("z", Provides="virtual")
        )
        old = pins(stanza("b", "1", Provides="virtual"), needed_by=["a"])
        assert versions(index, "a", prefer=old) == {"a": "1", "b": "1"}

    def test_an_archives_priority_counts_for_all_versions(self, archive, pins):
        """It may be another than the file's own (override files), and decides between those that provide a name."""
        index = archive(
            *(stanza("a", Depends="virtual"), stanza("x", Provides="virtual", Priority="optional")),
            stanza("y", "2", Provides="virtual", Priority="important"),
        )
        old = pins(stanza("y", "1", Provides="virtual", Priority="extra"), needed_by=["a"])
        assert versions(index, "a", prefer=old) == {"a": "1", "y": "1"}

    def test_on_a_base_image_it_stays_where_it_is_newer_than_what_is_there(self, archive, pins):
        index = archive(stanza("a", "3"))
        old = pins(stanza("a", "2"))
        assert versions(index, "a", prefer=old, present=there(stanza("a", "1"))) == {"a": "2"}
        base = there(stanza("a", "2.5"), stanza("broken", Depends="gone"))
        assert versions(index, "a", prefer=old, present=base) == {"a": "3"}
        assert resolve(index, {"system": ["a"]}, old, present=base).moved == {"a": "the base image has 2.5"}


def test_a_solver_forgets_what_an_earlier_solve_asked_for(archive):
    index = archive(stanza("a", "1"), stanza("b", Conflicts="a"), security=[stanza("a", "2")])
    solver = DebSolver(index)

    def versions(*requests, **options):
        return [deb.version for deb in solver.solve({"system": requests}, **options).debs]

    assert versions("a=1") == ["1"]
    assert versions("a") == ["2"]
    assert versions("a", pins={"a": Pin("1")}) == ["1"]
    assert versions("a") == ["2"]
    with pytest.raises(ResolveError):
        versions("a", "b")
    assert versions("b") == ["1"]


class TestAlternatives:
    def test_the_first_is_taken_and_recorded(self, archive):
        index = archive(stanza("a", Depends="b | c"), stanza("b"), stanza("c"))
        solution = resolve(index, {"system": ["a"]})
        assert [deb.name for deb in solution.debs] == ["a", "b"]
        (choice,) = solution.decisions
        assert (choice.kind, choice.subject, choice.chosen) == ("alternative", "a depends on b | c", "b")
        assert choice.reason == "the first alternative"

    @pytest.mark.parametrize("order", [("a", "d"), ("d", "a")])
    def test_one_that_is_needed_anyway_is_taken_whatever_the_order(self, archive, order):
        index = archive(
            stanza("a", Depends="b | c"),
            stanza("b"),
            stanza("c"),
            stanza("d", Depends="e"),
            stanza("e", Depends="c"),
        )
        solution = resolve(index, {"system": order})
        assert [deb.name for deb in solution.debs] == ["a", "c", "d", "e"]
        assert [choice.reason for choice in solution.decisions] == ["needed by e anyway"]

    @pytest.mark.parametrize(
        "first",
        [
            stanza("b", Depends="nowhere"),
            stanza("b", Conflicts="a"),
            stanza("b", Depends="deep"),  # its trouble is further down: the walk can't see it, libsolv does
        ],
    )
    def test_one_that_cant_be_installed_is_passed_over(self, archive, first):
        index = archive(
            stanza("a", Depends="b | c"),
            first,
            stanza("c"),
            stanza("deep", Depends="deeper"),
            stanza("deeper", Depends="no"),
        )
        solution = resolve(index, {"system": ["a"]})
        assert [deb.name for deb in solution.debs] == ["a", "c"]
        assert [c.reason for c in solution.decisions] == [
            "b, which comes first, can't be installed with the rest"
        ]

    def test_one_that_was_chosen_before_is_taken_again(self, archive):
        index = archive(stanza("a", Depends="b | c"), stanza("d", Depends="c | b"), stanza("b"), stanza("c"))
        solution = resolve(index, {"system": ["a", "d"]})
        assert [deb.name for deb in solution.debs] == ["a", "b", "d"]
        assert [c.reason for c in solution.decisions] == ["the first alternative", "chosen for a anyway"]

    def test_one_that_the_dependent_itself_excludes_is_passed_over(self, archive):
        index = archive(stanza("a", Depends="b | c", Conflicts="b"), stanza("b"), stanza("c"))
        (choice,) = resolve(index, {"system": ["a"]}).decisions
        assert (choice.chosen, choice.reason) == (
            "c",
            "b, which comes first, can't be installed with the rest",
        )

    def test_one_that_is_not_in_the_archive_is_no_choice(self, archive):
        index = archive(stanza("a", Depends="gone | c"), stanza("c"))
        solution = resolve(index, {"system": ["a"]})
        assert [deb.name for deb in solution.debs] == ["a", "c"]
        assert [(choice.chosen, choice.subject) for choice in solution.decisions] == []


class TestVirtualPackages:
    def test_a_real_package_comes_before_those_that_provide_its_name(self, archive):
        index = archive(stanza("a", Depends="m"), stanza("b", Provides="m", Priority="required"), stanza("m"))
        assert names(index, "a") == ["a", "m"]

    def test_providers_are_ordered_by_priority_then_name(self, archive):
        index = archive(
            stanza("a", Depends="mta"),
            stanza("b", Provides="mta", Priority="optional"),
            stanza("d", Provides="mta", Priority="standard"),
            stanza("c", Provides="mta", Priority="standard"),
        )
        solution = resolve(index, {"system": ["a"]})
        assert [deb.name for deb in solution.debs] == ["a", "c"]
        (choice,) = solution.decisions
        assert (choice.kind, choice.subject, choice.chosen) == ("virtual", "a depends on mta", "c")
        assert choice.reason == "of those that provide mta, the first by Priority (standard) and name"

    def test_an_unversioned_provides_satisfies_no_versioned_dependency(self, archive):
        index = archive(stanza("a", Depends="m (>= 1)"), stanza("b", "5", Provides="m"))
        assert "m (>= 1), which is not to be had" in refusal(index, "a").what

    def test_a_versioned_provides_satisfies_by_its_own_version(self, archive):
        index = archive(
            stanza("a", Depends="m (>= 2)"),
            stanza("b", "1", Provides="m (= 2)"),
            stanza("c", "9", Provides="m (= 1)"),
        )
        assert names(index, "a") == ["a", "b"]

    def test_one_provider_may_be_asked_for_by_the_virtual_name(self, archive):
        assert names(archive(stanza("b", Provides="m")), "m") == ["b"]

    def test_several_providers_are_listed_for_the_user_to_choose(self, archive):
        index = archive(stanza("b", Provides="m"), stanza("c", Provides="m"))
        problem = refusal(index, "m")
        assert problem.what == "'m' is a virtual package, which several provide: b, c"
        assert problem.hint == "name one of them"

    def test_a_virtual_request_is_met_by_what_is_needed_anyway(self, archive):
        index = archive(stanza("b", Provides="m"), stanza("c", Provides="m"), stanza("d", Depends="c"))
        solution = resolve(index, {"system": ["m", "d"]})
        assert [deb.name for deb in solution.debs] == ["c", "d"]
        assert [(c.subject, c.chosen) for c in solution.decisions] == [("m was requested", "c")]


class TestConflicts:
    @pytest.mark.parametrize("field", ["Conflicts", "Breaks"])
    def test_what_conflicts_is_refused_and_named(self, archive, field):
        index = archive(stanza("a", Depends="b"), stanza("b", **{field: "c (<< 2~)"}), stanza("c", "1.5-1"))
        problem = refusal(index, "a", "c")
        assert "b 1 can't be beside c 1.5-1 (it conflicts with c (<< 2~))" in problem.what
        assert "a 1 depends on b" in problem.what
        assert problem.where == "system_packages"

    def test_a_version_outside_the_breaks_is_no_conflict(self, archive):
        index = archive(stanza("b", Breaks="c (<< 2)"), stanza("c", "2"))
        assert names(index, "b", "c") == ["b", "c"]

    def test_replaces_alone_takes_nothing_away(self, archive):
        index = archive(stanza("b", Replaces="c"), stanza("c"))
        assert names(index, "b", "c") == ["b", "c"]

    def test_a_package_may_conflict_with_a_name_that_it_provides(self, archive):
        index = archive(
            stanza("b", Provides="mta", Conflicts="mta"),
            stanza("c", Provides="mta", Conflicts="mta"),
            stanza("d", Depends="mta"),
        )
        assert names(index, "b", "d") == ["b", "d"]
        assert "can't be beside" in refusal(index, "b", "c").what

    def test_an_alternative_is_chosen_that_conflicts_with_nothing(self, archive):
        index = archive(stanza("a", Depends="b | c"), stanza("b", Breaks="d"), stanza("c"), stanza("d"))
        assert names(index, "a", "d") == ["a", "c", "d"]


class TestRequests:
    def test_all_that_is_wrong_is_said_at_once_with_near_names(self, archive):
        index = archive(stanza("ffmpeg"), stanza("libgl1"))
        problem = refusal(index, "ffmpg", "libgl1:i386", "no such", "zzz", "ffmpeg")
        assert problem.what.splitlines() == [
            "Debian bookworm has no package 'ffmpg'; near: ffmpeg",
            "'libgl1:i386': an image for amd64 has no packages for another processor",
            "'no such' is not NAME, NAME=VERSION or NAME:ARCHITECTURE",
            "Debian bookworm has no package 'zzz'",
        ]

    @pytest.mark.parametrize(
        ("asked", "present", "taken"),
        [
            ("libgl1-mesa-glx", ["libgl1"], "libgl1"),
            ("libaio1", ["libaio1t64"], "libaio1t64"),
            ("ttf-wqy-zenhei", ["fonts-wqy-zenhei"], "fonts-wqy-zenhei"),
            ("libpng12-0", ["libpng16-16"], "libpng16-16"),
            ("libpng12-0:amd64", ["libpng16-16", "libpng16-16t64"], "libpng16-16t64"),
        ],
    )
    def test_a_name_that_the_release_has_given_up_leads_to_what_took_its_place(
        self, archive, asked, present, taken
    ):
        solution = resolve(archive(*map(stanza, present)), {"system": [asked]})
        assert [deb.name for deb in solution.debs] == [taken]
        (choice,) = solution.decisions
        name = asked.partition(":")[0]
        assert (choice.kind, choice.subject, choice.chosen) == ("renamed", f"{asked} was requested", taken)
        assert choice.reason == f"Debian bookworm has no {name}; this one took its place"

    def test_a_name_that_the_release_has_is_taken_as_it_is(self, archive):
        solution = resolve(
            archive(stanza("libgl1-mesa-glx"), stanza("libgl1")), {"system": ["libgl1-mesa-glx"]}
        )
        assert [deb.name for deb in solution.debs] == ["libgl1-mesa-glx"]
        assert solution.decisions == []

    def test_a_version_of_a_former_name_is_refused(self, archive):
        problem = refusal(archive(stanza("libgl1")), "libgl1-mesa-glx=1.0")
        assert (
            problem.what
            == "'libgl1-mesa-glx=1.0': Debian bookworm has libgl1 in its place, without that version"
        )

    @pytest.mark.parametrize(
        "name", ["libssl1.1", "libtinfo5", "python3.8", "python-pip", "libcudnn8", "unrar"]
    )
    def test_what_is_gone_for_good_is_refused_with_the_reason(self, archive, name):
        what = refusal(archive(stanza("a")), name).what
        assert what.startswith(f"Debian bookworm has no package {name!r}: ")

    def test_the_architecture_of_the_index_may_be_named(self, archive):
        assert names(archive(stanza("a"), stanza("b", architecture="all")), "a:amd64", "b:all") == ["a", "b"]

    @pytest.mark.parametrize("dependency", ["b:any", "b:native", "b:any (>= 1)"])
    def test_a_qualifier_of_this_architecture_is_met(self, archive, dependency):
        assert names(archive(stanza("a", Depends=dependency), stanza("b")), "a") == ["a", "b"]

    def test_a_qualifier_of_another_architecture_is_not(self, archive):
        assert (
            "b:i386, which is not to be had"
            in refusal(archive(stanza("a", Depends="b:i386"), stanza("b")), "a").what
        )

    def test_a_deb_belongs_to_the_first_group_that_needs_it(self, archive):
        index = archive(
            stanza("base", Depends="shared"),
            stanza("python", Depends="shared, mine"),
            stanza("tool", Depends="mine, own"),
            *(stanza(name) for name in ("shared", "mine", "own")),
        )
        solution = resolve(index, {"base": ["base"], "python": ["python"], "system": ["tool", "base"]})
        assert {deb.name: deb.group for deb in solution.debs} == {
            "base": "base",
            "shared": "base",
            "python": "python",
            "mine": "python",
            "tool": "system",
            "own": "system",
        }


TABLE = {"certs": {"openssl": "only a script runs it"}}


class TestDependenciesThatAreNotFollowed:
    def test_they_are_left_out_and_recorded(self, archive):
        index = archive(
            stanza("certs", Depends="openssl (>= 1) | libressl, data"), stanza("openssl"), stanza("data")
        )
        solution = resolve(index, {"system": ["certs"]}, not_followed=TABLE)
        assert [deb.name for deb in solution.debs] == ["certs", "data"]
        (choice,) = solution.decisions
        assert (choice.kind, choice.chosen, choice.reason) == ("dropped", "nothing", "only a script runs it")
        assert choice.subject == "certs depends on openssl (>= 1) | libressl"

    def test_another_package_may_bring_them_in(self, archive):
        index = archive(
            stanza("certs", Depends="openssl"), stanza("openssl"), stanza("tool", Depends="openssl")
        )
        solution = resolve(index, {"base": ["certs"], "system": ["tool"]}, not_followed=TABLE)
        assert {deb.name: deb.group for deb in solution.debs} == {
            "certs": "base",
            "openssl": "system",
            "tool": "system",
        }
        assert solution.decisions == []

    def test_they_need_not_be_in_the_archive(self, archive):
        assert names(archive(stanza("certs", Depends="openssl")), "certs", not_followed=TABLE) == ["certs"]


@dataclass(frozen=True)
class Reference:
    """An archive as we read it, and as apt does, in an empty root."""

    index: ReleaseIndex
    apt: Apt


def reference(release, bases, folder, certs=None):
    trust = Trust(datetime.now(UTC), certs)
    index = fetch_index(release, "amd64", bases, get_bytes, trust, cache=folder / "cache")
    return Reference(index, Apt(folder / "apt", release, bases, certs))


@pytest.fixture(scope="module", params=["bookworm", "trixie"])
def real(request, upstream, tmp_path_factory):
    """Debian's archive of today."""
    need("apt-get")
    return reference(request.param, upstream.debian_bases, tmp_path_factory.mktemp("real"))


@pytest.fixture(scope="module", params=["bookworm", "trixie"])
def small(request, frozen, tmp_path_factory):
    """The frozen one, of a few hundred of its packages."""
    need("apt-get")
    bases = {archive: (f"{frozen.url}/{archive}",) for archive in ARCHIVES}
    certs = {archive: [frozen.archive.key.extract_certificate()] for archive in ARCHIVES}
    return reference(request.param, bases, tmp_path_factory.mktemp("small"), certs=certs)


REQUESTS = (
    "ffmpeg",
    "default-jre-headless",
    "exim4",
    "libopenblas0 libgl1 git fonts-dejavu-core texlive-base",
)


@pytest.mark.upstream
@pytest.mark.soak
@pytest.mark.parametrize("names", REQUESTS)
def test_the_answer_is_apts(real, names):
    solution = resolve(real.index, {"system": names.split()}, not_followed={})
    assert {deb.name: deb.version for deb in solution.debs} == real.apt.install(names.split())


@pytest.mark.upstream
@pytest.mark.soak
def test_the_answer_is_apts_for_packages_of_all_sections(real):
    """Or differs for our choices alone. A sample: `python -m tests.apt` draws more, and prints what differs."""
    solver = DebSolver(real.index, {})
    for name in draw(real.apt.sections(), count=12, seed=7):
        text, on_purpose = compare(real.apt, solver, name)
        assert not text or on_purpose, f"{name}: {text}"


def test_the_answer_is_apts_for_every_root_that_we_build(small):
    """Or differs for our choices alone."""
    solver = DebSolver(small.index, {})
    python = f"python{RELEASES[small.index.release].python}"
    for name in (python, "libopenblas0-pthread", "probe-diverts", "base-files", "bash-static", "tzdata"):
        text, on_purpose = compare(small.apt, solver, name)
        assert not text or on_purpose, f"{name}: {text}"


def test_python_comes_without_what_only_scripts_need(small):
    python = f"python{RELEASES[small.index.release].python}"
    base = ["base-files", "ca-certificates", "libc-bin", "tini", "tzdata", "media-types", "netbase"]
    solution = resolve(small.index, {"base": base, "python": [python]})
    found = {deb.name for deb in solution.debs}
    assert python in found
    assert not found & {"dpkg", "debconf", "openssl", "perl-base", "tar", "mawk", "libselinux1"}
    assert {choice.kind for choice in solution.decisions} <= {"dropped", "alternative"}
    assert {c.subject.split()[0] for c in solution.decisions if c.kind == "dropped"} <= set(NOT_FOLLOWED)
