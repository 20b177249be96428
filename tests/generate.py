"""Writes what is generated and committed; tests compare it with what stands in the tree.

python -m tests.generate         the documents' JSON Schemas, the examples' spec.json, the golden exports, whose locks
                                 are made by `tungsten lock --package-set nixpkgs` in a copy of the example, and what
                                 of tungsten the exports have that are kept of each release
python -m tests.generate pins    also, from the examples' locks, the pins that all models share, and in every
                                 committed lock which tungsten has made it: a release's are of that release
"""

import json
import sys
import tarfile
import tempfile
from pathlib import Path

from tests.binaries import unpack
from tungstenkit.document import to_json
from tungstenkit.export import nixpkgs
from tungstenkit.lock.document import LOCK_NAME, LOCK_VERSIONS, Lock, read_lock
from tungstenkit.lock.parts import Tungsten
from tungstenkit.prove.makers import RELEASES, digests
from tungstenkit.spec.document import ModelSpec
from tungstenkit.spec.read import read_spec

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = sorted(path.parent for path in ROOT.glob("examples/*/tungsten_model.py"))
LOCKED_EXAMPLES = [example for example in EXAMPLES if (example / LOCK_NAME).exists()]
KEPT = ROOT / "tests" / "kept"
GOLDEN = ROOT / "tests" / "golden" / "nixpkgs"
PINS = ROOT / "tungstenkit" / "resolve" / "shared_pins.json"


def schemas():
    """The published JSON Schema of each document, by its path."""
    return {
        ROOT / "docs" / f"{name}.schema.json": to_json(document.model_json_schema())
        for name, document in (("spec", ModelSpec), (LOCK_NAME, Lock))
    }


def specs():
    """The spec of each locked example, by its path: Nix reads it from a clean checkout, and can't run Python."""
    return {example / "spec.json": read_spec(example).to_json() for example in LOCKED_EXAMPLES}


def golden_exports():
    """What an export for the package set `nixpkgs` holds of its own, by its path, for each lock that lies there."""
    found = {}
    for lock in sorted(GOLDEN.glob("*/tungsten.lock")):
        spec = read_spec(ROOT / "examples" / lock.parent.name)
        # No example has a big file.
        texts = {"spec.json": spec.to_json(), "files.json": to_json([])} | nixpkgs.files(read_lock(lock))
        found |= {lock.parent / name: text for name, text in texts.items()}
    return found


def releases():
    """The digests of what of tungsten is in an export of each release, by which `tungsten verify` knows it."""
    found = {}
    for kept in sorted(KEPT.glob("*.tar.xz")):
        with tempfile.TemporaryDirectory() as folder, tarfile.open(kept) as archive:
            unpack(archive, Path(folder))
            found[kept.name.removesuffix(".tar.xz")] = digests(Path(folder))
    return {RELEASES: to_json(found)}


def pins():
    """The server's environment and the tools of each Python version and platform, as the examples' locks have them."""
    found = {}
    for example in LOCKED_EXAMPLES:
        lock = json.loads(read_lock(example / LOCK_NAME).to_json())
        for system, server in lock["server"].items():
            tools = lock["tools"][system]
            for release, debs in (
                (tools["layers"]["release"], [tools["busybox"], tools["bash"], *tools["layers"]["debs"]]),
                (tools["byte-code"]["release"], tools["byte-code"]["debs"]),
            ):
                # A pin has no release's moment beside it.
                for deb in debs:
                    archive = deb["file"].removeprefix("mirror://").partition("/")[0]
                    deb.setdefault("snapshot", lock["releases"][release]["timestamps"][archive])
            found.setdefault(server["python"], {})[system] = {"server": server, "tools": tools}
    return {PINS: to_json(found)}


def locks():
    """The committed locks by their paths, as this tungsten makes them of the same pins."""
    this = {"lock_version": LOCK_VERSIONS[-1], "tungsten": Tungsten.this()}
    paths = sorted(
        path for place in (ROOT, ROOT / "examples", GOLDEN) for path in place.glob(f"*/{LOCK_NAME}")
    )
    return {path: read_lock(path).model_copy(update=this).to_json() for path in paths}


def main():
    documents = schemas() | specs() | golden_exports() | releases()
    documents |= locks() | pins() if "pins" in sys.argv[1:] else {}
    for path, text in documents.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        print(path.relative_to(ROOT))


if __name__ == "__main__":
    main()
