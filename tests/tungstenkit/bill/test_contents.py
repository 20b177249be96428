"""A bill of materials lists what the lock says, and whose each entry of each layer is."""

from dataclasses import replace

import pytest

from tests.tungstenkit.bill.made import CACHE, COMMIT, SDK, e, on_a_base
from tungstenkit.bill.contents import bill_of
from tungstenkit.lock.parts import AddedDebs
from tungstenkit.sdk.errors import BuildError, FetchError

LIBA, LIBB, ODD = "deb:liba:1:1.0+x-1:amd64", "deb:libb:2:amd64", "deb:odd:3:amd64"


def bill(made, tmp_path):
    return bill_of(made, tmp_path / "cache")


def by_ref(found):
    parts = [part for one in found.components for part in one.parts]
    return {one.ref: one for one in (*found.components, *parts)}


def test_debian_packages_are_named_with_their_release_and_their_source(made, tmp_path):
    found = by_ref(bill(made, tmp_path))
    one = found[LIBA]
    assert one.purl == "pkg:deb/debian/liba@1:1.0%2Bx-1?arch=amd64&distro=debian-12&upstream=a%401:1.0-1"
    assert (one.sha256, one.file) == (made.platform.debs[0].sha256, "liba_1.0+x-1_amd64.deb")
    assert found[LIBB].purl == "pkg:deb/debian/libb@2?arch=amd64&distro=debian-12"
    assert found["os"].name + found["os"].version == "debian12"


def test_licences_are_the_packages_own(made, tmp_path):
    found = by_ref(bill(made, tmp_path))
    said = {ref: one.licence.expression for ref, one in found.items() if one.licence is not None}
    # By the link to another's documents, too.
    assert said[LIBA] == said[LIBB] == "GPL-2.0-or-later"
    assert said["wheel:numeric-1.5-py3-none-any.whl"] == "MIT"
    assert said["wheel:built-3-py3-none-any.whl"] == "BSD-3-Clause"
    assert said[f"model:org/name@{COMMIT}:cache"] == said[f"wheel:{SDK}"] == "Apache-2.0"
    assert "wheel:given-2-py3-none-any.whl" not in said


def test_python_packages_are_the_indexes_or_from_where_the_model_says(made, tmp_path):
    found = by_ref(bill(made, tmp_path))
    assert found["wheel:numeric-1.5-py3-none-any.whl"].purl == "pkg:pypi/numeric@1.5"
    given = "pkg:pypi/given@2?download_url=https://files.example/given-2-py3-none-any.whl"
    assert found["wheel:given-2-py3-none-any.whl"].purl == given
    git = f"git%2Bhttps://git.example/built%40{'d' * 40}"
    assert found["wheel:built-3-py3-none-any.whl"].purl == f"pkg:generic/built@3?vcs_url={git}"
    # `tungstenkit` on the index is another product.
    assert found[f"wheel:{SDK}"].purl.startswith("pkg:generic/tungstenkit-nix@")


def test_what_sources_are_built_with_is_told_and_is_not_in_the_image(made, tmp_path):
    found = bill(made, tmp_path)
    one, other = found.built
    assert (one.component, one.source.file) == ("wheel:built-3-py3-none-any.whl", "built-3.tar.gz")
    assert other.source.purl == "pkg:pypi/index@4?file_name=index-4.tar.gz"
    assert [tool.name for tool in one.tools] == ["setuptools"]
    assert not {tool.ref for tool in one.tools} & by_ref(found).keys()


def test_weights_are_models_at_their_revision_and_hash(made, tmp_path):
    found = by_ref(bill(made, tmp_path))
    repository = found[f"model:org/name@{COMMIT}:cache"]
    assert (repository.kind, repository.version) == ("machine-learning-model", COMMIT)
    assert repository.purl == f"pkg:huggingface/org/name@{COMMIT}"
    assert ("revision", "main") in repository.facts
    weights = found[f"file:{CACHE}/snapshots/{COMMIT}/model.safetensors"]
    assert (weights.sha256, weights in repository.parts) == ("b" * 64, True)
    own, download = found["file:app/weights.pt"], found["file:app/w.onnx"]
    assert (own.kind, own.sha256) == ("machine-learning-model", "e" * 64)
    assert (download.kind, download.sha256) == ("machine-learning-model", "a" * 64)
    assert ("url", "https://files.example/w.onnx") in download.facts
    assert found["file:app/tungsten_model.py"].kind == "file"


def test_results_of_steps_say_what_they_saw(made, tmp_path):
    found = by_ref(bill(made, tmp_path))
    assert found["post-build"].sha256 == "7" * 64
    assert found["post-build"].facts == (("sees", "5" * 64), ("saw:tungsten_model.py", "6" * 64))
    # Without the network a result follows from the rest, and has no hash of its own in the lock.
    assert (found["command:0"].name, found["command:0"].sha256) == ("RUN one; RUN two", "")
    assert (found["command:1"].name, found["command:1"].sha256) == ("RUN net", "9" * 64)
    assert ("sees", "8" * 64) in found["command:1"].facts


def test_every_entry_of_every_layer_has_an_owner_that_is_listed(world, made, tmp_path):
    found = bill(made, tmp_path)
    listed = by_ref(found)
    assert [layer.entries for layer in found.layers] == [len(entries) for _, entries in world.layers]
    assert all(ref in listed for layer in found.layers for ref in layer.owners)
    owners = [dict(layer.owners) for layer in found.layers]
    assert owners[0] == {LIBA: 2, LIBB: 1, ODD: 1}
    assert owners[1] == {"tungsten": 3}
    assert owners[3] == {"command:1": 2}
    assert owners[6] == {
        "file:app/w.onnx": 1,
        f"file:{CACHE}/snapshots/{COMMIT}/model.safetensors": 1,
        f"model:org/name@{COMMIT}:cache": 1,
        "tungsten": 1,
    }
    assert owners[7] == {"file:app/weights.pt": 1}
    assert owners[8] == {"post-build": 1}
    assert owners[9] == {"file:app/tungsten_model.py": 1, "model": 2, "spec": 1}


def test_layers_that_were_put_together_keep_their_owners(world, tmp_path):
    label = world.layers[8][0]
    world.layers[8] = (f"weights.pt; {label}", [e("app/made", f"weights.pt; {label}"), *world.layers[7][1]])
    del world.layers[7]
    assert bill(world.made(), tmp_path).layers[7].owners == {"file:app/weights.pt": 1, "post-build": 1}


@pytest.mark.parametrize("package", ["nobody-1-py3-none-any.whl", "nobody", "the base image", "tree etc"])
def test_an_entry_that_nobody_owns_is_an_error(world, tmp_path, package):
    world.layers[0][1].append(e("usr/lib/nobodys", package))
    with pytest.raises(BuildError, match="nobody owns /usr/lib/nobodys") as caught:
        bill(world.made(), tmp_path)
    assert caught.value.where == "the layer 'liba 1'"


def test_a_base_image_is_one_part_of_which_no_more_is_said(world, tmp_path):
    on_a_base(world)
    found = bill(world.made(), tmp_path)
    base = by_ref(found)["base-image"]
    assert (base.version, base.name) == (f"sha256:{'4' * 64}", "images.example:5000/team/base:1")
    where = "repository_url=images.example:5000/team/base"
    assert base.purl == f"pkg:oci/base@sha256:{'4' * 64}?{where}"
    assert [part.sha256 for part in base.parts] == ["1" * 64]
    assert found.layers[0].owners == {"base-image": 1}
    assert found.opaque == {"base-image"}
    # Which system it is, it would have to say itself.
    assert "os" not in by_ref(found)


def test_a_file_in_whose_place_post_build_has_written_its_own_is_not_the_models(world, tmp_path):
    assert "file:app/tungsten_model.py" in by_ref(bill(world.made(), tmp_path))
    world.layers[9] = ("the model's files", [e("app", "tree app", "dir")])
    found = bill(world.made(), tmp_path)
    assert "file:app/tungsten_model.py" not in by_ref(found).keys() | found.needs.keys()


def test_packages_of_one_name_in_two_roots_of_an_image_are_two(world, tmp_path):
    """What stands beside a base image, and what was installed into it."""
    on_a_base(world)
    other = world.deb("libb", "5", {"usr/lib/b": b"5", "usr/share/doc/libb/copyright": b""})
    added = AddedDebs(release="bullseye", debs=(other,))
    world.base = world.base.model_copy(update={"added": added})
    world.layers.insert(1, ("libb 5", [e("usr/lib/b", "libb")]))
    world.layers[2] = ("libb 2", [e("opt/tungsten/python/usr/lib/b", "libb"), e("opt", "liba", "dir")])
    found = bill(world.made(), tmp_path)
    listed = by_ref(found)
    assert listed["deb:libb:5:amd64"].purl == "pkg:deb/debian/libb@5?arch=amd64&distro=debian-11"
    assert [layer.owners for layer in found.layers[1:3]] == [{"deb:libb:5:amd64": 1}, {LIBB: 1, LIBA: 1}]
    assert (listed[LIBB].licence.expression, listed["deb:libb:5:amd64"].licence) == ("GPL-2.0-or-later", None)


def test_files_of_one_content_are_each_their_own(world, tmp_path):
    world.files = world.files.model_copy(
        update={
            "downloads": (
                *world.files.downloads,
                world.files.downloads[0].model_copy(update={"to": "x.onnx"}),
            )
        }
    )
    world.layers[6][1].append(e("app/x.onnx", "files", sha256="a" * 64))
    owners = bill(world.made(), tmp_path).layers[6].owners
    assert (owners["file:app/w.onnx"], owners["file:app/x.onnx"]) == (1, 1)


def test_what_the_models_project_says_of_it_is_said(world, tmp_path):
    made = world.made()
    about = {"version": "1.2", "licenses": "mit"}
    model = by_ref(bill(replace(made, spec=made.spec.model_copy(update={"about": about})), tmp_path))["model"]
    assert (model.version, model.licence.expression) == ("1.2", "MIT")


def test_who_asked_for_what_is_kept(made, tmp_path):
    needs = bill(made, tmp_path).needs
    assert needs[LIBA] == ("image",)
    assert needs[LIBB] == (LIBA,)
    assert needs["wheel:numeric-1.5-py3-none-any.whl"] == ("image",)
    (server,) = needs["wheel:flask-9-py3-none-any.whl"]
    assert server.startswith("wheel:tungsten_server-")


def test_a_package_that_has_left_the_store_is_told(world, made, tmp_path):
    for path in world.store.glob("*-numeric-*"):
        path.unlink()
    with pytest.raises(FetchError, match="not in the Nix store any more") as caught:
        bill(made, tmp_path)
    assert caught.value.where == "numeric"


def test_it_is_the_same_whatever_was_read_before(world, made, tmp_path):
    first = bill(made, tmp_path)
    assert bill(made, tmp_path) == first == bill_of(made, tmp_path / "another")
