"""An export's own parts are known by their digests, or they are nobody's."""

import shutil

import pytest

from tests.generate import KEPT, RELEASES, releases
from tungstenkit.data import VERSION, exported_files
from tungstenkit.prove.makers import maker


@pytest.fixture
def export(tmp_path):
    """What of this tungsten is in an export."""
    for name, content in exported_files().items():
        path = tmp_path / "export" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    shutil.copy(tmp_path / "export" / "nix/flake/exported-flake.nix", tmp_path / "export" / "flake.nix")
    return tmp_path / "export"


def test_this_tungsten_s_is_known(export):
    assert maker(export).version == VERSION


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("nix/default.nix", "nix"),
        ("nix/tools/lib/blob.py", "nix"),
        ("tungstenkit/__init__.py", "sdk"),
        ("server/tungsten_server/launch.py", "server"),
        ("flake.nix", "flake"),
    ],
)
def test_what_is_changed_is_nobody_s(export, name, part):
    path = export / name
    path.write_text(path.read_text() + "\n")
    found = maker(export)
    assert (found.version, found.strange) == (None, (part,))


@pytest.mark.parametrize("name", ["nix/more.nix", "nix/more", "tungstenkit/more.pyc", "server/more"])
def test_what_is_there_besides_is_nobody_s(export, name):
    (export / name).write_text("")
    assert maker(export).version is None


def test_a_link_is_nobody_s(export):
    (export / "nix" / "default.nix").rename(export / "nix" / "other.nix")
    (export / "nix" / "default.nix").symlink_to("other.nix")
    assert maker(export).strange == ("nix",)


def test_what_is_missing_is_nobody_s(export):
    (export / "nix" / "scope.nix").unlink()
    (export / "flake.nix").unlink()
    assert maker(export).strange == ("flake", "nix")


def test_the_releases_that_are_kept_are_known():
    ((path, text),) = releases().items()
    assert (path, text) == (RELEASES, path.read_text())
    assert text.count('"nix"') == len([*KEPT.glob("*.tar.xz")]) > 0


def test_parts_of_two_tungstens_are_nobody_s(export, tmp_path):
    import tarfile

    from tests.binaries import unpack

    release = next(KEPT.glob("*.tar.xz"))
    with tarfile.open(release) as archive:
        unpack(archive, tmp_path / "kept")
    assert maker(tmp_path / "kept").version == release.name.removesuffix(".tar.xz")
    shutil.rmtree(export / "nix")
    shutil.copytree(tmp_path / "kept" / "nix", export / "nix")
    found = maker(export)
    assert found.version is None
    assert found.strange == ("flake", "nix", "sdk", "server")
