"""What a base image means for a solve."""

import pytest

from tests.tungstenkit.locks import source
from tungstenkit.lock.parts import BaseImage, BasePython
from tungstenkit.platforms import Target
from tungstenkit.resolve.base import (
    Base,
    check_sources,
    choices_on,
    groups_on,
    loadable_on,
    pythons_on,
    with_packages,
)
from tungstenkit.resolve.base_debs import read_system
from tungstenkit.resolve.compatible import glibc
from tungstenkit.sdk.errors import ResolveError

DIGEST = f"sha256:{'0' * 64}"
DEBIANS = {"3.13": "newest", "3.11": "newest", "3.9": "newest"}


def base(version=None, libc="2.36", certificates="/etc/ssl/certs/ca-certificates.crt", **distributions):
    python = BasePython(path="/p", home="/", prefix="/usr", site_packages="/s") if version else None
    image = BaseImage(
        reference="b:1",
        named=DIGEST,
        digest=DIGEST,
        layers=(),
        environment={},
        labels={},
        exposed_ports=(),
        libc=libc,
        certificates=certificates,
        python=python,
    )
    return Base(
        image,
        version,
        "why",
        distributions,
        frozenset(),
        (),
        read_system("", "", "amd64", has_merged_usr=False),
    )


def target(python="3.11", release="bookworm", libc=None):
    return Target("x86_64-linux", release, python, libc)


def test_a_bases_own_python_is_the_only_candidate():
    assert pythons_on({"a": base("3.12"), "b": base("3.12")}, lambda: DEBIANS) == {"3.12": "why"}


@pytest.mark.parametrize(
    ("libc", "expected"),
    [(None, ["3.13", "3.11"]), ("2.36", ["3.13", "3.11"]), ("2.39", ["3.13"]), ("2.28", ["3.13", "3.11"])],
)
def test_ours_must_not_have_an_older_c_library_nor_a_loader_that_knows_no_names(libc, expected):
    assert list(pythons_on({"a": base(libc=libc)}, lambda: DEBIANS)) == expected


def test_a_base_that_is_newer_than_debian_is_refused_with_its_c_library():
    with pytest.raises(ResolveError, match=r"2\.50"):
        pythons_on({"a": base(libc="2.50")}, lambda: DEBIANS)


def test_one_lock_has_one_python():
    with pytest.raises(ResolveError, match="none on b"):
        pythons_on({"a": base("3.12"), "b": base()}, lambda: DEBIANS)


def test_a_base_gets_what_it_lacks_and_no_more():
    assert groups_on(base("3.11"), target()) == {"base": ["tini"]}
    assert groups_on(base("3.11", certificates=None), target())["base"] == ["tini", "ca-certificates"]
    assert groups_on(base(), target())["python"][0] == "python3.11"


def test_wheels_are_for_the_bases_c_library():
    assert glibc(target(libc=(2, 28))) == (2, 28)
    assert glibc(target()) == (2, 36)


@pytest.mark.parametrize(
    ("libc", "expected"),
    [
        *(("2.36", "bookworm"), ("2.35", "bullseye"), ("2.39", "bookworm"), ("2.50", "trixie")),
        *((None, "trixie"), ("2.28", None)),
    ],
)
def test_a_library_that_every_program_loads_is_for_the_older_c_library(libc, expected):
    """Ours and the base's stand side by side."""
    found = loadable_on(base(libc=libc).image, target("3.13", "trixie"))
    assert (found.release if found else None) == expected
    assert loadable_on(None, target()) == target()


def test_packages_of_the_base_that_ours_replace_are_named():
    own = base("3.11", six="1.0", same="2", other="3")
    versions = {"six": "1.17", "same": "2", "new": "1"}
    assert with_packages(own, versions).python.replaces == ("same", "six")
    assert [(c.subject, c.chosen) for c in choices_on(own, target(), versions)][1:] == [("six", "1.17")]


@pytest.mark.parametrize("python", ["3.12", "3.14"])
def test_that_nothing_is_compiled_is_said_for_a_python_that_debian_has_not(python):
    """A release that is to come gives nothing to an image that does not ask for it."""
    subjects = [choice.subject for choice in choices_on(base(python), target(python, "trixie"), {})]
    assert subjects == ["b:1", "byte-code"]


@pytest.mark.parametrize(
    ("on", "where", "message"),
    [
        (base("3.12"), target("3.12", "trixie"), "no Debian release has Python 3.12"),
        (base("3.11", "2.28"), target(), "the base image has 2.28"),
        (base("3.11"), target(), None),
        (base(), target(), None),
    ],
)
def test_what_is_built_must_run_on_the_base(on, where, message):
    if message is None:
        check_sources(on, where, [source("six")])
        return
    check_sources(on, where, [])
    with pytest.raises(ResolveError, match=message):
        check_sources(on, where, [source("six")])
