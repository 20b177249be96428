"""What a release is: the same wheel and sdist from the same files, and in them what tungsten is, and nothing else."""

import io
import json
import stat
import subprocess
import sys
import tarfile
import tomllib
import zipfile

import pytest

from tests import clocks, dist
from tungstenkit import data

PROJECT = tomllib.loads((dist.ROOT / "pyproject.toml").read_text())["project"]
VERSION = PROJECT["version"]
ABOUT = ("METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE")
BESIDE = ("pyproject.toml", "README.md", "CHANGELOG.md", "LICENSE", ".gitignore", "PKG-INFO")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The sdist and the wheel of what git has here, as they are now; where they were made, and their bytes."""
    files = [name for name in dist.tracked() if (dist.ROOT / name).is_file()]
    if not files:
        pytest.skip("not a git checkout")
    folder = tmp_path_factory.mktemp("dist")
    tree = dist.lay_out(files, folder / "here", dist.HERE)
    return folder, files, dist.make(tree, folder / "here-out")


def wheel_of(made):
    return zipfile.ZipFile(io.BytesIO(made[f"tungstenkit_nix-{VERSION}-py3-none-any.whl"]))


def test_the_same_files_are_the_same_release_everywhere(made):
    folder, files, here = made
    library = clocks.libfaketime(folder)
    tree = dist.lay_out(files, folder / "there", dist.THERE)
    assert dist.make(tree, folder / "there-out", dist.THERE, library=library) == here


def test_the_sdist_makes_the_same_wheel(made):
    folder, _, here = made
    ((name, wheel),) = dist.from_sdist(here, folder / "sdist").items()
    assert wheel == here[name]


def test_a_wheel_has_tungsten_and_what_exports_are_made_of_and_nothing_else(made):
    _, files, here = made
    wanted = {name for name in files if name.startswith("tungstenkit/")}
    wanted |= {
        f"tungstenkit/_data/{name}" for name in files if name.startswith(("nix/", "server/tungsten_server/"))
    }
    wanted |= {f"tungstenkit_nix-{VERSION}.dist-info/{name}" for name in ABOUT}
    with wheel_of(here) as wheel:
        assert set(wheel.namelist()) == wanted
        assert {stat.S_IMODE(entry.external_attr >> 16) for entry in wheel.infolist()} == {0o644}
        assert len({entry.date_time for entry in wheel.infolist()}) == 1


def test_an_sdist_has_what_a_wheel_is_made_of_and_nothing_else(made):
    _, files, here = made
    ours = ("tungstenkit/", "nix/", "server/tungsten_server/")
    wanted = {name for name in files if name.startswith(ours)} | {*BESIDE}
    with tarfile.open(fileobj=io.BytesIO(here[f"tungstenkit_nix-{VERSION}.tar.gz"])) as sdist:
        members = sdist.getmembers()
    assert {one.name.partition("/")[2] for one in members} == wanted
    assert {(one.mode, one.uid, one.gid, one.uname, one.gname) for one in members} == {(0o644, 0, 0, "", "")}


def test_an_installed_tungsten_is_known_to_locks_as_the_checkout_is(made, tmp_path):
    """Which of the two has made a lock must not show."""
    with wheel_of(made[2]) as wheel:
        wheel.extractall(tmp_path)
    told = "[data.digests(), data.VERSION, str(data.NIX)]"
    program = f"import json; from tungstenkit import data; print(json.dumps({told}))"
    command = [sys.executable, "-c", program]
    told = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    digests, version, nix = json.loads(told)
    assert nix.startswith(str(tmp_path))
    assert (digests, version) == (data.digests(), VERSION)
