"""What a lock file of another tool makes of a solve's answer."""

import pytest
from packaging.markers import Marker
from packaging.specifiers import SpecifierSet

from tests.tungstenkit import locks
from tungstenkit.platforms import Target
from tungstenkit.resolve.pinned import LOCK_FILE, Pinned
from tungstenkit.sdk.errors import ResolveError
from tungstenkit.spec.pins import LockFile, Pin
from tungstenkit.spec.requirements import parse

TARGET = Target("x86_64-linux", "bookworm", "3.11")
GOOD, BAD = "a" * 64, "b" * 64


def pinned(*pins, is_new=True):
    return Pinned(LockFile("uv.lock", pins, SpecifierSet()), is_new)


def wheel(project, version, sha256=GOOD, **fields):
    return locks.wheel(project, version, **fields).model_copy(update={"sha256": sha256})


def versions(wheels):
    return {one.project: one.version for one in wheels}


def test_a_new_file_goes_before_the_earlier_lock_and_one_that_was_known_after_it():
    """What the earlier lock has was then all that could be had of the file."""
    earlier = [wheel("foo", "3.0"), wheel("bar", "1.0")]
    pins = (
        Pin("foo", "2.0"),
        Pin("other", "5.0"),
        Pin("foo", "9.0", markers=(Marker("python_version < '3'"),)),
    )
    assert versions(pinned(*pins).preferred(TARGET, earlier)) == {"foo": "2.0", "bar": "1.0", "other": "5.0"}
    known = pinned(*pins, is_new=False)
    assert versions(known.preferred(TARGET, earlier)) == {"foo": "3.0", "bar": "1.0", "other": "5.0"}


def test_a_file_whose_hash_is_another_is_refused():
    file = pinned(Pin("foo", "2.0", frozenset({GOOD})), Pin("bar", "1", frozenset({GOOD})), Pin("free", "1"))
    entries = [
        wheel("foo", "2.0", BAD),
        wheel("bar", "1", BAD),
        wheel("free", "1", BAD),
        wheel("unknown", "1", BAD),
    ]
    with pytest.raises(ResolveError) as caught:
        file.check(TARGET, entries, "python_packages")
    assert [line.partition(":")[0] for line in caught.value.what.splitlines()] == ["foo 2.0", "bar 1"]
    assert "lock uv.lock again" in caught.value.hint
    # Another version has other files, and a place that the model names is the model's own.
    file.check(TARGET, [wheel("foo", "3.0", BAD), wheel("bar", "1", BAD, url="https://host.example/x")], "")


def test_what_is_other_than_in_the_file_is_told_with_the_reason():
    line = "git @ git+https://git.example/git@main"
    file = pinned(
        *(Pin("same", "1.0"), Pin("asked", "1.0"), Pin("limited", "2.0"), Pin("pydantic", "1.10")),
        *(Pin("left", "1.0"), Pin("git", "1.0", line=line)),
    )
    entries = [wheel("same", "1"), wheel("asked", "2.0"), wheel("limited", "1.0"), wheel("pydantic", "2.9")]
    entries += [wheel("left", "2.0"), wheel("git", "1.0"), wheel("unknown", "1.0")]
    wishes = parse(["asked>=2", "limited", "-c limited<2", "asked==1 ; python_version < '3'"])
    found = list(file.differences(TARGET, entries, wishes))
    assert {choice.kind for choice in found} == {LOCK_FILE}
    assert {choice.subject.split()[0]: (choice.chosen, choice.reason) for choice in found} == {
        "asked": ("2.0", "not 1.0: python_packages ask for asked>=2"),
        "limited": ("1.0", "not 2.0: python_packages have -c limited<2"),
        "pydantic": ("2.9", "not 1.10: the SDK needs pydantic>=2.7"),
        "left": ("2.0", "not 1.0: no file of it fits the other packages on Python 3.11 and this platform"),
        "git": ("1.0 of the index", f"only python_packages may name a place: '{line}'"),
    }
