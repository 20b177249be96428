"""Who asked for a package: chains from wishes, from the lock alone."""

import pytest

from tests.tungstenkit.locks import deb, lock, source, wheel
from tungstenkit.audit.vulnerabilities import Advisories
from tungstenkit.audit.why import why
from tungstenkit.lock.parts import OVERLAP, Choice
from tungstenkit.sdk.errors import LockError


def image(*entries, name, **options):
    return [r for r in why(lock(*entries, **options), name, Advisories()) if r.place == "image"]


def chains(*entries, name):
    (reason,) = image(*entries, name=name)
    return reason.chains


@pytest.mark.parametrize("name", ["twin", "twin-gpu"])
def test_of_two_that_bring_one_file_both_say_which_wins(name):
    overlap = Choice(kind=OVERLAP, subject="twin-gpu, twin: both bring t.py", chosen="twin", reason="r")
    entries = [wheel(one, needed_by=[f"python_packages: {one}"]) for one in ("twin", "twin-gpu", "other")]
    (reason,) = image(*entries, name=name, choices=[overlap])
    assert reason.choices == (overlap,)
    assert image(*entries, name="other", choices=[overlap])[0].choices == ()


def test_the_chain_is_the_shortest_from_each_wish():
    entries = [
        wheel("a", needed_by=["python_packages: a>=1"]),
        wheel("b", needed_by=["a"]),
        wheel("c", needed_by=["b", "python_packages: c"]),
        wheel("d", needed_by=["b", "c"]),
    ]
    assert chains(*entries, name="d") == (
        ("python_packages: c", "c", "d"),
        ("python_packages: a>=1", "a", "b", "d"),
    )


def test_what_the_user_wrote_comes_before_what_every_image_holds():
    entries = [
        deb("libc6", needed_by=["base: libc6", "ffmpeg"]),
        deb("ffmpeg", needed_by=["system_packages: ffmpeg"]),
    ]
    assert chains(*entries, name="libc6") == (
        ("system_packages: ffmpeg", "ffmpeg", "libc6"),
        ("base: libc6", "libc6"),
    )


def test_a_library_leads_on_to_the_package_that_needs_it():
    entries = [
        deb("libgl1", needed_by=["library: libGL.so.1 of opencv_python"]),
        wheel("opencv-python", needed_by=["ultralytics"]),
        wheel("ultralytics", needed_by=["python_packages: ultralytics"]),
    ]
    assert chains(*entries, name="libgl1") == (
        (
            "python_packages: ultralytics",
            "ultralytics",
            "opencv-python",
            "library: libGL.so.1 of opencv_python",
            "libgl1",
        ),
    )


def test_a_circle_of_packages_ends():
    entries = [deb("a", needed_by=["b", "system_packages: a"]), deb("b", needed_by=["a"])]
    assert chains(*entries, name="b") == (("system_packages: a", "a", "b"),)


def test_a_name_that_a_deb_and_a_wheel_have_gives_both():
    entries = [deb("tzdata", needed_by=["base: tzdata"]), wheel("tzdata", needed_by=["pandas"])]
    assert [reason.kind for reason in image(*entries, name="tzdata")] == ["deb", "wheel"]


@pytest.mark.parametrize("spelling", ["a-b", "A_b", "a.B"])
def test_a_project_has_many_spellings(spelling):
    (reason,) = image(wheel("a-b"), name=spelling)
    assert reason.name == "a-b"


def test_the_servers_packages_and_the_tools_are_found_too():
    places = {reason.place for reason in why(lock(), "flask", Advisories())}
    assert places == {"server"}
    places = {reason.place for reason in why(lock(), "busybox-static", Advisories())}
    assert places == {"layers"}


def test_what_is_built_from_source_is_found_and_so_is_what_builds_it():
    entries = [wheel("app", needed_by=["python_packages: app"]), source("a-b", needed_by=["app"])]
    (reason,) = image(*entries, name="A_b")
    assert (reason.kind, reason.chains) == ("wheel", (("python_packages: app", "app", "a-b"),))
    (reason,) = why(lock(*entries), "setuptools", Advisories())
    assert reason.place == "sources"
    assert reason.chains == (("the build of a-b 1: setuptools", "setuptools"),)


def test_the_choices_that_chose_it_are_told():
    choices = [
        Choice(kind="virtual", subject="x depends on awk", chosen="mawk", reason="by name"),
        Choice(kind="essential", subject="system_packages", chosen="bash, mawk", reason="policy"),
        Choice(kind="virtual", subject="mawk depends on y", chosen="z", reason="by name"),
    ]
    (reason,) = image(deb("mawk"), name="mawk", choices=choices)
    assert reason.choices == tuple(choices[:2])


def test_an_unknown_name_is_told_what_is_near():
    with pytest.raises(LockError, match=r"no package 'nump'; near: numpy"):
        image(wheel("numpy"), name="nump")


def test_what_was_left_out_is_told_with_the_reason():
    choice = Choice(
        kind="dropped", subject="a depends on openssl (>= 1) | b", chosen="nothing", reason="no script"
    )
    with pytest.raises(LockError, match="'openssl'") as caught:
        image(deb("a"), name="openssl", choices=[choice])
    assert "a depends on openssl (>= 1) | b: no script" in caught.value.hint
    with pytest.raises(LockError) as caught:
        image(deb("a"), name="ssl", choices=[choice])
    assert caught.value.hint is None


def test_what_a_version_is_chosen_for_is_told_of_its_project_alone():
    older = Choice(
        kind="older", subject="a is older than it could be", chosen="1", reason="not 2: b 1 needs a<2"
    )
    early = Choice(kind="pre-release", subject="b is a pre-release", chosen="1rc1", reason="")
    place = Choice(kind="place", subject="from team", chosen="a, c", reason="")
    other = Choice(kind="lock-file", subject="b is not as uv.lock has it", chosen="1rc1", reason="not 2: x")
    entries = [wheel(name, needed_by=[f"python_packages: {name}"]) for name in ("a", "b", "c")]
    told = {
        name: image(*entries, name=name, choices=[older, early, place, other])[0].choices for name in "abc"
    }
    assert told == {"a": (older, place), "b": (early, other), "c": (place,)}
