"""Sealing: what can't be sealed is refused by name; busybox's hash is Nix's own."""

import io
import shutil
import subprocess
import tarfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from tungstenkit.errors import LockError
from tungstenkit.lock import read_lock
from tungstenkit.seal import busybox_tree_hash, seal

EXAMPLE = Path(__file__).resolve().parent.parent.parent / "examples" / "caption"


def declared(**steps):
    nothing = {"has_post_build": False, "dockerfile_commands": [], "base_image": None}
    return SimpleNamespace(**nothing | steps, module="tungsten_model", class_name="Caption")


@pytest.fixture
def deb(tmp_path):
    """A .deb with a busybox of our own."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:xz") as tar:
        for name, content in (("./usr/share/doc", b"no"), ("./usr/bin/busybox", b"#!busybox\n")):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    path = tmp_path / "busybox.deb"
    members = (("debian-binary", b"2.0\n"), ("control.tar.xz", b"odd"), ("data.tar.xz", data.getvalue()))
    with path.open("wb") as file:
        file.write(b"!<arch>\n")
        for name, content in members:
            file.write(f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(content):<10}`\n".encode())
            file.write(content + b"\n" * (len(content) % 2))
    return path


def built(lock):
    """There is nothing to build in these locks; the tools that would build are sealed by now."""
    assert all(tools.busybox.tree_sha256 for tools in lock.tools.values())
    return lock


def unsealed():
    lock = read_lock(EXAMPLE / "tungsten.lock")
    (system, tools), *_ = lock.tools.items()
    busybox = tools.busybox.model_copy(update={"tree_sha256": None})
    return lock.model_copy(
        update={"sealed": False, "tools": {system: tools.model_copy(update={"busybox": busybox})}}
    )


@pytest.mark.parametrize(
    ("step", "value"),
    [("post_build", True), ("dockerfile_commands", ["RUN true"]), ("base_image", "debian:12")],
)
def test_a_build_step_is_refused_by_name(step, value):
    key = "has_post_build" if step == "post_build" else step
    with pytest.raises(LockError, match=step):
        seal(
            unsealed(),
            declared(**{key: value}),
            lambda entry: pytest.fail("nothing is to be downloaded"),
            built,
        )


def test_an_unknown_busybox_is_downloaded_and_hashed(deb):
    wanted = []

    def get(entry):
        wanted.append(entry.file)
        return deb

    lock = seal(unsealed(), declared(), get, built)
    (tools,) = lock.tools.values()
    assert lock.sealed
    assert wanted == [tools.busybox.file]
    assert tools.busybox.tree_sha256 == busybox_tree_hash(deb)


def test_a_known_busybox_is_not_downloaded():
    lock = read_lock(EXAMPLE / "tungsten.lock").model_copy(update={"sealed": False})
    assert seal(lock, declared(), lambda entry: pytest.fail("downloaded"), built).sealed


@pytest.mark.skipif(shutil.which("nix") is None, reason="nix is not installed")
def test_the_hash_is_nixs(deb, tmp_path):
    program = tmp_path / "tree" / "bin" / "busybox"
    program.parent.mkdir(parents=True)
    program.write_bytes(b"#!busybox\n")
    program.chmod(0o755)
    command = ["nix", "--extra-experimental-features", "nix-command", "hash", "path", str(tmp_path / "tree")]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    assert busybox_tree_hash(deb) == printed
