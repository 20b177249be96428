"""Exports that earlier releases have left, as they are built today: with the tools of the frozen archive."""

import json
import tarfile

from tests.binaries import unpack
from tests.kept.make import KEPT
from tungstenkit.data import SEVEN_ZIP
from tungstenkit.lock.document import LOCK_NAME
from tungstenkit.platforms import this_system

RELEASES = sorted(path.name.removesuffix(".tar.xz") for path in KEPT.glob("*.tar.xz"))


def lay_out(release, export, today):
    """Lay out the export of a release in a folder. today: a lock whose tools it gets: they are in no image."""
    with tarfile.open(KEPT / f"{release}.tar.xz") as archive:
        unpack(archive, export)
    lock = json.loads((export / LOCK_NAME).read_text())
    today = json.loads(today.read_text())
    lock["tools"][this_system()] = today["tools"][this_system()]
    lock["releases"] |= {name: one for name, one in today["releases"].items() if name not in lock["releases"]}
    (export / LOCK_NAME).write_text(json.dumps(lock, indent=2, sort_keys=True) + "\n")
    return export


def name_tools(export, url):
    """Have an export know where its tools are. url: of the frozen archive."""
    tools = json.loads((export / LOCK_NAME).read_text())["tools"][this_system()]
    sources = {SEVEN_ZIP["sha256"]: [SEVEN_ZIP["file"].replace("mirror://npm", f"{url}/npm")]}
    for one in (*tools["layers"]["debs"], *tools["byte-code"]["debs"], tools["busybox"], tools["bash"]):
        sources[one["sha256"]] = [one["file"].replace("mirror://", f"{url}/")]
    (export / "sources.json").write_text(json.dumps(sources))
