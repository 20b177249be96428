"""The programs on real Debian packages: what they compute is what the finished root's own programs say.

Packages come from the mirror of the machine's apt, by a private configuration per release.
"""

import os
import re
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

from tests import emulation
from tungstenkit.platforms import ARCHITECTURES, this_system

pytestmark = [
    pytest.mark.nix,
    pytest.mark.skipif(shutil.which("apt-get") is None, reason="apt is not here"),
]

RELEASES = {
    "bullseye": [
        "python3.9-minimal",
        "base-files",
        "libc-bin",
        "ca-certificates",
        "libgomp1",
        "mawk",
        "tini",
        "bash",
    ],
    "bookworm": [
        "python3.11-minimal",
        "base-files",
        "libc-bin",
        "ca-certificates",
        "libgomp1",
        "mawk",
        "tini",
        "bash",
    ],
    "trixie": [
        "python3.13-minimal",
        "base-files",
        "libc-bin",
        "ca-certificates",
        "libgomp1",
        "mawk",
        "tini",
        "bash",
    ],
}
ALTERNATIVES = ["libopenblas0-pthread", "liblapack3", "xz-utils", "less"]
SOURCES = Path("/etc/apt/sources.list.d/debian.sources")
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "tungsten-tests" / "debs"


@pytest.fixture(scope="module", params=["amd64", "arm64"])
def architecture(request):
    """What the packages are for; that of another machine is emulated."""
    if request.param != ARCHITECTURES[this_system()].debian and emulation.missing():
        pytest.skip(emulation.missing())
    return request.param


@pytest.fixture(scope="module", params=RELEASES)
def debs(request, architecture, tmp_path_factory):
    """The closure of a release's packages: all, and those that only the packages with alternatives need."""
    release = request.param
    state = tmp_path_factory.mktemp(release)
    base = re.search(r"^URIs:\s*(\S+)", SOURCES.read_text(), re.MULTILINE) if SOURCES.exists() else None
    if base is None:
        pytest.skip("no mirror of Debian is configured")
    archives = CACHE / release
    (archives / "partial").mkdir(parents=True, exist_ok=True)
    for folder in ("lists/partial", "etc"):
        (state / folder).mkdir(parents=True)
    (state / "status").touch()
    (state / "etc/sources.list").write_text(f"deb [signed-by={KEYRING}] {base.group(1)} {release} main\n")
    settings = {
        "Dir::State": state,
        "Dir::State::status": state / "status",
        "Dir::Cache": state,
        "Dir::Cache::archives": archives,
        "Dir::Etc::SourceList": state / "etc/sources.list",
        "Dir::Etc::SourceParts": "/dev/null",
        "APT::Install-Recommends": "false",
        "APT::Architecture": architecture,
        "APT::Architectures": architecture,
        "Debug::NoLocking": "true",
        "Acquire::Languages": "none",
    }
    (state / "apt.conf").write_text("".join(f'{name} "{value}";\n' for name, value in settings.items()))

    def apt(*arguments):
        environment = {**os.environ, "APT_CONFIG": str(state / "apt.conf")}
        command = ["apt-get", "-qq", "-y", *arguments]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout

    def closure(packages):
        apt("install", "--download-only", *packages)
        lines = apt(
            "install", "--print-uris", "--reinstall", "-o", f"Dir::Cache::archives={state}", *packages
        )
        return [archives / name for name in sorted(re.findall(r"^'\S+' (\S+\.deb) ", lines, re.MULTILINE))]

    try:
        apt("update")
    except subprocess.CalledProcessError as problem:
        pytest.skip(f"the mirror has no {release} for {architecture}: {problem.stderr.strip()[-200:]}")
    small, all_of_them = closure(RELEASES[release]), closure(RELEASES[release] + ALTERNATIVES)
    return small, [deb for deb in all_of_them if deb not in small]


@pytest.fixture(scope="module", params=["plain", "alternatives"])
def root(request, architecture, debs, run_tool, tmp_path_factory):
    """A root unpacked from layers: packages in two or three of them, the system layer last."""
    folder = tmp_path_factory.mktemp("layers")
    small, more = debs
    groups = [small[::2], small[1::2], *([more] if request.param == "alternatives" else [])]
    inputs = [[{"kind": "deb", "path": str(deb)} for deb in group] for group in groups]
    system = {"kind": "system", "alternatives": True, "ld-so-cache": True, "architecture": architecture}
    inputs.append([system])
    layers = []
    for number, items in enumerate(inputs):
        config = {"created-by": "x", "python": None, "lower": list(layers), "inputs": items}
        result = run_tool("layer.py", config, folder / str(number))
        assert result.returncode == 0, result.stderr
        layers.append(str(folder / str(number)))
        with tarfile.open(folder / str(number) / "blob", "r:gz") as archive:
            archive.extractall(folder / "root", filter="tar", numeric_owner=True)
    return folder / "root"


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
