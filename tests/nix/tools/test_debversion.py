"""Versions sort as dpkg sorts them."""

import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.machine import needs
from tungstenkit.debian.version import order

pytestmark = pytest.mark.timeless("compares version numbers")

SORTED = [
    "0~~",
    "0~",
    "0",
    "0a",
    "0+",
    "0.0~rc1",
    "0.",
    "1.0~1",
    "1.0",
    "1.0-0+b1",
    "1.0-1",
    "1.0-1.1",
    "1.0-10",
    "1.0+x",
    "1:0",
]


def test_order_by_policy(tools):
    """The examples of Debian policy 5.6.12 and what follows from its rules."""
    key = tools.debversion.version_key
    assert sorted(sorted(SORTED), key=key) == SORTED
    assert key("1.0") == key("1.0-0") == key("0:1.0") == key("01.00")
    assert key("~~") < key("~~a") < key("~") < key("") < key("a")


versions = st.from_regex(r"\A([01]:)?[01][0-9a.+~]{0,3}(-[01a.+~]{1,3})?\Z")


@needs("dpkg")
@settings(deadline=None, max_examples=400)
@given(versions, versions)
def test_order_is_that_of_dpkg(tools, left, right):
    key = tools.debversion.version_key
    ours = "lt" if key(left) < key(right) else "gt" if key(left) > key(right) else "eq"
    # Of its three relations dpkg finds one: this one is enough.
    assert subprocess.run(["dpkg", "--compare-versions", left, ours, right], check=False).returncode == 0


@given(st.lists(versions, max_size=6))
def test_order_is_that_of_locking(tools, some):
    """A lock's package replaces another's files in a layer as the solver took it to."""
    key = tools.debversion.version_key
    assert [[key(a) < key(b) for a in some] for b in some] == [
        [order(a) < order(b) for a in some] for b in some
    ]
