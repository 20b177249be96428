"""The same export gives the same bytes: elsewhere, again, offline; and a change re-makes only what it touches."""

import json
import re
import shutil
import subprocess
from pathlib import Path

from tests.end_to_end.harness import ENGINE, SYSTEM, build, checkout, derivation, nix, nix_line, succeed
from tests.machine import need, needs
from tungstenkit import store
from tungstenkit.fetch.needs import needed_files
from tungstenkit.lock.document import read_lock
from tungstenkit.nix_build.image import read_layout


def test_every_derivation_rebuilds_to_the_same_bytes(caption):
    """Not the last step alone: each layer, the config and manifest, and the tools that make them."""
    steps = [path for path in caption.requisites if path.endswith(".drv") and was_run(path)]
    assert {"layer-debian-system", "layer-wheels", "layer-settings", "caption-layout"} <= names(steps)
    nix("nix-store", "--realise", "--check", *steps)


def test_programs_start_with_byte_code_and_what_compiles_for_images_without(caption):
    """That of the tool root is never compared with a file's time; the other's own would show in what it compiles."""
    pythons = [path for path in caption.requisites if re.search(r"-debian-python-[0-9.]+\.drv$", path)]
    trees = [derivation(path)[0]["outputs"]["out"]["path"] for path in pythons]
    assert len(trees) == 2
    (tools,) = (tree for tree in trees if list(Path(tree).rglob("*.pyc")))
    assert f"{tools}/" in " ".join(derivation(caption.derivation)[0]["args"])
    (code,) = Path(tools).glob("usr/lib/python3.*/json/__pycache__/decoder.*.pyc")
    # PEP 552: by the source's hash, and not checked.
    assert int.from_bytes(code.read_bytes()[4:8], "little") == 1


def names(derivations):
    return {Path(derivation).stem.partition("-")[2] for derivation in derivations}


def was_run(derivation):
    """Whether it was built here, and its output is not fixed by a hash, which Nix compares each time anyway.

    The bootstrap is not run where `tungsten fetch` has put busybox into the store.
    """
    output = json.loads(nix("nix", "show-derivation", derivation))[derivation]["outputs"]["out"]
    return "hash" not in output and not store.missing([output["path"]])


@needs("root")
def test_after_a_fetch_no_network_is_needed(copy_of, caption):
    """A copy elsewhere, so that the export and the last layers are made anew, without any network interface."""
    model = copy_of("caption")
    succeed("fetch", model)
    (model / "notes.txt").write_text("offline\n")
    offline = build(model, "--no-load", before=["unshare", "--net"])
    assert offline.layers[:-1] == caption.layers[:-1]
    assert offline.layers[-1] != caption.layers[-1]


def remade(before, after):
    """The steps of `after` that `before` does not have."""
    return names(path for path in after.requisites - before.requisites if path.endswith(".drv"))


def test_an_edit_of_predict_remakes_one_layer(blur, copy_of):
    """Only the last layer, the config and the manifest."""
    model = copy_of("blur")
    source = model / "tungsten_model.py"
    source.write_text(source.read_text().replace("# All inputs", "# An edit: all inputs"))
    edited = build(model, "--no-load")
    assert edited.layers[:-1] == blur.layers[:-1]
    assert edited.layers[-1] != blur.layers[-1]
    assert remade(blur, edited) == {"layer-model", "import-check", "blur-layout"}


def test_a_system_package_more_remakes_no_wheel_layer(blur, copy_of):
    model = copy_of("blur")
    source = model / "tungsten_model.py"
    source.write_text(
        source.read_text().replace("batch_size=4", 'batch_size=4, system_packages=["probe-diverts"]')
    )
    succeed("lock", model)
    extended = build(model, "--no-load")
    debs = {name for name in remade(blur, extended) if name.endswith(".deb")}
    steps = remade(blur, extended) - debs
    assert {"probe-data_1.0_all.deb", "probe-diverts_1.0_all.deb"} < debs
    assert steps == {
        "layer-debian-system",
        "layer-settings",
        "root",
        "import-check",
        "layer-model",
        "blur-layout",
    }
    # What is diverted stands in a function of its script, which had to be run.
    found = [
        extended.blob(digest).resolve().with_name("files.json").read_text() for digest in extended.layers
    ]
    assert [text for text in found if '"to": "usr/share/probe/data.moved"' in text]


def test_an_export_builds_with_nix_alone(blur, tmp_path, empty_store):
    """`nix build path:OUT#model-image`, from an empty store, needs nothing of ours; what it makes loads into podman.

    Nix downloads each file from where sources.json says, and bootstraps busybox by itself.
    """
    out, image = tmp_path / "export", tmp_path / "image.tar"
    succeed("nix-export", blur.directory, "-o", out)
    need(*ENGINE)
    command = nix_line("nix", "build", f"path:{out}#model-image", "--out-link", tmp_path / "result")
    script = f'"$@" && cp -L {tmp_path / "result"} {image}'
    built = subprocess.run([*empty_store, "sh", "-c", script, "sh", *command], capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    loaded = subprocess.run(["podman", "load", "--input", image], capture_output=True, text=True)
    assert loaded.returncode == 0, loaded.stderr
    subprocess.run(["podman", "image", "exists", blur.image_id], check=True)


def test_an_export_is_the_same_bytes_each_time(blur, tmp_path, copy_of):
    """From another folder, at another time: all but sources.json, which belongs to the machine."""
    exports = []
    for number, directory in enumerate((blur.directory, copy_of("blur"))):
        out = tmp_path / str(number)
        succeed(
            "nix-export", directory, "-o", out, env={"TZ": f"Etc/GMT+{number}", "PYTHONHASHSEED": str(number)}
        )
        files = sorted(path for path in out.rglob("*") if path.is_file() and path.name != "sources.json")
        exports.append([(path.relative_to(out), path.stat().st_mode, path.read_bytes()) for path in files])
    assert exports[0] == exports[1]


def test_the_repositorys_own_flake_gives_the_same_image(blur, tmp_path):
    """`nix build .#model-image` in a checkout, from the committed spec and a lock beside it."""
    link, folder = tmp_path / "result", checkout(tmp_path)
    shutil.copy(blur.directory / "tungsten.lock", folder / "examples" / "blur")
    nix("nix", "build", f"path:{folder}#packages.{SYSTEM}.model-image-dir", "--out-link", link)
    assert read_layout(link.resolve()).digest == blur.digest


def test_what_can_be_made_again_is_no_business_of_gits(blur):
    command = ["git", "-C", blur.directory, "status", "--porcelain", "--ignored=no", "."]
    subprocess.run(["git", "init", "-q", blur.directory], check=True)
    status = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    shutil.rmtree(blur.directory / ".git")
    assert "tungsten_model.py" in status
    assert ".tungsten" not in status


def test_store_paths_are_those_of_nix(blur):
    """The paths that `tungsten fetch` computes are the ones that Nix's own command gives."""
    for entry in needed_files(read_lock(blur.directory / "tungsten.lock"))[:5]:
        printed = nix("nix-store", "--print-fixed-path", "sha256", entry.sha256, entry.name).strip()
        assert entry.path == printed == store.file_path(entry.sha256, entry.name)
