"""What a person reads of a new lock."""

import pytest

from tests.tungstenkit import locks
from tests.tungstenkit.locks import SYSTEM
from tungstenkit.audit.diff import compare
from tungstenkit.audit.vulnerabilities import Advisories
from tungstenkit.cli.words import locked_lines, of_another
from tungstenkit.lock.parts import NOTHING, Choice, PostBuild, Tungsten
from tungstenkit.project.locking import Locked, Relock


def lines(lock, before=None, **wish):
    return list(locked_lines(Locked(lock, before, compare(before, lock, Advisories()), Relock(**wish))))


def with_result(lock, sha256):
    result = PostBuild(sees="0" * 64, files={}, size=2000, sha256=sha256)
    platform = lock.platforms[SYSTEM].model_copy(update={"post_build": result})
    return lock.model_copy(update={"platforms": {SYSTEM: platform}})


@pytest.mark.parametrize(
    ("choice", "said"),
    [
        ({"kind": "library", "subject": "a needs b", "chosen": "c"}, "a needs b: c"),
        ({"kind": "library", "subject": "a needs b", "chosen": NOTHING}, "a needs b: not added: so [x]"),
        (
            {"kind": "overlap", "subject": "a, b: both bring x", "chosen": "b"},
            "a, b: both bring x: that of b is taken, so [x]",
        ),
        ({"kind": "lock-file", "subject": "a is not as it", "chosen": "1"}, "a is not as it: 1, so [x]"),
        (
            {"kind": "source", "subject": "a is built from source", "chosen": "1"},
            "a is built from source: 1, so [x]",
        ),
        ({"kind": "renamed", "subject": "a", "chosen": "b"}, "a: b"),
    ],
)
def test_a_choice_is_told_when_it_is_new(choice, said):
    before = locks.lock()
    lock = before.model_copy(update={"choices": (*before.choices, Choice(reason="so [x]", **choice))})
    escaped = said.replace("[x]", "\\[x]")
    assert lines(lock, before)[0] == escaped
    assert escaped in lines(lock)
    assert escaped not in lines(lock, lock)


def test_what_is_not_written_is_only_what_would_be_locked():
    assert lines(locks.lock())[0].startswith(f"locked {SYSTEM}: Python ")
    assert lines(locks.lock(), write=False)[0].startswith(f"would lock {SYSTEM}: Python ")
    assert lines(locks.lock(), locks.lock())[-1] == "nothing moved"
    assert len(lines(locks.lock(), locks.lock(), write=False)) == 1


@pytest.mark.parametrize(
    ("before", "wish", "said"),
    [
        (None, (), ", 2.0 kB by post_build"),
        ("1", ("post_build",), ", 2.0 kB by post_build, which has changed"),
        ("2", ("post_build",), ", 2.0 kB by post_build, the same as before"),
        ("2", (), ", 2.0 kB by post_build"),
    ],
)
def test_what_post_build_made_is_compared_with_what_it_had_made(before, wish, said):
    old = None if before is None else with_result(locks.lock(), before * 64)
    lock = with_result(locks.lock(), "2" * 64)
    (line,) = [line for line in lines(lock, old, upgrade_packages=wish) if line.startswith("locked")]
    assert line.endswith(said)


THIS = Tungsten(version="0.3.0", sdk="1" * 64, server="2" * 64, nix="3" * 64)
THIS_SHORT = "tungsten 0.3.0 (sdk 11111111, server 22222222, nix 33333333"
MAY = (
    "the image's digest may be another than it was by that; `tungsten lock` keeps the pins and notes this one"
)


@pytest.mark.parametrize(
    ("maker", "said"),
    [
        (None, f"a tungsten before 0.2.0 has made the lock, and this is 0.3.0: {MAY}"),
        (
            {"version": "0.2.0", "nix": "0" * 64, "server": "0" * 64},
            f"tungsten 0.2.0 has made the lock, and this is 0.3.0: the server, nix/ differ, so {MAY}",
        ),
        ({"nix": "0" * 64}, f"another state of tungsten 0.3.0 has made the lock: nix/ differs, so {MAY}"),
        ({"version": "0.2.9"}, f"tungsten 0.2.9 has made the lock, and this is 0.3.0: {MAY}"),
    ],
)
def test_what_differs_in_another_tungsten_is_said(maker, said):
    assert of_another(maker and THIS.model_copy(update=maker), THIS) == said


def test_who_made_a_lock_is_a_part_of_what_changed():
    before = locks.lock().model_copy(update={"tungsten": THIS})
    now = before.model_copy(update={"tungsten": THIS.model_copy(update={"nix": "4" * 64})})
    assert lines(now, before)[1:] == [
        "nothing moved",
        f"made by: {THIS_SHORT}) -> {THIS_SHORT.replace('33333333', '44444444')})",
    ]
    assert len(lines(now)) == 2
