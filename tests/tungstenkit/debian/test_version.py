"""Versions are ordered as Debian orders them, by us and by the library that we hand ranks to."""

import itertools
import subprocess

import pytest
import solv
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.machine import needs
from tungstenkit.debian.version import order, rank

pytestmark = pytest.mark.timeless("compares version numbers")

# Each is lower than the next (Debian policy 5.6.12).
ASCENDING = [
    "1.0~~",
    "1.0~~a",
    "1.0~",
    "1.0~rc1-1",
    "1.0",
    "1.0-1~deb12u1",
    "1.0-1",
    "1.0-1+b1",
    "1.0-1+deb12u2",
    "1.0-1+deb12u10",
    "1.0-1.1",
    "1.0-2",
    "1.0a",
    "1.0+dfsg-1",
    "1.0.1",
    "1.2",
    "1.10",
    "20260101",
    "1:0.1",
    "2:0",
]

VERSIONS = st.from_regex(r"([0-2]:)?[0-9][0-9a-zA-B.+~]{0,5}(-[0-9a-zA-B.+~]{1,4}){0,2}", fullmatch=True)


def libsolv_compare(left, right):
    pool = solv.Pool()
    repo = pool.add_repo("r")
    solvables = []
    for version in (left, right):
        solvables.append(repo.add_solvable())
        solvables[-1].name = "p"
        solvables[-1].evr = rank(version)
    result = solvables[0].evrcmp(solvables[1])
    return (result > 0) - (result < 0)


@pytest.mark.parametrize(("lower", "higher"), list(itertools.pairwise(ASCENDING)))
def test_order_is_that_of_policy(lower, higher):
    assert order(lower) < order(higher)
    assert libsolv_compare(lower, higher) == -1


@pytest.mark.parametrize(
    ("left", "right"),
    [("1.0", "0:1.0"), ("1.0", "1.0-0"), ("1.01", "1.1"), ("1.0-1", "1.0-01"), ("1a", "1a0")],
)
def test_what_policy_calls_equal_is_equal(left, right):
    assert rank(left) == rank(right)


@needs("dpkg")
@settings(max_examples=150, deadline=None)
@given(left=VERSIONS, right=VERSIONS)
def test_order_agrees_with_dpkg(left, right):
    ours = (order(left) > order(right)) - (order(left) < order(right))
    # Of its three relations dpkg finds one: this one is enough.
    relation = ("eq", "gt", "lt")[ours]
    assert subprocess.run(["dpkg", "--compare-versions", left, relation, right], check=False).returncode == 0
    assert libsolv_compare(left, right) == ours


@pytest.mark.parametrize("text", ["", "1 0", "a:1", "1_0", ":1"])
def test_what_is_no_version_is_refused(text):
    with pytest.raises(ValueError, match="not a Debian version"):
        rank(text)
