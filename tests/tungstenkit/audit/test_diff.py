"""What two locks differ in, and how it reads."""

import subprocess

import pytest
from rich.console import Console

from tests.machine import need
from tests.tungstenkit.locks import SYSTEM, deb, lock, wheel
from tungstenkit.audit.diff import compare, old_lock
from tungstenkit.audit.vulnerabilities import Advisories, Vulnerability
from tungstenkit.cli import tables
from tungstenkit.lock.document import LOCK_NAME, packages, write_lock
from tungstenkit.resolve.relocked import OneVersion, Relocked
from tungstenkit.sdk.errors import LockError

PYTHON = deb("python3.13")


def changes(before, after, advisories=None):
    return compare(before, after, advisories or Advisories()).changes


def test_what_is_the_same_is_not_told():
    assert compare(lock(deb("a")), lock(deb("a")), Advisories()).changes == ()


def test_versions_and_sizes_of_what_moved_was_added_or_removed():
    before = lock(deb("a", size=10), wheel("b", size=20), wheel("c", size=5))
    after = lock(deb("a", "2", size=30), wheel("c", size=5), wheel("d", size=7))
    difference = compare(before, after, Advisories())
    assert [
        (c.kind, c.name, c.before, c.after, c.size_after - c.size_before) for c in difference.changes
    ] == [
        ("deb", "a", "1", "2", 20),
        ("wheel", "b", "1", None, -20),
        ("wheel", "d", None, "1", 7),
    ]
    assert (difference.size_before, difference.size_after) == (35, 42)


def test_another_file_of_the_same_version_is_told():
    (change,) = changes(lock(wheel("a")), lock(wheel("a", sha256="a" * 64)))
    assert (change.before, change.after) == ("1", "1")


def test_who_asked_for_it_is_no_difference():
    assert changes(lock(wheel("a")), lock(wheel("a", needed_by=["b"]))) == ()


def test_python_and_the_release_are_told():
    facts = compare(lock(), lock(python="3.11", release="bookworm"), Advisories()).facts
    assert [(fact.subject, fact.before, fact.after) for fact in facts] == [
        ("x86_64-linux: Debian release", "trixie", "bookworm"),
        ("x86_64-linux: Python", "3.13", "3.11"),
    ]


def test_a_first_lock_is_all_new():
    difference = compare(None, lock(deb("a")), Advisories())
    assert difference.size_before is None
    assert "a" in {change.name for change in difference.changes}
    assert next(tables.summary(difference)).startswith("a first lock")


def advisories():
    fixed, still, new = (
        Vulnerability(id=f"CVE-{number}", urgency=None, fixed=fix)
        for number, fix in ((1, ("2",)), (2, ()), (3, ("9",)))
    )
    return Advisories(python={"a==1": (fixed, still), "a==2": (still, new)})


def test_vulnerabilities_that_are_closed_and_brought_are_told():
    difference = compare(lock(wheel("a")), lock(wheel("a", "2")), advisories())
    (change,) = difference.changes
    assert [v.id for v in change.closed] == ["CVE-1"]
    assert [v.id for v in change.opened] == ["CVE-3"]
    assert [(package.name, [v.id for v in package.vulnerabilities]) for package in difference.known] == [
        ("a", ["CVE-2", "CVE-3"])
    ]


def test_what_is_removed_takes_its_vulnerabilities_along():
    (change,) = changes(lock(wheel("a")), lock(), advisories())
    assert [v.id for v in change.closed] == ["CVE-1", "CVE-2"]


def test_a_version_that_nobody_was_asked_about_closes_nothing():
    known = advisories().python
    for unknown in ("a==1", "a==2"):
        some = Advisories(python={key: found for key, found in known.items() if key != unknown})
        (change,) = changes(lock(wheel("a")), lock(wheel("a", "2")), some)
        assert (change.closed, change.opened) == ((), ())


def printed(parts):
    console = Console(width=200, highlight=False)
    with console.capture() as capture:
        for part in parts:
            console.print(part)
    return capture.get()


def test_the_summary_says_what_moved_and_how_to_close_what_can_be_closed():
    text = printed(tables.summary(compare(lock(wheel("a")), lock(wheel("a", "2")), advisories())))
    assert "1 moved, 0 added, 0 removed" in text
    assert "a 1 -> 2" in text
    assert "closes 1 known vulnerability: CVE-1" in text
    assert "of a: `tungsten lock --security` takes these" in text
    assert printed(tables.summary(compare(lock(), lock(), Advisories()))) == "nothing moved\n"


def test_a_platform_that_is_no_longer_locked_is_told():
    both = lock()
    other = {"aarch64-linux": both.platforms["x86_64-linux"]}
    before = both.model_copy(update={"platforms": {**both.platforms, **other}})
    before = before.model_copy(
        update={"server": {**both.server, "aarch64-linux": both.server["x86_64-linux"]}}
    )
    assert "aarch64-linux is no longer locked" in printed(tables.summary(compare(before, both, Advisories())))


def test_brackets_are_no_markup():
    before, after = (
        lock().model_copy(update={"inputs": {"python-packages": p}}) for p in ([], ["torch[cuda]"])
    )
    assert "torch[cuda]" in printed(tables.comparison(compare(before, after, Advisories())))


class TestOld:
    def test_a_file_or_a_folder(self, tmp_path):
        write_lock(lock(PYTHON), tmp_path / LOCK_NAME)
        for old in (tmp_path, tmp_path / LOCK_NAME):
            assert old_lock(str(old), tmp_path / "other" / LOCK_NAME) == lock(PYTHON)

    @pytest.fixture
    def repository(self, tmp_path):
        need("git")

        def git(*arguments):
            identity = ["-c", "user.name=x", "-c", "user.email=x@x"]
            subprocess.run(["git", "-C", tmp_path, *identity, *arguments], check=True, capture_output=True)

        model = tmp_path / "models" / "one"
        model.mkdir(parents=True)
        git("init")
        write_lock(lock(PYTHON), model / LOCK_NAME)
        git("add", ".")
        git("commit", "-m", "lock")
        write_lock(lock(PYTHON, deb("a")), model / LOCK_NAME)
        return model

    def test_a_git_revision_of_the_same_file(self, repository):
        assert old_lock("HEAD", repository / LOCK_NAME) == lock(PYTHON)

    @pytest.mark.parametrize("old", ["HEAD~1", "nothing", "--output=x"])
    def test_what_is_none_of_these_is_an_error(self, repository, old):
        with pytest.raises(LockError, match="no git revision") as caught:
            old_lock(old, repository / LOCK_NAME)
        assert "`HEAD`" in caught.value.hint
        assert not (repository / "x").exists()


def test_why_a_pin_did_not_stay_is_told_of_each_and_what_stays_behind_is_counted():
    names = [f"p{number}" for number in range(12)]
    before, after = lock(*map(deb, names), wheel("w")), lock(*(deb(name, "2") for name in names), wheel("w"))
    record = Relocked()
    record.moved = {OneVersion(SYSTEM, "deb", name, "1"): f"for {name}" for name in names[:10]}
    record.newer = {
        OneVersion(SYSTEM, "wheel", "w", "1"): "3",
        **{
            OneVersion(one.system, one.kind, one.name, one.package.version): "99"
            for one in packages(after)
            if one.name in ("flask", "busybox-static")
        },
    }
    difference = compare(before, after, Advisories(), record, {"0" * 64})
    assert {change.name: change.reason for change in difference.changes} == {
        name: f"for {name}" if number < 10 else None for number, name in enumerate(names)
    }
    text = printed(tables.summary(difference))
    for name in names[:10]:
        assert f"  {name} 1 -> 2: for {name}\n" in text
    assert "… and 2 more" in text
    assert "1 pin stays behind what is newer: w 1 (3); `tungsten lock --upgrade`" in text
    assert "2 pins of the server and of builds stay behind what is newer: " in text
    assert "1 pin stays by its file's hash, in no index any more: w 1\n" in text
    assert "why" in printed(tables.comparison(difference))
    assert "why" not in printed(tables.comparison(compare(before, after, Advisories())))
