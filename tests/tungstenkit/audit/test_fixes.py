"""What `lock --security` moves: what is concerned, and what a newer version helps."""

from types import SimpleNamespace

import pytest

from tests.tungstenkit.locks import SYSTEM, base_image, deb, lock, source, wheel
from tungstenkit.audit.fixes import concerned, fixable, has_fix, in_vain
from tungstenkit.audit.vulnerabilities import Advisories, Vulnerability
from tungstenkit.lock.document import packages
from tungstenkit.lock.parts import AddedDebs
from tungstenkit.lock.unpin import without

RELEASE = lock().platforms[SYSTEM].release
KNOWN = Advisories(
    debian={
        RELEASE: {
            "a": [("CVE-1", "2", "medium"), ("CVE-2", None, "low")],
            "b": [("CVE-3", None, "low")],
            "c": [("CVE-4", "1", "low")],
        }
    },
    python={
        "w==1": (Vulnerability(id="CVE-5", urgency=None, fixed=("2",)),),
        "s==1": (Vulnerability(id="CVE-6", urgency=None, fixed=("2",)),),
        "x==1": (Vulnerability(id="CVE-7", urgency=None, fixed=()),),
    },
)


def located(locked):
    return {one.name: one for one in packages(locked) if one.place == "image"}


def test_what_has_a_fix_is_concerned_and_nothing_else():
    locked = lock(*map(deb, "abcd"), wheel("w"), wheel("x"), source("s"))
    found = concerned(locked, KNOWN)
    assert [one.name for one in found] == ["a", "w", "s"]
    assert fixable(found[0], KNOWN) == {"CVE-1"}


@pytest.mark.parametrize(
    ("newest", "has"),
    [("2", True), ("3", True), ("1.5", False), ("1", False), (None, False)],
)
def test_a_debian_package_moves_where_the_index_has_the_fix(newest, has):
    """A tracker may know of one that no mirror has yet."""
    one = located(lock(deb("a")))["a"]

    def newest_deb(target, name):
        assert (target.system, target.release, name) == (SYSTEM, RELEASE, "a")
        return None if newest is None else SimpleNamespace(name="a", source="", version=f"{newest}+b1")

    assert has_fix(one, KNOWN, newest_deb) is has


def test_of_a_python_project_a_solve_tells():
    assert has_fix(located(lock(wheel("w")))["w"], KNOWN, None)
    moving = [located(lock(wheel("w")))["w"], located(lock(source("s")))["s"]]
    after = Advisories(python={"w==1.5": KNOWN.python["w==1"], "s==2": ()})
    assert in_vain(moving, lock(wheel("w", "1.5"), source("s", "2")), KNOWN, after) == moving[:1]
    assert in_vain(moving, lock(), KNOWN, after) == []


def test_a_pin_is_taken_away_where_it_is_and_nowhere_else():
    added = AddedDebs(release=RELEASE, debs=(deb("a"), deb("b")))
    image = base_image().model_copy(update={"added": added})
    locked = lock(*map(deb, "ab"), wheel("w"), wheel("x"), source("s"), base_image=image)
    server = next(one for one in packages(locked) if one.place == "server")
    moving = [one for name, one in located(locked).items() if name in ("a", "w", "s")]
    left = without(locked, [*moving, server])
    assert located(left).keys() == {"b", "x"}
    names = {one.name for one in packages(locked) if one.place == "server"}
    assert {one.name for one in packages(left) if one.place == "server"} == names - {server.name}
    assert left.tools == locked.tools
