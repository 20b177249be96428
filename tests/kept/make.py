"""Makes what is kept of a release: an export that it has written, of a lock that it has solved.

python -m tests.kept.make CHECKOUT    of the release in a checkout: tests/kept/VERSION.tar.xz

All packages that it takes are stand-ins for those in the release's own lock of examples/caption: of their names and
needs, older than any of them, and each with little more in it than its name. So nobody else must keep them, and an
image of them is known to the byte. None runs: it is for another kind of machine than the one that builds it.
"""

import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
from datetime import UTC, datetime
from pathlib import Path

from tests.binaries import AARCH64, X86_64, deb, elf, wheel
from tests.frozen.archive import Archive, Deb, new_key
from tests.frozen.served import serve
from tungstenkit.platforms import ARCHITECTURES
from tungstenkit.resolve.rules import OLD_ZONES

KEPT = Path(__file__).resolve().parent
EXAMPLE = "examples/caption/tungsten.lock"
VERSION = "0.1-1"
"""Of Debian's stand-ins."""
OLDEST = {
    "flask": "3.0",
    "jsonschema-rs": "0.29",
    "pillow": "10.0",
    "prometheus-client": "0.21",
    "pydantic": "2.7",
    "waitress": "3.0",
}
"""Of Python's, where SDK or server want one that is not older."""
MACHINES = {"amd64": X86_64, "arm64": AARCH64}
LIBRARIES = {"amd64": "usr/lib/x86_64-linux-gnu", "arm64": "usr/lib/aarch64-linux-gnu"}
BANNER = b"GNU C Library (a stand-in) stable release version 2.41.\n"
"""By this the form of the loader's cache is known."""
MODEL = '''\
"""Says what it is told."""

from tungstenkit import BaseIO, define_model


class Text(BaseIO):
    text: str


@define_model(input=Text, output=Text)
class Echo:
    def predict(self, inputs):
        return inputs
'''


def contents(name, architecture):
    """The files of a stand-in: those at which something looks, and one that says what it is."""
    files = {f"usr/share/doc/{name}/kept": f"{name}\n".encode()}
    if name.startswith("python3.") and name.endswith("-minimal"):
        files[f"usr/bin/{name.removesuffix('-minimal')}"] = b"#!/bin/false\n"
    if name in ("tini", "busybox-static", "bash-static"):
        files[f"usr/bin/{'busybox' if name == 'busybox-static' else name}"] = b"#!/bin/false\n"
    if name == "ca-certificates":
        files["usr/share/ca-certificates/none.txt"] = b""
    if name.startswith("lib") and architecture in MACHINES:
        library = "libc.so.6" if name == "libc6" else f"{name}.so"
        data = elf(soname=library, machine=MACHINES[architecture])
        files[f"{LIBRARIES[architecture]}/{library}"] = data + (BANNER if name == "libc6" else b"")
    return files


def debs_of(lock):
    """The Debian packages of a lock with the release that each group of them is of."""
    for one in lock["platforms"].values():
        # The example's lock is older than the rule that asks for this one.
        yield one["release"], [*one["debs"], {"name": OLD_ZONES, "architecture": "all"}]
    for tools in lock["tools"].values():
        layers = tools["layers"]
        yield layers["release"], [*layers["debs"], tools["busybox"], tools["bash"]]
        yield tools["byte-code"]["release"], tools["byte-code"]["debs"]


def add_stand_ins(archive, lock, folder):
    """Put into an archive what stands in for all that a lock names, for each kind of machine; made in a folder."""
    made = set()
    for release, debs in debs_of(lock):
        for one in debs:
            name = one["name"]
            needs = ", ".join(other["name"] for other in debs if name in other.get("needed-by", ()))
            for kind in MACHINES if one["architecture"] in MACHINES else ["all"]:
                path = folder / release / f"{name}_{VERSION}_{kind}.deb"
                if path in made:
                    continue
                made.add(path)
                control = {"Section": "libs", "Architecture": kind} | ({"Depends": needs} if needs else {})
                deb(path, contents(name, kind), control=control)
                archive.add_deb(Deb.read(path), release)
    for group in [one["wheels"] for part in ("platforms", "server") for one in lock[part].values()]:
        for one in group:
            project = one["project"]
            needs = [other["project"] for other in group if project in other.get("needed-by", ())]
            _, _, tags = one["file"].removesuffix(".whl").split("-", 2)
            for other in {tags, tags.replace("x86_64", "aarch64")}:
                name = project.replace("-", "_")
                path = folder / f"{name}-{OLDEST.get(project, '1.0')}-{other}.whl"
                archive.add_wheel(wheel(path, {f"{name}/__init__.py": f"NAME = {name!r}\n"}, needs))


def pack(folder, target):
    """A folder as an archive in which nothing is but its files and links."""

    def plain(member):
        member.uid = member.gid = member.mtime = 0
        member.uname = member.gname = ""
        member.mode = 0o755 if member.isdir() else 0o644
        return member

    with tarfile.open(target, "w:xz", preset=9) as archive:
        for path in sorted(folder.rglob("*")):
            archive.add(path, path.relative_to(folder), recursive=False, filter=plain)


def main(checkout):
    checkout = Path(checkout).resolve()
    version = tomllib.loads((checkout / "pyproject.toml").read_text())["project"]["version"]
    lock = json.loads((checkout / EXAMPLE).read_text())
    (python,) = {one["python"] for one in lock["platforms"].values()}
    with tempfile.TemporaryDirectory() as scratch:
        scratch = Path(scratch)
        archive = Archive(scratch / "archive", new_key())
        add_stand_ins(archive, lock, scratch / "made")
        archive.publish(datetime(2026, 11, 30, tzinfo=UTC))
        model, out = scratch / "kept", scratch / "export"
        model.mkdir()
        (model / "tungsten_model.py").write_text(MODEL)
        with serve(archive) as served:
            environment = dict(os.environ) | {"PYTHONPATH": str(checkout)}
            served.set(environment)
            environment["XDG_CACHE_HOME"] = str(scratch / "cache")
            program = [sys.executable, str(checkout / "tests/frozen/tungsten.py")]
            systems = [f"--platform={system}" for system in ARCHITECTURES]
            for line in (
                ["lock", str(model), f"--python={python}", *systems],
                ["nix-export", str(model), "-o", str(out)],
            ):
                subprocess.run([*program, *line], cwd=checkout, env=environment, check=True)
        (out / "sources.json").write_text("{}\n")
        (out / "files").mkdir()
        for path in (scratch / "made").rglob("*.*"):
            if path.is_file():
                shutil.copyfile(path, out / "files" / path.name)
        pack(out, KEPT / f"{version}.tar.xz")


if __name__ == "__main__":
    main(*sys.argv[1:])
