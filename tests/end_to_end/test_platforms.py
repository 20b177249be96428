"""An image is the same bytes whichever machine assembles it, and runs on the one that it is for.

arm64 is emulated by qemu on x86-64: Nix with arm64's tools, and the image's own programs.
"""

import json
import signal
import struct
import subprocess
import tarfile
import time
import urllib.request
from pathlib import Path

import pytest
from PIL import Image, ImageFilter

from tests import emulation
from tests.binaries import unpack
from tests.end_to_end.harness import SYSTEM, build, free_port, nix, post, succeed
from tests.end_to_end.test_image import PICTURE, data_uri, picture_of
from tungstenkit import store
from tungstenkit.nix_build.image import read_layout
from tungstenkit.platforms import ARCHITECTURES

ARM64 = emulation.SYSTEM
_MISSING = emulation.missing()
emulated = pytest.mark.skipif(_MISSING is not None, reason=str(_MISSING))
# Some 600 files are compiled and 50 MB packed by emulated programs: minutes on two cores.
_LONGEST = 1800


@pytest.fixture(scope="session")
def arm64(copy_of):
    """examples/blur for arm64, assembled here with nothing of it executed."""
    return build(copy_of("blur", SYSTEM, ARM64), "--no-load", "--platform", ARM64)


@pytest.fixture(scope="session")
def root(arm64, tmp_path_factory):
    """The arm64 image, unpacked."""
    folder = tmp_path_factory.mktemp("root")
    folder.chmod(0o755)
    for digest in arm64.layers:
        with tarfile.open(arm64.blob(digest), "r:gz") as layer:
            unpack(layer, folder, numeric_owner=True)
    return folder


def run(command):
    done = subprocess.run(command, capture_output=True, text=True, timeout=_LONGEST)
    assert done.returncode == 0, done.stderr


def processors(built):
    """Of every ELF file in every layer: its path, and the processor that it is for."""
    for digest in built.layers:
        with tarfile.open(built.blob(digest), "r:gz") as layer:
            for member in layer:
                head = layer.extractfile(member).read(20) if member.isfile() else b""
                if head[:4] == b"\x7fELF":
                    yield member.name, struct.unpack_from("<H" if head[5] == 1 else ">H", head, 18)[0]


@pytest.mark.parametrize(("image", "system"), [("blur", SYSTEM), ("arm64", ARM64)])
def test_all_of_an_image_is_for_its_platform(image, system, request):
    """The config says so to engines, the index to registries, and every program and library is so."""
    built = request.getfixturevalue(image)
    architecture = ARCHITECTURES[system]
    index = json.loads((built.layout / "index.json").read_text())
    assert built.config["architecture"] == architecture.debian  # OCI has Go's names, which are Debian's here
    assert index["manifests"][0]["platform"] == {"architecture": architecture.debian, "os": "linux"}
    found = dict(processors(built))
    assert {path: machine for path, machine in found.items() if machine != architecture.elf} == {}
    assert len(found) > 100
    assert any("/PIL/" in path for path in found), "no wheel's library is among them"


def test_layers_of_pure_data_are_shared_between_platforms(blur, arm64):
    """The model's files and the SDK are no platform's own."""
    assert len(set(blur.layers) & set(arm64.layers)) >= 2
    assert blur.layers[-1] == arm64.layers[-1]


def test_work_on_one_platform_lets_go_of_nothing_of_another(copy_of):
    """What was fetched for both stays held against garbage collection."""
    model = copy_of("blur", SYSTEM, ARM64)

    def held():
        return {link.readlink() for link in (model / ".tungsten" / "roots").iterdir()}

    succeed("fetch", model)
    for_both = held()
    succeed("fetch", model, "--platform", ARM64)
    assert held() >= for_both
    names = " ".join(str(path) for path in for_both)
    assert "_amd64.deb" in names
    assert "_arm64.deb" in names


@emulated
def test_arm64s_own_tools_make_the_same_layers(arm64, tmp_path):
    """Those that are small: with byte-code that they compile, and without."""
    out = tmp_path / "export"
    succeed("nix-export", arm64.directory, "-o", out)
    options = [*store.options(), "--option", "extra-platforms", ARM64]
    blobs = {}
    for builder, prefix in ((SYSTEM, []), (ARM64, emulation.PREFIX)):
        image = f"path:{out}#packages.{builder}.model-image-x86_64-linux"
        derivation = nix("nix", "path-info", "--derivation", image).strip()
        needed = nix("nix-store", "--query", "--requisites", derivation).split()
        for name in ("layer-sdk", "layer-model"):
            (layer,) = (path for path in needed if path.endswith(f"-{name}.drv"))
            run([*prefix, "nix-store", *options, "--realise", layer])
            made = nix("nix-store", "--query", "--outputs", layer).strip()
            blobs.setdefault(name, {})[made] = (Path(made) / "blob").read_bytes()
    for name, made in blobs.items():
        assert len(made) == 2, f"{name} is another derivation, with other tools"
        assert len(set(made.values())) == 1, name


@pytest.mark.soak
@emulated
def test_arm64s_own_tools_assemble_the_same_image(arm64, tmp_path):
    """Every step again, by arm64 programs, and the digest is the same.

    The image is one for x86-64: the import check of one for arm64 needs a user namespace, which an emulator's threads
    keep it from making.
    """
    out, by_arm64, by_x86_64 = tmp_path / "export", tmp_path / "arm64", tmp_path / "x86-64"
    succeed("nix-export", arm64.directory, "-o", out)
    image = "model-image-x86_64-linux-dir"
    options = [*store.options(), "--option", "extra-platforms", ARM64]
    build = ["nix", *options, "build", "--out-link"]
    run([*build, by_x86_64, f"path:{out}#packages.x86_64-linux.{image}"])
    run([*emulation.PREFIX, *build, by_arm64, f"path:{out}#packages.{ARM64}.{image}"])
    assert read_layout(by_arm64.resolve()).digest == read_layout(by_x86_64.resolve()).digest
    assert by_arm64.resolve() != by_x86_64.resolve(), "it is another derivation, with other tools"


@emulated
def test_arm64s_first_program_is_the_locked_one(arm64, tmp_path):
    """Without `tungsten fetch`: arm64's 7-Zip unpacks busybox from Debian's package to the bytes that the lock has."""
    out = tmp_path / "export"
    succeed("nix-export", arm64.directory, "-o", out)
    expression = f"""
      let
        nix = import {out}/nix;
        sources = nix.documents.sources {out}/sources.json;
        builder = nix.scope.builder {{
          fetch = nix.scope.bind {{ inherit sources; }} nix.fetch;
          system = "{ARM64}";
          tools = (nix.documents.lock {out}/tungsten.lock).tools.{ARM64};
        }};
      in builder.busybox"""
    options = [*store.options(), "--option", "extra-platforms", ARM64]
    (derivation,) = nix("nix-instantiate", "--expr", expression).split()
    realise = [*emulation.PREFIX, "nix-store", *options, "--realise", derivation]
    run(realise)
    # What was in the store already is made again only now; Nix compares it with the lock's hash.
    run([*realise, "--check"])


@emulated
def test_the_loaders_cache_is_what_the_images_own_ldconfig_writes(root):
    run([*emulation.PREFIX, "chroot", root, "/sbin/ldconfig", "-X", "-C", "/tmp/ld.so.cache"])
    assert (root / "tmp/ld.so.cache").read_bytes() == (root / "etc/ld.so.cache").read_bytes()


def answers(url):
    try:
        urllib.request.urlopen(url, timeout=10).close()
    except OSError:
        return False
    return True


@emulated
def test_the_image_runs_on_arm64(arm64, root):
    """Its entry point, as its user, in its root: a picture comes back as Pillow's own blur of it."""
    config = arm64.config["config"]
    port = free_port()
    mounts = f"for part in proc dev sys; do mount --rbind /$part {root}/$part; done; mount -t tmpfs none {root}/tmp"
    # The image's own shell goes to the working directory.
    enter = ["chroot", f"--userspec={config['User']}", root, "/bin/sh", "-c", 'cd "$0" && exec "$@"']
    process = subprocess.Popen(
        [
            *(*emulation.PREFIX, "sh", "-euc", f'{mounts}; exec "$@"', "sh"),
            *("env", "-i", *config["Env"], f"TUNGSTEN_PORT={port}"),
            *(*enter, config["WorkingDir"], *config["Entrypoint"], "--host", "127.0.0.1"),
        ],
        start_new_session=True,
    )
    try:
        url = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + 300
        while not answers(f"{url}/readyz"):
            assert process.poll() is None, "the server ended"
            assert time.monotonic() < deadline, "the server is not ready"
            time.sleep(0.5)
        status, answer = post(f"{url}/predict", [{"image": data_uri(PICTURE.read_bytes()), "radius": 3.5}])
    finally:
        process.send_signal(signal.SIGTERM)
        ended = process.wait(60)
    assert (status, answer["status"], answer["error_message"]) == (200, "success", None)
    with Image.open(PICTURE) as picture:
        expected = picture.convert("RGB").filter(ImageFilter.GaussianBlur(3.5))
    assert picture_of(answer["outputs"][0]["image"]).tobytes() == expected.tobytes()
    assert ended == 0
