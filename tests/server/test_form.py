import base64

import pytest
from tungsten_server.checks.form import Part, read_form
from tungsten_server.words.problems import InputError

FILE = {"type": "string", "format": "uri", "x-file-type": "image"}
SCHEMA = {
    "type": "object",
    "properties": {
        "text": {"type": "string"},
        "number": {"type": "number"},
        "whole": {"type": "integer"},
        "switch": {"type": "boolean"},
        "perhaps": {"anyOf": [{"type": "integer"}, {"type": "null"}]},
        "either": {"anyOf": [{"type": "integer"}, {"type": "string"}]},
        "level": {"enum": [1, 2]},
        "word": {"enum": ["1", "2"]},
        "tags": {"type": "array", "items": {"type": "string"}},
        "numbers": {"type": "array", "items": {"type": "integer"}},
        "box": {"type": "object", "properties": {"x": {"type": "integer"}, "deep": {"type": "object"}}},
        "free": {"type": "object", "additionalProperties": True},
        "scores": {"type": "object", "additionalProperties": {"type": "number"}},
        "photo": FILE,
        "photos": {"type": "array", "items": FILE},
        "album": {"anyOf": [{"type": "array", "items": FILE}, {"type": "null"}]},
        "portrait": {"anyOf": [FILE, {"type": "null"}]},
        "names": {"anyOf": [{"type": "array", "items": {"type": "string"}}, {"type": "null"}]},
        "masked": {"type": "object", "properties": {"image": FILE, "mask": FILE}},
    },
}


def read(*parts):
    return read_form(SCHEMA, parts)


def text(name, value):
    return Part(name, value.encode(), is_file=False)


def file(name, content=b"abc", media_type="image/png"):
    return Part(name, content, is_file=True, media_type=media_type)


@pytest.mark.parametrize(
    ("name", "written", "value"),
    [
        ("text", "5", "5"),
        ("text", "", ""),
        ("text", "true", "true"),
        ("number", "2.5", 2.5),
        ("number", "1e3", 1000.0),
        ("whole", "7", 7),
        ("switch", "on", True),
        ("switch", "False", False),
        ("switch", "1", True),
        ("perhaps", "3", 3),
        ("perhaps", "null", None),
        ("either", "3", "3"),
        ("level", "2", 2),
        ("word", "2", "2"),
        ("numbers", "[1, 2]", [1, 2]),
        ("numbers", "3", [3]),
        ("tags", "a", ["a"]),
        ("box", '{"x": 1}', {"x": 1}),
        ("album", "null", None),
        ("album", '["data:,x"]', ["data:,x"]),
        ("album", "data:,x", ["data:,x"]),
        ("photos", '["data:,x", "data:,y"]', ["data:,x", "data:,y"]),
        ("portrait", "null", None),
        ("names", "null", None),
    ],
)
def test_the_schema_says_what_a_text_means(name, written, value):
    result = read(text(name, written))[name]
    assert result == value
    assert type(result) is type(value)


@pytest.mark.parametrize(
    ("name", "written"), [("number", "two"), ("number", ""), ("whole", "0x1"), ("switch", "maybe")]
)
def test_what_it_cannot_mean_stays_text_for_the_schema_to_refuse(name, written):
    assert read(text(name, written))[name] == written


@pytest.mark.parametrize(
    ("name", "written"),
    [("numbers", "[1, 2"), ("numbers", " [1 2]"), ("box", '{"x": 1'), ("box", "{'x': 1}"), ("free", "[1")],
)
def test_what_begins_as_json_and_is_none_is_told_as_that(name, written):
    with pytest.raises(InputError) as caught:
        read(text(name, written))
    (problem,) = caught.value.problems
    assert (problem.location, problem.kind) == ((0, name), "json_invalid")
    assert problem.message.startswith("the text is not JSON: ")
    assert "line 1 column" in problem.message


@pytest.mark.parametrize("written", ["[draft]", "{x"])
def test_a_text_in_a_list_may_begin_as_a_list_does(written):
    assert read(text("tags", written))["tags"] == [written]
    assert read(text("names", written))["names"] == [written]


def test_a_file_part_is_a_data_uri_of_its_type():
    encoded = base64.b64encode(b"abc").decode()
    assert read(file("photo"))["photo"] == f"data:image/png;base64,{encoded}"
    unknown = read(file("photo", media_type=""))["photo"]
    assert unknown == f"data:application/octet-stream;base64,{encoded}"


@pytest.mark.parametrize(
    ("name", "media_type", "written"),
    [
        ("a.npz", "application/octet-stream", "application/octet-stream;name=file.npz"),
        ("a.nii.gz", "application/gzip", "application/gzip;name=file.nii.gz"),
        ("../evil/b.parquet", "", "application/octet-stream;name=file.parquet"),
        ("C:\\b.stl", "model/stl", "model/stl;name=file.stl"),
        ("a.png", "image/png", "image/png"),
        ("a.JPEG", "image/jpeg", "image/jpeg"),
        ("a", "image/png", "image/png"),
        ("a.;base64,b", "image/png", "image/png"),
        (".npz", "image/png", "image/png"),
        ("a.this-is-no-suffix", "image/png", "image/png"),
    ],
)
def test_of_a_files_name_its_suffix_is_kept(name, media_type, written):
    part = Part("photo", b"abc", is_file=True, media_type=media_type, file_name=name)
    assert read(part)["photo"] == f"data:{written};base64,YWJj"


def test_a_file_field_may_be_text_as_in_json():
    assert read(text("photo", "data:,x"))["photo"] == "data:,x"


def test_a_name_that_comes_several_times_makes_a_list_in_order():
    photos = read(file("photos", b"1"), file("photos", b"2"))["photos"]
    assert [base64.b64decode(uri.partition(",")[2]) for uri in photos] == [b"1", b"2"]
    assert len(read(file("photos"))["photos"]) == 1
    assert read(text("tags", "a"), text("tags", "b"))["tags"] == ["a", "b"]


def test_a_dotted_name_leads_into_an_object():
    value = read(file("masked.image"), file("masked.mask"), text("box.x", "4"), text("scores.cat", "0.5"))
    assert set(value["masked"]) == {"image", "mask"}
    assert value["masked"]["mask"].startswith("data:")
    assert (value["box"], value["scores"]) == ({"x": 4}, {"cat": 0.5})


def test_what_the_model_does_not_know_is_as_in_json_for_the_schema_to_judge():
    assert read(text("unknown", "1"), text("unknown", "2"), text("", "4")) == {"unknown": "2"}
    assert read(text("masked.other", "1")) == {"masked": {"other": "1"}}
    assert read(text("text.b", "3"), text("box.x.y", "2")) == {"text": {"b": "3"}, "box": {"x": {"y": "2"}}}
    assert read(file("unknown", b"\xff"))["unknown"].startswith("data:")


def test_a_file_that_was_not_chosen_is_none():
    assert read(Part("photo", b"", is_file=True, media_type="application/octet-stream")) == {}
    assert read(Part("photos", b"", is_file=True), text("text", "a")) == {"text": "a"}
    # One that is empty is one.
    assert read(Part("photo", b"", is_file=True, media_type="image/png", file_name="a.png")) == {
        "photo": "data:image/png;base64,"
    }


def test_an_object_may_have_any_names():
    assert read(text("free.a", "1"), text("scores.b", "2")) == {"free": {"a": "1"}, "scores": {"b": 2}}


def test_a_file_for_a_text_field_is_its_text_and_json_is_read_as_such():
    assert read(file("text", b"hello", "text/plain"))["text"] == "hello"
    assert read(file("box", b'{"x": 1}', "application/json"))["box"] == {"x": 1}
    assert read(file("either", b"3", "application/json"))["either"] == 3


@pytest.mark.parametrize(
    ("parts", "location", "kind"),
    [
        ([text("text", "a"), text("text", "b")], (0, "text"), "duplicate"),
        ([text("box", '{"x": 1}'), text("box.x", "1")], (0, "box", "x"), "duplicate"),
        ([text("box", "x"), text("box.x", "1")], (0, "box"), "duplicate"),
        ([file("text", b"\xff")], (0, "text"), "text_invalid"),
        ([text("a" + ".a" * 100_000, "x")], (), "form_invalid"),
    ],
)
def test_what_makes_no_sense_is_refused_where_it_is(parts, location, kind):
    with pytest.raises(InputError) as raised:
        read(*parts)
    assert [(p.location, p.kind) for p in raised.value.problems] == [(location, kind)]
