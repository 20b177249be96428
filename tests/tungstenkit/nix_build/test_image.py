"""An image's layout into a description, and what may not have happened to it."""

import json
import sys
import tarfile

import pytest

from tests.machine import needs
from tests.tungstenkit.observers import View
from tungstenkit import store
from tungstenkit.nix_build import image
from tungstenkit.nix_build.image import build_image, read_layout, write_archive
from tungstenkit.nix_build.log import UnsaidError
from tungstenkit.sdk.errors import BuildError


def test_a_layout_is_described_from_its_own_documents(tmp_path):
    blobs = tmp_path / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    manifest = {"config": {"digest": "sha256:cc", "size": 10}, "layers": [{"size": 100}, {"size": 1000}]}
    (blobs / "aa").write_text(json.dumps(manifest))
    (tmp_path / "index.json").write_text(json.dumps({"manifests": [{"digest": "sha256:aa", "size": 1}]}))
    image = read_layout(tmp_path)
    assert (image.digest, image.image_id, image.size) == ("sha256:aa", "sha256:cc", 1111)


@pytest.fixture
def built(tmp_path):
    """An image whose layout is as small as one can be."""
    layout = tmp_path / "layout"
    layout.mkdir()
    (layout / "oci-layout").write_text("{}")
    (layout / "index.json").symlink_to("oci-layout")
    return image.Image(layout, "sha256:aa", "sha256:cc", 1)


def test_an_archive_is_written_whole_over_an_older_one(built, tmp_path, capfdbinary):
    (tmp_path / "out").mkdir()
    path = tmp_path / "out" / "image.tar"
    path.write_text("an older one")
    write_archive(built, path)
    assert list((tmp_path / "out").iterdir()) == [path]
    with tarfile.open(path) as archive:
        assert {one.name: one.isfile() for one in archive} == {"index.json": True, "oci-layout": True}
    write_archive(built, None)
    assert capfdbinary.readouterr().out == path.read_bytes()


def test_an_archive_that_cant_be_written_leaves_nothing_and_the_older_one(built, tmp_path):
    (built.layout / "oci-layout").rename(tmp_path / "taken-away")
    (tmp_path / "out").mkdir()
    path = tmp_path / "out" / "image.tar"
    path.write_text("an older one")
    with pytest.raises(BuildError, match=r"is not written: .*not an image layout") as caught:
        write_archive(built, path)
    assert caught.value.where == str(path)
    assert [one.read_text() for one in (tmp_path / "out").iterdir()] == ["an older one"]


@pytest.mark.parametrize("first", ["a-layout", "an-import-check"])
def test_an_images_link_leads_to_its_layout_whatever_nix_names_first(monkeypatch, tmp_path, first):
    places = tmp_path / "store"
    (places / "a-layout").mkdir(parents=True)
    (places / "a-layout" / "index.json").touch()
    (places / "an-import-check").touch()
    link = tmp_path / "image-x86_64-linux"
    asked = []

    def nix_build(_export, attributes, link, _view):
        asked.append(attributes)
        for number, name in enumerate(
            sorted(["a-layout", "an-import-check"], key=lambda name: name != first)
        ):
            one = link.with_name(f"{link.name}-{number}") if number else link
            one.unlink(missing_ok=True)
            one.symlink_to(places / name)

    monkeypatch.setattr(image, "_nix_build", nix_build)
    monkeypatch.setattr(image, "_check_store", lambda *_: None)
    monkeypatch.setattr(image, "read_layout", str)
    (tmp_path / "image-x86_64-linux-7").symlink_to("of-an-earlier-build")
    (tmp_path / "image-x86_64-linux-other").touch()
    for _ in range(2):
        assert build_image(tmp_path, "x86_64-linux", link, View()) == str(places / "a-layout")
        links = {one.name: one.readlink() for one in tmp_path.iterdir() if one.is_symlink()}
        assert links == {link.name: places / "a-layout", f"{link.name}-1": places / "an-import-check"}
    attributes = ["model-image-x86_64-linux-dir.unchecked", "model-image-x86_64-linux-dir.requires"]
    assert asked == [attributes, attributes]


def test_of_two_that_are_built_at_once_it_is_told_what_has_failed(monkeypatch, tmp_path):
    """Nix 2.8 may tell what it says of the one that it has given up: nothing."""
    asked = []

    def nix_build(_export, attributes, link, _view):
        asked.append((attributes, link))
        raise UnsaidError(1) if len(attributes) == 2 else BuildError("there is no module x")

    monkeypatch.setattr(image, "_nix_build", nix_build)
    with pytest.raises(BuildError, match="no module x"):
        image.build_image(tmp_path, "x", tmp_path / "image", None)
    (both, link), (required, other) = asked
    assert required == both[1:]
    assert link != other


def test_an_image_of_a_store_that_was_changed_is_refused(monkeypatch, tmp_path):
    monkeypatch.setattr(image, "_nix_build", lambda *arguments: None)
    monkeypatch.setattr(store, "is_ours", lambda: True)
    monkeypatch.setattr(store, "built_from", lambda path: [path, "/nix/store/x-root"])
    monkeypatch.setattr(store, "changed", lambda paths, _since: paths[1:])
    with pytest.raises(BuildError, match="was changed in the Nix store") as caught:
        build_image(tmp_path, "x86_64-linux", tmp_path / "link", View())
    assert caught.value.where == "/nix/store/x-root"


def test_what_was_not_looked_at_before_is_looked_at(monkeypatch, tmp_path):
    """Nor does a file count that a model's folder may have brought."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(store, "is_ours", lambda: True)
    monkeypatch.setattr(image, "read_layout", str)
    looked = []
    monkeypatch.setattr(store, "changed", lambda paths, since: looked.append(sorted(set(paths) - set(since))))
    link = tmp_path / "image"
    (tmp_path / "store-checked").touch()
    for paths in (["a", "b"], ["a", "b"], ["a", "c"], ["a", "b"]):
        monkeypatch.setattr(store, "built_from", lambda _, paths=paths: paths)
        image.image_at(link)
    assert looked == [["a", "b"], [], ["c"], ["b"]]


def test_where_nothing_can_be_noted_all_is_looked_at_each_time(monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.setattr(store, "is_ours", lambda: True)
    monkeypatch.setattr(store, "built_from", lambda _: ["a"])
    monkeypatch.setattr(image, "read_layout", str)
    looked = []
    monkeypatch.setattr(store, "changed", lambda paths, since: looked.append(set(paths) - set(since)))
    for _ in range(2):
        image.image_at(tmp_path / "image")
    assert looked == [{"a"}, {"a"}]


@pytest.mark.nix
@needs("nix")
@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("readFile (folder + ''/text'')", "it is [inside]"),
        ("readFile OUTSIDE", "forbidden in restricted mode"),
        ("readFile (folder + ''/link'')", "forbidden in restricted mode"),
        ("readFile <elsewhere/file>", "elsewhere/file"),
        ("fetchurl ''http://localhost/x''", "forbidden in restricted mode"),
        ("getEnv ''HOME''", "it is []"),
    ],
)
def test_a_build_looks_at_nothing_but_the_export(tmp_path, monkeypatch, value, said):
    """Whatever its documents name; and its folder's own name may be any."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_text("secret")
    monkeypatch.setenv("NIX_PATH", f"elsewhere={outside}")
    export = tmp_path / "an 'export' #ä"
    (export / "nix").mkdir(parents=True)
    (export / "text").write_text("inside")
    (export / "link").symlink_to(outside / "file")
    tells = f"throw ''it is [${{builtins.{value.replace('OUTSIDE', str(outside / 'file'))}}}]''"
    (export / "nix" / "default.nix").write_text(
        f"{{ exported = folder: {{ packages.{image.this_system()}.shell = {tells}; }}; }}"
    )
    with pytest.raises(BuildError) as caught:
        image.build_shell(export, tmp_path / "link", View())
    assert said in str(caught.value)
    assert "secret" not in str(caught.value)


def test_an_archive_whose_writer_was_killed_is_not_taken_for_whole(built, tmp_path, monkeypatch):
    (tmp_path / "out").mkdir()
    path = tmp_path / "out" / "image.tar"
    path.write_text("an older one")
    killed = tmp_path / "python"
    killed.write_text("#!/bin/sh\necho the first half\nkill -9 $$\n")
    killed.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(killed))
    for place in (path, None):
        with pytest.raises(BuildError, match=r"is not written: .* ended with -9"):
            write_archive(built, place)
    assert [one.read_text() for one in (tmp_path / "out").iterdir()] == ["an older one"]


def test_an_archive_goes_through_no_file_that_another_has_begun(built, tmp_path):
    """As another build to the same file, or a link that somebody has laid there."""
    (tmp_path / "image.tar.other").write_text("another's")
    (tmp_path / ".image.tar.part").symlink_to("image.tar.other")
    write_archive(built, tmp_path / "image.tar")
    assert (tmp_path / "image.tar.other").read_text() == "another's"
    assert tarfile.is_tarfile(tmp_path / "image.tar")
    assert (tmp_path / ".image.tar.part").is_symlink()


def test_an_archive_is_written_where_a_link_leads(built, tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "image.tar").symlink_to(tmp_path / "other" / "1.tar")
    write_archive(built, tmp_path / "image.tar")
    assert (tmp_path / "image.tar").is_symlink()
    assert tarfile.is_tarfile(tmp_path / "other" / "1.tar")
    assert len(list((tmp_path / "other").iterdir())) == 1
