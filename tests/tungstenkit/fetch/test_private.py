"""What came by somebody's credentials is known by where it came from, and by nothing else."""

import json
from datetime import UTC, datetime

import pytest

from tests.tungstenkit import locks
from tungstenkit.fetch import private
from tungstenkit.fetch.mirrors import Mirrors
from tungstenkit.fetch.needs import LockedFile
from tungstenkit.lock.packages import GitCommit

SHA = "a" * 64
PLAIN = "https://pip.example/simple"
WITH = "https://me:secret@own.example/simple"


@pytest.fixture(autouse=True)
def _nobody(monkeypatch, tmp_path):
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(tmp_path / "auth.json"))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))


def mirrors(pypi=PLAIN, **more):
    fields = {"debian": ("http://deb.example/debian",), "debian_security": (), "npm": None} | more
    return Mirrors(pypi=pypi, found=datetime(2026, 1, 1, tzinfo=UTC), **fields)


def is_private(file, label=None, known=None):
    return private._is_private(file, label, known or mirrors())


def netrc(tmp_path, host):
    (tmp_path / "netrc").write_text(f"machine {host} login me password secret\n")


def test_an_index_with_a_password_makes_all_of_it_private():
    file = LockedFile("a-1-py3-none-any.whl", 1, SHA, project="a")
    assert not is_private(file)
    assert is_private(file, known=mirrors(WITH))


@pytest.mark.parametrize(
    ("label", "expected"), [("own", True), ("machine", False), ("--extra-index-url x", False), (None, False)]
)
def test_a_lock_says_which_index_a_wheel_is_of(label, expected):
    file = LockedFile("a-1-py3-none-any.whl", 1, SHA, project="a")
    other = "https://declared.example/x"
    known = mirrors(
        extra_indexes=(WITH, other),
        indexes={"own": {"url": "https://own.example/simple"}},
        declared={other: "--extra-index-url x"},
    )
    assert is_private(file, label, known) is expected


def test_netrc_counts_as_a_url_does(tmp_path):
    file = LockedFile("x", 1, SHA, url="https://files.example/x")
    assert not is_private(file)
    netrc(tmp_path, "files.example")
    assert is_private(file)
    assert not is_private(LockedFile("y", 1, SHA, url="https://other.example/y"))


def test_debian_s_files_are_private_where_its_mirror_is(tmp_path):
    file = LockedFile("mirror://debian/pool/main/a.deb", 1, SHA, release="trixie")
    security = LockedFile("mirror://debian-security/pool/main/a.deb", 1, SHA, release="trixie")
    netrc(tmp_path, "deb.example")
    assert is_private(file)
    assert not is_private(security)


@pytest.mark.parametrize(
    ("url", "expected"),
    [("https://git.example/x", False), ("ssh://git@git.example/x", True), ("file:///srv/x", False)],
)
def test_a_repository_behind_ssh_is_private(url, expected):
    commit = GitCommit(url=url, commit="a" * 40)
    assert is_private(LockedFile("x.tar.gz", 1, SHA, project="x", git=commit)) is expected


def test_the_model_s_own_is_not():
    file = LockedFile("a.whl", 1, SHA, project="a", local="wheels/a.whl")
    assert not is_private(file, known=mirrors(WITH))


def test_a_base_image_s_layers_are_private_where_its_registry_knows_us(tmp_path):
    file = LockedFile("layer-x", 1, SHA, image=f"images.example/base@sha256:{SHA}")
    assert not is_private(file)
    (tmp_path / "auth.json").write_text(json.dumps({"auths": {"images.example": {"auth": "bWU6eA=="}}}))
    assert is_private(file)


def test_what_is_built_of_something_private_is_private():
    source = locks.source("a", wheel="a-1-py3-none-any.whl", wheel_size=1, wheel_sha256="3" * 64)
    lock = locks.lock(source, locks.wheel("b"))
    assert private.private_hashes(lock, mirrors()) == set()
    found = private.private_hashes(lock, mirrors(WITH))
    assert {"2" * 64, "3" * 64} <= found
    assert locks.wheel("b").sha256 in found
