"""The packages that the tests make themselves: what they hold is asserted exactly.

Of Debian's kind, in each release: `probe-data` (a file), `libprobe1` and `libzbar0` (libraries that work),
`libprobe-dev` (a header and a program), `zstd` (this machine's, if it has one), `probe-diverts` (its script moves
another package's file away). Of Python's: `probe` in two versions, `needs-probe` (a library of it is linked against
libprobe), `bundles-probe` (it brings that library itself), a `pyzbar`, since what that project opens by name is known,
a `torch` that is nothing but its name, and a setuptools 80 beside the newest.
"""

import functools
import re
import shutil
import subprocess
import zipfile
from pathlib import Path

from tests.binaries import deb, wheel, wheel_record
from tests.frozen.archive import Deb

RELEASES = ("bookworm", "trixie")
LIBRARIES = "usr/lib/x86_64-linux-gnu"
NATIVE = "py3-none-manylinux_2_17_x86_64"
DIVERTS = """\
#!/bin/sh
set -e
move() {
    dpkg-divert --package probe-diverts --rename --add --divert "$1.moved" "$1"
}
if [ "$1" = install ]; then
    for file in /usr/share/probe/data; do move "$file"; done
fi
"""


@functools.cache
def library(folder, name, source, *options):
    """A shared library that a compiler of this machine makes; its bytes."""
    path = folder / name
    path.with_suffix(".c").write_text(source)
    command = [
        "gcc",
        "-shared",
        "-fPIC",
        "-nostdlib",
        f"-Wl,-soname,{name}",
        "-o",
        path,
        path.with_suffix(".c"),
    ]
    subprocess.run([*command, *options], check=True)
    return path.read_bytes()


def add_to(archive, folder):
    """Make them all, in a folder, and add them to an archive."""
    debs = [
        deb(
            folder / "probe-data_1.0_all.deb",
            {"usr/share/probe/data": b"data\n"},
            control={"Architecture": "all"},
        ),
        deb(
            folder / "probe-diverts_1.0_all.deb",
            {"usr/share/probe/data": b"in its place\n"},
            control={"Architecture": "all", "Depends": "probe-data"},
            scripts={"preinst": DIVERTS},
        ),
    ]
    wheels = [
        wheel(folder / f"probe-{v}-py3-none-any.whl", {"probe.py": f"VERSION = '{v}'\n"})
        for v in ("1.0", "2.0")
    ]
    wheels.append(wheel(folder / "torch-2.0-py3-none-any.whl", {"torch.py": ""}, more="License: BSD"))
    if setuptools := archive.files.get("setuptools"):
        wheels.append(older_setuptools(max(setuptools.values()), folder))
    debs.append(
        deb(
            folder / "libprobe-dev_1.0_all.deb",
            # As Debian's have them: what unpacks build roots makes no folders of its own.
            dict.fromkeys(("usr", "usr/bin", "usr/include"))
            | {"usr/include/probe.h": b"#define PROBE 44\n", "usr/bin/probe-tool": b"#!/bin/sh\n"},
            control={"Architecture": "all"},
        )
    )
    if program := shutil.which("zstd"):
        debs.append(deb(folder / "zstd_1.0_amd64.deb", zstd(program)))
    if shutil.which("gcc"):
        probe = library(folder, "libprobe.so.1", "int probe_answer(void) { return 42; }\n")
        zbar = library(folder, "libzbar.so.0", "int zbar_answer(void) { return 43; }\n")
        caller = "int probe_answer(void);\nint call(void) { return probe_answer(); }\n"
        needs = library(folder, "caller.so", caller, folder / "libprobe.so.1")
        bundles = library(folder, "bundler.so", caller, folder / "libprobe.so.1", "-Wl,-rpath,$ORIGIN/libs")
        debs += [
            deb(folder / "libprobe1_1.0_amd64.deb", {f"{LIBRARIES}/libprobe.so.1": probe}),
            deb(folder / "libzbar0_1.0_amd64.deb", {f"{LIBRARIES}/libzbar.so.0": zbar}),
        ]
        wheels += [
            wheel(
                folder / f"needs_probe-1.0-{NATIVE}.whl",
                {"needs_probe/__init__.py": CALL, "needs_probe/native.so": needs},
            ),
            wheel(
                folder / f"bundles_probe-1.0-{NATIVE}.whl",
                {
                    "bundles_probe/__init__.py": CALL,
                    "bundles_probe/native.so": bundles,
                    "bundles_probe/libs/libprobe.so.1": probe,
                },
            ),
            wheel(folder / "pyzbar-1.0-py3-none-any.whl", {"pyzbar/__init__.py": FIND}),
        ]
    for path in debs:
        for release in RELEASES:
            archive.add_deb(Deb.read(path), release)
    for path in wheels:
        archive.add_wheel(path)


def zstd(program):
    """This machine's zstd, and the libraries of it that a Python does without."""
    loaded = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
    paths = [Path(line.split()[2]) for line in loaded.splitlines() if "=> /" in line]
    own = [path for path in paths if not re.match(r"lib(c|m|z|lzma)\.so", path.name)]
    folders = ("usr", "usr/bin", "usr/lib", LIBRARIES)
    files = {"usr/bin/zstd": Path(program).read_bytes()} | {
        f"{LIBRARIES}/{path.name}": path.read_bytes() for path in own
    }
    return dict.fromkeys(folders) | files


def older_setuptools(wheel_path, folder):
    """A setuptools that has still `pkg_resources`, made of one that has not."""
    path = folder / "setuptools-80.0-py3-none-any.whl"
    version = wheel_path.name.split("-")[1]
    with zipfile.ZipFile(wheel_path) as archive:
        members = {name: archive.read(name) for name in archive.namelist() if not name.endswith("/RECORD")}
    files = {
        name.replace(f"setuptools-{version}.", "setuptools-80.0."): data for name, data in members.items()
    }
    metadata = "setuptools-80.0.dist-info/METADATA"
    files[metadata] = files[metadata].replace(f"Version: {version}".encode(), b"Version: 80.0")
    files["pkg_resources/__init__.py"] = b"def parse_version(text):\n    return text\n"
    record = "".join(f"{name},{wheel_record(data)}\n" for name, data in files.items())
    files["setuptools-80.0.dist-info/RECORD"] = f"{record}setuptools-80.0.dist-info/RECORD,,\n".encode()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name), data)
    return path


CALL = """\
import ctypes
import pathlib

def call():
    return ctypes.CDLL(str(pathlib.Path(__file__).with_name("native.so"))).call()
"""
FIND = """\
import ctypes.util

def call():
    return ctypes.CDLL(ctypes.util.find_library("zbar")).zbar_answer()
"""
