"""An export for the package set `nixpkgs`: the golden ones, and what it holds beside them."""

import json
import tarfile
from pathlib import Path

import pytest

from tests import generate
from tungstenkit.export.flake import Contents, export
from tungstenkit.export.nixpkgs import flake_lock
from tungstenkit.export.packed import pack_export
from tungstenkit.lock.document import LOCK_NAME, read_lock
from tungstenkit.lock.stale import check_lock
from tungstenkit.spec.document import ModelSpec
from tungstenkit.spec.files import select_files

EXAMPLES = sorted(path.parent for path in generate.GOLDEN.glob(f"*/{LOCK_NAME}"))


def written(golden, out):
    directory = generate.ROOT / "examples" / golden.name
    spec = ModelSpec.from_json((directory / "spec.json").read_text())
    files = select_files(directory, spec.include_files, spec.exclude_files, spec.module)
    export(spec, read_lock(golden / LOCK_NAME), Contents(directory, files), {}, out)
    return out


def texts(folder, leave_out=()):
    return {
        str(path.relative_to(folder)): path.read_text()
        for path in folder.rglob("*")
        if path.is_file() and path.relative_to(folder).parts[0] not in leave_out
    }


def test_three_examples_have_a_golden_export():
    assert len(EXAMPLES) == 3


@pytest.mark.parametrize("golden", EXAMPLES, ids=lambda path: path.name)
def test_an_export_is_the_golden_one_and_copies_of_ours(golden, tmp_path):
    out = written(golden, tmp_path / "out")
    copies = {"nix", "tungstenkit", "server", "model", "sources.json"}
    assert texts(out, copies) == texts(golden)
    pack_export(out, tmp_path / "export.tar")
    with tarfile.open(tmp_path / "export.tar") as archive:
        files = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
        assert set(archive.getnames()) == files - {"sources.json"}
    assert {path.name for path in out.iterdir()} == copies | {path.name for path in golden.iterdir()}


@pytest.mark.parametrize("golden", EXAMPLES, ids=lambda path: path.name)
def test_golden_locks_are_fresh_sealed_and_written_as_we_write_them(golden):
    lock = read_lock(golden / LOCK_NAME)
    check_lock(lock, ModelSpec.from_json((golden / "spec.json").read_text()), golden / LOCK_NAME)
    assert lock.to_json() == (golden / LOCK_NAME).read_text()
    assert "http" not in lock.to_json()


def test_an_export_pins_what_the_lock_pins(tmp_path):
    golden = EXAMPLES[0]
    lock = read_lock(golden / LOCK_NAME)
    nodes = json.loads(flake_lock(lock.flake_inputs))["nodes"]
    assert nodes["nixpkgs"]["locked"]["rev"] == lock.flake_inputs["nixpkgs"].rev
    assert nodes["poetry2nix"]["flake"] is False
    # Nix resolves an input anew where flake.nix asks for another than flake.lock is of.
    flake = (Path(golden) / "flake.nix").read_text()
    original = nodes["nixpkgs"]["original"]
    assert f'"github:{original["owner"]}/{original["repo"]}/{original["ref"]}"' in flake
    assert "@" not in flake
