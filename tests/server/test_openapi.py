import dataclasses
import re

import jsonschema_rs
import pytest
from tungsten_server.checks.inputs import InputSchema
from tungsten_server.http import openapi
from tungsten_server.http.access import Access
from tungsten_server.http.app import Api, Records, create_app
from tungsten_server.http.openapi import openapi_document
from tungsten_server.http.results import Results
from tungsten_server.http.routes import ROUTES
from tungsten_server.page.docs import docs_page
from tungsten_server.words.budget import ByteBudget
from tungsten_server.words.problems import InputError
from tungsten_server.words.settings import Settings
from tungsten_server.words.spec import Spec

from tests.server.conftest import REPOSITORY

FILE = {"type": "string", "format": "uri", "x-file-type": "image", "description": "A <b>picture</b>"}
INPUT = {
    "type": "object",
    "properties": {
        "photo": FILE,
        "photos": {"type": "array", "items": FILE},
        "masked": {
            "type": "object",
            "x-file-type": "masked_image",
            "properties": {"image": FILE, "mask": FILE},
            "required": ["image", "mask"],
        },
        "perhaps": {"type": "object", "properties": {"image": FILE}, "required": ["image"]},
        "number": {"type": "number", "default": 1.0},
    },
    "required": ["photo", "masked"],
}
SPEC = Spec("a <model>", "module", "Class", 1, INPUT, {"type": "object"}, {"type": "object"})


@pytest.fixture(scope="module")
def document(tmp_path_factory):
    return openapi_document(SPEC, Settings(tmp_path_factory.mktemp("x") / "spec.json"))


def body(document, media_type):
    return document["paths"]["/predict"]["post"]["requestBody"]["content"][media_type]["schema"]


def references(node):
    if isinstance(node, dict):
        yield from [node["$ref"]] if "$ref" in node else []
        for value in node.values():
            yield from references(value)
    elif isinstance(node, list):
        for value in node:
            yield from references(value)


def test_every_place_has_every_route(tmp_path):
    """A new route is a line of the table, a method that answers it, and an operation that describes it."""
    names = [route.name for route in ROUTES]
    assert [name for name in names if not callable(getattr(Api, name, None))] == []
    settings = Settings(tmp_path / "spec.json")
    assert sorted(openapi._operations(SPEC, settings)) == sorted(names)


def test_every_reference_leads_somewhere(document):
    for reference in references(document):
        node = document
        for name in reference.removeprefix("#/").split("/"):
            node = node[name]


def test_every_schema_is_one(document):
    for schema in document["components"]["schemas"].values():
        jsonschema_rs.meta.validate(schema)


def test_operations_have_ids_of_their_own(document):
    operations = [one for methods in document["paths"].values() for one in methods.values()]
    ids = [operation["operationId"] for operation in operations]
    assert len(set(ids)) == len(ids)
    assert all(operation["summary"] and operation["responses"] for operation in operations)


@pytest.mark.parametrize(
    "text", ["data:,x", "data:image/png;base64,AAAA", "DATA:;base64,AA==", "AAAA", "data:;base64,"]
)
def test_the_pattern_for_files_takes_what_the_server_takes(document, text):
    pattern = document["components"]["schemas"]["Input"]["properties"]["photo"]["pattern"]
    assert re.fullmatch(pattern, text)
    InputSchema({"type": "object", "properties": {"photo": FILE}}, 99).check([{"photo": text}])


@pytest.mark.parametrize("text", ["", "x", "data:", "data:;base64,AAA", "http://host/", "file:///x", "AAA"])
def test_and_refuses_what_the_server_refuses(document, text):
    pattern = document["components"]["schemas"]["Input"]["properties"]["photo"]["pattern"]
    assert not re.fullmatch(pattern, text)
    with pytest.raises(InputError):
        InputSchema({"type": "object", "properties": {"photo": FILE}}, 99).check([{"photo": text}])


def test_addresses_are_described_where_they_are_fetched(tmp_path):
    settings = Settings(tmp_path / "spec.json", allow_urls=True)
    photo = openapi_document(SPEC, settings)["components"]["schemas"]["Input"]["properties"]["photo"]
    assert jsonschema_rs.is_valid(photo, "https://host/a.png")
    assert jsonschema_rs.is_valid(photo, "data:,x")
    assert not jsonschema_rs.is_valid(photo, "file:///x")


def test_examples_are_the_model_s(tmp_path):
    example = {"photo": "data:,x", "masked": {"image": "data:,x", "mask": "data:,x"}}
    spec = dataclasses.replace(SPEC, examples=[example])
    document = openapi_document(spec, Settings(tmp_path / "spec.json"))
    for path in ("/predict", "/predictions", "/demo"):
        content = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]
        assert content["examples"] == {"example-1": {"$ref": "#/components/examples/example-1"}}
    assert document["components"]["examples"]["example-1"] == {"value": [example]}


def test_a_form_has_parts_for_files_and_dotted_names_for_objects_of_files(document):
    form = body(document, "multipart/form-data")
    assert list(form["properties"]) == [
        "photo",
        "photos",
        "masked.image",
        "masked.mask",
        "perhaps.image",
        "number",
    ]
    assert form["required"] == ["photo", "masked.image", "masked.mask"]
    assert form["properties"]["photo"]["contentMediaType"] == "application/octet-stream"
    assert form["properties"]["photos"]["items"]["contentMediaType"] == "application/octet-stream"
    assert form["properties"]["number"] == INPUT["properties"]["number"]


def test_every_route_of_the_application_is_described_and_no_other(tmp_path):
    """However a route was added: what werkzeug matches is held against the description."""
    settings = Settings(tmp_path / "spec.json")
    records = Records(Results(9, 9, lambda: 0), ByteBudget(9), None)
    app = create_app(Api(SPEC, settings, None, None, records, Access(None, ())))
    served = [
        (method, re.sub(r"<.*?>", "{}", rule.rule))
        for rule in app.url_map.iter_rules()
        for method in rule.methods - {"HEAD", "OPTIONS"}
    ]
    described = [
        (method.upper(), re.sub("{.*?}", "{}", path))
        for path, methods in openapi_document(SPEC, settings)["paths"].items()
        for method in methods
    ]
    assert sorted(served) == sorted([*described, ("GET", "/static/{}")])


def test_the_readme_s_table_has_every_route_and_no_other():
    text = (REPOSITORY / "server" / "README.md").read_text()
    table = [line.split("|")[1] for line in text.splitlines() if line.startswith("| `")]
    named = re.findall(r"`(GET|POST) (\S+)`", "".join(table))
    routes = [(route.method, re.sub("{(.*?)}", lambda name: name[1].upper(), route.path)) for route in ROUTES]
    assert sorted(named) == sorted(routes)


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.path}")
def test_each_route_answers_as_it_is_described(server, route):
    described = server.get("/openapi.json").json()["paths"][route.path][route.method.lower()]
    path = re.sub("{.*?}", "0", route.path)
    response = server.get(path) if route.method == "GET" else server.post([{"do": "x"}], path)
    # Of what has an id there is none.
    assert response.status_code == (404 if "{" in route.path else 200)
    content = described["responses"][str(response.status_code)]
    if "$ref" not in content:
        assert response.headers["Content-Type"].partition(";")[0] in content["content"]


def test_answers_are_as_described(server):
    document = server.get("/openapi.json").json()

    def check(response, name):
        schema = {"$ref": f"#/components/schemas/{name}", "components": document["components"]}
        jsonschema_rs.validate(schema, response.json())

    check(server.get("/"), "Metadata")
    check(server.post([{"do": "x"}]), "Prediction")
    check(server.post([{"do": "raise x"}]), "Prediction")
    check(server.get(server.begin("x", path="/demo")), "Demo")
    check(server.post([{}]), "Invalid")
    check(server.get("/predictions/x"), "Error")
    check(server.get("/readyz"), "Status")


def test_the_page_escapes_what_the_model_says(document):
    page = docs_page(document)
    assert "A &lt;model&gt;" in page
    assert "<model>" not in page
    assert "<b>" not in page


def test_the_page_needs_no_script_and_no_other_host(server):
    response = server.get("/docs")
    assert response.headers["Content-Type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in response.headers["Content-Security-Policy"]
    assert "<script" not in response.text
    assert not re.search(r"(src|href|url)\W{0,2}(https?:)?//", response.text)
    for path in server.get("/openapi.json").json()["paths"]:
        assert path in response.text
