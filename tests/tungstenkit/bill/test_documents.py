"""Both formats are what their own validators accept, say the same, and are the same bytes each time."""

import hashlib
import json
import re

import pytest
from cyclonedx.model.bom import Bom
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packageurl import PackageURL
from spdx_tools.spdx.parser.parse_anything import parse_file
from spdx_tools.spdx.validation.document_validator import validate_full_spdx_document

from tests.tungstenkit.bill.made import COMMIT, World, e, on_a_base
from tungstenkit.bill import cyclonedx, spdx
from tungstenkit.bill.contents import bill_of
from tungstenkit.bill.referrers import documents
from tungstenkit.document import to_json

SPDX, CYCLONEDX = spdx.MEDIA_TYPE, cyclonedx.MEDIA_TYPE

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # the validators' own


@pytest.fixture(params=["debian", "on a base"])
def made(request, world):
    if request.param == "on a base":
        on_a_base(world)
    return world.made()


@pytest.fixture
def bill(made, tmp_path):
    return bill_of(made, tmp_path / "cache")


@pytest.fixture
def kept(made, tmp_path):
    """What is kept beside the image: both documents of each format."""
    return documents(made, tmp_path / "cache")


def problems(text, folder):
    """What is wrong with an SPDX document."""
    (folder / "some.spdx.json").write_text(text)
    found = validate_full_spdx_document(parse_file(str(folder / "some.spdx.json")))
    return [problem.validation_message for problem in found]


@pytest.mark.parametrize("which", ["whole", "packages", "image"])
def test_the_validator_of_spdx_accepts_it(which, bill, kept, tmp_path):
    text = to_json(spdx.document(bill)) if which == "whole" else getattr(kept[SPDX], which).decode()
    assert problems(text, tmp_path) == []
    assert json.loads(text)["spdxVersion"] == "SPDX-2.3"


@pytest.mark.parametrize("which", ["whole", "packages", "image"])
def test_the_schema_of_cyclonedx_accepts_it(which, bill, kept):
    text = to_json(cyclonedx.document(bill)) if which == "whole" else getattr(kept[CYCLONEDX], which).decode()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    found = {one.bom_ref.value for one in Bom.from_json(json.loads(text)).components}
    listed = {one.ref for one in bill.components}
    assert found == {"whole": listed, "packages": bill.packages, "image": listed - bill.packages}[which]


def test_the_validators_are_awake(bill, tmp_path):
    text = to_json(cyclonedx.document(bill)).replace('"library"', '"libary"')
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is not None
    assert problems(
        to_json(spdx.document(bill)).replace('"GPL-2.0-or-later"', '"GPL-2.0-or-latter"'), tmp_path
    )


def test_a_document_names_the_other_and_its_hash(kept):
    """As each format has it."""
    first, second = (json.loads(one) for one in (kept[SPDX].packages, kept[SPDX].image))
    (named,) = second["externalDocumentRefs"]
    assert named["spdxDocument"] == first["documentNamespace"]
    assert named["checksum"]["checksumValue"] == hashlib.sha256(kept[SPDX].packages).hexdigest()
    assert "externalDocumentRefs" not in first
    first, second = (json.loads(one) for one in (kept[CYCLONEDX].packages, kept[CYCLONEDX].image))
    (named,) = second["metadata"]["component"]["externalReferences"]
    number = first["serialNumber"].removeprefix("urn:uuid:")
    assert (named["type"], named["url"]) == ("bom", f"urn:cdx:{number}/{first['version']}")
    assert named["hashes"][0]["content"] == hashlib.sha256(kept[CYCLONEDX].packages).hexdigest()


def test_what_is_kept_says_what_the_whole_says(bill, kept):
    """Each package, file and relation is in one of both documents."""
    whole, *both = (
        json.loads(one) for one in (to_json(spdx.document(bill)), kept[SPDX].packages, kept[SPDX].image)
    )
    found = [package["SPDXID"] for one in both for package in one["packages"]]
    among = spdx._id("packages")
    assert sorted(found) == sorted([among, *(package["SPDXID"] for package in whole["packages"])])

    def related(one):
        text = json.dumps([{**x} for x in one["relationships"]]).replace("DocumentRef-packages:", "")
        return {(*sorted(x.items()),) for x in json.loads(text.replace(among, spdx._id("image")))}

    image = spdx._id("image")
    of_itself = {(*sorted(spdx._related(image, "CONTAINS", image).items()),)}
    assert related(both[0]) | related(both[1]) == related(whole) | of_itself
    whole, *both = (
        json.loads(one)
        for one in (to_json(cyclonedx.document(bill)), kept[CYCLONEDX].packages, kept[CYCLONEDX].image)
    )
    assert sorted(one["bom-ref"] for part in both for one in part["components"]) == [
        one["bom-ref"] for one in whole["components"]
    ]
    layers = [
        one for part in both for one in part["metadata"]["component"]["components"] if "properties" in one
    ]
    assert sorted(layers, key=lambda one: one["bom-ref"]) == sorted(
        whole["metadata"]["component"]["components"], key=lambda one: one["bom-ref"]
    )
    assert [one["bom-ref"] for one in both[1]["metadata"]["component"]["components"]] == [
        one["bom-ref"] for one in whole["metadata"]["component"]["components"]
    ]


def test_after_an_edit_the_packages_document_is_the_same(world, tmp_path):
    """Of the layers, the model's own is another, and so is the image."""
    one = documents(world.made(), tmp_path / "cache")
    (world.model / "tungsten_model.py").write_text("pass  # and more\n")
    world.layers[-1][1].append(e("app/more.py", "tree app"))
    other = documents(world.made(), tmp_path / "cache")
    for kind in (SPDX, CYCLONEDX):
        assert one[kind].packages == other[kind].packages
        assert one[kind].image != other[kind].image


def test_nothing_of_a_model_is_in_the_packages_document(kept):
    for one in kept.values():
        words = re.findall(r"tungsten_model|weights\.pt|w\.onnx|org/name|some-model", one.packages.decode())
        assert words == []


def test_every_package_url_is_in_its_usual_spelling(bill):
    tools = [tool for one in bill.built for tool in (one.source, *one.tools)]
    urls = [one.purl for one in (bill.subject, *bill.components, *tools) if one.purl]
    assert {PackageURL.from_string(url).type for url in urls} >= {
        "deb",
        "generic",
        "huggingface",
        "oci",
        "pypi",
    }
    assert [url for url in urls if PackageURL.from_string(url).to_string() != url] == []


def test_both_say_the_same(bill):
    one, other = spdx.document(bill), cyclonedx.document(bill)
    urls = {ref["referenceLocator"] for package in one["packages"] for ref in package.get("externalRefs", ())}
    formulas = [part for formula in other["formulation"] for part in formula["components"]]
    others = [*other["components"], *formulas, other["metadata"]["component"]]
    assert urls == {part["purl"] for part in others if "purl" in part}
    hashes = {one["checksumValue"] for package in one["packages"] for one in package.get("checksums", ())}
    parts = [part for whole in others for part in (whole, *whole.get("components", ()))]
    assert hashes == {hashed["content"] for part in parts for hashed in part.get("hashes", ())}
    licences = {package["licenseDeclared"] for package in one["packages"]} - {"NOASSERTION"}
    assert licences == {said["expression"] for part in others for said in part.get("licenses", ())}


def test_references_of_licences_have_their_texts(bill):
    found = spdx.document(bill)
    texts = {one["licenseId"]: one["extractedText"] for one in found["hasExtractedLicensingInfos"]}
    used = re.findall(r"LicenseRef-[A-Za-z0-9.-]+", " ".join(p["licenseDeclared"] for p in found["packages"]))
    assert texts.keys() == {*used}
    assert sorted(texts.values()) == ["Do it.", "Ours"]


def test_layers_say_how_many_of_their_entries_are_whose(bill):
    found = spdx.document(bill)
    said = [one for one in found["relationships"] if one["spdxElementId"].startswith("SPDXRef-layer-")]
    assert sum(int(one["comment"].split()[0]) for one in said) == sum(layer.entries for layer in bill.layers)
    document = cyclonedx.document(bill)
    parts = [part for one in document["components"] for part in (one, *one.get("components", ()))]
    refs = {part["bom-ref"] for part in parts}
    for layer, told in zip(bill.layers, document["metadata"]["component"]["components"], strict=True):
        facts = {fact["name"]: fact["value"] for fact in told["properties"]}
        counted = {
            name.removeprefix("tungsten:entries:"): int(count)
            for name, count in facts.items()
            if name.startswith("tungsten:entries:")
        }
        assert counted == layer.owners
        assert counted.keys() <= refs
        assert int(facts["tungsten:entries"]) == sum(counted.values())


def test_weights_are_components_of_an_ml_bom(bill):
    parts = {one["bom-ref"]: one for one in cyclonedx.document(bill)["components"]}
    weights = parts[f"model:org/name@{COMMIT}:cache"]
    assert (weights["type"], weights["version"]) == ("machine-learning-model", COMMIT)
    assert [one["hashes"][0]["content"] for one in weights["components"]][1] == "b" * 64
    assert parts["file:app/weights.pt"]["type"] == "machine-learning-model"
    assert parts["file:app/weights.pt"]["evidence"] == {"occurrences": [{"location": "/app/weights.pt"}]}


def test_what_is_complete_is_said_and_a_base_image_is_not(bill):
    whole, *unknown = cyclonedx.document(bill)["compositions"]
    assert whole["aggregate"] == "complete"
    assert [one["assemblies"] for one in unknown] == ([["base-image"]] if bill.opaque else [])
    assert not {"base-image"} & {*whole["assemblies"]}


def test_two_builds_of_one_lock_give_the_same_bytes(tmp_path, monkeypatch):
    """In other folders and stores, with other caches."""
    made = []
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        with monkeypatch.context() as patch:
            made.append(documents(World(tmp_path / name, patch).made(), tmp_path / f"{name}-cache"))
    assert made[0] == made[1]
    assert made[0].keys() == {SPDX, CYCLONEDX}


def test_a_document_is_named_by_what_it_says(world, tmp_path):
    one = documents(world.made(), tmp_path / "cache")
    (world.model / "tungsten_model.py").write_text("pass  # and more\n")
    other = documents(world.made(), tmp_path / "cache")
    names = {
        json.loads(part)[form.NAME]
        for bills in (one, other)
        for form in (spdx, cyclonedx)
        for part in (bills[form.MEDIA_TYPE].packages, bills[form.MEDIA_TYPE].image)
    }
    assert all(name.startswith("urn:uuid:") for name in names)
    assert len(names) == 6


def test_no_two_components_have_one_name_in_a_document():
    refs = [
        "deb:a:1-2:all",
        "deb:a-1:2:all",
        "deb:a:1+2:all",
        "deb:a:1~2:all",
        f"file:{'a' * 99}",
        f"file:{'a' * 98}",
    ]
    assert len({spdx._id(ref) for ref in refs}) == len(refs)


def test_what_is_related_is_there(bill, kept):
    for found in (spdx.document(bill), json.loads(kept[SPDX].packages), json.loads(kept[SPDX].image)):
        ids = {"SPDXRef-DOCUMENT", *(one["SPDXID"] for one in found["packages"])}
        if "externalDocumentRefs" in found:
            other = json.loads(kept[SPDX].packages)
            ids |= {f"DocumentRef-packages:{one['SPDXID']}" for one in other["packages"]}
        ends = [(one["spdxElementId"], one["relatedSpdxElement"]) for one in found["relationships"]]
        assert {end for both in ends for end in both} <= ids
    both = [json.loads(one) for one in (kept[CYCLONEDX].packages, kept[CYCLONEDX].image)]
    for other in (cyclonedx.document(bill), *both):
        refs = {part["bom-ref"] for part in (*other["components"], other["metadata"]["component"])}
        assert {one["ref"] for one in other["dependencies"]} == refs
        assert {ref for one in other["dependencies"] for ref in one.get("dependsOn", ())} <= refs
        links = {ref for one in other["compositions"] for ref in one["assemblies"]} - refs
        number = both[0]["serialNumber"].removeprefix("urn:uuid:")
        assert links <= {f"urn:cdx:{number}/1#packages"}
    assert links


def test_nothing_of_the_day_is_in_it(bill):
    for form in (spdx, cyclonedx):
        moments = re.findall(r"\d{4}-\d\d-\d\dT[\d:]+Z", to_json(form.document(bill)))
        assert {*moments} == {"2026-11-29T12:53:14Z"}
