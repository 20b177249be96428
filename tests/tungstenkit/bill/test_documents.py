"""Both formats are what their own validators accept, say the same, and are the same bytes each time."""

import json
import re

import pytest
from cyclonedx.model.bom import Bom
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packageurl import PackageURL
from spdx_tools.spdx.parser.parse_anything import parse_file
from spdx_tools.spdx.validation.document_validator import validate_full_spdx_document

from tests.tungstenkit.bill.made import COMMIT, World, on_a_base
from tungstenkit.bill import cyclonedx, spdx
from tungstenkit.bill.contents import bill_of
from tungstenkit.bill.referrers import documents

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # the validators' own


@pytest.fixture(params=["debian", "on a base"])
def bill(request, world, tmp_path):
    if request.param == "on a base":
        on_a_base(world)
    return bill_of(world.made(), tmp_path / "cache")


def test_the_validator_of_spdx_accepts_it(bill, tmp_path):
    (tmp_path / "some.spdx.json").write_bytes(spdx.document(bill))
    found = parse_file(str(tmp_path / "some.spdx.json"))
    problems = validate_full_spdx_document(found)
    assert [problem.validation_message for problem in problems] == []
    assert found.creation_info.spdx_version == "SPDX-2.3"
    assert len(found.packages) > len(bill.components) + len(bill.layers)


def test_the_schema_of_cyclonedx_accepts_it(bill):
    text = cyclonedx.document(bill).decode()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    found = Bom.from_json(json.loads(text))
    assert {one.bom_ref.value for one in found.components} == {one.ref for one in bill.components}


def test_the_validators_are_awake(bill, tmp_path):
    text = cyclonedx.document(bill).decode()
    assert (
        JsonStrictValidator(SchemaVersion.V1_6).validate_str(text.replace('"library"', '"libary"'))
        is not None
    )
    broken = spdx.document(bill).replace(b'"GPL-2.0-or-later"', b'"GPL-2.0-or-latter"')
    (tmp_path / "some.spdx.json").write_bytes(broken)
    assert validate_full_spdx_document(parse_file(str(tmp_path / "some.spdx.json")))


def test_every_package_url_is_in_its_usual_spelling(bill):
    tools = [tool for one in bill.built for tool in (one.source, *one.tools)]
    urls = [one.purl for one in (bill.image, *bill.components, *tools) if one.purl]
    assert {PackageURL.from_string(url).type for url in urls} >= {
        "deb",
        "generic",
        "huggingface",
        "oci",
        "pypi",
    }
    assert [url for url in urls if PackageURL.from_string(url).to_string() != url] == []


def test_both_say_the_same(bill):
    one, other = json.loads(spdx.document(bill)), json.loads(cyclonedx.document(bill))
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
    found = json.loads(spdx.document(bill))
    texts = {one["licenseId"]: one["extractedText"] for one in found["hasExtractedLicensingInfos"]}
    used = re.findall(r"LicenseRef-[A-Za-z0-9.-]+", " ".join(p["licenseDeclared"] for p in found["packages"]))
    assert texts.keys() == {*used}
    assert sorted(texts.values()) == ["Do it.", "Ours"]


def test_layers_say_how_many_of_their_entries_are_whose(bill):
    found = json.loads(spdx.document(bill))
    said = [one for one in found["relationships"] if one["spdxElementId"].startswith("SPDXRef-layer-")]
    assert sum(int(one["comment"].split()[0]) for one in said) == sum(layer.entries for layer in bill.layers)
    parts = json.loads(cyclonedx.document(bill))["components"]
    every = [part for whole in parts for part in (whole, *whole.get("components", ()))]
    facts = [fact for part in every for fact in part.get("properties", ())]
    counted = [int(fact["value"]) for fact in facts if fact["name"].startswith("tungsten:entries:")]
    assert sum(counted) == sum(layer.entries for layer in bill.layers)


def test_weights_are_components_of_an_ml_bom(bill):
    parts = {one["bom-ref"]: one for one in json.loads(cyclonedx.document(bill))["components"]}
    weights = parts[f"model:org/name@{COMMIT}:cache"]
    assert (weights["type"], weights["version"]) == ("machine-learning-model", COMMIT)
    assert [one["hashes"][0]["content"] for one in weights["components"]][1] == "b" * 64
    assert parts["file:app/weights.pt"]["type"] == "machine-learning-model"
    assert parts["file:app/weights.pt"]["evidence"] == {"occurrences": [{"location": "/app/weights.pt"}]}


def test_what_is_complete_is_said_and_a_base_image_is_not(bill):
    whole, *unknown = json.loads(cyclonedx.document(bill))["compositions"]
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
    assert made[0].keys() == {"application/spdx+json", "application/vnd.cyclonedx+json"}


def test_a_document_is_named_by_what_it_says(world, tmp_path):
    one = documents(world.made(), tmp_path / "cache")
    (world.model / "tungsten_model.py").write_text("pass  # and more\n")
    other = documents(world.made(), tmp_path / "cache")
    names = [
        {
            json.loads(bills["application/spdx+json"])["documentNamespace"],
            json.loads(bills["application/vnd.cyclonedx+json"])["serialNumber"],
        }
        for bills in (one, other)
    ]
    assert all(name.startswith("urn:uuid:") for both in names for name in both)
    assert len(names[0] | names[1]) == 4


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


def test_what_is_related_is_there(bill):
    found = json.loads(spdx.document(bill))
    ids = {"SPDXRef-DOCUMENT", *(one["SPDXID"] for one in found["packages"])}
    ends = [(one["spdxElementId"], one["relatedSpdxElement"]) for one in found["relationships"]]
    assert {end for both in ends for end in both} <= ids
    other = json.loads(cyclonedx.document(bill))
    refs = {part["bom-ref"] for part in (*other["components"], other["metadata"]["component"])}
    assert {one["ref"] for one in other["dependencies"]} == refs
    assert {ref for one in other["dependencies"] for ref in one.get("dependsOn", ())} <= refs


def test_nothing_of_the_day_is_in_it(bill):
    for form in (spdx, cyclonedx):
        moments = re.findall(r"\d{4}-\d\d-\d\dT[\d:]+Z", form.document(bill).decode())
        assert {*moments} == {"2026-11-29T12:53:14Z"}
