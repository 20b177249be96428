"""The programs on real Debian packages: what they compute is what the finished root's own programs say."""

import json
import os
import subprocess
import tarfile
from datetime import UTC, datetime

import pytest

from tests import emulation
from tests.binaries import unpack
from tests.frozen import take
from tests.frozen.archive import Deb
from tungstenkit.debian.index import ARCHIVES, Trust, fetch_index
from tungstenkit.debian.release import RELEASES
from tungstenkit.debian.solve import DebSolver
from tungstenkit.fetch.web import get_bytes
from tungstenkit.platforms import ARCHITECTURES, this_system
from tungstenkit.resolve.rules import base_packages


@pytest.fixture(scope="module", params=ARCHITECTURES)
def system(request):
    """What the packages are for; that of another machine is emulated."""
    if request.param != this_system() and emulation.missing():
        pytest.skip(emulation.missing())
    return request.param


@pytest.fixture(scope="module")
def architecture(system):
    return ARCHITECTURES[system].debian


@pytest.fixture(scope="module", params=take.roots())
def debs(request, system, frozen, tmp_path_factory):
    """The closure of a release's packages: all, and those that only the packages with alternatives need."""
    release = request.param
    if f"{release} {system}" not in json.loads((take.TAKEN / "taken.json").read_text())["roots"]:
        pytest.skip("the mirror has not all of its packages any more")
    bases = {archive: (f"{frozen.url}/{archive}",) for archive in ARCHIVES}
    certs = {archive: [frozen.archive.key.extract_certificate()] for archive in ARCHIVES}
    index = fetch_index(
        release,
        ARCHITECTURES[system].debian,
        bases,
        get_bytes,
        Trust(datetime.now(UTC), certs),
        cache=tmp_path_factory.mktemp("index"),
    )
    solver = DebSolver(index)

    def closure(*packages):
        found = solver.solve({"system": packages}).debs
        return sorted(frozen.archive.folder / deb.file.removeprefix("mirror://") for deb in found)

    plain, alternatives = take.roots()[release]
    small, everything = closure(*plain), closure(*plain, *alternatives)
    return small, [deb for deb in everything if deb not in small]


@pytest.fixture(scope="module")
def layer(run_tool, tmp_path_factory):
    """Makes a layer, above others, once: a release's roots share some."""
    made = {}

    def make(lower, inputs):
        config = {"created-by": "x", "python": None, "lower": lower, "inputs": inputs}
        key = json.dumps(config)
        if key not in made:
            out = tmp_path_factory.mktemp("layer") / "out"
            result = run_tool("layer.py", config, out)
            assert result.returncode == 0, result.stderr
            made[key] = str(out)
        return made[key]

    return make


def of_debs(paths):
    """The inputs of a layer of packages, which is not compressed: that takes most of the time."""
    return [{"kind": "deb", "path": str(path), "stored": True} for path in paths]


@pytest.fixture(scope="module")
def packages(debs, layer):
    """The packages that every root has, in two layers."""
    small, _ = debs
    layers = []
    for group in (small[::2], small[1::2]):
        layers.append(layer([*layers], of_debs(group)))
    return layers


@pytest.fixture(scope="module", params=["plain", "alternatives"])
def root(request, architecture, debs, packages, layer, tmp_path_factory):
    """A root unpacked from layers: packages in two or three of them, the system layer last."""
    layers = [*packages]
    if request.param == "alternatives":
        layers.append(layer([*layers], of_debs(debs[1])))
    system = {"kind": "system", "alternatives": True, "ld-so-cache": True, "architecture": architecture}
    layers.append(layer([*layers], [system]))
    folder = tmp_path_factory.mktemp("root")
    for one in layers:
        with tarfile.open(f"{one}/blob", "r:gz") as archive:
            unpack(archive, folder, numeric_owner=True)
    return folder


def test_zones_have_the_same_names_in_every_release(frozen):
    """Those of old, such as US/Pacific, are in a package of their own since trixie. `posix/` has them once more."""
    named = {}
    for (release, _archive), debs in frozen.archive.debs.items():
        wanted = {"tzdata", "tzdata-legacy"} & {
            *base_packages(has_old_zones_apart=RELEASES[release].has_old_zones_apart)
        }
        for deb in debs:
            if deb.fields["Package"] in wanted:
                files = Deb.read(deb.path).files
                named.setdefault(release, set()).update(
                    name for name in files if name.startswith("usr/share/zoneinfo/")
                )
    assert {"bookworm", "trixie"} <= named.keys()
    assert "usr/share/zoneinfo/US/Pacific" in named["bookworm"]
    missing = named["bookworm"] - named["trixie"]
    assert [name for name in missing if "/posix/" not in name] == []


def in_root(root, *command):
    foreign = not (root / "usr/lib" / f"{os.uname().machine}-linux-gnu").exists()
    wrapped = [*(emulation.PREFIX if foreign else ["unshare", "-r", "-m"]), "chroot", root, *command]
    return subprocess.run(
        wrapped, capture_output=True, text=True, check=True, env={"PATH": "/usr/sbin:/usr/bin"}
    ).stdout


def test_the_cache_is_what_the_roots_own_ldconfig_writes(root):
    ours = (root / "etc/ld.so.cache").read_bytes()
    (root / "etc/ld.so.cache").unlink()
    in_root(root, "/sbin/ldconfig", "-X")
    assert (root / "etc/ld.so.cache").read_bytes() == ours


def test_programs_of_the_root_run(root):
    """Links of the merged /usr and of alternatives lead to programs that work."""
    assert in_root(root, "/bin/bash", "-c", "echo $((6 * 7))") == "42\n"
    assert in_root(root, "/usr/bin/awk", "BEGIN { print 6 * 7 }") == "42\n"


def test_the_bundle_has_every_certificate(root):
    bundle = (root / "etc/ssl/certs/ca-certificates.crt").read_text()
    certificates = list((root / "usr/share/ca-certificates/mozilla").iterdir())
    assert bundle.count("-----BEGIN CERTIFICATE-----") == len(certificates) > 100


def test_every_link_of_an_alternative_leads_to_a_file(root):
    chosen = root / "etc/alternatives"
    links = [path for path in chosen.iterdir() if path.is_symlink()]
    assert links
    for link in links:
        target = link.readlink()
        assert target.is_absolute()
        assert os.path.lexists(root / target.relative_to("/"))
