"""Images built in the roots of other systems: Debian's releases, and one that is nobody's kin, of a busybox, a Python
and the libraries that it loads. Each has the digest of the image that is built here.

    pytest -m "soak or not soak" tests/end_to_end/test_other_roots.py

tries all of them. Debian's are made by debootstrap, of this machine's mirrors, and there tungsten is installed by pip.
"""

import ensurepip
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pydantic
import pytest

from tests.binaries import unpack
from tests.conftest import MACHINES_OWN
from tests.end_to_end.conftest import copy_example
from tests.end_to_end.harness import ROOT, SYSTEM, checkout
from tests.end_to_end.somebody import UID
from tests.frozen.served import TUNGSTEN
from tests.machine import need, needs
from tungstenkit.debian.deb import open_files
from tungstenkit.fetch.machine_mirrors import apt_bases
from tungstenkit.lock.document import read_lock

pytestmark = needs("root")

PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
EXAMPLES = {"3.11": "blur", "3.13": "caption"}
"""By Python, that of ours too, an example whose lock has its packages."""
NOT_THERE = {"base-files", "ca-certificates", "dash", "libc-bin", "media-types", "netbase", "tini", "tzdata"}
"""Of an image's packages those that make it Debian's, or anybody's: /etc, a shell, getent."""
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")


class Root:
    """The root of another system."""

    def __init__(self, folder, shown=()):
        """A folder with its files. shown: folders of this machine that are to be seen there."""
        self.folder = folder
        # A folder before what is in it, which it would hide.
        self._shown = ":".join(sorted(map(str, {ROOT, *shown})))

    def home(self, uid):
        """The folder of a user's there; made."""
        home = self.folder / ("root" if uid == 0 else "home/somebody")
        home.mkdir(parents=True, exist_ok=True)
        os.chown(home, uid, uid)
        return home

    def add(self, source, uid, name):
        """Copy a folder into a user's; its path there."""
        copy = shutil.copytree(source, self.home(uid) / name, symlinks=True)
        subprocess.run(["chown", "-R", f"{uid}:{uid}", copy], check=True)
        return self.inside(copy)

    def inside(self, path):
        """A path of ours, as it is there."""
        return f"/{path.relative_to(self.folder)}"

    def run(self, uid, command, **environment):
        """Run a command of a shell's there; the finished process."""
        home = self.inside(self.home(uid))
        given = {"HOME": home, "PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8", **environment}
        program = Path(__file__).with_name("other_root.py")
        line = [sys.executable, program, self.folder, str(uid), self._shown, "/bin/sh", "-euc", command]
        return subprocess.run(line, env=given, capture_output=True, text=True)


@pytest.fixture
def place():
    """A folder that every user may enter."""
    made = Path(tempfile.mkdtemp(prefix="tungsten-root-"))
    made.chmod(0o755)
    yield made
    # A store's folders can't be written by their owner.
    subprocess.run(["chmod", "-R", "u+w", made], check=True)
    shutil.rmtree(made)


@pytest.fixture
def strange(place, frozen, lock_of):
    """A root without a distribution: busybox, Python, what that loads, and what ours imports."""
    if PYTHON not in EXAMPLES:
        pytest.skip(f"no example has Python {PYTHON}, with which the tests run")
    folder = place / "root"
    for name in ("bin", "sbin", "lib", "lib64"):
        (folder / "usr" / name).mkdir(parents=True)
        (folder / name).symlink_to(f"usr/{name}")
    platform = read_lock(lock_of(EXAMPLES[PYTHON])).platforms[SYSTEM]
    wanted = {deb.sha256 for deb in platform.debs if deb.name not in NOT_THERE}
    kept = [deb for debs in frozen.archive.debs.values() for deb in debs]
    paths = {deb.sha256: deb.path for deb in kept if deb.sha256 in wanted}
    assert len(paths) == len(wanted)
    (busybox, *_) = (
        deb.path for deb in kept if deb.fields["Package"] == "busybox-static" and "amd64" in deb.pool
    )
    for path in (*paths.values(), busybox):
        with path.open("rb") as deb, open_files(deb, path.name) as files:
            unpack(files, folder)
    shutil.rmtree(folder / "usr" / "share")
    said = subprocess.run([folder / "bin" / "busybox", "--list"], capture_output=True, text=True, check=True)
    for name in said.stdout.split():
        if not (folder / "bin" / name).exists():
            (folder / "bin" / name).symlink_to("busybox")
    (folder / "etc").mkdir(exist_ok=True)
    (folder / "etc" / "os-release").write_text("ID=strange\nNAME=Strange\n")
    return Root(folder, {Path(pydantic.__file__).parent.parent})


def digest_of(done):
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return json.loads(done.stdout[done.stdout.index("{") :])["digest"]


@pytest.mark.parametrize("uid", [UID, pytest.param(0, marks=pytest.mark.soak)])
def test_a_system_of_no_kin_builds_the_same_image(uid, strange, blur, copy_of, frozen):
    """No Debian, no glibc's programs, no bash; and it knows no mirror of Debian's: what it says then is enough."""
    assert not (strange.folder / "etc" / "debian_version").exists()
    keys = strange.add(frozen.keys, uid, "keys")
    model = strange.add(copy_of("blur"), uid, "blur")
    known = {name: value for name, value in frozen.environment.items() if value is not None}
    del known["XDG_CACHE_HOME"]
    environment = {
        **known,
        "TUNGSTEN_TESTS_KEYS": keys,
        "PYTHONPATH": f"{ROOT}:{Path(pydantic.__file__).parent.parent}",
        "PYTHONDONTWRITEBYTECODE": "1",
        "https_proxy": "http://127.0.0.1:9",  # nothing is asked that is not named
    }
    named = {
        name: environment.pop(name) for name in list(environment) if name.startswith("TUNGSTEN_MIRROR_DEBIAN")
    }
    command = f"/usr/bin/python{PYTHON} {TUNGSTEN[1]} build {model} --json --no-load"
    done = strange.run(uid, command, **environment)
    print(done.stderr)
    assert done.returncode != 0
    assert "debian" in done.stderr.lower()
    hinted = set(re.findall(r"TUNGSTEN_MIRROR_\w+", done.stderr))
    assert hinted == {"TUNGSTEN_MIRROR_DEBIAN"}
    environment |= {name: named[name] for name in hinted}
    assert digest_of(strange.run(uid, command, **environment)) == blur.digest


@pytest.fixture
def kindred(place, upstream):
    """Makes a root of a release of Debian's, as small as it gets, with what `make image` needs."""

    def make(release):
        need("debootstrap")
        base = next(base for base in apt_bases() if base in upstream.debian_bases["debian"])
        more = "--include=ca-certificates,make,python3-venv"
        command = ["debootstrap", "--variant=minbase", more, release, place / "root", base]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout[-2000:]
        return Root(place / "root")

    return make


@pytest.fixture(scope="module")
def example(upstream, tmp_path_factory):
    """examples/blur, locked by today's mirrors, and the digest of the image that is built here."""
    folder = copy_example("blur", tmp_path_factory.mktemp("today") / "blur")
    for command in ("lock", "build"):
        given = ["--json", "--no-load"] if command == "build" else []
        line = [sys.executable, "-m", "tungstenkit", command, folder, *given]
        done = subprocess.run(line, capture_output=True, text=True, env=MACHINES_OWN)
        assert done.returncode == 0, done.stderr
    shutil.rmtree(folder / ".tungsten")
    return folder, json.loads(done.stdout)["digest"]


def add_installer(root):
    """What `make` and `python -m venv` are, of this machine: of the same Python, and of no distribution's."""
    shutil.copy(shutil.which("make"), root.folder / "bin")
    library = root.folder / "usr" / "lib" / f"python{PYTHON}"
    shutil.copytree(Path(ensurepip.__file__).parent, library / "ensurepip", dirs_exist_ok=True)
    if (wheels := Path("/usr/share/python-wheels")).is_dir():
        shutil.copytree(wheels, root.folder / wheels.relative_to("/"))
    (root.folder / "bin" / "python3").symlink_to(f"python{PYTHON}")


@pytest.mark.soak
@pytest.mark.upstream
@pytest.mark.parametrize("uid", [UID, 0])
@pytest.mark.parametrize("system", ["bookworm", "trixie", "strange"])
def test_an_image_is_built_by_the_readmes_lines(system, uid, request, upstream, example, tmp_path):
    """By pip and `tungsten build`, and by `make image`, with this machine's mirrors and certificates."""
    environment = {"SSL_CERT_FILE": str(CERTIFICATES), "PIP_CERT": str(CERTIFICATES)}
    if system == "strange":
        need("make")
        root = request.getfixturevalue("strange")
        add_installer(root)
        environment["TUNGSTEN_MIRROR_DEBIAN"] = upstream.debian_bases["debian"][0]
    else:
        root = request.getfixturevalue("kindred")(system)
    for path in (CERTIFICATES, Path("/etc/resolv.conf")):
        target = root.folder / path.relative_to("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    folder, digest = example
    source = checkout(tmp_path)
    shutil.copytree(folder, source / "examples" / "blur", dirs_exist_ok=True)
    there = root.add(source, uid, "tungstenkit")
    install = f"cd {there}; python3 -m venv ~/venv; ~/venv/bin/pip install --quiet . >&2"
    command = f"{install}; ~/venv/bin/tungsten build examples/blur --json"
    assert digest_of(root.run(uid, command, **environment)) == digest
    made = root.run(uid, f"cd {there}; make image", **environment)
    assert made.returncode == 0, made.stdout + made.stderr
    assert f"digest      {digest}" in made.stdout.splitlines()
    assert any(line.startswith("prediction ") for line in made.stdout.splitlines())
