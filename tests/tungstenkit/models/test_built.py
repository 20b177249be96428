"""What was built here: folders by what Nix has registered, images by what the engine says, and their removal."""

import fcntl
import os
import shutil
from dataclasses import replace

import pytest

from tests.tungstenkit.models.conftest import SYSTEM
from tests.tungstenkit.models.engine import image
from tungstenkit import roots
from tungstenkit.models import built
from tungstenkit.nix_build.image import read_layout
from tungstenkit.sdk.errors import TungstenError

ONE, TWO = "1" * 64, "2" * 64


def loaded(layout, *names, **more):
    """An engine's image of a layout."""
    return image(read_layout(layout).image_id.removeprefix("sha256:"), *names, **more)


def listed(engine=None):
    return {(one.name, str(one.folder and one.folder.name)): one for one in built.built(engine)}


def test_folders_and_images_are_found_by_what_is_there(alone, engine):
    blur = alone.model("blur")
    alone.model("moved-later", title="moved")
    engine.put(
        "image",
        loaded(alone.layout("blur"), "localhost/blur:latest"),
        image(ONE, "localhost/other:1", title="other", layers=[("c", 5)], Digest=""),
    )
    found = listed("podman")
    assert list(found) == [("blur", "blur"), ("moved", "moved-later"), ("other", "None")]
    one = found["blur", "blur"]
    assert (one.platform, one.names, one.store) == (SYSTEM, ("localhost/blur:latest",), alone.store.place)
    assert one.digest == read_layout(alone.layout("blur")).digest
    assert one.size == read_layout(alone.layout("blur")).size
    assert one.built is not None
    assert not one.is_gone
    other = found["other", "None"]
    assert (other.names, other.size, other.digest) == (("localhost/other:1",), 300, None)
    (blur.parent / "moved-later").rename(blur.parent / "elsewhere")
    assert listed()["moved-later", "moved-later"].is_gone
    assert listed()["moved-later", "moved-later"].digest is None


def test_an_image_is_found_by_its_folder_or_by_its_model(alone, monkeypatch):
    blur = alone.model("blur", title="soft")
    assert built.layout_of(str(blur)) == built.layout_of("soft") == alone.layout("soft")
    monkeypatch.chdir(blur)
    assert built.layout_of(".") == alone.layout("soft")
    # What lies there is meant, whatever is called so elsewhere; and what is no model is left to others.
    (blur / "soft").mkdir()
    assert built.layout_of("soft") is None
    assert built.layout_of("registry.example/soft:1") is None
    alone.model("other", title="two")
    alone.model("another", title="two")
    assert built.layout_of("two") == alone.layout("two")
    shutil.rmtree(alone.layout("soft"))
    with pytest.raises(TungstenError, match="its image is in the Nix store no more"):
        built.layout_of(str(blur))


def test_several_models_of_one_name_are_told_apart_by_their_folders(alone):
    first = alone.layout("same", ["numpy 1"])
    link = alone.model("one", title="same") / ".tungsten" / f"image-{SYSTEM}"
    link.unlink()
    link.symlink_to(first.rename(first.with_name(first.name.replace("-layout", "-first"))))
    alone.layout("same", ["numpy 2"])
    alone.model("two", title="same")
    with pytest.raises(TungstenError, match="several images are called so") as caught:
        built.layout_of("same")
    assert str(alone.folder / "one") in caught.value.hint


def test_a_link_that_two_stores_know_is_one_image(alone, monkeypatch, tmp_path):
    alone.model("blur")
    other = replace(alone.store, place=tmp_path / "other")
    for order in ([other, alone.store], [alone.store, other]):
        monkeypatch.setattr(roots, "stores", lambda order=order: order)
        (one,) = built.built()
        assert one.store == alone.store.place


def test_the_folder_is_the_innermost(alone):
    alone.model("x/.tungsten/export/y", title="inner")
    (one,) = built.built()
    assert one.folder == alone.folder / "x" / ".tungsten" / "export" / "y"


def test_an_image_that_was_collected_is_told_so(alone):
    alone.model("blur")
    shutil.rmtree(alone.layout("blur"))
    (one,) = built.built()
    assert (one.name, one.layout, one.digest, one.is_gone) == ("blur", None, None, False)


@pytest.mark.parametrize(
    "what",
    ["other-users", "out-of-the-store", "a-link-of-another-name", "relative", "climbing", "a-garbled-image"],
)
def test_what_is_registered_of_others_or_by_them_is_no_image_of_ours(alone, monkeypatch, what):
    state = alone.folder / "x" / ".tungsten"
    link = state / f"image-{SYSTEM}"
    if what == "a-link-of-another-name":
        alone.root(state / "image-mips", alone.layout("x"))
    elif what == "out-of-the-store":
        (alone.folder / "fake").mkdir(parents=True)
        alone.root(link, alone.folder / "fake")
        (one,) = built.built()
        assert (one.layout, one.digest) == (None, None)
        return
    elif what == "relative":
        (alone.auto / "x").symlink_to(f"x/.tungsten/image-{SYSTEM}")
    elif what == "climbing":
        (alone.auto / "x").symlink_to(f"{alone.folder}/y/../x/.tungsten/image-{SYSTEM}")
    elif what == "a-garbled-image":
        (alone.layout("x") / "index.json").write_text("[]")
        alone.root(link, alone.layout("x"))
        (one,) = built.built()
        assert (one.layout, one.digest) == (None, None)
        return
    else:
        alone.model("x")
        monkeypatch.setattr(built.os, "geteuid", lambda: 12345)
    assert built.built() == []


def test_a_folder_that_is_gone_is_its_owners_by_what_is_left_above(alone, monkeypatch):
    alone.root(alone.folder / "gone" / ".tungsten" / f"image-{SYSTEM}", None)
    shutil.rmtree(alone.folder)
    (one,) = built.built()
    assert one.is_gone
    monkeypatch.setattr(built.os, "geteuid", lambda: 12345)
    assert built.built() == []


def test_an_image_is_shown_by_its_folder_or_its_name(alone, engine):
    blur = alone.model("blur")
    alone.root(blur / ".tungsten" / "image-aarch64-linux", alone.layout("for-arm"))
    engine.put(
        "image", loaded(alone.layout("blur"), "localhost/blur:latest"), image(ONE, "localhost/other:latest")
    )
    arm, x86 = sorted(built.inspect(str(blur), "podman"), key=lambda one: one.built.platform)
    assert (arm.built.platform, x86.built.platform) == ("aarch64-linux", SYSTEM)
    assert [layer.made_of for layer in x86.layers] == ["numpy 2.5.5", "the model's files"]
    assert x86.layers[0].packages == [("numpy", "2.5.5")]
    assert x86.labels == {"org.opencontainers.image.title": "blur"}
    assert x86.is_locks is True
    (blur / "tungsten.lock").write_text("another\n")
    assert built.inspect(str(blur), "podman")[0].is_locks is False
    (by_name,) = built.inspect("blur", "podman")
    assert by_name.built.folder == blur
    (other,) = built.inspect("other", "podman")
    assert [layer.size for layer in other.layers] == [1000, 10]


@pytest.mark.parametrize("target", ["no-such", "-f", "a b", "", "x\x1b[31m"])
def test_what_is_neither_is_an_error(alone, engine, target):
    with pytest.raises(TungstenError):
        built.inspect(target, "podman")
    with pytest.raises(TungstenError):
        built.removal(target, "podman")
    told = engine.told() if (engine.folder / "told").exists() else []
    assert not any(line.startswith(("image rm", "image tag")) for line in told)


ASKED = [
    (built.inspect, "podman"),
    (built.inspect, None),
    (built.removal, "podman"),
    (built.removal, None),
    (lambda name, engine: built.tag(name, ["x"], engine), "podman"),
]


@pytest.mark.parametrize(("ask", "engined"), ASKED)
def test_who_says_a_models_name_is_told_its_folder(alone, engine, ask, engined):
    folder = alone.model("my model", title="greeter")
    with pytest.raises(TungstenError) as caught:
        ask("greeter", engined)
    assert caught.value.hint == f"that is a model's name: name its folder, '{folder}'"
    shutil.rmtree(folder)
    with pytest.raises(TungstenError) as caught:
        ask("greeter", engined)
    assert caught.value.hint == "`tungsten models` lists what was built here"


class TestRemoval:
    def test_a_folders_image_goes_with_what_was_made_and_the_model_stays(self, alone, engine):
        blur = alone.model("blur")
        alone.model("other")
        engine.put("image", loaded(alone.layout("blur"), "localhost/blur:latest", "localhost/blur:v1"))
        what = built.removal(str(blur), "podman")
        assert what.names == ("localhost/blur:latest", "localhost/blur:v1")
        assert what.size > 10_000 + 1010
        assert (blur / ".tungsten").exists()
        built.remove(what)
        assert engine.names() == {}
        assert sorted(path.name for path in blur.iterdir()) == ["tungsten.lock", "tungsten_model.py"]
        assert alone.layout("blur").exists()
        assert [one.folder.name for one in built.built("podman")] == ["other"]
        # What nothing knows any more is not there to be removed twice.
        with pytest.raises(TungstenError, match="no image was built"):
            built.removal(str(blur), "podman")

    def test_what_another_folder_has_made_too_stays_in_the_engine(self, alone, engine):
        one = alone.model("one", title="same")
        alone.model("two", title="same")
        engine.put("image", loaded(alone.layout("same"), "localhost/same:latest"))
        what = built.remove(str(one), "podman")
        assert what.left == ("localhost/same:latest: another folder's image is the same",)
        assert list(engine.names().values()) == [["localhost/same:latest"]]

    def test_a_name_goes_and_the_image_with_its_last(self, alone, engine):
        engine.put("image", image(ONE, "localhost/a:latest", "localhost/b:1"))
        what = built.remove("a", "podman")
        assert (what.names, what.size) == (("localhost/a:latest",), 0)
        assert what.left == ("the image stays: it is localhost/b:1, too",)
        assert engine.names() == {ONE: ["localhost/b:1"]}
        assert built.remove("localhost/b:1", "podman").size == 1010
        assert engine.names() == {}

    def test_a_folder_that_is_gone_is_forgotten(self, alone):
        blur = alone.model("blur")
        shutil.rmtree(blur)
        built.remove(str(blur))
        assert built.built() == []

    def test_a_model_that_is_being_built_is_left(self, alone):
        blur = alone.model("blur")
        with (blur / ".tungsten" / "busy").open() as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            with pytest.raises(TungstenError, match="at work"):
                built.removal(str(blur))
            with pytest.raises(TungstenError, match="at work"):
                built.erase_state(blur)
        assert (blur / ".tungsten" / "export").exists()

    def test_links_lead_nowhere(self, alone, tmp_path):
        blur = alone.model("blur")
        (tmp_path / "outside").mkdir()
        (tmp_path / "outside" / "file").touch()
        (blur / ".tungsten" / "export" / "link").symlink_to(tmp_path / "outside")
        built.remove(str(blur))
        assert (tmp_path / "outside" / "file").exists()
        blur = alone.model("other")
        (blur / ".tungsten").rename(tmp_path / "outside" / "state")
        (blur / ".tungsten").symlink_to(tmp_path / "outside" / "state")
        with pytest.raises(TungstenError, match="is a link"):
            built.removal(str(blur))
        with pytest.raises(TungstenError, match="is a link"):
            built.erase_state(blur)
        assert (tmp_path / "outside" / "state").exists()

    def test_nothing_of_another_users_goes(self, alone, monkeypatch):
        blur = alone.model("blur")
        real = os.lstat
        other = blur / ".tungsten" / "export" / "big"

        class Others:
            st_uid = 12345

        monkeypatch.setattr(
            built.os, "lstat", lambda path, **more: Others() if path == str(other) else real(path, **more)
        )
        with pytest.raises(TungstenError, match="of the user 12345"):
            built.removal(str(blur))
        assert other.exists()


class TestTag:
    def test_an_image_gets_names_as_the_engine_has_them(self, alone, engine):
        engine.put("image", image(ONE, "localhost/a:latest"))
        assert built.tag("a", ["b", "registry.example/team/a:1"], "podman") == [
            "localhost/b:latest",
            "registry.example/team/a:1",
        ]
        assert engine.names() == {
            ONE: ["localhost/a:latest", "localhost/b:latest", "registry.example/team/a:1"]
        }

    @pytest.mark.parametrize("name", ["B", "-f", "a b", "a:b c", "", "a@sha256:0"])
    def test_a_name_that_no_engine_takes_is_refused_before_any_is_given(self, alone, engine, name):
        engine.put("image", image(ONE, "localhost/a:latest"))
        with pytest.raises(TungstenError, match="is not a"):
            built.tag("a", ["ok", name], "podman")
        assert engine.names() == {ONE: ["localhost/a:latest"]}

    def test_a_folders_is_the_one_of_this_machine_and_is_loaded(self, alone, monkeypatch):
        blur = alone.model("blur")
        alone.root(blur / ".tungsten" / "image-aarch64-linux", alone.layout("for-arm"))
        done = []
        monkeypatch.setattr(built, "this_system", lambda: SYSTEM)
        monkeypatch.setattr(built, "has_image", lambda image, engine, name: name.endswith("b:latest"))
        monkeypatch.setattr(
            built, "load_image", lambda image, engine, name: done.append((image.layout, engine, name))
        )
        built.tag(str(blur), ["a", "b"], "podman")
        assert done == [(alone.layout("blur"), "podman", "localhost/a:latest")]

    def test_without_an_engine_nothing_has_a_name(self, alone):
        with pytest.raises(TungstenError, match="there is no podman"):
            built.tag("a", ["b"], None)
