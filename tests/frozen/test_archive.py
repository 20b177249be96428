"""The tests' own archive: its bytes, how it is read, and that nobody but the tests believes it."""

import hashlib
import os
import subprocess
import sys
from datetime import UTC, datetime

import pytest
import requests

from tests.binaries import deb, wheel
from tests.frozen import moved, served
from tests.frozen.archive import Archive, Deb, new_key
from tungstenkit.debian.index import ARCHIVES, Trust, fetch_index
from tungstenkit.debian.solve import DebSolver
from tungstenkit.debian.version import order
from tungstenkit.fetch.web import get_bytes

MOMENT = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture
def archive(tmp_path):
    """Of one package that needs another exactly, and a wheel."""
    archive = Archive(tmp_path / "archive", new_key())
    files = tmp_path / "files"
    needed = deb(files / "data_1.0-2_all.deb", {"usr/share/data": b"data"}, control={"Architecture": "all"})
    needing = deb(files / "program_1.0-2_amd64.deb", control={"Depends": "data (= 1.0-2)"})
    for path in (needed, needing):
        archive.add_deb(Deb.read(path), "bookworm")
    archive.add_wheel(wheel(files / "probe-1.0-py3-none-any.whl", {"probe.py": "VALUE = 1\n"}))
    return archive


def index_of(mirror, folder, architecture="amd64"):
    bases = {archive: [f"{mirror.url}/{archive}"] for archive in ARCHIVES}
    certs = {archive: [mirror.archive.key.extract_certificate()] for archive in ARCHIVES}
    return fetch_index(
        "bookworm", architecture, bases, get_bytes, Trust(datetime.now(UTC), certs), cache=folder
    )


def test_what_is_made_is_the_same_bytes_each_time(tmp_path):
    made = []
    for folder in (tmp_path / "first", tmp_path / "second"):
        package = deb(folder / "data_1_all.deb", {"a": b"a"}, {"l": "a"}, scripts={"postinst": "#!/bin/sh\n"})
        made.append((package.read_bytes(), wheel(folder / "p-1-py3-none-any.whl", {"p.py": ""}).read_bytes()))
    assert made[0] == made[1]
    assert Deb.read(package).files == ("a", "l")


def test_an_index_says_what_its_packages_say(archive):
    archive.publish(MOMENT)
    folder = archive.folder / "debian" / "dists" / "bookworm"
    pool = archive.folder / "debian" / "pool" / "main" / "d" / "data_1.0-2_all.deb"
    data = pool.read_bytes()
    assert (folder / "main" / "binary-arm64" / "Packages").read_text() == (
        "Package: data\nVersion: 1.0-2\nArchitecture: all\nMaintainer: the tests\n"
        "Description: a package of the tests\nFilename: pool/main/d/data_1.0-2_all.deb\n"
        f"Size: {len(data)}\nSHA256: {hashlib.sha256(data).hexdigest()}\n"
    )
    assert (folder / "main" / "Contents-arm64").read_text() == "usr/share/data misc/data\n"


def test_a_solve_reads_it_and_a_later_day_has_newer_versions(archive, tmp_path):
    archive.publish()
    later = moved.later(archive, tmp_path / "later", "day2", {"probe"})
    later.publish()
    found = []
    for number, one in enumerate((archive, later)):
        with served.serve(one) as mirror:
            index = index_of(mirror, tmp_path / str(number))
            assert {suite.suite for suite in index.suites} == {
                "bookworm",
                "bookworm-updates",
                "bookworm-security",
            }
            found.append({deb.name: deb for deb in DebSolver(index).solve({"system": ["program"]}).debs})
            page = requests.get(f"{mirror.url}/pypi/simple/probe/", timeout=10).json()
            found[-1] |= {"wheels": [file["filename"] for file in page["files"]]}
    assert [sorted(deb) for deb in found] == [["data", "program", "wheels"]] * 2
    for name in ("data", "program"):
        assert order(found[0][name].version) < order(found[1][name].version)
        assert found[0][name].sha256 != found[1][name].sha256
    assert found[1]["wheels"] == ["probe-1.0+day2-py3-none-any.whl"]


def test_no_tungsten_but_the_tests_own_believes_it(archive, tmp_path):
    """Whatever its environment says."""
    for name in ("pydantic-2.9", "pillow-11.0"):
        archive.add_wheel(wheel(tmp_path / f"{name}-py3-none-any.whl", {}))
    archive.publish()
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "tungsten_model.py").write_text(
        "from tungstenkit import BaseIO, define_model\n\n\nclass IO(BaseIO):\n    x: int\n\n\n"
        "@define_model(input=IO, output=IO)\nclass Model:\n    def predict(self, inputs):\n        return inputs\n"
    )
    with served.serve(archive) as mirror:
        environment = dict(os.environ)
        mirror.set(environment)
        ours = subprocess.run(
            [*served.TUNGSTEN, "lock", "--resolve-only", "--python=3.11", tmp_path / "model"],
            env=environment,
            capture_output=True,
            text=True,
        )
        theirs = subprocess.run(
            [
                sys.executable,
                "-m",
                "tungstenkit.cli.main",
                "lock",
                "--resolve-only",
                "--python=3.11",
                tmp_path / "model",
            ],
            env=environment,
            capture_output=True,
            text=True,
        )
    # It gets as far as the packages, of which this archive has two.
    assert "base-files" in ours.stderr
    assert theirs.returncode == 1
    assert "no pinned Debian key made a good signature on the index" in theirs.stderr
