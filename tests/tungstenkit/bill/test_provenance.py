"""Where an image is from: all that its build takes, by hash, and what has built it."""

import hashlib
import json

from tests.tungstenkit.bill.made import COMMIT
from tests.tungstenkit.locks import SYSTEM
from tungstenkit.bill.provenance import provenance
from tungstenkit.data import VERSION
from tungstenkit.lock.parts import Tungsten

BILLS = {"application/spdx+json": (b"{}", b"[]")}


def said(made, builder=SYSTEM):
    return json.loads(provenance(made, builder, BILLS))


def test_it_is_of_the_images_manifest(made):
    found = said(made)
    assert found["_type"] == "https://in-toto.io/Statement/v1"
    assert found["predicateType"] == "https://slsa.dev/provenance/v1"
    digest = {"sha256": made.image.digest.removeprefix("sha256:")}
    assert found["subject"] == [{"name": "some-model", "digest": digest}]


def test_its_materials_are_the_locks_inputs(made):
    found = said(made)["predicate"]["buildDefinition"]["resolvedDependencies"]
    named = {one.get("uri", one.get("name")): one["digest"]["sha256"] for one in found}
    hashes = {one["digest"]["sha256"] for one in found}
    platform = made.platform
    wanted = {one.sha256 for one in (*platform.debs, *platform.wheels, *made.lock.server[SYSTEM].wheels)}
    wanted |= {sha256 for one in platform.sources for sha256 in (one.sha256, one.wheel_sha256)}
    tools = made.lock.tools[SYSTEM]
    wanted |= {one.sha256 for one in (*tools.layers.debs, *tools.byte_code.debs, tools.busybox, tools.bash)}
    # Downloads, weights, the model's big files, results of steps.
    wanted |= {letter * 64 for letter in "abe79"}
    assert wanted <= hashes
    assert named["pkg:deb/debian/liba@1:1.0%2Bx-1?arch=amd64"] == made.platform.debs[0].sha256
    assert named["pkg:pypi/numeric@1.5"] == made.platform.wheels[0].sha256
    assert named[f"pkg:huggingface/org/name@{COMMIT}#model.safetensors"] == "b" * 64
    assert "model/tungsten_model.py" in named
    assert all(one.keys() in ({"uri", "digest"}, {"name", "digest"}) for one in found)
    assert len(found) == len({(one.get("uri", one.get("name")), one["digest"]["sha256"]) for one in found})


def test_its_builder_is_this_tungsten(made):
    details = said(made)["predicate"]["runDetails"]
    assert details["builder"]["id"] == f"pkg:generic/tungstenkit-nix@{VERSION}"
    ours = {one["name"]: one["digest"]["sha256"] for one in details["builder"]["builderDependencies"]}
    this = Tungsten.this()
    assert ours == {"nix": this.nix, "sdk": this.sdk, "server": this.server}


def test_it_names_the_documents_that_were_made_with_it(made):
    found = said(made)["predicate"]["runDetails"]["byproducts"]
    wanted = [hashlib.sha256(one).hexdigest() for one in BILLS["application/spdx+json"]]
    assert [one["digest"]["sha256"] for one in found] == wanted
    assert {one["mediaType"] for one in found} == {"application/spdx+json"}


def test_it_is_the_same_each_time(made):
    assert provenance(made, SYSTEM, BILLS) == provenance(made, SYSTEM, BILLS)
