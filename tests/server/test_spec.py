import json

import pytest
from tungsten_server.words.spec import SpecError, read_spec

from tests.server.conftest import SPEC


def read(tmp_path, document):
    path = tmp_path / "spec.json"
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return read_spec(path)


def test_the_keys_that_the_server_needs_are_read(tmp_path):
    spec = read(tmp_path, SPEC)
    assert (spec.name, spec.module, spec.class_name, spec.batch_size) == (
        "test-model",
        "tungsten_model",
        "Model",
        4,
    )
    assert spec.input_schema == SPEC["input-schema"]


def test_the_demo_output_is_the_output_where_there_is_none(tmp_path):
    assert read(tmp_path, SPEC).demo_output_schema == SPEC["output-schema"]
    schema = {"type": "object", "properties": {"picture": {"type": "string"}}}
    assert read(tmp_path, {**SPEC, "demo-output-schema": schema}).demo_output_schema == schema


def test_fields_are_in_the_order_of_their_declaration(tmp_path):
    inner = {"type": "object", "properties": {"a": {}, "b": {}}, "x-order": ["b", "a"], "required": ["b"]}
    fields = {
        "height": {"type": "array", "items": inner},
        "default": inner,
        "width": {"enum": [{"x-order": 1}]},
    }
    schema = {"type": "object", "properties": fields, "x-order": ["width", "height", "default"]}
    document = {**SPEC, "input-schema": schema, "output-schema": schema, "demo-output-schema": schema}
    document["examples"] = [{"height": [{"a": 1, "b": 2}], "unknown": 1, "width": 3}]
    spec = read(tmp_path, json.dumps(document, sort_keys=True))
    for one in (spec.input_schema, spec.output_schema, spec.demo_output_schema):
        assert one == schema
        assert list(one["properties"]) == ["width", "height", "default"]
        assert list(one["properties"]["height"]["items"]["properties"]) == ["b", "a"]
        assert list(one["properties"]["default"]["properties"]) == ["b", "a"]
    (example,) = spec.examples
    assert list(example) == ["width", "height", "unknown"]
    assert list(example["height"][0]) == ["b", "a"]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"spec-version": 2}, "spec-version"),
        ({"batch-size": 0}, "batch-size"),
        ({"batch-size": True}, "batch-size"),
        ({"class": None}, "class"),
        ({"input-schema": []}, "input-schema"),
        ({"demo-output-schema": 5}, "demo-output-schema"),
    ],
)
def test_a_wrong_key_is_named(tmp_path, change, named):
    with pytest.raises(SpecError, match=named):
        read(tmp_path, {**SPEC, **change})


@pytest.mark.parametrize("key", sorted(SPEC.keys() - {"demo-output-schema"}))
def test_a_missing_key_is_named(tmp_path, key):
    with pytest.raises(SpecError, match=key):
        read(tmp_path, {k: v for k, v in SPEC.items() if k != key})


@pytest.mark.parametrize("text", ["", "[1]", "{", "null"])
def test_what_is_no_json_object_is_refused(tmp_path, text):
    with pytest.raises(SpecError, match="JSON"):
        read(tmp_path, text)
